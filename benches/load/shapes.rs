//! The unary path: shapes of load, rounds of servers in turn, and the report per shape.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use super::burn::Burn;
use super::child::RoleProcess;
use super::client::{Load, RunningLoad};
use super::contenders::{Running, Target, contenders};
use super::ratio::{Better, Comparison, Figure};
use super::request::Call;
use super::role::{Role, ServerOptions, Traces};
use super::rounds::{self, Plan, Tally};

/// Time given to the load to open its connections before the warm-up.
const CONNECT_ALLOWANCE: Duration = Duration::from_millis(50);

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
    /// What the ratios of figures have to reach here.
    #[serde(skip)]
    bars: &'static [(&'static str, f64)],
}

const THROUGHPUT: &str = "events_per_second";
const CPU: &str = "server_cpu_us_per_event";

/// All shapes. Centrifugo opens one connection per event kind, so the single connection is its case.
pub(crate) const SHAPES: [Shape; 4] = [
    Shape {
        name: "8x32",
        connections: 8,
        in_flight: 32,
        burn_us: 0,
        bars: &[(THROUGHPUT, 0.90), (CPU, 1.25)],
    },
    Shape {
        name: "1x128",
        connections: 1,
        in_flight: 128,
        burn_us: 0,
        bars: &[(CPU, 1.25)],
    },
    Shape {
        name: "8x1",
        connections: 8,
        in_flight: 1,
        burn_us: 0,
        bars: &[(CPU, 1.25)],
    },
    Shape {
        name: "1x128-burn",
        connections: 1,
        in_flight: 128,
        burn_us: 20,
        bars: &[(THROUGHPUT, 0.90)],
    },
];

/// What a shape showed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ShapeReport {
    #[serde(flatten)]
    shape: Shape,
    comparisons: Vec<Comparison>,
}

impl ShapeReport {
    /// The report as text.
    pub(crate) fn text(&self) -> String {
        let Shape {
            name,
            connections,
            in_flight,
            burn_us,
            bars: _,
        } = self.shape;
        let mut text = format!(
            "\nshape {name}: {connections} connections x {in_flight} in flight, handler {burn_us} us\n"
        );
        for comparison in &self.comparisons {
            text += &comparison.text();
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
    calls: &Arc<[Call]>,
) -> anyhow::Result<ShapeReport> {
    let collector = match plan.traces {
        true => Some(RoleProcess::start(&Role::Collector).await?),
        false => None,
    };
    let traces = match &collector {
        Some(collector) => Some(Traces {
            percent: 0,
            collector: collector.printed()?,
        }),
        None => None,
    };
    let contenders = contenders(ServerOptions {
        burn: Burn::calibrate(Duration::from_micros(shape.burn_us)),
        access_log: plan.access_log,
        no_metrics: plan.no_metrics,
        traces,
    });
    let mut rounds = Vec::with_capacity(plan.rounds);
    for number in 0..plan.rounds {
        let servers = Running::start(&contenders).await?;
        let slice = async |index| drive(servers.target(index)?, shape, plan, calls).await;
        rounds.push(rounds::run(&servers, plan, number, slice).await?);
        servers.stop().await?;
    }
    if let Some(collector) = collector {
        collector.stop().await?;
    }
    Ok(ShapeReport {
        shape,
        comparisons: Comparison::of_each(&contenders, &figures(shape), &rounds),
    })
}

async fn drive(
    target: Target,
    shape: Shape,
    plan: &Plan,
    calls: &Arc<[Call]>,
) -> anyhow::Result<Tally> {
    let load = Load {
        connections: shape.connections,
        in_flight: shape.in_flight,
        threads: plan.load_threads,
    };
    let window = plan.window(CONNECT_ALLOWANCE);
    let running = RunningLoad::start(load, target.address, calls, window)?;
    let cpu = window.cpu_use(target.process, None).await?;
    let stats = tokio::task::block_in_place(|| running.finish())?;
    Tally::of_slice(target, window, stats, cpu).with_context(|| format!("shape {}", shape.name))
}

fn figures(shape: Shape) -> Vec<Figure> {
    let mut figures = Tally::speed_figures();
    figures.extend([
        Figure::new(CPU, Better::Lower, |it| it.us_per_call(it.cpu.server)),
        Figure::new("server_rss_mib", Better::Neither, |it| it.resident_mib),
        Figure::new("load_cpu_us_per_event", Better::Neither, |it| {
            it.us_per_call(it.cpu.load)
        }),
        Figure::others(),
    ]);
    let barred = |figure| {
        let bars = shape.bars.iter();
        bars.fold(figure, |figure: Figure, (name, bar)| {
            figure.with_bar(name, *bar)
        })
    };
    figures.into_iter().map(barred).collect()
}
