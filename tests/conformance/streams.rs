//! C73, C74, C79, C80, C82: subscription streams in both directions.

use crate::support::client::frame;
use crate::support::{self, TestNode, actor, json, path, request, small_request, soon};
use bytes::Bytes;
use centripeta::event::EventKind;
use centripeta::proto::proxy::Publication;
use centripeta::{Data, Inbound, Router, StreamReply, SubscribeReply};
use futures_util::{StreamExt, stream};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

const STREAMS: [EventKind; 2] = [EventKind::Stream, EventKind::StreamBidirectional];

#[tokio::test]
async fn c73_the_first_message_says_accepted_at_once_and_carries_no_publication() {
    let router = Router::new().stream("*", || async {
        let later = stream::once(async {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Publication::json(&1).unwrap()
        });
        StreamReply::publications(later).first(SubscribeReply::allow().data(&"hi"))
    });
    let node = TestNode::start(router).await;
    let client = node.client().await;
    let mut call = client.open(&path(EventKind::Stream), &[]).await.unwrap();
    call.send(
        frame(false, &small_request(EventKind::Stream, "feed:1")),
        true,
    )
    .await;
    let first = soon("the first message", call.next()).await.unwrap();
    let expected = r#"{"subscribe_response":{"result":{"data":"hi"}}}"#;
    assert_eq!(json(EventKind::Stream, &first), expected);
}

#[tokio::test]
async fn c74_a_refusal_is_a_first_message_and_a_clean_end() {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    for kind in STREAMS {
        for (act, json) in [
            (
                "error/403/no",
                r#"{"subscribe_response":{"error":{"code":403,"message":"no"}}}"#,
            ),
            (
                "disconnect/4501/go",
                r#"{"subscribe_response":{"disconnect":{"code":4501,"reason":"go"}}}"#,
            ),
        ] {
            let mut call = client.open(&path(kind), &[("x-do", act)]).await.unwrap();
            // The caller's side stays open, as Centrifugo's does.
            call.send(
                frame(false, &small_request(kind, "a")),
                kind == EventKind::Stream,
            )
            .await;
            let reply = soon("the end", call.finish()).await;
            assert_eq!(self::json(kind, reply.message()), json);
        }
    }
    assert_eq!(node.0.engine().open_streams(), 0);
}

/// Sends back whatever the client publishes.
fn echo() -> Router {
    Router::new().stream_bidirectional("term:*", |inbound: Inbound| async move {
        StreamReply::publications(inbound.map(|publication| Publication {
            data: publication.data,
            ..Publication::default()
        }))
    })
}

fn published(n: u32) -> Bytes {
    request(
        EventKind::StreamBidirectional,
        &format!(r#"{{"publication":{{"data":{n}}}}}"#),
    )
}

#[tokio::test]
async fn c79_the_first_request_subscribes_and_publications_reach_the_handler_in_order() {
    let node = TestNode::start(echo()).await;
    let client = node.client().await;
    let kind = EventKind::StreamBidirectional;
    let mut call = client.open(&path(kind), &[]).await.unwrap();
    call.message(&small_request(kind, "term:1")).await;
    let first = soon("the first message", call.next()).await.unwrap();
    assert_eq!(
        json(kind, &first),
        r#"{"subscribe_response":{"result":{}}}"#
    );
    for n in 0..200 {
        call.message(&published(n)).await;
    }
    for n in 0..200 {
        let next = soon("a publication", call.next()).await.unwrap();
        assert_eq!(
            json(kind, &next),
            format!(r#"{{"publication":{{"data":{n}}}}}"#)
        );
    }
    // Something that is no publication is read over.
    call.message(b"").await;
    call.message(b"\xff\xff").await;
    call.message(&published(7)).await;
    let next = soon("a publication", call.next()).await.unwrap();
    assert_eq!(json(kind, &next), r#"{"publication":{"data":7}}"#);
}

#[tokio::test]
async fn a_frame_that_cannot_be_read_ends_its_two_way_stream_with_a_failure_and_no_other() {
    let node = TestNode::start(echo()).await;
    let client = node.client().await;
    let kind = EventKind::StreamBidirectional;
    let open = async || {
        let mut call = client.open(&path(kind), &[]).await.unwrap();
        call.message(&small_request(kind, "term:1")).await;
        soon("the first message", call.next()).await.unwrap();
        call
    };
    let heard = async |call: &mut support::client::Call, n: u32| {
        call.message(&published(n)).await;
        let next = soon("a publication", call.next()).await.unwrap();
        let expected = format!(r#"{{"publication":{{"data":{n}}}}}"#);
        assert_eq!(json(kind, &next), expected);
    };
    let mut other = open().await;
    let too_long = Bytes::from([&[0, 0, 0x50, 0, 0][..], &[0; 1000]].concat());
    let bad_flag = [&[2][..], &frame(false, &published(2))[1..]].concat();
    let no_gzip = frame(true, &published(2));
    for bytes in [too_long, bad_flag.into(), no_gzip] {
        let mut call = open().await;
        heard(&mut call, 1).await;
        call.send(bytes.clone(), false).await;
        call.message(&published(3)).await;
        let reply = soon("the end", call.finish()).await;
        assert_eq!(reply.status, Some(13), "{reply:?}");
        assert!(reply.messages.is_empty(), "{reply:?}");
        heard(&mut other, 4).await;
    }
    support::eventually("the streams are gone", async || {
        node.0.engine().open_streams() == 1
    })
    .await;
}

#[tokio::test]
async fn c79_a_stream_whose_first_request_subscribes_to_nothing_is_refused() {
    let node = TestNode::start(echo()).await;
    let client = node.client().await;
    let kind = EventKind::StreamBidirectional;
    for first in [published(1), Bytes::new(), Bytes::from_static(b"\xff")] {
        let mut call = client.open(&path(kind), &[]).await.unwrap();
        call.message(&first).await;
        assert_eq!(
            soon("the end", call.finish()).await.status,
            Some(3),
            "{first:?}"
        );
    }
    let mut silent = client.open(&path(kind), &[]).await.unwrap();
    silent.send(Bytes::new(), true).await;
    silent.body.send_data(Bytes::new(), true).unwrap();
    assert_eq!(soon("the end", silent.finish()).await.status, Some(3));
    let headers = [("grpc-timeout", "100m")];
    let stalled = client.open(&path(kind), &headers).await.unwrap();
    assert_eq!(soon("the end", stalled.finish()).await.status, Some(4));
}

#[tokio::test]
async fn c80_a_half_closed_stream_stays_open_until_the_node_or_the_caller_ends_it() {
    let (publish, publications) = mpsc::unbounded_channel::<u32>();
    let publications = std::sync::Mutex::new(Some(publications));
    let router = Router::new().stream_bidirectional("term:*", move |mut inbound: Inbound| {
        let publications = publications.lock().unwrap().take().unwrap();
        async move {
            tokio::spawn(async move { while inbound.recv().await.is_some() {} });
            StreamReply::publications(stream::unfold(publications, |mut publications| async {
                let n = publications.recv().await?;
                Some((Publication::json(&n).unwrap(), publications))
            }))
        }
    });
    let node = TestNode::start(router).await;
    let kind = EventKind::StreamBidirectional;
    let client = node.client().await;
    let mut call = client.open(&path(kind), &[]).await.unwrap();
    call.send(frame(false, &small_request(kind, "term:1")), true)
        .await;
    soon("the first message", call.next()).await.unwrap();
    for n in 0..3 {
        publish.send(n).unwrap();
        let next = soon("a publication", call.next()).await.unwrap();
        assert_eq!(
            json(kind, &next),
            format!(r#"{{"publication":{{"data":{n}}}}}"#)
        );
    }
    assert_eq!(node.0.engine().open_streams(), 1);
    drop(publish);
    assert_eq!(soon("the end", call.finish()).await.status, Some(0));
    support::eventually("it is closed", async || node.0.engine().open_streams() == 0).await;
}

/// Says when it is dropped.
struct DropSpy(mpsc::UnboundedSender<()>);

impl Drop for DropSpy {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn a_cancelled_stream_frees_its_source_within_a_second() {
    let (dropped, mut drops) = mpsc::unbounded_channel::<()>();
    let router = Router::new().stream("*", move || {
        let spy = DropSpy(dropped.clone());
        async move {
            StreamReply::publications(stream::unfold(spy, |spy| async {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                Some((Publication::json(&1).unwrap(), spy))
            }))
        }
    });
    let node = TestNode::start(router).await;
    let client = node.client().await;
    let mut call = client.open(&path(EventKind::Stream), &[]).await.unwrap();
    let body = small_request(EventKind::Stream, "a");
    call.send(frame(false, &body), true).await;
    soon("the first message", call.next()).await.unwrap();
    let begun = Instant::now();
    call.cancel();
    soon("the source is dropped", drops.recv()).await;
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    support::eventually("it is closed", async || node.0.engine().open_streams() == 0).await;
}

#[tokio::test]
async fn a_slow_reader_slows_its_own_stream_and_nobody_else() {
    let (produced, mut count) = mpsc::unbounded_channel::<u32>();
    let router = Router::new().stream("flood", move || {
        let produced = produced.clone();
        async move {
            let text = "x".repeat(8 << 10);
            let flood = stream::iter(0..).map(move |n| {
                produced.send(n).unwrap();
                Publication::json(&text).unwrap()
            });
            StreamReply::publications(flood)
        }
    });
    let router = router.rpc("*", |Data(n): Data<u32>| async move {
        centripeta::RpcReply::data(&n)
    });
    let node = TestNode::start(router).await;
    let client = node.client().await;
    let mut call = client.open(&path(EventKind::Stream), &[]).await.unwrap();
    call.send(
        frame(false, &small_request(EventKind::Stream, "flood")),
        true,
    )
    .await;
    soon("the first message", call.next()).await.unwrap();
    // Nothing more is read; calls on the same connection go on.
    for n in 0..200 {
        let body = request(
            EventKind::Rpc,
            &format!(r#"{{"protocol":"json","data":{n}}}"#),
        );
        let reply = soon("an answer", client.call(&path(EventKind::Rpc), &[], &body)).await;
        assert_eq!(
            json(EventKind::Rpc, reply.message()),
            format!(r#"{{"result":{{"data":{n}}}}}"#)
        );
    }
    let mut last = 0;
    while let Ok(n) = count.try_recv() {
        last = n;
    }
    // A window of a mebibyte and what lies between source and socket.
    assert!(
        last < 1000,
        "{last} publications of 8 KiB are waiting somewhere"
    );
}

/// The bytes of memory that this process occupies.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
    kilobytes.parse::<usize>().unwrap() << 10
}

#[tokio::test]
async fn c82_five_thousand_streams_are_open_on_one_connection() {
    let (publish, _) = tokio::sync::broadcast::channel::<u32>(4);
    let from = publish.clone();
    let router = Router::new().stream("feed:*", move || {
        let from = from.subscribe();
        async move {
            StreamReply::publications(stream::unfold(from, |mut from| async {
                let n = from.recv().await.ok()?;
                Some((Publication::json(&n).unwrap(), from))
            }))
        }
    });
    let node = TestNode::start(router).await;
    let client = node.client().await;
    let before = resident();
    let mut streams = Vec::new();
    for n in 0..5000 {
        let mut call = client.open(&path(EventKind::Stream), &[]).await.unwrap();
        let body = small_request(EventKind::Stream, &format!("feed:{n}"));
        call.send(frame(false, &body), true).await;
        streams.push(call);
    }
    for call in &mut streams {
        soon("the first message", call.next()).await.unwrap();
    }
    assert_eq!(node.0.engine().open_streams(), 5000);
    // Of this process: with the caller's half of each stream, and with the tests beside this one.
    let each = resident().saturating_sub(before) / 5000;
    assert!(each < 64 << 10, "{each} bytes a stream");
    assert_eq!(node.in_flight(), 0);
    publish.send(42).unwrap();
    for call in &mut streams {
        let next = soon("the publication", call.next()).await.unwrap();
        assert_eq!(
            json(EventKind::Stream, &next),
            r#"{"publication":{"data":42}}"#
        );
    }
    for mut call in streams {
        call.cancel();
    }
    support::eventually("all are closed", async || {
        node.0.engine().open_streams() == 0
    })
    .await;
}
