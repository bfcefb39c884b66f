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

/// The clocks of this machine. Nothing else in the crate reads one for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock;

impl Clock {
    /// What both clocks say now. On Linux `CLOCK_BOOTTIME` and `CLOCK_MONOTONIC_RAW`; elsewhere the
    /// standard library's monotonic clock, since the first reading of this process, as both.
    #[cfg(target_os = "linux")]
    pub fn read() -> Reading {
        use rustix::time::{ClockId, Timespec, clock_gettime};
        let span = |id| {
            let Timespec { tv_sec, tv_nsec } = clock_gettime(id);
            let seconds = u64::try_from(tv_sec).unwrap_or(0);
            Duration::new(seconds, u32::try_from(tv_nsec).unwrap_or(0))
        };
        Reading {
            boot: span(ClockId::Boottime),
            raw: span(ClockId::MonotonicRaw),
        }
    }

    /// What both clocks say now. On Linux `CLOCK_BOOTTIME` and `CLOCK_MONOTONIC_RAW`; elsewhere the
    /// standard library's monotonic clock, since the first reading of this process, as both.
    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::disallowed_types, reason = "a lease runs on the real clock")]
    pub fn read() -> Reading {
        static FIRST: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        Reading::of_one(FIRST.get_or_init(std::time::Instant::now).elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_clocks_go_forward_together() {
        let first = Clock::read();
        let mut last = first;
        while last.shortest_since(first) < Duration::from_millis(5) {
            let next = Clock::read();
            assert!(
                next.boot >= last.boot && next.raw >= last.raw,
                "{last:?} {next:?}"
            );
            last = next;
        }
        // Slewing makes them differ by a tenth at most; being off the processor by more than that
        // between the two readings of one pair is what the rest is for.
        assert!(
            last.longest_since(first) < Duration::from_secs(5),
            "{first:?} {last:?}"
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_real_clocks_are_those_of_the_machine() {
        let uptime = std::fs::read_to_string("/proc/uptime").expect("Linux has it");
        let seconds: f64 = uptime
            .split(' ')
            .next()
            .and_then(|text| text.parse().ok())
            .expect("it begins with seconds");
        let told = Clock::read().boot;
        let apart = (told.as_secs_f64() - seconds).abs();
        assert!(
            apart < 60.0,
            "{told:?} by the clock, {seconds} s by /proc/uptime"
        );
    }

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
