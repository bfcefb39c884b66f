//! Pools against the stand-in worker (`tests/workers/standin.py`); numbers are those of the worker
//! checklist.
#![allow(clippy::unwrap_used)]

mod exec;
mod growth;
mod lifecycle;
mod relays;

use super::pool::{PoolSpec, WorkerPool, WorkerReport};
use super::process::CommandSpec;
use super::queue::ExecError;
use crate::config::RelayAddress;
use crate::goridge::Frame;
use bytes::BytesMut;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A condition that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn standin() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/workers/standin.py")
}

fn spec(workers: usize) -> PoolSpec {
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
        reset_timeout: Duration::from_secs(10),
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

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
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

async fn until_dead(pid: u32) {
    until("the process is gone", || async { !is_alive(pid) }).await;
}

fn pids(workers: &[WorkerReport]) -> Vec<u32> {
    let mut pids: Vec<u32> = workers.iter().map(|worker| worker.pid).collect();
    pids.sort_unstable();
    pids
}
