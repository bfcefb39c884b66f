//! The source of moves: closes a slot, lets its started events finish, sends its values, releases it.
//!
//! A slot whose values were sent stays here too until the table says that the move is complete: an
//! abort goes on with them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{AbortWanted, GiveUp, HandoffConfig, Prepared, Received, Released, STEP_AGAIN};
use crate::admin::MoveStep;
use crate::{Member, Move, MoveId, MoveReason, OwnerEpoch, Rule, Rules, SlotId, Table};

/// What is to be done at the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEffect {
    /// Admit nothing more for the slot and bounce what has not started, naming the target; then say
    /// how much is left, by [`Source::closed`].
    Close {
        /// Which slot.
        slot: SlotId,
        /// The move.
        to: Move,
    },
    /// Send the slot's values to the target. What it had sent before is superseded.
    SendValues {
        /// Which slot.
        slot: SlotId,
        /// The move.
        to: Move,
    },
    /// Drop the slot's started events; they are answered unavailable and counted apart.
    Cut {
        /// Which slot.
        slot: SlotId,
    },
    /// The node no longer acts for the slot. Take it out of the tenure before anything is sent.
    LetGo {
        /// Which slot.
        slot: SlotId,
        /// At which epoch.
        epoch: OwnerEpoch,
    },
    /// Tell the leader.
    Release(Vec<Released>),
    /// Ask the leader to abort.
    WantAbort(AbortWanted),
    /// The move was aborted: take the slot back into the tenure, and admit events again.
    Reopen {
        /// Which slot.
        slot: SlotId,
        /// At which epoch.
        epoch: OwnerEpoch,
    },
    /// The move is complete, or the slot is lost: values that were kept for an abort can go.
    Forget {
        /// Which slot.
        slot: SlotId,
    },
}

/// What is going on in a slot, as its shard says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// No lane, no stored value, no open stream.
    pub empty: bool,
    /// How long its longest running event has run.
    pub longest: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Open as ever.
    Waiting { prepared: bool },
    /// Admits nothing; the shard has not said yet what is left.
    Closing,
    /// Started events run on.
    Finishing { values: bool, cut: bool },
    /// The target has not said yet that it has all values.
    Sending { again: Duration },
    /// The leader was told.
    Released { again: Duration },
}

#[derive(Debug, Clone, Copy)]
struct Outgoing {
    to: Move,
    epoch: OwnerEpoch,
    since: Duration,
    closed: Option<Duration>,
    /// Whether it counts against the limit of closed slots.
    counted: bool,
    stage: Stage,
    asked: Option<Duration>,
}

/// All moves away from one life of a node.
#[derive(Debug, Clone)]
pub struct Source {
    me: Member,
    config: HandoffConfig,
    rules: Rules,
    moves: BTreeMap<SlotId, Outgoing>,
    collected: Vec<Released>,
    collecting_since: Option<Duration>,
}

impl Source {
    /// No moves yet.
    pub const fn new(me: Member, config: HandoffConfig) -> Self {
        Self::with_rules(me, config, Rules::ALL)
    }

    /// The same, under these rules.
    pub const fn with_rules(me: Member, config: HandoffConfig, rules: Rules) -> Self {
        Self {
            me,
            config,
            rules,
            moves: BTreeMap::new(),
            collected: Vec::new(),
            collecting_since: None,
        }
    }

    /// How many slots are closed, for the next heartbeat.
    pub fn closed_count(&self) -> u16 {
        let closed = self
            .moves
            .values()
            .filter(|going| going.closed.is_some())
            .count();
        u16::try_from(closed).unwrap_or(u16::MAX)
    }

    /// How many slots that are not empty may be closed at once: a drain lifts it near its end.
    pub const fn limit_closed(&mut self, limit: usize) {
        self.config.closed_limit = limit;
    }

    /// The move that keeps a slot shut, for the answer to events that come for it.
    pub fn shut_for(&self, slot: SlotId) -> Option<Move> {
        self.moves
            .get(&slot)
            .filter(|going| going.closed.is_some())
            .map(|going| going.to)
    }

    /// How far each move is.
    pub fn steps(&self) -> impl Iterator<Item = (SlotId, MoveId, MoveStep)> {
        self.moves.iter().map(|(slot, going)| {
            let step = match going.stage {
                Stage::Waiting { prepared: false } => MoveStep::Preparing,
                Stage::Waiting { prepared: true } => MoveStep::Waiting,
                Stage::Closing | Stage::Finishing { .. } => MoveStep::Finishing,
                Stage::Sending { .. } => MoveStep::Sending,
                Stage::Released { .. } => MoveStep::Released,
            };
            (*slot, going.to.id, step)
        })
    }

    /// How many moves are how far.
    pub fn progress(&self) -> BTreeMap<MoveStep, usize> {
        let mut progress = BTreeMap::new();
        for (_, _, step) in self.steps() {
            *progress.entry(step).or_default() += 1;
        }
        progress
    }

    /// The table has changed in these slots.
    pub fn table(
        &mut self,
        table: &Table,
        changed: impl IntoIterator<Item = SlotId>,
        now: Duration,
    ) -> Vec<SourceEffect> {
        let mut effects = Vec::new();
        for slot in changed {
            let rec = table.slot(slot);
            let ours = rec.owner == Some(self.me);
            let wanted = rec.moving.filter(|_| ours);
            let current = self.moves.get(&slot).copied();
            if let Some(going) = current {
                let same =
                    wanted.is_some_and(|to| to.id == going.to.id) && rec.epoch == going.epoch;
                if same {
                    continue;
                }
                self.moves.remove(&slot);
                self.collected.retain(|released| released.slot != slot);
                if ours && rec.epoch == going.epoch {
                    if going.closed.is_some() {
                        effects.push(SourceEffect::Reopen {
                            slot,
                            epoch: going.epoch,
                        });
                    }
                } else {
                    effects.push(SourceEffect::Forget { slot });
                }
            }
            if let Some(to) = wanted {
                let going = Outgoing {
                    to,
                    epoch: rec.epoch,
                    since: now,
                    closed: None,
                    counted: false,
                    stage: Stage::Waiting { prepared: false },
                    asked: None,
                };
                self.moves.insert(slot, going);
            }
        }
        effects
    }

    /// The target is ready.
    pub fn prepared(&mut self, from: Member, step: Prepared) {
        let rules = self.rules;
        if let Some(going) = self.moves.get_mut(&step.slot)
            && let Stage::Waiting { prepared } = &mut going.stage
            && going.to.to == from
            && ((going.epoch == step.epoch && going.to.id == step.id)
                || !rules.hold(Rule::MoveStepsMatch))
        {
            *prepared = true;
        }
    }

    /// The shard has closed a slot: so many events still run, and there are values to send or not.
    pub fn closed(
        &mut self,
        slot: SlotId,
        started: usize,
        values: bool,
        now: Duration,
    ) -> Vec<SourceEffect> {
        let mut effects = Vec::new();
        if let Some(going) = self.moves.get_mut(&slot)
            && going.stage == Stage::Closing
        {
            going.stage = Stage::Finishing { values, cut: false };
            if started == 0 {
                self.finished(slot, now, &mut effects);
            }
        }
        effects
    }

    /// The last started event of a closed slot is over: there are values to send or not. It may have
    /// been the one that has made them.
    pub fn idle(&mut self, slot: SlotId, values: bool, now: Duration) -> Vec<SourceEffect> {
        let mut effects = Vec::new();
        let going = self.moves.get_mut(&slot);
        if let Some(Stage::Finishing { values: known, .. }) = going.map(|it| &mut it.stage) {
            *known = values;
        }
        self.finished(slot, now, &mut effects);
        effects
    }

    fn finished(&mut self, slot: SlotId, now: Duration, effects: &mut Vec<SourceEffect>) {
        let Some(going) = self.moves.get_mut(&slot) else {
            return;
        };
        match going.stage {
            Stage::Finishing { values: true, .. } => {
                going.stage = Stage::Sending {
                    again: now + STEP_AGAIN,
                };
                effects.push(SourceEffect::SendValues { slot, to: going.to });
            }
            Stage::Finishing { values: false, .. } => self.release(slot, now, effects),
            _ => {}
        }
    }

    /// The target has all values.
    pub fn received(&mut self, from: Member, step: Received, now: Duration) -> Vec<SourceEffect> {
        let mut effects = Vec::new();
        let rules = self.rules;
        let fits = self.moves.get(&step.slot).is_some_and(|going| {
            matches!(going.stage, Stage::Sending { .. })
                && going.to.to == from
                && (going.to.id == step.id || !rules.hold(Rule::MoveStepsMatch))
        });
        if fits {
            self.release(step.slot, now, &mut effects);
        }
        effects
    }

    fn release(&mut self, slot: SlotId, now: Duration, effects: &mut Vec<SourceEffect>) {
        let Some(going) = self.moves.get_mut(&slot) else {
            return;
        };
        going.stage = Stage::Released {
            again: now + STEP_AGAIN,
        };
        effects.push(SourceEffect::LetGo {
            slot,
            epoch: going.epoch,
        });
        self.collected.push(Released {
            slot,
            id: going.to.id,
            epoch: going.epoch,
        });
        self.collecting_since.get_or_insert(now);
    }

    /// There is a new leader: what was released is said again at once, and what is wanted by the
    /// next tick.
    pub fn new_leader(&mut self, now: Duration) -> Vec<SourceEffect> {
        let mut all = Vec::new();
        for (slot, going) in &mut self.moves {
            going.asked = None;
            if let Stage::Released { again } = &mut going.stage {
                *again = now + STEP_AGAIN;
                all.push(Released {
                    slot: *slot,
                    id: going.to.id,
                    epoch: going.epoch,
                });
            }
        }
        if all.is_empty() {
            Vec::new()
        } else {
            vec![SourceEffect::Release(all)]
        }
    }

    /// The target cannot take the values. Until the table speaks the slot stays shut, and they are
    /// sent again from time to time.
    pub fn refused(&mut self, slot: SlotId, id: MoveId, now: Duration) -> Vec<SourceEffect> {
        let mut effects = Vec::new();
        if let Some(going) = self.moves.get_mut(&slot)
            && going.to.id == id
            && matches!(going.stage, Stage::Sending { .. })
        {
            want_abort(slot, going, GiveUp::Refused, now, &mut effects);
        }
        effects
    }

    /// Time has passed. `load` says what is going on in a slot that is still open; `None`: it is not
    /// open yet, and its own values may not be in place. Such a slot is never closed.
    pub fn tick(
        &mut self,
        now: Duration,
        load: impl Fn(SlotId) -> Option<Load>,
    ) -> Vec<SourceEffect> {
        let mut effects = Vec::new();
        let counted = |going: &&Outgoing| going.counted && going.closed.is_some();
        let mut busy = self.moves.values().filter(counted).count();
        let limit = self.config.closed_limit;
        let config = self.config;
        for (slot, going) in &mut self.moves {
            let slot = *slot;
            if let Stage::Waiting { prepared } = going.stage {
                let drains = going.to.reason == MoveReason::Drain;
                let tired = now.saturating_sub(going.since) >= config.prepare_timeout;
                let Some(load) = load(slot) else {
                    if tired && !drains {
                        want_abort(slot, going, GiveUp::NotOpen, now, &mut effects);
                    }
                    continue;
                };
                let ready = load.empty || prepared;
                let calm = load.longest <= config.long_event || (tired && drains);
                if ready && calm && (load.empty || busy < limit) {
                    going.closed = Some(now);
                    going.counted = !load.empty;
                    going.stage = Stage::Closing;
                    going.asked = None;
                    busy += usize::from(!load.empty);
                    effects.push(SourceEffect::Close { slot, to: going.to });
                } else if tired && !ready {
                    want_abort(slot, going, GiveUp::NotPrepared, now, &mut effects);
                } else if tired && !calm {
                    want_abort(slot, going, GiveUp::LongEvents, now, &mut effects);
                }
                continue;
            }
            let closed_for = going
                .closed
                .map_or(Duration::ZERO, |closed| now.saturating_sub(closed));
            if going.to.reason != MoveReason::Drain
                && still_closing(going)
                && closed_for >= config.closed_timeout
            {
                want_abort(slot, going, GiveUp::ClosedTooLong, now, &mut effects);
            }
            match &mut going.stage {
                Stage::Finishing { cut, .. } => {
                    let over = closed_for >= config.release_timeout;
                    if over && !*cut && going.to.reason == MoveReason::Drain {
                        *cut = true;
                        effects.push(SourceEffect::Cut { slot });
                    }
                }
                Stage::Sending { again } if now >= *again => {
                    *again = now + STEP_AGAIN;
                    effects.push(SourceEffect::SendValues { slot, to: going.to });
                }
                Stage::Released { again } if now >= *again => {
                    *again = now + STEP_AGAIN;
                    self.collected.push(Released {
                        slot,
                        id: going.to.id,
                        epoch: going.epoch,
                    });
                    self.collecting_since.get_or_insert(now);
                }
                _ => {}
            }
        }
        if self
            .collecting_since
            .is_some_and(|since| now.saturating_sub(since) >= config.collect)
        {
            self.collecting_since = None;
            let mut all = std::mem::take(&mut self.collected);
            all.sort_unstable_by_key(|released| (released.slot, released.id));
            all.dedup();
            if !all.is_empty() {
                effects.push(SourceEffect::Release(all));
            }
        }
        effects
    }
}

/// Whether the slot is closed and not released yet.
const fn still_closing(going: &Outgoing) -> bool {
    matches!(
        going.stage,
        Stage::Closing | Stage::Finishing { .. } | Stage::Sending { .. }
    )
}

fn want_abort(
    slot: SlotId,
    going: &mut Outgoing,
    why: GiveUp,
    now: Duration,
    effects: &mut Vec<SourceEffect>,
) {
    let due = going
        .asked
        .is_none_or(|asked| now.saturating_sub(asked) >= STEP_AGAIN);
    if due {
        going.asked = Some(now);
        let Outgoing { to, epoch, .. } = going;
        effects.push(SourceEffect::WantAbort(AbortWanted {
            slot,
            id: to.id,
            epoch: *epoch,
            why,
        }));
    }
}
