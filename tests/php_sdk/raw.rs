//! The worker in raw goridge behind a real Centrifugo: what clients send says what it answers, and it
//! publishes back by a frame of its own.

use crate::outside::{self, Program, free_ports, or_skip};
use crate::php;
use crate::process::{Running, stock};
use crate::{support, world};
use bytes::BytesMut;
use centripeta::event::EventKind;
use centripeta::goridge::{Flags, Frame};
use centripeta::json::response_from_json;
use centripeta::proto::api;
use futures_util::{SinkExt, StreamExt};
use prost::Message;
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Text;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// A real Centrifugo, our node and its workers.
struct Scene {
    http: u16,
    node: Running,
    _centrifugo: Program,
    _dir: TempDir,
}

impl Scene {
    fn start(relay: &str) -> Option<Self> {
        let what = "the worker in raw goridge behind a real Centrifugo";
        or_skip(what, php())?;
        let centrifugo = or_skip(what, outside::centrifugo())?;
        let dir = tempfile::tempdir().unwrap();
        let [http, api, proxy] = free_ports();
        let asked = json!({
            "endpoint": format!("grpc://127.0.0.1:{proxy}"), "timeout": "10s",
        });
        let connect = json!({
            "enabled": true, "endpoint": asked["endpoint"], "timeout": "10s",
            "include_connection_meta": true,
        });
        let config = json!({
            "http_server": { "address": "127.0.0.1", "port": http },
            "health": { "enabled": true },
            "grpc_api": { "enabled": true, "address": "127.0.0.1", "port": api },
            "client": { "proxy": { "connect": connect, "refresh": connect } },
            "channel": {
                "proxy": { "subscribe": asked, "publish": asked },
                "without_namespace": {
                    "subscribe_proxy_enabled": true, "publish_proxy_enabled": true,
                },
            },
            "rpc": { "proxy": asked, "without_namespace": { "proxy_enabled": true } },
        });
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workers/raw.php");
        let relay = relay.replace("DIR", &dir.path().display().to_string());
        let admin = "127.0.0.1:0";
        let text = format!(
            "[listen]\ngrpc = \"127.0.0.1:{proxy}\"\nadmin = \"{admin}\"\n[log]\nformat = \"json\"\n\
             [centrifugo]\napi = [\"grpc://127.0.0.1:{api}\"]\n\
             [rpc]\nlisten = \"tcp://127.0.0.1:0\"\n\
             [handler.app]\nkind = \"roadrunner\"\nrelay = \"{relay}\"\n\
             command = [\"php\", \"{}\"]\npool.num_workers = 2\n\
             [[route]]\nhandler = \"app\"\n\
             on = [\"connect\", \"refresh\", \"subscribe\", \"publish\", \"rpc\"]\n",
            script.display()
        );
        std::fs::write(dir.path().join("node.toml"), text).unwrap();
        let node = Running::start(stock(dir.path(), ["serve"]));
        node.says("\"message\":\"listening\"");
        let (centrifugo, _) =
            world::start_centrifugo(&centrifugo, "centrifugo", &config, dir.path());
        Some(Self {
            http,
            node,
            _centrifugo: centrifugo,
            _dir: dir,
        })
    }

    async fn client(&self) -> Client {
        let url = format!("ws://127.0.0.1:{}/connection/websocket", self.http);
        let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        Client {
            socket,
            said: Vec::new(),
            last: 0,
        }
    }
}

/// A client of Centrifugo's, in its JSON protocol.
struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    said: Vec<Value>,
    last: u32,
}

impl Client {
    /// Sends a command, and gives the answer to it.
    async fn ask(&mut self, name: &str, command: Value) -> Value {
        self.last += 1;
        let id = self.last;
        let command = json!({ "id": id, name: command }).to_string();
        self.socket.send(Text::text(command)).await.unwrap();
        self.until(|it| it["id"] == id).await
    }

    /// The first thing said that is meant.
    async fn until(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(found) = self.said.iter().position(&is_it) {
                return self.said.remove(found);
            }
            let message = support::soon("an answer", self.socket.next()).await;
            let message = message.unwrap().unwrap();
            assert!(message.is_text(), "{message:?}");
            for line in message.to_text().unwrap().lines() {
                if line == "{}" {
                    self.socket.send(Text::text("{}")).await.unwrap();
                    continue;
                }
                self.said.push(serde_json::from_str(line).unwrap());
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The directive that makes the worker answer this response.
fn says(kind: EventKind, json: &Value) -> String {
    let response = response_from_json(kind, &json.to_string()).unwrap();
    format!("do:hex:{}", hex(&response))
}

/// A publication into the channel, as a goridge frame that calls it.
fn publication(by: &str) -> String {
    let publish = api::PublishRequest {
        channel: "news".to_owned(),
        data: json!({ "by": by }).to_string().into_bytes().into(),
        ..Default::default()
    };
    let body = publish.encode_to_vec();
    let frame = Frame::call(Flags::PROTO, 1, "centrifuge.Publish", &body).unwrap();
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes).unwrap();
    hex(&bytes)
}

/// The directive that makes it publish first, and then answer as another one says.
fn publishes_and(by: &str, answer: &str) -> String {
    let answer = answer.strip_prefix("do:hex:").unwrap();
    format!("do:call-then-hex:{}.{answer}", publication(by))
}

/// Who a publication is by.
fn by(push: &Value) -> &str {
    let by = push.pointer("/push/pub/data/by").and_then(Value::as_str);
    by.unwrap_or_default()
}

async fn every_event_is_answered_in_raw_goridge(relay: &str) {
    let Some(scene) = Scene::start(relay) else {
        return;
    };
    let mut client = scene.client().await;
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs();
    let prolonged = json!({ "result": { "expire_at": now + 3600 } });
    let prolonged = publishes_and("the session", &says(EventKind::Refresh, &prolonged));
    let connect = says(
        EventKind::Connect,
        &json!({ "result": {
            "user": "u1", "data": { "hello": "raw" }, "expire_at": now + 2,
            // Comes back with the refresh, and says what it is answered.
            "meta": { "next": prolonged },
        } }),
    );
    let seen = client
        .ask("connect", json!({ "data": { "x": connect } }))
        .await;
    assert_eq!(seen["connect"]["data"], json!({ "hello": "raw" }), "{seen}");

    let closed = says(
        EventKind::Subscribe,
        &json!({ "error": { "code": 403, "message": "no" } }),
    );
    let seen = client
        .ask(
            "subscribe",
            json!({ "channel": "closed", "data": { "x": closed } }),
        )
        .await;
    assert_eq!(seen["error"]["code"], 403, "{seen}");
    let open = says(
        EventKind::Subscribe,
        &json!({ "result": { "data": { "topic": 1 } } }),
    );
    let seen = client
        .ask(
            "subscribe",
            json!({ "channel": "news", "data": { "x": open } }),
        )
        .await;
    assert_eq!(seen["subscribe"]["data"], json!({ "topic": 1 }), "{seen}");

    let rewritten = says(
        EventKind::Publish,
        &json!({ "result": { "data": { "text": "hi" } } }),
    );
    let seen = client
        .ask(
            "publish",
            json!({ "channel": "news", "data": { "x": rewritten } }),
        )
        .await;
    assert!(seen.get("publish").is_some(), "{seen}");
    let heard = client
        .until(|it| it.pointer("/push/pub/data/text").is_some())
        .await;
    assert_eq!(heard["push"]["pub"]["data"], json!({ "text": "hi" }));

    let answer = says(EventKind::Rpc, &json!({ "result": { "data": { "n": 1 } } }));
    let seen = client
        .ask("rpc", json!({ "method": "m", "data": { "x": answer } }))
        .await;
    assert_eq!(seen["rpc"]["data"], json!({ "n": 1 }), "{seen}");
    let seen = client
        .ask("rpc", json!({ "method": "m", "data": { "x": "do:soft" } }))
        .await;
    assert_eq!(seen["error"]["code"], 100, "{seen}");
    let seen = client
        .ask(
            "rpc",
            json!({ "method": "m", "data": { "x": "do:exit:3" } }),
        )
        .await;
    assert_eq!(seen["error"]["code"], 100, "{seen}");

    // It publishes back by the RPC server, and then answers.
    let back = publishes_and("raw php", &answer);
    let seen = client
        .ask("rpc", json!({ "method": "m", "data": { "x": back } }))
        .await;
    assert_eq!(seen["rpc"]["data"], json!({ "n": 1 }), "{seen}");
    client.until(|it| by(it) == "raw php").await;

    // The session is prolonged by PHP, once Centrifugo asks; clients are not told of it.
    client.until(|it| by(it) == "the session").await;
    let mut leaving = scene.client().await;
    let seen = leaving
        .ask("connect", json!({ "data": { "x": connect } }))
        .await;
    assert!(seen.get("connect").is_some(), "{seen}");
    let go = says(
        EventKind::Rpc,
        &json!({ "disconnect": { "code": 4501, "reason": "go" } }),
    );
    let rpc = json!({ "id": 9, "rpc": { "method": "m", "data": { "x": go } } });
    leaving
        .socket
        .send(Text::text(rpc.to_string()))
        .await
        .unwrap();
    let code = support::soon("the end", async {
        loop {
            match leaving.socket.next().await {
                Some(Ok(Text::Close(Some(frame)))) => break u16::from(frame.code),
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(code.await, 4501);
    let said = scene.node.said();
    assert!(
        !said.iter().any(|line| line.contains("panicked")),
        "{said:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_clients_are_answered_by_a_worker_in_raw_goridge_over_pipes() {
    every_event_is_answered_in_raw_goridge("pipes").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_clients_are_answered_by_a_worker_in_raw_goridge_over_a_unix_socket() {
    every_event_is_answered_in_raw_goridge("unix://DIR/relay.sock").await;
}
