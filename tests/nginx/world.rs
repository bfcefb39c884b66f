//! A node in this process, a real Centrifugo in front of it, and nginx with `deploy/nginx.conf` in
//! front of that; all on free loopback ports, all ended with the test.

use crate::outside::{self, Program, free_ports, on_path, or_skip};
use centripeta::config::{Config, Endpoint, ListenAddr};
use centripeta::extract::Headers;
use centripeta::{ConnectReply, GrpcAddress, Listeners, Node, Router, RpcReply, SubscribeReply};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// How long nothing has to come from Centrifugo until nginx cuts a connection, in these tests.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// The programs, or one line that says which is missing.
fn programs() -> Option<[PathBuf; 2]> {
    let nginx = on_path("nginx").ok_or("no nginx on PATH");
    let found = outside::centrifugo().and_then(|centrifugo| Ok([centrifugo, nginx?]));
    static SAID: AtomicBool = AtomicBool::new(false);
    if found.is_err() && SAID.swap(true, Ordering::Relaxed) {
        return None;
    }
    or_skip("nginx in front of Centrifugo", found)
}

/// The parts, nearest to the client first, in which order they end.
pub(crate) struct World {
    nginx: Program,
    _centrifugo: Program,
    pub(crate) node: Node,
    pub(crate) port: u16,
    dir: TempDir,
}

/// What differs between worlds.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    /// `client.ping_interval` of Centrifugo.
    pub(crate) ping: &'static str,
    /// `worker_shutdown_timeout` of nginx.
    pub(crate) shutdown: &'static str,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            ping: "25s",
            shutdown: "10m",
        }
    }
}

impl World {
    /// Starts it; `None` without the programs.
    pub(crate) async fn start(setup: Setup) -> Option<Self> {
        let [centrifugo, nginx] = programs()?;
        let dir = tempfile::tempdir().unwrap();
        let [port, http, api] = free_ports();
        let node = start_node(api).await;
        let GrpcAddress::Tcp(grpc) = node.addresses().grpc else {
            panic!("not a TCP address");
        };
        let file = dir.path().join("centrifugo.json");
        let config = centrifugo_config(http, api, &grpc.to_string(), setup.ping);
        fs::write(&file, config.to_string()).unwrap();
        let mut command = Command::new(centrifugo);
        command.arg("--config").arg(file);
        let mut centrifugo = Program::start("centrifugo", &mut command, dir.path());
        centrifugo.wait_listens(http);

        let file = dir.path().join("nginx.conf");
        fs::write(&file, nginx_config(port, http, setup.shutdown, dir.path())).unwrap();
        let main = format!("daemon off; pid {}/nginx.pid;", dir.path().display());
        let mut command = Command::new(nginx);
        command.arg("-p").arg(dir.path()).arg("-c").arg(file);
        command.args(["-g", &main, "-e", "stderr"]);
        // Its workers end with it.
        let mut nginx = Program::start("nginx", &mut command, dir.path()).asked_to_end();
        nginx.wait_listens(port);

        let world = Self {
            nginx,
            _centrifugo: centrifugo,
            node,
            port,
            dir,
        };
        let publisher = world.node.publisher().clone();
        eventually("centrifugo's API is there", || {
            publisher.stats().endpoints[0].is_up
        })
        .await;
        Some(world)
    }

    /// Makes nginx read its configuration again, and waits until new workers are there.
    pub(crate) async fn reload_nginx(&self) {
        let before = self.workers();
        assert!(!before.is_empty(), "nginx has workers");
        self.nginx.signal("HUP");
        eventually("new workers", || {
            let now = self.workers();
            now.iter().any(|worker| !before.contains(worker))
        })
        .await;
    }

    /// The ids of the workers, those that are ending too.
    fn workers(&self) -> Vec<u32> {
        let id = self.nginx.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let children = children.unwrap_or_default();
        let ids = children.split_whitespace();
        ids.filter_map(|id| id.parse().ok()).collect()
    }

    pub(crate) fn say_logs(&self) -> String {
        let read = |name| fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        format!("{}\n{}", read("nginx.log"), read("centrifugo.log"))
    }
}

/// A node whose rpc `ip` says from where the client came, as nginx has it.
async fn start_node(api: u16) -> Node {
    let any = "127.0.0.1:0".parse().unwrap();
    let mut config = Config::default();
    config.listen.grpc = ListenAddr::Tcp(any);
    config.listen.admin = any;
    config.centrifugo.api = vec![Endpoint {
        tls: false,
        host: "127.0.0.1".to_owned(),
        port: api,
    }];
    let ip = |Headers(headers): Headers| async move {
        let all = ["x-real-ip", "x-forwarded-for"].map(|name| {
            let values = headers.get_all(name).iter();
            let values = values.map(|value| value.to_str().unwrap().to_owned());
            values.collect::<Vec<_>>()
        });
        RpcReply::data(&all)
    };
    let router = Router::new()
        .connect(|| async { ConnectReply::user("u1") })
        .subscribe("feed:{name}", || async { SubscribeReply::allow() })
        .rpc("ip", ip);
    let listeners = Listeners::bind(&config).await.unwrap();
    Node::start(&config, router, listeners).await.unwrap()
}

fn centrifugo_config(http: u16, api: u16, node: &str, ping: &str) -> Value {
    let proxy = json!({
        "endpoint": format!("grpc://{node}"), "timeout": "3s",
        "http_headers": ["X-Real-IP", "X-Forwarded-For"],
    });
    let mut connect = proxy.clone();
    connect["enabled"] = json!(true);
    json!({
        "http_server": { "address": "127.0.0.1", "port": http },
        "health": { "enabled": true },
        "prometheus": { "enabled": true },
        "sse": { "enabled": true },
        "http_stream": { "enabled": true },
        "grpc_api": { "enabled": true, "address": "127.0.0.1", "port": api },
        "client": {
            "ping_interval": ping, "pong_timeout": "500ms", "proxy": { "connect": connect },
        },
        "rpc": { "proxy": proxy, "without_namespace": { "proxy_enabled": true } },
        "channel": {
            "proxy": { "subscribe": proxy },
            "namespaces": [{
                "name": "feed", "subscribe_proxy_enabled": true,
                "history_size": 1000, "history_ttl": "300s", "force_recovery": true,
            }],
        },
    })
}

/// The shipped file with ports and places of this test, and times that a test can wait for.
fn nginx_config(port: u16, centrifugo: u16, shutdown: &str, dir: &Path) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/nginx.conf");
    let mut text = fs::read_to_string(path).unwrap();
    let dir = dir.display();
    let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {dir}/{kind};\n"))
        .concat();
    let changes = [
        ("listen 80;", format!("listen 127.0.0.1:{port};")),
        (
            "server 127.0.0.1:8000;",
            format!("server 127.0.0.1:{centrifugo};"),
        ),
        ("http {\n", format!("http {{\naccess_log off;\n{places}")),
        (
            "proxy_read_timeout 60s;",
            format!("proxy_read_timeout {}s;", READ_TIMEOUT.as_secs()),
        ),
        (
            "worker_shutdown_timeout 10m;",
            format!("worker_shutdown_timeout {shutdown};"),
        ),
        ("worker_processes auto;", "worker_processes 2;".to_owned()),
        ("worker_rlimit_nofile 65536;\n", String::new()),
        (
            "worker_connections 16384;",
            "worker_connections 256;".to_owned(),
        ),
    ];
    for (from, to) in changes {
        assert_eq!(text.matches(from).count(), 1, "deploy/nginx.conf: {from}");
        text = text.replace(from, &to);
    }
    text
}

/// Waits until it holds.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < until, "not within the limit: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A client that speaks the JSON protocol over a WebSocket, and answers pings.
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Messages that came together and are still to be looked at.
    waiting: VecDeque<Value>,
    /// Pings that came.
    pub(crate) pings: u32,
    last: u64,
}

impl Client {
    /// Connects, with a header in which it lies about where it comes from.
    pub(crate) async fn connect(port: u16) -> Self {
        let url = format!("ws://127.0.0.1:{port}/connection/websocket");
        let mut request = url.into_client_request().unwrap();
        let lie = "6.6.6.6".parse().unwrap();
        request.headers_mut().insert("x-forwarded-for", lie);
        let (socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        let mut client = Self {
            socket,
            waiting: VecDeque::new(),
            pings: 0,
            last: 0,
        };
        let reply = client.call(json!({ "connect": {} })).await;
        assert!(reply["connect"]["client"].is_string(), "{reply}");
        client
    }

    /// Sends a command and waits for its reply; what is pushed before it is lost.
    pub(crate) async fn call(&mut self, mut command: Value) -> Value {
        self.last += 1;
        command["id"] = json!(self.last);
        self.send(&command).await;
        loop {
            let message = self.next().await.unwrap();
            if message["id"] == json!(self.last) {
                return message;
            }
        }
    }

    async fn send(&mut self, command: &Value) {
        let text = Message::text(command.to_string());
        self.socket.send(text).await.unwrap();
    }

    /// The next message that is not a ping, or why there is none.
    pub(crate) async fn next(&mut self) -> Result<Value, String> {
        loop {
            if let Some(message) = self.step().await? {
                return Ok(message);
            }
        }
    }

    /// The next thing to come: a message, or `None` for a ping, which is answered.
    pub(crate) async fn step(&mut self) -> Result<Option<Value>, String> {
        while self.waiting.is_empty() {
            let frame = timeout(LIMIT, self.socket.next()).await;
            match frame.map_err(|_| "nothing came".to_owned())? {
                Some(Ok(Message::Text(text))) => {
                    let messages = text.lines().map(|line| serde_json::from_str(line).unwrap());
                    self.waiting.extend(messages);
                }
                other => return Err(format!("{other:?}")),
            }
        }
        let message = self.waiting.pop_front();
        if message != Some(json!({})) {
            return Ok(message);
        }
        self.pings += 1;
        self.send(&json!({})).await;
        Ok(None)
    }

    /// The data of the next publication.
    pub(crate) async fn publication(&mut self) -> Result<Value, String> {
        let push = self.next().await?;
        Ok(push["push"]["pub"]["data"].clone())
    }
}

/// A response that is read while it is still being sent.
pub(crate) struct Streaming {
    socket: TcpStream,
    text: String,
    /// Up to where it has been looked at.
    seen: usize,
}

impl Streaming {
    pub(crate) async fn request(port: u16, head: &str, body: &str) -> Self {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let length = body.len();
        let request =
            format!("{head} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut streaming = Self {
            socket,
            text: String::new(),
            seen: 0,
        };
        let status = streaming.line().await;
        assert!(status.starts_with("HTTP/1.1 2"), "{status}");
        streaming
    }

    /// The next line; the response need not be over.
    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.text[self.seen..].find('\n') {
                let line = self.text[self.seen..self.seen + end].trim_end().to_owned();
                self.seen += end + 1;
                return line;
            }
            let mut buffer = [0; 4096];
            let read = timeout(LIMIT, self.socket.read(&mut buffer)).await;
            let read = read.unwrap_or_else(|_| panic!("no more than: {}", self.text));
            let read = read.unwrap();
            assert!(read > 0, "over: {}", self.text);
            self.text
                .push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
    }

    /// The next JSON message with content, as SSE or in a line of its own; pings are passed over.
    pub(crate) async fn message(&mut self) -> Value {
        loop {
            let line = self.line().await;
            let text = line.strip_prefix("data: ").unwrap_or(&line);
            match serde_json::from_str::<Value>(text) {
                Ok(message) if message.as_object().is_some_and(|it| !it.is_empty()) => {
                    return message;
                }
                _ => {}
            }
        }
    }
}

/// The status of a request for which there is a whole response.
pub(crate) async fn status(port: u16, head: &str, body: &str) -> u16 {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(LIMIT, socket.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let answer = String::from_utf8_lossy(&answer);
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}
