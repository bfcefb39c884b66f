//! The soak bench: a node under everything that goes wrong at once, for ten minutes, and nothing of it
//! left behind.
//!
//! The node is a child of this process: this executable in the role of a program with `serve`, with
//! routes of its own and those of a `node.toml`. Events of every kind come at a moderate rate, streams
//! open and close, handlers publish to two stand-ins of Centrifugo's API, one of which dies and
//! returns while the other one is slow and hangs now and then; a collector takes connections and never
//! answers; the file is rewritten and read again every two seconds, broken now and then; bursts fill
//! the queues. Each second memory, descriptors, threads and gauges are looked at.
//!
//! It fails if an event had no answer, if a reload was not applied or a broken one was, if anything is
//! in flight at the end, if descriptors or threads are more than at the start, or if memory grew.
//!
//! `cargo bench --bench soak -- [--minutes 10 | --seconds N] [--no-reload] [--no-traces]`

mod soak {
    pub(crate) mod doubles;
    pub(crate) mod drive;
    pub(crate) mod file;
    pub(crate) mod node;
    pub(crate) mod program;
    pub(crate) mod watch;
}

use anyhow::{Context, bail};
use clap::Parser;
use soak::doubles::{Collector, Double};
use soak::drive::Load;
use soak::file::Files;
use soak::node::Node;
use soak::watch::Watch;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, interval, sleep};

/// The first argument in the role of the node.
const ROLE: &str = "node";
/// How often the file is written anew.
const RELOADS: Duration = Duration::from_secs(2);
/// How long everything may take to come to rest.
const REST: Duration = Duration::from_secs(20);

/// Runs a node under load, faults and reloads, and looks for what it leaves behind.
#[derive(Debug, Clone, Parser)]
#[command(name = "soak", bin_name = "cargo bench --bench soak --")]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// The same in seconds, for a trial.
    #[arg(long, conflicts_with = "minutes",
        value_parser = clap::value_parser!(u64).range(10..=86_400))]
    seconds: Option<u64>,
    /// Never reads the file again.
    #[arg(long)]
    no_reload: bool,
    /// Exports no traces.
    #[arg(long)]
    no_traces: bool,
    /// What cargo passes.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(self.minutes * 60))
    }
}

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args().collect();
    if arguments.get(1).is_some_and(|role| role == ROLE) {
        arguments.remove(1);
        return soak::program::run(arguments);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let result = runtime
        .context("start a runtime")
        .and_then(|runtime| runtime.block_on(run(&Arguments::parse())));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (mut dies, slow) = (Double::start()?, Double::start()?);
    let collector = Collector::start().await?;
    let collector = (!arguments.no_traces).then(|| collector.address());
    let mut files = Files::new([dies.address(), slow.address()], collector)?;
    files.check().await?;
    let node = Node::start(files.path()).await?;
    let load = Load::connect(node.grpc()).await?;
    load.warm_up().await?;
    let mut watch = Watch::new(&node);
    watch.at_rest(2, REST).await?;
    watch.baseline().await?;

    println!(
        "soak     {:?}, node {} at {}{}{}",
        arguments.time(),
        node.process(),
        node.grpc(),
        if arguments.no_reload {
            ", no reloads"
        } else {
            ""
        },
        if arguments.no_traces {
            ", no traces"
        } else {
            ""
        },
    );
    let end = Instant::now() + arguments.time();
    let working = Arc::clone(&load).run(end);
    let mut working = tokio::spawn(working);
    let mut second = interval(Duration::from_secs(1));
    let mut reload = interval(RELOADS);
    let mut seconds = 0_u64;
    loop {
        tokio::select! {
            ended = &mut working => {
                ended.context("the load broke")?;
                break;
            }
            _ = reload.tick(), if !arguments.no_reload && Instant::now() + RELOADS < end => {
                files.next()?;
                node.hang_up().await?;
                files.judge(&load, RELOADS * 3 / 4).await;
            }
            _ = second.tick() => {
                watch.sample().await.context("look at the node")?;
                misbehave(seconds % 30, &mut dies, &slow)?;
                seconds += 1;
                if seconds.is_multiple_of(30) {
                    println!("{}", watch.line(&load));
                }
            }
        }
    }
    dies.restart()?;
    slow.delay(Duration::ZERO);
    let mut wrong = watch.rest(REST).await?;
    wrong.extend(load.wrong());
    wrong.extend(files.wrong());
    wrong.extend(watch.wrong());
    println!("{}\n{}\n{}", watch.table(), load.summary(), files.summary());
    if let Err(why) = node.stop().await {
        wrong.push(format!("{why:#}"));
    }
    if wrong.is_empty() {
        println!("nothing was left behind");
        return Ok(());
    }
    wrong.iter().for_each(|why| eprintln!("wrong: {why}"));
    bail!("{} things are wrong", wrong.len());
}

/// What the stand-ins do in this second of thirty.
fn misbehave(second: u64, dies: &mut Double, slow: &Double) -> anyhow::Result<()> {
    match second {
        0 => slow.delay(Duration::from_millis(20)),
        6 => dies.kill(),
        11 => dies.restart()?,
        14 => slow.delay(Duration::from_millis(300)),
        18 => slow.delay(Duration::from_secs(3)),
        21 => slow.delay(Duration::from_millis(20)),
        // Both at once: nothing can be published.
        24 => {
            dies.kill();
            slow.delay(Duration::from_secs(3));
        }
        27 => {
            dies.restart()?;
            slow.delay(Duration::from_millis(20));
        }
        _ => {}
    }
    Ok(())
}

/// Waits until a condition holds; whether it did in time.
async fn eventually<F>(limit: Duration, mut holds: impl FnMut() -> F) -> anyhow::Result<bool>
where
    F: Future<Output = anyhow::Result<bool>>,
{
    let end = Instant::now() + limit;
    while !holds().await? {
        if Instant::now() > end {
            return Ok(false);
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(true)
}
