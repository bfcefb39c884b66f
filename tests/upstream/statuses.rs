//! What an upstream's statuses become: never an empty OK. What is sent again, and how often.

use crate::backend::{Answer, Backend};
use crate::front::{Front, UNARY, response};
use crate::support::{path, small_request};
use bytes::Bytes;
use centripeta::event::EventKind;
use h2::Reason;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
