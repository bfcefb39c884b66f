//! What an operator can do where a change was refused by the table or by Raft. Pure.

use super::Refused;
use crate::Refusal;
use crate::raft::{self, ReplaceError};

impl From<&Refusal> for Refused {
    /// The table refused what an operator asked for.
    fn from(refusal: &Refusal) -> Self {
        Self::no(refusal.to_string(), cure(refusal))
    }
}

const fn cure(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Leader { .. } | Refusal::SettingsVersion { .. } => {
            "ask again: something else changed at the same time"
        }
        Refusal::NameTaken { .. }
        | Refusal::Renamed { .. }
        | Refusal::SecondProcess { .. }
        | Refusal::NotLiving(_)
        | Refusal::Removed(_)
        | Refusal::Unknown(_)
        | Refusal::Transition { .. } => "see `cluster nodes`: it stands otherwise by now",
        Refusal::Voter(_) => {
            "see `cluster voters`; a dead voter is replaced by `cluster remove` once another node \
             of role voter has caught up"
        }
        Refusal::OwnsSlots { .. } => {
            "a node that lives gives them away by `cluster drain`; those of a dead one are taken \
             over within seconds: see `cluster health`"
        }
        Refusal::Voters(_) => "name 1, 3 or 5",
        Refusal::Protocol { .. } => "see `cluster nodes` for those with an older build",
        Refusal::Exhausted(_) => "found another cluster: this one has given out all its numbers",
    }
}

impl From<&raft::Error> for Refused {
    /// Raft did not do what an operator asked for.
    fn from(error: &raft::Error) -> Self {
        match error {
            raft::Error::Refused(refusal) => refusal.into(),
            raft::Error::Replace(why) => Self::no(why.to_string(), replaced(why)),
            raft::Error::Members(_) => Self::no(
                error.to_string(),
                "the voters are changing: see `cluster voters`, and ask again in a moment",
            ),
            raft::Error::NotLeader { .. }
            | raft::Error::Timeout { .. }
            | raft::Error::NoQuorum { .. }
            | raft::Error::Store(_)
            | raft::Error::Malformed(_)
            | raft::Error::Timing(_)
            | raft::Error::Stopped(_) => Self::Unavailable(error.to_string()),
        }
    }
}

const fn replaced(why: &ReplaceError) -> &'static str {
    match why {
        ReplaceError::NoVoter(_) => "see `cluster voters`, and ask again",
        ReplaceError::Living(_) => {
            "`cluster drain` it, stop it, and ask again once `cluster nodes` says that it is dead"
        }
        ReplaceError::Changing => "see `cluster voters`, and ask again in a moment",
        ReplaceError::NoLearner(_) => {
            "`cluster voters` shows the new node as a learner while it catches up"
        }
    }
}
