//! New workers for old ones.

use super::*;
use futures_util::future::join_all;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::timeout;

/// Workers whose script is as a file in this folder says: good, broken, or not yet up (`wait`).
pub(super) struct Switched {
    pub(super) dir: tempfile::TempDir,
}

impl Switched {
    pub(super) fn new(state: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let switched = Self { dir };
        switched.is(state);
        switched
    }

    pub(super) fn is(&self, state: &str) {
        // At once, so that nobody reads half of it.
        let new = self.dir.path().join("new");
        std::fs::write(&new, state).unwrap();
        std::fs::rename(new, self.dir.path().join("switch")).unwrap();
    }

    pub(super) fn spec(&self, workers: usize) -> PoolSpec {
        let switch = self.dir.path().join("switch");
        let mut spec = with_env(
            spec(workers),
            "STANDIN_START",
            &format!("file:{}", switch.display()),
        );
        spec.command.dir = Some(self.dir.path().to_owned());
        spec
    }

    pub(super) fn running(&self) -> usize {
        running_in(self.dir.path())
    }
}

#[tokio::test]
async fn w73_a_reset_with_a_broken_script_keeps_the_old_workers() {
    let script = Switched::new("good");
    let pool = pool(script.spec(2)).await;
    let before = pids(&pool.workers().await);
    script.is("broken");
    let why = pool.reset().await.unwrap_err();
    assert!(why.contains("EOF"), "{why}");
    assert_eq!(pids(&pool.workers().await), before);
    assert!(ask(&pool, "echo").await.is_ok());
    script.is("good");
    assert_eq!(pool.reset_to_the_end().await, Ok(2));
    assert!(
        pids(&pool.workers().await)
            .iter()
            .all(|pid| !before.contains(pid))
    );
}

#[tokio::test]
async fn w74_a_reset_under_load_loses_no_request() {
    let pool = pool(spec(3)).await;
    let over = Arc::new(AtomicBool::new(false));
    let load = (0..6).map(|_| {
        let (pool, over) = (pool.clone(), Arc::clone(&over));
        tokio::spawn(async move {
            let mut answered = 0;
            while !over.load(Ordering::Relaxed) {
                ask(&pool, "sleep:3").await.unwrap();
                answered += 1;
            }
            answered
        })
    });
    let load: Vec<_> = load.collect();
    for _ in 0..3 {
        let before = pids(&pool.workers().await);
        assert_eq!(pool.reset_to_the_end().await, Ok(3));
        let after = pids(&pool.workers().await);
        assert!(after.len() == 3 && after.iter().all(|pid| !before.contains(pid)));
    }
    over.store(true, Ordering::Relaxed);
    for task in join_all(load).await {
        assert!(task.unwrap() > 0);
    }
}

#[tokio::test]
async fn w68_a_worker_that_dies_during_a_broken_reset_is_replaced_once_the_script_is_mended() {
    let script = Switched::new("good");
    let pool = pool(script.spec(1)).await;
    let old = pids(&pool.workers().await)[0];
    script.is("wait");
    let asked = pool.clone();
    let reset = tokio::spawn(async move { asked.reset().await });
    until("the new one is started", || async { script.running() == 2 }).await;
    kill(old);
    until("the old one is gone", || async { !pool.is_ready() }).await;
    script.is("broken");
    let why = reset.await.unwrap().unwrap_err();
    assert!(why.contains("EOF"), "{why}");
    script.is("good");
    until("there is a worker again", || async { pool.is_ready() }).await;
    assert!(ask(&pool, "echo").await.is_ok());
    assert_eq!((pool.wanted(), pool.workers().await.len()), (1, 1));
}

#[tokio::test]
async fn a_worker_that_dies_while_another_is_replaced_has_one_in_its_place_at_once() {
    let script = Switched::new("good");
    let pool = pool(script.spec(2)).await;
    let before = pids(&pool.workers().await);
    script.is("wait");
    let asked = pool.clone();
    let reset = tokio::spawn(async move { asked.reset_to_the_end().await });
    until("a new one is started", || async { script.running() == 3 }).await;
    for pid in &before {
        kill(*pid);
    }
    until("both places have a new one", || async {
        pool.workers().await.is_empty() && script.running() == 2
    })
    .await;
    script.is("good");
    assert_eq!(reset.await.unwrap(), Ok(2));
    until("both are up", || async { pool.workers().await.len() == 2 }).await;
    assert_eq!(script.running(), 2);
}

#[tokio::test]
async fn a_reset_of_a_pool_without_workers_tells_whether_there_is_one_now() {
    let script = Switched::new("broken");
    let pool = WorkerPool::start(script.spec(2)).await.unwrap();
    for _ in 0..4 {
        until("all have failed", || async {
            pool.roll().failure.is_some() && script.running() == 0
        })
        .await;
        let why = pool.reset_to_the_end().await.unwrap_err();
        assert!(why.contains("EOF"), "{why}");
        assert!(!pool.is_ready());
    }
    script.is("good");
    assert_eq!(pool.reset_to_the_end().await, Ok(2));
    assert!(pool.is_ready());
    until("both are up", || async { pool.workers().await.len() == 2 }).await;
}

#[tokio::test]
async fn a_reset_starts_a_quarter_of_the_pool_at_a_time() {
    let script = Switched::new("good");
    let pool = pool(script.spec(8)).await;
    let before = pids(&pool.workers().await);
    script.is("one");
    let asked = pool.clone();
    let reset = tokio::spawn(async move { asked.reset_to_the_end().await });
    until("one is replaced, and two are started", || async {
        let now = pids(&pool.workers().await);
        let new = now.iter().filter(|pid| !before.contains(pid)).count();
        (now.len(), new, script.running()) == (8, 1, 10)
    })
    .await;
    let starting = || async { script.running() - pool.workers().await.len() };
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(500) {
        assert_eq!(starting().await, 2);
        sleep(Duration::from_millis(10)).await;
    }
    script.is("good");
    assert_eq!(reset.await.unwrap(), Ok(8));
    let after = pids(&pool.workers().await);
    assert!(after.len() == 8 && after.iter().all(|pid| !before.contains(pid)));
}

#[tokio::test]
async fn a_reset_that_is_asked_for_during_another_replaces_what_that_one_has_started() {
    let script = Switched::new("good");
    let pool = pool(script.spec(1)).await;
    script.is("wait");
    let ask_for = || {
        let pool = pool.clone();
        tokio::spawn(async move { pool.reset_to_the_end().await })
    };
    let first = ask_for();
    until("the new one is started", || async { script.running() == 2 }).await;
    let started = there(script.dir.path());
    let (second, third) = (ask_for(), ask_for());
    // A list is answered behind what was asked before it.
    pool.workers().await;
    script.is("good");
    assert_eq!(first.await.unwrap(), Ok(1));
    assert_eq!(
        (second.await.unwrap(), third.await.unwrap()),
        (Ok(1), Ok(1))
    );
    let last = pids(&pool.workers().await);
    assert!(last.len() == 1 && !started.contains(&last[0]));
    assert_eq!(pool.counts().restarts.get(), 2, "one for both that asked");
}

#[tokio::test]
async fn a_reset_whose_new_workers_are_not_up_in_time_says_so_and_goes_on() {
    let script = Switched::new("good");
    let mut spec = script.spec(2);
    spec.reset_timeout = Duration::from_millis(300);
    let pool = pool(spec).await;
    let before = pids(&pool.workers().await);
    script.is("wait");
    let why = pool.reset_to_the_end().await.unwrap_err();
    assert!(
        why.starts_with("2 of 2 new workers are not up after 300ms (`reset_timeout`)"),
        "{why}"
    );
    assert_eq!(pids(&pool.workers().await), before);
    script.is("good");
    until("all are replaced", || async {
        let now = pids(&pool.workers().await);
        now.len() == 2 && now.iter().all(|pid| !before.contains(pid))
    })
    .await;
}

#[tokio::test]
async fn a_reset_that_a_worker_asks_for_is_answered_though_that_one_is_still_at_work() {
    let mut spec = spec(2);
    spec.reset_timeout = Duration::from_secs(15);
    spec.exec_ttl = Duration::from_secs(120);
    let pool = pool(spec).await;
    let before = pids(&pool.workers().await);
    let asked = pool.clone();
    let event = tokio::spawn(async move { ask(&asked, "sleep:90000").await });
    until("it is at work", || async { pool.requests() == 1 }).await;
    let end = timeout(PATIENCE, pool.reset()).await.unwrap();
    assert_eq!(end, Ok(2));
    assert!(!event.is_finished());
    let there = pids(&pool.workers().await);
    let old = there.iter().filter(|pid| before.contains(pid)).count();
    assert_eq!((there.len(), old), (3, 1), "the idle one has left");
    // Who waits for all of them is told that it takes longer.
    let other = pool.reset_to_the_end().await;
    assert_eq!(other, Ok(2), "the two new ones were idle");
    event.abort();
    let asked = pool.clone();
    let event = tokio::spawn(async move { ask(&asked, "sleep:90000").await });
    until("it is at work", || async { pool.requests() >= 2 }).await;
    let why = pool.reset_to_the_end().await.unwrap_err();
    assert!(
        why.starts_with("1 of 2 old workers are still there after 15s (`reset_timeout`)"),
        "{why}"
    );
    event.abort();
}
