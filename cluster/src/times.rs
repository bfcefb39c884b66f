//! How long things take, counted in buckets: what the shell measures of itself, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const US: u64 = 1_000;
const MS: u64 = 1_000_000;

/// Upper bounds of the buckets of [`Times`], in nanoseconds: from a fast disk's fsync to beyond the
/// longest takeover that is held for good.
pub static TIME_BOUNDS: [u64; 16] = [
    500 * US,
    MS,
    2_500 * US,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    200 * MS,
    400 * MS,
    700 * MS,
    1_000 * MS,
    1_500 * MS,
    2_000 * MS,
    3_000 * MS,
    5_000 * MS,
];

/// Times in buckets; the last one is open.
#[derive(Debug, Default)]
pub struct Times {
    buckets: [AtomicU64; 17],
    sum: AtomicU64,
}

impl Times {
    /// Counts one.
    pub fn record(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let at = TIME_BOUNDS.partition_point(|bound| *bound < nanos);
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// How many were counted in each bucket, the open one last.
    pub fn buckets(&self) -> [u64; 17] {
        std::array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed))
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.buckets().iter().sum()
    }

    /// All together, in nanoseconds.
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let times = Times::default();
        for nanos in [1, 500 * US, 500 * US + 1, 5_000 * MS + 1] {
            times.record(Duration::from_nanos(nanos));
        }
        let buckets = times.buckets();
        assert_eq!((buckets[0], buckets[1], buckets[16]), (2, 1, 1));
        assert_eq!(times.count(), 4);
        assert_eq!(times.sum(), 1_000 * US + 2 + 5_000 * MS + 1);
    }

    #[test]
    fn bounds_ascend() {
        assert!(TIME_BOUNDS.is_sorted_by(|a, b| a < b));
    }
}
