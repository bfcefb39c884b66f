//! Streams whose channel another node owns.

use super::drive::Door;
use super::fleet::Fleet;
use super::scene::Scene;
use super::support::client::{Call, Reply, frame};
use super::support::{path, request, small_request, soon};
use centripeta::event::EventKind;
use std::time::Duration;

/// gRPC's `UNAVAILABLE`: the client subscribes anew.
const UNAVAILABLE: i32 = 14;

/// A channel of this namespace that `owner` owns.
pub(crate) fn owned_by(fleet: &Fleet, namespace: &str, owner: usize) -> String {
    let channels = (0..).map(|number| format!("{namespace}:{number}"));
    let mut owned = channels.filter(|channel| {
        let place = fleet.json(0, &["cluster", "where", channel]).unwrap();
        place["slot"]["owner"]["name"] == fleet.name(owner)
    });
    owned.next().unwrap()
}

/// A stream that was accepted.
pub(crate) async fn subscribe(door: &Door, channel: &str) -> Call {
    let client = door.client().await.unwrap();
    let mut call = client.open(&path(EventKind::Stream), &[]).await.unwrap();
    let body = small_request(EventKind::Stream, channel);
    call.send(frame(false, &body), true).await;
    let first = soon("the first message", call.next()).await;
    assert!(first.is_some(), "not accepted");
    call
}

/// It has ended in such a way that Centrifugo lets the client subscribe anew.
pub(crate) async fn ended(call: Call) -> Reply {
    let reply = soon("the end of the stream", call.finish()).await;
    assert_eq!(reply.status, Some(UNAVAILABLE), "{reply:?}");
    reply
}

/// It is open, and nothing comes.
pub(crate) async fn is_silent(call: &mut Call) {
    let more = tokio::time::timeout(Duration::from_millis(100), call.next()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_through_another_node_ends_unavailable_when_its_owner_is_killed() {
    let Some(mut scene) = Scene::begin("the owner of a stream is killed") else {
        return;
    };
    let (leader, owner) = (scene.leader, scene.victim);
    let fleet = &mut *scene.fleet;
    let door = Door::new(fleet.socket(leader));
    let channel = owned_by(fleet, "feed", owner);
    let kept = owned_by(fleet, "feed", scene.others[1]);
    let mut other = subscribe(&door, &kept).await;
    let mut call = subscribe(&door, &channel).await;
    is_silent(&mut call).await;
    fleet.kill(owner);
    ended(call).await;
    // The client comes back, and a living node takes it.
    let mut again = subscribed_again(&door, &channel).await;
    is_silent(&mut again).await;
    is_silent(&mut other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_through_another_node_ends_unavailable_when_its_owner_drains() {
    let Some(mut scene) = Scene::begin("the owner of a stream drains") else {
        return;
    };
    let (leader, owner) = (scene.leader, scene.victim);
    let fleet = &mut *scene.fleet;
    let door = Door::new(fleet.socket(leader));
    let channel = owned_by(fleet, "feed", owner);
    let mut call = subscribe(&door, &channel).await;
    is_silent(&mut call).await;
    fleet.signal(owner, "TERM");
    ended(call).await;
    let mut again = subscribed_again(&door, &channel).await;
    is_silent(&mut again).await;
    let place = fleet.json(leader, &["cluster", "where", &channel]).unwrap();
    assert_ne!(place["slot"]["owner"]["name"], fleet.name(owner), "{place}");
    assert_eq!(fleet.process(owner).end().code(), Some(0));
    is_silent(&mut again).await;
}

/// Subscribes as a client does that is told `UNAVAILABLE`: until it is accepted.
async fn subscribed_again(door: &Door, channel: &str) -> Call {
    let body = request(
        EventKind::Stream,
        &format!(
            r#"{{"client":"c2","transport":"websocket","protocol":"json","encoding":"json","user":"u2","channel":"{channel}"}}"#
        ),
    );
    let client = door.client().await.unwrap();
    soon("a stream to the new owner", async {
        loop {
            let mut call = client.open(&path(EventKind::Stream), &[]).await.unwrap();
            call.send(frame(false, &body), true).await;
            if call.next().await.is_some() {
                return call;
            }
            let reply = call.finish().await;
            assert_eq!(reply.status, Some(UNAVAILABLE), "{reply:?}");
        }
    })
    .await
}
