//! What goes to an upstream and what comes back: the same bytes, the caller's metadata, the time.

use crate::backend::{Answer, Backend};
use crate::front::{Front, UNARY, handler, response, with_unknown};
use crate::support::{TestNode, actor, path, small_request};
use centripeta::event::EventKind;
use std::time::Duration;

#[tokio::test]
async fn every_event_crosses_both_ways_with_all_its_bytes() {
    let backend = Backend::start(|_| Answer::Reply(response())).await;
    let front = Front::start(&[&backend], "").await;
    for kind in UNARY {
        let request = with_unknown(&small_request(kind, "a:1"));
        let reply = front.call(kind, &request).await;
        assert_eq!(reply.message(), &response(), "{kind}");
        let seen = backend.seen().pop().unwrap();
        assert_eq!((seen.path, seen.message), (path(kind), request), "{kind}");
    }
    assert_eq!(backend.count(), UNARY.len());
    let endpoint = backend.endpoint();
    let line = |name: &str, rest: &str| {
        format!("centripeta_upstream_{name}{{handler=\"b\",endpoint=\"{endpoint}\"{rest}}}")
    };
    for (line, number) in [
        (line("calls_total", ",result=\"OK\""), 12.0),
        (line("call_duration_seconds_count", ""), 12.0),
        (line("in_flight_calls", ""), 0.0),
        (line("open_streams", ""), 0.0),
        (line("addresses", ",state=\"well\""), 1.0),
        (line("ejections_total", ""), 0.0),
    ] {
        assert_eq!(front.metric(&line).await, Some(number), "{line}");
    }
}

#[tokio::test]
async fn a_large_message_crosses_and_one_beyond_centrifugos_limit_does_not() {
    let backend = Backend::start(|seen| {
        let length: usize = seen.header("x-length").unwrap().parse().unwrap();
        let mut reply = vec![0x0a];
        prost::encoding::encode_varint(length as u64 + 5, &mut reply);
        reply.extend_from_slice(&[0x0a]);
        prost::encoding::encode_varint(length as u64, &mut reply);
        reply.resize(reply.len() + length, b'1');
        Answer::Reply(reply.into())
    })
    .await;
    let front = Front::start(&[&backend], "").await;
    let request = small_request(EventKind::Rpc, "a");
    let rpc = path(EventKind::Rpc);
    for (length, status) in [
        ("3000000", Some(0)),
        ("5000000", Some(13)),
        ("9000000", Some(13)),
    ] {
        let headers = [("x-length", length)];
        let reply = front.client.call(&rpc, &headers, &request).await;
        assert_eq!(reply.status, status, "{length}");
    }
}

#[tokio::test]
async fn the_callers_metadata_goes_on_without_its_credential_and_added_metadata_wins() {
    let backend = Backend::start(|_| Answer::Reply(response())).await;
    let keys = "metadata = { X-Api-Key = \"ours\", x-more = \"1\" }";
    let rest = handler(&[backend.endpoint()], keys);
    let auth = "[listen.auth]\nmetadata = \"x-router-key\"\nvalue = \"sesame\"\n";
    let front = Front::start_with(&format!("{auth}{rest}")).await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let headers = [
        ("x-router-key", "sesame"),
        ("x-api-key", "a client's"),
        ("x-forwarded-for", "10.1.2.3"),
        ("traceparent", parent),
        ("grpc-timeout", "2S"),
    ];
    let request = small_request(EventKind::Rpc, "a");
    let rpc = path(EventKind::Rpc);
    let call = front.client.call(&rpc, &headers, &request);
    assert_eq!(call.await.message(), &response());
    let seen = backend.seen().pop().unwrap();
    assert_eq!(seen.header("x-router-key"), None);
    assert_eq!(seen.header("x-api-key"), Some("ours"));
    assert_eq!(seen.headers.get_all("x-api-key").iter().count(), 1);
    assert_eq!(seen.header("x-more"), Some("1"));
    assert_eq!(seen.header("x-forwarded-for"), Some("10.1.2.3"));
    let trace = seen.header("traceparent").unwrap();
    assert_eq!(trace.split('-').nth(1), parent.split('-').nth(1));
    assert_eq!(seen.header("content-type"), Some("application/grpc"));
    assert_eq!(seen.header("te"), Some("trailers"));
}

/// The time that a `grpc-timeout` says.
fn time(text: &str) -> Duration {
    let (digits, unit) = text.split_at(text.len() - 1);
    let number: u64 = digits.parse().unwrap();
    match unit {
        "u" => Duration::from_micros(number),
        "m" => Duration::from_millis(number),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn the_time_that_is_left_is_passed_on_and_its_end_is_the_callers_answer() {
    let backend = Backend::start(|_| Answer::Hang).await;
    let front = Front::start(&[&backend], "").await;
    let request = small_request(EventKind::Rpc, "a");
    let rpc = path(EventKind::Rpc);
    let headers = [("grpc-timeout", "300m")];
    let call = front.client.call(&rpc, &headers, &request);
    let reply = call.await;
    assert_eq!(reply.status, Some(4), "{reply:?}");
    let told = time(backend.seen()[0].header("grpc-timeout").unwrap());
    assert!(told <= Duration::from_millis(300), "{told:?}");
    assert!(told > Duration::from_millis(30), "{told:?}");
    crate::support::eventually("the upstream is told that nobody waits", async || {
        backend.cancelled() == 1
    })
    .await;
    let timeouts = "centripeta_upstream_calls_total{handler=\"b\"";
    crate::support::eventually("it counts as a timeout", async || {
        let endpoint = backend.endpoint();
        let line = format!("{timeouts},endpoint=\"{endpoint}\",result=\"timeout\"}}");
        front.metric(&line).await == Some(1.0)
    })
    .await;
}

#[tokio::test]
async fn a_handlers_own_timeout_ends_a_call_before_the_callers() {
    let backend = Backend::start(|_| Answer::Hang).await;
    let front = Front::start(&[&backend], "timeout = \"100ms\"").await;
    let request = small_request(EventKind::Rpc, "a");
    let rpc = path(EventKind::Rpc);
    let started = tokio::time::Instant::now();
    let headers = [("grpc-timeout", "20S")];
    let call = front.client.call(&rpc, &headers, &request);
    assert_eq!(call.await.status, Some(4));
    assert!(started.elapsed() < Duration::from_secs(10));
    let told = time(backend.seen()[0].header("grpc-timeout").unwrap());
    assert!(told <= Duration::from_millis(100), "{told:?}");
}

#[tokio::test]
async fn a_caller_that_leaves_takes_its_call_upstream_with_it() {
    let backend = Backend::start(|_| Answer::Hang).await;
    let front = Front::start(&[&backend], "").await;
    let request = small_request(EventKind::Rpc, "a");
    let mut call = front.client.open(&path(EventKind::Rpc), &[]).await.unwrap();
    let framed = crate::support::client::frame(false, &request);
    call.send(framed, true).await;
    crate::support::eventually("it has arrived", async || backend.count() == 1).await;
    call.cancel();
    crate::support::eventually("it is reset", async || backend.cancelled() == 1).await;
}

#[tokio::test]
async fn a_connection_on_which_nothing_was_answered_in_time_takes_no_more_calls() {
    let backend = Backend::start(|seen| match seen.header("x-do") {
        Some("hang") => Answer::Hang,
        _ => Answer::Reply(response()),
    })
    .await;
    let front = Front::start(&[&backend], "timeout = \"200ms\"").await;
    let request = small_request(EventKind::Rpc, "a");
    let rpc = path(EventKind::Rpc);
    for (headers, status, connections) in [
        (&[][..], 0, 1),
        (&[], 0, 1),
        (&[("x-do", "hang")], 4, 1),
        (&[], 0, 2),
        (&[], 0, 2),
    ] {
        let reply = front.client.call(&rpc, headers, &request).await;
        assert_eq!(reply.status, Some(status));
        assert_eq!(backend.connections(), connections, "{headers:?}");
    }
}

#[tokio::test]
async fn a_node_behind_a_node_answers_every_event_as_it_does_by_itself() {
    let back = TestNode::start(actor::router()).await;
    let direct = back.client().await;
    let endpoint = format!("grpc://{}", back.address());
    let front = Front::start_with(&handler(&[endpoint], "")).await;
    for kind in UNARY {
        for act in ["", "error/1403/no", "disconnect/4403/go", "panic"] {
            let (path, request) = (path(kind), small_request(kind, "a:1"));
            let headers = [("x-do", act)];
            let expected = direct.call(&path, &headers, &request).await;
            let reply = front.client.call(&path, &headers, &request).await;
            let told = format!("{kind} {act}");
            assert_eq!(reply.status, expected.status, "{told}");
            assert_eq!(reply.messages, expected.messages, "{told}");
        }
    }
    for kind in [EventKind::Stream, EventKind::StreamBidirectional] {
        let mut first = Vec::new();
        for client in [&direct, &front.client] {
            let mut call = client.open(&path(kind), &[]).await.unwrap();
            call.message(&small_request(kind, "a:1")).await;
            if kind == EventKind::Stream {
                call.body.send_data(bytes::Bytes::new(), true).unwrap();
            }
            first.push(call.next().await.unwrap());
        }
        assert_eq!(first[0], first[1], "{kind}");
    }
}
