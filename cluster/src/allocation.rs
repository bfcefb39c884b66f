//! Placement: which node gets which slot. A pure function from a table to grants and moves.
//!
//! Every eligible node has a quota, equal to within one slot. Orphans and what nodes have beyond
//! their quota go to the nodes below it. So as few slots move as can: from three nodes to four
//! 1,024, from 100 to 101 forty. Which slot goes where is decided by rendezvous hashing, the same
//! on whichever node plans.
//!
//! Orphans are granted at once. Moves can be held back, each for a reason that the plan names.

mod board;
mod restraint;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use restraint::{Deaths, Rests};

use crate::{Grant, Member, MoveReason, MoveStart, NodeId, NodeState, SlotId, Table};
use board::Board;

/// A leader younger than this begins no move: it does not know its nodes yet.
pub const YOUNG_LEADER: Duration = Duration::from_secs(3);
/// How long moves wait for a node that is joining.
pub const JOINING_WAIT: Duration = Duration::from_secs(10);
/// How many moves may be open at once, by default.
pub const OPEN_LIMIT: usize = 512;

/// Why a node gets no new slots for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeldBack {
    /// One of its workers makes no progress, or its lease timer is late.
    Degraded,
    /// It was declared dead too often of late.
    Quarantine,
}

/// What a plan takes into account beside the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conditions {
    /// How long the leader has led.
    pub leader_age: Duration,
    /// How long joining nodes have been joining; one that is not named has just begun.
    pub joining: BTreeMap<NodeId, Duration>,
    /// Nodes that get no new slots.
    pub held_back: BTreeMap<NodeId, HeldBack>,
    /// Nodes that the leader has heard of only through others for too long: they lose their slots.
    pub cut_off: BTreeSet<NodeId>,
    /// Pairs of source and target whose last move failed, for as long as they rest.
    pub resting: BTreeSet<(NodeId, NodeId)>,
    /// Whether an operator asked to even out although two builds are up.
    pub across_builds: bool,
    /// How many moves may be open at once.
    pub open_limit: usize,
}

impl Default for Conditions {
    /// Nothing is held back.
    fn default() -> Self {
        Self {
            leader_age: Duration::MAX,
            joining: BTreeMap::new(),
            held_back: BTreeMap::new(),
            cut_off: BTreeSet::new(),
            resting: BTreeSet::new(),
            across_builds: false,
            open_limit: OPEN_LIMIT,
        }
    }
}

/// What moves wait for, or what keeps a plan from evening out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wait {
    /// The leader has led for less than 3 s.
    #[error("the leader is younger than 3 s")]
    YoungLeader,
    /// An operator paused moves.
    #[error("moves are paused: resume-moves")]
    Paused,
    /// A node is joining.
    #[error("node {0} is joining, waited for 10 s at most")]
    Joining(NodeId),
    /// Two builds are up.
    #[error("builds {0} and {1} are up: upgrade the rest, or rebalance --across-builds")]
    TwoBuilds(String, String),
    /// Too many moves are open.
    #[error("{0} more moves wait until open ones complete")]
    OpenLimit(usize),
    /// A pair of nodes rests after a failed move.
    #[error("moves from node {0} to node {1} rest after one failed")]
    Resting(NodeId, NodeId),
    /// A node gets no new slots.
    #[error("node {0} gets no new slots: {1:?}")]
    HeldBack(NodeId, HeldBack),
    /// No node may take slots that need one.
    #[error("{0} slots find no node that may take them")]
    NoTarget(usize),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// New owners for orphans.
    pub grants: Vec<Grant>,
    /// Moves to begin.
    pub moves: Vec<(MoveStart, MoveReason)>,
    /// What holds it back.
    pub waits: Vec<Wait>,
}

impl Plan {
    /// The moves as commands, one per reason.
    pub fn begin_moves(&self) -> Vec<crate::Command> {
        [MoveReason::Drain, MoveReason::Admin, MoveReason::Rebalance]
            .into_iter()
            .map(|reason| {
                let of =
                    |(start, why): &(MoveStart, MoveReason)| (*why == reason).then_some(*start);
                (reason, self.moves.iter().filter_map(of).collect::<Vec<_>>())
            })
            .filter(|(_, moves)| !moves.is_empty())
            .map(|(reason, moves)| crate::Command::BeginMoves { moves, reason })
            .collect()
    }
}

/// Plans grants and moves for a table.
pub fn plan(table: &Table, conditions: &Conditions) -> Plan {
    let mut plan = Plan::default();
    let mut board = Board::new(table, conditions, &mut plan.waits);
    let orphans: Vec<_> = SlotId::all()
        .filter(|slot| table.is_orphan(*slot))
        .collect();
    let quotas = board.quotas(&BTreeSet::new());
    let mut homeless = 0;
    for slot in orphans {
        let Some(to) = board.place(slot, None, &quotas) else {
            homeless += 1;
            continue;
        };
        plan.grants.push(Grant {
            slot,
            expect_epoch: table.slot(slot).epoch,
            to,
        });
    }
    if homeless > 0 {
        plan.waits.push(Wait::NoTarget(homeless));
    }
    move_slots(table, conditions, &mut board, &mut plan);
    plan
}

/// New owners for what these lives own, as if they were declared dead.
pub fn grants_after_death(table: &Table, dead: &[Member], conditions: &Conditions) -> Vec<Grant> {
    let mut table = table.clone();
    for member in dead {
        if let Some(node) = table.nodes.get_mut(&member.id)
            && node.incarnation == member.incarnation
            && node.state.is_living()
        {
            node.state = NodeState::Dead;
        }
    }
    plan(&table, conditions).grants
}

fn move_slots(table: &Table, conditions: &Conditions, board: &mut Board<'_>, plan: &mut Plan) {
    if conditions.leader_age < YOUNG_LEADER {
        plan.waits.push(Wait::YoungLeader);
        return;
    }
    let before = plan.waits.len();
    if table.settings().moves_paused {
        plan.waits.push(Wait::Paused);
    }
    let waited = |id: &NodeId| conditions.joining.get(id).copied().unwrap_or_default();
    let joining = table
        .nodes()
        .iter()
        .find(|(id, node)| node.state == NodeState::Joining && waited(id) < JOINING_WAIT);
    plan.waits.extend(joining.map(|(id, _)| Wait::Joining(*id)));
    let builds = board::builds(table);
    let older = if let ([oldest, .., newest], false) = (&*builds, conditions.across_builds) {
        plan.waits
            .push(Wait::TwoBuilds((*oldest).to_owned(), (*newest).to_owned()));
        board.not_of_newest_build()
    } else {
        BTreeSet::new()
    };
    let urgent_only = plan.waits.len() > before;

    let quotas = board.quotas(&older);
    // An older build is better than a node that leaves with its slots.
    let of_any_build = (!older.is_empty()).then(|| board.quotas(&BTreeSet::new()));
    let mut pool = board.leaving(urgent_only);
    if !urgent_only {
        pool.extend(board.surplus(&quotas));
        let worth = pool.len() >= 2 || pool.len() * 100 >= board.fair();
        if !worth && !pool.iter().any(|spare| spare.urgent) {
            pool.clear();
        }
    }
    let mut found = Vec::new();
    let mut homeless = 0;
    for spare in pool {
        let mut to = board.place(spare.slot, Some(spare.from), &quotas);
        if let (None, true, Some(quotas)) = (to, spare.urgent, &of_any_build) {
            to = board.place(spare.slot, Some(spare.from), quotas);
        }
        match to {
            Some(to) => {
                let expect_epoch = table.slot(spare.slot).epoch;
                let start = MoveStart {
                    slot: spare.slot,
                    expect_epoch,
                    to,
                };
                found.push((!spare.urgent, spare.rank, start, spare.reason));
            }
            None => homeless += 1,
        }
    }
    if homeless > 0 {
        plan.waits.push(Wait::NoTarget(homeless));
        plan.waits.extend(
            conditions
                .resting
                .iter()
                .map(|(from, to)| Wait::Resting(*from, *to)),
        );
    }
    // Urgent ones first, then the sources in turn.
    found.sort_by_key(|(calm, rank, start, _)| (*calm, *rank, start.slot));
    let open = table
        .slots()
        .filter(|(_, rec)| rec.moving.is_some())
        .count();
    let room = conditions.open_limit.saturating_sub(open);
    if found.len() > room {
        plan.waits.push(Wait::OpenLimit(found.len() - room));
        found.truncate(room);
    }
    plan.moves = found
        .into_iter()
        .map(|(_, _, start, reason)| (start, reason))
        .collect();
}
