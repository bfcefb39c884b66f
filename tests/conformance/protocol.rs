//! C01–C13: the service, its encodings, deadlines, cancellation and sizes.

use crate::support::client::frame;
use crate::support::{self, TestNode, actor, json, path, request, small_request, soon};
use bytes::Bytes;
use centripeta::event::{Connect, EventKind, Rpc, SERVICE_PATH};
use centripeta::extract::Request;
use centripeta::proto::proxy::ConnectRequest;
use centripeta::{ConnectReply, Deadline, Reject, Route, Router, RpcReply};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Barrier, mpsc};
use tokio::time::Instant;

#[tokio::test]
async fn c01_all_thirteen_methods_are_served_and_an_unknown_one_is_unimplemented() {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    for kind in EventKind::ALL
        .into_iter()
        .filter(|kind| *kind != EventKind::Raw)
    {
        let mut call = client.open(&path(kind), &[]).await.unwrap();
        let end = kind != EventKind::StreamBidirectional;
        call.send(frame(false, &small_request(kind, "a")), end)
            .await;
        let first = soon("the answer", call.next()).await;
        assert!(first.is_some(), "{kind}");
    }
    let bare = TestNode::start(Router::new()).await;
    let client = bare.client().await;
    for path in [
        format!("{SERVICE_PATH}Unheard"),
        format!("{SERVICE_PATH}connect"),
        SERVICE_PATH.to_owned(),
        "/other.Service/Connect".to_owned(),
    ] {
        let reply = client.call(&path, &[], b"").await;
        assert_eq!(
            (reply.status, reply.http.as_u16()),
            (Some(12), 200),
            "{path}"
        );
    }
}

#[tokio::test]
async fn c01_an_unknown_method_reaches_a_raw_route_with_its_bytes() {
    let router = Router::new().raw("New*", |centripeta::Raw(raw): centripeta::Raw| async move {
        centripeta::Reply::raw(raw)
    });
    let node = TestNode::start(router).await;
    let client = node.client().await;
    let bytes = b"\x0a\x01a\xfa\x7f\x02??";
    let reply = client
        .call(&format!("{SERVICE_PATH}NewThing"), &[], bytes)
        .await;
    assert_eq!(reply.message(), &bytes[..]);
    let other = client
        .call(&format!("{SERVICE_PATH}OldThing"), &[], bytes)
        .await;
    assert_eq!(other.status, Some(12));
}

#[tokio::test]
async fn c02_the_handler_sees_every_field_of_a_connect_request() {
    let (seen, mut requests) = mpsc::unbounded_channel();
    let router = Router::new().connect(move |Request(request): Request<Connect>| {
        seen.send(request).unwrap();
        async { ConnectReply::user("u1") }
    });
    let node = TestNode::start(router).await;
    let all = ConnectRequest {
        client: "c".to_owned(),
        transport: "websocket".to_owned(),
        protocol: "protobuf".to_owned(),
        encoding: "binary".to_owned(),
        data: "{}".into(),
        b64data: "aGk=".to_owned(),
        name: "js".to_owned(),
        version: "1.2".to_owned(),
        channels: vec!["x".to_owned(), "y".to_owned()],
    };
    let bytes = b"\x0a\x01c\x12\x09websocket\x1a\x08protobuf\x22\x06binary\x52\x02{}\x5a\x04aGk=\
                  \x62\x02js\x6a\x031.2\x72\x01x\x72\x01y";
    let reply = node
        .client()
        .await
        .call(&path(EventKind::Connect), &[], bytes)
        .await;
    assert_eq!(reply.message(), &b"\x0a\x04\x0a\x02u1"[..]);
    assert_eq!(requests.recv().await, Some(all));
}

#[tokio::test]
async fn c03_result_error_and_disconnect_have_their_numbers_on_the_wire() {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    let rpc = path(EventKind::Rpc);
    for (act, bytes) in [
        ("", &b"\x0a\x00"[..]),
        (
            "error/999/no stock",
            b"\x12\x0d\x08\xe7\x07\x12\x08no stock",
        ),
        (
            "temporary/503",
            b"\x12\x0c\x08\xf7\x03\x12\x05later\x18\x01",
        ),
        ("disconnect/4501/no", b"\x1a\x07\x08\x95\x23\x12\x02no"),
        ("empty", b""),
    ] {
        let reply = client
            .call(&rpc, &[("x-do", act)], &small_request(EventKind::Rpc, "a"))
            .await;
        assert_eq!(reply.message(), bytes, "{act}");
    }
}

#[tokio::test]
async fn c04_unknown_fields_of_any_request_are_ignored_and_reach_the_handler() {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    // A varint, a string, a fixed32 and a fixed64 of numbers that nobody uses.
    let unknown = b"\x88\xfa\x01\x01\x92\xfa\x01\x02hi\x9d\xfa\x01\x01\x02\x03\x04\xa1\xfa\x01\x01\
                    \x02\x03\x04\x05\x06\x07\x08";
    for kind in EventKind::ALL.into_iter().filter(|kind| !kind.is_stream()) {
        let mut body = small_request(kind, "a").to_vec();
        body.extend_from_slice(unknown);
        let reply = client.call(&path(kind), &[], &body).await;
        assert_eq!(reply.status, Some(0), "{kind}: {reply:?}");
    }
    for kind in EventKind::ALL.into_iter().filter(|kind| kind.is_stream()) {
        let mut body = small_request(kind, "a").to_vec();
        body.extend_from_slice(unknown);
        let mut call = client.open(&path(kind), &[]).await.unwrap();
        call.send(frame(false, &body), kind == EventKind::Stream)
            .await;
        let first = soon("the first message", call.next()).await.unwrap();
        let accepted = r#"{"subscribe_response":{"result":{}}}"#;
        assert_eq!(json(kind, &first), accepted, "{kind}");
        call.cancel();
    }
    let router = Router::new().rpc("*", |centripeta::Raw(raw): centripeta::Raw| async move {
        RpcReply::data(&raw.ends_with(b"\x05\x06\x07\x08"))
    });
    let node = TestNode::start(router).await;
    let mut body = small_request(EventKind::Rpc, "a").to_vec();
    body.extend_from_slice(unknown);
    let reply = node
        .client()
        .await
        .call(&path(EventKind::Rpc), &[], &body)
        .await;
    assert_eq!(
        json(EventKind::Rpc, reply.message()),
        r#"{"result":{"data":true}}"#
    );
}

#[tokio::test]
async fn c05_content_types_of_grpc_are_accepted_and_others_refused() {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    let body = small_request(EventKind::Rpc, "a");
    for kind in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc;x=y",
    ] {
        let headers = [("content-type", kind), ("grpc-accept-encoding", "gzip")];
        let reply = client.call(&path(EventKind::Rpc), &headers, &body).await;
        assert_eq!(reply.status, Some(0), "{kind}");
        assert_eq!(reply.headers["content-type"], "application/grpc");
        assert!(
            !reply.headers.contains_key("grpc-encoding"),
            "answers go out plain"
        );
    }
    for kind in ["application/json", "application/grpc-web", "text/plain"] {
        let headers = [("content-type", kind)];
        let reply = client.call(&path(EventKind::Rpc), &headers, &body).await;
        assert_eq!(
            (reply.http.as_u16(), reply.messages.len()),
            (415, 0),
            "{kind}"
        );
    }
}

fn gzip(message: &[u8]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(message).unwrap();
    frame(true, &encoder.finish().unwrap())
}

#[tokio::test]
async fn c06_gzip_requests_are_decoded_and_other_encodings_unimplemented() {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    let body = gzip(&small_request(EventKind::Rpc, "a"));
    let rpc = path(EventKind::Rpc);
    let reply = client
        .exchange(&rpc, &[("grpc-encoding", "gzip")], body.clone())
        .await;
    assert_eq!(reply.message(), &b"\x0a\x00"[..]);
    for encoding in ["br", "zstd", "snappy"] {
        let reply = client
            .exchange(&rpc, &[("grpc-encoding", encoding)], body.clone())
            .await;
        assert_eq!(reply.status, Some(12), "{encoding}");
    }
    let unsaid = client.exchange(&rpc, &[], body).await;
    assert!(
        unsaid.status.is_some_and(|status| status != 0),
        "{unsaid:?}"
    );
}

#[tokio::test]
async fn a_gzip_bomb_is_refused_at_the_size_of_a_message_and_the_connection_goes_on() {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    let bomb = gzip(&vec![0; 64 << 20]);
    assert!(bomb.len() < 128 << 10);
    let rpc = path(EventKind::Rpc);
    let reply = client
        .exchange(&rpc, &[("grpc-encoding", "gzip")], bomb)
        .await;
    assert!(matches!(reply.status, Some(8 | 11)), "{reply:?}");
    let next = client
        .call(&rpc, &[], &small_request(EventKind::Rpc, "a"))
        .await;
    assert_eq!(next.status, Some(0));
}

#[tokio::test]
async fn c07_grpc_timeouts_are_read_in_each_unit() {
    let router = Router::new().rpc("*", |Deadline(due): Deadline| async move {
        let left = due.saturating_duration_since(tokio::time::Instant::now());
        RpcReply::data(&left.as_millis())
    });
    let node = TestNode::start(router).await;
    let client = node.client().await;
    let rpc = path(EventKind::Rpc);
    let body = small_request(EventKind::Rpc, "a");
    // What is left is the time less a margin of 50 ms, or of a tenth if that is less.
    for (timeout, millis) in [
        ("999000u", 949),
        ("1S", 950),
        ("500m", 450),
        ("99000000n", 89),
        ("2M", 119_950),
        ("1H", 3_599_950),
        ("99999999H", 3_599_950),
        ("", 3_000),
    ] {
        let reply = client.call(&rpc, &[("grpc-timeout", timeout)], &body).await;
        let text = json(EventKind::Rpc, reply.message());
        let left: u64 = text
            .trim_matches(|c: char| !c.is_ascii_digit())
            .parse()
            .unwrap();
        assert!(
            (u64::saturating_sub(millis, 250)..=millis).contains(&left),
            "{timeout}: {left}"
        );
    }
    let hundred_micros = client
        .call(&rpc, &[("grpc-timeout", "100000n")], &body)
        .await;
    assert!(
        matches!(hundred_micros.status, Some(0 | 4)),
        "{hundred_micros:?}"
    );
    let none = client.call(&rpc, &[("grpc-timeout", "0u")], &body).await;
    assert_eq!(none.status, Some(4));
    for bad in ["1", "S", "-1S", "1.5S", "123456789u", "1 S", "soon"] {
        let reply = client.call(&rpc, &[("grpc-timeout", bad)], &body).await;
        assert_eq!(reply.status, Some(3), "{bad}");
    }
}

/// Says when it is dropped.
struct DropSpy(mpsc::UnboundedSender<()>);

impl Drop for DropSpy {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn c08_a_handler_that_outlives_its_deadline_is_dropped_and_answered() {
    let (dropped, mut drops) = mpsc::unbounded_channel();
    let router = Router::new().publish("*", move || {
        let spy = DropSpy(dropped.clone());
        async move {
            std::future::pending::<()>().await;
            drop(spy);
            centripeta::PublishReply::allow()
        }
    });
    let node = TestNode::start(router).await;
    let client = node.client().await;
    let body = small_request(EventKind::Publish, "chat:1");
    let begun = Instant::now();
    // The second waits behind the first in its lane, and never starts.
    let (long, short) = ([("grpc-timeout", "400m")], [("grpc-timeout", "200m")]);
    let path = path(EventKind::Publish);
    let (first, second) = tokio::join!(
        client.call(&path, &long, &body),
        client.call(&path, &short, &body)
    );
    assert_eq!((first.status, second.status), (Some(4), Some(4)));
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    soon("the handler is dropped", drops.recv()).await;
    support::eventually("nothing is in flight", async || node.in_flight() == 0).await;
    assert!(drops.try_recv().is_err(), "one handler was started");
}

#[tokio::test]
async fn c08_the_time_that_the_message_took_counts() {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    for kind in [
        EventKind::Rpc,
        EventKind::Stream,
        EventKind::StreamBidirectional,
    ] {
        let headers = [("grpc-timeout", "1500m"), ("x-do", "sleep/1000")];
        let begun = Instant::now();
        let mut call = client.open(&path(kind), &headers).await.unwrap();
        let body = frame(false, &small_request(kind, "a"));
        call.send(body.slice(..4), false).await;
        // The rest comes late.
        tokio::time::sleep_until(begun + Duration::from_millis(900)).await;
        call.send(body.slice(4..), kind != EventKind::StreamBidirectional)
            .await;
        let reply = soon("an answer", call.finish()).await;
        assert_eq!(reply.status, Some(4), "{kind}: {reply:?}");
        assert!(
            begun.elapsed() < Duration::from_millis(1850),
            "{kind}: {:?}",
            begun.elapsed()
        );
    }
}

#[tokio::test]
async fn c09_a_cancelled_call_drops_its_handler_and_logs_nothing() {
    support::logs::keep();
    let (dropped, mut drops) = mpsc::unbounded_channel();
    let (started, mut starts) = mpsc::unbounded_channel();
    let router = Router::new().rpc("*", move || {
        let spy = DropSpy(dropped.clone());
        started.send(()).unwrap();
        async move {
            std::future::pending::<()>().await;
            drop(spy);
            RpcReply::done()
        }
    });
    let node = TestNode::start(router).await;
    let client = node.client().await;
    let headers = [("grpc-timeout", "60S")];
    let mut call = client.open(&path(EventKind::Rpc), &headers).await.unwrap();
    call.send(
        frame(false, &small_request(EventKind::Rpc, "c09.cancelled")),
        true,
    )
    .await;
    soon("the handler starts", starts.recv()).await;
    call.cancel();
    soon("the handler is dropped", drops.recv()).await;
    support::eventually("nothing is in flight", async || node.in_flight() == 0).await;
    assert_eq!(support::logs::with("c09.cancelled"), Vec::<String>::new());
}

#[tokio::test]
async fn c10_messages_that_are_too_big_are_refused_both_ways() {
    let router = Router::new().rpc("*", || async {
        RpcReply::bytes(format!("\"{}\"", "x".repeat(4 << 20)))
    });
    let node = TestNode::start(router).await;
    let client = node.client().await;
    let rpc = path(EventKind::Rpc);
    for megabytes in [5, 10] {
        let data = "x".repeat(megabytes << 20);
        let body = request(
            EventKind::Rpc,
            &format!(r#"{{"method":"a","data":"{data}"}}"#),
        );
        let reply = soon("an answer", client.call(&rpc, &[], &body)).await;
        assert!(
            matches!(reply.status, Some(8 | 11)),
            "{megabytes} MiB: {:?}",
            reply.status
        );
    }
    let big_reply = client
        .call(&rpc, &[], &small_request(EventKind::Rpc, "a"))
        .await;
    assert_eq!(
        (big_reply.status, big_reply.text.as_str()),
        (Some(13), "internal error")
    );
}

#[tokio::test]
async fn c10_a_prefix_that_promises_four_gigabytes_allocates_nothing() {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    let body = Bytes::from_static(b"\x00\xff\xff\xff\xffabc");
    let reply = client.exchange(&path(EventKind::Rpc), &[], body).await;
    assert!(matches!(reply.status, Some(8 | 11)), "{reply:?}");
}

#[tokio::test]
async fn c11_a_thousand_concurrent_calls_on_one_connection_do_not_wait_for_each_other() {
    let all = Arc::new(Barrier::new(1000));
    let router = Router::new().rpc("*", move || {
        let all = Arc::clone(&all);
        async move {
            all.wait().await;
            RpcReply::done()
        }
    });
    let node = TestNode::start(router).await;
    let client = node.client().await;
    let body = small_request(EventKind::Rpc, "a");
    let calls: Vec<_> = (0..1000)
        .map(|_| {
            let (client, body) = (client.clone(), body.clone());
            tokio::spawn(async move {
                let headers = [("grpc-timeout", "30S")];
                client
                    .call(&path(EventKind::Rpc), &headers, &body)
                    .await
                    .status
            })
        })
        .collect();
    for call in calls {
        // None is answered before all have started.
        assert_eq!(call.await.unwrap(), Some(0));
    }
}

#[tokio::test]
async fn c13_invalid_utf8_in_a_string_is_an_invalid_argument_and_the_server_stays_up() {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    for (kind, field) in [
        (EventKind::Connect, &b"\x0a\x02\xff\xfe"[..]),
        (EventKind::Connect, b"\x62\x02\xc3\x28"),
        (EventKind::Rpc, b"\x5a\x01\x80"),
        (EventKind::Publish, b"\x5a\x03\xed\xa0\x80"),
        (EventKind::Subscribe, b"\x52\x01\xff"),
        (EventKind::SharedPollRefresh, b"\x0a\x01\xff"),
    ] {
        let reply = client.call(&path(kind), &[], field).await;
        let next = client
            .call(&path(kind), &[], &small_request(kind, "a"))
            .await;
        assert_eq!(
            (reply.status, next.status),
            (Some(3), Some(0)),
            "{kind} {field:?}"
        );
    }
    for (kind, field) in [
        (EventKind::Stream, &b"\x52\x01\xff"[..]),
        (EventKind::StreamBidirectional, b"\x0a\x03\x52\x01\xff"),
    ] {
        let torn = soon("an answer", client.call(&path(kind), &[], field)).await;
        assert_eq!(
            (torn.status, torn.messages.len()),
            (Some(3), 0),
            "{kind}: {torn:?}"
        );
        let mut next = client.open(&path(kind), &[]).await.unwrap();
        let body = small_request(kind, "a");
        next.send(frame(false, &body), kind == EventKind::Stream)
            .await;
        assert!(soon("the next stream", next.next()).await.is_some());
        next.cancel();
    }
}

#[tokio::test]
async fn a_route_of_its_own_time_answers_at_it() {
    let slow = || async {
        std::future::pending::<()>().await;
        Err::<RpcReply, _>(Reject::permission_denied())
    };
    let route = Route::of::<Rpc, _, _>(slow).timeout(Duration::from_millis(50));
    let node = TestNode::start(Router::new().route(route)).await;
    let begun = Instant::now();
    let body = small_request(EventKind::Rpc, "a");
    let reply = node
        .client()
        .await
        .call(&path(EventKind::Rpc), &[], &body)
        .await;
    assert_eq!(reply.status, Some(4));
    assert!(begun.elapsed() < Duration::from_secs(2));
}
