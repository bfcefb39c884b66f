//! Credit of a data link: how many events may be with the receiver at once.
//!
//! The receiver grants envelopes and bytes; each event takes credit when it is sent and gives it back
//! when it is over. Without credit the sender queues a few events and refuses the rest. Replies need
//! none. A stream gives its credit back when it is accepted.

use std::collections::VecDeque;

/// What a receiver grants a link, and how much its sender queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreditLimits {
    /// Events at once.
    pub envelopes: usize,
    /// Their bytes; an event larger than this goes alone.
    pub bytes: usize,
    /// Events that wait for credit at the sender.
    pub queue: usize,
}

impl Default for CreditLimits {
    fn default() -> Self {
        Self {
            envelopes: 1024,
            bytes: 4 * 1024 * 1024,
            queue: 256,
        }
    }
}

/// What becomes of an event that is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credited {
    /// It goes now.
    Send,
    /// It waits for credit.
    Queued,
    /// Too many wait: it is answered overloaded.
    Shed,
}

/// The sender's side. Each event has a ticket of the sender's own.
#[derive(Debug, Clone)]
pub struct Credit {
    limits: CreditLimits,
    envelopes: usize,
    bytes: usize,
    queue: VecDeque<(u64, usize)>,
}

impl Credit {
    /// Full credit.
    pub const fn new(limits: CreditLimits) -> Self {
        Self {
            limits,
            envelopes: 0,
            bytes: 0,
            queue: VecDeque::new(),
        }
    }

    /// An event of so many bytes is to be sent.
    pub fn offer(&mut self, ticket: u64, bytes: usize) -> Credited {
        if self.queue.is_empty() && self.fits(bytes) {
            self.take(bytes);
            Credited::Send
        } else if self.queue.len() < self.limits.queue {
            self.queue.push_back((ticket, bytes));
            Credited::Queued
        } else {
            Credited::Shed
        }
    }

    /// An event of so many bytes is over: the tickets that go now, in order.
    pub fn returned(&mut self, bytes: usize) -> Vec<u64> {
        self.envelopes = self.envelopes.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        let mut go = Vec::new();
        while let Some((ticket, bytes)) = self
            .queue
            .front()
            .copied()
            .filter(|(_, bytes)| self.fits(*bytes))
        {
            self.queue.pop_front();
            self.take(bytes);
            go.push(ticket);
        }
        go
    }

    /// An event that waits is given up, at its deadline. Whether it did wait.
    pub fn cancel(&mut self, ticket: u64) -> bool {
        let before = self.queue.len();
        self.queue.retain(|(waiting, _)| *waiting != ticket);
        self.queue.len() < before
    }

    /// How many events are with the receiver, and how many wait.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.envelopes, self.queue.len())
    }

    /// The bytes of the events that are with the receiver.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn fits(&self, bytes: usize) -> bool {
        let room = self.bytes.saturating_add(bytes) <= self.limits.bytes;
        self.envelopes < self.limits.envelopes && (room || self.envelopes == 0)
    }

    const fn take(&mut self, bytes: usize) {
        self.envelopes += 1;
        self.bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: CreditLimits = CreditLimits {
        envelopes: 3,
        bytes: 100,
        queue: 2,
    };

    #[test]
    fn without_credit_a_few_events_wait_and_the_rest_are_shed() {
        let mut credit = Credit::new(LIMITS);
        let offers: Vec<_> = (0..6).map(|ticket| credit.offer(ticket, 10)).collect();
        use Credited::{Queued, Send, Shed};
        assert_eq!(offers, [Send, Send, Send, Queued, Queued, Shed]);
        assert_eq!(credit.returned(10), [3]);
        assert!(credit.cancel(4) && !credit.cancel(4));
        assert_eq!(credit.in_flight(), (3, 0));
    }

    #[test]
    fn an_event_larger_than_the_credit_goes_alone() {
        let mut credit = Credit::new(LIMITS);
        assert_eq!(credit.offer(1, 1000), Credited::Send);
        assert_eq!(credit.offer(2, 1), Credited::Queued);
        assert_eq!(credit.offer(3, 1000), Credited::Queued);
        assert_eq!(credit.returned(1000), [2]);
        assert_eq!(credit.returned(1), [3]);
    }

    proptest! {
        #[test]
        fn credit_is_never_exceeded_never_lost_and_keeps_the_order(
            steps in prop::collection::vec((any::<bool>(), 0usize..150), 1..200),
        ) {
            let mut credit = Credit::new(LIMITS);
            let (mut sizes, mut sent, mut over) = (Vec::new(), Vec::new(), 0);
            for (offer, bytes) in steps {
                if offer {
                    let ticket = sizes.len() as u64;
                    sizes.push(bytes);
                    if credit.offer(ticket, bytes) == Credited::Send {
                        sent.push(ticket);
                    }
                } else if let Some(ticket) = sent.get(over).copied() {
                    over += 1;
                    sent.extend(credit.returned(sizes[ticket as usize]));
                }
                let out = &sent[over..];
                let bytes: usize = out.iter().map(|ticket| sizes[*ticket as usize]).sum();
                prop_assert!(out.len() <= LIMITS.envelopes && (bytes <= LIMITS.bytes || out.len() == 1));
                prop_assert_eq!(credit.in_flight().0, out.len());
                prop_assert!(sent.is_sorted());
                prop_assert!(!out.is_empty() || credit.in_flight().1 == 0, "waits for nothing");
            }
        }
    }
}
