//! One log line per fault, and no flood of them: what went wrong with events, and where to look.

use crate::event::EventKind;
use crate::outcome::Failure;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Names without a route that are remembered, so that each is logged once.
const NAMES: usize = 1000;

/// Refusals under load are counted and logged at most this often.
const PAUSE: Duration = Duration::from_secs(1);

/// Logs failures by their kind; see the module's text.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    seen: [AtomicBool; EventKind::ALL.len()],
    unrouted: Mutex<HashSet<(EventKind, String)>>,
    refused: AtomicU64,
    last_refusal: Mutex<Option<Instant>>,
}

impl Faults {
    /// Logs the first event of each kind.
    pub(crate) fn first_of(&self, kind: EventKind) {
        let seen = &self.seen[kind as usize];
        if !seen.load(Ordering::Relaxed) && !seen.swap(true, Ordering::Relaxed) {
            tracing::info!(event = kind.name(), "first event of this kind");
        }
    }

    /// Logs a failure.
    pub(crate) fn failed(&self, kind: EventKind, subject: &str, failure: &Failure) {
        let event = kind.name();
        match failure {
            Failure::Panic { .. } | Failure::Internal { .. } | Failure::BadReply(_) => {
                tracing::error!(event, subject, "{failure}");
            }
            Failure::Deadline => tracing::warn!(event, subject, "{failure}"),
            Failure::NoRoute => self.no_route(kind, subject),
            Failure::Overloaded(_) | Failure::Unavailable(_) => self.refused(event, failure),
            Failure::Undecodable(_) | Failure::Unauthenticated => self.refused(event, failure),
            Failure::BadData(_) => tracing::info!(event, subject, "{failure}"),
            Failure::Cancelled => tracing::debug!(event, subject, "{failure}"),
        }
    }

    fn no_route(&self, kind: EventKind, subject: &str) {
        let mut names = self.unrouted.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMES {
            return;
        }
        if names.insert((kind, subject.to_owned())) {
            let event = kind.name();
            tracing::warn!(event, subject, "no route takes this event; it is refused");
        }
    }

    /// Counts, and logs at most once a second.
    fn refused(&self, event: &str, failure: &Failure) {
        let count = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let mut last = self
            .last_refusal
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if last.is_some_and(|last| now.duration_since(last) < PAUSE) {
            return;
        }
        *last = Some(now);
        self.refused.store(0, Ordering::Relaxed);
        tracing::warn!(
            event,
            count,
            "{failure} (events refused since the last such line)"
        );
    }
}
