//! For how long moves have been open, and which of them are stuck. Times count from any fixed start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::{MoveId, NodeId, SlotId, Table};

/// A move that has been open for so long, from a source that has completed none meanwhile, is stuck.
pub const STUCK: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
struct Open {
    id: MoveId,
    from: Option<NodeId>,
    since: Duration,
}

/// For how long moves have been open, as far as this node has seen.
#[derive(Debug, Clone, Default)]
pub struct MoveAges {
    open: BTreeMap<SlotId, Open>,
    /// When each source last completed a move.
    progress: BTreeMap<NodeId, Duration>,
}

impl MoveAges {
    /// The table has changed, in these slots.
    pub fn table(&mut self, table: &Table, slots: impl IntoIterator<Item = SlotId>, now: Duration) {
        let mut ended = false;
        for slot in slots {
            let rec = table.slot(slot);
            let before = self.open.get(&slot).copied();
            if let Some(Open { id, from, .. }) = before
                && rec.via == Some(id)
                && let Some(from) = from
            {
                self.progress.insert(from, now);
            }
            match rec.moving {
                Some(moving) if before.is_none_or(|open| open.id != moving.id) => {
                    let open = Open {
                        id: moving.id,
                        from: rec.owner.map(|owner| owner.id),
                        since: now,
                    };
                    ended |= self.open.insert(slot, open).is_some();
                }
                Some(_) => {}
                None => ended |= self.open.remove(&slot).is_some(),
            }
        }
        if !ended || self.progress.is_empty() {
            return;
        }
        let sources: BTreeSet<_> = self.open.values().filter_map(|open| open.from).collect();
        self.progress.retain(|from, _| sources.contains(from));
    }

    /// For how long a move has been open; `None` if it is not.
    pub fn age(&self, slot: SlotId, id: MoveId, now: Duration) -> Option<Duration> {
        let open = self.open.get(&slot).filter(|open| open.id == id)?;
        Some(now.saturating_sub(open.since))
    }

    /// The age of the move that has been open for longest.
    pub fn oldest(&self, now: Duration) -> Option<Duration> {
        let since = self.open.values().map(|open| open.since).min()?;
        Some(now.saturating_sub(since))
    }

    /// Whether a move goes on for too long.
    pub fn is_stuck(&self, slot: SlotId, id: MoveId, now: Duration) -> bool {
        let Some(open) = self.open.get(&slot).filter(|open| open.id == id) else {
            return false;
        };
        let progress = open.from.and_then(|from| self.progress.get(&from));
        let since = progress.map_or(open.since, |at| open.since.max(*at));
        now.saturating_sub(since) >= STUCK
    }
}
