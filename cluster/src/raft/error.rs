//! Why calls of Raft fail, and the way from openraft's errors to ours.

use std::time::Duration;

use openraft::error::{ClientWriteError, Fatal, RaftError};

use super::records::StoreError;
use super::types::{Id, Place};
use super::voters::ReplaceError;
use crate::table::Refusal;
use crate::{DecodeError, NodeId};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another node leads, or none that is known.
    #[error("this node does not lead; leader: {}", leader.map_or_else(|| "unknown".to_owned(), |id| id.to_string()))]
    NotLeader {
        /// Who does.
        leader: Option<NodeId>,
    },
    /// It took too long. What was proposed may still take effect.
    #[error("{what}: not done within {limit:?}; it may still take effect")]
    Timeout {
        /// What.
        what: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// Too few voters answer.
    #[error("too few voters answer within {limit:?}")]
    NoQuorum {
        /// How long was waited.
        limit: Duration,
    },
    /// The members cannot change that way now.
    #[error("members unchanged: {0}")]
    Members(String),
    /// A voter cannot be replaced.
    #[error(transparent)]
    Replace(#[from] ReplaceError),
    /// The table refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What another node sent makes no sense.
    #[error("malformed call: {0}")]
    Malformed(#[from] DecodeError),
    /// The timers contradict each other.
    #[error("raft timers: {0}")]
    Timing(String),
    /// Raft does not run here any more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why Raft does not run here any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// Its store failed. The process must end: what it has promised it may not have kept.
    #[error("raft's store failed: {0}")]
    Storage(String),
    /// It broke. The process must end.
    #[error("raft broke off")]
    Panicked,
    /// It was asked to.
    #[error("raft is shut down")]
    Shutdown,
}

impl Stopped {
    /// Whether the process must end.
    pub const fn is_fatal(&self) -> bool {
        !matches!(self, Self::Shutdown)
    }
}

pub(super) fn why(fatal: &Fatal<Id>) -> Stopped {
    match fatal {
        Fatal::StorageError(error) => Stopped::Storage(error.to_string()),
        Fatal::Panicked => Stopped::Panicked,
        Fatal::Stopped => Stopped::Shutdown,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn stopped(fatal: Fatal<Id>) -> Error {
    Error::Stopped(why(&fatal))
}

pub(super) fn only_fatal(error: RaftError<Id>) -> Error {
    match error {
        RaftError::Fatal(fatal) => stopped(fatal),
        RaftError::APIError(never) => match never {},
    }
}

pub(super) fn unchanged(error: RaftError<Id, ClientWriteError<Id, Place>>) -> Error {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => not_leader(to.leader_id),
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
            Error::Members(error.to_string())
        }
        RaftError::Fatal(fatal) => stopped(fatal),
    }
}

pub(super) fn not_leader(leader: Option<Id>) -> Error {
    Error::NotLeader {
        leader: leader.map(NodeId::from),
    }
}
