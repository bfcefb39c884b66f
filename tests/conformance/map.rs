//! C83, C85, C87, C88: map events, shared polls and notifications.

use crate::support::{TestNode, actor, json, path, request};
use centripeta::event::{ChannelState, EventKind, MapPublish, MapRemove, SharedPollRefresh};
use centripeta::extract::Request;
use centripeta::{
    ChannelStateReply, MapPublishReply, MapRemoveReply, Reject, Router, SharedPollRefreshReply,
};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn c83_map_events_without_key_and_user_are_handled_and_may_be_given_a_key() {
    let router = Router::new()
        .map_publish(
            "board:*",
            |Request(request): Request<MapPublish>| async move {
                assert_eq!((request.key.as_str(), request.user.as_str()), ("", ""));
                MapPublishReply::allow().key("k1")
            },
        )
        .map_remove(
            "board:*",
            |Request(request): Request<MapRemove>| async move {
                assert_eq!((request.key.as_str(), request.user.as_str()), ("", ""));
                MapRemoveReply::allow().key("k2")
            },
        );
    let node = TestNode::start(router).await;
    let client = node.client().await;
    for (kind, key) in [(EventKind::MapPublish, "k1"), (EventKind::MapRemove, "k2")] {
        let body = request(
            kind,
            r#"{"client":"c","protocol":"json","channel":"board:1"}"#,
        );
        let reply = client.call(&path(kind), &[], &body).await;
        let expected = format!(r#"{{"result":{{"key":"{key}"}}}}"#);
        assert_eq!(json(kind, reply.message()), expected);
    }
}

#[tokio::test]
async fn c85_a_poll_of_a_thousand_items_is_answered_with_the_known_and_the_removed_ones() {
    let router = Router::new().shared_poll_refresh(
        "*",
        |Request(request): Request<SharedPollRefresh>| async move {
            let mut reply = SharedPollRefreshReply::new().epoch("e1");
            for (n, item) in request.items.iter().enumerate() {
                reply = match n % 10 {
                    0 => continue,
                    1 => reply.removed(&item.key),
                    _ => reply.item(&item.key, item.version + 1, &n),
                };
            }
            reply
        },
    );
    let node = TestNode::start(router).await;
    let kind = EventKind::SharedPollRefresh;
    let items: Vec<String> = (0..1000)
        .map(|n| format!(r#"{{"key":"item-{n}","version":{n}}}"#))
        .collect();
    let body = request(
        kind,
        &format!(r#"{{"channel":"quotes:1","items":[{}]}}"#, items.join(",")),
    );
    let begun = Instant::now();
    let headers = [("grpc-timeout", "1S")];
    let reply = node.client().await.call(&path(kind), &headers, &body).await;
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    let json = json(kind, reply.message());
    let reply: serde_json::Value = serde_json::from_str(&json).unwrap();
    let items = reply["result"]["items"].as_array().unwrap();
    assert_eq!(items.len(), 900);
    assert_eq!(
        items.iter().filter(|item| item["removed"] == true).count(),
        100
    );
    assert_eq!(items[1]["key"], "item-2");
    assert_eq!(items[1]["version"], 3);
}

#[tokio::test]
async fn c87_an_item_without_a_version_has_version_0() {
    let router = Router::new().shared_poll_refresh(
        "*",
        |Request(request): Request<SharedPollRefresh>| async move {
            let versions: Vec<u64> = request.items.iter().map(|item| item.version).collect();
            SharedPollRefreshReply::new().item("seen", 1, &versions)
        },
    );
    let node = TestNode::start(router).await;
    let kind = EventKind::SharedPollRefresh;
    let body = request(
        kind,
        r#"{"channel":"q","items":[{"key":"a"},{"key":"b","version":5}]}"#,
    );
    let reply = node.client().await.call(&path(kind), &[], &body).await;
    let expected = r#"{"result":{"items":[{"key":"seen","data":[0,5],"version":1}]}}"#;
    assert_eq!(json(kind, reply.message()), expected);
}

#[tokio::test]
async fn c88_notifications_are_acknowledged_in_words_and_refused_by_a_status() {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    for (kind, body) in [
        (EventKind::CacheEmpty, r#"{"channel":"a"}"#),
        (EventKind::ChannelState, "{}"),
    ] {
        let body = request(kind, body);
        let reply = client.call(&path(kind), &[], &body).await;
        assert_eq!(json(kind, reply.message()), r#"{"result":{}}"#, "{kind}");
        for act in [
            "error/500/again",
            "temporary/500",
            "disconnect/4501/go",
            "fail",
        ] {
            let reply = client.call(&path(kind), &[("x-do", act)], &body).await;
            assert_eq!(reply.status, Some(13), "{kind} {act}");
        }
    }
    let bare = TestNode::start(Router::new()).await;
    let client = bare.client().await;
    for kind in [EventKind::CacheEmpty, EventKind::ChannelState] {
        assert_eq!(
            client.call(&path(kind), &[], b"").await.status,
            Some(12),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn c88_a_batch_that_comes_twice_is_handled_twice_without_harm() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    // What is stored, by what tells events apart.
    let stored = Arc::new(Mutex::new(BTreeSet::new()));
    let store = Arc::clone(&stored);
    let router = Router::new().channel_state(move |Request(batch): Request<ChannelState>| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        let store = Arc::clone(&store);
        async move {
            // The first try fails half way.
            let handled = if first { 1 } else { batch.events.len() };
            for event in batch.events.into_iter().take(handled) {
                let event = (event.time_ms, event.channel, event.r#type);
                store.lock().unwrap().insert(event);
            }
            if first {
                Err(Reject::internal("not stored yet"))
            } else {
                Ok(ChannelStateReply::acknowledge())
            }
        }
    });
    let batch = request(
        EventKind::ChannelState,
        r#"{"events":[{"time_ms":1,"channel":"chat:1","type":"occupied"},{"time_ms":2,"channel":"chat:2","type":"vacated"}]}"#,
    );
    let node = TestNode::start(router).await;
    let client = node.client().await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let reply = client
            .call(&path(EventKind::ChannelState), &[], &batch)
            .await;
        statuses.push(reply.status.unwrap());
    }
    assert_eq!(statuses, [13, 0, 0]);
    assert_eq!(seen.load(Ordering::SeqCst), 3);
    let event = |time, channel: &str, kind: &str| (time, channel.to_owned(), kind.to_owned());
    let both = [
        event(1, "chat:1", "occupied"),
        event(2, "chat:2", "vacated"),
    ];
    assert_eq!(*stored.lock().unwrap(), BTreeSet::from(both));
}
