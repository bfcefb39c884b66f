//! Deltas, and the copy of the table that a node routes from.
//!
//! A delta carries the records that changed, whole, as they are at its end. So one that begins
//! before a copy and ends after it brings it forward just as well; one that begins after it leaves a
//! gap, and the node asks for the whole table.

use std::collections::{BTreeMap, VecDeque};

use super::{NodeRec, Settings, SlotRec, Table};
use crate::{Member, NodeId, Owner, OwnerEpoch, Rule, Rules, SLOT_COUNT, SlotId};

/// What changed between two versions of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The recovery of the cluster that it belongs to.
    pub recovery: u32,
    /// The version it begins at.
    pub from: u64,
    /// The version it ends at.
    pub to: u64,
    /// Slots that changed, as they are at its end.
    pub slots: Vec<(SlotId, SlotRec)>,
    /// Nodes that changed, as they are at its end.
    pub nodes: Vec<(NodeId, NodeRec)>,
    /// The settings, if they changed.
    pub settings: Option<Settings>,
}

impl Delta {
    /// This delta and the next as one; `None` if they do not meet.
    pub fn then(&self, next: &Self) -> Option<Self> {
        Self::all([self, next])
    }

    /// One delta after the other as one; `None` if there is none, or two do not meet.
    fn all<'d>(deltas: impl IntoIterator<Item = &'d Self>) -> Option<Self> {
        let mut deltas = deltas.into_iter();
        let first = deltas.next()?;
        let mut to = first.to;
        // Of each record the last one counts: only those are copied.
        let mut slots: BTreeMap<_, _> = by_id(&first.slots).collect();
        let mut nodes: BTreeMap<_, _> = by_id(&first.nodes).collect();
        let mut settings = first.settings.as_ref();
        for next in deltas {
            if to != next.from || first.recovery != next.recovery {
                return None;
            }
            to = next.to;
            slots.extend(by_id(&next.slots));
            nodes.extend(by_id(&next.nodes));
            settings = next.settings.as_ref().or(settings);
        }
        Some(Self {
            recovery: first.recovery,
            from: first.from,
            to,
            slots: copied(slots),
            nodes: copied(nodes),
            settings: settings.cloned(),
        })
    }
}

fn by_id<K: Copy, V>(records: &[(K, V)]) -> impl Iterator<Item = (K, &V)> {
    records.iter().map(|(id, record)| (*id, record))
}

fn copied<K, V: Clone>(records: BTreeMap<K, &V>) -> Vec<(K, V)> {
    let copied = |(id, record): (K, &V)| (id, record.clone());
    records.into_iter().map(copied).collect()
}

/// The latest deltas of a table, for those who watch it.
#[derive(Debug, Clone)]
pub struct History {
    deltas: VecDeque<Delta>,
    limit: usize,
}

impl History {
    /// Keeps at most this many deltas.
    pub const fn new(limit: usize) -> Self {
        Self {
            deltas: VecDeque::new(),
            limit,
        }
    }

    /// Adds the delta of an entry; one that does not meet the last starts anew.
    pub fn push(&mut self, delta: Delta) {
        if self.deltas.back().is_some_and(|last| last.to != delta.from) {
            self.deltas.clear();
        }
        self.deltas.push_back(delta);
        while self.deltas.len() > self.limit {
            self.deltas.pop_front();
        }
    }

    /// All that changed after this version, as one delta; `None` if it reaches further back than
    /// what is kept, or nothing has changed since.
    pub fn since(&self, version: u64) -> Option<Delta> {
        let first = self
            .deltas
            .binary_search_by_key(&version, |delta| delta.from)
            .ok()?;
        Delta::all(self.deltas.range(first..))
    }
}

/// What came of installing a whole table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Install {
    /// It is the node's table now.
    Installed,
    /// It is no newer than the node's own, which stays.
    NotNewer,
    /// It belongs to another cluster, or to this one before it was recovered.
    Foreign,
}

/// What came of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// The table is at its end now.
    Advanced,
    /// The table was there already.
    NotNewer,
    /// Something before it is missing: ask for the whole table.
    Gap,
    /// It belongs to this cluster before or after a recovery: ask for the whole table.
    Foreign,
}

/// A node's copy of the table. It never goes backwards (R9), and remembers the highest epoch it has
/// seen of every slot, from wherever it came.
#[derive(Debug, Clone)]
pub struct View {
    table: Table,
    seen: Vec<OwnerEpoch>,
    rules: Rules,
}

impl View {
    /// A copy that begins with this table.
    pub fn new(table: Table) -> Self {
        Self::with_rules(table, Rules::ALL)
    }

    /// The same, under these rules.
    pub fn with_rules(table: Table, rules: Rules) -> Self {
        let seen = table.slots.iter().map(|slot| slot.epoch).collect();
        Self { table, seen, rules }
    }

    /// The table as it is known here.
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// Takes over a whole table, if it is newer.
    pub fn install(&mut self, table: Table) -> Install {
        let (ours, theirs) = (&self.table.cluster, &table.cluster);
        if ours.id != theirs.id || theirs.recovery < ours.recovery {
            return Install::Foreign;
        }
        for (slot, rec) in table.slots() {
            self.saw(slot, rec.epoch);
        }
        if table.version <= self.table.version && self.rules.hold(Rule::NeverBackwards) {
            return Install::NotNewer;
        }
        self.table = table;
        Install::Installed
    }

    /// Goes forward by a delta.
    pub fn advance(&mut self, delta: &Delta) -> Advance {
        if delta.recovery != self.table.cluster.recovery {
            return Advance::Foreign;
        }
        for (slot, rec) in &delta.slots {
            self.saw(*slot, rec.epoch);
        }
        if delta.to <= self.table.version {
            return Advance::NotNewer;
        }
        if delta.from > self.table.version {
            return Advance::Gap;
        }
        for (slot, rec) in &delta.slots {
            if let Some(ours) = self.table.slots.get_mut(usize::from(slot.index())) {
                *ours = rec.clone();
            }
        }
        if !delta.nodes.is_empty() {
            self.table.nodes.extend(delta.nodes.iter().cloned());
        }
        if let Some(settings) = &delta.settings {
            self.table.settings = settings.clone();
        }
        self.table.version = delta.to;
        Advance::Advanced
    }

    /// Notes that a slot has reached this epoch, whoever said so.
    pub fn saw(&mut self, slot: SlotId, epoch: OwnerEpoch) {
        debug_assert_eq!(self.seen.len(), usize::from(SLOT_COUNT));
        if let Some(seen) = self.seen.get_mut(usize::from(slot.index())) {
            *seen = (*seen).max(epoch);
        }
    }

    /// The epoch at which this life of a node may act for the slot, as far as the table goes: it
    /// names that life, the life is not over, and no higher epoch of the slot was ever seen.
    pub fn epoch_of(&self, slot: SlotId, me: Member) -> Option<OwnerEpoch> {
        let rec = self.table.slot(slot);
        let newest = self
            .seen
            .get(usize::from(slot.index()))
            .is_some_and(|seen| *seen <= rec.epoch);
        let ours = rec.owner == Some(me) && self.table.is_living(me);
        let newest = newest || !self.rules.hold(Rule::NeverBackwards);
        (ours && newest).then_some(rec.epoch)
    }

    /// Who acts for a slot, seen from this life of a node: what an [`Ownership`] answers from. A slot
    /// that the table gives to it, but of which a higher epoch was seen, is vacant.
    ///
    /// [`Ownership`]: crate::Ownership
    pub fn owner(&self, slot: SlotId, me: Member) -> Owner {
        let rec = self.table.slot(slot);
        match rec.owner.filter(|owner| self.table.is_living(*owner)) {
            Some(owner) if owner == me => self
                .epoch_of(slot, me)
                .map_or(Owner::Vacant, |epoch| Owner::Here { epoch }),
            Some(owner) => Owner::Node {
                id: owner.id,
                epoch: rec.epoch,
            },
            None => Owner::Vacant,
        }
    }

    /// Whether this life of a node is over, as far as is known here: its replies are to be dropped.
    pub fn is_over(&self, member: Member) -> bool {
        self.table.is_over(member)
    }
}
