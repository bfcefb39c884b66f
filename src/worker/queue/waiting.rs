//! Requests that wait for a worker, and whose turn it is.
//!
//! A worker that becomes free on a core goes to whoever waits longest there: another core would have to
//! be woken, and to watch the line anew, which costs more than the exchange (a third of the processor
//! time of a call, by `cargo bench --bench workers`). Nobody gets ahead so of one who came much before.

use super::super::lease::Lease;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// By how much later a request may have come that is preferred to the one that waits longest.
const AHEAD: Duration = Duration::from_millis(5);
/// How many of those that wait longest are looked at.
const NEAR: usize = 16;

/// A request that waits for a worker.
#[derive(Debug)]
pub(super) struct Waiter {
    next: oneshot::Sender<Lease>,
    /// The core on which it waits.
    on: Option<Id>,
    since: Instant,
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
    /// One more, that waits here since now.
    pub(super) fn join(&mut self) -> oneshot::Receiver<Lease> {
        self.join_at(Instant::now())
    }

    fn join_at(&mut self, since: Instant) -> oneshot::Receiver<Lease> {
        let (next, turn) = oneshot::channel();
        // Those that went away leave at the front only as workers become free.
        if self.0.len() == self.0.capacity() {
            self.0.retain(|it| !it.next.is_closed());
        }
        let on = here();
        self.0.push_back(Waiter { next, on, since });
        turn
    }

    /// Whose turn it is, now that a worker has become free here.
    pub(super) fn next(&mut self) -> Option<Waiter> {
        let core = here();
        let latest = self.0.front()?.since + AHEAD;
        let mut first = self.0.iter().take(NEAR);
        let near = first.position(|it| it.on == core && it.since <= latest);
        self.0.remove(near.unwrap_or(0))
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Since when the one waits that waits longest.
    pub(super) fn longest(&self) -> Option<Instant> {
        let mut there = self.0.iter().filter(|it| !it.next.is_closed());
        there.next().map(|it| it.since)
    }
}

fn here() -> Option<Id> {
    Handle::try_current().ok().map(|core| core.id())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use tokio::runtime::Builder;

    #[test]
    fn a_worker_goes_to_its_core_in_order_but_not_past_one_that_came_much_before() {
        let cores = [(); 2].map(|()| Builder::new_current_thread().build().unwrap());
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut waiting = Waiting::default();
        let there = cores[1].enter();
        let far = waiting.join_at(at(0));
        drop(there);
        let _here = cores[0].enter();
        let near: Vec<_> = (3..=7).map(|came| waiting.join_at(at(came))).collect();
        let mut turns = Vec::new();
        while let Some(next) = waiting.next() {
            turns.push(next.since);
        }
        assert_eq!(turns, [3, 4, 5, 0, 6, 7].map(at));
        drop((far, near));
    }

    #[test]
    fn without_anybody_near_the_worker_goes_to_whoever_came_first() {
        let core = Builder::new_current_thread().build().unwrap();
        let mut waiting = Waiting::default();
        let start = Instant::now();
        let turns = [1, 2].map(|n| waiting.join_at(start + Duration::from_millis(n)));
        let _here = core.enter();
        assert_eq!(waiting.longest(), Some(start + Duration::from_millis(1)));
        for n in [1, 2] {
            let next = waiting.next().unwrap();
            assert_eq!(next.since, start + Duration::from_millis(n));
        }
        assert!(waiting.next().is_none());
        drop(turns);
    }
}
