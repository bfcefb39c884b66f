//! The unary path: shapes of load, rounds of servers in turn, and the report per shape.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{bail, ensure};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::burn::Burn;
use super::client::{Load, RunningLoad, Window};
use super::contenders::{self, Contender};
use super::machine::{CpuUse, resident_bytes};
use super::ratio::{Better, Figure, Summary, table_head};
use super::request::Call;
use super::role::ServerOptions;
use super::server::ServerProcess;

/// Time given to a load to open its connections before the warm-up.
const CONNECT_ALLOWANCE: Duration = Duration::from_millis(100);

/// How many connections with how many calls in flight, and what the handler does.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Shape {
    /// Name for `--shape`.
    pub(crate) name: &'static str,
    /// Connections.
    pub(crate) connections: usize,
    /// Calls in flight on each.
    pub(crate) in_flight: usize,
    /// Work of the handler in microseconds.
    pub(crate) burn_us: u64,
}

/// All shapes. Centrifugo opens one connection per event kind, so the single connection is its case.
pub(crate) const SHAPES: [Shape; 4] = [
    Shape {
        name: "8x32",
        connections: 8,
        in_flight: 32,
        burn_us: 0,
    },
    Shape {
        name: "1x128",
        connections: 1,
        in_flight: 128,
        burn_us: 0,
    },
    Shape {
        name: "8x1",
        connections: 8,
        in_flight: 1,
        burn_us: 0,
    },
    Shape {
        name: "1x128-burn",
        connections: 1,
        in_flight: 128,
        burn_us: 20,
    },
];

/// How long and how often.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Plan {
    /// Rounds per shape.
    pub(crate) rounds: usize,
    /// Measured seconds per server and round.
    pub(crate) seconds: f64,
    /// Seconds of load before.
    pub(crate) warm_up_seconds: f64,
    /// Threads of the load.
    pub(crate) load_threads: usize,
    /// Whether ours is also measured with its access log on.
    pub(crate) access_log: bool,
}

const FIGURES: [Figure; 8] = {
    const fn figure(name: &'static str, better: Better) -> Figure {
        Figure { name, better }
    }
    [
        figure("events_per_second", Better::Higher),
        figure("p50_us", Better::Lower),
        figure("p99_us", Better::Lower),
        figure("p99.9_us", Better::Lower),
        figure("server_cpu_us_per_event", Better::Lower),
        figure("server_rss_mib", Better::Neither),
        figure("load_cpu_us_per_event", Better::Neither),
        figure("cores_used_by_others", Better::Neither),
    ]
};

/// The figures of one server in one round, in the order of `FIGURES`.
type Sample = [f64; FIGURES.len()];

/// What a shape showed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ShapeReport {
    #[serde(flatten)]
    shape: Shape,
    comparisons: Vec<Comparison>,
}

/// A server beside the bare one.
#[derive(Clone, Debug, Serialize)]
struct Comparison {
    base: &'static str,
    name: &'static str,
    figures: Vec<Summary>,
}

impl ShapeReport {
    /// The report as text.
    pub(crate) fn text(&self) -> String {
        let Shape {
            name,
            connections,
            in_flight,
            burn_us,
        } = self.shape;
        let mut text = format!(
            "\nshape {name}: {connections} connections x {in_flight} in flight, handler {burn_us} us\n"
        );
        for comparison in &self.comparisons {
            text += &table_head(comparison.base, comparison.name);
            for summary in &comparison.figures {
                summary.print(&mut text);
            }
        }
        text
    }
}

/// Drives all servers through all rounds of a shape.
///
/// # Errors
/// If a server can't be started, ends early, or answers any call wrongly.
pub(crate) async fn measure(
    shape: Shape,
    plan: &Plan,
    calls: &Arc<Vec<Call>>,
) -> anyhow::Result<ShapeReport> {
    let contenders = contenders::contenders(ServerOptions {
        burn: Burn::calibrate(Duration::from_micros(shape.burn_us)),
        access_log: plan.access_log,
    });
    let servers = contenders::start(&contenders).await?;
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); contenders.len()];
    for round in 0..plan.rounds {
        for index in contenders::order(round, contenders.len()) {
            let sample = drive(&contenders[index], &servers[index], shape, plan, calls).await?;
            samples[index].push(sample);
        }
    }
    contenders::stop(servers).await?;
    Ok(ShapeReport {
        shape,
        comparisons: compare(&contenders, &samples),
    })
}

fn compare(contenders: &[Contender], samples: &[Vec<Sample>]) -> Vec<Comparison> {
    let column = |server: usize, figure: usize| -> Vec<f64> {
        samples[server]
            .iter()
            .map(|sample| sample[figure])
            .collect()
    };
    let compared = |base: usize, server: usize| Comparison {
        base: contenders[base].name,
        name: contenders[server].name,
        figures: (0..FIGURES.len())
            .map(|index| Summary::of(FIGURES[index], &column(base, index), &column(server, index)))
            .collect(),
    };
    (1..contenders.len())
        .map(|server| compared(server - 1, server))
        .collect()
}

async fn drive(
    contender: &Contender,
    server: &ServerProcess,
    shape: Shape,
    plan: &Plan,
    calls: &Arc<Vec<Call>>,
) -> anyhow::Result<Sample> {
    let load = Load {
        connections: shape.connections,
        in_flight: shape.in_flight,
        threads: plan.load_threads,
    };
    let from = Instant::now() + CONNECT_ALLOWANCE + Duration::from_secs_f64(plan.warm_up_seconds);
    let until = from + Duration::from_secs_f64(plan.seconds);
    let running = RunningLoad::start(load, server.address(), calls, Window { from, until })?;
    sleep_until(from).await;
    let before = CpuUse::so_far(server.process())?;
    sleep_until(until).await;
    let used = CpuUse::so_far(server.process())? - before;
    let resident = resident_bytes(server.process())? as f64 / f64::from(1 << 20);
    let stats = tokio::task::block_in_place(|| running.finish())?;
    if let Some((errors, cause)) = stats.errors() {
        bail!(
            "{} failed {errors} calls in shape {}, the first with: {cause}",
            contender.name,
            shape.name
        );
    }
    ensure!(
        stats.count() > 0,
        "{} answered nothing in shape {}",
        contender.name,
        shape.name
    );
    let events = stats.count() as f64;
    let per_event = |time: Duration| time.as_secs_f64() * 1e6 / events;
    Ok([
        events / plan.seconds,
        stats.quantile_us(0.5),
        stats.quantile_us(0.99),
        stats.quantile_us(0.999),
        per_event(used.server),
        resident,
        per_event(used.load),
        used.others().as_secs_f64() / plan.seconds,
    ])
}
