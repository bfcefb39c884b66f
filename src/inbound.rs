//! What a client publishes into a two-way stream: it takes turns in the lane of its channel.
//!
//! One publication at a time is handed to the handler, once its lane has granted it a turn and the
//! handler can be polled. The turn lasts until the handler asks for the next one, drops its
//! [`Inbound`], or the route's timeout is over; meanwhile no other event of the lane runs. None is
//! lost: what has no turn yet waits with its reader, and the client's transport behind it.

use crate::proto::proxy::Publication;
use bytes::Bytes;
use futures_util::Stream;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::{mpsc, oneshot};

/// A publication and its turn: dropping the turn ends it.
#[derive(Debug)]
pub(crate) struct InboundItem {
    /// What the client published.
    pub(crate) publication: Publication,
    /// The message that it came in, as it came.
    pub(crate) message: Bytes,
    /// Ends the turn when dropped.
    pub(crate) turn: oneshot::Sender<()>,
}

/// The receiving end, before a handler has taken it.
pub(crate) type InboundSource = mpsc::Receiver<InboundItem>;

/// Where a stream's publications are sent; one at a time, so one place is enough.
pub(crate) fn channel() -> (mpsc::Sender<InboundItem>, InboundSource) {
    mpsc::channel(1)
}

/// The client's publications of a two-way stream, in order; it ends when the client is gone.
#[derive(Debug)]
pub struct Inbound {
    source: InboundSource,
    turn: Option<oneshot::Sender<()>>,
}

impl Inbound {
    pub(crate) const fn new(source: InboundSource) -> Self {
        Self { source, turn: None }
    }

    /// The next publication; `None` once the client is gone. Asking says that the one before is
    /// dealt with, and lets other events of the channel run.
    pub async fn recv(&mut self) -> Option<Publication> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Publication>> {
        self.poll_item(cx)
            .map(|item| item.map(|(publication, _)| publication))
    }

    /// The next publication as the message that it came in.
    pub(crate) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.poll_item(cx)
            .map(|item| item.map(|(_, message)| message))
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Publication, Bytes)>> {
        self.turn = None;
        let item = std::task::ready!(self.source.poll_recv(cx));
        Poll::Ready(item.map(|item| {
            self.turn = Some(item.turn);
            (item.publication, item.message)
        }))
    }
}

impl Stream for Inbound {
    type Item = Publication;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Publication>> {
        self.poll_recv(cx)
    }
}
