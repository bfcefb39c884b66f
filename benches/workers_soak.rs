//! The soak bench of worker pools: at full load workers are killed, hang, leak, crash, write noise, answer
//! twice or not at all, and do not start; every event is answered all the same, and nothing is left.
//!
//! The node is the stock program with stand-in workers in Python. The load says with each event what
//! goes wrong; beside it, workers are killed from outside, the pool is reset by signal, and for some
//! seconds of each half minute a worker that starts ends at once.
//!
//! It fails if an event had no answer or the good ones were not good as a rule, if more processes than
//! the pool may have were there, if a process is left, if the queue is not empty at the end, or if the
//! node's memory grew.
//!
//! `cargo bench --bench workers_soak -- [--minutes 10 | --seconds N]`

#[path = "load/parts.rs"]
#[expect(dead_code, reason = "it uses a part of the load bench")]
mod load;
mod workers_soak {
    pub(crate) mod drive;
    pub(crate) mod node;
}

use anyhow::{Context, bail};
use clap::Parser;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, interval, sleep};
use workers_soak::drive::Tally;
use workers_soak::node::Node;

/// Worker processes of the pool.
const WORKERS: usize = 4;
/// How long everything may take to come to rest.
const REST: Duration = Duration::from_secs(30);
/// What memory may grow by after the first fifth, beside a fifth of it: caches that fill.
const SLACK: u64 = 16 << 20;

/// Runs a pool under load and faults, and looks for what it leaves behind.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "workers_soak",
    bin_name = "cargo bench --bench workers_soak --"
)]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// The same in seconds, for a trial.
    #[arg(long, conflicts_with = "minutes",
        value_parser = clap::value_parser!(u64).range(20..=86_400))]
    seconds: Option<u64>,
    /// What cargo passes.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let time = Duration::from_secs(arguments.seconds.unwrap_or(arguments.minutes * 60));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = runtime
        .context("start a runtime")
        .and_then(|runtime| runtime.block_on(run(time)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(time: Duration) -> anyhow::Result<()> {
    let node = Node::start(WORKERS).await?;
    println!(
        "soak     {time:?}, node {} with {WORKERS} workers",
        node.pid()
    );
    let end = Instant::now() + time;
    let local = tokio::task::LocalSet::new();
    let mut working = local.spawn_local(workers_soak::drive::run(node.address(), end));
    let mut wrong = Vec::new();
    let (mut most_processes, mut memory) = (0, Vec::new());
    let tally: Tally = local
        .run_until(async {
            let mut second = interval(Duration::from_secs(1));
            let mut seconds = 0_u64;
            loop {
                tokio::select! {
                    tally = &mut working => return tally.context("the load broke")?,
                    _ = second.tick() => {
                        misbehave(&node, seconds)?;
                        most_processes = most_processes.max(node.processes()?.len());
                        memory.push(node.resident()?);
                        seconds += 1;
                    }
                }
            }
        })
        .await?;
    node.mend()?;
    println!("{tally}");
    wrong.extend(tally.wrong());
    // One that leaves and one that comes stand side by side for a while.
    if most_processes > 3 * WORKERS {
        wrong.push(format!("{most_processes} worker processes at once"));
    }
    let settled = memory[memory.len() / 5];
    let last = memory.last().copied().unwrap_or_default();
    println!(
        "memory   {} MiB after a fifth, {} MiB at the end; at most {most_processes} processes",
        settled >> 20,
        last >> 20
    );
    if last > settled + settled / 5 + SLACK {
        wrong.push(format!("memory grew from {settled} to {last} bytes"));
    }
    let limit = Instant::now() + REST;
    loop {
        let left = node.unrest(WORKERS).await?;
        if left.is_empty() {
            break;
        }
        if Instant::now() > limit {
            wrong.push(format!("no rest: {left}"));
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    wrong.extend(node.stop().await?);
    if wrong.is_empty() {
        println!("every event was answered, and nothing was left behind");
        return Ok(());
    }
    wrong.iter().for_each(|why| eprintln!("wrong: {why}"));
    bail!("{} things are wrong", wrong.len());
}

/// What is done to the workers from outside in this second.
fn misbehave(node: &Node, second: u64) -> anyhow::Result<()> {
    match second % 30 {
        // Whoever starts now ends at once.
        8 => node.break_script()?,
        11 => node.mend()?,
        20 => node.signal("USR2")?,
        _ => {}
    }
    if second % 3 == 1
        && let Some(worker) = node.processes()?.first()
    {
        workers_soak::node::kill(*worker)?;
    }
    Ok(())
}
