//! Several nodes as real processes, each on a host of its own, started from the stock binary.
//!
//! Events come in over a unix socket per node, which a namespace does not cut; nodes reach each other
//! over the network of the test.

use super::net::Net;
use super::process::{LIMIT, Running, eventually};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A secret for nodes beyond loopback.
pub(crate) const SECRET: &str = "a secret of sixteen bytes and more";

/// What tells a node from another.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) name: String,
    /// `node.roles`, `node.serves` and whatever else, as lines of `[node]`.
    pub(crate) node: String,
    /// Lines for the end of the file: sections of their own.
    pub(crate) rest: String,
    /// Its routes.
    pub(crate) routes: String,
    /// How its links are kept from strangers, as lines of `[cluster]`.
    pub(crate) guard: String,
    /// The port that others reach it at.
    pub(crate) port: u16,
    /// What others dial, where that is not where it listens.
    pub(crate) advertise: String,
    /// `node.data`, where it is not in the folder of the node.
    pub(crate) data: Option<PathBuf>,
}

impl Spec {
    /// A node that does everything.
    pub(crate) fn plain(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            node: String::new(),
            rest: String::new(),
            routes: ROUTES.to_owned(),
            guard: format!("secret = \"{SECRET}\""),
            port: 7946,
            advertise: String::new(),
            data: None,
        }
    }

    /// A node that runs these groups of events.
    pub(crate) fn serving(name: &str, serves: &[&str]) -> Self {
        Self {
            node: format!("serves = {serves:?}\n"),
            ..Self::plain(name)
        }
    }
}

/// Routes that every node of a test has.
pub(crate) const ROUTES: &str = r#"
[handler.welcome]
kind = "static"
reply = { user = "guest-{client}" }

[[route]]
on = "connect"
handler = "welcome"

[[route]]
on = ["subscribe", "publish"]
match = "chat:{room}"
handler = "allow"

[[route]]
on = "rpc"
match = "count"
key = "room:{user}"
handler = "counter"

[[route]]
on = "rpc"
match = "echo"
handler = "echo"

[[route]]
on = "stream"
match = "feed:{name}"
handler = "allow"
"#;

/// A plan that saves less than this is not worth its moves.
const EVEN: u64 = 14;

/// Nodes on hosts.
pub(crate) struct Fleet {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) net: Net,
    specs: Vec<Spec>,
    running: Vec<Option<Running>>,
}

impl Fleet {
    /// These nodes, formed and every slot spread: the first founds the cluster.
    pub(crate) fn of(specs: Vec<Spec>) -> Self {
        let mut fleet = Self::prepare(specs, 0);
        fleet.init(0);
        for node in 0..fleet.specs.len() {
            fleet.start(node);
        }
        let all: Vec<usize> = (0..fleet.specs.len()).collect();
        fleet.settled(&all);
        fleet
    }

    /// So many nodes that do everything.
    pub(crate) fn plain(count: usize) -> Self {
        Self::of(names(count).map(|name| Spec::plain(&name)).collect())
    }

    /// Hosts and files, and `spare` hosts more; nothing is started.
    pub(crate) fn prepare(specs: Vec<Spec>, spare: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let net = Net::new(specs.len() + spare);
        let running = specs.iter().map(|_| None).collect();
        let fleet = Self {
            dir,
            net,
            specs,
            running,
        };
        for node in 0..fleet.specs.len() {
            fleet.write(node);
        }
        fleet
    }

    /// One more node, on a spare host.
    pub(crate) fn add(&mut self, spec: Spec) -> usize {
        self.specs.push(spec);
        self.running.push(None);
        let node = self.specs.len() - 1;
        self.write(node);
        node
    }

    /// The folder of a node.
    pub(crate) fn home(&self, node: usize) -> PathBuf {
        self.dir
            .path()
            .join(format!("{}{node}", self.specs[node].name))
    }

    /// The data directory of a node.
    pub(crate) fn data(&self, node: usize) -> PathBuf {
        let own = || self.home(node).join("data");
        self.specs[node].data.clone().unwrap_or_else(own)
    }

    /// Where a node takes events.
    pub(crate) fn socket(&self, node: usize) -> PathBuf {
        self.home(node).join("events.sock")
    }

    /// The name of a node.
    pub(crate) fn name(&self, node: usize) -> &str {
        &self.specs[node].name
    }

    /// Writes its configuration again.
    pub(crate) fn write(&self, node: usize) {
        let spec = &self.specs[node];
        let home = self.home(node);
        std::fs::create_dir_all(&home).unwrap();
        let seeds: Vec<_> = (0..3)
            .map(|seed| {
                let port = self.specs.get(seed).map_or(7946, |spec| spec.port);
                format!("{}:{port}", self.net.address(seed))
            })
            .collect();
        let mut file = String::new();
        write!(
            file,
            "[node]\nname = \"{}\"\ndata = \"{}\"\n{}\n\
             [listen]\ngrpc = \"unix://{}\"\nadmin = \"127.0.0.1:10003\"\n\
             [log]\nformat = \"json\"\nlevel = \"info\"\n\
             [runtime]\ncores = 1\n\
             [cluster]\nlisten = \"{}:{}\"\nadvertise = \"{}\"\nseeds = {seeds:?}\n{}\n{}\n{}",
            spec.name,
            self.data(node).display(),
            spec.node,
            self.socket(node).display(),
            self.net.address(node),
            spec.port,
            spec.advertise,
            spec.guard,
            spec.routes,
            spec.rest,
        )
        .unwrap();
        std::fs::write(home.join("node.toml"), file).unwrap();
    }

    /// Replaces what a node is configured with; it takes effect at its next start.
    pub(crate) fn respec(&mut self, node: usize, change: impl FnOnce(&mut Spec)) {
        change(&mut self.specs[node]);
        self.write(node);
    }

    fn binary() -> &'static Path {
        Path::new(env!("CARGO_BIN_EXE_centripeta"))
    }

    /// A command line of a node, on its host.
    pub(crate) fn command(&self, node: usize, arguments: &[&str]) -> Command {
        let mut command = self.net.on(node, Self::binary());
        command.args(arguments).current_dir(self.home(node));
        command
    }

    /// Runs a command of a node to its end.
    pub(crate) fn run(&self, node: usize, arguments: &[&str]) -> Output {
        self.command(node, arguments).output().unwrap()
    }

    /// A page of a node's admin listener.
    pub(crate) fn page(&self, node: usize, path: &str) -> String {
        let get = format!(
            "exec 3<>/dev/tcp/127.0.0.1/10003; printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
        );
        let mut bash = self.net.on(node, Path::new("bash"));
        let out = bash.args(["-c", &get]).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    }

    /// The JSON that a command of a node prints, if it does well.
    pub(crate) fn json(&self, node: usize, arguments: &[&str]) -> Option<serde_json::Value> {
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        let out = self.run(node, &arguments);
        let text = out.status.success().then_some(out.stdout)?;
        serde_json::from_slice(&text).ok()
    }

    /// Founds the cluster.
    pub(crate) fn init(&self, node: usize) {
        let out = self.run(node, &["cluster", "init"]);
        assert!(out.status.success(), "{out:?}");
    }

    /// Starts a node.
    pub(crate) fn start(&mut self, node: usize) {
        self.start_as(node, self.command(node, &["serve"]));
    }

    /// Starts a node by this command.
    pub(crate) fn start_as(&mut self, node: usize, command: Command) {
        self.running[node] = Some(Running::start(command));
    }

    /// Starts a node that is refused: its exit code, 124 if it has not ended by itself, and all that
    /// it says.
    pub(crate) fn refused(&self, node: usize) -> (Option<i32>, String) {
        let mut command = self.net.on(node, "timeout".as_ref());
        command.arg("30").arg(Self::binary()).arg("serve");
        let out = command.current_dir(self.home(node)).output().unwrap();
        let said = [out.stdout, out.stderr].concat();
        (out.status.code(), String::from_utf8(said).unwrap())
    }

    /// A running node.
    pub(crate) fn process(&mut self, node: usize) -> &mut Running {
        self.running[node].as_mut().unwrap()
    }

    /// Sends a signal to a node.
    pub(crate) fn signal(&self, node: usize, name: &str) {
        self.running[node].as_ref().unwrap().signal(name);
    }

    /// Ends a node at once, as a crash does.
    pub(crate) fn kill(&mut self, node: usize) {
        self.signal(node, "KILL");
        self.process(node).end();
        self.running[node] = None;
    }

    /// Asks a node to end, and waits until it has drained. Gives its exit code.
    pub(crate) fn stop(&mut self, node: usize) -> Option<i32> {
        self.signal(node, "TERM");
        let code = self.process(node).end().code();
        self.running[node] = None;
        code
    }

    /// Waits until these nodes are up, every slot has an owner among those that may, none moves, and
    /// they have about as many.
    pub(crate) fn settled(&self, nodes: &[usize]) {
        let mut last = None;
        let end = Instant::now() + LIMIT;
        while Instant::now() < end {
            let counts = self.counts(nodes[0]);
            let names: Vec<_> = nodes.iter().map(|node| self.name(*node)).collect();
            if let Some(counts) = &counts {
                let ours = counts.iter().filter(|(name, ..)| names.contains(&&**name));
                let slots: Vec<u64> = ours.clone().map(|(_, slots, _)| *slots).collect();
                let up = ours.clone().all(|(.., state)| state == "up");
                let owning: Vec<u64> = slots.iter().copied().filter(|count| *count > 0).collect();
                let even = owning.iter().max().zip(owning.iter().min());
                let even = even.is_some_and(|(most, least)| most - least <= EVEN);
                if slots.len() == nodes.len()
                    && up
                    && even
                    && owning.len() == self.owners(nodes)
                    && slots.iter().sum::<u64>() == 4096
                    && self.moves(nodes[0]) == Some(0)
                {
                    return;
                }
            }
            last = counts;
            std::thread::sleep(Duration::from_millis(50));
        }
        let said: Vec<_> = self.running.iter().flatten().map(Running::said).collect();
        panic!("not settled: {last:?}\n{said:#?}");
    }

    /// How many of them may own slots.
    fn owners(&self, nodes: &[usize]) -> usize {
        let may = |node: &&usize| {
            let spec = &self.specs[**node].node;
            !spec.contains("serves") || spec.contains("\"channel\"")
        };
        nodes.iter().filter(may).count()
    }

    /// Name, slots and state of every node, as this one sees it.
    pub(crate) fn counts(&self, node: usize) -> Option<Vec<(String, u64, String)>> {
        let nodes = self.json(node, &["cluster", "nodes"])?;
        let nodes = nodes["nodes"].as_array()?.iter().map(|node| {
            Some((
                node["node"]["name"].as_str()?.to_owned(),
                node["slots"].as_u64()?,
                node["state"].as_str()?.to_lowercase(),
            ))
        });
        nodes.collect()
    }

    /// How many moves are open, as this node sees it.
    pub(crate) fn moves(&self, node: usize) -> Option<usize> {
        let moves = self.json(node, &["cluster", "moves"])?;
        Some(moves["open"].as_array()?.len())
    }

    /// The node that leads, as this one sees it.
    pub(crate) fn leader(&self, node: usize) -> usize {
        eventually("a leader", || {
            let status = self.json(node, &["cluster", "status"])?;
            let name = status["leader"]["name"].as_str()?.to_owned();
            self.specs.iter().position(|spec| spec.name == name)
        })
    }
}

/// `a`, `b`, `c` …
pub(crate) fn names(count: usize) -> impl Iterator<Item = String> {
    ('a'..='z').take(count).map(String::from)
}
