//! A worker on the real SDK, event by event, and its ways to call back.

use crate::outside::{Program, free_ports, or_skip};
use crate::process::{self, Running, stock};
use crate::support::{Client, client::Reply, path, request};
use crate::{outside, php, php_sdk, world};
use centripeta::event::EventKind;
use centripeta::proto::proxy;
use prost::Message;
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// A node with SDK workers, in front of a real Centrifugo whose API they call.
struct Scene {
    client: Client,
    node: Running,
    _centrifugo: Program,
    _dir: TempDir,
}

impl Scene {
    async fn start(relay: &str) -> Option<Self> {
        let what = "workers on the real SDK";
        let sdk = or_skip(what, php_sdk())?;
        or_skip(what, php())?;
        let centrifugo = or_skip(what, outside::centrifugo())?;
        let dir = tempfile::tempdir().unwrap();
        let [http, api] = free_ports();
        let config = json!({
            "http_server": { "address": "127.0.0.1", "port": http },
            "health": { "enabled": true },
            "grpc_api": { "enabled": true, "address": "127.0.0.1", "port": api },
            "channel": { "without_namespace": {
                "presence": true, "history_size": 1000, "history_ttl": "60s",
            } },
        });
        let (centrifugo, _) =
            world::start_centrifugo(&centrifugo, "centrifugo", &config, dir.path());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workers/sdk.php");
        let relay = relay.replace("DIR", &dir.path().display().to_string());
        let text = format!(
            "[listen]\ngrpc = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n\
             [centrifugo]\napi = [\"grpc://127.0.0.1:{api}\"]\n\
             [rpc]\nlisten = \"tcp://127.0.0.1:0\"\n\
             [handler.app]\nkind = \"roadrunner\"\nrelay = \"{relay}\"\n\
             command = [\"php\", \"{}\"]\npool.num_workers = 2\n\
             [[route]]\nhandler = \"app\"\n\
             on = [\"connect\", \"refresh\", \"subscribe\", \"sub_refresh\", \"publish\", \"rpc\"]\n",
            script.display()
        );
        std::fs::write(dir.path().join("node.toml"), text).unwrap();
        let mut command = stock(dir.path(), ["serve"]);
        command.env("CENTRIPETA_TEST_PHP_SDK", sdk);
        let node = Running::start(command);
        let socket = TcpStream::connect(node.logs("listening", "grpc")).await;
        let socket = socket.unwrap();
        socket.set_nodelay(true).unwrap();
        Some(Self {
            client: Client::new(socket).await,
            node,
            _centrifugo: centrifugo,
            _dir: dir,
        })
    }

    async fn ask(&self, kind: EventKind, rest: &Value) -> Reply {
        let mut event = json!({
            "client": "c1", "transport": "websocket", "protocol": "json", "encoding": "json",
        });
        for (key, value) in rest.as_object().unwrap() {
            event[key] = value.clone();
        }
        let headers = [("grpc-timeout", "30S"), ("x-app", "shop")];
        let message = request(kind, &event.to_string());
        self.client.call(&path(kind), &headers, &message).await
    }

    /// What an answer of this type holds.
    async fn answer<R: Message + Default>(&self, kind: EventKind, rest: &Value) -> R {
        R::decode(self.ask(kind, rest).await.message().clone()).unwrap()
    }

    async fn rpc(&self, method: &str, data: &Value) -> Value {
        let event = json!({ "user": "u1", "method": method, "data": data });
        let answer: proxy::RpcResponse = self.answer(EventKind::Rpc, &event).await;
        let result = answer
            .result
            .unwrap_or_else(|| panic!("{method}: {:#?}", self.node.said()));
        parse(&result.data)
    }
}

fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

async fn every_event_is_answered(relay: &str) {
    let Some(scene) = Scene::start(relay).await else {
        return;
    };
    let event = json!({ "data": { "t": 1 }, "name": "web" });
    let connect: proxy::ConnectResponse = scene.answer(EventKind::Connect, &event).await;
    let connect = connect.result.unwrap();
    assert_eq!(
        (connect.user.as_str(), connect.expire_at),
        ("u1", 4_000_000_000)
    );
    let data = parse(&connect.data);
    assert_eq!(
        (&data["saw"], &data["name"]),
        (&json!({ "t": 1 }), &json!("web"))
    );
    let headers = data["headers"].as_array().unwrap();
    assert!(
        headers.contains(&json!("x-app")) && headers.contains(&json!("type")),
        "{data}"
    );
    assert_eq!(connect.channels, ["news"]);
    assert_eq!(parse(&connect.meta), json!({ "m": 1 }));
    assert_eq!(parse(&connect.subs["side"].data), json!({ "s": 1 }));

    let event = json!({ "user": "u1", "meta": { "m": 1 } });
    let refresh: proxy::RefreshResponse = scene.answer(EventKind::Refresh, &event).await;
    let refresh = refresh.result.unwrap();
    assert_eq!(refresh.expire_at, 4_000_000_001);
    assert_eq!(parse(&refresh.info), json!({ "saw": { "m": 1 } }));

    let event = json!({ "user": "u1", "channel": "open", "data": { "k": "v" } });
    let subscribe: proxy::SubscribeResponse = scene.answer(EventKind::Subscribe, &event).await;
    let subscribe = subscribe.result.unwrap();
    assert_eq!(parse(&subscribe.data), json!({ "saw": { "k": "v" } }));
    assert_eq!(parse(&subscribe.info), json!({ "by": "u1" }));
    assert!(subscribe.r#override.unwrap().presence.unwrap().value);
    let event = json!({ "user": "u1", "channel": "closed" });
    let subscribe: proxy::SubscribeResponse = scene.answer(EventKind::Subscribe, &event).await;
    let error = subscribe.error.unwrap();
    assert_eq!((error.code, error.message.as_str()), (403, "closed"));

    let event = json!({ "user": "u1", "channel": "news", "data": { "x": 2 } });
    let publish: proxy::PublishResponse = scene.answer(EventKind::Publish, &event).await;
    let publish = publish.result.unwrap();
    assert!(publish.skip_history);
    assert_eq!(
        parse(&publish.data),
        json!({ "saw": { "x": 2 }, "in": "news" })
    );

    let value = json!({ "text": "ü/\"", "list": [1, null] });
    assert_eq!(scene.rpc("echo", &value).await, value);
    let event = json!({ "user": "u1", "method": "leave" });
    let leave: proxy::RpcResponse = scene.answer(EventKind::Rpc, &event).await;
    assert_eq!(leave.disconnect.unwrap().code, 4501);

    // An SDK that does not know the event dies of it or says so: it is answered either way, and the
    // next one too.
    let event = json!({ "user": "u1", "channel": "open" });
    let reply = scene.ask(EventKind::SubRefresh, &event).await;
    if let (Some(0), [message]) = (reply.status, &*reply.messages) {
        let answer = proxy::SubRefreshResponse::decode(message.clone()).unwrap();
        let expiry = answer.result.map(|it| it.expire_at);
        assert!(expiry == Some(4_000_000_002) || answer.error.is_some());
    } else {
        assert!(reply.status.is_some(), "{reply:?}");
    }
    assert_eq!(scene.rpc("echo", &value).await, value);
}

#[tokio::test]
async fn every_event_is_answered_by_the_real_sdk_over_pipes() {
    every_event_is_answered("pipes").await;
}

#[tokio::test]
async fn every_event_is_answered_by_the_real_sdk_over_a_unix_socket() {
    every_event_is_answered("unix://DIR/relay.sock").await;
}

#[tokio::test]
async fn the_real_sdk_publishes_back_and_reads_presence_and_the_version() {
    let Some(scene) = Scene::start("pipes").await else {
        return;
    };
    let stats = scene.rpc("publish", &json!({})).await;
    assert_eq!(
        stats,
        json!({ "stats": { "num_clients": 0, "num_users": 0 } })
    );
    let version = scene.rpc("version", &json!({})).await;
    assert!(version[0].as_str().unwrap().starts_with("20"), "{version}");
}

#[tokio::test]
async fn fifty_relays_of_the_real_sdk_are_served_at_once() {
    let Some(scene) = Scene::start("pipes").await else {
        return;
    };
    // The relays stay open: the second time they are used again.
    for _ in 0..2 {
        let done = scene.rpc("many", &json!({})).await;
        assert_eq!(done, json!({ "asked": 500, "failed": 0 }));
    }
    process::eventually("a quiet log", || {
        let said = scene.node.said();
        (!said.iter().any(|line| line.contains("\"ERROR\""))).then_some(())
    });
}
