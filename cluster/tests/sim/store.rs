//! What a process writes to: one fence that all nodes share and that survives each of them, which is
//! what R7 is for, and the memory of the process, which moves carry on. Both are slow now and then,
//! so that a write of an old owner is on its way when the next one opens; what a move brings is
//! refused now and then, or has to wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use centripeta_cluster::store::{
    Answering, Commit, Durability, MemoryStore, StateStore, StoreError, Stored,
};
use centripeta_cluster::{MoveId, OwnerEpoch, SlotId};
use tokio::time::sleep;

/// The only key of a slot.
const KEY: &[u8] = b"count";
/// One in so many slots has values: the others are empty, and move faster.
const VALUED: u16 = 16;
/// One in so many values that come is refused, or has to wait.
const RARELY: u32 = 20;

/// Which epoch each slot is fenced at, for all nodes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<BTreeMap<SlotId, OwnerEpoch>>>);

impl Shared {
    /// Takes effect now, unless a newer owner has raised the fence.
    pub(crate) fn now<T>(
        &self,
        slot: SlotId,
        epoch: OwnerEpoch,
        then: impl FnOnce() -> T,
    ) -> Result<T, StoreError> {
        let mut slots = self.0.lock().unwrap();
        let current = slots.entry(slot).or_insert(epoch);
        if *current > epoch {
            return Err(StoreError::Fenced { current: *current });
        }
        *current = epoch;
        Ok(then())
    }
}

/// What one process writes to.
#[derive(Debug)]
pub(crate) struct Store {
    shared: Shared,
    memory: MemoryStore,
}

async fn some_time() {
    sleep(Duration::from_millis(fastrand::u64(0..3))).await;
}

impl Store {
    pub(crate) fn new(shared: &Shared) -> Self {
        Self {
            shared: shared.clone(),
            memory: MemoryStore::default(),
        }
    }

    /// Counts in a slot, if it is one with values: the new count.
    pub(crate) fn count(&self, slot: SlotId, epoch: OwnerEpoch) -> Option<u64> {
        if !slot.index().is_multiple_of(VALUED) {
            return None;
        }
        let stored = self.memory.get(slot, epoch, KEY).ok()?;
        let before = stored.map_or(0, |stored| {
            u64::from_le_bytes(stored.value[..].try_into().unwrap())
        });
        let count = before + 1;
        let written = self.memory.put(slot, epoch, KEY, &count.to_le_bytes());
        assert_eq!(written.ok(), Some(count), "its version counts as well");
        Some(count)
    }
}

impl StateStore for Store {
    fn fence(&self, slot: SlotId, epoch: OwnerEpoch) -> Answering<'_, ()> {
        Box::pin(async move {
            some_time().await;
            self.shared.now(slot, epoch, || ())?;
            self.memory.fence(slot, epoch).await
        })
    }

    fn load<'a>(
        &'a self,
        slot: SlotId,
        epoch: OwnerEpoch,
        key: &'a [u8],
    ) -> Answering<'a, Option<Stored>> {
        self.memory.load(slot, epoch, key)
    }

    fn commit(&self, slot: SlotId, epoch: OwnerEpoch, all: Vec<Commit>) -> Answering<'_, Vec<u64>> {
        self.memory.commit(slot, epoch, all)
    }

    fn export(&self, slot: SlotId, epoch: OwnerEpoch) -> Answering<'_, Vec<Bytes>> {
        Box::pin(async move {
            some_time().await;
            self.memory.export(slot, epoch).await
        })
    }

    fn stage(&self, slot: SlotId, id: MoveId, pieces: Vec<Bytes>) -> Answering<'_, ()> {
        Box::pin(async move {
            some_time().await;
            if fastrand::u32(0..RARELY) == 0 {
                return Err(StoreError::Full { limit: 0 });
            }
            self.memory.stage(slot, id, pieces).await
        })
    }

    fn unstage(&self, slot: SlotId, id: MoveId) {
        self.memory.unstage(slot, id);
    }

    fn import(&self, slot: SlotId, epoch: OwnerEpoch, pieces: Vec<Bytes>) -> Answering<'_, ()> {
        Box::pin(async move {
            some_time().await;
            if fastrand::u32(0..RARELY) == 0 {
                return Err(StoreError::Unavailable("not now".to_owned()));
            }
            self.memory.import(slot, epoch, pieces).await
        })
    }

    fn clear(&self, slot: SlotId) {
        self.memory.clear(slot);
    }

    fn is_empty(&self, slot: SlotId) -> bool {
        self.memory.is_empty(slot)
    }

    fn durability(&self) -> Durability {
        Durability::Memory
    }
}
