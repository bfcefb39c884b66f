//! The region of a core: its shard actors, which run the lanes of fixed groups of slots.
//!
//! A lane is a key in use: serial within it, concurrent across lanes. An idle lane polls its
//! handler once where it stands; one that has to wait is set aside as a task and the lane is busy,
//! so that no other lane waits behind it. The shard's own `handle` never waits.

mod lane;
mod shard;

pub(crate) use lane::{InboundTurn, LaneState, LaneView, Leg, Values};
pub(crate) use shard::{Shard, ShardActor, ShardArgs, ShardMessage};
