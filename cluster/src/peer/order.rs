//! Order across a reconnect (R12), per sender incarnation and class of link.
//!
//! Link numbers rise, and so do correlation ids, across links. On a new link the receiver drops what
//! came on the old one and has not started, and names what has: that is answered on the new link.
//! Everything else the sender takes for unstarted, and sends again, in order, before anything new.
//!
//! What has started is remembered by one process of the receiver, for one life of the sender. On a link
//! between others nothing can be named: whatever was sent before may have started, and does not go
//! again. And while a life lasts the receiver must not forget: not when it hears that the life is over
//! before that itself does, nor when the end that it hears of is that of an earlier one.
//!
//! An answer can be lost with its link. So the receiver keeps what it has answered until the sender
//! confirms it, by the lowest id that it still waits for, and answers it again on the new link.

use crate::ids::{IdMap, IdSet, sorted};
use crate::{BootId, Incarnation, Rule, Rules};

/// A link that is older than one that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("link {link} is not newer than {current}")]
pub struct StaleLink {
    /// The link's number.
    pub link: u64,
    /// The newest number so far.
    pub current: u64,
}

/// What a new link finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Events of older links that have started: named to the sender, answered on the new link.
    pub started: Vec<u64>,
    /// Those of them that are over: their answers go out again, at once.
    pub answered: Vec<u64>,
    /// Events of older links that have not: dropped.
    pub dropped: Vec<u64>,
}

/// What to do with an event that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    /// It may start.
    Accept,
    /// It came on an old link: drop it.
    Drop,
    /// Its id does not rise: close the link.
    CloseLink,
}

/// The receiver's side.
#[derive(Debug, Clone, Default)]
pub struct Inbox {
    link: u64,
    last: u64,
    unstarted: IdSet<u64>,
    running: IdSet<u64>,
    answered: IdSet<u64>,
    rules: Rules,
}

impl Inbox {
    /// No link yet; numbers begin at 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, under these rules.
    pub fn with_rules(rules: Rules) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// The sender has opened a link.
    ///
    /// # Errors
    /// If it is not newer than the last: it is to be closed.
    pub fn open(&mut self, link: u64) -> Result<Opened, StaleLink> {
        if link <= self.link {
            return Err(StaleLink {
                link,
                current: self.link,
            });
        }
        self.link = link;
        let dropped = if self.rules.hold(Rule::NewLinkDropsOld) {
            sorted(std::mem::take(&mut self.unstarted))
        } else {
            Vec::new()
        };
        let started = sorted(self.running.union(&self.answered).copied());
        Ok(Opened {
            started,
            answered: sorted(self.answered.iter().copied()),
            dropped,
        })
    }

    /// An event has arrived on a link.
    pub fn arrived(&mut self, link: u64, id: u64) -> Arrived {
        if link != self.link && self.rules.hold(Rule::NewLinkDropsOld) {
            return Arrived::Drop;
        }
        if id <= self.last && link == self.link {
            return Arrived::CloseLink;
        }
        self.last = self.last.max(id);
        self.unstarted.insert(id);
        Arrived::Accept
    }

    /// An event is about to start: whether it may, or was dropped meanwhile.
    pub fn start(&mut self, id: u64) -> bool {
        let known = self.unstarted.remove(&id);
        if known {
            self.running.insert(id);
        }
        known
    }

    /// What has started and is not over.
    pub fn running(&self) -> impl Iterator<Item = u64> + '_ {
        self.running.iter().copied()
    }

    /// Whether an event has started and is not over.
    pub fn is_running(&self, id: u64) -> bool {
        self.running.contains(&id)
    }

    /// An event is bounced unstarted: its answer is on its way.
    pub fn bounce(&mut self, id: u64) -> bool {
        self.unstarted.remove(&id)
    }

    /// A started event is over: the link that its answer goes out on, the newest. The answer is kept
    /// until it is confirmed.
    pub fn finish(&mut self, id: u64) -> Option<u64> {
        if !self.running.remove(&id) {
            return None;
        }
        self.answered.insert(id);
        Some(self.link)
    }

    /// The link is gone, and the sender's life is said to be over: what has not started never will,
    /// and is named here. What has started stays known, since the sender may come back and send again
    /// whatever is not.
    pub fn cut(&mut self) -> Vec<u64> {
        sorted(std::mem::take(&mut self.unstarted))
    }

    /// How many events have come and are not over.
    pub fn unanswered(&self) -> usize {
        self.unstarted.len() + self.running.len()
    }

    /// The sender has these answers: they need not be kept any longer.
    pub fn confirmed_each(&mut self, ids: &[u64]) {
        for id in ids {
            self.answered.remove(id);
        }
    }

    /// The sender waits for no id below this: the ids whose answers need not be kept any longer.
    pub fn confirmed(&mut self, below: u64) -> Vec<u64> {
        let (done, open): (IdSet<u64>, IdSet<u64>) = std::mem::take(&mut self.answered)
            .into_iter()
            .partition(|id| *id < below);
        self.answered = open;
        sorted(done)
    }
}

/// Between whom a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The life of the sender, as it was said on this link.
    pub from: Incarnation,
    /// The process of the receiver.
    pub to: BootId,
}

/// The sender's side. Each event has a ticket of the sender's own.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    ends: Option<Ends>,
    link: u64,
    last: u64,
    settled: bool,
    unanswered: IdMap<u64, u64>,
}

impl Outbox {
    /// No link yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that takes the place of an earlier one to the same receiver, which may still remember its
    /// numbers: link numbers and ids begin above all that so many earlier ones have used.
    pub fn after(earlier: u64) -> Self {
        const EACH: u32 = 40;
        let base = earlier << EACH;
        Self {
            link: base,
            last: base,
            ..Self::default()
        }
    }

    /// A link is about to be opened: its number. Nothing is sent on it until the receiver has named
    /// what it has started.
    pub const fn connect(&mut self) -> u64 {
        self.link += 1;
        self.settled = false;
        self.link
    }

    /// The link is open, between these. Where the last one was between others, the receiver knows
    /// nothing of what was sent on that: the tickets of all of it, in order. It may have started.
    #[must_use]
    pub fn meet(&mut self, ends: Ends) -> Vec<u64> {
        let last = self.ends.replace(ends);
        if last.is_none_or(|last| last == ends) {
            return Vec::new();
        }
        tickets(std::mem::take(&mut self.unanswered))
    }

    /// Whether events may be sent.
    pub const fn is_settled(&self) -> bool {
        self.settled
    }

    /// The receiver has named what it has started on older links. The tickets of all other events,
    /// in order: they did not start, and go again before anything new.
    pub fn named(&mut self, link: u64, started: &[u64]) -> Vec<u64> {
        if link != self.link || self.settled {
            return Vec::new();
        }
        self.settled = true;
        let started: IdSet<u64> = started.iter().copied().collect();
        let (running, unstarted): (IdMap<_, _>, IdMap<_, _>) = std::mem::take(&mut self.unanswered)
            .into_iter()
            .partition(|(id, _)| started.contains(id));
        self.unanswered = running;
        tickets(unstarted)
    }

    /// An event goes out: its correlation id; `None` while the link is not settled.
    pub fn send(&mut self, ticket: u64) -> Option<u64> {
        if !self.settled {
            return None;
        }
        self.last += 1;
        self.unanswered.insert(self.last, ticket);
        Some(self.last)
    }

    /// An answer has come: the ticket of its event, unless that was answered before.
    pub fn answered(&mut self, id: u64) -> Option<u64> {
        self.unanswered.remove(&id)
    }

    /// The ticket of an event that is not answered yet.
    pub fn ticket(&self, id: u64) -> Option<u64> {
        self.unanswered.get(&id).copied()
    }

    /// The lowest id that is unanswered, or the next one: what the receiver is told, to forget the
    /// answers below it.
    pub fn floor(&self) -> u64 {
        self.unanswered.keys().min().map_or(self.last + 1, |id| *id)
    }
}

/// The tickets of events, in the order of their ids.
fn tickets(of: impl IntoIterator<Item = (u64, u64)>) -> Vec<u64> {
    sorted(of).into_iter().map(|(_, ticket)| ticket).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::{BTreeMap, VecDeque};

    use super::*;
    use crate::testing::Chance;

    #[test]
    fn an_id_that_does_not_rise_closes_the_link_and_an_old_link_stays_shut() {
        let mut inbox = Inbox::new();
        inbox.open(2).unwrap();
        assert_eq!(
            inbox.open(2),
            Err(StaleLink {
                link: 2,
                current: 2
            })
        );
        assert_eq!(inbox.arrived(2, 7), Arrived::Accept);
        assert_eq!(inbox.arrived(2, 7), Arrived::CloseLink);
        assert_eq!(inbox.arrived(1, 8), Arrived::Drop);
        inbox.open(3).unwrap();
        assert_eq!(
            inbox.arrived(3, 7),
            Arrived::CloseLink,
            "ids rise across links"
        );
    }

    /// An event is unread when its link is replaced: how often it runs once it was sent again.
    fn runs(rules: Rules) -> usize {
        let (mut outbox, mut inbox) = (Outbox::new(), Inbox::with_rules(rules));
        let first = outbox.connect();
        outbox.named(first, &inbox.open(first).unwrap().started);
        let id = outbox.send(1).unwrap();
        inbox.arrived(first, id);
        let second = outbox.connect();
        let opened = inbox.open(second).unwrap();
        assert_eq!(outbox.send(2), None);
        assert_eq!(outbox.named(second, &opened.started), [1]);
        let again = outbox.send(1).unwrap();
        assert_eq!(inbox.arrived(second, again), Arrived::Accept);
        usize::from(inbox.start(id)) + usize::from(inbox.start(again))
    }

    #[test]
    fn what_an_old_link_left_unread_does_not_run() {
        assert_eq!(runs(Rules::ALL), 1);
        assert_eq!(runs(Rules::without(Rule::NewLinkDropsOld)), 2);
    }

    #[test]
    fn what_has_started_is_named_and_answered_on_the_new_link() {
        let (mut outbox, mut inbox) = (Outbox::new(), Inbox::new());
        let first = outbox.connect();
        outbox.named(first, &inbox.open(first).unwrap().started);
        let ids: Vec<_> = (1..=3).map(|ticket| outbox.send(ticket).unwrap()).collect();
        ids.iter()
            .for_each(|id| assert_eq!(inbox.arrived(first, *id), Arrived::Accept));
        assert!(inbox.start(ids[1]));
        let second = outbox.connect();
        let opened = inbox.open(second).unwrap();
        assert_eq!(
            (&*opened.started, &*opened.dropped),
            (&ids[1..2], &[ids[0], ids[2]][..])
        );
        assert_eq!(outbox.named(second, &opened.started), [1, 3]);
        assert_eq!(inbox.finish(ids[1]), Some(second));
        // The answer is lost with that link too; it is kept until it is confirmed.
        let third = outbox.connect();
        let opened = inbox.open(third).unwrap();
        assert_eq!(
            (&*opened.started, &*opened.answered),
            (&ids[1..2], &ids[1..2])
        );
        assert!(outbox.named(third, &opened.started).is_empty());
        assert_eq!(
            (outbox.floor(), inbox.confirmed(outbox.floor())),
            (ids[1], vec![])
        );
        assert_eq!(outbox.answered(ids[1]), Some(2));
        assert_eq!(outbox.answered(ids[1]), None);
        assert_eq!(inbox.confirmed(outbox.floor()), [ids[1]]);
    }

    const FIRST: Ends = Ends {
        from: Incarnation(1),
        to: BootId(7),
    };

    #[test]
    fn what_may_have_started_goes_only_where_it_is_remembered() {
        let others = [
            Ends {
                from: Incarnation(2),
                ..FIRST
            },
            Ends {
                to: BootId(8),
                ..FIRST
            },
        ];
        for next in others {
            let mut outbox = Outbox::new();
            let link = outbox.connect();
            assert!(outbox.meet(FIRST).is_empty());
            outbox.named(link, &[]);
            assert_eq!([1, 2].map(|ticket| outbox.send(ticket)), [Some(1), Some(2)]);
            // The same again: what it has not started goes again.
            let link = outbox.connect();
            assert!(outbox.meet(FIRST).is_empty());
            assert_eq!(outbox.named(link, &[1]), [2]);
            outbox.send(2);
            let link = outbox.connect();
            assert_eq!(outbox.meet(next), [1, 2], "{next:?}");
            assert!(outbox.named(link, &[]).is_empty());
            assert_eq!(outbox.send(3), Some(4), "ids rise on");
            assert_eq!(outbox.answered(1), None);
        }
    }

    #[test]
    fn a_life_that_is_said_to_be_over_and_comes_back_finds_what_it_started() {
        let mut inbox = Inbox::new();
        inbox.open(1).unwrap();
        (1..=3).for_each(|id| assert_eq!(inbox.arrived(1, id), Arrived::Accept));
        assert!(inbox.start(1) && inbox.start(2));
        inbox.finish(1);
        assert_eq!(inbox.cut(), [3]);
        assert!(!inbox.start(3), "it is sent again");
        inbox.finish(2);
        let opened = inbox.open(2).unwrap();
        assert_eq!(opened.started, [1, 2]);
        assert_eq!(opened.answered, [1, 2]);
        assert!(opened.dropped.is_empty());
    }

    /// Links that break at random, with what is on them: in which order tickets started.
    fn chaos(seed: u64, rules: Rules) -> Vec<u64> {
        let mut chance = Chance::new(seed);
        let (mut outbox, mut inbox) = (Outbox::new(), Inbox::with_rules(rules));
        let mut wire: VecDeque<(u64, u64)> = VecDeque::new();
        let mut queue: VecDeque<(u64, u64)> = VecDeque::new();
        let mut tickets = BTreeMap::new();
        let mut answers: VecDeque<u64> = VecDeque::new();
        let mut to_send: VecDeque<u64> = (1..=40).collect();
        let mut ran = Vec::new();
        for _ in 0..800 {
            match chance.below(8) {
                0..=2 => {
                    if let Some(ticket) = to_send.front()
                        && let Some(id) = outbox.send(*ticket)
                    {
                        tickets.insert(id, *ticket);
                        to_send.pop_front();
                        wire.push_back((outbox.link, id));
                    }
                }
                3 | 4 => {
                    if let Some((link, id)) = wire.pop_front()
                        && inbox.arrived(link, id) == Arrived::Accept
                    {
                        queue.push_back((link, id));
                    }
                }
                5 | 6 => {
                    if let Some((_, id)) = queue.pop_front()
                        && inbox.start(id)
                    {
                        ran.push(tickets[&id]);
                        if chance.permille(700) {
                            inbox.finish(id);
                            answers.push_back(id);
                        }
                    }
                    if chance.permille(500)
                        && let Some(id) = answers.pop_front()
                    {
                        outbox.answered(id);
                        inbox.confirmed(outbox.floor());
                    }
                }
                _ if chance.permille(200) => {
                    let link = outbox.connect();
                    // Some of what is on the wire comes later, some never.
                    if chance.permille(500) {
                        wire.clear();
                    }
                    // The answers on the old link are lost, those kept go out again.
                    let opened = inbox.open(link).unwrap();
                    answers = opened.answered.iter().copied().collect();
                    for ticket in outbox.named(link, &opened.started).into_iter().rev() {
                        to_send.push_front(ticket);
                    }
                }
                _ => {}
            }
        }
        ran
    }

    #[test]
    fn whoever_takes_the_place_of_a_sender_uses_none_of_its_numbers_again() {
        let (mut first, mut inbox) = (Outbox::new(), Inbox::new());
        let link = first.connect();
        inbox.open(link).unwrap();
        first.named(link, &[]);
        let old = first.send(7).unwrap();
        assert_eq!(inbox.arrived(link, old), Arrived::Accept);
        assert!(inbox.start(old));
        inbox.finish(old);
        let mut second = Outbox::after(1);
        let link = second.connect();
        let opened = inbox.open(link).unwrap();
        assert_eq!(opened.answered, [old]);
        second.named(link, &opened.started);
        let new = second.send(8).unwrap();
        assert_eq!(inbox.arrived(link, new), Arrived::Accept);
        assert_eq!(
            second.answered(old),
            None,
            "an old answer belongs to nobody"
        );
        assert_eq!(second.answered(new), Some(8));
    }

    #[test]
    fn whatever_breaks_each_event_starts_once_and_in_order() {
        for seed in 0..300 {
            let ran = chaos(seed, Rules::ALL);
            assert!(
                ran.is_sorted() && ran.windows(2).all(|pair| pair[0] != pair[1]),
                "seed {seed}: {ran:?}"
            );
        }
        let mutant = Rules::without(Rule::NewLinkDropsOld);
        let caught = (0..200).filter(|seed| {
            let ran = chaos(*seed, mutant);
            !ran.is_sorted() || ran.windows(2).any(|pair| pair[0] == pair[1])
        });
        assert!(caught.count() > 100);
    }
}
