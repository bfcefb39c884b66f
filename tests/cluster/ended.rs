//! What a drain ends: streams, and events that run for too long. Both are counted and said.

use super::drive::Door;
use super::fleet::{Fleet, Spec, names};
use super::process::eventually;
use super::relay::Relay;
use super::stream::{ended, is_silent, owned_by, subscribe};
use super::support::{path, request};
use centripeta::event::EventKind;
use serde_json::json;
use std::time::Duration;

/// An event of a key that waits for an application which never answers.
const ROUTES: &str = r#"
[handler.application]
kind = "grpc"
endpoints = ["grpc://127.0.0.1:9900"]

[[route]]
on = "rpc"
match = "wait"
key = "room:{user}"
handler = "application"
"#;

/// Two nodes, of which the second does not wait for long.
fn two() -> Fleet {
    let specs = names(2).map(|name| {
        let plain = Spec::plain(&name);
        Spec {
            routes: format!("{}{ROUTES}", plain.routes),
            guard: format!("{}\nmoves = {{ release_timeout = \"1s\" }}", plain.guard),
            ..plain
        }
    });
    Fleet::of(specs.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_counts_the_streams_it_ended_and_the_events_it_cut_and_nothing_else_is_lost() {
    let Some(_turn) = super::turn("what a drain ends") else {
        return;
    };
    let fleet = two();
    // Whatever is sent there arrives an hour later.
    let lapsed = fleet.lapsed();
    let late = Duration::from_secs(3600);
    let _application = Relay::start(&fleet, 1, "127.0.0.1:9900", "127.0.0.1:10003", late);
    let door = Door::new(fleet.socket(0));
    let (feed, kept) = (owned_by(&fleet, "feed", 1), owned_by(&fleet, "feed", 0));
    let mut stream = subscribe(&door, &feed).await;
    let mut other = subscribe(&door, &kept).await;
    let user = owned_by(&fleet, "room", 1).replace("room:", "");
    let client = door.client().await.unwrap();
    let waiting = tokio::spawn(async move {
        let kind = EventKind::Rpc;
        let json = format!(
            r#"{{"client":"c","transport":"websocket","protocol":"json","encoding":"json","user":"{user}","method":"wait"}}"#
        );
        let headers = [("grpc-timeout", "30S")];
        client
            .call(&path(kind), &headers, &request(kind, &json))
            .await
    });
    let in_flight = || {
        let page = fleet.page(1, "/metrics");
        let line = page
            .lines()
            .find(|line| line.starts_with("centripeta_upstream_in_flight"));
        line.is_some_and(|line| line.ends_with(" 1")).then_some(())
    };
    eventually("the application has been asked", in_flight);
    is_silent(&mut stream).await;

    let drained = fleet.json(0, &["cluster", "drain", "b", "--wait"]).unwrap();
    let found = ["slots", "streams_ended", "events_cut"].map(|name| &drained[name]);
    if fleet.lapsed() > lapsed {
        // Then the slots were lost, not moved.
        eprintln!("SKIPPED: the machine is too slow: a lease ran out in the drain");
        return;
    }
    let warnings = fleet.warnings();
    assert_eq!(
        found,
        [&json!(0), &json!(1), &json!(1)],
        "{drained}\n{warnings}"
    );
    ended(stream).await;
    let cut = waiting.await.unwrap();
    assert_eq!(cut.status, Some(14), "{cut:?}");
    // What the other node owns goes on, and in words it is the same.
    is_silent(&mut other).await;
    let said = fleet.run(0, &["cluster", "drain", "b", "--wait"]);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("1 stream was ended"), "{said}");
    assert!(said.contains("1 event was cut"), "{said}");
}
