//! The endpoints of the API: a connection to each, whether it is well, and which one takes the next
//! call.
//!
//! Each endpoint has a keeper: it dials, asks for an empty batch (which shows that the API is there,
//! and takes the key), watches the connection, and dials again when it is lost, after 20 ms doubling
//! to 1 s. An endpoint that lets a call wait too long is *suspect*: it gets no more calls while
//! another one is well, and its keeper asks it again.

use super::stats::EndpointStats;
use super::wire::{CallError, Connection, Dialer};
use crate::config::Endpoint;
use arc_swap::ArcSwap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// How long connecting and the first question may take together.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// gRPC UNIMPLEMENTED.
pub(super) const UNIMPLEMENTED: i32 = 12;
const FIRST_BACKOFF: Duration = Duration::from_millis(20);
const LAST_BACKOFF: Duration = Duration::from_secs(1);
/// How long calls on an abandoned connection may still be answered.
const AFTERLIFE: Duration = Duration::from_secs(10);

/// What kind of call takes a place at an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Publications, in lanes.
    Flight,
    /// Any other call.
    Single,
}

/// How an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Up,
    Suspect,
    Down,
}

#[derive(Debug)]
struct State {
    health: Health,
    connection: Option<Connection>,
    why: String,
}

/// One endpoint.
#[derive(Debug)]
struct Upstream {
    address: Endpoint,
    state: Mutex<State>,
    flights: AtomicUsize,
    singles: AtomicUsize,
    /// Whether it takes batches; an old Centrifugo does not.
    takes_batches: AtomicBool,
    doubt: Notify,
}

impl Upstream {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_no_batches(&self) {
        if self.takes_batches.swap(false, Ordering::Relaxed) {
            tracing::warn!(
                endpoint = %self.address,
                "this centrifugo takes no batches, so publications go there one by one: update it, \
                 or correct `centrifugo.api` if that is not its `grpc_api`"
            );
        }
    }

    fn load(&self, kind: Kind) -> &AtomicUsize {
        match kind {
            Kind::Flight => &self.flights,
            Kind::Single => &self.singles,
        }
    }
}

/// A place at an endpoint, given back when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    upstream: Arc<Upstream>,
    index: usize,
    kind: Kind,
    /// The connection to it.
    pub(super) connection: Connection,
}

impl Lease {
    /// Which endpoint.
    pub(super) const fn index(&self) -> usize {
        self.index
    }

    /// Whether calls may go there as one batch.
    pub(super) fn takes_batches(&self) -> bool {
        self.upstream.takes_batches.load(Ordering::Relaxed)
    }

    /// It has said that it knows no batches.
    pub(super) fn has_no_batches(&self) {
        self.upstream.has_no_batches();
    }

    /// A call there has waited too long, or could not be sent: it is asked how it is.
    pub(super) fn suspect(&self, changes: &watch::Sender<u64>, why: &str) {
        let mut state = self.upstream.state();
        if state.health == Health::Up {
            state.health = Health::Suspect;
            why.clone_into(&mut state.why);
            drop(state);
            self.upstream.doubt.notify_one();
            changes.send_modify(|count| *count += 1);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.upstream
            .load(self.kind)
            .fetch_sub(1, Ordering::Relaxed);
    }
}

/// All endpoints.
#[derive(Debug)]
pub(super) struct Fleet {
    upstreams: ArcSwap<Vec<Arc<Upstream>>>,
    next: AtomicUsize,
    flights: AtomicUsize,
    singles: usize,
    /// Counts changes of health.
    pub(super) changes: watch::Sender<u64>,
}

/// Keeps an endpoint connected until it is dropped; calls under way are answered all the same.
#[derive(Debug)]
pub(super) struct Keeper {
    upstream: Arc<Upstream>,
    task: JoinHandle<()>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fleet {
    /// Endpoints, none yet, that each take so many flights and single calls at once.
    pub(super) fn new(flights: usize, singles: usize) -> Self {
        Self {
            upstreams: ArcSwap::default(),
            next: AtomicUsize::new(0),
            flights: AtomicUsize::new(flights),
            singles,
            changes: watch::Sender::new(0),
        }
    }

    /// These are the endpoints from now on. One that is among `known` keeps its connection; whose
    /// keeper is not given back gets no more calls.
    pub(super) fn assign(
        self: &Arc<Self>,
        addresses: &[Endpoint],
        flights: usize,
        dialer: &Dialer,
        mut known: Vec<Keeper>,
    ) -> Vec<Keeper> {
        let keeper = |address: &Endpoint| {
            let is_known = |keeper: &Keeper| keeper.upstream.address == *address;
            match known.iter().position(is_known) {
                Some(at) => known.swap_remove(at),
                None => self.keeper(address, dialer),
            }
        };
        let keepers: Vec<Keeper> = addresses.iter().map(keeper).collect();
        let upstreams = keepers.iter().map(|keeper| Arc::clone(&keeper.upstream));
        self.upstreams.store(Arc::new(upstreams.collect()));
        self.flights.store(flights, Ordering::Relaxed);
        self.changes.send_modify(|count| *count += 1);
        keepers
    }

    /// Starts a keeper for a new endpoint.
    fn keeper(self: &Arc<Self>, address: &Endpoint, dialer: &Dialer) -> Keeper {
        let upstream = Arc::new(Upstream {
            address: address.clone(),
            state: Mutex::new(State {
                health: Health::Down,
                connection: None,
                why: format!("{address}: not connected yet"),
            }),
            flights: AtomicUsize::new(0),
            singles: AtomicUsize::new(0),
            takes_batches: AtomicBool::new(true),
            doubt: Notify::new(),
        });
        let task = keep(Arc::clone(self), Arc::clone(&upstream), dialer.clone());
        Keeper {
            upstream,
            task: tokio::spawn(task),
        }
    }

    /// How many endpoints there are.
    pub(super) fn len(&self) -> usize {
        self.upstreams.load().len()
    }

    /// A place for a call, if an endpoint has one: of those that are well the one with the fewest;
    /// if none is well, of those that are suspect.
    pub(super) fn lease(&self, kind: Kind) -> Option<Lease> {
        let limit = match kind {
            Kind::Flight => self.flights.load(Ordering::Relaxed),
            Kind::Single => self.singles,
        };
        let upstreams = self.upstreams.load();
        let has_well = upstreams.iter().any(|it| it.state().health == Health::Up);
        self.pick(kind, limit, has_well, None)
    }

    /// A place for another attempt, at another endpoint if one is well. The call had its place
    /// already, so no limit holds.
    pub(super) fn lease_again(&self, kind: Kind, last: usize) -> Option<Lease> {
        let well = |avoid| self.pick(kind, usize::MAX, true, avoid);
        well(Some(last))
            .or_else(|| well(None))
            .or_else(|| self.pick(kind, usize::MAX, false, Some(last)))
            .or_else(|| self.pick(kind, usize::MAX, false, None))
    }

    fn pick(&self, kind: Kind, limit: usize, well: bool, avoid: Option<usize>) -> Option<Lease> {
        let upstreams = self.upstreams.load();
        let count = upstreams.len();
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let mut best: Option<(usize, usize, Connection)> = None;
        for offset in 0..count {
            let index = start.wrapping_add(offset) % count;
            let upstream = &upstreams[index];
            let load = upstream.load(kind).load(Ordering::Relaxed);
            let is_better = best.as_ref().is_none_or(|(_, least, _)| load < *least);
            if avoid == Some(index) || load >= limit || !is_better {
                continue;
            }
            let state = upstream.state();
            let wanted = if well { Health::Up } else { Health::Suspect };
            if let (true, Some(connection)) = (state.health == wanted, &state.connection) {
                best = Some((index, load, connection.clone()));
            }
        }
        let (index, _, connection) = best?;
        let upstream = Arc::clone(&upstreams[index]);
        upstream.load(kind).fetch_add(1, Ordering::Relaxed);
        Some(Lease {
            upstream,
            index,
            kind,
            connection,
        })
    }

    /// What is wrong with the endpoints that are not well.
    pub(super) fn why(&self) -> String {
        let upstreams = self.upstreams.load();
        let whys = upstreams.iter().filter_map(|upstream| {
            let state = upstream.state();
            (state.health != Health::Up).then(|| state.why.clone())
        });
        whys.collect::<Vec<_>>().join("; ")
    }

    /// How each endpoint is.
    pub(super) fn stats(&self) -> Vec<EndpointStats> {
        let stats = |upstream: &Arc<Upstream>| {
            let state = upstream.state();
            let is_up = state.health == Health::Up;
            EndpointStats {
                address: upstream.address.clone(),
                is_up,
                why: (!is_up).then(|| state.why.clone()),
            }
        };
        self.upstreams.load().iter().map(stats).collect()
    }

    fn set(&self, upstream: &Upstream, health: Health, connection: Option<&Connection>, why: &str) {
        let mut state = upstream.state();
        state.health = health;
        state.connection = connection.cloned();
        why.clone_into(&mut state.why);
        drop(state);
        self.changes.send_modify(|count| *count += 1);
    }
}

/// Keeps an endpoint connected, for ever.
async fn keep(fleet: Arc<Fleet>, upstream: Arc<Upstream>, dialer: Dialer) {
    let mut backoff = FIRST_BACKOFF;
    let mut told = String::new();
    loop {
        let dialled = timeout(DIAL_TIMEOUT, connect(&upstream, &dialer)).await;
        let why = match dialled {
            Ok(Ok((connection, driver))) => {
                fleet.set(&upstream, Health::Up, Some(&connection), "");
                if !told.is_empty() {
                    tracing::info!(endpoint = %upstream.address, "centrifugo's API is reachable again");
                    told.clear();
                }
                let since = Instant::now();
                let why = watch_over(&fleet, &upstream, &connection, driver).await;
                if since.elapsed() > LAST_BACKOFF {
                    backoff = FIRST_BACKOFF;
                }
                why
            }
            Ok(Err(why)) => why,
            Err(_) => format!("{}: no answer within {DIAL_TIMEOUT:?}", upstream.address),
        };
        fleet.set(&upstream, Health::Down, None, &why);
        if told != why {
            tracing::warn!(
                %why,
                "centrifugo's API is unreachable, and is tried again: start it with \
                 `grpc_api.enabled`, or correct `centrifugo.api`"
            );
            told = why;
        }
        sleep(backoff.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
        backoff = (backoff * 2).min(LAST_BACKOFF);
    }
}

/// A new connection on which the API has answered.
async fn connect(
    upstream: &Upstream,
    dialer: &Dialer,
) -> Result<(Connection, JoinHandle<()>), String> {
    let (connection, driver) = dialer.dial(&upstream.address).await?;
    match ask(upstream, &connection).await {
        Ok(()) => Ok((connection, driver)),
        Err(why) => {
            driver.abort();
            Err(why)
        }
    }
}

/// Whether the API answers: an empty batch does nothing.
async fn ask(upstream: &Upstream, connection: &Connection) -> Result<(), String> {
    let address = &upstream.address;
    match connection
        .call("Batch", &[], DIAL_TIMEOUT, false, None)
        .await
    {
        Ok(_) => {
            upstream.takes_batches.store(true, Ordering::Relaxed);
            Ok(())
        }
        Err(CallError::Status(status)) if status.code == UNIMPLEMENTED => {
            upstream.has_no_batches();
            Ok(())
        }
        Err(CallError::Status(status)) if status.code == 16 => {
            tracing::error!(
                endpoint = %address,
                "centrifugo refuses the API key: set `centrifugo.key` to what its `grpc_api.key` says"
            );
            Ok(())
        }
        // Who says so is there.
        Err(CallError::Status(status)) if !matches!(status.code, 4 | 14) => Ok(()),
        Err(CallError::Status(status)) => Err(format!("{address}: {}", status.message)),
        Err(
            CallError::NotSent(why)
            | CallError::Refused(why)
            | CallError::Lost(why)
            | CallError::Unreadable(why),
        ) => Err(format!("{address}: {why}")),
    }
}

/// Waits until the connection has ended, or the API no longer answers on it; says why.
async fn watch_over(
    fleet: &Fleet,
    upstream: &Upstream,
    connection: &Connection,
    mut driver: JoinHandle<()>,
) -> String {
    let address = &upstream.address;
    loop {
        tokio::select! {
            _ = &mut driver => return format!("{address}: the connection was closed"),
            () = upstream.doubt.notified() => {}
        }
        let asked = timeout(DIAL_TIMEOUT, ask(upstream, connection)).await;
        let why = match asked {
            Ok(Ok(())) => {
                fleet.set(upstream, Health::Up, Some(connection), "");
                continue;
            }
            Ok(Err(why)) => why,
            Err(_) => format!("{address}: no answer within {DIAL_TIMEOUT:?}"),
        };
        let driver = driver.abort_handle();
        tokio::spawn(async move {
            sleep(AFTERLIFE).await;
            driver.abort();
        });
        return why;
    }
}
