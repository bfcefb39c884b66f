//! What a publisher counts.

use super::error::Error;
use super::tally::Tally;
use crate::config::Endpoint;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How often casts that fail are told of.
const CAST_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// What a publisher has done so far, and what it is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls that wait or are on their way.
    pub queued: usize,
    /// Bytes of their requests.
    pub queued_bytes: usize,
    /// Calls answered, with a result or an error.
    pub answered: u64,
    /// Of them, with an error.
    pub failed: u64,
    /// Calls refused since the queue was full.
    pub overloaded: u64,
    /// gRPC calls made, retries included.
    pub sent: u64,
    /// Of them, batches.
    pub batches: u64,
    /// Commands that went in batches.
    pub batched: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// The endpoints, in the order of `centrifugo.api`.
    pub endpoints: Vec<EndpointStats>,
}

/// How an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Its address.
    pub address: Endpoint,
    /// Whether calls go there.
    pub is_up: bool,
    /// Why not, if not.
    pub why: Option<String>,
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) queued: AtomicUsize,
    pub(super) queued_bytes: AtomicUsize,
    pub(super) answered: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) overloaded: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) batched: AtomicU64,
    pub(super) retries: AtomicU64,
    /// The same in detail, for `/metrics`.
    pub(super) tally: Tally,
    casts: Mutex<Casts>,
}

#[derive(Debug, Default)]
struct Casts {
    told: Option<Instant>,
    untold: u64,
}

impl Counters {
    /// A cast failed and nobody waits to hear of it: the log does, at most once a second.
    pub(super) fn cast_failed(&self, error: &Error) {
        let mut casts = self.casts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if casts
            .told
            .is_some_and(|told| now < told + CAST_LOG_INTERVAL)
        {
            casts.untold += 1;
            return;
        }
        let others = std::mem::take(&mut casts.untold);
        casts.told = Some(now);
        drop(casts);
        tracing::warn!(%error, others, "a publication that nobody waits for failed");
    }

    /// The counts now.
    pub(super) fn stats(&self, endpoints: Vec<EndpointStats>) -> Stats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            queued: self.queued.load(Ordering::Relaxed),
            queued_bytes: self.queued_bytes.load(Ordering::Relaxed),
            answered: count(&self.answered),
            failed: count(&self.failed),
            overloaded: count(&self.overloaded),
            sent: count(&self.sent),
            batches: count(&self.batches),
            batched: count(&self.batched),
            retries: count(&self.retries),
            endpoints,
        }
    }
}
