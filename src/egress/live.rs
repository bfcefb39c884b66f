//! The connected side that clones of a publisher share: the queue's limits, and its end.

use super::dispatcher::{Dispatcher, Keepers};
use super::error::Error;
use super::flight::{Budget, Shared};
use super::job::{Job, Place};
use super::stats::Counters;
use super::tls::ClientTls;
use super::upstream::Fleet;
use super::wire::Dialer;
use crate::config::CentrifugoConfig;
use crate::ingress::tls::TlsError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Calls at an endpoint at once that are not publications.
const SINGLES: usize = 256;

/// What the clones of a connected publisher share.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) inbox: mpsc::UnboundedSender<Job>,
    pub(super) counters: Arc<Counters>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) queue: usize,
    pub(super) queue_bytes: usize,
    pub(super) message_bytes: usize,
    pub(super) timeout: Duration,
    pub(super) is_closed: AtomicBool,
    pub(super) stop: watch::Sender<bool>,
}

impl Live {
    /// Starts the sending side on the current runtime.
    pub(super) fn connect(config: &CentrifugoConfig, boundary: &str) -> Result<Self, TlsError> {
        let tls = ClientTls::new(config.tls.clone());
        if config.api.iter().any(|endpoint| endpoint.tls) {
            tls.config()?;
        }
        let key = config
            .key
            .as_ref()
            .map(|key| format!("apikey {}", key.expose()));
        let authorization = match key.map(|key| http::HeaderValue::from_str(&key)) {
            Some(Ok(mut value)) => {
                value.set_sensitive(true);
                Some(value)
            }
            Some(Err(_)) => {
                let why = "`centrifugo.key` has characters that a header can't hold";
                return Err(TlsError::Config(why.to_owned()));
            }
            None => None,
        };
        let fleet = Arc::new(Fleet::new(&config.api, config.flights.get(), SINGLES));
        let keepers = fleet.keep(&Dialer { tls, authorization });
        let counters = Arc::new(Counters::default());
        let shared = Arc::new(Shared {
            fleet: Arc::clone(&fleet),
            counters: Arc::clone(&counters),
            budget: Budget::new(),
            boundary: boundary.to_owned(),
            patience: (config.timeout / 2).min(Duration::from_secs(1)),
        });
        let (inbox, calls) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let dispatcher = Dispatcher {
            inbox: calls,
            stop: stopped,
            shared,
            batch: config.batch.get(),
            batch_bytes: config.message_bytes,
            _keepers: Keepers(keepers),
        };
        tokio::spawn(dispatcher.run());
        Ok(Self {
            inbox,
            counters,
            fleet,
            queue: config.queue.get(),
            queue_bytes: config.queue_bytes,
            message_bytes: config.message_bytes,
            timeout: config.timeout,
            is_closed: AtomicBool::new(false),
            stop,
        })
    }

    /// A place in the queue.
    pub(super) fn place(&self, bytes: usize) -> Result<Place, Error> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let counters = &self.counters;
        let before = counters.queued.fetch_add(1, Ordering::Relaxed);
        let bytes_before = counters.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        // Gives back what does not fit when it is dropped.
        let place = Place {
            counters: Arc::clone(counters),
            bytes,
        };
        let limit = if before >= self.queue {
            "centrifugo.queue"
        } else if bytes_before.saturating_add(bytes) > self.queue_bytes {
            "centrifugo.queue_bytes"
        } else {
            return Ok(place);
        };
        counters.overloaded.fetch_add(1, Ordering::Relaxed);
        Err(Error::Overloaded { limit })
    }

    /// Refuses new calls, waits for the queue to empty, ends the sending side; answers what was left.
    pub(super) async fn close(&self, grace: Duration) -> usize {
        self.is_closed.store(true, Ordering::Release);
        let end = Instant::now() + grace;
        let queued = || self.counters.queued.load(Ordering::Relaxed);
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while queued() > 0 && Instant::now() < end {
            tick.tick().await;
        }
        let left = queued();
        self.stop.send_replace(true);
        left
    }
}
