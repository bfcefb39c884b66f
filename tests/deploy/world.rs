//! The services of the composition as processes on loopback: each container is an address of it here.
//!
//! Leases and elections are longer than by default: the machine of a test may be a busy one, and how soon
//! others take over is measured elsewhere.

use crate::client::Client;
use crate::outside::{Program, free_ports};
use crate::process::{Ended, LIMIT, Running, eventually, run, stock};
use crate::{CENTRIFUGOS, NODES, dns, environment, file, get, root, services, words};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

/// How many clients have connected to a Centrifugo.
const CONNECTS: &str =
    "centrifugo_client_command_duration_seconds_count{channel_namespace=\"\",method=\"connect\"}";

/// Where the container of a service would be.
fn address(service: &str) -> Ipv4Addr {
    match service {
        "centripeta-a" | "centripeta-init" => Ipv4Addr::new(127, 0, 1, 1),
        "centripeta-b" => Ipv4Addr::new(127, 0, 1, 2),
        "centripeta-c" => Ipv4Addr::new(127, 0, 1, 3),
        // One that the composition does not have.
        "centripeta-e" => Ipv4Addr::new(127, 0, 1, 5),
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

/// One composition at a time.
static TURN: Mutex<()> = Mutex::const_new(());

/// The services that run.
pub(super) struct Composition {
    dir: TempDir,
    ports: Ports,
    _nginx: Option<Program>,
    pub(super) centrifugos: BTreeMap<&'static str, Running>,
    pub(super) nodes: BTreeMap<&'static str, Running>,
    redis: Option<Running>,
    _turn: MutexGuard<'static, ()>,
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
    /// Nothing runs; what is asked of DNS is answered.
    pub(super) async fn begin() -> Self {
        let turn = TURN.lock().await;
        let nodes = NODES.map(|node| address(&format!("centripeta-{node}")));
        let names = BTreeMap::from([
            ("centripeta", nodes.to_vec()),
            ("centrifugo", CENTRIFUGOS.map(address).to_vec()),
        ]);
        let dns = dns::serve(names).await;
        let [redis, nginx, grpc, admin, peers, client, inside, api] = free_ports();
        Self {
            dir: tempfile::tempdir().unwrap(),
            ports: Ports {
                redis,
                nginx,
                grpc,
                admin,
                peers,
                client,
                inside,
                api,
                dns,
            },
            _nginx: None,
            centrifugos: BTreeMap::new(),
            nodes: BTreeMap::new(),
            redis: None,
            _turn: turn,
        }
    }

    pub(super) fn start_redis(&mut self, program: PathBuf) {
        let port = self.ports.redis;
        let mut command = Command::new(program);
        command
            .args(&command_of("redis")[1..])
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .current_dir(self.dir.path());
        self.redis = Some(Running::start(command));
        eventually("redis listens", || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
    }

    /// Founded, all nodes ready.
    pub(super) fn start_nodes(&mut self) {
        // Compose runs the founding service at each `up`.
        for said in ["founded cluster", "nothing to do"] {
            let founded = self.found("a");
            assert_eq!(founded.code, 0, "{founded:?}");
            assert!(founded.out.contains(said), "{founded:?}");
        }
        for node in NODES {
            self.start_node(node);
        }
        for node in NODES {
            self.is_ready(node);
        }
        // Any of them can be lost from here on.
        self.vote(&NODES);
    }

    /// Waits until these vote, and nobody else.
    pub(super) fn vote(&self, names: &[&str]) {
        eventually(&format!("{names:?} vote: {}", self.say()), || {
            let voters = self.operate(&["cluster", "voters", "--json"]);
            let voters = (voters.code == 0).then(|| voters.json()["voters"].clone())?;
            let voters = voters.as_array()?.iter();
            let voters: BTreeSet<_> = voters.filter_map(|voter| voter["name"].as_str()).collect();
            (voters == names.iter().copied().collect()).then_some(())
        });
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
            "runtime.cores=1".to_owned(),
            "cluster.lease.length=4s".to_owned(),
            "cluster.raft.heartbeat=200ms".to_owned(),
            "cluster.raft.election=600ms".to_owned(),
        ];
        let mut command = stock(self.dir.path(), words);
        command
            .arg("--config")
            .arg(root().join("deploy/compose/node.toml"))
            .args(sets.iter().flat_map(|set| ["--set", set]));
        let like = if service == "centripeta-e" {
            "centripeta-c"
        } else {
            service
        };
        for (name, set) in environment(like) {
            // `centripeta-a:7946` is a name of Docker's.
            let set = match set.rsplit_once(':') {
                Some((host, _)) if host.starts_with("centripeta-") => {
                    format!("{at}:{}", ports.peers)
                }
                _ => set,
            };
            command.env(name, set);
        }
        command
    }

    /// Runs the founding service to its end.
    pub(super) fn found(&self, disk: &str) -> Ended {
        run(self.node("centripeta-init", &command_of("centripeta-init"), disk))
    }

    pub(super) fn start_node(&mut self, node: &'static str) {
        self.start_node_on(node, node, &[]);
    }

    /// Starts a node on this disk, with more in its environment.
    pub(super) fn start_node_on(&mut self, node: &'static str, disk: &str, more: &[(&str, &str)]) {
        let service = format!("centripeta-{node}");
        let mut command = self.node(&service, &["serve".to_owned()], disk);
        command.envs(more.iter().copied());
        self.nodes.insert(node, Running::start(command));
    }

    /// What an operator does, at node a.
    pub(super) fn operate(&self, words: &[&str]) -> Ended {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        run(self.node("centripeta-a", &words, "a"))
    }

    /// A node and its disk are lost.
    pub(super) fn lose(&mut self, node: &str) {
        let mut lost = self.nodes.remove(node).unwrap();
        lost.signal("KILL");
        lost.end();
    }

    /// Waits until a node takes events.
    pub(super) fn is_ready(&self, node: &str) {
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

    pub(super) fn start_centrifugo(&mut self, program: &Path, name: &'static str) {
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
    pub(super) fn inside(&self, name: &str, path: &str) -> String {
        get(
            &format!("{}:{}", address(name), self.ports.inside),
            path,
            None,
        )
    }

    pub(super) fn start_nginx(&mut self, program: PathBuf) {
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
    pub(super) fn front(&self) -> String {
        format!("127.0.0.1:{}", self.ports.nginx)
    }

    /// A client that is connected through nginx, however often that needs a try.
    pub(super) async fn client(&self) -> Client {
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

    /// A client of each Centrifugo: nginx gives them to either.
    pub(super) async fn clients_of_each(&self) -> [Client; 2] {
        let connects = || CENTRIFUGOS.map(|name| self.connects(name));
        let mut clients = [None, None];
        while clients.iter().any(Option::is_none) {
            let before = connects();
            let client = self.client().await;
            let at = eventually("it is counted", || {
                let now = connects();
                (0..CENTRIFUGOS.len()).find(|&at| now[at] > before[at])
            });
            clients[at] = Some(client);
        }
        clients.map(Option::unwrap)
    }

    /// How many clients have connected to a Centrifugo, as Prometheus hears it.
    fn connects(&self, name: &str) -> u64 {
        let page = self.inside(name, "/metrics");
        let count = page.lines().find_map(|line| line.strip_prefix(CONNECTS));
        count.map_or(0, |count| count.trim().parse().unwrap())
    }

    /// The count of a room and who counts.
    pub(super) async fn count(&self, client: &mut Client) -> (u64, String) {
        let counted = self.call(client, count_of_lobby(), "rpc").await;
        counted_of(&counted)
    }

    /// The same in one try; else what came instead.
    pub(super) async fn count_once(&self, client: &mut Client) -> Result<(u64, String), Value> {
        let reply = client.call(count_of_lobby()).await.unwrap();
        if reply["rpc"].is_object() {
            Ok(counted_of(&reply["rpc"]))
        } else {
            Err(reply)
        }
    }

    /// What comes of a command, which is sent until it is answered by more than an error.
    pub(super) async fn call(&self, client: &mut Client, command: Value, part: &str) -> Value {
        let tries = async {
            loop {
                let mut reply = client.call(command.clone()).await.unwrap();
                if reply[part].is_object() {
                    return reply[part].take();
                }
            }
        };
        let called = tokio::time::timeout(LIMIT, tries).await;
        called.unwrap_or_else(|_| panic!("{command} is not answered: {}", self.say()))
    }

    /// Everything that the nodes and Centrifugos said.
    pub(super) fn say(&self) -> String {
        let all = self.nodes.iter().chain(&self.centrifugos);
        all.map(|(name, it)| format!("{name}: {:#?}\n", it.said()))
            .collect()
    }
}

/// A call that counts.
fn count_of_lobby() -> Value {
    json!({ "rpc": { "method": "count", "data": { "room": "lobby" } } })
}

/// The count and the node that it names.
fn counted_of(rpc: &Value) -> (u64, String) {
    let counted = &rpc["data"];
    let node = counted["node"].as_str().unwrap().to_owned();
    (counted["count"].as_u64().unwrap(), node)
}

/// The command of a service.
fn command_of(service: &str) -> Vec<String> {
    let command = services()[service]["command"].clone();
    words(&command).into_iter().map(str::to_owned).collect()
}
