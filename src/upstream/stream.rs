//! Subscription streams of an upstream: what the client publishes goes there, what it sends goes to
//! the client, both as the bytes that they are and no faster than they are taken.

use super::handler::Upstream;
use super::lease::Lease;
use crate::client::{CallError, Messages, Outgoing};
use crate::event::EventKind;
use crate::inbound::Inbound;
use crate::reject::BoxError;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use prost::encoding::encode_varint;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// The other end of a two-way stream's messages; what it sends ends with it.
#[derive(Debug)]
pub(super) struct Feeder {
    begin: Option<oneshot::Sender<Inbound>>,
    _gone: oneshot::Sender<()>,
}

impl Feeder {
    /// The stream was accepted: what the client publishes goes to the upstream from now on.
    pub(super) fn begin(&mut self, inbound: Option<Inbound>) {
        if let (Some(begin), Some(inbound)) = (self.begin.take(), inbound) {
            // An upstream that has ended the stream takes nothing.
            drop(begin.send(inbound));
        }
    }
}

/// The messages of a two-way stream: the request that opens it, then, once it was accepted, what the
/// client publishes.
pub(super) fn two_way(request: &[u8]) -> (Outgoing, Feeder) {
    let (begin, inbound) = oneshot::channel();
    let (gone, is_gone) = oneshot::channel();
    let feed = Feed {
        first: Some(opening(request)),
        state: State::Waits(inbound),
        is_gone,
    };
    let feeder = Feeder {
        begin: Some(begin),
        _gone: gone,
    };
    (Outgoing::many(feed.boxed()), feeder)
}

/// The first message of a two-way stream: field 1, the subscribe request as it came.
fn opening(request: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(request.len() + 8);
    message.put_u8(1 << 3 | 2);
    encode_varint(request.len() as u64, &mut message);
    message.put_slice(request);
    message.freeze()
}

struct Feed {
    first: Option<Bytes>,
    state: State,
    is_gone: oneshot::Receiver<()>,
}

enum State {
    /// For the stream to be accepted.
    Waits(oneshot::Receiver<Inbound>),
    /// The client publishes.
    Runs(Inbound),
    /// Nothing of the client's will come; the other signal ends the stream.
    Silent,
}

impl Stream for Feed {
    type Item = Result<Bytes, h2::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        // Nothing is ever sent: its sender goes with the answer's reader.
        if Pin::new(&mut this.is_gone).poll(cx).is_ready() {
            return Poll::Ready(Some(Err(h2::Reason::CANCEL.into())));
        }
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if let State::Waits(inbound) = &mut this.state {
            let begun = std::task::ready!(Pin::new(inbound).poll(cx));
            this.state = begun.map_or(State::Silent, State::Runs);
        }
        match &mut this.state {
            State::Runs(inbound) => inbound.poll_message(cx).map(|next| next.map(Ok)),
            State::Waits(_) | State::Silent => Poll::Pending,
        }
    }
}

/// An open stream, as its client is sent it.
pub(super) struct Relay {
    pub(super) upstream: Arc<Upstream>,
    pub(super) event: (EventKind, bool),
    pub(super) messages: Messages,
    /// Of two-way streams.
    pub(super) _feeder: Option<Feeder>,
    pub(super) lease: Lease,
}

impl Stream for Relay {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let next = std::task::ready!(this.messages.poll_next(cx));
        Poll::Ready(next.map(|message| match message {
            Ok(message) => {
                let checked = this.upstream.publication(this.event, &message);
                checked.map(|()| message).map_err(BoxError::from)
            }
            Err(why) => Err(ended(&why, &this.lease.place()).into()),
        }))
    }
}

/// Why a stream is over before its end.
fn ended(why: &CallError, place: &str) -> String {
    match why {
        CallError::Status(status) => format!(
            "upstream {place} ended the stream with status {}: {}",
            status.name(),
            status.message
        ),
        CallError::NotSent(why)
        | CallError::Refused(why)
        | CallError::Lost(why)
        | CallError::Unreadable(why) => format!("upstream {place}: {why}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http_body_util::BodyExt;

    /// The next message with its prefix, if there is one at once.
    fn next(body: &mut Outgoing) -> Option<Option<Result<Bytes, h2::Error>>> {
        let frame = futures_util::FutureExt::now_or_never(body.frame())?;
        Some(frame.map(|frame| frame.map(|frame| frame.into_data().unwrap())))
    }

    #[test]
    fn a_two_way_stream_opens_with_its_request_and_is_silent_until_it_is_accepted() {
        let (mut body, mut feeder) = two_way(b"request");
        let first = next(&mut body).unwrap().unwrap().unwrap();
        assert_eq!(first, &b"\0\0\0\0\x09\x0a\x07request"[..]);
        assert!(next(&mut body).is_none());
        let (to, source) = crate::inbound::channel();
        feeder.begin(Some(Inbound::new(source)));
        assert!(next(&mut body).is_none());
        drop(to);
        assert!(
            next(&mut body).unwrap().is_none(),
            "the client's end is the end"
        );
    }

    #[test]
    fn a_stream_without_publications_stays_open_until_its_reader_is_gone() {
        let (mut body, mut feeder) = two_way(b"");
        assert!(next(&mut body).unwrap().is_some());
        feeder.begin(None);
        assert!(next(&mut body).is_none());
        assert!(next(&mut body).is_none());
        drop(feeder);
        let end = next(&mut body).unwrap().unwrap().unwrap_err();
        assert_eq!(end.reason(), Some(h2::Reason::CANCEL));
    }
}
