//! Messages and events of the simulation, and what the network does to messages.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::handoff::{AbortWanted, Prepared, Received, Released};
use crate::lease::{Ack, Heartbeat};
use crate::testing::Chance;
use crate::{Command, Delta, LeaderId, Member, MoveId, OwnerEpoch, Registration, SlotId, Table};

/// What nodes say to each other; nodes are told by their index here.
#[derive(Debug, Clone)]
pub(super) enum Message {
    /// From whom it comes at first, and through whom.
    Beat(Heartbeat, Option<usize>),
    Ack(Ack),
    TellDead(Member),
    Leader(LeaderId, usize),
    Delta(Arc<Delta>),
    AskTable(usize),
    Table(Arc<Table>),
    Register(Registration),
    Propose(Command),
    Prepared(Member, Prepared),
    Values(Member, SlotId, MoveId),
    Received(Member, Received),
    Released(Member, Vec<Released>),
    AbortWanted(Member, AbortWanted),
}

/// What happens to a node, or to the world.
#[derive(Debug, Clone)]
pub(super) enum What {
    Tick(usize),
    Deliver(usize, Message),
    /// A voter applies the next entry.
    Apply(usize),
    /// A proposal reaches the log, if its leader still leads.
    Append(u64),
    RoundCheck(LeaderId, u64),
    RoundOver(LeaderId, u64, bool),
    FenceAsk(usize, Member, SlotId, OwnerEpoch),
    FenceOver(usize, Member, SlotId, OwnerEpoch, Result<(), OwnerEpoch>),
    Write(SlotId, OwnerEpoch),
    /// The shard has closed a slot: so many started.
    Closed(usize, Member, SlotId, usize),
    Idle(usize, Member, SlotId),
    /// The first message on a data link arrives, if it can.
    Link(usize, usize),
    Fault,
    Heal(u64),
    Wake(usize),
    Restart(usize),
    Elect,
}

/// An event and its time; earlier ones are greater, for the heap.
#[derive(Debug)]
pub(super) struct Timed {
    pub(super) at: u64,
    pub(super) order: u64,
    pub(super) what: What,
}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Timed {}

/// How long a message takes, in microseconds: mostly little, sometimes much.
pub(super) fn delay(chance: &mut Chance) -> u64 {
    match chance.below(100) {
        0 => chance.between(100_000, 900_000),
        1..=9 => chance.between(5_000, 60_000),
        _ => chance.between(200, 5_000),
    }
}

/// How long a proposal takes to the log: disks stall.
pub(super) fn log_delay(chance: &mut Chance) -> u64 {
    if chance.permille(150) {
        chance.between(100_000, 600_000)
    } else {
        chance.between(1_000, 20_000)
    }
}
