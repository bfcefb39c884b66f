//! The life of worker pools: up with the node or a reload, down behind the events.

use super::NodeError;
use crate::worker::handler::Workers;
use crate::worker::pool::WorkerPool;
use crate::worker::pools::Pools;
use std::sync::Arc;
use std::time::Duration;

/// Starts those that do not run yet; their workers come up by themselves.
pub(super) async fn start(workers: &[Arc<Workers>], rpc: Option<&str>) -> Result<(), NodeError> {
    for workers in workers {
        let started = workers.start(rpc).await;
        started.map_err(|why| NodeError::Workers(why.to_string()))?;
    }
    Ok(())
}

/// The same, and waits until each of the new ones has a worker.
pub(super) async fn bring_up(workers: &[Arc<Workers>], rpc: Option<&str>) -> Result<(), NodeError> {
    let new: Vec<_> = workers.iter().filter(|it| it.pool().is_none()).collect();
    start(workers, rpc).await?;
    for workers in new {
        let ready = workers.until_ready().await;
        ready.map_err(|why| NodeError::Workers(why.to_string()))?;
    }
    Ok(())
}

/// Those that run.
pub(super) fn pools(workers: &[Arc<Workers>]) -> Vec<WorkerPool> {
    let pools = workers.iter().filter_map(|workers| workers.pool());
    pools.cloned().collect()
}

/// Ends all of them: workers finish what they are at, within the grace.
pub(super) async fn stop(pools: &Pools, grace: Duration) {
    let all = pools.all();
    let ends = all.iter().map(|pool| pool.shutdown(grace));
    futures_util::future::join_all(ends).await;
}

/// Replaces all workers, each pool by itself.
pub(super) fn reset(pools: &Pools) {
    if pools.is_empty() {
        tracing::info!("there are no workers to reset");
    }
    for pool in pools.all() {
        tokio::spawn(async move {
            let handler = pool.name();
            match pool.reset_to_the_end().await {
                Ok(workers) => tracing::info!(handler, workers, "workers were reset"),
                Err(why) => tracing::error!(handler, "workers were not reset: {why}"),
            }
        });
    }
}
