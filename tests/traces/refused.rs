//! Calls that are refused before they are events, and publications that are refused before they are
//! sent: both have spans.

use crate::collector::{Collector, texts};
use crate::support::client::frame;
use crate::support::{TestNode, eventually, path, small_request, soon};
use crate::{PARENT, TRACE, hex, named, names, rpc};
use bytes::Bytes;
use centripeta::config::{AuthConfig, Config, Secret};
use centripeta::egress::Publisher;
use centripeta::event::EventKind;
use centripeta::proto::api;
use centripeta::{Router, RpcReply, StreamReply};
use opentelemetry_proto::tonic::trace::v1::Span;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// A node that records what its callers record, whose rpcs end when the semaphore is closed.
async fn node(
    collector: &Collector,
    change: impl FnOnce(&mut Config),
) -> (TestNode, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let router = Router::new().rpc("*", move || {
        let held = Arc::clone(&held);
        async move {
            drop(held.acquire().await);
            RpcReply::done()
        }
    });
    let node = TestNode::start_with(router, |config| {
        config.log.otlp = Some(collector.config());
        config.log.sampling = 0.0;
        change(config);
    });
    (node.await, gate)
}

/// Path, headers, body, and what its span says: the kind of event and the status.
type Call<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a Bytes, [&'a str; 2]);

/// The last of so many spans: its name, status, outcome and the client's code.
fn last(spans: &[Span]) -> (String, String, String, String) {
    let span = spans.last().unwrap();
    let attributes = texts(&span.attributes);
    let text = |name: &str| attributes.get(name).cloned().unwrap_or_default();
    (
        span.name.clone(),
        text("rpc.response.status_code"),
        text("centripeta.outcome"),
        text("centripeta.code"),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_refused_before_it_is_an_event_has_a_span_in_its_callers_trace() {
    let collector = Collector::start();
    let (node, gate) = node(&collector, |config| {
        config.limits.in_flight = 1.try_into().unwrap();
        config.limits.message_bytes = 4096;
    })
    .await;
    let client = node.client().await;
    let traced = ("traceparent", PARENT);
    let (unary, raw) = (path(EventKind::Rpc), path(EventKind::Raw));
    let two_way = path(EventKind::StreamBidirectional);
    let message = frame(false, &rpc("say", "chat:1"));
    let compressed = Bytes::from_static(&[1, 0, 0, 0, 1, 0]);
    let too_large = Bytes::from_static(&[0, 0, 1, 0, 0]);
    let no_message = Bytes::from_static(&[0, 0, 0, 0, 2, 0xff, 0xff]);
    let calls: [Call<'_>; 6] = [
        (&unary, &[traced], &compressed, ["rpc", "INVALID_ARGUMENT"]),
        (&unary, &[traced], &too_large, ["rpc", "OUT_OF_RANGE"]),
        (
            &unary,
            &[traced, ("grpc-timeout", "soon")],
            &message,
            ["rpc", "INVALID_ARGUMENT"],
        ),
        (&raw, &[traced], &compressed, ["raw", "INVALID_ARGUMENT"]),
        (
            &unary,
            &[traced, ("grpc-encoding", "gzip")],
            &compressed,
            ["rpc", "INTERNAL"],
        ),
        (
            &two_way,
            &[traced],
            &no_message,
            ["stream_bidirectional", "INVALID_ARGUMENT"],
        ),
    ];
    for (path, headers, body, _) in &calls {
        let reply = client.exchange(path, headers, (*body).clone()).await;
        assert_ne!(reply.status, Some(0), "{path} {headers:?}");
    }
    let spans = collector.spans_once(calls.len()).await;
    for (span, (.., [kind, status])) in spans.chunks(1).zip(calls) {
        let (name, told, outcome, _) = last(span);
        assert_eq!(name, format!("listener {kind}"));
        assert_eq!((told.as_str(), outcome.as_str()), (status, "undecodable"));
    }
    let method = "centrifugal.centrifugo.proxy.CentrifugoProxy/Unheard";
    let raw = named(&spans, "listener raw");
    assert_eq!(texts(&raw.attributes)["rpc.method"], method);

    // There is room for one.
    let held = {
        let (client, unary) = (client.clone(), unary.clone());
        tokio::spawn(async move { client.exchange(&unary, &[], message).await })
    };
    eventually("one is in flight", async || node.in_flight() == 1).await;
    let message = small_request(EventKind::Subscribe, "chat:1");
    let subscribe = path(EventKind::Subscribe);
    let refused = client.call(&subscribe, &[traced], &message).await;
    assert_eq!(refused.status, Some(0));
    let spans = collector.spans_once(7).await;
    let overloaded = ["listener subscribe", "OK", "overloaded", "111"].map(str::to_owned);
    assert_eq!(last(&spans), overloaded.into());
    let why = spans[6].status.clone().unwrap();
    assert!(why.message.contains("in flight"), "{why:?}");
    gate.close();
    held.await.unwrap().message();
    for span in &spans {
        assert_eq!(hex(&span.trace_id), TRACE);
        assert_eq!(hex(&span.parent_span_id), "00f067aa0ba902b7");
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_never_arrives_has_a_span_as_long_as_it_was_waited_for() {
    let collector = Collector::start();
    let (node, _gate) = node(&collector, |_| {}).await;
    let client = node.client().await;
    let headers = [("traceparent", PARENT), ("grpc-timeout", "200m")];
    let call = client.open(&path(EventKind::Rpc), &headers).await.unwrap();
    assert_eq!(call.finish().await.status, Some(4));
    let spans = collector.spans_once(1).await;
    let (name, status, outcome, _) = last(&spans);
    assert_eq!(
        [name.as_str(), &status, &outcome],
        ["listener rpc", "DEADLINE_EXCEEDED", "timeout"]
    );
    let took = spans[0].end_time_unix_nano - spans[0].start_time_unix_nano;
    assert!((100_000_000..5_000_000_000).contains(&took), "{took}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_has_a_span_in_a_trace_of_its_own_and_does_not_say_whether() {
    let credential = |config: &mut Config| {
        config.listen.auth = Some(AuthConfig {
            metadata: "x-router-key".to_owned(),
            value: Secret::new("right"),
        });
    };
    let collector = Collector::start();
    let message = rpc("say", "chat:1");
    let headers = [("traceparent", PARENT), ("x-router-key", "wrong")];
    for sampling in [0.0, 1.0] {
        let (node, gate) = node(&collector, |config| {
            credential(config);
            config.log.sampling = sampling;
        })
        .await;
        gate.close();
        let client = node.client().await;
        let refused = client.call(&path(EventKind::Rpc), &headers, &message).await;
        assert_eq!(refused.status, Some(16));
        // Everything that was recorded is there once the node is gone.
        drop(client);
        node.0.shutdown(std::time::Duration::from_secs(5)).await;
    }
    let spans = collector.spans();
    assert_eq!(names(&spans), ["listener rpc"]);
    assert_ne!(hex(&spans[0].trace_id), TRACE);
    assert!(spans[0].parent_span_id.is_empty());
    let (_, status, outcome, _) = last(&spans);
    assert_eq!(
        [status, outcome],
        ["UNAUTHENTICATED", "unauthenticated"].map(str::to_owned)
    );
    let shown = format!("{spans:?}");
    assert!(!shown.contains("wrong"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_that_is_refused_has_a_span_below_its_handler() {
    let collector = Collector::start();
    let router = Router::new().rpc("*", async |publisher: Publisher| {
        let broken = api::PublishRequest {
            channel: "chat:1".to_owned(),
            data: "{".into(),
            ..Default::default()
        };
        assert!(publisher.publish(broken).await.is_err());
        assert!(publisher.raw("no such", Bytes::new()).await.is_err());
        RpcReply::done()
    });
    let node = TestNode::start_with(router, |config| {
        config.log.otlp = Some(collector.config());
    })
    .await;
    let client = node.client().await;
    let message = rpc("say", "chat:1");
    client
        .call(&path(EventKind::Rpc), &[("traceparent", PARENT)], &message)
        .await
        .message();
    let spans = collector.spans_once(4).await;
    assert_eq!(spans.len(), 4, "{:?}", names(&spans));
    let handler = spans.iter().find(|it| it.name.starts_with("handler "));
    for name in ["publish Publish", "publish no such"] {
        let span = named(&spans, name);
        assert_eq!(span.parent_span_id, handler.unwrap().span_id);
        assert_eq!(texts(&span.attributes)["error.type"], "invalid");
        assert!(span.status.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_has_no_room_once_it_is_accepted_has_a_span_that_says_overloaded() {
    let collector = Collector::start();
    let router = Router::new().stream("feed:*", async || StreamReply::silent());
    let node = TestNode::start_with(router, |config| {
        config.log.otlp = Some(collector.config());
        config.limits.streams = 1.try_into().unwrap();
    })
    .await;
    let client = node.client().await;
    let message = small_request(EventKind::Stream, "feed:1");
    let stream = path(EventKind::Stream);
    let mut open = client.open(&stream, &[]).await.unwrap();
    open.send(frame(false, &message), true).await;
    soon("one is accepted", open.next()).await.unwrap();
    let headers = [("traceparent", PARENT)];
    let refused = client.call(&stream, &headers, &message).await;
    assert_eq!(refused.status, Some(14));
    let spans = collector.spans_once(2).await;
    let (_, status, outcome, _) = last(&spans);
    assert_eq!(
        [status, outcome],
        ["UNAVAILABLE", "overloaded"].map(str::to_owned)
    );
    assert!(named(&spans, "listener stream").status.is_some());
}
