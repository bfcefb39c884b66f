//! The cases in turn, and the lines of the report.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::time::Instant;

use super::pair::Pair;
use crate::load::client::{Load, RunningLoad};
use crate::load::machine::{cpu_time, machine_busy_time};
use crate::load::request::{Call, calls};
use crate::load::stats::{Stats, median};
use crate::load::window::Window;

/// Processor time of a forwarded event over that of a local one: the aim and the bar.
const AIM: f64 = 1.5;
const BAR: f64 = 2.0;
/// Load that does not count, at the begin of each slice.
const WARM_UP: Duration = Duration::from_millis(250);

/// How many connections with how many calls in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Name for `--shape`.
    pub(crate) name: &'static str,
    connections: usize,
    in_flight: usize,
}

/// Busy; busy as one Centrifugo is, on one connection; and nearly idle, where nothing is batched.
pub(crate) const SHAPES: [Shape; 3] = [
    Shape {
        name: "8x32",
        connections: 8,
        in_flight: 32,
    },
    Shape {
        name: "1x128",
        connections: 1,
        in_flight: 128,
    },
    Shape {
        name: "8x1",
        connections: 8,
        in_flight: 1,
    },
];

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Rounds per shape.
    pub(crate) rounds: usize,
    /// Slices of a round.
    pub(crate) slices: u8,
    /// Measured seconds per case and round.
    pub(crate) seconds: f64,
    /// Threads of the load.
    pub(crate) threads: usize,
}

/// The nodes that the load of a case goes to.
const CASES: [(&str, &[usize]); 3] = [("local", &[0]), ("forwarded", &[1]), ("half", &[0, 1])];

/// What a case showed in a round.
#[derive(Clone, Debug)]
struct Tally {
    stats: Stats,
    time: Duration,
    cpu: [Duration; 2],
    others: Duration,
}

impl Tally {
    fn new() -> Self {
        Self {
            stats: Stats::new(),
            time: Duration::ZERO,
            cpu: [Duration::ZERO; 2],
            others: Duration::ZERO,
        }
    }

    fn us(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.stats.count() as f64
    }
}

/// Name, value of a case, and whether its ratio has a bar.
type Figure = (&'static str, fn(&Tally) -> f64);

const CPU: &str = "cpu_us_per_event";
const FIGURES: [Figure; 7] = [
    (CPU, |it| it.us(it.cpu[0] + it.cpu[1])),
    ("cpu_us_owner", |it| it.us(it.cpu[0])),
    ("cpu_us_other_node", |it| it.us(it.cpu[1])),
    ("events_per_second", |it| {
        it.stats.count() as f64 / it.time.as_secs_f64()
    }),
    ("p50_us", |it| it.stats.quantile_us(0.5)),
    ("p99_us", |it| it.stats.quantile_us(0.99)),
    ("cores_used_by_others", |it| {
        it.others.as_secs_f64() / it.time.as_secs_f64()
    }),
];

/// What the rounds of a shape showed.
#[derive(Debug)]
pub(crate) struct Report {
    shape: Shape,
    rounds: Vec<Vec<Tally>>,
}

/// Drives all cases through all rounds of a shape.
///
/// # Errors
/// If a node ends or answers any call wrongly.
pub(crate) fn measure(pair: &Pair, shape: Shape, plan: &Plan) -> anyhow::Result<Report> {
    let calls = calls();
    let mut rounds: Vec<Vec<Tally>> = Vec::new();
    for round in 0..plan.rounds {
        let mut tallies = vec![Tally::new(); CASES.len()];
        for slice in 0..usize::from(plan.slices) {
            let mut order: Vec<usize> = (0..CASES.len()).collect();
            // Mirrored, so that what else runs meets all cases alike.
            if (round + slice) % 2 == 1 {
                order.reverse();
            }
            for case in order {
                drive(pair, CASES[case].1, shape, plan, &calls, &mut tallies[case])
                    .with_context(|| format!("shape {}, {}", shape.name, CASES[case].0))?;
            }
        }
        rounds.push(tallies);
    }
    Ok(Report { shape, rounds })
}

fn drive(
    pair: &Pair,
    nodes: &[usize],
    shape: Shape,
    plan: &Plan,
    calls: &Arc<[Call]>,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let time = Duration::from_secs_f64(plan.seconds / f64::from(plan.slices));
    let from = Instant::now() + WARM_UP;
    let until = from + time;
    let mut running = Vec::new();
    for node in nodes {
        let load = Load {
            connections: shape.connections.div_ceil(nodes.len()),
            in_flight: match shape.connections {
                1 => shape.in_flight / nodes.len(),
                _ => shape.in_flight,
            },
            threads: plan.threads,
        };
        let window = Window { from, until };
        running.push(RunningLoad::start(
            load,
            pair.address(*node),
            calls,
            window,
        )?);
    }
    let wait = |to: Instant| std::thread::sleep(to.saturating_duration_since(Instant::now()));
    let busy = || {
        let own = cpu_time(std::process::id())?;
        anyhow::Ok((machine_busy_time()?, own))
    };
    wait(from);
    let (before, (machine, own)) = (pair.cpu()?, busy()?);
    wait(until);
    let (after, (machine_after, own_after)) = (pair.cpu()?, busy()?);
    let mut ours = own_after.saturating_sub(own);
    for node in 0..2 {
        let used = after[node].saturating_sub(before[node]);
        tally.cpu[node] += used;
        ours += used;
    }
    tally.others += machine_after.saturating_sub(machine).saturating_sub(ours);
    for load in running {
        tally.stats.merge(load.finish()?);
    }
    if let Some((errors, cause)) = tally.stats.errors() {
        bail!("{errors} calls failed, the first with: {cause}");
    }
    ensure!(tally.stats.count() > 0, "nothing was answered");
    tally.time += time;
    Ok(())
}

impl Report {
    fn values(&self, of: fn(&Tally) -> f64, case: usize) -> Vec<f64> {
        let values = self.rounds.iter().map(|tallies| of(&tallies[case]));
        values.collect()
    }

    /// A figure of forwarded events over that of local ones, round by round.
    fn ratios(&self, of: fn(&Tally) -> f64) -> Vec<f64> {
        let pairs = self.values(of, 1).into_iter().zip(self.values(of, 0));
        pairs
            .filter(|(_, local)| *local > 0.0)
            .map(|(forwarded, local)| forwarded / local)
            .collect()
    }

    /// The processor time of a forwarded event over that of a local one, the median of the rounds.
    pub(crate) fn cpu_ratio(&self) -> f64 {
        median(&self.ratios(FIGURES[0].1))
    }

    /// The median wait of a local and of a forwarded event in microseconds.
    #[allow(dead_code, reason = "a row of the cluster bench")]
    pub(crate) fn p50_us(&self) -> (f64, f64) {
        let p50 = |case| median(&self.values(|it| it.stats.quantile_us(0.5), case));
        (p50(0), p50(1))
    }

    /// The report as a table.
    pub(crate) fn text(&self) -> String {
        let Shape {
            name,
            connections,
            in_flight,
        } = self.shape;
        let mut text = format!(
            "\nshape {name}: {connections} connections x {in_flight} in flight\n  {:<22}",
            ""
        );
        for (name, _) in CASES {
            let _infallible = write!(text, " {name:>11}");
        }
        text += "    forwarded/local median (worst)\n";
        for (name, of) in FIGURES {
            let _infallible = write!(text, "  {name:<22}");
            for case in 0..CASES.len() {
                let _infallible = write!(text, " {:>11.1}", median(&self.values(of, case)));
            }
            let ratios = self.ratios(of);
            if !ratios.is_empty() && !name.starts_with("cores") && !name.ends_with("node") {
                let worst = match name {
                    "events_per_second" => ratios.iter().copied().fold(f64::INFINITY, f64::min),
                    _ => ratios.iter().copied().fold(0.0, f64::max),
                };
                let _infallible = write!(text, "    {:.2} ({worst:.2})", median(&ratios));
            }
            if name == CPU {
                let verdict = match self.cpu_ratio() {
                    ratio if ratio <= AIM => "within the aim",
                    ratio if ratio <= BAR => "within the bar",
                    _ => "BEYOND THE BAR",
                };
                let _infallible = write!(text, "  aim {AIM}, bar {BAR}: {verdict}");
            }
            text.push('\n');
        }
        text
    }
}

/// Drives one node for the seconds of the plan, for whoever looks at the processes meanwhile.
///
/// # Errors
/// If there is no such node, or a call fails.
pub(crate) fn hold(pair: &Pair, node: &str, shape: Shape, plan: &Plan) -> anyhow::Result<()> {
    let nodes: &[usize] = match node {
        "a" => &[0],
        "b" => &[1],
        other => bail!("--hold {other}: must be a or b"),
    };
    println!("pid a {} b {}", pair.id(0), pair.id(1));
    let mut tally = Tally::new();
    let plan = Plan { slices: 1, ..*plan };
    drive(pair, nodes, shape, &plan, &calls(), &mut tally)?;
    println!(
        "{} events, {:.2} + {:.2} us",
        tally.stats.count(),
        tally.us(tally.cpu[0]),
        tally.us(tally.cpu[1])
    );
    Ok(())
}
