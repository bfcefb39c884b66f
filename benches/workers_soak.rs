//! The soak bench of worker pools: at full load workers are killed, hang, leak, crash, write noise, answer
//! twice or not at all, start processes of their own, and do not start; every event is answered all the
//! same, and nothing is left.
//!
//! The node is the stock program with stand-in workers in Python. The load says with each event what
//! goes wrong; beside it, in each minute, workers are killed from outside, whoever starts hangs for
//! some seconds, or ends at once while the pool is being reset by signal, a sound pool is reset, and for
//! three seconds more calls than the queue takes come in an open loop.
//!
//! It fails if an event had no answer or none within a second of its deadline, if the good ones were not
//! good as a rule, if more requests than `max_queue_size` were in the pool, if more processes than the
//! pool may have were there, if a process is left or outlives the worker that started it, if the queue
//! is not empty at the end, or if the node's memory grew.
//!
//! `cargo bench --bench workers_soak -- [--minutes 10 | --seconds N]`

#[path = "load/parts.rs"]
#[expect(dead_code, reason = "it uses a part of the load bench")]
mod load;
mod workers_soak {
    pub(crate) mod drive;
    pub(crate) mod node;
    pub(crate) mod overload;
}

use anyhow::{Context, bail};
use clap::Parser;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};
use workers_soak::drive::Tally;
use workers_soak::node::Node;
use workers_soak::overload::{self, Overload};

/// Worker processes of the pool.
const WORKERS: usize = 4;
/// `max_queue_size` of the pool: the closed loops fill half of it.
const ROOM: usize = 128;
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
        value_parser = clap::value_parser!(u64).range(60..=86_400))]
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
    let node = Rc::new(Node::start(WORKERS, ROOM).await?);
    println!(
        "soak     {time:?}, node {} with {WORKERS} workers and room for {ROOM} requests",
        node.pid()
    );
    let end = Instant::now() + time;
    let local = tokio::task::LocalSet::new();
    let mut working = local.spawn_local(workers_soak::drive::run(node.address(), end));
    let mut wrong = Vec::new();
    let (mut seen, mut over) = (Seen::default(), Overload::default());
    let tally: Tally = local
        .run_until(async {
            let mut second = interval(Duration::from_secs(1));
            let mut overloads = JoinSet::new();
            let mut seconds = 0_u64;
            loop {
                tokio::select! {
                    tally = &mut working => {
                        while let Some(ended) = overloads.join_next().await {
                            over.add(&ended.context("an overload broke")??);
                        }
                        return tally.context("the load broke")?;
                    }
                    _ = second.tick() => {
                        misbehave(&node, seconds)?;
                        if seconds % 60 == OVERLOAD {
                            overloads.spawn_local(overload::run(Rc::clone(&node)));
                        }
                        seen.look(&node).await?;
                        seconds += 1;
                    }
                }
            }
        })
        .await?;
    node.mend()?;
    println!("{tally}");
    println!("{over}");
    println!("{seen}");
    wrong.extend(tally.wrong());
    over.deepest = over.deepest.max(seen.deepest);
    wrong.extend(over.wrong(ROOM));
    wrong.extend(seen.wrong());
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
    let node = Rc::into_inner(node).context("somebody still uses the node")?;
    wrong.extend(node.stop().await?);
    if wrong.is_empty() {
        println!("every event was answered, and nothing was left behind");
        return Ok(());
    }
    wrong.iter().for_each(|why| eprintln!("wrong: {why}"));
    bail!("{} things are wrong", wrong.len());
}

/// What was seen each second.
#[derive(Debug, Default)]
struct Seen {
    processes: usize,
    orphans: usize,
    deepest: usize,
    memory: Vec<u64>,
}

impl Seen {
    async fn look(&mut self, node: &Node) -> anyhow::Result<()> {
        self.processes = self.processes.max(node.processes()?.len());
        self.orphans = self.orphans.max(node.orphans()?.len());
        self.deepest = self.deepest.max(node.requests().await?);
        self.memory.push(node.resident()?);
        Ok(())
    }

    /// Memory after a fifth of the time, and at the end.
    fn memory(&self) -> (u64, u64) {
        let settled = self.memory.get(self.memory.len() / 5);
        let last = self.memory.last();
        let of = |it: Option<&u64>| it.copied().unwrap_or_default();
        (of(settled), of(last))
    }

    /// What may not be.
    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        // One that leaves and one that comes stand side by side for a while.
        if self.processes > 3 * WORKERS {
            wrong.push(format!("{} worker processes at once", self.processes));
        }
        // Those of workers that are being ended may be seen.
        if self.orphans > 3 * WORKERS {
            let orphans = self.orphans;
            wrong.push(format!("{orphans} processes of workers that are gone"));
        }
        let (settled, last) = self.memory();
        if last > settled + settled / 5 + SLACK {
            wrong.push(format!("memory grew from {settled} to {last} bytes"));
        }
        wrong
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (settled, last) = self.memory();
        write!(
            f,
            "memory   {} MiB after a fifth, {} MiB at the end; at most {} worker processes, {} of workers that \
             were gone",
            settled >> 20,
            last >> 20,
            self.processes,
            self.orphans
        )
    }
}

/// The second of each minute in which an overload begins.
const OVERLOAD: u64 = 46;

/// What is done to the workers from outside in this second. Between two things the pool has time to
/// come back: it begins anew with pauses of up to six seconds.
fn misbehave(node: &Node, second: u64) -> anyhow::Result<()> {
    match second % 60 {
        // Whoever starts now hangs; each second time while the pool is reset.
        3 => node.hang_script()?,
        4 if second > 60 && second % 120 < 60 => node.signal("USR2")?,
        6 => node.mend()?,
        // Whoever starts now ends at once, and that is when the pool is reset.
        24 => node.break_script()?,
        25 => node.signal("USR2")?,
        27 => node.mend()?,
        55 => node.signal("USR2")?,
        _ => {}
    }
    if second % 3 == 1
        && let Some(worker) = node.processes()?.first()
    {
        workers_soak::node::kill(*worker)?;
    }
    Ok(())
}
