//! The command line of the bench, and the order in which it runs what was asked for.

use anyhow::{Context, bail};
use clap::Parser;
use serde_json::json;

use super::centrifugo;
use super::request;
use super::rounds::Plan;
use super::shapes::{self, SHAPES, Shape};
use super::{lanes, start, streams};

/// Measures our node beside a bare tonic echo server of the same contract, in interleaved rounds.
#[derive(Debug, Parser)]
#[command(name = "load", bin_name = "cargo bench --bench load --")]
struct Arguments {
    /// Rounds per shape; each drives every server once.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Slices that a round is cut into; within a slice each server is driven once.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..=60))]
    slices: u8,
    /// Measured seconds per server and round.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds of load that don't count, per server and round.
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
    /// Also measure ours without metrics; ours is then compared with that.
    #[arg(long)]
    no_metrics: bool,
    /// Also measure ours with a collector of traces, sampling 0, 0.01 and 1, each against ours (shapes
    /// only).
    #[arg(long)]
    traces: bool,
    /// Instead: time from start to ready, over this many starts.
    #[arg(long, value_name = "STARTS", num_args = 0..=1, default_missing_value = "20")]
    start: Option<u16>,
    /// Instead: open this many subscription streams and print the memory of each.
    #[arg(long, value_name = "STREAMS", num_args = 0..=1, default_missing_value = "100000")]
    streams: Option<u32>,
    /// Instead: keep this many idle lanes with a counter each and print the memory of each.
    #[arg(long, value_name = "LANES", num_args = 0..=1, default_missing_value = "1000000")]
    lanes: Option<u32>,
    /// Instead: rpc of 50 clients through a real Centrifugo (`CENTRIFUGO_BIN`, else on `PATH`).
    #[arg(long)]
    centrifugo: bool,
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
            slices: self.slices,
            seconds: if self.quick { 1.0 } else { self.seconds },
            warm_up_seconds: if self.quick { 0.3 } else { self.warm_up },
            load_threads: self.load_threads.into(),
            access_log: self.access_log,
            no_metrics: self.no_metrics,
            traces: self.traces,
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

/// What `cargo test --benches` gets: one short round, which shows that calls are answered rightly.
fn smoke() -> Arguments {
    let arguments = "load --shape 8x32 --rounds 1 --slices 1 --seconds 0.2 --warm-up 0.05";
    Arguments::parse_from(arguments.split(' '))
}

/// Runs what the arguments ask for.
///
/// # Errors
/// On wrong arguments, and if any server fails or answers any call wrongly.
pub(crate) fn run() -> anyhow::Result<()> {
    let arguments = match std::env::args_os().len() {
        1 => smoke(),
        _ => Arguments::parse(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match (arguments.start, arguments.streams) {
            (Some(starts), _) => measure_start(&arguments, starts).await,
            (None, Some(streams)) => measure_streams(&arguments, streams).await,
            (None, None) if arguments.lanes.is_some() => measure_lanes(&arguments).await,
            (None, None) if arguments.centrifugo => measure_centrifugo(&arguments).await,
            (None, None) => measure_shapes(&arguments).await,
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

async fn measure_streams(arguments: &Arguments, streams: u32) -> anyhow::Result<()> {
    let reports = streams::measure(streams.max(1) as usize).await?;
    match arguments.json {
        true => println!("{}", json!({ "streams": reports })),
        false => reports
            .iter()
            .for_each(|report| print!("{}", report.text())),
    }
    Ok(())
}

async fn measure_lanes(arguments: &Arguments) -> anyhow::Result<()> {
    let lanes = arguments.lanes.unwrap_or(1_000_000).clamp(10, 10_000_000);
    let report = lanes::measure(lanes as usize).await?;
    match arguments.json {
        true => println!("{}", json!({ "lanes": report })),
        false => print!("{}", report.text()),
    }
    Ok(())
}

async fn measure_centrifugo(arguments: &Arguments) -> anyhow::Result<()> {
    let plan = arguments.plan()?;
    let Some(program) = centrifugo::find() else {
        eprintln!("SKIPPED: no centrifugo on PATH and none named by CENTRIFUGO_BIN");
        return Ok(());
    };
    let report = centrifugo::measure(&program, &plan).await?;
    match arguments.json {
        true => println!("{}", json!({ "plan": plan, "centrifugo": report })),
        false => print!("{}", report.text()),
    }
    Ok(())
}

async fn measure_shapes(arguments: &Arguments) -> anyhow::Result<()> {
    let plan = arguments.plan()?;
    let shapes = arguments.shapes()?;
    let cores = std::thread::available_parallelism()?;
    if !arguments.json {
        println!(
            "{} rounds x {} s in {} slices after {} s of warm-up, {} load threads, {cores} cores, {} keys",
            plan.rounds,
            plan.seconds,
            plan.slices,
            plan.warm_up_seconds,
            plan.load_threads,
            request::KEYS,
        );
    }
    let calls = request::calls();
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
