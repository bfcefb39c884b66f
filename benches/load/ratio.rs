//! From the rounds of several servers to one line per figure: absolute values, median and worst ratio.

use std::fmt::Write;

use serde::Serialize;

/// Which way a figure is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    /// As throughput.
    Higher,
    /// As latency and cost.
    Lower,
    /// Neither: it describes the run.
    Neither,
}

/// A figure that every round measures for every server.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figure {
    /// Name with its unit.
    pub(crate) name: &'static str,
    /// Which way it is good.
    pub(crate) better: Better,
}

/// One figure of one server over all rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    /// The figure.
    #[serde(flatten)]
    pub(crate) figure: Figure,
    /// Median of the absolute values of the first server.
    pub(crate) base: f64,
    /// Median of the absolute values of this server.
    pub(crate) value: f64,
    /// Median over the rounds of this server's value over the first server's in the same round.
    pub(crate) median_ratio: Option<f64>,
    /// The least favourable ratio of a round.
    pub(crate) worst_ratio: Option<f64>,
}

impl Summary {
    /// Sums up the rounds, paired by position.
    pub(crate) fn of(figure: Figure, base: &[f64], values: &[f64]) -> Self {
        let ratios: Vec<f64> = values
            .iter()
            .zip(base)
            .filter(|(_, base)| **base > 0.0)
            .map(|(value, base)| value / base)
            .collect();
        let worst = match figure.better {
            Better::Higher => ratios.iter().copied().reduce(f64::min),
            Better::Lower => ratios.iter().copied().reduce(f64::max),
            Better::Neither => None,
        };
        let compared = figure.better != Better::Neither && !ratios.is_empty();
        Self {
            figure,
            base: median(base),
            value: median(values),
            median_ratio: compared.then(|| median(&ratios)),
            worst_ratio: worst,
        }
    }

    /// Appends a line of the table.
    pub(crate) fn print(&self, table: &mut String) {
        let ratio = |ratio: Option<f64>| ratio.map_or_else(String::new, |it| format!("{it:.3}"));
        let _infallible = writeln!(
            table,
            "  {:<26} {:>12} {:>12} {:>9} {:>9}",
            self.figure.name,
            absolute(self.base),
            absolute(self.value),
            ratio(self.median_ratio),
            ratio(self.worst_ratio),
        );
    }
}

/// Head of the table that `Summary::print` fills.
pub(crate) fn table_head(base: &str, name: &str) -> String {
    format!(
        "  {:<26} {base:>12} {name:>12} {:>9} {:>9}\n",
        "", "median x", "worst x"
    )
}

fn absolute(value: f64) -> String {
    match value.abs() {
        1_000.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// The middle value; the mean of the two in the middle; zero of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}
