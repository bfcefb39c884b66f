//! Both files of a directory, read and compared: what comes before everything else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use super::agree::{Discord, LogFacts, Verdict, judge};
use super::identity::io;
use super::lock::Lock;
use super::{Error, Identity};
use crate::DecodeError;
use crate::raft::{Store, StoreError};

/// A locked directory, and what is in it.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) lock: Lock,
    pub(super) identity: Option<Identity>,
    pub(super) store: Option<Store>,
    pub(super) verdict: Verdict,
}

impl Files {
    /// Reads all of it and refuses what does not belong together. Changes nothing.
    pub(super) fn read(lock: Lock) -> Result<Self, Error> {
        let identity = Identity::read(lock.dir())?;
        let store = open_log(&lock)?;
        let facts = match &store {
            Some(store) => Some(facts(store).map_err(|error| readable(&lock, error))?),
            None => None,
        };
        let verdict = judge(identity, facts).map_err(|discord| told(&lock, discord))?;
        Ok(Self {
            lock,
            identity,
            store,
            verdict,
        })
    }

    /// Writes the identity as it must read, unless it does.
    pub(super) fn settle(&mut self, identity: Identity) -> Result<(), Error> {
        if self.identity != Some(identity) {
            identity.write(self.lock.dir())?;
            self.identity = Some(identity);
        }
        Ok(())
    }
}

/// The place of a directory's `meta.redb`.
pub(super) fn log_path(lock: &Lock) -> PathBuf {
    lock.dir().join("meta.redb")
}

/// Opens the log if there is one.
fn open_log(lock: &Lock) -> Result<Option<Store>, Error> {
    let path = log_path(lock);
    if !path.try_exists().map_err(io(&path))? {
        return Ok(None);
    }
    let opened = catch_unwind(AssertUnwindSafe(|| Store::open(&path)));
    let opened = opened.unwrap_or_else(|_| {
        Err(StoreError::Corrupt {
            path: path.display().to_string(),
            why: "reading it broke off".to_owned(),
        })
    });
    opened.map(Some).map_err(|error| readable(lock, error))
}

fn facts(store: &Store) -> Result<LogFacts, StoreError> {
    Ok(LogFacts {
        identity: store.identity()?,
        is_new: store.is_new()?,
        recovery: store.recovery()?,
    })
}

/// A fault of the log with the file and the cure in it.
pub(super) fn readable(lock: &Lock, error: StoreError) -> Error {
    let path = log_path(lock).display().to_string();
    match error {
        StoreError::Record {
            source: DecodeError::Format(found),
            ..
        } => Error::Format { path, found },
        StoreError::Record { .. } | StoreError::Absent { .. } | StoreError::Hole { .. } => {
            let why = error.to_string();
            Error::Store(StoreError::Corrupt { path, why })
        }
        other => Error::Store(other),
    }
}

fn told(lock: &Lock, discord: Discord) -> Error {
    let dir = lock.dir().display().to_string();
    match discord {
        Discord::IdentityMissing => Error::IdentityMissing { dir },
        Discord::LogMissing(node) => Error::LogMissing { dir, node },
        Discord::LogOlder {
            what,
            log,
            identity,
        } => Error::LogOlder {
            dir,
            what,
            log,
            identity,
        },
        Discord::IdentityOlder {
            what,
            log,
            identity,
        } => Error::IdentityOlder {
            dir,
            what,
            log,
            identity,
        },
        Discord::Foreign {
            what,
            log,
            identity,
        } => Error::Foreign {
            dir,
            what,
            log,
            identity,
        },
    }
}
