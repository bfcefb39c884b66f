//! A store that all nodes share and that survives each of them: what R7's fence is for. It is slow
//! now and then, so that a write of an old owner is on its way when the next one opens.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use centripeta_cluster::store::{Answering, Commit, Durability, StateStore, StoreError, Stored};
use centripeta_cluster::{OwnerEpoch, SlotId};
use tokio::time::sleep;

/// What is in it: of each slot the epoch that it is fenced at, and its last value.
type Slots = BTreeMap<SlotId, (OwnerEpoch, Option<Stored>)>;

/// A node's way to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Slots>>);

impl Shared {
    /// Whatever is asked takes its way first, and then effect at once.
    async fn after<T>(
        &self,
        slot: SlotId,
        epoch: OwnerEpoch,
        then: impl FnOnce(&mut Option<Stored>) -> T,
    ) -> Result<T, StoreError> {
        sleep(Duration::from_millis(fastrand::u64(0..3))).await;
        self.now(slot, epoch, then)
    }

    /// Takes effect now, unless a newer owner has raised the fence.
    pub(crate) fn now<T>(
        &self,
        slot: SlotId,
        epoch: OwnerEpoch,
        then: impl FnOnce(&mut Option<Stored>) -> T,
    ) -> Result<T, StoreError> {
        let mut slots = self.0.lock().unwrap();
        let (current, value) = slots.entry(slot).or_insert((epoch, None));
        if *current > epoch {
            return Err(StoreError::Fenced { current: *current });
        }
        *current = epoch;
        Ok(then(value))
    }
}

impl StateStore for Shared {
    fn fence(&self, slot: SlotId, epoch: OwnerEpoch) -> Answering<'_, ()> {
        Box::pin(self.after(slot, epoch, |_| ()))
    }

    fn load<'a>(
        &'a self,
        slot: SlotId,
        epoch: OwnerEpoch,
        _: &'a [u8],
    ) -> Answering<'a, Option<Stored>> {
        Box::pin(self.after(slot, epoch, |value| value.clone()))
    }

    fn commit(&self, slot: SlotId, epoch: OwnerEpoch, all: Vec<Commit>) -> Answering<'_, Vec<u64>> {
        Box::pin(self.after(slot, epoch, move |value| {
            let mut versions = Vec::new();
            for commit in all {
                let version = value.as_ref().map_or(1, |old| old.version + 1);
                let bytes = commit.value;
                *value = Some(Stored {
                    version,
                    value: bytes,
                });
                versions.push(version);
            }
            versions
        }))
    }

    /// The target reads the same store: nothing travels.
    fn export(&self, slot: SlotId, epoch: OwnerEpoch) -> Answering<'_, Vec<Bytes>> {
        Box::pin(self.after(slot, epoch, |_| Vec::new()))
    }

    fn import(&self, slot: SlotId, epoch: OwnerEpoch, _: Vec<Bytes>) -> Answering<'_, ()> {
        Box::pin(self.after(slot, epoch, |_| ()))
    }

    fn clear(&self, _: SlotId) {}

    fn is_empty(&self, slot: SlotId) -> bool {
        let slots = self.0.lock().unwrap();
        slots.get(&slot).is_none_or(|(_, value)| value.is_none())
    }

    fn durability(&self) -> Durability {
        Durability::Remote
    }
}
