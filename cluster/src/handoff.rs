//! Planned moves of slots between living nodes (R8): three pure machines and their messages.
//!
//! ```text
//!  leader            source                         target
//!  BeginMoves ─────► (table) ◄───────────────────── Prepared    peer up, shard built
//!                    close, bounce what is unstarted
//!                    started events finish
//!                    values ───────────────────────► keeps them
//!                           ◄─────────────────────── Received
//!  CompleteMoves ◄── Released
//!      └───────────► (table) drops its values        (table) fences, installs, opens
//! ```
//!
//! Every step names slot, epoch and move. Steps are sent again every 300 ms until something answers
//! them; a repeat changes nothing. Nothing counts as released but what the source itself says was.
//! A new leader goes on from the table alone. Times count from any fixed start of a machine's own.

mod coordinator;
mod source;
mod target;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use coordinator::{Coordinator, CoordinatorEffect};
pub use source::{Load, Source, SourceEffect};
pub use target::{Target, TargetEffect};

use crate::{Completion, MoveId, OwnerEpoch, SlotId};

/// A step that nothing has answered is taken again after so long.
pub const STEP_AGAIN: Duration = Duration::from_millis(300);

/// Limits of moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandoffConfig {
    /// How many slots that are not empty a source keeps closed at once; `usize::MAX` lifts it.
    pub closed_limit: usize,
    /// How long a source waits for its target, and for long events, before it gives up.
    pub prepare_timeout: Duration,
    /// How long a drain lets started events run once their slot is closed.
    pub release_timeout: Duration,
    /// How long any other move keeps a slot closed before it gives up.
    pub closed_timeout: Duration,
    /// A slot does not close while an event of it has run longer than this.
    pub long_event: Duration,
    /// How long the leader waits for a source with closed slots to release one.
    pub silence_timeout: Duration,
    /// For how long releases are collected before they are sent.
    pub collect: Duration,
}

impl Default for HandoffConfig {
    fn default() -> Self {
        Self {
            closed_limit: 8,
            prepare_timeout: Duration::from_secs(2),
            release_timeout: Duration::from_secs(5),
            closed_timeout: Duration::from_millis(500),
            long_event: Duration::from_millis(50),
            silence_timeout: Duration::from_secs(5),
            collect: Duration::from_millis(10),
        }
    }
}

/// The target of a move can take the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prepared {
    /// Which slot.
    pub slot: SlotId,
    /// Which move.
    pub id: MoveId,
    /// The epoch that the source has it at.
    pub epoch: OwnerEpoch,
}

/// The target has all values of the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Received {
    /// Which slot.
    pub slot: SlotId,
    /// Which move.
    pub id: MoveId,
}

/// The source will not act for the slot any more, unless the move is aborted.
pub type Released = Completion;

/// Why a move is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GiveUp {
    /// The target was not ready in time.
    NotPrepared,
    /// Events of the slot ran too long for it to close.
    LongEvents,
    /// The slot was closed for too long.
    ClosedTooLong,
    /// The source has closed slots and released none for too long.
    SourceSilent,
    /// The slot was not open yet at its source.
    NotOpen,
    /// The target has no room for the values of the slot, or cannot read them.
    Refused,
}

impl GiveUp {
    /// The reason in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotPrepared => "the target was not ready in time",
            Self::LongEvents => "events ran too long for the slot to close",
            Self::ClosedTooLong => "the slot was closed for too long",
            Self::SourceSilent => "the source released nothing for too long",
            Self::NotOpen => "the slot was not open yet at its source",
            Self::Refused => "the target has no room for the values of the slot",
        }
    }
}

/// A source asks for a move to be aborted. Until the table says so it stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortWanted {
    /// Which slot.
    pub slot: SlotId,
    /// Which move.
    pub id: MoveId,
    /// The epoch that the source has it at.
    pub epoch: OwnerEpoch,
    /// Why.
    pub why: GiveUp,
}
