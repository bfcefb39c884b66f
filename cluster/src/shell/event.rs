//! What the shell's loop is told: by links, by tasks that it began, by the handle.

use std::time::Duration;

use tokio::sync::oneshot;

use super::operate::ToldTo;
use super::parked::Word;
use super::values::Staged;
use super::voter::Raft;
use super::wire::Part;
use crate::admin::{Ask, Step};
use crate::lead::ProposalId;
use crate::peer::{Control, LinkEvent, Request};
use crate::raft::Stopped;
use crate::{
    Command, LeaderId, Member, MoveId, NodeChange, NodeId, Outcome, OwnerEpoch, SlotId, Table,
};

/// Something has happened.
#[derive(Debug)]
pub(super) enum Event {
    /// A control message has come from a node.
    Control(NodeId, Control),
    /// A question has come, on a control link or from someone who has not joined.
    Request(Request),
    /// A node takes this one for a member of Raft, which it is not yet.
    WantedAsMember(NodeId),
    /// A part of the values of a slot has come from a life of a node.
    Part(Member, Part, Request),
    /// All values of a slot have come, and the store was asked to make room for them.
    Staged(Box<Staged>),
    /// A link has changed.
    Link(LinkEvent),
    /// The store has answered to a fence, for this life.
    Fenced(Member, SlotId, OwnerEpoch, Result<(), OwnerEpoch>),
    /// The values of a slot are in the store, for this life.
    Ready(Member, SlotId, OwnerEpoch),
    /// Values were sent, or not: there is no such sending any more. Whether the target refused them.
    Sent(SlotId, MoveId, bool),
    /// A round of leadership is over.
    Round(LeaderId, u64, bool),
    /// A proposal is decided.
    Proposed(LeaderId, ProposalId, Result<Outcome, String>),
    /// This leader has heard that a shard runs again.
    RunsAgain(LeaderId, Word),
    /// A step toward the wanted voters was taken, or there was none.
    Tended,
    /// The node is in this table.
    Joined(Box<Table>),
    /// The node is not registered, in words.
    NotRegistered(String),
    /// Another process lives, or has lived, this life.
    SecondProcess(Member),
    /// What a log begins with; `None` if nobody said.
    Genesis(Option<Box<Table>>),
    /// Raft runs here.
    RaftRuns(Box<Raft>),
    /// The process cannot go on.
    Fatal(String),
    /// Raft has stopped here.
    RaftStopped(Stopped),
    /// The cluster was recovered so often, the last time without this node.
    Recovered(u32),
    /// That life, of this process, is over.
    Buried(Member),
    /// Nobody answered to a registration, for these reasons.
    NotJoined(Vec<String>),
    /// Peers have confirmed that nothing of theirs is under way here any more, or the time for it is
    /// over.
    Parted,
    /// This node leads, and the table knows that it has left, or the time for it is over.
    Outlived,
    /// The leader knows that this node has left, or the time for it is over.
    Left,
    /// The handle wants something.
    Order(Order),
}

/// What the handle wants.
#[derive(Debug)]
pub(super) enum Order {
    /// Listeners, pools and store are ready, or are not.
    Ready(bool),
    /// Something about this node changes.
    Change(NodeChange),
    /// The leader, if it is this node, is to commit this.
    Propose(Command, oneshot::Sender<Result<Outcome, String>>),
    /// An operator asks.
    Operate(Ask, ToldTo),
    /// An operator has asked, and no leader answers.
    OperateAlone(Ask, ToldTo),
    /// An operator's move of this slot is committed.
    TellMove(u16, ToldTo),
    /// The sources of moves have said how far they are.
    TellMoves(Vec<Step>, ToldTo),
    /// Give all slots away, within this time.
    Drain(Duration, oneshot::Sender<bool>),
    /// Stop acting, and say so.
    Leave(Duration, oneshot::Sender<()>),
    /// Stop at once.
    Stop(oneshot::Sender<()>),
}
