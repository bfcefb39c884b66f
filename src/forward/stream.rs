//! Subscription streams that another node runs.
//!
//! The node that runs one drives its source, its turns in the lane and its end, as for a client of its
//! own; the ingress passes messages on, both ways, and runs the `after` halves at the end. A stream
//! whose node is lost, or gives up its slot, ends as *unavailable*, never cleanly: the client
//! subscribes again and reaches the new owner.

use crate::answer::stream_first;
use crate::engine::flight::Flight;
use crate::engine::shared::{Permit, Shared, StreamPermit};
use crate::forward::outcome;
use crate::inbound::{InboundItem, InboundSource};
use crate::ingress::session::{Accepted, Messages, Place, Reader, Session};
use crate::outcome::{Failure, Outcome, Overloaded, StreamEndReason, Unavailable};
use crate::proto::proxy::StreamSubscribeResponse;
use crate::reject::BoxError;
use crate::reply::StreamOpen;
use bytes::Bytes;
use centripeta_cluster::peer::{
    NotAccepted, OpenStream, Request, StreamError, StreamItem, StreamRx, StreamTx,
};
use futures_util::{Stream, StreamExt};
use prost::Message;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tonic::{Code, Status};

/// How a stream has ended at the node that ran it.
#[derive(Clone, PartialEq, Eq, Message)]
struct EndMessage {
    #[prost(uint32, tag = "1")]
    code: u32,
}

const FINISHED: u32 = 0;
const FAILED: u32 = 1;
const UNAVAILABLE: u32 = 2;

/// Why a stream that another node ran is over; what its source ends with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EndedElsewhere {
    /// Its handler failed there; that node's log says why.
    #[error("it failed at the node that ran it, whose log says why")]
    Failed,
    /// That node gave it up: it drains, or its slot went to another.
    #[error("the node that ran it has given it up")]
    GivenUp,
    /// That node, or the link to it, was lost.
    #[error("the node that ran it was lost: {0}")]
    Lost(StreamError),
}

/// How a stream ends whose source ended with this.
pub(crate) fn stream_end(cause: &BoxError) -> Option<StreamEndReason> {
    Some(match cause.downcast_ref::<EndedElsewhere>()? {
        why @ EndedElsewhere::Failed => StreamEndReason::Failed(why.to_string()),
        EndedElsewhere::GivenUp | EndedElsewhere::Lost(_) => StreamEndReason::Moved,
    })
}

/// Stops a task when dropped.
#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The messages of a stream that another node runs: checked there, they cross as they are.
struct Elsewhere {
    rx: StreamRx,
    over: bool,
    /// The other direction: kept while the stream is open.
    _to: Result<Task, StreamTx>,
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elsewhere")
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

impl Stream for Elsewhere {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.over {
            return Poll::Ready(None);
        }
        let item = std::task::ready!(self.rx.poll_recv(cx));
        let ended = match item {
            Ok(StreamItem::Message(message)) => return Poll::Ready(Some(Ok(message))),
            Ok(StreamItem::Finished(last)) => match EndMessage::decode(last) {
                Ok(EndMessage { code: FINISHED }) => {
                    self.over = true;
                    return Poll::Ready(None);
                }
                Ok(EndMessage { code: UNAVAILABLE }) => EndedElsewhere::GivenUp,
                Ok(_) | Err(_) => EndedElsewhere::Failed,
            },
            Err(why) => EndedElsewhere::Lost(why),
        };
        self.over = true;
        Poll::Ready(Some(Err(ended.into())))
    }
}

/// What a client publishes goes to the node that runs the stream, one after the other.
async fn inward(mut from: InboundSource, mut to: StreamTx) {
    while let Some(InboundItem { message, turn, .. }) = from.recv().await {
        if to.send(message).await.is_err() {
            // The other direction says why.
            return;
        }
        drop(turn);
    }
    // The client is gone, or publishes no more.
    drop(to.finish(Bytes::new()));
}

/// The outcome of an event whose stream another node has accepted. Its client's publications go there
/// from now on, by a task on this runtime.
pub(super) fn accepted(open: OpenStream, inbound: Option<InboundSource>, on: &Handle) -> Outcome {
    let OpenStream { first, tx, rx, .. } = open;
    // An empty message would be read as a plain yes.
    if StreamSubscribeResponse::decode(first.clone()).is_err() || first.is_empty() {
        let place = "the node that runs the stream".to_owned();
        let cause = "it was accepted with what can't be read".to_owned();
        return Failure::Internal { place, cause }.into();
    }
    let to = match inbound {
        Some(inbound) => Ok(Task(on.spawn(inward(inbound, tx)).abort_handle())),
        None => Err(tx),
    };
    let messages = Elsewhere {
        rx,
        over: false,
        _to: to,
    };
    Outcome::Stream(StreamOpen::encoded(first, Box::pin(messages)))
}

/// The other node's publications of its client.
struct FromElsewhere(StreamRx);

impl Messages for FromElsewhere {
    async fn next(&mut self) -> Option<Result<Bytes, String>> {
        match self.0.recv().await {
            Ok(StreamItem::Message(message)) => Some(Ok(message)),
            Ok(StreamItem::Finished(_)) | Err(_) => None,
        }
    }
}

/// What a stream for another node needs, besides its call.
pub(super) struct Opening {
    pub(super) request: Request,
    /// Where the client's publications go, on a two-way stream.
    pub(super) inbound: Option<mpsc::Sender<InboundItem>>,
    pub(super) limit: Duration,
    /// The place among the events in flight: given back once the stream is accepted.
    pub(super) permit: Permit,
}

/// A handler has accepted a stream for another node: it is driven here until it ends.
pub(super) fn open(shared: &Arc<Shared>, opening: Opening, open: StreamOpen, flight: Flight) {
    let Opening {
        request,
        inbound,
        limit,
        permit,
    } = opening;
    let json_client = flight.cx().is_json_client();
    let taken = StreamPermit::acquire(shared).map_err(Failure::Overloaded);
    let opened = stream_first(json_client, &open).and_then(|first| Ok((first, taken?)));
    let (first, place) = match opened {
        Ok(opened) => opened,
        Err(failure) => return refuse(request, flight, failure),
    };
    let (tx, rx) = match request.accept(first.clone()) {
        Ok(ends) => ends,
        Err(NotAccepted::Replaced) => return flight.cancel_stream(),
        Err(NotAccepted::TooMany { request, .. }) => {
            return refuse(*request, flight, Failure::Overloaded(Overloaded::Streams));
        }
        Err(NotAccepted::NotWanted(request) | NotAccepted::TooLarge { request, .. }) => {
            let failure = Failure::Unavailable(Unavailable::NoServer);
            return refuse(*request, flight, failure);
        }
    };
    drop(permit);
    let core = flight.core().0;
    let kind = flight.cx().kind();
    let reader = match inbound {
        Some(to) => Ok(Reader::spawn(FromElsewhere(rx), to, &flight, shared, limit)),
        None => Err(rx),
    };
    let (reader, unread) = match reader {
        Ok(reader) => (Some(reader), None),
        Err(rx) => (None, Some(rx)),
    };
    let accepted = Accepted {
        first,
        source: open.rest,
        flight: Some(flight),
        reader,
    };
    let drains = shared.drains.clone();
    let session = Session::open(accepted, Place { kind, core }, place, json_client, drains);
    tokio::spawn(drive(session, tx, unread));
}

fn refuse(request: Request, flight: Flight, failure: Failure) {
    request.reply(outcome::encode(&failure.clone().into()));
    flight.refuse_stream(failure);
}

/// Passes on what a stream gives, until it ends or nobody reads it any more.
async fn drive(mut session: Session, mut tx: StreamTx, _unread: Option<StreamRx>) {
    // It has been sent by the acceptance.
    let mut is_first = true;
    loop {
        let item = tokio::select! {
            biased;
            item = session.next() => item,
            _ = tx.closed() => return,
        };
        let message = match item {
            Some(Ok(message)) => message,
            Some(Err(status)) => return end(tx, code_of(&status)),
            None => return end(tx, FINISHED),
        };
        if std::mem::take(&mut is_first) {
            continue;
        }
        if tx.send(message).await.is_err() {
            return;
        }
    }
}

fn code_of(status: &Status) -> u32 {
    match status.code() {
        Code::Unavailable => UNAVAILABLE,
        _ => FAILED,
    }
}

fn end(tx: StreamTx, code: u32) {
    let last = EndMessage { code }.encode_to_vec();
    // Lost, it ends as lost.
    drop(tx.finish(last.into()));
}
