//! Subscription streams of upstreams: bytes, back-pressure and ends, both ways.

use crate::backend::{Answer, Backend};
use crate::front::{Front, accepted, publication};
use crate::support::client::Call;
use crate::support::{eventually, path, small_request, soon};
use bytes::Bytes;
use centripeta::event::EventKind;
use std::time::Duration;
use tokio::net::TcpStream;

/// A stream that was opened; nothing of it was read yet.
async fn open(front: &Front, kind: EventKind) -> Call {
    let mut call = front.client.open(&path(kind), &[]).await.unwrap();
    call.message(&small_request(kind, "a:1")).await;
    if kind == EventKind::Stream {
        call.body.send_data(Bytes::new(), true).unwrap();
    }
    call
}

/// A message that a client publishes into a two-way stream.
fn published(number: usize) -> Bytes {
    publication(format!("{{\"n\":{number}}}").as_bytes())
}

#[tokio::test]
async fn a_two_way_stream_carries_the_bytes_of_every_message_both_ways() {
    let backend = Backend::start(|_| Answer::Echo(accepted())).await;
    let front = Front::start(&[&backend], "").await;
    let kind = EventKind::StreamBidirectional;
    let mut call = open(&front, kind).await;
    assert_eq!(
        soon("it is accepted", call.next()).await.unwrap(),
        accepted()
    );
    for number in 0..100 {
        call.message(&published(number)).await;
        let echo = soon("an echo", call.next()).await;
        assert_eq!(echo.unwrap(), published(number));
    }
    let seen = backend.seen().pop().unwrap();
    assert_eq!(seen.message, small_request(kind, "a:1"));
    assert_eq!(seen.header("grpc-timeout"), None);
    // The client's end is the upstream's, and its OK the client's.
    call.body.send_data(Bytes::new(), true).unwrap();
    let reply = soon("the end", call.finish()).await;
    assert_eq!((reply.status, reply.messages.len()), (Some(0), 0));
}

#[tokio::test]
async fn messages_of_a_client_that_are_sent_at_once_all_arrive_in_order() {
    let backend = Backend::start(|_| Answer::Echo(accepted())).await;
    let front = Front::start(&[&backend], "").await;
    let mut call = open(&front, EventKind::StreamBidirectional).await;
    for number in 0..500 {
        call.message(&published(number)).await;
    }
    assert_eq!(
        soon("it is accepted", call.next()).await.unwrap(),
        accepted()
    );
    for number in 0..500 {
        match soon("an echo", call.next()).await {
            Some(echo) => assert_eq!(echo, published(number)),
            None => panic!("{number}: {:?}", call.finish().await),
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_stream_upstream() {
    let backend = Backend::start(|seen| match seen.path.ends_with("Bidirectional") {
        true => Answer::Echo(accepted()),
        false => Answer::Stream(vec![accepted()], None),
    })
    .await;
    let front = Front::start(&[&backend], "").await;
    for (count, kind) in [(1, EventKind::Stream), (2, EventKind::StreamBidirectional)] {
        let mut call = open(&front, kind).await;
        assert_eq!(
            soon("it is accepted", call.next()).await.unwrap(),
            accepted()
        );
        let streams = format!(
            "centripeta_upstream_open_streams{{handler=\"b\",endpoint=\"{}\"}}",
            backend.endpoint()
        );
        assert_eq!(front.metric(&streams).await, Some(1.0));
        call.cancel();
        eventually("the upstream's stream is reset", async || {
            backend.cancelled() == count
        })
        .await;
        eventually("it counts no more", async || {
            front.metric(&streams).await == Some(0.0)
        })
        .await;
    }
}

#[tokio::test]
async fn an_end_of_the_upstream_is_carried_over_ok_or_not() {
    for (status, expected) in [(0, 0), (14, 13), (13, 13), (7, 13)] {
        let messages = vec![accepted(), publication(b"{}")];
        let backend = Backend::start(move |_| Answer::Stream(messages.clone(), Some(status))).await;
        let front = Front::start(&[&backend], "").await;
        let call = open(&front, EventKind::Stream).await;
        let reply = soon("the end", call.finish()).await;
        assert_eq!(reply.messages, [accepted(), publication(b"{}")]);
        assert_eq!(reply.status, Some(expected), "{status}");
    }
}

#[tokio::test]
async fn a_stream_whose_upstream_breaks_ends_with_a_failure() {
    let backend = Backend::start(|_| Answer::Stream(vec![accepted()], None)).await;
    let front = Front::start(&[&backend], "").await;
    let mut call = open(&front, EventKind::Stream).await;
    assert_eq!(
        soon("it is accepted", call.next()).await.unwrap(),
        accepted()
    );
    backend.kill();
    let reply = soon("the end", call.finish()).await;
    assert_eq!(reply.status, Some(13));
}

#[tokio::test]
async fn a_refusal_in_the_first_message_crosses_and_ends_the_stream() {
    // subscribe_response { error { code: 103 } }
    let refusal = Bytes::from_static(&[0x0a, 0x04, 0x12, 0x02, 0x08, 0x67]);
    let first = refusal.clone();
    let backend = Backend::start(move |_| Answer::Stream(vec![first.clone()], None)).await;
    let front = Front::start(&[&backend], "").await;
    for kind in [EventKind::Stream, EventKind::StreamBidirectional] {
        let call = open(&front, kind).await;
        let reply = soon("the end", call.finish()).await;
        assert_eq!(
            (reply.status, &reply.messages[..]),
            (Some(0), &[refusal.clone()][..])
        );
    }
    eventually("the upstream's streams are reset", async || {
        backend.cancelled() == 2
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_ends_before_its_first_message_is_never_accepted() {
    for (status, expected) in [(0, 13), (14, 14), (4, 4), (5, 13)] {
        let backend = Backend::start(move |_| Answer::Stream(vec![], Some(status))).await;
        let front = Front::start(&[&backend], "").await;
        for kind in [EventKind::Stream, EventKind::StreamBidirectional] {
            let reply = soon("the end", open(&front, kind).await.finish()).await;
            assert_eq!(reply.status, Some(expected), "{status} {kind}");
            assert!(reply.messages.is_empty());
        }
    }
}

#[tokio::test]
async fn a_client_that_reads_slowly_slows_its_upstream_and_loses_nothing() {
    const COUNT: usize = 64;
    let data = |at: usize| format!("\"{}\"", at.to_string().repeat(200_000));
    let mut messages = vec![accepted()];
    messages.extend((10..10 + COUNT).map(|at| publication(data(at).as_bytes())));
    let expected = messages.clone();
    let total: usize = messages.iter().map(Bytes::len).sum();
    let backend = Backend::start(move |_| Answer::Stream(messages.clone(), Some(0))).await;
    let front = Front::start(&[&backend], "").await;
    let mut slow = open(&front, EventKind::Stream).await;
    assert_eq!(
        soon("it is accepted", slow.next()).await.unwrap(),
        accepted()
    );
    // Nothing is read for as long as the upstream sends anything.
    let mut before = usize::MAX;
    eventually("the upstream waits", async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        std::mem::replace(&mut before, backend.sent()) == backend.sent()
    })
    .await;
    assert!(backend.sent() < total / 2, "{} of {total}", backend.sent());
    // Meanwhile others are not held up.
    let mut other = open(&front, EventKind::Stream).await;
    assert_eq!(
        soon("another is accepted", other.next()).await.unwrap(),
        accepted()
    );
    for expected in &expected[1..] {
        let next = soon("a message", slow.next()).await.unwrap();
        assert!(next == *expected);
    }
    assert_eq!(slow.finish().await.status, Some(0));
}

#[tokio::test]
async fn more_streams_than_an_upstream_takes_on_one_connection_open_more_connections() {
    let backend = Backend::start(|_| Answer::Stream(vec![accepted()], None)).await;
    let front = Front::start(&[&backend], "").await;
    let mut calls = Vec::new();
    for _ in 0..700 {
        let mut call = open(&front, EventKind::Stream).await;
        assert_eq!(
            soon("it is accepted", call.next()).await.unwrap(),
            accepted()
        );
        calls.push(call);
    }
    assert!(
        (3..=6).contains(&backend.connections()),
        "{}",
        backend.connections()
    );
}

/// A stream whose client takes a kilobyte and then reads nothing.
async fn stuck(front: &Front) -> h2::RecvStream {
    let socket = TcpStream::connect(front.node.address()).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let handshake = builder.initial_window_size(1024).handshake(socket);
    let (client, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = http::Request::post(format!("http://a{}", path(EventKind::Stream)));
    let request = request.header("content-type", "application/grpc");
    let (response, mut body) = client
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    let message = small_request(EventKind::Stream, "a:1");
    body.send_data(crate::support::client::frame(false, &message), true)
        .unwrap();
    soon("it is accepted", response).await.unwrap().into_body()
}

#[tokio::test]
async fn many_slow_clients_with_small_messages_end_nobody_elses_stream() {
    let backend = Backend::start(|_| {
        let mut messages = vec![accepted()];
        messages.extend((0..4000).map(|_| Bytes::from_static(b"\x12\x04\x22\x02{}")));
        Answer::Stream(messages, None)
    })
    .await;
    let front = Front::start(&[&backend], "").await;
    let mut all = Vec::new();
    for _ in 0..40 {
        all.push(stuck(&front).await);
    }
    let mut before = usize::MAX;
    eventually("the upstream waits", async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        std::mem::replace(&mut before, backend.sent()) == backend.sent()
    })
    .await;
    assert!(backend.sent() > 40 * 30_000, "{}", backend.sent());
    let mut other = open(&front, EventKind::Stream).await;
    for _ in 0..4001 {
        assert!(soon("a message", other.next()).await.is_some());
    }
    for stream in &mut all {
        let data = soon("what was sent is here", stream.data()).await;
        assert!(data.unwrap().is_ok());
    }
    // One for each core.
    assert!(backend.connections() <= 2, "{}", backend.connections());
}
