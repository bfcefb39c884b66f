//! Golden explanations.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::{LoadOptions, load};
use crate::interceptor::Interceptor;
use crate::router::{Route as RouterRoute, Router};
use crate::{EventKind, Reply, RpcReply};
use clap::Parser;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    explain: ExplainArgs,
}

struct Pass;
impl Interceptor for Pass {}

async fn join() -> Reply {
    Reply::empty()
}

async fn hold() -> RpcReply {
    RpcReply::done()
}

fn explained(words: &[&str]) -> Explanation {
    let router = Router::new()
        .intercept_all("log", Pass)
        .intercept(EventKind::Subscribe, "guard", Pass)
        .subscribe("chat:{room}", join)
        .subscribe("chat:staff", join)
        .subscribe("ch*", join)
        .route(
            RouterRoute::of::<crate::event::Rpc, _, _>(hold)
                .matching("seat.*")
                .key("showing:{data.showing}")
                .timeout(Duration::from_secs(1)),
        )
        .with_state(());
    let mut options = LoadOptions::new([]);
    options.dir = "/nonexistent".into();
    options.sets = vec![
        "runtime.cores=2".to_owned(),
        "listen.auth.metadata=x-key".to_owned(),
        "listen.auth.value=sesame".to_owned(),
    ];
    let config = load(&options).unwrap().config;
    let compiled = Compiled::try_new(router, ":").unwrap();
    let words = std::iter::once("explain").chain(words.iter().copied());
    let event = Line::try_parse_from(words)
        .unwrap()
        .explain
        .event
        .build()
        .unwrap();
    explain(&config, &compiled, &event).unwrap()
}

#[test]
fn a_subscribe_is_explained_from_listener_to_deadline() {
    let text = explained(&["subscribe", "--channel", "chat:42"]).to_string();
    let slot = 3027;
    let layout = ShardLayout::try_new(2, 16).unwrap();
    let shard = layout.shard_of(centripeta_cluster::slot_of(b"chat:42"));
    let (index, core) = (shard.index(), layout.core_of(shard));
    assert_eq!(
        text,
        format!(
            "\
event        subscribe `chat:42`
listener     grpc 127.0.0.1:10001, credential in `x-key`
interceptors log (on *) → guard (on subscribe)
route        subscribe `chat:{{room}}` takes it
             room = `42`
             not subscribe `chat:staff`: `chat:42` is another name
             not subscribe `ch*`: matches too, but subscribe `chat:{{room}}` is more specific
handler      join
key          channel → lane channel chat:42
slot         {slot} → shard {index} on core {core}
owner        a alone, epoch 1
deadline     the caller's grpc-timeout less 50 ms (at most 10 %), else 3000 ms
"
        )
    );
}

#[test]
fn a_template_key_shows_its_lane_and_bad_data_its_answer() {
    let found = explained(&["rpc", "--method", "seat.hold", "--data", "{\"showing\":7}"]);
    let text = found.to_string();
    assert!(
        text.contains("showing:{data.showing} → lane channel showing:7"),
        "{text}"
    );
    assert!(text.contains("1248 → shard"), "{text}");
    assert!(text.contains("1000 ms, or the caller's"), "{text}");
    let missing = explained(&["rpc", "--method", "seat.hold"]);
    let text = missing.to_string();
    assert!(text.contains("{data.showing}"), "{text}");
    assert!(text.contains("\"code\":107"), "{text}");
}

#[test]
fn an_event_without_a_route_shows_what_the_client_gets() {
    let found = explained(&["publish", "--channel", "news"]);
    let value = serde_json::to_value(&found).unwrap();
    assert!(value["route"].is_null());
    assert_eq!(
        value["interceptors"],
        serde_json::json!([{"name": "log", "on": "*"}])
    );
    assert!(value["refused"]["answer"].as_str().unwrap().contains("103"));
    let raw = explained(&["raw", "--method", "NewThing"]).to_string();
    assert!(raw.contains("UNIMPLEMENTED"), "{raw}");
}

#[test]
fn json_of_an_explanation_holds_slot_shard_and_owner() {
    let found = explained(&["subscribe", "--channel", "chat:42"]);
    let value = serde_json::to_value(&found).unwrap();
    assert_eq!(value["route"]["place"]["slot"], 3027);
    assert_eq!(value["route"]["place"]["owner"], "a");
    assert_eq!(value["route"]["params"]["room"], "42");
    assert_eq!(value["listener"]["credential"], "x-key");
    assert!(!value.to_string().contains("sesame"));
}

#[test]
fn in_a_cluster_the_owner_is_what_its_nodes_say_and_unknown_without_them() {
    let mut options = LoadOptions::new([]);
    options.dir = "/nonexistent".into();
    options.sets = vec!["cluster.listen=127.0.0.1:7946".to_owned()];
    let config = load(&options).unwrap().config;
    let router: Router = Router::new().subscribe("*", join).with_state(());
    let compiled = Compiled::try_new(router, ":").unwrap();
    let line = Line::parse_from(["explain", "subscribe", "--channel", "chat:42"]);
    let event = line.explain.event.build().unwrap();
    let mut found = super::explain(&config, &compiled, &event).unwrap();
    assert!(found.to_string().contains("owner        not known"));
    let unknown = "127.0.0.1:1: refused".to_owned();
    found.follow(path::Path::Unknown { unknown });
    let text = found.to_string();
    assert!(
        text.contains("owner        not known: 127.0.0.1:1: refused"),
        "{text}"
    );
    let value = serde_json::to_value(&found).unwrap();
    assert!(value["route"]["place"]["owner"].is_null());
    assert_eq!(value["path"]["unknown"], "127.0.0.1:1: refused");
    assert_eq!(value["route"]["place"]["slot"], 3027);
}
