#![allow(clippy::unwrap_used)]
use super::*;
use crate::event::{ConnectReply, RefreshReply, StreamReply, SubscribeReply};
use crate::extract::{Channel, Headers, Inbound};
use crate::proto::proxy::{ConnectRequest, Publication, RefreshRequest, SubscribeRequest};
use crate::reject::Reject;
use tonic::Code;

fn subscribe(channel: &str) -> SubscribeRequest {
    SubscribeRequest {
        client: "c".to_owned(),
        protocol: "json".to_owned(),
        channel: channel.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn answers_hold_result_error_disconnect_and_status_as_on_the_wire() {
    let router = Router::new()
        .connect(|Headers(headers): Headers| async move {
            match headers.get("x-case").map(http::HeaderValue::as_bytes) {
                None => Ok(ConnectReply::user("u1")),
                Some(b"error") => Err(Reject::error(409, "taken")),
                Some(b"disconnect") => Err(Reject::disconnect(4501, "go")),
                Some(_) => panic!("boom"),
            }
        })
        .refresh(|| async { RefreshReply::expire() });
    let router = TestRouter::new(router).await.unwrap();
    let connect = || router.connect(ConnectRequest::default());

    let admitted = connect().await;
    assert_eq!(admitted.result().unwrap().user, "u1");
    assert_eq!(admitted.message().unwrap(), "\x0a\x04\x0a\x02u1");
    assert_eq!((admitted.status(), admitted.is_empty()), (Code::Ok, false));

    let error = connect().metadata("x-case", "error").await;
    assert_eq!(error.error().unwrap().code, 409);
    let disconnect = connect().metadata("x-case", "disconnect").await;
    assert_eq!(disconnect.disconnect().unwrap().code, 4501);
    let panic = connect().metadata("x-case", "panic").await;
    assert_eq!(panic.status(), Code::Internal);
    assert_eq!(panic.message(), None);

    let refresh = router.refresh(RefreshRequest::default()).await;
    assert!(refresh.result().unwrap().expired);
    assert_eq!(
        router.raw("Nothing", Bytes::new()).await.status(),
        Code::Unimplemented
    );
    let torn = router.encoded::<Connect>(&b"\x0a"[..]).await;
    assert_eq!(torn.status(), Code::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn deadlines_pass_at_once_on_a_paused_clock() {
    let router = Router::new().connect(|| async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        ConnectReply::user("late")
    });
    let router = TestRouter::new(router).await.unwrap();
    let before = tokio::time::Instant::now();
    let late = router.connect(ConnectRequest::default());
    let late = late.timeout(Duration::from_secs(2)).await;
    assert_eq!(late.status(), Code::DeadlineExceeded);
    assert!(before.elapsed() < Duration::from_secs(2), "less the margin");
    assert_eq!(router.engine().in_flight(), 0);
}

#[tokio::test]
async fn streams_have_a_first_message_publications_and_an_end() {
    let router = Router::new()
        .stream("feed:*", || async {
            let items = (0..3).map(|n| Publication::json(&n).unwrap());
            StreamReply::publications(futures_util::stream::iter(items))
                .first(SubscribeReply::allow().data(&"hello"))
        })
        .stream("closed:*", || async { Reject::error(403, "no") });
    let router = TestRouter::new(router).await.unwrap();

    let mut stream = router.stream(subscribe("feed:1")).await;
    assert!(stream.is_accepted());
    assert_eq!(stream.first().result().unwrap().data, "\"hello\"");
    let mut data = Vec::new();
    while let Some(publication) = stream.next().await {
        data.push(publication.data);
    }
    assert_eq!(data, ["0", "1", "2"]);
    assert_eq!(stream.status(), Some(Code::Ok));

    let mut refused = router.stream(subscribe("closed:1")).await;
    assert!(!refused.is_accepted());
    assert_eq!(refused.first().error().unwrap().code, 403);
    assert_eq!(refused.ended().await, Code::Ok);
    let unknown = router.stream(subscribe("other:1")).await;
    assert_eq!(unknown.first().error().unwrap().code, 103);
}

#[tokio::test]
async fn a_two_way_stream_hears_what_the_client_publishes_and_that_it_is_gone() {
    let (gone, mut is_gone) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |Channel(channel): Channel, mut inbound: Inbound| {
        let gone = gone.clone();
        async move {
            let (to, from) = tokio::sync::mpsc::unbounded_channel();
            tokio::spawn(async move {
                while let Some(publication) = inbound.recv().await {
                    let _ = to.send(publication);
                }
                let _ = gone.send(channel);
                // The sender lives on: the end of the client's side does not end ours.
                std::future::pending::<()>().await;
                drop(to);
            });
            StreamReply::publications(futures_util::stream::unfold(from, |mut from| async move {
                Some((from.recv().await?, from))
            }))
        }
    };
    let router = Router::new().stream_bidirectional("term:*", handler);
    let router = TestRouter::new(router).await.unwrap();
    let mut stream = router.stream_bidirectional(subscribe("term:1")).await;
    for text in ["\"a\"", "\"b\""] {
        stream.publish(text);
        assert_eq!(stream.next().await.unwrap().data, text);
    }
    stream.finish_publishing();
    assert_eq!(is_gone.recv().await.as_deref(), Some("term:1"));
    assert_eq!(stream.status(), None);
    assert_eq!(router.engine().open_streams(), 1);
    stream.cancel();
    assert_eq!(stream.ended().await, Code::Cancelled);
    assert_eq!(router.engine().open_streams(), 0);
}
