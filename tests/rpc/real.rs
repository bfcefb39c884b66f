//! Against a real Centrifugo, by the program on `PATH` or named by `CENTRIFUGO_BIN`; without one the
//! test says loudly that it was skipped.

use crate::{Served, client, free};
use centripeta::config::{Endpoint, Secret};
use centripeta::goridge::Flags;
use centripeta::proto::api;
use futures_util::{SinkExt, StreamExt};
use prost::Message;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message as Text;

const KEY: &str = "not-a-secret";

fn binary() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CENTRIFUGO_BIN") {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH")?;
    let mut found = std::env::split_paths(&path).map(|dir| dir.join("centrifugo"));
    found.find(|path| path.is_file())
}

fn free_ports() -> [u16; 2] {
    let held = [(); 2].map(|()| std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap());
    held.each_ref()
        .map(|listener| listener.local_addr().unwrap().port())
}

/// A protobuf call that succeeds.
async fn called<R: Message + Default>(
    client: &mut client::Client,
    method: &str,
    request: &impl Message,
) -> R {
    let (flags, body) = client
        .call(Flags::PROTO, method, &request.encode_to_vec())
        .await;
    assert_eq!(flags, Flags::PROTO, "{}", String::from_utf8_lossy(&body));
    R::decode(body).unwrap()
}

#[tokio::test]
async fn w96_w97_a_real_centrifugo_is_called_by_protobuf_and_by_json() {
    let Some(binary) = binary() else {
        let line = b"SKIPPED: rpc: no centrifugo on PATH or in CENTRIFUGO_BIN\n";
        std::io::stderr().write_all(line).unwrap();
        return;
    };
    let [http, grpc] = free_ports();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    let config = json!({
        "http_server": { "address": "127.0.0.1", "port": http },
        "grpc_api": { "enabled": true, "address": "127.0.0.1", "port": grpc, "key": KEY },
        "client": { "insecure": true },
        "channel": { "without_namespace": { "presence": true, "history_size": 9, "history_ttl": "60s" } },
    });
    std::fs::write(&file, config.to_string()).unwrap();
    let _centrifugo = tokio::process::Command::new(binary)
        .arg("--config")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut config = free();
    config.centrifugo.api = vec![Endpoint {
        tls: false,
        host: "127.0.0.1".to_owned(),
        port: grpc,
    }];
    config.centrifugo.key = Some(Secret::new(KEY));
    let served = Served::of(config).await;
    let mut rpc = served.client().await;

    let url = format!("ws://127.0.0.1:{http}/connection/websocket");
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    for command in [
        json!({ "id": 1, "connect": {} }),
        json!({ "id": 2, "subscribe": { "channel": "news" } }),
    ] {
        socket.send(Text::text(command.to_string())).await.unwrap();
    }
    let mut said: Vec<Value> = Vec::new();
    while !said.iter().any(|it| it.get("subscribe").is_some()) {
        let message = timeout(client::SOON, socket.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let lines = message.to_text().unwrap().lines();
        said.extend(lines.map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    let id = said[0]["connect"]["client"].as_str().unwrap().to_owned();

    let publish = api::PublishRequest {
        channel: "news".to_owned(),
        data: br#"{"by":"proto"}"#.to_vec().into(),
        ..Default::default()
    };
    let published: api::PublishResponse = called(&mut rpc, "centrifuge.Publish", &publish).await;
    assert_eq!(published.result.unwrap().offset, 1);
    // {"by":"json"}
    let argument = r#"{"channel":"news","data":"eyJieSI6Impzb24ifQ=="}"#;
    let published: Value =
        serde_json::from_str(&rpc.json("centrifuge.Publish", argument).await).unwrap();
    assert_eq!(published["result"]["offset"], 2);
    let broadcast = api::BroadcastRequest {
        channels: vec!["news".to_owned(), "nosuch:x".to_owned()],
        data: br#"{"by":"broadcast"}"#.to_vec().into(),
        ..Default::default()
    };
    let sent: api::BroadcastResponse = called(&mut rpc, "centrifuge.Broadcast", &broadcast).await;
    let responses = sent.result.unwrap().responses;
    assert_eq!(responses[0].result.as_ref().unwrap().offset, 3);
    assert_eq!(responses[1].error.as_ref().unwrap().code, 102);
    let mut heard = Vec::new();
    while heard.len() < 3 {
        let message = timeout(client::SOON, socket.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        for line in message.to_text().unwrap().lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            if let Some(by) = value.pointer("/push/pub/data/by") {
                heard.push(by.as_str().unwrap().to_owned());
            }
        }
    }
    assert_eq!(heard, ["proto", "json", "broadcast"]);

    let of = api::PresenceRequest {
        channel: "news".to_owned(),
    };
    let there: api::PresenceResponse = called(&mut rpc, "centrifuge.Presence", &of).await;
    assert!(there.result.unwrap().presence.contains_key(&id));
    let channels: api::ChannelsResponse = called(
        &mut rpc,
        "centrifuge.Channels",
        &api::ChannelsRequest::default(),
    )
    .await;
    assert_eq!(channels.result.unwrap().channels["news"].num_clients, 1);
    let text = rpc
        .json("centrifuge.PresenceStats", r#"{"channel":"news"}"#)
        .await;
    let stats: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(stats["result"]["num_clients"], 1);
    // A method with no JSON form here.
    let history = api::HistoryRequest {
        channel: "news".to_owned(),
        limit: 10,
        ..Default::default()
    };
    let kept: api::HistoryResponse = called(&mut rpc, "centrifuge.History", &history).await;
    assert_eq!(kept.result.unwrap().publications.len(), 3);
    let block = api::BlockUserRequest {
        user: "u1".to_owned(),
        ..Default::default()
    };
    let (flags, body) = rpc
        .call(Flags::PROTO, "centrifuge.BlockUser", &block.encode_to_vec())
        .await;
    assert_eq!(flags, Flags::PROTO.and(Flags::ERROR));
    let text = "rpc error: code = Unimplemented desc = method BlockUser not implemented";
    assert_eq!(body, text);

    let disconnect = api::DisconnectRequest {
        client: id,
        ..Default::default()
    };
    let done: api::DisconnectResponse =
        called(&mut rpc, "centrifuge.Disconnect", &disconnect).await;
    assert_eq!(done.error, None);
    let closed = async {
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() {
                break;
            }
        }
    };
    timeout(client::SOON, closed)
        .await
        .expect("the client is disconnected");
}
