//! Views, health, refusals and events, over tables that a log has made.

#![allow(clippy::unwrap_used)]

mod events;
mod health;
mod request;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::allocation::Conditions;
use crate::raft;
use crate::testing::Log;
use crate::{LeaderId, MoveId, NodeId, SlotId};

/// What a node knows, owned.
struct Scene {
    log: Log,
    raft: raft::Status,
    quorum: bool,
    conditions: Conditions,
    heard: BTreeMap<NodeId, Duration>,
    ages: MoveAges,
    steps: BTreeMap<(SlotId, MoveId), MoveStep>,
    now: Duration,
}

/// The ids that [`Log::with_nodes`] gives: 1, 3, 5 and so on.
fn ids(count: u32) -> impl Iterator<Item = NodeId> {
    (0..count).map(|index| NodeId(index * 2 + 1))
}

impl Scene {
    /// So many nodes, all of them voters, that share all slots; the first leads.
    fn of(count: u32) -> Self {
        let mut log = Log::with_nodes(count);
        let grants = crate::allocation::plan(&log.table, &Conditions::default()).grants;
        log.commit(&crate::Command::Assign { grants });
        let mut raft = raft::Status {
            leader: Some(LeaderId {
                term: 1,
                node: NodeId(1),
            }),
            leads: true,
            term: 1,
            ..raft::Status::default()
        };
        raft.members.configs = vec![ids(count).collect()];
        raft.members.matched = ids(count).map(|id| (id, 10)).collect();
        raft.members.last = 10;
        Self {
            log,
            raft,
            quorum: true,
            conditions: Conditions::default(),
            heard: BTreeMap::new(),
            ages: MoveAges::default(),
            steps: BTreeMap::new(),
            now: Duration::ZERO,
        }
    }

    fn known(&self) -> Known<'_> {
        Known {
            table: &self.log.table,
            raft: &self.raft,
            me: NodeId(1),
            quorum: self.quorum,
            conditions: Some(&self.conditions),
            heard: &self.heard,
            ages: &self.ages,
            steps: &self.steps,
            now: self.now,
        }
    }

    fn only_voters(&mut self, voters: &[u32]) {
        let voters: BTreeSet<_> = voters.iter().map(|id| NodeId(*id)).collect();
        self.raft.members.configs = vec![voters];
    }

    fn wait(&mut self, seconds: u64) {
        self.ages.table(&self.log.table, SlotId::all(), self.now);
        self.now += Duration::from_secs(seconds);
    }

    /// The index of a slot that the node owns.
    fn slot_of(&self, id: u32) -> u16 {
        let owned = self.log.table.slots().find(|(_, rec)| {
            rec.owner.is_some_and(|owner| owner.id == NodeId(id)) && rec.moving.is_none()
        });
        owned.unwrap().0.index()
    }

    /// Problems that are failing, then warnings: what and cure.
    fn problems(&self) -> (Vec<String>, Vec<String>) {
        let health = self.known().health();
        let text = |problem: &Problem| format!("{}: {}", problem.what, problem.cure);
        let (failing, warnings): (Vec<_>, Vec<_>) =
            health.problems.iter().partition(|problem| problem.failing);
        (
            failing.into_iter().map(text).collect(),
            warnings.into_iter().map(text).collect(),
        )
    }
}

/// The words and the cure of a refusal.
fn refused<T: std::fmt::Debug>(result: Result<T, Refused>) -> String {
    let refused = result.unwrap_err();
    format!("{refused}: {}", refused.cure())
}
