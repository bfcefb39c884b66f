//! A finished span as it waits for its export: small, with names and texts still apart.

use crate::egress::MethodName;
use crate::event::EventKind;
use crate::metrics::stages::Half;
use crate::trace::context::{SpanId, TraceContext, TraceId};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Longer texts are cut in an attribute, in bytes.
const TEXT_BYTES: usize = 256;

/// A finished span.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) trace_id: TraceId,
    pub(crate) id: SpanId,
    /// Zero for none.
    pub(crate) parent: SpanId,
    pub(crate) flags: u8,
    pub(crate) state: Option<Arc<str>>,
    /// Nanoseconds since 1970.
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// What went wrong.
    pub(crate) error: Option<Fault>,
    pub(crate) what: What,
}

/// Why a span's status is *error*.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// A word of few, for `error.type`.
    pub(crate) kind: &'static str,
    /// In words.
    pub(crate) text: String,
}

impl Fault {
    pub(crate) fn new(kind: &'static str, text: &str) -> Self {
        let text = cut(text).to_owned();
        Self { kind, text }
    }
}

/// What a span is about.
#[derive(Debug)]
pub(crate) enum What {
    Listener(Box<Event>),
    Half {
        name: Arc<str>,
        half: Half,
        result: &'static str,
    },
    Handler {
        name: Box<str>,
        outcome: &'static str,
        /// How long the event waited for its turn.
        waited: Duration,
    },
    Publish(Box<Call>),
}

/// An event as a whole.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) kind: EventKind,
    /// For raw events, the name of the gRPC method.
    pub(crate) raw_method: Option<Box<str>>,
    /// Whether the parent is a span of the caller.
    pub(crate) is_continued: bool,
    pub(crate) route: Option<Box<str>>,
    pub(crate) method: Option<Box<str>>,
    pub(crate) channel: Option<Box<str>>,
    pub(crate) user: Option<Box<str>>,
    pub(crate) client: Option<Box<str>>,
    pub(crate) outcome: &'static str,
    /// The gRPC status that the caller gets.
    pub(crate) status: tonic::Code,
    /// The error or disconnect code that the client gets.
    pub(crate) code: Option<u32>,
    /// How long it waited, if it never reached its handler.
    pub(crate) waited: Option<Duration>,
    /// When the stream was accepted, in nanoseconds since 1970.
    pub(crate) accepted: Option<u64>,
    /// Publications sent into a stream and received from it.
    pub(crate) passed: Option<(u64, u64)>,
}

#[cfg(test)]
impl Event {
    /// One of which nothing is known.
    pub(crate) fn nothing() -> Self {
        Self {
            kind: EventKind::Rpc,
            raw_method: None,
            is_continued: false,
            route: None,
            method: None,
            channel: None,
            user: None,
            client: None,
            outcome: "ok",
            status: tonic::Code::Ok,
            code: None,
            waited: None,
            accepted: None,
            passed: None,
        }
    }
}

/// A call of the publisher.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: MethodName,
    pub(crate) channel: Option<Box<str>>,
    /// Centrifugo's code, if it refused.
    pub(crate) code: Option<u32>,
    /// Calls that left together with it; 0 if it was not sent.
    pub(crate) batch: usize,
    /// How often it was sent.
    pub(crate) attempts: u32,
    /// `HOST:PORT` of the last endpoint.
    pub(crate) endpoint: Option<Box<str>>,
    /// The span whose context its request carried, if that is another one.
    pub(crate) carried_by: Option<TraceContext>,
}

/// The beginning of a text; `None` if there is none.
pub(crate) fn text(text: &str) -> Option<Box<str>> {
    (!text.is_empty()).then(|| cut(text).into())
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A clock that tells the time of day, looked up once, and never goes backwards.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// Nanoseconds since 1970 at `instant`.
    started: u64,
    instant: Instant,
}

impl Clock {
    /// Started at an instant that is just now.
    pub(crate) fn at(instant: Instant) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        // A clock from before 1970 has no better answer.
        let since = since.unwrap_or_default();
        let started = nanos(since).saturating_sub(nanos(instant.elapsed()));
        Self { started, instant }
    }

    /// When it was started.
    pub(crate) const fn started(&self) -> u64 {
        self.started
    }

    /// Nanoseconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        self.started + nanos(self.instant.elapsed())
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2)
}
