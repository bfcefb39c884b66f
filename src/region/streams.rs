//! Streams of a slot: the turns of what clients publish into them, and their end when the slot goes.

use crate::engine::shared::Shared;
use crate::outcome::StreamEndReason;
use crate::region::gate::{Leave, clear, may_leave};
use crate::region::lane::{InboundTurn, LaneView};
use crate::region::run::EndedMessage;
use crate::region::slots::StreamsEnd;
use crate::reject::BoxError;
use crate::reply::{StreamOpen, StreamSource};
use crate::routing::key::LaneKey;
use centripeta_cluster::{OwnerEpoch, SlotId};
use futures_util::Stream;
use futures_util::stream::BoxStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

/// Grants a two-way stream its turn; the lane is busy until the turn is dropped.
pub(super) fn run_turn(
    turn: InboundTurn,
    ended: impl FnOnce(&LaneKey) -> EndedMessage,
) -> Option<AbortHandle> {
    let InboundTurn { key, limit, grant } = turn;
    let (turn, over) = oneshot::channel();
    // A stream that has ended takes no turn.
    grant.send(turn).ok()?;
    let ended = ended(&key);
    let task = tokio::spawn(async move {
        if tokio::time::timeout(limit, over).await.is_err() {
            tracing::debug!(?limit, "a stream's handler held its lane for too long");
        }
        drop(ended);
    });
    Some(task.abort_handle())
}

/// The slot of a stream is not served here any more.
#[derive(Debug, thiserror::Error)]
#[error("the slot of the stream is not served here any more")]
struct SlotGone(StreamEndReason);

/// How a stream ends whose source gave this error.
pub(crate) fn stream_end(cause: &BoxError) -> StreamEndReason {
    match cause.downcast_ref::<SlotGone>() {
        Some(SlotGone(reason)) => reason.clone(),
        None => StreamEndReason::Failed(cause.to_string()),
    }
}

/// Ties an accepted stream to its slot: it publishes nothing while the node may not act for it, and
/// ends when the slot is closed or lost. On a node alone it is left as it is.
pub(crate) fn tie(open: StreamOpen, lane: &LaneView, shared: &Arc<Shared>) -> StreamOpen {
    let (slot, epoch) = (lane.slot, lane.epoch);
    let Some(end) = shared.slots.stream_opened(slot) else {
        return open;
    };
    // Lost since its outcome might leave: whoever ended the streams of the slot knew nothing of it.
    let end: End = if may_leave(shared, slot, epoch) == Leave::Never {
        shared.slots.counts.streams.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(StreamEndReason::Moved))
    } else {
        Box::pin(told(end))
    };
    let rest = match open.rest {
        StreamSource::Publications(source) => {
            let owned = Owned::new(source, end, shared, slot, epoch);
            StreamSource::Publications(Box::pin(owned))
        }
        StreamSource::Messages(source) => {
            let owned = Owned::new(source, end, shared, slot, epoch);
            StreamSource::Messages(Box::pin(owned))
        }
    };
    StreamOpen { rest, ..open }
}

/// Ready when this stream's turn to end has come.
async fn told(mut end: watch::Receiver<Option<StreamsEnd>>) -> StreamEndReason {
    let told = end.wait_for(Option::is_some).await;
    let Some(end) = told.ok().and_then(|end| end.clone()) else {
        return StreamEndReason::Moved;
    };
    tokio::time::sleep(end.spread.mul_f64(fastrand::f64())).await;
    end.reason
}

type Waiting = Pin<Box<dyn Future<Output = bool> + Send>>;

type End = Pin<Box<dyn Future<Output = StreamEndReason> + Send>>;

struct Owned<T> {
    source: BoxStream<'static, Result<T, BoxError>>,
    end: End,
    shared: Arc<Shared>,
    slot: SlotId,
    epoch: OwnerEpoch,
    /// What the source gave while the lease was over, and the wait for it.
    held: Option<(Option<Result<T, BoxError>>, Waiting)>,
}

impl<T> Owned<T> {
    fn new(
        source: BoxStream<'static, Result<T, BoxError>>,
        end: End,
        shared: &Arc<Shared>,
        slot: SlotId,
        epoch: OwnerEpoch,
    ) -> Self {
        Self {
            source,
            end,
            shared: Arc::clone(shared),
            slot,
            epoch,
            held: None,
        }
    }
}

fn gone<T>(reason: StreamEndReason) -> Poll<Option<Result<T, BoxError>>> {
    Poll::Ready(Some(Err(Box::new(SlotGone(reason)))))
}

impl<T: Unpin> Stream for Owned<T> {
    type Item = Result<T, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Poll::Ready(reason) = this.end.as_mut().poll(cx) {
            return gone(reason);
        }
        if this.held.is_none() {
            let item = ready!(this.source.as_mut().poll_next(cx));
            match may_leave(&this.shared, this.slot, this.epoch) {
                Leave::Now => return Poll::Ready(item),
                Leave::Never => return gone(StreamEndReason::Moved),
                Leave::Later => {
                    let wait = clear(Arc::clone(&this.shared), this.slot, this.epoch);
                    this.held = Some((item, Box::pin(wait)));
                }
            }
        }
        let Some((_, wait)) = &mut this.held else {
            return Poll::Pending;
        };
        let clear = ready!(wait.as_mut().poll(cx));
        match this.held.take().filter(|_| clear) {
            Some((item, _)) => Poll::Ready(item),
            None => gone(StreamEndReason::Moved),
        }
    }
}
