//! Events of slots on an ingress core: sent to the owner, or held until there is one that takes them.
//!
//! During a move, a lapse or a takeover the ingress keeps what was bounced and what comes anew, in
//! order, and sends it when the slot is served again. Per channel everything runs in the order in
//! which it came to this core, whatever is bounced in between (R11): what is sent carries a
//! generation; an owner that bounced one bounces it, and older ones, from then on; the ingress
//! raises it, and sends again, once all that it had sent is answered or bounced.
//!
//! [`Hold`] is the ingress's side, one per core; [`Bars`] is the owner's. Times count from any fixed
//! start of the ingress's own.

mod bars;
mod event;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

pub use bars::{Bars, Sender};
pub use event::{Bounce, Fate, HoldEffect, HoldLimits, Offer, Ticket};

use crate::ids::{IdMap, sorted};
use crate::{Member, SlotId};
use event::{Kept, Sent};

/// A request that its target could not catch up with is asked again after so long.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How often an event may meet a wrong owner and be sent again.
const WRONG_OWNERS: u8 = 2;

/// When the held events of a slot may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// As soon as nothing from before the last bounce is unanswered.
    Open,
    /// When the owner or the table says so.
    Shut,
    /// At this time, or when the owner or the table says so.
    Until(Duration),
}

#[derive(Debug)]
struct Slot {
    owner: Option<Member>,
    generation: u32,
    /// The generation has been bounced: nothing more is sent under it.
    spent: bool,
    gate: Gate,
    sent: Sent,
    /// By arrival.
    held: BTreeMap<u64, (Ticket, Kept)>,
}

impl Slot {
    fn new(owner: Option<Member>) -> Self {
        let gate = if owner.is_some() {
            Gate::Open
        } else {
            Gate::Shut
        };
        Self {
            owner,
            generation: 0,
            spent: false,
            gate,
            sent: Sent::default(),
            held: BTreeMap::new(),
        }
    }
}

/// The events of one ingress core that have a key: sent and unanswered, or held.
#[derive(Debug)]
pub struct Hold {
    limits: HoldLimits,
    slots: IdMap<SlotId, Slot>,
    tickets: IdMap<Ticket, SlotId>,
    arrivals: u64,
    events: usize,
    bytes: usize,
}

impl Hold {
    /// Nothing sent, nothing held.
    pub fn new(limits: HoldLimits) -> Self {
        Self {
            limits,
            slots: IdMap::default(),
            tickets: IdMap::default(),
            arrivals: 0,
            events: 0,
            bytes: 0,
        }
    }

    /// How many events are held, and their bytes.
    pub const fn held(&self) -> (usize, usize) {
        (self.events, self.bytes)
    }

    /// An event came in; `owner` is who owns its slot by the table.
    pub fn offer(&mut self, offer: Offer, owner: Option<Member>) -> Vec<HoldEffect> {
        let mut effects = Vec::new();
        self.arrivals += 1;
        let Offer { ticket, slot, .. } = offer;
        let mut kept = Kept::new(offer, self.arrivals);
        let state = self.slots.entry(slot).or_insert_with(|| Slot::new(owner));
        if state.owner != owner {
            point(state, owner);
        }
        let free = state.held.is_empty() && !state.spent && state.gate == Gate::Open;
        if let Some(to) = state.owner.filter(|_| free) {
            kept.to = Some(to);
            state.sent.insert(ticket, kept);
            self.tickets.insert(ticket, slot);
            effects.push(HoldEffect::Send {
                ticket,
                to,
                generation: state.generation,
                held: false,
            });
        } else if self.events >= self.limits.events || self.bytes + kept.bytes > self.limits.bytes {
            effects.push(HoldEffect::Answer {
                ticket,
                fate: Fate::Overloaded,
            });
        } else {
            self.events += 1;
            self.bytes += kept.bytes;
            state.held.insert(kept.arrival, (ticket, kept));
            self.tickets.insert(ticket, slot);
            self.flush(slot, &mut effects);
        }
        effects
    }

    /// The owner has answered an event. One that the ingress answered by itself at its deadline
    /// counts as unanswered until then: it may still run.
    pub fn answered(&mut self, ticket: Ticket) -> Vec<HoldEffect> {
        let mut effects = Vec::new();
        let Some(slot) = self.tickets.get(&ticket).copied() else {
            return effects;
        };
        let Some(state) = self.slots.get_mut(&slot) else {
            return effects;
        };
        if state.sent.remove(ticket).is_some() {
            self.tickets.remove(&ticket);
            self.flush(slot, &mut effects);
        }
        effects
    }

    /// An event came back unstarted.
    pub fn bounced(&mut self, ticket: Ticket, why: Bounce, now: Duration) -> Vec<HoldEffect> {
        let mut effects = Vec::new();
        let Some((slot, mut kept)) = self.take_sent(ticket) else {
            return effects;
        };
        let Some(state) = self.slots.get_mut(&slot) else {
            return effects;
        };
        state.spent = true;
        match why {
            Bounce::Moving | Bounce::Lapsed => state.gate = Gate::Shut,
            Bounce::Behind => state.gate = Gate::Until(now + ASK_AGAIN),
            Bounce::WrongOwner { owner } => {
                kept.wrong_owners += 1;
                if state.owner == Some(owner) {
                    state.gate = Gate::Shut;
                }
            }
            Bounce::Stale => {}
        }
        if kept.wrong_owners > WRONG_OWNERS {
            self.tickets.remove(&ticket);
            let fate = if kept.died {
                Fate::Ambiguous
            } else {
                Fate::Unavailable
            };
            effects.push(HoldEffect::Answer { ticket, fate });
        } else {
            self.put_back(slot, ticket, kept);
        }
        self.flush(slot, &mut effects);
        effects
    }

    /// The owner that an event was sent to is gone; `started`: it may have begun to run.
    pub fn lost(&mut self, ticket: Ticket, started: bool) -> Vec<HoldEffect> {
        let mut effects = Vec::new();
        let Some((slot, mut kept)) = self.take_sent(ticket) else {
            return effects;
        };
        let again = !started || (kept.retry_safe && !kept.died);
        if let Some(state) = self.slots.get_mut(&slot) {
            state.spent = true;
            // Unless the table has named another one meanwhile.
            if state.owner == kept.to {
                state.gate = Gate::Shut;
            }
        }
        if again {
            kept.died |= started;
            self.put_back(slot, ticket, kept);
        } else {
            self.tickets.remove(&ticket);
            effects.push(HoldEffect::Answer {
                ticket,
                fate: Fate::Ambiguous,
            });
        }
        self.flush(slot, &mut effects);
        effects
    }

    /// The table names this owner now, or the owner says that it serves the slot again.
    pub fn wake(&mut self, slot: SlotId, owner: Option<Member>) -> Vec<HoldEffect> {
        let mut effects = Vec::new();
        if let Some(state) = self.slots.get_mut(&slot) {
            point(state, owner);
            self.flush(slot, &mut effects);
        }
        effects
    }

    /// Nobody will serve the slot for long: what is held of it is answered.
    pub fn give_up(&mut self, slot: SlotId) -> Vec<HoldEffect> {
        let arrivals: Vec<_> = self
            .slots
            .get(&slot)
            .into_iter()
            .flat_map(|state| state.held.keys().copied())
            .collect();
        arrivals
            .into_iter()
            .filter_map(|arrival| self.expire(slot, arrival))
            .collect()
    }

    /// Time has passed: held events near their deadline are answered, and who was behind is asked
    /// again.
    pub fn tick(&mut self, now: Duration) -> Vec<HoldEffect> {
        let mut effects = Vec::new();
        for slot in sorted(self.slots.keys().copied()) {
            let Some(state) = self.slots.get_mut(&slot) else {
                continue;
            };
            if matches!(state.gate, Gate::Until(at) if now >= at) {
                state.gate = Gate::Open;
            }
            let near = |kept: &Kept| kept.deadline <= now + self.limits.near_deadline;
            let late: Vec<_> = state
                .held
                .iter()
                .filter(|(_, (_, kept))| near(kept))
                .map(|(arrival, _)| *arrival)
                .collect();
            effects.extend(
                late.into_iter()
                    .filter_map(|arrival| self.expire(slot, arrival)),
            );
            self.flush(slot, &mut effects);
        }
        // A slot whose generation was never raised has nothing to remember.
        self.slots.retain(|_, state| {
            !state.held.is_empty() || !state.sent.is_empty() || state.generation > 0 || state.spent
        });
        effects
    }

    /// The sent events of a slot that went to this owner, in order; for `lost`.
    pub fn sent_to(&self, member: Member) -> Vec<Ticket> {
        let of = |state: &Slot| {
            state
                .sent
                .iter()
                .map(|(ticket, kept)| (kept.arrival, *ticket, kept.to))
                .collect::<Vec<_>>()
        };
        let mut all: Vec<_> = self
            .slots
            .values()
            .flat_map(of)
            .filter(|(_, _, to)| *to == Some(member))
            .collect();
        all.sort_unstable_by_key(|(arrival, ..)| *arrival);
        all.into_iter().map(|(_, ticket, _)| ticket).collect()
    }

    fn take_sent(&mut self, ticket: Ticket) -> Option<(SlotId, Kept)> {
        let slot = *self.tickets.get(&ticket)?;
        let kept = self.slots.get_mut(&slot)?.sent.remove(ticket)?;
        Some((slot, kept))
    }

    /// Holds an event that was sent. Limits refuse new events only: this one was admitted.
    fn put_back(&mut self, slot: SlotId, ticket: Ticket, kept: Kept) {
        if let Some(state) = self.slots.get_mut(&slot) {
            self.events += 1;
            self.bytes += kept.bytes;
            state.held.insert(kept.arrival, (ticket, kept));
        }
    }

    fn expire(&mut self, slot: SlotId, arrival: u64) -> Option<HoldEffect> {
        let (ticket, kept) = self.slots.get_mut(&slot)?.held.remove(&arrival)?;
        self.events -= 1;
        self.bytes -= kept.bytes;
        self.tickets.remove(&ticket);
        let fate = if kept.died {
            Fate::Ambiguous
        } else {
            Fate::Unavailable
        };
        Some(HoldEffect::Answer { ticket, fate })
    }

    /// Sends what is held, if it may go: in order, so many unanswered per channel.
    fn flush(&mut self, slot: SlotId, effects: &mut Vec<HoldEffect>) {
        let Some(state) = self.slots.get_mut(&slot) else {
            return;
        };
        let Some(to) = state.owner.filter(|_| state.gate == Gate::Open) else {
            return;
        };
        if state.spent {
            if !state.sent.is_empty() {
                return;
            }
            state.spent = false;
            state.generation = state.generation.wrapping_add(1);
        }
        if state.held.is_empty() {
            return;
        }
        let mut unanswered: HashMap<u64, usize> = HashMap::new();
        for (_, kept) in state.sent.iter() {
            *unanswered.entry(kept.channel).or_default() += 1;
        }
        let mut go = Vec::new();
        for (arrival, (_, kept)) in &state.held {
            let count = unanswered.entry(kept.channel).or_default();
            if *count < self.limits.window {
                *count += 1;
                go.push(*arrival);
            }
        }
        for arrival in go {
            let Some((ticket, mut kept)) = state.held.remove(&arrival) else {
                continue;
            };
            self.events -= 1;
            self.bytes -= kept.bytes;
            kept.to = Some(to);
            state.sent.insert(ticket, kept);
            effects.push(HoldEffect::Send {
                ticket,
                to,
                generation: state.generation,
                held: true,
            });
        }
    }
}

/// Points a slot at its owner. What was sent to another one must come back before anything follows.
fn point(state: &mut Slot, owner: Option<Member>) {
    if state.owner != owner {
        state.spent |= !state.sent.is_empty();
        state.owner = owner;
    }
    state.gate = if owner.is_some() {
        Gate::Open
    } else {
        Gate::Shut
    };
}
