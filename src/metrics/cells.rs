//! Where counts are kept: cells that one core writes and a scrape reads.
//!
//! Nothing here allocates, locks or waits after it is made. Each core has cells of its own, on
//! cache lines of their own, so that adding is an instruction on memory that the core has at hand.

use super::labels::{End, OUTCOMES};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The count now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the buckets of a histogram, in nanoseconds, ascending.
pub(crate) type Bounds = [u64; 16];

const US: u64 = 1_000;
const MS: u64 = 1_000_000;

/// For whole events: from a fraction of a millisecond to the time after which SDKs give up.
pub(crate) static EVENT_BOUNDS: Bounds = [
    50 * US,
    100 * US,
    250 * US,
    500 * US,
    MS,
    2_500 * US,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    1_000 * MS,
    2_500 * MS,
    5_000 * MS,
];

/// For halves of interceptors, most of which only look at a header.
pub(crate) static HALF_BOUNDS: Bounds = [
    US,
    2 * US,
    5 * US,
    10 * US,
    25 * US,
    50 * US,
    100 * US,
    250 * US,
    500 * US,
    MS,
    5 * MS,
    25 * MS,
    100 * MS,
    500 * MS,
    1_000 * MS,
    2_500 * MS,
];

/// For commands in one call to Centrifugo's API.
pub(crate) static COMMAND_BOUNDS: Bounds =
    [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512];

/// Times, or other numbers, in buckets with fixed bounds, the last of which is open.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Histogram {
    bounds: &'static Bounds,
    buckets: [AtomicU64; 17],
    sum: AtomicU64,
}

impl Histogram {
    /// An empty one.
    pub(crate) fn new(bounds: &'static Bounds) -> Self {
        Self {
            bounds,
            buckets: [const { AtomicU64::new(0) }; 17],
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a time.
    pub(crate) fn record(&self, time: Duration) {
        self.record_count(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts a number.
    pub(crate) fn record_count(&self, number: u64) {
        // A number that is equal to a bound belongs below it.
        let bucket = self.bounds.partition_point(|bound| *bound < number);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(number, Ordering::Relaxed);
    }

    /// Adds what was counted to a sum over the cores.
    pub(crate) fn add_to(&self, totals: &mut Totals) {
        for (total, bucket) in totals.buckets.iter_mut().zip(&self.buckets) {
            *total += bucket.load(Ordering::Relaxed);
        }
        totals.sum += u128::from(self.sum.load(Ordering::Relaxed));
    }
}

/// The events of a route, or of a kind without one, on one core, which writes them alone.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct EventCounts([Histogram; OUTCOMES.len()]);

impl Default for EventCounts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Histogram::new(&EVENT_BOUNDS)))
    }
}

impl EventCounts {
    /// An event has ended, after this time.
    pub(super) fn record(&self, end: End, took: Duration) {
        self.0[end.outcome].record(took);
    }

    /// Those of one outcome.
    pub(super) const fn of(&self, outcome: usize) -> &Histogram {
        &self.0[outcome]
    }
}

/// Histograms with the same bounds, summed up.
#[derive(Debug, Clone)]
pub(crate) struct Totals {
    bounds: &'static Bounds,
    buckets: [u64; 17],
    sum: u128,
    /// What one of the page's unit is.
    unit: f64,
}

impl Totals {
    /// No times yet.
    pub(crate) const fn new(bounds: &'static Bounds) -> Self {
        Self {
            bounds,
            buckets: [0; 17],
            sum: 0,
            unit: 1e9,
        }
    }

    /// No numbers yet.
    pub(crate) const fn of_numbers(bounds: &'static Bounds) -> Self {
        Self {
            unit: 1.0,
            ..Self::new(bounds)
        }
    }

    /// What was counted elsewhere, times in nanoseconds.
    pub(crate) fn counted(bounds: &'static Bounds, buckets: [u64; 17], sum: u64) -> Self {
        Self {
            buckets,
            sum: sum.into(),
            ..Self::new(bounds)
        }
    }

    /// How many were counted.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All together; times in seconds.
    pub(crate) fn sum(&self) -> f64 {
        self.sum as f64 / self.unit
    }

    /// For each bound, of times in seconds, how many were not above it; what was above all of them is
    /// in [`Totals::count`] alone.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut below = 0;
        self.bounds
            .iter()
            .zip(&self.buckets)
            .map(move |(bound, bucket)| {
                below += bucket;
                (*bound as f64 / self.unit, below)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(times: &[u64]) -> Totals {
        let histogram = Histogram::new(&EVENT_BOUNDS);
        for nanos in times {
            histogram.record(Duration::from_nanos(*nanos));
        }
        let mut totals = Totals::new(&EVENT_BOUNDS);
        histogram.add_to(&mut totals);
        totals
    }

    #[test]
    fn a_time_counts_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let totals = totals(&[0, 50_000, 50_001, 5_000_000_000, 5_000_000_001]);
        let cumulative: Vec<(f64, u64)> = totals.cumulative().collect();
        assert_eq!(cumulative[0], (0.000_05, 2));
        assert_eq!(cumulative[1], (0.000_1, 3));
        assert_eq!(cumulative[14], (2.5, 3));
        assert_eq!(cumulative[15], (5.0, 4));
        assert_eq!(totals.count(), 5);
    }

    #[test]
    fn the_sum_of_the_times_is_in_seconds() {
        assert!((totals(&[1_500_000_000, 500_000_000]).sum() - 2.0).abs() < 1e-12);
    }

    #[test]
    fn a_time_beyond_all_counting_is_counted_in_the_open_bucket() {
        let histogram = Histogram::new(&EVENT_BOUNDS);
        histogram.record(Duration::MAX);
        let mut totals = Totals::new(&EVENT_BOUNDS);
        histogram.add_to(&mut totals);
        assert_eq!(totals.count(), 1);
        assert_eq!(totals.cumulative().last(), Some((5.0, 0)));
    }

    #[test]
    fn cells_of_several_cores_add_up() {
        let cores = [Histogram::new(&EVENT_BOUNDS), Histogram::new(&EVENT_BOUNDS)];
        for core in &cores {
            core.record(Duration::from_millis(3));
        }
        let mut totals = Totals::new(&EVENT_BOUNDS);
        cores.iter().for_each(|core| core.add_to(&mut totals));
        assert_eq!(totals.count(), 2);
        assert!((totals.sum() - 0.006).abs() < 1e-12);
    }

    #[test]
    fn counts_of_several_threads_are_not_lost() {
        let (counter, histogram) = (Counter::default(), Histogram::new(&HALF_BOUNDS));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        counter.add_one();
                        histogram.record(Duration::from_micros(3));
                    }
                });
            }
        });
        let mut totals = Totals::new(&HALF_BOUNDS);
        histogram.add_to(&mut totals);
        assert_eq!((counter.get(), totals.count()), (4000, 4000));
    }

    #[test]
    fn numbers_keep_their_unit() {
        let histogram = Histogram::new(&COMMAND_BOUNDS);
        [1, 5, 600]
            .iter()
            .for_each(|it| histogram.record_count(*it));
        let mut totals = Totals::of_numbers(&COMMAND_BOUNDS);
        histogram.add_to(&mut totals);
        let cumulative: Vec<(f64, u64)> = totals.cumulative().collect();
        assert_eq!(cumulative[0], (1.0, 1));
        assert_eq!(cumulative[4], (6.0, 2));
        assert_eq!(cumulative[15], (512.0, 2));
        assert_eq!((totals.count(), totals.sum()), (3, 606.0));
    }

    #[test]
    fn bounds_ascend() {
        for bounds in [&EVENT_BOUNDS, &HALF_BOUNDS, &COMMAND_BOUNDS] {
            assert!(bounds.is_sorted_by(|a, b| a < b));
        }
    }
}
