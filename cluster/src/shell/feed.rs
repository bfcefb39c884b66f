//! The table on its way between nodes: whom this node feeds, and whom it follows.
//!
//! Any node answers whoever wants the table, from its own copy, and sends on what changes for a
//! while. The leader feeds all in a small cluster, and in a large one the voters, whoever a change is
//! about, and those who asked it. What is lost on the way shows: by a gap, or by an acknowledgement of the
//! leader that names a newer version.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::core::Core;
use crate::peer::Control;
use crate::table::History;
use crate::{Delta, NodeId, SlotId, Table};

/// How many deltas are kept.
const HISTORY: usize = 1024;
/// For how long a node is fed that has asked.
const FED: Duration = Duration::from_secs(15);
/// How often a node asks whom it follows.
const ASK: Duration = Duration::from_secs(5);
/// A node whose table stays behind for so long asks another one.
const BEHIND: Duration = Duration::from_secs(1);
/// An answer to the first question is waited for so long.
const FIRST: Duration = Duration::from_millis(300);
/// Up to so many living nodes the leader feeds all.
const SMALL: usize = 100;
/// Stands for all versions that need the whole table; no table gets so far.
const WHOLE: u64 = u64::MAX;
/// What was sent and is not there by then is sent again.
const AGAIN: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy)]
struct Fed {
    /// What was sent last.
    version: u64,
    at: Duration,
    /// Until when it is fed because it asked.
    until: Duration,
}

/// Whom this node feeds.
#[derive(Debug)]
pub(super) struct Feed {
    history: History,
    fed: BTreeMap<NodeId, Fed>,
    /// What brings someone with a version to the present one: many are told the same.
    ready: BTreeMap<u64, Bytes>,
}

impl Feed {
    pub(super) const fn new() -> Self {
        Self {
            history: History::new(HISTORY),
            fed: BTreeMap::new(),
            ready: BTreeMap::new(),
        }
    }

    pub(super) fn advanced(&mut self, delta: &Delta) {
        self.history.push(delta.clone());
        self.ready.clear();
    }

    pub(super) fn replaced(&mut self) {
        self.history = History::new(HISTORY);
        self.ready.clear();
    }

    /// What brings someone with that version forward.
    fn since(&mut self, version: u64, table: &Table) -> Bytes {
        if let Some(ready) = self.ready.get(&version) {
            return ready.clone();
        }
        let delta = self.history.since(version);
        let from = delta.as_ref().map_or(WHOLE, |delta| delta.from);
        let encode = || {
            let control = delta.map_or_else(|| Control::Table(table.clone()), Control::Delta);
            Bytes::from(control.encode())
        };
        self.ready.entry(from).or_insert_with(encode).clone()
    }
}

/// Whom this node follows.
#[derive(Debug, Default)]
pub(super) struct Follow {
    asked: Option<Duration>,
    /// Asked once more than this many.
    turn: usize,
    behind: Option<(u64, Duration)>,
}

impl Follow {
    /// The leader has a newer version.
    pub(super) fn behind(&mut self, version: u64, now: Duration) {
        let since = self.behind.map_or(now, |(_, since)| since);
        self.behind = Some((version, since));
    }

    /// The node's table has come so far.
    pub(super) fn reached(&mut self, version: u64) {
        if self.behind.is_some_and(|(wanted, _)| version >= wanted) {
            self.behind = None;
        }
    }

    /// Asks at the next tick.
    pub(super) const fn hasten(&mut self) {
        self.asked = None;
    }
}

impl Core {
    /// The table has changed: it goes to those whom this node feeds, first to the targets of moves
    /// that are complete.
    pub(super) fn push(&mut self, table: &Table, slots: &[SlotId]) {
        let now = self.clock();
        self.feed.fed.retain(|_, fed| fed.until >= now);
        let mut first: Vec<NodeId> = Vec::new();
        let leads = self.lead.is_some();
        if leads {
            for slot in slots {
                let rec = table.slot(*slot);
                let moved = rec.via.and(rec.owner).map(|owner| owner.id);
                if let Some(id) = moved.filter(|id| first.last() != Some(id)) {
                    first.push(id);
                }
            }
        }
        let mut order: Vec<NodeId> = first.clone();
        if leads {
            let living = self.others();
            if living.len() <= SMALL {
                order.extend(living);
            } else {
                order.extend(self.voters());
                for slot in slots {
                    let rec = table.slot(*slot);
                    order.extend(rec.owner.map(|owner| owner.id));
                    order.extend(rec.moving.map(|moving| moving.to.id));
                }
            }
        }
        order.extend(self.feed.fed.keys().copied());
        let mut done = std::collections::BTreeSet::from([self.me.id]);
        let version = table.version();
        for node in order {
            if !done.insert(node) {
                continue;
            }
            let before = self
                .feed
                .fed
                .get(&node)
                .map_or_else(|| version.saturating_sub(1), |fed| fed.version);
            if before >= version {
                continue;
            }
            let bytes = self.feed.since(before, table);
            self.send_bytes(node, bytes);
            if let Some(fed) = self.feed.fed.get_mut(&node) {
                (fed.version, fed.at) = (version, now);
            }
        }
    }

    /// A node says which version it has, by a heartbeat: on the leader, it is fed from there.
    pub(super) fn acked_version(&mut self, node: NodeId, version: u64) {
        let Some(view) = self.view.as_ref().filter(|_| node != self.me.id) else {
            return;
        };
        let (now, newest) = (self.clock(), view.table().version());
        let until = now + FED;
        let small = view.table().nodes().len() <= SMALL || self.feed.fed.contains_key(&node);
        if !small {
            return;
        }
        let fed = self.feed.fed.entry(node).or_insert(Fed {
            version,
            at: Duration::ZERO,
            until,
        });
        fed.until = until;
        if version < newest && now.saturating_sub(fed.at) >= AGAIN {
            (fed.version, fed.at) = (newest, now);
            let bytes = self.feed.since(version, view.table());
            self.send_bytes(node, bytes);
        }
    }

    /// A node wants the table, and has that version.
    pub(super) fn table_wanted(&mut self, node: NodeId, version: u64) {
        let Some(view) = self.view.as_ref().filter(|_| node != NodeId(0)) else {
            return;
        };
        let now = self.clock();
        let newest = view.table().version();
        let fed = Fed {
            version: newest.max(version),
            at: now,
            until: now + FED,
        };
        self.feed.fed.insert(node, fed);
        if version < newest {
            let bytes = self.feed.since(version, view.table());
            self.send_bytes(node, bytes);
        }
    }

    /// Asks for the table where that is due.
    pub(super) fn keep_following(&mut self) {
        let Some(view) = self.view.as_ref().filter(|_| self.me.id != NodeId(0)) else {
            return;
        };
        let (now, version) = (self.clock(), view.table().version());
        let behind = self
            .follow
            .behind
            .is_some_and(|(_, since)| now.saturating_sub(since) >= BEHIND);
        let living = view
            .table()
            .nodes()
            .values()
            .filter(|node| node.state.is_living());
        let large = living.count() > SMALL;
        // In a small cluster the leader feeds everyone, once there is one.
        let quiet = self.quorum && !large && !behind;
        let every = if self.quorum { ASK } else { FIRST };
        let due = self
            .follow
            .asked
            .is_none_or(|asked| !quiet && now.saturating_sub(asked) >= every);
        if !behind && !due {
            return;
        }
        if behind {
            self.follow.behind = self.follow.behind.map(|(wanted, _)| (wanted, now));
        }
        if behind || !self.quorum {
            self.follow.turn = self.follow.turn.wrapping_add(1);
        }
        self.follow.asked = Some(now);
        self.ask_for_table(version);
    }

    /// Asks the one whose turn it is.
    fn ask_for_table(&self, version: u64) {
        let voters: Vec<_> = self
            .voters()
            .into_iter()
            .filter(|id| *id != self.me.id)
            .collect();
        if voters.is_empty() {
            return;
        }
        let turn = self.follow.turn.wrapping_add(self.me.id.0 as usize);
        if let Some(voter) = voters.get(turn % voters.len()) {
            self.send(*voter, Control::WantTable(version));
        }
    }

    /// The link to a node is bad: if it is the one that is followed, another one is.
    pub(super) fn link_lost(&mut self, node: NodeId) {
        self.feed.fed.remove(&node);
        self.follow.turn = self.follow.turn.wrapping_add(1);
        self.follow.hasten();
    }
}
