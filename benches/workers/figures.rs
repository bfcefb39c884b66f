//! What slices showed, and how the hosts compare.

use crate::load::stats::Stats;
use std::fmt::Write;
use std::time::Duration;

/// Processor time used so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpu {
    /// By the host.
    pub(crate) host: Duration,
    /// By its workers.
    pub(crate) workers: Duration,
}

/// One host in one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slice {
    rate: f64,
    host_us: f64,
    workers_us: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Slice {
    /// What was counted within `time`.
    pub(crate) fn new(stats: &Stats, time: Duration, before: Cpu, after: Cpu) -> Self {
        let count = stats.count().max(1) as f64;
        let each = |used: Duration| used.as_secs_f64() * 1e6 / count;
        Self {
            rate: stats.count() as f64 / time.as_secs_f64(),
            host_us: each(after.host.saturating_sub(before.host)),
            workers_us: each(after.workers.saturating_sub(before.workers)),
            p50_us: stats.quantile_us(0.5),
            p99_us: stats.quantile_us(0.99),
        }
    }
}

type Figure = (&'static str, fn(&Slice) -> f64);

const FIGURES: [Figure; 5] = [
    ("calls/s", |it| it.rate),
    ("host cpu µs/call", |it| it.host_us),
    ("php cpu µs/call", |it| it.workers_us),
    ("p50 µs", |it| it.p50_us),
    ("p99 µs", |it| it.p99_us),
];

/// All rounds of a script.
#[derive(Debug)]
pub(crate) struct Table {
    script: &'static str,
    names: Vec<&'static str>,
    slices: Vec<Vec<Slice>>,
}

impl Table {
    /// Nothing yet; the first name is ours.
    pub(crate) fn new(script: &'static str, names: &[&'static str]) -> Self {
        Self {
            script,
            names: names.to_vec(),
            slices: names.iter().map(|_| Vec::new()).collect(),
        }
    }

    /// A slice of the host of this index.
    pub(crate) fn add(&mut self, index: usize, slice: Slice) {
        self.slices[index].push(slice);
    }

    /// The median of what each round's ratio of ours to the other is.
    fn ratio(&self, of: fn(&Slice) -> f64) -> Option<f64> {
        let [ours, theirs] = &*self.slices else {
            return None;
        };
        let ratios = ours
            .iter()
            .zip(theirs)
            .map(|(a, b)| of(a) / of(b).max(1e-9));
        Some(median(ratios.collect()))
    }

    /// The table as it is printed.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{:<18}", self.script);
        for name in &self.names {
            // Writing to a String does not fail.
            let _ = write!(text, "{name:>12}");
        }
        for (label, of) in FIGURES {
            let _ = write!(text, "\n{label:<18}");
            for slices in &self.slices {
                let value = median(slices.iter().map(of).collect());
                let _ = write!(text, "{value:>12.1}");
            }
            if let Some(ratio) = self.ratio(of) {
                let _ = write!(text, "   ratio {ratio:.2}");
            }
        }
        text
    }

    /// The bars that are missed, in words.
    pub(crate) fn missed(&self, script: &str, (rate, cpu): (f64, f64)) -> Vec<String> {
        let mut missed = Vec::new();
        let mut bar = |what: &str, ratio: Option<f64>, bar: f64, is_least: bool| {
            if let Some(ratio) = ratio.filter(|it| if is_least { *it < bar } else { *it > bar }) {
                missed.push(format!("{script}: {what} {ratio:.2} instead of {bar}"));
            }
        };
        bar("calls", self.ratio(|it| it.rate), rate, true);
        bar("cpu", self.ratio(|it| it.host_us), cpu, false);
        bar("p99", self.ratio(|it| it.p99_us), 1.0, false);
        missed
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
