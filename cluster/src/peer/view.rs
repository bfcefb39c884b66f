//! What operators see of links.

use std::time::Duration;

use super::hello::{Class, LinkError};
use super::links::LinkState;
use crate::NodeId;

/// Who dialled a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// This node: its requests go there.
    Out,
    /// The peer: its requests come here.
    In,
}

/// The links to, or from, one peer of one class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    /// The peer.
    pub peer: NodeId,
    /// The class.
    pub class: Class,
    /// Who dials.
    pub direction: Direction,
    /// Where the link stands.
    pub state: LinkState,
    /// For how long it has stood there.
    pub since: Duration,
    /// How long ago something was heard on it; `None`: never.
    pub heard: Option<Duration>,
    /// Requests that are not answered yet, without streams.
    pub unanswered: usize,
    /// Credit in use, in requests.
    pub credit_envelopes: usize,
    /// Credit in use, in bytes.
    pub credit_bytes: usize,
    /// Requests that wait for credit, at their sender.
    pub waiting: usize,
    /// Streams that are open, or still held by someone here.
    pub streams: usize,
    /// How often a link was opened anew after one had failed; of those from a peer, after any.
    pub reconnects: u64,
    /// Why the last link ended or was not opened, in words.
    pub reason: Option<String>,
}

impl LinkError {
    /// The reason in one word, for counters.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NotAPeer => "not_a_peer",
            Self::TooLong { .. } | Self::Checksum | Self::Decode(_) => "malformed",
            Self::Broken(_) => "protocol_broken",
            Self::Slow(_) => "slow",
            Self::Closed => "closed",
            Self::Protocol { .. } => "protocol_version",
            Self::Cluster { .. } => "other_cluster",
            Self::Recovery { .. } => "recovery",
            Self::Hash { .. } => "hash",
            Self::NotJoined => "not_joined",
            Self::WrongNode { .. } => "wrong_node",
            Self::Secret => "wrong_secret",
            Self::NoSecret(_) => "no_secret",
            Self::Silent(_) => "silent",
            Self::Reflected => "reflected",
            Self::SecondProcess { .. } => "second_process",
            Self::OldLife { .. } => "old_life",
            Self::StillAlive { .. } => "still_alive",
            Self::Removed(_) => "removed",
            Self::Stale(_) => "stale_link",
            Self::Plain(_) => "plain",
            Self::Tls(_) => "tls",
            Self::Refused(_) => "refused",
            Self::Io(_) => "io",
        }
    }
}
