//! What is known of slots outside of the actors that run them: it outlives their crashes, and is read
//! and changed from any thread. A node alone keeps none of it.

use crate::outcome::StreamEndReason;
use centripeta_cluster::hold::Bars;
use centripeta_cluster::peer::{NotHere, Reason};
use centripeta_cluster::{Ended, Move, MoveId, OwnerEpoch, Report, Reports, SLOT_COUNT, SlotId};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How the open streams of a slot end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StreamsEnd {
    /// Why.
    pub(super) reason: StreamEndReason,
    /// Spread over this time.
    pub(super) spread: Duration,
}

/// A slot that is closed for a move.
#[derive(Debug, Clone, Copy)]
struct Closed {
    to: Move,
    /// Whether the shell has heard how much still runs.
    said: bool,
}

#[derive(Debug, Default)]
struct Slot {
    /// Events that have started and may have to wait, with when they began.
    running: Vec<(u64, Instant)>,
    next: u64,
    closed: Option<Closed>,
    streams: Option<watch::Sender<Option<StreamsEnd>>>,
}

#[derive(Debug, Default)]
struct Cell {
    slot: Mutex<Slot>,
    /// Written by the slot's shard alone.
    lanes: AtomicUsize,
}

/// What became of events at the gates of their slots.
#[derive(Debug, Default)]
pub(crate) struct GateCounts {
    /// Events that waited for a gate or a lease.
    pub(crate) held: AtomicU64,
    /// Events that were sent back unstarted.
    pub(crate) bounced: AtomicU64,
    /// Started events of closed slots whose time was over.
    pub(crate) cut: AtomicU64,
    /// Open streams that were told to end, since their slot moved or was lost.
    pub(crate) streams: AtomicU64,
    /// Outcomes that did not leave, since the slot was lost.
    pub(crate) lost: AtomicU64,
    /// Outcomes that did not leave, since the lease did not come back in time.
    pub(crate) lapsed: AtomicU64,
}

impl GateCounts {
    /// What was ended against the will of callers, since the node began.
    pub(crate) fn ended(&self) -> Ended {
        Ended {
            streams: self.streams.load(Ordering::Relaxed),
            cut: self.cut.load(Ordering::Relaxed),
        }
    }
}

/// The slots of a node; see the module's text.
#[derive(Debug)]
pub(crate) struct Slots {
    cells: Box<[Cell]>,
    reports: OnceLock<Reports>,
    /// Wakes whatever waits for the lease, or for the loss of a slot.
    pub(super) changed: Notify,
    /// For `/metrics`.
    pub(crate) counts: GateCounts,
    /// What was sent back, in order, for tests.
    #[cfg(test)]
    pub(crate) bounced: Mutex<Vec<(String, NotHere)>>,
}

impl Slots {
    /// Of a node that is alone or not.
    pub(crate) fn new(alone: bool) -> Self {
        let count = if alone { 0 } else { SLOT_COUNT };
        Self {
            cells: (0..count).map(|_| Cell::default()).collect(),
            reports: OnceLock::new(),
            changed: Notify::new(),
            counts: GateCounts::default(),
            #[cfg(test)]
            bounced: Mutex::default(),
        }
    }

    fn cell(&self, slot: SlotId) -> Option<&Cell> {
        self.cells.get(usize::from(slot.index()))
    }

    fn slot(&self, slot: SlotId) -> Option<MutexGuard<'_, Slot>> {
        let cell = self.cell(slot)?;
        Some(cell.slot.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where reports go from now on; the first call stands.
    pub(super) fn set_reports(&self, to: Reports) {
        // A second shell would be a mistake of ours; its reports would only be missing.
        drop(self.reports.set(to));
    }

    /// Tells the shell, if there is one.
    pub(super) fn report(&self, report: Report) {
        if let Some(to) = self.reports.get() {
            // A shell that is gone needs no reports.
            to.send(report).ok();
        }
    }

    /// Says how many lanes a slot has; its shard alone calls it.
    pub(super) fn set_lanes(&self, slot: SlotId, lanes: usize) {
        if let Some(cell) = self.cell(slot) {
            cell.lanes.store(lanes, Ordering::Relaxed);
        }
    }

    /// How many lanes and open streams a slot has, and how long its longest event has run.
    pub(super) fn load(&self, slot: SlotId) -> (usize, usize, Duration) {
        let lanes = self
            .cell(slot)
            .map_or(0, |cell| cell.lanes.load(Ordering::Relaxed));
        let Some(known) = self.slot(slot) else {
            return (lanes, 0, Duration::ZERO);
        };
        let oldest = known.running.iter().map(|(_, since)| *since).min();
        let streams = known
            .streams
            .as_ref()
            .map_or(0, watch::Sender::receiver_count);
        (
            lanes + known.running.len(),
            streams,
            oldest.map_or(Duration::ZERO, |since| since.elapsed()),
        )
    }

    /// An event has started that may have to wait.
    pub(super) fn started(&self, slot: SlotId) -> Option<u64> {
        let mut known = self.slot(slot)?;
        known.next += 1;
        let id = known.next;
        known.running.push((id, Instant::now()));
        Some(id)
    }

    /// It is over, and its outcome has left.
    pub(super) fn ended(&self, slot: SlotId, id: u64) {
        let Some(mut known) = self.slot(slot) else {
            return;
        };
        if let Some(at) = known.running.iter().position(|(other, _)| *other == id) {
            known.running.swap_remove(at);
        }
        if known.running.is_empty()
            && let Some(closed) = known.closed.filter(|closed| closed.said)
        {
            let id = closed.to.id;
            self.report(Report::Idle { slot, id });
        }
    }

    /// The move that a slot is closed for.
    pub(super) fn closed_for(&self, slot: SlotId) -> Option<Move> {
        Some(self.slot(slot)?.closed?.to)
    }

    /// The slot closes for a move: its shard has yet to bounce what has not started.
    pub(super) fn close(&self, slot: SlotId, to: Move) {
        if let Some(mut known) = self.slot(slot) {
            known.closed = Some(Closed { to, said: false });
        }
    }

    /// Nothing unstarted is left in a closed slot: tells the shell once what still runs.
    pub(super) fn say_closed(&self, slot: SlotId) {
        let Some(mut known) = self.slot(slot) else {
            return;
        };
        let started = known.running.len();
        if let Some(closed) = known.closed.as_mut().filter(|closed| !closed.said) {
            closed.said = true;
            let id: MoveId = closed.to.id;
            self.report(Report::Closed { slot, id, started });
        }
    }

    /// The slot is closed for no move any more.
    pub(super) fn unclose(&self, slot: SlotId) {
        if let Some(mut known) = self.slot(slot) {
            known.closed = None;
        }
    }

    /// A stream of the slot was accepted: it hears of its end here.
    pub(super) fn stream_opened(
        &self,
        slot: SlotId,
    ) -> Option<watch::Receiver<Option<StreamsEnd>>> {
        let mut known = self.slot(slot)?;
        let sender = known.streams.get_or_insert_with(|| watch::channel(None).0);
        Some(sender.subscribe())
    }

    /// Ends the open streams of a slot; `per_stream` is how much the spread grows by each of them.
    pub(super) fn end_streams(
        &self,
        slot: SlotId,
        reason: StreamEndReason,
        per_stream: Duration,
        longest: Duration,
    ) {
        let Some(streams) = self.slot(slot).and_then(|mut known| known.streams.take()) else {
            return;
        };
        let count = streams.receiver_count();
        let counted = u64::try_from(count).unwrap_or(u64::MAX);
        self.counts.streams.fetch_add(counted, Ordering::Relaxed);
        let open = u32::try_from(count).unwrap_or(u32::MAX);
        let spread = per_stream.saturating_mul(open).min(longest);
        streams.send_replace(Some(StreamsEnd { reason, spread }));
    }

    /// Counts, and for tests keeps, what is sent back.
    pub(super) fn note_bounce(&self, subject: &str, not_here: NotHere) {
        self.counts.bounced.fetch_add(1, Ordering::Relaxed);
        #[cfg(test)]
        {
            let mut all = self.bounced.lock().unwrap_or_else(PoisonError::into_inner);
            all.push((subject.to_owned(), not_here));
        }
        let (owner, epoch) = (not_here.owner, not_here.epoch.0);
        let reason = match not_here.reason {
            Reason::WrongOwner => "wrong owner",
            Reason::Moving(_) => "moving",
            Reason::Lapsed => "lapsed",
            Reason::Behind => "behind",
            Reason::Stale => "stale",
        };
        tracing::debug!(
            subject,
            reason,
            ?owner,
            epoch,
            "an event goes back unstarted"
        );
    }
}

/// An event that has started in a slot, until its outcome has left.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) shared: std::sync::Arc<crate::engine::shared::Shared>,
    pub(super) slot: SlotId,
    pub(super) epoch: OwnerEpoch,
    pub(super) id: u64,
}

impl Drop for Started {
    fn drop(&mut self) {
        self.shared.slots.ended(self.slot, self.id);
    }
}

/// What a shard keeps of its slots through its crashes.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    bars: Mutex<Bars>,
    parked: AtomicBool,
}

impl Memory {
    /// Generations that were bounced (R11).
    pub(crate) fn bars(&self) -> MutexGuard<'_, Bars> {
        self.bars.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets whether the shard is parked; answers whether it was.
    pub(super) fn park(&self, parked: bool) -> bool {
        self.parked.swap(parked, Ordering::Relaxed)
    }
}
