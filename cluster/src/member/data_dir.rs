//! The data directory of a running node.

use std::path::Path;

use super::Error;
use super::agree::{Verdict, hex};
use super::files::{Files, log_path, readable};
use super::identity::{Identity, Joined, random};
use super::lock::Lock;
use crate::raft::{self, FOUNDER, Store};
use crate::{BootId, ClusterId, DataId, Incarnation, Member, NodeId, Table, peer};

/// A data directory that this process has opened: a life of a node has begun. It is locked until
/// this is dropped.
///
/// ```text
/// open ─► no cluster yet: register ─► joined ─┐
///      ─► a node: register ─► joined ─────────┴─► keep_log, once the node is to be a learner
///                    ▲                   └► dead? raise, register again
/// ```
#[derive(Debug)]
pub struct DataDir {
    lock: Lock,
    identity: Identity,
    boot: BootId,
    store: Option<Store>,
}

impl DataDir {
    /// Begins a life: opens the directory, or makes it, locks it, checks all that is in it, and
    /// raises the incarnation, in `meta.redb` and then in `identity`. A directory without an
    /// identity gets one. All of it is on disk when this returns. It founds no cluster.
    ///
    /// # Errors
    /// If another process uses the directory, or what is in it is damaged or does not belong
    /// together.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let mut files = Files::read(Lock::make(dir)?)?;
        let identity = match files.verdict {
            Verdict::Empty => Identity::draw()?,
            Verdict::Unjoined(identity) => identity,
            Verdict::Joined(identity, _) => {
                // Before the next life, so that it is never behind by two.
                files.settle(identity)?;
                identity
            }
            Verdict::HalfFounded(_) => {
                return Err(Error::HalfFounded {
                    dir: dir.display().to_string(),
                });
            }
        };
        let mut opened = Self {
            lock: files.lock,
            identity,
            boot: BootId(random()?),
            store: files.store,
        };
        opened.raise()?;
        Ok(opened)
    }

    /// Begins another life within this process, to register again after the last one was declared
    /// dead. The boot id stays. On disk when this returns.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn raise(&mut self) -> Result<Incarnation, Error> {
        let incarnation = Incarnation(self.identity.incarnation.0.saturating_add(1));
        if let Some(store) = &self.store {
            store
                .set_incarnation(incarnation)
                .map_err(|error| readable(&self.lock, error))?;
        }
        self.set(Identity {
            incarnation,
            ..self.identity
        })?;
        Ok(incarnation)
    }

    /// Takes the life that this process began back: another process has had it, on the original of
    /// this directory. The next start begins it again, and is refused again. On disk when this returns.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn give_back(&mut self) -> Result<(), Error> {
        let incarnation = Incarnation(self.identity.incarnation.0.saturating_sub(1));
        // The other way round than a life begins: `meta.redb` is never the older one.
        self.set(Identity {
            incarnation,
            ..self.identity
        })?;
        match &self.store {
            Some(store) => store
                .set_incarnation(incarnation)
                .map_err(|error| readable(&self.lock, error)),
            None => Ok(()),
        }
    }

    /// Notes what a registration was answered with: which node of which cluster this is, for this
    /// life. On disk when this returns. Repeating it changes nothing.
    ///
    /// A node without a log may come out as another node after a recovery of its cluster that its
    /// directory missed.
    ///
    /// # Errors
    /// If the answer is for another life, another cluster or another node than this one, or the
    /// system refuses.
    pub fn joined(&mut self, joined: Joined, incarnation: Incarnation) -> Result<Member, Error> {
        let other = |what, given: String, known: String| Error::OtherNode {
            dir: self.name(),
            what,
            given,
            known,
        };
        if incarnation != self.identity.incarnation {
            let (given, known) = (incarnation, self.identity.incarnation);
            return Err(other("incarnation", given.to_string(), known.to_string()));
        }
        if let Some(known) = self.identity.joined {
            if joined.cluster != known.cluster {
                let (given, known) = (hex(joined.cluster.0), hex(known.cluster.0));
                return Err(other("cluster", given, known));
            }
            let anew = joined.recovery > known.recovery && self.store.is_none();
            if joined.recovery != known.recovery && !anew {
                let (given, known) = (joined.recovery, known.recovery);
                return Err(other("recovery", given.to_string(), known.to_string()));
            }
            if joined.node != known.node && !anew {
                let (given, known) = (joined.node, known.node);
                return Err(other("node", given.to_string(), known.to_string()));
            }
        }
        if self.identity.joined != Some(joined) {
            self.set(Identity {
                joined: Some(joined),
                ..self.identity
            })?;
        }
        Ok(Member {
            id: joined.node,
            incarnation,
        })
    }

    /// Makes `meta.redb`, so that the node can become a learner and then a voter. `genesis` is what
    /// a voter's [`Store::genesis`] says. If there is one it is returned, and nothing changes.
    /// On disk when this returns.
    ///
    /// # Errors
    /// If the node has joined no cluster, `genesis` is another cluster's, or the system refuses.
    pub fn keep_log(&mut self, genesis: &Table) -> Result<Store, Error> {
        let joined = self
            .identity
            .joined
            .ok_or_else(|| Error::NotJoined { dir: self.name() })?;
        let cluster = genesis.cluster().id;
        if cluster != joined.cluster {
            return Err(Error::OtherNode {
                dir: self.name(),
                what: "a log of cluster",
                given: hex(cluster.0),
                known: hex(joined.cluster.0),
            });
        }
        let store = match &self.store {
            Some(store) => store.clone(),
            None => {
                let owner = raft::Identity {
                    cluster,
                    node: joined.node,
                    data: self.identity.data,
                    incarnation: self.identity.incarnation,
                };
                Store::create(&log_path(&self.lock), owner, genesis)
                    .map_err(|error| readable(&self.lock, error))?
            }
        };
        self.store = Some(store.clone());
        if !self.identity.keeps_log {
            self.set(self.identity)?;
        }
        Ok(store)
    }

    /// Drops what this directory knows of its cluster, so that the node registers anew: for a node
    /// without a log that missed a recovery of its cluster. Data id, incarnation and boot id stay.
    /// On disk when this returns.
    ///
    /// # Errors
    /// If the node keeps a log: it needs an empty directory. Or the system refuses.
    pub fn forget(&mut self) -> Result<(), Error> {
        if let (Some(joined), Some(_)) = (self.identity.joined, &self.store) {
            return Err(Error::KeepsLog {
                dir: self.name(),
                node: joined.node,
            });
        }
        self.set(Identity {
            joined: None,
            ..self.identity
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.lock.dir()
    }

    /// The identity of the directory.
    pub const fn data(&self) -> DataId {
        self.identity.data
    }

    /// This life; 1 or more.
    pub const fn incarnation(&self) -> Incarnation {
        self.identity.incarnation
    }

    /// This process: drawn when the directory was opened.
    pub const fn boot(&self) -> BootId {
        self.boot
    }

    /// Which node of which cluster this is; `None` until the first registration was answered.
    pub const fn known(&self) -> Option<Joined> {
        self.identity.joined
    }

    /// This life of this node; `None` until the first registration was answered.
    pub fn member(&self) -> Option<Member> {
        let id = self.identity.joined?.node;
        let incarnation = self.identity.incarnation;
        Some(Member { id, incarnation })
    }

    /// The node's `meta.redb`, if it has one: that of a voter or learner.
    pub const fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// Whether the log of the cluster has yet to begin, here: this node is its founder and starts for
    /// the first time. It then calls [`Raft::found`](raft::Raft::found), unless a seed answers with the
    /// cluster: then this directory is a backup from before its first start, and must not be used.
    ///
    /// # Errors
    /// If the log is damaged.
    pub fn founds(&self) -> Result<bool, Error> {
        let founder = self.identity.joined.filter(|known| known.node == FOUNDER);
        let (Some(_), Some(store)) = (founder, &self.store) else {
            return Ok(false);
        };
        store.is_new().map_err(|error| readable(&self.lock, error))
    }

    /// What this process says of itself in greetings, under that name: ids of 0 if it has joined no
    /// cluster. Addresses, routes, build and features are the caller's to add.
    pub fn greeting(&self, name: &str) -> peer::Identity {
        let none = Joined {
            cluster: ClusterId(0),
            recovery: 0,
            node: NodeId(0),
        };
        let joined = self.identity.joined.unwrap_or(none);
        let member = Member {
            id: joined.node,
            incarnation: self.identity.incarnation,
        };
        peer::Identity {
            recovery: joined.recovery,
            ..peer::Identity::new(joined.cluster, member, self.boot, name)
        }
    }

    fn name(&self) -> String {
        self.lock.dir().display().to_string()
    }

    fn set(&mut self, identity: Identity) -> Result<(), Error> {
        let identity = Identity {
            keeps_log: self.store.is_some(),
            ..identity
        };
        identity.write(self.lock.dir())?;
        self.identity = identity;
        Ok(())
    }
}
