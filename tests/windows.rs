//! One connection carries all streams and events of a Centrifugo: a stream whose handler has stopped
//! reading waits by itself, and everything else on that connection goes on.

#![allow(clippy::unwrap_used)]

#[path = "support/outside.rs"]
mod outside;
mod support;

use bytes::Bytes;
use centripeta::event::EventKind;
use centripeta::proto::proxy::Publication;
use centripeta::{Data, Inbound, Router, RpcReply, StreamReply};
use futures_util::{SinkExt, StreamExt, stream};
use outside::{Program, free_ports, or_skip};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::client::Call;
use support::{Client, TestNode, path, request, small_request, soon};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message as Text;

const KIND: EventKind = EventKind::StreamBidirectional;

/// Streams on `stuck:*` are read once `open` says so, and tell what they read; those on `live:*` echo.
fn router(open: watch::Receiver<bool>, read: mpsc::UnboundedSender<Bytes>) -> Router {
    Router::new()
        .stream_bidirectional("live:*", |inbound: Inbound| async move {
            StreamReply::publications(inbound.map(|publication| Publication {
                data: publication.data,
                ..Publication::default()
            }))
        })
        .stream_bidirectional("stuck:*", move |mut inbound: Inbound| {
            let (mut open, read) = (open.clone(), read.clone());
            async move {
                tokio::spawn(async move {
                    open.wait_for(|open| *open).await.unwrap();
                    while let Some(publication) = inbound.recv().await {
                        read.send(publication.data).unwrap();
                    }
                });
                StreamReply::publications(stream::pending::<Publication>())
            }
        })
        .rpc("echo", |Data(data): Data<serde_json::Value>| async move {
            RpcReply::data(&data)
        })
}

/// A publication of this number and of at least this many bytes.
fn published(number: usize, size: usize) -> Bytes {
    let data = format!("[{number},\"{}\"]", "x".repeat(size));
    request(KIND, &format!(r#"{{"publication":{{"data":{data}}}}}"#))
}

async fn open_stream(client: &Client, channel: &str) -> Call {
    let mut call = client.open(&path(KIND), &[]).await.unwrap();
    call.message(&small_request(KIND, channel)).await;
    soon("the stream is accepted", call.next()).await.unwrap();
    call
}

/// Publishes into a stream, as many as may be; how many went out is counted.
async fn push(mut call: Call, size: usize, most: usize, sent: Arc<AtomicUsize>) {
    for number in 0..most {
        call.message(&published(number, size)).await;
        sent.fetch_add(1, Ordering::SeqCst);
    }
    // It stays open.
    while call.next().await.is_some() {}
}

/// An echo and an event over the connection, from their start to their end.
async fn others_go_on(client: &Client, live: &mut Call, number: usize) {
    live.message(&published(number, 40)).await;
    let echo = soon("an echo beside a stuck stream", live.next()).await;
    assert_eq!(echo.unwrap(), published(number, 40));
    // More than a call may send at once.
    let text = "y".repeat(100_000);
    let json = format!(
        r#"{{"client":"c1","transport":"websocket","protocol":"json","encoding":"json","method":"echo","data":"{text}"}}"#
    );
    let event = request(EventKind::Rpc, &json);
    let path = path(EventKind::Rpc);
    let reply = client.call(&path, &[], &event);
    let reply = soon("an event beside a stuck stream", reply).await;
    assert!(reply.message().len() > 100_000);
}

/// So many streams stop reading, publications of this size come, and nobody else is held up.
async fn stuck(streams: usize, size: usize, most: usize) {
    let (open, is_open) = watch::channel(false);
    let (read, mut all_read) = mpsc::unbounded_channel();
    let node = TestNode::start(router(is_open, read)).await;
    let client = node.client().await;
    let mut live = open_stream(&client, "live:1").await;
    let sent = Arc::new(AtomicUsize::new(0));
    let mut pushing = Vec::new();
    for number in 0..streams {
        let call = open_stream(&client, &format!("stuck:{number}")).await;
        pushing.push(tokio::spawn(push(call, size, most, Arc::clone(&sent))));
    }
    // Until no more goes out for a while of other work.
    let (mut before, mut quiet, mut number) = (0, 0, 0);
    while quiet < 20 {
        others_go_on(&client, &mut live, number).await;
        let now = sent.load(Ordering::SeqCst);
        quiet = if now == before { quiet + 1 } else { 0 };
        (before, number) = (now, number + 1);
    }
    assert!(before > 0 && before < streams * most, "the senders wait");
    // What nobody has read is bounded.
    let waiting = before * published(0, size).len();
    assert!(
        waiting < streams * 200_000,
        "{waiting} bytes of {streams} streams"
    );
    open.send(true).unwrap();
    let mut seen = 0;
    while seen < before {
        soon("what was kept is read", all_read.recv())
            .await
            .unwrap();
        seen += 1;
    }
    others_go_on(&client, &mut live, number).await;
    pushing.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_not_read_with_thousands_of_small_publications_ends_no_connection() {
    stuck(1, 8, 20_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_streams_that_are_not_read_starve_no_other_stream_and_no_event() {
    stuck(40, 8, 20_000).await;
    stuck(40, 20_000, 100).await;
}

/// A client of Centrifugo's, in its JSON protocol.
struct Online {
    socket: tokio_tungstenite::WebSocketStream<
        tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>,
    >,
    last: u32,
}

impl Online {
    async fn connect(http: u16) -> Self {
        let url = format!("ws://127.0.0.1:{http}/connection/websocket");
        let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let mut this = Self { socket, last: 0 };
        this.ask("connect", json!({})).await;
        this
    }

    async fn send(&mut self, name: &str, command: Value) -> Result<u32, Gone> {
        self.last += 1;
        let text = json!({ "id": self.last, name: command }).to_string();
        let sent = self.socket.send(Text::text(text)).await;
        sent.map(|()| self.last).map_err(|_| Gone)
    }

    /// What comes next that is more than a ping.
    async fn next(&mut self) -> Result<Vec<Value>, Gone> {
        loop {
            let Some(Ok(Text::Text(text))) = self.socket.next().await else {
                return Err(Gone);
            };
            let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
            let lines: Vec<Value> = lines.filter(|line| *line != json!({})).collect();
            if lines.is_empty() {
                self.socket.send(Text::text("{}")).await.map_err(|_| Gone)?;
            } else {
                return Ok(lines);
            }
        }
    }

    async fn ask(&mut self, name: &str, command: Value) -> Value {
        let id = self.send(name, command).await.unwrap();
        loop {
            let lines = soon("an answer", self.next()).await.unwrap();
            if let Some(answer) = lines.into_iter().find(|line| line["id"] == id) {
                assert_eq!(answer.get("error"), None, "{answer}");
                return answer;
            }
        }
    }
}

/// The client's connection has ended.
#[derive(Debug)]
struct Gone;

/// A real Centrifugo whose streams and rpc go to this port.
fn centrifugo(binary: &Path, proxy: u16, http: u16, dir: &Path) -> Program {
    let endpoint = json!({ "endpoint": format!("grpc://127.0.0.1:{proxy}"), "timeout": "10s" });
    let stream = |name: &str| {
        json!({
            "name": name, "subscribe_stream_proxy_enabled": true,
            "subscribe_stream_proxy_bidirectional": true,
        })
    };
    let config = json!({
        "http_server": { "address": "127.0.0.1", "port": http },
        "health": { "enabled": true },
        "client": { "insecure": true },
        "rpc": { "proxy": endpoint, "without_namespace": { "proxy_enabled": true } },
        "channel": {
            "proxy": { "subscribe_stream": endpoint },
            "namespaces": [stream("stuck"), stream("live")],
        },
    });
    let file = dir.join("centrifugo.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let mut command = std::process::Command::new(binary);
    command.arg("--config").arg(&file);
    let mut centrifugo = Program::start("centrifugo", &mut command, dir);
    centrifugo.wait_ready(http, "/health");
    centrifugo
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_centrifugo_keeps_its_one_connection_beside_a_stream_that_is_not_read() {
    let what = "a stuck stream of a real Centrifugo";
    let Some(binary) = or_skip(what, outside::centrifugo()) else {
        return;
    };
    let (open, is_open) = watch::channel(false);
    let (read, mut all_read) = mpsc::unbounded_channel();
    let node = TestNode::start(router(is_open, read)).await;
    let dir = tempfile::tempdir().unwrap();
    let [http] = free_ports();
    let _centrifugo = centrifugo(&binary, node.address().port(), http, dir.path());
    let mut live = Online::connect(http).await;
    live.ask("subscribe", json!({ "channel": "live:1" })).await;
    let mut stuck = Online::connect(http).await;
    stuck
        .ask("subscribe", json!({ "channel": "stuck:1" }))
        .await;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let pushing = tokio::spawn(async move {
        for number in 0..50_000 {
            let publish = json!({ "channel": "stuck:1", "data": [number] });
            stuck.send("publish", publish).await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
        }
        // As a client does that stays.
        while stuck.next().await.is_ok() {}
    });
    // Far more than ended the connection before, or until Centrifugo takes no more of that client.
    let (mut before, mut quiet, mut number) = (0, 0, 0);
    while quiet < 20 && before < 50_000 {
        let echo = json!({ "channel": "live:1", "data": { "n": number } });
        let id = live.send("publish", echo).await.unwrap();
        let (mut is_done, mut is_back) = (false, false);
        while !(is_done && is_back) {
            for line in soon("an echo", live.next()).await.unwrap() {
                is_done |= line["id"] == id;
                is_back |= line.pointer("/push/pub/data/n") == Some(&json!(number));
            }
        }
        let rpc = json!({ "method": "echo", "data": [number] });
        let answer = live.ask("rpc", rpc).await;
        assert_eq!(answer["rpc"]["data"], json!([number]));
        let now = sent.load(Ordering::SeqCst);
        quiet = if now == before { quiet + 1 } else { 0 };
        (before, number) = (now, number + 1);
    }
    assert!(before > 3000, "{before}");
    open.send(true).unwrap();
    for number in 0..3000 {
        let publication = soon("what was kept is read", all_read.recv())
            .await
            .unwrap();
        assert_eq!(publication, json!([number]).to_string());
    }
    pushing.abort();
}
