//! Events that another node has: their answers, their deadlines, callers that leave meanwhile.
//!
//! Nearly every answer comes within moments. So nothing is set up for the wait of a single event: the
//! links put answers into a box of the core that sent the event, and one task of that core empties it.
//! Only an event that is still out after [`WATCH_AFTER`] gets a task of its own, which looks after its
//! deadline and its caller.

use crate::engine::flight::Flight;
use crate::engine::guard::Limits as _;
use crate::forward::held::{Event, HoldCore};
use crate::forward::{Forward, WAY_HOME, lock, message, outcome, stream};
use crate::outcome::{Failure, Outcome, Unavailable};
use centripeta_cluster::Member;
use centripeta_cluster::hold::Ticket;
use centripeta_cluster::peer::{
    Answered, Answers, CATCH_UP, Mark, NotHere, Outcome as LinkOutcome, Reason, Reply,
    RequestError, Sent,
};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

/// An event that is out for so long is watched by a task of its own; until then nobody looks whether
/// its caller is still there.
const WATCH_AFTER: Duration = Duration::from_millis(20);

/// Answers of other nodes to events of a core, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct AnswerBox {
    come: Mutex<Vec<(Mark, Result<Answered, RequestError>)>>,
    wake: Notify,
}

impl Answers for AnswerBox {
    fn come(&self, mark: Mark, answer: Result<Answered, RequestError>) {
        let mut come = lock(&self.come);
        come.push((mark, answer));
        let first = come.len() == 1;
        drop(come);
        if first {
            self.wake.notify_one();
        }
    }
}

/// Hands on what comes into the box of a core.
pub(super) async fn empty(forward: Weak<Forward>, core: usize, answers: Arc<AnswerBox>) {
    loop {
        answers.wake.notified().await;
        let come = std::mem::take(&mut *lock(&answers.come));
        let Some(forward) = forward.upgrade() else {
            return;
        };
        for (mark, answer) in come {
            forward.came(core, mark, answer);
        }
    }
}

/// Events that nobody watches yet, by when that is due.
#[derive(Debug, Default)]
pub(super) struct Unwatched(VecDeque<(Duration, Mark, Sent, Instant)>);

impl Unwatched {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next of those that are due.
    fn next(&mut self, now: Duration) -> Option<(Mark, Sent, Instant)> {
        self.0.front().filter(|(due, ..)| *due <= now)?;
        let (_, mark, sent, deadline) = self.0.pop_front()?;
        Some((mark, sent, deadline))
    }
}

/// The task that watches an event; dropped, it ends.
#[derive(Debug)]
pub(super) struct Watch(AbortHandle);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Forward {
    /// An event was sent: should it stay out, it will be watched.
    pub(super) fn watch_soon(
        self: &Arc<Self>,
        core: usize,
        mark: Mark,
        sent: Sent,
        deadline: Instant,
    ) {
        let now = Instant::now();
        if deadline < now + 2 * WATCH_AFTER {
            return self.watch(core, mark, sent, deadline);
        }
        let due = now.saturating_duration_since(self.started) + WATCH_AFTER;
        self.act(core, |state| {
            state.unwatched.0.push_back((due, mark, sent, deadline));
            Vec::new()
        });
    }

    /// Watches what is out for long.
    pub(super) fn watch_due(self: &Arc<Self>, core: usize) {
        let now = self.now();
        loop {
            let mut due = None;
            let mut is_out = false;
            self.act(core, |state| {
                due = state.unwatched.next(now);
                if let Some((mark, ..)) = &due {
                    is_out = state.events.contains_key(&Ticket(mark.id));
                }
                Vec::new()
            });
            let Some((mark, sent, deadline)) = due else {
                return;
            };
            if is_out {
                self.watch(core, mark, sent, deadline);
            }
        }
    }

    fn watch(self: &Arc<Self>, core: usize, mark: Mark, sent: Sent, deadline: Instant) {
        let Some(handle) = self.handles.get(core) else {
            return;
        };
        let this = Arc::clone(self);
        let task = handle.spawn(async move { this.look_after(core, mark, &sent, deadline).await });
        let watch = task.abort_handle();
        self.act(core, |state| {
            // Where the event waits for another request by now, the end of this one is awaited all
            // the same: the link keeps what it sent until then.
            if let Some(event) = out(state.events.get_mut(&Ticket(mark.id)), mark) {
                event.watch = Some(Watch(watch));
            }
            Vec::new()
        });
    }

    /// At the deadline of an event its caller is answered; then, and when the caller goes, the other
    /// node is told. In the hold the event counts as unanswered for as long as it may still run.
    async fn look_after(self: &Arc<Self>, core: usize, mark: Mark, sent: &Sent, deadline: Instant) {
        let failure = tokio::select! {
            biased;
            () = poll_fn(|cx| self.poll_gone(core, mark, cx)) => Failure::Cancelled,
            () = sleep_until(deadline) => Failure::Deadline,
        };
        sent.cancel();
        self.let_go(core, mark, failure);
        sleep_until(deadline + WAY_HOME).await;
        sent.give_up();
        self.answered(core, mark, |_| Failure::Deadline.into());
    }

    /// What became of an event that another node had.
    fn came(self: &Arc<Self>, core: usize, mark: Mark, answer: Result<Answered, RequestError>) {
        let sent_to = |hold: &HoldCore| {
            let mut state = lock(&hold.state);
            out(state.events.get_mut(&Ticket(mark.id)), mark)?.to
        };
        let Some(to) = self.holds.get(core).and_then(sent_to) else {
            return;
        };
        match answer {
            Ok(Answered::Reply(reply)) => self.replied(core, mark, to, reply),
            Ok(Answered::Stream(open)) => {
                self.heard_load(to.id, open.load);
                if !self.is_heeded(to) {
                    return self.lost(core, mark, true);
                }
                let runtime = self.handles[core].clone();
                self.answered(core, mark, |flight| {
                    stream::accepted(open, flight.cx_mut().inbound.take(), &runtime)
                });
            }
            Err(RequestError::Gone { may_have_started }) => self.lost(core, mark, may_have_started),
            Err(_) => self.answered(core, mark, |_| Failure::Deadline.into()),
        }
    }

    fn replied(self: &Arc<Self>, core: usize, mark: Mark, to: Member, reply: Reply) {
        let Reply {
            outcome,
            load,
            payload,
        } = reply;
        self.heard_load(to.id, load);
        if !self.is_heeded(to) {
            let started = matches!(outcome, LinkOutcome::Answered | LinkOutcome::Dropped);
            return self.lost(core, mark, started);
        }
        match outcome {
            LinkOutcome::Answered => {
                self.answered(core, mark, |flight| {
                    outcome::decode(flight.cx().kind(), payload)
                });
            }
            LinkOutcome::Expired => self.answered(core, mark, |_| Failure::Deadline.into()),
            LinkOutcome::Dropped => {
                let lost = |_: &mut Flight| Failure::Unavailable(Unavailable::LostPeer).into();
                self.answered(core, mark, lost);
            }
            LinkOutcome::NotStarted => {
                let unsaid = || self.not_here(Reason::Behind);
                let why = message::decode_not_here(payload).unwrap_or_else(unsaid);
                self.sent_back(core, mark, to, why);
            }
        }
    }

    /// An event came back unstarted. One that met a wrong owner waits for the table that says so.
    fn sent_back(self: &Arc<Self>, core: usize, mark: Mark, from: Member, why: NotHere) {
        let waits = why.reason == Reason::WrongOwner
            && self.standing().shown().table.version() < why.version;
        match self.handles.get(core).filter(|_| waits) {
            None => self.bounced(core, mark, from, &why),
            Some(handle) => {
                let this = Arc::clone(self);
                handle.spawn(async move {
                    // Late or not, the hold waits for the table from then on.
                    let caught_up = this.standing().reached(why.version);
                    drop(tokio::time::timeout(CATCH_UP, caught_up).await);
                    this.bounced(core, mark, from, &why);
                });
            }
        }
    }

    /// The node that had an event has answered it.
    pub(super) fn answered(
        self: &Arc<Self>,
        core: usize,
        mark: Mark,
        outcome: impl FnOnce(&mut Flight) -> Outcome,
    ) {
        let ticket = Ticket(mark.id);
        let mut answered = None;
        self.act(core, |state| {
            if out(state.events.get_mut(&ticket), mark).is_none() {
                return Vec::new();
            }
            answered = state.events.remove(&ticket).and_then(|event| event.flight);
            state.hold.answered(ticket)
        });
        if let Some(mut flight) = answered {
            let outcome = outcome(&mut flight);
            flight.finish(outcome);
        }
    }

    /// Ready once the caller of an event that another node has is gone.
    fn poll_gone(&self, core: usize, mark: Mark, cx: &mut Context<'_>) -> Poll<()> {
        let Some(hold) = self.holds.get(core) else {
            return Poll::Pending;
        };
        let mut state = lock(&hold.state);
        let event = out(state.events.get_mut(&Ticket(mark.id)), mark);
        match event.and_then(|event| event.flight.as_mut()) {
            Some(flight) => flight.parts().1.poll_gone(cx),
            None => Poll::Pending,
        }
    }

    /// The deadline of an event has passed at its ingress, or its caller is gone.
    fn let_go(self: &Arc<Self>, core: usize, mark: Mark, failure: Failure) {
        if matches!(failure, Failure::Cancelled) {
            self.counts.cancelled.add_one();
        }
        let mut late = None;
        self.act(core, |state| {
            let event = out(state.events.get_mut(&Ticket(mark.id)), mark);
            late = event.and_then(|event| event.flight.take());
            Vec::new()
        });
        if let Some(flight) = late {
            flight.finish(failure.into());
        }
    }
}

/// The event, while it waits for what was asked under this mark.
fn out(event: Option<&mut Event>, mark: Mark) -> Option<&mut Event> {
    event.filter(|event| event.attempt == mark.attempt)
}
