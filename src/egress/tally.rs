//! Calls by method and result, how long they took, and how many left together: what `/metrics` says
//! of a publisher. Every list is fixed, so that nobody who makes calls can make series.

use super::error::Error;
use super::methods::{MethodInfo, NAMES};
use crate::metrics::cells::{COMMAND_BOUNDS, Counter, EVENT_BOUNDS, Histogram};
use std::borrow::Cow;
use std::time::Duration;

/// Methods beyond those of the contract: batches that a program made itself, and all raw calls.
const OTHERS: [&str; 2] = ["Batch", "raw"];
/// Centrifugo's codes that have a series of their own: all that it has.
const CODES: [(u32, &str); 14] = [
    (100, "error_100"),
    (101, "error_101"),
    (102, "error_102"),
    (103, "error_103"),
    (104, "error_104"),
    (105, "error_105"),
    (106, "error_106"),
    (107, "error_107"),
    (108, "error_108"),
    (109, "error_109"),
    (110, "error_110"),
    (111, "error_111"),
    (112, "error_112"),
    (113, "error_113"),
];
/// How calls end, in the order of the cells; the codes come behind them.
const ENDS: [&str; 12] = [
    "ok",
    "error_other",
    "unsupported",
    "unauthenticated",
    "invalid",
    "fenced",
    "overloaded",
    "timeout",
    "unavailable",
    "lost",
    "status",
    "closed",
];

const METHODS: usize = NAMES.len() + OTHERS.len();
const RESULTS: usize = ENDS.len() + CODES.len();

/// The methods, as labels.
pub(crate) fn methods() -> impl Iterator<Item = &'static str> {
    NAMES.iter().chain(&OTHERS).copied()
}

/// The results, as labels.
pub(crate) fn results() -> impl Iterator<Item = &'static str> {
    let codes = CODES.iter().map(|(_, label)| label);
    ENDS.iter().chain(codes).copied()
}

/// The counts of a publisher's calls.
#[derive(Debug)]
pub(crate) struct Tally {
    /// For each method, for each result.
    ended: Box<[Counter]>,
    /// For each method: from the call to its answer, of calls that were queued.
    took: Box<[Histogram]>,
    /// Commands in each gRPC call.
    sizes: Histogram,
}

impl Default for Tally {
    fn default() -> Self {
        let time = |_| Histogram::new(&EVENT_BOUNDS);
        Self {
            ended: (0..METHODS * RESULTS).map(|_| Counter::default()).collect(),
            took: (0..METHODS).map(time).collect(),
            sizes: Histogram::new(&COMMAND_BOUNDS),
        }
    }
}

impl Tally {
    /// A call that was queued has ended, after this time.
    pub(super) fn ended(&self, method: &MethodInfo, error: Option<&Error>, took: Duration) {
        self.count(method, error);
        self.took[method_at(method)].record(took);
    }

    /// A call was refused before it was queued.
    pub(super) fn refused(&self, method: &MethodInfo, error: &Error) {
        self.count(method, Some(error));
    }

    /// A gRPC call left with so many commands.
    pub(super) fn sent(&self, commands: usize) {
        self.sizes.record_count(commands as u64);
    }

    /// How many calls of a method (by its place in [`methods`]) ended, by their result (in the order
    /// of [`results`]).
    pub(crate) fn of_method(&self, method: usize) -> impl Iterator<Item = u64> {
        let cells = self.ended.iter().skip(method * RESULTS).take(RESULTS);
        cells.map(Counter::get)
    }

    /// The times of a method, by its place in [`methods`].
    pub(crate) fn took(&self, method: usize) -> Option<&Histogram> {
        self.took.get(method)
    }

    /// Commands in each gRPC call.
    pub(crate) const fn sizes(&self) -> &Histogram {
        &self.sizes
    }

    fn count(&self, method: &MethodInfo, error: Option<&Error>) {
        self.ended[method_at(method) * RESULTS + error.map_or(0, result_at)].add_one();
    }
}

/// The place of a method. The names of raw calls are the program's own, so they share one.
fn method_at(method: &MethodInfo) -> usize {
    let named = NAMES.iter().position(|name| *name == method.name);
    match (&method.name, named) {
        (Cow::Borrowed(_), Some(at)) => at,
        (Cow::Borrowed(_), None) => NAMES.len(),
        (Cow::Owned(_), _) => NAMES.len() + 1,
    }
}

/// The place of an error among the results.
fn result_at(error: &Error) -> usize {
    match error {
        Error::Api { code, .. } => {
            let known = CODES.iter().position(|(known, _)| known == code);
            known.map_or(1, |at| ENDS.len() + at)
        }
        Error::Unsupported { .. } => 2,
        Error::Unauthenticated => 3,
        Error::Refused { .. } => 4,
        Error::Fenced { .. } => 5,
        Error::Overloaded { .. } => 6,
        Error::Timeout { .. } => 7,
        Error::Unavailable { .. } => 8,
        Error::Lost { .. } => 9,
        Error::Status { .. } => 10,
        Error::Closed => 11,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::methods::{BATCH, Request};
    use super::*;
    use crate::metrics::cells::Totals;
    use crate::proto::api;

    fn api_error(code: u32) -> Error {
        Error::Api {
            method: "Publish".into(),
            code,
            message: String::new(),
            meaning: String::new(),
        }
    }

    /// Method, result and count of everything counted.
    fn counted(tally: &Tally) -> Vec<(&'static str, &'static str, u64)> {
        let of_method = |(at, method)| {
            let counts = results().zip(tally.of_method(at));
            counts.map(move |(result, count)| (method, result, count))
        };
        let all = methods().enumerate().flat_map(of_method);
        all.filter(|(_, _, count)| *count > 0).collect()
    }

    #[test]
    fn calls_count_under_their_method_and_the_name_of_their_end() {
        let tally = Tally::default();
        let publish = <api::PublishRequest as Request>::INFO;
        let poll = <api::SharedPollPublishRequest as Request>::INFO;
        tally.ended(&publish, None, Duration::from_millis(1));
        tally.ended(&publish, Some(&api_error(108)), Duration::from_millis(1));
        tally.ended(&publish, Some(&api_error(4711)), Duration::from_millis(1));
        tally.refused(&poll, &Error::Overloaded { limit: "x" });
        tally.refused(&BATCH, &Error::Closed);
        assert_eq!(
            counted(&tally),
            [
                ("Publish", "ok", 1),
                ("Publish", "error_other", 1),
                ("Publish", "error_108", 1),
                ("SharedPollPublish", "overloaded", 1),
                ("Batch", "closed", 1),
            ]
        );
        let mut times = Totals::new(&EVENT_BOUNDS);
        tally.took(0).unwrap().add_to(&mut times);
        assert_eq!(times.count(), 3, "what was refused at once took no time");
    }

    #[test]
    fn names_of_raw_calls_make_no_series_even_where_they_are_those_of_methods() {
        let tally = Tally::default();
        for name in ["Publish", "Batch", "Newest"] {
            let name = Cow::Owned(name.to_owned());
            let method = MethodInfo { name, ..BATCH };
            tally.ended(&method, None, Duration::ZERO);
        }
        assert_eq!(counted(&tally), [("raw", "ok", 3)]);
    }

    #[test]
    fn an_error_without_a_code_counts_under_its_own_word() {
        for (error, label) in [
            (Error::Unauthenticated, "unauthenticated"),
            (Error::Overloaded { limit: "x" }, "overloaded"),
            (Error::Unavailable { why: String::new() }, "unavailable"),
            (Error::Closed, "closed"),
        ] {
            assert_eq!(results().nth(result_at(&error)), Some(label));
            assert_eq!(error.label(), label);
        }
    }
}
