//! What goes over control links: leases, the table, registration, moves. Data never travels here.

use crate::handoff::{AbortWanted, Prepared, Received, Released};
use crate::lease::{Ack, Heartbeat};
use crate::{BootId, Command, Delta, LeaderId, Member, NodeId, Registration, SlotId, Table};

/// A message between nodes, apart from Raft's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// A node asks for its lease, and the voter that it came through, if it did not come straight.
    /// A voter that gets one and does not lead passes it on, once.
    Heartbeat(Heartbeat, Option<NodeId>),
    /// The leader's answer; a voter passes it on to the node that it is for.
    Ack(Ack),
    /// That life of the node is over.
    Dead(Member),
    /// Another process has that identity; this one is refused.
    SecondProcess(Member, BootId),
    /// Who sends this leads.
    Leading(LeaderId),
    /// What has changed in the table.
    Delta(Delta),
    /// The whole table is wanted, by someone who has this version.
    WantTable(u64),
    /// The whole table.
    Table(Table),
    /// A node wants to be in the table.
    Register(Registration),
    /// It is, as this member.
    Registered(Member),
    /// It is not, and why, in words.
    NotRegistered(BootId, String),
    /// The leader is asked to propose this.
    Propose(Command),
    /// The target of a move to its source.
    Prepared(Member, Prepared),
    /// The target of a move to its source.
    Received(Member, Received),
    /// The source of moves to the leader.
    Released(Member, Vec<Released>),
    /// The source of moves to the leader.
    AbortWanted(Member, Vec<AbortWanted>),
    /// A node has stopped acting, and leaves.
    Leaving(Member),
    /// The owner serves a slot again, after a lapse or a move that was aborted.
    Resumed(Member, SlotId),
}
