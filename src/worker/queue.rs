//! Which worker gets which event: idle workers in the order they became idle, waiting events in the
//! order they came, those on the core of a free worker first (see [`waiting`]). A pool in debug starts a worker for each event instead.

#[cfg(test)]
mod tests;
mod waiting;

use super::actor::WorkerMessage;
use super::info::WorkerState;
use super::lease::{Answer, ExchangeError, Lease};
use super::link::Link;
use super::pool::PoolMessage;
use crate::metrics::cells::Counter;
use bytes::Bytes;
use ractor::ActorRef;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};
use waiting::Waiting;

/// How often one request may be answered by "replace me".
const REPLACEMENTS: usize = 3;

/// Why a request has no answer from a pool; in the words that RoadRunner's users know.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    /// As many requests as the pool takes.
    #[error("QueueSize: max queue size reached ({0} requests in the pool, `max_queue_size`)")]
    QueueSize(usize),
    /// No worker became free in time.
    #[error(
        "NoFreeWorkers: none of {workers} workers became free within {waited:?} (`allocate_timeout`)"
    )]
    NoFreeWorkers {
        /// Workers there are.
        workers: usize,
        /// How long the request waited.
        waited: Duration,
    },
    /// The worker that was to be started for it did not come up.
    #[error("no worker came up for it: {0}")]
    NotStarted(String),
    /// The pool is being stopped.
    #[error("the pool is being stopped")]
    Stopped,
    /// The worker failed in words of its own.
    #[error("SoftJob: {0}")]
    Soft(String),
    /// The worker passed over the request.
    #[error("the worker read the request and answered nothing; a handler must answer each request")]
    Nothing,
    /// The worker began to stream.
    #[error("streaming response not supported")]
    Stream,
    /// One worker after the other asked to be replaced.
    #[error("{0} workers in turn asked to be replaced instead of answering")]
    Replacements(usize),
    /// The request has neither context nor body.
    #[error("payload can not be empty")]
    Empty,
    /// The worker was lost; what it did is not known.
    #[error("{why}{}", end.as_deref().map(|end| format!(" ({end})")).unwrap_or_default())]
    Lost {
        /// What was seen of it.
        why: ExchangeError,
        /// How its process ended, if that is known.
        end: Option<Arc<str>>,
    },
    /// It ran for too long and was killed.
    #[error("ExecTTL: killed after {0:?} (`exec_ttl`)")]
    ExecTtl(Duration),
}

/// What a pool's exchanges ask of it, and what they count.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The question behind each request, encoded; `None` without the fence.
    pub(crate) fence: Option<Bytes>,
    /// Requests in the pool at once, those at work included; 0 for any number.
    pub(crate) max_queue_size: usize,
    /// How long a request waits for a worker.
    pub(crate) allocate_timeout: Duration,
    /// How long the rest of an unwanted stream may take.
    pub(crate) stream_timeout: Duration,
    /// How long a worker may run on one request; zero for any time.
    pub(crate) exec_ttl: Duration,
    /// Whether somebody asks how long requests wait.
    pub(crate) grows: bool,
}

/// What happened beside the answers.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Answers that came when nobody waited any more.
    pub(crate) late: Counter,
    /// Requests that a worker read and did not answer.
    pub(crate) dropped: Counter,
    /// Requests refused because the pool was full.
    pub(crate) refused: Counter,
    /// Requests for which no worker became free in time.
    pub(crate) waited_out: Counter,
    /// Workers that are gone while the pool runs, for whatever reason.
    pub(crate) restarts: Counter,
}

#[derive(Debug)]
struct State {
    idle: VecDeque<Link>,
    waiting: Waiting,
    open: bool,
}

/// The workers of a pool as its requests see them.
#[derive(Debug)]
pub(crate) struct Queue {
    rules: Rules,
    state: Mutex<State>,
    requests: AtomicUsize,
    workers: AtomicUsize,
    /// Told when a request begins to wait, where somebody asks for it.
    short: Notify,
    /// The pool that starts a worker for each request, in debug.
    starter: OnceLock<ActorRef<PoolMessage>>,
    /// What happened beside the answers.
    pub(crate) counts: Counts,
}

/// A place among the requests of a pool.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<Queue>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Queue {
    /// A queue without workers.
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            state: Mutex::new(State {
                idle: VecDeque::new(),
                waiting: Waiting::default(),
                open: true,
            }),
            requests: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
            short: Notify::new(),
            starter: OnceLock::new(),
            counts: Counts::default(),
        }
    }

    /// From now on each request has a worker of its own, which this pool starts for it.
    pub(super) fn start_by(&self, pool: ActorRef<PoolMessage>) {
        // A pool says so once.
        drop(self.starter.set(pool));
    }

    pub(super) const fn fence(&self) -> Option<&Bytes> {
        self.rules.fence.as_ref()
    }

    pub(super) const fn stream_timeout(&self) -> Duration {
        self.rules.stream_timeout
    }

    /// Requests in the pool, waiting and at work.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests that wait, those that have gone among them.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// How many workers can take requests, now or later.
    pub(crate) fn set_workers(&self, workers: usize) {
        self.workers.store(workers, Ordering::Relaxed);
    }

    /// Waits until a request waits for a worker; also once for one that did so before.
    pub(crate) async fn until_short(&self) {
        self.short.notified().await;
    }

    /// Whether it takes requests.
    pub(crate) fn is_open(&self) -> bool {
        self.state().open
    }

    /// How many workers are wanted.
    pub(crate) fn workers(&self) -> usize {
        self.workers.load(Ordering::Relaxed)
    }

    /// How long the request has waited that waits longest; `None` if none does.
    pub(crate) fn longest_wait(&self) -> Option<Duration> {
        let since = self.state().waiting.longest();
        since.map(|since| since.elapsed())
    }

    /// Gives a request to a worker, and its answer back. Whoever asks drops this at its deadline: a
    /// shorter limit on the wait than that one needs a clock of its own.
    ///
    /// # Errors
    /// There is no answer; a worker that may have read the request is not followed by another.
    pub(crate) async fn exec(
        self: &Arc<Self>,
        context: &[u8],
        body: &[u8],
        deadline: Option<Instant>,
    ) -> Result<Bytes, ExecError> {
        if context.is_empty() && body.is_empty() {
            return Err(ExecError::Empty);
        }
        let mut ticket = Some(self.admit()?);
        let (mut replaced, mut unread) = (0, 0);
        loop {
            let mut lease = self.checkout(deadline).await?;
            if let Some(ticket) = ticket.take() {
                lease.hold(ticket);
            }
            match lease.call(context, body).await {
                Ok(Answer::Body(body)) => return Ok(body),
                Ok(Answer::Soft(text)) => return Err(ExecError::Soft(text)),
                Ok(Answer::Stream) => return Err(ExecError::Stream),
                Ok(Answer::Nothing) => {
                    self.counts.dropped.add_one();
                    return Err(ExecError::Nothing);
                }
                Ok(Answer::ReplaceMe) => {
                    lease.replace();
                    replaced += 1;
                    if replaced > REPLACEMENTS {
                        return Err(ExecError::Replacements(replaced));
                    }
                }
                Err(why) => {
                    let worker = lease.worker();
                    let is_overdue = worker.as_ref().is_some_and(|it| it.is_overdue());
                    ticket = lease.release();
                    lease.lost(&why);
                    unread += 1;
                    // New workers for one request, without a pause between them, have to end.
                    if why.is_unread() && (self.starter.get().is_none() || unread <= REPLACEMENTS) {
                        continue;
                    }
                    if is_overdue {
                        return Err(ExecError::ExecTtl(self.rules.exec_ttl));
                    }
                    let end = match worker {
                        Some(worker) => worker.end().await,
                        None => None,
                    };
                    return Err(ExecError::Lost { why, end });
                }
            }
            ticket = lease.release();
        }
    }

    fn admit(self: &Arc<Self>) -> Result<Ticket, ExecError> {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        let ticket = Ticket(Arc::clone(self));
        let limit = self.rules.max_queue_size;
        if limit > 0 && before >= limit {
            self.counts.refused.add_one();
            return Err(ExecError::QueueSize(limit));
        }
        Ok(ticket)
    }

    /// A worker that was started for this request alone. It takes no longer than `allocate_timeout`: a
    /// start that does has failed.
    async fn fresh(&self, pool: &ActorRef<PoolMessage>) -> Result<Lease, ExecError> {
        let (tell, told) = oneshot::channel();
        pool.cast(PoolMessage::Fresh(tell))
            .map_err(|_| ExecError::Stopped)?;
        match told.await {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(why)) if self.is_open() => Err(ExecError::NotStarted(why)),
            _ => Err(ExecError::Stopped),
        }
    }

    /// A worker that is idle, or the next one that becomes so; in debug one that is started for it.
    async fn checkout(self: &Arc<Self>, deadline: Option<Instant>) -> Result<Lease, ExecError> {
        if let Some(pool) = self.starter.get() {
            return self.fresh(pool).await;
        }
        let next = {
            let mut state = self.state();
            if !state.open {
                return Err(ExecError::Stopped);
            }
            if let Some(link) = state.idle.pop_front() {
                return Ok(Lease::new(link, Arc::clone(self)));
            }
            let next = state.waiting.join();
            if self.rules.grows {
                self.short.notify_one();
            }
            next
        };
        let limit = self.rules.allocate_timeout;
        let lasts = |end: Instant| end.saturating_duration_since(Instant::now()) <= limit;
        let waited = match deadline {
            Some(deadline) if lasts(deadline) => Ok(next.await),
            _ => timeout(limit, next).await,
        };
        match waited {
            Ok(Ok(lease)) => Ok(lease),
            Ok(Err(_)) => Err(ExecError::Stopped),
            Err(_) => {
                self.counts.waited_out.add_one();
                Err(ExecError::NoFreeWorkers {
                    workers: self.workers.load(Ordering::Relaxed),
                    waited: limit,
                })
            }
        }
    }

    /// A worker has finished: it goes to whoever waits longest, becomes idle, or leaves.
    pub(crate) fn give_back(self: &Arc<Self>, link: Link) {
        let worker = Arc::clone(&link.worker);
        worker.rest();
        worker.go(match worker.is_used_up() {
            true => WorkerState::MaxJobs,
            false => WorkerState::Ready,
        });
        // Of workers that were started for one request none is kept.
        if self.starter.get().is_some() {
            return Self::retire(link);
        }
        let mut lease = Lease::new(link, Arc::clone(self));
        loop {
            let mut state = self.state();
            // Looked at under the lock: who sends a worker away looks for it here afterwards.
            if !state.open || worker.state() != WorkerState::Ready {
                drop(state);
                return lease.dismiss();
            }
            let Some(next) = state.waiting.next() else {
                if let Some(link) = lease.into_link() {
                    state.idle.push_back(link);
                }
                return;
            };
            drop(state);
            match next.take(lease) {
                Ok(()) => return,
                Err(unwanted) => lease = unwanted,
            }
        }
    }

    /// Asks the process behind a line to end.
    pub(super) fn retire(link: Link) {
        let worker = Arc::clone(&link.worker);
        let order = WorkerMessage::Retire(Box::new(link), String::new());
        // An actor that is gone has ended its process.
        drop(worker.actor.cast(order));
    }

    /// Takes an idle worker out: the one of this number, or the one that was idle longest.
    pub(crate) fn take_idle(&self, id: Option<u64>) -> Option<Link> {
        let mut state = self.state();
        let at = match id {
            Some(id) => state.idle.iter().position(|link| link.worker.id == id)?,
            None => 0,
        };
        state.idle.remove(at)
    }

    /// Takes no more requests; those that wait are told, idle workers come back to be ended.
    pub(crate) fn close(&self) -> Vec<Link> {
        let mut state = self.state();
        state.open = false;
        let waiting = std::mem::take(&mut state.waiting);
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        drop(waiting);
        // Whoever asks how long requests wait has nothing more to ask.
        self.short.notify_one();
        idle.into()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
