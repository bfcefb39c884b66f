//! What the shell counts and measures, for metrics: how long moves and takeovers keep a slot from
//! being served, and how long the log takes.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::core::Core;
use crate::times::Times;
use crate::{Member, SlotId, Table};

/// Times of a node's part in its cluster since the process began.
#[derive(Debug, Default)]
pub struct Counts {
    /// From the closing of a slot here for a move until the new owner, or after an abort this node,
    /// has said that it is served again. Slots whose move ends otherwise are not in it.
    pub stall: Times,
    /// From the moment at which this node heard that a slot's owner is dead until the slot was open
    /// here. Each slot counts once.
    pub takeover: Times,
    /// From a proposal of the leader, which was this node, until it was committed and applied here;
    /// proposals that failed are not in it.
    pub commit: Times,
    flush: OnceLock<Arc<Times>>,
}

impl Counts {
    /// How long writes of the log, the vote and the snapshot to the disk took, fsync with them;
    /// `None` where no log is kept.
    pub fn flush(&self) -> Option<&Times> {
        self.flush.get().map(Arc::as_ref)
    }

    pub(super) fn flushes(&self, times: &Arc<Times>) {
        self.flush.get_or_init(|| Arc::clone(times));
    }
}

/// Slots that are not served now, and since when.
#[derive(Debug, Default)]
pub(super) struct Unserved {
    /// Closed here for a move.
    closed: BTreeMap<SlotId, Duration>,
    /// Their owner has died.
    orphaned: BTreeMap<SlotId, Duration>,
}

impl Core {
    /// A slot is closed here for a move.
    pub(super) fn stall_begins(&mut self, slot: SlotId) {
        let now = self.clock();
        self.unserved.closed.insert(slot, now);
    }

    /// A slot is served again, here or, as another node says, there.
    pub(super) fn stall_ends(&mut self, slot: SlotId) {
        if let Some(since) = self.unserved.closed.remove(&slot) {
            let stall = self.clock().saturating_sub(since);
            self.counts.stall.record(stall);
        }
    }

    /// These lives are over: what they owned is unserved from now on.
    pub(super) fn orphans(&mut self, before: &Table, died: &[Member]) {
        if died.is_empty() {
            return;
        }
        let now = self.clock();
        for (slot, rec) in before.slots() {
            if rec.owner.is_some_and(|owner| died.contains(&owner)) {
                self.unserved.orphaned.entry(slot).or_insert(now);
                // What it was to be moved to does not come.
                self.unserved.closed.remove(&slot);
            }
        }
    }

    /// A slot is open: `here`, or elsewhere.
    pub(super) fn taken_over(&mut self, slot: SlotId, here: bool) {
        if let Some(since) = self.unserved.orphaned.remove(&slot)
            && here
        {
            let took = self.clock().saturating_sub(since);
            self.counts.takeover.record(took);
        }
    }

    /// This life is over, and what it had closed with it.
    pub(super) fn forget_stalls(&mut self) {
        self.unserved.closed.clear();
    }
}
