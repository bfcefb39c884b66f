//! The region of a core: its shard actors, which run the lanes of fixed groups of slots.
//!
//! A lane is a key in use: serial within it, concurrent across lanes. An idle lane polls its
//! handler once where it stands; one that has to wait is set aside as a task and the lane is busy,
//! so that no other lane waits behind it. The shard's own `handle` never waits.
//!
//! Among several nodes each slot has a gate, asked where an event starts and again before its outcome
//! leaves (`gate.rs`); the shell of the cluster opens and closes slots (`tenure.rs`).

mod gate;
mod lane;
mod run;
mod shard;
mod slots;
mod streams;
mod tenure;
mod timers;
mod work;

pub(crate) use lane::{InboundTurn, LaneState, LaneView, Leg, Values};
pub(crate) use shard::{Shard, ShardActor, ShardArgs, ShardMessage};
pub(crate) use slots::{GateCounts, Slots};
pub(crate) use streams::stream_end;
#[cfg(test)]
pub(crate) use streams::tie;
pub(crate) use tenure::{report_progress, shard_parked};
