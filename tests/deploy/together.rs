//! The composition without containers: real nodes, Centrifugos, Redis and nginx with the shipped files,
//! of which only the addresses differ. Each container is an address of loopback here.

use super::{CENTRIFUGOS, NODES, dns, environment, file, found, get, root, services, words};
use crate::outside::{Program, free_ports};
use crate::process::{Ended, LIMIT, Running, eventually, run, stock};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Where the container of a service would be.
fn address(service: &str) -> Ipv4Addr {
    match service {
        "centripeta-a" | "centripeta-init" => Ipv4Addr::new(127, 0, 1, 1),
        "centripeta-b" => Ipv4Addr::new(127, 0, 1, 2),
        "centripeta-c" => Ipv4Addr::new(127, 0, 1, 3),
        "centrifugo-1" => Ipv4Addr::new(127, 0, 2, 1),
        "centrifugo-2" => Ipv4Addr::new(127, 0, 2, 2),
        other => panic!("{other}"),
    }
}

/// The ports that the containers would have to themselves.
struct Ports {
    redis: u16,
    nginx: u16,
    grpc: u16,
    admin: u16,
    peers: u16,
    client: u16,
    inside: u16,
    api: u16,
    dns: u16,
}

/// The services that run.
struct Composition {
    dir: TempDir,
    ports: Ports,
    _nginx: Option<Program>,
    centrifugos: BTreeMap<&'static str, Running>,
    nodes: BTreeMap<&'static str, Running>,
    _redis: Running,
}

/// Replaces what has to be there once.
fn replaced(text: &str, changes: &[(&str, String)]) -> String {
    let mut text = text.to_owned();
    for (from, to) in changes {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text = text.replace(from, to);
    }
    text
}

impl Composition {
    /// Redis alone; what is asked of DNS is answered.
    async fn begin(redis: PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let nodes = NODES.map(|node| address(&format!("centripeta-{node}")));
        let names = BTreeMap::from([
            ("centripeta", nodes.to_vec()),
            ("centrifugo", CENTRIFUGOS.map(address).to_vec()),
        ]);
        let dns = dns::serve(names).await;
        let [redis_port, nginx, grpc, admin, peers, client, inside, api] = free_ports();
        let ports = Ports {
            redis: redis_port,
            nginx,
            grpc,
            admin,
            peers,
            client,
            inside,
            api,
            dns,
        };
        let mut store = Command::new(redis);
        store
            .args(&command_of("redis")[1..])
            .args(["--bind", "127.0.0.1", "--port", &redis_port.to_string()])
            .current_dir(dir.path());
        let store = Running::start(store);
        eventually("redis listens", || {
            TcpStream::connect(("127.0.0.1", redis_port)).ok()
        });
        Self {
            dir,
            ports,
            _nginx: None,
            centrifugos: BTreeMap::new(),
            nodes: BTreeMap::new(),
            _redis: store,
        }
    }

    /// A command line of a node's service, on this disk.
    fn node(&self, service: &str, words: &[String], disk: &str) -> Command {
        let ports = &self.ports;
        let at = address(service);
        let nodes = NODES.map(|node| address(&format!("centripeta-{node}")));
        let seeds = nodes.map(|at| format!("{at}:{}", ports.peers));
        let apis = CENTRIFUGOS.map(|name| format!("grpc://{}:{}", address(name), ports.api));
        let sets = [
            format!("listen.grpc={at}:{}", ports.grpc),
            format!("listen.admin={at}:{}", ports.admin),
            format!("cluster.listen={at}:{}", ports.peers),
            format!("cluster.seeds={seeds:?}"),
            format!("centrifugo.api={apis:?}"),
            format!("node.data={disk}"),
        ];
        let mut command = stock(self.dir.path(), words);
        command
            .arg("--config")
            .arg(root().join("deploy/compose/node.toml"))
            .args(sets.iter().flat_map(|set| ["--set", set]));
        for (name, set) in environment(service) {
            // `centripeta-a:7946` is a name of Docker's.
            let set = match set.rsplit_once(':') {
                Some((host, _)) if host.starts_with("centripeta-") => {
                    format!("{}:{}", address(host), ports.peers)
                }
                _ => set,
            };
            command.env(name, set);
        }
        command
    }

    /// Runs the founding service to its end.
    fn found(&self, disk: &str) -> Ended {
        run(self.node("centripeta-init", &command_of("centripeta-init"), disk))
    }

    fn start_node(&mut self, node: &'static str) {
        let service = format!("centripeta-{node}");
        let command = self.node(&service, &["serve".to_owned()], node);
        self.nodes.insert(node, Running::start(command));
    }

    /// Waits until a node takes events.
    fn is_ready(&self, node: &str) {
        let at = address(&format!("centripeta-{node}"));
        let said = || self.nodes[node].said();
        eventually(
            &format!("{node} is ready, which said {:#?}", said()),
            || {
                TcpStream::connect((at, self.ports.admin)).ok()?;
                let page = get(&format!("{at}:{}", self.ports.admin), "/ready", None);
                page.starts_with("HTTP/1.1 200").then_some(())
            },
        );
    }

    fn start_centrifugo(&mut self, program: &Path, name: &'static str) {
        let ports = &self.ports;
        let text = file("deploy/compose/centrifugo.json")
            .replace(
                "grpc://centripeta:10001",
                &format!("dns://127.0.0.1:{}/centripeta:{}", ports.dns, ports.grpc),
            )
            .replace("redis:6379", &format!("127.0.0.1:{}", ports.redis));
        let mut config: Value = serde_json::from_str(&text).unwrap();
        let at = address(name).to_string();
        config["http_server"]["address"] = json!(at);
        config["http_server"]["internal_address"] = json!(at);
        config["http_server"]["port"] = json!(ports.client);
        config["http_server"]["internal_port"] = json!(ports.inside.to_string());
        config["grpc_api"]["address"] = json!(at);
        config["grpc_api"]["port"] = json!(ports.api);
        let file = self.dir.path().join(format!("{name}.json"));
        std::fs::write(&file, config.to_string()).unwrap();
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).current_dir(self.dir.path());
        command.envs(environment(name));
        self.centrifugos.insert(name, Running::start(command));
        eventually(&format!("{name} is healthy"), || {
            TcpStream::connect((address(name), self.ports.inside)).ok()?;
            let page = self.inside(name, "/health");
            page.starts_with("HTTP/1.1 200").then_some(())
        });
    }

    /// What Prometheus or a health check gets of a Centrifugo.
    fn inside(&self, name: &str, path: &str) -> String {
        get(
            &format!("{}:{}", address(name), self.ports.inside),
            path,
            None,
        )
    }

    fn start_nginx(&mut self, program: PathBuf) {
        let (dir, ports) = (self.dir.path(), &self.ports);
        let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {}/{kind};\n", dir.display()))
            .concat();
        let port = ports.nginx;
        let changes = [
            ("listen 80;", format!("listen 127.0.0.1:{port};")),
            (
                "resolver 127.0.0.11 ",
                format!("resolver 127.0.0.1:{} ", ports.dns),
            ),
            (
                "default centrifugo:8000;",
                format!("default centrifugo:{};", ports.client),
            ),
            ("http {\n", format!("http {{\naccess_log off;\n{places}")),
            ("worker_processes auto;", "worker_processes 1;".to_owned()),
            ("worker_rlimit_nofile 65536;\n", String::new()),
            (
                "worker_connections 16384;",
                "worker_connections 256;".to_owned(),
            ),
        ];
        let text = replaced(&file("deploy/compose/nginx.conf"), &changes);
        let path = dir.join("nginx.conf");
        std::fs::write(&path, text).unwrap();
        let main = format!("daemon off; pid {}/nginx.pid;", dir.display());
        let mut command = Command::new(program);
        command.arg("-p").arg(dir).arg("-c").arg(path);
        command.args(["-g", &main, "-e", "stderr"]);
        let mut nginx = Program::start("nginx", &mut command, dir).asked_to_end();
        nginx.wait_listens(port);
        self._nginx = Some(nginx);
    }

    /// Where clients come to.
    fn front(&self) -> String {
        format!("127.0.0.1:{}", self.ports.nginx)
    }

    /// A client that is connected through nginx, however often that needs a try.
    async fn client(&self) -> Client {
        let tries = async {
            loop {
                match Client::connect(&self.front()).await {
                    Ok(client) => return client,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let connected = tokio::time::timeout(LIMIT, tries).await;
        connected.unwrap_or_else(|_| panic!("nobody connects: {}", self.say()))
    }

    /// The count of a room, asked for until there is one.
    async fn count(&self, client: &mut Client) -> (u64, String) {
        let tries = async {
            loop {
                let asked = json!({ "rpc": { "method": "count", "data": { "room": "lobby" } } });
                let reply = client.call(asked).await.unwrap();
                let data = &reply["rpc"]["data"];
                if let Some(count) = data["count"].as_u64() {
                    return (count, data["node"].as_str().unwrap().to_owned());
                }
            }
        };
        let counted = tokio::time::timeout(LIMIT, tries).await;
        counted.unwrap_or_else(|_| panic!("nobody counts: {}", self.say()))
    }

    /// Everything that the nodes and Centrifugos said.
    fn say(&self) -> String {
        let all = self.nodes.iter().chain(&self.centrifugos);
        all.map(|(name, it)| format!("{name}: {:#?}\n", it.said()))
            .collect()
    }
}

/// A client that speaks the JSON protocol over a WebSocket.
struct Client {
    socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
    last: u64,
    /// What came besides replies.
    pushed: Vec<Value>,
}

impl Client {
    async fn connect(front: &str) -> Result<Self, String> {
        let url = format!("ws://{front}/connection/websocket");
        let connected = tokio_tungstenite::connect_async(url).await;
        let (socket, _) = connected.map_err(|why| why.to_string())?;
        let mut client = Self {
            socket,
            last: 0,
            pushed: Vec::new(),
        };
        let reply = client.call(json!({ "connect": {} })).await?;
        match reply["connect"]["client"].is_string() {
            true => Ok(client),
            false => Err(reply.to_string()),
        }
    }

    /// The reply to a command, or why the connection is over.
    async fn call(&mut self, mut command: Value) -> Result<Value, String> {
        self.last += 1;
        command["id"] = json!(self.last);
        let text = Message::text(command.to_string());
        let sent = self.socket.send(text).await;
        sent.map_err(|why| why.to_string())?;
        loop {
            let mut reply = None;
            for message in self.messages().await? {
                match message["id"] == json!(self.last) {
                    true => reply = Some(message),
                    false => self.pushed.push(message),
                }
            }
            if let Some(reply) = reply {
                return Ok(reply);
            }
        }
    }

    /// What is published in a channel next.
    async fn hears(&mut self, channel: &str) -> Value {
        loop {
            let at = self.pushed.iter().position(|message| {
                let push = &message["push"];
                push["channel"] == channel && !push["pub"].is_null()
            });
            if let Some(at) = at {
                return self.pushed.remove(at)["push"]["pub"]["data"].take();
            }
            let more = self.messages().await.unwrap();
            self.pushed.extend(more);
        }
    }

    /// The next frame with messages.
    async fn messages(&mut self) -> Result<Vec<Value>, String> {
        loop {
            let frame = tokio::time::timeout(LIMIT, self.socket.next()).await;
            match frame.map_err(|_| "nothing came".to_owned())? {
                Some(Ok(Message::Text(text))) if &*text == "{}" => {
                    let pong = self.socket.send(Message::text("{}")).await;
                    pong.map_err(|why| why.to_string())?;
                }
                Some(Ok(Message::Text(text))) => {
                    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
                    return Ok(lines.collect());
                }
                other => return Err(format!("{other:?}")),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_get_through_nginx_and_two_centrifugos_to_three_nodes_and_the_loss_of_one_stops_none()
 {
    let Some(centrifugo) = found("centrifugo", "CENTRIFUGO_BIN") else {
        return;
    };
    let Some(redis) = found("redis-server", "REDIS_SERVER_BIN") else {
        return;
    };
    let Some(nginx) = found("nginx", "NGINX_BIN") else {
        return;
    };
    let mut all = Composition::begin(redis).await;

    // Compose runs the founding service at each `up`.
    for said in ["founded cluster", "nothing to do"] {
        let founded = all.found("a");
        assert_eq!(founded.code, 0, "{founded:?}");
        assert!(founded.out.contains(said), "{founded:?}");
    }
    for node in NODES {
        all.start_node(node);
    }
    for node in NODES {
        all.is_ready(node);
    }
    let again = all.found("a");
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.out.contains("nothing to do"), "{again:?}");
    // A lost disk founds no second cluster beside the first.
    let refused = all.found("empty");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("there is one already"), "{refused:?}");

    for name in CENTRIFUGOS {
        all.start_centrifugo(&centrifugo, name);
    }
    all.start_nginx(nginx);
    let (mut ann, mut bob) = (all.client().await, all.client().await);
    // nginx has given each of them to another Centrifugo.
    for name in CENTRIFUGOS {
        eventually(&format!("{name} has a client"), || {
            let page = all.inside(name, "/metrics");
            let line = page
                .lines()
                .find(|line| line.starts_with("centrifugo_node_num_clients "))?;
            line.ends_with(" 1").then_some(())
        });
    }
    let ok = |reply: Result<Value, String>, part: &str| {
        let reply = reply.unwrap();
        assert!(reply[part].is_object(), "{reply}: {}", all.say());
        reply[part].clone()
    };
    let lobby = json!({ "subscribe": { "channel": "chat:lobby" } });
    ok(ann.call(lobby.clone()).await, "subscribe");
    ok(bob.call(lobby).await, "subscribe");
    let publish = json!({ "publish": { "channel": "chat:lobby", "data": { "n": 7 } } });
    ok(ann.call(publish).await, "publish");
    assert_eq!(bob.hears("chat:lobby").await, json!({ "n": 7 }));
    let echo = json!({ "rpc": { "method": "echo", "data": { "n": 8 } } });
    for client in [&mut ann, &mut bob] {
        let reply = ok(client.call(echo.clone()).await, "rpc");
        assert_eq!(reply["data"], json!({ "n": 8 }));
    }
    // Calls that come in by different Centrifugos and nodes meet in one owner.
    let (first, owner) = all.count(&mut ann).await;
    assert_eq!(first, 1);
    for count in 2..=9 {
        let client = if count % 2 == 0 { &mut bob } else { &mut ann };
        assert_eq!(all.count(client).await, (count, owner.clone()));
    }

    // Clients reach neither metrics nor API; Prometheus finds them inside.
    for path in ["/metrics", "/health", "/api"] {
        let refused = get(&all.front(), path, None);
        assert!(refused.starts_with("HTTP/1.1 404"), "{path} {refused}");
    }

    // The owner dies: another node takes over, and clients stay where they are.
    let lost = NODES.into_iter().find(|node| *node == owner).unwrap();
    all.nodes[lost].signal("KILL");
    for client in [&mut ann, &mut bob] {
        let (_, now) = all.count(client).await;
        assert_ne!(now, owner);
    }
    // It counts from 1 again, since nothing durable is kept; what was answered to nobody may have counted.
    let (count, _) = all.count(&mut ann).await;
    assert!((3..12).contains(&count), "{count}");
    let mut carl = all.client().await;
    all.count(&mut carl).await;

    // It comes back on its disk; then another is stopped as Compose stops it, and no call is lost.
    all.start_node(lost);
    all.is_ready(lost);
    let stopped = NODES.into_iter().find(|node| *node != lost).unwrap();
    all.nodes[stopped].signal("TERM");
    assert_eq!(all.nodes.get_mut(stopped).unwrap().end().code(), Some(0));
    all.count(&mut carl).await;

    // A Centrifugo dies: its clients come back through the other.
    all.centrifugos.remove("centrifugo-1");
    let mut dora = all.client().await;
    all.count(&mut dora).await;
}

/// The command of a service.
fn command_of(service: &str) -> Vec<String> {
    let command = services()[service]["command"].clone();
    words(&command).into_iter().map(str::to_owned).collect()
}
