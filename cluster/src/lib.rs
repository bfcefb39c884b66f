//! Several nodes as one: which part of the key space a name falls into, which node acts for it, and
//! how that changes without two of them ever acting at once.
//!
//! A name (a channel, or whatever a route chose as its key) falls into one of [`SLOT_COUNT`] slots.
//! The slot is the unit of ownership: a [`Table`] that all nodes agree on names its owner and its
//! [`OwnerEpoch`]; a lease says until when a node may act for what it owns. A node alone owns every
//! slot ([`Standing::alone`]). Inside the owner a [`ShardLayout`] says which shard on which core runs
//! it.
//!
//! This crate knows nothing of Centrifugo: no event, no wire contract. What is here is pure, but for
//! the links ([`peer::Links`]), [`raft`], [`member`] and [`lease::Clock`]: each machine is (state, event, now) → effects, with no
//! I/O, no clock, no randomness of its own. Whoever drives it reads the clocks, performs the effects,
//! and reports back.
//!
//! ```text
//!  leader      Table::apply ◄─ commands ─ allocation::plan · Grantor · Coordinator
//!                   │ deltas                                  ▲ heartbeats, steps of moves
//!                   ▼                                         │
//!  every node  View ─► Tenure (fence, open, suspend, drop) · Holder · Source · Target
//!                   └► route ─► Hold (ingress) ─ Outbox ══ link ══ Inbox ─ admit ─► run
//! ```
//!
//! | To change | Open |
//! |---|---|
//! | name to slot, slot to shard to core | `slot.rs` |
//! | who owns a slot, as a question | `owner.rs` |
//! | what nodes agree on: records, commands, guards, deltas, what never goes backwards (R9, R10) | `table.rs`, `table/` |
//! | which node gets which slot, and what holds moves back | `allocation.rs`, `allocation/` |
//! | who may act, for how long (R1 to R7) | `lease.rs`, `lease/` |
//! | planned moves (R8) | `handoff.rs`, `handoff/` |
//! | what the leader does, and when: grants, deaths, moves, drains, proposals under way | `lead.rs`, `lead/` |
//! | events held at the ingress, and their order across a bounce (R11) | `hold.rs`, `hold/` |
//! | order across a reconnect (R12), whether a peer's event may run, credit, control messages | `peer.rs`, `peer/` |
//! | links: handshake, secret, TLS, frames, who is who (R10), silence, reconnect | `peer/links.rs` and beside it |
//! | where an event runs | `route.rs` |
//! | what the data path asks on every event: table, gates of slots, lease | `standing.rs` |
//! | what performs it all on a node; the handle `Cluster` | `shell.rs`, `shell/` |
//! | what the shell drives of the node around it | `plane.rs` |
//! | where values of slots live, R7's fence | `store.rs` |
//! | a node's data directory: founding, starting, identity, what is refused, recovery | `member.rs`, `member/` |
//! | the log behind the table, on disk and among voters; the only user of openraft | `raft.rs`, `raft/` |
//! | bytes; the only user of bincode | `codec.rs`, `codec/` |
//! | what operators see and may ask | `admin.rs`, `admin/` |
//! | which rules a test may switch off | `rules.rs` |
//! | the simulation: faults, checker, mutants | `sim.rs`, `sim/` |
//!
//! # Driving the machines
//!
//! - On every change of the table tell, in this order: [`handoff::Target`], [`lease::Tenure`],
//!   [`handoff::Source`]; on the leader [`lease::Grantor`] and [`handoff::Coordinator`] as well.
//! - Before each act ask [`lease::Holder::is_valid`] with clocks read just now, and
//!   [`lease::Tenure::acts_for`] with its answer.
//! - A `LetGo` is carried out before the `Release` that follows it is sent; an `Open` takes the
//!   values of the move that it names from the target, by [`handoff::Target::take`].
//! - A life that is over is over: every machine of it is dropped, and the process registers with a
//!   new incarnation and its old boot id.

pub mod admin;
pub mod allocation;
mod codec;
#[doc(hidden)]
pub mod fuzzing;
pub mod handoff;
pub mod hold;
mod ids;
pub mod lead;
pub mod lease;
pub mod member;
mod owner;
pub mod peer;
mod plane;
pub mod raft;
pub mod route;
mod rules;
mod shell;
#[cfg(test)]
mod sim;
mod slot;
mod standing;
pub mod store;
mod table;
#[cfg(test)]
mod testing;
mod times;

pub use codec::{DECODE_LIMIT, DecodeError};
pub use ids::{IdHasher, IdMap};
pub use owner::{NodeId, Owner, OwnerEpoch, Ownership};
pub use plane::{Ended, FIRST_KIND, Ingress, Region, Report, Reports};
pub use rules::{Rule, Rules};
pub use shell::{
    Cluster, ClusterConfig, Counts, Door, Home, HomeError, LookingUp, MemoryHome, Names,
    StartError, Status, SystemNames,
};
pub use slot::{HASH_ID, LayoutError, SLOT_COUNT, ShardId, ShardLayout, SlotId, slot_of, tag_of};
pub use standing::{Gate, Now, Shown, Standing};
pub use table::{
    Advance, Applied, BootId, ClusterId, ClusterInfo, Command, Completion, DataId, Delta, Entry,
    Grant, History, Incarnation, Install, InvalidTable, LeaderId, LogId, Member, Move, MoveAbort,
    MoveId, MoveReason, MoveStart, NodeChange, NodeRec, NodeState, Outcome, Refusal, Registration,
    Roles, Serves, Settings, SlotRec, Table, View,
};
pub use times::{TIME_BOUNDS, Times};
