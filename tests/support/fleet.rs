//! Several nodes of one cluster as real processes: their files and their lives. Where they run, on hosts
//! of their own or on loopback, is up to a [`Place`].
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "each test target uses the part of it that it needs"
)]

#[path = "fleet/spec.rs"]
mod spec;
#[path = "fleet/watch.rs"]
mod watch;

pub(crate) use spec::{Spec, WELCOME, names};
pub(crate) use watch::lapses;

use super::process::Running;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Nodes that others find a cluster through: the first ones.
const SEEDS: usize = 3;

/// Where nodes run.
pub(crate) trait Place {
    /// A command that runs where this node does.
    fn on(&self, node: usize, program: &Path) -> Command;

    /// `listen.grpc` of a node with this folder.
    fn grpc(&self, node: usize, home: &Path) -> String;

    /// `listen.admin` of a node.
    fn admin(&self, node: usize) -> String;

    /// Where the other nodes reach this one, by the port of its configuration.
    fn peers(&self, node: usize, port: u16) -> String;

    /// What runs a node that has its configuration in the current folder.
    fn serve(&self, node: usize, _home: &Path) -> Command {
        let mut command = self.on(node, stock());
        command.arg("serve");
        command
    }
}

fn stock() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_centripeta"))
}

/// A node: what it is configured with, and its process.
struct Node {
    spec: Spec,
    running: Option<Running>,
}

/// Nodes in their place.
pub(crate) struct Fleet<P: Place> {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) net: P,
    nodes: Vec<Node>,
    /// How often a lease ran out on nodes that have ended since.
    lapsed: usize,
}

impl<P: Place> Fleet<P> {
    /// Files of these nodes; nothing is started.
    pub(crate) fn files(dir: tempfile::TempDir, net: P, specs: Vec<Spec>) -> Self {
        let node = |spec| Node {
            spec,
            running: None,
        };
        let fleet = Self {
            dir,
            net,
            nodes: specs.into_iter().map(node).collect(),
            lapsed: 0,
        };
        (0..fleet.nodes.len()).for_each(|node| fleet.write(node));
        fleet
    }

    /// The first founds the cluster, all are started at once; waits until every slot is spread.
    pub(crate) fn form(&mut self) {
        self.init(0);
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        all.iter().for_each(|node| self.start(*node));
        self.settled(&all);
    }

    /// One more node, in a place that is there for it.
    pub(crate) fn add(&mut self, spec: Spec) -> usize {
        self.nodes.push(Node {
            spec,
            running: None,
        });
        let node = self.nodes.len() - 1;
        self.write(node);
        node
    }

    /// Ends the nodes that were added to the first `count`, and forgets their files.
    pub(crate) fn shrink(&mut self, count: usize) {
        while self.nodes.len() > count {
            let home = self.home(self.nodes.len() - 1);
            self.nodes.pop();
            // It may never have been written to.
            drop(std::fs::remove_dir_all(home));
        }
    }

    /// The folder of a node.
    pub(crate) fn home(&self, node: usize) -> PathBuf {
        let name = format!("{}{node}", self.name(node));
        self.dir.path().join(name)
    }

    /// The configuration of a node.
    pub(crate) fn config(&self, node: usize) -> PathBuf {
        self.home(node).join("node.toml")
    }

    /// The data directory of a node.
    pub(crate) fn data(&self, node: usize) -> PathBuf {
        let own = || self.home(node).join("data");
        self.nodes[node].spec.data.clone().unwrap_or_else(own)
    }

    /// The name of a node.
    pub(crate) fn name(&self, node: usize) -> &str {
        &self.nodes[node].spec.name
    }

    /// Writes the configuration of a node again.
    pub(crate) fn write(&self, node: usize) {
        let home = self.home(node);
        std::fs::create_dir_all(&home).unwrap();
        let seeds = (0..SEEDS).map(|seed| {
            let spec = self.nodes.get(seed).map(|node| &node.spec);
            self.net.peers(seed, spec.map_or(spec::PORT, |it| it.port))
        });
        let spec = &self.nodes[node].spec;
        let file = spec.file(
            &self.data(node),
            &self.net.grpc(node, &home),
            &self.net.admin(node),
            &self.net.peers(node, spec.port),
            &seeds.collect::<Vec<_>>(),
        );
        std::fs::write(self.config(node), file).unwrap();
    }

    /// Replaces what a node is configured with; it takes effect at its next start.
    pub(crate) fn respec(&mut self, node: usize, change: impl FnOnce(&mut Spec)) {
        change(&mut self.nodes[node].spec);
        self.write(node);
    }

    /// A command line of a node, where it runs.
    pub(crate) fn command(&self, node: usize, arguments: &[&str]) -> Command {
        let mut command = self.net.on(node, stock());
        command.args(arguments).current_dir(self.home(node));
        command
    }

    /// Runs a command of a node to its end.
    pub(crate) fn run(&self, node: usize, arguments: &[&str]) -> Output {
        self.command(node, arguments).output().unwrap()
    }

    /// The JSON that a command of a node prints, if it does well.
    pub(crate) fn json(&self, node: usize, arguments: &[&str]) -> Option<serde_json::Value> {
        let out = self.run(node, &[arguments, &["--json"]].concat());
        let text = out.status.success().then_some(out.stdout)?;
        serde_json::from_slice(&text).ok()
    }

    /// Founds the cluster.
    pub(crate) fn init(&self, node: usize) {
        let out = self.run(node, &["cluster", "init"]);
        assert!(out.status.success(), "{out:?}");
    }

    /// Starts a node, or starts it again.
    pub(crate) fn start(&mut self, node: usize) {
        let home = self.home(node);
        let mut command = self.net.serve(node, &home);
        command.current_dir(home);
        self.start_as(node, command);
    }

    /// Starts a node by this command.
    pub(crate) fn start_as(&mut self, node: usize, command: Command) {
        self.nodes[node].running = Some(Running::start(command));
    }

    /// Starts a node that is refused: its exit code, 124 if it has not ended by itself, and all that
    /// it says.
    pub(crate) fn refused(&self, node: usize) -> (Option<i32>, String) {
        let mut command = self.net.on(node, "timeout".as_ref());
        command.arg("30").arg(stock()).arg("serve");
        let out = command.current_dir(self.home(node)).output().unwrap();
        let said = [out.stdout, out.stderr].concat();
        (out.status.code(), String::from_utf8(said).unwrap())
    }

    /// A running node.
    pub(crate) fn process(&mut self, node: usize) -> &mut Running {
        self.nodes[node].running.as_mut().unwrap()
    }

    /// The process id of a node.
    pub(crate) fn pid(&self, node: usize) -> u32 {
        self.nodes[node].running.as_ref().unwrap().id()
    }

    /// Whether a node was started and has not ended since.
    pub(crate) fn is_running(&mut self, node: usize) -> bool {
        let running = self.nodes[node].running.as_mut();
        running.is_some_and(|running| running.ended().is_none())
    }

    /// Sends a signal to a node.
    pub(crate) fn signal(&self, node: usize, name: &str) {
        self.nodes[node].running.as_ref().unwrap().signal(name);
    }

    /// Ends a node at once, as a crash does.
    pub(crate) fn kill(&mut self, node: usize) {
        self.signal(node, "KILL");
        self.process(node).end();
        self.forget(node);
    }

    /// Asks a node to end, and waits until it has drained. Gives its exit code.
    pub(crate) fn stop(&mut self, node: usize) -> Option<i32> {
        self.stop_saying(node).0
    }

    /// The same, with all that it has said.
    pub(crate) fn stop_saying(&mut self, node: usize) -> (Option<i32>, Vec<String>) {
        self.signal(node, "TERM");
        let code = self.process(node).end().code();
        let said = self.process(node).said();
        self.forget(node);
        (code, said)
    }

    fn forget(&mut self, node: usize) {
        let ended = self.nodes[node].running.take();
        self.lapsed += ended.as_ref().map_or(0, lapses);
    }
}
