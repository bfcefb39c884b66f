//! `dev-cluster`: several nodes on loopback in one command, to see how they act as one.
//!
//! Each node is a process of its own, started through this program like a worker: it ends when this one
//! does. One that is killed is started again after a while, so that a takeover can be watched; one that
//! ends with an error right after its start would do so again, and ends the command.

use super::error::{CliError, Exit};
use super::health::ask;
use super::output::shell_word;
use super::{Session, block_on, output};
use crate::config::{self, Config, HandlerConfig, RouteConfig};
use crate::event::EventKind;
use crate::routing::pattern::Pattern;
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
use tokio::time::Instant;

/// A node that ended is started again after so long: others have taken its slots by then.
const AGAIN: Duration = Duration::from_secs(10);
/// How long a drain may take: all end together, so nobody is left to take what they have.
const GRACE: &str = "limits.shutdown_grace=2s";
/// After so long a node that was asked to end is killed: its grace, and the time for its last words.
const PATIENCE: Duration = Duration::from_secs(7);
/// What nodes run where there is no configuration.
const EXAMPLE: &str = include_str!("../../node.toml");
/// How long lies between two questions whether a node takes events.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// The ports of a node are this far from those of the one before.
const STEP: u16 = 10;

#[derive(Debug, Args)]
#[command(after_help = "\
Node a takes events on 127.0.0.1:10001, admin 10003, peers 7946; each further node ten ports higher.
Routes, handlers, pools, node.roles and node.serves are those of the configuration, or of the shipped
example; calls of workers (rpc.listen) go to a socket per node in their folder. End with Ctrl-C; a
second one waits for nobody.

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
    /// Whether nodes listen for calls of workers.
    has_rpc: bool,
    /// An rpc that is answered with the count of its user's, if the configuration has one.
    counted: Option<String>,
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
    let mut loaded = session.load()?;
    let home = home(args.dir.as_deref()).map_err(CliError::internal)?;
    let config = match &loaded.file {
        Some(file) => fs::canonicalize(file).map_err(CliError::internal)?,
        None => {
            let path = home.path.join("node.toml");
            fs::write(&path, EXAMPLE).map_err(CliError::internal)?;
            // What nodes run is the example, with all that was said beside.
            let mut options = session.options();
            options.file = Some(path.clone());
            loaded = config::load(&options)?;
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
        has_rpc: listens_for_workers(&loaded.config),
        counted: counted(&loaded.config),
    };
    block_on(live(&plan, &session.program))
}

/// Whether a node of this configuration listens for calls of workers.
fn listens_for_workers(config: &Config) -> bool {
    config.rpc.listens(config.has_workers()).is_some()
}

/// The method of a route that counts calls by user, and takes no others.
fn counted(config: &Config) -> Option<String> {
    let counts = |route: &&RouteConfig| {
        let handler = config.handlers.get(&route.handler);
        matches!(handler, Some(HandlerConfig::Counter))
            && route.on.contains(&EventKind::Rpc)
            && route.key.as_deref() == Some("user")
    };
    let methods = config.routes.iter().filter(counts);
    let exact = |route: &RouteConfig| {
        let pattern = route.pattern.as_deref()?;
        let pattern = Pattern::parse(pattern, &config.channel.namespace_boundary).ok()?;
        pattern.exact().map(str::to_owned)
    };
    methods.filter_map(exact).next()
}

/// The folder that was named, or a new one: what another run has left behind is none of ours.
fn home(dir: Option<&Path>) -> io::Result<Home> {
    if let Some(dir) = dir {
        fs::create_dir_all(dir)?;
        let path = fs::canonicalize(dir)?;
        return Ok(Home { path, keep: true });
    }
    let temp = std::env::temp_dir();
    loop {
        let name = format!("centripeta-dev-{:016x}", fastrand::u64(..));
        match fs::create_dir(temp.join(&name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => {
                done?;
                let path = fs::canonicalize(temp.join(name))?;
                return Ok(Home { path, keep: false });
            }
        }
    }
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
        let mut sets = vec![
            GRACE.to_owned(),
            format!("node.name={}", node.name),
            format!("node.data={}", home.display()),
            format!("listen.grpc=127.0.0.1:{}", node.port),
            format!("listen.admin=127.0.0.1:{}", node.admin()),
            format!("cluster.listen=127.0.0.1:{}", node.peer_port),
            format!("cluster.seeds={seeds:?}"),
            // That of the file leads to one node, or to none from here.
            format!("cluster.advertise=127.0.0.1:{}", node.peer_port),
        ];
        if self.has_rpc {
            // One address for all would be taken by the first.
            let socket = self.home.join(format!("{}.sock", node.name));
            sets.push(format!("rpc.listen=unix://{}", socket.display()));
        }
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
    let mut ends: JoinSet<(usize, Option<Ended>)> = JoinSet::new();
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
            Some(Ok((index, ended))) = ends.join_next() => match ended {
                // The pause before it is started again is over.
                None => {
                    start(plan, index, &mut ids, &mut ends)?;
                    let name = &plan.nodes[index].name;
                    eprintln!("{name} | started again, {}", process(ids[index]));
                }
                Some(ended) => {
                    ids[index] = None;
                    if let Err(error) = again(plan, index, &ended, &mut ends) {
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
    let all_gone = async {
        while ids.iter().any(Option::is_some) {
            let Some(Ok((index, of_process))) = ends.join_next().await else {
                break;
            };
            if of_process.is_some() {
                ids[index] = None;
            }
        }
    };
    let in_time = tokio::select! {
        in_time = tokio::time::timeout(PATIENCE, all_gone) => in_time.is_ok(),
        _ = term.recv() => false,
        _ = int.recv() => false,
    };
    if !in_time {
        // One that stands still never hears that it is to end.
        for (node, id) in plan.nodes.iter().zip(&ids).filter(|(_, id)| id.is_some()) {
            eprintln!(
                "{} | has not ended, and is killed: {}",
                node.name,
                process(*id)
            );
        }
        ends.shutdown().await;
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
    ends: &mut JoinSet<(usize, Option<Ended>)>,
) -> Result<(), CliError> {
    let begun = Instant::now();
    let mut child = plan.start(index).map_err(CliError::internal)?;
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    ids[index] = id.and_then(Pid::from_raw);
    ends.spawn(async move {
        let status = child.wait().await.unwrap_or_default();
        let lived = begun.elapsed();
        (index, Some(Ended { status, lived }))
    });
    Ok(())
}

/// How a node's process has ended, and how long it had run.
struct Ended {
    status: ExitStatus,
    lived: Duration,
}

impl Ended {
    /// What to do about a node that would end like this again and again; `None` if it would not.
    fn refused(&self, plan: &Plan, index: usize) -> Option<String> {
        let above = "what it said stands above";
        match self.status.code()? {
            3 => Some(format!("{above}; correct {}", plan.config.display())),
            2 | 4 => Some(format!(
                "{above}; if it is a port that is taken, name others by --port and --peer-port"
            )),
            0 => None,
            // It had begun to serve: something has happened to it.
            _ if self.lived >= AGAIN => None,
            _ => Some(format!(
                "{above}; its data is in {}: move that away, or name another folder by --dir",
                plan.home.join(&plan.nodes[index].name).display()
            )),
        }
    }
}

/// A node has ended: one that was killed comes back; one that refused to start has said why.
fn again(
    plan: &Plan,
    index: usize,
    ended: &Ended,
    ends: &mut JoinSet<(usize, Option<Ended>)>,
) -> Result<(), CliError> {
    let name = &plan.nodes[index].name;
    let status = ended.status;
    if let Some(cure) = ended.refused(plan, index) {
        return Err(CliError::new(
            Exit::Failed,
            format!("node {name}"),
            format!("it did not start ({status})"),
            cure,
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
    text += "\nEvents of one key meet in one owner, whichever node takes them:\n";
    match &plan.counted {
        Some(method) => {
            let method = shell_word(method);
            for node in [first, last] {
                text += &format!(
                    "  {program} fire rpc --method {method} --user ann --to 127.0.0.1:{}\n",
                    node.port
                );
            }
        }
        None => {
            text += &format!(
                "  fire the events of your routes at each, such as\n  {program} fire connect --to 127.0.0.1:{}\n",
                last.port
            );
        }
    }
    if let Some(method) = &plan.counted {
        let method = shell_word(method);
        text += &format!(
            "The way there, and the owner:\n  \
             {program} explain rpc --method {method} --user ann --running {asked}\n"
        );
    }
    text += &format!(
        "Who owns what, and what the cluster lives through:\n  \
         {program} cluster status {asked}\n  \
         {program} cluster events -f {asked}\n\
         A planned move keeps what handlers hold in memory, such as counts; then let the node take slots \
         again:\n  \
         {program} cluster drain {} --wait {asked}\n  \
         {program} cluster undrain {} {asked}\n\
         End an owner (kill -9 and its process): others take over within seconds, and its counts start \
         at 1 again. State that outlives a crash is a later step.\n\
         A node that was killed comes back after {} s. Ctrl-C ends them all.\n",
        last.name,
        last.name,
        AGAIN.as_secs(),
    );
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::{LoadOptions, load};
    use std::os::unix::process::ExitStatusExt;

    fn config(text: &str) -> Config {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("node.toml"), text).unwrap();
        let mut options = LoadOptions::new([]);
        options.dir = dir.path().to_owned();
        load(&options).unwrap().config
    }

    fn plan(config: &Config) -> Plan {
        let node = |(name, port): (&str, u16)| Node {
            name: name.to_owned(),
            port,
            peer_port: 7946,
        };
        Plan {
            binary: PathBuf::from("centripeta"),
            home: PathBuf::from("home"),
            config: PathBuf::from("node.toml"),
            sets: Vec::new(),
            has_rpc: false,
            nodes: [("a", 10_001), ("b", 10_011)].map(node).into(),
            counted: counted(config),
        }
    }

    #[test]
    fn the_welcome_offers_only_a_count_that_the_configuration_has_and_the_way_back_of_a_drain() {
        let of = |text: &str| welcome(&plan(&config(text)), &[None, None], "centripeta");
        let with = of(EXAMPLE);
        assert!(
            with.contains("fire rpc --method count --user ann --to 127.0.0.1:10011"),
            "{with}"
        );
        let other =
            "[[route]]\non = \"rpc\"\nmatch = \"tally\"\nkey = \"user\"\nhandler = \"counter\"\n";
        assert!(of(other).contains("--method tally --user ann"));
        for without in [
            "[[route]]\non = \"refresh\"\nhandler = \"allow\"\n",
            // Not one count for a user.
            "[[route]]\non = \"rpc\"\nmatch = \"count\"\nkey = \"none\"\nhandler = \"echo\"\n",
        ] {
            let text = of(without);
            assert!(
                !text.contains("--method") && text.contains("fire connect"),
                "{text}"
            );
        }
        for words in [
            "cluster drain b --wait",
            "cluster undrain b",
            "is a later step",
        ] {
            assert!(with.contains(words), "{words}: {with}");
        }
    }

    #[test]
    fn a_node_that_ends_by_itself_at_its_start_is_not_started_again_and_one_that_lived_is() {
        let plan = plan(&config(""));
        let ended = |code: i32, lived| Ended {
            status: ExitStatus::from_raw(code << 8),
            lived,
        };
        let (soon, late) = (Duration::from_secs(1), AGAIN);
        for (code, words) in [
            (1, "its data is in home/b"),
            (70, "its data is in home/b"),
            (3, "correct node.toml"),
            (4, "--port and --peer-port"),
        ] {
            let cure = ended(code, soon).refused(&plan, 1).unwrap();
            assert!(cure.contains(words), "{code}: {cure}");
        }
        assert_eq!(ended(70, late).refused(&plan, 1), None);
        assert_eq!(ended(0, soon).refused(&plan, 1), None);
        let killed = Ended {
            status: ExitStatus::from_raw(9),
            lived: soon,
        };
        assert_eq!(killed.refused(&plan, 1), None);
    }

    #[test]
    fn a_folder_that_nobody_named_is_a_new_one_and_goes_at_the_end() {
        let (one, other) = (home(None).unwrap(), home(None).unwrap());
        assert_ne!(one.path, other.path);
        let path = one.path.clone();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        drop(one);
        assert!(!path.exists() && other.path.exists());
    }
}
