//! Where the values of slots live. Owner epochs fence it: what an older owner writes is refused once
//! a newer epoch was raised, without any clock (R7, I2).
//!
//! The only store so far is in memory, of one process: it fences that process alone, and a takeover
//! starts with nothing. Planned moves carry values by [`export`](StateStore::export) and
//! [`import`](StateStore::import).

mod memory;
mod pieces;
pub mod suite;

pub use memory::MemoryStore;

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::{MoveId, OwnerEpoch, SlotId};

/// An answer that may take its time.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why a store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A newer owner of the slot is known.
    #[error("the slot has a newer owner, at epoch {current}")]
    Fenced {
        /// Its epoch.
        current: OwnerEpoch,
    },
    /// The value is at another version than was expected.
    #[error("the value is at version {version}")]
    Conflict {
        /// The version that it is at.
        version: u64,
    },
    /// It did not take place; another try may succeed.
    #[error("the store cannot be reached: {0}")]
    Unavailable(String),
    /// It took too long: whether it took place is not known.
    #[error("the store did not answer in time: the outcome is not known")]
    Unknown,
    /// There is no room.
    #[error("the store is full ({limit} bytes)")]
    Full {
        /// How many bytes it may hold.
        limit: usize,
    },
    /// What was read or sent makes no sense.
    #[error("the value is corrupt: {0}")]
    Corrupt(String),
}

/// A value and how often it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// One more per write.
    pub version: u64,
    /// The value.
    pub value: Bytes,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Whose value.
    pub key: Bytes,
    /// The version that it is expected at; 0 if there is none yet.
    pub expect_version: u64,
    /// The new value.
    pub value: Bytes,
}

/// How safe a value is that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Gone with the process; planned moves carry it on.
    Memory,
    /// On a disk, fsynced.
    Disk,
    /// As a server of its own is configured.
    Remote,
}

/// Values of keys, per slot.
pub trait StateStore: Send + Sync + std::fmt::Debug {
    /// Raises the epoch of a slot: from then on writes under an older one are refused.
    ///
    /// # Errors
    /// `Fenced` if a higher epoch is known.
    fn fence(&self, slot: SlotId, epoch: OwnerEpoch) -> Answering<'_, ()>;

    /// The value of a key.
    ///
    /// # Errors
    /// `Fenced` if a higher epoch than this is known.
    fn load<'a>(
        &'a self,
        slot: SlotId,
        epoch: OwnerEpoch,
        key: &'a [u8],
    ) -> Answering<'a, Option<Stored>>;

    /// Writes all of it or nothing; answers the new versions.
    ///
    /// # Errors
    /// `Fenced`, `Conflict`, `Full`.
    fn commit(
        &self,
        slot: SlotId,
        epoch: OwnerEpoch,
        commits: Vec<Commit>,
    ) -> Answering<'_, Vec<u64>>;

    /// All values of a slot, in pieces of at most 1 MiB (a larger value alone), for a planned move.
    ///
    /// # Errors
    /// `Fenced` if a higher epoch than this is known.
    fn export(&self, slot: SlotId, epoch: OwnerEpoch) -> Answering<'_, Vec<Bytes>>;

    /// Makes sure that what a planned move has brought can be imported: that it is whole, and that
    /// there is room, which is kept until it is imported or [`unstage`](Self::unstage)d. It replaces
    /// what was staged for the slot before. The source drops its values only after this.
    ///
    /// # Errors
    /// `Corrupt`, `Full`, `Unavailable`; then nothing is changed.
    fn stage(&self, slot: SlotId, id: MoveId, pieces: Vec<Bytes>) -> Answering<'_, ()>;

    /// What this move has brought will not be imported: its room is free again. One that is not
    /// staged any more is none.
    fn unstage(&self, slot: SlotId, id: MoveId);

    /// Replaces what there is of a slot by what a planned move has brought.
    ///
    /// # Errors
    /// `Fenced`, `Corrupt`, `Full`; then the slot is empty.
    fn import(&self, slot: SlotId, epoch: OwnerEpoch, pieces: Vec<Bytes>) -> Answering<'_, ()>;

    /// The values of a slot are gone here: it was lost, moved away, or starts anew. A store that is
    /// durable keeps them.
    fn clear(&self, slot: SlotId);

    /// Whether a slot has no value here.
    fn is_empty(&self, slot: SlotId) -> bool;

    /// How safe a value is that was acknowledged.
    fn durability(&self) -> Durability;
}
