//! New workers for those that are too old, idle for too long, or too big: the old ones go on until
//! theirs is up.

use super::reset::Switched;
use super::*;
use crate::worker::pool::Growth;
use futures_util::future::join_all;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Events without end, so many at a time: each is answered by a worker that is there, and there always
/// is one.
struct Load {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    fn on(pool: &WorkerPool, tasks: usize) -> Self {
        let (over, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let task = |_| {
            let (pool, over) = (pool.clone(), Arc::clone(&over));
            let answered = Arc::clone(&answered);
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    assert!(pool.is_ready());
                    ask(&pool, "sleep:3").await.unwrap();
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let tasks = (0..tasks).map(task).collect();
        Self {
            over,
            answered,
            tasks,
        }
    }

    /// So many more are answered.
    async fn goes_on(&self, more: usize) {
        let wanted = self.answered.load(Ordering::Relaxed) + more;
        until("events are answered", || async {
            self.answered.load(Ordering::Relaxed) >= wanted
        })
        .await;
    }

    async fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        for task in join_all(self.tasks).await {
            task.unwrap();
        }
    }
}

async fn until_replaced(pool: &WorkerPool, old: &[u32]) {
    until("all have been replaced", || async {
        let now = pids(&pool.workers().await);
        now.len() == old.len() && now.iter().all(|pid| !old.contains(pid))
    })
    .await;
}

#[tokio::test]
async fn w69_workers_that_are_due_together_leave_a_quarter_at_a_time_each_once_its_new_one_is_up() {
    let script = Switched::new("good");
    let mut spec = script.spec(4);
    spec.ttl = Duration::from_millis(600);
    let pool = pool(spec).await;
    let before = pids(&pool.workers().await);
    let load = Load::on(&pool, 6);
    // From now on no new one comes up.
    script.is("wait");
    let starting = || async { script.running() - pool.workers().await.len() };
    until("one is started", || async { starting().await == 1 }).await;
    until("all are due", || async {
        let roll = pool.roll().workers;
        roll.iter()
            .all(|it| it.started.elapsed() >= Duration::from_secs(1))
    })
    .await;
    let there = pids(&pool.workers().await);
    for _ in 0..20 {
        load.goes_on(20).await;
        assert_eq!(pids(&pool.workers().await), there, "nobody leaves");
        assert_eq!(starting().await, 1, "a quarter of four");
    }
    script.is("good");
    until_replaced(&pool, &before).await;
    load.goes_on(20).await;
    load.end().await;
    assert_eq!(pool.wanted(), 4);
}

#[tokio::test]
async fn idle_and_big_workers_too_are_there_until_their_new_ones_are_up() {
    for is_big in [true, false] {
        let script = Switched::new("good");
        let mut spec = script.spec(1);
        match is_big {
            true => spec.max_worker_memory = 60,
            false => spec.idle_ttl = Duration::from_millis(300),
        }
        let pool = pool(spec).await;
        let before = pids(&pool.workers().await);
        script.is("wait");
        let what = if is_big { "grow:80" } else { "echo" };
        assert!(ask(&pool, what).await.is_ok());
        until("a new one is started", || async { script.running() == 2 }).await;
        for _ in 0..5 {
            let answer = timeout(PATIENCE / 2, ask(&pool, "pid")).await.unwrap();
            assert_eq!(answer.unwrap(), before[0].to_string());
            assert!(pool.is_ready());
        }
        script.is("good");
        until_replaced(&pool, &before).await;
    }
}

#[tokio::test]
async fn w70_a_worker_is_idle_for_the_whole_of_a_limit_below_a_second() {
    let mut spec = spec(1);
    spec.idle_ttl = Duration::from_millis(700);
    let pool = pool(spec).await;
    let before = pids(&pool.workers().await);
    let asked = Instant::now();
    assert!(ask(&pool, "echo").await.is_ok());
    until_replaced(&pool, &before).await;
    assert!(asked.elapsed() >= Duration::from_millis(700));
}

#[tokio::test]
async fn new_workers_that_do_not_come_up_leave_the_old_ones_and_are_tried_ever_less_often() {
    let (log, _guard) = Log::keep();
    let script = Switched::new("good");
    let starts = tempfile::tempdir().unwrap();
    let counted = starts.path().join("starts");
    let mut spec = script.spec(2);
    spec.ttl = Duration::from_millis(200);
    let line = format!("echo >> {}; exec python3 -u \"$0\"", counted.display());
    let script_file = standin().display().to_string();
    spec.command.command = vec!["sh".to_owned(), "-c".to_owned(), line, script_file];
    let pool = WorkerPool::start(spec).await.unwrap();
    until("both are up", || async { pool.workers().await.len() >= 2 }).await;
    script.is("broken");
    let started = || std::fs::read_to_string(&counted).unwrap().len();
    let warned = || {
        log.with("a new worker for one that is due did not come up")
            .len()
    };
    until("one has failed", || async { warned() > 0 }).await;
    let there = pids(&pool.workers().await);
    let (begun, before) = (Instant::now(), started());
    let load = Load::on(&pool, 2);
    until("more have failed", || async { started() >= before + 4 }).await;
    // Ticks are 20 ms apart; the pauses are 20, 60, 140, 300 ms.
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(250), "{took:?}");
    load.goes_on(20).await;
    assert_eq!(pids(&pool.workers().await), there);
    assert_eq!(warned(), 1, "the first of them in a row is told");
    script.is("good");
    until_replaced(&pool, &there).await;
    load.end().await;
}

#[tokio::test]
async fn a_pool_that_replaces_workers_may_be_resized_and_grow_meanwhile() {
    let script = Switched::new("good");
    let mut spec = script.spec(2);
    spec.ttl = Duration::from_millis(300);
    spec.growth = Some(Growth {
        max_workers: 1,
        spawn_rate: 1,
        idle_timeout: Duration::from_millis(300),
    });
    let pool = pool(spec).await;
    script.is("wait");
    until("one is started", || async { script.running() == 3 }).await;
    let added = pool.add().await.unwrap();
    assert_eq!((added.workers, pool.wanted()), (3, 3));
    until("one more is started", || async { script.running() == 4 }).await;
    // The one that is on its way takes the place of another: it is not what requests wait for.
    let removed = pool.remove().await.unwrap();
    assert_eq!((removed.workers, pool.wanted()), (2, 2));
    until("it is gone", || async { script.running() == 3 }).await;
    let burst = (0..6).map(|_| ask(&pool, "sleep:100"));
    let (answers, ()) = tokio::join!(
        join_all(burst),
        until("the pool grows", || async { pool.wanted() == 3 })
    );
    assert!(answers.iter().all(Result::is_ok));
    until("it shrinks", || async { pool.wanted() == 2 }).await;
    let one = pool.remove().await.unwrap();
    assert_eq!(one.workers, 1);
    until("one is there, and one on its way", || async {
        (script.running(), pool.workers().await.len()) == (2, 1)
    })
    .await;
    let last = pids(&pool.workers().await);
    script.is("good");
    until_replaced(&pool, &last).await;
    assert!(ask(&pool, "echo").await.is_ok());
}

#[tokio::test]
async fn a_reset_starts_anew_what_was_on_its_way_for_a_worker_that_is_due() {
    let script = Switched::new("good");
    let mut spec = script.spec(2);
    spec.ttl = Duration::from_millis(300);
    let pool = pool(spec).await;
    let before = pids(&pool.workers().await);
    script.is("wait");
    until("one is started", || async { script.running() == 3 }).await;
    let mut old = there(script.dir.path());
    old.retain(|pid| !before.contains(pid));
    let asked = pool.clone();
    let reset = tokio::spawn(async move { asked.reset_to_the_end().await });
    // What it had loaded may be what the reset is about.
    for pid in old {
        until_dead(pid).await;
    }
    script.is("good");
    assert_eq!(reset.await.unwrap(), Ok(2));
    until_replaced(&pool, &before).await;
    assert_eq!(pool.wanted(), 2);
}

#[tokio::test]
async fn w11_another_version_is_taken_and_said_once_for_each_worker() {
    let (log, _guard) = Log::keep();
    let pool = pool(with_env(spec(2), "STANDIN_VERSION", "2")).await;
    for _ in 0..10 {
        assert_eq!(ask(&pool, "echo").await.unwrap(), "do:echo");
    }
    let lines = log.with("not of version 1");
    assert_eq!(lines.len(), 2, "{lines:?}");
    for pid in pids(&pool.workers().await) {
        let words = format!("pool=\"php\" pid={pid} version=2");
        assert!(lines.iter().any(|it| it.contains(&words)), "{lines:?}");
    }
}
