//! Against a real Centrifugo: C101, what it says to the other lines, C108, and order while an endpoint
//! dies. Without the program (on `PATH`, or named by `CENTRIFUGO_BIN`) the tests say loudly that they
//! were skipped.

use crate::double::{endpoint, towards};
use crate::faults::{CHANNELS, EACH, numbers, publish_all};
use crate::outside::{self, Program, free_ports, or_skip};
use crate::relay::Relay;
use crate::{eventually, presence, publication, publisher_with};
use centripeta::config::{CentrifugoConfig, Config, Endpoint, ListenAddr, Secret};
use centripeta::egress::{Error, Publisher};
use centripeta::proto::api;
use centripeta::{ConnectReply, GrpcAddress, Listeners, Node, Reject, Router, RpcReply};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

const KEY: &str = "not-a-secret";

fn config(http: u16, grpc: u16, node: &str) -> Value {
    let proxy = json!({ "endpoint": format!("grpc://{node}"), "timeout": "1s" });
    let mut connect = proxy.clone();
    connect["enabled"] = json!(true);
    json!({
        "http_server": { "address": "127.0.0.1", "port": http },
        "health": { "enabled": true },
        "grpc_api": { "enabled": true, "address": "127.0.0.1", "port": grpc, "key": KEY },
        "client": { "proxy": { "connect": connect }, "concurrency": 8 },
        "shared_poll": { "hmac_secret_key": KEY },
        "rpc": { "proxy": proxy, "without_namespace": { "proxy_enabled": true } },
        "channel": {
            "proxy": { "shared_poll_refresh": proxy },
            "namespaces": [
                { "name": "chat", "history_size": 20000, "history_ttl": "60s", "presence": true },
                { "name": "plain" },
                {
                    "name": "board", "subscription_type": "map",
                    "map": { "mode": "recoverable", "key_ttl": "60s" },
                },
                {
                    "name": "quotes", "subscription_type": "shared_poll",
                    "shared_poll": {
                        "mode": "versioned", "refresh_interval": "10s", "publish_enabled": true,
                    },
                },
            ],
        },
    })
}

/// A node whose users are `u1`, with an rpc that publishes back.
async fn start_node(centrifugo: CentrifugoConfig) -> Node {
    let any = "127.0.0.1:0".parse().unwrap();
    let mut config = Config::default();
    config.listen.grpc = ListenAddr::Tcp(any);
    config.listen.admin = any;
    config.centrifugo = centrifugo;
    let say = |publisher: Publisher| async move {
        let published = publisher.publish_json("chat:room", &"from an rpc").await?;
        Ok::<_, Reject>(RpcReply::data(&published.offset))
    };
    let router = Router::new()
        .connect(|| async { ConnectReply::user("u1") })
        .rpc("say", say);
    let listeners = Listeners::bind(&config).await.unwrap();
    Node::start(&config, router, listeners).await.unwrap()
}

/// A client that speaks the JSON protocol.
struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn connect(port: u16) -> (Self, String) {
        let url = format!("ws://127.0.0.1:{port}/connection/websocket");
        let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let mut client = Self(socket);
        client.send(json!({ "id": 1, "connect": {} })).await;
        let reply = client.next().await.unwrap();
        let id = reply["connect"]["client"].as_str().unwrap().to_owned();
        (client, id)
    }

    async fn send(&mut self, command: Value) {
        self.0
            .send(Message::text(command.to_string()))
            .await
            .unwrap();
    }

    /// The next message that is not a ping; the close code at the end.
    async fn next(&mut self) -> Result<Value, u16> {
        loop {
            let message = tokio::time::timeout(Duration::from_secs(10), self.0.next());
            match message.await.unwrap() {
                Some(Ok(Message::Text(text))) => {
                    let mut lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
                    let line: Value = lines.next().unwrap();
                    if line != json!({}) {
                        return Ok(line);
                    }
                    self.send(json!({})).await;
                }
                Some(Ok(Message::Close(Some(frame)))) => return Err(frame.code.into()),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c101_every_open_method_round_trips_with_a_real_centrifugo() {
    let Some(binary) = or_skip("C101", outside::centrifugo()) else {
        return;
    };
    let [http, grpc] = free_ports();
    let mut towards = towards(vec![Endpoint {
        tls: false,
        host: "127.0.0.1".to_owned(),
        port: grpc,
    }]);
    towards.key = Some(Secret::new(KEY));
    let node = start_node(towards.clone()).await;
    let GrpcAddress::Tcp(address) = &node.addresses().grpc else {
        panic!("{:?}", node.addresses());
    };
    let dir = tempfile::tempdir().unwrap();
    let _centrifugo = start(
        &binary,
        dir.path(),
        &config(http, grpc, &address.to_string()),
    );
    let publisher = node.publisher().clone();
    eventually("centrifugo is there", || {
        publisher.stats().endpoints[0].is_up
    })
    .await;

    let (mut client, id) = Client::connect(http).await;
    reaches_clients(&publisher, &mut client, &id).await;
    publishes_back(&mut client).await;
    keeps_history(&publisher).await;
    keeps_maps(&publisher).await;
    asks(&publisher).await;
    refuses(&publisher).await;
    let user = "u1".to_owned();
    publisher
        .disconnect(api::DisconnectRequest {
            user,
            ..Default::default()
        })
        .await
        .unwrap();
    let code = loop {
        if let Err(code) = client.next().await {
            break code;
        }
    };
    assert_eq!(code, 3503);

    towards.key = Some(Secret::new("wrong"));
    let stranger = Publisher::connect(&towards, ":").unwrap();
    let error = stranger.info(api::InfoRequest {}).await.unwrap_err();
    assert_eq!(error, Error::Unauthenticated);
}

fn start(binary: &Path, dir: &Path, config: &Value) -> Program {
    let file = dir.join("config.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let mut command = Command::new(binary);
    Program::start("centrifugo", command.arg("--config").arg(&file), dir)
}

async fn reaches_clients(publisher: &Publisher, client: &mut Client, id: &str) {
    let (user, channel) = ("u1".to_owned(), "chat:room".to_owned());
    let subscribe = api::SubscribeRequest {
        user: user.clone(),
        channel: channel.clone(),
        info: "{\"seat\":1}".into(),
        ..Default::default()
    };
    publisher.subscribe(subscribe).await.unwrap();
    let push = client.next().await.unwrap();
    assert_eq!(push["push"]["channel"], "chat:room", "{push}");
    let there = publisher.presence(presence("chat:room")).await.unwrap();
    assert_eq!(there.presence[id].chan_info, "{\"seat\":1}");
    let channel_of = || channel.clone();
    let stats = api::PresenceStatsRequest {
        channel: channel_of(),
    };
    assert_eq!(
        publisher.presence_stats(stats).await.unwrap().num_clients,
        1
    );

    publisher
        .publish_json("chat:room", &json!({ "n": 1 }))
        .await
        .unwrap();
    let push = client.next().await.unwrap();
    assert_eq!(push["push"]["pub"]["data"], json!({ "n": 1 }), "{push}");
    publisher
        .broadcast_json(["chat:room", "chat:other"], &2)
        .await
        .unwrap();
    let push = client.next().await.unwrap();
    assert_eq!(push["push"]["pub"]["data"], 2, "{push}");

    let refresh = api::RefreshRequest {
        user: user.clone(),
        expire_at: 4_000_000_000,
        ..Default::default()
    };
    publisher.refresh(refresh).await.unwrap();
    let push = client.next().await.unwrap();
    assert_eq!(push["push"]["refresh"]["expires"], true, "{push}");
    let unsubscribe = api::UnsubscribeRequest {
        user,
        channel,
        ..Default::default()
    };
    publisher.unsubscribe(unsubscribe).await.unwrap();
    let push = client.next().await.unwrap();
    assert_eq!(push["push"]["unsubscribe"]["code"], 2000, "{push}");
}

async fn publishes_back(client: &mut Client) {
    client
        .send(json!({ "id": 2, "rpc": { "method": "say", "data": {} } }))
        .await;
    let reply = client.next().await.unwrap();
    assert_eq!(reply["rpc"]["data"], 3, "{reply}");
}

/// 10 000 publications in four channels, batched as they come, are in the order of their calls.
async fn keeps_history(publisher: &Publisher) {
    let waiting: Vec<_> = (0..10_000)
        .map(|at| publisher.publish_json(format!("chat:{}", at % 4), &at))
        .collect();
    for published in waiting {
        published.await.unwrap();
    }
    for channel in 0..4 {
        let request = api::HistoryRequest {
            channel: format!("chat:{channel}"),
            limit: -1,
            ..Default::default()
        };
        let history = publisher.history(request).await.unwrap();
        let data = history.publications.iter().map(|it| it.data.clone());
        let wanted = (0..2500).map(|at| bytes::Bytes::from((at * 4 + channel).to_string()));
        assert!(data.eq(wanted), "channel {channel}");
    }
    let stats = publisher.stats();
    assert!(stats.batched > 5000, "{stats:?}");
    let channel = "chat:0".to_owned();
    publisher
        .history_remove(api::HistoryRemoveRequest { channel })
        .await
        .unwrap();
    let keyed = api::PublishRequest {
        idempotency_key: "k".to_owned(),
        ..publication("chat:once", "{}")
    };
    let first = publisher.publish(keyed.clone()).await.unwrap();
    assert_eq!(publisher.publish(keyed).await.unwrap(), first);
}

async fn keeps_maps(publisher: &Publisher) {
    let (channel, key) = (|| "board:1".to_owned(), || "k".to_owned());
    let set = api::MapPublishRequest {
        channel: channel(),
        key: key(),
        data: "{}".into(),
        ..Default::default()
    };
    publisher.map_publish(set).await.unwrap();
    let stats = publisher
        .map_stats(api::MapStatsRequest { channel: channel() })
        .await;
    assert_eq!(stats.unwrap().num_keys, 1);
    let read = api::MapReadStateRequest {
        channel: channel(),
        limit: 10,
        ..Default::default()
    };
    assert_eq!(
        publisher.map_read_state(read).await.unwrap().entries.len(),
        1
    );
    let remove = api::MapRemoveRequest {
        channel: channel(),
        key: key(),
        ..Default::default()
    };
    publisher.map_remove(remove).await.unwrap();
    let read = api::MapReadStreamRequest {
        channel: channel(),
        limit: 10,
        ..Default::default()
    };
    assert_eq!(
        publisher.map_read_stream(read).await.unwrap().entries.len(),
        2
    );
    publisher
        .map_clear(api::MapClearRequest { channel: channel() })
        .await
        .unwrap();
    let value = api::SharedPollPublishRequest {
        channel: "quotes:1".to_owned(),
        key: key(),
        data: "{}".into(),
        version: 1,
        ..Default::default()
    };
    publisher.shared_poll_publish(value).await.unwrap();
}

async fn asks(publisher: &Publisher) {
    assert_eq!(
        publisher
            .info(api::InfoRequest {})
            .await
            .unwrap()
            .nodes
            .len(),
        1
    );
    let pattern = "chat:*".to_owned();
    publisher
        .channels(api::ChannelsRequest { pattern })
        .await
        .unwrap();
    let method = "nope".to_owned();
    let request = api::RpcRequest {
        method,
        params: "{}".into(),
    };
    assert_eq!(publisher.rpc(request).await.unwrap_err().code(), Some(104));
    let commands = ["chat:b", "nosuch:b", "chat:b"].map(|it| publication(it, "1").into());
    let answers = publisher.batch(commands.into(), false).await.unwrap();
    let codes: Vec<_> = answers
        .iter()
        .map(|answer| answer.as_ref().err().and_then(Error::code))
        .collect();
    assert_eq!(codes, [None, Some(102), None]);
}

async fn refuses(publisher: &Publisher) {
    for publisher in [publisher.clone(), publisher.transport_errors()] {
        let error = publisher.presence(presence("plain:1")).await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("set `presence` in namespace `plain`"),
            "{error}"
        );
        let error = publisher
            .publish(publication("nosuch:1", "{}"))
            .await
            .unwrap_err();
        assert_eq!(error.code(), Some(102), "{error}");
    }
    let result = publisher
        .broadcast_json(["chat:1", "nosuch:1"], &1)
        .await
        .unwrap();
    let failed: Vec<bool> = result.per_channel().map(|one| one.is_err()).collect();
    assert_eq!(failed, [false, true]);
    let user = "u".to_owned();
    let error = publisher
        .block_user(api::BlockUserRequest { user, expire_at: 0 })
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

/// A Centrifugo by itself, and relays to its API.
async fn alone<const N: usize>(binary: &Path, dir: &Path) -> (Program, [Relay; N]) {
    let [http, grpc, nobody] = free_ports();
    let nobody = format!("127.0.0.1:{nobody}");
    let child = start(binary, dir, &config(http, grpc, &nobody));
    let address = SocketAddr::from(([127, 0, 0, 1], grpc));
    let mut relays = Vec::new();
    for _ in 0..N {
        relays.push(Relay::to(address).await);
    }
    (child, relays.try_into().unwrap())
}

/// A publisher with the key, towards relays.
async fn through(relays: &[Relay]) -> Publisher {
    let endpoints = relays.iter().map(|relay| endpoint(relay.address));
    publisher_with(endpoints.collect(), |config| {
        config.key = Some(Secret::new(KEY));
        config.timeout = Duration::from_secs(20);
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_centrifugo_has_10_000_publications_in_order_though_an_endpoint_died_and_returned() {
    let Some(binary) = or_skip("order", outside::centrifugo()) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (_centrifugo, relays) = alone::<2>(&binary, dir.path()).await;
    let publisher = through(&relays).await.idempotent();
    let answered = || publisher.stats().answered;
    let trouble = async {
        for share in 1..6 {
            let reached = (CHANNELS * EACH * share / 8) as u64;
            eventually("some more are answered", || answered() >= reached).await;
            relays[0].die();
            let is_up = || publisher.stats().endpoints[0].is_up;
            eventually("its loss is known", || !is_up()).await;
            relays[0].come_back();
            eventually("it is back", is_up).await;
        }
    };
    assert_eq!(publish_all(&publisher, trouble).await, CHANNELS * EACH);
    let all: Vec<usize> = (0..EACH).collect();
    for channel in 0..CHANNELS {
        let request = api::HistoryRequest {
            channel: format!("chat:{channel}"),
            limit: -1,
            ..Default::default()
        };
        let history = publisher.history(request).await.unwrap();
        let data = history.publications.iter().map(|it| it.data.clone());
        assert_eq!(numbers(&data.collect::<Vec<_>>()), all, "{channel}");
    }
}

/// `C108_SECONDS` says for how long; a server counts pings of five minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a soak of eleven minutes, or C108_SECONDS"]
async fn c108_a_real_centrifugo_keeps_one_connection_through_a_soak() {
    const PING: u8 = 6;
    const ACK: u8 = 1;
    let Some(binary) = or_skip("C108", outside::centrifugo()) else {
        return;
    };
    let seconds = std::env::var("C108_SECONDS").ok();
    let seconds = seconds.map_or(660, |seconds| seconds.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let (_centrifugo, relays) = alone::<1>(&binary, dir.path()).await;
    let publisher = through(&relays).await;
    let end = Instant::now() + Duration::from_secs(seconds);
    // Bursts of large answers, as make some clients ping, and pauses that make others.
    let mut pauses = tokio::time::interval(Duration::from_secs(20));
    while Instant::now() < end {
        for round in 0..50 {
            let text = "x".repeat(round * 400);
            let waiting: Vec<_> = (0..20)
                .map(|at| publisher.publish_json(format!("chat:{at}"), &text))
                .collect();
            for published in waiting {
                published.await.unwrap();
            }
            let request = api::HistoryRequest {
                channel: "chat:1".to_owned(),
                limit: 100,
                ..Default::default()
            };
            publisher.history(request).await.unwrap();
        }
        pauses.tick().await;
    }
    let stats = publisher.stats();
    assert!(stats.endpoints[0].is_up && stats.retries == 0, "{stats:?}");
    assert_eq!(relays[0].sent.lock().unwrap().len(), 1, "connections");
    let frames = relays[0].frames();
    let pings = frames
        .iter()
        .filter(|(kind, flags)| *kind == PING && flags & ACK == 0);
    assert_eq!(pings.count(), 0);
}
