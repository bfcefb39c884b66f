//! Requests that wait for a worker: each gets its turn in the order in which they came, on whatever
//! core it waits.

use super::super::lease::Lease;
use std::collections::VecDeque;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A request that waits for a worker.
#[derive(Debug)]
pub(super) struct Waiter {
    next: oneshot::Sender<Lease>,
    /// Since when, where somebody asks for it.
    since: Option<Instant>,
}

impl Waiter {
    /// Gives it a worker.
    ///
    /// # Errors
    /// It has gone; the worker comes back.
    #[allow(
        clippy::result_large_err,
        reason = "the worker is given to the next one"
    )]
    pub(super) fn take(self, lease: Lease) -> Result<(), Lease> {
        self.next.send(lease)
    }
}

/// All that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Waiting(VecDeque<Waiter>);

impl Waiting {
    /// One more; `since` where somebody asks for it.
    pub(super) fn join(&mut self, since: Option<Instant>) -> oneshot::Receiver<Lease> {
        let (next, turn) = oneshot::channel();
        // Those that went away leave at the front only as workers become free.
        if self.0.len() == self.0.capacity() {
            self.0.retain(|it| !it.next.is_closed());
        }
        self.0.push_back(Waiter { next, since });
        turn
    }

    /// Whose turn it is, now that a worker has become free.
    pub(super) fn next(&mut self) -> Option<Waiter> {
        self.0.pop_front()
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Since when the one waits that waits longest.
    pub(super) fn longest(&self) -> Option<Instant> {
        let there = self.0.iter().find(|it| !it.next.is_closed());
        there?.since
    }
}
