//! The gates of an event with a key: one before its handler starts, one before its outcome leaves.
//!
//! Both ask the node's [`Standing`](centripeta_cluster::Standing) at that very moment. A node alone
//! passes each with one look at one atomic word.

use crate::engine::flight::{Call, Flight};
use crate::engine::guard::{Ended, Limits, guarded};
use crate::engine::shared::Shared;
use crate::outcome::{Failure, Outcome, Unavailable};
use crate::region::lane::{LaneView, Leg};
use crate::region::shard::Shard;
use crate::region::slots::Started;
use centripeta_cluster::peer::{Grounds, NotHere, Reason, Verdict, judge};
use centripeta_cluster::{Gate, Move, OwnerEpoch, SlotId};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What waits for the lease looks at it again after so long, should nobody say that it is back.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// An event in front of its slot.
struct Case<'a> {
    shard: &'a Shard,
    shared: &'a Shared,
    slot: SlotId,
    leg: Option<Leg>,
}

impl Grounds for Case<'_> {
    fn gate(&self) -> Gate {
        self.shared.standing.gate(self.slot)
    }

    fn shut_for(&self) -> Option<Move> {
        // The gate is set before the shell says what for; the table knows by then.
        let known = self.shared.slots.closed_for(self.slot);
        known.or_else(|| self.shared.standing.shown().table.slot(self.slot).moving)
    }

    fn is_barred(&self) -> bool {
        self.leg.is_some_and(|leg| {
            let bars = self.shard.memory.bars();
            !bars.admits(leg.sender, self.slot, leg.generation)
        })
    }

    fn lapsed_for(&self) -> Option<Duration> {
        let standing = &self.shared.standing;
        (!standing.has_lease()).then(|| standing.lapsed_for())
    }
}

/// Whether an event may start at this very moment.
pub(super) fn verdict(shard: &Shard, shared: &Shared, slot: SlotId, leg: Option<Leg>) -> Verdict {
    match (shared.standing.acts_for(slot), leg) {
        (Some(epoch), None) => Verdict::Run(epoch),
        _ => judge(&Case {
            shard,
            shared,
            slot,
            leg,
        }),
    }
}

/// Sends an event back unstarted; its generation is barred from now on.
pub(super) fn bounce(shard: &Shard, flight: Flight, reason: Reason) {
    let shared = Arc::clone(flight.shared());
    let Some(LaneView { slot, leg, .. }) = flight.cx().lane else {
        // Without a key there is no gate that could send it back.
        return flight.finish(Failure::Unavailable(Unavailable::NoOwner).into());
    };
    if let Some(leg) = leg {
        let mut bars = shard.memory.bars();
        bars.bounced(leg.sender, slot, leg.generation);
    }
    let not_here = NotHere::new(reason, &shared.standing.shown().table, slot);
    shared.slots.note_bounce(flight.cx().subject(), not_here);
    flight.bounce(not_here);
}

/// Whether the outcome of an event may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// It may.
    Now,
    /// Not before the lease is back.
    Later,
    /// Never: the slot is not this node's any more, or not under that epoch.
    Never,
}

/// Whether what was started under an epoch may act at this very moment.
pub(super) fn may_leave(shared: &Shared, slot: SlotId, epoch: OwnerEpoch) -> Leave {
    if shared.standing.may_act(slot, epoch) {
        return Leave::Now;
    }
    match shared.standing.gate(slot) {
        Gate::Open(now) | Gate::Shut(now) if now == epoch => Leave::Later,
        _ => Leave::Never,
    }
}

/// Waits until it is clear whether what was started under an epoch may act: `false` is never.
pub(super) async fn clear(shared: Arc<Shared>, slot: SlotId, epoch: OwnerEpoch) -> bool {
    loop {
        let changed = shared.slots.changed.notified();
        match may_leave(&shared, slot, epoch) {
            Leave::Now => return true,
            Leave::Never => return false,
            // Either ends the wait, and what it was for is looked at again.
            Leave::Later => drop(tokio::time::timeout(LOOK_AGAIN, changed).await),
        }
    }
}

/// Ties an event that has started to its slot, among several nodes: it is counted there until its
/// outcome has left, and can be stopped.
#[derive(Debug)]
pub(super) struct Tie {
    started: Started,
    stop: oneshot::Receiver<Unavailable>,
    stopped: Option<Unavailable>,
}

impl Tie {
    /// Ties an event; `None` for one without a key, and on a node alone.
    pub(super) fn of(flight: &Flight) -> Option<(Self, oneshot::Sender<Unavailable>)> {
        let lane = flight.cx().lane.as_ref()?;
        let shared = Arc::clone(flight.shared());
        let (slot, epoch) = (lane.slot, lane.epoch);
        let id = shared.slots.started(slot)?;
        let (stopper, stop) = oneshot::channel();
        let tie = Self {
            started: Started {
                shared,
                slot,
                epoch,
                id,
            },
            stop,
            stopped: None,
        };
        Some((tie, stopper))
    }

    /// It starts under this epoch.
    pub(super) const fn set_epoch(&mut self, epoch: OwnerEpoch) {
        self.started.epoch = epoch;
    }
}

/// The limits of a started event: its caller's, and those of its slot.
pub(super) struct Tied<'a> {
    pub(super) call: &'a mut Call,
    pub(super) tie: Option<&'a mut Tie>,
}

impl Limits for Tied<'_> {
    fn limit(&self) -> Instant {
        self.call.limit()
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(tie) = &mut self.tie
            && tie.stopped.is_none()
            && let Poll::Ready(Ok(why)) = std::pin::Pin::new(&mut tie.stop).poll(cx)
        {
            tie.stopped = Some(why);
            return Poll::Ready(());
        }
        self.call.poll_gone(cx)
    }
}

/// The last steps of an event that had to wait: its outcome leaves, now or when the lease is back, or
/// something else is said in its place.
pub(super) async fn leave(mut flight: Flight, outcome: Outcome, tie: Option<Tie>) {
    let Some(mut tie) = tie else {
        return leave_untied(flight, outcome);
    };
    let counts = Arc::clone(&tie.started.shared);
    let counts = &counts.slots.counts;
    if let Some(why) = tie.stopped {
        return stopped(flight, why);
    }
    // A failure says nothing that only an owner may say.
    if matches!(outcome, Outcome::Failure(_)) {
        return flight.finish(outcome);
    }
    let Started { slot, epoch, .. } = tie.started;
    let shared = Arc::clone(&tie.started.shared);
    let ended = match may_leave(&shared, slot, epoch) {
        Leave::Now => Ended::Done(true),
        Leave::Never => Ended::Done(false),
        Leave::Later => {
            let (_, call) = flight.parts();
            let tie = Some(&mut tie);
            guarded(clear(shared, slot, epoch), &mut Tied { call, tie }).await
        }
    };
    match (ended, tie.stopped) {
        (Ended::Done(true), _) => go(flight, outcome),
        (Ended::Done(false), _) => stopped(flight, Unavailable::Lost),
        (_, Some(why)) => stopped(flight, why),
        (Ended::Deadline, _) => {
            counts.lapsed.fetch_add(1, Ordering::Relaxed);
            flight.finish(Failure::Unavailable(Unavailable::Lapsed).into());
        }
        (Ended::Cancelled | Ended::Panicked(_), _) => flight.finish(Failure::Cancelled.into()),
    }
}

/// The outcome of an event without a key leaves: of a batch of channels only while this node acts for
/// all of them.
pub(super) fn leave_untied(flight: Flight, outcome: Outcome) {
    let acts = &flight.cx().acts;
    let standing = &flight.shared().standing;
    let may = acts
        .iter()
        .all(|(slot, epoch)| standing.may_act(*slot, *epoch));
    if may || matches!(outcome, Outcome::Failure(_)) {
        go(flight, outcome);
    } else {
        stopped(flight, Unavailable::Lost);
    }
}

/// The answer to a started event that may not go on.
pub(super) fn stopped(flight: Flight, why: Unavailable) {
    let counts = &flight.shared().slots.counts;
    let count = if why == Unavailable::Cut {
        &counts.cut
    } else {
        &counts.lost
    };
    count.fetch_add(1, Ordering::Relaxed);
    flight.finish(Failure::Unavailable(why).into());
}

/// The outcome leaves; an accepted stream stays tied to its slot.
pub(super) fn go(flight: Flight, outcome: Outcome) {
    let outcome = match (outcome, &flight.cx().lane) {
        (Outcome::Stream(open), Some(lane)) => {
            Outcome::Stream(super::streams::tie(open, lane, flight.shared()))
        }
        (outcome, _) => outcome,
    };
    flight.finish(outcome);
}
