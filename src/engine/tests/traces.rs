//! What spans say of events that wait, run out of time, or lose their actor.

use super::crashes::{kill, shard_of};
use super::*;
use crate::egress::Publisher;
use crate::node::engine_config;
use crate::trace::span::{Span, What};
use crate::trace::{Outlet, Tracer};
use centripeta_cluster::{Gate, OwnerEpoch, Standing, slot_of};

async fn traced(router: Router) -> (TestRouter, Outlet) {
    traced_with(router, Arc::new(Standing::alone("a"))).await
}

async fn traced_with(router: Router, standing: Arc<Standing>) -> (TestRouter, Outlet) {
    let (tracer, outlet) = Tracer::new(1.0);
    let config = Config::default();
    let settings = crate::EngineConfig {
        tracer,
        ..engine_config(&config)
    };
    let publisher = Publisher::closed();
    let router = TestRouter::with_settings(router, settings, publisher, standing);
    (router.await.unwrap(), outlet)
}

/// The spans of one trace in few words, in the order in which they ended, and the error of each.
fn told(spans: &[Span]) -> Vec<(String, Option<&'static str>)> {
    let tell = |span: &Span| {
        let word = match &span.what {
            What::Listener(event) => format!("listener {}", event.outcome),
            What::Half { name, half, result } => format!("{name} {half:?} {result}"),
            What::Handler { name, outcome, .. } => format!("{name} {outcome}"),
            What::Publish(call) => call.method.to_string(),
        };
        (word, span.error.as_ref().map(|fault| fault.kind))
    };
    spans.iter().map(tell).collect()
}

fn words(spans: &[Span]) -> Vec<String> {
    told(spans).into_iter().map(|(word, _)| word).collect()
}

#[tokio::test(start_paused = true)]
async fn an_event_that_loses_its_shard_has_spans_that_say_so_and_one_that_waited_says_how_long() {
    let trace = Trace::default();
    let (router, mut outlet) = traced(timed(&trace)).await;
    let call = |millis: &str| launch(router.publish(publish("a", millis)));
    let started = call("1000");
    eventually("it runs", || trace.len() == 1).await;
    let queued = call("5");
    sleep(ms(20)).await;
    kill(&shard_of(&router.engine().shared, "a").seat).await;
    started.await.unwrap();
    let lost = outlet.take();
    let lost = told(&lost);
    let [.., (handler, fault), (listener, error)] = &lost[..] else {
        panic!("{lost:?}");
    };
    assert!(handler.ends_with(" unavailable"), "{lost:?}");
    assert_eq!(listener, "listener unavailable");
    assert_eq!((*fault, *error), (Some("unavailable"), Some("unavailable")));

    assert!(queued.await.unwrap().result().is_some());
    let ran = outlet.take();
    assert!(ran.iter().all(|span| span.error.is_none()));
    let waits = ran.iter().filter_map(|span| match &span.what {
        What::Handler { waited, .. } => Some(*waited),
        _ => None,
    });
    let waits: Vec<Duration> = waits.collect();
    assert_eq!(waits.len(), 1, "it was sent again and ran once");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_never_run_has_no_handler_span_and_says_how_long_it_waited() {
    let trace = Trace::default();
    let (router, mut outlet) = traced(timed(&trace)).await;
    let first = launch(router.publish(publish("a", "1000")));
    eventually("it runs", || trace.len() == 1).await;
    let second = router.publish(publish("a", "1")).timeout(ms(200));
    assert_eq!(second.await.status(), Code::DeadlineExceeded);
    let spans = outlet.take();
    assert_eq!(words(&spans), ["listener timeout"]);
    let What::Listener(event) = &spans[0].what else {
        panic!("{spans:?}");
    };
    assert!(
        event.waited.is_some_and(|waited| waited >= ms(100)),
        "{event:?}"
    );
    assert_eq!(event.status, Code::DeadlineExceeded);
    assert!(first.await.unwrap().result().is_some());
    // Its handler waited for no one.
    let spans = outlet.take();
    let handler = spans.iter().find_map(|span| match &span.what {
        What::Handler { waited, .. } => Some((*waited, span.end - span.start)),
        _ => None,
    });
    let (waited, took) = handler.unwrap();
    assert!(
        waited < ms(100) && took >= 1_000_000_000,
        "{waited:?} {took}"
    );
}

/// A stage that answers in the handler's place, or panics.
struct Stops(bool);

impl Interceptor for Stops {
    async fn before(&self, _: &mut Cx) -> Flow {
        assert!(!self.0, "on purpose");
        crate::Reject::permission_denied().into()
    }
}

#[tokio::test]
async fn a_stage_that_answers_or_panics_has_a_span_that_says_so() {
    for (panics, word, error) in [
        (false, "stops Before answered", None),
        (true, "stops Before panicked", Some("panic")),
    ] {
        let rpc_route = async || RpcReply::done();
        let router = Router::new()
            .intercept_all("stops", Stops(panics))
            .rpc("*", rpc_route);
        let (router, mut outlet) = traced(router).await;
        router.rpc(rpc("a", "1")).await;
        let spans = outlet.take();
        let told = told(&spans);
        assert_eq!(told[0], (word.to_owned(), error));
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(spans[0].parent, spans[1].id);
    }
}

#[tokio::test]
async fn a_publication_of_a_stale_owner_has_a_span_that_says_fenced() {
    let standing = Arc::new(Standing::alone("a"));
    let change = Arc::clone(&standing);
    let handler = move |publisher: Publisher| {
        let change = Arc::clone(&change);
        async move {
            change.set_gate(slot_of(b"chat:1"), Gate::Open(OwnerEpoch(2)));
            assert!(publisher.publish_json("chat:1", &1).await.is_err());
            crate::PublishReply::allow()
        }
    };
    let router = Router::new().publish("chat:*", handler);
    let (router, mut outlet) = traced_with(router, standing).await;
    let request = crate::proto::proxy::PublishRequest {
        channel: "chat:1".to_owned(),
        data: "1".into(),
        ..Default::default()
    };
    let late = router.publish(request).await;
    assert_eq!(
        late.status(),
        Code::Unavailable,
        "nor does its answer leave"
    );
    let spans = outlet.take();
    let (handler, publish) = (&spans[1], &spans[0]);
    assert_eq!(told(&spans)[0], ("Publish".to_owned(), Some("fenced")));
    assert_eq!(publish.parent, handler.id, "{:?}", words(&spans));
}
