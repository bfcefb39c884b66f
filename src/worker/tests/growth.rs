//! Workers that come while requests wait, and go when nobody needs them.

use super::*;
use crate::worker::pool::Growth;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinHandle;

fn growing(workers: usize, max_workers: usize, spawn_rate: usize) -> PoolSpec {
    let mut spec = spec(workers);
    spec.growth = Some(Growth {
        max_workers,
        spawn_rate,
        idle_timeout: Duration::from_millis(600),
    });
    spec
}

/// Asks without end until told, so many at a time; every answer has to be good.
fn load(
    pool: &WorkerPool,
    tasks: usize,
    what: &'static str,
    over: &Arc<AtomicBool>,
) -> Vec<JoinHandle<()>> {
    let one = |_| {
        let (pool, over) = (pool.clone(), Arc::clone(over));
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                ask(&pool, what).await.unwrap();
            }
        })
    };
    (0..tasks).map(one).collect()
}

#[tokio::test]
async fn a_burst_grows_the_pool_to_its_most_and_idleness_shrinks_it_without_a_failed_request() {
    let pool = pool(growing(1, 3, 2)).await;
    let over = Arc::new(AtomicBool::new(false));
    let burst = load(&pool, 8, "sleep:40", &over);
    until("all that may come are up", || async {
        let up = pool.workers().await.len();
        assert!(up <= 4 && pool.wanted() <= 4, "{up} workers up");
        up == 4
    })
    .await;
    // It goes on to wait, and nobody comes any more.
    for _ in 0..20 {
        assert!(ask(&pool, "sleep:10").await.is_ok());
        assert!(pool.wanted() == 4 && pool.workers().await.len() <= 4);
    }
    over.store(true, Ordering::Relaxed);
    for task in burst {
        task.await.unwrap();
    }
    let over = Arc::new(AtomicBool::new(false));
    // One request at a time, for which one worker is enough.
    let trickle = load(&pool, 1, "sleep:2", &over);
    until("the usual number is left", || async {
        pool.wanted() == 1 && pool.workers().await.len() == 1
    })
    .await;
    over.store(true, Ordering::Relaxed);
    for task in trickle {
        task.await.unwrap();
    }
    assert!(ask(&pool, "echo").await.is_ok());
}

#[tokio::test]
async fn workers_that_are_at_work_are_needed_though_no_request_waits() {
    let pool = pool(growing(1, 1, 5)).await;
    let over = Arc::new(AtomicBool::new(false));
    // Two at a time: a worker for each once the pool has grown.
    let steady = load(&pool, 2, "sleep:60", &over);
    until("one more is up", || async {
        pool.workers().await.len() == 2
    })
    .await;
    let grown = pids(&pool.workers().await);
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(1500) {
        assert_eq!(pids(&pool.workers().await), grown);
        sleep(Duration::from_millis(20)).await;
    }
    over.store(true, Ordering::Relaxed);
    for task in steady {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_pool_that_may_not_grow_does_not() {
    let pool = pool(spec(1)).await;
    let calls = (0..6).map(|_| ask(&pool, "sleep:60"));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!((pool.wanted(), pool.workers().await.len()), (1, 1));
    assert_eq!(pool.counts().restarts.get(), 0);
}

#[tokio::test]
async fn a_worker_that_is_taken_away_before_it_is_up_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let switch = dir.path().join("switch");
    std::fs::write(&switch, "good").unwrap();
    let start = format!("file:{}", switch.display());
    let mut spec = with_env(spec(1), "STANDIN_START", &start);
    spec.command.dir = Some(dir.path().to_owned());
    let pool = pool(spec).await;
    std::fs::write(&switch, "wait").unwrap();
    assert_eq!(pool.add().await.map(|it| it.workers), Some(2));
    until("it is started", || async { running_in(dir.path()) == 2 }).await;
    assert_eq!(pool.remove().await.map(|it| it.workers), Some(1));
    until("it is gone", || async { running_in(dir.path()) == 1 }).await;
    assert_eq!(pool.workers().await.len(), 1);
    assert!(ask(&pool, "echo").await.is_ok());
}
