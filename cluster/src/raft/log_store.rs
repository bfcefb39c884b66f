//! Raft's log and vote over [`Records`].

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use tokio::time::Instant;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{
    AnyError, ErrorSubject, ErrorVerb, LogState, OptionalSend, RaftLogReader, StorageError,
    StorageIOError,
};

use super::records::{Change, Flush, Key, Records, StoreError, write};
use super::types::{Entry, Id, LogId, Types, Vote};
use crate::codec::{decode_record, encode_record};
use crate::times::Times;

type Outcome<T> = Result<T, StorageError<Id>>;

/// The log and the vote of a node.
#[derive(Debug, Clone)]
pub(crate) struct LogStore {
    records: Arc<dyn Records>,
    flushes: Arc<Times>,
}

impl LogStore {
    /// Over these records; what is flushed is timed there.
    pub(crate) const fn new(records: Arc<dyn Records>, flushes: Arc<Times>) -> Self {
        Self { records, flushes }
    }

    async fn write(
        &self,
        about: ErrorSubject<Id>,
        batch: Vec<Change>,
        flush: Flush,
    ) -> Outcome<()> {
        let began = Instant::now();
        write(&self.records, batch, flush)
            .await
            .map_err(|error| failed(about, ErrorVerb::Write, &error))?;
        if flush == Flush::Now {
            self.flushes.record(began.elapsed());
        }
        Ok(())
    }

    fn log_id(&self, key: Key) -> Result<Option<LogId>, StoreError> {
        match self.records.get(key)? {
            Some(bytes) => decode_record(&bytes).map_err(|source| damaged(key.name(), source)),
            None => Ok(None),
        }
    }

    /// Up to where the log is known to be committed.
    pub(crate) fn committed(&self) -> Result<Option<LogId>, StoreError> {
        self.log_id(Key::Committed)
    }

    fn state(&self) -> Result<LogState<Types>, StoreError> {
        let last_purged_log_id = self.log_id(Key::Purged)?;
        let last = match self.records.last()? {
            Some((index, bytes)) => Some(read_entry(index, &bytes)?.log_id),
            None => last_purged_log_id,
        };
        Ok(LogState {
            last_purged_log_id,
            last_log_id: last,
        })
    }

    fn vote(&self) -> Result<Option<Vote>, StoreError> {
        let Some(bytes) = self.records.get(Key::Vote)? else {
            return Ok(None);
        };
        let vote = decode_record(&bytes).map_err(|source| damaged(Key::Vote.name(), source))?;
        Ok(Some(vote))
    }

    /// Reads all there is once, so that damage is noticed before the node takes part in anything.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.vote()?;
        self.log_id(Key::Committed)?;
        let purged = self.log_id(Key::Purged)?;
        let mut expected = purged.map(|log| log.index.saturating_add(1));
        for (index, bytes) in self.records.entries(0, u64::MAX)? {
            read_entry(index, &bytes)?;
            let place = *expected.get_or_insert(index);
            if index != place {
                return Err(StoreError::Hole { expected: place });
            }
            expected = Some(index.saturating_add(1));
        }
        Ok(())
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Outcome<Vec<Entry>> {
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        let read = || {
            let entries = self.records.entries(start, end)?;
            entries
                .into_iter()
                .map(|(index, bytes)| read_entry(index, &bytes))
                .collect::<Result<Vec<_>, _>>()
        };
        read().map_err(|error| failed(ErrorSubject::Logs, ErrorVerb::Read, &error))
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Outcome<LogState<Types>> {
        self.state()
            .map_err(|error| failed(ErrorSubject::Logs, ErrorVerb::Read, &error))
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Outcome<()> {
        let put = Change::Put(Key::Vote, encode_record(vote));
        self.write(ErrorSubject::Vote, vec![put], Flush::Now).await
    }

    async fn read_vote(&mut self) -> Outcome<Option<Vote>> {
        self.vote()
            .map_err(|error| failed(ErrorSubject::Vote, ErrorVerb::Read, &error))
    }

    /// Not flushed: a lost one is learnt again from the leader.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Outcome<()> {
        let put = Change::Put(Key::Committed, encode_record(&committed));
        self.write(ErrorSubject::Store, vec![put], Flush::Later)
            .await
    }

    async fn read_committed(&mut self) -> Outcome<Option<LogId>> {
        self.committed()
            .map_err(|error| failed(ErrorSubject::Store, ErrorVerb::Read, &error))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Outcome<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let batch = entries
            .into_iter()
            .map(|entry| Change::Entry(entry.log_id.index, encode_record(&entry)))
            .collect();
        self.write(ErrorSubject::Logs, batch, Flush::Now).await?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Outcome<()> {
        let cut = Change::Truncate(log_id.index);
        self.write(ErrorSubject::Log(log_id), vec![cut], Flush::Now)
            .await
    }

    async fn purge(&mut self, log_id: LogId) -> Outcome<()> {
        let batch = vec![
            Change::Put(Key::Purged, encode_record(&Some(log_id))),
            Change::Purge(log_id.index),
        ];
        self.write(ErrorSubject::Log(log_id), batch, Flush::Now)
            .await
    }
}

pub(super) fn read_entry(index: u64, bytes: &[u8]) -> Result<Entry, StoreError> {
    let entry: Entry =
        decode_record(bytes).map_err(|source| damaged(&format!("log entry {index}"), source))?;
    if entry.log_id.index == index {
        Ok(entry)
    } else {
        Err(StoreError::Hole { expected: index })
    }
}

pub(super) fn damaged(record: &str, source: crate::DecodeError) -> StoreError {
    StoreError::Record {
        record: record.to_owned(),
        source,
    }
}

pub(super) fn failed(
    about: ErrorSubject<Id>,
    verb: ErrorVerb,
    error: &StoreError,
) -> StorageError<Id> {
    StorageIOError::new(about, verb, AnyError::new(error)).into()
}
