//! How an event ended: the value that travels back through the `after` halves to the caller.

use crate::event::Event;
use crate::reject::Reject;
use crate::reply::{Reply, StreamOpen};
use std::time::Duration;

/// The end of an event, whoever brought it about.
#[derive(Debug)]
pub enum Outcome {
    /// A reply of the handler, or of a stage that answered in its place.
    Reply(Reply),
    /// A subscription stream was accepted: its first message and its source of publications.
    Stream(StreamOpen),
    /// A refusal by a handler or a stage.
    Reject(Reject),
    /// Nobody could answer properly; the answer says so, and is never an empty OK.
    Failure(Failure),
    /// An accepted stream is over; only the `after` halves see this one.
    StreamEnd(StreamEnd),
}

impl Outcome {
    /// A short word for logs and metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Reply(_) => "ok",
            Self::Stream(_) => "stream_open",
            Self::Reject(_) => "rejected",
            Self::Failure(failure) => failure.label(),
            Self::StreamEnd(end) => end.reason.label(),
        }
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Reject> for Outcome {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

/// What a handler of the event `E` may return.
///
/// `()` is no answer, and does not compile: Centrifugo reads an empty reply as *allowed* for most
/// events, so whoever means it says [`Reply::empty`].
///
/// ```compile_fail,E0277
/// use centripeta::event::Publish;
/// use centripeta::outcome::IntoOutcome;
///
/// fn answer(value: impl IntoOutcome<Publish>) {}
/// answer(());
/// ```
#[diagnostic::on_unimplemented(
    message = "a handler of the event `{E}` may not return `{Self}`",
    label = "not an answer to this event",
    note = "it may return the event's reply builder (`ConnectReply`, `SubscribeReply`, \
            `PublishReply`, `RpcReply`, `RefreshReply`, `StreamReply` …), its result message, \
            `Json<T>` (rpc only), `Reply`, `Reject`, `Outcome`, or a `Result` of one of these \
            with an error that turns into `Reject`",
    note = "`()` is no answer: return the event's plain yes (such as `SubscribeReply::allow()`), \
            or `Reply::empty()` if an empty reply is meant"
)]
pub trait IntoOutcome<E: Event> {
    /// The outcome of the event.
    fn into_outcome(self) -> Outcome;
}

impl<E: Event> IntoOutcome<E> for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

impl<E: Event> IntoOutcome<E> for Reply {
    fn into_outcome(self) -> Outcome {
        Outcome::Reply(self)
    }
}

impl<E: Event> IntoOutcome<E> for Reject {
    fn into_outcome(self) -> Outcome {
        Outcome::Reject(self)
    }
}

impl<E: Event, T: IntoOutcome<E>, X: Into<Reject>> IntoOutcome<E> for Result<T, X> {
    fn into_outcome(self) -> Outcome {
        match self {
            Ok(answer) => answer.into_outcome(),
            Err(refusal) => Outcome::Reject(refusal.into()),
        }
    }
}

/// Why nobody could answer. One table (`answer`) says what the caller gets for each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A handler or a stage panicked.
    #[error("{place} panicked: {message}")]
    Panic {
        /// Which handler or stage.
        place: String,
        /// The panic's message.
        message: String,
    },
    /// A handler failed with something else than a `Reject`.
    #[error("{place} failed: {cause}")]
    Internal {
        /// Which handler or stage.
        place: String,
        /// The cause, with its own causes.
        cause: String,
    },
    /// The reply may not leave: Centrifugo or an SDK would mishandle it.
    #[error("the reply may not leave: {0}")]
    BadReply(String),
    /// The deadline passed first.
    #[error("deadline exceeded")]
    Deadline,
    /// Nobody can run the event now; another try may succeed.
    #[error("unavailable: {0}")]
    Unavailable(Unavailable),
    /// A limit refused the event before it started.
    #[error("overloaded: {0}")]
    Overloaded(Overloaded),
    /// The request is not the protobuf message that the method takes.
    #[error("undecodable request: {0}")]
    Undecodable(String),
    /// The payload, or a part of it that a key or a parameter needs, is not what the route expects.
    #[error("bad data: {0}")]
    BadData(String),
    /// No route takes the event.
    #[error("no route")]
    NoRoute,
    /// The caller is not the Centrifugo that we were told of.
    #[error("the caller is not authenticated")]
    Unauthenticated,
    /// The caller went away; nobody reads the answer.
    #[error("the caller went away")]
    Cancelled,
}

impl Failure {
    /// A short word for logs and metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Panic { .. } => "panic",
            Self::Internal { .. } => "internal",
            Self::BadReply(_) => "bad_reply",
            Self::Deadline => "timeout",
            Self::Unavailable(_) => "unavailable",
            Self::Overloaded(_) => "overloaded",
            Self::Undecodable(_) => "undecodable",
            Self::BadData(_) => "bad_data",
            Self::NoRoute => "no_route",
            Self::Unauthenticated => "unauthenticated",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Why an event can't be run at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The node is shutting down.
    #[error("the node is draining")]
    Draining,
    /// The shard or stage failed too often and is parked until its next trial.
    #[error("the shard is parked after repeated crashes")]
    Parked,
    /// The shard or stage crashed after the event had started.
    #[error("the shard crashed while the event was running")]
    Crashed,
    /// The slot has no owner that could be asked.
    #[error("the slot has no owner in reach")]
    NoOwner,
    /// The owner's lease lapsed and did not come back in time: nothing starts or leaves.
    #[error("the lease of the slot's owner has lapsed")]
    Lapsed,
    /// The slot went to another owner while the event was running.
    #[error("the slot went to another owner while the event was running")]
    Lost,
    /// The slot moves away and the event ran longer than the move waits.
    #[error("the event was cut: its slot moves away, and it ran for too long (release_timeout)")]
    Cut,
    /// No address of an upstream takes the event, or what was sent there was lost.
    #[error("no upstream answers")]
    Upstream,
    /// The worker process was lost after it had been given the event.
    #[error("the worker was lost while the event was running")]
    Worker,
    /// The slot moves to another node, which has not taken it in time.
    #[error("the slot moves to another node")]
    Moving,
    /// The node that had the event was lost, and the event may have run.
    #[error("the node was lost that had the event, which may have run")]
    LostPeer,
    /// This node is cut off from the cluster's majority.
    #[error("this node is cut off from the majority of the cluster")]
    Isolated,
    /// No node that can be reached serves events of this kind (`node.serves`).
    #[error("no node in reach serves events of this kind (node.serves)")]
    NoServer,
    /// The node that has to run the event has other routes than the one that it came to.
    #[error(
        "the node that has to run the event has other routes than the one that it came to; give \
         all nodes the same routes"
    )]
    Routes,
}

/// Which limit refused an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overloaded {
    /// `limits.in_flight`.
    #[error("too many events in flight (limits.in_flight)")]
    InFlight,
    /// `limits.in_flight_bytes`.
    #[error("too many request bytes in flight (limits.in_flight_bytes)")]
    InFlightBytes,
    /// `limits.streams`.
    #[error("too many open streams (limits.streams)")]
    Streams,
    /// `limits.lane_queue`.
    #[error("too many events wait for one key (limits.lane_queue)")]
    Lane,
    /// `limits.shard_events` or `limits.shard_bytes`.
    #[error("too many events wait in one shard (limits.shard_events, limits.shard_bytes)")]
    Shard,
    /// The memory for the values of keys (256 MiB).
    #[error("the memory store is full (256 MiB)")]
    Memory,
    /// A `limit` interceptor.
    #[error("rate limit")]
    Rate,
    /// `pool.max_queue_size` or `pool.allocate_timeout` of a worker pool.
    #[error("the worker pool is full (pool.max_queue_size, pool.allocate_timeout)")]
    Workers,
    /// Events that wait while their slots have no owner that serves them.
    #[error("too many events are held while their slots move (4096 events, 16 MiB a core)")]
    Held,
    /// Too much waits on the link to the node that would run the event.
    #[error("too much waits for the node that would run the event")]
    Peer,
}

/// How an accepted stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEnd {
    /// Who or what ended it.
    pub reason: StreamEndReason,
    /// How long it was open.
    pub open_for: Duration,
    /// Publications sent to the client.
    pub sent: u64,
    /// Publications received from the client.
    pub received: u64,
}

/// Who or what ended a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEndReason {
    /// The handler ended it: the client does not come back by itself.
    Finished,
    /// The handler failed or panicked: the client resubscribes.
    Failed(String),
    /// The client unsubscribed or went away.
    Cancelled,
    /// The node is draining: the client resubscribes.
    Drained,
    /// The slot of its channel is served elsewhere: the client resubscribes, and reaches it there.
    Moved,
}

impl StreamEndReason {
    /// A short word for logs and metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Finished => "stream_finished",
            Self::Failed(_) => "stream_failed",
            Self::Cancelled => "stream_cancelled",
            Self::Drained => "stream_drained",
            Self::Moved => "stream_moved",
        }
    }
}
