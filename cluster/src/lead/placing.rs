//! Who gets which slot: orphans at once, moves after a change of membership and every 2 s.

use std::time::Duration;

use super::flights::Purpose;
use super::{Lead, LeadConfig, LeadEffect};
use crate::allocation::{self, Conditions, HeldBack, Wait, YOUNG_LEADER};
use crate::lease::Reading;
use crate::{Command, Grant, Member, MoveReason, MoveStart, NodeId, NodeState, SlotId, Table};

/// Moves are planned at least so often.
const PLAN_EVERY: Duration = Duration::from_secs(2);
/// And at most so often.
const PLAN_GAP: Duration = Duration::from_millis(100);

/// When to plan, and what the last plan said.
#[derive(Debug, Clone)]
pub(super) struct Placing {
    /// There may be orphans that nobody is about to get.
    orphans: bool,
    /// There are some that another proposal is about.
    blocked: bool,
    /// When moves are planned next.
    plan_at: Duration,
    planned: Option<Duration>,
    /// More moves wait than may be open at once.
    backlog: bool,
    /// An operator wants slots evened out across builds.
    across: bool,
    waits: Vec<Wait>,
}

impl Placing {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            orphans: true,
            blocked: false,
            plan_at: now,
            planned: None,
            backlog: false,
            across: false,
            waits: vec![Wait::YoungLeader],
        }
    }

    pub(super) fn waits(&self) -> &[Wait] {
        &self.waits
    }

    /// Moves are to be planned now, but not too soon after the last time.
    pub(super) fn plan_soon(&mut self, now: Duration) {
        let soon = self.planned.map_or(now, |last| now.max(last + PLAN_GAP));
        self.plan_at = self.plan_at.min(soon);
    }

    /// Grants or moves could not be proposed.
    pub(super) fn failed(&mut self, now: Duration) {
        self.orphans = true;
        self.plan_soon(now);
    }

    /// A proposal was answered: its slots are free.
    pub(super) fn freed(&mut self) {
        self.orphans |= std::mem::take(&mut self.blocked);
    }

    pub(super) fn rebalance(&mut self, across: bool, now: Duration) {
        self.across |= across;
        self.plan_soon(now);
    }

    /// The table has changed.
    pub(super) fn changed(
        &mut self,
        table: &Table,
        slots: &[SlotId],
        membership: bool,
        open: usize,
        config: &LeadConfig,
        now: Duration,
    ) {
        self.orphans |= membership || slots.iter().any(|slot| table.is_orphan(*slot));
        let room = self.backlog && open.saturating_mul(4) <= config.open_limit.saturating_mul(3);
        if membership || room {
            self.plan_soon(now);
        }
    }
}

impl Lead {
    /// What a plan made now takes into account beside the table.
    pub fn conditions(&self, now: Reading) -> Conditions {
        let degraded = self
            .grantor
            .degraded()
            .map(|node| (node, HeldBack::Degraded));
        let quarantined = self.roster.deaths.quarantined(now.raw);
        let quarantined = quarantined.map(|node| (node, HeldBack::Quarantine));
        let cut_off = self.grantor.cut_off(now);
        // The values of their slots could not come here either: they go to others.
        let unreached = cut_off.iter().map(|node| (*node, self.leader().node));
        let resting = self.rests.resting(now.raw).into_iter().chain(unreached);
        Conditions {
            leader_age: now.raw.saturating_sub(self.began.raw),
            joining: self.roster.been(NodeState::Joining, now.raw),
            held_back: quarantined.chain(degraded).collect(),
            resting: resting.collect(),
            cut_off,
            across_builds: self.placing.across,
            open_limit: self.config.open_limit,
        }
    }

    /// New owners for what these lives own, who die beside all others that are dying. Slots that
    /// another proposal is about are left for later.
    pub(super) fn grants_for(&self, dead: &[Member], table: &Table, now: Reading) -> Vec<Grant> {
        let mut dying = self.roster.dying();
        dying.extend(dead);
        let grants = allocation::grants_after_death(table, &dying, &self.conditions(now));
        let theirs = |grant: &Grant| {
            let owner = table.slot(grant.slot).owner;
            owner.is_some_and(|owner| dead.contains(&owner)) && !self.flights.is_busy(grant.slot)
        };
        grants.into_iter().filter(theirs).collect()
    }

    /// Proposes the deaths that are to be proposed, each with new owners for its slots.
    pub(super) fn bury(&mut self, table: &Table, now: Reading, effects: &mut Vec<LeadEffect>) {
        if !self.roster.any_wanted() {
            return;
        }
        let wanted = self.roster.take_wanted();
        let dead: Vec<_> = wanted.iter().map(|(member, _)| *member).collect();
        let all = self.grants_for(&dead, table, now);
        for (member, why) in wanted {
            let theirs = |grant: &&Grant| table.slot(grant.slot).owner == Some(member);
            let grants = all.iter().filter(theirs).copied().collect();
            let command = Command::DeclareDead {
                member,
                why: why.to_owned(),
                leader: self.leader(),
                grants,
            };
            self.flights.start(Purpose::Death(member), command, effects);
        }
    }

    /// Grants orphans, and begins moves if it is time.
    pub(super) fn place(&mut self, table: &Table, now: Reading, effects: &mut Vec<LeadEffect>) {
        let orphans = self.placing.orphans && !self.flights.any(Purpose::Assign);
        let moves = now.raw >= self.placing.plan_at && !self.flights.any(Purpose::Begin);
        if !orphans && !moves {
            return;
        }
        let dying = self.roster.dying();
        if !dying.is_empty() {
            // Nothing moves until that is settled; the dead get nothing.
            if orphans {
                let conditions = self.conditions(now);
                let grants = allocation::grants_after_death(table, &dying, &conditions);
                let vacant = grants
                    .into_iter()
                    .filter(|grant| table.is_orphan(grant.slot));
                self.assign(vacant.collect(), effects);
            }
            return;
        }
        let mut conditions = self.conditions(now);
        let hurried = self.roster.hurried.clone();
        let lifted = |id: NodeId| hurried.contains(&id);
        if !hurried.is_empty() {
            conditions.open_limit = usize::MAX;
        }
        let plan = allocation::plan(table, &conditions);
        let mut begin = Vec::new();
        if moves {
            self.placing.planned = Some(now.raw);
            self.placing.plan_at = now.raw + PLAN_EVERY;
            if plan.waits.contains(&Wait::YoungLeader) {
                let grown = self.began.raw + YOUNG_LEADER;
                self.placing.plan_at = self.placing.plan_at.min(grown.max(now.raw));
            }
            begin = self.choose(plan.moves, &plan.waits, table, &conditions, lifted);
            self.placing.waits = plan.waits;
        }
        self.assign(plan.grants, effects);
        for reason in [MoveReason::Drain, MoveReason::Admin, MoveReason::Rebalance] {
            let of = |(start, why): &(MoveStart, MoveReason)| (*why == reason).then_some(*start);
            let moves: Vec<_> = begin.iter().filter_map(of).collect();
            if !moves.is_empty() {
                let command = Command::BeginMoves { moves, reason };
                self.flights.start(Purpose::Begin, command, effects);
            }
        }
    }

    fn assign(&mut self, grants: Vec<Grant>, effects: &mut Vec<LeadEffect>) {
        if self.flights.any(Purpose::Assign) {
            return;
        }
        self.placing.orphans = false;
        let free = |grant: &Grant| !self.flights.is_busy(grant.slot);
        let (grants, busy): (Vec<_>, Vec<_>) = grants.into_iter().partition(free);
        // What is busy now may be an orphan still once that proposal is through.
        self.placing.blocked |= !busy.is_empty();
        if !grants.is_empty() {
            let command = Command::Assign { grants };
            self.flights.start(Purpose::Assign, command, effects);
        }
    }

    /// Of the moves that are planned those that may begin, and those out of parked shards.
    fn choose(
        &mut self,
        planned: Vec<(MoveStart, MoveReason)>,
        waits: &[Wait],
        table: &Table,
        conditions: &Conditions,
        lifted: impl Fn(NodeId) -> bool,
    ) -> Vec<(MoveStart, MoveReason)> {
        let calm = !waits
            .iter()
            .any(|wait| matches!(wait, Wait::YoungLeader | Wait::Paused | Wait::Joining(_)));
        if calm && planned.is_empty() && self.coordinator.open_count() == 0 {
            self.placing.across = false;
        }
        let open = self.coordinator.open_count() + self.flights.beginning();
        let mut room = self.config.open_limit.saturating_sub(open);
        self.placing.backlog = waits.iter().any(|wait| matches!(wait, Wait::OpenLimit(_)));
        let parked = if calm {
            self.parked.moves(table, conditions)
        } else {
            Vec::new()
        };
        let parked: Vec<_> = parked
            .into_iter()
            .map(|start| (start, MoveReason::Rebalance))
            .collect();
        let is_parked = |slot: SlotId| parked.iter().any(|(start, _)| start.slot == slot);
        let planned = planned
            .into_iter()
            .filter(|(start, _)| !is_parked(start.slot));
        let mut chosen = Vec::new();
        for (start, reason) in parked.iter().copied().chain(planned) {
            if self.flights.is_busy(start.slot) || self.parked.at(start.to, start.slot) {
                continue;
            }
            let free = table
                .slot(start.slot)
                .owner
                .is_some_and(|owner| lifted(owner.id));
            if free || room > 0 {
                room = room.saturating_sub(usize::from(!free));
                chosen.push((start, reason));
            } else {
                self.placing.backlog = true;
            }
        }
        chosen
    }
}
