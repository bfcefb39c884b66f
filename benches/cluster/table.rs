//! The table: what was measured, how often, what is promised, whether it holds.
//!
//! A *target* is what the design aims at: where it is missed, the line says so. A *bar* is what must
//! hold: where one is missed, the bench fails.

use std::fmt::Write as _;
use std::time::Duration;

/// What a line has to be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It promises nothing.
    Figure,
    Held,
    Missed,
    BarMissed,
}

/// A line.
#[derive(Debug)]
struct Row {
    what: String,
    n: usize,
    found: String,
    promise: String,
    verdict: Verdict,
    /// Whether it has a bar.
    bar: bool,
}

/// All lines so far.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Row>);

/// A time for people.
pub(crate) fn ms(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds >= 1.0 => format!("{seconds:.2} s"),
        seconds => format!("{:.1} ms", seconds * 1e3),
    }
}

/// The time below which this share stayed; the longest of few.
pub(crate) fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let index = (times.len() as f64 * share).ceil() as usize;
    let last = times.len().saturating_sub(1);
    times
        .get(index.saturating_sub(1).min(last))
        .copied()
        .unwrap_or_default()
}

impl Table {
    /// How many lines there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn row(&mut self, what: &str, n: usize, found: String, promise: String, verdict: Verdict) {
        self.0.push(Row {
            what: what.to_owned(),
            n,
            found,
            promise,
            verdict,
            bar: false,
        });
    }

    fn bar(&mut self, what: &str, n: usize, found: String, promise: String, verdict: Verdict) {
        self.row(what, n, found, promise, verdict);
        if let Some(row) = self.0.last_mut() {
            row.bar = true;
        }
    }

    /// A figure that promises nothing, found `n` times.
    pub(crate) fn figure(&mut self, what: &str, n: usize, found: String) {
        self.row(what, n, found, String::new(), Verdict::Figure);
    }

    /// A value that has a target alone.
    pub(crate) fn target(&mut self, what: &str, n: usize, found: String, target: &str, held: bool) {
        let verdict = if held { Verdict::Held } else { Verdict::Missed };
        self.row(what, n, found, target.to_owned(), verdict);
    }

    /// A value with a target and a bar.
    pub(crate) fn barred(
        &mut self,
        what: &str,
        n: usize,
        found: String,
        promise: &str,
        [target, bar]: [bool; 2],
    ) {
        let verdict = match (bar, target) {
            (false, _) => Verdict::BarMissed,
            (true, false) => Verdict::Missed,
            (true, true) => Verdict::Held,
        };
        self.bar(what, n, found, promise.to_owned(), verdict);
    }

    /// A time, the target for which is to stay below another.
    pub(crate) fn time(&mut self, what: &str, n: usize, found: Duration, below: Duration) {
        let target = format!("< {}", ms(below));
        self.target(what, n, ms(found), &target, found < below);
    }

    /// The same with a bar.
    pub(crate) fn time_with_bar(
        &mut self,
        what: &str,
        n: usize,
        found: Duration,
        [below, bar]: [Duration; 2],
    ) {
        let promise = match below == bar {
            true => format!("bar < {}", ms(bar)),
            false => format!("< {}, bar {}", ms(below), ms(bar)),
        };
        let held = [found < below, found < bar];
        self.barred(what, n, ms(found), &promise, held);
    }

    /// A number, out of `n`, of what must not be.
    pub(crate) fn none(&mut self, what: &str, n: usize, found: usize) {
        let held = [found == 0; 2];
        self.barred(what, n, found.to_string(), "bar 0", held);
    }

    /// The lines from one on.
    pub(crate) fn text(&self, from: usize) -> String {
        let mut text = String::new();
        for row in &self.0[from..] {
            let verdict = match row.verdict {
                Verdict::Figure | Verdict::Held => "",
                Verdict::Missed => "   MISSED",
                Verdict::BarMissed => "   BAR MISSED",
            };
            let _infallible = writeln!(
                text,
                "{:<84} n {:>6} {:>12}   {}{verdict}",
                row.what, row.n, row.found, row.promise
            );
        }
        text
    }

    /// Whether every bar holds.
    pub(crate) fn bars_hold(&self) -> bool {
        !self.0.iter().any(|row| row.verdict == Verdict::BarMissed)
    }

    /// How many hold.
    pub(crate) fn summary(&self) -> String {
        let promised = self.0.iter().filter(|row| row.verdict != Verdict::Figure);
        let held = promised.clone().filter(|row| row.verdict == Verdict::Held);
        let bars = self.0.iter().filter(|row| row.bar);
        let holding = bars.clone().filter(|row| row.verdict != Verdict::BarMissed);
        format!(
            "{} of {} targets held, {} of {} bars",
            held.count(),
            promised.count(),
            holding.count(),
            bars.count()
        )
    }
}
