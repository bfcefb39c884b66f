//! What is shown, computed from what a node knows. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    MoveAges, MoveStep, MoveView, MovesView, Named, NodeView, PlannedMoves, RebalanceView, Refused,
    SlotView, Status, Vote, VotersView, Where,
};
use crate::allocation::{Conditions, Plan, Wait};
use crate::{
    LeaderId, Member, NodeId, NodeRec, NodeState, SlotId, SlotRec, Table, raft, slot_of, tag_of,
};

/// What a node knows when it answers an operator. What only a leader knows is empty on another node.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The table.
    pub table: &'a Table,
    /// How Raft stands, as this node sees it; without members if it is not one.
    pub raft: &'a raft::Status,
    /// This node.
    pub me: NodeId,
    /// Whether there is a quorum, as far as this node can be sure: a leadership round has just
    /// succeeded, or the leader has acknowledged a heartbeat within the last lease.
    pub quorum: bool,
    /// What the leader's plans take into account.
    pub conditions: Option<&'a Conditions>,
    /// How long ago the leader has heard of each node.
    pub heard: &'a BTreeMap<NodeId, Duration>,
    /// For how long moves have been open.
    pub ages: &'a MoveAges,
    /// How far moves are, as their sources say.
    pub steps: &'a BTreeMap<(SlotId, crate::MoveId), MoveStep>,
    /// Now, counted as the ages are.
    pub now: Duration,
}

/// A node by name or id. A node with that name is preferred to one with that id.
///
/// # Errors
/// If there is none, or it was removed.
pub fn find_node(table: &Table, text: &str) -> Result<NodeId, Refused> {
    let there = |node: &NodeRec| node.state != NodeState::Removed;
    let nodes = || table.nodes().iter().filter(|(_, node)| there(node));
    let by_name = nodes().find(|(_, node)| node.name == text);
    let by_id = || {
        let id = NodeId(text.parse().ok()?);
        nodes().find(|(found, _)| **found == id)
    };
    if let Some((id, _)) = by_name.or_else(by_id) {
        return Ok(*id);
    }
    let names: Vec<_> = nodes()
        .map(|(id, _)| name(table, *id).to_string())
        .collect();
    let cure = if names.is_empty() {
        "no node has joined yet".to_owned()
    } else {
        format!("name one of {}", names.join(", "))
    };
    Err(Refused::no(format!("there is no node {text:?}"), cure))
}

/// A node with its name.
pub fn name(table: &Table, id: NodeId) -> Named {
    let name = table.node(id).map(|node| node.name.clone());
    Named {
        id,
        name: name.unwrap_or_default(),
    }
}

/// Where a node stands, in a word.
pub const fn state_word(state: NodeState) -> &'static str {
    match state {
        NodeState::Joining => "joining",
        NodeState::Up => "up",
        NodeState::Draining => "draining",
        NodeState::Dead => "dead",
        NodeState::Removed => "removed",
    }
}

/// How a single slot stands in a table.
pub(super) fn slot_view(table: &Table, slot: SlotId, rec: &SlotRec) -> SlotView {
    let owner = rec.owner.filter(|owner| table.is_living(*owner));
    SlotView {
        slot,
        owner: owner.map(|owner| name(table, owner.id)),
        epoch: rec.epoch,
        moving_to: rec.moving.map(|moving| name(table, moving.to.id)),
    }
}

impl<'a> Known<'a> {
    /// The cluster in a few lines.
    pub fn status(&self) -> Status {
        let table = self.table;
        let health = self.health();
        let states = [
            NodeState::Joining,
            NodeState::Up,
            NodeState::Draining,
            NodeState::Dead,
        ];
        let count = |state| {
            table
                .nodes()
                .values()
                .filter(|it| it.state == state)
                .count()
        };
        let nodes = states.into_iter().map(|state| (state, count(state)));
        Status {
            cluster: format!("{:032x}", table.cluster().id.0),
            recovery: table.cluster().recovery,
            answered_by: self.name(self.me),
            leader: self.leader().map(|leader| self.name(leader.node)),
            term: self.raft.term,
            version: table.version(),
            voters: self.names(self.raft.members.voters()),
            learners: self.names(self.raft.members.learners.iter().copied()),
            voters_wanted: table.settings().voters,
            nodes: nodes.filter(|(_, count)| *count > 0).collect(),
            slots_vacant: self.vacant(),
            moves_open: self.open().count(),
            moves_paused: table.settings().moves_paused,
            lease: table.cluster().lease_length,
            can_lose: health.can_lose,
            problems: health.problems.len(),
        }
    }

    /// Every node that was not removed, by id.
    pub fn nodes(&self) -> Vec<NodeView> {
        let usual = self.usual_routes();
        let there = |(_, node): &(&NodeId, &NodeRec)| node.state != NodeState::Removed;
        let nodes = self.table.nodes().iter().filter(there);
        nodes
            .map(|(id, node)| self.node_view(*id, node, usual))
            .collect()
    }

    fn node_view(&self, id: NodeId, node: &NodeRec, usual: Option<u64>) -> NodeView {
        let owned = |member: Option<Member>| member.is_some_and(|member| member.id == id);
        let conditions = self.conditions;
        NodeView {
            node: self.name(id),
            state: node.state,
            incarnation: node.incarnation,
            addrs: node.addrs.clone(),
            roles: node.roles,
            serves: node.serves.clone(),
            vote: self.vote(id),
            leads: self.leader().is_some_and(|leader| leader.node == id),
            slots: self.owned_by(id),
            arriving: self
                .open()
                .filter(|(_, rec)| owned(rec.moving.map(|moving| moving.to)))
                .count(),
            leaving: self.open().filter(|(_, rec)| owned(rec.owner)).count(),
            build: node.build.clone(),
            protocol: node.protocol,
            routes_differ: node.state.is_living() && usual.is_some_and(|it| it != node.routes_hash),
            held_back: conditions.and_then(|it| it.held_back.get(&id).copied()),
            cut_off: conditions.is_some_and(|it| it.cut_off.contains(&id)),
            heard: self.heard.get(&id).copied(),
        }
    }

    /// Every slot, or those that a node owns.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn slots(&self, node: Option<&str>) -> Result<Vec<SlotView>, Refused> {
        let only = node.map(|node| find_node(self.table, node)).transpose()?;
        let wanted = |rec: &SlotRec| only.is_none_or(|id| self.owner(rec) == Some(id));
        let slots = self.table.slots().filter(|(_, rec)| wanted(rec));
        Ok(slots
            .map(|(slot, rec)| slot_view(self.table, slot, rec))
            .collect())
    }

    /// Where a name has its owner.
    pub fn locate(&self, name: &[u8]) -> Where {
        let slot = slot_of(name);
        Where {
            tag: String::from_utf8_lossy(tag_of(name)).into_owned(),
            slot: slot_view(self.table, slot, self.table.slot(slot)),
        }
    }

    /// The open moves, and what keeps others from beginning: what the leader's latest plan waits for.
    pub fn moves(&self, waits: &[Wait]) -> MovesView {
        MovesView {
            open: self
                .open()
                .filter_map(|(slot, _)| self.move_view(slot))
                .collect(),
            waits: self.waits(waits),
            paused: self.table.settings().moves_paused,
        }
    }

    /// The move that a slot is in.
    pub fn move_view(&self, slot: SlotId) -> Option<MoveView> {
        let rec = self.table.slot(slot);
        let moving = rec.moving?;
        let step = self.steps.get(&(slot, moving.id)).copied();
        Some(MoveView {
            slot,
            id: moving.id,
            from: self.owner(rec).map(|id| self.name(id)),
            to: self.name(moving.to.id),
            reason: moving.reason,
            age: self.ages.age(slot, moving.id, self.now),
            step: step.unwrap_or(MoveStep::Unknown),
            stuck: self.ages.is_stuck(slot, moving.id, self.now),
        })
    }

    /// Who votes.
    pub fn voters(&self) -> VotersView {
        self.voters_wanted(self.table.settings().voters)
    }

    /// The same if so many were wanted.
    pub(crate) fn voters_wanted(&self, wanted: u8) -> VotersView {
        let members = &self.raft.members;
        let voters = members.voters();
        let living = |id: &NodeId| self.is_living(*id);
        let candidates: Vec<_> = self
            .table
            .nodes()
            .iter()
            .filter(|(id, node)| node.roles.voter && node.state.is_living() && !voters.contains(id))
            .filter(|(id, _)| !members.learners.contains(id))
            .map(|(id, _)| *id)
            .collect();
        let learners = members.learners.iter().copied();
        let there = voters.iter().filter(|id| living(id)).count()
            + learners.clone().filter(living).count()
            + candidates.len();
        VotersView {
            wanted,
            voters: self.names(voters),
            learners: self.names(learners),
            candidates: self.names(candidates),
            missing: usize::from(wanted).saturating_sub(there),
        }
    }

    /// What a plan does, if it is carried out, or would do. One without a move begins nothing.
    pub fn rebalance(&self, plan: &Plan, carried_out: bool) -> RebalanceView {
        let mut pairs: BTreeMap<(Option<NodeId>, NodeId), usize> = BTreeMap::new();
        for (start, _) in &plan.moves {
            let from = self.owner(self.table.slot(start.slot));
            *pairs.entry((from, start.to.id)).or_default() += 1;
        }
        let planned = |((from, to), slots): ((Option<NodeId>, NodeId), usize)| PlannedMoves {
            from: from.map(|id| self.name(id)),
            to: self.name(to),
            slots,
        };
        RebalanceView {
            moves: pairs.into_iter().map(planned).collect(),
            waits: self.waits(&plan.waits),
            begun: carried_out && !plan.moves.is_empty(),
        }
    }

    /// A node with its name.
    pub fn name(&self, id: NodeId) -> Named {
        name(self.table, id)
    }

    /// What a plan waits for, with the names of nodes.
    fn waits(&self, waits: &[Wait]) -> Vec<String> {
        let words = |wait: &Wait| match wait {
            Wait::Joining(id) => format!("{} is joining, waited for 10 s at most", self.name(*id)),
            Wait::Resting(from, to) => {
                let (from, to) = (self.name(*from), self.name(*to));
                format!("moves from {from} to {to} rest after one failed")
            }
            Wait::HeldBack(id, why) => {
                format!("{} gets no new slots: {}", self.name(*id), why.as_str())
            }
            other => other.to_string(),
        };
        waits.iter().map(words).collect()
    }

    pub(super) fn names(&self, ids: impl IntoIterator<Item = NodeId>) -> Vec<Named> {
        ids.into_iter().map(|id| self.name(id)).collect()
    }

    pub(super) fn leader(&self) -> Option<LeaderId> {
        self.raft.leader
    }

    pub(super) fn vote(&self, id: NodeId) -> Vote {
        let members = &self.raft.members;
        if members.voters().contains(&id) {
            Vote::Voter
        } else if members.learners.contains(&id) {
            Vote::Learner
        } else {
            Vote::None
        }
    }

    pub(super) fn is_living(&self, id: NodeId) -> bool {
        self.table
            .node(id)
            .is_some_and(|node| node.state.is_living())
    }

    /// The living owner of a slot.
    pub(super) fn owner(&self, rec: &SlotRec) -> Option<NodeId> {
        let owner = rec.owner.filter(|owner| self.table.is_living(*owner));
        owner.map(|owner| owner.id)
    }

    pub(super) fn owned_by(&self, id: NodeId) -> usize {
        let owned = |(_, rec): &(SlotId, &SlotRec)| self.owner(rec) == Some(id);
        self.table.slots().filter(owned).count()
    }

    pub(super) fn vacant(&self) -> usize {
        let vacant = |(_, rec): &(SlotId, &SlotRec)| self.owner(rec).is_none();
        self.table.slots().filter(vacant).count()
    }

    /// Slots that are in a move.
    pub(super) fn open(&self) -> impl Iterator<Item = (SlotId, &'a SlotRec)> {
        self.table.slots().filter(|(_, rec)| rec.moving.is_some())
    }

    /// The routes of most living nodes; of equally many, those of the oldest node.
    fn usual_routes(&self) -> Option<u64> {
        let mut counts: BTreeMap<u64, (usize, Reverse<NodeId>)> = BTreeMap::new();
        for (id, node) in self.table.nodes() {
            if node.state.is_living() {
                let count = counts.entry(node.routes_hash).or_insert((0, Reverse(*id)));
                count.0 += 1;
            }
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        most.map(|(hash, _)| hash)
    }
}
