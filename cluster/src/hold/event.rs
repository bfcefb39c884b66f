//! What is held, why it came back, what becomes of it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::{Member, SlotId};

/// An event's number on its ingress core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Limits of what is held on one ingress core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldLimits {
    /// Events held.
    pub events: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Events of one channel sent out of the hold and unanswered.
    pub window: usize,
    /// A held event is answered so long before its deadline.
    pub near_deadline: Duration,
}

impl Default for HoldLimits {
    fn default() -> Self {
        Self {
            events: 4096,
            bytes: 16 * 1024 * 1024,
            window: 16,
            near_deadline: Duration::from_millis(10),
        }
    }
}

/// An event that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Its number, never used before on this core.
    pub ticket: Ticket,
    /// Its slot.
    pub slot: SlotId,
    /// Its channel, or a hash of it: within one the order holds.
    pub channel: u64,
    /// Its size.
    pub bytes: usize,
    /// By when it must be answered.
    pub deadline: Duration,
    /// Whether it may run twice, if its owner dies.
    pub retry_safe: bool,
}

/// Why an event came back unstarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounce {
    /// The target knows another owner. The ingress catches up with the table before it says so
    /// here; `owner` is who was asked.
    WrongOwner {
        /// Who was asked.
        owner: Member,
    },
    /// The slot is closed for a move.
    Moving,
    /// The lease of the target is over.
    Lapsed,
    /// The target could not catch up with the table.
    Behind,
    /// Its generation was bounced before.
    Stale,
}

/// How an event ends without its owner's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Too much is held: refused.
    Overloaded,
    /// It did not start, and nobody took it in time.
    Unavailable,
    /// It may have run when its owner died.
    Ambiguous,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldEffect {
    /// Send an event to the owner of its slot.
    Send {
        /// Which event.
        ticket: Ticket,
        /// To whom.
        to: Member,
        /// The generation that it carries.
        generation: u32,
        /// Whether it was held: it counts against the shard's limit, not the lane's.
        held: bool,
    },
    /// Answer an event.
    Answer {
        /// Which event.
        ticket: Ticket,
        /// With what.
        fate: Fate,
    },
}

/// An event that is sent or held.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) arrival: u64,
    pub(super) channel: u64,
    pub(super) bytes: usize,
    pub(super) deadline: Duration,
    pub(super) retry_safe: bool,
    pub(super) wrong_owners: u8,
    pub(super) died: bool,
    pub(super) to: Option<Member>,
}

impl Kept {
    pub(super) const fn new(offer: Offer, arrival: u64) -> Self {
        Self {
            arrival,
            channel: offer.channel,
            bytes: offer.bytes,
            deadline: offer.deadline,
            retry_safe: offer.retry_safe,
            wrong_owners: 0,
            died: false,
            to: None,
        }
    }
}

/// What was sent of a slot and is not answered, in the order in which it was sent. Mostly it is one
/// event, and mostly the first is answered first.
#[derive(Debug, Default)]
pub(super) struct Sent(VecDeque<(Ticket, Kept)>);

impl Sent {
    pub(super) fn insert(&mut self, ticket: Ticket, kept: Kept) {
        self.0.push_back((ticket, kept));
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Kept> {
        let place = self.0.iter().position(|(sent, _)| *sent == ticket)?;
        self.0.remove(place).map(|(_, kept)| kept)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Ticket, Kept)> {
        self.0.iter()
    }
}
