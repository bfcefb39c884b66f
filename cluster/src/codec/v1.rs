//! The frozen types of format 1. They never change: a change is a `v2` beside this module.
//!
//! Golden bytes in the tests hold them still.

use smallvec::SmallVec;

use super::DecodeError;
use super::wire::{Seq, Text, Wire, mirror, mirror_names, read, write};
use crate::table as here;
use crate::{NodeId, SLOT_COUNT, SlotId};

pub(super) fn table(table: &here::Table) -> Vec<u8> {
    write(&Table::of(table))
}

pub(super) fn read_table(bytes: &[u8]) -> Result<here::Table, DecodeError> {
    read::<Table>(bytes)?.back()
}

pub(super) fn command(command: &here::Command) -> Vec<u8> {
    write(&Command::of(command))
}

pub(super) fn read_command(bytes: &[u8]) -> Result<here::Command, DecodeError> {
    read::<Command>(bytes)?.back()
}

pub(super) fn delta(delta: &here::Delta) -> Vec<u8> {
    write(&Delta::of(delta))
}

pub(super) fn read_delta(bytes: &[u8]) -> Result<here::Delta, DecodeError> {
    read::<Delta>(bytes)?.back()
}

/// The index of a slot.
#[derive(Debug, bincode::Encode, bincode::Decode)]
struct Slot(u16);

impl Wire<SlotId> for Slot {
    fn of(value: &SlotId) -> Self {
        Self(value.index())
    }
    fn back(self) -> Result<SlotId, DecodeError> {
        SlotId::new(self.0).ok_or(DecodeError::Range { what: "slot" })
    }
}

/// The nodes that hold a slot's state.
#[derive(Debug, bincode::Encode, bincode::Decode)]
struct Holders(Seq<u32>);

impl Wire<SmallVec<[NodeId; 3]>> for Holders {
    fn of(value: &SmallVec<[NodeId; 3]>) -> Self {
        Self(Seq(value.iter().map(|id| id.0).collect()))
    }
    fn back(self) -> Result<SmallVec<[NodeId; 3]>, DecodeError> {
        Ok(self.0.0.into_iter().map(NodeId).collect())
    }
}

mirror!(
    Member = here::Member {
        id: u32,
        incarnation: u64
    }
);
mirror!(
    LeaderId = here::LeaderId {
        term: u64,
        node: u32
    }
);
mirror!(
    ClusterInfo = here::ClusterInfo {
        id: u128,
        recovery: u32,
        hash_id: Text,
        slot_count: u16,
        lease_length: u64,
        drift_margin_permille: u16,
    }
);
mirror_names!(
    NodeState = here::NodeState {
        Joining,
        Up,
        Draining,
        Dead,
        Removed
    }
);
mirror!(
    Roles = here::Roles {
        voter: bool,
        ingress: bool,
        region: bool
    }
);
mirror!(Serves = here::Serves { connect: bool, channel: bool, rpc: Seq<Text> });
mirror!(NodeRec = here::NodeRec {
    name: Text,
    incarnation: u64,
    boot: u128,
    data: u128,
    addrs: Seq<Text>,
    roles: Roles,
    serves: Serves,
    state: NodeState,
    protocol: u16,
    build: Text,
    routes_hash: u64,
});
mirror_names!(
    MoveReason = here::MoveReason {
        Rebalance,
        Drain,
        Admin
    }
);
mirror!(
    Move = here::Move {
        id: u64,
        to: Member,
        reason: MoveReason
    }
);
mirror!(SlotRec = here::SlotRec {
    owner: Option<Member>,
    epoch: u64,
    via: Option<u64>,
    moving: Option<Move>,
    holders: Holders,
});
mirror!(
    Settings = here::Settings {
        version: u64,
        voters: u8,
        moves_paused: bool,
        protocol: u16
    }
);
mirror!(Delta = here::Delta {
    recovery: u32,
    from: u64,
    to: u64,
    slots: Seq<(Slot, SlotRec)>,
    nodes: Seq<(u32, NodeRec)>,
    settings: Option<Settings>,
});
mirror!(
    Grant = here::Grant {
        slot: Slot,
        expect_epoch: u64,
        to: Member
    }
);
mirror!(
    MoveStart = here::MoveStart {
        slot: Slot,
        expect_epoch: u64,
        to: Member
    }
);
mirror!(
    Completion = here::Completion {
        slot: Slot,
        id: u64,
        epoch: u64
    }
);
mirror!(
    MoveAbort = here::MoveAbort {
        slot: Slot,
        id: u64
    }
);
mirror!(Registration = here::Registration {
    name: Text,
    data: u128,
    incarnation: u64,
    boot: u128,
    addrs: Seq<Text>,
    roles: Roles,
    serves: Serves,
    protocol: u16,
    build: Text,
    routes_hash: u64,
});

/// A whole table.
#[derive(Debug, bincode::Encode, bincode::Decode)]
struct Table {
    cluster: ClusterInfo,
    version: u64,
    nodes: Seq<(u32, NodeRec)>,
    slots: Seq<SlotRec>,
    settings: Settings,
}

impl Wire<here::Table> for Table {
    fn of(value: &here::Table) -> Self {
        Self {
            cluster: Wire::of(&value.cluster),
            version: value.version,
            nodes: Seq(value
                .nodes
                .iter()
                .map(|(id, node)| (id.0, Wire::of(node)))
                .collect()),
            slots: Wire::of(&value.slots),
            settings: Wire::of(&value.settings),
        }
    }

    fn back(self) -> Result<here::Table, DecodeError> {
        if self.slots.0.len() != usize::from(SLOT_COUNT) {
            return Err(DecodeError::Range {
                what: "number of slots",
            });
        }
        let nodes: Vec<(NodeId, here::NodeRec)> = self.nodes.back()?;
        Ok(here::Table {
            cluster: self.cluster.back()?,
            version: self.version,
            nodes: nodes.into_iter().collect(),
            slots: self.slots.back()?,
            settings: self.settings.back()?,
        })
    }
}

#[derive(Debug, bincode::Encode, bincode::Decode)]
enum NodeChange {
    State(NodeState),
    Serves(Serves),
    Addrs(Seq<Text>),
    RoutesHash(u64),
}

impl Wire<here::NodeChange> for NodeChange {
    fn of(value: &here::NodeChange) -> Self {
        match value {
            here::NodeChange::State(state) => Self::State(Wire::of(state)),
            here::NodeChange::Serves(serves) => Self::Serves(Wire::of(serves)),
            here::NodeChange::Addrs(addrs) => Self::Addrs(Wire::of(addrs)),
            here::NodeChange::RoutesHash(hash) => Self::RoutesHash(*hash),
        }
    }

    fn back(self) -> Result<here::NodeChange, DecodeError> {
        Ok(match self {
            Self::State(state) => here::NodeChange::State(state.back()?),
            Self::Serves(serves) => here::NodeChange::Serves(serves.back()?),
            Self::Addrs(addrs) => here::NodeChange::Addrs(addrs.back()?),
            Self::RoutesHash(hash) => here::NodeChange::RoutesHash(hash),
        })
    }
}

#[derive(Debug, bincode::Encode, bincode::Decode)]
enum Command {
    Register {
        node: Registration,
        leader: LeaderId,
        grants: Seq<Grant>,
    },
    SetNode {
        member: Member,
        boot: u128,
        change: NodeChange,
    },
    DeclareDead {
        member: Member,
        why: Text,
        leader: LeaderId,
        grants: Seq<Grant>,
    },
    Remove {
        id: u32,
    },
    Assign {
        grants: Seq<Grant>,
    },
    BeginMoves {
        moves: Seq<MoveStart>,
        reason: MoveReason,
    },
    CompleteMoves {
        moves: Seq<Completion>,
    },
    AbortMoves {
        moves: Seq<MoveAbort>,
        why: Text,
    },
    SetSettings {
        settings: Settings,
    },
    Barrier {
        nonce: u64,
    },
}

impl Wire<here::Command> for Command {
    fn of(value: &here::Command) -> Self {
        use here::Command as C;
        match value {
            C::Register {
                node,
                leader,
                grants,
            } => Self::Register {
                node: Wire::of(node),
                leader: Wire::of(leader),
                grants: Wire::of(grants),
            },
            C::SetNode {
                member,
                boot,
                change,
            } => Self::SetNode {
                member: Wire::of(member),
                boot: boot.0,
                change: Wire::of(change),
            },
            C::DeclareDead {
                member,
                why,
                leader,
                grants,
            } => Self::DeclareDead {
                member: Wire::of(member),
                why: Wire::of(why),
                leader: Wire::of(leader),
                grants: Wire::of(grants),
            },
            C::Remove { id } => Self::Remove { id: id.0 },
            C::Assign { grants } => Self::Assign {
                grants: Wire::of(grants),
            },
            C::BeginMoves { moves, reason } => Self::BeginMoves {
                moves: Wire::of(moves),
                reason: Wire::of(reason),
            },
            C::CompleteMoves { moves } => Self::CompleteMoves {
                moves: Wire::of(moves),
            },
            C::AbortMoves { moves, why } => Self::AbortMoves {
                moves: Wire::of(moves),
                why: Wire::of(why),
            },
            C::SetSettings { settings } => Self::SetSettings {
                settings: Wire::of(settings),
            },
            C::Barrier { nonce } => Self::Barrier { nonce: *nonce },
        }
    }

    fn back(self) -> Result<here::Command, DecodeError> {
        use here::Command as C;
        Ok(match self {
            Self::Register {
                node,
                leader,
                grants,
            } => C::Register {
                node: node.back()?,
                leader: leader.back()?,
                grants: grants.back()?,
            },
            Self::SetNode {
                member,
                boot,
                change,
            } => C::SetNode {
                member: member.back()?,
                boot: boot.back()?,
                change: change.back()?,
            },
            Self::DeclareDead {
                member,
                why,
                leader,
                grants,
            } => C::DeclareDead {
                member: member.back()?,
                why: why.back()?,
                leader: leader.back()?,
                grants: grants.back()?,
            },
            Self::Remove { id } => C::Remove { id: NodeId(id) },
            Self::Assign { grants } => C::Assign {
                grants: grants.back()?,
            },
            Self::BeginMoves { moves, reason } => C::BeginMoves {
                moves: moves.back()?,
                reason: reason.back()?,
            },
            Self::CompleteMoves { moves } => C::CompleteMoves {
                moves: moves.back()?,
            },
            Self::AbortMoves { moves, why } => C::AbortMoves {
                moves: moves.back()?,
                why: why.back()?,
            },
            Self::SetSettings { settings } => C::SetSettings {
                settings: settings.back()?,
            },
            Self::Barrier { nonce } => C::Barrier { nonce },
        })
    }
}
