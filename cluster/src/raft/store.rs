//! What a node's Raft is started from: a checked `meta.redb`, or records in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::disk::Disk;
use super::log_store::{LogStore, damaged};
use super::machine::{self, Machine};
use super::memory::Memory;
use super::records::{Change, Flush, Key, Records, StoreError};
use super::types::{
    FOUNDER, Id, Identity, Kept, Membership, Payload, SnapshotMeta, StoredMembership, place,
};
use crate::codec::{decode_record, encode_record};
use crate::table::{LogId, NodeRec, Registration};
use crate::times::Times;
use crate::{ClusterInfo, Incarnation, NodeId, NodeState, Settings, Table};

/// The table that a cluster's log begins with: its founder is node 1, which has yet to live, and
/// registers as every node does. The same on every node: who joins gets it from who is there.
pub fn genesis(cluster: ClusterInfo, settings: Settings, founder: &Registration) -> Table {
    let mut table = Table::new(cluster, settings);
    let unborn = NodeRec {
        name: founder.name.clone(),
        incarnation: Incarnation(0),
        boot: founder.boot,
        data: founder.data,
        addrs: founder.addrs.clone(),
        roles: founder.roles,
        serves: founder.serves.clone(),
        state: NodeState::Dead,
        protocol: founder.protocol,
        build: founder.build.clone(),
        routes_hash: founder.routes_hash,
    };
    table.nodes.insert(FOUNDER, unborn);
    table
}

/// How far the log of a store goes: what the survivors of a lost majority are compared by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// The last entry; `None` if the log has yet to begin. The greater one of two survivors is that
    /// of the longer log, a later term before a higher index.
    pub last: Option<LogId>,
    /// The last entry that is known to be committed; it may lag.
    pub committed: Option<LogId>,
    /// Who votes, by the latest entry about it, committed or not; of both configurations while it
    /// changes.
    pub voters: BTreeSet<NodeId>,
    /// Whether the voters are being changed.
    pub changing: bool,
    /// The table after all of the log, committed or not.
    pub table: Table,
}

/// Vote, log, committed id, snapshot and identity of one node. A clone is the same store.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) records: Arc<dyn Records>,
    /// How long writes took.
    pub(super) flushes: Arc<Times>,
}

impl Store {
    /// Makes the file. Only the founding of a cluster and a first join do this. `genesis` is the
    /// table that the log begins with ([`genesis`]).
    ///
    /// # Errors
    /// If there is a file already, or the system refuses.
    pub fn create(path: &Path, identity: Identity, genesis: &Table) -> Result<Self, StoreError> {
        let disk = Disk::create(path, first(identity, genesis))?;
        Ok(Self {
            records: Arc::new(disk),
            flushes: Arc::default(),
        })
    }

    /// Opens the file and reads all of it once: pages, records, and the order of the log. Waits for
    /// the disk.
    ///
    /// # Errors
    /// If there is none, another process has it open, or anything in it is damaged.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let store = Self {
            records: Arc::new(Disk::open(path)?),
            flushes: Arc::default(),
        };
        store.check()?;
        Ok(store)
    }

    /// A store in memory, for tests and simulations: it outlives the Raft that uses it.
    pub fn memory(identity: Identity, genesis: &Table) -> Self {
        Self::in_memory(&Arc::new(Memory::default()), identity, genesis)
    }

    /// Every write of a store in memory takes so long from now on.
    pub(crate) fn slow(&self, takes: Duration) {
        self.records.slow(takes);
    }

    /// The process that used it is gone: a store in memory loses what was not flushed.
    pub(crate) fn crashed(&self) {
        self.records.lose_unflushed();
    }

    /// The same in a memory that the caller keeps hold of, for its faults.
    pub(super) fn in_memory(memory: &Arc<Memory>, identity: Identity, genesis: &Table) -> Self {
        memory
            .write(first(identity, genesis), Flush::Now)
            .expect("a fresh memory takes every write");
        Self {
            records: Arc::clone(memory) as Arc<dyn Records>,
            flushes: Arc::default(),
        }
    }

    /// Whose store this is.
    ///
    /// # Errors
    /// If the record is damaged or missing.
    pub fn identity(&self) -> Result<Identity, StoreError> {
        let name = Key::Identity.name();
        let bytes = self
            .records
            .get(Key::Identity)?
            .ok_or_else(|| StoreError::Absent {
                record: name.to_owned(),
            })?;
        decode_record(&bytes).map_err(|source| damaged(name, source))
    }

    /// Notes that a life begins, fsynced. Waits for the disk.
    ///
    /// # Errors
    /// If the record is damaged, or the system refuses.
    pub fn set_incarnation(&self, incarnation: Incarnation) -> Result<(), StoreError> {
        let identity = Identity {
            incarnation,
            ..self.identity()?
        };
        let put = Change::Put(Key::Identity, encode_record(&identity));
        self.records.write(vec![put], Flush::Now)
    }

    /// The table that the log begins with: what a node needs that joins.
    ///
    /// # Errors
    /// If the record is damaged or missing.
    pub fn genesis(&self) -> Result<Table, StoreError> {
        machine::genesis(self.records.as_ref())
    }

    /// Whether the log has yet to begin: nothing was appended, received or voted for. The founder
    /// then founds ([`Raft::found`](super::Raft::found)).
    ///
    /// # Errors
    /// If anything is damaged.
    pub fn is_new(&self) -> Result<bool, StoreError> {
        let begun = self.records.get(Key::Vote)?.is_some()
            || self.records.get(Key::Snapshot)?.is_some()
            || self.records.last()?.is_some();
        Ok(!begun)
    }

    /// How often the cluster of this log was recovered; `None` if the log has yet to begin.
    ///
    /// # Errors
    /// If anything is damaged.
    pub fn recovery(&self) -> Result<Option<u32>, StoreError> {
        let begun = self.records.get(Key::Snapshot)?.is_some() || self.records.last()?.is_some();
        let table = begun.then(|| self.machine()).transpose()?;
        Ok(table.map(|machine| machine.table().cluster().recovery))
    }

    /// How far the log goes. Applies all of it on the way.
    ///
    /// # Errors
    /// If anything is damaged.
    pub fn extent(&self) -> Result<Extent, StoreError> {
        let committed = self.log_store().committed()?;
        let membership = self.membership()?;
        let mut machine = self.machine()?;
        machine.replay()?;
        let last = machine.end(Id::default()).map(|(last, _)| last);
        Ok(Extent {
            last: last.map(place),
            committed: committed.map(place),
            voters: membership.voter_ids().map(NodeId::from).collect(),
            changing: membership.membership().get_joint_config().len() > 1,
            table: machine.table().clone(),
        })
    }

    /// Makes this node the only voter, after the majority is lost for good: offline, on the survivor
    /// with the longest log. All of its log counts as committed; the table is
    /// [`recovered`](Table::recovered). Waits for the disk. Returns the table.
    ///
    /// # Errors
    /// If anything is damaged, the log is empty, or the system refuses.
    pub fn recover(&self) -> Result<Table, StoreError> {
        let survivor = self.identity()?.node;
        let me = Id::from(survivor);
        let mut machine = self.machine()?;
        machine.replay()?;
        let (last, dialled) = machine.end(me).ok_or_else(|| StoreError::Absent {
            record: "log".to_owned(),
        })?;
        let table = machine.table().clone().recovered(survivor);
        let alone = Membership::new(vec![BTreeSet::from([me])], BTreeMap::from([(me, dialled)]));
        let kept = Kept {
            meta: SnapshotMeta {
                last_log_id: Some(last),
                last_membership: StoredMembership::new(Some(last), alone),
                snapshot_id: format!("recovered-{}", table.cluster().recovery),
            },
            table: table.encode(),
        };
        let batch = vec![
            Change::Put(Key::Snapshot, encode_record(&kept)),
            Change::Put(Key::Purged, encode_record(&Some(last))),
            Change::Put(Key::Committed, encode_record(&Some(last))),
            Change::Purge(last.index),
        ];
        self.records.write(batch, Flush::Now)?;
        Ok(table)
    }

    /// The node's position among the voters that it knows of, by which it stands for election; after
    /// all of them if it is none.
    pub(super) fn rank(&self) -> Result<u32, StoreError> {
        let me = Id::from(self.identity()?.node);
        let membership = self.membership()?;
        let rank = membership.voter_ids().filter(|id| *id < me).count();
        Ok(u32::try_from(rank).unwrap_or(u32::MAX))
    }

    fn membership(&self) -> Result<StoredMembership, StoreError> {
        let kept = machine::read_snapshot(self.records.as_ref())?;
        let mut latest = kept
            .map(|kept| kept.meta.last_membership)
            .unwrap_or_default();
        for (index, bytes) in self.records.entries(0, u64::MAX)? {
            let entry: super::types::Entry = decode_record(&bytes)
                .map_err(|source| damaged(&format!("log entry {index}"), source))?;
            if let Payload::Membership(membership) = entry.payload {
                latest = StoredMembership::new(Some(entry.log_id), membership);
            }
        }
        Ok(latest)
    }

    fn check(&self) -> Result<(), StoreError> {
        self.identity()?;
        self.log_store().check()?;
        self.machine().map(drop)
    }

    pub(super) fn log_store(&self) -> LogStore {
        LogStore::new(Arc::clone(&self.records), Arc::clone(&self.flushes))
    }

    pub(super) fn machine(&self) -> Result<Machine, StoreError> {
        Machine::open(Arc::clone(&self.records))
    }
}

fn first(identity: Identity, genesis: &Table) -> Vec<Change> {
    vec![
        Change::Put(Key::Identity, encode_record(&identity)),
        Change::Put(Key::Genesis, genesis.encode()),
    ]
}
