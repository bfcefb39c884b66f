//! Admission limits, which may change while the node runs: cells that every event reads.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Admission limits of the engine; each refusal is an `Overloaded`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineLimits {
    /// Events in flight on this node.
    pub in_flight: usize,
    /// Bytes of their requests.
    pub in_flight_bytes: usize,
    /// Accepted subscription streams.
    pub streams: usize,
    /// The largest message taken, in bytes.
    pub message_bytes: usize,
    /// Events that wait for one key.
    pub lane_queue: usize,
    /// Events that wait in one shard.
    pub shard_events: usize,
    /// Bytes of their requests.
    pub shard_bytes: usize,
    /// Where neither the caller nor the route sets a time.
    pub timeout: Duration,
    /// Of the caller's time kept back for the way home, at most 10 % of it.
    pub deadline_margin: Duration,
}

/// The limits in force. Each is read and set by itself: an event that comes in while they change
/// may meet some of the old ones. What is above a lowered limit stays, and nothing is added to it.
#[derive(Debug)]
pub(crate) struct Limits {
    in_flight: AtomicUsize,
    in_flight_bytes: AtomicUsize,
    streams: AtomicUsize,
    message_bytes: AtomicUsize,
    lane_queue: AtomicUsize,
    shard_events: AtomicUsize,
    shard_bytes: AtomicUsize,
    timeout: Nanos,
    deadline_margin: Nanos,
}

/// A duration of at most 584 years.
#[derive(Debug)]
struct Nanos(AtomicU64);

impl Nanos {
    fn new(time: Duration) -> Self {
        Self(AtomicU64::new(Self::of(time)))
    }

    fn of(time: Duration) -> u64 {
        u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
    }

    fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, time: Duration) {
        self.0.store(Self::of(time), Ordering::Relaxed);
    }
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident)*) => {
        impl Limits {
            $($(#[$doc])* pub(crate) fn $name(&self) -> usize {
                self.$name.load(Ordering::Relaxed)
            })*

            fn set_counts(&self, limits: &EngineLimits) {
                $(self.$name.store(limits.$name, Ordering::Relaxed);)*
            }
        }
    };
}

counts! {
    /// Events in flight on this node.
    in_flight
    /// Bytes of their requests.
    in_flight_bytes
    /// Accepted subscription streams.
    streams
    /// The largest message taken, in bytes.
    message_bytes
    /// Events that wait for one key.
    lane_queue
    /// Events that wait in one shard.
    shard_events
    /// Bytes of their requests.
    shard_bytes
}

impl Limits {
    /// These limits.
    pub(crate) fn new(limits: &EngineLimits) -> Self {
        Self {
            in_flight: AtomicUsize::new(limits.in_flight),
            in_flight_bytes: AtomicUsize::new(limits.in_flight_bytes),
            streams: AtomicUsize::new(limits.streams),
            message_bytes: AtomicUsize::new(limits.message_bytes),
            lane_queue: AtomicUsize::new(limits.lane_queue),
            shard_events: AtomicUsize::new(limits.shard_events),
            shard_bytes: AtomicUsize::new(limits.shard_bytes),
            timeout: Nanos::new(limits.timeout),
            deadline_margin: Nanos::new(limits.deadline_margin),
        }
    }

    /// These limits hold for what comes from now on.
    pub(crate) fn set(&self, limits: &EngineLimits) {
        self.set_counts(limits);
        self.timeout.set(limits.timeout);
        self.deadline_margin.set(limits.deadline_margin);
    }

    /// Where neither the caller nor the route sets a time.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.get()
    }

    /// What is kept back of a caller's time for the way home.
    pub(crate) fn margin(&self, timeout: Duration) -> Duration {
        self.deadline_margin.get().min(timeout / 10)
    }

    /// How long an `after` half may run past the deadline.
    pub(crate) fn after_grace(&self) -> Duration {
        self.deadline_margin.get() / 2
    }
}
