//! What an event carries of its trace, and the spans that gather on its way.

use crate::answer::{client_code, fault, status};
use crate::cx::Cx;
use crate::event::EventKind;
use crate::metrics::stages::Half;
use crate::outcome::{Failure, Outcome};
use crate::trace::call::Caller;
use crate::trace::context::{SpanId, TraceContext};
use crate::trace::span::{self, Clock, Event, Fault, Span, What};
use crate::trace::tracer::Tracer;
use http::HeaderMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Code;

/// What an event carries: a context if there is one, and what was recorded if anything is.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// Its span is the one that is open: the event's, or a half's, or the handler's.
    context: TraceContext,
    recording: Option<Box<Recording>>,
}

#[derive(Debug)]
struct Recording {
    tracer: Tracer,
    /// The event's own span.
    root: SpanId,
    /// The caller's, zero if the trace began here.
    parent: SpanId,
    clock: Clock,
    open: Option<Open>,
    /// Since when the event has waited for its turn.
    queued: Option<u64>,
    waited: Option<Duration>,
    /// When the stream was accepted.
    accepted: Option<u64>,
    done: Vec<Span>,
}

/// A call as it came in, for its span should it be refused before it is an event. There is nothing
/// in it where the call is not recorded.
#[derive(Debug, Default)]
pub(crate) struct Arrival(Option<Box<Arrived>>);

#[derive(Debug)]
struct Arrived {
    kind: EventKind,
    raw_method: Option<Box<str>>,
    context: TraceContext,
    recording: Box<Recording>,
    /// The status that the caller gets, where it is not that of the failure.
    status: Option<Code>,
}

/// A part of the way that has begun.
#[derive(Debug)]
struct Open {
    start: u64,
    part: Part,
}

#[derive(Debug)]
enum Part {
    Half(Arc<str>, Half),
    Handler(Box<str>),
}

impl Trace {
    /// Continues the caller's trace or begins one, for an event that has just come in.
    pub(crate) fn begin(tracer: &Tracer, metadata: &HeaderMap, now: Instant) -> Self {
        Self::go_on(tracer, TraceContext::of_headers(metadata), now)
    }

    /// The same for a context that has come by other means.
    pub(crate) fn go_on(tracer: &Tracer, callers: Option<TraceContext>, now: Instant) -> Self {
        if !tracer.is_on() {
            let context = callers.unwrap_or_default();
            return Self {
                context,
                recording: None,
            };
        }
        let Some(mut context) = callers.or_else(|| tracer.begin()) else {
            return Self::default();
        };
        let parent = std::mem::replace(&mut context.span_id, SpanId::random());
        let recording = context.is_sampled().then(|| {
            Box::new(Recording {
                tracer: tracer.clone(),
                root: context.span_id,
                parent,
                clock: Clock::at(now),
                open: None,
                queued: None,
                waited: None,
                accepted: None,
                done: Vec::new(),
            })
        });
        Self { context, recording }
    }

    /// The context, with the span that is open.
    pub(crate) const fn context(&self) -> &TraceContext {
        &self.context
    }

    /// What the calls of a publisher go on from.
    pub(crate) fn caller(&self) -> Option<Caller> {
        let tracer = self.recording.as_ref();
        let tracer = tracer.map_or_else(Tracer::off, |recording| recording.tracer.clone());
        Caller::new(&self.context, tracer)
    }

    /// A half of an interceptor begins.
    pub(crate) fn half_begins(&mut self, name: &Arc<str>, half: Half) {
        if self.recording.is_some() {
            self.open(Part::Half(Arc::clone(name), half));
        }
    }

    /// The event begins to wait for its turn.
    pub(crate) fn waits(&mut self) {
        if let Some(recording) = &mut self.recording {
            recording.queued = Some(recording.clock.now());
        }
    }

    /// A stream was accepted; what has been recorded so far need not wait for its end.
    pub(crate) fn accepted(&mut self) {
        if let Some(recording) = &mut self.recording {
            recording.accepted = Some(recording.clock.now());
            let done = std::mem::take(&mut recording.done);
            recording.tracer.record(done);
        }
    }

    fn open(&mut self, part: Part) {
        // One that is still open was in an actor that has crashed.
        self.part_ended(|| ("crashed", Some(Fault::new("crashed", "its actor crashed"))));
        if let Some(recording) = &mut self.recording {
            let start = recording.clock.now();
            recording.open = Some(Open { start, part });
            self.context.span_id = SpanId::random();
        }
    }

    /// The part that has begun is over, if one has; says how it ended.
    pub(crate) fn part_ended(&mut self, how: impl FnOnce() -> (&'static str, Option<Fault>)) {
        let Some(recording) = &mut self.recording else {
            return;
        };
        let Some(Open { start, part }) = recording.open.take() else {
            return;
        };
        let (result, error) = how();
        let what = match part {
            Part::Half(name, half) => What::Half { name, half, result },
            Part::Handler(name) => What::Handler {
                name,
                outcome: result,
                waited: recording.waited.unwrap_or_default(),
            },
        };
        recording.done.push(Span {
            trace_id: self.context.trace_id,
            id: self.context.span_id,
            parent: recording.root,
            flags: self.context.flags,
            state: self.context.state.clone(),
            start,
            end: recording.clock.now(),
            error,
            what,
        });
        self.context.span_id = recording.root;
    }
}

impl Arrival {
    /// A call of this kind (for raw events also the name of the method) that came in at this time.
    /// Whether it is recorded is decided as for an event.
    pub(crate) fn of(
        tracer: &Tracer,
        (kind, method): (EventKind, &str),
        metadata: &HeaderMap,
        at: Instant,
    ) -> Self {
        if !tracer.is_on() {
            return Self(None);
        }
        let Trace { context, recording } = Trace::begin(tracer, metadata, at);
        let arrived = |recording| {
            Box::new(Arrived {
                kind,
                raw_method: span::text(method).filter(|_| kind == EventKind::Raw),
                context,
                recording,
                status: None,
            })
        };
        Self(recording.map(arrived))
    }

    /// The caller gets this status, whatever it would be for the failure.
    pub(crate) fn with_status(mut self, status: Code) -> Self {
        if let Some(arrived) = &mut self.0 {
            arrived.status = Some(status);
        }
        self
    }

    /// It was refused: its span goes to whoever exports it.
    pub(crate) fn refused(self, failure: &Failure) {
        let Some(arrived) = self.0 else {
            return;
        };
        let Arrived {
            kind,
            raw_method,
            context,
            recording,
            status: given,
        } = *arrived;
        let outcome = Outcome::Failure(failure.clone());
        let event = Event {
            kind,
            raw_method,
            is_continued: recording.parent != SpanId::default(),
            route: None,
            method: None,
            channel: None,
            user: None,
            client: None,
            outcome: outcome.label(),
            status: given.unwrap_or_else(|| status(kind, &outcome)),
            code: client_code(kind, &outcome),
            waited: None,
            accepted: None,
            passed: None,
        };
        recording.tracer.record(vec![Span {
            trace_id: context.trace_id,
            id: recording.root,
            parent: recording.parent,
            flags: context.flags,
            state: context.state,
            start: recording.clock.started(),
            end: recording.clock.now(),
            error: fault_of(&outcome),
            what: What::Listener(Box::new(event)),
        }]);
    }
}

impl Cx {
    /// The trace that the event belongs to; see [`TraceContext`] for when there is none. Its span is
    /// that of the interceptor or handler which asks, where the event is recorded.
    pub const fn trace_context(&self) -> &TraceContext {
        self.trace.context()
    }

    /// The handler begins.
    pub(crate) fn handler_begins(&mut self) {
        if self.trace.recording.is_none() {
            return;
        }
        let handler = self.route().map(|route| route.handler.as_str());
        let name = handler.unwrap_or_default().into();
        self.trace.open(Part::Handler(name));
        if let Some(recording) = &mut self.trace.recording {
            recording.waited = recording.wait_is_over();
        }
    }

    /// The handler has ended.
    pub(crate) fn handler_ended(&mut self, outcome: &Outcome) {
        self.trace
            .part_ended(|| (outcome.label(), fault_of(outcome)));
    }

    /// The event, or its stream, is over: its spans go to whoever exports them.
    pub(crate) fn trace_ends(&mut self, outcome: &Outcome) {
        if self.trace.recording.is_none() {
            return;
        }
        self.handler_ended(outcome);
        let Some(mut recording) = self.trace.recording.take() else {
            return;
        };
        let end = recording.clock.now();
        let context = &self.trace.context;
        let waited = recording.wait_is_over();
        let passed = match outcome {
            Outcome::StreamEnd(end) => Some((end.sent, end.received)),
            _ => None,
        };
        let event = Event {
            kind: self.kind(),
            raw_method: match self.kind() {
                EventKind::Raw => span::text(self.method()),
                _ => None,
            },
            is_continued: recording.parent != SpanId::default(),
            route: self.route().and_then(|route| span::text(&route.name)),
            method: match self.kind() {
                EventKind::Rpc => span::text(self.method()),
                _ => None,
            },
            channel: span::text(self.channel()),
            user: span::text(self.user()),
            client: span::text(self.client()),
            outcome: outcome.label(),
            status: status(self.kind(), outcome),
            code: client_code(self.kind(), outcome),
            waited,
            accepted: recording.accepted,
            passed,
        };
        recording.done.push(Span {
            trace_id: context.trace_id,
            id: recording.root,
            parent: recording.parent,
            flags: context.flags,
            state: context.state.clone(),
            start: recording.clock.started(),
            end,
            error: fault_of(outcome),
            what: What::Listener(Box::new(event)),
        });
        recording.tracer.record(recording.done);
    }
}

impl Recording {
    /// How long the event has waited for its turn, if it did and nobody has asked yet.
    fn wait_is_over(&mut self) -> Option<Duration> {
        let since = self.queued.take()?;
        let waited = self.clock.now().saturating_sub(since);
        Some(Duration::from_nanos(waited))
    }
}

/// What went wrong, unless it is the client's own doing.
fn fault_of(outcome: &Outcome) -> Option<Fault> {
    match outcome {
        Outcome::Failure(
            Failure::BadData(_) | Failure::Undecodable(_) | Failure::NoRoute | Failure::Cancelled,
        ) => None,
        _ => fault(outcome).map(|text| Fault::new(outcome.label(), &text)),
    }
}
