//! Records in memory, for tests and the simulation: they survive the Raft that uses them, and lose
//! in a [`crash`](Memory::crash) what was not flushed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::records::{Change, Flush, Key, Records, StoreError};

#[derive(Debug, Clone, Default)]
struct Content {
    records: BTreeMap<Key, Vec<u8>>,
    log: BTreeMap<u64, Vec<u8>>,
}

impl Content {
    fn take(&mut self, change: Change) {
        match change {
            Change::Put(key, bytes) => {
                self.records.insert(key, bytes);
            }
            Change::Entry(index, bytes) => {
                self.log.insert(index, bytes);
            }
            Change::Truncate(from) => {
                self.log.split_off(&from);
            }
            Change::Purge(to) => self.log.retain(|index, _| *index > to),
        }
    }
}

#[derive(Debug, Default)]
struct Both {
    seen: Content,
    unflushed: Vec<Change>,
    flushed: Content,
    refuses: Option<String>,
    takes: Duration,
}

/// Keys and bytes in memory.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Both>);

impl Memory {
    fn content(&self) -> MutexGuard<'_, Both> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loses what was not flushed.
    #[cfg(test)]
    pub(crate) fn crash(&self) {
        self.lose_unflushed();
    }

    #[cfg(test)]
    /// Refuses every further write, as a full disk does; `None` takes them again.
    pub(crate) fn refuse(&self, why: Option<String>) {
        self.content().refuses = why;
    }
}

impl Records for Memory {
    fn waits(&self) -> bool {
        false
    }

    fn takes(&self) -> Duration {
        self.content().takes
    }

    fn slow(&self, takes: Duration) {
        self.content().takes = takes;
    }

    fn lose_unflushed(&self) {
        let mut both = self.content();
        both.seen = both.flushed.clone();
        both.unflushed.clear();
    }

    fn write(&self, batch: Vec<Change>, flush: Flush) -> Result<(), StoreError> {
        let both = &mut *self.content();
        if let Some(why) = &both.refuses {
            return Err(StoreError::Io {
                path: "memory".to_owned(),
                why: why.clone(),
            });
        }
        for change in batch {
            both.seen.take(change.clone());
            both.unflushed.push(change);
        }
        if flush == Flush::Now {
            for change in both.unflushed.drain(..) {
                both.flushed.take(change);
            }
        }
        Ok(())
    }

    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.content().seen.records.get(&key).cloned())
    }

    fn entries(&self, start: u64, end: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        if start >= end {
            return Ok(Vec::new());
        }
        let both = self.content();
        let range = both.seen.log.range(start..end);
        Ok(range
            .map(|(index, bytes)| (*index, bytes.clone()))
            .collect())
    }

    fn last(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let both = self.content();
        let last = both.seen.log.last_key_value();
        Ok(last.map(|(index, bytes)| (*index, bytes.clone())))
    }
}
