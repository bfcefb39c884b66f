//! One gRPC call with its attempts: what is sent again, what is not, and what each caller is told.
//!
//! A call that was not sent is tried elsewhere. One that was sent is tried again only if it is safe:
//! it reads, or has an idempotency key. Attempts are bounded in number, in time by each call's
//! deadline, and over all calls by a budget that successes fill.

use super::batch;
use super::error::{self, Error};
use super::job::{Job, LaneKey, Stands};
use super::lanes::Flight;
use super::stats::Counters;
use super::upstream::{Fleet, Kind, Lease, UNIMPLEMENTED};
use super::wire::{CallError, GrpcStatus};
use crate::client::Budget;
use crate::trace;
use bytes::Bytes;
use centripeta_cluster::peer::LAPSE_WAIT;
use futures_util::future::BoxFuture;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// Attempts of one call after it was sent.
const ATTEMPTS: u32 = 3;
/// Attempts to send it at all.
const SENDINGS: u32 = 8;
/// A pause before the next attempt, times their number.
const PAUSE: Duration = Duration::from_millis(10);
/// Retries of what was sent for each success.
pub(super) const RETRY_SHARE: f64 = 0.1;
/// gRPC UNAVAILABLE.
const UNAVAILABLE: i32 = 14;

/// What flights share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) fleet: Arc<Fleet>,
    pub(super) counters: Arc<Counters>,
    pub(super) budget: Budget,
    /// The namespace boundary of channels.
    pub(super) boundary: String,
    /// After how long without an answer an endpoint is suspect, in milliseconds.
    pub(super) patience: AtomicU64,
}

impl Shared {
    fn patience(&self) -> Duration {
        Duration::from_millis(self.patience.load(Ordering::Relaxed))
    }
}

/// How an attempt ended.
enum Attempt {
    Answered(Bytes),
    NotSent(String),
    Lost(String),
    Status(GrpcStatus),
    /// No answer for so long that another endpoint is asked; every call is safe.
    Slow,
    /// Every call has timed out.
    Over,
}

/// Sends a flight until each of its calls is answered; gives back the lanes that it held.
pub(super) async fn fly(
    shared: Arc<Shared>,
    lease: Lease,
    flight: Flight,
    kind: Kind,
) -> Vec<LaneKey> {
    let Flight {
        jobs,
        held,
        is_unordered,
    } = flight;
    let flying = Flying {
        shared,
        is_unordered,
        kind,
        jobs: jobs.into_iter().map(Some).collect(),
    };
    flying.run(lease).await;
    held
}

struct Flying {
    shared: Arc<Shared>,
    is_unordered: bool,
    kind: Kind,
    /// The calls without an answer; a place is empty once its call has one.
    jobs: Vec<Option<Job>>,
}

impl Flying {
    async fn run(mut self, mut lease: Lease) {
        let (mut sent, mut unsent) = (0, 0);
        loop {
            self.time_out(sent > 0);
            self.fence(sent > 0).await;
            self.time_out(sent > 0);
            // Answers come by the places of what is sent: from here on they stay.
            self.jobs.retain(Option::is_some);
            let left = self.jobs.len();
            if left == 0 {
                return;
            }
            if left > 1 && !lease.takes_batches() {
                return self.one_by_one(lease).await;
            }
            let attempt = self.attempt(&lease, sent + 1).await;
            match attempt {
                Attempt::Over => return,
                Attempt::Answered(answer) => {
                    self.shared.budget.succeeded();
                    return self.answered(answer);
                }
                Attempt::NotSent(why) => {
                    unsent += 1;
                    lease.suspect(&self.shared.fleet.changes, &why);
                    if unsent == SENDINGS {
                        return self.fail(|_| Error::Unavailable { why: why.clone() });
                    }
                    sleep(PAUSE * (unsent - 1)).await;
                }
                Attempt::Status(status) if status.code == UNAVAILABLE => {
                    sent += 1;
                    let failure = |shared: &Shared, job: &Job| of_status(shared, job, &status);
                    if !self.keep_safe(sent, failure).await {
                        return;
                    }
                }
                Attempt::Status(status) if status.code == UNIMPLEMENTED && left > 1 => {
                    // Nothing was done.
                    lease.has_no_batches();
                    continue;
                }
                Attempt::Status(status) => {
                    let shared = Arc::clone(&self.shared);
                    return self.fail(|job| of_status(&shared, job, &status));
                }
                Attempt::Lost(why) => {
                    sent += 1;
                    let failure = |_: &Shared, job: &Job| Error::Lost {
                        method: job.name(),
                        why: why.clone(),
                    };
                    if !self.keep_safe(sent, failure).await {
                        return;
                    }
                }
                Attempt::Slow => {
                    sent += 1;
                    self.shared.counters.retries.fetch_add(1, Ordering::Relaxed);
                }
            }
            match self.lease_again(Some(lease)).await {
                Some(next) => lease = next,
                None => {
                    let why = self.shared.fleet.why();
                    return self.fail(|_| Error::Unavailable { why: why.clone() });
                }
            }
        }
    }

    /// Sends each call by itself and in order, since the endpoint takes no batches.
    fn one_by_one(self, lease: Lease) -> BoxFuture<'static, ()> {
        let (shared, kind) = (self.shared, self.kind);
        let mut lease = Some(lease);
        Box::pin(async move {
            for job in self.jobs.into_iter().flatten() {
                let mut alone = Self {
                    shared: Arc::clone(&shared),
                    is_unordered: false,
                    kind,
                    jobs: vec![Some(job)],
                };
                let place = match lease.take() {
                    Some(lease) => Some(lease),
                    None => alone.lease_again(None).await,
                };
                match place {
                    Some(lease) => alone.run(lease).await,
                    None => {
                        let why = shared.fleet.why();
                        alone.fail(|_| Error::Unavailable { why: why.clone() });
                    }
                }
            }
        })
    }

    /// One call on one connection, within the deadlines.
    async fn attempt(&mut self, lease: &Lease, number: u32) -> Attempt {
        let shared = Arc::clone(&self.shared);
        let now = Instant::now();
        let live = || self.jobs.iter().flatten();
        let Some(last) = live().map(|job| job.deadline).max() else {
            return Attempt::Over;
        };
        let (method, message, transport) = match &self.jobs[..] {
            [Some(job)] => (
                job.method.name.clone(),
                job.payload.clone(),
                job.transport_errors,
            ),
            _ => {
                let counters = &shared.counters;
                let count = self.jobs.len() as u64;
                counters.batches.fetch_add(1, Ordering::Relaxed);
                counters.batched.fetch_add(count, Ordering::Relaxed);
                let message = batch::encode(live(), self.is_unordered);
                ("Batch".into(), message, false)
            }
        };
        shared.counters.sent.fetch_add(1, Ordering::Relaxed);
        shared.counters.tally.sent(self.jobs.len());
        let timeout = last.saturating_duration_since(now);
        let connection = &lease.connection;
        let batch = self.jobs.len();
        let traces = self.jobs.iter_mut().flatten();
        let traces = traces.filter_map(|job| job.trace.as_deref_mut());
        let trace = trace::call::leave(traces, batch, connection.authority());
        let call = connection.call(&method, &message, timeout, transport, trace.as_ref());
        let mut call = pin!(call);
        let mut patience = Some(now + shared.patience());
        loop {
            let next = self.jobs.iter().flatten().map(|job| job.deadline).min();
            let Some(next) = next else {
                return Attempt::Over;
            };
            let wake = patience.map_or(next, |patience| patience.min(next));
            tokio::select! {
                biased;
                answer = &mut call => return match answer {
                    Ok(answer) => Attempt::Answered(answer),
                    Err(CallError::NotSent(why) | CallError::Refused(why)) => Attempt::NotSent(why),
                    Err(CallError::Lost(why) | CallError::Unreadable(why)) => Attempt::Lost(why),
                    Err(CallError::Status(status)) => Attempt::Status(status),
                },
                () = sleep_until(wake) => {}
            }
            self.time_out(true);
            if patience.is_some_and(|patience| patience <= Instant::now()) {
                patience = None;
                lease.suspect(&shared.fleet.changes, "it lets calls wait");
                let is_safe = self.jobs.iter().flatten().all(|job| job.is_safe);
                if is_safe
                    && shared.fleet.len() > 1
                    && number < ATTEMPTS
                    && shared.budget.may_retry()
                {
                    return Attempt::Slow;
                }
            }
        }
    }

    /// Keeps what may be sent again, and answers the rest; whether there is another attempt.
    async fn keep_safe(&mut self, sent: u32, failure: impl Fn(&Shared, &Job) -> Error) -> bool {
        let may = sent < ATTEMPTS && self.shared.budget.may_retry();
        for place in &mut self.jobs {
            if let Some(job) = place.take_if(|job| !(may && job.is_safe)) {
                let error = failure(&self.shared, &job);
                job.answer(Err(error));
            }
        }
        let again = self.jobs.iter().flatten().next().is_some();
        if again {
            self.shared.counters.retries.fetch_add(1, Ordering::Relaxed);
            sleep(PAUSE * sent).await;
        }
        again
    }

    /// A place at an endpoint, waited for until the last deadline.
    async fn lease_again(&mut self, last: Option<Lease>) -> Option<Lease> {
        let index = last.as_ref().map_or(usize::MAX, Lease::index);
        drop(last);
        let shared = Arc::clone(&self.shared);
        let mut changes = shared.fleet.changes.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(lease) = shared.fleet.lease_again(self.kind, index) {
                return Some(lease);
            }
            let until = self.jobs.iter().flatten().map(|job| job.deadline).max()?;
            let changed = timeout_at(until, changes.changed()).await;
            changed.ok()?.ok()?;
        }
    }

    fn time_out(&mut self, sent: bool) {
        let now = Instant::now();
        for place in &mut self.jobs {
            if let Some(job) = place.take_if(|job| job.deadline <= now) {
                job.time_out(sent);
            }
        }
    }

    /// The owner may have changed while a call waited, for its turn or to be sent again. A lease that
    /// lapses just now is waited for a little, since other calls wait along.
    async fn fence(&mut self, sent: bool) {
        let until = Instant::now() + LAPSE_WAIT;
        while !sent && Instant::now() < until && self.jobs.iter().flatten().any(Job::is_lapsed) {
            sleep(PAUSE).await;
        }
        for place in &mut self.jobs {
            let check = |job: &Job| {
                let fence = job.fence.as_ref()?;
                (fence.stands() != Stands::Free).then(|| fence.error())
            };
            let Some(fenced) = place.as_ref().and_then(check) else {
                continue;
            };
            if let Some(job) = place.take() {
                let error = match sent {
                    false => fenced,
                    true => Error::Lost {
                        method: job.name(),
                        why: format!("it was not sent again: {fenced}"),
                    },
                };
                job.answer(Err(error));
            }
        }
    }

    fn fail(&mut self, error: impl Fn(&Job) -> Error) {
        for job in self.jobs.iter_mut().filter_map(Option::take) {
            let error = error(&job);
            job.answer(Err(error));
        }
    }

    /// Gives each call its part of the answer.
    fn answered(&mut self, answer: Bytes) {
        let boundary = &self.shared.boundary;
        if let [only] = &mut self.jobs[..] {
            if let Some(job) = only.take() {
                let result = batch::result_of_response(&job, answer, boundary);
                job.answer(result);
            }
            return;
        }
        let replies = batch::replies(answer);
        let (wanted, there) = (self.jobs.len(), replies.len());
        let mut replies = replies.into_iter();
        for place in &mut self.jobs {
            let reply = replies.next();
            let Some(job) = place.take() else {
                continue;
            };
            let result = match reply {
                Some(reply) => batch::result_of_reply(&job, reply, boundary),
                None => Err(Error::Lost {
                    method: job.name(),
                    why: format!("{there} of {wanted} commands of its batch were answered"),
                }),
            };
            job.answer(result);
        }
    }
}

/// The other side watches the time too, and may say first that it is over: DEADLINE_EXCEEDED, or
/// CANCELLED from servers that drop a late call.
fn is_late(job: &Job, status: &GrpcStatus) -> bool {
    let left = job.deadline.saturating_duration_since(Instant::now());
    status.details.is_none() && (status.code == 4 || status.code == 1 && left < job.timeout / 4)
}

fn of_status(shared: &Shared, job: &Job, status: &GrpcStatus) -> Error {
    if is_late(job, status) {
        return Error::Timeout {
            method: job.name(),
            after: job.timeout,
            sent: true,
        };
    }
    let channel = job.channel();
    error::of_status(&job.name(), status, channel.as_deref(), &shared.boundary)
}
