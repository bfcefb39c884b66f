//! Where Raft keeps its records: in a file ([`Disk`](super::disk::Disk)) or in memory
//! ([`Memory`](super::memory::Memory)). Both are dumb: keys and bytes, a batch at a time. What the
//! bytes mean is written once, above them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::DecodeError;

/// Why Raft's store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no file.
    #[error(
        "{path}: not found; a voter without it could vote twice: start this node on an empty data directory, as a new one"
    )]
    Missing {
        /// The file.
        path: String,
    },
    /// There is a file already.
    #[error("{path}: exists already, and is not overwritten")]
    Exists {
        /// The file.
        path: String,
    },
    /// Another process has it open.
    #[error("{path}: is open in another process")]
    Locked {
        /// The file.
        path: String,
    },
    /// The file is damaged.
    #[error(
        "{path}: is damaged ({why}); this node must not vote with it: start it on an empty data directory, as a new one"
    )]
    Corrupt {
        /// The file.
        path: String,
        /// What was noticed.
        why: String,
    },
    /// A record is damaged.
    #[error("record {record}: {source}")]
    Record {
        /// Which one.
        record: String,
        /// What was noticed.
        source: DecodeError,
    },
    /// A record that must be there is not.
    #[error("record {record} is missing")]
    Absent {
        /// Which one.
        record: String,
    },
    /// The log has a hole, or an entry at another's place.
    #[error("log entry {expected} is not at its place")]
    Hole {
        /// The index that was expected.
        expected: u64,
    },
    /// The system refused.
    #[error("{path}: {why}")]
    Io {
        /// The file.
        path: String,
        /// Its answer.
        why: String,
    },
    /// The thread that writes is gone.
    #[error("the write was given up: {0}")]
    Abandoned(String),
}

/// A single record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// The last vote.
    Vote,
    /// Up to where the log is known to be committed; may lag.
    Committed,
    /// Up to where the log was purged.
    Purged,
    /// The latest snapshot.
    Snapshot,
    /// Whose store this is.
    Identity,
    /// The table that the log begins with.
    Genesis,
}

impl Key {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Vote => "vote",
            Self::Committed => "committed",
            Self::Purged => "purged",
            Self::Snapshot => "snapshot",
            Self::Identity => "identity",
            Self::Genesis => "genesis",
        }
    }
}

/// One change of the records.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Sets a record.
    Put(Key, Vec<u8>),
    /// Sets an entry of the log.
    Entry(u64, Vec<u8>),
    /// Takes away every entry from this index on.
    Truncate(u64),
    /// Takes away every entry up to and with this index.
    Purge(u64),
}

/// Whether a batch must have reached the disk before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// It must.
    Now,
    /// With the next batch that must.
    Later,
}

/// Keys and bytes. A batch takes effect whole or not at all.
pub(crate) trait Records: fmt::Debug + Send + Sync + 'static {
    /// Whether [`write`](Self::write) waits for a disk, and so belongs on a thread that may wait.
    fn waits(&self) -> bool;
    /// How long a batch is to take that must reach the disk: a simulation's slow disk.
    fn takes(&self) -> Duration {
        Duration::ZERO
    }
    /// From now on it is. A real disk is as slow as it is.
    fn slow(&self, _takes: Duration) {}
    /// The process is gone, and with it what was not flushed. What is on a disk knows by itself.
    fn lose_unflushed(&self) {}
    /// Takes a batch.
    fn write(&self, batch: Vec<Change>, flush: Flush) -> Result<(), StoreError>;
    /// A record.
    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, StoreError>;
    /// The entries from `start` on, before `end`, in order.
    fn entries(&self, start: u64, end: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError>;
    /// The last entry.
    fn last(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError>;
}

/// Writes a batch without holding up the runtime.
pub(crate) async fn write(
    records: &Arc<dyn Records>,
    batch: Vec<Change>,
    flush: Flush,
) -> Result<(), StoreError> {
    run(records, move |records| records.write(batch, flush)).await
}

/// Runs something that writes without holding up the runtime.
pub(crate) async fn run<T: Send + 'static>(
    records: &Arc<dyn Records>,
    job: impl FnOnce(&dyn Records) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    if !records.waits() {
        let takes = records.takes();
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        return job(records.as_ref());
    }
    let records = Arc::clone(records);
    tokio::task::spawn_blocking(move || job(records.as_ref()))
        .await
        .map_err(|error| StoreError::Abandoned(error.to_string()))?
}
