//! Load on a fleet, and the check of what came of it.
//!
//! Callers count: each calls `count` under its key, one call after the other, through whichever node is
//! named for it, and writes down what it was told. From that alone follows whether two nodes acted for a
//! key at one time, whether an answer came twice or out of order, and how long anyone had to wait.

use super::process::LIMIT;
use super::support::{Client, path, request};
use centripeta::event::EventKind;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

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
    /// No node took the connection: nothing was sent.
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
        let reply = client
            .call(&path, &[("grpc-timeout", "3S")], &message)
            .await;
        match reply.status {
            Some(0) if reply.messages.len() == 1 => counted(&reply.messages[0]),
            Some(0) => Err(Failed::Empty),
            Some(status) => Err(Failed::Status(status, reply.text)),
            None => {
                self.lost().await;
                if reply.reset == Some(h2::Reason::REFUSED_STREAM) {
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

    /// Waits until every key was answered once more from now on.
    pub(crate) async fn round(&self) {
        let from = Instant::now();
        while !self.all_answered_since(from) {
            assert!(from.elapsed() < LIMIT, "not every key is answered");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn all_answered_since(&self, from: Instant) -> bool {
        let calls = self.calls.lock().unwrap();
        let fresh = calls
            .iter()
            .rev()
            .take_while(|call| call.began + call.took >= from)
            .filter(|call| call.began >= from && call.result.is_ok());
        let callers: BTreeSet<_> = fresh.map(|call| call.caller).collect();
        callers.len() == self.tasks.len()
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

/// What callers wrote down.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) calls: Vec<Call>,
    pub(crate) took: Duration,
}

impl Report {
    /// Calls without a count; those that were never sent do not count, since a caller goes on elsewhere.
    pub(crate) fn failed(&self) -> Vec<&Call> {
        let failed = |call: &&Call| !matches!(call.result, Ok(_) | Err(Failed::NotSent));
        self.calls.iter().filter(failed).collect()
    }

    /// Nothing that must never be: two owners at one time, an older owner after a newer one, an answer
    /// that was given twice, an empty OK; and, unless `restarts` says that owners died, a count that
    /// begins anew or has a gap that no failed call explains.
    pub(crate) fn check(&self, restarts: bool) {
        let mut owners: BTreeMap<(usize, u64), &str> = BTreeMap::new();
        let mut keys: BTreeMap<usize, Vec<&Call>> = BTreeMap::new();
        for call in &self.calls {
            assert_ne!(call.result, Err(Failed::Empty), "{call:?}");
            if let Ok(count) = &call.result {
                let owner = owners.entry((call.key, count.epoch)).or_insert(&count.node);
                assert_eq!(*owner, count.node, "two owners under one epoch: {call:?}");
            }
            keys.entry(call.key).or_default().push(call);
        }
        for (key, calls) in keys {
            let answered = || {
                calls
                    .iter()
                    .filter_map(|call| Some((call, call.result.as_ref().ok()?)))
            };
            let mut seen = BTreeSet::new();
            // Counts under one epoch and after the moves that carried them on.
            let mut run = 0;
            let mut last_epoch = 0;
            let mut in_order: Vec<_> = answered().collect();
            in_order.sort_by_key(|(_, count)| (count.epoch, count.count));
            let mut last = 0;
            for (call, count) in &in_order {
                if count.epoch > last_epoch && count.count <= last {
                    assert!(restarts, "key {key} begins anew: {call:?}");
                    run += 1;
                }
                (last_epoch, last) = (count.epoch, count.count);
                assert!(seen.insert((run, count.count)), "answered twice: {call:?}");
            }
            if !restarts {
                let unanswered = calls.iter().filter(|call| call.result.is_err()).count() as u64;
                let counted = in_order.len() as u64;
                assert!(
                    last <= counted + unanswered,
                    "key {key} counts {last} after {counted} answers and {unanswered} failures"
                );
                assert!(
                    last >= counted,
                    "key {key} lost counts: {last} after {counted}"
                );
            }
            // What began after another answer had come shows no older owner and no smaller count.
            let mut timeline: Vec<_> = answered().collect();
            timeline.sort_by_key(|(call, _)| call.began);
            let mut done: Vec<_> = answered()
                .map(|(call, count)| (call.began + call.took, count.epoch, count.count))
                .collect();
            done.sort_unstable();
            let (mut at, mut newest) = (0, (0, 0));
            for (call, count) in timeline {
                while at < done.len() && done[at].0 <= call.began {
                    newest = newest.max((done[at].1, done[at].2));
                    at += 1;
                }
                assert!(
                    count.epoch > newest.0 || (count.epoch, count.count) > newest,
                    "an older owner or count after {newest:?}: {call:?}"
                );
            }
        }
    }

    /// Says in a line what came of a scenario, which may have ended owners.
    pub(crate) fn is_sound(&self, what: &str) {
        eprintln!("{what}: {}", self.line());
        self.check(true);
    }

    /// Says in a line what came of a scenario that may cost no event and no count.
    pub(crate) fn is_intact(&self, what: &str) {
        eprintln!("{what}: {}", self.line());
        self.check(false);
        let failed = self.failed();
        let some = &failed[..failed.len().min(5)];
        assert!(failed.is_empty(), "{} failed: {some:#?}", failed.len());
    }

    /// The longest time that a key went without an answer while its caller wanted one.
    pub(crate) fn longest_gap(&self) -> Duration {
        let mut last: BTreeMap<usize, Instant> = BTreeMap::new();
        let mut longest = Duration::ZERO;
        for call in &self.calls {
            let end = call.began + call.took;
            if call.result.is_ok()
                && let Some(before) = last.insert(call.caller, end)
            {
                longest = longest.max(end.saturating_duration_since(before));
            }
        }
        longest
    }

    /// The time below which this share of the answers came.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let mut took: Vec<_> = self
            .calls
            .iter()
            .filter(|call| call.result.is_ok())
            .map(|call| call.took)
            .collect();
        took.sort_unstable();
        let index = (took.len() as f64 * share) as usize;
        took.get(index.min(took.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    /// One line for a log.
    pub(crate) fn line(&self) -> String {
        let answered = self.calls.iter().filter(|call| call.result.is_ok()).count();
        format!(
            "{answered} answered, {} failed in {:?}; p50 {:?}, p99 {:?}, longest gap {:?}",
            self.failed().len(),
            self.took,
            self.quantile(0.5),
            self.quantile(0.99),
            self.longest_gap(),
        )
    }
}

/// A door to each node.
pub(crate) fn doors(fleet: &super::fleet::Fleet, count: usize) -> Vec<Door> {
    (0..count)
        .map(|node| Door::new(fleet.socket(node)))
        .collect()
}
