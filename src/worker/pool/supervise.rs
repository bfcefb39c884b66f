//! What is looked at from time to time: work that takes too long, age, idle time and memory.

use super::super::info::{WorkerInfo, WorkerState};
use super::places::Slot;
use super::reset::STEPS;
use super::{PoolMessage, PoolSpec, PoolState, WorkerReport, kill};
use ractor::ActorRef;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of a mebibyte.
const MIB: u64 = 1_048_576;

/// New workers for those that are due are tried again at least as often as this, or as they are looked
/// at.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What became of the new workers for those that are due.
#[derive(Debug)]
pub(super) struct Renewal {
    /// Attempts in a row that failed.
    failures: u32,
    /// The last one that did.
    failed: u64,
    /// None begins before this.
    not_before: Instant,
}

impl Renewal {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self {
            failures: 0,
            failed: 0,
            not_before: Instant::now(),
        }
    }
}

/// What is looked at of a worker.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    age: Duration,
    /// Since when it is idle; `None` if it is at work, or has never been.
    idle: Option<Duration>,
    /// Bytes that it holds, where they are known.
    memory: Option<u64>,
}

/// Why a worker is to be replaced, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Big,
    Old,
    Unused,
}

impl Due {
    /// Whether a worker is due, and why.
    fn of(seen: Seen, spec: &PoolSpec) -> Option<Self> {
        let reaches = |time: Duration, limit: Duration| !limit.is_zero() && time >= limit;
        let limit = spec.max_worker_memory;
        if limit > 0 && seen.memory.is_some_and(|it| is_too_big(it, limit)) {
            Some(Self::Big)
        } else if reaches(seen.age, spec.ttl) {
            Some(Self::Old)
        } else if seen.idle.is_some_and(|idle| reaches(idle, spec.idle_ttl)) {
            Some(Self::Unused)
        } else {
            None
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Big => "bigger than `max_worker_memory`",
            Self::Old => "older than `ttl`",
            Self::Unused => "idle for longer than `idle_ttl`",
        }
    }
}

/// Whether these bytes reach a limit in MiB.
const fn is_too_big(bytes: u64, limit: u64) -> bool {
    bytes >= limit.saturating_mul(MIB)
}

impl PoolState {
    /// Kills workers that are on one event for too long.
    pub(super) fn end_overdue(&self) {
        let limit = self.spec.exec_ttl;
        for info in self.slots.values().filter_map(|slot| slot.info.as_ref()) {
            let too_long = info.at_work_for().is_some_and(|since| since >= limit);
            if too_long && !info.is_overdue() {
                info.set_overdue();
                kill(info, "ExecTTL: it ran longer than `exec_ttl` on one event");
            }
        }
    }

    /// Starts new workers for some of those that are too old, idle for too long, or too big: a quarter of
    /// the pool at a time, so that all that were started together do not go together. The old ones go on
    /// until theirs is up, and then leave, none in the middle of an event.
    pub(super) fn watch(&mut self, myself: &ActorRef<PoolMessage>) {
        let now = Instant::now();
        let waits = self.not_before > now || self.renewal.not_before > now;
        // A reset replaces all of them, and in debug each event has a worker of its own.
        if self.stopped || self.spec.debug || self.reset.is_some() || waits {
            return;
        }
        let at_once = match self.renewal.failures {
            0 => (self.wanted() / STEPS).max(1),
            _ => 1,
        };
        let there = self.slots.values().filter(|slot| !slot.leaving);
        let begun: BTreeSet<u64> = there.filter_map(|slot| slot.replaces).collect();
        let room = at_once.saturating_sub(begun.len());
        if room == 0 {
            return;
        }
        let mut due = self.due();
        due.retain(|(_, id)| !begun.contains(id));
        if due.is_empty() {
            return;
        }
        self.attempts += 1;
        for (why, old) in due.into_iter().take(room) {
            let pid = self
                .slots
                .get(&old)
                .and_then(|it| Some(it.info.as_ref()?.pid));
            let (pool, why) = (&*self.spec.name, why.name());
            tracing::debug!(pool, pid, why, "a worker is replaced");
            let new = self.spawn(myself, Some(old), self.spec.max_jobs, None);
            if let Some(slot) = new.and_then(|new| self.slots.get_mut(&new)) {
                slot.renews = true;
            }
        }
    }

    /// Those that are due and serve, in the order in which they are to be replaced.
    fn due(&self) -> Vec<(Due, u64)> {
        let look = |info: &WorkerInfo| {
            let state = info.state();
            let serves = matches!(state, WorkerState::Ready | WorkerState::Working);
            let is_idle = state == WorkerState::Ready;
            let seen = Seen {
                age: info.started.elapsed(),
                idle: info.since_last().filter(|_| is_idle),
                memory: match self.spec.max_worker_memory {
                    0 => None,
                    _ => info.memory(),
                },
            };
            Due::of(seen, &self.spec).filter(|_| serves)
        };
        let staying = self.slots.iter().filter(|(_, slot)| !slot.leaving);
        let due = staying.filter_map(|(id, slot)| Some((look(slot.info.as_ref()?)?, *id)));
        let mut due: Vec<_> = due.collect();
        due.sort_unstable();
        due
    }

    /// A new worker for one that was due has come up: the script is well.
    pub(super) const fn renewal_is_well(&mut self) {
        self.renewal.failures = 0;
    }

    /// A new worker for one that is due did not come up: the old one goes on, and others are tried ever
    /// less often.
    pub(super) fn renewal_has_failed(&mut self, attempt: u64, why: &str) {
        let (pool, failures) = (&*self.spec.name, self.renewal.failures);
        match failures {
            0 => tracing::warn!(
                pool,
                "a new worker for one that is due did not come up; the old one goes on, and it is tried \
                 again, ever less often: {why}"
            ),
            _ => tracing::debug!(pool, failures, "a new worker did not come up: {why}"),
        }
        // An attempt counts once, however many workers it was for.
        if attempt <= self.renewal.failed {
            return;
        }
        let tick = self.spec.watch_tick;
        let pause = tick * (2_u32.pow(failures.min(10)) - 1);
        self.renewal = Renewal {
            failures: failures.saturating_add(1),
            failed: attempt,
            not_before: Instant::now() + pause.min(LONGEST_PAUSE.max(tick)),
        };
    }

    /// Sends away new workers that are not up: what they have loaded may be old by now.
    pub(super) fn give_up_renewals(&mut self) {
        let is_one = |slot: &Slot| slot.renews && slot.info.is_none() && !slot.leaving;
        let booting = self.slots.iter().filter(|(_, slot)| is_one(slot));
        let booting: Vec<u64> = booting.map(|(id, _)| *id).collect();
        booting.into_iter().for_each(|id| self.retire(id));
    }

    /// All workers, for who asks.
    pub(super) fn report(&self) -> Vec<WorkerReport> {
        let infos = self.slots.values().filter_map(|slot| slot.info.as_ref());
        let report = |info: &Arc<WorkerInfo>| WorkerReport {
            pid: info.pid,
            state: info.state(),
            jobs: info.jobs(),
            cpu: info.cpu().unwrap_or_default(),
            created: info.created,
            memory: info.memory().unwrap_or_default(),
        };
        infos.map(report).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::spec;
    use super::*;

    #[test]
    fn w71_memory_is_compared_in_units_of_1_048_576_bytes() {
        assert!(is_too_big(60 * 1_048_576, 60));
        assert!(!is_too_big(60 * 1_048_576 - 1, 60));
        assert!(!is_too_big(60_000_000, 60));
        assert!(!is_too_big(u64::MAX - 1, u64::MAX));
    }

    #[test]
    fn w70_idle_time_is_compared_with_the_whole_limit_and_not_with_its_seconds_alone() {
        for (limit, under, over) in [(500, 499, 500), (1900, 1899, 1900), (2000, 1999, 2000)] {
            let mut spec = spec(1);
            spec.idle_ttl = Duration::from_millis(limit);
            let idle = |millis| Seen {
                idle: Some(Duration::from_millis(millis)),
                ..Seen::default()
            };
            assert_eq!(Due::of(idle(0), &spec), None);
            assert_eq!(Due::of(idle(under), &spec), None);
            assert_eq!(Due::of(idle(over), &spec), Some(Due::Unused));
        }
    }

    #[test]
    fn a_limit_of_zero_is_none_and_size_comes_before_age_and_idleness() {
        let long = Duration::from_secs(1 << 30);
        let seen = Seen {
            age: long,
            idle: Some(long),
            memory: Some(u64::MAX),
        };
        let mut spec = spec(1);
        assert_eq!(Due::of(seen, &spec), None);
        spec.idle_ttl = Duration::from_secs(1);
        assert_eq!(Due::of(seen, &spec), Some(Due::Unused));
        spec.ttl = Duration::from_secs(1);
        assert_eq!(Due::of(seen, &spec), Some(Due::Old));
        spec.max_worker_memory = 60;
        assert_eq!(Due::of(seen, &spec), Some(Due::Big));
        // It never served a request, and is not known to be big.
        spec.ttl = Duration::ZERO;
        let unseen = Seen {
            idle: None,
            memory: None,
            ..seen
        };
        assert_eq!(Due::of(unseen, &spec), None);
        assert!(Due::Big < Due::Old && Due::Old < Due::Unused);
    }
}
