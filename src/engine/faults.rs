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
    throttles: [Throttle; 6],
    names_full: Throttle,
    /// Messages of two-way streams that are no publication.
    pub(crate) malformed: Throttle,
}

/// Counts lines of one kind and lets one through at most every [`PAUSE`].
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    count: AtomicU64,
    last: Mutex<Option<Instant>>,
}

impl Throttle {
    /// How many there were since the last line, if it is time for another.
    pub(crate) fn pass(&self) -> Option<u64> {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if last.is_some_and(|last| now.duration_since(last) < PAUSE) {
            return None;
        }
        *last = Some(now);
        self.count.fetch_sub(count, Ordering::Relaxed);
        Some(count)
    }
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
            Failure::NoRoute => self.no_route(kind, subject),
            Failure::Deadline => self.refused(0, event, subject, failure),
            Failure::Overloaded(_) => self.refused(1, event, subject, failure),
            Failure::Unavailable(_) => self.refused(2, event, subject, failure),
            Failure::Undecodable(_) => self.refused(3, event, subject, failure),
            Failure::Unauthenticated => self.refused(4, event, subject, failure),
            Failure::BadData(_) => self.refused(5, event, subject, failure),
            Failure::Cancelled => tracing::debug!(event, subject, "{failure}"),
        }
    }

    fn no_route(&self, kind: EventKind, subject: &str) {
        let mut names = self.unrouted.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMES {
            // Clients choose the names: forgetting them costs a line a second at most.
            if self.names_full.pass().is_none() {
                return;
            }
            names.clear();
        }
        if names.insert((kind, subject.to_owned())) {
            let event = kind.name();
            tracing::warn!(event, subject, "no route takes this event; it is refused");
        }
    }

    /// Counts what clients or load bring about, and logs it at most once a second.
    fn refused(&self, throttle: usize, event: &str, subject: &str, failure: &Failure) {
        if let Some(count) = self.throttles[throttle].pass() {
            tracing::warn!(
                event,
                subject,
                count,
                "{failure} (`count` such events since the last line)"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_throttle_lets_one_line_a_second_through_and_counts_the_rest() {
        let throttle = Throttle::default();
        assert_eq!(throttle.pass(), Some(1));
        assert_eq!((throttle.pass(), throttle.pass()), (None, None));
        tokio::time::advance(PAUSE).await;
        assert_eq!(throttle.pass(), Some(3));
        assert_eq!(throttle.pass(), None);
    }
}
