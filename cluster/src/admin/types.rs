//! What operators see, as plain data.

use std::fmt;
use std::time::Duration;

use crate::allocation::HeldBack;
use crate::peer::LinkState;
use crate::{
    Ended, Incarnation, MoveId, MoveReason, NodeId, NodeState, OwnerEpoch, Roles, Serves, SlotId,
};

/// A node by id and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Named {
    /// Its id.
    pub id: NodeId,
    /// Its name; empty if the table does not know it.
    pub name: String,
}

impl fmt::Display for Named {
    /// `a (1)`, or `node 1` without a name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            write!(f, "node {}", self.id)
        } else {
            write!(f, "{} ({})", self.name, self.id)
        }
    }
}

/// The cluster in a few lines, as seen by the node that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The cluster's id, 32 hexadecimal digits.
    pub cluster: String,
    /// How often it was recovered from the loss of its majority.
    pub recovery: u32,
    /// The node that answers.
    pub answered_by: Named,
    /// Who leads, if that is known.
    pub leader: Option<Named>,
    /// The latest Raft term that the answering node has seen.
    pub term: u64,
    /// The version of its table.
    pub version: u64,
    /// Who votes.
    pub voters: Vec<Named>,
    /// Who follows the log without a vote.
    pub learners: Vec<Named>,
    /// How many voters are wanted.
    pub voters_wanted: u8,
    /// How many nodes stand in each state, of those that were not removed.
    pub nodes: Vec<(NodeState, usize)>,
    /// Slots without a living owner.
    pub slots_vacant: usize,
    /// Moves that are open.
    pub moves_open: usize,
    /// Whether moves are paused.
    pub moves_paused: bool,
    /// How long a lease lasts.
    pub lease: Duration,
    /// How many voters can be lost before nothing can change any more.
    pub can_lose: usize,
    /// How many problems `health` names.
    pub problems: usize,
}

/// Whether a node takes part in Raft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vote {
    /// It votes.
    Voter,
    /// It follows the log.
    Learner,
    /// It does neither.
    None,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its id and name.
    pub node: Named,
    /// Where it stands.
    pub state: NodeState,
    /// Its latest life.
    pub incarnation: Incarnation,
    /// Where others dial it.
    pub addrs: Vec<String>,
    /// What it is there for.
    pub roles: Roles,
    /// Which events it runs.
    pub serves: Serves,
    /// Whether it takes part in Raft.
    pub vote: Vote,
    /// Whether it leads.
    pub leads: bool,
    /// How many slots it owns.
    pub slots: usize,
    /// How many slots are on their way to it.
    pub arriving: usize,
    /// How many slots are on their way from it.
    pub leaving: usize,
    /// Its build.
    pub build: String,
    /// The newest protocol between nodes that it speaks.
    pub protocol: u16,
    /// Whether its routes differ from those of most nodes.
    pub routes_differ: bool,
    /// Why it gets no new slots, if so.
    pub held_back: Option<HeldBack>,
    /// Whether the leader has heard of it only through others for too long.
    pub cut_off: bool,
    /// How long ago the leader has heard of it; `None` if nobody has said.
    pub heard: Option<Duration>,
}

/// The links from a node to one other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerLink {
    /// To whom.
    pub to: Named,
    /// The link for Raft, leases, the table and moves.
    pub control: LinkState,
    /// The link for events.
    pub data: LinkState,
}

/// Whom a node reaches, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRow {
    /// Who.
    pub from: Named,
    /// Its links to every other node that was not removed.
    pub links: Vec<PeerLink>,
    /// Why it did not say, if it did not; it then has no links here.
    pub unknown: Option<String>,
}

/// A slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotView {
    /// Its number.
    pub slot: SlotId,
    /// Its living owner.
    pub owner: Option<Named>,
    /// How many grants it has seen.
    pub epoch: OwnerEpoch,
    /// Where it is on its way to.
    pub moving_to: Option<Named>,
}

/// Where a name has its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Where {
    /// The part of the name that decides, lossily as text.
    pub tag: String,
    /// The slot.
    pub slot: SlotView,
}

/// How far a move is, as far as its source says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MoveStep {
    /// Nobody has said.
    Unknown,
    /// The target has not said that it can take the slot.
    Preparing,
    /// Its turn has not come, or an event runs too long for it to close.
    Waiting,
    /// It is closed; started events run on.
    Finishing,
    /// Its values are on their way.
    Sending,
    /// Its source has released it; the table does not say so yet.
    Released,
}

impl MoveStep {
    /// Every step that a source knows of.
    pub const ALL: [Self; 5] = [
        Self::Preparing,
        Self::Waiting,
        Self::Finishing,
        Self::Sending,
        Self::Released,
    ];

    /// The step in one word, for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Preparing => "preparing",
            Self::Waiting => "waiting",
            Self::Finishing => "finishing",
            Self::Sending => "sending",
            Self::Released => "released",
        }
    }

    /// What the move waits for.
    pub const fn waits_for(self) -> &'static str {
        match self {
            Self::Unknown => "its source to say how far it is",
            Self::Preparing => "its target to be ready",
            Self::Waiting => "its turn: few slots are closed at a time, none under a long event",
            Self::Finishing => "started events to finish",
            Self::Sending => "its target to have all values",
            Self::Released => "the table to name the new owner",
        }
    }
}

/// An open move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveView {
    /// Which slot.
    pub slot: SlotId,
    /// The move's number.
    pub id: MoveId,
    /// From whom; `None` if its owner is gone.
    pub from: Option<Named>,
    /// To whom.
    pub to: Named,
    /// Why.
    pub reason: MoveReason,
    /// How long it has been open, as far as the answering node has seen.
    pub age: Option<Duration>,
    /// How far it is.
    pub step: MoveStep,
    /// Whether it has been open for too long.
    pub stuck: bool,
}

/// All open moves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MovesView {
    /// The moves, by slot.
    pub open: Vec<MoveView>,
    /// What keeps others from beginning, in words.
    pub waits: Vec<String>,
    /// Whether moves are paused.
    pub paused: bool,
}

/// What kind of change an event tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A node changed: it came, is up, drains, died, was removed, says something else of itself.
    Node,
    /// Slots changed owner without a move.
    Grant,
    /// Moves began.
    MoveBegan,
    /// Moves were completed.
    MoveCompleted,
    /// Moves were given up.
    MoveAborted,
    /// Settings changed.
    Settings,
    /// Another node leads.
    Leader,
    /// More than is kept happened at once: what is missing was not seen.
    Gap,
}

impl EventKind {
    /// The kind in a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Grant => "grant",
            Self::MoveBegan => "move-began",
            Self::MoveCompleted => "move-completed",
            Self::MoveAborted => "move-aborted",
            Self::Settings => "settings",
            Self::Leader => "leader",
            Self::Gap => "gap",
        }
    }
}

/// A change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Rises by one per event, on the node that tells it.
    pub number: u64,
    /// When it was seen, since the Unix epoch.
    pub at: Duration,
    /// The version of the table that it led to.
    pub version: u64,
    /// What kind of change.
    pub kind: EventKind,
    /// What changed, in words.
    pub what: String,
    /// Why, in words; empty if that was not seen.
    pub why: String,
}

/// Recent changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsView {
    /// The node that tells them: numbers are its own.
    pub node: Named,
    /// Its life: numbers begin anew with each.
    pub incarnation: Incarnation,
    /// The changes, the oldest first.
    pub events: Vec<Event>,
    /// The number of its latest change: what to ask for the next time.
    pub latest: u64,
}

/// What a drain has ended at a node so far, since it began: none of it counts among failed events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainedView {
    /// The node.
    pub node: Named,
    /// What was ended there.
    pub ended: Ended,
}

/// A problem, and its cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub cure: String,
    /// Whether the cluster is unhealthy by it; else it is a warning.
    pub failing: bool,
}

/// How the cluster is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// How many more voters can be lost before nothing can change any more.
    pub can_lose: usize,
    /// How many nodes vote.
    pub voters: usize,
    /// What is wrong, the worst first.
    pub problems: Vec<Problem>,
}

impl Health {
    /// Whether nothing makes it unhealthy; warnings do not.
    pub fn is_healthy(&self) -> bool {
        self.problems.iter().all(|problem| !problem.failing)
    }
}

/// A drain that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainView {
    /// Which node.
    pub node: Named,
    /// How many slots it still has.
    pub slots: usize,
    /// What would have been refused without force.
    pub forced: Vec<String>,
}

/// Slots that a plan moves from one node to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedMoves {
    /// From whom.
    pub from: Option<Named>,
    /// To whom.
    pub to: Named,
    /// How many slots.
    pub slots: usize,
}

/// What evening out does, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RebalanceView {
    /// The moves, by source and target.
    pub moves: Vec<PlannedMoves>,
    /// What holds it back, in words.
    pub waits: Vec<String>,
    /// Whether the moves begin now.
    pub begun: bool,
}

/// Who votes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VotersView {
    /// How many are wanted.
    pub wanted: u8,
    /// Who votes.
    pub voters: Vec<Named>,
    /// Who follows the log without a vote, on its way to one.
    pub learners: Vec<Named>,
    /// Living nodes of role `voter` that do neither.
    pub candidates: Vec<Named>,
    /// How many more nodes of role `voter` are needed for the number wanted.
    pub missing: usize,
}

impl fmt::Display for Roles {
    /// `voter, ingress`, or `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            (self.voter, "voter"),
            (self.ingress, "ingress"),
            (self.region, "region"),
        ];
        let held = all.iter().filter(|(has, _)| *has).map(|(_, role)| *role);
        write_list(f, held)
    }
}

impl fmt::Display for Serves {
    /// `connect, rpc, channel`, each `rpc` with its pattern unless that is `*`; or `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rpc = self.rpc.iter().map(|pattern| match pattern.as_str() {
            "*" => "rpc".to_owned(),
            pattern => format!("rpc:{pattern}"),
        });
        let connect = self.connect.then(|| "connect".to_owned());
        let channel = self.channel.then(|| "channel".to_owned());
        write_list(f, connect.into_iter().chain(rpc).chain(channel))
    }
}

fn write_list(
    f: &mut fmt::Formatter<'_>,
    items: impl Iterator<Item = impl fmt::Display>,
) -> fmt::Result {
    let mut any = false;
    for item in items {
        let before = if any { ", " } else { "" };
        write!(f, "{before}{item}")?;
        any = true;
    }
    if any { Ok(()) } else { f.write_str("none") }
}
