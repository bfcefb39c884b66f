//! The target of moves: says that it is ready, keeps the values that come, and hands them over if,
//! and only if, the table says that this very move is complete.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Prepared, Received, STEP_AGAIN};
use crate::{Member, MoveId, OwnerEpoch, Rule, Rules, SlotId, Table};

/// What is to be done at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetEffect {
    /// Tell the source that the slot can come.
    Prepared {
        /// The source.
        to: Member,
        /// The step.
        step: Prepared,
    },
    /// Keep these values, instead of any that came before for this move.
    Keep {
        /// Which slot.
        slot: SlotId,
        /// Which move.
        id: MoveId,
    },
    /// Tell the source that its values are here.
    Received {
        /// The source.
        to: Member,
        /// The step.
        step: Received,
    },
    /// Drop the values of a move that came to nothing.
    Discard {
        /// Which slot.
        slot: SlotId,
        /// Which move.
        id: MoveId,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Prepared is said from time to time; first as soon as the source can be reached.
    Preparing { again: Duration },
    /// The values are here.
    Kept,
    /// The table says that the move is complete: they wait to be installed.
    Complete,
}

#[derive(Debug, Clone, Copy)]
struct Incoming {
    from: Member,
    id: MoveId,
    epoch: OwnerEpoch,
    stage: Stage,
}

/// All moves towards one life of a node.
#[derive(Debug, Clone)]
pub struct Target {
    me: Member,
    rules: Rules,
    moves: BTreeMap<SlotId, Incoming>,
}

impl Target {
    /// No moves yet.
    pub const fn new(me: Member) -> Self {
        Self::with_rules(me, Rules::ALL)
    }

    /// The same, under these rules.
    pub const fn with_rules(me: Member, rules: Rules) -> Self {
        Self {
            me,
            rules,
            moves: BTreeMap::new(),
        }
    }

    /// The table has changed in these slots. Tell the target before the tenure, whose `Open` asks
    /// for the values.
    pub fn table(
        &mut self,
        table: &Table,
        changed: impl IntoIterator<Item = SlotId>,
        now: Duration,
    ) -> Vec<TargetEffect> {
        let mut effects = Vec::new();
        for slot in changed {
            let rec = table.slot(slot);
            let wanted = rec
                .moving
                .filter(|moving| moving.to == self.me)
                .zip(rec.owner);
            if let Some(coming) = self.moves.get_mut(&slot) {
                if wanted.is_some_and(|(moving, _)| moving.id == coming.id)
                    && rec.epoch == coming.epoch
                {
                    continue;
                }
                let complete = rec.owner == Some(self.me) && rec.via == Some(coming.id);
                if complete && coming.stage == Stage::Kept {
                    coming.stage = Stage::Complete;
                }
                if complete && coming.stage == Stage::Complete {
                    continue;
                }
                if coming.stage == Stage::Kept || coming.stage == Stage::Complete {
                    effects.push(TargetEffect::Discard {
                        slot,
                        id: coming.id,
                    });
                }
                self.moves.remove(&slot);
            }
            if let Some((moving, from)) = wanted {
                let stage = Stage::Preparing { again: now };
                self.moves.insert(
                    slot,
                    Incoming {
                        from,
                        id: moving.id,
                        epoch: rec.epoch,
                        stage,
                    },
                );
            }
        }
        effects
    }

    /// All values of a slot have come from its source.
    pub fn values(&mut self, from: Member, slot: SlotId, id: MoveId) -> Vec<TargetEffect> {
        let Some(coming) = self.moves.get_mut(&slot) else {
            return Vec::new();
        };
        let fits = coming.from == from
            && (coming.id == id || !self.rules.hold(Rule::MoveStepsMatch))
            && coming.stage != Stage::Complete;
        if !fits {
            return Vec::new();
        }
        coming.stage = Stage::Kept;
        let step = Received {
            slot,
            id: coming.id,
        };
        vec![
            TargetEffect::Keep {
                slot,
                id: coming.id,
            },
            TargetEffect::Received { to: from, step },
        ]
    }

    /// The slot opens, brought by this move: whether values of it were kept, which are to be
    /// installed now. A grant brings none.
    pub fn take(&mut self, slot: SlotId, via: Option<MoveId>) -> bool {
        match self.moves.get(&slot) {
            Some(coming) if coming.stage == Stage::Complete && via == Some(coming.id) => {
                self.moves.remove(&slot);
                true
            }
            _ => false,
        }
    }

    /// Time has passed. `ready` says whether a source can be reached and the slot's shard is built.
    pub fn tick(
        &mut self,
        now: Duration,
        ready: impl Fn(Member, SlotId) -> bool,
    ) -> Vec<TargetEffect> {
        let mut effects = Vec::new();
        for (slot, coming) in &mut self.moves {
            if let Stage::Preparing { again } = &mut coming.stage
                && now >= *again
                && ready(coming.from, *slot)
            {
                *again = now + STEP_AGAIN;
                let step = Prepared {
                    slot: *slot,
                    id: coming.id,
                    epoch: coming.epoch,
                };
                effects.push(TargetEffect::Prepared {
                    to: coming.from,
                    step,
                });
            }
        }
        effects
    }
}
