//! The table as it is applied here, for those who watch it: the latest one at any time, and what
//! changed since a version as long as that is kept.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use crate::table::{Delta, History};
use crate::{Command, Table};

/// How many deltas are kept, and how many reasons.
const HISTORY: usize = 1024;

/// What changed since a version.
#[derive(Debug, Clone)]
pub enum Since {
    /// Nothing.
    Unchanged,
    /// This.
    Delta(Delta),
    /// More than is kept: here is the whole table.
    Whole(Arc<Table>),
}

#[derive(Debug)]
struct Current {
    table: Arc<Table>,
    history: History,
    reasons: VecDeque<(u64, Command)>,
}

/// Tells what is applied.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    current: Arc<RwLock<Current>>,
    version: watch::Sender<u64>,
}

impl Publisher {
    pub(crate) fn new(table: Arc<Table>) -> Self {
        let (version, _) = watch::channel(table.version());
        let history = History::new(HISTORY);
        Self {
            current: Arc::new(RwLock::new(Current {
                table,
                history,
                reasons: VecDeque::new(),
            })),
            version,
        }
    }

    /// The table went forward by these deltas. Some came of commands that say why.
    pub(crate) fn advance(
        &self,
        table: Arc<Table>,
        deltas: Vec<Delta>,
        reasons: Vec<(u64, Command)>,
    ) {
        self.set(table, |current| {
            for delta in deltas {
                current.history.push(delta);
            }
            current.reasons.extend(reasons);
            let over = current.reasons.len().saturating_sub(HISTORY);
            current.reasons.drain(..over);
        });
    }

    /// Another table has taken its place.
    pub(crate) fn replace(&self, table: Arc<Table>) {
        self.set(table, |current| current.history = History::new(HISTORY));
    }

    fn set(&self, table: Arc<Table>, note: impl FnOnce(&mut Current)) {
        let version = table.version();
        {
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            current.table = table;
            note(&mut current);
        }
        self.version.send_replace(version);
    }

    pub(crate) fn watch(&self) -> TableWatch {
        TableWatch {
            current: Arc::clone(&self.current),
            version: self.version.subscribe(),
        }
    }
}

/// Watches the table. A clone watches on its own.
#[derive(Debug, Clone)]
pub struct TableWatch {
    current: Arc<RwLock<Current>>,
    version: watch::Receiver<u64>,
}

impl TableWatch {
    /// The table as it is now.
    pub fn table(&self) -> Arc<Table> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current.table)
    }

    /// What changed after this version.
    pub fn since(&self, version: u64) -> Since {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        if current.table.version() == version {
            return Since::Unchanged;
        }
        match current.history.since(version) {
            Some(delta) => Since::Delta(delta),
            None => Since::Whole(Arc::clone(&current.table)),
        }
    }

    /// The commands after this version that say why they were proposed, each with the version that
    /// came of it, as far back as they are kept: what they grant is left out.
    pub fn reasons(&self, version: u64) -> Vec<(u64, Command)> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let newer = |(of, _): &&(u64, Command)| *of > version;
        current.reasons.iter().filter(newer).cloned().collect()
    }

    /// Waits until the table has changed since this was last asked; `false` if it never will again,
    /// since Raft has stopped here. Cancelling loses nothing.
    pub async fn changed(&mut self) -> bool {
        self.version.changed().await.is_ok()
    }
}
