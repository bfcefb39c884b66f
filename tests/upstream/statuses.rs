//! What an upstream's statuses become: never an empty OK. What is sent again, and how often.

use crate::backend::{Answer, Backend};
use crate::front::{Front, UNARY, handler, response};
use crate::support::{path, small_request};
use bytes::Bytes;
use centripeta::event::EventKind;
use h2::Reason;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A backend whose answers are to be changed.
async fn changing(first: Answer) -> (Backend, Arc<std::sync::Mutex<Answer>>) {
    let answer = Arc::new(std::sync::Mutex::new(first));
    let current = Arc::clone(&answer);
    let backend = Backend::start(move |_| current.lock().unwrap().clone()).await;
    (backend, answer)
}

#[tokio::test]
async fn no_status_of_an_upstream_becomes_an_ok_for_any_event() {
    let (backend, answer) = changing(Answer::Hang).await;
    let front = Front::start(&[&backend], "").await;
    let cases = [
        (Answer::Status(14), 14),
        (Answer::Status(8), 14),
        (Answer::Status(4), 4),
        (Answer::Status(2), 13),
        (Answer::Status(7), 13),
        (Answer::Status(12), 13),
        (Answer::Status(16), 13),
        // An OK without a message is no answer.
        (Answer::Status(0), 13),
        (Answer::TrailersOnly(0), 14),
        (Answer::TrailersOnly(7), 13),
        (Answer::ReplyThen(response(), 13), 13),
        (Answer::Http(503), 14),
        (Answer::Http(404), 13),
        (Answer::Reset(Reason::INTERNAL_ERROR), 14),
        // No response of any event.
        (Answer::Reply(Bytes::from_static(&[0x0a, 0xff])), 13),
    ];
    for (given, status) in cases {
        *answer.lock().unwrap() = given.clone();
        for kind in UNARY {
            let reply = front.call(kind, &small_request(kind, "a:1")).await;
            assert_eq!(reply.status, Some(status), "{given:?} {kind}");
            assert!(reply.messages.is_empty(), "{given:?} {kind}");
        }
    }
}

#[tokio::test]
async fn flawed_answers_cross_and_are_counted_and_a_strict_handler_refuses_them() {
    // A code that Centrifugo would take for its own.
    let flawed = Bytes::from_static(&[0x12, 0x02, 0x08, 0x07]);
    let reply = flawed.clone();
    let backend = Backend::start(move |_| Answer::Reply(reply.clone())).await;
    let front = Front::start(&[&backend], "").await;
    let request = small_request(EventKind::Subscribe, "a:1");
    let reply = front.call(EventKind::Subscribe, &request).await;
    assert_eq!(reply.message(), &flawed);
    let flaws = "centripeta_upstream_flawed_answers_total{handler=\"b\"}";
    assert_eq!(front.metric(flaws).await, Some(1.0));
    let strict = Front::start(&[&backend], "strict_replies = true").await;
    let reply = strict.call(EventKind::Subscribe, &request).await;
    assert_eq!(reply.status, Some(13));
}

#[tokio::test]
async fn an_empty_message_is_an_answer_of_the_application_and_crosses() {
    let backend = Backend::start(|_| Answer::Reply(Bytes::new())).await;
    let front = Front::start(&[&backend], "").await;
    let request = small_request(EventKind::Subscribe, "a:1");
    let reply = front.call(EventKind::Subscribe, &request).await;
    assert_eq!(reply.message(), &Bytes::new());
    let strict = Front::start(&[&backend], "strict_replies = true").await;
    let reply = strict.call(EventKind::Subscribe, &request).await;
    assert_eq!(reply.status, Some(13));
}

#[tokio::test]
async fn what_was_refused_unseen_is_sent_again_and_what_was_seen_is_not() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let backend = Backend::start(move |_| match counted.fetch_add(1, Ordering::Relaxed) % 3 {
        2 => Answer::Reply(response()),
        _ => Answer::Reset(Reason::REFUSED_STREAM),
    })
    .await;
    let front = Front::start(&[&backend], "").await;
    let request = small_request(EventKind::Rpc, "a");
    let reply = front.call(EventKind::Rpc, &request).await;
    assert_eq!(reply.message(), &response());
    assert_eq!(count.load(Ordering::Relaxed), 3);
    let other = Backend::start(|_| Answer::Reset(Reason::CANCEL)).await;
    let front = Front::start(&[&other], "").await;
    let reply = front.call(EventKind::Rpc, &request).await;
    assert_eq!((reply.status, other.count()), (Some(14), 1));
}

#[tokio::test]
async fn statuses_of_retry_on_are_sent_again_elsewhere() {
    let broken = Backend::start(|_| Answer::Status(14)).await;
    let well = Backend::start(|_| Answer::Reply(response())).await;
    let keys = "retry = { on = [\"UNAVAILABLE\"], budget = 1.0 }\neject = { failures = 0 }";
    let front = Front::start(&[&broken, &well], keys).await;
    let request = small_request(EventKind::Rpc, "a");
    for _ in 0..40 {
        let reply = front.call(EventKind::Rpc, &request).await;
        assert_eq!(reply.message(), &response());
    }
    assert!(broken.count() > 0);
    assert_eq!(well.count(), 40);
    let retries = "centripeta_upstream_retries_total{handler=\"b\",reason=\"status\"}";
    let count = front.metric(retries).await;
    #[expect(clippy::cast_precision_loss, reason = "it is small")]
    let expected = broken.count() as f64;
    assert_eq!(count, Some(expected));
}

#[tokio::test]
async fn retries_end_with_their_attempts_and_with_their_budget() {
    let backend = Backend::start(|_| Answer::Status(14)).await;
    let request = small_request(EventKind::Rpc, "a");
    let cases = [
        ("retry = { on = [\"UNAVAILABLE\"], attempts = 2 }", 1, 2),
        // Ten retries to begin with, and no success that adds to them.
        ("retry = { on = [\"UNAVAILABLE\"], attempts = 4 }", 50, 60),
        ("retry = { on = [\"UNAVAILABLE\"], budget = 0.0 }", 50, 50),
        ("retry = { on = [\"ABORTED\", \"UNKNOWN\"] }", 5, 5),
        ("", 5, 5),
    ];
    for (keys, calls, attempts) in cases {
        let before = backend.count();
        let front = Front::start(&[&backend], keys).await;
        for _ in 0..calls {
            let reply = front.call(EventKind::Rpc, &request).await;
            assert_eq!(reply.status, Some(14), "{keys}");
        }
        assert_eq!(backend.count() - before, attempts, "{keys}");
    }
}

#[tokio::test]
async fn a_stream_that_is_refused_unseen_is_opened_elsewhere() {
    let broken = Backend::start(|_| Answer::Reset(Reason::REFUSED_STREAM)).await;
    let first = crate::front::accepted();
    let accept = first.clone();
    let well = Backend::start(move |_| Answer::Stream(vec![accept.clone()], None)).await;
    let front = Front::start(&[&broken, &well], "eject = { failures = 0 }").await;
    for _ in 0..10 {
        for kind in [EventKind::Stream, EventKind::StreamBidirectional] {
            let mut call = front.client.open(&path(kind), &[]).await.unwrap();
            call.message(&small_request(kind, "a:1")).await;
            if kind == EventKind::Stream {
                call.send(Bytes::new(), true).await;
                call.body.send_data(Bytes::new(), true).unwrap();
            }
            assert_eq!(call.next().await.unwrap(), first);
        }
    }
    assert!(broken.count() > 0);
}

/// How often an address of a backend was ejected.
async fn ejections(front: &Front, endpoint: &str) -> Option<f64> {
    let labels = format!("handler=\"b\",endpoint=\"{endpoint}\"");
    let line = format!("centripeta_upstream_ejections_total{{{labels}}}");
    front.metric(&line).await
}

#[tokio::test]
async fn a_backend_that_refuses_streams_unseen_is_not_ejected_and_its_calls_go_elsewhere() {
    let full = Backend::start(|_| Answer::Reset(Reason::REFUSED_STREAM)).await;
    let well = Backend::start(|_| Answer::Reply(response())).await;
    let front = Front::start(&[&full, &well], "eject = { failures = 2 }").await;
    let request = small_request(EventKind::Rpc, "a");
    for _ in 0..60 {
        let reply = front.call(EventKind::Rpc, &request).await;
        assert_eq!(reply.message(), &response());
    }
    // Ejected it would have been asked twice.
    assert!(full.count() > 5, "{}", full.count());
    assert_eq!(ejections(&front, &full.endpoint()).await, Some(0.0));
}

/// The frame of HTTP/2 that comes next: its kind, and whether it ends its stream.
async fn frame(socket: &mut TcpStream) -> std::io::Result<(u8, bool)> {
    let mut head = [0; 9];
    socket.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    socket.read_exact(&mut payload).await?;
    Ok((head[3], head[4] & 1 == 1))
}

/// A frame of HTTP/2.
fn framed(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    let head = [0, 0, length, kind, flags, 0, 0, 0, stream];
    [&head[..], payload].concat()
}

/// A header that is in no table.
fn header(name: &str, value: &str) -> Vec<u8> {
    let part = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], part(name), part(value)].concat()
}

/// Answers the first call of a connection, and ends it in good order amid the next ones, of which it
/// has looked at none.
async fn turn_away(mut socket: TcpStream, after: usize) -> std::io::Result<()> {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;
    let mut preface = [0; 24];
    socket.read_exact(&mut preface).await?;
    socket.write_all(&framed(SETTINGS, 0, 0, &[])).await?;
    socket.write_all(&framed(SETTINGS, 1, 0, &[])).await?;
    while frame(&mut socket).await? != (DATA, true) {}
    let head = [vec![0x88], header("content-type", "application/grpc")].concat();
    let length = u8::try_from(response().len()).unwrap();
    let message = [&[0, 0, 0, 0, length], &response()[..]].concat();
    let answer = [
        framed(HEADERS, 4, 1, &head),
        framed(DATA, 0, 1, &message),
        framed(HEADERS, 5, 1, &header("grpc-status", "0")),
    ];
    socket.write_all(&answer.concat()).await?;
    let mut seen = 0;
    while seen < after {
        seen += usize::from(frame(&mut socket).await?.0 == HEADERS);
    }
    // The last stream was 1, and there is no error.
    let last = framed(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
    socket.write_all(&last).await?;
    while frame(&mut socket).await.is_ok() {}
    Ok(())
}

#[tokio::test]
async fn calls_behind_the_last_one_that_a_connection_takes_are_sent_again_and_eject_nobody() {
    const REFUSED: usize = 3;
    let backend = Backend::start(|_| Answer::Reply(response())).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (to, at) = (backend.address, listener.local_addr().unwrap());
    let endpoint = format!("grpc://{at}");
    let before = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        let first = listener.accept().await.unwrap().0;
        connections.spawn(async move { drop(turn_away(first, REFUSED).await) });
        loop {
            let mut socket = listener.accept().await.unwrap().0;
            connections.spawn(async move {
                let mut on = TcpStream::connect(to).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut socket, &mut on).await);
            });
        }
    });
    let keys = "eject = { failures = 2 }";
    let front = Front::start_with(&handler(std::slice::from_ref(&endpoint), keys)).await;
    let request = small_request(EventKind::Rpc, "a");
    let reply = front.call(EventKind::Rpc, &request).await;
    assert_eq!((reply.message(), backend.count()), (&response(), 0));
    let calls = (0..12).map(|_| front.call(EventKind::Rpc, &request));
    for reply in futures_util::future::join_all(calls).await {
        assert_eq!(reply.message(), &response());
    }
    let retries = "centripeta_upstream_retries_total{handler=\"b\",reason=\"not_sent\"}";
    #[expect(clippy::cast_precision_loss, reason = "it is small")]
    let refused = REFUSED as f64;
    assert!(front.metric(retries).await.unwrap() >= refused);
    assert_eq!(ejections(&front, &endpoint).await, Some(0.0));
    before.abort();
}
