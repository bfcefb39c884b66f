//! What is known of one worker: its process, its state, what it has done.

use super::actor::WorkerMessage;
use ractor::ActorRef;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// How long an error waits to name the end of the process: longer than one that has closed its line is
/// left alone.
const END: Duration = Duration::from_millis(600);

/// Parts of a second in which the system counts processor time towards programs (`USER_HZ`), on every
/// processor that this runs on.
const TICKS: f64 = 100.0;

/// The state of a worker, with RoadRunner's numbers and names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum WorkerState {
    /// The process runs and has not answered yet.
    Inactive = 0,
    /// Idle.
    Ready = 1,
    /// At work on an event.
    Working = 2,
    /// To be stopped once it is done.
    Invalid = 3,
    /// It has been asked to stop.
    Stopping = 4,
    /// The process is gone.
    Stopped = 5,
    /// Gone, and not to be replaced.
    Destroyed = 6,
    /// It has done as many events as one worker may.
    MaxJobs = 7,
    /// What it answered made no sense.
    Errored = 8,
    /// It was idle for too long.
    IdleTtl = 9,
    /// It has become too old.
    Ttl = 10,
    /// It has become too big.
    Memory = 11,
    /// It ran too long on one event, and was killed.
    ExecTtl = 12,
}

impl WorkerState {
    /// All of them, by number.
    pub(crate) const ALL: [Self; 13] = [
        Self::Inactive,
        Self::Ready,
        Self::Working,
        Self::Invalid,
        Self::Stopping,
        Self::Stopped,
        Self::Destroyed,
        Self::MaxJobs,
        Self::Errored,
        Self::IdleTtl,
        Self::Ttl,
        Self::Memory,
        Self::ExecTtl,
    ];

    /// The name as RoadRunner prints it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Ready => "ready",
            Self::Working => "working",
            Self::Invalid => "invalid",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Destroyed => "destroyed",
            Self::MaxJobs => "maxJobsReached",
            Self::Errored => "errored",
            Self::IdleTtl => "idleTTLReached",
            Self::Ttl => "ttlReached",
            Self::Memory => "maxMemoryReached",
            Self::ExecTtl => "undefined",
        }
    }

    /// Whether a worker may go from one state to the other.
    pub(crate) const fn allows(self, to: Self) -> bool {
        match to {
            Self::Destroyed => true,
            Self::Ready => matches!(self, Self::Working | Self::Inactive),
            Self::Working => matches!(self, Self::Ready),
            _ => !matches!(self, Self::Destroyed),
        }
    }
}

/// A worker, as everybody sees it.
pub(crate) struct WorkerInfo {
    /// Its number, never used again in this process.
    pub(crate) id: u64,
    /// The name of its pool; empty outside of one.
    pool: Arc<str>,
    /// Its process.
    pub(crate) pid: u32,
    /// When it was started.
    pub(crate) created: SystemTime,
    /// The same, for its age.
    pub(crate) started: Instant,
    /// The events that it may do; 0 for any number.
    pub(crate) max_jobs: u64,
    /// Who owns the process.
    pub(crate) actor: ActorRef<WorkerMessage>,
    state: AtomicU8,
    /// Whether it was killed since it ran too long on one event.
    overdue: AtomicBool,
    jobs: AtomicU64,
    /// How its process ended, in words.
    end: watch::Sender<Option<Arc<str>>>,
    /// Milliseconds of its age when its last event began, plus one; 0 before the first.
    last: AtomicU64,
    /// The same of the event that it is at work on; 0 if it is at none.
    at_work: AtomicU64,
}

impl fmt::Debug for WorkerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerInfo")
            .field("id", &self.id)
            .field("pid", &self.pid)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl WorkerInfo {
    /// A worker whose process has just been started.
    pub(crate) fn new(id: u64, pid: u32, max_jobs: u64, actor: ActorRef<WorkerMessage>) -> Self {
        Self {
            id,
            pool: Arc::default(),
            pid,
            created: SystemTime::now(),
            started: Instant::now(),
            max_jobs,
            actor,
            state: AtomicU8::new(WorkerState::Inactive as u8),
            overdue: AtomicBool::new(false),
            jobs: AtomicU64::new(0),
            last: AtomicU64::new(0),
            at_work: AtomicU64::new(0),
            end: watch::channel(None).0,
        }
    }

    /// The same as one of a pool.
    pub(crate) fn of(self, pool: Arc<str>) -> Self {
        Self { pool, ..self }
    }

    /// The name of its pool; empty outside of one.
    pub(crate) fn pool(&self) -> &str {
        &self.pool
    }

    /// The process has ended: how, and the last that it said.
    pub(crate) fn ended(&self, how: &str, words: &str) {
        let said = match words {
            "" => String::new(),
            words => format!("; on stderr: {words}"),
        };
        self.end.send_replace(Some(format!("{how}{said}").into()));
    }

    /// How the process ended, if that is known soon.
    pub(crate) async fn end(&self) -> Option<Arc<str>> {
        let mut end = self.end.subscribe();
        let known = timeout(END, end.wait_for(Option::is_some)).await;
        known.ok()?.ok()?.clone()
    }

    /// The state now.
    pub(crate) fn state(&self) -> WorkerState {
        let number = self.state.load(Ordering::Acquire);
        WorkerState::ALL[usize::from(number).min(WorkerState::ALL.len() - 1)]
    }

    /// Goes to another state, if that is allowed from the one it is in.
    pub(crate) fn go(&self, to: WorkerState) -> bool {
        let step = |from: u8| {
            let from = WorkerState::ALL[usize::from(from).min(WorkerState::ALL.len() - 1)];
            from.allows(to).then_some(to as u8)
        };
        let gone = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, step);
        gone.is_ok()
    }

    /// An event begins.
    pub(crate) fn begin(&self) {
        self.go(WorkerState::Working);
        self.jobs.fetch_add(1, Ordering::Relaxed);
        let age = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.last.store(age + 1, Ordering::Relaxed);
        // One value says that it is at work and since when: nobody sees the one without the other.
        self.at_work.store(age + 1, Ordering::Relaxed);
    }

    /// The event is over.
    pub(crate) fn rest(&self) {
        self.at_work.store(0, Ordering::Relaxed);
    }

    /// For how long it has been at work on its event; `None` if it is at none.
    pub(crate) fn at_work_for(&self) -> Option<Duration> {
        self.age_at(&self.at_work)
    }

    /// It is about to be killed, since it runs too long on one event.
    pub(crate) fn set_overdue(&self) {
        self.overdue.store(true, Ordering::Release);
        self.go(WorkerState::ExecTtl);
    }

    /// Whether that happened, whatever its state since then.
    pub(crate) fn is_overdue(&self) -> bool {
        self.overdue.load(Ordering::Acquire)
    }

    /// Events so far.
    pub(crate) fn jobs(&self) -> u64 {
        self.jobs.load(Ordering::Relaxed)
    }

    /// Whether it has done all that it may.
    pub(crate) fn is_used_up(&self) -> bool {
        self.max_jobs > 0 && self.jobs() >= self.max_jobs
    }

    /// How long ago its last event began; `None` before the first.
    pub(crate) fn since_last(&self) -> Option<Duration> {
        self.age_at(&self.last)
    }

    /// How long ago this was noted.
    fn age_at(&self, noted: &AtomicU64) -> Option<Duration> {
        let at = noted.load(Ordering::Relaxed).checked_sub(1)?;
        let age = self.started.elapsed();
        Some(age.saturating_sub(Duration::from_millis(at)))
    }

    /// Percent of a processor that its process has used since it was started, as RoadRunner shows it;
    /// `None` once it is gone.
    pub(crate) fn cpu(&self) -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        // The name of the program is in brackets and may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let user: u32 = fields.nth(11)?.parse().ok()?;
        let system: u32 = fields.next()?.parse().ok()?;
        let seconds = f64::from(user.saturating_add(system)) / TICKS;
        let age = self.started.elapsed().as_secs_f64().max(1.0 / TICKS);
        Some(seconds / age * 100.0)
    }

    /// Bytes of memory that its process holds (`VmRSS`); `None` once it is gone.
    pub(crate) fn memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::tests::listener;
    use super::WorkerState::{self, *};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_was_idle_for_long_is_at_work_from_the_begin_of_its_event_on() {
        let (actor, _told) = listener().await;
        let worker = Arc::new(WorkerInfo::new(1, 1, 0, actor));
        worker.go(Ready);
        let is_over = Arc::new(AtomicBool::new(false));
        let watcher = {
            let (worker, is_over) = (Arc::clone(&worker), Arc::clone(&is_over));
            std::thread::spawn(move || {
                let mut longest = Duration::ZERO;
                while !is_over.load(Ordering::Relaxed) {
                    longest = longest.max(worker.at_work_for().unwrap_or_default());
                }
                longest
            })
        };
        tokio::time::advance(Duration::from_secs(100)).await;
        for _ in 0..200_000 {
            // As after an event that began long ago.
            worker.last.store(1, Ordering::Relaxed);
            worker.begin();
            worker.rest();
            worker.go(Ready);
        }
        assert!(worker.since_last().is_some());
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(watcher.join().unwrap(), Duration::ZERO);
    }

    #[test]
    fn w65_the_states_allow_exactly_the_steps_of_the_reference() {
        for from in WorkerState::ALL {
            for to in WorkerState::ALL {
                let allowed = match to {
                    Destroyed => true,
                    Ready => from == Working || from == Inactive,
                    Working => from == Ready,
                    _ => from != Destroyed,
                };
                assert_eq!(from.allows(to), allowed, "{from:?} to {to:?}");
            }
        }
    }

    #[test]
    fn w66_numbers_and_names_are_those_of_the_reference() {
        let names = WorkerState::ALL.map(WorkerState::name);
        assert_eq!(
            names,
            [
                "inactive",
                "ready",
                "working",
                "invalid",
                "stopping",
                "stopped",
                "destroyed",
                "maxJobsReached",
                "errored",
                "idleTTLReached",
                "ttlReached",
                "maxMemoryReached",
                "undefined"
            ]
        );
        for (number, state) in WorkerState::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, number);
        }
    }
}
