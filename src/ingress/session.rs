//! An accepted subscription stream, as the transport pulls it.
//!
//! The source is polled only when the transport has room, so a slow reader slows its own source
//! alone. Whatever ends the stream, its end travels through the `after` halves once.

use crate::answer::{stream_publication, stream_status};
use crate::engine::flight::Flight;
use crate::engine::guard::panic_message;
use crate::engine::shared::StreamPermit;
use crate::engine::{Drain, Engine};
use crate::event::EventKind;
use crate::inbound::InboundItem;
use crate::ingress::grpc::Frame;
use crate::outcome::{StreamEnd, StreamEndReason};
use crate::region::{InboundTurn, ShardMessage};
use crate::reply::PublicationStream;
use bytes::Bytes;
use futures_util::Stream;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tonic::Status;
use tonic::codec::Streaming;

/// The messages of a stream, towards the caller.
pub(crate) struct Session(State);

enum State {
    /// A refusal: one message, then the end.
    Refused(Option<Bytes>),
    /// An open stream.
    Open(Box<Open>),
    /// Nothing more.
    Over,
}

struct Open {
    first: Option<Bytes>,
    source: PublicationStream,
    flight: Option<Flight>,
    json_client: bool,
    drained: Pin<Box<dyn Future<Output = ()> + Send>>,
    opened: Instant,
    sent: u64,
    reader: Option<Reader>,
    place: Place,
    permit: StreamPermit,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    /// A refusal, said in the first message.
    pub(crate) const fn refused(message: Bytes) -> Self {
        Self(State::Refused(Some(message)))
    }

    /// An accepted stream: the first message goes out at once.
    pub(crate) fn open(
        accepted: Accepted,
        place: Place,
        permit: StreamPermit,
        json_client: bool,
        drains: watch::Receiver<Option<Drain>>,
    ) -> Self {
        let Accepted {
            first,
            source,
            flight,
            reader,
        } = accepted;
        Self(State::Open(Box::new(Open {
            first: Some(first),
            source,
            flight,
            json_client,
            drained: Box::pin(drained(drains)),
            opened: Instant::now(),
            sent: 0,
            reader,
            place,
            permit,
        })))
    }
}

/// Where an accepted stream counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// The kind of stream.
    pub(crate) kind: EventKind,
    /// The core of its connection.
    pub(crate) core: usize,
}

/// What makes an accepted stream.
pub(crate) struct Accepted {
    /// The encoded first message.
    pub(crate) first: Bytes,
    /// What follows it.
    pub(crate) source: PublicationStream,
    /// For the `after` halves, unless they have seen the event already.
    pub(crate) flight: Option<Flight>,
    /// The other direction.
    pub(crate) reader: Option<Reader>,
}

/// Ready when this stream's turn to end has come in a drain.
async fn drained(mut drains: watch::Receiver<Option<Drain>>) {
    let spread = match drains.wait_for(Option::is_some).await {
        Ok(drain) => drain.map_or(Duration::ZERO, |drain| drain.spread),
        Err(_) => Duration::ZERO,
    };
    tokio::time::sleep(spread.mul_f64(fastrand::f64())).await;
}

impl Open {
    /// The next publication, or how the stream ended.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, StreamEndReason>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Ok(first));
        }
        if self.drained.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(StreamEndReason::Drained));
        }
        let polled = catch_unwind(AssertUnwindSafe(|| self.source.as_mut().poll_next(cx)));
        let item = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(item)) => item,
            Err(panic) => {
                let message = format!("panicked: {}", panic_message(panic.as_ref()));
                return Poll::Ready(Err(StreamEndReason::Failed(message)));
            }
        };
        Poll::Ready(match item {
            None => Err(StreamEndReason::Finished),
            Some(Err(cause)) => Err(StreamEndReason::Failed(cause.to_string())),
            Some(Ok(publication)) => match stream_publication(self.json_client, &publication) {
                Ok(message) => {
                    self.sent += 1;
                    Ok(message)
                }
                Err(failure) => Err(StreamEndReason::Failed(failure.to_string())),
            },
        })
    }

    fn end(&mut self, reason: StreamEndReason) {
        let Place { kind, core } = self.place;
        let metrics = &self.permit.shared().metrics;
        metrics.stream_ended(core, kind, &reason);
        let Some(flight) = self.flight.take() else {
            return;
        };
        let cx = flight.cx();
        if let StreamEndReason::Failed(why) = &reason {
            tracing::error!(
                event = cx.kind().name(),
                channel = cx.channel(),
                why,
                "a stream failed"
            );
        }
        let received = self.reader.as_ref().map_or(0, |reader| reader.received());
        let (open_for, sent) = (self.opened.elapsed(), self.sent);
        flight.end_stream(StreamEnd {
            reason,
            open_for,
            sent,
            received,
        });
    }
}

impl Stream for Session {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let open = match &mut self.0 {
            State::Refused(message) => return Poll::Ready(message.take().map(Ok)),
            State::Over => return Poll::Ready(None),
            State::Open(open) => open,
        };
        let reason = match std::task::ready!(open.poll_source(cx)) {
            Ok(message) => return Poll::Ready(Some(Ok(message))),
            Err(reason) => reason,
        };
        let last = stream_status(&reason).map(|(code, message)| Err(Status::new(code, message)));
        open.end(reason);
        self.0 = State::Over;
        Poll::Ready(last)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let State::Open(open) = &mut self.0 {
            open.end(StreamEndReason::Cancelled);
        }
    }
}

/// Reads what the client publishes into a two-way stream; ends when dropped.
#[derive(Debug)]
pub(crate) struct Reader {
    task: tokio::task::AbortHandle,
    received: Arc<AtomicU64>,
}

impl Reader {
    /// Starts reading: each publication takes its turn in the lane of the stream's key, and the
    /// next is read when the turn is over.
    pub(crate) fn spawn(
        mut messages: Streaming<Bytes>,
        to: mpsc::Sender<InboundItem>,
        flight: &Flight,
        engine: &Engine,
        limit: Duration,
    ) -> Self {
        let received = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&received);
        let lane = flight.cx().lane.clone();
        let shared = Arc::clone(&engine.shared);
        let task = tokio::spawn(async move {
            while let Ok(Some(message)) = messages.message().await {
                let publication = match <Frame as prost::Message>::decode(message) {
                    Ok(Frame {
                        publication: Some(publication),
                        ..
                    }) => publication,
                    Ok(_) => continue,
                    Err(why) => {
                        tracing::warn!(%why, "a message of a two-way stream is malformed: ignored");
                        continue;
                    }
                };
                count.fetch_add(1, Ordering::Relaxed);
                let Some(lane) = &lane else {
                    let (turn, over) = oneshot::channel();
                    if to.send(InboundItem { publication, turn }).await.is_err() {
                        return;
                    }
                    drop(tokio::time::timeout(limit, over).await);
                    continue;
                };
                let (done, over) = oneshot::channel();
                let (key, to) = (lane.key.clone(), to.clone());
                let turn = InboundTurn {
                    key,
                    publication,
                    to,
                    limit,
                    done,
                };
                let shard = shared.layout.shard_of(lane.slot);
                let shard = &shared.shards[usize::from(shard.index())];
                if shard
                    .seat
                    .cast(ShardMessage::Inbound(Box::new(turn)))
                    .is_err()
                {
                    return;
                }
                drop(over.await);
            }
        });
        Self {
            task: task.abort_handle(),
            received,
        }
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}
