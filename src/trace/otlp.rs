//! Spans as OTLP has them: names, kinds and attributes.
//!
//! `rpc.*`, `server.*`, `error.type`, `user.id` and `messaging.*` are those of the semantic conventions
//! of OpenTelemetry; what they have no name for is `centripeta.*`.

use crate::answer::code_name;
use crate::event::{EventKind, SERVICE_PATH};
use crate::metrics::stages::Half;
use crate::trace::context::{SpanId, TraceContext};
use crate::trace::span::{Call, Event, Span, What};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event as Moment, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as OtlpSpan, Status};
use std::time::Duration;
use tonic::Code;

/// The service whose methods the publisher calls.
const API: &str = "centrifugal.centrifugo.api.CentrifugoApi/";
/// The lower bits of a span's flags are those of W3C; above them it is said whether its parent, or
/// what a link points to, is in another process.
const KNOWS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Whose spans they are.
pub(super) fn resource(service: &str, node: &str) -> Resource {
    Resource {
        attributes: vec![
            text("service.name", service),
            text("service.instance.id", node),
            text("service.version", env!("CARGO_PKG_VERSION")),
        ],
        ..Resource::default()
    }
}

/// The request that exports these spans.
pub(super) fn request(resource: &Resource, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: "centripeta".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans: spans.into_iter().map(span).collect(),
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
}

fn span(span: Span) -> OtlpSpan {
    let mut it = OtlpSpan {
        trace_id: span.trace_id.to_bytes().into(),
        span_id: span.id.to_bytes().into(),
        parent_span_id: match span.parent {
            SpanId(0) => Vec::new(),
            parent => parent.to_bytes().into(),
        },
        trace_state: span.state.as_deref().unwrap_or_default().to_owned(),
        flags: KNOWS_REMOTE | u32::from(span.flags),
        kind: SpanKind::Internal as i32,
        start_time_unix_nano: span.start,
        end_time_unix_nano: span.end.max(span.start),
        ..OtlpSpan::default()
    };
    match span.what {
        What::Listener(event) => listener(&mut it, &event),
        What::Half { name, half, result } => {
            let word = match half {
                Half::Before => "before",
                Half::After => "after",
            };
            it.name = format!("interceptor {name} {word}");
            it.attributes.push(text("centripeta.interceptor", &name));
            it.attributes.push(text("centripeta.result", result));
        }
        What::Handler {
            name,
            outcome,
            waited,
        } => {
            it.name = format!("handler {name}");
            it.attributes.push(text("centripeta.handler", &name));
            it.attributes.push(text("centripeta.outcome", outcome));
            it.attributes.push(lane_wait(waited));
        }
        What::Publish(call) => publish(&mut it, call.as_ref(), span.error.is_none()),
    }
    if let Some(fault) = span.error {
        it.attributes.push(text("error.type", fault.kind));
        it.status = Some(Status {
            message: fault.text,
            code: StatusCode::Error as i32,
        });
    }
    it
}

fn listener(it: &mut OtlpSpan, event: &Event) {
    it.name = format!("listener {}", event.kind.name());
    it.kind = SpanKind::Server as i32;
    if event.is_continued {
        it.flags |= IS_REMOTE;
    }
    let service = SERVICE_PATH.trim_start_matches('/');
    let method = match (event.kind, &event.raw_method) {
        (EventKind::Raw, Some(method)) => method,
        (kind, _) => kind.method(),
    };
    it.attributes = vec![
        text("rpc.system.name", "grpc"),
        text("rpc.method", &format!("{service}{method}")),
        text("rpc.response.status_code", code_name(event.status)),
        text("centripeta.event", event.kind.name()),
        text("centripeta.outcome", event.outcome),
    ];
    let texts = [
        ("centripeta.route", &event.route),
        ("centripeta.method", &event.method),
        ("messaging.destination.name", &event.channel),
        ("user.id", &event.user),
        ("centripeta.client", &event.client),
    ];
    for (name, value) in texts {
        it.attributes
            .extend(value.as_ref().map(|value| text(name, value)));
    }
    it.attributes
        .extend(event.code.map(|code| number("centripeta.code", code)));
    it.attributes.extend(event.waited.map(lane_wait));
    if let Some((sent, received)) = event.passed {
        it.attributes.push(number("centripeta.stream.sent", sent));
        it.attributes
            .push(number("centripeta.stream.received", received));
    }
    if let Some(at) = event.accepted {
        it.events.push(Moment {
            time_unix_nano: at,
            name: "accepted".to_owned(),
            ..Moment::default()
        });
    }
}

fn publish(it: &mut OtlpSpan, call: &Call, is_ok: bool) {
    it.name = format!("publish {}", call.method);
    it.kind = SpanKind::Client as i32;
    it.attributes = vec![
        text("rpc.system.name", "grpc"),
        text("rpc.method", &format!("{API}{}", call.method)),
    ];
    if is_ok {
        let ok = code_name(Code::Ok);
        it.attributes.push(text("rpc.response.status_code", ok));
    }
    let channel = call.channel.as_ref();
    let channel = channel.map(|channel| text("messaging.destination.name", channel));
    it.attributes.extend(channel);
    if let Some((host, port)) = call.endpoint.as_deref().and_then(|at| at.rsplit_once(':')) {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        it.attributes.push(text("server.address", host));
        let port = port.parse::<u32>().ok();
        it.attributes
            .extend(port.map(|port| number("server.port", port)));
    }
    if call.batch > 1 {
        let batch = number("messaging.batch.message_count", call.batch as u64);
        it.attributes.push(batch);
    }
    if call.attempts > 1 {
        let again = number("centripeta.resend_count", call.attempts - 1);
        it.attributes.push(again);
    }
    it.attributes
        .extend(call.code.map(|code| number("centripeta.code", code)));
    it.links.extend(call.carried_by.as_ref().map(link));
}

fn link(to: &TraceContext) -> Link {
    Link {
        trace_id: to.trace_id.to_bytes().into(),
        span_id: to.span_id.to_bytes().into(),
        trace_state: to.tracestate().unwrap_or_default().to_owned(),
        flags: KNOWS_REMOTE | u32::from(to.flags),
        ..Link::default()
    }
}

/// In milliseconds, as `took_ms` in the access log.
fn lane_wait(waited: Duration) -> KeyValue {
    let milliseconds = waited.as_micros() as f64 / 1000.0;
    attribute("centripeta.lane.wait_ms", Value::DoubleValue(milliseconds))
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: impl Into<u64>) -> KeyValue {
    let value = i64::try_from(value.into()).unwrap_or(i64::MAX);
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
