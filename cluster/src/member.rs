//! What makes a node the same node after a restart, and another one after a loss: its data
//! directory (`node.data`).
//!
//! | File | Holds | Made by |
//! |---|---|---|
//! | `LOCK` | nothing; locked by the process that uses the directory | whoever comes first |
//! | `identity` | data id, incarnation, cluster, recovery, node id, whether there is a `meta.redb` | [`init()`], or a first [`DataDir::open`] |
//! | `meta.redb` | vote, log, snapshot, and the same identity once more ([`Store`](crate::raft::Store)) | [`init()`] and [`DataDir::keep_log`], nothing else |
//!
//! Promises: every start and every [`DataDir::raise`] has an incarnation of its own, on disk before
//! it is told to anyone; one process at a time uses a directory; a directory founds one cluster at
//! most. Two files that do not belong together, as a backup or a lost file leaves them, are refused
//! in words that name the cure; what a crash between two writes explains is put right. A whole
//! directory that was copied or put back cannot be told from here: who registers it can (R10), by
//! the incarnation and the boot id.
//!
//! Everything here waits for the disk: call it where a thread may wait.
//!
//! | To change | Open |
//! |---|---|
//! | what belongs together, what a crash explains | `member/agree.rs` |
//! | the identity file | `member/identity.rs` |
//! | one process at a time | `member/lock.rs` |
//! | what is read before anything is done | `member/files.rs` |
//! | start, registration, first join | `member/data_dir.rs` |
//! | founding a cluster | `member/init.rs` |
//! | majority lost for good | `member/recover.rs` |
//! | what is told while the node runs | `member/peek.rs` |

mod agree;
mod data_dir;
mod error;
mod files;
mod identity;
mod init;
mod lock;
mod peek;
mod recover;
#[cfg(test)]
mod tests;

pub use data_dir::DataDir;
pub use error::Error;
pub(crate) use identity::Identity;
pub use identity::Joined;
pub use init::{Founding, InitOutcome, init};
pub use peek::peek;
pub use recover::{RecoverOutcome, Survey, recover, survey};
