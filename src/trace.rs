//! Traces: what happened to an event, as spans that a collector takes over OTLP.
//!
//! What it promises:
//!
//! * **Cheap by construction.** Whether an event is recorded is decided once, where it enters: as its
//!   caller says in `traceparent`, else by `log.sampling` and the trace id. An event that is not
//!   recorded carries its context (ids and flags) and pays one branch at each place that would
//!   record. One that is collects its spans where it is and hands them over when it is done.
//! * **Never in the way.** Finished spans go into a bounded queue ([`QUEUE_SPANS`]); where that is full
//!   the newest are dropped and counted. One task on the main runtime sends them in batches.
//! * **One trace from end to end.** The context of the caller's metadata is continued. Handlers get it
//!   as [`TraceContext`], the calls of their publisher carry it to Centrifugo.
//!
//! Spans of an event: `listener KIND`, from its arrival to its answer (of a stream to its end), and
//! in it `interceptor NAME before` and `… after`, `handler NAME`, and in that `publish METHOD` for each
//! call of its publisher, from the call to its answer. Attributes are named by the semantic
//! conventions of OpenTelemetry where these have a name, else `centripeta.…`.
//!
//! Publications that leave together are one HTTP/2 request: it carries the context of the first of
//! them that is recorded (else of the first that has one), and the spans of the others have a link to
//! that span. A call that is refused before it is an event (at admission, undecodable, late) has the
//! span `listener KIND` alone. One without the listener's credential has it too, in a trace of its
//! own: nobody can have spans recorded by asking from outside.
//!
//! Without `log.otlp` nothing is recorded and no context started; that of the caller is passed on.

pub(crate) mod call;
mod context;
pub(crate) mod export;
mod otlp;
pub(crate) mod recording;
pub(crate) mod span;
mod tracer;

pub use context::{SpanId, TraceContext, TraceId};
pub use tracer::{QUEUE_SPANS, Tracer};

pub(crate) use recording::{Arrival, Trace};
#[cfg(test)]
pub(crate) use tracer::Outlet;
