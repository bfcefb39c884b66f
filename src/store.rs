//! Values of keys, in the memory of their owner: they outlive the lanes that use them.

use crate::routing::key::{LaneKey, LaneMap};
use centripeta_cluster::{SLOT_COUNT, SlotId};
use std::sync::{Mutex, PoisonError};

/// A map per slot; a value stays when its lane is passivated and is gone with the process.
#[derive(Debug)]
pub(crate) struct MemoryStore {
    slots: Box<[Mutex<LaneMap<Box<[u8]>>>]>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self {
            slots: (0..SLOT_COUNT).map(|_| Mutex::default()).collect(),
        }
    }
}

impl MemoryStore {
    /// The value of a key.
    pub(crate) fn load(&self, slot: SlotId, key: &LaneKey) -> Option<Box<[u8]>> {
        self.slot(slot)
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned()
    }

    /// Replaces the value of a key.
    pub(crate) fn save(&self, slot: SlotId, key: &LaneKey, value: &[u8]) {
        let mut values = self
            .slot(slot)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match values.get_mut(key) {
            Some(old) if old.len() == value.len() => old.copy_from_slice(value),
            _ => drop(values.insert(key.clone(), value.into())),
        }
    }

    fn slot(&self, slot: SlotId) -> &Mutex<LaneMap<Box<[u8]>>> {
        &self.slots[usize::from(slot.index())]
    }
}
