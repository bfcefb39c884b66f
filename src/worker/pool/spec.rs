//! How a pool is run.

use super::super::process::CommandSpec;
use super::super::queue::Rules;
use crate::config::RelayAddress;
use crate::goridge::Frame;
use bytes::BytesMut;
use std::sync::Arc;
use std::time::Duration;

/// How a pool is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PoolSpec {
    /// Its name in logs, metrics and commands.
    pub(crate) name: Arc<str>,
    /// How its workers are started.
    pub(crate) command: CommandSpec,
    /// How frames reach them.
    pub(crate) relay: RelayAddress,
    /// Workers kept alive.
    pub(crate) num_workers: usize,
    /// Events after which a worker is replaced, give or take 14 %; 0 for never.
    pub(crate) max_jobs: u64,
    /// Requests in the pool at once; 0 for any number.
    pub(crate) max_queue_size: usize,
    /// The longest start of a worker, and the longest wait for one.
    pub(crate) allocate_timeout: Duration,
    /// The longest end of a worker.
    pub(crate) destroy_timeout: Duration,
    /// How long a reset waits for workers that are still at work.
    pub(crate) reset_timeout: Duration,
    /// How long the rest of an unwanted stream may take.
    pub(crate) stream_timeout: Duration,
    /// The longest work on one event; zero for any.
    pub(crate) exec_ttl: Duration,
    /// The age at which a worker is replaced; zero for any.
    pub(crate) ttl: Duration,
    /// Idle time after which a worker that has worked is replaced; zero for any.
    pub(crate) idle_ttl: Duration,
    /// MiB of memory at which a worker is replaced; 0 for any.
    pub(crate) max_worker_memory: u64,
    /// How often age, idle time and memory are looked at.
    pub(crate) watch_tick: Duration,
    /// More workers where requests wait; `None` for never.
    pub(crate) growth: Option<Growth>,
    /// A fresh worker for each event.
    pub(crate) debug: bool,
    /// Whether requests are fenced.
    pub(crate) fence: bool,
    /// The longest payload taken from a worker, in bytes.
    pub(crate) max_frame: usize,
}

/// Workers beyond `num_workers` (`dynamic_allocator`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Growth {
    /// How many at most.
    pub(crate) max_workers: usize,
    /// How many come, or go, at a time.
    pub(crate) spawn_rate: usize,
    /// How long none of them was needed before they go.
    pub(crate) idle_timeout: Duration,
}

impl PoolSpec {
    /// What its exchanges ask of it.
    pub(super) fn rules(&self) -> Rules {
        let fence = || {
            let mut bytes = BytesMut::new();
            // A short frame always fits.
            let _ = Frame::pid(std::process::id()).encode(&mut bytes);
            bytes.freeze()
        };
        Rules {
            fence: self.fence.then(fence),
            max_queue_size: self.max_queue_size,
            allocate_timeout: self.allocate_timeout,
            stream_timeout: self.stream_timeout,
            exec_ttl: self.exec_ttl,
            grows: self.growth.is_some() && !self.debug,
        }
    }
}
