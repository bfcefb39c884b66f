#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::testing::{Chance, member, slot};
use crate::{BootId, Rule, Rules};

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn offer(ticket: u64) -> Offer {
    Offer {
        ticket: Ticket(ticket),
        slot: slot(5),
        channel: ticket % 2,
        bytes: 100,
        deadline: at(1000),
        retry_safe: false,
    }
}

fn send(ticket: u64, to: u32, generation: u32, held: bool) -> HoldEffect {
    HoldEffect::Send {
        ticket: Ticket(ticket),
        to: member(to, 1),
        generation,
        held,
    }
}

fn answer(ticket: u64, fate: Fate) -> HoldEffect {
    HoldEffect::Answer {
        ticket: Ticket(ticket),
        fate,
    }
}

fn hold() -> Hold {
    Hold::new(HoldLimits::default())
}

fn owner(id: u32) -> Option<Member> {
    Some(member(id, 1))
}

#[test]
fn events_of_a_moving_slot_are_held_and_go_to_the_new_owner_in_order() {
    let mut hold = hold();
    for ticket in 1..=3 {
        assert_eq!(
            hold.offer(offer(ticket), owner(1)),
            [send(ticket, 1, 0, false)]
        );
    }
    assert_eq!(hold.bounced(Ticket(2), Bounce::Moving, at(0)), []);
    assert_eq!(hold.offer(offer(4), owner(1)), []);
    assert_eq!(hold.bounced(Ticket(3), Bounce::Moving, at(0)), []);
    assert_eq!(hold.wake(slot(5), owner(2)), [], "one is still unanswered");
    assert_eq!(hold.held(), (3, 300));
    let all = [
        send(2, 2, 1, true),
        send(3, 2, 1, true),
        send(4, 2, 1, true),
    ];
    assert_eq!(hold.answered(Ticket(1)), all);
    assert_eq!(hold.held(), (0, 0));
    assert_eq!(hold.offer(offer(5), owner(2)), [send(5, 2, 1, false)]);
}

#[test]
fn a_slot_without_owner_holds_until_there_is_one_or_the_deadline_is_near() {
    let mut hold = hold();
    assert_eq!(hold.offer(offer(1), None), []);
    let late = Offer {
        deadline: at(500),
        ..offer(2)
    };
    assert_eq!(hold.offer(late, None), []);
    assert_eq!(hold.tick(at(489)), []);
    assert_eq!(hold.tick(at(490)), [answer(2, Fate::Unavailable)]);
    assert_eq!(hold.wake(slot(5), owner(2)), [send(1, 2, 0, true)]);
    assert_eq!(hold.offer(offer(3), None), []);
    assert_eq!(hold.give_up(slot(5)), [answer(3, Fate::Unavailable)]);
    assert_eq!(hold.held(), (0, 0));
}

#[test]
fn a_core_holds_so_many_events_and_bytes() {
    let limits = HoldLimits {
        events: 2,
        ..HoldLimits::default()
    };
    let mut few = Hold::new(limits);
    few.offer(offer(1), None);
    few.offer(offer(2), None);
    assert_eq!(few.offer(offer(3), None), [answer(3, Fate::Overloaded)]);
    let mut small = Hold::new(HoldLimits {
        bytes: 199,
        ..HoldLimits::default()
    });
    small.offer(offer(1), None);
    assert_eq!(small.offer(offer(2), None), [answer(2, Fate::Overloaded)]);
}

#[test]
fn a_channel_has_so_many_unanswered_events_out_of_a_hold() {
    let mut hold = Hold::new(HoldLimits {
        window: 2,
        ..HoldLimits::default()
    });
    for ticket in [2, 4, 6, 8, 3] {
        hold.offer(offer(ticket), None);
    }
    let first = [
        send(2, 1, 0, true),
        send(4, 1, 0, true),
        send(3, 1, 0, true),
    ];
    assert_eq!(hold.wake(slot(5), owner(1)), first);
    assert_eq!(hold.answered(Ticket(3)), []);
    assert_eq!(
        hold.offer(offer(10), owner(1)),
        [],
        "overtakes what is held"
    );
    assert_eq!(hold.answered(Ticket(4)), [send(6, 1, 0, true)]);
    assert_eq!(hold.answered(Ticket(4)), [], "answered twice");
}

#[test]
fn an_event_meets_a_wrong_owner_twice_at_most() {
    let mut hold = hold();
    hold.offer(offer(1), owner(1));
    for (asked, next) in [(1, 2), (2, 3)] {
        let wrong = Bounce::WrongOwner {
            owner: member(asked, 1),
        };
        assert_eq!(hold.bounced(Ticket(1), wrong, at(0)), []);
        let generation = next - 1;
        assert_eq!(
            hold.wake(slot(5), owner(next)),
            [send(1, next, generation, true)]
        );
    }
    let wrong = Bounce::WrongOwner {
        owner: member(3, 1),
    };
    assert_eq!(
        hold.bounced(Ticket(1), wrong, at(0)),
        [answer(1, Fate::Unavailable)]
    );
}

#[test]
fn who_was_behind_is_asked_again_and_what_was_stale_goes_at_once() {
    let mut hold = hold();
    hold.offer(offer(1), owner(1));
    assert_eq!(hold.bounced(Ticket(1), Bounce::Behind, at(100)), []);
    assert_eq!(hold.tick(at(299)), []);
    assert_eq!(hold.tick(at(300)), [send(1, 1, 1, true)]);
    assert_eq!(
        hold.bounced(Ticket(1), Bounce::Stale, at(310)),
        [send(1, 1, 2, true)]
    );
}

#[test]
fn after_a_death_the_unstarted_go_again_and_the_started_only_if_safe_and_only_once() {
    let mut hold = hold();
    hold.offer(offer(1), owner(1));
    hold.offer(offer(2), owner(1));
    hold.offer(
        Offer {
            retry_safe: true,
            ..offer(3)
        },
        owner(1),
    );
    assert_eq!(
        hold.sent_to(member(1, 1)),
        [Ticket(1), Ticket(2), Ticket(3)]
    );
    assert_eq!(hold.sent_to(member(2, 1)), []);
    assert_eq!(hold.lost(Ticket(1), true), [answer(1, Fate::Ambiguous)]);
    assert_eq!(hold.lost(Ticket(2), false), []);
    assert_eq!(hold.lost(Ticket(3), true), []);
    assert_eq!(
        hold.wake(slot(5), owner(2)),
        [send(2, 2, 1, true), send(3, 2, 1, true)]
    );
    assert_eq!(hold.lost(Ticket(2), false), []);
    assert_eq!(hold.lost(Ticket(3), true), [answer(3, Fate::Ambiguous)]);
    assert_eq!(hold.wake(slot(5), owner(3)), [send(2, 3, 2, true)]);
}

#[test]
fn a_new_owner_gets_nothing_while_the_old_one_may_still_run_something() {
    let mut hold = hold();
    hold.offer(offer(1), owner(1));
    assert_eq!(hold.offer(offer(2), owner(2)), []);
    assert_eq!(
        hold.wake(slot(5), owner(2)),
        [],
        "the old one is not known to be dead"
    );
    let both = [send(1, 2, 1, true), send(2, 2, 1, true)];
    assert_eq!(hold.lost(Ticket(1), false), both);
}

#[test]
fn bars_keep_a_bounced_generation_out_for_good() {
    let mut bars = Bars::new();
    let sender = Sender {
        boot: BootId(1),
        core: 0,
    };
    assert!(bars.admits(sender, slot(5), 0));
    bars.bounced(sender, slot(5), 3);
    bars.bounced(sender, slot(5), 1);
    assert!(!bars.admits(sender, slot(5), 3) && bars.admits(sender, slot(5), 4));
    assert!(bars.admits(Sender { core: 1, ..sender }, slot(5), 0));
    assert!(bars.admits(sender, slot(6), 0));
    bars.keep(|boot| boot != BootId(1));
    assert!(bars.admits(sender, slot(5), 0));
}

/// One ingress core, one slot, owners that open, close, hand over and die at random, links that keep
/// their order and nothing else. What went wrong, if anything did.
fn chaos(seed: u64, rules: Rules) -> Option<String> {
    const OWNERS: usize = 3;
    let mut chance = Chance::new(seed);
    let mut hold = Hold::new(HoldLimits {
        window: 2,
        events: 40,
        ..HoldLimits::default()
    });
    let sender = Sender {
        boot: BootId(9),
        core: 0,
    };
    let mut bars = vec![Bars::with_rules(rules); OWNERS];
    let mut open = [true, false, false];
    let mut current = 0usize;
    // Requests to each owner, and answers from it: (ticket, generation), (ticket, bounced).
    let mut asks: Vec<VecDeque<(u64, u32)>> = vec![VecDeque::new(); OWNERS];
    let mut answers: Vec<VecDeque<(u64, Option<Bounce>)>> = vec![VecDeque::new(); OWNERS];
    let mut wake_due = false;
    let mut ran: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut fates: BTreeMap<u64, &str> = BTreeMap::new();
    let mut next = 0u64;
    let mut now = 0u64;
    let mut effects = Vec::new();
    for step in 0..600 {
        now += chance.below(5);
        let calm = step >= 400;
        let table = owner(current as u32);
        match chance.below(10) {
            0..=2 if !calm => {
                next += 1;
                let offer = Offer {
                    deadline: at(now + 100_000),
                    ..offer(next)
                };
                effects.extend(hold.offer(offer, table));
            }
            3 | 4 => {
                let at = chance.below(OWNERS as u64) as usize;
                if let Some((ticket, generation)) = asks[at].pop_front() {
                    let wrong = at != current;
                    let stale = !bars[at].admits(sender, slot(5), generation);
                    let bounce = if wrong {
                        Some(Bounce::WrongOwner {
                            owner: member(at as u32, 1),
                        })
                    } else if !open[at] {
                        Some(Bounce::Moving)
                    } else if stale {
                        Some(Bounce::Stale)
                    } else {
                        None
                    };
                    if bounce.is_some() {
                        bars[at].bounced(sender, slot(5), generation);
                    } else {
                        ran.entry(ticket % 2).or_default().push(ticket);
                    }
                    answers[at].push_back((ticket, bounce));
                }
            }
            5 | 6 => {
                let at_owner = chance.below(OWNERS as u64) as usize;
                if let Some((ticket, bounce)) = answers[at_owner].pop_front() {
                    if let Some(why) = bounce {
                        effects.extend(hold.bounced(Ticket(ticket), why, at(now)));
                        wake_due = true;
                    } else {
                        if fates.insert(ticket, "answered").is_some() {
                            return Some(format!("{ticket} answered twice"));
                        }
                        effects.extend(hold.answered(Ticket(ticket)));
                    }
                }
            }
            7 if !calm => {
                if chance.permille(500) {
                    open[current] = !open[current];
                } else {
                    open[current] = false;
                    current = chance.below(OWNERS as u64) as usize;
                    open[current] = true;
                }
                wake_due = true;
            }
            7 => open[current] = true,
            8 if wake_due || calm => {
                wake_due = false;
                effects.extend(hold.wake(slot(5), table));
            }
            _ => effects.extend(hold.tick(at(now))),
        }
        for effect in effects.drain(..) {
            match effect {
                HoldEffect::Send {
                    ticket,
                    to,
                    generation,
                    ..
                } => {
                    asks[to.id.0 as usize].push_back((ticket.0, generation));
                }
                HoldEffect::Answer { ticket, .. } => {
                    if fates.insert(ticket.0, "refused").is_some() {
                        return Some(format!("{ticket:?} answered twice"));
                    }
                }
            }
        }
    }
    for (channel, order) in ran {
        if !order.is_sorted() {
            return Some(format!("channel {channel} ran in the order {order:?}"));
        }
        if order
            .iter()
            .any(|ticket| fates.get(ticket) == Some(&"refused"))
        {
            return Some(format!("channel {channel} ran what was refused"));
        }
    }
    if fates.len() + hold.tickets.len() != next as usize {
        return Some(format!(
            "{} of {next} events are nowhere",
            next as usize - fates.len()
        ));
    }
    None
}

#[test]
fn whatever_bounces_each_channel_runs_in_order_and_each_event_ends_once() {
    for seed in 0..300 {
        assert_eq!(chaos(seed, Rules::ALL), None, "seed {seed}");
    }
}

#[test]
fn without_generations_the_order_breaks() {
    let mutant = Rules::without(Rule::Generations);
    let caught = (0..200)
        .filter(|seed| chaos(*seed, mutant).is_some())
        .count();
    assert!(caught > 0);
}
