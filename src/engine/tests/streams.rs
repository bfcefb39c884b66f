//! Streams: what stages see of them, and the turns of what clients publish into them.

use super::*;
use crate::event::{StreamBidirectional, StreamReply};
use crate::extract::Inbound;
use crate::outcome::StreamEndReason;
use crate::proto::proxy::Publication;
use crate::router::Route;
use futures_util::stream;

struct SeesEnds(Trace);

impl Interceptor for SeesEnds {
    async fn before(&self, _: &mut Cx) -> Flow {
        self.0.push("open");
        Flow::Next
    }

    async fn after(&self, _: &Cx, outcome: &mut Outcome) {
        match outcome {
            Outcome::StreamEnd(end) => {
                let reason = match &end.reason {
                    StreamEndReason::Failed(_) => "failed",
                    other => other.label(),
                };
                let line = format!("{reason}: sent {}, received {}", end.sent, end.received);
                self.0.push(line);
            }
            other => self.0.push(other.label()),
        }
    }
}

#[tokio::test]
async fn stages_see_a_stream_when_it_opens_and_when_it_has_ended() {
    let trace = Trace::default();
    let items = |count: u32| stream::iter((0..count).map(|n| Publication::json(&n).unwrap()));
    let router = Router::new()
        .intercept_all("sees", SeesEnds(trace.clone()))
        .stream("ends", move || async move {
            StreamReply::publications(items(3))
        })
        .stream("fails", || async {
            let broken = [Ok(Publication::json(&1).unwrap()), Err("broken")];
            StreamReply::try_publications(stream::iter(broken))
        })
        .stream("panics", || async {
            StreamReply::publications(stream::poll_fn(|_| panic!("boom")))
        })
        .stream("not json", || async {
            let text = Publication {
                data: "text".into(),
                ..Default::default()
            };
            StreamReply::publications(stream::iter([text]))
        })
        .stream("silent", || async { StreamReply::silent() });
    let router = start(router).await;
    for (channel, status, end) in [
        ("ends", Code::Ok, "stream_finished: sent 3, received 0"),
        ("fails", Code::Internal, "failed: sent 1, received 0"),
        ("panics", Code::Internal, "failed: sent 0, received 0"),
        ("not json", Code::Internal, "failed: sent 0, received 0"),
    ] {
        let mut open = router.stream(subscribe(channel)).await;
        assert!(open.is_accepted(), "{channel}: {:?}", open.first());
        assert_eq!(trace.take(), ["open"], "{channel}");
        assert_eq!(open.ended().await, status, "{channel}");
        eventually("the end has passed", || trace.len() == 1).await;
        assert_eq!(trace.take(), [end], "{channel}");
    }
    drop(router.stream(subscribe("silent")).await);
    eventually("the end has passed", || trace.len() == 2).await;
    assert_eq!(
        trace.take(),
        ["open", "stream_cancelled: sent 0, received 0"]
    );
    assert_eq!(router.engine().open_streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_holds_its_lane_until_it_is_accepted_and_then_runs_beside_it() {
    let trace = Trace::default();
    let router = timed(&trace).stream("*", || async {
        sleep(ms(200)).await;
        StreamReply::silent()
    });
    let router = start(router).await;
    let opening = tokio::spawn(router.stream(subscribe("a")).into_future());
    tokio::task::yield_now().await;
    let begun = Instant::now();
    assert!(router.publish(publish("a", "0")).await.result().is_some());
    assert!(begun.elapsed() >= ms(200), "it waited for the accept");
    let open = opening.await.unwrap();
    assert!(open.is_accepted());
    let begun = Instant::now();
    assert!(router.publish(publish("a", "0")).await.result().is_some());
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_a_client_publishes_into_a_stream_takes_turns_with_the_events_of_its_channel() {
    let trace = Trace::default();
    let seen = trace.clone();
    let router = timed(&trace).stream_bidirectional("*", move |mut inbound: Inbound| {
        let seen = seen.clone();
        async move {
            tokio::spawn(async move {
                while let Some(publication) = inbound.recv().await {
                    let text = String::from_utf8(publication.data.to_vec()).unwrap();
                    seen.push(format!("turn {text}"));
                    sleep(ms(100)).await;
                    seen.push(format!("over {text}"));
                }
            });
            StreamReply::silent()
        }
    });
    let router = start(router).await;
    let mut open = router.stream_bidirectional(subscribe("a")).await;
    open.publish("1");
    eventually("the first turn", || trace.len() == 1).await;
    let publish = launch(router.publish(publish("a", "50")));
    let waiting = || router.engine().shared.cores[0].waiting.get();
    eventually("the publish waits in the lane", || waiting() == 1).await;
    open.publish("2");
    assert!(publish.await.unwrap().result().is_some());
    eventually("all turns", || trace.len() == 7).await;
    let expected = [
        "turn 1",
        "over 1",
        "start a",
        "end a",
        "dropped a",
        "turn 2",
        "over 2",
    ];
    assert_eq!(trace.take(), expected);
    open.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_no_publications_does_not_let_them_hold_its_lane() {
    let router =
        timed(&Trace::default()).stream_bidirectional("*", || async { StreamReply::silent() });
    let router = start(router).await;
    let open = router.stream_bidirectional(subscribe("a")).await;
    let begun = Instant::now();
    for n in 0..10 {
        open.publish(n.to_string());
        tokio::task::yield_now().await;
        assert!(router.publish(publish("a", "0")).await.result().is_some());
    }
    assert!(begun.elapsed() < ms(100), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_takes_longer_than_the_timeout_gives_the_lane_back() {
    let router = timed(&Trace::default()).stream_bidirectional("*", |mut inbound: Inbound| async {
        tokio::spawn(async move {
            inbound.recv().await;
            std::future::pending::<()>().await;
            drop(inbound);
        });
        StreamReply::silent()
    });
    let router = start(router).await;
    let call = router
        .stream_bidirectional(subscribe("a"))
        .timeout(ms(1000));
    let open = call.await;
    open.publish("1");
    sleep(ms(10)).await;
    let begun = Instant::now();
    assert!(router.publish(publish("a", "0")).await.result().is_some());
    let took = begun.elapsed();
    assert!((ms(900)..ms(1000)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn publications_for_a_handler_that_is_slower_than_its_turns_are_not_lost() {
    let trace = Trace::default();
    let seen = trace.clone();
    let handler = move |mut inbound: Inbound| {
        let seen = seen.clone();
        async move {
            tokio::spawn(async move {
                while let Some(publication) = inbound.recv().await {
                    seen.push(String::from_utf8(publication.data.to_vec()).unwrap());
                    sleep(ms(500)).await;
                }
            });
            StreamReply::silent()
        }
    };
    let route = Route::of::<StreamBidirectional, _, _>(handler).timeout(ms(100));
    let router = start(Router::new().route(route)).await;
    let open = router.stream_bidirectional(subscribe("a")).await;
    let sent: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    sent.iter().for_each(|text| open.publish(text.clone()));
    eventually("all ten", || trace.len() == 10).await;
    assert_eq!(trace.take(), sent);
}

#[tokio::test(start_paused = true)]
async fn a_crash_of_the_shard_loses_no_publication_into_a_stream() {
    let trace = Trace::default();
    let seen = trace.clone();
    let router = Router::new().stream_bidirectional("*", move |mut inbound: Inbound| {
        let seen = seen.clone();
        async move {
            tokio::spawn(async move {
                while let Some(publication) = inbound.recv().await {
                    seen.push(String::from_utf8(publication.data.to_vec()).unwrap());
                    sleep(ms(20)).await;
                }
            });
            StreamReply::silent()
        }
    });
    let router = start(router).await;
    let open = router.stream_bidirectional(subscribe("a")).await;
    let sent: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    sent.iter().for_each(|text| open.publish(text.clone()));
    eventually("the third", || trace.len() == 3).await;
    for shard in &router.engine().shared.shards {
        shard.seat.occupant().unwrap().kill();
    }
    eventually("all ten", || trace.len() == 10).await;
    assert_eq!(trace.take(), sent);
}
