//! The pipeline: one actor per interceptor and core, and the chains of them that events pass.

mod roster;

pub(crate) use roster::{Lease, Roster};

use crate::engine::flight::Flight;
use crate::engine::guard::Ended;
use crate::engine::loose::Loose;
use crate::engine::seat::{Refused, Seat};
use crate::engine::shared::Shared;
use crate::interceptor::{AnyInterceptor, Flow, HalfSlot};
use crate::metrics::cells::EventCounts;
use crate::metrics::stages::{Half, Sampler, StageCounts, Timer};
use crate::outcome::Unavailable;
use crate::watchdog::{Activity, Beat};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::task::AbortHandle;

/// What a stage actor is sent.
#[derive(Debug)]
pub(crate) enum StageMessage {
    /// An event on its way in.
    Before(Flight),
    /// An event on its way out.
    After(Flight),
}

/// A stage on one core, as senders see it.
pub(crate) struct Stage {
    name: Arc<str>,
    interceptor: Arc<dyn AnyInterceptor>,
    has_after: bool,
    activity: Activity,
    /// What it counts, unless nothing is.
    counts: Option<Arc<StageCounts>>,
    /// Where its actor sits.
    pub(crate) seat: Seat<StageMessage>,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Stage {
    /// A stage whose actor is not running yet.
    pub(crate) fn new(
        name: Arc<str>,
        interceptor: Arc<dyn AnyInterceptor>,
        activity: Activity,
        counts: Option<Arc<StageCounts>>,
    ) -> Self {
        let has_after = interceptor.has_after();
        Self {
            name,
            interceptor,
            has_after,
            activity,
            counts,
            seat: Seat::default(),
        }
    }

    /// The name in `node.toml`, `explain`, logs and metrics.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What it counts on its core.
    pub(crate) const fn counts(&self) -> Option<&Arc<StageCounts>> {
        self.counts.as_ref()
    }

    /// Whether it is this interceptor under this name.
    pub(crate) fn is(&self, name: &str, interceptor: &Arc<dyn AnyInterceptor>) -> bool {
        *self.name == *name && Arc::ptr_eq(&self.interceptor, interceptor)
    }

    /// Whether outcomes have to come by.
    pub(crate) const fn has_after(&self) -> bool {
        self.has_after
    }

    /// Hands an event to the stage's actor.
    pub(crate) fn cast(&self, message: StageMessage) {
        match self.seat.cast(message) {
            Ok(()) => {}
            // On the way out a stage that is gone is passed by: the outcome stands.
            Err(
                Refused::Parked(StageMessage::After(flight))
                | Refused::Closed(StageMessage::After(flight)),
            ) => flight.go_back(),
            Err(Refused::Parked(StageMessage::Before(flight))) => {
                flight.refuse(Unavailable::Parked);
            }
            Err(Refused::Closed(StageMessage::Before(flight))) => {
                flight.refuse(Unavailable::Draining);
            }
        }
    }
}

/// The stages of one route on one core, outermost first, and where that core counts its events. An
/// event keeps its chain to the end, and the chain keeps its stages running.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    stages: Vec<(Arc<Stage>, Arc<Lease>)>,
    counts: Option<Arc<EventCounts>>,
}

impl Chain {
    /// A chain of these stages.
    pub(crate) fn new(leases: Vec<Arc<Lease>>, counts: Option<Arc<EventCounts>>) -> Self {
        let leases = leases.into_iter();
        let stages = leases.map(|lease| (Arc::clone(lease.stage()), lease));
        Self {
            stages: stages.collect(),
            counts,
        }
    }

    /// Number of stages.
    pub(crate) const fn len(&self) -> usize {
        self.stages.len()
    }

    /// One stage, counted from the outermost.
    pub(crate) fn stage(&self, index: usize) -> &Arc<Stage> {
        &self.stages[index].0
    }

    /// Where its events count, unless nothing is counted.
    pub(crate) const fn counts(&self) -> Option<&Arc<EventCounts>> {
        self.counts.as_ref()
    }
}

/// The actor of a stage: polls each half once where it stands and sets waiting ones aside.
#[derive(Debug)]
pub(crate) struct StageActor;

/// What a stage actor needs.
#[derive(Debug)]
pub(crate) struct StageArgs {
    /// The stage.
    pub(crate) stage: Arc<Stage>,
    /// Where it says what it is doing.
    pub(crate) beat: Arc<Beat>,
    /// What all share.
    pub(crate) shared: Arc<Shared>,
}

/// Reusable allocations for the futures of the two halves.
pub(crate) struct StageState {
    stage: Arc<Stage>,
    beat: Arc<Beat>,
    sampler: Sampler,
    before: HalfSlot<Flow>,
    after: HalfSlot<()>,
    waiting: Loose,
}

impl Actor for StageActor {
    type Msg = StageMessage;
    type State = StageState;
    type Arguments = StageArgs;

    async fn pre_start(
        &self,
        _: ActorRef<StageMessage>,
        args: StageArgs,
    ) -> Result<StageState, ActorProcessingErr> {
        let StageArgs {
            stage,
            beat,
            shared,
        } = args;
        Ok(StageState {
            stage,
            beat,
            sampler: Sampler::default(),
            before: HalfSlot::new(pending()),
            after: HalfSlot::new(pending()),
            waiting: Loose::new(shared),
        })
    }

    async fn handle(
        &self,
        _: ActorRef<StageMessage>,
        message: StageMessage,
        state: &mut StageState,
    ) -> Result<(), ActorProcessingErr> {
        let mut message = Some(message);
        poll_fn(|cx| {
            if let Some(message) = message.take() {
                state.handle(message, cx);
            }
            Poll::Ready(())
        })
        .await;
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<StageMessage>,
        _: ractor::SupervisionEvent,
        _: &mut StageState,
    ) -> Result<(), ActorProcessingErr> {
        // A stage has no children.
        Ok(())
    }
}

impl StageState {
    fn handle(&mut self, message: StageMessage, cx: &mut Context<'_>) {
        let interceptor = Arc::clone(&self.stage.interceptor);
        let activity = self.stage.activity;
        let _busy = self.beat.enter(activity);
        match message {
            StageMessage::Before(mut flight) => {
                flight.half_begins(&self.stage.name, Half::Before);
                let timer = self.sampler.start(self.stage.counts(), Half::Before);
                interceptor.before(flight, &mut self.before);
                let task = run(
                    &mut self.before,
                    cx,
                    timer,
                    Flight::after_before,
                    &self.beat,
                    activity,
                );
                self.waiting.add(task);
            }
            StageMessage::After(mut flight) => {
                flight.half_begins(&self.stage.name, Half::After);
                let timer = self.sampler.start(self.stage.counts(), Half::After);
                interceptor.after(flight, &mut self.after);
                let task = run(
                    &mut self.after,
                    cx,
                    timer,
                    Flight::after_after,
                    &self.beat,
                    activity,
                );
                self.waiting.add(task);
            }
        }
    }
}

/// Polls a half once; one that has to wait goes on in a task of its own, which is answered.
fn run<T: Send + 'static>(
    slot: &mut HalfSlot<T>,
    cx: &mut Context<'_>,
    timer: Option<Timer>,
    then: fn(Flight, Ended<T>),
    beat: &Arc<Beat>,
    activity: Activity,
) -> Option<AbortHandle> {
    match slot.poll(cx) {
        Poll::Ready((flight, ended)) => {
            stop(timer);
            then(flight, ended);
            None
        }
        Poll::Pending => {
            let mut waiting = std::mem::replace(slot, HalfSlot::new(pending()));
            let beat = Arc::clone(beat);
            let task = tokio::spawn(async move {
                let (flight, ended) = poll_fn(|cx| {
                    let _busy = beat.enter(activity);
                    waiting.poll(cx)
                })
                .await;
                stop(timer);
                then(flight, ended);
            });
            Some(task.abort_handle())
        }
    }
}

fn stop(timer: Option<Timer>) {
    if let Some(timer) = timer {
        timer.stop();
    }
}
