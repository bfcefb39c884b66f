//! What the leader wants done, and how it is set up.

use crate::allocation::OPEN_LIMIT;
use crate::handoff::HandoffConfig;
use crate::lease::LeaseConfig;
use crate::peer::Control;
use crate::{BootId, Command, Member, NodeId, SlotId};

/// How the leader leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeadConfig {
    /// How leases are kept.
    pub lease: LeaseConfig,
    /// Limits of moves.
    pub handoff: HandoffConfig,
    /// How many moves may be open at once, but for those of nodes whose drain is in a hurry.
    pub open_limit: usize,
}

impl LeadConfig {
    /// The defaults, with these leases.
    pub fn new(lease: LeaseConfig) -> Self {
        Self {
            lease,
            handoff: HandoffConfig::default(),
            open_limit: OPEN_LIMIT,
        }
    }
}

/// Tells one proposal of a leadership from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProposalId(pub u64);

/// What the leader wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeadEffect {
    /// Propose this, then say how that went.
    Propose {
        /// Which proposal.
        id: ProposalId,
        /// What is proposed.
        command: Command,
    },
    /// Make sure, by a round that begins now, that this node still leads; then say how that went.
    Round {
        /// Which round.
        id: u64,
    },
    /// Send this straight to a node, which may be this one. An `Ack` for another node than this is
    /// passed on by it.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        control: Control,
    },
    /// Send this to a process by the link that it last spoke on; it may have no node id yet.
    Answer {
        /// To which process.
        boot: BootId,
        /// What.
        control: Control,
    },
    /// Take the next step toward the wanted voters, if there is one.
    TendVoters,
    /// Tell every node who leads.
    Announce,
    /// Something that operators may want to read.
    Note(Note),
}

/// What the leader noticed that shows in no entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    /// A node is heard only through others.
    #[error("node {0} was heard only through others for 5 s: its slots move away")]
    CutOff(NodeId),
    /// It is heard straight again.
    #[error("node {0} is heard straight again")]
    Straight(NodeId),
    /// A node makes too little progress.
    #[error("node {0} is degraded and gets no new slots")]
    Degraded(NodeId),
    /// It makes progress again.
    #[error("node {0} makes progress again")]
    Recovered(NodeId),
    /// A node died too often.
    #[error(
        "node {0} was declared dead 3 times in 10 min: no new slots for 10 min, or until undrain"
    )]
    Quarantined(NodeId),
    /// A second process under one identity was refused.
    #[error("a second process claims to be {0} and is refused: is its data directory a copy?")]
    SecondProcess(Member),
    /// A node was not registered.
    #[error("{name:?} is not registered: {why}")]
    NotRegistered {
        /// The name that it gave, or its process where that is not known.
        name: String,
        /// Why.
        why: String,
    },
    /// A move failed.
    #[error("moves from node {0} to node {1} rest after one failed")]
    Rests(NodeId, NodeId),
    /// A shard crashed too often.
    #[error("a shard of {member} is parked: its {slots} slots move away, slot {first} among them")]
    Parked {
        /// Whose.
        member: Member,
        /// How many of its slots it owns.
        slots: usize,
        /// The first of them.
        first: SlotId,
    },
    /// A parked shard runs again.
    #[error("a parked shard of {0} runs again")]
    Unparked(Member),
}
