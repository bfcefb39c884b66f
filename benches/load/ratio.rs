//! From the rounds of several servers to one line per figure: absolute values, median and worst ratio.

use std::fmt::Write;

use serde::Serialize;

use super::contenders::Contender;
use super::rounds::Tally;
use super::stats::median;

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

/// A figure that every round gives for every server.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figure {
    name: &'static str,
    better: Better,
    /// What its median ratio has to reach, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    bar: Option<f64>,
    #[serde(skip)]
    of: fn(&Tally) -> f64,
}

/// Name of the figure that tells how much else ran.
const OTHERS: &str = "cores_used_by_others";

impl Figure {
    /// What neither the bench nor its servers used, in cores.
    pub(crate) fn others() -> Self {
        Self::new(OTHERS, Better::Neither, |it| it.cores(it.cpu.others()))
    }

    /// A figure named with its unit, and where it comes from.
    pub(crate) fn new(name: &'static str, better: Better, of: fn(&Tally) -> f64) -> Self {
        Self {
            name,
            better,
            bar: None,
            of,
        }
    }

    /// The same with a bar, if it is the figure of this name.
    pub(crate) fn with_bar(self, name: &str, bar: f64) -> Self {
        let bar = (self.name == name).then_some(bar).or(self.bar);
        Self { bar, ..self }
    }
}

/// One figure of one server over all rounds.
#[derive(Clone, Debug, Serialize)]
struct Summary {
    /// The figure.
    #[serde(flatten)]
    figure: Figure,
    /// Median of the absolute values of the first server.
    base: f64,
    /// Median of the absolute values of this server.
    value: f64,
    /// Median over the rounds of this server's value over the first server's in the same round.
    median_ratio: Option<f64>,
    /// The least favourable ratio of a round.
    worst_ratio: Option<f64>,
    /// The ratio of each round in order.
    ratios: Vec<f64>,
}

impl Summary {
    fn of(figure: Figure, base: &[f64], values: &[f64]) -> Self {
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
            ratios,
        }
    }

    fn tells_of_noise(&self) -> bool {
        self.figure.name == OTHERS && self.base.max(self.value) > 0.1
    }

    /// The bar, and whether it is reached.
    fn bar(&self) -> String {
        let (Some(bar), Some(ratio)) = (self.figure.bar, self.median_ratio) else {
            return String::new();
        };
        let (sign, is_met) = match self.figure.better {
            Better::Higher => (">=", ratio >= bar),
            Better::Lower | Better::Neither => ("<=", ratio <= bar),
        };
        let verdict = if is_met { "met" } else { "MISSED" };
        format!("{sign} {bar:.2} {verdict}")
    }

    fn print(&self, table: &mut String) {
        let ratio = |ratio: Option<f64>| ratio.map_or_else(String::new, |it| format!("{it:.3}"));
        let _infallible = writeln!(
            table,
            "  {:<26} {:>12} {:>12} {:>9} {:>9}  {}",
            self.figure.name,
            absolute(self.base),
            absolute(self.value),
            ratio(self.median_ratio),
            ratio(self.worst_ratio),
            self.bar(),
        );
    }
}

fn absolute(value: f64) -> String {
    match value.abs() {
        1_000.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// A server beside the one that it is compared with.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    base: &'static str,
    name: &'static str,
    figures: Vec<Summary>,
}

impl Comparison {
    /// Compares each server but the first with its base.
    ///
    /// `rounds` holds for each round what each of them showed.
    pub(crate) fn of_each(
        contenders: &[Contender],
        figures: &[Figure],
        rounds: &[Vec<Tally>],
    ) -> Vec<Self> {
        (1..contenders.len())
            .map(|server| Self {
                base: contenders[contenders[server].base].name,
                name: contenders[server].name,
                figures: figures
                    .iter()
                    .map(|figure| {
                        let values = |server: usize| -> Vec<f64> {
                            rounds
                                .iter()
                                .map(|round| (figure.of)(&round[server]))
                                .collect()
                        };
                        let base = contenders[server].base;
                        Summary::of(*figure, &values(base), &values(server))
                    })
                    .collect(),
            })
            .collect()
    }

    /// The comparison as a table.
    pub(crate) fn text(&self) -> String {
        let Self { base, name, .. } = self;
        let mut text = format!(
            "  {:<26} {base:>12} {name:>12} {:>9} {:>9}  bar\n",
            "", "median x", "worst x"
        );
        for summary in &self.figures {
            summary.print(&mut text);
        }
        if self.figures.iter().any(Summary::tells_of_noise) {
            text +=
                "  note: other work took more than a tenth of a core; repeat on a quiet machine\n";
        }
        text
    }
}
