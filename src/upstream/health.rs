//! Passive health: who fails several times in a row is ejected for a time that doubles.
//!
//! No clock and no lock in here: what happened and when comes from outside.

use std::time::Duration;
use tokio::time::Instant;

/// When somebody is ejected, and for how long (`eject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// So many failures in a row; 0 for never.
    pub(super) failures: u32,
    /// The first time out.
    pub(super) time: Duration,
    /// The longest.
    pub(super) longest: Duration,
}

/// What is known of one address.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Failures since the last success.
    failures: u32,
    /// The last time out: its end and its length.
    out: Option<(Instant, Duration)>,
}

impl Record {
    /// When it takes calls again, if it is ejected.
    pub(super) fn ejected_until(&self, now: Instant) -> Option<Instant> {
        self.out
            .map(|(until, _)| until)
            .filter(|until| now < *until)
    }

    /// Failures since the last success.
    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// A call was answered. One that was tried although it is ejected ends that.
    pub(super) fn succeeded(&mut self, now: Instant, was_ejected: bool) {
        self.failures = 0;
        if was_ejected && let Some((until, _)) = &mut self.out {
            *until = (*until).min(now);
        }
    }

    /// A call has failed; how long it is ejected from now on, if it is. Once it is back, one more
    /// failure is enough, and the time doubles unless it has been well for as long.
    pub(super) fn failed(&mut self, now: Instant, rule: &Rule) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        if self.ejected_until(now).is_some() || rule.failures == 0 || self.failures < rule.failures
        {
            return None;
        }
        let time = match self.out {
            Some((until, last)) if now < until + last => last.saturating_mul(2).min(rule.longest),
            _ => rule.time,
        };
        self.out = Some((now + time, time));
        self.failures = rule.failures - 1;
        Some(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule {
        failures: 3,
        time: Duration::from_secs(1),
        longest: Duration::from_secs(5),
    };

    fn at(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    /// What the last of so many failures says.
    fn fail(record: &mut Record, count: usize, now: Instant) -> Option<Duration> {
        (0..count).fold(None, |_, _| record.failed(now, &RULE))
    }

    #[test]
    fn three_failures_in_a_row_eject_and_a_success_between_them_does_not() {
        let (mut record, now) = (Record::default(), Instant::now());
        assert_eq!(record.failed(now, &RULE), None);
        assert_eq!(record.failed(now, &RULE), None);
        record.succeeded(now, false);
        assert_eq!(record.failed(now, &RULE), None);
        assert_eq!(record.failed(now, &RULE), None);
        assert_eq!(record.failed(now, &RULE), Some(RULE.time));
        assert!(record.ejected_until(at(now, 0.9)).is_some());
        assert!(record.ejected_until(at(now, 1.1)).is_none());
    }

    #[test]
    fn who_fails_again_after_its_return_is_out_for_twice_as_long_up_to_the_longest() {
        let (mut record, start) = (Record::default(), Instant::now());
        (0..2).for_each(|_| assert_eq!(record.failed(start, &RULE), None));
        let mut now = start;
        for seconds in [1, 2, 4, 5, 5] {
            let out = record.failed(now, &RULE);
            assert_eq!(out, Some(Duration::from_secs(seconds)));
            assert_eq!(record.failed(now, &RULE), None, "it is out already");
            now += Duration::from_secs(seconds);
        }
    }

    #[test]
    fn who_was_well_for_as_long_as_it_was_out_starts_anew() {
        let (mut record, now) = (Record::default(), Instant::now());
        assert_eq!(fail(&mut record, 3, now), Some(RULE.time));
        assert_eq!(record.failed(at(now, 1.5), &RULE), Some(RULE.time * 2));
        record.succeeded(at(now, 4.0), false);
        let later = at(now, 5.6);
        (0..2).for_each(|_| assert_eq!(record.failed(later, &RULE), None));
        assert_eq!(record.failed(later, &RULE), Some(RULE.time));
    }

    #[test]
    fn a_success_of_one_that_is_out_ends_that_and_zero_failures_never_eject() {
        let (mut record, now) = (Record::default(), Instant::now());
        assert_eq!(fail(&mut record, 3, now), Some(RULE.time));
        record.succeeded(now, false);
        assert!(
            record.ejected_until(now).is_some(),
            "it was under way before"
        );
        record.succeeded(now, true);
        assert!(record.ejected_until(now).is_none());
        let never = Rule {
            failures: 0,
            ..RULE
        };
        let mut record = Record::default();
        assert!((0..99).all(|_| record.failed(now, &never).is_none()));
    }
}
