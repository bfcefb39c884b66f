//! Shards that are parked after too many crashes: the leader hears of them, and moves their slots
//! away. Said again to each new leader.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::time::Instant;

use super::core::Core;
use super::wire::PARKED;
use crate::peer::{Class, Request};
use crate::{Member, SlotId};

/// How long the leader may take to hear it.
const TOLD: Duration = Duration::from_secs(5);

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
        let Some(first) = slots.first().copied() else {
            return;
        };
        self.tell_leader_parked(&slots, parked);
        if parked {
            self.parked.insert(first, slots);
        } else {
            self.parked.remove(&first);
        }
    }

    /// A new leader hears of all.
    pub(super) fn tell_parked(&mut self) {
        for slots in self.parked.clone().into_values() {
            self.tell_leader_parked(&slots, true);
        }
    }

    fn tell_leader_parked(&mut self, slots: &[SlotId], parked: bool) {
        let Some(leader) = self.leader else { return };
        if leader.node == self.me.id {
            self.parked_at(self.me, slots, parked);
            return;
        }
        let deadline = Instant::now() + TOLD;
        let payload = encode(slots, parked);
        let told = self
            .links
            .request(leader.node, Class::Control, PARKED, payload, deadline);
        if let Ok(answer) = told {
            // It is kept for the link until it is answered.
            tokio::spawn(answer.wait());
        }
    }

    /// Another node says so of a shard of its.
    pub(super) fn parked_told(&mut self, request: Request) {
        let member = request.from().member;
        match decode(request.payload()) {
            Some((slots, parked)) => {
                self.parked_at(member, &slots, parked);
                request.reply(Bytes::new());
            }
            None => request.bounce("no list of slots".into()),
        }
    }

    fn parked_at(&mut self, member: Member, slots: &[SlotId], parked: bool) {
        let now = self.reading();
        if let (Some(lead), Some(view)) = (&mut self.lead, &self.view) {
            let effects = lead.parked(view.table(), member, slots, parked, now);
            self.led(effects);
        }
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
