//! Raft: the log that the table comes from, agreed on by the voters. The only user of openraft.
//!
//! A [`Store`] is opened (or created, by the founder and at a first join), [`Raft::start`] runs it,
//! and all that others do with it is in the [`Raft`] handle. Nothing of openraft shows outside.
//!
//! Promises: a vote and an entry are on disk, fsynced, before they are acknowledged; each call ends
//! within a limit of its own; a store that was damaged is refused in words; a storage error stops
//! Raft here, and [`Raft::stopped`] says so, upon which the process exits.
//!
//! | To change | Open |
//! |---|---|
//! | calls, limits, what is watched | `raft/facade.rs` |
//! | timers, snapshots, how much of the log is kept | `raft/settings.rs` |
//! | what is told of how things stand; a joint configuration left by a lost leader | `raft/watcher.rs` |
//! | who becomes a voter, and when | `raft/voters.rs` |
//! | how a leader that goes hands over | `raft/succession.rs` |
//! | how calls reach other nodes | `raft/network.rs` |
//! | what openraft draws at random | `raft/runtime.rs` |
//! | the file | `raft/disk.rs`; what is in it: `raft/log_store.rs`, `raft/machine.rs` |
//! | deltas for those who watch the table, and why things changed | `raft/feed.rs` |

mod disk;
mod error;
mod facade;
mod feed;
mod log_store;
mod machine;
mod memory;
mod network;
mod records;
mod runtime;
mod settings;
mod store;
mod succession;
#[cfg(test)]
mod tests;
pub(crate) mod types;
mod voters;
mod watcher;

pub use error::{Error, Stopped};
pub use facade::{Committed, Raft};
pub use feed::{Since, TableWatch};
pub use network::{CallError, Network};
pub use records::StoreError;
pub use settings::Timing;
pub use store::{Extent, Store, genesis};
pub use types::{FOUNDER, Identity};
pub use voters::{Behind, Members, ReplaceError, Step, plan, replace};
pub use watcher::Status;
