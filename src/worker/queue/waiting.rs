//! Requests that wait for a worker, and whose turn it is.
//!
//! A worker that becomes free on a core goes to whoever waits longest there: another core would have to
//! be woken, and to watch the line anew, which costs more than the exchange (a third of the processor
//! time of a call, by `cargo bench --bench workers`). Who waits elsewhere is not passed over for long.

use super::super::lease::Lease;
use std::collections::VecDeque;
use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How often in a row the one that waits longest is passed over, and how many of those behind it are
/// looked at.
const TURNS: usize = 16;

/// A request that waits for a worker.
#[derive(Debug)]
pub(super) struct Waiter {
    next: oneshot::Sender<Lease>,
    /// The core on which it waits.
    on: Option<Id>,
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
pub(super) struct Waiting {
    waiters: VecDeque<Waiter>,
    passed_over: usize,
}

impl Waiting {
    /// One more, that waits here; `since` where somebody asks for it.
    pub(super) fn join(&mut self, since: Option<Instant>) -> oneshot::Receiver<Lease> {
        let (next, turn) = oneshot::channel();
        // Those that went away leave at the front only as workers become free.
        if self.waiters.len() == self.waiters.capacity() {
            self.waiters.retain(|it| !it.next.is_closed());
        }
        let on = here();
        self.waiters.push_back(Waiter { next, on, since });
        turn
    }

    /// Whose turn it is, now that a worker has become free here.
    pub(super) fn next(&mut self) -> Option<Waiter> {
        let core = here();
        let mut first = self.waiters.iter().take(TURNS);
        let near = first.position(|it| it.on == core).unwrap_or(0);
        if near == 0 || self.passed_over == TURNS {
            self.passed_over = 0;
            return self.waiters.pop_front();
        }
        self.passed_over += 1;
        self.waiters.remove(near)
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Since when the one waits that waits longest.
    pub(super) fn longest(&self) -> Option<Instant> {
        let there = self.waiters.iter().find(|it| !it.next.is_closed());
        there?.since
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
    fn a_worker_goes_to_its_core_in_order_and_nobody_elsewhere_is_passed_over_for_long() {
        let cores = [(); 2].map(|()| Builder::new_current_thread().build().unwrap());
        let start = Instant::now();
        let at = |number: usize| start + std::time::Duration::from_secs(number as u64);
        let mut waiting = Waiting::default();
        let there = cores[1].enter();
        let far = waiting.join(Some(at(0)));
        drop(there);
        let _here = cores[0].enter();
        let near: Vec<_> = (1..=2 * TURNS)
            .map(|number| waiting.join(Some(at(number))))
            .collect();
        let mut turns = Vec::new();
        while let Some(next) = waiting.next() {
            turns.push(next.since.unwrap());
        }
        let expected = (1..=TURNS).chain([0]).chain(TURNS + 1..=2 * TURNS);
        assert_eq!(turns, expected.map(at).collect::<Vec<_>>());
        drop((far, near));
    }

    #[test]
    fn without_anybody_near_the_worker_goes_to_whoever_came_first() {
        let core = Builder::new_current_thread().build().unwrap();
        let mut waiting = Waiting::default();
        let start = Instant::now();
        let first = waiting.join(Some(start));
        let second = waiting.join(None);
        let _here = core.enter();
        assert_eq!(waiting.next().unwrap().since, Some(start));
        assert_eq!(waiting.next().unwrap().since, None);
        assert!(waiting.next().is_none());
        drop((first, second));
    }
}
