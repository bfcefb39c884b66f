//! The connected side that clones of a publisher share: the queue's limits, and its end.

use super::dispatcher::{Course, Dispatcher};
use super::error::Error;
use super::flight::{RETRY_SHARE, Shared};
use super::job::{Job, Place};
use super::stats::Counters;
use super::upstream::Fleet;
use super::wire::Dialer;
use crate::client::{Budget, ClientTls};
use crate::config::CentrifugoConfig;
use crate::ingress::tls::TlsError;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    pub(super) limits: ArcSwap<Limits>,
    pub(super) is_closed: AtomicBool,
    pub(super) stop: watch::Sender<bool>,
    shared: Arc<Shared>,
    courses: mpsc::UnboundedSender<Course>,
}

/// What a call is held against before it is queued.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) queue: usize,
    pub(super) queue_bytes: usize,
    pub(super) message_bytes: usize,
    pub(super) timeout: Duration,
}

impl Limits {
    const fn of(config: &CentrifugoConfig) -> Self {
        Self {
            queue: config.queue.get(),
            queue_bytes: config.queue_bytes,
            message_bytes: config.message_bytes,
            timeout: config.timeout,
        }
    }
}

/// Where and how calls are sent, by a configuration.
///
/// # Errors
/// Certificates can't be used, or the key fits in no header.
pub(super) fn course(config: &CentrifugoConfig) -> Result<Course, TlsError> {
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
    Ok(Course {
        api: config.api.clone(),
        dialer: Dialer { tls, authorization },
        flights: config.flights.get(),
        batch: config.batch.get(),
        batch_bytes: config.message_bytes,
    })
}

/// After how many milliseconds without an answer an endpoint is suspect.
fn patience(config: &CentrifugoConfig) -> u64 {
    let patience = (config.timeout / 2).min(Duration::from_secs(1));
    u64::try_from(patience.as_millis()).unwrap_or(u64::MAX)
}

impl Live {
    /// Starts the sending side on the current runtime.
    pub(super) fn connect(config: &CentrifugoConfig, boundary: &str) -> Result<Self, TlsError> {
        let course = course(config)?;
        let fleet = Arc::new(Fleet::new(course.flights, SINGLES));
        let keepers = fleet.assign(&course.api, course.flights, &course.dialer, Vec::new());
        let counters = Arc::new(Counters::default());
        let shared = Arc::new(Shared {
            fleet: Arc::clone(&fleet),
            counters: Arc::clone(&counters),
            budget: Budget::new(RETRY_SHARE),
            boundary: boundary.to_owned(),
            patience: AtomicU64::new(patience(config)),
        });
        let (inbox, calls) = mpsc::unbounded_channel();
        let (courses, new_courses) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let dispatcher = Dispatcher {
            inbox: calls,
            stop: stopped,
            shared: Arc::clone(&shared),
            course,
            courses: new_courses,
            keepers,
        };
        tokio::spawn(dispatcher.run());
        Ok(Self {
            inbox,
            counters,
            fleet,
            limits: ArcSwap::from_pointee(Limits::of(config)),
            is_closed: AtomicBool::new(false),
            stop,
            shared,
            courses,
        })
    }

    /// Later calls are held against the limits of another configuration, and later flights take its
    /// course; what waits keeps its place.
    pub(super) fn reconfigure(&self, config: &CentrifugoConfig, course: Course) {
        self.limits.store(Arc::new(Limits::of(config)));
        let patience = patience(config);
        self.shared.patience.store(patience, Ordering::Relaxed);
        // A sending side that has ended sends nothing any more.
        drop(self.courses.send(course));
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
        let limits = self.limits.load();
        let limit = if before >= limits.queue {
            "centrifugo.queue"
        } else if bytes_before.saturating_add(bytes) > limits.queue_bytes {
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
