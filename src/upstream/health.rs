//! Passive health: who fails several times in a row is ejected for a time that doubles.
//!
//! Failures weigh differently. Who can't be reached, breaks off or says UNAVAILABLE is out soon; an
//! error that an application may answer to one bad event, or an answer that was too late for a caller
//! in a hurry, is no more than a suspicion, and ejects after [`SUSPICIONS`] times as many alone.
//!
//! No clock and no lock in here: what happened and when comes from outside.

use std::time::Duration;
use tokio::time::Instant;

/// So many errors in a row weigh as much as one failure in a row: one bad event that is sent again and
/// again must not take every address out.
pub(super) const SUSPICIONS: u32 = 10;

/// What a call says of the address it went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is well.
    Well,
    /// It answers with errors, or not in time.
    Suspect,
    /// It broke off, or says itself that it is not available.
    Down,
    /// It can't be reached.
    Unreachable,
    /// Nothing.
    Nothing,
}

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
    /// Errors and failures since the last success.
    suspicions: u32,
    /// Whether it could not even be reached the last time.
    is_unreachable: bool,
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

    /// Whether something has failed since the last success.
    pub(super) const fn is_blemished(&self) -> bool {
        self.suspicions > 0
    }

    /// Whether it could not even be reached the last time.
    pub(super) const fn is_unreachable(&self) -> bool {
        self.is_unreachable
    }

    /// A call was answered. One that was tried although it is ejected ends that.
    pub(super) fn succeeded(&mut self, now: Instant, was_ejected: bool) {
        self.failures = 0;
        self.suspicions = 0;
        self.is_unreachable = false;
        if was_ejected && let Some((until, _)) = &mut self.out {
            *until = (*until).min(now);
        }
    }

    /// A call has failed; how long it is ejected from now on, if it is. Once it is back, one more
    /// failure is enough, and the time doubles unless it has been well for as long.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        rule: &Rule,
        verdict: Verdict,
    ) -> Option<Duration> {
        let is_down = match verdict {
            Verdict::Well | Verdict::Nothing => return None,
            Verdict::Suspect => false,
            Verdict::Down | Verdict::Unreachable => true,
        };
        self.is_unreachable = verdict == Verdict::Unreachable;
        self.suspicions = self.suspicions.saturating_add(1);
        self.failures = self.failures.saturating_add(u32::from(is_down));
        let is_enough = self.failures >= rule.failures
            || self.suspicions >= rule.failures.saturating_mul(SUSPICIONS);
        if self.ejected_until(now).is_some() || rule.failures == 0 || !is_enough {
            return None;
        }
        let time = match self.out {
            Some((until, last)) if now < until + last => last.saturating_mul(2).min(rule.longest),
            _ => rule.time,
        };
        self.out = Some((now + time, time));
        self.failures = rule.failures - 1;
        // Errors alone have to show it anew.
        self.suspicions = self.failures;
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
        (0..count).fold(None, |_, _| record.failed(now, &RULE, Verdict::Down))
    }

    #[test]
    fn three_failures_in_a_row_eject_and_a_success_between_them_does_not() {
        let (mut record, now) = (Record::default(), Instant::now());
        assert_eq!(record.failed(now, &RULE, Verdict::Down), None);
        assert_eq!(record.failed(now, &RULE, Verdict::Down), None);
        record.succeeded(now, false);
        assert_eq!(record.failed(now, &RULE, Verdict::Down), None);
        assert_eq!(record.failed(now, &RULE, Verdict::Down), None);
        assert_eq!(record.failed(now, &RULE, Verdict::Down), Some(RULE.time));
        assert!(record.ejected_until(at(now, 0.9)).is_some());
        assert!(record.ejected_until(at(now, 1.1)).is_none());
    }

    #[test]
    fn who_fails_again_after_its_return_is_out_for_twice_as_long_up_to_the_longest() {
        let (mut record, start) = (Record::default(), Instant::now());
        (0..2).for_each(|_| assert_eq!(record.failed(start, &RULE, Verdict::Down), None));
        let mut now = start;
        for seconds in [1, 2, 4, 5, 5] {
            let out = record.failed(now, &RULE, Verdict::Down);
            assert_eq!(out, Some(Duration::from_secs(seconds)));
            assert_eq!(
                record.failed(now, &RULE, Verdict::Down),
                None,
                "it is out already"
            );
            now += Duration::from_secs(seconds);
        }
    }

    #[test]
    fn who_was_well_for_as_long_as_it_was_out_starts_anew() {
        let (mut record, now) = (Record::default(), Instant::now());
        assert_eq!(fail(&mut record, 3, now), Some(RULE.time));
        assert_eq!(
            record.failed(at(now, 1.5), &RULE, Verdict::Down),
            Some(RULE.time * 2)
        );
        record.succeeded(at(now, 4.0), false);
        let later = at(now, 5.6);
        (0..2).for_each(|_| assert_eq!(record.failed(later, &RULE, Verdict::Down), None));
        assert_eq!(record.failed(later, &RULE, Verdict::Down), Some(RULE.time));
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
        assert!((0..99).all(|_| record.failed(now, &never, Verdict::Down).is_none()));
    }

    #[test]
    fn errors_of_an_application_eject_after_ten_times_as_many_in_a_row_and_a_success_forgets_them()
    {
        let (mut record, now) = (Record::default(), Instant::now());
        let mut suspect = |count: u32| {
            let fail = |_: u32| record.failed(now, &RULE, Verdict::Suspect);
            (0..count).map(fail).find_map(|out| out)
        };
        assert_eq!(suspect(3 * SUSPICIONS - 1), None);
        record.succeeded(now, false);
        let mut suspect = |count: u32| {
            let fail = |_: u32| record.failed(now, &RULE, Verdict::Suspect);
            (0..count).map(fail).find_map(|out| out)
        };
        assert_eq!(suspect(3 * SUSPICIONS - 1), None);
        assert_eq!(suspect(1), Some(RULE.time));
        // Back again, errors count anew, and one that is down is out at once.
        let back = at(now, 1.5);
        let again = record.failed(back, &RULE, Verdict::Suspect);
        assert_eq!(again, None);
        let again = record.failed(back, &RULE, Verdict::Down);
        assert_eq!(again, Some(RULE.time * 2));
    }

    #[test]
    fn what_the_last_failure_said_tells_whether_it_can_be_reached() {
        let (mut record, now) = (Record::default(), Instant::now());
        for (verdict, is_unreachable) in [
            (Verdict::Unreachable, true),
            (Verdict::Down, false),
            (Verdict::Unreachable, true),
            (Verdict::Suspect, false),
            (Verdict::Unreachable, true),
        ] {
            record.failed(now, &RULE, verdict);
            assert_eq!(record.is_unreachable(), is_unreachable, "{verdict:?}");
        }
        record.succeeded(now, false);
        assert!(!record.is_unreachable() && !record.is_blemished());
    }
}
