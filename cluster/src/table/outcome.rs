//! An entry of the log, and what came of it.

use std::collections::BTreeSet;

use super::{Command, Delta, Incarnation, LeaderId, LogId, Member, NodeState};
use crate::NodeId;

/// A committed command with its place in the log.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Its place.
    pub log: LogId,
    /// Raft's voters as of this entry, of both configurations if there are two.
    pub voters: &'a BTreeSet<NodeId>,
    /// The command.
    pub command: &'a Command,
}

/// What came of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// What it answers to its proposer.
    pub outcome: Outcome,
    /// What it changed; `None` if nothing.
    pub delta: Option<Delta>,
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect as far as its guards held; for a list, on so many items.
    Done {
        /// How many slots or nodes changed.
        changed: usize,
    },
    /// The node is in the table.
    Registered(Member),
    /// The barrier with this nonce is applied.
    Barrier(u64),
    /// Nothing changed, since it had already happened.
    Repeat,
    /// Nothing changed, since the guard did not hold.
    Refused(Refusal),
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It was proposed by another leadership than the one that wrote it to the log.
    #[error("proposed by leader {proposed}, logged by {logged}: propose it anew")]
    Leader {
        /// Who proposed it.
        proposed: LeaderId,
        /// Whose entry it became.
        logged: LeaderId,
    },
    /// Another node has the name.
    #[error(
        "the name {name:?} belongs to node {holder} with another data directory: remove that node or choose another name"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        holder: NodeId,
    },
    /// The data directory belongs to a node of another name.
    #[error(
        "this data directory belongs to node {id}, named {name:?}: use that name or an empty directory"
    )]
    Renamed {
        /// The node.
        id: NodeId,
        /// Its name.
        name: String,
    },
    /// Another process lives, or has lived, under this identity.
    #[error(
        "node {id} has incarnation {known} from another process, this one has {given}: is the data directory a copy or an old backup?"
    )]
    SecondProcess {
        /// The node.
        id: NodeId,
        /// Its latest life.
        known: Incarnation,
        /// The life that was refused.
        given: Incarnation,
    },
    /// That life is over or not the latest.
    #[error("{0} does not live: register again with a higher incarnation")]
    NotLiving(Member),
    /// The node was removed.
    #[error("node {0} was removed for good: start on an empty data directory")]
    Removed(NodeId),
    /// There is no such node.
    #[error("there is no node {0}")]
    Unknown(NodeId),
    /// It still votes.
    #[error("node {0} is a voter: replace it as voter first")]
    Voter(NodeId),
    /// It still owns slots.
    #[error("node {id} owns {slots} slots: drain it first")]
    OwnsSlots {
        /// The node.
        id: NodeId,
        /// How many.
        slots: usize,
    },
    /// A node does not go from this state to that.
    #[error("a node does not go from {from:?} to {to:?} by itself")]
    Transition {
        /// Where it stands.
        from: NodeState,
        /// Where it wants to go.
        to: NodeState,
    },
    /// Settings changed meanwhile.
    #[error("settings are at version {current}, not {expected}: read them again")]
    SettingsVersion {
        /// What was expected.
        expected: u64,
        /// What there is.
        current: u64,
    },
    /// Settings that cannot be.
    #[error("voters = {0}: must be 1, 3 or 5")]
    Voters(u8),
    /// A node that is up could not read the settings.
    #[error("node {id} speaks protocol {speaks}, these settings need {needs}: upgrade it first")]
    Protocol {
        /// The node.
        id: NodeId,
        /// What it speaks.
        speaks: u16,
        /// What they need.
        needs: u16,
    },
    /// No number is left.
    #[error("log index {0} is beyond the numbers for nodes")]
    Exhausted(u64),
}
