//! Several nodes in one command: what a person sees who tries it.
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it waits for other processes, to which no paused clock applies"
)]

#[path = "support/process.rs"]
mod process;

use process::{Ended, Running, eventually, run, stock};
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

const NODES: u16 = 3;

/// The lowest of ports, ten apart, that nobody listens on now, two of each ten.
fn free_ports() -> u16 {
    eventually("enough free ports", || {
        let port = TcpListener::bind("127.0.0.1:0")
            .ok()?
            .local_addr()
            .ok()?
            .port();
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        let mut all =
            (0..NODES).flat_map(|node| [0, 2, 3].map(|more| port.checked_add(node * 10 + more)));
        all.all(|port| port.is_some_and(free)).then_some(port)
    })
}

/// Three nodes, ready for events.
struct Tried {
    program: Running,
    dir: tempfile::TempDir,
    port: u16,
}

impl Tried {
    fn start() -> Self {
        Self::with(|_, _| None)
    }

    /// Started with the shipped example, if nothing else is made of it with the first of the free ports.
    fn with(change: impl FnOnce(&str, u16) -> Option<String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_ports();
        if let Some(file) = change(include_str!("../node.toml"), port) {
            std::fs::write(dir.path().join("node.toml"), file).unwrap();
        }
        let program = Running::start(stock(
            dir.path(),
            [
                "dev-cluster",
                "--dir",
                "kept",
                "--port",
                &port.to_string(),
                "--peer-port",
                &(port + 3).to_string(),
            ],
        ));
        program.says("Ctrl-C ends them all");
        Self { program, dir, port }
    }

    /// The process of a node, as the welcome names it.
    fn process(&self, node: &str) -> String {
        let line = self.program.says(&format!("  {node}  events "));
        line.rsplit(' ').next().unwrap().to_owned()
    }

    /// A count through one of the nodes, once the cluster answers: those of a dead node come back.
    fn count(&self, through: u16) -> Value {
        eventually("a count", || {
            let to = format!("127.0.0.1:{}", self.port + through * 10);
            let args = [
                "fire", "rpc", "--method", "count", "--user", "ann", "--json", "--to", &to,
            ];
            let fired = run(stock(self.dir.path(), args));
            let answer = (fired.code == 0).then(|| fired.json())?;
            Some(answer["reply"]["result"]["data"].clone()).filter(|data| !data.is_null())
        })
    }

    /// Waits until all three vote and nothing is amiss.
    fn healthy(&self) {
        eventually("a healthy cluster", || {
            let health = self.cluster(&["health"]);
            (health.code == 0 && health.out.contains("can lose 1 of 3")).then_some(())
        });
    }

    fn cluster(&self, args: &[&str]) -> Ended {
        let admin = format!("listen.admin=127.0.0.1:{}", self.port + 2);
        let args = [&["cluster"], args, &["--set", &admin]].concat();
        run(stock(self.dir.path(), args))
    }
}

fn kill(signal: &str, process: &str) {
    assert!(
        Command::new("kill")
            .args([signal, process])
            .status()
            .unwrap()
            .success()
    );
}

/// Whether a process runs, or stands still; not so one that nobody has asked how it ended.
fn lives(process: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(process).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn three_nodes_in_one_command_count_as_one_and_outlive_a_death() {
    let mut tried = Tried::start();
    let processes = ["a", "b", "c"].map(|node| tried.process(node));
    let counts: Vec<Value> = (0..NODES).map(|node| tried.count(node)).collect();
    let numbers: Vec<_> = counts
        .iter()
        .map(|data| data["count"].as_u64().unwrap())
        .collect();
    assert_eq!(
        numbers,
        [1, 2, 3],
        "events through different nodes meet in one owner"
    );
    let owners: Vec<_> = counts
        .iter()
        .map(|data| data["node"].as_str().unwrap())
        .collect();
    assert!(owners.iter().all(|owner| *owner == owners[0]), "{owners:?}");

    // The way there, as the welcome says it: by the nodes, since the file is that of a node alone.
    tried
        .program
        .says("explain rpc --method count --user ann --running");
    let admin = format!("listen.admin=127.0.0.1:{}", tried.port + 2);
    let explain = ["explain", "rpc", "--method", "count", "--user", "ann"];
    let here = ["--running", "--config", "kept/node.toml", "--set", &admin];
    let asked = [&explain[..], &here].concat();
    let way = run(stock(tried.dir.path(), asked));
    let owned = format!("owner        {} (", owners[0]);
    assert!(way.out.contains(&owned), "{way:?}");

    // A planned move keeps the count.
    tried.healthy();
    let owner = owners[0].to_owned();
    let drained = tried.cluster(&["drain", &owner, "--wait"]);
    assert_eq!(drained.code, 0, "{drained:?}");
    let moved = tried.count(0);
    assert_eq!(moved["count"], 4, "{moved}");
    assert_ne!(moved["node"], Value::from(owner.as_str()));
    assert_eq!(tried.cluster(&["undrain", &owner]).code, 0);

    // A death does not, and says so by a count of 1; the node comes back by itself.
    let second = moved["node"].as_str().unwrap().to_owned();
    kill("-KILL", &tried.process(&second));
    let other = ["a", "b", "c"]
        .iter()
        .position(|node| *node != second)
        .unwrap();
    let after = tried.count(u16::try_from(other).unwrap());
    assert_eq!(after["count"], 1, "{after}");
    let again = tried
        .program
        .says(&format!("{second} | started again, process "));
    let again = again.rsplit(' ').next().unwrap().to_owned();
    tried.healthy();

    // Ctrl-C ends all of it, and a folder that was named stays.
    tried.program.signal("INT");
    let asked = std::time::Instant::now();
    assert_eq!(tried.program.end().code(), Some(0));
    assert!(asked.elapsed().as_secs() < 10, "{:?}", asked.elapsed());
    for process in processes.iter().chain([&again]) {
        assert!(!lives(process), "process {process} outlived the command");
    }
    assert!(tried.dir.path().join("kept/a/identity").exists());
}

#[test]
fn a_file_made_for_other_hosts_and_for_workers_runs_and_one_that_stands_still_does_not_keep_it_from_ending()
 {
    let mut tried = Tried::with(|example, port| {
        let rpc = format!("[rpc]\nlisten = \"tcp://127.0.0.1:{}\"\n", port + 4);
        let cluster = "\n[cluster]\nadvertise = \"node-a.invalid:7946\"\n\
                       secret = \"a secret of sixteen bytes and more\"\n";
        Some(format!("{}{cluster}", example.replace("[rpc]\n", &rpc)))
    });
    tried.healthy();
    for node in ["a", "b", "c"] {
        assert!(tried.dir.path().join(format!("kept/{node}.sock")).exists());
    }
    let nodes = tried.cluster(&["nodes"]);
    assert!(!nodes.out.contains("invalid"), "{nodes:?}");

    let still = tried.process("b");
    kill("-STOP", &still);
    tried.program.signal("INT");
    let said = tried.program.says("b | has not ended, and is killed");
    assert!(said.contains(&still), "{said}");
    assert_eq!(tried.program.end().code(), Some(0));
    eventually("it is gone", || (!lives(&still)).then_some(()));
}

#[test]
fn a_port_that_is_taken_ends_the_command_with_the_cure() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_ports();
    let _taken = TcpListener::bind(("127.0.0.1", port + 10)).unwrap();
    let ended = run(stock(
        dir.path(),
        [
            "dev-cluster",
            "--port",
            &port.to_string(),
            "--peer-port",
            &(port + 3).to_string(),
        ],
    ));
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("node b: it did not start"), "{ended:?}");
    assert!(ended.err.contains("--port and --peer-port"), "{ended:?}");
}

#[test]
fn a_node_whose_identity_is_damaged_ends_the_command_with_the_cure_instead_of_being_started_on_and_on()
 {
    let mut tried = Tried::start();
    tried.program.signal("INT");
    assert_eq!(tried.program.end().code(), Some(0));
    let home = tried.dir.path().join("kept/b");
    std::fs::write(home.join("identity"), "no identity").unwrap();
    let (port, peers) = (tried.port.to_string(), (tried.port + 3).to_string());
    let ended = run(stock(
        tried.dir.path(),
        [
            "dev-cluster",
            "--dir",
            "kept",
            "--port",
            &port,
            "--peer-port",
            &peers,
        ],
    ));
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("node b: it did not start"), "{ended:?}");
    assert!(ended.err.contains("kept/b"), "{ended:?}");
}
