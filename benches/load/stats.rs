//! What a worker counts while it drives load.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Latencies of the answered calls, and the failures by their first cause.
#[derive(Clone, Debug)]
pub(crate) struct Stats {
    latency: Histogram<u64>,
    errors: u64,
    first_error: Option<String>,
}

impl Stats {
    /// Nothing counted yet.
    pub(crate) fn new() -> Self {
        Self {
            latency: Histogram::new_with_bounds(100, 60_000_000_000, 3)
                .expect("the bounds are constants"),
            errors: 0,
            first_error: None,
        }
    }

    /// Counts an answered call.
    pub(crate) fn answered(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latency.saturating_record(nanoseconds);
    }

    /// Counts a failed call.
    pub(crate) fn failed(&mut self, cause: impl FnOnce() -> String) {
        self.errors += 1;
        if self.first_error.is_none() {
            self.first_error = Some(cause());
        }
    }

    /// Adds what another worker counted.
    pub(crate) fn merge(&mut self, other: Self) {
        self.latency += other.latency;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }

    /// Calls answered.
    pub(crate) fn count(&self) -> u64 {
        self.latency.len()
    }

    /// Calls failed, and the first cause.
    pub(crate) fn errors(&self) -> Option<(u64, &str)> {
        self.first_error
            .as_deref()
            .map(|cause| (self.errors, cause))
    }

    /// Latency in microseconds that `quantile` of the calls stayed below.
    pub(crate) fn quantile_us(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1_000.0
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
