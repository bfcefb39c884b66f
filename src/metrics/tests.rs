//! Counts of an engine in process: lanes, shards, actors, interceptors, streams, and the switch.

#![allow(clippy::unwrap_used)]

use super::page;
use crate::config::Config;
use crate::cx::Cx;
use crate::engine::Engine;
use crate::event::{PublishReply, RpcReply, StreamReply};
use crate::interceptor::{Flow, Interceptor};
use crate::outcome::Outcome;
use crate::proto::proxy::{PublishRequest, RpcRequest, SubscribeRequest};
use crate::reject::Reject;
use crate::router::Router;
use crate::testing::TestRouter;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;

/// The number of a sample, 0 if there is none.
fn sample(engine: &Engine, series: &str) -> f64 {
    let text = page(engine, None).unwrap();
    let found = text.lines().find_map(|line| {
        let rest = line.strip_prefix(series)?;
        rest.strip_prefix(' ')?.parse().ok()
    });
    found.unwrap_or(0.0)
}

/// The sum of all samples of a metric.
fn sum(engine: &Engine, metric: &str) -> f64 {
    let text = page(engine, None).unwrap();
    let of_metric = |line: &&str| line.split(['{', ' ']).next() == Some(metric);
    let number = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
    text.lines().filter(of_metric).map(number).sum()
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if holds() {
            return;
        }
        sleep(Duration::from_millis(1)).await;
    }
    panic!("not within the limit: {what}");
}

fn publish(channel: &str) -> PublishRequest {
    PublishRequest {
        channel: channel.to_owned(),
        ..Default::default()
    }
}

fn rpc(method: &str) -> RpcRequest {
    RpcRequest {
        method: method.to_owned(),
        ..Default::default()
    }
}

/// Handlers wait until the gate lets one through.
fn held(gate: &Arc<Notify>) -> Router {
    let gate = Arc::clone(gate);
    Router::new().publish("*", move || {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            PublishReply::allow()
        }
    })
}

#[tokio::test(start_paused = true)]
async fn busy_lanes_and_what_waits_in_them_are_seen_while_they_last() {
    let gate = Arc::new(Notify::new());
    let router = TestRouter::new(held(&gate)).await.unwrap();
    let engine = router.engine();
    let busy = "centripeta_lanes{core=\"0\",state=\"busy\"}";
    let queued = "centripeta_lane_queued_events{core=\"0\"}";
    let calls: Vec<_> = ["a", "a", "a", "b"]
        .map(|channel| tokio::spawn(router.publish(publish(channel)).into_future()))
        .into();
    eventually("two run and two wait", || {
        sample(engine, busy) == 2.0 && sample(engine, queued) == 2.0
    })
    .await;
    assert_eq!(sample(engine, "centripeta_in_flight_events"), 4.0);
    assert_eq!(sum(engine, "centripeta_shard_waiting_events"), 2.0);
    assert_eq!(sum(engine, "centripeta_shard_mailbox_events"), 0.0);
    assert!(sum(engine, "centripeta_shard_waiting_bytes") > 0.0);
    for call in calls {
        gate.notify_one();
        gate.notify_one();
        assert!(call.await.unwrap().result().is_some());
    }
    eventually("all lanes are gone", || {
        sum(engine, "centripeta_lanes") == 0.0
    })
    .await;
    assert_eq!(sample(engine, queued), 0.0);
    assert_eq!(sum(engine, "centripeta_shard_waiting_events"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn events_that_expire_in_a_lane_no_longer_wait_there() {
    let gate = Arc::new(Notify::new());
    let router = TestRouter::new(held(&gate)).await.unwrap();
    let engine = router.engine();
    let calls: Vec<_> = (0..3)
        .map(|_| tokio::spawn(router.publish(publish("a")).into_future()))
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().status(), tonic::Code::DeadlineExceeded);
    }
    eventually("the lane is gone", || {
        sum(engine, "centripeta_lanes") == 0.0
    })
    .await;
    assert_eq!(sum(engine, "centripeta_lane_queued_events"), 0.0);
    let timeouts = "centripeta_events_total{kind=\"publish\",route=\"*\",handler=\"closure in held\",outcome=\"timeout\"}";
    assert_eq!(sample(engine, timeouts), 3.0);
}

#[tokio::test(start_paused = true)]
async fn lanes_that_keep_a_state_are_kept_until_they_are_passivated() {
    let mut config = Config::default();
    config.runtime.passivate_after = Duration::from_secs(10);
    let handler = "[[route]]\non = \"rpc\"\nkey = \"user\"\nhandler = \"counter\"\n";
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("node.toml"), handler).unwrap();
    let options = crate::config::LoadOptions {
        dir: dir.path().to_owned(),
        ..crate::config::LoadOptions::new([])
    };
    let routes = crate::config::load(&options).unwrap().config;
    let router = Router::new().with_config_routes();
    let router = crate::config_routes::assemble(&routes, router).unwrap();
    let router = TestRouter::with_config(router, &config).await.unwrap();
    for user in ["u1", "u2", "u3"] {
        let request = RpcRequest {
            user: user.to_owned(),
            ..rpc("count")
        };
        assert!(router.rpc(request).await.result().is_some());
    }
    let engine = router.engine();
    let kept = "centripeta_lanes{core=\"0\",state=\"kept\"}";
    eventually("three are kept", || sample(engine, kept) == 3.0).await;
    sleep(Duration::from_secs(30)).await;
    eventually("they are gone", || sample(engine, kept) == 0.0).await;
}

#[tokio::test(start_paused = true)]
async fn restarts_and_parks_are_counted_and_a_parked_shard_is_seen() {
    let router = TestRouter::new(Router::new().rpc("*", || async { RpcReply::done() }))
        .await
        .unwrap();
    let engine = router.engine();
    let seat = &engine.shared.shards[0].seat;
    let restarts = "centripeta_actor_restarts_total{child=\"shard\"}";
    let parks = "centripeta_actor_parks_total{child=\"shard\"}";
    let parked = "centripeta_actors_parked{child=\"shard\"}";
    for round in 1..=6 {
        eventually("an actor sits there", || seat.occupant().is_some()).await;
        seat.occupant().unwrap().kill();
        eventually("it is counted", || {
            sample(engine, restarts) + sample(engine, parks) == f64::from(round)
        })
        .await;
    }
    assert_eq!(sample(engine, restarts), 5.0);
    assert_eq!(sample(engine, parks), 1.0);
    assert_eq!(sample(engine, parked), 1.0);
    assert_eq!(sample(engine, "centripeta_ready"), 0.0);
    sleep(Duration::from_secs(30)).await;
    eventually("its trial", || !seat.is_parked()).await;
    assert_eq!(sample(engine, parked), 0.0);
    assert_eq!(sample(engine, "centripeta_ready"), 1.0);
}

/// Lets members in, and fails on the way out for one of them.
struct Members;

impl Interceptor for Members {
    async fn before(&self, cx: &mut Cx) -> Flow {
        if cx.user().is_empty() {
            return Reject::permission_denied().into();
        }
        Flow::Next
    }

    async fn after(&self, cx: &Cx, _: &mut Outcome) {
        assert_ne!(cx.user(), "cursed");
    }
}

#[tokio::test(start_paused = true)]
async fn interceptors_count_what_they_pass_answer_and_break() {
    let router = Router::new()
        .intercept_all("members", Members)
        .rpc("*", || async { RpcReply::done() });
    let router = TestRouter::new(router).await.unwrap();
    for user in ["", "u1", "u2", "cursed", ""] {
        let request = RpcRequest {
            user: user.to_owned(),
            ..rpc("a")
        };
        router.rpc(request).await;
    }
    let events = |half: &str, result: &str| {
        let series = format!(
            "centripeta_interceptor_events_total{{interceptor=\"members\",half=\"{half}\",result=\"{result}\"}}"
        );
        sample(router.engine(), &series)
    };
    assert_eq!(events("before", "next"), 3.0);
    assert_eq!(events("before", "answered"), 2.0);
    assert_eq!(events("after", "done"), 2.0);
    assert_eq!(events("after", "panicked"), 1.0);
    let count =
        "centripeta_interceptor_duration_seconds_count{interceptor=\"members\",half=\"before\"}";
    assert_eq!(sample(router.engine(), count), 1.0);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_an_interceptor_is_the_time_that_it_waits_too() {
    struct Slow;
    impl Interceptor for Slow {
        const HAS_AFTER: bool = false;
        async fn before(&self, _: &mut Cx) -> Flow {
            sleep(Duration::from_millis(40)).await;
            Flow::Next
        }
    }
    let router = Router::new()
        .intercept_all("slow", Slow)
        .rpc("*", || async { RpcReply::done() });
    let router = TestRouter::new(router).await.unwrap();
    router.rpc(rpc("a")).await;
    let took = "centripeta_interceptor_duration_seconds_sum{interceptor=\"slow\",half=\"before\"}";
    let took = sample(router.engine(), took);
    assert!((0.04..0.05).contains(&took), "{took}");
    let took = "centripeta_event_duration_seconds_sum{kind=\"rpc\",route=\"*\",handler=\"closure in the_time_of_an_interceptor_is_the_time_that_it_waits_too\",outcome=\"ok\"}";
    let took = sample(router.engine(), took);
    assert!((0.04..0.05).contains(&took), "{took}");
    let after = "half=\"after\"";
    assert!(!page(router.engine(), None).unwrap().contains(after));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_counts_as_cancelled_once() {
    let gate = Arc::new(Notify::new());
    let router = TestRouter::new(held(&gate)).await.unwrap();
    let engine = router.engine();
    let call = tokio::spawn(router.publish(publish("a")).into_future());
    eventually("it runs", || {
        sample(engine, "centripeta_in_flight_events") == 1.0
    })
    .await;
    call.abort();
    eventually("it is over", || sum(engine, "centripeta_lanes") == 0.0).await;
    let cancelled = "centripeta_events_total{kind=\"publish\",route=\"*\",handler=\"closure in held\",outcome=\"cancelled\"}";
    assert_eq!(sample(engine, cancelled), 1.0);
    assert_eq!(sum(engine, "centripeta_events_total"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn streams_count_when_they_open_and_when_they_end() {
    let router = Router::new().stream("silent", || async { StreamReply::silent() });
    let router = TestRouter::new(router).await.unwrap();
    let engine = router.engine();
    let request = |channel: &str| SubscribeRequest {
        channel: channel.to_owned(),
        ..Default::default()
    };
    let first = router.stream(request("silent")).await;
    let second = router.stream(request("silent")).await;
    router.stream(request("unknown")).await;
    assert_eq!(sample(engine, "centripeta_open_streams"), 2.0);
    let events = |outcome: &str| sum_of(engine, "centripeta_events_total", outcome);
    assert_eq!((events("stream_open"), events("no_route")), (2.0, 1.0));
    drop(first);
    let cancelled = "centripeta_stream_ends_total{kind=\"stream\",reason=\"cancelled\"}";
    eventually("one is over", || sample(engine, cancelled) == 1.0).await;
    let page_before = sum(engine, "centripeta_stream_ends_total");
    assert_eq!(page_before, 1.0);
    drop(second);
    eventually("both are over", || sample(engine, cancelled) == 2.0).await;
    assert_eq!(sample(engine, "centripeta_open_streams"), 0.0);
    assert_eq!(sum(engine, "centripeta_events_total"), 3.0);
}

/// The sum of a metric's samples of one outcome.
fn sum_of(engine: &Engine, metric: &str, outcome: &str) -> f64 {
    let text = page(engine, None).unwrap();
    let outcome = format!("outcome=\"{outcome}\"");
    let lines = text
        .lines()
        .filter(|line| line.starts_with(metric) && line.contains(&outcome));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_counted_and_there_is_no_page_when_metrics_are_switched_off() {
    let mut config = Config::default();
    config.metrics.enabled = false;
    let router = Router::new()
        .intercept_all("members", Members)
        .rpc("*", || async { RpcReply::done() });
    let router = TestRouter::with_config(router, &config).await.unwrap();
    router.rpc(rpc("a")).await;
    assert_eq!(page(router.engine(), None), None);
    let plan = router.engine().shared.plan.load_full();
    let stage = plan.chains[0].stages[0].stage();
    assert!(stage.counts().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn code_that_holds_a_core_is_a_finding_of_the_watchdog() {
    let mut config = Config::default();
    config.runtime.watchdog = Duration::from_millis(10);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(std::sync::Mutex::new(released));
    let holds = move || {
        let released = Arc::clone(&released);
        async move {
            // Blocks on purpose: this is what the watchdog is for.
            let limit = Duration::from_secs(10);
            let _over = released.lock().unwrap().recv_timeout(limit);
            RpcReply::done()
        }
    };
    let router = Router::new().rpc("*", holds);
    let router = TestRouter::with_config(router, &config).await.unwrap();
    let call = tokio::spawn(router.rpc(rpc("a")).into_future());
    let findings = "centripeta_watchdog_findings_total{core=\"0\"}";
    let engine = router.engine();
    eventually("it is found", || sample(engine, findings) == 1.0).await;
    release.send(()).unwrap();
    assert!(call.await.unwrap().result().is_some());
    assert_eq!(sample(engine, findings), 1.0, "once for each time");
}
