//! C92, C96: order of keys on several cores, and a storm of connects.

use crate::support::client::frame;
use crate::support::{TestNode, json, path, request, small_request, soon};
use centripeta::event::{EventKind, Refresh, Rpc};
use centripeta::{ConnectReply, Data, Param, PublishReply, RefreshReply, Route, Router, RpcReply};
use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Default)]
struct Seen {
    running: bool,
    order: Vec<u32>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c92_events_of_a_key_arrive_in_order_and_one_at_a_time_on_every_core() {
    const KEYS: usize = 50;
    const EACH: u32 = 40;
    let seen: Arc<Mutex<HashMap<String, Seen>>> = Arc::default();
    let handled = Arc::clone(&seen);
    let handler = move |Param(key): Param<String>, Data(n): Data<u32>| {
        let handled = Arc::clone(&handled);
        async move {
            {
                let mut handled = handled.lock().unwrap();
                let seen = handled.entry(key.clone()).or_default();
                assert!(!seen.running, "two events of {key} at once");
                seen.running = true;
                seen.order.push(n);
            }
            // Some end where they start, some wait, and the waits differ.
            match n % 3 {
                0 => {}
                1 => tokio::task::yield_now().await,
                _ => tokio::time::sleep(Duration::from_micros(u64::from(n) * 50)).await,
            }
            handled.lock().unwrap().get_mut(&key).unwrap().running = false;
            PublishReply::allow()
        }
    };
    let node = TestNode::start(Router::new().publish("chat:{room}", handler)).await;
    // Each key keeps to one connection, as a channel's client does; the connections lie on both
    // cores, the keys' shards anywhere.
    let mut tasks = Vec::new();
    for connection in 0..4 {
        let client = node.client().await;
        tasks.push(tokio::spawn(async move {
            let mut calls = Vec::new();
            for n in 0..EACH {
                for key in (connection..KEYS).step_by(4) {
                    let json =
                        format!(r#"{{"protocol":"json","channel":"chat:{key}","data":{n}}}"#);
                    let headers = [("grpc-timeout", "60S")];
                    let mut call = client
                        .open(&path(EventKind::Publish), &headers)
                        .await
                        .unwrap();
                    call.send(frame(false, &request(EventKind::Publish, &json)), true)
                        .await;
                    calls.push(call);
                }
            }
            for call in calls {
                let reply = call.finish().await;
                assert_eq!(
                    json(EventKind::Publish, reply.message()),
                    r#"{"result":{}}"#
                );
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), KEYS);
    for (key, seen) in seen.iter() {
        assert!(
            seen.order.is_sorted() && seen.order.len() == EACH as usize,
            "{key}: {:?}",
            seen.order
        );
    }
}

#[tokio::test]
async fn c92_a_key_that_waits_for_ever_blocks_no_other_key() {
    let handler = |Param(room): Param<u32>| async move {
        if room == 0 {
            std::future::pending::<()>().await;
        }
        PublishReply::allow()
    };
    let node = TestNode::start(Router::new().publish("chat:{room}", handler)).await;
    let client = node.client().await;
    let publish = path(EventKind::Publish);
    let headers = [("grpc-timeout", "60S")];
    let mut stuck = Vec::new();
    for _ in 0..10 {
        let mut call = client.open(&publish, &headers).await.unwrap();
        call.send(
            frame(false, &small_request(EventKind::Publish, "chat:0")),
            true,
        )
        .await;
        stuck.push(call);
    }
    for room in 1..500 {
        let body = small_request(EventKind::Publish, &format!("chat:{room}"));
        let reply = soon("an answer", client.call(&publish, &headers, &body)).await;
        assert_eq!(reply.status, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c96_in_a_storm_of_connects_the_p99_stays_below_a_second() {
    let router = Router::new().connect(|| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        ConnectReply::user("u1")
    });
    let node = TestNode::start(router).await;
    let body = small_request(EventKind::Connect, "");
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(node.client().await);
    }
    // 2 000 a second, or half of what this machine can do with nothing optimised.
    let begun = Instant::now();
    let mut probe = Vec::new();
    for n in 0..1000 {
        let (client, body) = (clients[n % 4].clone(), body.clone());
        probe.push(tokio::spawn(async move {
            let headers = [("grpc-timeout", "60S")];
            client
                .call(&path(EventKind::Connect), &headers, &body)
                .await
        }));
    }
    for call in probe {
        assert_eq!(call.await.unwrap().status, Some(0));
    }
    let sustained = 1000.0 / begun.elapsed().as_secs_f64();
    let each_wave = ((sustained / 20.0) as usize).clamp(20, 200);
    if each_wave < 200 {
        // The macros would be captured.
        let line = format!(
            "!!!! C96 SCALED DOWN: {} connects in 5 s instead of 10000; this machine sustained {sustained:.0} a second\n",
            50 * each_wave
        );
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    let begun = Instant::now();
    let mut calls = Vec::new();
    for wave in 0_usize..50 {
        tokio::time::sleep_until(begun + Duration::from_millis(100) * wave as u32).await;
        for n in 0..each_wave {
            let (client, body) = (clients[(wave + n) % 4].clone(), body.clone());
            calls.push(tokio::spawn(async move {
                let begun = Instant::now();
                let headers = [("grpc-timeout", "1S")];
                let reply = client
                    .call(&path(EventKind::Connect), &headers, &body)
                    .await;
                (reply, begun.elapsed())
            }));
        }
    }
    let mut times = Vec::new();
    for call in calls {
        let (reply, took) = call.await.unwrap();
        let answer = json(EventKind::Connect, reply.message());
        assert_eq!(answer, r#"{"result":{"user":"u1"}}"#);
        times.push(took);
    }
    times.sort();
    assert_eq!(times.len(), 50 * each_wave);
    let p99 = times[times.len() * 99 / 100];
    assert!(p99 < Duration::from_secs(1), "p99 {p99:?}");
}

#[tokio::test]
async fn c96_what_is_beyond_the_limit_is_refused_with_a_word_and_at_once() {
    let router = Router::new().connect(|| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        ConnectReply::user("u1")
    });
    let node = TestNode::start_with(router, |config| {
        config.limits.in_flight = 100.try_into().unwrap();
    })
    .await;
    let client = node.client().await;
    let body = small_request(EventKind::Connect, "");
    let mut calls = Vec::new();
    for _ in 0..1000 {
        let mut call = client.open(&path(EventKind::Connect), &[]).await.unwrap();
        call.send(frame(false, &body), true).await;
        calls.push(call);
    }
    let refusal = r#"{"error":{"code":111,"message":"too many requests","temporary":true}}"#;
    let mut admitted = 0;
    for call in calls {
        let reply = soon("an answer", call.finish()).await;
        match json(EventKind::Connect, reply.message()).as_str() {
            r#"{"result":{"user":"u1"}}"# => admitted += 1,
            other => assert_eq!(other, refusal),
        }
    }
    assert!((100..1000).contains(&admitted), "{admitted}");
}

#[tokio::test]
async fn c90_a_refresh_is_answered_beside_an_rpc_that_holds_the_lane_of_its_client() {
    let gate = Arc::new(tokio::sync::Notify::new());
    let begun = Arc::new(tokio::sync::Notify::new());
    let (opened, says) = (Arc::clone(&gate), Arc::clone(&begun));
    let held = move || {
        let (opened, says) = (Arc::clone(&opened), Arc::clone(&says));
        async move {
            says.notify_one();
            opened.notified().await;
            RpcReply::data("done")
        }
    };
    let extended = || async { RefreshReply::extend(Duration::from_secs(60)) };
    let router = Router::new()
        .route(Route::of::<Rpc, _, _>(held).key("client"))
        .route(Route::of::<Refresh, _, _>(extended));
    let node = TestNode::start(router).await;
    let client = node.client().await;
    let headers = [("grpc-timeout", "60S")];
    let mut rpc = client.open(&path(EventKind::Rpc), &headers).await.unwrap();
    rpc.send(frame(false, &small_request(EventKind::Rpc, "a")), true)
        .await;
    soon("the rpc runs", begun.notified()).await;
    let refresh = small_request(EventKind::Refresh, "");
    let to = path(EventKind::Refresh);
    let reply = client.call(&to, &headers, &refresh);
    let reply = soon("the refresh", reply).await;
    assert_eq!(reply.status, Some(0), "{reply:?}");
    assert_eq!(node.in_flight(), 1, "the rpc still runs");
    gate.notify_one();
    let ended = soon("the rpc", rpc.finish()).await;
    assert_eq!((ended.status, ended.messages.len()), (Some(0), 1));
}
