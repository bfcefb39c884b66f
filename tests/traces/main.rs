//! Traces of a whole node: the tree of spans that a collector gets, the context that is handed on, and
//! collectors that are slow, gone, or refuse.
#![allow(clippy::unwrap_used)]

mod collector;
#[path = "../publisher/double.rs"]
#[allow(dead_code, reason = "a part of it is needed here")]
mod double;
mod refused;
#[path = "../support/mod.rs"]
mod support;
mod trouble;

use bytes::Bytes;
use centripeta::egress::Publisher;
use centripeta::event::{EventKind, Rpc, Stream};
use centripeta::proto::proxy;
use centripeta::testing::TestRouter;
use centripeta::{
    Cx, Data, Flow, Interceptor, Outcome, Reject, Route, Router, RpcReply, StreamReply,
    TraceContext,
};
use collector::{Collector, texts};
use double::{Double, Fault};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::client::Reply;
use support::{Client, TestNode, eventually, path, request, soon};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// A stage with both halves, which sees the context.
struct Watch(Arc<Mutex<Vec<String>>>);

impl Interceptor for Watch {
    async fn before(&self, cx: &mut Cx) -> Flow {
        let span = cx.trace_context().span_id().to_string();
        self.0.lock().unwrap().push(span);
        Flow::Next
    }

    async fn after(&self, _: &Cx, _: &mut Outcome) {}
}

/// What a test looks at.
pub(crate) struct World {
    pub(crate) node: TestNode,
    pub(crate) client: Client,
    pub(crate) api: Double,
    /// What handlers got.
    seen: Arc<Mutex<Vec<TraceContext>>>,
    /// Spans of halves, as the interceptors saw them.
    halves: Arc<Mutex<Vec<String>>>,
}

impl World {
    pub(crate) async fn start(change: impl FnOnce(&mut centripeta::config::LogConfig)) -> Self {
        let api = Double::start();
        let (seen, halves) = (
            Arc::<Mutex<Vec<_>>>::default(),
            Arc::<Mutex<Vec<_>>>::default(),
        );
        let kept = Arc::clone(&seen);
        let say = move |trace: TraceContext, Data(channel): Data<String>, publisher: Publisher| {
            let kept = Arc::clone(&kept);
            async move {
                kept.lock().unwrap().push(trace);
                let published = publisher.publish_json(channel, &1).await?;
                Ok::<_, Reject>(RpcReply::data(&published.offset))
            }
        };
        let many = |publisher: Publisher| async move {
            let all = [1, 2, 3].map(|number| publisher.publish_json("chat:1", &number));
            for one in all {
                one.await?;
            }
            Ok::<_, Reject>(RpcReply::done())
        };
        let panics = |fail: bool| assert!(!fail, "on purpose");
        let router = Router::new()
            .intercept_all("outer", Watch(Arc::clone(&halves)))
            .intercept_all("inner", Watch(Arc::clone(&halves)))
            .route(Route::of::<Rpc, _, _>(say).matching("say").named("say"))
            .route(Route::of::<Rpc, _, _>(many).matching("many").named("many"))
            .route(
                Route::of::<Rpc, _, _>(move || async move {
                    panics(true);
                    RpcReply::done()
                })
                .matching("panic")
                .named("panics"),
            )
            .route(
                Route::of::<Stream, _, _>(|| async { StreamReply::silent() })
                    .matching("feed:*")
                    .named("feed"),
            );
        let endpoint = api.endpoint();
        let node = TestNode::start_with(router, |config| {
            config.centrifugo.api = vec![endpoint];
            // Nothing here is about limits of time, and the double may be told to be slow.
            config.centrifugo.timeout = Duration::from_secs(20);
            config.limits.timeout = Duration::from_secs(20);
            change(&mut config.log);
        })
        .await;
        let client = node.client().await;
        Self {
            node,
            client,
            api,
            seen,
            halves,
        }
    }

    pub(crate) async fn rpc(&self, method: &str, headers: &[(&str, &str)]) -> Reply {
        let message = rpc(method, "chat:1");
        self.client
            .call(&path(EventKind::Rpc), headers, &message)
            .await
    }

    /// The last context that the API was called with.
    fn carried(&self) -> [Option<String>; 2] {
        self.api
            .state
            .traces
            .lock()
            .unwrap()
            .last()
            .cloned()
            .unwrap()
    }
}

pub(crate) fn rpc(method: &str, channel: &str) -> Bytes {
    let json = format!(
        r#"{{"client":"c1","transport":"websocket","protocol":"json","encoding":"json","user":"ann","method":"{method}","data":"{channel}"}}"#
    );
    request(EventKind::Rpc, &json)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found.next();
    span.unwrap_or_else(|| panic!("no `{name}` in {:?}", names(spans)))
}

fn names(spans: &[Span]) -> Vec<&str> {
    let mut names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_rpc_is_a_tree_of_spans_below_its_caller() {
    let collector = Collector::start();
    let world = World::start(|log| {
        log.otlp = Some(collector.config());
        log.sampling = 0.0;
        log.service = Some("chat".to_owned());
    })
    .await;
    let headers = [("traceparent", PARENT), ("tracestate", "a=1")];
    world.rpc("say", &headers).await.message();
    let spans = collector.spans_once(7).await;
    assert_eq!(
        names(&spans),
        [
            "handler say",
            "interceptor inner after",
            "interceptor inner before",
            "interceptor outer after",
            "interceptor outer before",
            "listener rpc",
            "publish Publish",
        ]
    );
    let listener = named(&spans, "listener rpc");
    assert_eq!(hex(&listener.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(listener.kind, SpanKind::Server as i32);
    let handler = named(&spans, "handler say");
    let publish = named(&spans, "publish Publish");
    assert_eq!(publish.kind, SpanKind::Client as i32);
    for span in &spans {
        assert_eq!(hex(&span.trace_id), TRACE);
        assert_eq!((span.trace_state.as_str(), span.flags & 0xff), ("a=1", 1));
        assert!(span.status.is_none(), "{span:?}");
        let parent = match span.name.as_str() {
            "listener rpc" => continue,
            "publish Publish" => handler,
            _ => listener,
        };
        assert_eq!(span.parent_span_id, parent.span_id, "{}", span.name);
        let within = parent.start_time_unix_nano <= span.start_time_unix_nano
            && span.start_time_unix_nano <= span.end_time_unix_nano
            && span.start_time_unix_nano <= parent.end_time_unix_nano;
        assert!(within, "{span:?} in {parent:?}");
    }
    let attributes = texts(&listener.attributes);
    for (name, value) in [
        ("rpc.system.name", "grpc"),
        (
            "rpc.method",
            "centrifugal.centrifugo.proxy.CentrifugoProxy/RPC",
        ),
        ("rpc.response.status_code", "OK"),
        ("centripeta.event", "rpc"),
        ("centripeta.outcome", "ok"),
        ("centripeta.method", "say"),
        ("user.id", "ann"),
        ("centripeta.client", "c1"),
    ] {
        assert_eq!(
            attributes.get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
    assert!(attributes["centripeta.route"].contains("say"));
    assert!(
        texts(&handler.attributes)["centripeta.lane.wait_ms"]
            .parse::<f64>()
            .unwrap()
            >= 0.0
    );
    let attributes = texts(&publish.attributes);
    assert_eq!(attributes["messaging.destination.name"], "chat:1");
    assert_eq!(
        attributes["server.port"],
        world.api.address().port().to_string()
    );
    assert!(!attributes.contains_key("messaging.batch.message_count"));
    // What was handed on is what was recorded.
    let [parent, state] = world.carried();
    let carried = format!("00-{TRACE}-{}-01", hex(&publish.span_id));
    assert_eq!((parent, state.as_deref()), (Some(carried), Some("a=1")));
    let seen = world.seen.lock().unwrap().clone();
    assert_eq!(seen[0].span_id().to_string(), hex(&handler.span_id));
    assert_eq!(seen[0].tracestate(), Some("a=1"));
    let halves = world.halves.lock().unwrap().clone();
    let before = ["interceptor outer before", "interceptor inner before"];
    assert_eq!(halves, before.map(|name| hex(&named(&spans, name).span_id)));
    let (resource, _) = collector.state.last.lock().unwrap().clone();
    assert_eq!(resource["service.name"], "chat");
    assert_eq!(resource["service.instance.id"], "a");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_said_by_the_status_of_their_spans() {
    let collector = Collector::start();
    let world = World::start(|log| {
        log.otlp = Some(collector.config());
        log.sampling = 1.0;
    })
    .await;
    assert_eq!(world.rpc("panic", &[]).await.status, Some(13));
    let spans = collector.spans_once(6).await;
    for name in ["listener rpc", "handler panics"] {
        let span = named(&spans, name);
        let status = span.status.clone().unwrap();
        assert_eq!(status.code, 2);
        assert!(status.message.contains("on purpose"), "{status:?}");
        assert_eq!(texts(&span.attributes)["error.type"], "panic");
    }
    let listener = named(&spans, "listener rpc");
    assert!(listener.parent_span_id.is_empty(), "a trace begins here");
    assert_eq!(
        texts(&listener.attributes)["rpc.response.status_code"],
        "INTERNAL"
    );

    let message = rpc("say", "nosuch:1");
    world
        .client
        .call(&path(EventKind::Rpc), &[], &message)
        .await;
    let spans = collector.spans_once(13).await;
    let publish = named(&spans, "publish Publish");
    let status = publish.status.clone().unwrap();
    assert!(status.message.contains("unknown channel"), "{status:?}");
    assert_eq!(texts(&publish.attributes)["centripeta.code"], "102");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sampled_out_events_leave_no_span_and_hand_their_context_on() {
    let collector = Collector::start();
    let world = World::start(|log| {
        log.otlp = Some(collector.config());
        log.sampling = 0.0;
    })
    .await;
    world
        .rpc("say", &[("traceparent", UNSAMPLED)])
        .await
        .message();
    let [parent, _] = world.carried();
    let parent = TraceContext::parse(&parent.unwrap(), None).unwrap();
    assert_eq!(parent.trace_id().to_string(), TRACE);
    assert!(!parent.is_sampled());
    world.rpc("say", &[]).await.message();
    let [begun, _] = world.carried();
    let begun = TraceContext::parse(&begun.unwrap(), None).unwrap();
    assert!(!begun.is_sampled() && begun.trace_id() != parent.trace_id());
    // A malformed parent is none.
    world
        .rpc("say", &[("traceparent", &PARENT.to_uppercase())])
        .await
        .message();
    assert!(!world.carried()[0].as_ref().unwrap().contains(TRACE));
    // Whoever says that it is recorded is: by then the others would have come too.
    world.rpc("say", &[("traceparent", PARENT)]).await.message();
    let spans = collector.spans_once(7).await;
    assert_eq!(spans.len(), 7, "{:?}", names(&spans));
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_collector_the_callers_context_goes_on_as_it_came() {
    let world = World::start(|_| {}).await;
    let headers = [("traceparent", PARENT), ("tracestate", "a=1")];
    world.rpc("say", &headers).await.message();
    let as_it_came = [PARENT, "a=1"].map(|value| Some(value.to_owned()));
    assert_eq!(world.carried(), as_it_came);
    world.rpc("say", &[]).await.message();
    assert_eq!(world.carried(), [None, None]);
    let seen = world.seen.lock().unwrap().clone();
    assert_eq!(seen[0].traceparent().as_deref(), Some(PARENT));
    assert!(!seen[1].is_some() && seen[1].headers().next().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publications_of_one_request_link_to_the_span_that_it_carried() {
    let collector = Collector::start();
    let world = World::start(|log| log.otlp = Some(collector.config())).await;
    // While one to the same channel is on its way, others gather.
    let state = &world.api.state;
    state.set(Fault::Slow(Duration::from_secs(1)));
    let headers = [("traceparent", PARENT)];
    let many = async {
        eventually("one is on its way", async || {
            *state.singles.lock().unwrap() == 1
        })
        .await;
        world.rpc("many", &headers).await
    };
    let (first, many) = tokio::join!(world.rpc("say", &headers), many);
    first.message();
    many.message();
    let spans = collector.spans_once(16).await;
    let handler = named(&spans, "handler many");
    let publishes: Vec<&Span> = spans
        .iter()
        .filter(|span| span.parent_span_id == handler.span_id)
        .collect();
    assert_eq!(publishes.len(), 3);
    for publish in &publishes {
        assert_eq!(
            texts(&publish.attributes)["messaging.batch.message_count"],
            "3"
        );
    }
    let (carriers, linked): (Vec<&Span>, Vec<&Span>) =
        publishes.iter().partition(|it| it.links.is_empty());
    assert_eq!((carriers.len(), linked.len()), (1, 2));
    let carrier = &carriers[0].span_id;
    assert!(linked.iter().all(|it| it.links[0].span_id == *carrier));
    let carried = format!("00-{TRACE}-{}-01", hex(carrier));
    assert_eq!(world.carried()[0].as_ref(), Some(&carried));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_span_of_a_stream_ends_when_the_stream_does() {
    let collector = Collector::start();
    let world = World::start(|log| log.otlp = Some(collector.config())).await;
    let message = support::small_request(EventKind::Stream, "feed:1");
    let headers = [("traceparent", PARENT)];
    let mut call = world
        .client
        .open(&path(EventKind::Stream), &headers)
        .await
        .unwrap();
    call.send(support::client::frame(false, &message), true)
        .await;
    soon("the stream is accepted", call.next()).await.unwrap();
    // What is done by then is not kept until the end.
    let spans = collector.spans_once(3).await;
    let early = [
        "handler feed",
        "interceptor inner before",
        "interceptor outer before",
    ];
    assert_eq!(names(&spans), early);
    call.cancel();
    let spans = collector.spans_once(6).await;
    let listener = named(&spans, "listener stream");
    assert_eq!(listener.events[0].name, "accepted");
    assert!(listener.events[0].time_unix_nano <= listener.end_time_unix_nano);
    let attributes = texts(&listener.attributes);
    assert_eq!(attributes["centripeta.outcome"], "stream_cancelled");
    assert_eq!(attributes["messaging.destination.name"], "feed:1");
    let handler = named(&spans, "handler feed");
    assert_eq!(handler.parent_span_id, listener.span_id);
    assert!(handler.end_time_unix_nano <= listener.end_time_unix_nano);
}

#[tokio::test]
async fn a_test_router_hands_its_callers_context_to_handlers() {
    let seen = Arc::<Mutex<Vec<TraceContext>>>::default();
    let kept = Arc::clone(&seen);
    let handler = move |trace: TraceContext| {
        kept.lock().unwrap().push(trace);
        async { RpcReply::done() }
    };
    let router = TestRouter::new(Router::new().rpc("*", handler))
        .await
        .unwrap();
    let call = proxy::RpcRequest {
        method: "a".to_owned(),
        ..Default::default()
    };
    router
        .rpc(call.clone())
        .metadata("traceparent", PARENT)
        .await;
    router.rpc(call).await;
    let seen = seen.lock().unwrap();
    let headers: Vec<_> = seen[0].headers().collect();
    assert_eq!(headers, [("traceparent", PARENT.to_owned())]);
    assert!(!seen[1].is_some());
}
