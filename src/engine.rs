//! The engine: pipelines and regions on their cores, behind one door for all frontends.
//!
//! A core is a current-thread runtime. An event runs its stages on the core of the connection that
//! brought it, and its handler on the core of its key's shard; each hop is one message. See
//! `ARCHITECTURE.md` for the measurements behind this.

pub(crate) mod build;
mod children;
pub(crate) mod compile;
pub(crate) mod faults;
pub(crate) mod flight;
pub(crate) mod guard;
pub(crate) mod limits;
pub(crate) mod loose;
pub(crate) mod plan;
pub(crate) mod replace;
pub(crate) mod seat;
pub(crate) mod shared;

pub use build::EngineConfig;
pub use compile::{BuildError, EngineError};
pub use limits::EngineLimits;
pub use plan::RouteInfo;

use crate::cx::Cx;
use crate::envelope::Envelope;
use crate::event::EventKind;
use crate::forward::Wire;
use crate::inbound::InboundSource;
use crate::metrics::End;
use crate::metrics::cells::EventCounts;
use crate::outcome::{Failure, Unavailable};
use crate::supervision::SupervisorMessage;
use crate::trace::{Arrival, Trace};
use crate::worker::pool::WorkerPool;
use bytes::Bytes;
use flight::{Flight, Landed};
use http::HeaderMap;
use http::uri::Authority;
use ractor::ActorRef;
use shared::{CoreId, Permit, Shared};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use xxhash_rust::xxh3::Xxh3Default;

/// An event as a frontend hands it in.
pub(crate) struct Incoming {
    /// The kind.
    pub(crate) kind: EventKind,
    /// For raw events, the name of the method.
    pub(crate) method: String,
    /// The request message.
    pub(crate) raw: Bytes,
    /// Metadata, without the listener's own credential.
    pub(crate) metadata: HeaderMap,
    /// The host that the caller named.
    pub(crate) authority: Option<Authority>,
    /// What the caller allows for the answer, if it says so.
    pub(crate) timeout: Option<Duration>,
    /// When the call came, if its message took longer: its time counts from there.
    pub(crate) at: Option<Instant>,
    /// The client's publications, for a two-way stream.
    pub(crate) inbound: Option<InboundSource>,
    /// The place among the events in flight that it has had while its message was read.
    pub(crate) permit: Option<Permit>,
}

/// Metadata and message may hold secrets and are left out.
impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("kind", &self.kind)
            .field("method", &self.method)
            .field("bytes", &self.raw.len())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// An event that was let in.
#[derive(Debug)]
pub(crate) struct Entered {
    landed: oneshot::Receiver<Landed>,
    backstop: Instant,
    /// The place among the events in flight; a stream gives it back when it is accepted.
    permit: Permit,
    core: usize,
    entered: Instant,
    /// Where it counts, unless nothing is counted or it has been.
    counts: Option<Arc<EventCounts>>,
    /// Whether payloads of the reply must be JSON.
    pub(crate) json_client: bool,
    /// The time limit under which it runs.
    pub(crate) limit: Duration,
}

impl Entered {
    /// Waits for the end. The deadline is kept where the event is; should that place be stalled as
    /// a whole, the wait ends a little later on its own.
    pub(crate) async fn landed(&mut self) -> Landed {
        let backstop = tokio::time::sleep_until(self.backstop);
        tokio::select! {
            biased;
            landed = poll_fn(|cx| self.poll_landed(cx)) => landed,
            () = backstop => Landed::Done(Failure::Deadline.into()),
        }
    }

    /// The end, if it has come; whoever polls keeps the backstop.
    pub(crate) fn poll_landed(&mut self, cx: &mut Context<'_>) -> Poll<Landed> {
        let crashed = || Landed::Done(Failure::Unavailable(Unavailable::Crashed).into());
        Pin::new(&mut self.landed)
            .poll(cx)
            .map(|landed| landed.unwrap_or_else(|_| crashed()))
    }

    /// When the wait ends on its own.
    pub(crate) const fn backstop(&self) -> Instant {
        self.backstop
    }

    /// Counts how the event ended, as the caller is told; once, the first end stands. Dropped
    /// without an end it counts as *cancelled*: the caller went away.
    pub(crate) fn count(&mut self, end: impl Into<End>) {
        if let Some(counts) = self.counts.take() {
            let metrics = &self.permit.shared().metrics;
            metrics.ended(self.core, &counts, end.into(), self.entered.elapsed());
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.count(End::CANCELLED);
    }
}

/// A running engine. Clones share it.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
    root: ActorRef<SupervisorMessage>,
    drain: Arc<watch::Sender<Option<Drain>>>,
    _watchdog: Arc<crate::watchdog::Stop>,
}

/// How a drain ends the open streams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drain {
    /// Streams end spread over this time.
    pub(crate) spread: Duration,
}

impl Engine {
    /// Lets an event in, on a core.
    ///
    /// # Errors
    /// The node is draining or full; nothing has run.
    pub(crate) fn enter(&self, core: usize, incoming: Incoming) -> Result<Entered, Failure> {
        // A call that has its place already is finished, as is everything in flight.
        let admitted = if self.shared.is_draining() && incoming.permit.is_none() {
            Err(Failure::Unavailable(Unavailable::Draining))
        } else {
            let size = incoming.raw.len();
            let permit = match incoming.permit {
                Some(mut permit) => permit.grow_to(size).map(|()| permit),
                None => Permit::acquire(&self.shared, size),
            };
            permit.map_err(Failure::Overloaded)
        };
        let permit = match admitted {
            Ok(permit) => permit,
            Err(failure) => {
                let call = (incoming.kind, &*incoming.method);
                let arrival = self.arrival(call, &incoming.metadata, Instant::now());
                self.refused(core, incoming.kind, &failure, arrival);
                return Err(failure);
            }
        };
        self.shared.faults.first_of(incoming.kind);
        let Incoming {
            kind,
            method,
            raw,
            metadata,
            authority,
            timeout,
            at,
            inbound,
            permit: _,
        } = incoming;
        let now = Instant::now();
        let callers = timeout.map(|timeout| timeout.saturating_sub(self.margin(timeout)));
        let (envelope, failure) = if kind == EventKind::Raw {
            (Envelope::unknown_method(&method, raw, metadata, now), None)
        } else {
            let (envelope, wrong) = Envelope::scanned(kind, raw, metadata, now);
            (
                envelope,
                wrong.map(|why| Failure::Undecodable(why.to_string())),
            )
        };
        // All that the event needs of the plan it takes along: another may replace it at any time.
        let plan = self.shared.plan.load();
        let found = match failure {
            None => plan.find(kind, envelope.subject()),
            Some(_) => None,
        };
        let chain = plan.chain(core, kind, found.as_ref().map(|(route, _)| &**route));
        drop(plan);
        let counts = chain.counts().cloned();
        let failure = failure.or_else(|| found.is_none().then_some(Failure::NoRoute));
        let routes = found.as_ref().and_then(|(route, _)| route.info.timeout);
        let limit = match (callers, routes) {
            (Some(callers), Some(routes)) => callers.min(routes),
            (Some(limit), None) | (None, Some(limit)) => limit,
            (None, None) => self.shared.limits.timeout(),
        };
        let deadline = at.unwrap_or(now) + limit;
        let json_client = envelope.is_json_client();
        let trace = Trace::begin(&self.shared.tracer, envelope.metadata(), now);
        let mut cx = Cx::new(envelope.due(deadline), found);
        cx.inbound = inbound;
        cx.trace = trace;
        cx.authority = authority;
        let (reply, landed) = oneshot::channel();
        Flight::launch(
            cx,
            failure,
            chain,
            CoreId(core),
            Arc::clone(&self.shared),
            reply,
        );
        // Half of what was kept back is left for the way home.
        let left = self.margin(limit) / 2;
        let backstop = deadline + self.shared.limits.after_grace().min(left);
        Ok(Entered {
            landed,
            backstop,
            permit,
            core,
            entered: now,
            counts,
            json_client,
            limit,
        })
    }

    /// What the shell of the cluster tells of the table, of other nodes and of what they send; `None`
    /// for a node alone.
    pub fn ingress(&self) -> Option<Arc<dyn centripeta_cluster::Ingress>> {
        let forward = self.shared.forward.clone()?;
        Some(forward)
    }

    /// The links over which events go to other nodes: said once. Before that they wait.
    pub fn connect(&self, wire: Arc<dyn Wire>) {
        if let Some(forward) = &self.shared.forward {
            forward.connect(wire);
        }
    }

    /// A call that has come in at this time: its kind (for raw events also the name of the method)
    /// and its metadata.
    pub(crate) fn arrival(
        &self,
        call: (EventKind, &str),
        metadata: &HeaderMap,
        at: Instant,
    ) -> Arrival {
        Arrival::of(&self.shared.tracer, call, metadata, at)
    }

    /// Says, counts and records that an event was refused on arrival, on a core.
    pub(crate) fn refused(
        &self,
        core: usize,
        kind: EventKind,
        failure: &Failure,
        arrival: Arrival,
    ) {
        arrival.refused(failure);
        self.shared.faults.failed(kind, "", failure);
        self.shared.metrics.turned_away(core, kind, failure.into());
    }

    /// What is kept back of the caller's time.
    fn margin(&self, timeout: Duration) -> Duration {
        self.shared.limits.margin(timeout)
    }

    /// Told once the node drains.
    pub(crate) fn drains(&self) -> watch::Receiver<Option<Drain>> {
        self.drain.subscribe()
    }

    /// Events in flight.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.events.get()
    }

    /// Accepted streams that are open.
    pub fn open_streams(&self) -> usize {
        self.shared.streams.get()
    }

    /// Number of cores.
    pub fn cores(&self) -> usize {
        self.shared.cores.len()
    }

    /// Tells nodes apart that answer the same events otherwise.
    pub(crate) fn routes_hash(&self) -> u64 {
        let mut hash = Xxh3Default::new();
        let plan = self.shared.plan.load();
        for route in plan.table.routes() {
            let route = route.payload();
            let RouteInfo {
                name, handler, key, ..
            } = &route.info;
            for part in [name, handler, key] {
                hash.update(part.as_bytes());
                hash.update(&[0]);
            }
        }
        hash.digest()
    }

    /// Number of routes in force.
    pub(crate) fn route_count(&self) -> usize {
        let plan = self.shared.plan.load();
        let chains = plan.chains.first();
        chains.map_or(0, |core| core.routed.len())
    }

    /// Whether every shard and stage is running; parked ones are named in the error.
    ///
    /// # Errors
    /// What is not running.
    pub fn ready(&self) -> Result<(), String> {
        if self.shared.is_draining() {
            return Err("draining".to_owned());
        }
        let held = |core: &shared::Core| core.beat.is_stuck();
        if let Some(core) = self.shared.cores.iter().position(held) {
            return Err(format!("code holds core {core}, the log names it"));
        }
        let pools = self.shared.pools.all();
        let empty = pools.iter().filter(|pool| !pool.is_ready());
        let empty: Vec<&str> = empty.map(WorkerPool::name).collect();
        if !empty.is_empty() {
            return Err(format!("pools without workers: {}", empty.join(", ")));
        }
        let parked = self
            .shared
            .shards
            .iter()
            .filter(|shard| shard.seat.is_parked())
            .count();
        let plan = self.shared.plan.load();
        let stages = plan.chains.iter().flat_map(|core| &core.stages);
        let stages = stages.map(|lease| lease.stage());
        let parked_stages = stages.filter(|stage| stage.seat.is_parked());
        let stages: Vec<&str> = parked_stages.map(|stage| stage.name()).collect();
        match (parked, stages.as_slice()) {
            (0, []) => Ok(()),
            (0, stages) => Err(format!("interceptors parked: {}", stages.join(", "))),
            (shards, []) => Err(format!("{shards} shards parked")),
            (shards, stages) => Err(format!(
                "{shards} shards parked; interceptors parked: {}",
                stages.join(", ")
            )),
        }
    }

    /// Refuses new events, ends the streams spread over a part of `grace`, and waits until nothing
    /// is in flight or the grace is over; then stops the actors. Answers how many events and
    /// streams were cut.
    pub async fn shutdown(&self, grace: Duration) -> (usize, usize) {
        let end = Instant::now() + grace;
        let cut = self.drain(grace).await;
        self.close(end).await;
        cut
    }

    /// The first part of [`shutdown`](Self::shutdown): nothing new is let in, and what is in has its
    /// time. Answers how many events and streams are left.
    pub(crate) async fn drain(&self, grace: Duration) -> (usize, usize) {
        let end = Instant::now() + grace;
        self.shared.draining.store(true, Ordering::Release);
        // Ending 100 000 streams at once would bring all of them back at once.
        let spread = Duration::from_millis(self.open_streams() as u64 / 5).min(grace / 2);
        self.drain.send_replace(Some(Drain { spread }));
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while (self.in_flight() > 0 || self.open_streams() > 0) && Instant::now() < end {
            tick.tick().await;
        }
        (self.in_flight(), self.open_streams())
    }

    /// The rest of it: the actors stop, within a second or until `end`.
    pub(crate) async fn close(&self, end: Instant) {
        self.shared.closed.store(true, Ordering::Release);
        for shard in &self.shared.shards {
            drop(shard.seat.close());
        }
        for core in &self.shared.cores {
            drop(core.roster.supervisor.close());
            let stages = core.roster.stages();
            stages
                .iter()
                .for_each(|(_, stage)| drop(stage.seat.close()));
        }
        let left = end
            .saturating_duration_since(Instant::now())
            .max(Duration::from_secs(1));
        if self.root.stop_and_wait(None, Some(left)).await.is_err() {
            tracing::warn!("the actors did not stop in time");
        }
    }

    /// The outcome of an event that ends with one answer.
    #[cfg(test)]
    pub(crate) async fn outcome(
        &self,
        core: usize,
        incoming: Incoming,
    ) -> (bool, crate::outcome::Outcome) {
        match self.enter(core, incoming) {
            Ok(mut entered) => match entered.landed().await {
                Landed::Done(outcome) => (entered.json_client, outcome),
                Landed::Stream(open, flight) => {
                    drop(flight);
                    (entered.json_client, crate::outcome::Outcome::Stream(open))
                }
            },
            Err(failure) => (true, failure.into()),
        }
    }
}

#[cfg(test)]
mod tests;
