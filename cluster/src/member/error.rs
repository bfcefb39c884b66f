//! Why a data directory is refused, each reason with its cure.

use crate::raft::StoreError;
use crate::{DecodeError, NodeId};

/// Why a data directory could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error(
        "{dir}: in use by another process; stop that one, or set node.data of this one to a directory of its own"
    )]
    InUse {
        /// The directory.
        dir: String,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// What was read or written.
        path: String,
        /// Its answer.
        source: std::io::Error,
    },
    /// The system has no random bits.
    #[error("the system gives no random bits")]
    Random,
    /// The identity does not begin as one does.
    #[error(
        "{path}: is no identity of a node, or is damaged; start this node on an empty data directory, as a new one"
    )]
    NoIdentityFile {
        /// The file.
        path: String,
    },
    /// The identity is damaged.
    #[error(
        "{path}: is damaged ({source}); start this node on an empty data directory, as a new one"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What was noticed.
        source: DecodeError,
    },
    /// A file is of another format.
    #[error(
        "{path}: is of format {found}, which this build does not know; start the build that wrote it, or a newer one"
    )]
    Format {
        /// The file.
        path: String,
        /// Its format.
        found: u8,
    },
    /// There is a `meta.redb` and no identity.
    #[error(
        "{dir}: identity is missing beside meta.redb; put it back, or start this node on an empty data directory, as a new one"
    )]
    IdentityMissing {
        /// The directory.
        dir: String,
    },
    /// A voter without its log.
    #[error(
        "{dir}: meta.redb is missing, and without it node {node} could vote twice; start it on an empty data directory, as a new node"
    )]
    LogMissing {
        /// The directory.
        dir: String,
        /// The node.
        node: NodeId,
    },
    /// An older `meta.redb` was put back.
    #[error(
        "{dir}: meta.redb is of {what} {log}, identity of {identity}: an older meta.redb was put back, with which the node could vote twice; start it on an empty data directory, as a new node"
    )]
    LogOlder {
        /// The directory.
        dir: String,
        /// What was compared.
        what: &'static str,
        /// What `meta.redb` says.
        log: u64,
        /// What the identity says.
        identity: u64,
    },
    /// An older identity was put back.
    #[error(
        "{dir}: identity is of {what} {identity}, meta.redb of {log}: an older identity was put back; put back the one of meta.redb, or start this node on an empty data directory, as a new one"
    )]
    IdentityOlder {
        /// The directory.
        dir: String,
        /// What was compared.
        what: &'static str,
        /// What `meta.redb` says.
        log: u64,
        /// What the identity says.
        identity: u64,
    },
    /// The two files are of different nodes.
    #[error(
        "{dir}: meta.redb is of {what} {log}, identity of {identity}: one of them belongs to another directory; put it back there, or start this node on an empty data directory, as a new one"
    )]
    Foreign {
        /// The directory.
        dir: String,
        /// What differs.
        what: &'static str,
        /// What `meta.redb` says.
        log: String,
        /// What the identity says.
        identity: String,
    },
    /// A founding was cut short.
    #[error("{dir}: `cluster init` was cut short here; run it again, then start the node")]
    HalfFounded {
        /// The directory.
        dir: String,
    },
    /// `meta.redb` cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A cluster cannot be founded that way.
    #[error("{key} = {value}: {rule}")]
    Setting {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// The node is in no cluster.
    #[error("{dir}: this node has joined no cluster yet")]
    NotJoined {
        /// The directory.
        dir: String,
    },
    /// The node has no log.
    #[error("{dir}: node {node} is no voter and keeps no log; recover the cluster on a voter")]
    KeepsNoLog {
        /// The directory.
        dir: String,
        /// The node.
        node: NodeId,
    },
    /// The log of the node is empty.
    #[error("{dir}: the log of node {node} is empty; recover the cluster on another voter")]
    EmptyLog {
        /// The directory.
        dir: String,
        /// The node.
        node: NodeId,
    },
    /// A voter cannot forget its cluster.
    #[error(
        "{dir}: node {node} keeps the log of its cluster and cannot register anew with it; start it on an empty data directory, as a new node"
    )]
    KeepsLog {
        /// The directory.
        dir: String,
        /// The node.
        node: NodeId,
    },
    /// It was registered as another node than it is.
    #[error(
        "{dir}: registered with {what} {given}, but this node has {known}; check cluster.seeds, or start it on an empty data directory, as a new node"
    )]
    OtherNode {
        /// The directory.
        dir: String,
        /// What differs.
        what: &'static str,
        /// What the registration says.
        given: String,
        /// What the directory says.
        known: String,
    },
}

/// For a directory that can't be used any more.
const ANEW: &str = "move node.data away and start the node on an empty one: it joins by cluster.seeds as \
                    a new node, if it was a voter once another node has removed the old one (`cluster \
                    remove NAME`); the only node of a cluster founds another (`cluster init`)";

impl Error {
    /// What to do about it.
    pub const fn cure(&self) -> &'static str {
        match self {
            Self::InUse { .. } => {
                "stop the other process, or set node.data of this one to a directory of its own"
            }
            Self::Io { .. } => {
                "let the node read and write what is named, on a disk that is not full"
            }
            Self::Random => "give the process a system that has random bits",
            Self::NoIdentityFile { .. }
            | Self::Damaged { .. }
            | Self::LogMissing { .. }
            | Self::LogOlder { .. }
            | Self::KeepsLog { .. } => ANEW,
            Self::IdentityMissing { .. } | Self::IdentityOlder { .. } | Self::Foreign { .. } => {
                "put back the file that belongs to the other, or move node.data away and start the \
                 node on an empty one, as a new node"
            }
            Self::Format { .. } => "start the build that wrote it, or a newer one",
            Self::HalfFounded { .. } => "run `cluster init` again, then start the node",
            Self::Store(_) => {
                "see to the disk; a file that is damaged can't be mended: move node.data away and \
                 start the node on an empty one, as a new node"
            }
            Self::Setting { .. } => "change the setting",
            Self::NotJoined { .. } => {
                "start it with cluster.seeds, or found a cluster (`cluster init`)"
            }
            Self::KeepsNoLog { .. } | Self::EmptyLog { .. } => {
                "recover the cluster on another voter"
            }
            Self::OtherNode { .. } => "check cluster.seeds",
        }
    }
}
