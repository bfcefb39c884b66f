//! What the table and the lease mean for the slots of a node: which of them it fences, opens,
//! suspends, drops.
//!
//! A slot opens when three things hold (R7): the table names this life of the node, its lease is
//! valid, the store has accepted the fence. A lapse suspends and drops nothing (R6). Another owner,
//! a newer epoch or the end of this life drops.

use std::collections::BTreeMap;

use crate::{Member, MoveId, OwnerEpoch, Rule, Rules, SlotId, View};

/// Why a slot is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The table names another owner, or none, or a newer epoch.
    Table,
    /// The store has accepted a fence of a newer epoch.
    Fenced,
    /// This life of the node is over.
    Dead,
    /// The lease lapsed. Never under the rules.
    Lapsed,
}

/// What is to be done with slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenureEffect {
    /// The slot is this node's, but its lease is over: events of it wait, as for one that opens.
    Named {
        /// Which slot.
        slot: SlotId,
        /// At which epoch.
        epoch: OwnerEpoch,
    },
    /// Raise the slot's epoch in the store, then say how that went.
    Fence {
        /// Which slot.
        slot: SlotId,
        /// To this epoch.
        epoch: OwnerEpoch,
    },
    /// Admit events of the slot.
    Open {
        /// Which slot.
        slot: SlotId,
        /// Under this epoch.
        epoch: OwnerEpoch,
        /// The move that brought it, whose values are to be installed first; `None`: it starts anew.
        via: Option<MoveId>,
    },
    /// Nothing leaves any slot until `Resume`; lanes and values stay.
    Suspend,
    /// Slots go on where they were.
    Resume,
    /// Lanes and values are gone; what had started is answered unavailable, the rest bounced.
    Drop {
        /// Which slot.
        slot: SlotId,
        /// The epoch that it was held at.
        epoch: OwnerEpoch,
        /// Why.
        why: DropReason,
    },
    /// A higher epoch than the table's was seen: note it in the [`View`].
    Saw {
        /// Of which slot.
        slot: SlotId,
        /// Which epoch.
        epoch: OwnerEpoch,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The table names us.
    Named,
    /// The store was asked.
    Fencing,
    /// The store has agreed, but the lease was over by then.
    Fenced,
    /// Events are admitted.
    Open,
    /// The leader was told that we let go of it; waits for the table's word. Was it open?
    Released { open: bool },
}

#[derive(Debug, Clone, Copy)]
struct Held {
    epoch: OwnerEpoch,
    via: Option<MoveId>,
    stage: Stage,
}

/// The slots of one life of a node.
#[derive(Debug, Clone)]
pub struct Tenure {
    me: Member,
    rules: Rules,
    slots: BTreeMap<SlotId, Held>,
    valid: bool,
}

impl Tenure {
    /// No slots yet, no lease yet.
    pub const fn new(me: Member) -> Self {
        Self::with_rules(me, Rules::ALL)
    }

    /// The same, under these rules.
    pub const fn with_rules(me: Member, rules: Rules) -> Self {
        Self {
            me,
            rules,
            slots: BTreeMap::new(),
            valid: false,
        }
    }

    /// The epoch at which the node acts for a slot, if it may. `valid` is what its [`Holder`] says
    /// at this very moment.
    ///
    /// [`Holder`]: super::Holder
    pub fn acts_for(&self, slot: SlotId, valid: bool) -> Option<OwnerEpoch> {
        let held = self
            .slots
            .get(&slot)
            .filter(|held| held.stage == Stage::Open)?;
        (valid || !self.rules.hold(Rule::SuspendedIsSilent)).then_some(held.epoch)
    }

    /// Slots that are open, suspended or not, in order, with their epochs.
    pub fn open(&self) -> impl Iterator<Item = (SlotId, OwnerEpoch)> {
        let open = self
            .slots
            .iter()
            .filter(|(_, held)| held.stage == Stage::Open);
        open.map(|(slot, held)| (*slot, held.epoch))
    }

    /// The table has changed in these slots, or in who lives.
    pub fn table(
        &mut self,
        view: &View,
        changed: impl IntoIterator<Item = SlotId>,
    ) -> Vec<TenureEffect> {
        let mut effects = Vec::new();
        for slot in changed {
            let named = view.epoch_of(slot, self.me);
            let held = self.slots.get(&slot).copied();
            if held.map(|held| held.epoch) == named {
                continue;
            }
            if let Some(held) = held {
                self.slots.remove(&slot);
                effects.push(TenureEffect::Drop {
                    slot,
                    epoch: held.epoch,
                    why: DropReason::Table,
                });
            }
            if let Some(epoch) = named {
                let via = view.table().slot(slot).via;
                self.slots.insert(
                    slot,
                    Held {
                        epoch,
                        via,
                        stage: Stage::Named,
                    },
                );
                self.go_on(slot, &mut effects);
            }
        }
        effects
    }

    /// The lease has become valid, or has lapsed.
    pub fn lease(&mut self, valid: bool) -> Vec<TenureEffect> {
        let mut effects = Vec::new();
        if valid == self.valid {
            return effects;
        }
        self.valid = valid;
        if valid {
            effects.push(TenureEffect::Resume);
            for slot in self.slots.keys().copied().collect::<Vec<_>>() {
                self.go_on(slot, &mut effects);
            }
        } else if self.rules.hold(Rule::LapseSuspends) {
            effects.push(TenureEffect::Suspend);
        } else {
            self.drop_all(DropReason::Lapsed, &mut effects);
        }
        effects
    }

    /// The store has answered: it accepted the fence, or knows of a higher epoch.
    pub fn fenced(
        &mut self,
        slot: SlotId,
        epoch: OwnerEpoch,
        answer: Result<(), OwnerEpoch>,
    ) -> Vec<TenureEffect> {
        let mut effects = Vec::new();
        let Some(held) = self.slots.get_mut(&slot) else {
            return effects;
        };
        if held.epoch != epoch || held.stage != Stage::Fencing {
            return effects;
        }
        match answer {
            Ok(()) => {
                held.stage = Stage::Fenced;
                self.go_on(slot, &mut effects);
            }
            Err(higher) => {
                self.slots.remove(&slot);
                effects.push(TenureEffect::Saw {
                    slot,
                    epoch: higher,
                });
                effects.push(TenureEffect::Drop {
                    slot,
                    epoch,
                    why: DropReason::Fenced,
                });
            }
        }
        effects
    }

    /// The slot is let go for a move: the node does not act for it, nor opens it, until the move is
    /// aborted. Says whether it was held at this epoch.
    pub fn release(&mut self, slot: SlotId, epoch: OwnerEpoch) -> bool {
        match self.slots.get_mut(&slot).filter(|held| held.epoch == epoch) {
            Some(held) => {
                if !matches!(held.stage, Stage::Released { .. }) {
                    held.stage = Stage::Released {
                        open: held.stage == Stage::Open,
                    };
                }
                true
            }
            None => false,
        }
    }

    /// The move was aborted: the node acts for the slot again, at the same epoch.
    pub fn take_back(&mut self, slot: SlotId, epoch: OwnerEpoch) -> Vec<TenureEffect> {
        let mut effects = Vec::new();
        if let Some(held) = self.slots.get_mut(&slot).filter(|held| held.epoch == epoch)
            && let Stage::Released { open } = held.stage
        {
            held.stage = if open { Stage::Open } else { Stage::Named };
            self.go_on(slot, &mut effects);
        }
        effects
    }

    /// This life of the node is over.
    pub fn dead(&mut self) -> Vec<TenureEffect> {
        let mut effects = Vec::new();
        self.valid = false;
        self.drop_all(DropReason::Dead, &mut effects);
        effects
    }

    fn drop_all(&mut self, why: DropReason, effects: &mut Vec<TenureEffect>) {
        for (slot, held) in std::mem::take(&mut self.slots) {
            effects.push(TenureEffect::Drop {
                slot,
                epoch: held.epoch,
                why,
            });
        }
    }

    /// Takes the next step towards an open slot, if the lease allows it.
    fn go_on(&mut self, slot: SlotId, effects: &mut Vec<TenureEffect>) {
        let Some(held) = self.slots.get_mut(&slot) else {
            return;
        };
        let epoch = held.epoch;
        if !self.valid {
            if held.stage == Stage::Named {
                effects.push(TenureEffect::Named { slot, epoch });
            }
            return;
        }
        let unfenced = !self.rules.hold(Rule::FenceBeforeOpen);
        match held.stage {
            Stage::Named if !unfenced => {
                held.stage = Stage::Fencing;
                effects.push(TenureEffect::Fence { slot, epoch });
            }
            Stage::Named | Stage::Fenced => {
                held.stage = Stage::Open;
                effects.push(TenureEffect::Open {
                    slot,
                    epoch,
                    via: held.via,
                });
            }
            Stage::Fencing | Stage::Open | Stage::Released { .. } => {}
        }
    }
}
