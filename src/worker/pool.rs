//! A pool: as many workers as wanted, kept alive, replaced in steps, and ended without a loss.

mod growth;
mod handle;
mod places;
mod reset;
mod spec;
mod supervise;

pub(crate) use handle::{Resized, WorkerPool, WorkerReport};
pub(crate) use spec::{Growth, PoolSpec};

use super::actor::WorkerMessage;
use super::info::{WorkerInfo, WorkerState};
use super::lease::Lease;
use super::queue::Queue;
use super::relay::RelayDoor;
use crate::config::RpcAddress;
use growth::Grown;
use places::Slot;
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use reset::{Asker, Parting, Reset};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use supervise::Renewal;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, interval};

/// The most workers of one pool.
pub(crate) const MOST_WORKERS: usize = 500;

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

/// What a pool is asked.
#[derive(Debug)]
pub(crate) enum PoolMessage {
    /// A worker has shaken hands.
    Up(u64, Arc<WorkerInfo>),
    /// A worker did not come up.
    Failed(u64, String),
    /// Workers may be missing.
    Fill,
    /// A worker for one event alone.
    Fresh(oneshot::Sender<Result<Lease, String>>),
    /// Look at the time that workers have been at work.
    Tick,
    /// Look at age, idle time and memory.
    Watch,
    /// All workers.
    List(oneshot::Sender<Vec<WorkerReport>>),
    /// One worker more.
    Add(oneshot::Sender<Resized>),
    /// One worker fewer, but never the last.
    Remove(oneshot::Sender<Resized>),
    /// A request waits, and the pool may grow.
    Grow,
    /// Look whether the pool has more workers than it needs.
    Shrink,
    /// New workers for all old ones.
    Reset(Asker),
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

/// The actor that supervises the workers of a pool.
#[derive(Debug)]
struct Pool;

#[derive(Debug)]
struct PoolState {
    spec: PoolSpec,
    /// Where workers connect to, if they do.
    door: Option<Arc<RelayDoor>>,
    queue: Arc<Queue>,
    roll: watch::Sender<Roll>,
    slots: BTreeMap<u64, Slot>,
    /// Workers wanted without growth.
    target: usize,
    grown: Grown,
    next: u64,
    /// Attempts to start workers so far.
    attempts: u64,
    /// The last attempt that counts as failed.
    failed: u64,
    failures: u32,
    not_before: Instant,
    /// The new workers for those that are due.
    renewal: Renewal,
    /// The reset whose new workers are not all up.
    reset: Option<Reset>,
    /// Those whose old workers have not all left.
    partings: Vec<Parting>,
    /// Who asked for one more meanwhile.
    next_reset: Vec<Asker>,
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
            grown: Grown::new(),
            spec,
            door,
            queue,
            roll,
            slots: BTreeMap::new(),
            next: 0,
            attempts: 0,
            failed: 0,
            failures: 0,
            not_before: Instant::now(),
            renewal: Renewal::new(),
            reset: None,
            partings: Vec::new(),
            next_reset: Vec::new(),
            resets: 0,
            stopping: None,
            stopped: false,
        };
        if state.spec.debug {
            state.queue.start_by(myself.clone());
        }
        growth::watch(&state, &myself);
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
            PoolMessage::Fresh(request) => state.start_for(&myself, request),
            PoolMessage::Tick => state.end_overdue(),
            PoolMessage::Watch => state.watch(&myself),
            PoolMessage::List(reply) => drop(reply.send(state.report())),
            PoolMessage::Add(reply) => drop(reply.send(state.add(&myself))),
            PoolMessage::Remove(reply) => drop(reply.send(state.remove())),
            PoolMessage::Grow => state.grow(&myself),
            PoolMessage::Shrink => state.shrink(),
            PoolMessage::Reset(asker) => state.start_reset(&myself, asker),
            PoolMessage::ResetOverdue(number) => state.end_reset(number),
            PoolMessage::Stop(reply) => {
                state.stopped = true;
                state.stopping = Some(reply);
                state.queue.close().into_iter().for_each(Queue::retire);
                state.give_up_resets();
                // Nobody waits for those that are not up yet.
                let mut slots = state.slots.values_mut();
                slots.by_ref().for_each(|slot| slot.wanted = None);
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
    /// Says so to whoever waits, once nobody is left.
    fn check_stopped(&mut self) {
        if self.slots.is_empty()
            && let Some(reply) = self.stopping.take()
        {
            // Whoever asked may have gone.
            let _ = reply.send(());
        }
    }
}
