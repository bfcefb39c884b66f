//! The model of consensus: one log, appended to by the newest leader alone.

use std::collections::BTreeSet;

use crate::testing::{Log, leader};
use crate::{Command, Delta, Entry, LeaderId, LogId, NodeId, Table};

/// A committed entry, as each voter applies it.
#[derive(Debug, Clone)]
pub(super) struct Committed {
    pub(super) delta: Option<std::sync::Arc<Delta>>,
    pub(super) nonce: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Raft {
    pub(super) entries: Vec<Committed>,
    pub(super) table: Table,
    index: u64,
    pub(super) leader: LeaderId,
    voters: BTreeSet<NodeId>,
    rules: crate::Rules,
}

impl Raft {
    pub(super) fn new(log: Log) -> Self {
        Self {
            entries: Vec::new(),
            table: log.table,
            index: log.index,
            leader: leader(1),
            voters: log.voters,
            rules: log.rules,
        }
    }

    /// Commits a command under the leadership that logged it.
    pub(super) fn commit(&mut self, logged: LeaderId, command: &Command) -> &Committed {
        self.index += 1;
        let log = LogId {
            leader: logged,
            index: self.index,
        };
        let entry = Entry {
            log,
            voters: &self.voters,
            command,
        };
        let applied = self.table.apply_by(entry, self.rules);
        let nonce = match command {
            Command::Barrier { nonce } => Some(*nonce),
            _ => None,
        };
        let delta = applied.delta.map(std::sync::Arc::new);
        self.entries.push(Committed { delta, nonce });
        self.entries.last().expect("an entry was pushed")
    }
}
