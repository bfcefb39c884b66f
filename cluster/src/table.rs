//! The table that all nodes agree on: nodes, slots, moves, settings. It is the state machine of the
//! cluster's log.
//!
//! [`Table::apply`] is the only way to change one: pure, total, the same on every node. Everyone else
//! holds a [`View`], fed with whole tables and [`Delta`]s, that never goes backwards.

mod apply;
mod command;
mod delta;
mod outcome;
mod pieces;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use smallvec::SmallVec;

pub use command::{
    Command, Completion, Grant, LeaderId, LogId, MoveAbort, MoveStart, NodeChange, Registration,
};
pub use delta::{Advance, Delta, History, Install, View};
pub use outcome::{Applied, Entry, Outcome, Refusal};
pub(crate) use pieces::{Pieces, Shared};
pub use snapshot::InvalidTable;

use crate::{HASH_ID, NodeId, OwnerEpoch, SLOT_COUNT, SlotId};

/// Counts the lives of a node: one more per start and per re-registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 128 random bits per process start: they tell apart two processes that claim one identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BootId(pub u128);

/// The identity of a data directory, drawn when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DataId(pub u128);

/// The identity of a cluster, drawn when it is founded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(pub u128);

/// A move's number: the index of the log entry that began it. With the slot it is unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MoveId(pub u64);

impl fmt::Display for MoveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of a node: what a slot is owned by, and a lease granted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    /// Which node.
    pub id: NodeId,
    /// Which of its lives.
    pub incarnation: Incarnation,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.incarnation)
    }
}

/// What a cluster is founded with; none of it can change but `recovery`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterInfo {
    /// Which cluster.
    pub id: ClusterId,
    /// How often it was recovered from the loss of its majority.
    pub recovery: u32,
    /// The way from a name to its slot, [`HASH_ID`].
    pub hash_id: String,
    /// How many slots there are, [`SLOT_COUNT`].
    pub slot_count: u16,
    /// How long a lease lasts.
    pub lease_length: Duration,
    /// How much longer than a lease its grantor waits, in thousandths of it.
    pub drift_margin_permille: u16,
}

impl ClusterInfo {
    /// A cluster with the default lease: 1.2 s and a margin of 10 %.
    pub fn new(id: ClusterId) -> Self {
        Self {
            id,
            recovery: 0,
            hash_id: HASH_ID.to_owned(),
            slot_count: SLOT_COUNT,
            lease_length: Duration::from_millis(1200),
            drift_margin_permille: 100,
        }
    }

    /// How long the leader waits after the last acknowledged heartbeat: the lease and its margin.
    pub fn grace(&self) -> Duration {
        let margin = self
            .lease_length
            .saturating_mul(u32::from(self.drift_margin_permille))
            / 1000;
        self.lease_length.saturating_add(margin)
    }
}

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeState {
    /// Registered, not yet ready.
    Joining,
    /// Ready for slots and events.
    Up,
    /// Giving its slots away.
    Draining,
    /// Declared dead; it may come back with a higher incarnation.
    Dead,
    /// Gone for good; the record keeps its id from being used again.
    Removed,
}

impl NodeState {
    /// Whether its incarnation lives: joining, up or draining.
    pub const fn is_living(self) -> bool {
        matches!(self, Self::Joining | Self::Up | Self::Draining)
    }
}

/// What a node is there for; several may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Roles {
    /// It may take part in Raft.
    pub voter: bool,
    /// It accepts events from outside.
    pub ingress: bool,
    /// It may own slots.
    pub region: bool,
}

/// Which groups of events a node runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Serves {
    /// Connects and refreshes.
    pub connect: bool,
    /// Everything with a key; without it a node owns no slot.
    pub channel: bool,
    /// Calls without a key: patterns of methods, `a.b`, `a.*` or `*`.
    pub rpc: Vec<String>,
}

/// What the table knows of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRec {
    /// Its name, unique among the nodes that were not removed.
    pub name: String,
    /// Its latest life.
    pub incarnation: Incarnation,
    /// The process of that life.
    pub boot: BootId,
    /// Its data directory.
    pub data: DataId,
    /// Where others dial it.
    pub addrs: Vec<String>,
    /// What it is there for.
    pub roles: Roles,
    /// Which events it runs.
    pub serves: Serves,
    /// Where it stands.
    pub state: NodeState,
    /// The newest protocol between nodes that it speaks.
    pub protocol: u16,
    /// Its build, for example `1.4.0+3f2a`.
    pub build: String,
    /// A hash of its routes, to warn of nodes that differ.
    pub routes_hash: u64,
}

/// Why a slot moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MoveReason {
    /// To even out the load.
    Rebalance,
    /// Its node leaves.
    Drain,
    /// An operator asked for it.
    Admin,
}

/// A move that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Move {
    /// Its number.
    pub id: MoveId,
    /// Who gets the slot.
    pub to: Member,
    /// Why.
    pub reason: MoveReason,
}

/// What the table knows of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotRec {
    /// Who acts for it.
    pub owner: Option<Member>,
    /// How many grants it has seen.
    pub epoch: OwnerEpoch,
    /// The move that brought it to its owner; `None` if that was a grant. So a target can tell a
    /// completed move, whose values it uses, from a takeover, which never uses half a move.
    pub via: Option<MoveId>,
    /// The move that it is in.
    pub moving: Option<Move>,
    /// Nodes that have every acknowledged write of it; empty until state is durable.
    pub holders: SmallVec<[NodeId; 3]>,
}

impl SlotRec {
    /// A slot that nobody has owned yet.
    pub const VACANT: Self = Self {
        owner: None,
        epoch: OwnerEpoch(0),
        via: None,
        moving: None,
        holders: SmallVec::new_const(),
    };
}

/// What operators set for the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// One more per change.
    pub version: u64,
    /// How many voters are wanted: 1, 3 or 5.
    pub voters: u8,
    /// Whether moves are paused; drains go on.
    pub moves_paused: bool,
    /// The protocol that a node needs to read these settings.
    pub protocol: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            version: 0,
            voters: 3,
            moves_paused: false,
            protocol: 1,
        }
    }
}

/// Nodes, slots, moves and settings at one version. A clone shares with it what neither changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub(crate) cluster: ClusterInfo,
    pub(crate) version: u64,
    pub(crate) nodes: Shared<BTreeMap<NodeId, NodeRec>>,
    pub(crate) slots: Pieces,
    pub(crate) settings: Settings,
}

impl Table {
    /// The table of a cluster without nodes, every slot vacant, at version 0.
    pub fn new(cluster: ClusterInfo, settings: Settings) -> Self {
        Self {
            cluster,
            version: 0,
            nodes: Shared::default(),
            slots: Pieces::vacant(),
            settings,
        }
    }

    /// What the cluster was founded with.
    pub const fn cluster(&self) -> &ClusterInfo {
        &self.cluster
    }

    /// One more per change.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Every node that ever registered, by id.
    pub fn nodes(&self) -> &BTreeMap<NodeId, NodeRec> {
        &self.nodes
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> Option<&NodeRec> {
        self.nodes.get(&id)
    }

    /// A slot.
    pub fn slot(&self, slot: SlotId) -> &SlotRec {
        static VACANT: SlotRec = SlotRec::VACANT;
        self.slots.get(usize::from(slot.index())).unwrap_or(&VACANT)
    }

    /// Every slot, in order.
    pub fn slots(&self) -> impl Iterator<Item = (SlotId, &SlotRec)> {
        SlotId::all().zip(self.slots.iter())
    }

    /// What operators have set.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether this life of the node is its latest and it lives.
    pub fn is_living(&self, member: Member) -> bool {
        self.node(member.id)
            .is_some_and(|node| node.incarnation == member.incarnation && node.state.is_living())
    }

    /// Whether this life of the node is over: it is dead, or there is a later one.
    pub fn is_over(&self, member: Member) -> bool {
        self.node(member.id).is_some_and(|node| {
            node.incarnation > member.incarnation
                || node.incarnation == member.incarnation
                    && matches!(node.state, NodeState::Dead | NodeState::Removed)
        })
    }

    /// Whether this life of the node is its latest and it is up.
    pub fn is_up(&self, member: Member) -> bool {
        self.node(member.id).is_some_and(|node| {
            node.incarnation == member.incarnation && node.state == NodeState::Up
        })
    }

    /// The latest life of a node.
    pub fn member(&self, id: NodeId) -> Option<Member> {
        let incarnation = self.node(id)?.incarnation;
        Some(Member { id, incarnation })
    }

    /// Whether no living incarnation owns the slot.
    pub fn is_orphan(&self, slot: SlotId) -> bool {
        self.slot(slot)
            .owner
            .is_none_or(|owner| !self.is_living(owner))
    }

    /// The table of a cluster that lost its majority for good, seen from its only survivor: every
    /// other node dead, and every version and epoch beyond what anyone may have seen.
    #[must_use]
    pub fn recovered(mut self, survivor: NodeId) -> Self {
        const AHEAD: u64 = 1 << 32;
        self.cluster.recovery = self.cluster.recovery.saturating_add(1);
        self.version = self.version.saturating_add(AHEAD);
        for (id, node) in self.nodes.iter_mut() {
            if *id != survivor && node.state != NodeState::Removed {
                node.state = NodeState::Dead;
            }
        }
        for slot in self.slots.iter_mut() {
            slot.epoch = OwnerEpoch(slot.epoch.0.saturating_add(AHEAD));
            slot.moving = None;
            slot.via = None;
            slot.owner = slot.owner.filter(|owner| owner.id == survivor);
        }
        self
    }
}
