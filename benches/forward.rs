//! The forward bench: what an event costs that another node of the cluster runs, beside one that the
//! node runs that it came to.
//!
//! Two processes of the stock binary on the loopback, `a` owns every slot, `b` none. The same load goes
//! to `a` (local) and to `b` (forwarded to `a`) in turn, in short slices; the processor time is that of
//! both processes together, so nothing of the way is left out, and every figure is a ratio of the two
//! within one round. A third case sends half of the load to each (what an even cluster of two sees).
//!
//! ```sh
//! cargo bench --bench forward                     # three shapes, about a minute
//! cargo bench --bench forward -- --shape 8x32 --seconds 5 --rounds 5
//! cargo bench --bench forward -- --hold b         # only drives b for a while, for a profiler
//! ```
//!
//! The bar is 2.0 times the processor time of a local event, the aim 1.5; it is printed beside.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it watches real processes, to which no paused clock applies"
)]

#[path = "forward/parts.rs"]
mod forward;
#[path = "load/parts.rs"]
#[expect(dead_code, reason = "it uses a part of the load bench")]
mod load;
#[path = "../tests/support/process.rs"]
mod process;

use clap::Parser;
use std::process::ExitCode;
use std::time::Duration;

use forward::measure::{self, Plan, SHAPES};
use forward::pair::Pair;

/// Measures forwarded events beside local ones.
#[derive(Debug, Parser)]
#[command(name = "forward", bin_name = "cargo bench --bench forward --")]
struct Arguments {
    /// Rounds per shape.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Slices of a round; in each, every case is driven once.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=60))]
    slices: u8,
    /// Measured seconds per case and round.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Threads of the load.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    load_threads: u8,
    /// Only this shape (`8x32`, `1x128`, `8x1`).
    #[arg(long)]
    shape: Option<String>,
    /// Instead: drives this node (`a` or `b`) for `--seconds` and prints the process ids first.
    #[arg(long)]
    hold: Option<String>,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What `cargo test --benches` gets: one short slice, which shows that calls are answered rightly.
fn smoke() -> Arguments {
    let words = "forward --shape 8x32 --rounds 1 --slices 1 --seconds 0.2";
    Arguments::parse_from(words.split(' '))
}

fn run() -> anyhow::Result<()> {
    let arguments = match std::env::args_os().len() {
        1 => smoke(),
        _ => Arguments::parse(),
    };
    anyhow::ensure!(
        (0.05..=600.0).contains(&arguments.seconds),
        "--seconds {}: must be between 0.05 and 600",
        arguments.seconds
    );
    let plan = Plan {
        rounds: arguments.rounds.into(),
        slices: arguments.slices,
        seconds: arguments.seconds,
        threads: arguments.load_threads.into(),
    };
    let shapes: Vec<_> = SHAPES
        .into_iter()
        .filter(|shape| {
            arguments
                .shape
                .as_ref()
                .is_none_or(|name| name == shape.name)
        })
        .collect();
    anyhow::ensure!(!shapes.is_empty(), "--shape: must be 8x32, 1x128 or 8x1");
    let pair = Pair::start()?;
    if let Some(node) = &arguments.hold {
        return measure::hold(&pair, node, shapes[0], &plan);
    }
    println!(
        "{} rounds x {} s in {} slices per case, {} load threads; a node at rest uses {:.1} % of a core",
        plan.rounds,
        plan.seconds,
        plan.slices,
        plan.threads,
        100.0 * pair.at_rest(Duration::from_millis(500))?,
    );
    for shape in shapes {
        print!("{}", measure::measure(&pair, shape, &plan)?.text());
    }
    pair.stop();
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
