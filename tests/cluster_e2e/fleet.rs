//! Three nodes of one cluster as real processes on loopback, and the Centrifugos before them.
//!
//! Each node takes events on a loopback address of its own, all on the same port, so that one name can
//! stand for all of them.

use super::names::Names;
use super::outside::{Program, free_ports};
use super::process::{LIMIT, Running, eventually, probe, run, stock};
use super::world::{self, Programs};
use serde_json::{Value, json};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// The nodes.
pub(crate) const NODES: [&str; 3] = ["a", "b", "c"];
/// What stands in a configuration of Centrifugo for a name of all nodes.
const EVERYWHERE: &str = "grpc://every.node:1";
/// A plan that saves less than this is not worth its moves.
const EVEN: u64 = 14;
const SLOTS: u64 = 4096;

/// What nodes are started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    /// The stock binary, with the routes of its configuration.
    Stock,
    /// A program of a user's own: `program.rs`.
    Own,
}

/// Three nodes.
pub(crate) struct Fleet {
    pub(crate) dir: tempfile::TempDir,
    binary: Binary,
    port: u16,
    admin: [u16; 3],
    /// Whether each may own slots.
    owners: [bool; 3],
    running: [Option<Running>; 3],
    /// How often a lease ran out on nodes that have ended since.
    lapsed: usize,
}

/// A Centrifugo; it ends with this.
pub(crate) struct Centrifugo {
    program: Program,
    _names: Option<Names>,
    pub(crate) url: String,
}

impl Centrifugo {
    /// What it says of calls that failed.
    pub(crate) fn complaints(&self) -> String {
        let said = fs::read_to_string(self.program.log()).unwrap_or_default();
        let complaints = said.lines().filter(|line| line.contains("\"error\""));
        complaints.collect::<Vec<_>>().join("\n")
    }
}

/// Where a Centrifugo sends events.
pub(crate) enum To<'a> {
    /// To this node.
    Node(usize),
    /// To these nodes, by event.
    Split(&'a [(&'a str, usize)]),
    /// To the first node that answers, from this one on.
    From(usize),
}

/// The address on which a node takes events.
fn ip(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 1 + u8::try_from(node).unwrap())
}

/// A port that is free on every address.
fn shared_port() -> u16 {
    eventually("a port that is free on three addresses", || {
        let first = TcpListener::bind((ip(0), 0)).ok()?;
        let port = first.local_addr().ok()?.port();
        let others = (1..NODES.len()).map(|node| TcpListener::bind((ip(node), port)));
        others
            .collect::<Result<Vec<_>, _>>()
            .is_ok()
            .then_some(port)
    })
}

impl Fleet {
    /// Three nodes that serve everything, formed and with every slot spread. `routes` gives what stands
    /// in the configuration of the node of this name.
    pub(crate) fn start(binary: Binary, routes: impl Fn(&str) -> String) -> Self {
        Self::serving(binary, [&[]; 3], routes)
    }

    /// The same, each serving these groups of events; none named is all.
    pub(crate) fn serving(
        binary: Binary,
        serves: [&[&str]; 3],
        routes: impl Fn(&str) -> String,
    ) -> Self {
        let mut fleet = Self {
            dir: tempfile::tempdir().unwrap(),
            binary,
            port: shared_port(),
            admin: free_ports(),
            owners: serves.map(|serves| serves.is_empty() || serves.contains(&"channel")),
            running: [None, None, None],
            lapsed: 0,
        };
        let peers: [u16; 3] = free_ports();
        let seeds = peers.map(|port| format!("127.0.0.1:{port}"));
        for (node, name) in NODES.into_iter().enumerate() {
            let serves = match serves[node] {
                [] => String::new(),
                serves => format!("serves = {serves:?}\n"),
            };
            let file = format!(
                "[node]\nname = \"{name}\"\ndata = \"{name}\"\n{serves}\
                 [listen]\ngrpc = \"{}\"\nadmin = \"127.0.0.1:{}\"\n\
                 [log]\nformat = \"json\"\n[runtime]\ncores = 1\n\
                 [limits]\nshutdown_grace = \"12s\"\n\
                 [cluster]\nlisten = \"{}\"\nseeds = {seeds:?}\n{}",
                fleet.address(node),
                fleet.admin[node],
                seeds[node],
                routes(name),
            );
            fs::write(fleet.config(node), file).unwrap();
        }
        let founded = run(stock_of(&fleet, 0, &["cluster", "init"]));
        assert_eq!(founded.code, 0, "{founded:?}");
        for node in 0..NODES.len() {
            fleet.revive(node);
        }
        fleet.settled(&[0, 1, 2]);
        fleet
    }

    fn config(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("{}.toml", NODES[node]))
    }

    /// Where a node takes events.
    pub(crate) fn address(&self, node: usize) -> SocketAddr {
        SocketAddr::from((ip(node), self.port))
    }

    /// Starts a node, or starts it again.
    pub(crate) fn revive(&mut self, node: usize) {
        let config = self.config(node).display().to_string();
        let arguments = ["serve", "--config", &config];
        let command = match self.binary {
            Binary::Stock => stock(self.dir.path(), arguments),
            Binary::Own => probe(self.dir.path(), arguments),
        };
        self.running[node] = Some(Running::start(command));
    }

    fn process(&mut self, node: usize) -> &mut Running {
        self.running[node].as_mut().unwrap()
    }

    /// The process id of a node.
    pub(crate) fn pid(&self, node: usize) -> u32 {
        self.running[node].as_ref().unwrap().id()
    }

    /// Ends a node at once, as a crash does.
    pub(crate) fn kill(&mut self, node: usize) {
        self.process(node).signal("KILL");
        self.process(node).end();
        self.forget(node);
    }

    /// Asks a node to end, and waits until it has drained.
    pub(crate) fn drain(&mut self, node: usize) {
        let process = self.process(node);
        process.signal("TERM");
        let ended = process.end();
        assert_eq!(ended.code(), Some(0), "{:#?}", process.said());
        self.forget(node);
    }

    fn forget(&mut self, node: usize) {
        let ended = self.running[node].take();
        self.lapsed += ended.as_ref().map_or(0, lapses);
    }

    /// How often the lease of a node ran out: with all of them alive, the machine gave them too little
    /// time.
    pub(crate) fn lapsed(&self) -> usize {
        let running = self.running.iter().flatten().map(lapses);
        self.lapsed + running.sum::<usize>()
    }

    /// The JSON that a question to a node prints, if it does well.
    pub(crate) fn json(&self, node: usize, question: &[&str]) -> Option<Value> {
        let mut arguments = question.to_vec();
        arguments.push("--json");
        let ended = run(stock_of(self, node, &arguments));
        (ended.code == 0).then(|| ended.json())
    }

    /// Waits until these nodes are up, every slot has an owner, none moves, and all have as many.
    pub(crate) fn settled(&self, nodes: &[usize]) {
        let end = Instant::now() + LIMIT;
        let mut last = None;
        while Instant::now() < end {
            last = self.json(nodes[0], &["cluster", "nodes"]);
            if self.is_even(last.as_ref(), nodes) == Some(true) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let said: Vec<_> = self.running.iter().flatten().map(Running::said).collect();
        panic!("not settled: {last:?}\n{said:#?}");
    }

    fn is_even(&self, shown: Option<&Value>, nodes: &[usize]) -> Option<bool> {
        let mut slots = Vec::new();
        for node in nodes {
            let shown = shown?["nodes"].as_array()?;
            let shown = shown.iter().find(|it| it["node"]["name"] == NODES[*node])?;
            if shown["state"].as_str()?.to_lowercase() != "up" {
                return Some(false);
            }
            if self.owners[*node] {
                slots.push(shown["slots"].as_u64()?);
            }
        }
        let moves = self.json(nodes[0], &["cluster", "moves"])?;
        let spread = slots.iter().max()? - slots.iter().min()?;
        let is_whole = slots.iter().sum::<u64>() == SLOTS;
        Some(is_whole && spread <= EVEN && moves["open"].as_array()?.is_empty())
    }

    /// The node that leads, as this one sees it.
    pub(crate) fn leader(&self, node: usize) -> usize {
        eventually("a leader", || {
            let status = self.json(node, &["cluster", "status"])?;
            let name = status["leader"]["name"].as_str()?.to_owned();
            NODES.iter().position(|it| *it == name)
        })
    }

    /// The sum of the series of a metric of a node with this label, if it can be asked.
    pub(crate) fn metric(&self, node: usize, name: &str, label: &str) -> Option<f64> {
        let url = format!("127.0.0.1:{}", self.admin[node]);
        let page = http_get(&url, "/metrics")?;
        let series = page
            .lines()
            .filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
        let values = series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Some(values.sum())
    }

    /// A Centrifugo that sends events there; `change` is made to what `centrifugo-config` prints.
    pub(crate) fn centrifugo(
        &self,
        programs: &Programs,
        name: &str,
        to: &To<'_>,
        change: impl FnOnce(&mut Value),
    ) -> Centrifugo {
        let splits: Vec<String> = match to {
            To::Split(splits) => splits
                .iter()
                .map(|(event, node)| format!("--split={event}={}", self.address(*node)))
                .collect(),
            To::Node(_) | To::From(_) => Vec::new(),
        };
        let own = match to {
            To::Node(node) => format!("grpc://{}", self.address(*node)),
            To::Split(_) => format!("grpc://{}", self.address(0)),
            To::From(_) => EVERYWHERE.to_owned(),
        };
        let mut arguments = vec!["centrifugo-config", "--to", &own];
        arguments.extend(splits.iter().map(String::as_str));
        let config = self.config(0).display().to_string();
        arguments.extend(["--config", &config]);
        let printed = run(match self.binary {
            Binary::Stock => stock(self.dir.path(), arguments),
            Binary::Own => probe(self.dir.path(), arguments),
        });
        let start = printed
            .out
            .find('{')
            .unwrap_or_else(|| panic!("{printed:?}"));
        let names = match to {
            To::From(first) => {
                let turned = (0..NODES.len()).map(|node| ip((first + node) % NODES.len()));
                Some(Names::of(turned.collect()))
            }
            To::Node(_) | To::Split(_) => None,
        };
        let mut text = printed.out[start..].to_owned();
        if let Some(names) = &names {
            text = text.replace(EVERYWHERE, &names.target(self.port));
        }
        let mut stream = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        let mut config = stream.next().unwrap().unwrap();
        let [port] = free_ports();
        config["http_server"] = json!({ "address": "127.0.0.1", "port": port });
        config["health"] = json!({ "enabled": true });
        config["grpc_api"] = json!({ "enabled": false });
        // Without it none starts that has polls.
        config["shared_poll"]["hmac_secret_key"] = json!("not-a-secret");
        change(&mut config);
        let binary = &programs.centrifugo;
        let (program, _) = world::start_centrifugo(binary, name, &config, self.dir.path());
        Centrifugo {
            program,
            _names: names,
            url: format!("ws://127.0.0.1:{port}/connection/websocket"),
        }
    }
}

fn lapses(node: &Running) -> usize {
    let said = node.said();
    let is_lapse = |line: &&String| line.contains("the lease is over");
    said.iter().filter(is_lapse).count()
}

/// A command of the stock binary about a node. A program of one's own has the same, but takes longer to
/// be asked.
fn stock_of(fleet: &Fleet, node: usize, arguments: &[&str]) -> Command {
    let mut command = stock(fleet.dir.path(), arguments);
    command.arg("--config").arg(fleet.config(node));
    command
}

fn http_get(address: &str, path: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    Some(page)
}
