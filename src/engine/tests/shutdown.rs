//! The end: nothing in flight is lost, and what can't end in time is cut and answered.

use super::*;
use crate::engine::loose::Loose;
use crate::event::{ConnectReply, Rpc, StreamReply};
use crate::pool::Pool;
use crate::proto::proxy::ConnectRequest;
use crate::router::Route;
use std::future::pending;

#[tokio::test(start_paused = true)]
async fn a_drain_refuses_what_is_new_and_finishes_what_is_in_flight() {
    let trace = Trace::default();
    let router = start(timed(&trace)).await;
    let running: Vec<_> = (0..10)
        .map(|n| launch(router.publish(publish(&format!("chat:{}", n % 3), "300"))))
        .collect();
    eventually("three run", || trace.len() == 3).await;
    let draining = router.clone();
    let drain = tokio::spawn(async move { draining.shutdown(Duration::from_secs(25)).await });
    eventually("it drains", || router.engine().ready().is_err()).await;
    assert_eq!(router.engine().ready(), Err("draining".to_owned()));
    let refused = router.publish(publish("chat:9", "0")).await;
    assert_eq!(refused.status(), Code::Unavailable);
    for call in running {
        let answer = call.await.unwrap();
        assert!(answer.result().is_some(), "{answer:?}");
    }
    assert_eq!(drain.await.unwrap(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn streams_end_unavailable_spread_over_a_part_of_the_grace() {
    let trace = Trace::default();
    let router = Router::new()
        .intercept_all("spy", trace.spy("spy"))
        .stream("*", || async { StreamReply::silent() });
    let router = start(router).await;
    let mut streams = Vec::new();
    for n in 0..100 {
        let mut stream = router.stream(subscribe(&format!("feed:{n}"))).await;
        assert!(stream.is_accepted());
        streams.push(tokio::spawn(async move {
            let status = stream.ended().await;
            (status, Instant::now())
        }));
    }
    trace.take();
    let begun = Instant::now();
    assert_eq!(router.shutdown(Duration::from_secs(25)).await, (0, 0));
    let mut last = begun;
    for stream in streams {
        let (status, ended) = stream.await.unwrap();
        assert_eq!(status, Code::Unavailable);
        last = last.max(ended);
    }
    assert!(last > begun, "not all at once");
    assert!(last - begun <= ms(25), "{:?}", last - begun);
    let ends = trace.take();
    assert_eq!(ends.len(), 100);
    assert!(
        ends.iter().all(|end| end == "<spy stream_drained"),
        "{ends:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_outlives_the_grace_is_cut_counted_and_answered_unavailable() {
    let trace = Trace::default();
    let router = start_with(timed(&trace), |config| {
        config.limits.timeout = Duration::from_secs(600);
    })
    .await;
    let stuck = launch(router.publish(publish("a", "500000")));
    let behind = launch(router.publish(publish("a", "0")));
    eventually("it runs", || trace.len() == 1).await;
    let begun = Instant::now();
    assert_eq!(router.shutdown(Duration::from_secs(2)).await, (2, 0));
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    for call in [stuck, behind] {
        assert_eq!(call.await.unwrap().status(), Code::Unavailable);
    }
    assert_eq!(trace.take(), ["start a", "dropped a"]);
    let after = router.publish(publish("a", "0")).await;
    assert_eq!(after.status(), Code::Unavailable);
}

/// What takes for ever, and says when it begins and when it is dropped.
async fn never(trace: Trace, name: &str) {
    let _spy = DropSpy(trace.clone(), name.to_owned());
    trace.push(format!("start {name}"));
    pending().await
}

#[tokio::test(start_paused = true)]
async fn what_has_no_key_and_outlives_the_grace_is_answered_unavailable_too() {
    let trace = Trace::default();
    let pool = Pool::new("slow", 1);
    let (called, connects, pooled) = (trace.clone(), trace.clone(), trace.clone());
    let router = Router::new()
        .rpc("here", move || {
            let trace = called.clone();
            async move {
                never(trace, "rpc").await;
                RpcReply::done()
            }
        })
        .connect(move || {
            let trace = connects.clone();
            async move {
                never(trace, "connect").await;
                ConnectReply::user("u1")
            }
        })
        .route(
            Route::of::<Rpc, _, _>(move || {
                let trace = pooled.clone();
                async move {
                    never(trace, "pool").await;
                    RpcReply::done()
                }
            })
            .matching("pooled")
            .on_pool(&pool),
        );
    let router = start_with(router, |config| {
        config.limits.timeout = Duration::from_secs(600);
    })
    .await;
    let calls = [
        launch(router.rpc(rpc("here", "1"))),
        launch(router.rpc(rpc("pooled", "1"))),
    ];
    let connect = launch(router.connect(ConnectRequest::default()));
    eventually("all run", || trace.len() == 3).await;
    let begun = Instant::now();
    assert_eq!(router.shutdown(Duration::from_secs(2)).await, (3, 0));
    for call in calls {
        assert_eq!(call.await.unwrap().status(), Code::Unavailable);
    }
    assert_eq!(connect.await.unwrap().status(), Code::Unavailable);
    // Neither the deadline has answered them nor the end of the process.
    assert!(begun.elapsed() < ms(2500), "{:?}", begun.elapsed());
    eventually("all are dropped", || trace.len() == 6).await;
}

/// A stage that lets nothing through.
struct Waits(Trace);

impl Interceptor for Waits {
    async fn before(&self, _: &mut Cx) -> Flow {
        never(self.0.clone(), "stage").await;
        Flow::Next
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_in_a_stage_beyond_the_grace_is_answered_unavailable_too() {
    let trace = Trace::default();
    let router = Router::new()
        .intercept_all("waits", Waits(trace.clone()))
        .publish("*", || async { PublishReply::allow() });
    let router = start_with(router, |config| {
        config.limits.timeout = Duration::from_secs(600);
    })
    .await;
    let call = launch(router.publish(publish("a", "1")));
    eventually("it runs", || trace.len() == 1).await;
    let begun = Instant::now();
    assert_eq!(router.shutdown(Duration::from_secs(2)).await, (1, 0));
    assert_eq!(call.await.unwrap().status(), Code::Unavailable);
    assert!(begun.elapsed() < ms(2500), "{:?}", begun.elapsed());
    assert_eq!(trace.take(), ["start stage", "dropped stage"]);
}

#[tokio::test]
async fn tasks_that_are_over_are_not_kept() {
    let router = start(Router::new()).await;
    let mut loose = Loose::new(Arc::clone(&router.engine().shared));
    let runs = tokio::spawn(pending::<()>());
    loose.add(Some(runs.abort_handle()));
    for _ in 0..1000 {
        let over = tokio::spawn(async {});
        loose.add(Some(over.abort_handle()));
        over.await.unwrap();
    }
    assert!(loose.len() < 64, "{}", loose.len());
    drop(loose);
    assert!(!runs.is_finished(), "the engine goes on, and so does it");
    runs.abort();
}
