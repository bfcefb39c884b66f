//! What the Admin service is asked about worker pools. It goes to the pools themselves: a reset may
//! take a while, and a reload need not wait for it.

use crate::control::{Refused, Wrong};
use crate::proto::admin::{
    PoolReset, Worker, WorkerPool, WorkerPools, WorkersReset, WorkersResized,
};
use crate::worker::pool::{self, MOST_WORKERS, Resized, WorkerReport};
use crate::worker::pools::Pools;
use std::time::{Duration, UNIX_EPOCH};
use tokio::time::timeout;
use tonic::Status;

/// How long an answer waits for a reset, which is less than the listener gives an answer.
const PATIENCE: Duration = Duration::from_secs(55);

/// What was done, or why not.
type Answer<T> = Result<Result<T, Refused>, Status>;

/// The pools and their workers, of one handler or of all.
pub(super) async fn list(pools: &Pools, handler: &str) -> Answer<WorkerPools> {
    let chosen = match chosen(pools, handler) {
        Ok(chosen) => chosen,
        Err(_) if handler.is_empty() => Vec::new(),
        Err(refused) => return Ok(Err(refused)),
    };
    let mut shown = Vec::new();
    for pool in chosen {
        let workers = pool.workers().await;
        shown.push(WorkerPool {
            handler: pool.name().to_owned(),
            wanted: pool.wanted() as u64,
            requests: pool.requests() as u64,
            ready: pool.is_ready(),
            workers: workers.into_iter().map(Worker::from).collect(),
        });
    }
    Ok(Ok(WorkerPools { pools: shown }))
}

/// Replaces all workers of a handler, or of all handlers.
pub(super) async fn reset(pools: &Pools, handler: &str) -> Answer<WorkersReset> {
    let chosen = match chosen(pools, handler) {
        Ok(chosen) => chosen,
        Err(refused) => return Ok(Err(refused)),
    };
    let resets = chosen
        .iter()
        .map(|pool| timeout(PATIENCE, pool.reset_to_the_end()));
    let ends = futures_util::future::join_all(resets).await;
    let (mut done, mut problems) = (Vec::new(), Vec::new());
    for (pool, end) in chosen.iter().zip(ends) {
        let handler = pool.name().to_owned();
        let (why, help) = match end {
            Ok(Ok(workers)) => {
                let workers = workers as u64;
                done.push(PoolReset { handler, workers });
                continue;
            }
            Ok(Err(why)) => (
                why,
                "mend what the workers run, or wait for those at work; `workers list` shows them",
            ),
            Err(_) => (
                format!("the reset goes on after {PATIENCE:?}; old workers are still at work"),
                "`workers list` shows them",
            ),
        };
        problems.push(Wrong {
            what: format!("the workers of `{handler}` were not all replaced: {why}"),
            help: help.to_owned(),
        });
    }
    Ok(match problems.is_empty() {
        true => Ok(WorkersReset { pools: done }),
        false => Err(Refused { problems }),
    })
}

/// One worker more.
pub(super) async fn add(pools: &Pools, handler: &str) -> Answer<WorkersResized> {
    let pool = match one(pools, handler) {
        Ok(pool) => pool,
        Err(refused) => return Ok(Err(refused)),
    };
    let resized = pool.add().await;
    let why = format!(
        "`{}` takes no more workers: {MOST_WORKERS} are the most, and with `pool.debug` each event has \
         its own",
        pool.name()
    );
    answer(
        &pool,
        resized,
        why,
        "remove one elsewhere, or leave `pool.debug` out",
    )
}

/// One worker fewer.
pub(super) async fn remove(pools: &Pools, handler: &str) -> Answer<WorkersResized> {
    let pool = match one(pools, handler) {
        Ok(pool) => pool,
        Err(refused) => return Ok(Err(refused)),
    };
    let resized = pool.remove().await;
    let why = format!(
        "`{}` has one worker, and the last is never removed",
        pool.name()
    );
    let help = "take its routes out of the configuration and reload, if nobody is to answer them";
    answer(&pool, resized, why, help)
}

fn answer(
    pool: &pool::WorkerPool,
    resized: Option<Resized>,
    why: String,
    help: &str,
) -> Answer<WorkersResized> {
    let gone = || Status::unavailable("the node drains and its workers leave");
    let resized = resized.ok_or_else(gone)?;
    Ok(match resized.is_changed {
        true => Ok(WorkersResized {
            handler: pool.name().to_owned(),
            workers: resized.workers as u64,
        }),
        false => Err(refused(why, help.to_owned())),
    })
}

/// The pool of a handler, or all if it is empty.
fn chosen(pools: &Pools, handler: &str) -> Result<Vec<pool::WorkerPool>, Refused> {
    let all = pools.all();
    if all.is_empty() {
        let help = "route events to a handler of kind `roadrunner`";
        let why = "no handler of this node has workers";
        return Err(refused(why.to_owned(), help.to_owned()));
    }
    if handler.is_empty() {
        return Ok(all);
    }
    let found: Vec<_> = all
        .iter()
        .filter(|it| it.name() == handler)
        .cloned()
        .collect();
    match found.is_empty() {
        true => Err(refused(
            format!("no handler `{handler}` has workers"),
            format!("name one of: {}", names(&all)),
        )),
        false => Ok(found),
    }
}

/// The pool of a handler, or the only one.
fn one(pools: &Pools, handler: &str) -> Result<pool::WorkerPool, Refused> {
    let mut chosen = chosen(pools, handler)?;
    match (chosen.pop(), chosen.is_empty()) {
        (Some(pool), true) => Ok(pool),
        (last, _) => {
            chosen.extend(last);
            let why = "several handlers have workers, and none was named";
            let help = format!("name one of: {}", names(&chosen));
            Err(refused(why.to_owned(), help))
        }
    }
}

fn names(pools: &[pool::WorkerPool]) -> String {
    let names: Vec<&str> = pools.iter().map(pool::WorkerPool::name).collect();
    names.join(", ")
}

fn refused(what: String, help: String) -> Refused {
    Refused {
        problems: vec![Wrong { what, help }],
    }
}

impl From<WorkerReport> for Worker {
    fn from(it: WorkerReport) -> Self {
        let created = it.created.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            pid: it.pid,
            state: it.state.name().to_owned(),
            jobs: it.jobs,
            created_ms: u64::try_from(created.as_millis()).unwrap_or(u64::MAX),
            memory_bytes: it.memory,
            cpu_percent: it.cpu,
        }
    }
}
