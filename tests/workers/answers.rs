//! What goes to workers, and what becomes of their answers.

use crate::node::{KINDS, Node, Script, ask, ask_data, check, handler, hex, routes};
use crate::support::{path, request};
use bytes::Bytes;
use centripeta::event::EventKind;
use std::collections::BTreeMap;
use tokio::task::block_in_place;

/// A good answer to a kind of event, as JSON of its response.
fn good(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Connect => r#"{"result":{"user":"u7"}}"#,
        EventKind::Refresh | EventKind::SubRefresh => r#"{"result":{"expire_at":4102444800}}"#,
        EventKind::Rpc => r#"{"result":{"data":{"n":1}}}"#,
        _ => r#"{"result":{}}"#,
    }
}

/// What the node has said of answers that would be mishandled.
fn told(node: &Node) -> Vec<String> {
    let said = node.process.said();
    let told = said.into_iter().filter(|line| line.contains("mishandle"));
    told.collect()
}

fn response(kind: EventKind, json: &str) -> Bytes {
    centripeta::json::response_from_json(kind, json).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w79_w81_every_event_is_answered_by_a_worker_byte_for_byte() {
    for script in Script::all() {
        let node = Node::start(&(handler(script, "", "num_workers = 2") + &routes())).await;
        let client = node.client().await;
        for kind in KINDS {
            let wanted = response(kind, good(kind));
            let reply = ask(&client, kind, &format!("hex:{}", hex(&wanted))).await;
            assert_eq!(reply.message(), &wanted, "{script:?} {kind}");
        }
        let refused = node.process.said();
        let refused = refused.iter().find(|line| line.contains("mishandle"));
        assert_eq!(refused, None, "good answers are not told of");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w77_w78_the_context_has_every_key_as_an_array_and_one_type_that_no_header_chooses() {
    for script in Script::all() {
        let node = Node::start(&(handler(script, "", "num_workers = 1") + &routes())).await;
        let client = node.client().await;
        let message = crate::node::request_of(EventKind::Rpc, "rpc-context");
        let headers = [
            ("x-real-ip", "1.2.3.4"),
            ("x-real-ip", "5.6.7.8"),
            ("type", "connect"),
            ("grpc-timeout", "5S"),
        ];
        let reply = client.call(&path(EventKind::Rpc), &headers, &message).await;
        let data = crate::node::data_of(reply.message());
        let context: BTreeMap<String, Vec<String>> = serde_json::from_slice(&data).unwrap();
        let of = |name: &str| context.get(name).cloned().unwrap_or_default();
        assert_eq!(of("type"), ["rpc"], "{script:?}");
        assert_eq!(of("x-real-ip"), ["1.2.3.4", "5.6.7.8"]);
        assert_eq!(of(":authority"), ["127.0.0.1"]);
        assert_eq!(of("content-type"), ["application/grpc"]);
        assert!(!context.contains_key("grpc-timeout") && !context.contains_key("te"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w80_unknown_fields_cross_both_ways_and_doubtful_answers_are_told_of_once() {
    let node = Node::start(&(handler(Script::Python, "", "num_workers = 1") + &routes())).await;
    let client = node.client().await;
    let mut message = crate::node::request_of(EventKind::Rpc, "rpc-body").to_vec();
    // Field 99 holds `hey`, and nobody knows it.
    message.extend_from_slice(b"\x9a\x06\x03hey");
    for _ in 0..2 {
        let reply = client.call(&path(EventKind::Rpc), &[], &message).await;
        assert_eq!(crate::node::data_of(reply.message()), message);
    }
    let mut answer = response(EventKind::Publish, good(EventKind::Publish)).to_vec();
    answer.extend_from_slice(b"\x9a\x06\x03hey");
    let directive = format!("hex:{}", hex(&answer));
    let reply = ask(&client, EventKind::Publish, &directive).await;
    assert_eq!(reply.message(), &answer);
    // The data above was no JSON, and the client speaks JSON.
    block_in_place(|| node.process.says("mishandle"));
    let told = told(&node);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains("3506") && told[0].contains("\"handler\":\"app\""));
    let flawed = "centripeta_worker_flawed_answers_total{handler=\"app\"}";
    assert_eq!(block_in_place(|| node.metric(flawed)), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w82_an_error_and_a_disconnect_of_the_application_are_answers_whatever_their_code() {
    let node = Node::start(&(handler(Script::Python, "", "num_workers = 1") + &routes())).await;
    let client = node.client().await;
    for json in [
        r#"{"error":{"code":1000,"message":"nope","temporary":true}}"#,
        r#"{"disconnect":{"code":4500,"reason":"go away"}}"#,
        // Codes that are no application's worked before, and go on working.
        r#"{"error":{"code":200,"message":"low"}}"#,
        r#"{"error":{"code":200,"message":"low again"}}"#,
        r#"{"disconnect":{"code":7,"reason":"odd"}}"#,
    ] {
        let wanted = response(EventKind::Rpc, json);
        let reply = ask(&client, EventKind::Rpc, &format!("hex:{}", hex(&wanted))).await;
        assert_eq!(reply.message(), &wanted, "{json}");
    }
    // The log comes by another way than the answers.
    block_in_place(|| node.process.says("disconnect code 7"));
    let told = told(&node);
    assert_eq!(told.len(), 2, "once for each code: {told:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_replies_refuse_what_would_be_mishandled() {
    let keys = "strict_replies = true\nallow_empty = true";
    let node = Node::start(&(handler(Script::Python, keys, "num_workers = 1") + &routes())).await;
    let client = node.client().await;
    let odd = response(EventKind::Rpc, r#"{"error":{"code":200,"message":"low"}}"#);
    let reply = ask(&client, EventKind::Rpc, &format!("hex:{}", hex(&odd))).await;
    assert_eq!((reply.status, reply.messages.len()), (Some(13), 0));
    // And `allow_empty` lets an empty answer through.
    let reply = ask(&client, EventKind::Publish, "empty").await;
    assert_eq!(reply.message(), &Bytes::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w83_w84_what_is_no_answer_is_a_status_and_costs_no_worker_that_is_well() {
    for script in Script::all() {
        let node = Node::start(&(handler(script, "", "num_workers = 1") + &routes())).await;
        let client = node.client().await;
        let before = ask_data(&client, "rpc-pid").await;
        for (directive, status, word) in [
            ("soft", 13, "SoftJob: soft boom"),
            ("drop", 13, "answered nothing"),
            ("empty", 13, "allow_empty"),
            // No protobuf at all.
            ("hex:ffffff", 13, "not the response of a rpc"),
        ] {
            let reply = ask(&client, EventKind::Rpc, directive).await;
            let ended = (reply.status, reply.messages.len());
            assert_eq!(ended, (Some(status), 0), "{script:?} {directive}");
            let line = block_in_place(|| node.process.says(word));
            assert!(line.contains("handler `app`"), "{line}");
        }
        let after = ask_data(&client, "rpc-pid").await;
        assert_eq!(before, after, "{script:?}: the worker is kept");
        let reply = ask(&client, EventKind::Publish, "exit:3").await;
        assert_eq!((reply.status, reply.messages.len()), (Some(14), 0));
        let line = block_in_place(|| node.process.says("the worker was lost while"));
        assert!(
            line.contains("exit status: 3") && line.contains("\"handler\":\"app\""),
            "{line}"
        );
        assert_ne!(
            ask_data(&client, "rpc-pid").await,
            after,
            "another serves on"
        );
        let dropped = "centripeta_worker_dropped_requests_total{handler=\"app\"}";
        assert_eq!(block_in_place(|| node.metric(dropped)), 1);
    }
}

#[test]
fn w85_a_stream_route_to_a_pool_stops_the_start_in_words() {
    for kind in ["stream", "stream_bidirectional", "raw"] {
        let route = format!("[[route]]\non = [\"rpc\", \"{kind}\"]\nhandler = \"app\"\n");
        let (code, said) = check(&(handler(Script::Python, "", "") + &route));
        assert_eq!(code, 3, "{said}");
        let words = format!("`app` cannot answer `{kind}`");
        assert!(
            said.contains(&words) && said.contains("route.0.handler"),
            "{said}"
        );
    }
    let keys = "on = [\"connect\", \"rpc\"]";
    let (code, said) = check(&(handler(Script::Python, keys, "") + &routes()));
    assert_eq!(code, 3, "{said}");
    assert!(
        said.contains("`handler.app.on`") && said.contains("publish"),
        "{said}"
    );
}

#[test]
fn an_unknown_user_stops_the_start_and_checking_starts_nothing() {
    let (code, said) = check(&(handler(Script::Python, "user = \"no-such-one\"", "") + &routes()));
    assert_eq!(code, 3, "{said}");
    assert!(
        said.contains("handler.app.user") && said.contains("no-such-one"),
        "{said}"
    );
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let keys = format!("env = {{ standin_log = \"{}\" }}", log.display());
    let (code, said) = check(&(handler(Script::Python, &keys, "") + &routes()));
    assert_eq!(code, 0, "{said}");
    assert!(!log.exists(), "a worker was started");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w15_w16_w17_workers_find_the_environment_that_roadrunner_gives_them() {
    for script in Script::all() {
        let keys = "env = { foo = \"x\", RR_MODE = \"http\" }";
        let config = handler(script, keys, "num_workers = 1") + &routes();
        let ours = [
            ("NOTIFY_SOCKET", "/nowhere"),
            ("WATCHDOG_USEC", "9000000000"),
            ("BAR", "y"),
        ];
        let node = Node::start_unready(&config, &ours);
        node.until_ready().await;
        let client = node.client().await;
        let data = ask_data(&client, "rpc-env").await;
        let env: BTreeMap<String, String> = serde_json::from_slice(&data).unwrap();
        let of = |name: &str| env.get(name).map(String::as_str);
        assert_eq!(of("RR_MODE"), Some("centrifuge"), "{script:?}");
        assert_eq!(of("RR_RELAY"), Some("pipes"));
        assert!(of("RR_VERSION").is_some_and(|version| !version.is_empty()));
        let rpc = of("RR_RPC").unwrap_or_default();
        assert!(
            rpc.starts_with("tcp://127.0.0.1:") && !rpc.ends_with(":0"),
            "{rpc}"
        );
        assert_eq!((of("FOO"), of("BAR")), (Some("x"), Some("y")));
        assert_eq!((of("NOTIFY_SOCKET"), of("WATCHDOG_USEC")), (None, None));
        // Without a listener they are told of none.
        let silent = config.clone() + "[rpc]\nlisten = \"off\"\n";
        let node = Node::start(&silent).await;
        let client = node.client().await;
        let data = ask_data(&client, "rpc-env").await;
        let env: BTreeMap<String, String> = serde_json::from_slice(&data).unwrap();
        assert_eq!(env.get("RR_RPC"), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_pools_answer_each_its_own_events() {
    let second = handler(Script::Python, "env = { FOO = \"two\" }", "num_workers = 1");
    let second = second.replace("handler.app", "handler.other");
    let config = handler(Script::Python, "env = { FOO = \"one\" }", "num_workers = 1")
        + &second
        + "[[route]]\non = \"rpc\"\nhandler = \"app\"\n\
           [[route]]\non = \"rpc\"\nmatch = \"other\"\nhandler = \"other\"\n";
    let node = Node::start(&config).await;
    let client = node.client().await;
    for (method, wanted) in [("m", "one"), ("other", "two")] {
        let json = format!(r#"{{"client":"do:rpc-env","protocol":"json","method":"{method}"}}"#);
        let message = request(EventKind::Rpc, &json);
        let reply = client.call(&path(EventKind::Rpc), &[], &message).await;
        let data = crate::node::data_of(reply.message());
        let env: BTreeMap<String, String> = serde_json::from_slice(&data).unwrap();
        assert_eq!(env["FOO"], wanted);
    }
}
