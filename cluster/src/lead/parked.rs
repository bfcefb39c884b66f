//! Shards that crashed too often: their slots go to other nodes, and none comes back while they are
//! parked.

use std::collections::{BTreeMap, BTreeSet};

use crate::allocation::Conditions;
use crate::{Member, MoveStart, NodeId, NodeState, SlotId, Table};

/// The slots of parked shards, by node. They need not be owned by it.
#[derive(Debug, Clone, Default)]
pub(super) struct Parked(BTreeMap<Member, BTreeSet<SlotId>>);

impl Parked {
    /// A node says that a shard is parked, or runs again. Says whether that is news.
    pub(super) fn report(&mut self, member: Member, slots: &[SlotId], parked: bool) -> bool {
        let all = self.0.entry(member).or_default();
        let before = all.len();
        if parked {
            all.extend(slots);
        } else {
            slots.iter().for_each(|slot| {
                all.remove(slot);
            });
        }
        let news = all.len() != before;
        if all.is_empty() {
            self.0.remove(&member);
        }
        news
    }

    /// Lives that are over are forgotten.
    pub(super) fn table(&mut self, table: &Table) {
        self.0.retain(|member, _| table.is_living(*member));
    }

    /// Whether the slot's shard is parked there.
    pub(super) fn at(&self, member: Member, slot: SlotId) -> bool {
        self.0
            .get(&member)
            .is_some_and(|slots| slots.contains(&slot))
    }

    /// Moves for slots that sit in parked shards, each to the node that has the least.
    pub(super) fn moves(&self, table: &Table, conditions: &Conditions) -> Vec<MoveStart> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let may = |id: &NodeId| {
            !conditions.cut_off.contains(id)
                && !conditions.held_back.contains_key(id)
                && table.node(*id).is_some_and(|node| {
                    node.state == NodeState::Up && node.roles.region && node.serves.channel
                })
        };
        let mut load: BTreeMap<_, usize> = table
            .nodes()
            .keys()
            .filter(|id| may(id))
            .map(|id| (*id, 0))
            .collect();
        for (_, rec) in table.slots() {
            let at = rec.moving.map(|moving| moving.to).or(rec.owner);
            if let Some(count) = at.and_then(|at| load.get_mut(&at.id)) {
                *count += 1;
            }
        }
        let mut moves = Vec::new();
        for (from, slots) in &self.0 {
            for slot in slots {
                let rec = table.slot(*slot);
                if rec.owner != Some(*from) || rec.moving.is_some() {
                    continue;
                }
                let open = load.iter().filter(|(id, _)| {
                    let to = table.member(**id);
                    **id != from.id
                        && !conditions.resting.contains(&(from.id, **id))
                        && to.is_some_and(|to| !self.at(to, *slot))
                });
                let least = open
                    .min_by_key(|(id, load)| (**load, **id))
                    .map(|(id, _)| *id);
                let Some(to) = least.and_then(|id| table.member(id)) else {
                    continue;
                };
                load.entry(to.id).and_modify(|count| *count += 1);
                moves.push(MoveStart {
                    slot: *slot,
                    expect_epoch: rec.epoch,
                    to,
                });
            }
        }
        moves
    }
}
