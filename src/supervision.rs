//! Restart policy, which ractor leaves to its users: back-off, an intensity limit, then parking.
//!
//! A supervisor starts its children and, one for one, starts a failed child again after a pause
//! that doubles. A child that fails more than five times in ten seconds is parked: its seat refuses
//! what comes, and it is tried again every thirty seconds. One poisonous event never ends the node.
//! Children may be added and removed while it runs.

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Instant;

/// Failures within [`WINDOW`] after which a child is parked.
const INTENSITY: usize = 5;
/// See [`INTENSITY`].
const WINDOW: Duration = Duration::from_secs(10);
/// Pause before the first restart.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The pause doubles up to this one.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Pause before a parked child is tried again.
const PARKED_PAUSE: Duration = Duration::from_secs(30);

/// Starts a child under a supervisor.
pub(crate) type Start = Box<
    dyn Fn(ActorCell) -> Pin<Box<dyn Future<Output = Result<ActorCell, ractor::SpawnErr>> + Send>>
        + Send
        + Sync,
>;

/// Tells the children of one supervisor apart; never given twice.
pub(crate) type ChildId = u64;

/// A child: how it is started, and what its seat is told.
pub(crate) struct Child {
    /// Which of the supervisor's children it is.
    pub(crate) id: ChildId,
    /// For logs.
    pub(crate) name: String,
    /// Starts the actor and seats it.
    pub(crate) start: Start,
    /// Told when the actor is gone and another will come.
    pub(crate) vacate: Box<dyn Fn() + Send + Sync>,
    /// Told when the actor is gone for longer.
    pub(crate) park: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What a failure of a child asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Start it again after a pause.
    Restart(Duration),
    /// Refuse what comes for it, and try again after a pause.
    Park(Duration),
}

/// The failures of one child; decides, and does nothing.
#[derive(Debug, Default)]
pub(crate) struct History(VecDeque<Instant>);

impl History {
    /// A failure at `now`.
    pub(crate) fn failed(&mut self, now: Instant) -> Decision {
        while self
            .0
            .front()
            .is_some_and(|first| now.duration_since(*first) >= WINDOW)
        {
            self.0.pop_front();
        }
        self.0.push_back(now);
        let failures = self.0.len();
        if failures > INTENSITY {
            return Decision::Park(PARKED_PAUSE);
        }
        let doubled = FIRST_PAUSE * 2_u32.pow(failures as u32 - 1);
        Decision::Restart(doubled.min(LONGEST_PAUSE))
    }
}

/// What a supervisor is sent.
#[derive(Debug)]
pub(crate) enum SupervisorMessage {
    /// Start this child.
    Start(ChildId),
    /// Take a child in and start it; one that is there already stays as it is.
    Add(Child),
    /// End this child and forget it.
    Remove(ChildId),
}

/// The actor that keeps its children running; see the module's text.
#[derive(Debug)]
pub(crate) struct Supervisor;

/// A child and its past.
#[derive(Debug)]
struct Kept {
    child: Child,
    history: History,
    running: Option<ActorCell>,
}

impl Kept {
    fn new(child: Child) -> Self {
        Self {
            child,
            history: History::default(),
            running: None,
        }
    }
}

/// A supervisor's children and their past.
#[derive(Debug, Default)]
pub(crate) struct SupervisorState {
    children: BTreeMap<ChildId, Kept>,
}

impl SupervisorState {
    async fn start(&mut self, myself: &ActorRef<SupervisorMessage>, id: ChildId) {
        // One that was removed during its pause is not started again.
        let Some(kept) = self.children.get_mut(&id) else {
            return;
        };
        if kept.running.is_some() {
            return;
        }
        match (kept.child.start)(myself.get_cell()).await {
            Ok(actor) => kept.running = Some(actor),
            Err(error) => {
                tracing::error!(child = kept.child.name, %error, "an actor did not start");
                self.failed(myself, id);
            }
        }
    }

    async fn add(&mut self, myself: &ActorRef<SupervisorMessage>, child: Child) {
        let id = child.id;
        self.children.entry(id).or_insert_with(|| Kept::new(child));
        self.start(myself, id).await;
    }

    fn remove(&mut self, id: ChildId) {
        if let Some(actor) = self.children.remove(&id).and_then(|kept| kept.running) {
            actor.stop(None);
        }
    }

    fn failed(&mut self, myself: &ActorRef<SupervisorMessage>, id: ChildId) {
        let Some(kept) = self.children.get_mut(&id) else {
            return;
        };
        let Kept {
            child,
            history,
            running,
        } = kept;
        *running = None;
        let pause = match history.failed(Instant::now()) {
            Decision::Restart(pause) => {
                (child.vacate)();
                tracing::warn!(
                    child = child.name,
                    ?pause,
                    "an actor failed and is restarted"
                );
                pause
            }
            Decision::Park(pause) => {
                (child.park)();
                tracing::error!(
                    child = child.name,
                    ?pause,
                    "an actor failed too often and is parked: what it would run is answered as \
                     unavailable until the next trial"
                );
                pause
            }
        };
        let myself = myself.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            // A supervisor that has stopped restarts nobody.
            drop(myself.cast(SupervisorMessage::Start(id)));
        });
    }

    /// The child that runs as this actor; none if it was removed.
    fn id_of(&self, actor: ActorId) -> Option<ChildId> {
        let runs = |kept: &Kept| kept.running.as_ref().map(ActorCell::get_id) == Some(actor);
        let mut all = self.children.iter();
        all.find(|(_, kept)| runs(kept)).map(|(id, _)| *id)
    }
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = SupervisorState;
    type Arguments = Vec<Child>;

    async fn pre_start(
        &self,
        myself: ActorRef<SupervisorMessage>,
        children: Vec<Child>,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        let mut state = SupervisorState::default();
        for child in children {
            state.add(&myself, child).await;
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<SupervisorMessage>,
        message: SupervisorMessage,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::Start(id) => state.start(&myself, id).await,
            SupervisorMessage::Add(child) => state.add(&myself, child).await,
            SupervisorMessage::Remove(id) => state.remove(id),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SupervisorMessage>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, why) = match event {
            SupervisionEvent::ActorTerminated(actor, _, why) => (actor, why.unwrap_or_default()),
            SupervisionEvent::ActorFailed(actor, error) => (actor, error.to_string()),
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {
                return Ok(());
            }
        };
        if let Some(id) = state.id_of(actor.get_id()) {
            if let Some(kept) = state.children.get(&id) {
                tracing::debug!(child = kept.child.name, why, "an actor ended");
            }
            state.failed(&myself, id);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_the_sixth_failure_in_ten_seconds_parks() {
        let mut history = History::default();
        let now = Instant::now();
        let pauses: Vec<Decision> = (0..6).map(|_| history.failed(now)).collect();
        let restart = |millis| Decision::Restart(Duration::from_millis(millis));
        assert_eq!(
            pauses,
            [
                restart(10),
                restart(20),
                restart(40),
                restart(80),
                restart(160),
                Decision::Park(Duration::from_secs(30)),
            ]
        );
    }

    #[test]
    fn failures_that_are_ten_seconds_old_are_forgotten() {
        let mut history = History::default();
        let start = Instant::now();
        for second in 0..20 {
            let decision = history.failed(start + Duration::from_secs(3 * second));
            assert!(
                matches!(decision, Decision::Restart(_)),
                "at {second}: {decision:?}"
            );
        }
    }

    #[test]
    fn a_parked_child_that_fails_its_trial_is_parked_again_only_within_the_window() {
        let mut history = History::default();
        let start = Instant::now();
        for _ in 0..6 {
            history.failed(start);
        }
        let after_trial = history.failed(start + PARKED_PAUSE);
        assert_eq!(after_trial, Decision::Restart(FIRST_PAUSE));
    }
}
