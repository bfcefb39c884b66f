//! Events with a key at their ingress: sent to the owner of their slot, or held until it takes them.
//!
//! One hold per core, the machine of the cluster crate; here its effects are performed, in their
//! order, by whoever brings one about first; never on the thread of the cluster. A flight that this node runs itself is in its shard
//! meanwhile; one that another node runs waits here.

use crate::dispatch::{Place, run_here};
use crate::engine::flight::Flight;
use crate::engine::plan::Route;
use crate::forward::sent::{AnswerBox, Unwatched, Watch};
use crate::forward::{Forward, cannot_cross, counts, lock};
use crate::outcome::{Failure, Overloaded, Unavailable};
use crate::region::Leg;
use crate::routing::key::LaneKey;
use bytes::Bytes;
use centripeta_cluster::hold::{Bounce, Fate, Hold, HoldEffect, HoldLimits, Offer, Sender, Ticket};
use centripeta_cluster::peer::{Mark, NotHere, Reason, RequestError};
use centripeta_cluster::{IdMap, Member, SlotId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often deadlines of held events are looked at.
const TICK: Duration = Duration::from_millis(5);
/// An owner that said it is moving a slot, or has no lease, is asked again after so long without a
/// word: the word may have come before what it sent back.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// A core goes on with what else it has to do after so many slots that may be served again.
const WOKEN: usize = 64;
/// The links have so long to say what a node that died had not started.
const LAST_WORD: Duration = Duration::from_millis(50);

/// An event of the hold.
#[derive(Debug)]
pub(super) struct Event {
    /// The flight, unless its shard has it or it is answered.
    pub(super) flight: Option<Flight>,
    route: Arc<Route>,
    key: LaneKey,
    slot: SlotId,
    /// How often it has been sent; an answer to an earlier time does not count.
    pub(super) attempt: u32,
    pub(super) to: Option<Member>,
    /// Who looks after it, once it has been out for long.
    pub(super) watch: Option<Watch>,
    /// Whether this node runs it.
    is_here: bool,
    /// Why it would be unavailable.
    why: Unavailable,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) hold: Hold,
    pub(super) events: IdMap<Ticket, Event>,
    tickets: u64,
    effects: VecDeque<HoldEffect>,
    /// Someone performs effects.
    busy: bool,
    /// Slots to ask about again.
    again: BTreeMap<SlotId, Duration>,
    /// What is out and not watched yet.
    pub(super) unwatched: Unwatched,
}

impl State {
    /// Whether there is anything to look at from time to time.
    fn needs_ticks(&self) -> bool {
        self.hold.held().0 > 0 || !self.again.is_empty() || !self.unwatched.is_empty()
    }
}

/// The hold of a core.
#[derive(Debug)]
pub(super) struct HoldCore {
    pub(super) state: Mutex<State>,
    answers: Arc<AnswerBox>,
    ticker: Arc<Notify>,
    ticking: AtomicBool,
    wakes: Arc<Wakes>,
}

/// Slots whose owners may take what a core holds, until that core comes to them. Told on the thread
/// of the cluster, which performs none of it: leases are renewed there.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    slots: Mutex<BTreeSet<SlotId>>,
    told: Notify,
}

impl Default for HoldCore {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                hold: Hold::new(HoldLimits::default()),
                events: IdMap::default(),
                tickets: 0,
                effects: VecDeque::new(),
                busy: false,
                again: BTreeMap::new(),
                unwatched: Unwatched::default(),
            }),
            answers: Arc::default(),
            ticker: Arc::default(),
            ticking: AtomicBool::new(false),
            wakes: Arc::default(),
        }
    }
}

impl HoldCore {
    pub(super) fn held(&self) -> (usize, usize) {
        lock(&self.state).hold.held()
    }

    pub(super) fn ticker(&self) -> Arc<Notify> {
        Arc::clone(&self.ticker)
    }

    pub(super) fn wakes(&self) -> Arc<Wakes> {
        Arc::clone(&self.wakes)
    }

    /// Where the links put answers to events of this core.
    pub(super) fn answers(&self) -> Arc<AnswerBox> {
        Arc::clone(&self.answers)
    }
}

/// What an effect comes to.
enum Step {
    Nothing,
    /// Nobody waits for it, or it is answered: the hold forgets it.
    Forget(Ticket, Option<Flight>),
    Here(Box<Flight>, Arc<Route>, Place, Ticket),
    There(Sending),
    Answer(Flight, Failure),
}

struct Sending {
    mark: Mark,
    to: Member,
    payload: Result<Bytes, String>,
    deadline: Instant,
    is_stream: bool,
}

/// Looks at deadlines while something is held.
pub(super) async fn tick_while_needed(forward: Weak<Forward>, core: usize, wake: Arc<Notify>) {
    loop {
        wake.notified().await;
        loop {
            tokio::time::sleep(TICK).await;
            let Some(forward) = forward.upgrade() else {
                return;
            };
            if !forward.tick(core) {
                break;
            }
        }
    }
}

/// Goes on with what a core holds, on that core, whenever owners may take it.
pub(super) async fn wake_when_told(forward: Weak<Forward>, core: usize, wakes: Arc<Wakes>) {
    loop {
        wakes.told.notified().await;
        let mut slots = std::mem::take(&mut *lock(&wakes.slots)).into_iter();
        loop {
            let next: Vec<SlotId> = slots.by_ref().take(WOKEN).collect();
            if next.is_empty() {
                break;
            }
            let Some(forward) = forward.upgrade() else {
                return;
            };
            forward.wake_at(core, &next);
            drop(forward);
            tokio::task::yield_now().await;
        }
    }
}

const fn mark(ticket: Ticket, attempt: u32) -> Mark {
    Mark {
        id: ticket.0,
        attempt,
    }
}

fn failure_of(fate: Fate, why: Unavailable) -> Failure {
    match fate {
        Fate::Overloaded => Failure::Overloaded(Overloaded::Held),
        Fate::Unavailable => Failure::Unavailable(why),
        Fate::Ambiguous => Failure::Unavailable(Unavailable::LostPeer),
    }
}

fn bounce_of(reason: Reason, asked: Member) -> (Bounce, Unavailable) {
    match reason {
        Reason::WrongOwner => (Bounce::WrongOwner { owner: asked }, Unavailable::NoOwner),
        Reason::Moving(_) => (Bounce::Moving, Unavailable::Moving),
        Reason::Lapsed => (Bounce::Lapsed, Unavailable::Lapsed),
        Reason::Behind => (Bounce::Behind, Unavailable::NoOwner),
        Reason::Stale => (Bounce::Stale, Unavailable::Moving),
    }
}

impl Forward {
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Changes the hold of a core, and performs what comes of it. Effects are performed one after
    /// the other, outside of the lock, by whoever came first: what they bring about themselves comes
    /// behind them.
    pub(super) fn act(
        self: &Arc<Self>,
        core: usize,
        change: impl FnOnce(&mut State) -> Vec<HoldEffect>,
    ) {
        let Some(hold) = self.holds.get(core) else {
            return;
        };
        let mut state = lock(&hold.state);
        let effects = change(&mut state);
        state.effects.extend(effects);
        if state.busy {
            return;
        }
        state.busy = true;
        while let Some(effect) = state.effects.pop_front() {
            let step = self.prepare(&mut state, effect);
            drop(state);
            self.perform(core, step);
            state = lock(&hold.state);
        }
        state.busy = false;
        let needs_ticks = state.needs_ticks();
        drop(state);
        if needs_ticks && !hold.ticking.swap(true, Ordering::AcqRel) {
            hold.ticker.notify_one();
        }
    }

    /// Takes out of the hold what an effect needs.
    fn prepare(&self, state: &mut State, effect: HoldEffect) -> Step {
        match effect {
            HoldEffect::Answer { ticket, fate } => {
                let Some(event) = state.events.remove(&ticket) else {
                    return Step::Nothing;
                };
                let failure = failure_of(fate, event.why);
                event
                    .flight
                    .map_or(Step::Nothing, |flight| Step::Answer(flight, failure))
            }
            HoldEffect::Send {
                ticket,
                to,
                generation,
                held,
            } => {
                let Some(event) = state.events.get_mut(&ticket) else {
                    return Step::Forget(ticket, None);
                };
                let Some(mut flight) = event.flight.take() else {
                    return Step::Forget(ticket, None);
                };
                if flight.is_abandoned() {
                    return Step::Forget(ticket, Some(flight));
                }
                // Where it was before, it has not run, or may run twice.
                flight.come_back();
                event.attempt += 1;
                event.to = Some(to);
                event.watch = None;
                if event.attempt > 1 {
                    self.counts.resent.add_one();
                }
                let me = self.standing().me();
                event.is_here = to.id == me.id;
                if event.is_here {
                    let leg = Leg {
                        sender: Sender {
                            boot: self.standing().shown().boot,
                            core: u16::try_from(flight.core().0).unwrap_or(u16::MAX),
                        },
                        generation,
                        held,
                    };
                    let place = Place {
                        key: event.key.clone(),
                        slot: event.slot,
                        leg: Some(leg),
                    };
                    let route = Arc::clone(&event.route);
                    return Step::Here(Box::new(flight), route, place, ticket);
                }
                let payload = self.encode(&flight, Some((event.slot, generation, held)));
                let deadline = flight.deadline();
                let is_stream = flight.cx().kind().is_stream();
                flight.send_away();
                event.flight = Some(flight);
                let mark = mark(ticket, event.attempt);
                Step::There(Sending {
                    mark,
                    to,
                    payload,
                    deadline,
                    is_stream,
                })
            }
        }
    }

    fn perform(self: &Arc<Self>, core: usize, step: Step) {
        match step {
            Step::Nothing => {}
            Step::Forget(ticket, flight) => {
                self.act(core, |state| {
                    state.events.remove(&ticket);
                    state.hold.answered(ticket)
                });
                if let Some(flight) = flight {
                    flight.finish(Failure::Cancelled.into());
                }
            }
            Step::Here(mut flight, route, place, ticket) => {
                self.counts.local.add_one();
                flight.hold_as(ticket);
                run_here(*flight, route, Some(place));
            }
            Step::There(sending) => self.send(core, sending),
            Step::Answer(flight, failure) => {
                if !matches!(failure, Failure::Overloaded(_)) {
                    self.counts.expired.add_one();
                }
                flight.finish(failure.into());
            }
        }
    }

    fn send(self: &Arc<Self>, core: usize, sending: Sending) {
        let Sending {
            mark,
            to,
            payload,
            deadline,
            is_stream,
        } = sending;
        let payload = match payload {
            Ok(payload) => payload,
            Err(cause) => {
                return self.answered(core, mark, |_| cannot_cross(cause).into());
            }
        };
        match self.send_to(core, to.id, payload, deadline, (is_stream, mark)) {
            Ok(sent) => {
                self.counts.forwarded.add_one();
                self.watch_soon(core, mark, sent, deadline);
            }
            Err(RequestError::Overloaded) => {
                let outcome = |_: &mut Flight| Failure::Overloaded(Overloaded::Peer).into();
                self.answered(core, mark, outcome);
            }
            Err(why @ RequestError::TooLarge { .. }) => {
                let outcome = |_: &mut Flight| cannot_cross(why.to_string()).into();
                self.answered(core, mark, outcome);
            }
            Err(RequestError::Gone { may_have_started }) => {
                self.lost(core, mark, may_have_started);
            }
            // The links do not know the node yet, which the table has just named.
            Err(RequestError::UnknownPeer(_) | RequestError::Deadline | RequestError::Link(_)) => {
                let why = self.not_here(Reason::Behind);
                self.bounced(core, mark, to, &why);
            }
        }
    }

    /// What this node would say of an event that it does not run.
    pub(super) fn not_here(&self, reason: Reason) -> NotHere {
        NotHere {
            reason,
            owner: None,
            epoch: centripeta_cluster::OwnerEpoch(0),
            version: 0,
        }
    }

    /// An event of this node, with a key.
    pub(super) fn hold_offer(self: &Arc<Self>, flight: Flight, route: Arc<Route>, key: LaneKey) {
        let core = flight.core().0;
        let slot = key.slot();
        let owner = self.standing().owner_of(slot);
        let deadline = flight.deadline().saturating_duration_since(self.started);
        let channel = crate::routing::key::BuildLaneHasher.hash_one(&key);
        let bytes = flight.cx().raw().len();
        let retry_safe = route.info.retry_safe;
        self.act(core, |state| {
            state.tickets += 1;
            let ticket = Ticket(state.tickets);
            let event = Event {
                flight: Some(flight),
                route,
                key,
                slot,
                attempt: 0,
                to: None,
                watch: None,
                is_here: false,
                why: Unavailable::NoOwner,
            };
            state.events.insert(ticket, event);
            let offer = Offer {
                ticket,
                slot,
                channel,
                bytes,
                deadline,
                retry_safe,
            };
            state.hold.offer(offer, owner)
        });
    }

    /// An event came back unstarted from `from`.
    pub(super) fn bounced(self: &Arc<Self>, core: usize, mark: Mark, from: Member, why: &NotHere) {
        let ticket = Ticket(mark.id);
        self.counts.bounced[counts::bounce(why.reason)].add_one();
        let now = self.now();
        let (bounce, unavailable) = bounce_of(why.reason, from);
        self.act(core, |state| {
            let Some(event) = state.events.get_mut(&ticket) else {
                return Vec::new();
            };
            if event.attempt != mark.attempt {
                return Vec::new();
            }
            event.why = unavailable;
            if let Some(flight) = &mut event.flight {
                flight.come_back();
            }
            let slot = event.slot;
            let mut effects = state.hold.bounced(ticket, bounce, now);
            let waits_for_word = matches!(
                why.reason,
                Reason::Moving(_) | Reason::Lapsed | Reason::WrongOwner
            );
            if waits_for_word {
                if self.is_over(slot, from, why) {
                    let owner = self.standing().owner_of(slot);
                    effects.extend(state.hold.wake(slot, owner));
                } else {
                    state.again.entry(slot).or_insert(now + ASK_AGAIN);
                }
            }
            effects
        });
    }

    /// Whether what made an owner send an event back is over by the table: the change may have come
    /// here before what was sent back.
    fn is_over(&self, slot: SlotId, from: Member, why: &NotHere) -> bool {
        let shown = self.standing().shown();
        let rec = shown.table.slot(slot);
        if rec.owner != Some(from) {
            return true;
        }
        match why.reason {
            Reason::Moving(moving) => {
                shown.table.version() >= why.version
                    && rec.moving.is_none_or(|now| now.id != moving.id)
            }
            _ => false,
        }
    }

    /// The life of a node that had an event is over.
    pub(super) fn lost(self: &Arc<Self>, core: usize, mark: Mark, started: bool) {
        let ticket = Ticket(mark.id);
        let now = self.now();
        self.act(core, |state| {
            let Some(event) = state.events.get_mut(&ticket) else {
                return Vec::new();
            };
            if event.attempt != mark.attempt || event.is_here {
                return Vec::new();
            }
            event.why = Unavailable::LostPeer;
            if !started && let Some(flight) = &mut event.flight {
                flight.come_back();
            }
            // What follows of it on the old way counts no more.
            event.attempt += 1;
            // The life that is over may be this node's own, as its owner has seen it: then that lives,
            // and no word of it comes.
            state.again.entry(event.slot).or_insert(now + ASK_AGAIN);
            state.hold.lost(ticket, started)
        });
    }

    /// This node's own shard has answered an event of its hold.
    pub(crate) fn answered_here(self: &Arc<Self>, core: usize, ticket: Ticket) {
        self.act(core, |state| {
            state.events.remove(&ticket);
            state.hold.answered(ticket)
        });
    }

    /// This node's own shard gives an event of its hold back, unstarted.
    pub(crate) fn bounced_here(self: &Arc<Self>, flight: Flight, ticket: Ticket, why: &NotHere) {
        let core = flight.core().0;
        let mut back = Some(flight);
        let mut attempt = 0;
        let mut from = self.standing().me();
        self.act(core, |state| {
            if let Some(event) = state.events.get_mut(&ticket) {
                event.flight = back.take();
                (attempt, from) = (event.attempt, event.to.unwrap_or(from));
            }
            Vec::new()
        });
        match back {
            None => self.bounced(core, mark(ticket, attempt), from, why),
            // The hold has forgotten it.
            Some(flight) => {
                flight.finish(Failure::Unavailable(Unavailable::NoOwner).into());
            }
        }
    }

    /// The owners of these slots may take what is held: each core hears of it, and goes on itself.
    pub(super) fn wake(&self, slots: &[SlotId]) {
        for hold in &self.holds {
            lock(&hold.wakes.slots).extend(slots);
            hold.wakes.told.notify_one();
        }
    }

    /// The same for what one core holds.
    fn wake_at(self: &Arc<Self>, core: usize, slots: &[SlotId]) {
        self.act(core, |state| {
            let wake = |slot: &SlotId| {
                state.again.remove(slot);
                state.hold.wake(*slot, self.standing().owner_of(*slot))
            };
            slots.iter().flat_map(wake).collect()
        });
    }

    /// Nobody serves anything with a key for long: what is held is answered.
    pub(super) fn give_up_all(self: &Arc<Self>) {
        for core in 0..self.holds.len() {
            self.act(core, |state| {
                for event in state.events.values_mut() {
                    event.why = Unavailable::Isolated;
                }
                let give_up = |slot| state.hold.give_up(slot);
                SlotId::all().flat_map(give_up).collect()
            });
        }
    }

    /// A life of a node is over. The links say of most events whether they had started; of what
    /// they say nothing soon, it is assumed.
    pub(super) fn lose_soon(self: &Arc<Self>, member: Member) {
        for (core, handle) in self.handles.iter().enumerate() {
            let this = Arc::downgrade(self);
            handle.spawn(async move {
                tokio::time::sleep(LAST_WORD).await;
                let Some(this) = this.upgrade() else { return };
                let mut lost = Vec::new();
                this.act(core, |state| {
                    let events = &state.events;
                    let of = |ticket: Ticket| Some(mark(ticket, events.get(&ticket)?.attempt));
                    lost.extend(state.hold.sent_to(member).into_iter().filter_map(of));
                    Vec::new()
                });
                for mark in lost {
                    this.lost(core, mark, true);
                }
            });
        }
    }

    /// Looks at deadlines; answers whether it has to be done again.
    fn tick(self: &Arc<Self>, core: usize) -> bool {
        let Some(hold) = self.holds.get(core) else {
            return false;
        };
        let now = self.now();
        self.act(core, |state| {
            let mut effects = state.hold.tick(now);
            let due = |(slot, at): (&SlotId, &Duration)| (*at <= now).then_some(*slot);
            let due: Vec<SlotId> = state.again.iter().filter_map(due).collect();
            for slot in due {
                state.again.remove(&slot);
                let owner = self.standing().owner_of(slot);
                effects.extend(state.hold.wake(slot, owner));
            }
            effects
        });
        self.watch_due(core);
        let state = lock(&hold.state);
        let needed = state.needs_ticks();
        if !needed {
            // Under the lock, so that nothing comes to be held in between without a word.
            hold.ticking.store(false, Ordering::Release);
        }
        needed
    }
}
