//! What is no Centrifugo: other protocols, torn frames, floods and stalls. The node refuses in
//! bounded time and space, and goes on.

use crate::support::client::frame;
use crate::support::{
    TestNode, actor, client, eventually, json, path, request, small_request, soon,
};
use bytes::Bytes;
use centripeta::event::EventKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

async fn serves(node: &TestNode) {
    let body = small_request(EventKind::Rpc, "a");
    let client = node.client().await;
    let reply = soon("an answer", client.call(&path(EventKind::Rpc), &[], &body)).await;
    assert_eq!(reply.status, Some(0), "{reply:?}");
}

#[tokio::test]
async fn other_protocols_are_hung_up_on() {
    let node = TestNode::start(actor::router()).await;
    for opening in [
        &b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n"[..],
        b"POST / HTTP/1.0\r\ncontent-length: 5\r\n\r\nhello",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    ] {
        let mut socket = TcpStream::connect(node.address()).await.unwrap();
        socket.write_all(opening).await.unwrap();
        let mut answer = Vec::new();
        // Whatever it says before, it hangs up.
        let _ = soon("the end", socket.read_to_end(&mut answer)).await;
        assert!(answer.len() < 4096);
    }
    serves(&node).await;
}

#[tokio::test]
async fn torn_and_odd_frames_get_a_status() {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    let good = small_request(EventKind::Rpc, "a");
    let two = [frame(false, &good), frame(false, &good)].concat();
    let unknown_flag = [&[2, 0, 0, 0, 1][..], b"a"].concat();
    for (what, body) in [
        ("no message", Bytes::new()),
        ("a torn prefix", Bytes::from_static(b"\x00\x00")),
        (
            "a torn message",
            Bytes::from_static(b"\x00\x00\x00\x00\x10abc"),
        ),
        ("an unknown flag", unknown_flag.into()),
        ("compressed without an encoding", frame(true, &good)),
    ] {
        let mut call = client.open(&path(EventKind::Rpc), &[]).await.unwrap();
        call.send(body, false).await;
        call.body.send_data(Bytes::new(), true).unwrap();
        let reply = soon("an answer", call.finish()).await;
        assert!(
            reply.status.is_some_and(|status| status != 0),
            "{what}: {reply:?}"
        );
        assert!(reply.messages.is_empty(), "{what}");
    }
    let twice = soon(
        "an answer",
        client.exchange(&path(EventKind::Rpc), &[], two.into()),
    )
    .await;
    // A unary call has one message: more are refused, and none is handled.
    assert_eq!(
        (twice.status, twice.messages.len()),
        (Some(3), 0),
        "{twice:?}"
    );
    serves(&node).await;
}

#[tokio::test]
async fn a_header_flood_is_refused_and_other_connections_go_on() {
    let node = TestNode::start(actor::router()).await;
    let value = "x".repeat(4096);
    let body = small_request(EventKind::Rpc, "a");
    for count in [20, 60] {
        let client = node.client().await;
        let names: Vec<String> = (0..count).map(|n| format!("x-flood-{n}")).collect();
        let headers: Vec<(&str, &str)> = names.iter().map(|name| (&**name, &*value)).collect();
        let reply = soon(
            "an end",
            client.call(&path(EventKind::Rpc), &headers, &body),
        )
        .await;
        assert_ne!(reply.status, Some(0), "{count}");
        serves(&node).await;
    }
    let client = node.client().await;
    let headers: Vec<(&str, &str)> = ["x-a", "x-b", "x-c"].map(|name| (name, &*value)).into();
    let reply = client.call(&path(EventKind::Rpc), &headers, &body).await;
    assert_eq!(
        reply.status,
        Some(0),
        "what is within the limit passes: {reply:?}"
    );
}

#[tokio::test]
async fn a_message_that_does_not_arrive_is_answered_at_the_deadline() {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    for kind in EventKind::ALL {
        let mut call = client
            .open(&path(kind), &[("grpc-timeout", "200m")])
            .await
            .unwrap();
        let body = frame(false, &small_request(kind, "a"));
        call.send(body.slice(..4), false).await;
        let begun = Instant::now();
        assert_eq!(
            soon("an answer", call.finish()).await.status,
            Some(4),
            "{kind}"
        );
        assert!(begun.elapsed() < Duration::from_secs(2), "{kind}");
    }
    assert_eq!(node.in_flight(), 0);
}

#[tokio::test]
async fn requests_with_random_faults_are_answered_or_refused_and_nothing_breaks() {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    let mut random = fastrand::Rng::with_seed(11);
    for round in 0..2000 {
        let kind = EventKind::ALL[random.usize(..EventKind::ALL.len())];
        if kind.is_stream() {
            continue;
        }
        let mut body = small_request(kind, "chat:1").to_vec();
        for _ in 0..random.usize(1..4) {
            let place = random.usize(..=body.len());
            match random.u8(..4) {
                0 => body.truncate(place),
                1 => body.insert(place, random.u8(..)),
                2 if place < body.len() => body[place] ^= 1 << random.u8(..8),
                _ => body.extend((0..random.usize(..20)).map(|_| random.u8(..))),
            }
        }
        let reply = soon("an answer", client.call(&path(kind), &[], &body)).await;
        let status = reply.status.unwrap();
        assert!(
            [0, 3].contains(&status),
            "seed 11, round {round}, {kind} {body:?}: {reply:?}"
        );
    }
    assert_eq!(node.0.engine().ready(), Ok(()));
    serves(&node).await;
}

#[tokio::test]
async fn names_of_any_size_and_letters_are_answered() {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    for name in [
        "",
        "\u{0}",
        "{x}",
        "*",
        "\u{202e}abc",
        &"\u{1F980}".repeat(10_000),
    ] {
        let fields = serde_json::json!({ "channel": name, "user": name, "client": name });
        let body = request(EventKind::Subscribe, &fields.to_string());
        let reply = soon(
            "an answer",
            client.call(&path(EventKind::Subscribe), &[], &body),
        )
        .await;
        assert_eq!(reply.status, Some(0), "{}", name.len());
    }
}

#[tokio::test]
async fn messages_that_are_never_finished_take_their_place_among_the_bytes_in_flight() {
    let node = TestNode::start_with(actor::router(), |config| {
        config.limits.in_flight_bytes = 8 << 20;
        config.limits.timeout = Duration::from_secs(30);
    })
    .await;
    let client = node.client().await;
    // Three of four megabytes each, of which only a little is sent.
    let prefix = [0, 0, 0x30, 0, 0];
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut call = client.open(&path(EventKind::Rpc), &[]).await.unwrap();
        call.send(Bytes::from([&prefix[..], b"xxxx"].concat()), false)
            .await;
        open.push(call);
    }
    eventually("both count", async || node.in_flight() == 2).await;
    for kind in [EventKind::Rpc, EventKind::Stream] {
        let mut call = client
            .open(&path(kind), &[("grpc-timeout", "9H")])
            .await
            .unwrap();
        call.send(Bytes::from([&prefix[..], b"xxxx"].concat()), false)
            .await;
        let reply = soon("a refusal", call.finish()).await;
        match kind {
            EventKind::Rpc => assert!(json(kind, reply.message()).contains("111"), "{reply:?}"),
            _ => assert_eq!(reply.status, Some(14), "{reply:?}"),
        }
    }
    assert_eq!(node.in_flight(), 2);
    open.iter_mut().for_each(client::Call::cancel);
    eventually("their places are free", async || node.in_flight() == 0).await;
    let body = small_request(EventKind::Rpc, "yes");
    let reply = soon("an answer", client.call(&path(EventKind::Rpc), &[], &body)).await;
    assert_eq!(reply.status, Some(0), "{reply:?}");
}

#[tokio::test]
async fn calls_refused_before_their_message_is_complete_leave_the_connection_alone() {
    let node = TestNode::start_with(actor::router(), |config| {
        config.limits.in_flight = 1.try_into().unwrap();
        config.limits.timeout = Duration::from_secs(30);
    })
    .await;
    let client = node.client().await;
    let body = frame(false, &small_request(EventKind::Rpc, "a"));
    let mut held = client.open(&path(EventKind::Rpc), &[]).await.unwrap();
    held.send(body.slice(..4), false).await;
    eventually("it holds the only place", async || node.in_flight() == 1).await;
    for n in 0..300 {
        let mut call = client.open(&path(EventKind::Rpc), &[]).await.unwrap();
        call.send(body.slice(..4), false).await;
        let answer = soon("a refusal", call.next()).await.unwrap();
        assert!(json(EventKind::Rpc, &answer).contains("111"), "call {n}");
        // Some of it is under way when the refusal arrives.
        call.send(body.slice(4..), true).await;
    }
    held.send(body.slice(4..), true).await;
    assert_eq!(soon("an answer", held.finish()).await.status, Some(0));
}
