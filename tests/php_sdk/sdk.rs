//! A worker on the real SDK, event by event, and its ways to call back.

use crate::outside::{Program, free_ports, or_skip};
use crate::process::{self, Running, stock};
use crate::support::{self, Client, client::Reply, path, request};
use crate::{outside, php, php_sdk, php_sdks, world};
use centripeta::event::EventKind;
use centripeta::proto::proxy;
use futures_util::{SinkExt, StreamExt};
use prost::Message;
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Text;

/// A node with SDK workers, in front of a real Centrifugo whose API they call.
struct Scene {
    client: Client,
    node: Running,
    /// The port of the real Centrifugo's clients.
    http: u16,
    _centrifugo: Program,
    _dir: TempDir,
}

impl Scene {
    async fn start(relay: &str) -> Option<Self> {
        let what = "workers on the real SDK";
        Self::start_on(relay, &or_skip(what, php_sdk())?).await
    }

    /// The same on this SDK.
    async fn start_on(relay: &str, sdk: &Path) -> Option<Self> {
        let what = "workers on the real SDK";
        or_skip(what, php())?;
        let centrifugo = or_skip(what, outside::centrifugo())?;
        let dir = tempfile::tempdir().unwrap();
        let [http, api] = free_ports();
        let config = json!({
            "http_server": { "address": "127.0.0.1", "port": http },
            "health": { "enabled": true },
            "grpc_api": { "enabled": true, "address": "127.0.0.1", "port": api },
            "client": { "insecure": true },
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
            http,
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

/// On each SDK that is named.
async fn every_event_is_answered(relay: &str) {
    let what = "workers on the real SDK";
    for sdk in or_skip(what, php_sdks()).unwrap_or_default() {
        if let Some(scene) = Scene::start_on(relay, &sdk).await {
            every_event_is_answered_in(&scene).await;
        }
    }
}

async fn every_event_is_answered_in(scene: &Scene) {
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
async fn w81_every_event_is_answered_by_the_real_sdk_over_pipes() {
    every_event_is_answered("pipes").await;
}

#[tokio::test]
async fn w81_every_event_is_answered_by_the_real_sdk_over_a_unix_socket() {
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

/// Established connections to a port of this machine, seen from the side that listens.
fn connections_to(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!(":{port:04X}");
    let rows = table.lines().map(|row| row.split_whitespace().collect());
    rows.filter(|row: &Vec<&str>| {
        row.get(1).is_some_and(|it| it.ends_with(&local)) && row.get(3) == Some(&"01")
    })
    .count()
}

#[tokio::test]
async fn w109_fifty_relays_of_the_real_sdk_are_open_and_served_at_once() {
    let Some(scene) = Scene::start("pipes").await else {
        return;
    };
    let address = scene.node.logs("workers can call back", "rpc");
    let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
    assert_eq!(connections_to(port), 0);
    // The relays stay open: the second time, in whichever worker, they are used again.
    for _ in 0..4 {
        let done = scene.rpc("many", &json!({})).await;
        assert_eq!(done, json!({ "asked": 500, "failed": 0 }));
        let open = connections_to(port);
        assert!(open >= 50, "{open} connections at once");
    }
    process::eventually("a quiet log", || {
        let said = scene.node.said();
        (!said.iter().any(|line| line.contains("\"ERROR\""))).then_some(())
    });
}

#[tokio::test]
async fn w92_w93_the_real_sdk_publishes_and_throws_centrifugos_own_errors_with_their_code() {
    let Some(scene) = Scene::start("pipes").await else {
        return;
    };
    let done = scene.rpc("publish to", &json!({ "channel": "news" })).await;
    assert_eq!(done, json!({ "gave": null }));
    let refused = scene
        .rpc("publish to", &json!({ "channel": "nosuch:x" }))
        .await;
    assert_eq!(
        (&refused["threw"], &refused["code"]),
        (&json!("CentrifugoApiResponseException"), &json!(102)),
        "{refused}"
    );
}

/// A server that answers its first call with this frame, under the number of the call.
async fn answering(mut bytes: Vec<u8>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 20];
        stream.read_exact(&mut asked).await.unwrap();
        bytes[12..16].copy_from_slice(&asked[12..16]);
        stream.write_all(&bytes).await.unwrap();
        // Open until the other side has gone.
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
    });
    format!("tcp://{address}")
}

#[tokio::test]
async fn w94_an_error_answer_is_a_service_exception_of_the_real_sdk() {
    let Some(scene) = Scene::start("pipes").await else {
        return;
    };
    let vectors = include_str!("../golden/goridge-vectors.txt").lines();
    let mut named = vectors.filter_map(|line| line.split_once(' '));
    let hex = named
        .find(|(name, _)| *name == "TV26")
        .unwrap()
        .1
        .as_bytes();
    let digits = hex.chunks_exact(2);
    let bytes = digits.map(|it| u8::from_str_radix(str::from_utf8(it).unwrap(), 16).unwrap());
    let at = answering(bytes.collect()).await;
    let thrown = scene
        .rpc("publish to", &json!({ "channel": "news", "at": at }))
        .await;
    assert_eq!(thrown["threw"], "ServiceException", "{thrown}");
    let text = thrown["text"].as_str().unwrap();
    let start = "Error 'RoadRunner is not ready yet, try in a few seconds' on tcp://";
    assert!(text.starts_with(start), "{text}");
}

#[tokio::test]
async fn w96_all_methods_of_the_real_sdk_reach_centrifugo_and_those_of_pro_are_not_there() {
    let Some(scene) = Scene::start("pipes").await else {
        return;
    };
    let url = format!("ws://127.0.0.1:{}/connection/websocket", scene.http);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    for command in [
        json!({ "id": 1, "connect": {} }),
        json!({ "id": 2, "subscribe": { "channel": "news" } }),
    ] {
        socket.send(Text::text(command.to_string())).await.unwrap();
    }
    let mut said: Vec<Value> = Vec::new();
    while !said.iter().any(|it| it.get("subscribe").is_some()) {
        let message = support::soon("an answer", socket.next())
            .await
            .unwrap()
            .unwrap();
        let lines = message.to_text().unwrap().lines();
        said.extend(lines.map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    let client = said[0]["connect"]["client"].as_str().unwrap();
    let done = scene.rpc("all", &json!({ "client": client })).await;
    assert_eq!(done.as_object().unwrap().len(), 11, "{done}");
    for method in [
        "publish",
        "broadcast",
        "subscribe",
        "refresh",
        "unsubscribe",
    ] {
        assert_eq!(done[method], json!({ "gave": null }), "{method}: {done}");
    }
    assert_eq!(done["presence"]["gave"], json!([client]));
    assert_eq!(done["presenceStats"]["gave"]["num_clients"], 1);
    assert!(
        done["channels"]["gave"]
            .as_array()
            .unwrap()
            .contains(&json!("news"))
    );
    for method in ["blockUser", "unblockUser"] {
        let text = done[method]["text"].as_str().unwrap();
        assert!(text.contains("code = Unimplemented"), "{text}");
    }
    // The SDK before 2.4 sends it as an unsubscribe, which is refused as RoadRunner does.
    let left = &done["disconnect"];
    assert!(
        left.get("gave").is_some() || left["threw"] == "ServiceException",
        "{left}"
    );
}
