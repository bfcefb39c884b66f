//! The state machine: the [`Table`], fed with committed entries, and its snapshots.
//!
//! The table lives in memory. At a start it is what the latest snapshot says, or the genesis if
//! there is none, and Raft applies the committed entries after it again.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::sync::Arc;

use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder, StorageError};

use super::feed::Publisher;
use super::log_store::{damaged, failed, read_entry};
use super::records::{Change, Flush, Key, Records, StoreError, run};
use super::types::{
    Entry, Id, Kept, LogId, Payload, Place, SnapshotMeta, StoredMembership, Types, place,
};
use crate::codec::{decode_record, encode_record};
use crate::table::{Delta, Outcome};
use crate::{Command, NodeId, Table};

type Done<T> = Result<T, StorageError<Id>>;

/// The table as of the last entry that was applied.
#[derive(Debug)]
pub(crate) struct Machine {
    records: Arc<dyn Records>,
    table: Arc<Table>,
    applied: Option<LogId>,
    membership: StoredMembership,
    publisher: Publisher,
}

impl Machine {
    /// The machine as its records have it.
    pub(crate) fn open(records: Arc<dyn Records>) -> Result<Self, StoreError> {
        let (table, applied, membership) = match read_snapshot(records.as_ref())? {
            Some(kept) => {
                let table = read_table(Key::Snapshot, &kept.table)?;
                (table, kept.meta.last_log_id, kept.meta.last_membership)
            }
            None => (
                genesis(records.as_ref())?,
                None,
                StoredMembership::default(),
            ),
        };
        let table = Arc::new(table);
        let publisher = Publisher::new(Arc::clone(&table));
        Ok(Self {
            records,
            table,
            applied,
            membership,
            publisher,
        })
    }

    /// Where what is applied is told.
    pub(crate) fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Applies all that the log has beyond the snapshot, committed or not: for a recovery.
    pub(crate) fn replay(&mut self) -> Result<(), StoreError> {
        let next = self.applied.map_or(0, |log| log.index.saturating_add(1));
        for (index, bytes) in self.records.entries(next, u64::MAX)? {
            let entry = read_entry(index, &bytes)?;
            self.apply_entry(entry, &mut Vec::new(), &mut Vec::new());
        }
        Ok(())
    }

    /// The last entry that was applied, and where this member was dialled; `None` if there is none.
    pub(crate) fn end(&self, member: Id) -> Option<(LogId, Place)> {
        let place = self.membership.membership().get_node(&member);
        Some((self.applied?, place.cloned().unwrap_or_default()))
    }

    /// The table as it is.
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    fn apply_entry(
        &mut self,
        entry: Entry,
        deltas: &mut Vec<Delta>,
        reasons: &mut Vec<(u64, Command)>,
    ) -> Option<Outcome> {
        self.applied = Some(entry.log_id);
        match entry.payload {
            Payload::Blank => None,
            Payload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                None
            }
            Payload::Normal(command) => {
                let voters: BTreeSet<NodeId> =
                    self.membership.voter_ids().map(NodeId::from).collect();
                let applied = Arc::make_mut(&mut self.table).apply(crate::Entry {
                    log: place(entry.log_id),
                    voters: &voters,
                    command: &command,
                });
                if let Some(delta) = &applied.delta {
                    reasons.extend(reason(command).map(|reason| (delta.to, reason)));
                }
                deltas.extend(applied.delta);
                Some(applied.outcome)
            }
        }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Done<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Done<Vec<Option<Outcome>>>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (mut deltas, mut reasons) = (Vec::new(), Vec::new());
        let mut answers = Vec::new();
        for entry in entries {
            answers.push(self.apply_entry(entry, &mut deltas, &mut reasons));
        }
        if !deltas.is_empty() {
            self.publisher
                .advance(Arc::clone(&self.table), deltas, reasons);
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            records: Arc::clone(&self.records),
            table: Arc::clone(&self.table),
            applied: self.applied,
            membership: self.membership.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Done<Box<Cursor<Vec<u8>>>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &openraft::SnapshotMeta<Id, Place>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Done<()> {
        let about = || ErrorSubject::Snapshot(Some(meta.signature()));
        let bytes = snapshot.into_inner();
        let table = read_table(Key::Snapshot, &bytes)
            .map_err(|error| failed(about(), ErrorVerb::Read, &error))?;
        let kept = Kept {
            meta: meta.clone(),
            table: bytes,
        };
        keep(&self.records, kept)
            .await
            .map_err(|error| failed(about(), ErrorVerb::Write, &error))?;
        self.table = Arc::new(table);
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.publisher.replace(Arc::clone(&self.table));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Done<Option<Snapshot<Types>>> {
        let kept = read_snapshot(self.records.as_ref())
            .map_err(|error| failed(ErrorSubject::Snapshot(None), ErrorVerb::Read, &error))?;
        Ok(kept.map(whole))
    }
}

/// Makes a snapshot of the table as it was when the builder was asked for.
#[derive(Debug)]
pub(crate) struct Builder {
    records: Arc<dyn Records>,
    table: Arc<Table>,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Done<Snapshot<Types>> {
        let snapshot_id = match self.applied {
            Some(log) => log.to_string(),
            None => "genesis".to_owned(),
        };
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id,
        };
        let kept = Kept {
            table: self.table.encode(),
            meta,
        };
        let about = ErrorSubject::Snapshot(Some(kept.meta.signature()));
        keep(&self.records, kept.clone())
            .await
            .map_err(|error| failed(about, ErrorVerb::Write, &error))?;
        Ok(whole(kept))
    }
}

/// What a command says of why it was proposed, if it says so and the table does not.
fn reason(command: Command) -> Option<Command> {
    match command {
        Command::DeclareDead {
            member,
            why,
            leader,
            ..
        } => Some(Command::DeclareDead {
            member,
            why,
            leader,
            grants: Vec::new(),
        }),
        Command::AbortMoves { .. } => Some(command),
        _ => None,
    }
}

fn whole(kept: Kept) -> Snapshot<Types> {
    Snapshot {
        meta: kept.meta,
        snapshot: Box::new(Cursor::new(kept.table)),
    }
}

/// Keeps a snapshot, unless a later one is there: one that was received while this was being made.
async fn keep(records: &Arc<dyn Records>, kept: Kept) -> Result<(), StoreError> {
    run(records, move |records| {
        let later = read_snapshot(records)?
            .is_some_and(|other| other.meta.last_log_id > kept.meta.last_log_id);
        if later {
            return Ok(());
        }
        let put = Change::Put(Key::Snapshot, encode_record(&kept));
        records.write(vec![put], Flush::Now)
    })
    .await
}

pub(crate) fn read_snapshot(records: &dyn Records) -> Result<Option<Kept>, StoreError> {
    let Some(bytes) = records.get(Key::Snapshot)? else {
        return Ok(None);
    };
    let kept = decode_record(&bytes).map_err(|source| damaged(Key::Snapshot.name(), source))?;
    Ok(Some(kept))
}

/// The table that the log begins with.
pub(crate) fn genesis(records: &dyn Records) -> Result<Table, StoreError> {
    let bytes = records
        .get(Key::Genesis)?
        .ok_or_else(|| StoreError::Absent {
            record: Key::Genesis.name().to_owned(),
        })?;
    read_table(Key::Genesis, &bytes)
}

fn read_table(key: Key, bytes: &[u8]) -> Result<Table, StoreError> {
    Table::decode(bytes).map_err(|source| damaged(key.name(), source))
}
