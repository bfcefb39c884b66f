//! The task that sends: takes calls from the queue, forms flights and waits for their landing.
//!
//! A flight leaves as soon as an endpoint has room for it: an idle wire adds no delay, and while it
//! is busy, calls gather for the next batch.

use super::error::Error;
use super::flight::{self, Shared};
use super::job::{Job, LaneKey, LaneKeys};
use super::lanes::{Flight, Lanes};
use super::upstream::{Keeper, Kind};
use super::wire::Dialer;
use crate::config::Endpoint;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often calls that wait are looked at for their deadline.
const SWEEP: Duration = Duration::from_millis(20);
/// Calls taken from the queue at once.
const INTAKE: usize = 1024;

/// Where calls go and how many leave together; may be replaced while calls wait.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) api: Vec<Endpoint>,
    pub(super) dialer: Dialer,
    /// Batches at an endpoint at once.
    pub(super) flights: usize,
    /// Commands in a batch.
    pub(super) batch: usize,
    /// Bytes of a batch.
    pub(super) batch_bytes: usize,
}

/// The sending side of a publisher.
#[derive(Debug)]
pub(super) struct Dispatcher {
    pub(super) inbox: mpsc::UnboundedReceiver<Job>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) shared: Arc<Shared>,
    pub(super) course: Course,
    /// What replaces it.
    pub(super) courses: mpsc::UnboundedReceiver<Course>,
    /// The endpoints' keepers, which end with it.
    pub(super) keepers: Vec<Keeper>,
}

type Landing = Pin<Box<dyn Future<Output = Vec<LaneKey>> + Send>>;

impl Dispatcher {
    /// Runs until it is stopped, or every publisher is gone and every call answered.
    pub(super) async fn run(mut self) {
        let mut stop = self.stop.clone();
        let mut lanes = Lanes::default();
        let mut singles: VecDeque<Job> = VecDeque::new();
        let mut flights: FuturesUnordered<Landing> = FuturesUnordered::new();
        let mut changes = self.shared.fleet.changes.subscribe();
        let mut taken = Vec::with_capacity(INTAKE);
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_open = true;
        loop {
            // What has come meanwhile joins the next batch.
            while let Ok(job) = self.inbox.try_recv() {
                accept(job, &mut lanes, &mut singles);
            }
            while let Some(landing) = self.next(&mut lanes, &mut singles) {
                flights.push(landing);
            }
            let waits = lanes.len() + singles.len() > 0;
            if !is_open && !waits && flights.is_empty() {
                return;
            }
            tokio::select! {
                biased;
                // A sender that is gone is no order to stop.
                Ok(_) = stop.wait_for(|stop| *stop) => break,
                Some(held) = flights.next(), if !flights.is_empty() => lanes.release(&held),
                count = self.inbox.recv_many(&mut taken, INTAKE), if is_open => {
                    is_open = count > 0;
                    let taken = taken.drain(..);
                    taken.for_each(|job| accept(job, &mut lanes, &mut singles));
                }
                Some(course) = self.courses.recv() => self.steer(course),
                _ = changes.changed() => {}
                _ = sweep.tick(), if waits => {
                    lanes.look_again();
                    let now = Instant::now();
                    let over = lanes.expire(now).into_iter();
                    over.for_each(|job| self.expired(job));
                    for _ in 0..singles.len() {
                        match singles.pop_front() {
                            Some(job) if job.deadline <= now => self.expired(job),
                            Some(job) => singles.push_back(job),
                            None => {}
                        }
                    }
                }
            }
        }
        for job in lanes.clear().into_iter().chain(singles) {
            job.answer(Err(Error::Closed));
        }
    }

    /// Later flights take this course. A connection stays where its endpoint does, unless it is made
    /// otherwise now, by another key or other certificates.
    fn steer(&mut self, course: Course) {
        let mut known = std::mem::take(&mut self.keepers);
        if course.dialer != self.course.dialer {
            known.clear();
        }
        let fleet = &self.shared.fleet;
        self.keepers = fleet.assign(&course.api, course.flights, &course.dialer, known);
        self.course = course;
    }

    /// What can be sent now.
    fn next(&self, lanes: &mut Lanes, singles: &mut VecDeque<Job>) -> Option<Landing> {
        let fleet = &self.shared.fleet;
        // A place at an endpoint is taken for what may leave only.
        if let Some(at) = singles.iter().position(|job| !job.is_lapsed())
            && let Some(lease) = fleet.lease(Kind::Single)
            && let Some(job) = singles.remove(at)
        {
            let flight = Flight {
                jobs: vec![job],
                held: Vec::new(),
                is_unordered: false,
            };
            let shared = Arc::clone(&self.shared);
            return Some(Box::pin(flight::fly(shared, lease, flight, Kind::Single)));
        }
        if !lanes.has_ready() {
            return None;
        }
        let lease = fleet.lease(Kind::Flight)?;
        let batch = if lease.takes_batches() {
            self.course.batch
        } else {
            1
        };
        let flight = lanes.take(batch, self.course.batch_bytes)?;
        let shared = Arc::clone(&self.shared);
        Some(Box::pin(flight::fly(shared, lease, flight, Kind::Flight)))
    }

    /// A call's time was over before it could be sent: for want of an endpoint, or of room.
    fn expired(&self, job: Job) {
        if let Some(fence) = job.fence.as_ref().filter(|_| job.is_lapsed()) {
            let error = fence.error();
            return job.answer(Err(error));
        }
        let why = self.shared.fleet.why();
        if why.is_empty() {
            job.time_out(false);
        } else {
            job.answer(Err(Error::Unavailable { why }));
        }
    }
}

/// Puts a call where it waits.
fn accept(job: Job, lanes: &mut Lanes, singles: &mut VecDeque<Job>) {
    match job.lanes {
        LaneKeys::None => singles.push_back(job),
        _ => lanes.push(job),
    }
}
