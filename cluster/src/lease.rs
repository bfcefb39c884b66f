//! Leases: who may act, for how long. A node's side ([`Holder`]), the leader's side ([`Grantor`]),
//! and what a lease means for the slots of a node ([`Tenure`]).
//!
//! | Rule | Where |
//! |---|---|
//! | R1 a lease counts from the sending of its heartbeat | `holder.rs` |
//! | R2 acknowledged after a round that began later; R3 death past the margin; R4 grace and barrier at every start; R5 no acknowledgement after a proposal | `grantor.rs` |
//! | R6 a lapse suspends; R7 table, lease, fence, in that order | `tenure.rs` |
//! | R10 one identity, one process | both sides compare boot ids |
//!
//! Why it is safe: for an acknowledged heartbeat, sent ≤ arrived ≤ its round began ≤ any later start
//! of leadership. So a lease ends before that start + its length, which that leader waits out; within
//! one leadership R1, R3 and R5 do it. Only the rates of clocks matter. A holder takes the longer of
//! two readings, a grantor the shorter, and the margin covers 4 % each way.
//!
//! Machines here read no clock: whoever drives them passes what [`Clock::read`] said.

mod clock;
mod grantor;
mod holder;
mod progress;
mod registrar;
mod tenure;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use clock::{Clock, Reading};
pub use grantor::{Grantor, GrantorEffect};
pub use holder::{Holder, HolderEffect};
pub use progress::Progress;
pub use registrar::RegisterRefusal;
pub use tenure::{DropReason, Tenure, TenureEffect};

use crate::{BootId, ClusterInfo, LeaderId, Member};

/// How leases are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseConfig {
    /// How long a lease lasts.
    pub length: Duration,
    /// How long the leader waits after the last acknowledged heartbeat.
    pub grace: Duration,
    /// How often a node sends a heartbeat.
    pub heartbeat: Duration,
    /// How often the machines are told the time.
    pub tick: Duration,
}

impl LeaseConfig {
    /// The lease that the cluster was founded with, and a heartbeat every so often.
    pub fn new(cluster: &ClusterInfo, heartbeat: Duration) -> Self {
        Self {
            length: cluster.lease_length,
            grace: cluster.grace(),
            heartbeat,
            tick: Duration::from_millis(25),
        }
    }
}

/// A node asks the leader to renew its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Which life of which node.
    pub member: Member,
    /// Its process.
    pub boot: BootId,
    /// Rises with every heartbeat of a life.
    pub seq: u64,
    /// The version of the table that it has.
    pub version: u64,
    /// Whether it makes too little progress for new slots.
    pub degraded: bool,
    /// How many of its slots are closed for a move.
    pub closed: u16,
}

/// The leader's answer to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Whose heartbeat.
    pub member: Member,
    /// The process that sent it.
    pub boot: BootId,
    /// Which heartbeat.
    pub seq: u64,
    /// The leadership that answers.
    pub leader: LeaderId,
    /// The version of its table: a node that stays behind asks another voter.
    pub version: u64,
}
