//! `workers`: the pools of a running node, looked at, reset, made bigger or smaller.

use super::admin::{self, Target};
use super::error::{CliError, Exit};
use super::{Session, output};
use crate::proto::admin::{
    AddWorkerRequest, ListWorkersRequest, Refused, RemoveWorkerRequest, ResetWorkersRequest,
    Worker, WorkerPool, WorkersReset, WorkersResized, add_worker_response, list_workers_response,
    remove_worker_response, reset_workers_response,
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a reset may take: it waits for workers that are at work.
const RESET_TIMEOUT: Duration = Duration::from_secs(65);

#[derive(Debug, Args)]
#[command(after_help = "\
Asks the admin listener of the configuration (listen.admin, listen.admin_token). Exit code 0 if it was
done, 1 if it was refused, 4 if the node can't be reached. Workers that were added or removed stay so
until the handler changes by a reload, or the node restarts; pool.num_workers is the lasting number.

Example:
  centripeta workers list
  centripeta workers reset php")]
pub(super) struct WorkersArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Shows pools and workers: state, events, memory, processor, age
    List(PoolArgs),
    /// Replaces all workers, a few at a time: no event fails, and if new ones do not come up the old go on
    Reset(PoolArgs),
    /// Adds a worker
    Add(PoolArgs),
    /// Removes a worker, an idle one if there is one; never the last
    Remove(PoolArgs),
}

#[derive(Debug, Args)]
struct PoolArgs {
    /// The handler whose workers are meant [default: all; for add and remove the only one]
    #[arg(value_name = "HANDLER")]
    handler: Option<String>,
    /// Prints the answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(session: &Session, args: &WorkersArgs) -> Result<(), CliError> {
    let target = Target::of(session)?;
    match &args.action {
        Action::List(args) => list(&target, args),
        Action::Reset(args) => reset(&target, args),
        Action::Add(args) => add(&target, args),
        Action::Remove(args) => remove(&target, args),
    }
}

impl PoolArgs {
    fn handler(&self) -> String {
        self.handler.clone().unwrap_or_default()
    }

    /// A refusal, in words or as JSON.
    fn refused(&self, what: &str, refused: Refused) -> CliError {
        if self.json {
            output::say_json(&json!({ "problems": admin::problems(&refused) }));
            return CliError::Said(Exit::Failed);
        }
        admin::refused(what, refused)
    }

    fn resized(&self, resized: &WorkersResized) {
        let WorkersResized { handler, workers } = resized;
        match self.json {
            true => output::say_json(&json!({ "handler": handler, "workers": workers })),
            false => output::say(&format!("{handler}: {workers} workers wanted")),
        }
    }
}

fn list(target: &Target, args: &PoolArgs) -> Result<(), CliError> {
    let message = ListWorkersRequest {
        handler: args.handler(),
    };
    let answer = target.call("workers list", message, async |mut client, request| {
        client.list_workers(request).await
    })?;
    let pools = match answer.outcome {
        Some(list_workers_response::Outcome::Pools(pools)) => pools.pools,
        Some(list_workers_response::Outcome::Refused(refused)) => {
            return Err(args.refused("workers list", refused));
        }
        None => return Err(admin::nothing_said("workers list")),
    };
    if args.json {
        let pools: Vec<Value> = pools.iter().map(pool_json).collect();
        output::say_json(&json!({ "pools": pools }));
        return Ok(());
    }
    if pools.is_empty() {
        output::say("no handler of this node has workers");
    }
    for pool in &pools {
        output::say(table(pool, SystemTime::now()).trim_end());
    }
    Ok(())
}

fn reset(target: &Target, args: &PoolArgs) -> Result<(), CliError> {
    let message = ResetWorkersRequest {
        handler: args.handler(),
    };
    let call = async |mut client: admin::Client, request| client.reset_workers(request).await;
    let answer = target.call_within(RESET_TIMEOUT, "workers reset", message, call)?;
    match answer.outcome {
        Some(reset_workers_response::Outcome::Reset(WorkersReset { pools })) => {
            if args.json {
                let pools = pools.iter();
                let pools = pools.map(|it| json!({ "handler": it.handler, "workers": it.workers }));
                output::say_json(&json!({ "reset": pools.collect::<Vec<Value>>() }));
                return Ok(());
            }
            for pool in &pools {
                output::say(&format!(
                    "{}: {} workers replaced",
                    pool.handler, pool.workers
                ));
            }
            Ok(())
        }
        Some(reset_workers_response::Outcome::Refused(refused)) => {
            Err(args.refused("workers reset", refused))
        }
        None => Err(admin::nothing_said("workers reset")),
    }
}

fn add(target: &Target, args: &PoolArgs) -> Result<(), CliError> {
    let message = AddWorkerRequest {
        handler: args.handler(),
    };
    let answer = target.call("workers add", message, async |mut client, request| {
        client.add_worker(request).await
    })?;
    match answer.outcome {
        Some(add_worker_response::Outcome::Resized(resized)) => {
            args.resized(&resized);
            Ok(())
        }
        Some(add_worker_response::Outcome::Refused(refused)) => {
            Err(args.refused("workers add", refused))
        }
        None => Err(admin::nothing_said("workers add")),
    }
}

fn remove(target: &Target, args: &PoolArgs) -> Result<(), CliError> {
    let message = RemoveWorkerRequest {
        handler: args.handler(),
    };
    let answer = target.call("workers remove", message, async |mut client, request| {
        client.remove_worker(request).await
    })?;
    match answer.outcome {
        Some(remove_worker_response::Outcome::Resized(resized)) => {
            args.resized(&resized);
            Ok(())
        }
        Some(remove_worker_response::Outcome::Refused(refused)) => {
            Err(args.refused("workers remove", refused))
        }
        None => Err(admin::nothing_said("workers remove")),
    }
}

fn pool_json(pool: &WorkerPool) -> Value {
    let worker = |it: &Worker| {
        json!({
            "pid": it.pid,
            "state": it.state,
            "jobs": it.jobs,
            "created_ms": it.created_ms,
            "memory_bytes": it.memory_bytes,
            "cpu_percent": (it.cpu_percent * 100.0).round() / 100.0,
        })
    };
    json!({
        "handler": pool.handler,
        "wanted": pool.wanted,
        "requests": pool.requests,
        "ready": pool.ready,
        "workers": pool.workers.iter().map(worker).collect::<Vec<Value>>(),
    })
}

/// A pool as a person reads it.
fn table(pool: &WorkerPool, now: SystemTime) -> String {
    let ready = if pool.ready { "ready" } else { "not ready" };
    let mut text = format!(
        "{}: {} of {} workers, {} requests in it, {ready}\n",
        pool.handler,
        pool.workers.len(),
        pool.wanted,
        pool.requests
    );
    if pool.workers.is_empty() {
        return text;
    }
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "  {:>8}  {:<16}{:>10}{:>13}{:>8}  AGE",
        "PID", "STATE", "EVENTS", "MEMORY", "CPU"
    );
    for worker in &pool.workers {
        let started = UNIX_EPOCH + Duration::from_millis(worker.created_ms);
        let age = now.duration_since(started).unwrap_or_default();
        let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
        // A size in MiB is shown to one digit.
        #[allow(clippy::cast_precision_loss, reason = "one digit is shown")]
        let memory = worker.memory_bytes as f64 / 1_048_576.0;
        let _ = writeln!(
            text,
            "  {:>8}  {:<16}{:>10}{:>9.1} MiB{:>7.1}%  {age}",
            worker.pid, worker.state, worker.jobs, memory, worker.cpu_percent
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_a_line_and_each_worker_a_row() {
        let worker = Worker {
            pid: 4242,
            state: "ready".to_owned(),
            jobs: 17,
            created_ms: 1_000,
            memory_bytes: 31_457_280,
            cpu_percent: 0.52,
        };
        let pool = WorkerPool {
            handler: "php".to_owned(),
            wanted: 2,
            requests: 3,
            ready: true,
            workers: vec![worker],
        };
        let now = UNIX_EPOCH + Duration::from_millis(64_900);
        assert_eq!(
            table(&pool, now),
            "php: 1 of 2 workers, 3 requests in it, ready\n\
             \x20      PID  STATE               EVENTS       MEMORY     CPU  AGE\n\
             \x20     4242  ready                   17     30.0 MiB    0.5%  1m 3s\n"
        );
    }
}
