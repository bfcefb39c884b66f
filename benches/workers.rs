//! The worker bench: one PHP script answered through a pool of ours, and through RoadRunner's pool of
//! as many workers where `RR_BIN` names its binary, both in their defaults and with our fence on.
//!
//! The two take turns in short slices of mirrored order, driven by the same load from this process, so
//! that other work on the machine falls on both; what is reported is the median of the ratios of the
//! rounds. Processor time is that of the host alone: PHP's is shown beside it.
//!
//! `raw` is a worker in plain PHP that only sends back, `sdk` the same on the PHP SDK, which wants a
//! folder with its `autoload.php` in `CENTRIPETA_TEST_PHP_SDK`. At the default settings the bench fails
//! below its bars: rate 1.4 (raw), 1.25 (sdk); processor time per call 0.6 and 0.55; p99 1.0.
//!
//! `cargo bench --bench workers -- [--script raw|sdk] [--rounds 7] [--seconds 2] [--workers 2]
//! [--connections 8] [--in-flight 8] [--ours default|no-fence|no-workers]`

#[path = "load/parts.rs"]
#[expect(dead_code, reason = "it uses a part of the load bench")]
mod load;
mod workers {
    pub(crate) mod figures;
    pub(crate) mod host;
}

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use load::client::{Load, RunningLoad};
use load::request::{Call, calls};
use load::window::Window;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use workers::figures::{Slice, Table};
use workers::host::{Host, Kind, Setting};

/// Compares worker pools: ours, and RoadRunner's where `RR_BIN` names it.
#[derive(Debug, Clone, Parser)]
#[command(name = "workers", bin_name = "cargo bench --bench workers --")]
struct Arguments {
    /// One script instead of all that can run.
    #[arg(long)]
    script: Option<Script>,
    /// Rounds, each of which gives a ratio.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each slice that count; a quarter more warms up.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Worker processes of each pool.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// Connections of the load.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    connections: u32,
    /// Calls in flight on each connection.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100))]
    in_flight: u32,
    /// How ours is set; bars are those of the default.
    #[arg(long, default_value = "default")]
    ours: Setting,
    /// What cargo passes.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What the workers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Script {
    /// Plain PHP.
    Raw,
    /// The PHP SDK.
    Sdk,
}

impl Script {
    fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Sdk => "sdk",
        }
    }

    /// The least rate and the most processor time per call, as ratios to RoadRunner's.
    fn bars(self) -> (f64, f64) {
        match self {
            Self::Raw => (1.4, 0.6),
            Self::Sdk => (1.25, 0.55),
        }
    }

    fn can_run(self) -> bool {
        let sdk = std::env::var_os("CENTRIPETA_TEST_PHP_SDK").map(PathBuf::from);
        self == Self::Raw || sdk.is_some_and(|folder| folder.join("autoload.php").is_file())
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let roadrunner = std::env::var_os("RR_BIN").map(PathBuf::from);
    if roadrunner.is_none() {
        eprintln!("SKIPPED: no RoadRunner in RR_BIN: there is nothing to compare with");
    }
    let mut missed = Vec::new();
    for script in [Script::Raw, Script::Sdk] {
        if arguments.script.is_some_and(|only| only != script) {
            continue;
        }
        if !script.can_run() {
            eprintln!(
                "SKIPPED: {}: no SDK in CENTRIPETA_TEST_PHP_SDK",
                script.name()
            );
            continue;
        }
        let mut kinds = vec![Kind::Ours(arguments.ours)];
        kinds.extend(roadrunner.clone().map(Kind::RoadRunner));
        let table = measure(arguments, script, &kinds)?;
        println!("{}", table.text());
        missed.extend(table.missed(script.name(), script.bars()));
    }
    // Other settings are for looking at things.
    let shape = (arguments.connections, arguments.in_flight);
    let is_default = shape == (8, 8) && arguments.ours == Setting::Default;
    if !missed.is_empty() && is_default {
        bail!("below the bar: {}", missed.join("; "));
    }
    Ok(())
}

fn measure(arguments: &Arguments, script: Script, kinds: &[Kind]) -> anyhow::Result<Table> {
    let dir = std::env::temp_dir().join(format!("workers-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let mut hosts = Vec::new();
    for kind in kinds {
        let host = Host::start(kind, script.name(), arguments.workers, &dir)?;
        hosts.push(host);
    }
    let calls = calls();
    let load = Load {
        connections: arguments.connections as usize,
        in_flight: arguments.in_flight as usize,
        threads: 1,
    };
    println!(
        "workers  {}: {} processes each, {} connections × {}, {} rounds of {} s",
        script.name(),
        arguments.workers,
        load.connections,
        load.in_flight,
        arguments.rounds,
        arguments.seconds
    );
    let names: Vec<_> = hosts.iter().map(Host::name).collect();
    let mut table = Table::new(script.name(), &names);
    let time = Duration::from_secs(arguments.seconds);
    for round in 0..arguments.rounds {
        let mut order: Vec<usize> = (0..hosts.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            table.add(index, slice(&hosts[index], load, &calls, time)?);
        }
    }
    drop(hosts);
    // Nothing of ours is left in it that anyone needs.
    drop(std::fs::remove_dir_all(dir));
    Ok(table)
}

/// Drives one host for a while.
fn slice(host: &Host, load: Load, calls: &Arc<[Call]>, time: Duration) -> anyhow::Result<Slice> {
    let from = Instant::now() + time / 4;
    let window = Window {
        from,
        until: from + time,
    };
    let running = RunningLoad::start(load, host.address(), calls, window)?;
    pause_until(window.from);
    let before = host.cpu()?;
    pause_until(window.until);
    let after = host.cpu()?;
    let stats = running.finish()?;
    if let Some((count, why)) = stats.errors() {
        bail!(
            "{} failed {count} calls, the first with: {why}",
            host.name()
        );
    }
    Ok(Slice::new(&stats, time, before, after))
}

fn pause_until(end: Instant) {
    while Instant::now() < end {
        std::thread::park_timeout(end - Instant::now());
    }
}
