//! Calls of the publisher: the context that they carry, and the span of each.

use crate::egress::{Error, MethodName};
use crate::trace::context::{SpanId, TraceContext};
use crate::trace::span::{self, Call, Clock, Fault, Span, What};
use crate::trace::tracer::Tracer;
use tokio::time::Instant;

/// Whose calls they are: the handler's span, and where theirs go.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    context: TraceContext,
    /// Off where the event is not recorded.
    tracer: Tracer,
}

impl Caller {
    /// `None` without a context.
    pub(super) fn new(context: &TraceContext, tracer: Tracer) -> Option<Self> {
        context.is_some().then(|| Self {
            context: context.clone(),
            tracer,
        })
    }

    /// A call that is made now.
    pub(crate) fn call(&self) -> Box<CallTrace> {
        let mut context = self.context.clone();
        let recording = self.tracer.is_on().then(|| {
            context.span_id = SpanId::random();
            Recording {
                tracer: self.tracer.clone(),
                parent: self.context.span_id,
                clock: Clock::at(Instant::now()),
                batch: 0,
                attempts: 0,
                endpoint: None,
                carried_by: None,
            }
        });
        Box::new(CallTrace { context, recording })
    }
}

/// What a call carries until it is answered.
#[derive(Debug)]
pub(crate) struct CallTrace {
    context: TraceContext,
    recording: Option<Recording>,
}

#[derive(Debug)]
struct Recording {
    tracer: Tracer,
    parent: SpanId,
    clock: Clock,
    batch: usize,
    attempts: u32,
    endpoint: Option<Box<str>>,
    carried_by: Option<TraceContext>,
}

impl CallTrace {
    /// The call is over; `channel` is asked for only if it is recorded.
    pub(crate) fn ended(
        self,
        method: &MethodName,
        channel: impl FnOnce() -> Option<String>,
        error: Option<&Error>,
    ) {
        let Some(recording) = self.recording else {
            return;
        };
        let call = Call {
            method: method.clone(),
            channel: channel().and_then(|channel| span::text(&channel)),
            code: error.and_then(Error::code),
            batch: recording.batch,
            attempts: recording.attempts,
            endpoint: recording.endpoint,
            carried_by: recording.carried_by,
        };
        recording.tracer.record(vec![Span {
            trace_id: self.context.trace_id,
            id: self.context.span_id,
            parent: recording.parent,
            flags: self.context.flags,
            state: self.context.state,
            start: recording.clock.started(),
            end: recording.clock.now(),
            error: error.map(|error| Fault::new(error.label(), &error.to_string())),
            what: What::Publish(Box::new(call)),
        }]);
    }
}

/// Notes that calls leave in one request, and answers the context that it carries: of the first call
/// that is recorded, else of the first that has one.
pub(crate) fn leave<'a>(
    calls: impl IntoIterator<Item = &'a mut CallTrace>,
    batch: usize,
    endpoint: &str,
) -> Option<TraceContext> {
    let mut calls: Vec<&mut CallTrace> = calls.into_iter().collect();
    let is_recorded = |call: &&mut CallTrace| call.recording.is_some();
    let carrier = calls.iter().position(is_recorded).unwrap_or(0);
    let context = calls.get(carrier)?.context.clone();
    for (at, call) in calls.iter_mut().enumerate() {
        if let Some(recording) = &mut call.recording {
            recording.batch = batch;
            recording.attempts += 1;
            recording.endpoint = Some(endpoint.into());
            recording.carried_by = (at != carrier).then(|| context.clone());
        }
    }
    Some(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::context::{SAMPLED, TraceId};

    fn caller(trace: u128, tracer: &Tracer) -> Caller {
        let context = TraceContext {
            trace_id: TraceId(trace),
            span_id: SpanId(7),
            flags: if tracer.is_on() { SAMPLED } else { 0 },
            state: None,
        };
        Caller {
            context,
            tracer: tracer.clone(),
        }
    }

    #[test]
    fn a_request_of_several_carries_the_first_that_is_recorded_and_the_others_link_to_it() {
        let (tracer, mut outlet) = Tracer::new(1.0);
        let mut calls = [
            caller(1, &Tracer::off()).call(),
            caller(2, &tracer).call(),
            caller(3, &tracer).call(),
        ];
        let calls_mut = calls.iter_mut().map(|call| &mut **call);
        let carried = leave(calls_mut, 3, "h:1");
        let carried = carried.map(|context| (context.trace_id.0, context.is_sampled()));
        assert_eq!(carried, Some((2, true)));
        for call in calls {
            let channel = || Some("chat:1".to_owned());
            call.ended(&"Publish".into(), channel, Some(&Error::Closed));
        }
        let spans = outlet.take();
        assert_eq!(spans.len(), 2);
        let links: Vec<Option<u128>> = spans
            .iter()
            .map(|span| match &span.what {
                What::Publish(call) => {
                    assert_eq!((call.batch, call.attempts), (3, 1));
                    call.carried_by.as_ref().map(|context| context.trace_id.0)
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(links, [None, Some(2)]);
        assert!(
            spans
                .iter()
                .all(|span| span.parent == SpanId(7) && span.error.is_some())
        );
    }

    #[test]
    fn without_a_recorded_call_the_first_context_is_carried() {
        let mut calls = [
            caller(4, &Tracer::off()).call(),
            caller(5, &Tracer::off()).call(),
        ];
        let carried = leave(calls.iter_mut().map(|call| &mut **call), 2, "h:1");
        assert_eq!(carried.map(|context| context.trace_id), Some(TraceId(4)));
        assert_eq!(leave([], 2, "h:1"), None);
    }
}
