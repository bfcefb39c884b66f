//! The table: what was measured, what is promised, whether it holds.

use std::fmt::Write as _;
use std::time::Duration;

/// A line.
#[derive(Debug)]
struct Row {
    what: String,
    found: String,
    target: String,
    holds: bool,
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

    /// A measured line.
    pub(crate) fn row(&mut self, what: &str, found: String, target: &str, holds: bool) {
        self.0.push(Row {
            what: what.to_owned(),
            found,
            target: target.to_owned(),
            holds,
        });
    }

    /// A time, which must stay below another.
    pub(crate) fn time(&mut self, what: &str, found: Duration, below: Duration) {
        let target = format!("< {}", ms(below));
        self.row(what, ms(found), &target, found < below);
    }

    /// A number of what must not be.
    pub(crate) fn none(&mut self, what: &str, found: usize) {
        self.row(what, found.to_string(), "0", found == 0);
    }

    /// The lines from one on.
    pub(crate) fn text(&self, from: usize) -> String {
        let mut text = String::new();
        for row in &self.0[from..] {
            let holds = if row.holds { "" } else { "   MISSED" };
            let _infallible = writeln!(
                text,
                "{:<62} {:>22}   {}{holds}",
                row.what, row.found, row.target
            );
        }
        text
    }

    /// How many hold.
    pub(crate) fn summary(&self) -> String {
        let held = self.0.iter().filter(|row| row.holds).count();
        format!("{held} of {} targets held", self.0.len())
    }
}
