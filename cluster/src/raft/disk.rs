//! Records in a file, `meta.redb`.
//!
//! Promises: a batch is on the disk, fsynced, when it is acknowledged (but for the committed id,
//! which follows with the next one); a file that was changed behind its back is refused, by redb's
//! check of every page when it is opened and by the checksum of every record when it is read. Only
//! [`create`](Disk::create) makes a file, and never in another's place.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::records::{Change, Flush, Key, Records, StoreError};

const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// The log and a snapshot are small; what was just written is read again.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Keys and bytes in a file.
#[derive(Debug)]
pub(crate) struct Disk {
    path: String,
    database: Database,
}

impl Disk {
    /// Makes the file with these first records. It has its name only once they are in it.
    pub(crate) fn create(path: &Path, first: Vec<Change>) -> Result<Self, StoreError> {
        let name = path.display().to_string();
        let io = |error: std::io::Error| StoreError::Io {
            path: name.clone(),
            why: error.to_string(),
        };
        if path.try_exists().map_err(io)? {
            return Err(StoreError::Exists { path: name });
        }
        let fresh = path.with_extension("new");
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let database = redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create(&fresh)
            .map_err(|error| refusal(&name, error))?;
        let disk = Self {
            path: name.clone(),
            database,
        };
        disk.write(first, Flush::Now)?;
        // A hard link, since it fails where the name is taken; a rename would not.
        std::fs::hard_link(&fresh, path).map_err(io)?;
        std::fs::remove_file(&fresh).map_err(io)?;
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(io)?;
        }
        Ok(disk)
    }

    /// Opens the file, every page of it checked.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let name = path.display().to_string();
        let length = match std::fs::metadata(path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::Missing { path: name });
            }
            Err(error) => {
                return Err(StoreError::Io {
                    path: name,
                    why: error.to_string(),
                });
            }
        };
        if length == 0 {
            return Err(StoreError::Corrupt {
                path: name,
                why: "it is empty".to_owned(),
            });
        }
        let opened = catch_unwind(AssertUnwindSafe(|| {
            redb::Builder::new()
                .set_cache_size(CACHE_BYTES)
                .set_check_integrity_on_open(true)
                .open(path)
        }));
        let database = match opened {
            Ok(opened) => opened.map_err(|error| refusal(&name, error))?,
            Err(_) => {
                return Err(StoreError::Corrupt {
                    path: name,
                    why: "its check broke off".to_owned(),
                });
            }
        };
        Ok(Self {
            path: name,
            database,
        })
    }

    fn failed(&self, error: impl Into<redb::Error>) -> StoreError {
        let error = error.into();
        let (path, why) = (self.path.clone(), error.to_string());
        match error {
            redb::Error::Corrupted(_)
            | redb::Error::TableDoesNotExist(_)
            | redb::Error::TableTypeMismatch { .. } => StoreError::Corrupt { path, why },
            _ => StoreError::Io { path, why },
        }
    }

    fn apply(&self, batch: Vec<Change>, flush: Flush) -> Result<(), redb::Error> {
        let mut write = self.database.begin_write()?;
        write.set_durability(match flush {
            Flush::Now => Durability::Immediate,
            Flush::Later => Durability::None,
        })?;
        {
            let mut records = write.open_table(RECORDS)?;
            let mut log = write.open_table(LOG)?;
            for change in batch {
                match change {
                    Change::Put(key, bytes) => {
                        records.insert(key.name(), bytes.as_slice())?;
                    }
                    Change::Entry(index, bytes) => {
                        log.insert(index, bytes.as_slice())?;
                    }
                    Change::Truncate(from) => log.retain_in(from.., |_, _| false)?,
                    Change::Purge(to) => log.retain_in(..=to, |_, _| false)?,
                }
            }
        }
        write.commit()?;
        Ok(())
    }

    fn read<T>(
        &self,
        job: impl FnOnce(&redb::ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let read = self
            .database
            .begin_read()
            .map_err(|error| self.failed(error))?;
        job(&read).map_err(|error| self.failed(error))
    }
}

impl Records for Disk {
    fn waits(&self) -> bool {
        true
    }

    fn write(&self, batch: Vec<Change>, flush: Flush) -> Result<(), StoreError> {
        self.apply(batch, flush).map_err(|error| self.failed(error))
    }

    fn get(&self, key: Key) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|read| {
            let found = read.open_table(RECORDS)?.get(key.name())?;
            Ok(found.map(|bytes| bytes.value().to_vec()))
        })
    }

    fn entries(&self, start: u64, end: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        if start >= end {
            return Ok(Vec::new());
        }
        self.read(|read| {
            let mut entries = Vec::new();
            for item in read.open_table(LOG)?.range(start..end)? {
                let (index, bytes) = item?;
                entries.push((index.value(), bytes.value().to_vec()));
            }
            Ok(entries)
        })
    }

    fn last(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        self.read(|read| {
            let log = read.open_table(LOG)?;
            let last = log.last()?;
            Ok(last.map(|(index, bytes)| (index.value(), bytes.value().to_vec())))
        })
    }
}

fn refusal(path: &str, error: DatabaseError) -> StoreError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::Locked { path },
        DatabaseError::Storage(redb::StorageError::Io(error))
            if !matches!(
                error.kind(),
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof
            ) =>
        {
            StoreError::Io {
                path,
                why: error.to_string(),
            }
        }
        other => StoreError::Corrupt {
            path,
            why: other.to_string(),
        },
    }
}
