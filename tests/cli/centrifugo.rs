//! What `centrifugo-config` prints, on a real Centrifugo.

use super::outside::{centrifugo, free_ports, or_skip};
use super::process::{Ended, Running, probe, run, stock};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

/// The printed configuration, written to a file, and the variables that stderr asks for.
fn written(dir: &Path, ended: &Ended) -> (PathBuf, Vec<String>) {
    assert_eq!(ended.code, 0, "{ended:?}");
    let start = ended.out.find('{').unwrap();
    let file = dir.join("config.json");
    std::fs::write(&file, &ended.out[start..]).unwrap();
    let named = ended
        .err
        .lines()
        .filter_map(|line| line.strip_prefix("  CENTRIFUGO_"));
    let name = |line: &str| format!("CENTRIFUGO_{}", line.split(' ').next().unwrap());
    (file, named.map(name).collect())
}

fn is_warning(line: &str) -> bool {
    let level = serde_json::from_str::<Value>(line).ok();
    let level = level.and_then(|line| Some(line["level"].as_str()?.to_owned()));
    level.is_some_and(|level| matches!(level.as_str(), "warn" | "error" | "fatal"))
        // Of the program itself, where it was built without a version.
        && !line.contains("running a development build")
}

#[tokio::test]
async fn a_real_centrifugo_starts_without_a_warning_and_sends_events_here() {
    let Some(program) = or_skip(
        "a Centrifugo with what `centrifugo-config` prints",
        centrifugo(),
    ) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let [grpc, client, api] = free_ports();
    let sets = [
        format!("listen.grpc=127.0.0.1:{grpc}"),
        "listen.admin=127.0.0.1:0".to_owned(),
        "listen.auth.metadata=x-router-key".to_owned(),
        "listen.auth.value=sesame".to_owned(),
        format!("centrifugo.client=ws://127.0.0.1:{client}/connection/websocket"),
        format!("centrifugo.api=[\"grpc://127.0.0.1:{api}\"]"),
        "centrifugo.key=apikey".to_owned(),
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    for more in [&[][..], &["--with-secrets"]] {
        let args = [&["centrifugo-config"][..], more, &sets].concat();
        let printed = run(probe(dir.path(), args));
        let (file, variables) = written(dir.path(), &printed);
        assert_eq!(variables.is_empty(), !more.is_empty(), "{printed:?}");
        let value = |name: &str| match name {
            "CENTRIFUGO_GRPC_API_KEY" => "apikey",
            "CENTRIFUGO_SHARED_POLL_HMAC_SECRET_KEY" => "hmac",
            _ => "sesame",
        };
        let env: Vec<_> = variables.iter().map(|name| (name, value(name))).collect();
        let mut strict = Command::new(&program);
        strict
            .args(["checkconfig", "-s", "-c"])
            .arg(&file)
            .envs(env.clone());
        let strict = run(strict);
        assert_eq!(strict.code, 0, "{strict:?}");

        let node = Running::start(probe(dir.path(), [&["serve"][..], &sets].concat()));
        node.says("\"message\":\"listening\"");
        let mut command = Command::new(&program);
        command
            .arg("-c")
            .arg(&file)
            .envs(env)
            .current_dir(dir.path());
        let real = Running::start(command);
        real.says("serving websocket");
        let reply = call(client).await;
        assert_eq!(reply["rpc"]["data"], "u1", "{reply}");
        let warnings: Vec<String> = real
            .said()
            .into_iter()
            .filter(|line| is_warning(line))
            .collect();
        assert!(warnings.is_empty(), "{warnings:#?}");
    }
}

#[test]
fn the_shipped_configuration_makes_one_that_centrifugo_takes_strictly() {
    let Some(program) = or_skip("the shipped configuration in a Centrifugo", centrifugo()) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("node.toml");
    let mut command = stock(dir.path(), ["centrifugo-config", "--config"]);
    command.arg(shipped);
    let (file, variables) = written(dir.path(), &run(command));
    assert!(variables.is_empty(), "{variables:?}");
    let mut strict = Command::new(program);
    strict.args(["checkconfig", "-s", "-c"]).arg(file);
    let strict = run(strict);
    assert_eq!(strict.code, 0, "{strict:?}");
}

/// Connects, asks who it is, and gives the reply.
async fn call(port: u16) -> Value {
    let url = format!("ws://127.0.0.1:{port}/connection/websocket");
    // It says that it serves a moment before it listens.
    let end = Instant::now() + Duration::from_secs(20);
    let mut socket = loop {
        match tokio_tungstenite::connect_async(&url).await {
            Ok((socket, _)) => break socket,
            Err(why) => assert!(Instant::now() < end, "{why}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    for command in [
        json!({"id": 1, "connect": {}}),
        json!({"id": 2, "rpc": {"method": "who"}}),
    ] {
        socket
            .send(Message::text(command.to_string()))
            .await
            .unwrap();
    }
    while let Some(message) = socket.next().await {
        let text = message.unwrap().into_text().unwrap();
        for line in text.lines() {
            let reply: Value = serde_json::from_str(line).unwrap();
            if reply["id"] == 2 {
                return reply;
            }
        }
    }
    panic!("closed before the reply");
}
