//! A call on its way: what is sent, in which order, until when, and who waits for it.

use super::batch;
use super::error::{Error, MethodName};
use super::methods::MethodInfo;
use super::scan;
use super::stats::Counters;
use crate::trace::call::CallTrace;
use bytes::Bytes;
use centripeta_cluster::{Gate, Member, OwnerEpoch, SlotId, Standing};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// The lane of a channel: its hash. Two channels that share one are merely kept in one order.
pub(super) type LaneKey = u64;

/// The lanes that a call is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LaneKeys {
    /// None: it is called by itself, at once.
    None,
    /// One channel's.
    One(LaneKey),
    /// Those of several channels, each once.
    Many(Box<[LaneKey]>),
}

impl LaneKeys {
    /// The lane of a channel.
    pub(super) fn of(channel: &str) -> Self {
        Self::One(lane(channel))
    }

    /// The lanes of some channels.
    pub(super) fn of_all<'a>(channels: impl Iterator<Item = &'a str>) -> Self {
        let mut keys: Vec<LaneKey> = channels.map(lane).collect();
        keys.sort_unstable();
        keys.dedup();
        match keys[..] {
            [] => Self::One(lane("")),
            [key] => Self::One(key),
            _ => Self::Many(keys.into()),
        }
    }

    /// As a list.
    pub(super) fn as_slice(&self) -> &[LaneKey] {
        match self {
            Self::None => &[],
            Self::One(key) => std::slice::from_ref(key),
            Self::Many(keys) => keys,
        }
    }
}

fn lane(channel: &str) -> LaneKey {
    xxhash_rust::xxh3::xxh3_64(channel.as_bytes())
}

/// Under whose ownership a call is made.
#[derive(Debug, Clone)]
pub(super) struct Fence {
    slot: SlotId,
    epoch: OwnerEpoch,
    /// The life of the node; none without a cluster, where there is but one.
    me: Option<Member>,
    standing: Arc<Standing>,
}

impl Fence {
    /// Binds to a slot, its epoch and this life of the node.
    pub(super) fn new(slot: SlotId, epoch: OwnerEpoch, standing: &Arc<Standing>) -> Self {
        let me = (!standing.is_alone()).then(|| standing.me());
        let standing = Arc::clone(standing);
        Self {
            slot,
            epoch,
            me,
            standing,
        }
    }

    /// Whether this life of the node may act for the slot now, under the same epoch.
    pub(super) fn stands(&self) -> Stands {
        if self.me.is_some_and(|me| me != self.standing.me()) {
            return Stands::Fenced;
        }
        if self.standing.may_act(self.slot, self.epoch) {
            return Stands::Free;
        }
        match self.standing.gate(self.slot) {
            Gate::Open(epoch) | Gate::Shut(epoch) if epoch == self.epoch => Stands::Lapsed,
            _ => Stands::Fenced,
        }
    }

    /// What a call is answered that may not be made.
    pub(super) const fn error(&self) -> Error {
        Error::Fenced {
            slot: self.slot,
            epoch: self.epoch,
        }
    }
}

/// Whether a call may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stands {
    /// It may.
    Free,
    /// Not now: the lease is over, and the slot is still this node's. It may be back at any time.
    Lapsed,
    /// Never again.
    Fenced,
}

/// A place in the queue, given back when the call is answered.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) counters: Arc<Counters>,
    pub(super) bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counters.queued.fetch_sub(1, Ordering::Relaxed);
        self.counters
            .queued_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A call on its way.
#[derive(Debug)]
pub(super) struct Job {
    /// What is called.
    pub(super) method: MethodInfo,
    /// The encoded request.
    pub(super) payload: Bytes,
    /// Whose order it keeps.
    pub(super) lanes: LaneKeys,
    /// How long it has.
    pub(super) timeout: Duration,
    /// Until when.
    pub(super) deadline: Instant,
    /// Whether it may be sent twice: it only reads, or has an idempotency key.
    pub(super) is_safe: bool,
    /// Whether errors are asked for as gRPC statuses.
    pub(super) transport_errors: bool,
    /// Under whose ownership.
    pub(super) fence: Option<Fence>,
    /// The trace that it belongs to, if it does.
    pub(super) trace: Option<Box<CallTrace>>,
    /// Who waits; nobody for a cast.
    pub(super) reply: Option<oneshot::Sender<Result<Bytes, Error>>>,
    /// Its place in the queue.
    pub(super) place: Place,
}

impl Job {
    /// The method's name for errors.
    pub(super) fn name(&self) -> MethodName {
        self.method.name.clone()
    }

    /// Its channel, read back from the request; only errors need it.
    pub(super) fn channel(&self) -> Option<String> {
        if !self.method.channel_is_first {
            return None;
        }
        let channel = scan::last(&self.payload, 1)?;
        String::from_utf8(channel.into()).ok()
    }

    /// Bytes that it takes in a batch.
    pub(super) fn batch_len(&self) -> usize {
        batch::command_len(self.method.field, self.payload.len())
    }

    /// Ends the call.
    pub(super) fn answer(mut self, result: Result<Bytes, Error>) {
        let counters = &self.place.counters;
        // The call was made `timeout` before its deadline.
        let took = (Instant::now() + self.timeout).saturating_duration_since(self.deadline);
        counters
            .tally
            .ended(&self.method, result.as_ref().err(), took);
        counters.answered.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = &result {
            counters.failed.fetch_add(1, Ordering::Relaxed);
            if self.reply.is_none() {
                counters.cast_failed(error);
            }
        }
        if let Some(trace) = self.trace.take() {
            let error = result.as_ref().err();
            trace.ended(&self.method.name, || self.channel(), error);
        }
        if let Some(reply) = self.reply.take() {
            // Nobody may be waiting any more.
            drop(reply.send(result));
        }
    }

    /// Whether it has to wait for the lease of its node.
    pub(super) fn is_lapsed(&self) -> bool {
        let fence = self.fence.as_ref();
        fence.is_some_and(|fence| fence.stands() == Stands::Lapsed)
    }

    /// Ends the call since its time is over.
    pub(super) fn time_out(self, sent: bool) {
        let error = Error::Timeout {
            method: self.name(),
            after: self.timeout,
            sent,
        };
        self.answer(Err(error));
    }
}

/// A name that is known when the program is built.
pub(super) const fn name(name: &'static str) -> MethodName {
    Cow::Borrowed(name)
}
