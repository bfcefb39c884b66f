//! The cluster bench: what the design promises of three nodes, measured and printed beside it.
//!
//! Three (for a join, four) processes of the stock binary, each on a host of its own (network
//! namespaces), under a steady load of callers that count; from what they were told follows what
//! failed, how long anyone waited, and that no key ever had two owners. Fleet, load and checker are
//! those of `tests/cluster`. Then two nodes on the loopback, for what a forwarded event costs.
//! `n` is how many deaths, moves, calls or rounds a figure is of. A target that is missed is marked; it
//! ends with exit code 1 where a bar is.
//!
//! ```sh
//! cargo bench --bench cluster                      # everything, 5 minutes; needs root, ip, iptables
//! cargo bench --bench cluster -- --only takeover   # one part; --help names them
//! cargo bench --bench cluster -- --repeat 10       # more deaths and moves behind each figure
//! ```
//!
//! Figures are of this machine and what else runs on it: the load average is printed with them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it watches real processes, to which no paused clock applies"
)]
#![allow(dead_code, reason = "it uses parts of the tests and of other benches")]

#[path = "../tests/cluster/drive.rs"]
mod drive;
#[path = "../tests/cluster/fleet.rs"]
mod fleet;
#[path = "forward/parts.rs"]
mod forward;
#[path = "load/parts.rs"]
mod load;
#[path = "../tests/cluster/net.rs"]
mod net;
#[path = "../tests/support/fleet.rs"]
mod nodes;
#[path = "../tests/support/process.rs"]
mod process;
#[path = "../tests/support/mod.rs"]
mod support;

mod cluster {
    pub(crate) mod parts;
    pub(crate) mod table;
}

use clap::{Parser, ValueEnum};
use cluster::parts;
use cluster::table::Table;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

/// A part of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Two nodes join one; a fourth joins; one is drained.
    Join,
    /// Single slots and 256 of them move.
    Moves,
    /// Owners, and an owner that leads, die.
    Takeover,
    /// An owner stands still beyond its lease, and wakes.
    Pause,
    /// Every node is restarted in turn.
    Rolling,
    /// What a forwarded event costs.
    Forward,
}

const PARTS: [Part; 6] = [
    Part::Join,
    Part::Moves,
    Part::Takeover,
    Part::Pause,
    Part::Rolling,
    Part::Forward,
];

/// Measures three nodes beside the targets of the design.
#[derive(Debug, Parser)]
#[command(name = "cluster", bin_name = "cargo bench --bench cluster --")]
struct Arguments {
    /// Only this part; may be given several times.
    #[arg(long)]
    only: Vec<Part>,
    /// How often owners die; twenty single moves each.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=20))]
    repeat: u8,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn main() -> ExitCode {
    // `cargo test --benches` wants to see that it starts, no more: the parts are tests already.
    if std::env::args_os().len() == 1 {
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::parse();
    let wanted = |part: &Part| arguments.only.is_empty() || arguments.only.contains(part);
    if let Err(why) = net::possible() {
        eprintln!("SKIPPED: {why}");
        return ExitCode::SUCCESS;
    }
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{cores} cores, load average before: {}\n", load_average());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut table = Table::default();
    let began = Instant::now();
    for part in PARTS.iter().filter(|part| wanted(part)) {
        let rows = table.len();
        let repeat = arguments.repeat;
        runtime.block_on(async {
            match part {
                Part::Join => parts::join(&mut table).await,
                Part::Moves => parts::moves(&mut table, usize::from(repeat) * 20).await,
                Part::Takeover => parts::takeover(&mut table, repeat.into()).await,
                Part::Pause => parts::pause(&mut table, usize::from(repeat).min(3)).await,
                Part::Rolling => parts::rolling(&mut table).await,
                Part::Forward => {}
            }
        });
        if *part == Part::Forward {
            parts::forward(&mut table);
        }
        print!("{}", table.text(rows));
        // A pipe is written at once, so that a run that is cut short has said what it found.
        drop(std::io::stdout().flush());
    }
    println!(
        "\n{} after {:.0?}; load average after: {}",
        table.summary(),
        began.elapsed(),
        load_average()
    );
    if table.bars_hold() {
        ExitCode::SUCCESS
    } else {
        eprintln!("a bar is missed");
        ExitCode::FAILURE
    }
}
