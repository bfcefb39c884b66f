//! The greeting that opens a link, what is checked in it, and every reason to refuse one.

use std::ops::RangeInclusive;

use crate::codec::DecodeError;
use crate::{BootId, ClusterId, HASH_ID, Incarnation, Member, NodeId, SLOT_COUNT};

/// The versions of the link protocol that this build speaks.
pub const PROTOCOLS: RangeInclusive<u16> = 1..=1;

/// The feature of those who understand that nobody waits for a request any more.
pub(crate) const CANCELS: &str = "cancels";

/// What a link is for. Each has connections of its own, so that data never delays a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Raft, heartbeats, the table, moves.
    Control,
    /// Events, replies, values.
    Data,
    /// A single question to an address, as a node that has not joined puts it to a seed.
    Ask,
}

/// Who this process is. What it says of itself in each greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// How often that cluster was recovered.
    pub recovery: u32,
    /// Its life; node 0 before it has joined.
    pub member: Member,
    /// Its process.
    pub boot: BootId,
    /// Its name; with TLS its certificate is made out to it.
    pub name: String,
    /// Where others reach it.
    pub addrs: Vec<String>,
    /// The versions of the protocol that it speaks.
    pub protocols: RangeInclusive<u16>,
    /// What else it can do.
    pub features: Vec<String>,
    /// The hash of its routes; nodes that differ are warned of, not refused.
    pub routes_hash: u64,
    /// Its build.
    pub build: String,
}

impl Identity {
    /// This build, under that name.
    pub fn new(cluster: ClusterId, member: Member, boot: BootId, name: &str) -> Self {
        Self {
            cluster,
            recovery: 0,
            member,
            boot,
            name: name.to_owned(),
            addrs: Vec::new(),
            protocols: PROTOCOLS,
            features: vec![CANCELS.to_owned()],
            routes_hash: 0,
            build: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    pub(crate) fn hello(&self, class: Class, link: u64, nonce: [u8; 32]) -> Hello {
        Hello {
            cluster: self.cluster,
            recovery: self.recovery,
            node: self.member.id,
            name: self.name.clone(),
            incarnation: self.member.incarnation,
            boot: self.boot,
            class,
            link,
            protocol_min: *self.protocols.start(),
            protocol_max: *self.protocols.end(),
            features: self.features.clone(),
            slot_count: SLOT_COUNT,
            hash_id: HASH_ID.to_owned(),
            routes_hash: self.routes_hash,
            build: self.build.clone(),
            addrs: self.addrs.clone(),
            nonce,
        }
    }

    /// Checks the greeting of the other side: the version that both speak.
    pub(crate) fn check(&self, hello: &Hello) -> Result<u16, LinkError> {
        let (low, high) = (*self.protocols.start(), *self.protocols.end());
        let protocol = high.min(hello.protocol_max);
        if protocol < low.max(hello.protocol_min) {
            return Err(LinkError::Protocol {
                ours: (low, high),
                theirs: (hello.protocol_min, hello.protocol_max),
            });
        }
        if hello.hash_id != HASH_ID || hello.slot_count != SLOT_COUNT {
            return Err(LinkError::Hash {
                ours: format!("{HASH_ID}, {SLOT_COUNT} slots"),
                theirs: format!("{}, {} slots", hello.hash_id, hello.slot_count),
            });
        }
        let joined = self.member.id != NodeId(0) && hello.node != NodeId(0);
        if hello.class != Class::Ask && !joined {
            return Err(LinkError::NotJoined);
        }
        if joined && hello.cluster != self.cluster {
            return Err(LinkError::Cluster {
                ours: self.cluster,
                theirs: hello.cluster,
            });
        }
        if joined && hello.recovery < self.recovery {
            return Err(LinkError::Recovery {
                ours: self.recovery,
                theirs: hello.recovery,
            });
        }
        if hello.boot == self.boot {
            return Err(LinkError::Reflected);
        }
        if joined && hello.node == self.member.id {
            return Err(LinkError::SecondProcess {
                node: hello.node,
                incarnation: hello.incarnation,
                known: self.boot,
                found: hello.boot,
            });
        }
        Ok(protocol)
    }
}

/// The first frame of a link, from either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The sender's cluster; 0 if it has joined none.
    pub cluster: ClusterId,
    /// How often that was recovered.
    pub recovery: u32,
    /// The sender; 0 if it has not joined.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its life.
    pub incarnation: Incarnation,
    /// Its process.
    pub boot: BootId,
    /// What the link is for.
    pub class: Class,
    /// The number of the link: it rises per dialling life and class. 0 from a listener.
    pub link: u64,
    /// The oldest version that the sender speaks.
    pub protocol_min: u16,
    /// The newest.
    pub protocol_max: u16,
    /// What else it can do.
    pub features: Vec<String>,
    /// How many slots it counts.
    pub slot_count: u16,
    /// How it hashes.
    pub hash_id: String,
    /// The hash of its routes.
    pub routes_hash: u64,
    /// Its build.
    pub build: String,
    /// Where others reach it.
    pub addrs: Vec<String>,
    /// 32 random bytes, fresh for each link.
    pub nonce: [u8; 32],
}

impl Hello {
    /// The life that it speaks for.
    pub const fn member(&self) -> Member {
        Member {
            id: self.node,
            incarnation: self.incarnation,
        }
    }
}

/// Why a link was not opened, or ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The first bytes are no greeting.
    #[error("not a peer: its first bytes are no greeting of a node")]
    NotAPeer,
    /// A frame says that it is longer than any may be.
    #[error("a frame of {length} bytes was announced: at most {limit} are taken")]
    TooLong {
        /// What it says, in bytes.
        length: u64,
        /// What is allowed, in bytes.
        limit: u64,
    },
    /// The bytes of a frame have changed on their way, or its length is not the true one.
    #[error("checksum of a frame differs: its length is wrong or its bytes have changed")]
    Checksum,
    /// What a frame holds was not understood.
    #[error("frame not understood: {0}")]
    Decode(#[from] DecodeError),
    /// The other side broke the order of things.
    #[error("the peer breaks the protocol: {0}")]
    Broken(&'static str),
    /// It took too long.
    #[error("handshake not over in {0} ms")]
    Slow(u128),
    /// The other side closed.
    #[error("closed by the peer")]
    Closed,
    /// No version that both speak.
    #[error(
        "protocol: this node speaks {} to {}, the peer {} to {}; upgrade the older one", ours.0, ours.1, theirs.0, theirs.1
    )]
    Protocol {
        /// Oldest and newest here.
        ours: (u16, u16),
        /// Oldest and newest there.
        theirs: (u16, u16),
    },
    /// Another cluster.
    #[error("cluster: this node is of {:032x}, the peer of {:032x}; check cluster.seeds", ours.0, theirs.0)]
    Cluster {
        /// The one here.
        ours: ClusterId,
        /// The one there.
        theirs: ClusterId,
    },
    /// The peer missed a recovery of the cluster.
    #[error(
        "recovery: this node is at {ours}, the peer at {theirs}; restart the peer to register anew"
    )]
    Recovery {
        /// The count here.
        ours: u32,
        /// The count there.
        theirs: u32,
    },
    /// Names fall into other slots there.
    #[error("hash: this node has {ours}, the peer {theirs}")]
    Hash {
        /// What is so here.
        ours: String,
        /// What is so there.
        theirs: String,
    },
    /// A node without an id may only ask.
    #[error("a node that has not joined may only ask to register")]
    NotJoined,
    /// Another node answers at the address.
    #[error("node {} was dialled and node {} answered; check cluster.advertise of both", wanted.0, found.0)]
    WrongNode {
        /// Who was meant.
        wanted: NodeId,
        /// Who is there.
        found: NodeId,
    },
    /// No proof of a secret that is known here.
    #[error("wrong secret: no entry of cluster.secret is the peer's first one")]
    Secret,
    /// Only one side has a secret.
    #[error("{0} has cluster.secret set; set it on both")]
    NoSecret(&'static str),
    /// Nothing was heard for too long.
    #[error("silent for {0} ms")]
    Silent(u128),
    /// This node's own greeting came back, or it dialled itself.
    #[error("the peer is this process itself, or sends its greeting back")]
    Reflected,
    /// Two processes with one identity (R10).
    #[error(
        "node {} at incarnation {} is process {:032x}, and process {:032x} claims to be it; one of them runs on a copy of its directory", node.0, incarnation.0, known.0, found.0
    )]
    SecondProcess {
        /// Whose identity.
        node: NodeId,
        /// At which life.
        incarnation: Incarnation,
        /// The process that has it.
        known: BootId,
        /// The one that wants it.
        found: BootId,
    },
    /// A life that is over (R10).
    #[error("node {} is at incarnation {}, the peer comes with {}", node.0, known.0, found.0)]
    OldLife {
        /// Whose.
        node: NodeId,
        /// The life that is known.
        known: Incarnation,
        /// The older one.
        found: Incarnation,
    },
    /// A new life while the old one's link is alive (R10).
    #[error("node {} still lives at incarnation {}", node.0, known.0)]
    StillAlive {
        /// Whose.
        node: NodeId,
        /// The life whose link is alive.
        known: Incarnation,
    },
    /// A node that was removed from the cluster; its id is not used again.
    #[error("node {} was removed from the cluster: with an empty data folder it joins as a new node", .0.0)]
    Removed(NodeId),
    /// The link's number does not rise (R12).
    #[error(transparent)]
    Stale(#[from] super::StaleLink),
    /// Neither secret nor TLS, beyond loopback.
    #[error(
        "{0} is beyond loopback: set cluster.secret or cluster.tls, or cluster.insecure = true"
    )]
    Plain(String),
    /// TLS failed.
    #[error("tls: {0}")]
    Tls(String),
    /// The peer said no.
    #[error("refused by the peer: {0}")]
    Refused(String),
    /// The network failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}
