//! Slots and ownership: which part of the key space a name falls into, and who acts for it.
//!
//! A name (a channel, or whatever a route chose as its key) falls into one of [`SLOT_COUNT`] slots.
//! The slot is the unit of ownership: [`Ownership`] says which node acts for it, under which
//! [`OwnerEpoch`]. Inside the owner a [`ShardLayout`] says which shard on which core runs it.
//!
//! This crate knows nothing of Centrifugo: no event, no wire contract. It has no I/O of its own.
//!
//! | To change | Open |
//! |---|---|
//! | name to slot, slot to shard to core | `slot.rs` |
//! | who owns a slot | `owner.rs` |

pub mod allocation;
mod codec;
pub mod handoff;
pub mod hold;
pub mod lease;
mod owner;
pub mod peer;
pub mod route;
mod rules;
#[cfg(test)]
mod sim;
mod slot;
mod table;
#[cfg(test)]
mod testing;

pub use codec::{DECODE_LIMIT, DecodeError};
pub use owner::{LocalOwnership, NodeId, Owner, OwnerEpoch, Ownership};
pub use rules::{Rule, Rules};
pub use slot::{HASH_ID, LayoutError, SLOT_COUNT, ShardId, ShardLayout, SlotId, slot_of, tag_of};
pub use table::{
    Advance, Applied, BootId, ClusterId, ClusterInfo, Command, Completion, DataId, Delta, Entry,
    Grant, History, Incarnation, Install, InvalidTable, LeaderId, LogId, Member, Move, MoveAbort,
    MoveId, MoveReason, MoveStart, NodeChange, NodeRec, NodeState, Outcome, Refusal, Registration,
    Roles, Serves, Settings, SlotRec, Table, View,
};
