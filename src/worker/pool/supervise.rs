//! What is looked at from time to time: work that takes too long, age, idle time and memory.

use super::super::info::{WorkerInfo, WorkerState};
use super::{PoolState, WorkerReport, kill};
use std::sync::Arc;

/// Bytes of a mebibyte.
const MIB: u64 = 1_048_576;

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

    /// Replaces workers that are too old, idle for too long, or too big; none in the middle of an
    /// event.
    pub(super) fn watch(&mut self) {
        let spec = &self.spec;
        let mut leave = Vec::new();
        for (id, slot) in &self.slots {
            let Some(info) = slot.info.as_ref().filter(|_| !slot.leaving) else {
                continue;
            };
            let state = info.state();
            if !matches!(state, WorkerState::Ready | WorkerState::Working) {
                continue;
            }
            let idle = info.since_last().filter(|_| state == WorkerState::Ready);
            let old = !spec.ttl.is_zero() && info.started.elapsed() >= spec.ttl;
            let big = spec.max_worker_memory > 0
                && info
                    .memory()
                    .is_some_and(|it| is_too_big(it, spec.max_worker_memory));
            let unused = !spec.idle_ttl.is_zero()
                && idle.is_some_and(|idle| idle.as_secs() >= spec.idle_ttl.as_secs());
            let why = match (old, big, unused) {
                (true, ..) => "older than `ttl`",
                (_, true, _) => "bigger than `max_worker_memory`",
                (.., true) => "idle for longer than `idle_ttl`",
                _ => continue,
            };
            let (pool, pid) = (&*spec.name, info.pid);
            tracing::debug!(pool, pid, why, "a worker is replaced");
            leave.push(*id);
        }
        leave.into_iter().for_each(|id| self.retire(id));
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
    use super::is_too_big;

    #[test]
    fn w71_memory_is_compared_in_units_of_1_048_576_bytes() {
        assert!(is_too_big(60 * 1_048_576, 60));
        assert!(!is_too_big(60 * 1_048_576 - 1, 60));
        assert!(!is_too_big(60_000_000, 60));
        assert!(!is_too_big(u64::MAX - 1, u64::MAX));
    }
}
