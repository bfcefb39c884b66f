//! Two nodes of one cluster as processes on the loopback: `a` owns all slots, `b` sends on.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::load::machine::cpu_time;
use crate::process::{Running, eventually, run, stock};

const NAMES: [&str; 2] = ["a", "b"];

/// The nodes; they end with this.
pub(crate) struct Pair {
    dir: tempfile::TempDir,
    nodes: Vec<Running>,
    grpc: [SocketAddr; 2],
}

/// Ports that nobody listens on, all different.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let held: Vec<_> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()?;
    let port = |listener: &TcpListener| Ok(listener.local_addr()?.port());
    held.iter().map(port).collect()
}

impl Pair {
    /// Founds a cluster of the two and waits until `b` knows that `a` owns every slot.
    ///
    /// # Errors
    /// If the files can't be written or the cluster not be founded.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let ports = free_ports(6)?;
        let address = |at: usize| SocketAddr::from((Ipv4Addr::LOCALHOST, ports[at]));
        let grpc = [address(0), address(1)];
        for (node, name) in NAMES.into_iter().enumerate() {
            let home = dir.path().join(name);
            fs::create_dir(&home)?;
            let serves: &[&str] = match node {
                0 => &["connect", "rpc", "channel"],
                _ => &["connect", "rpc"],
            };
            let mut file = String::new();
            write!(
                file,
                "[node]\nname = \"{name}\"\nserves = {serves:?}\n\
                 [listen]\ngrpc = \"{}\"\nadmin = \"{}\"\n\
                 [log]\nformat = \"json\"\n\
                 [cluster]\nlisten = \"{}\"\nseeds = [\"{}\"]\n\
                 [[route]]\non = \"rpc\"\nmatch = \"bench.echo\"\nkey = \"{{data.room}}\"\nhandler = \"echo\"\n",
                grpc[node],
                address(2 + node),
                address(4 + node),
                address(4),
            )?;
            fs::write(home.join("node.toml"), file)?;
        }
        let founded = run(stock(&dir.path().join("a"), ["cluster", "init"]));
        ensure!(founded.code == 0, "cluster init: {}", founded.err);
        let serve = |name: &str| Running::start(stock(&dir.path().join(name), ["serve"]));
        let nodes = NAMES.map(serve).into();
        let pair = Self { dir, nodes, grpc };
        pair.settle();
        Ok(pair)
    }

    fn settle(&self) {
        let folder = self.dir.path().join("b");
        eventually("both nodes are up and one owns all slots", || {
            let shown = run(stock(&folder, ["cluster", "nodes", "--json"]));
            let shown = (shown.code == 0).then(|| shown.json())?;
            let nodes = shown["nodes"].as_array()?;
            let up = |node: &&serde_json::Value| {
                let state = node["state"].as_str().map(str::to_lowercase);
                state.as_deref() == Some("up")
            };
            let slots: u64 = nodes.iter().filter_map(|it| it["slots"].as_u64()).sum();
            (nodes.iter().filter(up).count() == 2 && slots == 4096).then_some(())
        });
    }

    /// Where a node takes events.
    pub(crate) fn address(&self, node: usize) -> SocketAddr {
        self.grpc[node]
    }

    /// The process id of a node.
    pub(crate) fn id(&self, node: usize) -> u32 {
        self.nodes[node].id()
    }

    /// The processor time of each node so far.
    ///
    /// # Errors
    /// If a node has ended.
    pub(crate) fn cpu(&self) -> anyhow::Result<[Duration; 2]> {
        let used = |node| cpu_time(self.id(node)).context("a node has ended");
        Ok([used(0)?, used(1)?])
    }

    /// The share of a core that one node uses without load.
    ///
    /// # Errors
    /// If a node has ended.
    pub(crate) fn at_rest(&self, time: Duration) -> anyhow::Result<f64> {
        let (before, from) = (self.cpu()?, Instant::now());
        std::thread::sleep(time);
        let after = self.cpu()?;
        let used = (after[0] + after[1]).saturating_sub(before[0] + before[1]);
        Ok(used.as_secs_f64() / from.elapsed().as_secs_f64() / 2.0)
    }

    /// Ends both.
    pub(crate) fn stop(mut self) {
        for node in self.nodes.iter_mut().rev() {
            node.signal("TERM");
            node.end();
        }
    }
}
