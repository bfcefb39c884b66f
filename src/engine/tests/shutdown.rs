//! The end: nothing in flight is lost, and what can't end in time is cut and answered.

use super::*;
use crate::event::StreamReply;

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
