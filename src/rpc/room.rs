//! What one connection may hold: so many calls, and so many bytes of them and of their answers.
//!
//! How long an answer will be nobody knows when its call begins, so as much is set aside as the
//! longest of the last ones had, and at first enough to be cautious. A client that asks for much and
//! does not read stops being read from, and holds little more than [`BYTES_AT_ONCE`].

use super::server::LONGEST;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Calls of one connection at a time; more wait in its socket.
const AT_ONCE: usize = 1024;
/// Bytes of those calls and their answers together: one of the longest of each fits.
const BYTES_AT_ONCE: usize = 2 * LONGEST;
/// What is set aside for an answer before there was any.
const UNKNOWN: usize = 256 << 10;
/// The least that is set aside.
const SMALLEST: usize = 1 << 10;

/// The room of a connection.
#[derive(Debug)]
pub(super) struct Room {
    calls: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// How long answers are, of late: the longest, forgotten by halves.
    expected: AtomicUsize,
}

/// What a call holds of its connection's room until its answer is written.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    _one: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
}

impl Room {
    /// All of it is free.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            calls: Arc::new(Semaphore::new(AT_ONCE)),
            bytes: Arc::new(Semaphore::new(BYTES_AT_ONCE)),
            expected: AtomicUsize::new(UNKNOWN),
        })
    }

    /// Waits for a place for a call of so many bytes, and its answer. Cancelled, it has taken nothing.
    pub(super) async fn place(self: &Arc<Self>, request: usize) -> Option<Place> {
        let one = Arc::clone(&self.calls).acquire_owned().await.ok()?;
        let bytes = request + self.expected.load(Ordering::Relaxed);
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(whole(bytes));
        Some(Place {
            room: Arc::clone(self),
            _one: one,
            // The semaphores are never closed.
            bytes: bytes.await.ok()?,
        })
    }

    /// An answer was so long.
    fn learn(&self, answer: usize) {
        let expected = self.expected.load(Ordering::Relaxed);
        let expected = answer.max(expected / 2).clamp(SMALLEST, LONGEST);
        self.expected.store(expected, Ordering::Relaxed);
    }
}

impl Place {
    /// The answer is there, and its request gone: from now on the place holds as many bytes as the
    /// answer has, or as many more as are free.
    pub(super) fn answered(&mut self, answer: usize) {
        self.room.learn(answer);
        let held = self.bytes.num_permits();
        if let Some(less) = held.checked_sub(answer) {
            drop(self.bytes.split(less));
            return;
        }
        let free = self.room.bytes.available_permits();
        let more = whole((answer - held).min(free));
        // Somebody else may have taken them meanwhile: then the next calls are told what is due.
        if let Ok(more) = Arc::clone(&self.room.bytes).try_acquire_many_owned(more) {
            self.bytes.merge(more);
        }
    }
}

/// As a number of permits, of which there are no more than that.
fn whole(bytes: usize) -> u32 {
    u32::try_from(bytes.min(BYTES_AT_ONCE)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures_util::FutureExt;

    /// Calls of so many bytes that find a place at once.
    fn fill(room: &Arc<Room>, request: usize) -> Vec<Place> {
        std::iter::from_fn(|| room.place(request).now_or_never().flatten()).collect()
    }

    #[test]
    fn before_anything_is_known_a_hundred_calls_fit_and_small_answers_make_room_for_all() {
        let room = Room::new();
        let mut places = fill(&room, 100);
        assert!((100..130).contains(&places.len()), "{}", places.len());
        places.iter_mut().for_each(|place| place.answered(100));
        places.clear();
        assert_eq!(fill(&room, 100).len(), AT_ONCE);
    }

    #[test]
    fn large_answers_that_nobody_reads_leave_no_room_for_further_calls() {
        let room = Room::new();
        let mut first = room.place(0).now_or_never().unwrap().unwrap();
        first.answered(4 << 20);
        drop(first);
        let mut places = fill(&room, 0);
        assert_eq!(places.len(), 8, "of 4 MiB each");
        places.iter_mut().for_each(|place| place.answered(4 << 20));
        assert!(fill(&room, 0).is_empty());
        places.pop();
        assert_eq!(fill(&room, 0).len(), 1);
    }

    #[test]
    fn an_answer_longer_than_expected_takes_what_it_has_and_one_of_the_longest_fits_beside_its_call()
     {
        let room = Room::new();
        let mut place = room.place(LONGEST).now_or_never().unwrap().unwrap();
        place.answered(LONGEST);
        assert_eq!(room.bytes.available_permits(), BYTES_AT_ONCE - LONGEST);
        drop(place);
        assert_eq!(room.bytes.available_permits(), BYTES_AT_ONCE);
        // As much as there is: it does not wait for more than there can be.
        assert!(room.place(LONGEST).now_or_never().is_some());
    }
}
