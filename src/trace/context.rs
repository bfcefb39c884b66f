//! The W3C trace context (<https://www.w3.org/TR/trace-context/>): read, carried, written.
//!
//! What is malformed is taken for absent, as the recommendation wants it: an all-zero id, version
//! `ff`, upper case, another length. A later version is read by the fields that version `00` has.

use crate::cx::Cx;
use crate::event::Event;
use crate::extract::{FromEvent, Rejection};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;
use std::sync::Arc;

pub(crate) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Length of a `traceparent` of version `00`.
const LENGTH: usize = 55;
/// What is carried of a `tracestate`, in bytes; a longer one is left out as a whole.
const STATE_BYTES: usize = 512;
/// As many members may it have.
const STATE_MEMBERS: usize = 32;
/// Flags that we know: sampled, random trace id.
const KNOWN_FLAGS: u8 = 0b11;
pub(crate) const SAMPLED: u8 = 0b01;

/// A trace's id, as 32 hexadecimal digits; all zero for none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TraceId(pub(crate) u128);

/// A span's id, as 16 hexadecimal digits; all zero for none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SpanId(pub(crate) u64);

impl TraceId {
    /// The bytes, most significant first.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl SpanId {
    /// A new one.
    pub(crate) fn random() -> Self {
        Self(fastrand::u64(1..))
    }

    /// The bytes, most significant first.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The trace that an event belongs to, for calls that its handler makes by itself; the publisher
/// carries it on without being asked. As an extractor it never refuses.
///
/// There is none ([`TraceContext::is_some`] is false, [`TraceContext::headers`] gives nothing) where
/// the caller sent none and the node records no traces: whoever is called then starts its own.
///
/// ```
/// use centripeta::TraceContext;
///
/// async fn handler(trace: TraceContext) -> centripeta::RpcReply {
///     for (name, value) in trace.headers() {
///         // request = request.header(name, value);
///         assert!(name.starts_with("trace") && !value.is_empty());
///     }
///     centripeta::RpcReply::data(&1)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TraceContext {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) flags: u8,
    pub(crate) state: Option<Arc<str>>,
}

impl TraceContext {
    /// Reads the values of the two headers; `None` if the first is malformed. A `tracestate` that is
    /// malformed or over 512 bytes is left out.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let mut context = parent(traceparent.as_bytes())?;
        context.state = tracestate.and_then(state);
        Some(context)
    }

    /// The context of a call's metadata, if it has one.
    pub(crate) fn of_headers(headers: &HeaderMap) -> Option<Self> {
        // Looked for in every event: most have none.
        let first = headers.get(&TRACEPARENT)?;
        if headers.get_all(&TRACEPARENT).iter().nth(1).is_some() {
            return None;
        }
        let mut context = parent(first.as_bytes())?;
        let mut whole = String::new();
        for more in headers.get_all(&TRACESTATE) {
            if !whole.is_empty() {
                whole.push(',');
            }
            // What is not ASCII is refused below.
            whole.push_str(more.to_str().unwrap_or("\u{fffd}"));
        }
        context.state = state(&whole);
        Some(context)
    }

    /// Whether there is one.
    pub const fn is_some(&self) -> bool {
        self.span_id.0 != 0
    }

    /// The trace.
    pub const fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// The span that is the parent of what is called from here: the handler's, where its event is
    /// recorded.
    pub const fn span_id(&self) -> SpanId {
        self.span_id
    }

    /// Whether the trace is recorded, by us or by whoever started it.
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// What tracing systems have added, as it came; `None` for nothing.
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The value of the header `traceparent`, in version `00`; `None` if there is no context.
    pub fn traceparent(&self) -> Option<String> {
        let Self {
            trace_id,
            span_id,
            flags,
            ..
        } = self;
        self.is_some()
            .then(|| format!("00-{trace_id}-{span_id}-{flags:02x}"))
    }

    /// The headers, or metadata, that hand the context on: `traceparent`, and `tracestate` if there
    /// is one.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let parent = self.traceparent().map(|value| ("traceparent", value));
        let state = self.state.as_ref().filter(|_| self.is_some());
        let state = state.map(|value| ("tracestate", (**value).to_owned()));
        parent.into_iter().chain(state)
    }

    /// Puts the headers into a call's.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        for (name, value) in self.headers() {
            // Both hold printable ASCII only.
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
    }
}

impl<E: Event, S> FromEvent<E, S> for TraceContext {
    fn from_event(cx: &mut Cx, _: &S) -> Result<Self, Rejection> {
        Ok(cx.trace_context().clone())
    }
}

/// `VERSION-TRACE-PARENT-FLAGS`.
fn parent(text: &[u8]) -> Option<TraceContext> {
    let version = hex(text.get(..2)?)?;
    let is_long = text.len() > LENGTH;
    if text.len() < LENGTH
        || version == 0xff
        || is_long && (version == 0 || text[LENGTH] != b'-')
        || [2, 35, 52].iter().any(|at| text[*at] != b'-')
    {
        return None;
    }
    let trace_id = TraceId(hex(&text[3..35])?);
    let span_id = SpanId(u64::try_from(hex(&text[36..52])?).ok()?);
    let flags = u8::try_from(hex(&text[53..55])?).ok()? & KNOWN_FLAGS;
    (trace_id.0 != 0 && span_id.0 != 0).then_some(TraceContext {
        trace_id,
        span_id,
        flags,
        state: None,
    })
}

/// Up to 32 lower case digits.
fn hex(text: &[u8]) -> Option<u128> {
    text.iter().try_fold(0, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

fn state(text: &str) -> Option<Arc<str>> {
    let text = text.trim();
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let fits = text.len() <= STATE_BYTES && text.split(',').count() <= STATE_MEMBERS;
    (is_plain && fits && !text.is_empty()).then(|| text.into())
}

#[cfg(test)]
mod tests;
