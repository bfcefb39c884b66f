//! Restart policy, which ractor leaves to its users: back-off, an intensity limit, then parking.
//!
//! A supervisor starts its children and, one for one, starts a failed child again after a pause
//! that doubles. A child that fails more than five times in ten seconds is parked: its seat refuses
//! what comes, and it is tried again every thirty seconds. One poisonous event never ends the node.

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::VecDeque;
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

/// A child: how it is started, and what its seat is told.
pub(crate) struct Child {
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
    /// Start the child with this index.
    Start(usize),
}

/// The actor that keeps its children running; see the module's text.
#[derive(Debug)]
pub(crate) struct Supervisor;

/// A supervisor's children and their past.
#[derive(Debug)]
pub(crate) struct SupervisorState {
    children: Vec<(Child, History, Option<ActorId>)>,
}

impl SupervisorState {
    async fn start(&mut self, myself: &ActorRef<SupervisorMessage>, index: usize) {
        let Some((child, _, running)) = self.children.get_mut(index) else {
            return;
        };
        match (child.start)(myself.get_cell()).await {
            Ok(actor) => *running = Some(actor.get_id()),
            Err(error) => {
                tracing::error!(child = child.name, %error, "an actor did not start");
                self.failed(myself, index);
            }
        }
    }

    fn failed(&mut self, myself: &ActorRef<SupervisorMessage>, index: usize) {
        let (child, history, running) = &mut self.children[index];
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
            drop(myself.cast(SupervisorMessage::Start(index)));
        });
    }

    fn index_of(&self, actor: ActorId) -> Option<usize> {
        self.children
            .iter()
            .position(|(_, _, running)| *running == Some(actor))
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
        let children: Vec<_> = children
            .into_iter()
            .map(|child| (child, History::default(), None))
            .collect();
        let mut state = SupervisorState { children };
        for index in 0..state.children.len() {
            state.start(&myself, index).await;
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
            SupervisorMessage::Start(index) => state.start(&myself, index).await,
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
        if let Some(index) = state.index_of(actor.get_id()) {
            tracing::debug!(child = state.children[index].0.name, why, "an actor ended");
            state.failed(&myself, index);
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
