//! The pools of a node by name. Clones share them.

use super::pool::WorkerPool;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The pools of a node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pools(Arc<ArcSwap<BTreeMap<String, WorkerPool>>>);

impl Pools {
    /// Adds a pool, or replaces the one of its name.
    pub(crate) fn add(&self, pool: &WorkerPool) {
        self.0.rcu(|pools| {
            let mut pools = BTreeMap::clone(pools);
            pools.insert(pool.name().to_owned(), pool.clone());
            pools
        });
    }

    /// Takes a pool out.
    pub(crate) fn remove(&self, name: &str) {
        self.0.rcu(|pools| {
            let mut pools = BTreeMap::clone(pools);
            pools.remove(name);
            pools
        });
    }

    /// Makes it these: adds what is new, replaces what has changed, takes out what is gone.
    pub(crate) fn set(&self, pools: &[WorkerPool]) {
        for known in self.all() {
            if pools.iter().all(|pool| pool.name() != known.name()) {
                self.remove(known.name());
            }
        }
        pools.iter().for_each(|pool| self.add(pool));
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> Vec<WorkerPool> {
        self.0.load().values().cloned().collect()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }
}
