//! What every flight, stage and shard of an engine shares.

use crate::egress::Egress;
use crate::engine::Drain;
use crate::engine::faults::Faults;
use crate::engine::limits::Limits;
use crate::engine::plan::Plan;
use crate::forward::Forward;
use crate::ingress::listener::Connections;
use crate::metrics::Metrics;
use crate::metrics::cells::Counter;
use crate::outcome::Overloaded;
use crate::pipeline::Roster;
use crate::region::{Shard, Slots};
use crate::rpc::Collectors;
use crate::trace::Tracer;
use crate::upstream::Upstreams;
use crate::watchdog::{Activities, Beat};
use crate::worker::pools::Pools;
use arc_swap::ArcSwap;
use centripeta_cluster::store::MemoryStore;
use centripeta_cluster::{ShardLayout, Standing};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::watch;

/// A core: a current-thread runtime with its own pipeline and region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CoreId(pub(crate) usize);

/// Counters with a limit.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicUsize);

impl Gauge {
    /// Adds unless that goes beyond the limit.
    pub(crate) fn try_add(&self, count: usize, limit: usize) -> bool {
        let before = self.0.fetch_add(count, Ordering::Relaxed);
        if before.saturating_add(count) <= limit {
            return true;
        }
        self.sub(count);
        false
    }

    /// Adds without a limit.
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes away what was added.
    pub(crate) fn sub(&self, count: usize) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// The count now.
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A gauge that several cores change with each event: it shares no cache line with what they only
/// read, which would have to be fetched anew by each core after each change.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Apart<T>(T);

impl<T> Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// What is shared by everything that runs on a core.
#[derive(Debug, Default)]
pub(crate) struct Core {
    /// What the core is doing, for the watchdog.
    pub(crate) beat: Arc<Beat>,
    /// Events that wait in its shards.
    pub(crate) waiting: Arc<Apart<Gauge>>,
    /// How often the watchdog found its code stuck.
    pub(crate) stuck: Counter,
    /// Its connections of the event listener.
    pub(crate) connections: Arc<Connections>,
    /// The stages that it runs.
    pub(crate) roster: Arc<Roster>,
}

/// Events in flight, and their bytes: one event changes both.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    /// How many.
    pub(crate) events: Gauge,
    /// Bytes of their requests.
    pub(crate) bytes: Gauge,
}

/// What every flight, stage and shard of an engine shares.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Routes and chains for events that come in from now on; those that are in keep what they got.
    pub(crate) plan: ArcSwap<Plan>,
    /// The namespace boundary of channels.
    pub(crate) boundary: String,
    /// What handlers publish by.
    pub(crate) egress: Arc<Egress>,
    /// Slots to shards to cores.
    pub(crate) layout: ShardLayout,
    /// For which slots the node may act, until when.
    pub(crate) standing: Arc<Standing>,
    /// What is known of slots beside their lanes.
    pub(crate) slots: Slots,
    /// The way to other nodes, in a cluster.
    pub(crate) forward: Option<Arc<Forward>>,
    /// All shards, by their index.
    pub(crate) shards: Vec<Arc<Shard>>,
    /// All cores.
    pub(crate) cores: Vec<Core>,
    /// Values of keys, beside the lanes.
    pub(crate) store: Arc<MemoryStore>,
    /// Admission.
    pub(crate) limits: Limits,
    /// Events in flight.
    pub(crate) in_flight: Apart<InFlight>,
    /// Accepted streams.
    pub(crate) streams: Gauge,
    /// What is recorded of events.
    pub(crate) tracer: Tracer,
    /// What is counted of events, streams and actors.
    pub(crate) metrics: Metrics,
    /// What applications count for themselves.
    pub(crate) collectors: Collectors,
    /// What goes wrong, for the log.
    pub(crate) faults: Faults,
    /// Names for the watchdog.
    pub(crate) activities: Arc<Activities>,
    /// Pools of worker processes that run.
    pub(crate) pools: Pools,
    /// Upstreams that take calls.
    pub(crate) upstreams: Upstreams,
    /// The node's name.
    pub(crate) node: Arc<str>,
    /// Told once the node drains.
    pub(crate) drains: watch::Receiver<Option<Drain>>,
    /// Whether new events are refused.
    pub(crate) draining: AtomicBool,
    /// Whether the actors are gone.
    pub(crate) closed: AtomicBool,
}

impl Shared {
    /// Whether the actors are gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether new events are refused.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// A place among the events in flight, given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Permit {
    /// A place for an event of so many bytes.
    pub(crate) fn acquire(shared: &Arc<Shared>, bytes: usize) -> Result<Self, Overloaded> {
        if !shared
            .in_flight
            .events
            .try_add(1, shared.limits.in_flight())
        {
            return Err(Overloaded::InFlight);
        }
        if !shared
            .in_flight
            .bytes
            .try_add(bytes, shared.limits.in_flight_bytes())
        {
            shared.in_flight.events.sub(1);
            return Err(Overloaded::InFlightBytes);
        }
        Ok(Self {
            shared: Arc::clone(shared),
            bytes,
        })
    }

    /// What all flights share.
    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Permit {
    /// Makes the place one for an event of so many bytes, if it is smaller.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<(), Overloaded> {
        let more = bytes.saturating_sub(self.bytes);
        let limit = self.shared.limits.in_flight_bytes();
        if !self.shared.in_flight.bytes.try_add(more, limit) {
            return Err(Overloaded::InFlightBytes);
        }
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.in_flight.events.sub(1);
        self.shared.in_flight.bytes.sub(self.bytes);
    }
}

/// A place among the accepted streams, given back when dropped.
#[derive(Debug)]
pub(crate) struct StreamPermit(Arc<Shared>);

impl StreamPermit {
    /// A place for a stream.
    pub(crate) fn acquire(shared: &Arc<Shared>) -> Result<Self, Overloaded> {
        if shared.streams.try_add(1, shared.limits.streams()) {
            Ok(Self(Arc::clone(shared)))
        } else {
            Err(Overloaded::Streams)
        }
    }

    /// What all flights share.
    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.0.streams.sub(1);
    }
}
