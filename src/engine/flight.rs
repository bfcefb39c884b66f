//! An event under way: its context, the stages it has to pass, and whoever waits for the answer.
//!
//! A flight is never lost. It travels as a message; if a mailbox dies with it, its drop sends it
//! again (not started yet, once) or answers *unavailable* (started). So every event gets exactly one
//! answer, whatever dies.

use crate::cx::Cx;
use crate::engine::guard::{Ended, Limits, drop_caught};
use crate::engine::shared::{CoreId, Shared};
use crate::forward::PeerCall;
use crate::interceptor::Flow;
use crate::metrics::stages::{Half, StageCounts};
use crate::outcome::{Failure, Outcome, StreamEnd, StreamEndReason, Unavailable};
use crate::pipeline::{Chain, Stage, StageMessage};
use crate::reply::StreamOpen;
use crate::trace::span::Fault;
use centripeta_cluster::hold::Ticket;
use centripeta_cluster::peer::{NotHere, Reason};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How often an event that had not started is sent again after its actor died.
const RESENDS: u8 = 1;

/// What the caller gets at the end of a flight.
#[derive(Debug)]
pub(crate) enum Landed {
    /// The outcome, behind all `after` halves.
    Done(Outcome),
    /// A stream was accepted: its source, and the flight for when it ends.
    Stream(StreamOpen, Flight),
}

/// Where a flight is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// On its way in, before the handler.
    In,
    /// The handler has been called.
    Started,
    /// On its way out.
    Out,
    /// An accepted stream.
    Open,
}

/// Who waits for the answer.
#[derive(Debug)]
enum Waiter {
    /// A frontend of this node.
    Caller(oneshot::Sender<Landed>),
    /// Another node, which has sent the event here.
    Peer(Box<PeerCall>),
}

/// The waiting side, and when it stops waiting.
#[derive(Debug)]
pub(crate) struct Call {
    reply: Option<Waiter>,
    deadline: Instant,
}

impl Limits for Call {
    fn limit(&self) -> Instant {
        self.deadline
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.reply {
            Some(Waiter::Caller(reply)) => reply.poll_closed(cx),
            Some(Waiter::Peer(call)) => call.poll_gone(cx),
            None => Poll::Pending,
        }
    }
}

/// Limits of an `after` half: it runs for nobody in particular, and for a short time past the
/// deadline.
#[derive(Debug)]
pub(crate) struct AfterLimits {
    deadline: Instant,
    grace: Duration,
}

impl Limits for AfterLimits {
    // Asked for once, by a half that has to wait: the others need no look at the clock.
    fn limit(&self) -> Instant {
        self.deadline.max(Instant::now()) + self.grace
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

#[derive(Debug)]
struct Inner {
    cx: Cx,
    call: Call,
    outcome: Option<Outcome>,
    chain: Arc<Chain>,
    /// Stages passed on the way in; on the way out those still to come.
    stage: usize,
    phase: Phase,
    resends: u8,
    /// Its number in the hold of its core, while its slot's owner has it and that is this node.
    held: Option<Ticket>,
    core: CoreId,
    shared: Arc<Shared>,
}

/// An event under way; see the module's text.
#[derive(Debug)]
pub(crate) struct Flight(Option<Box<Inner>>);

impl Flight {
    /// Starts an event on a core. With a `failure` set before it started (no route, undecodable) it
    /// passes its stages all the same, and the failure stands where the handler would.
    #[inline]
    pub(crate) fn launch(
        cx: Cx,
        failure: Option<Failure>,
        chain: Arc<Chain>,
        core: CoreId,
        shared: Arc<Shared>,
        reply: oneshot::Sender<Landed>,
    ) {
        Self::start(cx, failure, chain, (core, shared), Waiter::Caller(reply));
    }

    /// Starts an event that another node has sent here.
    pub(crate) fn arrive(
        cx: Cx,
        failure: Option<Failure>,
        chain: Arc<Chain>,
        core: CoreId,
        shared: Arc<Shared>,
        peer: Box<PeerCall>,
    ) {
        Self::start(cx, failure, chain, (core, shared), Waiter::Peer(peer));
    }

    #[inline]
    fn start(
        cx: Cx,
        failure: Option<Failure>,
        chain: Arc<Chain>,
        (core, shared): (CoreId, Arc<Shared>),
        waiter: Waiter,
    ) {
        let call = Call {
            reply: Some(waiter),
            deadline: cx.deadline(),
        };
        let outcome = failure.map(Outcome::Failure);
        Self(Some(Box::new(Inner {
            cx,
            call,
            outcome,
            chain,
            stage: 0,
            phase: Phase::In,
            resends: 0,
            held: None,
            core,
            shared,
        })))
        .advance();
    }

    #[allow(
        clippy::expect_used,
        reason = "the option is empty only within a consuming method"
    )]
    fn inner(&mut self) -> &mut Inner {
        self.0
            .as_mut()
            .expect("a flight is whole until it is consumed")
    }

    #[allow(
        clippy::expect_used,
        reason = "the option is empty only within a consuming method"
    )]
    fn view(&self) -> &Inner {
        self.0
            .as_ref()
            .expect("a flight is whole until it is consumed")
    }

    /// The context.
    pub(crate) fn cx(&self) -> &Cx {
        &self.view().cx
    }

    /// The context, to change it.
    pub(crate) fn cx_mut(&mut self) -> &mut Cx {
        &mut self.inner().cx
    }

    /// Context and waiting side, for code that runs on behalf of the caller.
    pub(crate) fn parts(&mut self) -> (&mut Cx, &mut Call) {
        let inner = self.inner();
        (&mut inner.cx, &mut inner.call)
    }

    /// Context and limits for an `after` half.
    pub(crate) fn after_parts(&mut self) -> (&Cx, AfterLimits) {
        let inner = self.inner();
        let limits = AfterLimits {
            deadline: inner.call.deadline,
            grace: inner.shared.limits.after_grace(),
        };
        (&inner.cx, limits)
    }

    /// When the answer is due.
    pub(crate) fn deadline(&self) -> Instant {
        self.view().call.deadline
    }

    /// The core whose stages it passes.
    pub(crate) fn core(&self) -> CoreId {
        self.view().core
    }

    /// What all flights share.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.view().shared
    }

    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(&self.view().call.reply, Some(Waiter::Caller(reply)) if reply.is_closed())
    }

    /// The other node's call, if one has sent the event here.
    pub(crate) fn peer(&self) -> Option<&PeerCall> {
        match &self.view().call.reply {
            Some(Waiter::Peer(call)) => Some(call),
            Some(Waiter::Caller(_)) | None => None,
        }
    }

    /// Its slot's owner, this node, gets it: from now on the hold of its core is told of its end.
    pub(crate) fn hold_as(&mut self, ticket: Ticket) {
        self.inner().held = Some(ticket);
    }

    /// It is sent to another node, where it may have run: lost here, it is not tried again.
    pub(crate) fn send_away(&mut self) {
        self.inner().phase = Phase::Started;
    }

    /// It has certainly not run where it was sent.
    pub(crate) fn come_back(&mut self) {
        self.inner().phase = Phase::In;
    }

    /// The outcome, to be put back by [`Flight::set_outcome`].
    pub(crate) fn take_outcome(&mut self) -> Outcome {
        let crashed = Failure::Unavailable(Unavailable::Crashed);
        self.inner()
            .outcome
            .take()
            .unwrap_or(Outcome::Failure(crashed))
    }

    /// Puts an outcome in.
    pub(crate) fn set_outcome(&mut self, outcome: Outcome) {
        if let Some(replaced) = self.inner().outcome.replace(outcome) {
            drop_caught(|| drop(replaced));
        }
    }

    /// Nobody waits for this flight any more: what stages have left in it is dropped, and may panic.
    fn release(&mut self) {
        if let Some(inner) = self.0.take() {
            drop_caught(|| drop(inner));
        }
    }

    /// From now on the handler may have done something: no second try after a crash. Answers false
    /// if it must not run any more: the link that brought it was replaced and its sender sends it
    /// again, or its sender waits no more and was told so; nobody waits for this flight then, and all that is left to do is to drop it.
    #[must_use]
    pub(crate) fn mark_started(&mut self) -> bool {
        let inner = self.inner();
        if let Some(Waiter::Peer(call)) = &mut inner.call.reply
            && !call.start()
        {
            self.release();
            return false;
        }
        inner.phase = Phase::Started;
        inner.cx.handler_begins();
        true
    }

    /// Gives an event of another node back, if it has not started: this one is at its end. Answers
    /// whether it did; nobody waits for this flight then.
    fn goes_back(&mut self) -> bool {
        let inner = self.inner();
        if inner.phase != Phase::In {
            return false;
        }
        match inner.call.reply.take() {
            Some(Waiter::Peer(call)) => {
                call.give_back();
                self.release();
                true
            }
            reply => {
                inner.call.reply = reply;
                false
            }
        }
    }

    /// The hold of its core hears that the owner has answered, if that is this node.
    fn leave_hold(&mut self) {
        let inner = self.inner();
        if let Some(ticket) = inner.held.take()
            && let Some(forward) = &inner.shared.forward
        {
            forward.answered_here(inner.core.0, ticket);
        }
    }

    /// A half of a stage begins.
    pub(crate) fn half_begins(&mut self, name: &Arc<str>, half: Half) {
        self.cx_mut().trace.half_begins(name, half);
    }

    /// The next stage, or the handler.
    pub(crate) fn advance(mut self) {
        let inner = self.inner();
        if inner.stage == inner.chain.len() {
            return match inner.outcome.take() {
                Some(outcome) => self.finish(outcome),
                None => crate::dispatch::dispatch(self),
            };
        }
        let stage = Arc::clone(inner.chain.stage(inner.stage));
        stage.cast(StageMessage::Before(self));
    }

    /// What follows the first half of a stage.
    pub(crate) fn after_before(mut self, ended: Ended<Flow>) {
        if let Some(counts) = self.stage_counts() {
            counts.before_ended(&ended);
        }
        self.cx_mut().trace.part_ended(|| half_ended(&ended));
        match ended {
            Ended::Done(Flow::Next) => {
                self.inner().stage += 1;
                self.advance();
            }
            Ended::Done(Flow::Answer(outcome)) => self.finish(outcome),
            other => {
                let failure = self.failure_of_stage(other);
                self.finish(failure.into());
            }
        }
    }

    /// What follows the second half of a stage.
    pub(crate) fn after_after(mut self, ended: Ended<()>) {
        if let Some(counts) = self.stage_counts() {
            counts.after_ended(&ended);
        }
        self.cx_mut().trace.part_ended(|| half_ended(&ended));
        match ended {
            Ended::Done(()) => {}
            // However it was cut short, the half may have been in the middle of changing the outcome,
            // or about to veto it: it can't be trusted.
            other @ Ended::Panicked(_) => {
                let failure = self.failure_of_stage(other);
                self.set_outcome(failure.into());
            }
            Ended::Deadline | Ended::Cancelled => {
                let stage = self.stage_name();
                tracing::warn!(
                    stage,
                    "the after half of a stage took too long and was dropped; the event ends as one \
                     that missed its deadline"
                );
                self.set_outcome(Failure::Deadline.into());
            }
        }
        self.go_back();
    }

    fn failure_of_stage<T>(&self, ended: Ended<T>) -> Failure {
        let place = || format!("interceptor `{}`", self.stage_name());
        match ended {
            Ended::Panicked(message) => Failure::Panic {
                place: place(),
                message,
            },
            Ended::Deadline => Failure::Deadline,
            Ended::Cancelled | Ended::Done(_) => Failure::Cancelled,
        }
    }

    fn stage_name(&self) -> &str {
        self.stage().map_or("", |stage| stage.name())
    }

    fn stage_counts(&self) -> Option<&StageCounts> {
        self.stage()?.counts().map(|counts| &**counts)
    }

    /// The stage that has the event now.
    fn stage(&self) -> Option<&Arc<Stage>> {
        let inner = self.view();
        (inner.stage < inner.chain.len()).then(|| inner.chain.stage(inner.stage))
    }

    /// The event has an outcome and goes back through the stages it has passed.
    pub(crate) fn finish(mut self, outcome: Outcome) {
        self.leave_hold();
        let inner = self.inner();
        if let Outcome::Stream(open) = outcome {
            inner.phase = Phase::Open;
            // What the handler has not taken it will not read: publications find that out at once.
            inner.cx.inbound = None;
            inner.cx.trace.accepted();
            return self.land_stream(open);
        }
        inner.outcome = Some(outcome);
        inner.phase = Phase::Out;
        self.go_back();
    }

    /// The stream of this flight is over.
    pub(crate) fn end_stream(mut self, end: StreamEnd) {
        let inner = self.inner();
        inner.outcome = Some(Outcome::StreamEnd(end));
        inner.phase = Phase::Out;
        self.go_back();
    }

    /// The stream of this flight was accepted by its handler, and nobody takes it.
    pub(crate) fn cancel_stream(self) {
        let (open_for, reason) = (Duration::ZERO, StreamEndReason::Cancelled);
        self.end_stream(StreamEnd {
            reason,
            open_for,
            sent: 0,
            received: 0,
        });
    }

    /// The same where it is known why: that is what the stages outside see, the log and the span.
    pub(crate) fn refuse_stream(self, failure: Failure) {
        self.finish(failure.into());
    }

    /// The next stage outwards that has an `after` half, or the caller.
    pub(crate) fn go_back(mut self) {
        let inner = self.inner();
        while inner.stage > 0 {
            inner.stage -= 1;
            if inner.chain.stage(inner.stage).has_after() {
                let stage = Arc::clone(inner.chain.stage(inner.stage));
                return stage.cast(StageMessage::After(self));
            }
        }
        self.land();
    }

    /// Answers the caller.
    pub(crate) fn land(mut self) {
        let Some(mut inner) = self.0.take() else {
            return;
        };
        let crashed = || Outcome::Failure(Failure::Unavailable(Unavailable::Crashed));
        let mut outcome = inner.outcome.take().unwrap_or_else(crashed);
        let cx = &inner.cx;
        // The `after` halves may have changed what the handler's gate has let through.
        crate::answer::gate(cx.kind(), cx.is_json_client(), &mut outcome);
        crate::answer::settle(&mut outcome, || "an interceptor".to_owned());
        if let Outcome::Failure(failure) = &outcome {
            inner.shared.faults.failed(cx.kind(), cx.subject(), failure);
        }
        inner.cx.trace_ends(&outcome);
        match inner.call.reply.take() {
            // A caller that went away reads no answer.
            Some(Waiter::Caller(reply)) => drop(reply.send(Landed::Done(outcome))),
            Some(Waiter::Peer(call)) => call.answer(&outcome),
            None => {}
        }
        // The attributes are the application's.
        drop_caught(|| drop(inner));
    }

    fn land_stream(mut self, open: StreamOpen) {
        match self.inner().call.reply.take() {
            Some(Waiter::Caller(reply)) => {
                if let Err(Landed::Stream(open, flight)) = reply.send(Landed::Stream(open, self)) {
                    drop_caught(|| drop(open));
                    flight.finish(Failure::Cancelled.into());
                }
            }
            Some(Waiter::Peer(call)) => call.open(open, self),
            None => drop_caught(|| drop(open)),
        }
    }

    /// Answers *unavailable* in place of an actor that does not take the flight.
    pub(crate) fn refuse(self, why: Unavailable) {
        if self.view().shared.is_closed() {
            let mut flight = self;
            if flight.goes_back() {
                return;
            }
            flight.set_outcome(Failure::Unavailable(Unavailable::Draining).into());
            return flight.land();
        }
        self.finish(Failure::Unavailable(why).into());
    }

    /// Gives an event back unstarted: this node may not run it. Its ingress holds it until its slot
    /// is served again. Without a cluster, or where it has started, that is its end.
    pub(crate) fn bounce(mut self, why: NotHere) {
        let inner = self.inner();
        if inner.phase != Phase::In {
            return self.finish(Failure::Unavailable(Unavailable::Crashed).into());
        }
        if let Some(ticket) = inner.held.take()
            && let Some(forward) = inner.shared.forward.clone()
        {
            return forward.bounced_here(self, ticket, &why);
        }
        match inner.call.reply.take() {
            Some(Waiter::Peer(call)) => {
                // Nobody waits for this flight any more.
                self.release();
                call.bounce(&why);
            }
            reply => {
                inner.call.reply = reply;
                let why = match why.reason {
                    Reason::Moving(_) => Unavailable::Moving,
                    Reason::Lapsed => Unavailable::Lapsed,
                    Reason::WrongOwner | Reason::Behind | Reason::Stale => Unavailable::NoOwner,
                };
                self.finish(Failure::Unavailable(why).into());
            }
        }
    }

    /// What a mailbox that died with this flight in it leaves to do.
    fn recover(mut inner: Box<Inner>) {
        if inner.shared.is_closed() {
            inner.outcome = Some(Failure::Unavailable(Unavailable::Draining).into());
            let mut flight = Self(Some(inner));
            if flight.goes_back() {
                return;
            }
            return flight.land();
        }
        match inner.phase {
            Phase::In if inner.resends < RESENDS => {
                inner.resends += 1;
                let shared = Arc::clone(&inner.shared);
                let came = inner.cx.lane.as_ref();
                let Some((slot, leg)) = came.and_then(|lane| Some((lane.slot, lane.leg?))) else {
                    return Self(Some(inner)).advance();
                };
                // What was sent behind it, in its slot, must not overtake it: it goes back to its
                // ingress, and so does all of its generation.
                let shard = &shared.shards[usize::from(shared.layout.shard_of(slot).index())];
                let mut bars = shard.memory.bars();
                bars.bounced(leg.sender, slot, leg.generation);
                drop(bars);
                let table = Arc::clone(&shared.standing.shown().table);
                Self(Some(inner)).bounce(NotHere::new(Reason::Stale, &table, slot));
            }
            Phase::In | Phase::Started => {
                let crashed = Failure::Unavailable(Unavailable::Crashed);
                Self(Some(inner)).finish(crashed.into());
            }
            Phase::Out => Self(Some(inner)).go_back(),
            Phase::Open => Self(Some(inner)).cancel_stream(),
        }
    }
}

/// How a half ended, for its span.
fn half_ended<T: HalfResult>(ended: &Ended<T>) -> (&'static str, Option<Fault>) {
    match ended {
        Ended::Done(done) => (done.label(), None),
        Ended::Panicked(message) => ("panicked", Some(Fault::new("panic", message))),
        Ended::Deadline => ("timeout", Some(Fault::new("timeout", "it took too long"))),
        Ended::Cancelled => ("cancelled", None),
    }
}

/// What a half gives.
trait HalfResult {
    fn label(&self) -> &'static str;
}

impl HalfResult for Flow {
    fn label(&self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Answer(_) => "answered",
        }
    }
}

impl HalfResult for () {
    fn label(&self) -> &'static str {
        "done"
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(inner) = self.0.take() {
            Self::recover(inner);
        }
    }
}
