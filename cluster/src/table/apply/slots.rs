//! Commands about slots: grants and moves, taken item by item.

use super::Change;
use crate::table::{Completion, Grant, Move, MoveAbort, MoveId, MoveReason, MoveStart, SlotRec};
use crate::{OwnerEpoch, Rule, SlotId};

impl Change<'_> {
    pub(super) fn grant(&mut self, grants: &[Grant]) -> usize {
        let mut changed = 0;
        for grant in grants {
            let fits = self.table.is_orphan(grant.slot) && self.table.is_up(grant.to);
            let Some(slot) = self.table.slots.get_mut(usize::from(grant.slot.index())) else {
                continue;
            };
            let next = slot.epoch.0.checked_add(1).map(OwnerEpoch);
            if let Some(next) = next.filter(|_| fits && slot.epoch == grant.expect_epoch) {
                slot.owner = Some(grant.to);
                slot.epoch = next;
                slot.via = None;
                slot.moving = None;
                self.slots.insert(grant.slot);
                changed += 1;
            }
        }
        changed
    }

    pub(super) fn begin(&mut self, moves: &[MoveStart], reason: MoveReason, id: MoveId) -> usize {
        let mut changed = 0;
        for start in moves {
            let fits = !self.table.is_orphan(start.slot) && self.table.is_up(start.to);
            let Some(slot) = self.table.slots.get_mut(usize::from(start.slot.index())) else {
                continue;
            };
            let elsewhere = slot.owner.is_some_and(|owner| owner != start.to);
            if fits && elsewhere && slot.moving.is_none() && slot.epoch == start.expect_epoch {
                slot.moving = Some(Move {
                    id,
                    to: start.to,
                    reason,
                });
                self.slots.insert(start.slot);
                changed += 1;
            }
        }
        changed
    }

    pub(super) fn complete(&mut self, moves: &[Completion]) -> usize {
        let mut changed = 0;
        for done in moves {
            let Some(slot) = self.table.slots.get_mut(usize::from(done.slot.index())) else {
                continue;
            };
            let Some(moving) = slot.moving else { continue };
            let matches = moving.id == done.id && slot.epoch == done.epoch;
            if !matches && self.rules.hold(Rule::MoveStepsMatch) {
                continue;
            }
            let Some(next) = slot.epoch.0.checked_add(1) else {
                continue;
            };
            slot.owner = Some(moving.to);
            slot.epoch = OwnerEpoch(next);
            slot.via = Some(moving.id);
            slot.moving = None;
            self.slots.insert(done.slot);
            changed += 1;
        }
        changed
    }

    pub(super) fn abort(&mut self, moves: &[MoveAbort]) -> usize {
        let mut changed = 0;
        for abort in moves {
            let Some(slot) = self.table.slots.get_mut(usize::from(abort.slot.index())) else {
                continue;
            };
            if slot.moving.is_some_and(|moving| moving.id == abort.id) {
                slot.moving = None;
                self.slots.insert(abort.slot);
                changed += 1;
            }
        }
        changed
    }

    pub(super) fn abort_where(&mut self, which: impl Fn(&SlotRec) -> bool) {
        self.each_slot(|slot| {
            let hit = which(slot);
            if hit {
                slot.moving = None;
            }
            hit
        });
    }

    /// Runs over all slots, and keeps and notes those that it says it has changed.
    pub(super) fn each_slot(&mut self, mut change: impl FnMut(&mut SlotRec) -> bool) {
        for id in SlotId::all() {
            let mut rec = self.table.slot(id).clone();
            if change(&mut rec)
                && let Some(slot) = self.table.slots.get_mut(usize::from(id.index()))
            {
                *slot = rec;
                self.slots.insert(id);
            }
        }
    }
}
