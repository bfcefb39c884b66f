//! The shard actor: runs the lanes of a fixed group of slots.

use crate::engine::flight::Flight;
use crate::engine::guard::{Ended, drop_caught, guarded, panic_message, poll_caught};
use crate::engine::plan::Route;
use crate::engine::seat::Seat;
use crate::engine::shared::Shared;
use crate::handler::HandlerFuture;
use crate::outcome::{Failure, Outcome};
use crate::region::lane::{InboundTurn, Lane, LaneState, Running, Work};
use crate::routing::key::{BuildLaneHasher, LaneKey, LaneMap};
use crate::watchdog::{Activity, Beat};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Expired events are looked for at most this often.
const SWEEP_PAUSE: Duration = Duration::from_millis(5);

/// A shard as senders see it.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    /// Where its actor sits.
    pub(crate) seat: Seat<ShardMessage>,
    core: usize,
    events: crate::engine::shared::Gauge,
    bytes: crate::engine::shared::Gauge,
    lanes: Tally,
    /// How many actors have sat here.
    lives: AtomicU64,
}

/// What the actor says of its lanes; it alone writes here, on a cache line that no sender writes.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Tally {
    lanes: AtomicUsize,
    busy: AtomicUsize,
    queued: AtomicUsize,
}

/// What a shard holds at one moment; its parts are read one after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ShardLoad {
    /// Events that wait, in the mailbox or in lanes.
    pub(crate) events: usize,
    /// Bytes of their requests.
    pub(crate) bytes: usize,
    /// Those of them that wait in lanes.
    pub(crate) queued: usize,
    /// Lanes in which something runs.
    pub(crate) busy: usize,
    /// Idle lanes with a state.
    pub(crate) kept: usize,
}

impl Shard {
    /// A shard on a core, not running yet.
    pub(crate) fn new(core: usize) -> Self {
        Self {
            core,
            ..Self::default()
        }
    }

    /// The core that runs it.
    pub(crate) const fn core(&self) -> usize {
        self.core
    }

    /// What it holds now.
    pub(crate) fn load(&self) -> ShardLoad {
        let get = |cell: &AtomicUsize| cell.load(Ordering::Relaxed);
        let (events, bytes) = (self.events.get(), self.bytes.get());
        if self.seat.is_parked() {
            // The actor took its lanes with it.
            return ShardLoad {
                events,
                bytes,
                ..ShardLoad::default()
            };
        }
        let busy = get(&self.lanes.busy);
        ShardLoad {
            events,
            bytes,
            queued: get(&self.lanes.queued),
            busy,
            kept: get(&self.lanes.lanes).saturating_sub(busy),
        }
    }

    /// A place among the events that wait here.
    pub(crate) fn admit(self: &Arc<Self>, bytes: usize, shared: &Arc<Shared>) -> Option<Waiting> {
        if !self.events.try_add(1, shared.limits.shard_events()) {
            return None;
        }
        if !self.bytes.try_add(bytes, shared.limits.shard_bytes()) {
            self.events.sub(1);
            return None;
        }
        shared.cores[self.core].waiting.add(1);
        Some(Waiting {
            shard: Arc::clone(self),
            shared: Arc::clone(shared),
            bytes,
        })
    }
}

/// A place among the events that wait in a shard, given back when dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    shard: Arc<Shard>,
    shared: Arc<Shared>,
    bytes: usize,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shard.events.sub(1);
        self.shard.bytes.sub(self.bytes);
        self.shared.cores[self.shard.core].waiting.sub(1);
    }
}

/// What a shard actor is sent.
#[derive(Debug)]
pub(crate) enum ShardMessage {
    /// An event to run, in the lane of its key if it has one.
    Run {
        /// The event.
        flight: Flight,
        /// Its route.
        route: Arc<Route>,
        /// Its place among those that wait.
        waiting: Waiting,
    },
    /// A two-way stream asks for a turn.
    Inbound(Box<InboundTurn>),
    /// What ran in a lane has ended, in the given life of the shard.
    Ended(LaneKey, u64),
    /// Answer events whose deadline passed while they waited.
    Sweep,
    /// Drop kept lanes that have been idle for long.
    Passivate,
}

/// The actor; see the module's text.
#[derive(Debug)]
pub(crate) struct ShardActor;

/// What a shard actor needs.
#[derive(Debug)]
pub(crate) struct ShardArgs {
    /// The shard.
    pub(crate) shard: Arc<Shard>,
    /// What all share.
    pub(crate) shared: Arc<Shared>,
    /// How long a kept lane stays idle.
    pub(crate) passivate_after: Duration,
}

/// The lanes of a shard.
#[derive(Debug)]
pub(crate) struct ShardState {
    shard: Arc<Shard>,
    shared: Arc<Shared>,
    beat: Arc<Beat>,
    lanes: LaneMap<Lane>,
    /// Lanes in which something runs.
    busy: usize,
    /// Events that wait in lanes.
    waiting_in_lanes: usize,
    /// What was last said of the three.
    told: Option<(usize, usize, usize)>,
    /// Which of the actors that have sat here this is; what another one started is none of its
    /// business.
    life: u64,
    /// Lanes in which something may wait.
    queued: HashSet<LaneKey, BuildLaneHasher>,
    next_sweep: Option<Instant>,
    passivate_after: Duration,
    passivation_runs: bool,
    started: Instant,
}

impl Actor for ShardActor {
    type Msg = ShardMessage;
    type State = ShardState;
    type Arguments = ShardArgs;

    async fn pre_start(
        &self,
        _: ActorRef<ShardMessage>,
        args: ShardArgs,
    ) -> Result<ShardState, ActorProcessingErr> {
        let ShardArgs {
            shard,
            shared,
            passivate_after,
        } = args;
        let beat = Arc::clone(&shared.cores[shard.core].beat);
        let life = shard.lives.fetch_add(1, Ordering::Relaxed);
        let mut state = ShardState {
            shard,
            shared,
            beat,
            lanes: LaneMap::default(),
            busy: 0,
            waiting_in_lanes: 0,
            told: None,
            life,
            queued: HashSet::default(),
            next_sweep: None,
            passivate_after,
            passivation_runs: false,
            started: Instant::now(),
        };
        state.tell();
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<ShardMessage>,
        message: ShardMessage,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        // One poll, in which everything happens: the future of a message stays small, and nothing in
        // here can wait.
        let mut message = Some(message);
        poll_fn(|cx| {
            if let Some(message) = message.take() {
                state.handle(&myself, message, cx);
            }
            Poll::Ready(())
        })
        .await;
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<ShardMessage>,
        _: ractor::SupervisionEvent,
        _: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        // A shard has no children: what waits runs in tasks that its lanes hold.
        Ok(())
    }
}

impl ShardState {
    fn handle(
        &mut self,
        myself: &ActorRef<ShardMessage>,
        message: ShardMessage,
        cx: &mut Context<'_>,
    ) {
        match message {
            ShardMessage::Run {
                flight,
                route,
                waiting,
            } => {
                self.arrive(
                    myself,
                    Work::Event {
                        flight,
                        route,
                        waiting,
                    },
                    cx,
                );
            }
            ShardMessage::Inbound(turn) => self.arrive(myself, Work::Inbound(turn), cx),
            ShardMessage::Ended(key, life) if life == self.life => self.ended(myself, key, cx),
            ShardMessage::Ended(..) => {}
            ShardMessage::Sweep => self.sweep(myself),
            ShardMessage::Passivate => self.passivate(myself),
        }
        self.tell();
    }

    /// Says what the lanes hold, if that is not what was said last: most events change nothing.
    fn tell(&mut self) {
        let now = (self.lanes.len(), self.busy, self.waiting_in_lanes);
        if self.told == Some(now) {
            return;
        }
        self.told = Some(now);
        let (lanes, busy, queued) = now;
        let tally = &self.shard.lanes;
        tally.lanes.store(lanes, Ordering::Relaxed);
        tally.busy.store(busy, Ordering::Relaxed);
        tally.queued.store(queued, Ordering::Relaxed);
    }

    /// Work has come in: it runs now, or waits behind what runs in its lane.
    fn arrive(&mut self, myself: &ActorRef<ShardMessage>, work: Work, cx: &mut Context<'_>) {
        let Some(key) = key_of(&work).cloned() else {
            // What has to wait goes on by itself: no lane waits for it.
            self.run(None, work, None, cx);
            return;
        };
        let kept = match self.lanes.get_mut(&key) {
            Some(lane) if lane.is_busy() => return self.queue(myself, key, work),
            Some(lane) => lane.take_state(),
            None => None,
        };
        self.run_in_lane(myself, key, work, kept, cx);
    }

    fn queue(&mut self, myself: &ActorRef<ShardMessage>, key: LaneKey, work: Work) {
        let Some(lane) = self.lanes.get_mut(&key) else {
            return;
        };
        let deadline = work.deadline();
        match lane.wait(work, self.shared.limits.lane_queue()) {
            Ok(is_first) => {
                // Events have a deadline, publications of a stream have none.
                self.waiting_in_lanes += usize::from(deadline.is_some());
                if is_first {
                    self.queued.insert(key);
                }
                if let Some(deadline) = deadline {
                    self.sweep_at(myself, deadline);
                }
            }
            Err((Work::Event { flight, .. }, why)) => {
                flight.finish(Failure::Overloaded(why).into());
            }
            // The stream keeps its publication and asks again.
            Err((Work::Inbound(turn), _)) => drop(turn),
        }
    }

    /// Runs work in a lane that is not busy, and leaves the lane as the work leaves it.
    fn run_in_lane(
        &mut self,
        myself: &ActorRef<ShardMessage>,
        key: LaneKey,
        work: Work,
        kept: Option<LaneState>,
        cx: &mut Context<'_>,
    ) {
        let (running, state) = self.run(Some(&key), work, kept, cx);
        let used = self.second();
        match running {
            Some(running) => {
                let lane = self.lanes.entry(key).or_default();
                self.busy += usize::from(!lane.is_busy());
                lane.set_running(Running(running), state, used);
            }
            None => match self.lanes.get_mut(&key) {
                Some(lane) => {
                    lane.rest(state, used);
                    if lane.has_waiting() {
                        // One at a time, so that other lanes get their turn in between.
                        drop(myself.cast(ShardMessage::Ended(key, self.life)));
                    } else {
                        self.busy -= usize::from(lane.is_busy());
                        lane.next();
                        if lane.is_empty() {
                            self.lanes.remove(&key);
                        }
                    }
                }
                None if state.is_some() => {
                    self.lanes.insert(key, Lane::idle(state, used));
                    self.passivate_later(myself);
                }
                None => {}
            },
        }
    }

    /// What ran in a lane has ended: the next one, or the lane is idle.
    fn ended(&mut self, myself: &ActorRef<ShardMessage>, key: LaneKey, cx: &mut Context<'_>) {
        let Some(lane) = self.lanes.get_mut(&key) else {
            return;
        };
        let was_busy = lane.is_busy();
        let next = lane.next();
        self.busy -= usize::from(was_busy && next.is_none());
        match next {
            Some(work) => {
                self.waiting_in_lanes -= usize::from(work.deadline().is_some());
                let kept = lane.take_state();
                self.run_in_lane(myself, key, work, kept, cx);
            }
            None if lane.is_empty() => {
                self.lanes.remove(&key);
            }
            None => self.passivate_later(myself),
        }
    }

    /// Starts work; answers the task it goes on in, if it has to wait, and the state of the lane.
    fn run(
        &mut self,
        key: Option<&LaneKey>,
        work: Work,
        kept: Option<LaneState>,
        cx: &mut Context<'_>,
    ) -> (Option<AbortHandle>, Option<LaneState>) {
        match work {
            Work::Event {
                flight,
                route,
                waiting,
            } => self.run_event(key, flight, route, waiting, kept, cx),
            Work::Inbound(turn) => (self.run_turn(*turn), kept),
        }
    }

    fn run_event(
        &mut self,
        key: Option<&LaneKey>,
        mut flight: Flight,
        route: Arc<Route>,
        waiting: Waiting,
        kept: Option<LaneState>,
        cx: &mut Context<'_>,
    ) -> (Option<AbortHandle>, Option<LaneState>) {
        if flight.is_abandoned() {
            flight.finish(Failure::Cancelled.into());
            return (None, kept);
        }
        if flight.deadline() <= Instant::now() {
            flight.finish(Failure::Deadline.into());
            return (None, kept);
        }
        if let Some(pool) = &route.pool {
            let ended = self.ended_message(key);
            let on_pool = Arc::clone(&route);
            let task = pool.spawn(run_on_pool(flight, on_pool, waiting, ended));
            return (Some(task.abort_handle()), kept);
        }
        drop(waiting);
        if !flight.mark_started() {
            return (None, kept);
        }
        flight.cx_mut().lane_state = kept;
        let busy = self.beat.enter(route.activity);
        let started = catch_unwind(AssertUnwindSafe(|| route.handler.call(flight.cx_mut())));
        let state = flight.cx_mut().lane_state.take();
        let mut work = match started {
            Ok(work) => work,
            Err(panic) => {
                let ended = Ended::Panicked(panic_message(panic.as_ref()));
                finish(flight, &route, ended);
                return (None, state);
            }
        };
        let first = poll_caught(work.as_mut(), cx);
        drop(busy);
        let ended = match first {
            Poll::Ready(Ok(outcome)) => Ended::Done(outcome),
            Poll::Ready(Err(message)) => Ended::Panicked(message),
            Poll::Pending => {
                let beat = Arc::clone(&self.beat);
                let work = Watched {
                    work,
                    beat,
                    activity: route.activity,
                };
                let task = tokio::spawn(go_on(flight, route, work, self.ended_message(key)));
                return (Some(task.abort_handle()), state);
            }
        };
        drop_caught(|| drop(work));
        finish(flight, &route, ended);
        (None, state)
    }

    /// Grants a two-way stream its turn; the lane is busy until the turn is dropped.
    fn run_turn(&self, turn: InboundTurn) -> Option<AbortHandle> {
        let InboundTurn { key, limit, grant } = turn;
        let (turn, over) = oneshot::channel();
        // A stream that has ended takes no turn.
        grant.send(turn).ok()?;
        let ended = self.ended_message(Some(&key));
        let task = tokio::spawn(async move {
            if tokio::time::timeout(limit, over).await.is_err() {
                tracing::debug!(?limit, "a stream's handler held its lane for too long");
            }
            drop(ended);
        });
        Some(task.abort_handle())
    }

    fn ended_message(&self, key: Option<&LaneKey>) -> EndedMessage {
        EndedMessage {
            key: key.cloned(),
            life: self.life,
            shard: Arc::clone(&self.shard),
        }
    }

    fn second(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    fn sweep_at(&mut self, myself: &ActorRef<ShardMessage>, deadline: Instant) {
        if self.next_sweep.is_some_and(|next| next <= deadline) {
            return;
        }
        let at = deadline.max(Instant::now() + SWEEP_PAUSE);
        self.next_sweep = Some(at);
        cast_at(myself, at, || ShardMessage::Sweep);
    }

    /// Answers what has waited beyond its deadline, or for a caller that went away.
    fn sweep(&mut self, myself: &ActorRef<ShardMessage>) {
        let now = Instant::now();
        self.next_sweep = None;
        let mut nearest: Option<Instant> = None;
        let mut gone = 0;
        let lanes = &mut self.lanes;
        self.queued.retain(|key| {
            let Some(queue) = lanes.get_mut(key).and_then(Lane::queue) else {
                return false;
            };
            let mut kept = std::collections::VecDeque::with_capacity(queue.len());
            for work in queue.drain(..) {
                let expired = work.deadline().is_some_and(|deadline| deadline <= now);
                match work {
                    Work::Event { flight, .. } if expired => {
                        gone += 1;
                        flight.finish(Failure::Deadline.into());
                    }
                    Work::Event { flight, .. } if flight.is_abandoned() => {
                        gone += 1;
                        flight.finish(Failure::Cancelled.into());
                    }
                    work if work.is_abandoned() => drop(work),
                    work => {
                        nearest = match (nearest, work.deadline()) {
                            (Some(a), Some(b)) => Some(a.min(b)),
                            (a, b) => a.or(b),
                        };
                        kept.push_back(work);
                    }
                }
            }
            *queue = kept;
            !queue.is_empty()
        });
        self.waiting_in_lanes -= gone;
        if let Some(nearest) = nearest {
            self.sweep_at(myself, nearest);
        }
    }

    fn passivate_later(&mut self, myself: &ActorRef<ShardMessage>) {
        if !self.passivation_runs {
            self.passivation_runs = true;
            let at = Instant::now() + self.passivate_after / 4;
            cast_at(myself, at, || ShardMessage::Passivate);
        }
    }

    /// Drops lanes that have been idle for long; their values are in the store.
    fn passivate(&mut self, myself: &ActorRef<ShardMessage>) {
        self.passivation_runs = false;
        let idle_for = u32::try_from(self.passivate_after.as_secs())
            .unwrap_or(u32::MAX)
            .max(1);
        if let Some(second) = self.second().checked_sub(idle_for) {
            let before = self.lanes.len();
            self.lanes.retain(|_, lane| !lane.is_idle_since(second + 1));
            let dropped = before - self.lanes.len();
            if dropped > 0 {
                tracing::debug!(dropped, kept = self.lanes.len(), "idle lanes passivated");
            }
            if self.lanes.len() * 4 < self.lanes.capacity() {
                self.lanes.shrink_to_fit();
            }
        }
        if !self.lanes.is_empty() {
            self.passivate_later(myself);
        }
    }
}

fn key_of(work: &Work) -> Option<&LaneKey> {
    match work {
        Work::Event { flight, .. } => flight.cx().lane.as_ref().map(|lane| &lane.key),
        Work::Inbound(turn) => Some(&turn.key),
    }
}

/// Says to the shard that a lane is free, when dropped; an actor that sits there by then and did
/// not start what ran takes no notice.
struct EndedMessage {
    key: Option<LaneKey>,
    life: u64,
    shard: Arc<Shard>,
}

impl Drop for EndedMessage {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            // A shard that is gone has no busy lane either.
            drop(self.shard.seat.cast(ShardMessage::Ended(key, self.life)));
        }
    }
}

/// A handler that had to wait, until it is done or its caller's limits are reached.
async fn go_on(mut flight: Flight, route: Arc<Route>, work: Watched, then: EndedMessage) {
    let (_, call) = flight.parts();
    let ended = guarded(work, call).await;
    finish(flight, &route, ended);
    drop(then);
}

/// A handler on a pool of its own, from its first line on; until a thread of the pool is free it
/// counts among the events that wait.
async fn run_on_pool(mut flight: Flight, route: Arc<Route>, waiting: Waiting, then: EndedMessage) {
    drop(waiting);
    if flight.is_abandoned() {
        return flight.finish(Failure::Cancelled.into());
    }
    if flight.deadline() <= Instant::now() {
        return flight.finish(Failure::Deadline.into());
    }
    if !flight.mark_started() {
        return;
    }
    let started = catch_unwind(AssertUnwindSafe(|| route.handler.call(flight.cx_mut())));
    let ended = match started {
        Ok(work) => {
            let (_, call) = flight.parts();
            guarded(work, call).await
        }
        Err(panic) => Ended::Panicked(panic_message(panic.as_ref())),
    };
    finish(flight, &route, ended);
    drop(then);
}

/// The handler has ended: the outcome is checked and goes back.
fn finish(mut flight: Flight, route: &Route, ended: Ended<Outcome>) {
    let outcome = match ended {
        Ended::Done(mut outcome) => {
            let cx = flight.cx();
            crate::answer::gate(cx.kind(), cx.is_json_client(), &mut outcome);
            match crate::answer::fault(&outcome) {
                Some(cause) if matches!(outcome, Outcome::Reject(_)) => Failure::Internal {
                    place: route.place(),
                    cause,
                }
                .into(),
                _ => outcome,
            }
        }
        Ended::Panicked(message) => Failure::Panic {
            place: route.place(),
            message,
        }
        .into(),
        Ended::Deadline => Failure::Deadline.into(),
        Ended::Cancelled => Failure::Cancelled.into(),
    };
    flight.cx_mut().handler_ended(&outcome);
    flight.finish(outcome);
}

/// Says to the watchdog whose code is being polled.
struct Watched {
    work: HandlerFuture,
    beat: Arc<Beat>,
    activity: Activity,
}

impl Future for Watched {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let this = &mut *self;
        let _busy = this.beat.enter(this.activity);
        this.work.as_mut().poll(cx)
    }
}

fn cast_at(myself: &ActorRef<ShardMessage>, at: Instant, message: fn() -> ShardMessage) {
    let myself = myself.clone();
    tokio::spawn(async move {
        tokio::time::sleep_until(at).await;
        // A shard that is gone has nothing to be reminded of.
        drop(myself.cast(message()));
    });
}
