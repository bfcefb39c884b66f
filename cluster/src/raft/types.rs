//! The types that Raft is run with, and the way between them and ours.

use std::fmt;
use std::io::Cursor;

use openraft::impls::OneshotResponder;

use super::runtime::Runtime;
use crate::table::{LeaderId as TableLeader, LogId as TableLogId, Outcome};
use crate::{ClusterId, Command, DataId, Incarnation, NodeId};

/// The node that founds a cluster.
pub const FOUNDER: NodeId = NodeId(1);

/// A node's number, as Raft knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Id(pub(crate) u32);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<NodeId> for Id {
    fn from(id: NodeId) -> Self {
        Self(id.0)
    }
}

impl From<Id> for NodeId {
    fn from(id: Id) -> Self {
        Self(id.0)
    }
}

#[cfg(test)]
impl From<u64> for Id {
    fn from(id: u64) -> Self {
        Self(u32::try_from(id).expect("small numbers in tests"))
    }
}

/// What Raft's membership keeps of a node: where it was dialled when it became a member. The latest
/// addresses are elsewhere; these are for a cluster whose table is not at hand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Place {
    pub(crate) addrs: Vec<String>,
}

/// The choice of types that makes openraft ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Types;

impl openraft::RaftTypeConfig for Types {
    type D = Command;
    /// `None`: the entry was no command.
    type R = Option<Outcome>;
    type NodeId = Id;
    type Node = Place;
    type Entry = openraft::Entry<Self>;
    type SnapshotData = Cursor<Vec<u8>>;
    type AsyncRuntime = Runtime;
    type Responder = OneshotResponder<Self>;
}

/// openraft's handle.
pub(crate) type Core = openraft::Raft<Types>;
pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type Payload = openraft::EntryPayload<Types>;
pub(crate) type LogId = openraft::LogId<Id>;
pub(crate) type LeaderId = openraft::LeaderId<Id>;
pub(crate) type Vote = openraft::Vote<Id>;
pub(crate) type Membership = openraft::Membership<Id, Place>;
pub(crate) type StoredMembership = openraft::StoredMembership<Id, Place>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<Id, Place>;
pub(crate) type Append = openraft::raft::AppendEntriesRequest<Types>;
pub(crate) type Appended = openraft::raft::AppendEntriesResponse<Id>;
pub(crate) type Ballot = openraft::raft::VoteRequest<Id>;
pub(crate) type Voted = openraft::raft::VoteResponse<Id>;

/// A snapshot with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) meta: SnapshotMeta,
    pub(crate) table: Vec<u8>,
}

/// What one node asks another.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Append(Append),
    Vote(Ballot),
    Snapshot { vote: Vote, kept: Kept },
}

/// What it is answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Response {
    Append(Appended),
    Vote(Voted),
    Snapshot { vote: Vote },
}

/// Whose Raft store this is; it stands in `meta.redb` beside what it identifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The data directory.
    pub data: DataId,
    /// The latest life that was begun with it.
    pub incarnation: Incarnation,
}

/// The leadership that an id of openraft names.
pub(crate) fn leadership(leader: LeaderId) -> TableLeader {
    TableLeader {
        term: leader.term,
        node: leader.node_id.into(),
    }
}

/// A place in the log, as the table knows it.
pub(crate) fn place(log: LogId) -> TableLogId {
    TableLogId {
        leader: leadership(log.leader_id),
        index: log.index,
    }
}
