//! Dynamic allocation: more workers than `num_workers` while requests wait for one.
//!
//! RoadRunner starts more once a request has failed for want of a worker, after the whole of
//! `allocate_timeout`; here they come as soon as a request has waited for a moment, so that none
//! fails. They go when the pool could have done without them for `idle_timeout`, idle ones first, and
//! none in the middle of an event.

use super::{Growth, PoolMessage, PoolState, every};
use ractor::ActorRef;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a request waits before more workers are started.
const PATIENCE: Duration = Duration::from_millis(20);
/// The pause between two looks at a pool that is short of workers.
const STEP: Duration = Duration::from_millis(50);

/// How far a pool has grown.
#[derive(Debug)]
pub(super) struct Grown {
    /// Workers wanted beyond the usual number.
    pub(super) extra: usize,
    /// When they were last needed.
    needed: Instant,
}

impl Grown {
    /// Not at all.
    pub(super) fn new() -> Self {
        Self {
            extra: 0,
            needed: Instant::now(),
        }
    }
}

/// Looks after a pool that may grow, as long as it runs.
pub(super) fn watch(state: &PoolState, myself: &ActorRef<PoolMessage>) {
    let Some(growth) = state.growth() else { return };
    let tick = growth.idle_timeout / 4;
    let tick = tick.clamp(Duration::from_millis(20), Duration::from_secs(1));
    every(tick, myself, || PoolMessage::Shrink);
    let (queue, myself) = (Arc::clone(&state.queue), myself.clone());
    // A request that would be refused first has to be helped before.
    let patience = PATIENCE.min(state.spec.allocate_timeout / 4);
    tokio::spawn(async move {
        loop {
            queue.until_short().await;
            if !queue.is_open() {
                return;
            }
            sleep(patience).await;
            while queue.longest_wait().is_some() {
                if queue.longest_wait() >= Some(patience) && myself.cast(PoolMessage::Grow).is_err()
                {
                    return;
                }
                sleep(STEP.min(patience)).await;
            }
        }
    });
}

impl PoolState {
    /// How it may grow, if it may.
    fn growth(&self) -> Option<Growth> {
        self.spec.growth.filter(|_| !self.spec.debug)
    }

    /// A request waits: more workers, unless some are on their way.
    pub(super) fn grow(&mut self, myself: &ActorRef<PoolMessage>) {
        let Some(growth) = self.growth() else { return };
        self.grown.needed = Instant::now();
        // One that takes the place of another is none more.
        let on_their_way = self.staying().any(|(_, slot)| slot.info.is_none());
        let room = growth.max_workers.saturating_sub(self.grown.extra);
        let room = room.min(super::MOST_WORKERS.saturating_sub(self.wanted()));
        let more = growth.spawn_rate.min(room);
        if more == 0 || on_their_way || self.stopped {
            return;
        }
        self.grown.extra += more;
        let (pool, workers) = (&*self.spec.name, self.wanted());
        tracing::info!(
            pool,
            more,
            workers,
            "requests wait: more workers are started"
        );
        self.fill(myself);
    }

    /// Sends workers away that nobody has needed for a while.
    pub(super) fn shrink(&mut self) {
        let Some(growth) = self.growth() else { return };
        if self.grown.extra == 0 || self.reset.is_some() || self.stopped {
            return;
        }
        let usual = self.target;
        if self.queue.requests() > usual || self.queue.longest_wait().is_some() {
            self.grown.needed = Instant::now();
        }
        if self.grown.needed.elapsed() < growth.idle_timeout {
            return;
        }
        let fewer = growth.spawn_rate.min(self.grown.extra);
        self.grown.extra -= fewer;
        let (pool, workers) = (&*self.spec.name, self.wanted());
        tracing::info!(
            pool,
            fewer,
            workers,
            "workers that nobody needs are sent away"
        );
        self.trim();
    }
}
