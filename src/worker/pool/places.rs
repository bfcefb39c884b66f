//! The places of a pool: who is missing, who has come, who is to go, who has left.

use super::super::actor::{Worker, WorkerArgs};
use super::super::info::{WorkerInfo, WorkerState};
use super::super::lease::Lease;
use super::super::queue::Queue;
use super::{MOST_WORKERS, PoolMessage, PoolState, Resized, kill};
use ractor::{Actor, ActorRef, SpawnErr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

/// The longest that one worker may take to leave.
const LONGEST_STOP: Duration = Duration::from_secs(10);
/// Pause before a worker that failed is replaced; it doubles with each that fails in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The pause doubles up to this one.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Age below which the end of a worker counts as a failure in a row.
const SETTLED: Duration = Duration::from_secs(1);

/// An event in debug that waits for a worker of its own.
pub(super) type Request = oneshot::Sender<Result<Lease, String>>;

/// A place for a worker.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The worker, once it is up.
    pub(super) info: Option<Arc<WorkerInfo>>,
    /// The worker that it takes the place of.
    pub(super) replaces: Option<u64>,
    /// Whether it was started since that one is due, and not by a reset.
    pub(super) renews: bool,
    /// Whether it is to leave.
    pub(super) leaving: bool,
    /// Held as long as a worker is wanted that is not up yet.
    pub(super) wanted: Option<oneshot::Sender<()>>,
    /// The attempt that it was started in.
    attempt: u64,
}

impl PoolState {
    /// Workers wanted now.
    pub(super) const fn wanted(&self) -> usize {
        self.target + self.grown.extra
    }

    /// One worker more, unless there are as many as a pool may have, or each event has its own.
    pub(super) fn add(&mut self, myself: &ActorRef<PoolMessage>) -> Resized {
        let is_changed = !self.spec.debug && self.wanted() < MOST_WORKERS;
        if is_changed {
            self.target += 1;
            self.fill(myself);
        }
        self.resized(is_changed)
    }

    /// One worker fewer, but never the last.
    pub(super) fn remove(&mut self) -> Resized {
        let is_changed = self.target > 1;
        if is_changed {
            self.target -= 1;
            self.trim();
        }
        self.resized(is_changed)
    }

    const fn resized(&self, is_changed: bool) -> Resized {
        Resized {
            workers: self.wanted(),
            is_changed,
        }
    }

    /// Sends away those that are more than wanted. A reset has two for a place for a while; it does
    /// so when it ends.
    pub(super) fn trim(&mut self) {
        self.queue.set_workers(self.wanted());
        if self.reset.is_some() || self.spec.debug {
            return;
        }
        while self.staying().count() > self.wanted() {
            self.retire_one();
        }
    }

    /// Those that count among the wanted: they are not to leave, and take the place of nobody who is
    /// there.
    pub(super) fn staying(&self) -> impl Iterator<Item = (&u64, &Slot)> {
        let is_there = |id: &u64| self.slots.get(id).is_some_and(|slot| !slot.leaving);
        let is_staying = move |(_, slot): &(&u64, &Slot)| {
            !slot.leaving && !slot.replaces.as_ref().is_some_and(is_there)
        };
        self.slots.iter().filter(is_staying)
    }

    /// Starts the workers that are missing, now or once the pause is over.
    pub(super) fn fill(&mut self, myself: &ActorRef<PoolMessage>) {
        if self.stopped {
            return;
        }
        let wanted = self.wanted();
        let missing = wanted.saturating_sub(self.staying().count());
        self.queue.set_workers(wanted);
        if missing == 0 {
            return;
        }
        let pause = self.not_before.saturating_duration_since(Instant::now());
        if !pause.is_zero() {
            let myself = myself.clone();
            tokio::spawn(async move {
                sleep(pause).await;
                // A pool that has stopped starts nobody.
                drop(myself.cast(PoolMessage::Fill));
            });
            return;
        }
        self.attempts += 1;
        for _ in 0..missing {
            self.spawn(myself, None, self.spec.max_jobs, None);
        }
    }

    /// Starts a worker for one request alone.
    pub(super) fn start_for(&mut self, myself: &ActorRef<PoolMessage>, request: Request) {
        if self.slots.len() >= MOST_WORKERS {
            let why = format!("{MOST_WORKERS} workers are the most of a pool");
            // The request may have gone.
            drop(request.send(Err(why)));
            return;
        }
        self.spawn(myself, None, 1, Some(request));
    }

    /// Starts a worker; gives its number, unless the pool is being stopped.
    pub(super) fn spawn(
        &mut self,
        myself: &ActorRef<PoolMessage>,
        replaces: Option<u64>,
        max_jobs: u64,
        only_for: Option<Request>,
    ) -> Option<u64> {
        if self.stopped {
            return None;
        }
        let id = self.next;
        self.next += 1;
        let (want, wanted) = oneshot::channel();
        let slot = Slot {
            info: None,
            replaces,
            renews: false,
            leaving: false,
            wanted: Some(want),
            attempt: self.attempts,
        };
        self.slots.insert(id, slot);
        // All at once would come back at once.
        let jitter = max_jobs * fastrand::u64(0..15) / 100;
        let args = WorkerArgs {
            id,
            pool: Arc::clone(&self.spec.name),
            command: self.spec.command.clone(),
            allocate_timeout: self.spec.allocate_timeout,
            stop_timeout: self.spec.destroy_timeout.min(LONGEST_STOP),
            max_jobs: if max_jobs > 1 {
                max_jobs + jitter
            } else {
                max_jobs
            },
            max_frame: self.spec.max_frame,
            door: self.door.clone(),
            queue: Arc::clone(&self.queue),
            parent: myself.clone(),
            only_for,
            wanted,
        };
        let myself = myself.clone();
        tokio::spawn(async move {
            let started = Actor::spawn_linked(None, Worker, args, myself.get_cell()).await;
            if let Err(why) = started {
                let why = match why {
                    SpawnErr::StartupFailed(why) => why.to_string(),
                    other => other.to_string(),
                };
                drop(myself.cast(PoolMessage::Failed(id, why)));
            }
        });
        Some(id)
    }

    pub(super) fn is_up(&mut self, myself: &ActorRef<PoolMessage>, id: u64, info: Arc<WorkerInfo>) {
        if self.stopped {
            kill(&info, "the node ends");
        }
        let Some(slot) = self.slots.get_mut(&id) else {
            return kill(&info, "nobody waits for it");
        };
        slot.info = Some(info);
        let is_unwanted = slot.leaving;
        self.count();
        if is_unwanted {
            return self.retire(id);
        }
        self.renewal_is_well();
        let old = self
            .slots
            .get_mut(&id)
            .and_then(|slot| slot.replaces.take());
        if let Some(old) = old {
            self.retire(old);
        }
        self.reset_has_new(myself, id);
    }

    pub(super) fn did_not_come_up(&mut self, myself: &ActorRef<PoolMessage>, id: u64, why: &str) {
        let Some(slot) = self.slots.remove(&id) else {
            return;
        };
        let pool = Arc::clone(&self.spec.name);
        let pool = &*pool;
        if slot.leaving || self.stopped {
            tracing::debug!(pool, "a worker left before it was up");
        } else if self.spec.debug {
            // Whoever asked is told.
            tracing::error!(pool, "the worker of an event did not come up: {why}");
        } else if slot.renews && slot.replaces.is_some_and(|it| self.slots.contains_key(&it)) {
            self.renewal_has_failed(slot.attempt, why);
        } else if slot.replaces.is_some() && !slot.renews {
            tracing::error!(
                pool,
                "a new worker did not come up; the old ones go on: {why}"
            );
            self.reset_has_failed(myself, id, why);
        } else {
            let failure = Some(Arc::from(why));
            self.roll.send_modify(|roll| roll.failure = failure);
            self.failed(slot.attempt);
            let pause = self.not_before.saturating_duration_since(Instant::now());
            tracing::error!(
                pool,
                ?pause,
                "a worker did not come up and is tried again: {why}"
            );
            self.reset_has_failed(myself, id, why);
        }
        self.reset_has_left(myself, id);
        // The worker whose place it was to take may have left meanwhile.
        self.fill(myself);
        self.check_stopped();
    }

    pub(super) fn has_left(&mut self, myself: &ActorRef<PoolMessage>, id: u64) {
        let Some(slot) = self.slots.remove(&id) else {
            return;
        };
        // One that died while it was idle must meet no request.
        drop(self.queue.take_idle(Some(id)));
        if let Some(info) = slot.info {
            let jobs = info.jobs();
            let well = jobs > 0 && info.started.elapsed() >= SETTLED;
            let asked = slot.leaving || info.is_used_up();
            // One that has answered before shows that the script is well: a request that ends its worker,
            // sent again and again, must not take the pool from everybody else.
            if well || asked || jobs > 1 {
                self.failures = 0;
            }
            if !(well || asked) {
                self.failed(slot.attempt);
            }
        }
        self.count();
        if !self.stopped {
            self.queue.counts.restarts.add_one();
        }
        self.reset_has_left(myself, id);
        self.fill(myself);
        self.check_stopped();
    }

    /// An attempt has failed, one more in a row: the next one waits longer. It counts once, however many
    /// workers it was for.
    fn failed(&mut self, attempt: u64) {
        if attempt <= self.failed {
            return;
        }
        self.failed = attempt;
        let doubled = FIRST_PAUSE * 2_u32.pow(self.failures.min(6));
        self.failures = self.failures.saturating_add(1);
        let pause = doubled
            .min(LONGEST_PAUSE)
            .mul_f64(0.8 + 0.4 * fastrand::f64());
        self.not_before = Instant::now() + pause;
    }

    pub(super) fn count(&self) {
        let infos = self.slots.values().filter_map(|slot| slot.info.clone());
        let workers = infos.collect();
        self.roll.send_modify(|roll| roll.workers = workers);
    }

    /// Sends a worker away: at once if it is idle, else when it is done.
    pub(super) fn retire(&mut self, id: u64) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        slot.leaving = true;
        let Some(info) = &slot.info else {
            // It is not waited for.
            slot.wanted = None;
            return;
        };
        match self.queue.take_idle(Some(id)) {
            Some(link) => Queue::retire(link),
            None => {
                info.go(WorkerState::Invalid);
                // It may have become idle in between.
                if let Some(link) = self.queue.take_idle(Some(id)) {
                    Queue::retire(link);
                }
            }
        }
    }

    /// Sends one worker away: one that is not up yet, else an idle one, if there are such.
    fn retire_one(&mut self) {
        let cost = |(_, slot): &(&u64, &Slot)| match slot.info.as_ref().map(|info| info.state()) {
            None => 0,
            Some(WorkerState::Ready) => 1,
            Some(_) => 2,
        };
        let chosen = self.staying().min_by_key(cost);
        if let Some(id) = chosen.map(|(id, _)| *id) {
            self.retire(id);
        }
    }
}
