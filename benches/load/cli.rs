//! The command line of the bench, and the order in which it runs what was asked for.

use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Parser;
use serde_json::json;

use super::request;
use super::shapes::{self, Plan, SHAPES, Shape};
use super::start;

/// Measures our node beside a bare tonic echo server of the same contract, in interleaved rounds.
#[derive(Debug, Parser)]
#[command(name = "load", bin_name = "cargo bench --bench load --")]
struct Arguments {
    /// Rounds per shape; each drives every server once.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Measured seconds per server and round.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds of load before each measurement.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Threads of the load.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    load_threads: u8,
    /// Only this shape: 8x32, 1x128, 8x1 or 1x128-burn; may be given several times.
    #[arg(long = "shape", value_name = "NAME")]
    shapes: Vec<String>,
    /// Three rounds of one second each.
    #[arg(long)]
    quick: bool,
    /// Also measure ours with its access log at info.
    #[arg(long)]
    access_log: bool,
    /// Instead: time from start to ready, over this many starts.
    #[arg(long, value_name = "STARTS", num_args = 0..=1, default_missing_value = "20")]
    start: Option<u16>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn plan(&self) -> anyhow::Result<Plan> {
        for (name, value) in [("--seconds", self.seconds), ("--warm-up", self.warm_up)] {
            if !(0.05..=600.0).contains(&value) {
                bail!("{name} {value}: must be between 0.05 and 600");
            }
        }
        Ok(Plan {
            rounds: if self.quick { 3 } else { self.rounds.into() },
            seconds: if self.quick { 1.0 } else { self.seconds },
            warm_up_seconds: if self.quick { 0.3 } else { self.warm_up },
            load_threads: self.load_threads.into(),
            access_log: self.access_log,
        })
    }

    fn shapes(&self) -> anyhow::Result<Vec<Shape>> {
        if self.shapes.is_empty() {
            return Ok(SHAPES.to_vec());
        }
        self.shapes
            .iter()
            .map(|name| {
                SHAPES
                    .into_iter()
                    .find(|shape| shape.name == name)
                    .with_context(|| {
                        let names = SHAPES.map(|shape| shape.name).join(", ");
                        format!("--shape {name}: must be one of {names}")
                    })
            })
            .collect()
    }
}

/// Runs what the arguments ask for.
///
/// # Errors
/// On wrong arguments, and if any server fails or answers any call wrongly.
pub(crate) fn run() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match arguments.start {
            Some(starts) => measure_start(&arguments, starts).await,
            None => measure_shapes(&arguments).await,
        }
    })
}

async fn measure_start(arguments: &Arguments, starts: u16) -> anyhow::Result<()> {
    let reports = start::measure(starts.max(1).into()).await?;
    match arguments.json {
        true => println!("{}", json!({ "start": reports })),
        false => reports
            .iter()
            .for_each(|report| print!("{}", report.text())),
    }
    Ok(())
}

async fn measure_shapes(arguments: &Arguments) -> anyhow::Result<()> {
    let plan = arguments.plan()?;
    let shapes = arguments.shapes()?;
    let cores = std::thread::available_parallelism()?;
    if !arguments.json {
        println!(
            "{} rounds x {} s after {} s of warm-up, {} load threads, {cores} cores, {} keys",
            plan.rounds,
            plan.seconds,
            plan.warm_up_seconds,
            plan.load_threads,
            request::KEYS,
        );
    }
    let calls = Arc::new(request::calls());
    let mut reports = Vec::with_capacity(shapes.len());
    for shape in shapes {
        let report = shapes::measure(shape, &plan, &calls).await?;
        if !arguments.json {
            print!("{}", report.text());
        }
        reports.push(report);
    }
    if arguments.json {
        let cores = cores.get();
        println!(
            "{}",
            json!({ "plan": plan, "cores": cores, "shapes": reports })
        );
    }
    Ok(())
}
