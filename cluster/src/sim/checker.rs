//! What must never happen, over a run.

use std::collections::BTreeMap;

use crate::{Member, OwnerEpoch, SlotId};

/// Watches who acts, and what is written.
#[derive(Debug, Default)]
pub(super) struct Checker {
    newest: BTreeMap<SlotId, (OwnerEpoch, Member)>,
    opened: BTreeMap<SlotId, OwnerEpoch>,
}

impl Checker {
    /// These processes may act for the slot at this instant.
    pub(super) fn acting(
        &mut self,
        slot: SlotId,
        actors: &[(Member, OwnerEpoch)],
    ) -> Option<String> {
        if actors.len() > 1 {
            return Some(format!("slot {slot}: {actors:?} act at once"));
        }
        let (member, epoch) = *actors.first()?;
        match self.newest.get(&slot) {
            Some((newest, by)) if epoch < *newest => {
                return Some(format!(
                    "slot {slot}: {member} acts at {epoch} after {by} at {newest}"
                ));
            }
            Some((newest, by)) if epoch == *newest && member != *by => {
                return Some(format!(
                    "slot {slot}: {member} and {by} both act at {epoch}"
                ));
            }
            _ => {}
        }
        self.newest.insert(slot, (epoch, member));
        None
    }

    pub(super) fn opened(&mut self, slot: SlotId, epoch: OwnerEpoch) {
        let opened = self.opened.entry(slot).or_insert(epoch);
        *opened = (*opened).max(epoch);
    }

    /// A write has reached a store that all nodes share.
    pub(super) fn written(&self, slot: SlotId, epoch: OwnerEpoch) -> Option<String> {
        let opened = self.opened.get(&slot).filter(|opened| epoch < **opened)?;
        Some(format!(
            "slot {slot}: a write of epoch {epoch} after {opened} was opened"
        ))
    }
}
