//! A fixed amount of work that stands for a handler that computes.
//!
//! The amount is counted in iterations, measured once by the parent and handed to every server, so
//! that all of them do the same work: a loop against the clock would forgive time lost to preemption.

use std::hint::black_box;
use std::time::Duration;
use tokio::time::Instant;

const CALIBRATION_ITERATIONS: u64 = 2_000_000;
const CALIBRATION_ROUNDS: u32 = 9;

/// Work of a fixed number of iterations; zero does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Burn {
    /// Iterations of the loop per call.
    pub(crate) iterations: u64,
}

impl Burn {
    /// The work that takes about `duration` on this machine when nothing else runs.
    pub(crate) fn calibrate(duration: Duration) -> Self {
        if duration.is_zero() {
            return Self::default();
        }
        let sample = Self {
            iterations: CALIBRATION_ITERATIONS,
        };
        let fastest = (0..CALIBRATION_ROUNDS)
            .map(|_| {
                let started = Instant::now();
                sample.run();
                started.elapsed()
            })
            .min()
            .unwrap_or(Duration::from_millis(1))
            .max(Duration::from_nanos(1));
        let share = duration.as_secs_f64() / fastest.as_secs_f64();
        Self {
            iterations: (share * CALIBRATION_ITERATIONS as f64).ceil() as u64,
        }
    }

    /// Does the work on the calling thread.
    pub(crate) fn run(self) {
        let mut state = self.iterations | 1;
        for _ in 0..self.iterations {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state = black_box(state);
        }
    }
}
