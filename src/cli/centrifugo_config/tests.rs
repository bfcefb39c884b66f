//! What the configuration holds for given routes.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::{LoadOptions, load};
use crate::router::Router;
use crate::{ConnectReply, Reply};
use clap::Parser;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: CentrifugoConfigArgs,
}

async fn yes() -> Reply {
    Reply::empty()
}

fn router() -> Router {
    Router::new()
        .connect(async || ConnectReply::user("u1"))
        .subscribe("chat:{room}", yes)
        .publish("chat:{room}", yes)
        .subscribe("news", yes)
        .stream("feed:{name}", yes)
        .map_publish("board:{id}", yes)
        .shared_poll_refresh("poll:*", yes)
        .rpc("seat.*", yes)
        .rpc("cart:add", yes)
        .with_state(())
}

fn draft(router: Router, sets: &[&str], words: &[&str]) -> Result<Draft, CliError> {
    let mut options = LoadOptions::new([]);
    options.dir = "/nonexistent".into();
    options.sets = sets.iter().map(|set| (*set).to_owned()).collect();
    let config = load(&options).unwrap().config;
    let compiled = Compiled::try_new(router, &config.channel.namespace_boundary).unwrap();
    let words = std::iter::once("centrifugo-config").chain(words.iter().copied());
    Draft::new(
        &config,
        &compiled,
        &Line::try_parse_from(words).unwrap().args,
    )
}

fn namespace(draft: &Draft, name: &str) -> Value {
    let list = draft.root["channel"]["namespaces"].as_array().unwrap();
    let found = list.iter().find(|it| it["name"] == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {list:?}"))
        .clone()
}

#[test]
fn namespaces_and_proxies_follow_from_the_routes() {
    let draft = draft(router(), &["limits.timeout=2500ms"], &[]).unwrap();
    let root = &draft.root;
    let connect = &root["client"]["proxy"]["connect"];
    assert_eq!(connect["endpoint"], "grpc://127.0.0.1:10001");
    assert_eq!(connect["timeout"], "2500ms");
    assert!(connect.get("include_connection_meta").is_none());
    assert!(root["client"]["proxy"].get("refresh").is_none());
    assert_eq!(
        root["channel"]["proxy"]["publish"]["include_connection_meta"],
        true
    );
    assert_eq!(
        namespace(&draft, "chat"),
        json!({"name": "chat", "subscribe_proxy_enabled": true, "publish_proxy_enabled": true})
    );
    assert_eq!(
        namespace(&draft, "feed")["subscribe_stream_proxy_enabled"],
        true
    );
    assert_eq!(namespace(&draft, "board")["subscription_type"], "map");
    assert_eq!(
        namespace(&draft, "poll")["subscription_type"],
        "shared_poll"
    );
    assert_eq!(
        root["channel"]["without_namespace"],
        json!({"subscribe_proxy_enabled": true})
    );
    assert_eq!(
        root["rpc"]["namespaces"],
        json!([{"name": "cart", "proxy_enabled": true}])
    );
    assert_eq!(root["rpc"]["without_namespace"]["proxy_enabled"], true);
    assert!(root["client"].get("concurrency").is_none());
    assert!(draft.notes.iter().any(|note| note.contains("may swap")));
}

#[test]
fn namespaces_of_the_command_line_take_the_place_of_those_in_the_routes() {
    let list = "room,live=stream,term=bidirectional,board=map,poll=shared-poll";
    let draft = draft(router(), &[], &["--namespaces", list]).unwrap();
    assert_eq!(
        draft.root["channel"]["namespaces"]
            .as_array()
            .unwrap()
            .len(),
        5
    );
    assert_eq!(namespace(&draft, "room")["publish_proxy_enabled"], true);
    assert_eq!(
        namespace(&draft, "term")["subscribe_stream_proxy_bidirectional"],
        true
    );
}

#[test]
fn split_events_go_elsewhere_and_are_on_even_without_a_route() {
    let words = ["--split", "rpc=10.0.0.2:10001,refresh=unix:///run/x.sock"];
    let draft = draft(router(), &[], &words).unwrap();
    assert_eq!(
        draft.root["rpc"]["proxy"]["endpoint"],
        "grpc://10.0.0.2:10001"
    );
    assert_eq!(
        draft.root["client"]["proxy"]["refresh"]["endpoint"],
        "unix:///run/x.sock"
    );
    assert_eq!(
        draft.root["client"]["proxy"]["connect"]["endpoint"],
        "grpc://127.0.0.1:10001"
    );
    for wrong in [
        "rpc",
        "rpc=10.0.0.2",
        "nope=h:1",
        "raw=h:1",
        "rpc=http://h:1",
    ] {
        let parsed = Line::try_parse_from(["centrifugo-config", "--split", wrong]);
        assert!(parsed.is_err(), "{wrong}");
    }
}

#[test]
fn secrets_stay_in_the_environment_unless_asked_for() {
    let sets = [
        "listen.auth.metadata=x-router-key",
        "listen.auth.value=sesame",
        "centrifugo.key=apikey",
    ];
    let without = draft(router(), &sets, &[]).unwrap();
    let text = without.root.to_string();
    assert!(
        !text.contains("sesame") && !text.contains("apikey"),
        "{text}"
    );
    assert_eq!(
        without.root["rpc"]["proxy"]["grpc"]["credentials_key"],
        "x-router-key"
    );
    let names: Vec<String> = without
        .secrets
        .iter()
        .map(|it| env_name(&it.path))
        .collect();
    for wanted in [
        "CENTRIFUGO_CLIENT_PROXY_CONNECT_GRPC_CREDENTIALS_VALUE",
        "CENTRIFUGO_CHANNEL_PROXY_SUBSCRIBE_STREAM_GRPC_CREDENTIALS_VALUE",
        "CENTRIFUGO_RPC_PROXY_GRPC_CREDENTIALS_VALUE",
        "CENTRIFUGO_GRPC_API_KEY",
        "CENTRIFUGO_SHARED_POLL_HMAC_SECRET_KEY",
    ] {
        assert!(
            names.iter().any(|name| name == wanted),
            "{wanted} in {names:?}"
        );
    }
    let with = draft(router(), &sets, &["--with-secrets"]).unwrap();
    let credential = &with.root["client"]["proxy"]["connect"]["grpc"]["credentials_value"];
    assert_eq!(credential, "sesame");
    assert_eq!(with.root["grpc_api"]["key"], "apikey");
    assert_eq!(
        with.root["shared_poll"]["hmac_secret_key"]
            .as_str()
            .unwrap()
            .len(),
        48
    );
}

#[test]
fn wildcards_sockets_and_unknown_ports_map_to_what_centrifugo_can_reach() {
    let open = ["listen.grpc=0.0.0.0:9000", "listen.allow_open=true"];
    let wildcard = draft(router(), &open, &[]).unwrap();
    assert_eq!(
        wildcard.root["rpc"]["proxy"]["endpoint"],
        "grpc://127.0.0.1:9000"
    );
    assert!(wildcard.notes.iter().any(|note| note.contains("--to")));
    let unix = draft(router(), &["listen.grpc=unix:///run/c.sock"], &[]).unwrap();
    assert_eq!(unix.root["rpc"]["proxy"]["endpoint"], "unix:///run/c.sock");
    let zero = ["listen.grpc=127.0.0.1:0"];
    assert!(draft(router(), &zero, &[]).is_err());
    let named = draft(router(), &zero, &["--to", "router.internal:10001"]).unwrap();
    assert_eq!(
        named.root["rpc"]["proxy"]["endpoint"],
        "grpc://router.internal:10001"
    );
}

#[test]
fn routes_for_everything_join_the_namespaces_that_others_name() {
    let router = Router::new()
        .subscribe("chat:{room}", yes)
        .sub_refresh("*", yes)
        .with_state(());
    let draft = draft(router, &[], &[]).unwrap();
    assert_eq!(namespace(&draft, "chat")["sub_refresh_proxy_enabled"], true);
    let asks = draft.notes.iter().any(|note| note.contains("--namespaces"));
    assert!(!asks, "{:?}", draft.notes);
}

#[test]
fn routes_for_everything_send_send_ordinary_channels_and_ask_for_namespaces() {
    let router = Router::new()
        .subscribe("*", yes)
        .stream("*", yes)
        .with_state(());
    let draft = draft(router, &[], &[]).unwrap();
    let without = &draft.root["channel"]["without_namespace"];
    assert_eq!(*without, json!({"subscribe_proxy_enabled": true}));
    let notes = draft.notes.join("\n");
    assert!(
        notes.contains("--namespaces") && notes.contains("clients need a token"),
        "{notes}"
    );
    assert!(
        notes.contains("can't send stream beside subscribe"),
        "{notes}"
    );
}
