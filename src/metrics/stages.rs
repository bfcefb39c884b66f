//! What an interceptor counts, on each core by itself.

use super::cells::{Counter, HALF_BOUNDS, Histogram};
use crate::engine::guard::Ended;
use crate::interceptor::Flow;
use std::sync::Arc;
use tokio::time::Instant;

/// One event in so many is timed: two looks at the clock for each half would cost more than most
/// halves do.
const TIMED_ONE_IN: u32 = 16;

/// The halves of an interceptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    /// On the way in.
    Before,
    /// On the way out.
    After,
}

impl Half {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Before, Self::After];

    /// Its name in labels.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// How halves end, in the order of the cells.
pub(super) const RESULTS: [&str; 6] = [
    "next",
    "answered",
    "done",
    "panicked",
    "timeout",
    "cancelled",
];

/// The counts of an interceptor on one core.
#[derive(Debug)]
pub(crate) struct StageCounts {
    ended: [[Counter; RESULTS.len()]; 2],
    took: [Histogram; 2],
}

impl Default for StageCounts {
    fn default() -> Self {
        Self {
            ended: Default::default(),
            took: [Histogram::new(&HALF_BOUNDS), Histogram::new(&HALF_BOUNDS)],
        }
    }
}

impl StageCounts {
    /// The first half has ended for an event.
    pub(crate) fn before_ended(&self, ended: &Ended<Flow>) {
        let result = match ended {
            Ended::Done(Flow::Next) => 0,
            Ended::Done(Flow::Answer(_)) => 1,
            other => unfinished(other),
        };
        self.ended[Half::Before as usize][result].add_one();
    }

    /// The second half has ended for an event.
    pub(crate) fn after_ended(&self, ended: &Ended<()>) {
        let result = match ended {
            Ended::Done(()) => 2,
            other => unfinished(other),
        };
        self.ended[Half::After as usize][result].add_one();
    }

    /// How often a half ended in each way, in the order of [`RESULTS`].
    pub(super) fn ended(&self, half: Half) -> [u64; RESULTS.len()] {
        self.ended[half as usize].each_ref().map(Counter::get)
    }

    /// The times of a half.
    pub(super) const fn took(&self, half: Half) -> &Histogram {
        &self.took[half as usize]
    }
}

/// The place of an end that was not the half's own.
const fn unfinished<T>(ended: &Ended<T>) -> usize {
    match ended {
        Ended::Panicked(_) => 3,
        Ended::Deadline => 4,
        Ended::Cancelled | Ended::Done(_) => 5,
    }
}

/// Picks the events that are timed: the first, and every sixteenth after it.
#[derive(Debug, Default)]
pub(crate) struct Sampler([u32; 2]);

impl Sampler {
    /// Starts a clock for this event if it is its turn.
    pub(crate) fn start(&mut self, counts: Option<&Arc<StageCounts>>, half: Half) -> Option<Timer> {
        let seen = &mut self.0[half as usize];
        let is_picked = seen.is_multiple_of(TIMED_ONE_IN);
        *seen = seen.wrapping_add(1);
        let counts = counts.filter(|_| is_picked)?;
        Some(Timer {
            counts: Arc::clone(counts),
            half,
            started: Instant::now(),
        })
    }
}

/// A half that is being timed.
#[derive(Debug)]
pub(crate) struct Timer {
    counts: Arc<StageCounts>,
    half: Half,
    started: Instant,
}

impl Timer {
    /// The half has ended.
    pub(crate) fn stop(self) {
        self.counts.took[self.half as usize].record(self.started.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::super::cells::Totals;
    use super::*;
    use crate::reject::Reject;

    #[test]
    fn every_end_of_a_half_is_counted_by_its_name() {
        let counts = StageCounts::default();
        let answer = || Ended::Done(Flow::from(Reject::permission_denied()));
        for ended in [
            Ended::Done(Flow::Next),
            answer(),
            answer(),
            Ended::Panicked(String::new()),
            Ended::Deadline,
            Ended::Cancelled,
        ] {
            counts.before_ended(&ended);
        }
        counts.after_ended(&Ended::Done(()));
        counts.after_ended(&Ended::Deadline);
        assert_eq!(counts.ended(Half::Before), [1, 2, 0, 1, 1, 1]);
        assert_eq!(counts.ended(Half::After), [0, 0, 1, 0, 1, 0]);
    }

    #[test]
    fn one_event_in_sixteen_is_timed_beginning_with_the_first() {
        let counts = Arc::new(StageCounts::default());
        let mut sampler = Sampler::default();
        for _ in 0..33 {
            if let Some(timer) = sampler.start(Some(&counts), Half::After) {
                timer.stop();
            }
        }
        let mut totals = Totals::new(&HALF_BOUNDS);
        counts.took(Half::After).add_to(&mut totals);
        assert_eq!(totals.count(), 3);
        assert!(sampler.start(None, Half::Before).is_none());
    }
}
