//! Commands, as they are in the log.

use super::{
    Completion, Grant, LeaderId, Member, MoveAbort, MoveReason, MoveStart, NodeChange,
    Registration, Settings,
};
use crate::NodeId;
use crate::codec::DecodeError;
use crate::codec::wire::{Seq, Text, Wire};
use crate::table as here;

#[derive(Debug, bincode::Encode, bincode::Decode)]
pub(super) enum Command {
    Register {
        node: Registration,
        leader: LeaderId,
        grants: Seq<Grant>,
    },
    SetNode {
        member: Member,
        boot: u128,
        change: NodeChange,
    },
    DeclareDead {
        member: Member,
        why: Text,
        leader: LeaderId,
        grants: Seq<Grant>,
    },
    Remove {
        id: u32,
    },
    Assign {
        grants: Seq<Grant>,
    },
    BeginMoves {
        moves: Seq<MoveStart>,
        reason: MoveReason,
    },
    CompleteMoves {
        moves: Seq<Completion>,
    },
    AbortMoves {
        moves: Seq<MoveAbort>,
        why: Text,
    },
    SetSettings {
        settings: Settings,
    },
    Barrier {
        nonce: u64,
    },
}

impl Wire<here::Command> for Command {
    fn of(value: &here::Command) -> Self {
        use here::Command as C;
        match value {
            C::Register {
                node,
                leader,
                grants,
            } => Self::Register {
                node: Wire::of(node),
                leader: Wire::of(leader),
                grants: Wire::of(grants),
            },
            C::SetNode {
                member,
                boot,
                change,
            } => Self::SetNode {
                member: Wire::of(member),
                boot: boot.0,
                change: Wire::of(change),
            },
            C::DeclareDead {
                member,
                why,
                leader,
                grants,
            } => Self::DeclareDead {
                member: Wire::of(member),
                why: Wire::of(why),
                leader: Wire::of(leader),
                grants: Wire::of(grants),
            },
            C::Remove { id } => Self::Remove { id: id.0 },
            C::Assign { grants } => Self::Assign {
                grants: Wire::of(grants),
            },
            C::BeginMoves { moves, reason } => Self::BeginMoves {
                moves: Wire::of(moves),
                reason: Wire::of(reason),
            },
            C::CompleteMoves { moves } => Self::CompleteMoves {
                moves: Wire::of(moves),
            },
            C::AbortMoves { moves, why } => Self::AbortMoves {
                moves: Wire::of(moves),
                why: Wire::of(why),
            },
            C::SetSettings { settings } => Self::SetSettings {
                settings: Wire::of(settings),
            },
            C::Barrier { nonce } => Self::Barrier { nonce: *nonce },
        }
    }

    fn back(self) -> Result<here::Command, DecodeError> {
        use here::Command as C;
        Ok(match self {
            Self::Register {
                node,
                leader,
                grants,
            } => C::Register {
                node: node.back()?,
                leader: leader.back()?,
                grants: grants.back()?,
            },
            Self::SetNode {
                member,
                boot,
                change,
            } => C::SetNode {
                member: member.back()?,
                boot: boot.back()?,
                change: change.back()?,
            },
            Self::DeclareDead {
                member,
                why,
                leader,
                grants,
            } => C::DeclareDead {
                member: member.back()?,
                why: why.back()?,
                leader: leader.back()?,
                grants: grants.back()?,
            },
            Self::Remove { id } => C::Remove { id: NodeId(id) },
            Self::Assign { grants } => C::Assign {
                grants: grants.back()?,
            },
            Self::BeginMoves { moves, reason } => C::BeginMoves {
                moves: moves.back()?,
                reason: reason.back()?,
            },
            Self::CompleteMoves { moves } => C::CompleteMoves {
                moves: moves.back()?,
            },
            Self::AbortMoves { moves, why } => C::AbortMoves {
                moves: moves.back()?,
                why: why.back()?,
            },
            Self::SetSettings { settings } => C::SetSettings {
                settings: settings.back()?,
            },
            Self::Barrier { nonce } => C::Barrier { nonce },
        })
    }
}
