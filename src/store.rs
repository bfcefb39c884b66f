//! Values of keys, in the memory of their owner: they outlive the lanes that use them.

use crate::outcome::Overloaded;
use crate::routing::key::{LaneKey, LaneMap};
use centripeta_cluster::{SLOT_COUNT, SlotId};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What all values may take, in bytes, with an estimate of what keeps them: keys are chosen by
/// clients.
const LIMIT: usize = 256 * 1024 * 1024;

/// Bytes that an entry takes beside the text of its key and its value.
const ENTRY: usize = 96;

type Values = LaneMap<Box<[u8]>>;

/// A map per slot; a value stays when its lane is passivated and is gone with the process.
#[derive(Debug)]
pub(crate) struct MemoryStore {
    slots: Box<[Mutex<Values>]>,
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
    fn with_limit(limit: usize) -> Self {
        let slots = (0..SLOT_COUNT).map(|_| Mutex::default()).collect();
        Self {
            slots,
            used: AtomicUsize::new(0),
            limit,
        }
    }

    /// The value of a key.
    pub(crate) fn load(&self, slot: SlotId, key: &LaneKey) -> Option<Box<[u8]>> {
        self.slot(slot).get(key).cloned()
    }

    /// Replaces the value of a key.
    ///
    /// # Errors
    /// The store is full; the value before stays.
    pub(crate) fn save(&self, slot: SlotId, key: &LaneKey, value: &[u8]) -> Result<(), Overloaded> {
        let mut values = self.slot(slot);
        if let Some(old) = values.get_mut(key)
            && old.len() == value.len()
        {
            old.copy_from_slice(value);
            return Ok(());
        }
        let freed = values.get(key).map_or(0, |old| size_of(key, old));
        let added = size_of(key, value);
        let used = self.used.fetch_add(added, Ordering::Relaxed);
        if used.saturating_add(added) > self.limit.saturating_add(freed) {
            self.used.fetch_sub(added, Ordering::Relaxed);
            return Err(Overloaded::Memory);
        }
        self.used.fetch_sub(freed, Ordering::Relaxed);
        values.insert(key.clone(), value.into());
        Ok(())
    }

    fn slot(&self, slot: SlotId) -> MutexGuard<'_, Values> {
        let values = &self.slots[usize::from(slot.index())];
        values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size_of(key: &LaneKey, value: &[u8]) -> usize {
    ENTRY + key.bytes().len() + value.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::routing::key::Space;

    fn key(name: &str) -> (SlotId, LaneKey) {
        let key = LaneKey::new(Space::Channel, name);
        (key.slot(), key)
    }

    #[test]
    fn a_full_store_refuses_new_keys_and_keeps_what_it_has() {
        let store = MemoryStore::with_limit(2 * (ENTRY + 9));
        let ((slot_a, a), (slot_b, b), (slot_c, c)) = (key("a"), key("b"), key("c"));
        store.save(slot_a, &a, &[1; 8]).unwrap();
        store.save(slot_b, &b, &[2; 8]).unwrap();
        assert_eq!(store.save(slot_c, &c, &[3; 8]), Err(Overloaded::Memory));
        store.save(slot_a, &a, &[4; 8]).unwrap();
        assert_eq!(store.save(slot_a, &a, &[5; 9]), Err(Overloaded::Memory));
        assert_eq!(store.load(slot_a, &a).unwrap().as_ref(), [4; 8]);
        assert_eq!(store.load(slot_c, &c), None);
    }

    #[test]
    fn a_shorter_value_gives_back_what_it_frees() {
        let store = MemoryStore::with_limit(2 * ENTRY + 12);
        let ((slot_a, a), (slot_b, b)) = (key("a"), key("b"));
        store.save(slot_a, &a, &[1; 10]).unwrap();
        assert_eq!(store.save(slot_b, &b, &[2; 4]), Err(Overloaded::Memory));
        store.save(slot_a, &a, &[1; 2]).unwrap();
        store.save(slot_b, &b, &[2; 4]).unwrap();
    }
}
