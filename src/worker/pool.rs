//! A pool: as many workers as wanted, kept alive, replaced one by one, and ended without a loss.

use super::actor::{Worker, WorkerArgs, WorkerMessage};
use super::info::{WorkerInfo, WorkerState};
use super::process::CommandSpec;
use super::queue::{Counts, ExecError, Queue, Rules};
use super::relay::{self, RelayDoor};
use crate::answer::Flaws;
use crate::config::{RelayAddress, RpcAddress};
use crate::goridge::Frame;
use bytes::{Bytes, BytesMut};
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, interval, sleep, timeout};

/// The longest that one worker may take to leave.
const LONGEST_STOP: Duration = Duration::from_secs(10);
/// Pause before a worker that failed is replaced; it doubles with each that fails in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The pause doubles up to this one.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Age below which the end of a worker counts as a failure in a row.
const SETTLED: Duration = Duration::from_secs(1);
/// Bytes of a mebibyte.
const MIB: u64 = 1_048_576;

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
    /// A fresh worker for each event.
    pub(crate) debug: bool,
    /// Whether requests are fenced.
    pub(crate) fence: bool,
    /// The longest payload taken from a worker, in bytes.
    pub(crate) max_frame: usize,
}

impl PoolSpec {
    fn rules(&self) -> Rules {
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
        }
    }
}

/// Why a pool does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoolError {
    /// Its actor can't be started.
    #[error(transparent)]
    Actor(#[from] Box<SpawnErr>),
    /// Its relay can't be listened on.
    #[error("`relay = \"{0}\"`: {1}")]
    Relay(RpcAddress, std::io::Error),
}

/// One worker, for who asks.
#[derive(Debug, Clone)]
pub(crate) struct WorkerReport {
    /// Its process.
    pub(crate) pid: u32,
    /// Its state.
    pub(crate) state: WorkerState,
    /// Events so far.
    pub(crate) jobs: u64,
    /// When it was started.
    pub(crate) created: SystemTime,
    /// Bytes that it holds.
    pub(crate) memory: u64,
}

/// What a pool is asked.
#[derive(Debug)]
pub(crate) enum PoolMessage {
    /// A worker has shaken hands.
    Up(u64, Arc<WorkerInfo>),
    /// A worker did not come up.
    Failed(u64, String),
    /// Workers may be missing.
    Fill,
    /// A worker for one event.
    Fresh,
    /// Look at the time that workers have been at work.
    Tick,
    /// Look at age, idle time and memory.
    Watch,
    /// All workers.
    List(oneshot::Sender<Vec<WorkerReport>>),
    /// One worker more.
    Add(oneshot::Sender<usize>),
    /// One worker fewer, but never the last.
    Remove(oneshot::Sender<usize>),
    /// New workers for all old ones.
    Reset(oneshot::Sender<Result<usize, String>>),
    /// The time of the reset with this number is over.
    ResetOverdue(u64),
    /// No more requests; the answer comes when all workers are gone.
    Stop(oneshot::Sender<()>),
    /// The time to stop is over.
    KillAll,
}

/// Who is there, as the pool's actor last knew it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roll {
    /// Workers that have shaken hands and are not gone.
    pub(crate) workers: Vec<Arc<WorkerInfo>>,
    /// Why the last one that did not come up did not.
    pub(crate) failure: Option<Arc<str>>,
}

/// A running pool. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct WorkerPool {
    name: Arc<str>,
    queue: Arc<Queue>,
    actor: ActorRef<PoolMessage>,
    roll: watch::Receiver<Roll>,
    flaws: Arc<Flaws>,
    debug: bool,
}

impl WorkerPool {
    /// Starts a pool on the runtime that this is called on; its workers come up by themselves.
    ///
    /// # Errors
    /// The actor can't be started, or the relay can't be listened on.
    pub(crate) async fn start(spec: PoolSpec) -> Result<Self, PoolError> {
        // Open before the first worker is there: it tries for a millisecond.
        let door = match &spec.relay {
            RelayAddress::Pipes => None,
            RelayAddress::Socket(address) => {
                let opened = relay::open(address, spec.command.owner).await;
                Some(opened.map_err(|why| PoolError::Relay(address.clone(), why))?)
            }
        };
        let queue = Arc::new(Queue::new(spec.rules()));
        let (call, roll) = watch::channel(Roll::default());
        let (name, debug) = (Arc::clone(&spec.name), spec.debug);
        let args = (spec, door, Arc::clone(&queue), call);
        let (actor, _) = Actor::spawn(None, Pool, args).await.map_err(Box::new)?;
        Ok(Self {
            name,
            queue,
            actor,
            roll,
            flaws: Arc::default(),
            debug,
        })
    }

    /// The name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What happened beside the answers.
    pub(crate) fn counts(&self) -> &Counts {
        &self.queue.counts
    }

    /// What was found in the answers.
    pub(crate) fn flaws(&self) -> &Flaws {
        &self.flaws
    }

    /// Requests in the pool, waiting and at work.
    pub(crate) fn requests(&self) -> usize {
        self.queue.requests()
    }

    /// Whether there is a worker, idle or at work.
    pub(crate) fn is_ready(&self) -> bool {
        self.debug || !self.roll.borrow().workers.is_empty()
    }

    /// Who is there now.
    pub(crate) fn roll(&self) -> Roll {
        self.roll.borrow().clone()
    }

    /// Waits until there is a worker.
    ///
    /// # Errors
    /// Why the first one did not come up.
    pub(crate) async fn until_ready(&self) -> Result<(), Arc<str>> {
        if self.debug {
            return Ok(());
        }
        let mut roll = self.roll.clone();
        let known = |roll: &Roll| !roll.workers.is_empty() || roll.failure.is_some();
        let stopped = || Err(Arc::from("the pool is being stopped"));
        match roll.wait_for(known).await {
            Ok(roll) => match &roll.failure {
                Some(why) if roll.workers.is_empty() => Err(Arc::clone(why)),
                _ => Ok(()),
            },
            Err(_) => stopped(),
        }
    }

    /// Gives a request to a worker.
    ///
    /// # Errors
    /// There is no answer.
    pub(crate) async fn exec(&self, context: &[u8], body: &[u8]) -> Result<Bytes, ExecError> {
        if self.debug {
            self.actor
                .cast(PoolMessage::Fresh)
                .map_err(|_| ExecError::Stopped)?;
        }
        self.queue.exec(context, body).await
    }

    /// All workers.
    pub(crate) async fn workers(&self) -> Vec<WorkerReport> {
        self.ask(PoolMessage::List).await.unwrap_or_default()
    }

    /// One worker more; answers how many are wanted now.
    pub(crate) async fn add(&self) -> Option<usize> {
        self.ask(PoolMessage::Add).await
    }

    /// One worker fewer, but never the last; answers how many are wanted now.
    pub(crate) async fn remove(&self) -> Option<usize> {
        self.ask(PoolMessage::Remove).await
    }

    /// Replaces all workers, one by one, so that no request meets a gap; answers how many. Where the
    /// first new one does not come up, the old ones go on.
    ///
    /// # Errors
    /// Why the first new worker did not come up.
    pub(crate) async fn reset(&self) -> Result<usize, String> {
        let stopped = || Err("the pool is being stopped".to_owned());
        self.ask(PoolMessage::Reset).await.unwrap_or_else(stopped)
    }

    /// Takes no more requests, lets workers finish, and ends them; after the grace by force.
    pub(crate) async fn shutdown(&self, grace: Duration) {
        let (reply, gone) = oneshot::channel();
        if self.actor.cast(PoolMessage::Stop(reply)).is_err() {
            return;
        }
        let mut gone = gone;
        if timeout(grace, &mut gone).await.is_err() {
            drop(self.actor.cast(PoolMessage::KillAll));
            // Killed processes are gone in no time.
            drop(timeout(Duration::from_secs(1), gone).await);
        }
        self.actor.stop(None);
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> PoolMessage) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.actor.cast(message(reply)).ok()?;
        answer.await.ok()
    }
}

/// The actor that supervises the workers of a pool.
#[derive(Debug)]
struct Pool;

/// A place for a worker.
#[derive(Debug, Default)]
struct Slot {
    /// The worker, once it is up.
    info: Option<Arc<WorkerInfo>>,
    /// The worker that it takes the place of.
    replaces: Option<u64>,
    /// Whether it is to leave.
    leaving: bool,
}

/// A reset under way.
#[derive(Debug)]
struct Reset {
    /// Workers still to be replaced: the first new one has not come up yet.
    rest: Vec<u64>,
    /// Old workers that have not left.
    old: BTreeSet<u64>,
    count: usize,
    replies: Vec<oneshot::Sender<Result<usize, String>>>,
}

#[derive(Debug)]
struct PoolState {
    spec: PoolSpec,
    /// Where workers connect to, if they do.
    door: Option<Arc<RelayDoor>>,
    queue: Arc<Queue>,
    roll: watch::Sender<Roll>,
    slots: BTreeMap<u64, Slot>,
    target: usize,
    next: u64,
    failures: u32,
    not_before: Instant,
    reset: Option<Reset>,
    resets: u64,
    stopping: Option<oneshot::Sender<()>>,
    stopped: bool,
}

impl Actor for Pool {
    type Msg = PoolMessage;
    type State = PoolState;
    type Arguments = (
        PoolSpec,
        Option<Arc<RelayDoor>>,
        Arc<Queue>,
        watch::Sender<Roll>,
    );

    async fn pre_start(
        &self,
        myself: ActorRef<PoolMessage>,
        (spec, door, queue, roll): Self::Arguments,
    ) -> Result<PoolState, ActorProcessingErr> {
        if !spec.exec_ttl.is_zero() {
            let tick = spec.exec_ttl / 20;
            let tick = tick.clamp(Duration::from_millis(5), Duration::from_millis(50));
            every(tick, &myself, || PoolMessage::Tick);
        }
        let watched = !spec.ttl.is_zero() || !spec.idle_ttl.is_zero() || spec.max_worker_memory > 0;
        if watched {
            let tick = spec.watch_tick.max(Duration::from_millis(10));
            every(tick, &myself, || PoolMessage::Watch);
        }
        let mut state = PoolState {
            target: if spec.debug { 0 } else { spec.num_workers },
            spec,
            door,
            queue,
            roll,
            slots: BTreeMap::new(),
            next: 0,
            failures: 0,
            not_before: Instant::now(),
            reset: None,
            resets: 0,
            stopping: None,
            stopped: false,
        };
        state.fill(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<PoolMessage>,
        message: PoolMessage,
        state: &mut PoolState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PoolMessage::Up(id, info) => state.is_up(&myself, id, info),
            PoolMessage::Failed(id, why) => state.did_not_come_up(&myself, id, &why),
            PoolMessage::Fill => state.fill(&myself),
            PoolMessage::Fresh => state.spawn(&myself, None, 1),
            PoolMessage::Tick => state.end_overdue(),
            PoolMessage::Watch => state.watch(),
            PoolMessage::List(reply) => drop(reply.send(state.report())),
            PoolMessage::Add(reply) => {
                state.target += 1;
                state.fill(&myself);
                let _ = reply.send(state.target);
            }
            PoolMessage::Remove(reply) => {
                if state.target > 1 {
                    state.target -= 1;
                    state.retire_one();
                }
                let _ = reply.send(state.target);
            }
            PoolMessage::Reset(reply) => state.start_reset(&myself, reply),
            PoolMessage::ResetOverdue(number) => state.end_reset(number),
            PoolMessage::Stop(reply) => {
                state.stopped = true;
                state.stopping = Some(reply);
                state.queue.close().into_iter().for_each(Queue::retire);
                state.check_stopped();
            }
            PoolMessage::KillAll => {
                let infos = state.slots.values().filter_map(|slot| slot.info.as_ref());
                for info in infos {
                    info.go(WorkerState::Destroyed);
                    kill(info, "the node ends");
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<PoolMessage>,
        event: SupervisionEvent,
        state: &mut PoolState,
    ) -> Result<(), ActorProcessingErr> {
        let actor = match &event {
            SupervisionEvent::ActorTerminated(actor, ..)
            | SupervisionEvent::ActorFailed(actor, _) => actor.get_id(),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {
                return Ok(());
            }
        };
        let of_actor = |(_, slot): &(&u64, &Slot)| {
            let info = slot.info.as_ref();
            info.is_some_and(|info| info.actor.get_id() == actor)
        };
        let found = state.slots.iter().find(of_actor).map(|(id, _)| *id);
        if let Some(id) = found {
            state.has_left(&myself, id);
        }
        Ok(())
    }
}

fn every(tick: Duration, actor: &ActorRef<PoolMessage>, message: fn() -> PoolMessage) {
    let actor = actor.clone();
    tokio::spawn(async move {
        let mut interval = interval(tick);
        loop {
            interval.tick().await;
            if actor.cast(message()).is_err() {
                return;
            }
        }
    });
}

fn kill(info: &WorkerInfo, why: &str) {
    // A worker that is gone needs no killing.
    drop(info.actor.cast(WorkerMessage::Kill(why.to_owned())));
}

impl PoolState {
    /// Starts the workers that are missing, now or once the pause is over.
    fn fill(&mut self, myself: &ActorRef<PoolMessage>) {
        if self.stopped {
            return;
        }
        let staying = self.slots.values().filter(|slot| !slot.leaving).count();
        let missing = self.target.saturating_sub(staying);
        self.queue.set_workers(self.target);
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
        for _ in 0..missing {
            self.spawn(myself, None, self.spec.max_jobs);
        }
    }

    fn spawn(&mut self, myself: &ActorRef<PoolMessage>, replaces: Option<u64>, max_jobs: u64) {
        if self.stopped {
            return;
        }
        let id = self.next;
        self.next += 1;
        let slot = Slot {
            replaces,
            ..Slot::default()
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
    }

    fn is_up(&mut self, myself: &ActorRef<PoolMessage>, id: u64, info: Arc<WorkerInfo>) {
        if self.stopped {
            kill(&info, "the node ends");
        }
        let Some(slot) = self.slots.get_mut(&id) else {
            return kill(&info, "nobody waits for it");
        };
        slot.info = Some(info);
        self.count();
        if let Some(old) = slot_of(&mut self.slots, id).and_then(|slot| slot.replaces.take()) {
            self.retire(old);
            let rest = self
                .reset
                .as_mut()
                .map(|reset| std::mem::take(&mut reset.rest));
            for old in rest.unwrap_or_default() {
                self.spawn(myself, Some(old), self.spec.max_jobs);
            }
            self.check_reset();
        }
    }

    fn did_not_come_up(&mut self, myself: &ActorRef<PoolMessage>, id: u64, why: &str) {
        let Some(slot) = self.slots.remove(&id) else {
            return;
        };
        let pool = Arc::clone(&self.spec.name);
        let pool = &*pool;
        if slot.replaces.is_some() {
            tracing::error!(
                pool,
                "a new worker did not come up; the old ones go on: {why}"
            );
            if let Some(reset) = self.reset.take() {
                for reply in reset.replies {
                    drop(reply.send(Err(why.to_owned())));
                }
            }
            return self.check_stopped();
        }
        let failure = Some(Arc::from(why));
        self.roll.send_modify(|roll| roll.failure = failure);
        self.failed();
        let pause = self.not_before.saturating_duration_since(Instant::now());
        tracing::error!(
            pool,
            ?pause,
            "a worker did not come up and is tried again: {why}"
        );
        self.fill(myself);
        self.check_stopped();
    }

    fn has_left(&mut self, myself: &ActorRef<PoolMessage>, id: u64) {
        let Some(slot) = self.slots.remove(&id) else {
            return;
        };
        // One that died while it was idle must meet no request.
        drop(self.queue.take_idle(Some(id)));
        if let Some(info) = slot.info {
            let well = info.jobs() > 0 && info.started.elapsed() >= SETTLED;
            let asked = slot.leaving || info.is_used_up();
            if well || asked {
                self.failures = 0;
            } else {
                self.failed();
            }
        }
        self.count();
        if !self.stopped {
            self.queue.counts.restarts.add_one();
        }
        if let Some(reset) = &mut self.reset {
            reset.old.remove(&id);
        }
        self.check_reset();
        self.fill(myself);
        self.check_stopped();
    }

    /// One more failure in a row: the next start waits longer.
    fn failed(&mut self) {
        let doubled = FIRST_PAUSE * 2_u32.pow(self.failures.min(6));
        self.failures = self.failures.saturating_add(1);
        let pause = doubled
            .min(LONGEST_PAUSE)
            .mul_f64(0.8 + 0.4 * fastrand::f64());
        self.not_before = Instant::now() + pause;
    }

    fn count(&self) {
        let infos = self.slots.values().filter_map(|slot| slot.info.clone());
        let workers = infos.collect();
        self.roll.send_modify(|roll| roll.workers = workers);
    }

    /// Sends a worker away: at once if it is idle, else when it is done.
    fn retire(&mut self, id: u64) {
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        slot.leaving = true;
        let Some(info) = &slot.info else { return };
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

    /// Sends one worker away, an idle one if there is one.
    fn retire_one(&mut self) {
        let staying = |(_, slot): &(&u64, &Slot)| !slot.leaving && slot.info.is_some();
        let idle = |(_, slot): &(&u64, &Slot)| {
            let info = slot.info.as_ref();
            info.is_some_and(|info| info.state() == WorkerState::Ready)
        };
        let any = self.slots.iter().filter(staying);
        let chosen = any.clone().find(idle).or_else(|| any.clone().next());
        if let Some(id) = chosen.map(|(id, _)| *id) {
            self.retire(id);
        }
    }

    fn start_reset(
        &mut self,
        myself: &ActorRef<PoolMessage>,
        reply: oneshot::Sender<Result<usize, String>>,
    ) {
        if self.stopped {
            drop(reply.send(Err("the pool is being stopped".to_owned())));
            return;
        }
        if let Some(reset) = &mut self.reset {
            return reset.replies.push(reply);
        }
        let staying = self.slots.iter().filter(|(_, slot)| !slot.leaving);
        let mut rest: Vec<u64> = staying.map(|(id, _)| *id).collect();
        let (old, count) = (rest.iter().copied().collect(), rest.len());
        self.resets += 1;
        // Who waits for the next try need not wait any more.
        self.not_before = Instant::now();
        self.fill(myself);
        let first = (!rest.is_empty()).then(|| rest.remove(0));
        self.reset = Some(Reset {
            rest,
            old,
            count,
            replies: vec![reply],
        });
        match first {
            Some(first) => self.spawn(myself, Some(first), self.spec.max_jobs),
            None => self.check_reset(),
        }
        let (myself, limit, number) = (myself.clone(), self.spec.reset_timeout, self.resets);
        tokio::spawn(async move {
            sleep(limit).await;
            drop(myself.cast(PoolMessage::ResetOverdue(number)));
        });
    }

    /// Answers a reset whose old workers have all left.
    fn check_reset(&mut self) {
        let done = self
            .reset
            .as_ref()
            .is_some_and(|reset| reset.old.is_empty());
        if let Some(reset) = self.reset.take_if(|_| done) {
            tracing::info!(
                pool = &*self.spec.name,
                workers = reset.count,
                "workers replaced"
            );
            for reply in reset.replies {
                drop(reply.send(Ok(reset.count)));
            }
        }
    }

    /// Old workers are still at work when `reset_timeout` is over: they leave when they are done.
    fn end_reset(&mut self, number: u64) {
        if self.resets != number {
            return;
        }
        if let Some(reset) = self.reset.take() {
            let why = format!(
                "{} of {} old workers are still at work after {:?} (`reset_timeout`); they leave when \
                 they are done, and at the latest by `exec_ttl`",
                reset.old.len(),
                reset.count,
                self.spec.reset_timeout
            );
            for reply in reset.replies {
                drop(reply.send(Err(why.clone())));
            }
        }
    }

    fn check_stopped(&mut self) {
        if self.slots.is_empty()
            && let Some(reply) = self.stopping.take()
        {
            // Whoever asked may have gone.
            let _ = reply.send(());
        }
    }

    /// Kills workers that are on one event for too long.
    fn end_overdue(&self) {
        let limit = self.spec.exec_ttl;
        for info in self.slots.values().filter_map(|slot| slot.info.as_ref()) {
            let at_work = matches!(info.state(), WorkerState::Working | WorkerState::Invalid);
            if at_work && info.since_last().is_some_and(|since| since >= limit) {
                info.set_overdue();
                kill(info, "ExecTTL: it ran longer than `exec_ttl` on one event");
            }
        }
    }

    /// Replaces workers that are too old, idle for too long, or too big; none in the middle of an
    /// event.
    fn watch(&mut self) {
        let spec = &self.spec;
        let mut leave = Vec::new();
        for (id, slot) in &self.slots {
            let Some(info) = slot.info.as_ref().filter(|_| !slot.leaving) else {
                continue;
            };
            let state = info.state();
            if !matches!(state, WorkerState::Ready | WorkerState::Working) {
                continue;
            }
            let idle = info.since_last().filter(|_| state == WorkerState::Ready);
            let old = !spec.ttl.is_zero() && info.started.elapsed() >= spec.ttl;
            let big = spec.max_worker_memory > 0
                && info
                    .memory()
                    .is_some_and(|it| it >= spec.max_worker_memory * MIB);
            let unused = !spec.idle_ttl.is_zero()
                && idle.is_some_and(|idle| idle.as_secs() >= spec.idle_ttl.as_secs());
            let why = match (old, big, unused) {
                (true, ..) => "older than `ttl`",
                (_, true, _) => "bigger than `max_worker_memory`",
                (.., true) => "idle for longer than `idle_ttl`",
                _ => continue,
            };
            let (pool, pid) = (&*spec.name, info.pid);
            tracing::debug!(pool, pid, why, "a worker is replaced");
            leave.push(*id);
        }
        leave.into_iter().for_each(|id| self.retire(id));
    }

    fn report(&self) -> Vec<WorkerReport> {
        let infos = self.slots.values().filter_map(|slot| slot.info.as_ref());
        let report = |info: &Arc<WorkerInfo>| WorkerReport {
            pid: info.pid,
            state: info.state(),
            jobs: info.jobs(),
            created: info.created,
            memory: info.memory().unwrap_or_default(),
        };
        infos.map(report).collect()
    }
}

fn slot_of(slots: &mut BTreeMap<u64, Slot>, id: u64) -> Option<&mut Slot> {
    slots.get_mut(&id)
}
