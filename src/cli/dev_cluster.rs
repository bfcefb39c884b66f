//! `dev-cluster`: several nodes on loopback in one command, to see how they act as one.
//!
//! Each node is a process of its own, started through this program like a worker: it ends when this one
//! does. One that is killed is started again after a while, so that a takeover can be watched.

use super::error::{CliError, Exit};
use super::health::ask;
use super::output::shell_word;
use super::{Session, block_on, output};
use crate::worker::process::REEXEC;
use clap::Args;
use http::StatusCode;
use rustix::process::{Pid, Signal};
use std::fs;
use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// A node that ended is started again after so long: others have taken its slots by then.
const AGAIN: Duration = Duration::from_secs(10);
/// How long a drain may take: all end together, so nobody is left to take what they have.
const GRACE: &str = "limits.shutdown_grace=2s";
/// What nodes run where there is no configuration.
const EXAMPLE: &str = include_str!("../../node.toml");
/// How long lies between two questions whether a node takes events.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// The ports of a node are this far from those of the one before.
const STEP: u16 = 10;

#[derive(Debug, Args)]
#[command(after_help = "\
Node a takes events on 127.0.0.1:10001, admin 10003, peers 7946; each further node ten ports higher.
Routes and handlers are those of the configuration, or of the shipped example. End with Ctrl-C.

Example:
  centripeta dev-cluster --nodes 3")]
pub(super) struct DevClusterArgs {
    /// How many nodes, 1 to 9
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// Where the nodes keep what they are [default: a new folder, removed at the end]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// The first port of node a: events there, admin two above
    #[arg(long, value_name = "PORT", default_value_t = 10001)]
    port: u16,
    /// The port of node a for peers
    #[arg(long, value_name = "PORT", default_value_t = 7946)]
    peer_port: u16,
}

/// The nodes to be.
struct Plan {
    binary: PathBuf,
    home: PathBuf,
    config: PathBuf,
    sets: Vec<String>,
    nodes: Vec<Node>,
}

struct Node {
    name: String,
    port: u16,
    peer_port: u16,
}

/// A folder that goes when it is not kept.
struct Home {
    path: PathBuf,
    keep: bool,
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.keep {
            // What can't be removed is in the way of nobody.
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

pub(super) fn run(session: &Session, args: &DevClusterArgs) -> Result<(), CliError> {
    let loaded = session.load()?;
    let home = home(args.dir.as_deref()).map_err(CliError::internal)?;
    let config = match &loaded.file {
        Some(file) => fs::canonicalize(file).map_err(CliError::internal)?,
        None => {
            let path = home.path.join("node.toml");
            fs::write(&path, EXAMPLE).map_err(CliError::internal)?;
            path
        }
    };
    let node = |index: u16| Node {
        name: char::from(b'a' + index as u8).to_string(),
        port: args.port.saturating_add(index * STEP),
        peer_port: args.peer_port.saturating_add(index * STEP),
    };
    let mut sets = session.common.sets.clone();
    if io::stderr().is_terminal() {
        // Its lines are passed on to a terminal, which a node can't see.
        sets.insert(0, "log.format=pretty".to_owned());
    }
    if let Some(level) = &session.common.log {
        sets.push(format!("log.level={level}"));
    }
    let plan = Plan {
        binary: std::env::current_exe().map_err(CliError::internal)?,
        home: home.path.clone(),
        config,
        sets,
        nodes: (0..args.nodes).map(node).collect(),
    };
    block_on(live(&plan, &session.program))
}

fn home(dir: Option<&Path>) -> io::Result<Home> {
    let (path, keep) = match dir {
        Some(dir) => (dir.to_owned(), true),
        None => {
            let name = format!("centripeta-dev-{}", std::process::id());
            (std::env::temp_dir().join(name), false)
        }
    };
    fs::create_dir_all(&path)?;
    let path = fs::canonicalize(path)?;
    Ok(Home { path, keep })
}

impl Plan {
    /// A command line of a node.
    fn command(&self, index: usize, words: &[&str]) -> Vec<String> {
        let node = &self.nodes[index];
        let seeds: Vec<String> = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.peer_port))
            .collect();
        let home = self.home.join(&node.name);
        let sets = [
            GRACE.to_owned(),
            format!("node.name={}", node.name),
            format!("node.data={}", home.display()),
            format!("listen.grpc=127.0.0.1:{}", node.port),
            format!("listen.admin=127.0.0.1:{}", node.admin()),
            format!("cluster.listen=127.0.0.1:{}", node.peer_port),
            format!("cluster.seeds={seeds:?}"),
        ];
        let mut line = vec![self.binary.display().to_string()];
        line.extend(words.iter().map(|word| (*word).to_owned()));
        line.extend(["--config".to_owned(), self.config.display().to_string()]);
        for set in self.sets.iter().chain(&sets) {
            line.extend(["--set".to_owned(), set.clone()]);
        }
        line
    }

    /// Starts a node; it ends with this process.
    fn start(&self, index: usize) -> io::Result<Child> {
        let mut command = Command::new(&self.binary);
        command.arg(REEXEC).arg(std::process::id().to_string());
        command.args(self.command(index, &["serve"]));
        // Ctrl-C is for this process, which then asks them to end.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let name = &self.nodes[index].name;
        pass_on(name, child.stdout.take());
        pass_on(name, child.stderr.take());
        Ok(child)
    }
}

/// What a node says stands behind its name.
fn pass_on(name: &str, from: Option<impl AsyncRead + Send + Unpin + 'static>) {
    let name = name.to_owned();
    let Some(from) = from else { return };
    tokio::spawn(async move {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            eprintln!("{name} | {line}");
        }
    });
}

async fn live(plan: &Plan, program: &str) -> Result<(), CliError> {
    let mut term = signal(SignalKind::terminate()).map_err(CliError::internal)?;
    let mut int = signal(SignalKind::interrupt()).map_err(CliError::internal)?;
    found(plan).await?;
    let mut ids = vec![None; plan.nodes.len()];
    let mut ends: JoinSet<(usize, Option<ExitStatus>)> = JoinSet::new();
    for index in 0..plan.nodes.len() {
        start(plan, index, &mut ids, &mut ends)?;
    }
    let ready = ready(plan);
    tokio::pin!(ready);
    let mut welcomed = false;
    let ended = loop {
        tokio::select! {
            () = &mut ready, if !welcomed => {
                welcomed = true;
                output::say(&welcome(plan, &ids, program));
            }
            _ = term.recv() => break Ok(()),
            _ = int.recv() => break Ok(()),
            Some(Ok((index, status))) = ends.join_next() => match status {
                // The pause before it is started again is over.
                None => {
                    start(plan, index, &mut ids, &mut ends)?;
                    let name = &plan.nodes[index].name;
                    eprintln!("{name} | started again, {}", process(ids[index]));
                }
                Some(status) => {
                    ids[index] = None;
                    if let Err(error) = again(plan, index, status, &mut ends) {
                        break Err(error);
                    }
                }
            },
        }
    };
    for id in ids.iter().flatten() {
        // One that is gone already has ended as it should.
        let _ = rustix::process::kill_process(*id, Signal::TERM);
    }
    while ids.iter().any(Option::is_some) {
        let Some(Ok((index, status))) = ends.join_next().await else {
            break;
        };
        if status.is_some() {
            ids[index] = None;
        }
    }
    ended
}

/// Founds the cluster, unless its folder says that it was.
async fn found(plan: &Plan) -> Result<(), CliError> {
    let line = plan.command(0, &["cluster", "init"]);
    let mut command = Command::new(&plan.binary);
    let done = command.args(&line[1..]).stdin(Stdio::null()).output().await;
    let done = done.map_err(CliError::internal)?;
    if done.status.success() {
        return Ok(());
    }
    eprint!("{}", String::from_utf8_lossy(&done.stderr));
    Err(CliError::Said(Exit::Failed))
}

fn start(
    plan: &Plan,
    index: usize,
    ids: &mut [Option<Pid>],
    ends: &mut JoinSet<(usize, Option<ExitStatus>)>,
) -> Result<(), CliError> {
    let mut child = plan.start(index).map_err(CliError::internal)?;
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    ids[index] = id.and_then(Pid::from_raw);
    ends.spawn(async move {
        let status = child.wait().await;
        (index, Some(status.unwrap_or_default()))
    });
    Ok(())
}

/// A node has ended: one that was killed comes back; one that refused to start has said why.
fn again(
    plan: &Plan,
    index: usize,
    status: ExitStatus,
    ends: &mut JoinSet<(usize, Option<ExitStatus>)>,
) -> Result<(), CliError> {
    let name = &plan.nodes[index].name;
    if matches!(status.code(), Some(2..=4)) {
        return Err(CliError::new(
            Exit::Failed,
            format!("node {name}"),
            format!("it did not start ({status})"),
            "what it said stands above; other ports: --port and --peer-port",
        ));
    }
    eprintln!(
        "{name} | ended: {status}; the others take its slots, and it is started again in {} s",
        AGAIN.as_secs()
    );
    ends.spawn(async move {
        tokio::time::sleep(AGAIN).await;
        (index, None)
    });
    Ok(())
}

/// Waits until every node takes events.
async fn ready(plan: &Plan) {
    for node in &plan.nodes {
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, node.admin()));
        while !matches!(ask(admin, "/ready", None).await, Ok((StatusCode::OK, _))) {
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
}

impl Node {
    fn admin(&self) -> u16 {
        self.port.saturating_add(2)
    }
}

/// The words for a node's process.
fn process(id: Option<Pid>) -> String {
    id.map_or_else(
        || "ended".to_owned(),
        |id| format!("process {}", id.as_raw_nonzero()),
    )
}

/// What there is and what to try, once all nodes take events.
fn welcome(plan: &Plan, ids: &[Option<Pid>], program: &str) -> String {
    let mut text = String::from("\nThese nodes are one cluster, and take events:\n");
    for (node, id) in plan.nodes.iter().zip(ids) {
        text += &format!(
            "  {}  events 127.0.0.1:{}  admin 127.0.0.1:{}  {}\n",
            node.name,
            node.port,
            node.admin(),
            process(*id),
        );
    }
    let (Some(first), Some(last)) = (plan.nodes.first(), plan.nodes.last()) else {
        return text;
    };
    let asked = format!(
        "--config {} --set listen.admin=127.0.0.1:{}",
        shell_word(&plan.config.display().to_string()),
        first.admin(),
    );
    text + &format!(
        "\nEvents of one key meet in one owner, whichever node takes them:\n  \
         {program} fire rpc --method count --user ann --to 127.0.0.1:{}\n  \
         {program} fire rpc --method count --user ann --to 127.0.0.1:{}\n\
         Who owns what, and what the cluster lives through:\n  \
         {program} cluster status {asked}\n  \
         {program} cluster events -f {asked}\n\
         Then end the owner (kill -9 and its process) and count again: the count starts at 1 after a crash, \
         and is kept through planned moves:\n  \
         {program} cluster drain {} {asked}\n\
         A node that was killed comes back after {} s. Ctrl-C ends them all.\n",
        first.port,
        last.port,
        last.name,
        AGAIN.as_secs(),
    )
}
