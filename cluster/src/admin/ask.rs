//! A question of an operator, as it is sent on to the leader, and its answer.

use crate::{Ended, MoveId, SlotId};

use super::{
    DrainView, DrainedView, EventsView, Health, MoveStep, MoveView, MovesView, Named, NodeView,
    Operations, PeerLink, PeerRow, RebalanceView, Refused, SlotView, Status, VotersView, Where,
};

/// An operation with what it takes. One per method of [`Operations`], and one that asks a node for
/// its own links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// [`Operations::status`]
    Status,
    /// [`Operations::health`]
    Health,
    /// [`Operations::nodes`]
    Nodes,
    /// [`Operations::peers`]
    Peers,
    /// The links of the node that is asked: a row of [`Operations::peers`].
    Links,
    /// [`Operations::slots`]
    Slots(Option<String>),
    /// [`Operations::locate`]
    Locate(Vec<u8>),
    /// [`Operations::moves`]
    Moves,
    /// [`Operations::events`]
    Events(u64),
    /// [`Operations::drain`]
    Drain(String, bool),
    /// [`Operations::undrain`]
    Undrain(String),
    /// [`Operations::move_slot`]
    MoveSlot(u16, String),
    /// [`Operations::rebalance`]
    Rebalance(bool, bool),
    /// [`Operations::pause_moves`]
    PauseMoves,
    /// [`Operations::resume_moves`]
    ResumeMoves,
    /// [`Operations::voters`]
    Voters(Option<u8>),
    /// [`Operations::remove`]
    Remove(String),
    /// How far moves away from the node that is asked are: a part of [`Operations::moves`].
    Steps,
    /// [`Operations::drained`]
    Drained(String),
    /// What the drain of the node that is asked has ended: the answer to [`Operations::drained`].
    Ended,
}

/// How far a move is, as its source says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The slot.
    pub slot: SlotId,
    /// The move.
    pub id: MoveId,
    /// How far it is.
    pub step: MoveStep,
}

/// The answer to an [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Of [`Ask::Status`].
    Status(Status),
    /// Of [`Ask::Health`].
    Health(Health),
    /// Of [`Ask::Nodes`].
    Nodes(Vec<NodeView>),
    /// Of [`Ask::Peers`].
    Peers(Vec<PeerRow>),
    /// Of [`Ask::Links`].
    Links(Vec<PeerLink>),
    /// Of [`Ask::Slots`].
    Slots(Vec<SlotView>),
    /// Of [`Ask::Locate`].
    Locate(Where),
    /// Of [`Ask::Moves`].
    Moves(MovesView),
    /// Of [`Ask::Events`].
    Events(EventsView),
    /// Of [`Ask::Drain`].
    Drain(DrainView),
    /// Of [`Ask::Undrain`] and [`Ask::Remove`].
    Node(Named),
    /// Of [`Ask::MoveSlot`].
    Move(MoveView),
    /// Of [`Ask::Rebalance`].
    Rebalance(RebalanceView),
    /// Of [`Ask::PauseMoves`] and [`Ask::ResumeMoves`]: whether they were paused before.
    Paused(bool),
    /// Of [`Ask::Voters`].
    Voters(VotersView),
    /// It was refused.
    Refused(Refused),
    /// Of [`Ask::Steps`].
    Steps(Vec<Step>),
    /// Of [`Ask::Drained`].
    Drained(DrainedView),
    /// Of [`Ask::Ended`].
    Ended(Ended),
}

impl Ask {
    /// Carries it out; `links` are those of this node.
    pub async fn perform(self, by: &dyn Operations, links: Vec<PeerLink>) -> Told {
        let told = match self {
            Self::Status => by.status().await.map(Told::Status),
            Self::Health => by.health().await.map(Told::Health),
            Self::Nodes => by.nodes().await.map(Told::Nodes),
            Self::Peers => by.peers().await.map(Told::Peers),
            Self::Links => Ok(Told::Links(links)),
            Self::Slots(node) => by.slots(node).await.map(Told::Slots),
            Self::Locate(name) => by.locate(name).await.map(Told::Locate),
            Self::Moves => by.moves().await.map(Told::Moves),
            Self::Events(after) => by.events(after).await.map(Told::Events),
            Self::Drain(node, force) => by.drain(node, force).await.map(Told::Drain),
            Self::Undrain(node) => by.undrain(node).await.map(Told::Node),
            Self::MoveSlot(slot, to) => by.move_slot(slot, to).await.map(Told::Move),
            Self::Rebalance(plan, across) => by.rebalance(plan, across).await.map(Told::Rebalance),
            Self::PauseMoves => by.pause_moves().await.map(Told::Paused),
            Self::ResumeMoves => by.resume_moves().await.map(Told::Paused),
            Self::Voters(wanted) => by.voters(wanted).await.map(Told::Voters),
            Self::Remove(node) => by.remove(node).await.map(Told::Node),
            // The one who asks has no other way to them; a handle has none to give.
            Self::Steps => Ok(Told::Steps(Vec::new())),
            Self::Ended => Ok(Told::Ended(Ended::default())),
            Self::Drained(node) => by.drained(node).await.map(Told::Drained),
        };
        told.unwrap_or_else(Told::Refused)
    }
}
