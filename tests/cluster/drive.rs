//! Load on a fleet, and the check of what came of it.
//!
//! Callers count: each calls `count` under its key, one call after the other, through whichever node is
//! named for it, and writes down what it was told. From that alone follows whether two nodes acted for a
//! key at one time, whether an event was answered or executed twice, and how long anyone had to wait.

#[path = "report.rs"]
mod report;

#[allow(unused_imports, reason = "a bench tells kinds apart")]
pub(crate) use report::{Kind, Report, Wrong};

use super::process::LIMIT;
use super::support::{Client, path, request};
use centripeta::event::EventKind;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// How long a call may take: what no node has begun by then it does not begin.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// What `counter` answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Count {
    pub(crate) count: u64,
    pub(crate) node: String,
    pub(crate) epoch: u64,
}

/// Why a call brought no count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failed {
    /// The call ended with this gRPC status.
    Status(i32, String),
    /// It ended with an error for the client.
    Refused(String),
    /// The connection ended before the answer.
    Lost(String),
    /// No node took the connection, or the call: nothing was done.
    NotSent,
    /// OK without an answer: never.
    Empty,
}

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) key: usize,
    pub(crate) caller: usize,
    /// The node that it went to.
    pub(crate) through: usize,
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    pub(crate) result: Result<Count, Failed>,
}

/// A connection to a node, made again when it is lost.
#[derive(Clone)]
pub(crate) struct Door {
    socket: PathBuf,
    client: Arc<tokio::sync::Mutex<Option<Client>>>,
}

impl Door {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            client: Arc::default(),
        }
    }

    /// The connection, or `None` if nobody takes it.
    pub(crate) async fn client(&self) -> Option<Client> {
        let mut held = self.client.lock().await;
        if held.is_none() {
            let stream = UnixStream::connect(&self.socket).await.ok()?;
            *held = Some(Client::try_new(stream).await.ok()?);
        }
        held.clone()
    }

    /// The node is restarted: what comes next goes over another connection.
    pub(crate) async fn lost(&self) {
        *self.client.lock().await = None;
    }

    /// Counts once under this user.
    pub(crate) async fn count(&self, user: &str) -> Result<Count, Failed> {
        let Some(client) = self.client().await else {
            return Err(Failed::NotSent);
        };
        let json = format!(
            r#"{{"client":"c-{user}","transport":"websocket","protocol":"json","encoding":"json","user":"{user}","method":"count"}}"#
        );
        let message = request(EventKind::Rpc, &json);
        let path = path(EventKind::Rpc);
        let timeout = format!("{}S", PATIENCE.as_secs());
        let headers = [("grpc-timeout", &*timeout)];
        let reply = client.call(&path, &headers, &message).await;
        match reply.status {
            Some(0) if reply.messages.len() == 1 => counted(&reply.messages[0]),
            Some(0) => Err(Failed::Empty),
            Some(status) => Err(Failed::Status(status, reply.text)),
            None => {
                self.lost().await;
                // A node that is about to end says which calls it takes no more: callers send them again.
                let not_taken = [h2::Reason::REFUSED_STREAM, h2::Reason::NO_ERROR];
                if reply.reset.is_some_and(|why| not_taken.contains(&why)) {
                    return Err(Failed::NotSent);
                }
                Err(Failed::Lost(format!("{:?} {}", reply.reset, reply.text)))
            }
        }
    }
}

fn counted(message: &[u8]) -> Result<Count, Failed> {
    let json = centripeta::json::response_to_json(EventKind::Rpc, message).unwrap();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    if let Some(error) = value.get("error") {
        return Err(Failed::Refused(error.to_string()));
    }
    let data = value.get("result").and_then(|result| result.get("data"));
    data.and_then(|data| serde_json::from_value(data.clone()).ok())
        .ok_or(Failed::Empty)
}

/// Tells the users of drivers apart, whose fleets may be the same: counts begin at 1 for each.
static DRIVERS: AtomicUsize = AtomicUsize::new(0);

/// Callers at work.
pub(crate) struct Driver {
    number: usize,
    stop: Arc<AtomicBool>,
    /// Nodes that calls go through.
    through: Arc<Mutex<Vec<usize>>>,
    calls: Arc<Mutex<Vec<Call>>>,
    tasks: Vec<JoinHandle<()>>,
    began: Instant,
}

/// How much load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) keys: usize,
    pub(crate) callers_per_key: usize,
    /// How long a caller rests between two calls.
    pub(crate) rest: Duration,
}

impl Default for Load {
    /// What lets two scenarios run side by side on two cores, nodes without optimization.
    fn default() -> Self {
        Self {
            keys: 32,
            callers_per_key: 1,
            rest: Duration::from_millis(40),
        }
    }
}

impl Driver {
    /// Begins to call, through these nodes in turn.
    pub(crate) fn start(doors: &[Door], through: &[usize], load: Load) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let through = Arc::new(Mutex::new(through.to_vec()));
        let calls = Arc::new(Mutex::new(Vec::new()));
        let turn = Arc::new(AtomicUsize::new(0));
        let number = DRIVERS.fetch_add(1, Ordering::Relaxed);
        let mut tasks = Vec::new();
        for caller in 0..load.keys * load.callers_per_key {
            let (stop, through, calls) = (stop.clone(), through.clone(), calls.clone());
            let (doors, turn) = (doors.to_vec(), turn.clone());
            tasks.push(tokio::spawn(async move {
                let key = caller % load.keys;
                let user = user(number, key);
                while !stop.load(Ordering::Relaxed) {
                    let through = {
                        let nodes = through.lock().unwrap();
                        nodes[turn.fetch_add(1, Ordering::Relaxed) % nodes.len()]
                    };
                    let began = Instant::now();
                    let result = doors[through].count(&user).await;
                    calls.lock().unwrap().push(Call {
                        key,
                        caller,
                        through,
                        began,
                        took: began.elapsed(),
                        result,
                    });
                    tokio::time::sleep(load.rest).await;
                }
            }));
        }
        Self {
            number,
            stop,
            through,
            calls,
            tasks,
            began: Instant::now(),
        }
    }

    /// The user that the callers of a key are.
    pub(crate) fn user(&self, key: usize) -> String {
        user(self.number, key)
    }

    /// From now on calls go through these nodes.
    pub(crate) fn through(&self, nodes: &[usize]) {
        *self.through.lock().unwrap() = nodes.to_vec();
    }

    /// Waits until every caller was answered once more from now on.
    pub(crate) async fn round(&self) {
        self.answered("not every caller is", self.tasks.len()).await;
    }

    /// The same for half of the callers: others may wait for a node that stands still.
    pub(crate) async fn half_a_round(&self) {
        let half = self.tasks.len() / 2;
        self.answered("not half of the callers are", half).await;
    }

    async fn answered(&self, never: &str, count: usize) {
        let from = Instant::now();
        let all = || {
            let calls = self.calls.lock().unwrap();
            let late = calls.iter().rev();
            let late = late.take_while(|call| call.began + call.took >= from);
            let fresh = late.filter(|call| call.began >= from && call.result.is_ok());
            let callers: BTreeSet<_> = fresh.map(|call| call.caller).collect();
            callers.len() >= count
        };
        while !all() {
            assert!(from.elapsed() < LIMIT, "{never} answered");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends all callers; gives what they wrote down, in the order of the answers.
    pub(crate) async fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let calls = std::mem::take(&mut *self.calls.lock().unwrap());
        Report {
            calls,
            took: self.began.elapsed(),
        }
    }
}

fn user(driver: usize, key: usize) -> String {
    format!("user-{driver}-{key}")
}

/// A door to each node.
pub(crate) fn doors(fleet: &super::fleet::Fleet, count: usize) -> Vec<Door> {
    (0..count)
        .map(|node| Door::new(fleet.socket(node)))
        .collect()
}
