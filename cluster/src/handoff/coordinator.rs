//! The leader's part in moves: it takes the word of sources, and gives up on those that keep slots
//! closed and say nothing.
//!
//! It knows nothing but the table and what it hears, so that a new leader goes on at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{AbortWanted, GiveUp, HandoffConfig, Released, STEP_AGAIN};
use crate::{
    Command, Completion, Member, MoveAbort, MoveId, MoveReason, NodeId, Rule, Rules, SlotId, Table,
};

/// What the leader does about moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoordinatorEffect {
    /// Propose this.
    Propose(Command),
    /// A move from one node to another came to nothing: the pair rests.
    Failed {
        /// The source.
        from: NodeId,
        /// The target.
        to: NodeId,
    },
    /// A move from one node to another is complete.
    Completed {
        /// The source.
        from: NodeId,
        /// The target.
        to: NodeId,
    },
}

#[derive(Debug, Clone, Copy)]
struct Open {
    from: Member,
    to: Member,
    id: MoveId,
    reason: MoveReason,
}

/// The leader's part in moves, in one leadership.
#[derive(Debug, Clone)]
pub struct Coordinator {
    config: HandoffConfig,
    rules: Rules,
    open: BTreeMap<SlotId, Open>,
    /// When each source with open moves last released something, or began to have some.
    heard: BTreeMap<Member, Duration>,
    closed: BTreeMap<NodeId, u16>,
    /// Moves that were proposed to be completed or aborted, and when.
    proposed: BTreeMap<(SlotId, MoveId), Duration>,
}

impl Coordinator {
    /// The start of a leadership.
    pub fn new(config: HandoffConfig, table: &Table, now: Duration) -> Self {
        Self::with_rules(config, table, now, Rules::ALL)
    }

    /// The same, under these rules.
    pub fn with_rules(config: HandoffConfig, table: &Table, now: Duration, rules: Rules) -> Self {
        let mut coordinator = Self {
            config,
            rules,
            open: BTreeMap::new(),
            heard: BTreeMap::new(),
            closed: BTreeMap::new(),
            proposed: BTreeMap::new(),
        };
        coordinator.table(table, SlotId::all(), now);
        coordinator
    }

    /// How many moves are open.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// The table has changed in these slots.
    pub fn table(
        &mut self,
        table: &Table,
        changed: impl IntoIterator<Item = SlotId>,
        now: Duration,
    ) -> Vec<CoordinatorEffect> {
        let mut effects = Vec::new();
        for slot in changed {
            let rec = table.slot(slot);
            let moving = rec.moving.zip(rec.owner);
            if let Some(open) = self.open.get(&slot).copied() {
                if moving.is_some_and(|(moving, _)| moving.id == open.id) {
                    continue;
                }
                let (from, to) = (open.from.id, open.to.id);
                effects.push(if rec.via == Some(open.id) {
                    CoordinatorEffect::Completed { from, to }
                } else {
                    CoordinatorEffect::Failed { from, to }
                });
                self.open.remove(&slot);
                self.proposed.remove(&(slot, open.id));
            }
            if let Some((moving, from)) = moving {
                let open = Open {
                    from,
                    to: moving.to,
                    id: moving.id,
                    reason: moving.reason,
                };
                self.open.insert(slot, open);
                self.heard.entry(from).or_insert(now);
            }
        }
        let sources: BTreeSet<_> = self.open.values().map(|open| open.from).collect();
        self.heard.retain(|member, _| sources.contains(member));
        effects
    }

    /// How many slots each node says it has closed.
    pub fn closed(&mut self, node: NodeId, closed: u16, now: Duration) {
        let before = self.closed.insert(node, closed).unwrap_or_default();
        if before == 0 && closed > 0 {
            // Its silence counts from the moment it has something to say.
            self.heard
                .iter_mut()
                .filter(|(member, _)| member.id == node)
                .for_each(|(_, at)| *at = now);
        }
    }

    /// A source has released slots. What does not fit the table is left out.
    pub fn released(
        &mut self,
        from: Member,
        slots: &[Released],
        table: &Table,
        now: Duration,
    ) -> Vec<CoordinatorEffect> {
        let mut moves = Vec::new();
        for step in slots {
            let rec = table.slot(step.slot);
            let Some(moving) = rec.moving else { continue };
            let matches =
                moving.id == step.id && rec.epoch == step.epoch && rec.owner == Some(from);
            let step = if matches {
                *step
            } else if self.rules.hold(Rule::MoveStepsMatch) {
                continue;
            } else {
                Completion {
                    slot: step.slot,
                    id: moving.id,
                    epoch: rec.epoch,
                }
            };
            self.heard.insert(from, now);
            if self.may_propose(step.slot, step.id, now) {
                moves.push(step);
            }
        }
        propose(moves, |moves| Command::CompleteMoves { moves })
    }

    /// A source wants moves aborted.
    pub fn abort_wanted(
        &mut self,
        from: Member,
        wanted: &[AbortWanted],
        table: &Table,
        now: Duration,
    ) -> Vec<CoordinatorEffect> {
        let mut effects = Vec::new();
        for wanted in wanted {
            let rec = table.slot(wanted.slot);
            let fits = rec.owner == Some(from)
                && rec.epoch == wanted.epoch
                && rec.moving.is_some_and(|moving| moving.id == wanted.id);
            if fits && self.may_propose(wanted.slot, wanted.id, now) {
                let moves = vec![MoveAbort {
                    slot: wanted.slot,
                    id: wanted.id,
                }];
                let why = wanted.why.as_str().to_owned();
                effects.push(CoordinatorEffect::Propose(Command::AbortMoves {
                    moves,
                    why,
                }));
            }
        }
        effects
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration) -> Vec<CoordinatorEffect> {
        let mut moves = Vec::new();
        for (slot, open) in self.open.clone() {
            let closed = self
                .closed
                .get(&open.from.id)
                .is_some_and(|closed| *closed > 0);
            let since = self.heard.get(&open.from).map_or(now, |heard| *heard);
            // A drain lets started events run on for as long as it may before it says anything.
            let drains = open.reason == MoveReason::Drain;
            let patience = self.config.silence_timeout
                + if drains {
                    self.config.release_timeout
                } else {
                    Duration::ZERO
                };
            let silent = closed && now.saturating_sub(since) >= patience;
            if silent && self.may_propose(slot, open.id, now) {
                moves.push(MoveAbort { slot, id: open.id });
            }
        }
        let why = GiveUp::SourceSilent.as_str().to_owned();
        propose(moves, |moves| Command::AbortMoves { moves, why })
    }

    /// Whether nothing was proposed for the move of late, whose fate is open. Notes it.
    fn may_propose(&mut self, slot: SlotId, id: MoveId, now: Duration) -> bool {
        let last = self.proposed.get(&(slot, id));
        let due = last.is_none_or(|last| now.saturating_sub(*last) >= STEP_AGAIN);
        if due {
            self.proposed.insert((slot, id), now);
        }
        due
    }
}

fn propose<T>(moves: Vec<T>, command: impl FnOnce(Vec<T>) -> Command) -> Vec<CoordinatorEffect> {
    if moves.is_empty() {
        return Vec::new();
    }
    vec![CoordinatorEffect::Propose(command(moves))]
}
