//! The memory store: a map per slot in its owner's process, with an epoch that fences it.
//!
//! Raising the epoch of a slot empties it: a takeover, and a new incarnation, start with nothing. What
//! a planned move has brought is installed after that, by [`import`](StateStore::import).

use std::collections::HashMap;
use std::future::ready;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::pieces::{pack, unpack};
use super::{Answering, Commit, Durability, StateStore, StoreError, Stored};
use crate::{MoveId, OwnerEpoch, SLOT_COUNT, SlotId};

/// What all values may take, in bytes, with an estimate of what keeps them: keys are chosen by
/// clients.
const LIMIT: usize = 256 * 1024 * 1024;

/// Bytes that an entry takes beside its key and its value.
const ENTRY: usize = 96;

type Values = HashMap<Box<[u8]>, Value>;

#[derive(Debug)]
struct Value {
    version: u64,
    bytes: Box<[u8]>,
}

#[derive(Debug)]
struct Slot {
    epoch: OwnerEpoch,
    values: Values,
    /// Bytes that are kept for what this move has brought.
    staged: Option<(MoveId, usize)>,
}

impl Slot {
    /// Whether this epoch may read and write.
    fn check(&self, epoch: OwnerEpoch) -> Result<(), StoreError> {
        if epoch < self.epoch {
            return Err(StoreError::Fenced {
                current: self.epoch,
            });
        }
        Ok(())
    }
}

/// Values in memory; see the module's text.
#[derive(Debug)]
pub struct MemoryStore {
    slots: Box<[Mutex<Slot>]>,
    used: AtomicUsize,
    limit: usize,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::with_limit(LIMIT)
    }
}

impl MemoryStore {
    /// A store for so many bytes.
    pub fn with_limit(limit: usize) -> Self {
        let slot = |_| {
            Mutex::new(Slot {
                epoch: OwnerEpoch(0),
                values: Values::new(),
                staged: None,
            })
        };
        Self {
            slots: (0..SLOT_COUNT).map(slot).collect(),
            used: AtomicUsize::new(0),
            limit,
        }
    }

    /// How many bytes are taken, with what keeps them, and with what is kept for values that come.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The value of a key, at once.
    ///
    /// # Errors
    /// `Fenced` if a higher epoch than this is known.
    pub fn get(
        &self,
        slot: SlotId,
        epoch: OwnerEpoch,
        key: &[u8],
    ) -> Result<Option<Stored>, StoreError> {
        let slot = self.slot(slot);
        slot.check(epoch)?;
        Ok(slot.values.get(key).map(|value| Stored {
            version: value.version,
            value: Bytes::copy_from_slice(&value.bytes),
        }))
    }

    /// Replaces the value of a key, whatever its version, at once; answers the new version.
    ///
    /// # Errors
    /// `Fenced` if a higher epoch than this is known, `Full`; the value before stays.
    pub fn put(
        &self,
        slot: SlotId,
        epoch: OwnerEpoch,
        key: &[u8],
        bytes: &[u8],
    ) -> Result<u64, StoreError> {
        let mut slot = self.slot(slot);
        slot.check(epoch)?;
        let freed = slot.values.get(key).map_or(0, |old| size(key, &old.bytes));
        self.take(size(key, bytes), freed)?;
        Ok(write(&mut slot.values, key, bytes))
    }

    /// All or nothing, like the trait's method, at once.
    fn write_all(
        &self,
        slot: SlotId,
        epoch: OwnerEpoch,
        commits: &[Commit],
    ) -> Result<Vec<u64>, StoreError> {
        let mut slot = self.slot(slot);
        slot.check(epoch)?;
        let (mut added, mut freed) = (0, 0);
        // A key may stand here more than once: each write is checked against the one before.
        let mut sizes: HashMap<&[u8], (u64, usize)> = HashMap::new();
        for commit in commits {
            let key = &*commit.key;
            let stored = slot.values.get(key);
            let before = stored.map_or((0, 0), |old| (old.version, size(key, &old.bytes)));
            let (version, old) = sizes.get(key).copied().unwrap_or(before);
            if version != commit.expect_version {
                return Err(StoreError::Conflict { version });
            }
            let new = size(key, &commit.value);
            (added, freed) = (added + new, freed + old);
            sizes.insert(key, (version + 1, new));
        }
        self.take(added, freed)?;
        let write = |commit: &Commit| write(&mut slot.values, &commit.key, &commit.value);
        Ok(commits.iter().map(write).collect())
    }

    /// Room for what is added, less what it frees.
    fn take(&self, added: usize, freed: usize) -> Result<(), StoreError> {
        let used = self.used.fetch_add(added, Ordering::Relaxed);
        let grows = added > freed;
        if grows && used.saturating_add(added) > self.limit.saturating_add(freed) {
            self.used.fetch_sub(added, Ordering::Relaxed);
            return Err(StoreError::Full { limit: self.limit });
        }
        self.used.fetch_sub(freed, Ordering::Relaxed);
        Ok(())
    }

    fn empty(&self, values: &mut Values) {
        let all = std::mem::take(values);
        let freed = all.iter().map(|(key, value)| size(key, &value.bytes)).sum();
        self.used.fetch_sub(freed, Ordering::Relaxed);
    }

    fn raise(&self, slot: SlotId, epoch: OwnerEpoch) -> Result<(), StoreError> {
        let mut slot = self.slot(slot);
        slot.check(epoch)?;
        if epoch > slot.epoch {
            slot.epoch = epoch;
            self.empty(&mut slot.values);
        }
        Ok(())
    }

    fn pieces(&self, slot: SlotId, epoch: OwnerEpoch) -> Result<Vec<Bytes>, StoreError> {
        let slot = self.slot(slot);
        slot.check(epoch)?;
        let mut all: Vec<_> = slot.values.iter().collect();
        // The same values make the same pieces.
        all.sort_unstable_by_key(|(key, _)| *key);
        let entries = all.into_iter().map(|(key, value)| pack_one(key, value));
        Ok(pack(entries))
    }

    fn install(&self, slot: SlotId, epoch: OwnerEpoch, pieces: &[Bytes]) -> Result<(), StoreError> {
        let mut slot = self.slot(slot);
        slot.check(epoch)?;
        slot.epoch = epoch;
        self.empty(&mut slot.values);
        let kept = slot.staged.take().map_or(0, |(_, bytes)| bytes);
        let room = unpack(pieces).and_then(|entries| {
            self.take(room_of(&entries), kept)?;
            Ok(entries)
        });
        let entries = room.inspect_err(|_| {
            self.used.fetch_sub(kept, Ordering::Relaxed);
        })?;
        for entry in &entries {
            let value = Value {
                version: entry.version,
                bytes: entry.value.to_vec().into(),
            };
            slot.values.insert(entry.key.to_vec().into(), value);
        }
        Ok(())
    }

    fn keep_room(&self, slot: SlotId, id: MoveId, pieces: &[Bytes]) -> Result<(), StoreError> {
        let room = room_of(&unpack(pieces)?);
        let mut slot = self.slot(slot);
        self.take(room, slot.staged.map_or(0, |(_, bytes)| bytes))?;
        slot.staged = Some((id, room));
        Ok(())
    }

    fn slot(&self, slot: SlotId) -> MutexGuard<'_, Slot> {
        let slot = &self.slots[usize::from(slot.index())];
        slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pack_one(key: &[u8], value: &Value) -> super::pieces::Entry {
    super::pieces::Entry {
        key: Bytes::copy_from_slice(key),
        version: value.version,
        value: Bytes::copy_from_slice(&value.bytes),
    }
}

fn room_of(entries: &[super::pieces::Entry]) -> usize {
    let sizes = entries.iter().map(|entry| size(&entry.key, &entry.value));
    sizes.sum()
}

fn size(key: &[u8], value: &[u8]) -> usize {
    ENTRY + key.len() + value.len()
}

fn write(values: &mut Values, key: &[u8], bytes: &[u8]) -> u64 {
    if let Some(value) = values.get_mut(key) {
        value.version += 1;
        if value.bytes.len() == bytes.len() {
            value.bytes.copy_from_slice(bytes);
        } else {
            value.bytes = bytes.into();
        }
        return value.version;
    }
    let value = Value {
        version: 1,
        bytes: bytes.into(),
    };
    values.insert(key.into(), value);
    1
}

impl StateStore for MemoryStore {
    fn fence(&self, slot: SlotId, epoch: OwnerEpoch) -> Answering<'_, ()> {
        Box::pin(ready(self.raise(slot, epoch)))
    }

    fn load<'a>(
        &'a self,
        slot: SlotId,
        epoch: OwnerEpoch,
        key: &'a [u8],
    ) -> Answering<'a, Option<Stored>> {
        Box::pin(ready(self.get(slot, epoch, key)))
    }

    fn commit(
        &self,
        slot: SlotId,
        epoch: OwnerEpoch,
        commits: Vec<Commit>,
    ) -> Answering<'_, Vec<u64>> {
        Box::pin(ready(self.write_all(slot, epoch, &commits)))
    }

    fn export(&self, slot: SlotId, epoch: OwnerEpoch) -> Answering<'_, Vec<Bytes>> {
        Box::pin(ready(self.pieces(slot, epoch)))
    }

    fn stage(&self, slot: SlotId, id: MoveId, pieces: Vec<Bytes>) -> Answering<'_, ()> {
        Box::pin(ready(self.keep_room(slot, id, &pieces)))
    }

    fn unstage(&self, slot: SlotId, id: MoveId) {
        let mut slot = self.slot(slot);
        if let Some((_, bytes)) = slot.staged.take_if(|(of, _)| *of == id) {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn import(&self, slot: SlotId, epoch: OwnerEpoch, pieces: Vec<Bytes>) -> Answering<'_, ()> {
        Box::pin(ready(self.install(slot, epoch, &pieces)))
    }

    fn clear(&self, slot: SlotId) {
        let mut slot = self.slot(slot);
        self.empty(&mut slot.values);
    }

    fn is_empty(&self, slot: SlotId) -> bool {
        self.slot(slot).values.is_empty()
    }

    fn durability(&self) -> Durability {
        Durability::Memory
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::store::suite;
    use crate::testing::slot;

    const FIRST: OwnerEpoch = OwnerEpoch::FIRST;

    #[tokio::test]
    async fn the_memory_store_keeps_what_every_store_promises() {
        suite::run(&MemoryStore::default()).await.unwrap();
    }

    #[tokio::test]
    async fn a_full_store_refuses_new_values_and_keeps_what_it_has() {
        let store = MemoryStore::with_limit(2 * (ENTRY + 9));
        store.put(slot(1), FIRST, b"a", &[1; 8]).unwrap();
        store.put(slot(2), FIRST, b"b", &[2; 8]).unwrap();
        let full = Err(StoreError::Full {
            limit: 2 * (ENTRY + 9),
        });
        assert_eq!(store.put(slot(3), FIRST, b"c", &[3; 8]), full);
        assert_eq!(store.put(slot(1), FIRST, b"a", &[4; 8]), Ok(2));
        assert_eq!(store.put(slot(1), FIRST, b"a", &[5; 9]), full);
        let kept = store.get(slot(1), FIRST, b"a").unwrap().unwrap();
        assert_eq!((kept.version, &*kept.value), (2, &[4; 8][..]));
        // Two writes of which one has no room: neither takes place.
        let commit = |key: &'static [u8], expect_version, length| Commit {
            key: Bytes::from_static(key),
            expect_version,
            value: vec![7; length].into(),
        };
        let both = vec![commit(b"a", 2, 8), commit(b"d", 0, 8)];
        assert!(matches!(
            store.commit(slot(1), FIRST, both).await,
            Err(StoreError::Full { .. })
        ));
        assert_eq!(store.get(slot(1), FIRST, b"a").unwrap().unwrap(), kept);
        store.clear(slot(2));
        store.put(slot(3), FIRST, b"c", &[3; 8]).unwrap();
    }

    /// Pieces of ten values of 100 bytes, and what they take.
    async fn ten() -> (Vec<Bytes>, usize) {
        let from = MemoryStore::default();
        for key in 0..10_u8 {
            from.put(slot(1), FIRST, &[key], &[key; 100]).unwrap();
        }
        (from.export(slot(1), FIRST).await.unwrap(), from.used())
    }

    #[tokio::test]
    async fn what_is_staged_is_imported_however_full_the_store_has_become_since() {
        let (pieces, room) = ten().await;
        let rest = ENTRY + 9;
        let small = MemoryStore::with_limit(room + rest);
        let (first, second) = (MoveId(5), MoveId(6));
        small.stage(slot(1), first, pieces.clone()).await.unwrap();
        // Once more, by another move: the room is kept once.
        small.stage(slot(1), second, pieces.clone()).await.unwrap();
        assert_eq!(small.used(), room);
        small.put(slot(2), FIRST, b"a", &[1; 8]).unwrap();
        let full = Err(StoreError::Full { limit: room + rest });
        assert_eq!(small.put(slot(2), FIRST, b"b", b""), full);
        let other = small.stage(slot(3), second, pieces.clone()).await;
        assert!(matches!(other, Err(StoreError::Full { .. })), "{other:?}");
        small.unstage(slot(1), first);
        small.fence(slot(1), OwnerEpoch(2)).await.unwrap();
        let imported = small.import(slot(1), OwnerEpoch(2), pieces.clone());
        imported.await.unwrap();
        assert_eq!(small.export(slot(1), OwnerEpoch(2)).await, Ok(pieces));
        assert_eq!(small.used(), room + rest);
    }

    #[tokio::test]
    async fn room_that_was_kept_for_values_is_free_once_they_do_not_come() {
        let (pieces, room) = ten().await;
        let small = MemoryStore::with_limit(room);
        small
            .stage(slot(1), MoveId(5), pieces.clone())
            .await
            .unwrap();
        small.unstage(slot(1), MoveId(5));
        small.unstage(slot(1), MoveId(5));
        assert_eq!(small.used(), 0);
        small.stage(slot(1), MoveId(6), pieces).await.unwrap();
        let garbage = vec![Bytes::from_static(b"?")];
        let corrupt = small.import(slot(1), FIRST, garbage).await;
        assert!(matches!(corrupt, Err(StoreError::Corrupt(_))));
        assert_eq!(small.used(), 0, "a failed import keeps no room either");
    }

    #[tokio::test]
    async fn an_import_without_room_leaves_the_slot_empty_and_its_memory_free() {
        let from = MemoryStore::default();
        for key in 0..10_u8 {
            from.put(slot(1), FIRST, &[key], &[key; 100]).unwrap();
        }
        let pieces = from.export(slot(1), FIRST).await.unwrap();
        let small = MemoryStore::with_limit(1000);
        small.put(slot(1), FIRST, b"old", b"x").unwrap();
        let full = small.import(slot(1), OwnerEpoch(2), pieces).await;
        assert_eq!(full, Err(StoreError::Full { limit: 1000 }));
        assert!(small.is_empty(slot(1)));
        assert_eq!(small.used(), 0);
    }
}
