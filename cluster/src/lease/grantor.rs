//! The leader's side of all leases.
//!
//! One per leadership: it begins with a barrier and the assumption that every node was heard just
//! now, and ends with the leadership. What it proposes it never takes back.

mod effect;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use effect::GrantorEffect;

use super::registrar::Registrar;
use super::{Ack, Heartbeat, LeaseConfig, Reading};
use crate::{BootId, LeaderId, Member, NodeId, Registration, Rule, Rules, Table};

/// Rounds of leadership begin at most so often.
const ROUND_EVERY: Duration = Duration::from_millis(50);
/// A tick late by so much means that the leader has slept, and heard nobody meanwhile.
const SLEPT: Duration = Duration::from_millis(300);
/// What was proposed and is not in the table by then is proposed again.
const PROPOSE_AGAIN: Duration = Duration::from_secs(2);
/// A node that was heard only through others for so long loses its slots.
const CUT_OFF: Duration = Duration::from_secs(5);

/// What is known of a living node.
#[derive(Debug, Clone, Copy)]
struct Heard {
    member: Member,
    boot: BootId,
    /// The arrival of the last heartbeat that was acknowledged, or what counts as one.
    last: Reading,
    /// The arrival of the last heartbeat that came straight.
    straight: Reading,
    degraded: bool,
    closed: u16,
    /// Whether it was heard, or counted as heard, in this leadership.
    known: bool,
}

/// A heartbeat that waits for a round.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    heartbeat: Heartbeat,
    via: Option<NodeId>,
    arrived: Reading,
    round: Option<u64>,
}

/// The leader's side of all leases, in one leadership.
#[derive(Debug, Clone)]
pub struct Grantor {
    leader: LeaderId,
    config: LeaseConfig,
    rules: Rules,
    barrier: Option<u64>,
    nodes: BTreeMap<NodeId, Heard>,
    version: u64,
    waiting: Vec<Waiting>,
    rounds: u64,
    round: Option<u64>,
    round_began: Option<Reading>,
    last_tick: Reading,
    /// Lives whose death was proposed, and when last.
    condemned: BTreeMap<Member, Reading>,
    left: BTreeSet<Member>,
    registrar: Registrar,
}

impl Grantor {
    /// The start of a leadership, or of a leader's process. `nonce` is one that was never used.
    pub fn new(
        leader: LeaderId,
        table: &Table,
        config: LeaseConfig,
        nonce: u64,
        now: Reading,
    ) -> (Self, Vec<GrantorEffect>) {
        Self::with_rules(leader, table, config, nonce, now, Rules::ALL)
    }

    /// The same, under these rules.
    pub fn with_rules(
        leader: LeaderId,
        table: &Table,
        config: LeaseConfig,
        nonce: u64,
        now: Reading,
        rules: Rules,
    ) -> (Self, Vec<GrantorEffect>) {
        let mut grantor = Self {
            leader,
            config,
            rules,
            barrier: rules.hold(Rule::BarrierFirst).then_some(nonce),
            nodes: BTreeMap::new(),
            version: 0,
            waiting: Vec::new(),
            rounds: 0,
            round: None,
            round_began: None,
            last_tick: now,
            condemned: BTreeMap::new(),
            left: BTreeSet::new(),
            registrar: Registrar::default(),
        };
        grantor.table(table, now);
        if !rules.hold(Rule::GraceAtStart) {
            grantor
                .nodes
                .values_mut()
                .for_each(|heard| heard.known = false);
        }
        (grantor, vec![GrantorEffect::Barrier { nonce }])
    }

    /// The leadership that this is.
    pub const fn leader(&self) -> LeaderId {
        self.leader
    }

    /// A barrier was applied.
    pub fn barrier_applied(&mut self, nonce: u64) {
        if self.barrier == Some(nonce) {
            self.barrier = None;
        }
    }

    /// Whether the barrier of this leadership is still to be applied.
    pub const fn is_starting(&self) -> bool {
        self.barrier.is_some()
    }

    /// The table has changed. A life that is new in it counts as heard now.
    pub fn table(&mut self, table: &Table, now: Reading) {
        self.version = table.version();
        let living = table
            .nodes()
            .iter()
            .filter(|(_, node)| node.state.is_living());
        let mut nodes = BTreeMap::new();
        for (id, node) in living {
            let member = Member {
                id: *id,
                incarnation: node.incarnation,
            };
            let known = self.nodes.get(id).filter(|heard| heard.member == member);
            let fresh = Heard {
                member,
                boot: node.boot,
                last: now,
                straight: now,
                degraded: false,
                closed: 0,
                known: true,
            };
            nodes.insert(*id, known.copied().unwrap_or(fresh));
        }
        self.nodes = nodes;
        self.condemned.retain(|member, _| table.is_living(*member));
        self.left.retain(|member| table.is_living(*member));
    }

    /// A heartbeat has arrived, straight or through a voter. Whoever sent it hears after a round that
    /// it is acknowledged, or that its life is over: a leader that is cut off knows of no new ones.
    pub fn heartbeat(
        &mut self,
        heartbeat: Heartbeat,
        via: Option<NodeId>,
        now: Reading,
    ) -> Vec<GrantorEffect> {
        let mut effects = Vec::new();
        let member = heartbeat.member;
        if self.barrier.is_some() {
            return effects;
        }
        if !self.is_over(member) {
            let heard = self.nodes.get_mut(&member.id);
            // A life that is newer than the table is heard once that names it.
            let Some(heard) = heard.filter(|heard| heard.member == member) else {
                return effects;
            };
            if heard.boot != heartbeat.boot && self.rules.hold(Rule::BootIdTellsApart) {
                effects.push(GrantorEffect::RefuseProcess {
                    member,
                    boot: heartbeat.boot,
                });
                return effects;
            }
            heard.degraded = heartbeat.degraded;
            heard.closed = heartbeat.closed;
            if via.is_none() {
                heard.straight = now;
            }
        }
        let waiting = Waiting {
            heartbeat,
            via,
            arrived: now,
            round: None,
        };
        if self.rules.hold(Rule::AckAfterRound) {
            self.wait(waiting);
            self.begin_round(now, &mut effects);
        } else {
            self.acknowledge(waiting, &mut effects);
        }
        effects
    }

    /// A round is over: this node still led when it began, or that could not be made sure of.
    pub fn round_over(&mut self, id: u64, led: bool, now: Reading) -> Vec<GrantorEffect> {
        let mut effects = Vec::new();
        if self.round != Some(id) {
            return effects;
        }
        self.round = None;
        let (mine, rest): (Vec<_>, _) = self
            .waiting
            .drain(..)
            .partition(|waiting| waiting.round == Some(id));
        self.waiting = rest;
        if led {
            for waiting in mine {
                self.acknowledge(waiting, &mut effects);
            }
            self.begin_round(now, &mut effects);
        } else {
            // At once again, for those as well that came meanwhile.
            for waiting in mine {
                self.wait(Waiting {
                    round: None,
                    ..waiting
                });
            }
            self.round_began = None;
            self.begin_round(now, &mut effects);
        }
        effects
    }

    /// The leader leaves: a last round for whoever waits, without delay.
    pub fn farewell(&mut self, now: Reading) -> Vec<GrantorEffect> {
        let mut effects = Vec::new();
        self.round_began = None;
        self.begin_round(now, &mut effects);
        effects
    }

    /// A node says that it has stopped acting and leaves.
    pub fn left(&mut self, member: Member) {
        self.left.insert(member);
    }

    /// Whether this life said that it leaves.
    pub fn has_left(&self, member: Member) -> bool {
        self.left.contains(&member)
    }

    /// A node wants to register. If it replaces a living incarnation it waits as for a death.
    pub fn register(
        &mut self,
        node: Registration,
        table: &Table,
        now: Reading,
    ) -> Vec<GrantorEffect> {
        self.registrar.ask(node, now);
        self.tick_registrar(table, now)
    }

    /// Time has passed.
    pub fn tick(&mut self, table: &Table, now: Reading) -> Vec<GrantorEffect> {
        let mut effects = Vec::new();
        if now.longest_since(self.last_tick) > self.config.tick + SLEPT {
            for heard in self.nodes.values_mut() {
                heard.last = now;
                heard.straight = now;
            }
        }
        self.last_tick = now;
        if self.barrier.is_some() {
            return effects;
        }
        self.begin_round(now, &mut effects);
        effects.extend(self.tick_registrar(table, now));
        let over: Vec<_> = self
            .nodes
            .values()
            .filter_map(|heard| Some((heard.member, self.over(heard, now)?)))
            .collect();
        for (member, why) in over {
            let again = self
                .condemned
                .get(&member)
                .is_none_or(|proposed| now.shortest_since(*proposed) >= PROPOSE_AGAIN);
            if again {
                self.condemned.insert(member, now);
                effects.push(GrantorEffect::DeclareDead { member, why });
            }
        }
        effects
    }

    /// How long ago each living node was last heard, or counted as heard.
    pub fn ages(&self, now: Reading) -> impl Iterator<Item = (NodeId, Duration)> {
        self.nodes
            .iter()
            .map(move |(id, heard)| (*id, now.shortest_since(heard.last)))
    }

    /// Nodes that make too little progress for new slots.
    pub fn degraded(&self) -> impl Iterator<Item = NodeId> {
        self.nodes
            .iter()
            .filter(|(_, heard)| heard.degraded)
            .map(|(id, _)| *id)
    }

    /// Nodes that were heard only through others for 5 s.
    pub fn cut_off(&self, now: Reading) -> BTreeSet<NodeId> {
        let cut = self
            .nodes
            .iter()
            .filter(|(_, heard)| now.shortest_since(heard.straight) > CUT_OFF);
        cut.map(|(id, _)| *id).collect()
    }

    /// How many heartbeats wait for a round.
    #[cfg(test)]
    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// How many slots each node says it has closed for moves.
    pub fn closed(&self) -> impl Iterator<Item = (NodeId, u16)> {
        self.nodes.iter().map(|(id, heard)| (*id, heard.closed))
    }

    /// Why a life is over, if it is: it has left, its death was proposed, or its lease and the
    /// margin have passed. While a heartbeat of it waits for a round it is not.
    fn over(&self, heard: &Heard, now: Reading) -> Option<&'static str> {
        if self.left.contains(&heard.member) {
            return Some("it has left");
        }
        if self.condemned.contains_key(&heard.member) {
            return Some("its lease is over");
        }
        let grace = if self.rules.hold(Rule::DeathAfterMargin) {
            self.config.grace
        } else {
            self.config.length
        };
        let waits = || {
            let mut waiting = self.waiting.iter();
            waiting.any(|waiting| waiting.heartbeat.member == heard.member)
        };
        let passed = !heard.known || now.shortest_since(heard.last) > grace;
        (passed && !waits()).then_some("its lease is over")
    }

    fn acknowledge(&mut self, waiting: Waiting, effects: &mut Vec<GrantorEffect>) {
        let Heartbeat {
            member, boot, seq, ..
        } = waiting.heartbeat;
        if self.is_over(member) {
            effects.push(GrantorEffect::TellDead { member });
            return;
        }
        let condemned = self.condemned.contains_key(&member) || self.left.contains(&member);
        if condemned && self.rules.hold(Rule::NoAckAfterProposal) {
            return;
        }
        let Some(heard) = self
            .nodes
            .get_mut(&member.id)
            .filter(|heard| heard.member == member)
        else {
            return;
        };
        heard.last = heard.last.later(waiting.arrived);
        heard.known = true;
        let ack = Ack {
            member,
            boot,
            seq,
            leader: self.leader,
            version: self.version,
        };
        effects.push(GrantorEffect::Ack {
            via: waiting.via,
            ack,
        });
    }

    /// Whether the table names no such life any more.
    fn is_over(&self, member: Member) -> bool {
        self.nodes
            .get(&member.id)
            .is_none_or(|heard| member.incarnation < heard.member.incarnation)
    }

    /// A heartbeat waits for the next round. Of each process, and each way that its heartbeats come
    /// by, only the newest does: a leader that cannot make sure that it leads hears them for hours.
    fn wait(&mut self, new: Waiting) {
        let same = |old: &&mut Waiting| {
            old.round.is_none()
                && old.via == new.via
                && old.heartbeat.member.id == new.heartbeat.member.id
                && old.heartbeat.boot == new.heartbeat.boot
        };
        let age = |waiting: &Waiting| (waiting.heartbeat.member.incarnation, waiting.heartbeat.seq);
        match self.waiting.iter_mut().find(same) {
            Some(old) if age(old) < age(&new) => *old = new,
            Some(_) => {}
            None => self.waiting.push(new),
        }
    }

    /// Begins a round for the heartbeats that have arrived by now, if it is time for one.
    fn begin_round(&mut self, now: Reading, effects: &mut Vec<GrantorEffect>) {
        let due = self
            .round_began
            .is_none_or(|began| now.longest_since(began) >= ROUND_EVERY);
        if self.waiting.is_empty() || self.round.is_some() || !due {
            return;
        }
        self.rounds += 1;
        self.round = Some(self.rounds);
        self.round_began = Some(now);
        for waiting in &mut self.waiting {
            waiting.round = Some(self.rounds);
        }
        effects.push(GrantorEffect::Round { id: self.rounds });
    }

    fn tick_registrar(&mut self, table: &Table, now: Reading) -> Vec<GrantorEffect> {
        if self.barrier.is_some() {
            return Vec::new();
        }
        let mut registrar = std::mem::take(&mut self.registrar);
        let effects = registrar.tick(table, now, |old| {
            // One that this grantor has not seen in a table yet counts as alive.
            let heard = self.nodes.get(&old.id).filter(|heard| heard.member == old);
            let over = heard.is_some_and(|heard| self.over(heard, now).is_some());
            over || !self.rules.hold(Rule::ReplaceAfterMargin)
        });
        self.registrar = registrar;
        for effect in &effects {
            if let GrantorEffect::Register {
                replaces: Some(old),
                ..
            } = effect
            {
                self.condemned.insert(*old, now);
            }
        }
        effects
    }
}
