//! Admission, queues and deadlines: what does not fit is refused with a word.

use super::*;
use crate::event::StreamReply;
use crate::proto::proxy::RefreshRequest;

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

fn is_overload<E: crate::event::Event>(answer: &TestAnswer<E>) -> bool {
    let error = answer.error();
    error.is_some_and(|error| error.code == 111 && error.temporary)
}

#[tokio::test(start_paused = true)]
async fn events_beyond_in_flight_are_refused_until_there_is_room() {
    let gate = Arc::new(Notify::new());
    let router = start_with(held(&gate), |config| {
        config.limits.in_flight = 2.try_into().unwrap();
    })
    .await;
    let first = launch(router.publish(publish("a", "1")));
    let second = launch(router.publish(publish("b", "1")));
    eventually("two are in flight", || router.engine().in_flight() == 2).await;
    assert!(is_overload(&router.publish(publish("c", "1")).await));
    let refresh = router.refresh(RefreshRequest::default()).await;
    assert_eq!(refresh.status(), Code::Unavailable);
    let stream = router.stream(subscribe("a")).await;
    assert_eq!(stream.first().status(), Code::Unavailable);
    assert_eq!(router.engine().in_flight(), 2);
    gate.notify_waiters();
    for call in [first, second] {
        assert!(call.await.unwrap().result().is_some());
    }
    let third = launch(router.publish(publish("c", "1")));
    eventually("it is let in", || router.engine().in_flight() == 1).await;
    gate.notify_waiters();
    assert!(third.await.unwrap().result().is_some());
}

#[tokio::test(start_paused = true)]
async fn bytes_beyond_in_flight_bytes_are_refused() {
    let gate = Arc::new(Notify::new());
    let router = start_with(held(&gate), |config| config.limits.in_flight_bytes = 1000).await;
    let big = format!("\"{}\"", "x".repeat(700));
    let first = launch(router.publish(publish("a", &big)));
    eventually("one is in flight", || router.engine().in_flight() == 1).await;
    assert!(is_overload(&router.publish(publish("b", &big)).await));
    let small = launch(router.publish(publish("c", "1")));
    eventually("a small one fits", || router.engine().in_flight() == 2).await;
    gate.notify_waiters();
    assert!(first.await.unwrap().result().is_some());
    assert!(small.await.unwrap().result().is_some());
    assert_eq!(router.engine().shared.in_flight.bytes.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_lane_refuses_and_other_lanes_do_not_notice() {
    let trace = Trace::default();
    let router = start_with(timed(&trace), |config| {
        config.limits.lane_queue = 3.try_into().unwrap();
    })
    .await;
    let calls: Vec<_> = (0..6)
        .map(|_| launch(router.publish(publish("a", "100"))))
        .collect();
    tokio::task::yield_now().await;
    assert!(router.publish(publish("b", "0")).await.result().is_some());
    let mut refused = Vec::new();
    for call in calls {
        refused.push(is_overload(&call.await.unwrap()));
    }
    // One runs, three wait.
    assert_eq!(refused, [false, false, false, false, true, true]);
}

#[tokio::test(start_paused = true)]
async fn a_full_shard_refuses_by_events_and_by_bytes() {
    for by_bytes in [false, true] {
        let trace = Trace::default();
        let router = start_with(timed(&trace), |config| match by_bytes {
            true => config.limits.shard_bytes = 200,
            false => config.limits.shard_events = 2.try_into().unwrap(),
        })
        .await;
        let data = format!("100{}", " ".repeat(if by_bytes { 70 } else { 0 }));
        let running = launch(router.publish(publish("a", &data)));
        eventually("the first one runs", || trace.len() == 1).await;
        let waiting = [(); 2].map(|()| launch(router.publish(publish("a", &data))));
        tokio::task::yield_now().await;
        assert!(is_overload(&router.publish(publish("a", &data)).await));
        assert!(running.await.unwrap().result().is_some());
        for waiting in waiting {
            assert!(waiting.await.unwrap().result().is_some());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c08_a_handler_is_dropped_at_the_deadline_and_leaves_nothing() {
    let trace = Trace::default();
    let router = start(timed(&trace)).await;
    let begun = Instant::now();
    let late = router.publish(publish("a", "10000")).timeout(ms(500)).await;
    assert_eq!(late.status(), Code::DeadlineExceeded);
    // The margin is a tenth of the caller's time, at most 50 ms.
    assert!(
        (ms(450)..ms(460)).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(trace.take(), ["start a", "dropped a"]);
    assert_eq!(router.engine().in_flight(), 0);
    assert!(router.publish(publish("a", "0")).await.result().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_event_that_waits_in_a_lane_is_answered_at_its_own_deadline() {
    let trace = Trace::default();
    let router = start(timed(&trace)).await;
    let slow = launch(router.publish(publish("a", "2000")));
    eventually("it runs", || trace.len() == 1).await;
    let begun = Instant::now();
    let calls: Vec<_> = [300, 100, 200]
        .map(|timeout| launch(router.publish(publish("a", "0")).timeout(ms(timeout))))
        .into();
    let mut ended = Vec::new();
    for call in calls {
        assert_eq!(call.await.unwrap().status(), Code::DeadlineExceeded);
        ended.push(begun.elapsed());
    }
    assert!(ended[0] < ms(310), "{ended:?}");
    assert!(slow.await.unwrap().result().is_some());
    assert_eq!(
        trace.take(),
        ["start a", "end a", "dropped a"],
        "none of them ran"
    );
}

#[tokio::test(start_paused = true)]
async fn the_nearest_of_the_callers_and_the_routes_time_counts() {
    let slow = || async {
        sleep(Duration::from_secs(60)).await;
        RpcReply::done()
    };
    let route = crate::router::Route::of::<crate::event::Rpc, _, _>(slow);
    let router = Router::new()
        .rpc("plain", slow)
        .route(route.matching("short").timeout(ms(100)));
    let router = start_with(router, |config| config.limits.timeout = ms(1000)).await;
    for (method, timeout, expected) in [
        ("plain", None, 1000),
        ("plain", Some(400), 360),
        ("plain", Some(5000), 4950),
        ("short", None, 100),
        ("short", Some(50), 45),
        ("short", Some(5000), 100),
    ] {
        let begun = Instant::now();
        let mut call = router.rpc(rpc(method, "1"));
        if let Some(timeout) = timeout {
            call = call.timeout(ms(timeout));
        }
        assert_eq!(call.await.status(), Code::DeadlineExceeded);
        let took = begun.elapsed();
        let expected = ms(expected);
        assert!(
            (expected..expected + ms(5)).contains(&took),
            "{method} {timeout:?}: {took:?}"
        );
    }
}

#[tokio::test]
async fn streams_beyond_their_limit_are_refused_and_do_not_count_as_in_flight() {
    let router = Router::new().stream("*", || async { StreamReply::silent() });
    let router = start_with(router, |config| {
        config.limits.streams = 2.try_into().unwrap();
        config.limits.in_flight = 1.try_into().unwrap();
    })
    .await;
    let first = router.stream(subscribe("a")).await;
    let second = router.stream(subscribe("b")).await;
    assert!(first.is_accepted() && second.is_accepted());
    let third = router.stream(subscribe("c")).await;
    assert_eq!(third.first().status(), Code::Unavailable);
    drop(first);
    assert!(router.stream(subscribe("c")).await.is_accepted());
    assert_eq!(router.engine().in_flight(), 0);
}
