//! Two clocks read together.
//!
//! The one counts while a machine is suspended, the other is never slewed. Time daemons may slew the
//! first by 8 %, a suspension stops the second: a holder believes the longer span, a grantor the
//! shorter.

use std::time::Duration;

/// What both clocks of a machine said at one moment, each since a start of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// The clock that counts suspension (`CLOCK_BOOTTIME`).
    pub boot: Duration,
    /// The clock that is never slewed (`CLOCK_MONOTONIC_RAW`).
    pub raw: Duration,
}

impl Reading {
    /// A reading of a machine with one monotonic clock.
    pub const fn of_one(clock: Duration) -> Self {
        Self {
            boot: clock,
            raw: clock,
        }
    }

    /// At most so much time has passed since the earlier reading: the longer span.
    pub fn longest_since(self, earlier: Self) -> Duration {
        self.since(earlier).max()
    }

    /// At least so much time has passed since the earlier reading: the shorter span.
    pub fn shortest_since(self, earlier: Self) -> Duration {
        self.since(earlier).min()
    }

    /// The later of two readings of one machine.
    #[must_use]
    pub fn later(self, other: Self) -> Self {
        if other.raw > self.raw { other } else { self }
    }

    fn since(self, earlier: Self) -> Spans {
        Spans(
            self.boot.saturating_sub(earlier.boot),
            self.raw.saturating_sub(earlier.raw),
        )
    }
}

#[derive(Debug, Clone, Copy)]
struct Spans(Duration, Duration);

impl Spans {
    fn max(self) -> Duration {
        self.0.max(self.1)
    }

    fn min(self) -> Duration {
        self.0.min(self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspension_is_long_for_a_holder_and_short_for_a_grantor() {
        let second = Duration::from_secs(1);
        let before = Reading {
            boot: second * 10,
            raw: second * 3,
        };
        let after = Reading {
            boot: second * 40,
            raw: second * 4,
        };
        assert_eq!(after.longest_since(before), second * 30);
        assert_eq!(after.shortest_since(before), second);
        assert_eq!(before.longest_since(after), Duration::ZERO);
        assert_eq!((before.later(after), after.later(before)), (after, after));
    }
}
