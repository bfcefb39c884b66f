//! How an event runs in a shard: its start, its way as a task where it has to wait, its end.

use crate::engine::flight::Flight;
use crate::engine::guard::{Ended, drop_caught, guarded, panic_message, poll_caught};
use crate::engine::plan::Route;
use crate::engine::shared::Shared;
use crate::handler::HandlerFuture;
use crate::outcome::{Failure, Outcome, Unavailable};
use crate::region::gate::{
    LOOK_AGAIN, Leave, Tie, Tied, bounce, go, leave, leave_untied, may_leave, stopped, verdict,
};
use crate::region::lane::{LaneState, Running};
use crate::region::shard::{Shard, ShardMessage, ShardState, Waiting};
use crate::routing::key::LaneKey;
use crate::watchdog::{Activity, Beat};
use centripeta_cluster::peer::Verdict;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::Instant;

impl ShardState {
    /// Calls the handler of an event; answers the task in which it goes on, if it has to wait, and
    /// the state of the lane.
    pub(super) fn run_event(
        &mut self,
        key: Option<&LaneKey>,
        mut flight: Flight,
        route: Arc<Route>,
        waiting: Waiting,
        kept: Option<LaneState>,
        cx: &mut Context<'_>,
    ) -> (Option<Running>, Option<LaneState>) {
        if flight.is_abandoned() {
            flight.finish(Failure::Cancelled.into());
            return (None, kept);
        }
        if flight.deadline() <= Instant::now() {
            flight.finish(Failure::Deadline.into());
            return (None, kept);
        }
        if let Some(pool) = &route.pool {
            let (tie, stop) = Tie::of(&flight).unzip();
            let ended = self.ended_message(key);
            let on_pool = Arc::clone(&route);
            let task = pool.spawn(run_on_pool(flight, on_pool, waiting, ended, tie));
            return (Some(Running::new(task.abort_handle(), stop)), kept);
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
                return (self.finish(key, flight, &route, ended), state);
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
                let (tie, stop) = Tie::of(&flight).unzip();
                let ended = self.ended_message(key);
                let task = tokio::spawn(go_on(flight, route, work, ended, tie));
                return (Some(Running::new(task.abort_handle(), stop)), state);
            }
        };
        drop_caught(|| drop(work));
        (self.finish(key, flight, &route, ended), state)
    }

    /// The handler has ended without having had to wait: its outcome goes back, or waits for the
    /// lease in the task that is answered.
    fn finish(
        &self,
        key: Option<&LaneKey>,
        mut flight: Flight,
        route: &Route,
        ended: Ended<Outcome>,
    ) -> Option<Running> {
        let outcome = checked(&mut flight, route, ended);
        let place = flight
            .cx()
            .lane
            .as_ref()
            .map(|lane| (lane.slot, lane.epoch));
        let Some((slot, epoch)) = place else {
            leave_untied(flight, outcome);
            return None;
        };
        let may = match &outcome {
            Outcome::Failure(_) => Leave::Now,
            _ => may_leave(&self.shared, slot, epoch),
        };
        match may {
            Leave::Now => go(flight, outcome),
            Leave::Never => {
                drop_caught(|| drop(outcome));
                stopped(flight, Unavailable::Lost);
            }
            Leave::Later => {
                let (tie, stop) = Tie::of(&flight).unzip();
                let then = self.ended_message(key);
                let task = tokio::spawn(async move {
                    leave(flight, outcome, tie).await;
                    drop(then);
                });
                return Some(Running::new(task.abort_handle(), stop));
            }
        }
        None
    }

    /// Says that what runs in a lane has ended, when dropped.
    pub(super) fn ended_message(&self, key: Option<&LaneKey>) -> EndedMessage {
        EndedMessage {
            key: key.cloned(),
            life: self.life,
            shard: Arc::clone(&self.shard),
        }
    }
}

/// Says to the shard that a lane is free, when dropped; an actor that sits there by then and did
/// not start what ran takes no notice.
pub(super) struct EndedMessage {
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

/// A handler that had to wait, until it is done or its limits are reached.
async fn go_on(
    mut flight: Flight,
    route: Arc<Route>,
    work: Watched,
    then: EndedMessage,
    mut tie: Option<Tie>,
) {
    let (_, call) = flight.parts();
    let limits = &mut Tied {
        call,
        tie: tie.as_mut(),
    };
    let ended = guarded(work, limits).await;
    let outcome = checked(&mut flight, &route, ended);
    leave(flight, outcome, tie).await;
    drop(then);
}

/// A handler on a pool of its own, from its first line on; until a thread of the pool is free it
/// counts among the events that wait.
async fn run_on_pool(
    mut flight: Flight,
    route: Arc<Route>,
    waiting: Waiting,
    then: EndedMessage,
    mut tie: Option<Tie>,
) {
    drop(waiting);
    if let Some(tie) = &mut tie {
        match admitted(flight, &then.shard, tie).await {
            Some(admitted) => flight = admitted,
            None => return,
        }
    }
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
            let limits = &mut Tied {
                call,
                tie: tie.as_mut(),
            };
            guarded(work, limits).await
        }
        Err(panic) => Ended::Panicked(panic_message(panic.as_ref())),
    };
    let outcome = checked(&mut flight, &route, ended);
    leave(flight, outcome, tie).await;
    drop(then);
}

/// Asks once more whether an event may start, now that a thread is there for it; one that may not
/// is sent back or answered.
async fn admitted(mut flight: Flight, shard: &Shard, tie: &mut Tie) -> Option<Flight> {
    let shared: Arc<Shared> = Arc::clone(flight.shared());
    let (slot, leg) = flight
        .cx()
        .lane
        .as_ref()
        .map(|lane| (lane.slot, lane.leg))?;
    loop {
        match verdict(shard, &shared, slot, leg) {
            Verdict::Run(epoch) => {
                tie.set_epoch(epoch);
                if let Some(lane) = &mut flight.cx_mut().lane {
                    lane.epoch = epoch;
                }
                return Some(flight);
            }
            Verdict::Bounce(reason) => {
                bounce(shard, flight, reason);
                return None;
            }
            Verdict::Wait if flight.deadline() <= Instant::now() => return Some(flight),
            Verdict::Wait => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// The handler has ended: its outcome, checked.
fn checked(flight: &mut Flight, route: &Route, ended: Ended<Outcome>) -> Outcome {
    let outcome = match ended {
        Ended::Done(mut outcome) => {
            let cx = flight.cx();
            crate::answer::gate(cx.kind(), cx.is_json_client(), &mut outcome);
            crate::answer::settle(&mut outcome, || route.place());
            outcome
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
    outcome
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
