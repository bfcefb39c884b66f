//! What can be proposed to change a [`Table`](super::Table). Each command is a compare-and-set: it
//! names what it expects, and a repeat changes nothing.

use std::fmt;

use super::{
    BootId, DataId, Incarnation, Member, MoveId, MoveReason, NodeState, Roles, Serves, Settings,
};
use crate::{NodeId, OwnerEpoch, SlotId};

/// A leadership: in one term there may be more than one leader, so the node belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaderId {
    /// The term.
    pub term: u64,
    /// Who leads.
    pub node: NodeId,
}

impl fmt::Display for LeaderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node, self.term)
    }
}

/// The place of an entry in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId {
    /// The leadership that wrote it.
    pub leader: LeaderId,
    /// Its index.
    pub index: u64,
}

/// Gives an orphan an owner, if its epoch is still this one and the node is up in this life. Else
/// the slot stays as it is, for the next plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Which slot.
    pub slot: SlotId,
    /// The epoch it is expected at.
    pub expect_epoch: OwnerEpoch,
    /// Who gets it.
    pub to: Member,
}

/// A node that wants to be in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its name.
    pub name: String,
    /// Its data directory.
    pub data: DataId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Its process.
    pub boot: BootId,
    /// Where others dial it.
    pub addrs: Vec<String>,
    /// What it is there for.
    pub roles: Roles,
    /// Which events it runs.
    pub serves: Serves,
    /// The newest protocol that it speaks.
    pub protocol: u16,
    /// Its build.
    pub build: String,
    /// A hash of its routes.
    pub routes_hash: u64,
}

/// What a node changes about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeChange {
    /// Up, draining, or up again.
    State(NodeState),
    /// Which events it runs.
    Serves(Serves),
    /// Where others dial it.
    Addrs(Vec<String>),
    /// A hash of its routes.
    RoutesHash(u64),
}

/// A move to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoveStart {
    /// Which slot.
    pub slot: SlotId,
    /// The epoch it is expected at.
    pub expect_epoch: OwnerEpoch,
    /// Who gets it.
    pub to: Member,
}

/// A move whose source has released the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// Which slot.
    pub slot: SlotId,
    /// Which move.
    pub id: MoveId,
    /// The epoch that the source owned it at.
    pub epoch: OwnerEpoch,
}

/// A move to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoveAbort {
    /// Which slot.
    pub slot: SlotId,
    /// Which move.
    pub id: MoveId,
}

/// A change of the table, as proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A node comes, or comes back in another life.
    Register {
        /// The node.
        node: Registration,
        /// The leadership that proposes it.
        leader: LeaderId,
        /// New owners for the slots of the life that it replaces.
        grants: Vec<Grant>,
    },
    /// A node changes something about itself.
    SetNode {
        /// Which node, in which life.
        member: Member,
        /// Which process of it.
        boot: BootId,
        /// What changes.
        change: NodeChange,
    },
    /// A node's lease is over and was waited out, or it has left.
    DeclareDead {
        /// Which life of which node.
        member: Member,
        /// Why, in words, for the list of events.
        why: String,
        /// The leadership that proposes it.
        leader: LeaderId,
        /// New owners for its slots.
        grants: Vec<Grant>,
    },
    /// A node is gone for good.
    Remove {
        /// Which one.
        id: NodeId,
    },
    /// Orphans get owners.
    Assign {
        /// Which ones, and whom.
        grants: Vec<Grant>,
    },
    /// Slots begin to move.
    BeginMoves {
        /// Which ones, and where.
        moves: Vec<MoveStart>,
        /// Why.
        reason: MoveReason,
    },
    /// Slots were released by their sources.
    CompleteMoves {
        /// Which ones.
        moves: Vec<Completion>,
    },
    /// Moves are given up; the slots stay.
    AbortMoves {
        /// Which ones.
        moves: Vec<MoveAbort>,
        /// Why, in words.
        why: String,
    },
    /// Operators set something; `settings.version` is the version it is based on.
    SetSettings {
        /// The new values.
        settings: Settings,
    },
    /// Changes nothing: who sees it applied knows that all before it is.
    Barrier {
        /// Tells one from another.
        nonce: u64,
    },
}
