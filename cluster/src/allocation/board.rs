//! Who has how much, who may have more: quotas and rendezvous.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_64;

use super::{Conditions, HeldBack, Wait};
use crate::{Member, MoveReason, NodeId, NodeState, SLOT_COUNT, SlotId, Table};

/// A slot that its node should give away.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spare {
    pub(super) slot: SlotId,
    pub(super) from: NodeId,
    pub(super) reason: MoveReason,
    /// Moves whatever else holds moves back.
    pub(super) urgent: bool,
    /// Its number among the spares of its node.
    pub(super) rank: usize,
}

/// The state of a plan in the making.
#[derive(Debug)]
pub(super) struct Board<'a> {
    table: &'a Table,
    conditions: &'a Conditions,
    /// What each eligible node has, or is about to get.
    load: BTreeMap<NodeId, usize>,
    /// Eligible nodes that may not get more.
    frozen: BTreeSet<NodeId>,
    /// Slots by their living owner, without those that are moving.
    still: BTreeMap<NodeId, Vec<SlotId>>,
}

impl<'a> Board<'a> {
    pub(super) fn new(table: &'a Table, conditions: &'a Conditions, waits: &mut Vec<Wait>) -> Self {
        let eligible = |id: NodeId| {
            !conditions.cut_off.contains(&id)
                && table.node(id).is_some_and(|node| {
                    node.state == NodeState::Up && node.roles.region && node.serves.channel
                })
        };
        let mut load: BTreeMap<_, _> = table
            .nodes()
            .keys()
            .filter(|id| eligible(**id))
            .map(|id| (*id, 0))
            .collect();
        let mut still: BTreeMap<NodeId, Vec<SlotId>> = BTreeMap::new();
        for (slot, rec) in table.slots() {
            let Some(owner) = rec.owner.filter(|owner| table.is_living(*owner)) else {
                continue;
            };
            let moving = rec.moving.filter(|moving| table.is_living(moving.to));
            if moving.is_none() {
                still.entry(owner.id).or_default().push(slot);
            }
            let at = moving.map_or(owner, |moving| moving.to);
            load.entry(at.id).and_modify(|count| *count += 1);
        }
        let held = |id: &NodeId| conditions.held_back.get(id).copied();
        let mut frozen: BTreeSet<_> = load
            .keys()
            .filter(|id| held(id).is_some())
            .copied()
            .collect();
        waits.extend(
            frozen
                .iter()
                .filter_map(|id| Some(Wait::HeldBack(*id, held(id)?))),
        );
        if frozen.len() == load.len() {
            // A node in quarantine is better than none.
            frozen.retain(|id| held(id) == Some(HeldBack::Degraded));
        }
        Self {
            table,
            conditions,
            load,
            frozen,
            still,
        }
    }

    /// The share of an eligible node, without remainder.
    pub(super) fn fair(&self) -> usize {
        usize::from(SLOT_COUNT) / self.load.len().max(1)
    }

    /// Eligible nodes of other builds than the newest among those that may get more. Nodes without
    /// slots may be of a newer one; nothing can go to them.
    pub(super) fn not_of_newest_build(&self) -> BTreeSet<NodeId> {
        let build = |id: &NodeId| self.table.node(*id).map(|node| node.build.as_str());
        let may_grow = self.load.keys().filter(|id| !self.frozen.contains(id));
        let newest = may_grow.filter_map(build).max_by(|a, b| older_build(a, b));
        let Some(newest) = newest else {
            return BTreeSet::new();
        };
        let other = |id: &&NodeId| build(id) != Some(newest);
        self.load.keys().filter(other).copied().collect()
    }

    /// How many slots each eligible node should have. Those that may not get more keep what they
    /// have if that is below the share, and the others divide the rest.
    pub(super) fn quotas(&self, also_frozen: &BTreeSet<NodeId>) -> BTreeMap<NodeId, usize> {
        let may_grow = |id: &NodeId| !self.frozen.contains(id) && !also_frozen.contains(id);
        let mut quotas = BTreeMap::new();
        let mut sharing: Vec<_> = self.load.iter().map(|(id, load)| (*id, *load)).collect();
        let mut left = usize::from(SLOT_COUNT);
        loop {
            let share = left / sharing.len().max(1);
            let (stuck, rest): (Vec<_>, Vec<_>) = sharing
                .into_iter()
                .partition(|(id, load)| !may_grow(id) && *load < share);
            sharing = rest;
            if stuck.is_empty() {
                break;
            }
            for (id, load) in stuck {
                quotas.insert(id, load);
                left -= load;
            }
        }
        let share = left / sharing.len().max(1);
        let seats = left % sharing.len().max(1);
        // Seats go to those who hold more already, then to those who may grow.
        sharing.sort_by_key(|(id, load)| (*load <= share, !may_grow(id), *id));
        for (index, (id, _)) in sharing.into_iter().enumerate() {
            quotas.insert(id, share + usize::from(index < seats));
        }
        // Who is frozen for this plan alone may be above its share and keep it: nothing leaves it.
        quotas
    }

    /// Finds a node for a slot and counts it there: below its quota, a holder of the slot's state
    /// before others, then by score. If all are full, an orphan goes to the node with the least, and
    /// so does what is of a node that is cut off: others even out what that one has too many.
    pub(super) fn place(
        &mut self,
        slot: SlotId,
        from: Option<NodeId>,
        quotas: &BTreeMap<NodeId, usize>,
    ) -> Option<Member> {
        let holders = &self.table.slot(slot).holders;
        let may = |id: NodeId| {
            !self.frozen.contains(&id)
                && from != Some(id)
                && from.is_none_or(|from| !self.conditions.resting.contains(&(from, id)))
        };
        let below = self
            .load
            .iter()
            .filter(|(id, load)| may(**id) && quotas.get(id).is_some_and(|quota| *load < quota));
        let best = below.max_by_key(|(id, _)| (holders.contains(id), score(slot, **id)));
        let least = || {
            let open = self.load.iter().filter(|(id, _)| may(**id));
            open.min_by_key(|(id, load)| (**load, **id))
                .filter(|_| from.is_none_or(|from| self.conditions.cut_off.contains(&from)))
        };
        let id = best.or_else(least).map(|(id, _)| *id)?;
        let member = self.table.member(id)?;
        self.load.entry(id).and_modify(|count| *count += 1);
        if let Some(count) = from.and_then(|from| self.load.get_mut(&from)) {
            *count = count.saturating_sub(1);
        }
        Some(member)
    }

    /// Slots of living nodes that should own none: they drain, are cut off, or no longer serve.
    pub(super) fn leaving(&self, urgent_only: bool) -> Vec<Spare> {
        let mut spares = Vec::new();
        for (from, slots) in self
            .still
            .iter()
            .filter(|(id, _)| !self.load.contains_key(id))
        {
            let drains = self
                .table
                .node(*from)
                .is_some_and(|node| node.state == NodeState::Draining);
            let urgent = drains || self.conditions.cut_off.contains(from);
            let reason = if drains {
                MoveReason::Drain
            } else {
                MoveReason::Rebalance
            };
            if urgent || !urgent_only {
                spares.extend(slots.iter().enumerate().map(|(rank, slot)| Spare {
                    slot: *slot,
                    from: *from,
                    reason,
                    urgent,
                    rank,
                }));
            }
        }
        spares
    }

    /// What eligible nodes have beyond their quota: of each the slots with its lowest scores.
    pub(super) fn surplus(&self, quotas: &BTreeMap<NodeId, usize>) -> Vec<Spare> {
        let mut spares = Vec::new();
        for (from, load) in &self.load {
            let over = load.saturating_sub(quotas.get(from).copied().unwrap_or_default());
            let Some(slots) = self.still.get(from).filter(|_| over > 0) else {
                continue;
            };
            let mut slots: Vec<_> = slots
                .iter()
                .map(|slot| (score(*slot, *from), *slot))
                .collect();
            slots.sort_unstable();
            spares.extend(
                slots
                    .into_iter()
                    .take(over)
                    .enumerate()
                    .map(|(rank, (_, slot))| Spare {
                        slot,
                        from: *from,
                        reason: MoveReason::Rebalance,
                        urgent: false,
                        rank,
                    }),
            );
        }
        spares
    }
}

/// How well a slot suits a node: the same everywhere.
fn score(slot: SlotId, node: NodeId) -> u64 {
    let [a, b] = slot.index().to_le_bytes();
    let [c, d, e, f] = node.0.to_le_bytes();
    xxh3_64(&[a, b, c, d, e, f])
}

/// The builds that are up, oldest first.
pub(super) fn builds(table: &Table) -> Vec<&str> {
    let up = table
        .nodes()
        .values()
        .filter(|node| node.state == NodeState::Up);
    let mut builds: Vec<_> = up.map(|node| node.build.as_str()).collect();
    builds.sort_by(|a, b| older_build(a, b));
    builds.dedup();
    builds
}

/// Orders builds as people read them: numbers by value, the rest by letter.
fn older_build(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let number = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (in_a, in_b) = (number(a), number(b));
        if in_a > 0 && in_b > 0 {
            let digits = |text: &[u8], count: usize| {
                let (digits, rest) = text.split_at(count);
                let zeros = digits.iter().take_while(|byte| **byte == b'0').count();
                (count - zeros, digits[zeros..].to_vec(), rest.len())
            };
            let (one, two) = (digits(a, in_a), digits(b, in_b));
            match (one.0, &one.1).cmp(&(two.0, &two.1)) {
                Ordering::Equal => (a, b) = (&a[in_a..], &b[in_b..]),
                unequal => return unequal,
            }
            continue;
        }
        match (a.split_first(), b.split_first()) {
            (Some((x, rest_a)), Some((y, rest_b))) if x == y => (a, b) = (rest_a, rest_b),
            (x, y) => return x.map(|(x, _)| x).cmp(&y.map(|(y, _)| y)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_are_ordered_as_people_read_them() {
        let order = ["0.9.0", "0.10.0", "1.0.0", "1.0.0+a", "1.0.02", "1.0.10"];
        for pair in order.windows(2) {
            assert_eq!(older_build(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(older_build(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
            assert_eq!(older_build(pair[0], pair[0]), Ordering::Equal);
        }
    }
}
