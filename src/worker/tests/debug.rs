//! Pools in debug: a fresh worker for each event.

use super::*;
use tokio::time::timeout;

/// A pool in debug whose workers run in this folder.
async fn fresh(mut spec: PoolSpec, dir: &Path) -> WorkerPool {
    spec.debug = true;
    spec.command.dir = Some(dir.to_owned());
    WorkerPool::start(spec).await.unwrap()
}

async fn until_empty(pool: &WorkerPool, dir: &Path) {
    until("no worker is left", || async {
        pool.workers().await.is_empty() && running_in(dir) == 0
    })
    .await;
}

#[tokio::test]
async fn w72_debug_is_a_fresh_process_for_each_request() {
    let mut spec = spec(4);
    spec.debug = true;
    let pool = WorkerPool::start(spec).await.unwrap();
    assert!(pool.is_ready());
    let first = ask(&pool, "pid").await.unwrap();
    let second = ask(&pool, "pid").await.unwrap();
    assert_ne!(first, second);
    until_dead(first.parse().unwrap()).await;
    until_dead(second.parse().unwrap()).await;
    until("no worker is left", || async {
        pool.workers().await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn w72_an_edit_of_the_script_is_in_the_next_answer_of_a_pool_in_debug() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("worker.py");
    std::fs::copy(standin(), &script).unwrap();
    let mut spec = spec(2);
    spec.debug = true;
    let last = spec.command.command.last_mut().unwrap();
    *last = script.display().to_string();
    let pool = WorkerPool::start(spec).await.unwrap();
    assert_eq!(ask(&pool, "with-context").await.unwrap(), "body");
    let text = std::fs::read_to_string(&script).unwrap();
    let edited = text.replace("b\"body\", b\"header\"", "b\"edited\", b\"header\"");
    assert_ne!(text, edited);
    std::fs::write(&script, edited).unwrap();
    assert_eq!(ask(&pool, "with-context").await.unwrap(), "edited");
}

#[tokio::test]
async fn w72_a_reset_starts_nobody_in_debug_where_each_event_has_a_new_worker_anyway() {
    let dir = tempfile::tempdir().unwrap();
    let pool = fresh(spec(1), dir.path()).await;
    let asked = pool.clone();
    let event = tokio::spawn(async move { ask(&asked, "sleep:500").await });
    until("it is at work", || async {
        pool.workers().await.len() == 1
    })
    .await;
    assert_eq!(pool.reset_to_the_end().await, Ok(0));
    assert_eq!(running_in(dir.path()), 1);
    assert!(event.await.unwrap().is_ok());
    until_empty(&pool, dir.path()).await;
}

#[tokio::test]
async fn w72_the_worker_of_a_caller_that_has_gone_serves_nobody_else_in_debug() {
    let dir = tempfile::tempdir().unwrap();
    let pool = fresh(with_env(spec(1), "STANDIN_START", "slow:300"), dir.path()).await;
    let gone = timeout(Duration::from_millis(20), ask(&pool, "pid")).await;
    assert!(gone.is_err());
    until("it comes up", || async { !pool.workers().await.is_empty() }).await;
    until_empty(&pool, dir.path()).await;
    assert_eq!(ask(&pool, "served").await.unwrap(), "1");
    until_empty(&pool, dir.path()).await;
}

#[tokio::test]
async fn w72_a_worker_that_asks_to_be_replaced_in_debug_is_by_a_fresh_one_up_to_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let pool = fresh(spec(1), dir.path()).await;
    let once = format!("replace-once:{}", dir.path().join("once").display());
    let answer = timeout(PATIENCE / 2, ask(&pool, &once)).await.unwrap();
    assert!(answer.unwrap().parse::<u32>().is_ok());
    let failure = timeout(PATIENCE / 2, ask(&pool, "replace")).await.unwrap();
    assert_eq!(
        failure.unwrap_err().to_string(),
        "4 workers in turn asked to be replaced instead of answering"
    );
    until_empty(&pool, dir.path()).await;
}

#[tokio::test]
async fn w72_a_script_that_does_not_start_is_what_an_event_in_debug_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let pool = fresh(with_env(spec(1), "STANDIN_START", "exit"), dir.path()).await;
    let failure = timeout(PATIENCE / 2, ask(&pool, "echo")).await.unwrap();
    let why = failure.unwrap_err().to_string();
    assert!(
        why.starts_with("no worker came up for it: ") && why.contains("broken from the start"),
        "{why}"
    );
    assert_eq!(pool.requests(), 0);
    until_empty(&pool, dir.path()).await;
    pool.shutdown(PATIENCE).await;
    assert!(matches!(ask(&pool, "echo").await, Err(ExecError::Stopped)));
}
