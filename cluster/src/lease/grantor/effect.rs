//! What the leader does about leases.

use crate::lease::{Ack, RegisterRefusal};
use crate::{BootId, DataId, Member, NodeId, Registration};

/// What a grantor wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantorEffect {
    /// Propose a `Barrier` with this nonce.
    Barrier {
        /// Its nonce.
        nonce: u64,
    },
    /// Make sure, by a round that begins now, that this node still leads; then say how that went.
    Round {
        /// Tells one from another.
        id: u64,
    },
    /// Answer a heartbeat.
    Ack {
        /// Through this voter, if the heartbeat came through it.
        via: Option<NodeId>,
        /// The answer.
        ack: Ack,
    },
    /// Tell a node that this life of it is over.
    TellDead {
        /// Which life.
        member: Member,
    },
    /// Refuse the heartbeat of a second process under one identity.
    RefuseProcess {
        /// Which identity.
        member: Member,
        /// The process that is refused.
        boot: BootId,
    },
    /// Propose `DeclareDead`, with grants for its slots.
    DeclareDead {
        /// Which life.
        member: Member,
        /// Why, in words.
        why: &'static str,
    },
    /// Propose `Register`, with grants for the slots of the life that it replaces.
    Register {
        /// The node.
        node: Registration,
        /// The life that it replaces.
        replaces: Option<Member>,
    },
    /// Refuse to register a node.
    RefuseRegister {
        /// Which one.
        data: DataId,
        /// Which process of it.
        boot: BootId,
        /// Why.
        why: RegisterRefusal,
    },
}
