//! Whose turn it is: idle workers and waiting requests.

use super::*;
use crate::worker::info::WorkerState;
use futures_util::future::join_all;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

async fn pid(pool: &WorkerPool) -> u32 {
    ask(pool, "pid").await.unwrap().parse().unwrap()
}

/// The requests as a worker noted them, by their numbers.
fn order(log: &Path) -> Vec<String> {
    let log = std::fs::read_to_string(log).unwrap();
    let numbers = log.lines().filter_map(|it| it.split("sleep ").nth(1));
    numbers.map(str::to_owned).collect()
}

/// A core of its own, as long as the sender is held.
fn core() -> (Handle, oneshot::Sender<()>) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    std::thread::spawn(move || runtime.block_on(stopped).ok());
    (handle, stop)
}

#[tokio::test]
async fn w62_the_worker_that_is_idle_longest_comes_first() {
    let pool = pool(spec(3)).await;
    let mut seen = Vec::new();
    for _ in 0..9 {
        seen.push(pid(&pool).await);
        // Each is idle again before the next one is asked for.
        until("it is idle", || async {
            let workers = pool.workers().await;
            workers.iter().all(|it| it.state == WorkerState::Ready)
        })
        .await;
    }
    assert_eq!(seen[..3], seen[3..6]);
    assert_eq!(seen[..3], seen[6..]);
    seen.truncate(3);
    seen.sort_unstable();
    assert_eq!(seen, pids(&pool.workers().await));
}

#[tokio::test]
async fn w62_waiting_requests_are_served_in_the_order_they_came() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let pool = pool(with_env(spec(1), "STANDIN_LOG", log.to_str().unwrap())).await;
    let mut calls = Vec::new();
    for n in 0..10 {
        let (asked, what) = (pool.clone(), format!("sleep:{n}"));
        calls.push(tokio::spawn(async move { ask(&asked, &what).await }));
        until("it is in the pool", || async {
            pool.requests() + calls.iter().filter(|it| it.is_finished()).count() > n
        })
        .await;
    }
    for call in join_all(calls).await {
        call.unwrap().unwrap();
    }
    assert_eq!(
        order(&log),
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
    );
}

#[tokio::test]
async fn w62_on_whatever_core_they_wait_requests_are_served_in_the_order_they_came() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let pool = pool(with_env(spec(1), "STANDIN_LOG", log.to_str().unwrap())).await;
    let cores = [core(), core(), core()];
    let busy = {
        let pool = pool.clone();
        cores[0]
            .0
            .spawn(async move { ask(&pool, "sleep:600").await })
    };
    until("it is at work", || async { pool.requests() == 1 }).await;
    let mut calls = vec![busy];
    for n in 1..=30 {
        let (asked, what) = (pool.clone(), format!("sleep:{n}"));
        // Several in a row of one core, and the last of all on the core of the first.
        let on = &cores[n / 4 % 3].0;
        let before = Instant::now();
        calls.push(on.spawn(async move { ask(&asked, &what).await }));
        until("it waits", || async { pool.waiting() == n }).await;
        // Those that come within a few milliseconds of each other may change places.
        until("the next one comes later", || async {
            before.elapsed() > Duration::from_millis(12)
        })
        .await;
    }
    for call in join_all(calls).await {
        call.unwrap().unwrap();
    }
    let served = order(&log);
    let served: Vec<usize> = served.iter().map(|n| n.parse().unwrap()).collect();
    assert_eq!((served.len(), served[0]), (31, 600));
    assert!(served[1..].is_sorted(), "{served:?}");
}

#[tokio::test]
async fn w62_a_worker_that_is_idle_longest_comes_first_whatever_the_core() {
    let pool = pool(spec(3)).await;
    let cores = [core(), core()];
    let mut seen = Vec::new();
    for n in 0..12 {
        let asked = pool.clone();
        let call = cores[n % 2].0.spawn(async move { pid(&asked).await });
        seen.push(call.await.unwrap());
        until("all are idle", || async {
            let workers = pool.workers().await;
            workers.iter().all(|it| it.state == WorkerState::Ready)
        })
        .await;
    }
    for round in seen.chunks(3).skip(1) {
        assert_eq!(round, &seen[..3]);
    }
}
