//! A node with workers, in a folder of its own.

use crate::process::{self, Running, run, stock};
use crate::support::{Client, client::Reply, path, request};
use bytes::Bytes;
use centripeta::event::EventKind;
use std::fmt::Write;
use std::io::{Read, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;

const START: &str = "[listen]\ngrpc = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
                     [runtime]\ncores = 2\n[log]\nformat = \"json\"\n";

/// The events that workers answer.
pub(crate) const KINDS: [EventKind; 11] = [
    EventKind::Connect,
    EventKind::Refresh,
    EventKind::Subscribe,
    EventKind::SubRefresh,
    EventKind::Publish,
    EventKind::Rpc,
    EventKind::MapPublish,
    EventKind::MapRemove,
    EventKind::SharedPollRefresh,
    EventKind::CacheEmpty,
    EventKind::ChannelState,
];

/// The command of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    Python,
    Php,
}

impl Script {
    /// Those that this machine runs; says so loudly of the other.
    pub(crate) fn all() -> Vec<Self> {
        let has_php = Command::new("php").arg("-v").output().is_ok();
        if !has_php {
            eprintln!("SKIPPED: no php on PATH: nothing is shown of workers in PHP");
        }
        match has_php {
            true => vec![Self::Python, Self::Php],
            false => vec![Self::Python],
        }
    }

    fn command(self) -> String {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/workers");
        match self {
            Self::Python => format!("[\"python3\", \"-u\", \"{dir}/standin.py\"]"),
            Self::Php => format!("[\"php\", \"{dir}/raw.php\"]"),
        }
    }
}

/// The section of a handler `app`, with more of its keys and those of its pool.
pub(crate) fn handler(script: Script, keys: &str, pool: &str) -> String {
    let command = script.command();
    format!(
        "[handler.app]\nkind = \"roadrunner\"\ncommand = {command}\n{keys}\n[handler.app.pool]\n{pool}\n"
    )
}

/// Routes of every event that workers answer.
pub(crate) fn routes() -> String {
    let mut text = String::new();
    for kind in KINDS {
        let name = kind.name();
        write!(text, "[[route]]\non = \"{name}\"\nhandler = \"app\"\n").unwrap();
    }
    text
}

/// A running node.
pub(crate) struct Node {
    pub(crate) process: Running,
    pub(crate) dir: TempDir,
    grpc: String,
    pub(crate) admin: String,
    told: usize,
}

impl Node {
    /// A node with this configuration, whose workers are up.
    pub(crate) async fn start(rest: &str) -> Self {
        let node = Self::start_unready(rest, &[]);
        node.until_ready().await;
        node
    }

    /// The same without waiting for the workers, with variables of its own.
    pub(crate) fn start_unready(rest: &str, env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), rest);
        let mut command = stock(dir.path(), ["serve"]);
        command.envs(env.iter().copied());
        let process = Running::start(command);
        let grpc = process.logs("listening", "grpc");
        let admin = process.logs("listening", "admin");
        Self {
            process,
            dir,
            grpc,
            admin,
            told: 0,
        }
    }

    pub(crate) async fn until_ready(&self) {
        process::eventually("the node is ready", || {
            (self.get("/ready").0 == 200).then_some(())
        });
    }

    pub(crate) async fn client(&self) -> Client {
        let socket = TcpStream::connect(&self.grpc).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Client::new(socket).await
    }

    /// Sends SIGHUP with another configuration and gives the line about the reload.
    pub(crate) fn reload(&mut self, rest: &str) -> serde_json::Value {
        write(self.dir.path(), rest);
        self.process.signal("HUP");
        let told = self.told;
        let line = process::eventually("a line about the reload", || {
            let said = self.process.said();
            let mut lines = said.into_iter().filter(|line| line.contains("\"reload"));
            lines.nth(told)
        });
        self.told += 1;
        serde_json::from_str(&line).unwrap()
    }

    /// Status and body of a page of the admin listener.
    pub(crate) fn get(&self, page: &str) -> (u16, String) {
        let mut socket = std::net::TcpStream::connect(&self.admin).unwrap();
        let limit = Some(Duration::from_secs(10));
        socket.set_read_timeout(limit).unwrap();
        let ask = format!("GET {page} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        socket.write_all(ask.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        (status, body)
    }

    /// The value of a series of `/metrics`.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let (_, page) = self.get("/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(series));
        line.unwrap_or_else(|| panic!("no {series} in {page}"))
            .trim()
            .parse()
            .unwrap()
    }

    /// Waits until the series has this value.
    pub(crate) fn until_metric(&self, series: &str, value: u64) {
        process::eventually(&format!("{series} is {value}"), || {
            (self.metric(series) == value).then_some(())
        });
    }

    /// The processes that it has started.
    pub(crate) fn workers(&self) -> Vec<u32> {
        children_of(self.process.id())
    }
}

fn write(dir: &Path, rest: &str) {
    let rpc = match rest.contains("[rpc]") {
        true => "",
        false => "[rpc]\nlisten = \"tcp://127.0.0.1:0\"\n",
    };
    std::fs::write(dir.join("node.toml"), format!("{START}{rpc}{rest}")).unwrap();
}

/// What `check-config` says of a configuration, and its exit code.
pub(crate) fn check(rest: &str) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), rest);
    let ended = run(stock(dir.path(), ["check-config"]));
    (ended.code, format!("{}{}", ended.out, ended.err))
}

/// Processes whose parent this is, zombies left out.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut children: Vec<u32> = pids.filter(|pid| parent_of(*pid) == Some(parent)).collect();
    children.sort_unstable();
    children
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = stat.rsplit_once(") ")?.1.to_owned();
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z").then_some(parent)
}

/// Whether a process lives; zombies do not.
pub(crate) fn is_alive(pid: u32) -> bool {
    parent_of(pid).is_some()
}

/// A request of a kind that carries a directive for the worker.
pub(crate) fn request_of(kind: EventKind, directive: &str) -> Bytes {
    let client = format!(
        r#""client":"do:{directive}","transport":"websocket","protocol":"json","encoding":"json""#
    );
    let json = match kind {
        EventKind::Connect | EventKind::Refresh => format!("{{{client}}}"),
        EventKind::Rpc => format!(r#"{{{client},"user":"u1","method":"m"}}"#),
        EventKind::SharedPollRefresh | EventKind::CacheEmpty => {
            format!(r#"{{"channel":"do:{directive}"}}"#)
        }
        EventKind::ChannelState => {
            format!(r#"{{"events":[{{"channel":"do:{directive}","type":"occupied"}}]}}"#)
        }
        _ => format!(r#"{{{client},"user":"u1","channel":"news"}}"#),
    };
    request(kind, &json)
}

/// Sends a request with a directive.
pub(crate) async fn ask(client: &Client, kind: EventKind, directive: &str) -> Reply {
    let message = request_of(kind, directive);
    // Machines that are busy are slow to start a worker.
    let headers = [("grpc-timeout", "30S")];
    client.call(&path(kind), &headers, &message).await
}

/// The data of an rpc that was answered with it.
pub(crate) async fn ask_data(client: &Client, directive: &str) -> Bytes {
    let reply = ask(client, EventKind::Rpc, directive).await;
    data_of(reply.message())
}

/// The first field of the first field: the data of an rpc's result.
pub(crate) fn data_of(message: &Bytes) -> Bytes {
    inner(&inner(message))
}

fn inner(message: &Bytes) -> Bytes {
    let mut rest = message.clone();
    let (tag, _) = prost::encoding::decode_key(&mut rest).unwrap();
    assert_eq!(tag, 1);
    let size = prost::encoding::decode_varint(&mut rest).unwrap();
    rest.slice(..usize::try_from(size).unwrap())
}

/// Bytes as a directive takes them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
