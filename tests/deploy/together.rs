//! The composition without containers: a real Centrifugo on a real Redis with the shipped files, of which
//! only the addresses differ.

use super::{SECRETS, found, get, root, services, value};
use crate::outside::free_ports;
use crate::process::{Running, eventually, stock};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::net::TcpStream;
use std::process::Command;
use tokio_tungstenite::tungstenite::Message;

/// The value that Compose gives a variable.
fn composed_value(text: &str) -> String {
    let name = text
        .strip_prefix("${")
        .and_then(|rest| rest.split_once(":?"));
    value(name.unwrap_or_else(|| panic!("{text}")).0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_through_centrifugo_on_redis_to_the_node_and_back() {
    let Some(centrifugo) = found("centrifugo", "CENTRIFUGO_BIN") else {
        return;
    };
    let Some(redis) = found("redis-server", "REDIS_SERVER_BIN") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let [redis_port, grpc, admin, api, client, inside] = free_ports();

    let command = words_of("redis");
    let mut store = Command::new(redis);
    store
        .args(&command[1..])
        .args(["--bind", "127.0.0.1", "--port", &redis_port.to_string()])
        .current_dir(dir.path());
    let _store = Running::start(store);
    eventually("redis listens", || {
        TcpStream::connect(("127.0.0.1", redis_port)).ok()
    });

    let sets = [
        format!("listen.grpc=127.0.0.1:{grpc}"),
        format!("listen.admin=127.0.0.1:{admin}"),
        format!("centrifugo.api=[\"grpc://127.0.0.1:{api}\"]"),
    ];
    let mut node = stock(dir.path(), ["serve", "--config"]);
    node.arg(root().join("deploy/compose/node.toml"))
        .args(sets.iter().flat_map(|set| ["--set", set]))
        .envs(SECRETS.map(|name| (name, value(name))));
    let mut node = Running::start(node);
    node.says("listening");

    let text = super::file("deploy/compose/centrifugo.json");
    let text = text
        .replace("centripeta:10001", &format!("127.0.0.1:{grpc}"))
        .replace("redis:6379", &format!("127.0.0.1:{redis_port}"));
    let mut config: Value = serde_json::from_str(&text).unwrap();
    config["http_server"]["port"] = json!(client);
    config["http_server"]["internal_port"] = json!(inside.to_string());
    config["grpc_api"]["port"] = json!(api);
    let file = dir.path().join("config.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let mut proxy = Command::new(centrifugo);
    proxy.arg("-c").arg(&file).current_dir(dir.path());
    for (name, text) in services()["centrifugo"]["environment"].as_object().unwrap() {
        proxy.env(name, composed_value(text.as_str().unwrap()));
    }
    let proxy = Running::start(proxy);
    let (client, inside) = (format!("127.0.0.1:{client}"), format!("127.0.0.1:{inside}"));
    eventually("centrifugo is healthy", || {
        TcpStream::connect(&inside).ok()?;
        get(&inside, "/health", None)
            .starts_with("HTTP/1.1 200")
            .then_some(())
    });

    let address = format!("ws://{client}/connection/websocket");
    let (mut socket, _) = tokio_tungstenite::connect_async(address).await.unwrap();
    for (command, part) in [
        (json!({ "id": 1, "connect": {} }), "\"connect\":{\"client\""),
        (
            json!({ "id": 2, "subscribe": { "channel": "chat:lobby" } }),
            "\"subscribe\":{",
        ),
        (
            json!({ "id": 3, "publish": { "channel": "chat:lobby", "data": { "n": 7 } } }),
            "\"push\":{\"channel\":\"chat:lobby\"",
        ),
        (
            json!({ "id": 4, "rpc": { "method": "echo", "data": { "n": 8 } } }),
            "\"rpc\":{\"data\":{\"n\":8}",
        ),
    ] {
        socket
            .send(Message::text(command.to_string()))
            .await
            .unwrap();
        let mut heard = String::new();
        while !heard.contains(part) {
            let next = tokio::time::timeout(crate::process::LIMIT, socket.next()).await;
            let next = next.unwrap_or_else(|_| panic!("{command} {heard} {:?}", proxy.said()));
            heard.push_str(next.unwrap().unwrap().to_text().unwrap());
            assert!(!heard.contains("\"error\""), "{command} {heard}");
        }
    }

    // Clients reach neither metrics nor API; Prometheus finds them inside.
    for path in ["/metrics", "/health", "/api"] {
        let refused = get(&client, path, None);
        assert!(refused.starts_with("HTTP/1.1 404"), "{path} {refused}");
    }
    assert!(get(&inside, "/metrics", None).contains("centrifugo_"));
    node.signal("TERM");
    assert_eq!(node.end().code(), Some(0));
}

/// The command of a service.
fn words_of(service: &str) -> Vec<String> {
    let command = services()[service]["command"].clone();
    super::words(&command)
        .into_iter()
        .map(str::to_owned)
        .collect()
}
