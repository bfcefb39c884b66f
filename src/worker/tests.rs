//! Pools against the stand-in worker (`tests/workers/standin.py`); numbers are those of the worker
//! checklist.
#![allow(clippy::unwrap_used)]

mod both;
mod debug;
mod exec;
mod growth;
mod lifecycle;
mod order;
mod relays;
mod renewal;
mod reset;

use super::actor::WorkerMessage;
use super::pool::{PoolSpec, WorkerPool, WorkerReport};
use super::process::CommandSpec;
use super::queue::ExecError;
use crate::config::RelayAddress;
use crate::goridge::Frame;
use bytes::BytesMut;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::subscriber::DefaultGuard;

/// A condition that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn standin() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/workers/standin.py")
}

pub(super) fn spec(workers: usize) -> PoolSpec {
    let env = [("RR_RELAY", "pipes"), ("RR_MODE", "centrifuge")];
    let env = env.map(|(key, value)| (key.to_owned(), value.to_owned()));
    PoolSpec {
        name: "php".into(),
        command: CommandSpec {
            command: vec![
                "python3".to_owned(),
                "-u".to_owned(),
                standin().display().to_string(),
            ],
            env: BTreeMap::from(env),
            dir: None,
            owner: None,
            has_socket: false,
        },
        relay: RelayAddress::Pipes,
        num_workers: workers,
        max_jobs: 0,
        max_queue_size: 0,
        allocate_timeout: Duration::from_secs(60),
        destroy_timeout: Duration::from_secs(10),
        reset_timeout: Duration::from_secs(60),
        stream_timeout: Duration::from_secs(2),
        exec_ttl: Duration::from_secs(30),
        ttl: Duration::ZERO,
        idle_ttl: Duration::ZERO,
        max_worker_memory: 0,
        watch_tick: Duration::from_millis(20),
        growth: None,
        debug: false,
        fence: true,
        max_frame: 64 << 20,
    }
}

fn with_env(mut spec: PoolSpec, key: &str, value: &str) -> PoolSpec {
    spec.command.env.insert(key.to_owned(), value.to_owned());
    spec
}

/// A pool whose workers are all up.
async fn pool(spec: PoolSpec) -> WorkerPool {
    let wanted = spec.num_workers;
    let pool = WorkerPool::start(spec).await.unwrap();
    until("all workers are up", || async {
        pool.workers().await.len() == wanted
    })
    .await;
    pool
}

async fn ask(pool: &WorkerPool, what: &str) -> Result<String, ExecError> {
    let answer = pool.exec(b"{}", format!("do:{what}").as_bytes()).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

pub(super) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "not in time: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn is_alive(pid: u32) -> bool {
    // A zombie is dead too.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .trim()
            .starts_with('Z')
    })
}

pub(super) async fn until_dead(pid: u32) {
    until("the process is gone", || async { !is_alive(pid) }).await;
}

/// The processes of ours that run in a folder: each leads a group. A `python3` that is a script may have
/// others for a moment.
fn there(dir: &Path) -> BTreeSet<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let here = entries.filter(|it| {
        let cwd = std::fs::read_link(it.path().join("cwd"));
        cwd.is_ok_and(|cwd| cwd == dir)
    });
    let pids = here.filter_map(|it| {
        let pid: u32 = it.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(it.path().join("stat")).ok()?;
        let group = stat.rsplit_once(") ")?.1.split(' ').nth(2)?;
        (group.parse() == Ok(pid)).then_some(pid)
    });
    pids.collect()
}

/// How many of them there are.
fn running_in(dir: &Path) -> usize {
    there(dir).len()
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// An actor in the place of a worker's, and what it is told.
pub(super) async fn listener() -> (
    ActorRef<WorkerMessage>,
    mpsc::UnboundedReceiver<WorkerMessage>,
) {
    struct Listener;

    impl Actor for Listener {
        type Msg = WorkerMessage;
        type State = mpsc::UnboundedSender<WorkerMessage>;
        type Arguments = Self::State;

        async fn pre_start(
            &self,
            _: ActorRef<WorkerMessage>,
            tell: Self::Arguments,
        ) -> Result<Self::State, ActorProcessingErr> {
            Ok(tell)
        }

        async fn handle(
            &self,
            _: ActorRef<WorkerMessage>,
            message: WorkerMessage,
            tell: &mut Self::State,
        ) -> Result<(), ActorProcessingErr> {
            Ok(tell.send(message)?)
        }
    }

    let (tell, told) = mpsc::unbounded_channel();
    let (actor, _) = Actor::spawn(None, Listener, tell).await.unwrap();
    (actor, told)
}

/// What this thread logs, as long as the guard beside it lives.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Keeps what is logged from now on, warnings and errors.
    fn keep() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let lines = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::WARN)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(lines))
    }

    /// The lines that hold a word.
    fn with(&self, word: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().filter(|line| line.contains(word));
        lines.map(str::to_owned).collect()
    }
}

fn pids(workers: &[WorkerReport]) -> Vec<u32> {
    let mut pids: Vec<u32> = workers.iter().map(|worker| worker.pid).collect();
    pids.sort_unstable();
    pids
}
