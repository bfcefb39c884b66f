//! Events in the simulation: held and sent at their ingress, admitted or sent back at the owner.
//!
//! Data links are modelled as what R12 makes of them: in order, nothing lost while both ends live.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::net::{What, delay};
use super::world::{HOT, NODES, World};
use crate::hold::{Bars, Bounce, Fate, Hold, HoldEffect, HoldLimits, Offer, Sender, Ticket};
use crate::peer::{Admission, Asked, NotHere, Owned, Reason};
use crate::testing::slot;
use crate::*;

/// An event, and which time it was sent.
type Sent = (Ticket, u32);

/// What goes over a data link.
#[derive(Debug, Clone, Copy)]
pub(super) enum Data {
    Ask(Member, Sent, Asked),
    Ran(Sent),
    Back(Member, Sent, NotHere),
    Resumed(SlotId),
}

/// What became of an event.
#[derive(Debug)]
pub(super) struct Event {
    ingress: BootId,
    channel: u64,
    retry_safe: bool,
    ran: u32,
    /// How often it was sent: answers to earlier times are not heard.
    attempt: u32,
    answered: bool,
}

/// An event that waits: from where, for which life, since when.
type Waits = (usize, Member, Sent, Asked, Duration);

/// The events of a process: as ingress, and as owner.
#[derive(Debug)]
pub(super) struct Events {
    hold: Hold,
    bars: Bars,
    /// What waits here to be admitted, in order.
    waiting: BTreeMap<(SlotId, Sender), VecDeque<Waits>>,
    /// What the table said of each slot when its held events were last looked at.
    routes: Vec<(Option<Member>, OwnerEpoch, Option<MoveId>)>,
    /// Lives whose end was seen.
    gone: Vec<Member>,
}

impl Events {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            hold: Hold::new(HoldLimits {
                events: 300,
                window: 4,
                ..HoldLimits::default()
            }),
            bars: Bars::with_rules(rules),
            waiting: BTreeMap::new(),
            routes: vec![(None, OwnerEpoch(0), None); usize::from(HOT)],
            gone: Vec::new(),
        }
    }
}

impl World {
    /// Events come in, waiting ones are looked at again.
    pub(super) fn tick_events(&mut self, index: usize) {
        self.come_in(index);
        let now = self.nodes[index].clock(self.now);
        let effects = self.nodes[index].events.hold.tick(now);
        self.do_hold(index, effects);
        let keys: Vec<_> = self.nodes[index].events.waiting.keys().copied().collect();
        for key in keys {
            self.admit(index, key);
        }
    }

    fn come_in(&mut self, index: usize) {
        if self.calm || !self.busy || !self.chance.permille(300) {
            return;
        }
        for _ in 0..self.chance.between(1, 3) {
            let node = &mut self.nodes[index];
            let slot = slot(self.chance.below(u64::from(HOT)) as u16);
            let channel = u64::from(slot.index()) * 2 + self.chance.below(2);
            let ticket = Ticket(self.events.len() as u64);
            let retry_safe = self.chance.permille(500);
            let deadline =
                node.clock(self.now) + Duration::from_millis(self.chance.between(200, 3_000));
            self.events.push(Event {
                ingress: node.boot,
                channel,
                retry_safe,
                ran: 0,
                attempt: 0,
                answered: false,
            });
            let offer = Offer {
                ticket,
                slot,
                channel,
                bytes: 100,
                deadline,
                retry_safe,
            };
            let owner = owner(node.view.table(), slot);
            let effects = node.events.hold.offer(offer, owner);
            self.do_hold(index, effects);
        }
    }

    fn do_hold(&mut self, index: usize, effects: Vec<HoldEffect>) {
        for effect in effects {
            match effect {
                HoldEffect::Send {
                    ticket,
                    to,
                    generation,
                    ..
                } => {
                    let channel = self.events[ticket.0 as usize].channel;
                    let node = &self.nodes[index];
                    let sender = Sender {
                        boot: node.boot,
                        core: 0,
                    };
                    let version = node.view.table().version();
                    let asked = Asked {
                        slot: slot((channel / 2) as u16),
                        version,
                        sender,
                        generation,
                    };
                    let at = self.index(to.id);
                    self.events[ticket.0 as usize].attempt += 1;
                    let sent = (ticket, self.events[ticket.0 as usize].attempt);
                    self.push(index, at, Data::Ask(to, sent, asked));
                }
                HoldEffect::Answer { ticket, fate } => {
                    self.report.ambiguous += usize::from(fate == Fate::Ambiguous);
                    let ran = self.events[ticket.0 as usize].ran > 0;
                    if ran && fate != Fate::Ambiguous {
                        self.wrong(format!("{ticket:?} ran and is answered {fate:?}"));
                    }
                    self.answer(ticket);
                }
            }
        }
    }

    fn answer(&mut self, ticket: Ticket) {
        let event = &mut self.events[ticket.0 as usize];
        if std::mem::replace(&mut event.answered, true) {
            self.wrong(format!("{ticket:?} is answered twice"));
        }
    }

    /// Whether this answer is the one that its ingress waits for.
    fn is_current(&self, index: usize, (ticket, attempt): Sent) -> bool {
        let event = &self.events[ticket.0 as usize];
        event.ingress == self.nodes[index].boot && event.attempt == attempt && !event.answered
    }

    fn wrong(&mut self, what: String) {
        self.report.violation.get_or_insert(what);
    }

    fn push(&mut self, from: usize, to: usize, data: Data) {
        self.links.entry((from, to)).or_default().push_back(data);
        let after = if from == to {
            1
        } else {
            delay(&mut self.chance)
        };
        self.at(after, What::Link(from, to));
    }

    /// The first message of a link arrives; later if the way is cut or the receiver sleeps.
    pub(super) fn arrive(&mut self, from: usize, to: usize) {
        let cut = self.nodes[from].side != self.nodes[to].side && from != to;
        if cut || self.nodes[to].paused {
            self.at(20_000, What::Link(from, to));
            return;
        }
        let Some(data) = self
            .links
            .get_mut(&(from, to))
            .and_then(VecDeque::pop_front)
        else {
            return;
        };
        if !self.nodes[to].alive {
            return;
        }
        let now = self.nodes[to].clock(self.now);
        match data {
            Data::Ask(member, sent, asked) => {
                let key = (asked.slot, asked.sender);
                let waits = (from, member, sent, asked, now);
                self.nodes[to]
                    .events
                    .waiting
                    .entry(key)
                    .or_default()
                    .push_back(waits);
                self.admit(to, key);
            }
            Data::Ran(sent) => {
                if self.is_current(to, sent) {
                    let effects = self.nodes[to].events.hold.answered(sent.0);
                    self.answer(sent.0);
                    self.do_hold(to, effects);
                }
            }
            Data::Back(asked, sent, not_here) => {
                if !self.is_current(to, sent) {
                    return;
                }
                let ticket = sent.0;
                self.report.bounced += 1;
                if not_here.version > self.nodes[to].view.table().version() {
                    self.ask_table(to);
                }
                let why = match not_here.reason {
                    Reason::WrongOwner => Bounce::WrongOwner { owner: asked },
                    Reason::Moving(_) => Bounce::Moving,
                    Reason::Lapsed => Bounce::Lapsed,
                    Reason::Behind => Bounce::Behind,
                    Reason::Stale => Bounce::Stale,
                };
                let effects = self.nodes[to].events.hold.bounced(ticket, why, now);
                self.do_hold(to, effects);
            }
            Data::Resumed(slot) => {
                let owner = owner(self.nodes[to].view.table(), slot);
                let effects = self.nodes[to].events.hold.wake(slot, owner);
                self.do_hold(to, effects);
            }
        }
    }

    /// Decides about what waits in a slot, in order.
    fn admit(&mut self, index: usize, key: (SlotId, Sender)) {
        loop {
            let node = &mut self.nodes[index];
            let (clock, reading) = (node.clock(self.now), node.reading(self.now));
            let Some((from, member, sent, asked, since)) = node
                .events
                .waiting
                .get(&key)
                .and_then(|waiting| waiting.front())
                .copied()
            else {
                return;
            };
            let me = node.me;
            let Some(life) = node.life.as_ref().filter(|_| me == member) else {
                // Meant for a life that is over: whoever sent it learns that from the table.
                self.pop(index, key);
                continue;
            };
            let mut owned = Owned {
                view: &node.view,
                holder: &life.holder,
                tenure: &life.tenure,
                source: &life.source,
                bars: &mut node.events.bars,
            };
            match owned.admit(asked, clock.saturating_sub(since), reading) {
                Admission::CatchUp | Admission::Wait => return,
                Admission::Run(_) => {
                    self.pop(index, key);
                    self.ran(sent.0);
                    self.push(index, from, Data::Ran(sent));
                }
                Admission::Bounce(not_here) => {
                    self.pop(index, key);
                    self.push(index, from, Data::Back(me, sent, not_here));
                }
            }
        }
    }

    fn pop(&mut self, index: usize, key: (SlotId, Sender)) {
        let waiting = &mut self.nodes[index].events.waiting;
        if let Some(queue) = waiting.get_mut(&key) {
            queue.pop_front();
        }
        waiting.retain(|_, queue| !queue.is_empty());
    }

    fn ran(&mut self, ticket: Ticket) {
        let index = ticket.0 as usize;
        let event = &mut self.events[index];
        event.ran += 1;
        let (ingress, channel, ran, safe) =
            (event.ingress, event.channel, event.ran, event.retry_safe);
        self.report.ran += 1;
        self.report.again += usize::from(ran > 1);
        if ran > 1 + u32::from(safe) {
            self.wrong(format!("{ticket:?} ran {ran} times"));
        }
        let newest = self.newest.entry((ingress, channel)).or_insert(ticket.0);
        if ran == 1 && ticket.0 < *newest {
            let newest = *newest;
            self.wrong(format!(
                "{ticket:?} of channel {channel} ran after {newest}"
            ));
        } else {
            *newest = (*newest).max(ticket.0);
        }
    }

    /// The owner serves a slot again, and says so.
    pub(super) fn resumed(&mut self, index: usize, slot: SlotId) {
        let listeners = if self.busy { NODES } else { 0 };
        for to in 0..listeners {
            self.push(index, to, Data::Resumed(slot));
        }
    }

    /// The table of an ingress has changed: what it had sent to lives that are over is lost, what it
    /// holds may have a new owner.
    pub(super) fn routed(&mut self, index: usize) {
        for id in 0..NODES {
            let node = &mut self.nodes[index];
            let Some(latest) = node.view.table().member(NodeId(id as u32 * 2 + 1)) else {
                continue;
            };
            let before = latest.incarnation.0.saturating_sub(3);
            for incarnation in before..=latest.incarnation.0 {
                let member = Member {
                    id: latest.id,
                    incarnation: Incarnation(incarnation),
                };
                let node = &mut self.nodes[index];
                if !node.view.is_over(member) || node.events.gone.contains(&member) {
                    continue;
                }
                node.events.gone.push(member);
                for ticket in node.events.hold.sent_to(member) {
                    let effects = self.nodes[index].events.hold.lost(ticket, true);
                    self.do_hold(index, effects);
                }
            }
        }
        for hot in 0..HOT {
            let node = &mut self.nodes[index];
            let table = node.view.table();
            let rec = table.slot(slot(hot));
            let route = (
                owner(table, slot(hot)),
                rec.epoch,
                rec.moving.map(|moving| moving.id),
            );
            if std::mem::replace(&mut node.events.routes[usize::from(hot)], route) != route {
                let effects = node.events.hold.wake(slot(hot), route.0);
                self.do_hold(index, effects);
            }
        }
    }

    /// A process starts anew: its events, and what was on its links, are gone.
    pub(super) fn forget_events(&mut self, index: usize) {
        self.nodes[index].events = Events::new(self.rules);
        for ((from, to), link) in &mut self.links {
            if *from == index || *to == index {
                link.clear();
            }
        }
    }

    /// An event whose ingress lives and that has no answer, after all is calm.
    pub(super) fn unanswered(&self) -> Option<String> {
        let living: Vec<_> = self.nodes.iter().map(|node| node.boot).collect();
        let open = self
            .events
            .iter()
            .position(|event| !event.answered && living.contains(&event.ingress));
        open.map(|index| format!("event {index} has no answer: {:?}", self.events[index]))
    }
}

fn owner(table: &Table, slot: SlotId) -> Option<Member> {
    table
        .slot(slot)
        .owner
        .filter(|owner| table.is_living(*owner))
}
