//! What a node keeps of its identity from one start to the next, as the shell uses it: a data
//! directory, or memory for tests and simulations.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::member::{DataDir, Joined};
use crate::raft::{self, Store};
use crate::{BootId, DataId, Incarnation, Member, NodeId, Table};

/// What is kept could not be read or written, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HomeError(pub String);

/// What a node keeps. Calls may wait for a disk.
pub trait Home: Send + fmt::Debug {
    /// The identity of the directory.
    fn data(&self) -> DataId;
    /// This life.
    fn incarnation(&self) -> Incarnation;
    /// This process.
    fn boot(&self) -> BootId;
    /// Which node of which cluster this is, once it has joined one.
    fn known(&self) -> Option<Joined>;
    /// The log of a voter or learner.
    fn store(&self) -> Option<Store>;
    /// Whether this node is to found the cluster now.
    ///
    /// # Errors
    /// If the log is damaged.
    fn founds(&self) -> Result<bool, HomeError>;
    /// Begins another life within this process.
    ///
    /// # Errors
    /// If it could not be kept.
    fn raise(&mut self) -> Result<Incarnation, HomeError>;
    /// This life was another process's: it counts as never begun.
    ///
    /// # Errors
    /// If it could not be kept.
    fn give_back(&mut self) -> Result<(), HomeError>;
    /// Notes what a registration was answered with.
    ///
    /// # Errors
    /// If it contradicts what is known, or could not be kept.
    fn joined(&mut self, joined: Joined, incarnation: Incarnation) -> Result<Member, HomeError>;
    /// Drops what is known of the cluster: it was recovered without this node, which keeps no log.
    ///
    /// # Errors
    /// If the node keeps a log, or it could not be kept.
    fn forget(&mut self) -> Result<(), HomeError>;
    /// Makes the log that a learner needs.
    ///
    /// # Errors
    /// If it could not be made.
    fn keep_log(&mut self, genesis: &Table) -> Result<Store, HomeError>;
}

fn words(error: impl fmt::Display) -> HomeError {
    HomeError(error.to_string())
}

impl Home for DataDir {
    fn data(&self) -> DataId {
        Self::data(self)
    }

    fn incarnation(&self) -> Incarnation {
        Self::incarnation(self)
    }

    fn boot(&self) -> BootId {
        Self::boot(self)
    }

    fn known(&self) -> Option<Joined> {
        Self::known(self)
    }

    fn store(&self) -> Option<Store> {
        Self::store(self).cloned()
    }

    fn founds(&self) -> Result<bool, HomeError> {
        Self::founds(self).map_err(words)
    }

    fn raise(&mut self) -> Result<Incarnation, HomeError> {
        Self::raise(self).map_err(words)
    }

    fn give_back(&mut self) -> Result<(), HomeError> {
        Self::give_back(self).map_err(words)
    }

    fn joined(&mut self, joined: Joined, incarnation: Incarnation) -> Result<Member, HomeError> {
        Self::joined(self, joined, incarnation).map_err(words)
    }

    fn forget(&mut self) -> Result<(), HomeError> {
        Self::forget(self).map_err(words)
    }

    fn keep_log(&mut self, genesis: &Table) -> Result<Store, HomeError> {
        Self::keep_log(self, genesis).map_err(words)
    }
}

#[derive(Debug)]
struct Kept {
    data: DataId,
    incarnation: Incarnation,
    joined: Option<Joined>,
    store: Option<Store>,
    fresh: bool,
}

/// A home in memory, for tests and simulations: it outlives the processes that use it.
#[derive(Debug, Clone)]
pub struct MemoryHome {
    kept: Arc<Mutex<Kept>>,
    boot: BootId,
}

impl MemoryHome {
    /// The home of a node that has yet to join.
    pub fn new(data: DataId) -> Self {
        Self {
            kept: Arc::new(Mutex::new(Kept {
                data,
                incarnation: Incarnation(0),
                joined: None,
                store: None,
                fresh: false,
            })),
            boot: BootId(0),
        }
    }

    /// The home of the founder of a cluster, whose log begins with this table.
    pub fn founder(data: DataId, genesis: &Table) -> Self {
        let home = Self::new(data);
        let cluster = genesis.cluster();
        let joined = Joined {
            cluster: cluster.id,
            recovery: cluster.recovery,
            node: raft::FOUNDER,
        };
        {
            let mut kept = home.lock();
            kept.store = Some(Store::memory(kept.owner(joined), genesis));
            kept.joined = Some(joined);
            kept.fresh = true;
        }
        home
    }

    /// A process starts with it: the next life begins, under this boot id.
    #[must_use]
    pub fn start(&self, boot: BootId) -> Self {
        let started = Self {
            kept: Arc::clone(&self.kept),
            boot,
        };
        started.lock().next_life();
        started
    }

    /// Every write of its log takes so long from now on, if it keeps one: a slow disk.
    pub fn slow(&self, takes: Duration) {
        if let Some(store) = &self.lock().store {
            store.slow(takes);
        }
    }

    /// The process that used it has crashed: what was not flushed is lost.
    pub fn crashed(&self) {
        if let Some(store) = &self.lock().store {
            store.crashed();
        }
    }

    /// Recovers its cluster, as after the loss of the majority for good.
    ///
    /// # Errors
    /// If it keeps no log, or that is damaged.
    pub fn recover(&self) -> Result<(), HomeError> {
        let mut kept = self.lock();
        let (Some(store), Some(joined)) = (&kept.store, kept.joined) else {
            return Err(HomeError("the node keeps no log".to_owned()));
        };
        let table = store.recover().map_err(words)?;
        let recovery = table.cluster().recovery;
        kept.joined = Some(Joined { recovery, ..joined });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn owner(&self, joined: Joined) -> raft::Identity {
        raft::Identity {
            cluster: joined.cluster,
            node: joined.node,
            data: self.data,
            incarnation: self.incarnation,
        }
    }

    fn next_life(&mut self) -> Incarnation {
        self.incarnation = Incarnation(self.incarnation.0.saturating_add(1));
        self.incarnation
    }
}

impl Home for MemoryHome {
    fn data(&self) -> DataId {
        self.lock().data
    }

    fn incarnation(&self) -> Incarnation {
        self.lock().incarnation
    }

    fn boot(&self) -> BootId {
        self.boot
    }

    fn known(&self) -> Option<Joined> {
        self.lock().joined
    }

    fn store(&self) -> Option<Store> {
        self.lock().store.clone()
    }

    fn founds(&self) -> Result<bool, HomeError> {
        Ok(std::mem::take(&mut self.lock().fresh))
    }

    fn raise(&mut self) -> Result<Incarnation, HomeError> {
        Ok(self.lock().next_life())
    }

    fn give_back(&mut self) -> Result<(), HomeError> {
        let mut kept = self.lock();
        kept.incarnation = Incarnation(kept.incarnation.0.saturating_sub(1));
        Ok(())
    }

    fn joined(&mut self, joined: Joined, incarnation: Incarnation) -> Result<Member, HomeError> {
        self.lock().joined = Some(joined);
        Ok(Member {
            id: joined.node,
            incarnation,
        })
    }

    fn forget(&mut self) -> Result<(), HomeError> {
        let mut kept = self.lock();
        if kept.store.is_some() {
            return Err(HomeError("the node keeps a log".to_owned()));
        }
        kept.joined = None;
        Ok(())
    }

    fn keep_log(&mut self, genesis: &Table) -> Result<Store, HomeError> {
        let mut kept = self.lock();
        let joined = kept
            .joined
            .ok_or_else(|| HomeError("the node has joined no cluster".to_owned()))?;
        let owner = kept.owner(joined);
        Ok(kept
            .store
            .get_or_insert_with(|| Store::memory(owner, genesis))
            .clone())
    }
}

/// The life that a home says this process is; node 0 before it has joined.
pub(super) fn member(home: &dyn Home) -> Member {
    Member {
        id: home.known().map_or(NodeId(0), |known| known.node),
        incarnation: home.incarnation(),
    }
}
