//! An accepted subscription stream, as the transport pulls it.
//!
//! The source is polled only when the transport has room, so a slow reader slows its own source
//! alone; on a two-way stream one publication ahead of it, so that the handler's turn in its lane
//! does not wait for the transport. Whatever ends the stream, its end travels through the `after`
//! halves once.

use crate::answer::{stream_publication, stream_status};
use crate::engine::Drain;
use crate::engine::flight::Flight;
use crate::engine::guard::panic_message;
use crate::engine::shared::{Shared, StreamPermit};
use crate::event::EventKind;
use crate::inbound::InboundItem;
use crate::ingress::grpc::Frame;
use crate::outcome::{StreamEnd, StreamEndReason, Unavailable};
use crate::region::{InboundTurn, LaneView, ShardMessage};
use crate::reject::BoxError;
use crate::reply::StreamSource;
use crate::watchdog::{Activity, Beat};
use bytes::Bytes;
use futures_util::Stream;
use std::error::Error as _;
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

/// Pause before a full lane is asked for a turn again.
const TURN_PAUSE: Duration = Duration::from_millis(10);

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
    source: StreamSource,
    flight: Option<Flight>,
    json_client: bool,
    drained: Pin<Box<dyn Future<Output = ()> + Send>>,
    opened: Instant,
    sent: u64,
    reader: Option<Reader>,
    /// Of a two-way stream, what the source gave before the transport asked for it.
    ahead: Option<Result<Bytes, StreamEndReason>>,
    /// Whose code the source is, for the watchdog.
    watched: Option<(Arc<Beat>, Activity)>,
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
        let watched = flight.as_ref().and_then(|flight| {
            let beat = Arc::clone(&flight.shared().cores[flight.core().0].beat);
            Some((beat, flight.cx().matched()?.activity))
        });
        Self(State::Open(Box::new(Open {
            first: Some(first),
            source,
            flight,
            json_client,
            drained: Box::pin(drained(drains)),
            opened: Instant::now(),
            sent: 0,
            reader,
            ahead: None,
            watched,
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
    pub(crate) source: StreamSource,
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

/// The next message of a source, or why there is none.
fn poll_source(
    source: &mut StreamSource,
    json_client: bool,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, StreamEndReason>>> {
    let ended = |cause: BoxError| {
        crate::forward::stream_end(&cause).unwrap_or_else(|| crate::region::stream_end(&cause))
    };
    match source {
        StreamSource::Publications(source) => source.as_mut().poll_next(cx).map(|next| {
            next.map(|publication| {
                let publication = publication.map_err(ended)?;
                let message = stream_publication(json_client, &publication);
                message.map_err(|failure| StreamEndReason::Failed(failure.to_string()))
            })
        }),
        StreamSource::Messages(source) => source
            .as_mut()
            .poll_next(cx)
            .map(|next| next.map(|message| message.map_err(ended))),
    }
}

impl Open {
    /// The next message, or how the stream ended; for the transport, which has room for it.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, StreamEndReason>> {
        let next = match self.ahead.take() {
            Some(ahead) => Poll::Ready(ahead),
            None => self.poll_source(cx),
        };
        if let Some(reader) = &self.reader {
            reader.set_idle(next.is_pending());
        }
        if self.reader.is_some()
            && let Poll::Ready(Ok(_)) = next
            && let Poll::Ready(ahead) = self.poll_source(cx)
        {
            self.ahead = Some(ahead);
        }
        next
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, StreamEndReason>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Ok(first));
        }
        if self.drained.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(StreamEndReason::Drained));
        }
        if let Some(reader) = &mut self.reader
            && let Poll::Ready(why) = reader.poll_failed(cx)
        {
            return Poll::Ready(Err(StreamEndReason::Failed(why)));
        }
        let polled = {
            let watched = self.watched.as_ref();
            let _busy = watched.map(|(beat, activity)| beat.enter(*activity));
            let (json_client, source) = (self.json_client, &mut self.source);
            catch_unwind(AssertUnwindSafe(|| poll_source(source, json_client, cx)))
        };
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
            Some(Err(cause)) => Err(cause),
            Some(Ok(message)) => {
                self.sent += 1;
                Ok(message)
            }
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
        let reason = match std::task::ready!(open.poll_message(cx)) {
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

/// Where the messages of a client come from.
pub(crate) trait Messages: Send + 'static {
    /// The next one; `None` once the client is gone.
    ///
    /// # Errors
    /// What came is no message, and nothing behind it can be read: the stream can't go on.
    fn next(&mut self) -> impl Future<Output = Option<Result<Bytes, String>>> + Send;
}

impl Messages for Streaming<Bytes> {
    async fn next(&mut self) -> Option<Result<Bytes, String>> {
        match self.message().await {
            Ok(message) => message.map(Ok),
            // The transport's errors have a source: the caller or its connection is gone, and the
            // session hears of that by itself.
            Err(status) if status.source().is_some() => None,
            Err(status) => {
                let why = status.message();
                Some(Err(format!("a message of the client can't be read: {why}")))
            }
        }
    }
}

/// Reads what the client publishes into a two-way stream; ends when dropped.
#[derive(Debug)]
pub(crate) struct Reader {
    task: tokio::task::AbortHandle,
    received: Arc<AtomicU64>,
    /// Whether the transport waits for the handler, which then can be polled.
    idle: watch::Sender<bool>,
    /// Why the stream can't go on.
    failed: oneshot::Receiver<String>,
}

impl Reader {
    /// Starts reading: each publication takes its turn in the lane of the stream's key, and the
    /// next is read when the handler has taken the one before.
    pub(crate) fn spawn(
        messages: impl Messages,
        to: mpsc::Sender<InboundItem>,
        flight: &Flight,
        shared: &Arc<Shared>,
        limit: Duration,
    ) -> Self {
        let received = Arc::new(AtomicU64::new(0));
        let (idle, is_idle) = watch::channel(false);
        let (fail, failed) = oneshot::channel();
        let inward = Inward {
            to,
            lane: flight.cx().lane.clone(),
            shared: Arc::clone(shared),
            limit,
            idle: is_idle,
            received: Arc::clone(&received),
        };
        let task = tokio::spawn(async move {
            if let Err(why) = inward.run(messages).await {
                // A session that has ended needs no reason.
                let _ended = fail.send(why);
            } else {
                // The client is gone, or the handler takes nothing: the session says when it ends.
                std::future::pending::<()>().await;
            }
        });
        Self {
            task: task.abort_handle(),
            received,
            idle,
            failed,
        }
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    fn set_idle(&self, is_idle: bool) {
        self.idle
            .send_if_modified(|idle| std::mem::replace(idle, is_idle) != is_idle);
    }

    fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        match Pin::new(&mut self.failed).poll(cx) {
            Poll::Ready(Ok(why)) => Poll::Ready(why),
            // The task never drops its side while this one lives, but by being aborted.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// From the client to the handler.
struct Inward {
    to: mpsc::Sender<InboundItem>,
    lane: Option<LaneView>,
    shared: Arc<Shared>,
    limit: Duration,
    idle: watch::Receiver<bool>,
    received: Arc<AtomicU64>,
}

impl Inward {
    /// Reads to the end.
    ///
    /// # Errors
    /// The lane is not to be had for long, or a message can't be read: the stream can't go on.
    async fn run(mut self, mut messages: impl Messages) -> Result<(), String> {
        while let Some(message) = messages.next().await {
            let message = message?;
            let publication = match <Frame as prost::Message>::decode(message.clone()) {
                Ok(Frame {
                    publication: Some(publication),
                    ..
                }) => publication,
                Ok(_) => continue,
                Err(why) => {
                    if let Some(count) = self.shared.faults.malformed.pass() {
                        tracing::warn!(
                            %why,
                            count,
                            "a message of a two-way stream is malformed: ignored (`count` such \
                             messages since the last line)"
                        );
                    }
                    continue;
                }
            };
            self.received.fetch_add(1, Ordering::Relaxed);
            // A handler that takes no publications loses nothing by those that come.
            let Ok(place) = self.to.clone().reserve_owned().await else {
                continue;
            };
            // The sender lives as long as the session, whose end ends this task.
            drop(self.idle.wait_for(|idle| *idle).await);
            let turn = self.turn().await?;
            place.send(InboundItem {
                publication,
                message,
                turn,
            });
        }
        Ok(())
    }

    /// A turn in the lane, or for a stream without a key one of its own.
    async fn turn(&self) -> Result<oneshot::Sender<()>, String> {
        let Some(lane) = &self.lane else {
            let (turn, _) = oneshot::channel();
            return Ok(turn);
        };
        let shard = self.shared.layout.shard_of(lane.slot);
        let shard = &self.shared.shards[usize::from(shard.index())];
        loop {
            let (grant, granted) = oneshot::channel();
            let (key, limit) = (lane.key.clone(), self.limit);
            let turn = Box::new(InboundTurn { key, limit, grant });
            if shard.seat.cast(ShardMessage::Inbound(turn)).is_err() {
                return Err(Unavailable::Parked.to_string());
            }
            match granted.await {
                Ok(turn) => return Ok(turn),
                // The lane is full, or its shard has crashed with the request.
                Err(_) => tokio::time::sleep(TURN_PAUSE).await,
            }
        }
    }
}
