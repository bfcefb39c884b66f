//! How the servers take turns: a round is cut into slices, and every slice drives each server once.
//!
//! Other work on the machine comes and goes within seconds. Short slices in mirrored order (bare, ours;
//! ours, bare; ...) spread it over the servers of a round, so that its ratios mean something. Each round
//! starts its servers anew, so that no process that happens to be lucky decides all rounds.

use std::time::Duration;

use anyhow::{bail, ensure};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::contenders::{Running, Target};
use super::machine::{CpuUse, resident_bytes};
use super::ratio::{Better, Figure};
use super::stats::Stats;
use super::window::Window;

/// How long and how often.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Plan {
    /// Rounds in all.
    pub(crate) rounds: usize,
    /// Slices that a round is cut into.
    pub(crate) slices: u8,
    /// Measured seconds per server and round.
    pub(crate) seconds: f64,
    /// Seconds of load before, per server and round.
    pub(crate) warm_up_seconds: f64,
    /// Threads of the load.
    pub(crate) load_threads: usize,
    /// Whether ours is also measured with its access log on.
    pub(crate) access_log: bool,
    /// Whether ours is also measured without metrics.
    pub(crate) no_metrics: bool,
    /// Whether ours is also measured with traces of no, every hundredth, and every event.
    pub(crate) traces: bool,
}

impl Plan {
    /// The window of a slice that starts now, connecting first.
    pub(crate) fn window(&self, connecting: Duration) -> Window {
        let part = |seconds: f64| Duration::from_secs_f64(seconds / f64::from(self.slices));
        let from = Instant::now() + connecting + part(self.warm_up_seconds);
        Window {
            from,
            until: from + part(self.seconds),
        }
    }
}

impl Window {
    /// Waits for the end of the window and returns the processor time used in it.
    pub(crate) async fn cpu_use(
        &self,
        server: u32,
        centrifugo: Option<u32>,
    ) -> anyhow::Result<CpuUse> {
        sleep_until(self.from).await;
        let before = CpuUse::so_far(server, centrifugo)?;
        sleep_until(self.until).await;
        Ok(CpuUse::so_far(server, centrifugo)? - before)
    }
}

/// What one server showed in the slices of a round.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// Calls and latencies.
    pub(crate) stats: Stats,
    /// Measured time.
    pub(crate) time: Duration,
    /// Processor time used meanwhile.
    pub(crate) cpu: CpuUse,
    /// Resident memory of the server after the last slice, in MiB.
    pub(crate) resident_mib: f64,
}

impl Tally {
    fn new() -> Self {
        Self {
            stats: Stats::new(),
            time: Duration::ZERO,
            cpu: CpuUse::default(),
            resident_mib: 0.0,
        }
    }

    /// What a slice showed.
    ///
    /// # Errors
    /// If any call failed or none was answered.
    pub(crate) fn of_slice(
        target: Target,
        window: Window,
        stats: Stats,
        cpu: CpuUse,
    ) -> anyhow::Result<Self> {
        let name = target.name;
        if let Some((errors, cause)) = stats.errors() {
            bail!("{name} failed {errors} calls, the first with: {cause}");
        }
        ensure!(stats.count() > 0, "{name} answered nothing");
        Ok(Self {
            stats,
            time: window.until - window.from,
            cpu,
            resident_mib: resident_bytes(target.process)? as f64 / f64::from(1 << 20),
        })
    }

    fn merge(&mut self, other: Self) {
        self.stats.merge(other.stats);
        self.time += other.time;
        self.cpu = self.cpu + other.cpu;
        self.resident_mib = other.resident_mib;
    }

    /// The figures of speed, the same for every kind of load.
    ///
    /// The rate per core that was free is the one to look at when other work runs: where servers and
    /// load together use all there is, it takes that work out of the comparison.
    pub(crate) fn speed_figures() -> Vec<Figure> {
        vec![
            Figure::new("events_per_second", Better::Higher, |it| it.rate()),
            Figure::new("events_per_free_core", Better::Higher, |it| {
                it.rate() / it.free_cores()
            }),
            Figure::new("p50_us", Better::Lower, |it| it.stats.quantile_us(0.5)),
            Figure::new("p99_us", Better::Lower, |it| it.stats.quantile_us(0.99)),
            Figure::new("p99.9_us", Better::Lower, |it| it.stats.quantile_us(0.999)),
        ]
    }

    fn rate(&self) -> f64 {
        self.stats.count() as f64 / self.time.as_secs_f64()
    }

    /// Cores that other work left to the bench and its servers.
    fn free_cores(&self) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (cores as f64 - self.cores(self.cpu.others())).max(0.1)
    }

    /// A share of the time used, in microseconds per call.
    pub(crate) fn us_per_call(&self, used: Duration) -> f64 {
        used.as_secs_f64() * 1e6 / self.stats.count() as f64
    }

    /// A share of the time used, in cores.
    pub(crate) fn cores(&self, used: Duration) -> f64 {
        used.as_secs_f64() / self.time.as_secs_f64()
    }
}

/// Runs the slices of a round; `slice` drives the server of an index once.
pub(crate) async fn run(
    servers: &Running,
    plan: &Plan,
    number: usize,
    mut slice: impl AsyncFnMut(usize) -> anyhow::Result<Tally>,
) -> anyhow::Result<Vec<Tally>> {
    let mut tallies: Vec<Tally> = (0..servers.count()).map(|_| Tally::new()).collect();
    for turn in 0..usize::from(plan.slices) {
        for index in servers.order(number + turn) {
            tallies[index].merge(slice(index).await?);
        }
    }
    Ok(tallies)
}
