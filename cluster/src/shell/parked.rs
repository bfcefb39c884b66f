//! Shards that are parked after too many crashes: the leader hears of them, and moves their slots
//! away. Said to each new leader and by each new life, and again while it matters: the leader may
//! have begun anew, or the word may be lost.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::time::Instant;

use super::core::Core;
use super::event::Event;
use super::wire::PARKED;
use crate::peer::{Class, Outcome, Request};
use crate::{Member, SlotId};

/// How long the leader may take to hear it.
const TOLD: Duration = Duration::from_secs(5);
/// It is said again after so long.
const AGAIN: Duration = Duration::from_secs(2);

/// That a shard, named by its first slot, runs again, said for the so manieth time that it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(SlotId, u64);

/// The shards that are parked, and those that run again which no leader has heard of yet.
#[derive(Debug, Default)]
pub(super) struct Shards {
    parked: BTreeMap<SlotId, Vec<SlotId>>,
    again: BTreeMap<SlotId, (u64, Vec<SlotId>)>,
    count: u64,
    said: Option<Duration>,
}

impl Shards {
    /// A shard with these slots is parked, or runs again.
    fn report(&mut self, slots: Vec<SlotId>, parked: bool) {
        let Some(shard) = slots.first().copied() else {
            return;
        };
        if parked {
            self.again.remove(&shard);
            self.parked.insert(shard, slots);
        } else if self.parked.remove(&shard).is_some() {
            self.count += 1;
            self.again.insert(shard, (self.count, slots));
        }
        self.say_again();
    }

    /// All of it is to be said at once.
    pub(super) const fn say_again(&mut self) {
        self.said = None;
    }

    /// A leader has heard that a shard runs again.
    pub(super) fn heard(&mut self, word: Word) {
        if self
            .again
            .get(&word.0)
            .is_some_and(|(count, _)| *count == word.1)
        {
            self.again.remove(&word.0);
        }
    }

    /// What is to be said now: slots of shards that are parked, or, with a word to be heard, that run
    /// again.
    fn due(&mut self, now: Duration) -> Vec<(Vec<SlotId>, Option<Word>)> {
        let waits = self
            .said
            .is_some_and(|said| now.saturating_sub(said) < AGAIN);
        if waits || (self.parked.is_empty() && self.again.is_empty()) {
            return Vec::new();
        }
        self.said = Some(now);
        let parked = self.parked.values().map(|slots| (slots.clone(), None));
        let again = self.again.iter();
        let again =
            again.map(|(shard, (count, slots))| (slots.clone(), Some(Word(*shard, *count))));
        parked.chain(again).collect()
    }
}

impl Core {
    /// A shard of this node is parked, or runs again.
    pub(super) fn shard_parked(&mut self, slot: SlotId, parked: bool) {
        let slots: Vec<_> = match self.setup.layout {
            Some(layout) => {
                let shard = layout.shard_of(slot);
                SlotId::all()
                    .filter(|slot| layout.shard_of(*slot) == shard)
                    .collect()
            }
            None => vec![slot],
        };
        self.shards.report(slots, parked);
        self.tell_parked();
    }

    /// The leader hears what it may not know, if that is due.
    pub(super) fn tell_parked(&mut self) {
        if self.life.is_none() || self.leader.is_none() {
            return;
        }
        for (slots, word) in self.shards.due(self.clock()) {
            self.tell_leader_parked(&slots, word);
        }
    }

    fn tell_leader_parked(&mut self, slots: &[SlotId], word: Option<Word>) {
        let Some(leader) = self.leader else { return };
        if leader.node == self.me.id {
            if self.parked_at(self.me, slots, word.is_none())
                && let Some(word) = word
            {
                self.shards.heard(word);
            }
            return;
        }
        let deadline = Instant::now() + TOLD;
        let payload = encode(slots, word.is_none());
        let told = self
            .links
            .request(leader.node, Class::Control, PARKED, payload, deadline);
        let Ok(answer) = told else { return };
        let events = self.events.clone();
        // It is kept for the link until it is answered.
        tokio::spawn(async move {
            if let (Ok(reply), Some(word)) = (answer.wait().await, word)
                && reply.outcome == Outcome::Answered
            {
                drop(events.send(Event::RunsAgain(leader, word)));
            }
        });
    }

    /// Another node says so of a shard of its.
    pub(super) fn parked_told(&mut self, request: Request) {
        let member = request.from().member;
        match decode(request.payload()) {
            Some((slots, parked)) if self.parked_at(member, &slots, parked) => {
                request.reply(Bytes::new());
            }
            Some(_) => request.bounce("this node does not lead".into()),
            None => request.bounce("no list of slots".into()),
        }
    }

    /// Says whether this node leads, so that it counts.
    fn parked_at(&mut self, member: Member, slots: &[SlotId], parked: bool) -> bool {
        let now = self.reading();
        let (Some(lead), Some(view)) = (&mut self.lead, &self.view) else {
            return false;
        };
        let effects = lead.parked(view.table(), member, slots, parked, now);
        self.led(effects);
        true
    }
}

fn encode(slots: &[SlotId], parked: bool) -> Bytes {
    let mut to = BytesMut::with_capacity(1 + 2 * slots.len());
    to.put_u8(u8::from(parked));
    slots.iter().for_each(|slot| to.put_u16_le(slot.index()));
    to.freeze()
}

fn decode(from: &[u8]) -> Option<(Vec<SlotId>, bool)> {
    let (parked, slots) = from.split_first()?;
    let (pairs, rest) = slots.as_chunks::<2>();
    let slots: Option<Vec<_>> = pairs
        .iter()
        .map(|pair| SlotId::new(u16::from_le_bytes(*pair)))
        .collect();
    (rest.is_empty() && *parked < 2).then_some((slots?, *parked == 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::slot;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn that_a_shard_is_parked_is_said_again_for_as_long_as_it_is() {
        let mut shards = Shards::default();
        assert_eq!(shards.due(seconds(0)), []);
        let slots = vec![slot(0), slot(8)];
        shards.report(slots.clone(), true);
        let parked = [(slots, None)];
        assert_eq!(shards.due(seconds(1)), parked);
        assert_eq!(shards.due(seconds(2)), []);
        assert_eq!(shards.due(seconds(3)), parked);
        // To a new leader, and by a new life, at once.
        shards.say_again();
        assert_eq!(shards.due(seconds(4)), parked);
        shards.heard(Word(slot(0), 1));
        assert_eq!(shards.due(seconds(6)), parked);
    }

    #[test]
    fn that_a_shard_runs_again_is_said_until_a_leader_has_heard_this_time_of_it() {
        let mut shards = Shards::default();
        let slots = vec![slot(0), slot(8)];
        let mut now = 0;
        let mut next = |shards: &mut Shards| {
            now += 2;
            shards.due(seconds(now))
        };
        shards.report(slots.clone(), false);
        assert_eq!(next(&mut shards), [], "nobody took it for parked");
        let mut words = Vec::new();
        for _ in 0..2 {
            shards.report(slots.clone(), true);
            assert_eq!(next(&mut shards), [(slots.clone(), None)]);
            shards.report(slots.clone(), false);
            let [(said, Some(word))] = &next(&mut shards)[..] else {
                panic!("it is not said")
            };
            assert_eq!(*said, slots);
            words.push(*word);
        }
        shards.heard(words[0]);
        let again = [(slots, Some(words[1]))];
        assert_eq!(next(&mut shards), again);
        assert_eq!(next(&mut shards), again);
        shards.heard(words[1]);
        assert_eq!(next(&mut shards), []);
    }

    #[test]
    fn a_list_of_slots_comes_back_and_anything_else_is_none() {
        let slots = vec![slot(0), slot(4095)];
        let bytes = encode(&slots, true);
        assert_eq!(decode(&bytes), Some((slots, true)));
        assert_eq!(decode(&bytes[..4]), None);
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[2]), None);
        assert_eq!(decode(&[0, 0xff, 0xff]), None);
    }
}
