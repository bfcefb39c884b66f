//! One process at a time uses a data directory: a lock on a file in it, which ends with the process
//! however that ends. (A process that is being forked from it at that moment keeps the lock until it
//! runs its own program, some milliseconds at most.)

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use super::Error;
use super::identity::{io, sync};

/// A directory that is ours as long as this lives.
#[derive(Debug)]
pub(super) struct Lock {
    dir: PathBuf,
    _file: File,
}

impl Lock {
    /// Makes the directory if it is not there, and locks it.
    pub(super) fn make(dir: &Path) -> Result<Self, Error> {
        if !dir.try_exists().map_err(io(dir))? {
            std::fs::create_dir_all(dir).map_err(io(dir))?;
            // A directory that a power loss takes away would come back as another node.
            match dir.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => sync(parent)?,
                _ => sync(Path::new("."))?,
            }
        }
        Self::take(dir)
    }

    /// Locks a directory that is there.
    pub(super) fn take(dir: &Path) -> Result<Self, Error> {
        if !dir.is_dir() {
            std::fs::read_dir(dir).map_err(io(dir))?;
        }
        let path = dir.join("LOCK");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self {
                dir: dir.to_owned(),
                _file: file,
            }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse {
                dir: dir.display().to_string(),
            }),
            Err(TryLockError::Error(source)) => Err(io(&path)(source)),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}
