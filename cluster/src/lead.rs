//! The leader's part: who is dead, who owns what, which slots move, in one leadership.
//!
//! A [`Lead`] is made at each start of leadership, and of the leader's process; it resumes from the
//! table alone and ends with the leadership. It is pure: (event, now) → effects. It drives the
//! [`Grantor`], the [`Coordinator`] and the plan of slots, and keeps an eye on what it has proposed:
//! no slot is in two proposals at once, a proposal that failed is made again at the next tick if it
//! is still needed, and their number is bounded by the number of nodes.
//!
//! | To change | Open |
//! |---|---|
//! | what it is told and how it answers | `lead.rs` |
//! | what it wants done | `lead/effect.rs` |
//! | when orphans are granted, when and how many slots move | `lead/placing.rs` |
//! | what it does with the wants of its machines | `lead/carrying.rs` |
//! | what is under way | `lead/flights.rs` |
//! | how releases and aborts are gathered | `lead/steps.rs` |
//! | what is remembered of nodes | `lead/roster.rs` |
//! | parked shards | `lead/parked.rs` |

mod carrying;
mod effect;
mod flights;
mod parked;
mod placing;
mod roster;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub use effect::{LeadConfig, LeadEffect, Note, ProposalId};

use crate::allocation::{Rests, Wait};
use crate::handoff::Coordinator;
use crate::lease::{Grantor, Reading};
use crate::peer::Control;
use crate::{BootId, Command, LeaderId, Member, NodeId, Outcome, SlotId, Table};
use flights::{Flights, Purpose, slots_of};
use parked::Parked;
use placing::Placing;
use roster::Roster;
use steps::Steps;

/// Who leads is told so often in the first second, then once a second.
const ANNOUNCE_FIRST: Duration = Duration::from_millis(100);
const ANNOUNCE: Duration = Duration::from_secs(1);
/// Voters are tended so often.
const TEND: Duration = Duration::from_secs(1);

/// The leader's part, in one leadership.
#[derive(Debug, Clone)]
pub struct Lead {
    config: LeadConfig,
    began: Reading,
    grantor: Grantor,
    coordinator: Coordinator,
    flights: Flights,
    steps: Steps,
    roster: Roster,
    rests: Rests,
    parked: Parked,
    placing: Placing,
    asked: VecDeque<(ProposalId, Command)>,
    /// The nonce of the barrier, while it has to be proposed again.
    barrier: Option<u64>,
    /// When the barrier was applied, and when to tell next who leads.
    announce: Option<(Duration, Duration)>,
    tend_at: Duration,
    /// What was last told of processes that are refused.
    noted: BTreeMap<BootId, Note>,
    /// The version of the table that all of it knows.
    version: u64,
}

impl Lead {
    /// The start of a leadership, or of a leader's process. `nonce` is one that was never used.
    pub fn new(
        leader: LeaderId,
        config: LeadConfig,
        table: &Table,
        nonce: u64,
        now: Reading,
    ) -> (Self, Vec<LeadEffect>) {
        let (grantor, granted) = Grantor::new(leader, table, config.lease, nonce, now);
        let coordinator = Coordinator::new(config.handoff, table, now.raw);
        let mut lead = Self {
            config,
            began: now,
            grantor,
            coordinator,
            flights: Flights::default(),
            steps: Steps::default(),
            roster: Roster::default(),
            rests: Rests::default(),
            parked: Parked::default(),
            placing: Placing::new(now.raw),
            asked: VecDeque::new(),
            barrier: None,
            announce: None,
            tend_at: now.raw,
            noted: BTreeMap::new(),
            version: table.version(),
        };
        let mut effects = Vec::new();
        lead.roster.table(table, now.raw, &mut effects);
        lead.granted(granted, table, now, &mut effects);
        (lead, effects)
    }

    /// The leadership that this is.
    pub const fn leader(&self) -> LeaderId {
        self.grantor.leader()
    }

    /// Whether the barrier of this leadership is still to be applied: nothing is acknowledged, no
    /// slot granted, nobody told who leads.
    pub const fn is_starting(&self) -> bool {
        self.grantor.is_starting()
    }

    /// What the last plan of moves waits for.
    pub fn waits(&self) -> &[Wait] {
        self.placing.waits()
    }

    /// How long ago each living node was last heard, or counted as heard.
    pub fn heard(&self, now: Reading) -> BTreeMap<NodeId, Duration> {
        self.grantor.ages(now).collect()
    }

    /// How many moves are open.
    pub fn open_moves(&self) -> usize {
        self.coordinator.open_count()
    }

    /// How many proposals are under way.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Time has passed: to be told every tick of the lease.
    pub fn tick(&mut self, table: &Table, now: Reading) -> Vec<LeadEffect> {
        let mut effects = self.catch_up(table, now);
        if let Some(nonce) = self.barrier.take() {
            let command = Command::Barrier { nonce };
            self.flights.start(Purpose::Barrier, command, &mut effects);
        }
        let granted = self.grantor.tick(table, now);
        self.granted(granted, table, now, &mut effects);
        for (node, closed) in self.grantor.closed() {
            self.coordinator.closed(node, closed, now.raw);
        }
        let coordinated = self.coordinator.tick(now.raw);
        self.coordinated(coordinated, table, now, &mut effects);
        let cut_off = self.grantor.cut_off(now);
        let degraded = self.grantor.degraded().collect();
        if self.roster.heard(cut_off, degraded, table, &mut effects) {
            self.placing.plan_soon(now.raw);
        }
        self.steps.tick();
        self.repeat(now.raw, &mut effects);
        self.settle(table, now, &mut effects);
        effects
    }

    /// The table has changed in these slots, or in nodes or settings.
    pub fn table_changed(
        &mut self,
        table: &Table,
        changed: impl IntoIterator<Item = SlotId>,
        now: Reading,
    ) -> Vec<LeadEffect> {
        let mut effects = Vec::new();
        let changed: Vec<_> = changed.into_iter().collect();
        self.version = table.version();
        self.grantor.table(table, now);
        self.parked.table(table);
        let news = self.roster.table(table, now.raw, &mut effects);
        let coordinated = self
            .coordinator
            .table(table, changed.iter().copied(), now.raw);
        self.coordinated(coordinated, table, now, &mut effects);
        if news.changed {
            self.tend_at = now.raw;
        }
        if let (true, Some((_, next))) = (news.born, &mut self.announce) {
            *next = now.raw;
        }
        let open = self.coordinator.open_count();
        self.placing
            .changed(table, &changed, news.changed, open, &self.config, now.raw);
        self.settle(table, now, &mut effects);
        effects
    }

    /// A node, or a process that has not joined (0), has sent this. What is not for the leader is
    /// ignored.
    pub fn message(
        &mut self,
        table: &Table,
        from: NodeId,
        control: Control,
        now: Reading,
    ) -> Vec<LeadEffect> {
        let mut effects = self.catch_up(table, now);
        match control {
            Control::Heartbeat(heartbeat, via) if via.unwrap_or(heartbeat.member.id) == from => {
                let granted = self.grantor.heartbeat(heartbeat, via, now);
                self.granted(granted, table, now, &mut effects);
                return effects;
            }
            Control::Register(node) => {
                let granted = self.grantor.register(node, table, now);
                self.granted(granted, table, now, &mut effects);
            }
            Control::Propose(command) => self.propose_for(from, command, &mut effects),
            Control::Released(source, slots) => {
                let coordinated = self.coordinator.released(source, &slots, table, now.raw);
                self.coordinated(coordinated, table, now, &mut effects);
            }
            Control::AbortWanted(source, wanted) => {
                let coordinated = self
                    .coordinator
                    .abort_wanted(source, &wanted, table, now.raw);
                self.coordinated(coordinated, table, now, &mut effects);
            }
            Control::Leaving(member) if member.id == from => self.grantor.left(member),
            _ => return effects,
        }
        self.settle(table, now, &mut effects);
        effects
    }

    /// A round is over: this node still led, under this leadership, when it began, or that could not
    /// be made sure of.
    pub fn round_done(
        &mut self,
        table: &Table,
        id: u64,
        led: bool,
        now: Reading,
    ) -> Vec<LeadEffect> {
        let mut effects = Vec::new();
        let granted = self.grantor.round_over(id, led, now);
        self.granted(granted, table, now, &mut effects);
        effects
    }

    /// A proposal was committed and applied here, or nobody knows what became of it, and why.
    pub fn proposed(
        &mut self,
        table: &Table,
        id: ProposalId,
        answer: Result<Outcome, String>,
        now: Reading,
    ) -> Vec<LeadEffect> {
        let mut effects = self.catch_up(table, now);
        let Some(flight) = self.flights.end(id) else {
            return effects;
        };
        self.placing.freed();
        match (flight.purpose, answer) {
            (Purpose::Barrier, Ok(Outcome::Barrier(nonce))) => {
                self.grantor.barrier_applied(nonce);
                if !self.grantor.is_starting() {
                    self.announce = Some((now.raw, now.raw));
                    self.repeat(now.raw, &mut effects);
                }
            }
            (Purpose::Barrier, _) => {
                if let Command::Barrier { nonce } = flight.command {
                    self.barrier = Some(nonce);
                }
            }
            (Purpose::Register, Ok(outcome)) => {
                if let Command::Register { node, .. } = flight.command {
                    self.registered(table, node, outcome, &mut effects);
                }
            }
            (Purpose::Death(member), Err(_)) => {
                self.roster.condemn_again(member);
                return effects;
            }
            (Purpose::Assign | Purpose::Begin, Err(_)) => {
                self.placing.failed(now.raw);
                return effects;
            }
            (Purpose::Complete | Purpose::Abort, Err(_)) => {
                self.steps.failed(flight, &self.flights);
                return effects;
            }
            (_, Err(_)) => return effects,
            (_, Ok(_)) => {}
        }
        self.settle(table, now, &mut effects);
        effects
    }

    /// Raft's members have changed.
    pub fn members_changed(&mut self, now: Reading) {
        self.tend_at = now.raw;
    }

    /// The leader leaves: a last round for all who wait for one.
    pub fn leave(&mut self, table: &Table, now: Reading) -> Vec<LeadEffect> {
        let mut effects = Vec::new();
        let granted = self.grantor.farewell(now);
        self.granted(granted, table, now, &mut effects);
        effects
    }

    /// A node says that a shard with these slots is parked, or runs again.
    pub fn parked(
        &mut self,
        table: &Table,
        member: Member,
        slots: &[SlotId],
        parked: bool,
        now: Reading,
    ) -> Vec<LeadEffect> {
        let mut effects = Vec::new();
        if !table.is_living(member) || !self.parked.report(member, slots, parked) {
            return effects;
        }
        self.placing.plan_soon(now.raw);
        let owned = |slot: &&SlotId| table.slot(**slot).owner == Some(member);
        let note = match slots.iter().find(owned) {
            Some(first) if parked => Note::Parked {
                member,
                slots: slots.iter().filter(owned).count(),
                first: *first,
            },
            _ if parked => return effects,
            _ => Note::Unparked(member),
        };
        effects.push(LeadEffect::Note(note));
        effects
    }

    /// A node that drains says that half of the time that it has for it is over: from now on nothing
    /// limits how many of its moves are open.
    pub fn hurry(&mut self, table: &Table, member: Member, now: Reading) -> Vec<LeadEffect> {
        let mut effects = self.catch_up(table, now);
        if table.is_living(member) && self.roster.hurry(member.id, table) {
            self.placing.plan_soon(now.raw);
            self.settle(table, now, &mut effects);
        }
        effects
    }

    /// Proposes an operator's command, as soon as no other proposal is about its slots. Its answer
    /// comes with the number that is returned, by [`proposed`](Self::proposed).
    pub fn ask(
        &mut self,
        table: &Table,
        command: Command,
        now: Reading,
    ) -> (ProposalId, Vec<LeadEffect>) {
        let mut effects = Vec::new();
        let id = self.flights.number();
        self.asked.push_back((id, command));
        self.settle(table, now, &mut effects);
        (id, effects)
    }

    /// An operator trusts a node again: its deaths are forgotten.
    pub fn undrained(&mut self, node: NodeId, now: Reading) {
        self.roster.deaths.undrained(node);
        self.placing.plan_soon(now.raw);
    }

    /// An operator wants slots evened out now; across builds, until they are even.
    pub fn rebalance(&mut self, across_builds: bool, now: Reading) {
        self.placing.rebalance(across_builds, now.raw);
    }

    /// Tells again who leads and has voters tended, if it is time.
    fn repeat(&mut self, now: Duration, effects: &mut Vec<LeadEffect>) {
        let Some((since, next)) = &mut self.announce else {
            return;
        };
        if now >= *next {
            let young = now.saturating_sub(*since) < ANNOUNCE;
            *next = now + if young { ANNOUNCE_FIRST } else { ANNOUNCE };
            effects.push(LeadEffect::Announce);
        }
        if now >= self.tend_at {
            self.tend_at = now + TEND;
            effects.push(LeadEffect::TendVoters);
        }
    }

    /// A table came that nobody told of: all of it may have changed.
    fn catch_up(&mut self, table: &Table, now: Reading) -> Vec<LeadEffect> {
        if self.version == table.version() {
            return Vec::new();
        }
        self.table_changed(table, SlotId::all(), now)
    }

    /// Proposes whatever is due by now.
    fn settle(&mut self, table: &Table, now: Reading, effects: &mut Vec<LeadEffect>) {
        if self.is_starting() {
            return;
        }
        self.bury(table, now, effects);
        self.steps.flush(table, &mut self.flights, effects);
        let mut later = VecDeque::new();
        for (id, command) in std::mem::take(&mut self.asked) {
            if slots_of(&command)
                .iter()
                .any(|slot| self.flights.is_busy(*slot))
            {
                later.push_back((id, command));
            } else {
                self.flights.start_as(id, Purpose::Asked, command, effects);
            }
        }
        self.asked = later;
        self.place(table, now, effects);
    }
}
