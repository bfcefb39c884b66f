//! Lanes: serial for one key, concurrent across keys, whatever their handlers do.

use super::*;
use crate::engine::Engine;
use crate::event::{EventKind, Rpc, SubscribeReply};
use crate::handler::{AnyHandler, HandlerFuture};
use crate::router::Route;
use std::future::ready;
use std::sync::atomic::{AtomicUsize, Ordering};

#[tokio::test(start_paused = true)]
async fn c92_events_of_one_key_run_one_after_the_other_in_the_order_of_arrival() {
    let trace = Trace::default();
    let router = start(timed(&trace)).await;
    let calls: Vec<_> = (0..20)
        .map(|n| {
            // Later ones are faster: nothing but the lane keeps their order.
            let call = router.publish(publish("chat:1", &(20 - n).to_string()));
            launch(call.metadata("x-name", &n.to_string()))
        })
        .collect();
    for call in calls {
        assert!(call.await.unwrap().result().is_some());
    }
    let expected: Vec<String> = (0..20)
        .flat_map(|n| {
            [
                format!("start {n}"),
                format!("end {n}"),
                format!("dropped {n}"),
            ]
        })
        .collect();
    assert_eq!(trace.take(), expected);
}

#[tokio::test(start_paused = true)]
async fn c92_a_slow_key_holds_up_no_other_one() {
    let trace = Trace::default();
    let router = start(timed(&trace)).await;
    let begun = Instant::now();
    let slow = launch(router.publish(publish("chat:slow", "1000")));
    tokio::task::yield_now().await;
    // More keys than shards, so that many share the slow one's shard.
    let others: Vec<_> = (0..100)
        .map(|n| launch(router.publish(publish(&format!("chat:{n}"), "0"))))
        .collect();
    for other in others {
        assert!(other.await.unwrap().result().is_some());
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!(slow.await.unwrap().result().is_some());
}

#[tokio::test(start_paused = true)]
async fn events_without_a_key_run_side_by_side() {
    let router = Router::new().rpc("*", || async {
        sleep(ms(100)).await;
        RpcReply::done()
    });
    let router = start(router).await;
    let begun = Instant::now();
    let calls: Vec<_> = (0..100)
        .map(|_| launch(router.rpc(rpc("a", "1"))))
        .collect();
    for call in calls {
        assert!(call.await.unwrap().result().is_some());
    }
    assert!(begun.elapsed() < ms(110), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn all_events_of_a_channel_and_templates_that_name_it_share_its_lane() {
    let trace = Trace::default();
    let (subscribes, rpcs) = (trace.clone(), trace.clone());
    let router = timed(&trace)
        .subscribe("*", move || {
            subscribes.push("subscribe");
            async { SubscribeReply::allow() }
        })
        .route(
            Route::of::<Rpc, _, _>(move || {
                rpcs.push("rpc");
                async { RpcReply::done() }
            })
            .key("showing:{data.showing}"),
        );
    let router = start(router).await;
    let slow = launch(router.publish(publish("showing:7", "100")));
    tokio::task::yield_now().await;
    let subscribe = launch(router.subscribe(subscribe("showing:7")));
    tokio::task::yield_now().await;
    let rpcs = launch(router.rpc(rpc("hold", r#"{"showing":7}"#)));
    let elsewhere = router.rpc(rpc("hold", r#"{"showing":"8"}"#)).await;
    assert!(elsewhere.result().is_some());
    slow.await.unwrap();
    subscribe.await.unwrap();
    rpcs.await.unwrap();
    let expected = [
        "start showing:7",
        "rpc",
        "end showing:7",
        "dropped showing:7",
        "subscribe",
        "rpc",
    ];
    assert_eq!(trace.take(), expected);
    for data in ["{}", "1", r#"{"showing":{}}"#, ""] {
        let bad = router.rpc(rpc("hold", data)).await;
        assert_eq!(bad.error().map(|error| error.code), Some(107), "{data}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_answers_internal_and_the_lane_goes_on() {
    for waits in [false, true] {
        let trace = Trace::default();
        let seen = trace.clone();
        let router = Router::new().publish("*", move |Data(panics): Data<bool>| {
            let seen = seen.clone();
            async move {
                if waits {
                    sleep(ms(10)).await;
                }
                assert!(!panics, "boom");
                seen.push("ran");
                PublishReply::allow()
            }
        });
        let router = start(router).await;
        let calls: Vec<_> = ["true", "false", "true", "false"]
            .map(|data| launch(router.publish(publish("a", data))))
            .into();
        let mut codes = Vec::new();
        for call in calls {
            codes.push(call.await.unwrap().status());
        }
        let expected = [Code::Internal, Code::Ok, Code::Internal, Code::Ok];
        assert_eq!(codes, expected);
        assert_eq!(trace.take(), ["ran", "ran"]);
        assert_eq!(router.engine().ready(), Ok(()));
    }
}

struct PanicsWhenDropped(bool);

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        assert!(!self.0, "boom in drop");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_while_it_is_dropped_leaves_its_lane_free() {
    let router = Router::new().publish("*", |Data(millis): Data<u64>| async move {
        let _bomb = PanicsWhenDropped(millis > 0);
        sleep(ms(millis)).await;
        PublishReply::allow()
    });
    let router = start(router).await;
    let late = launch(router.publish(publish("a", "5000")).timeout(ms(100)));
    let ends = launch(router.publish(publish("b", "50")));
    tokio::task::yield_now().await;
    let behind = launch(router.publish(publish("a", "0")));
    assert_eq!(late.await.unwrap().status(), Code::DeadlineExceeded);
    assert!(behind.await.unwrap().result().is_some());
    // One that panics at its very end has not brought its answer home.
    assert_eq!(ends.await.unwrap().status(), Code::Internal);
    assert!(router.publish(publish("b", "0")).await.result().is_some());
    assert_eq!(router.engine().ready(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn c09_a_caller_that_goes_away_cancels_its_handler_and_its_queued_events() {
    let trace = Trace::default();
    let router = start(timed(&trace)).await;
    let running = launch(
        router
            .publish(publish("a", "1000"))
            .metadata("x-name", "running"),
    );
    tokio::task::yield_now().await;
    let queued = launch(
        router
            .publish(publish("a", "1000"))
            .metadata("x-name", "queued"),
    );
    eventually("the first one runs", || trace.len() == 1).await;
    running.abort();
    queued.abort();
    eventually("the handler is dropped", || trace.len() == 2).await;
    let next = router
        .publish(publish("a", "0"))
        .metadata("x-name", "next")
        .await;
    assert!(next.result().is_some());
    let expected = [
        "start running",
        "dropped running",
        "start next",
        "end next",
        "dropped next",
    ];
    assert_eq!(trace.take(), expected);
    assert_eq!(router.engine().in_flight(), 0);
}

/// Counts in its lane; the lane's state says how many of them there were.
struct Counts(Arc<AtomicUsize>);

struct Kept(u64, Arc<AtomicUsize>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

impl AnyHandler for Counts {
    fn call(&self, cx: &mut Cx) -> HandlerFuture {
        let mut kept = match cx.lane_state.take().map(|state| state.downcast::<Kept>()) {
            Some(Ok(kept)) => kept,
            _ => {
                self.0.fetch_add(1, Ordering::SeqCst);
                Box::new(Kept(0, Arc::clone(&self.0)))
            }
        };
        kept.0 += 1;
        let reply = RpcReply::data(&kept.0);
        cx.lane_state = Some(kept);
        Box::pin(ready(crate::outcome::IntoOutcome::<Rpc>::into_outcome(
            reply,
        )))
    }

    fn keeps_lane(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_with_state_is_kept_while_it_is_used_and_dropped_when_it_was_idle_for_long() {
    let kept = Arc::new(AtomicUsize::new(0));
    let handler = Arc::new(Counts(Arc::clone(&kept)));
    let route = Route::configured(EventKind::Rpc, "counts".to_owned(), handler);
    let router = Router::new().route(route.key("user"));
    let router = start_with(router, |config| {
        config.runtime.passivate_after = Duration::from_secs(120);
    })
    .await;
    let count = async || {
        router
            .rpc(rpc("a", "1"))
            .await
            .result()
            .unwrap()
            .data
            .clone()
    };
    assert_eq!(count().await, "1");
    for expected in 2..6 {
        sleep(Duration::from_secs(100)).await;
        assert_eq!(count().await, expected.to_string());
    }
    assert_eq!(kept.load(Ordering::SeqCst), 1);
    sleep(Duration::from_secs(200)).await;
    assert_eq!(
        kept.load(Ordering::SeqCst),
        0,
        "nothing is kept of an idle lane"
    );
    assert_eq!(count().await, "1");
}

#[tokio::test(start_paused = true)]
async fn every_event_gets_exactly_one_answer_under_a_random_mix() {
    fastrand::seed(7);
    let trace = Trace::default();
    let router = start_with(timed(&trace), |config| {
        config.limits.lane_queue = 4.try_into().unwrap();
    })
    .await;
    let mut calls = Vec::new();
    for n in 0..2000_u32 {
        let channel = format!("chat:{}", fastrand::u32(..40));
        let call = router.publish(publish(&channel, &fastrand::u32(..20).to_string()));
        let call = call.timeout(ms(fastrand::u64(1..200)));
        let call = launch(call.metadata("x-name", &n.to_string()));
        match fastrand::u8(..10) {
            0 => call.abort(),
            _ => calls.push(call),
        }
        if n % 50 == 0 {
            sleep(ms(fastrand::u64(..10))).await;
        }
    }
    let mut outcomes = std::collections::BTreeMap::new();
    for call in calls {
        let answer = call.await.unwrap();
        let code = answer.error().map(|error| error.code);
        assert!(!answer.is_empty());
        *outcomes.entry((answer.status() as i32, code)).or_insert(0) += 1;
    }
    let deadline = (Code::DeadlineExceeded as i32, None);
    for seen in [(0, None), (0, Some(111)), deadline] {
        assert!(
            outcomes.remove(&seen).is_some_and(|count| count > 10),
            "{seen:?}: {outcomes:?}"
        );
    }
    assert!(outcomes.is_empty(), "{outcomes:?}");
    let engine: &Engine = router.engine();
    eventually("nothing is left in flight", || engine.in_flight() == 0).await;
    assert_eq!(engine.shared.in_flight.bytes.get(), 0);
    eventually("nothing waits", || {
        engine.shared.cores[0].waiting.get() == 0
    })
    .await;
}
