//! The frozen types of format 1. They never change: a change is a `v2` beside this module.
//!
//! Golden bytes in the tests hold them still.

mod admin;
mod command;
mod control;
mod link;
mod member;
mod raft;

pub(super) use admin::{ask, read_ask, read_told, told};
pub(super) use control::{control, read_control};
pub(super) use link::{batch, hello, read_batch, read_hello};
pub(crate) use raft::Record;

use smallvec::SmallVec;

use super::DecodeError;
use super::wire::{Seq, Text, Wire, mirror, mirror_names, mirror_variants, read, write};
use crate::table as here;
use crate::{NodeId, SlotId};

pub(super) fn table(table: &here::Table) -> Vec<u8> {
    write(&Table::of(table))
}

pub(super) fn read_table(bytes: &[u8]) -> Result<here::Table, DecodeError> {
    read::<Table>(bytes)?.back()
}

pub(super) fn command(command: &here::Command) -> Vec<u8> {
    write(&command::Command::of(command))
}

pub(super) fn read_command(bytes: &[u8]) -> Result<here::Command, DecodeError> {
    read::<command::Command>(bytes)?.back()
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

mirror_variants!(NodeChange = here::NodeChange {
    State(state: NodeState),
    Serves(serves: Serves),
    Addrs(addrs: Seq<Text>),
    RoutesHash(hash: u64),
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
            slots: Seq(value.slots.iter().map(Wire::of).collect()),
            settings: Wire::of(&value.settings),
        }
    }

    fn back(self) -> Result<here::Table, DecodeError> {
        let nodes: Vec<(NodeId, here::NodeRec)> = self.nodes.back()?;
        Ok(here::Table {
            cluster: self.cluster.back()?,
            version: self.version,
            nodes: here::Shared::new(nodes.into_iter().collect()),
            slots: here::Pieces::of(self.slots.back()?).ok_or(DecodeError::Range {
                what: "number of slots",
            })?,
            settings: self.settings.back()?,
        })
    }
}
