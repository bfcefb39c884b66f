//! The world: time, the network, faults, and what happens to each node.

use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use super::checker::Checker;
use super::net::{Event, Message, What, delay};
use super::node::{Lead, Life, Node};
use super::raft::Raft;
use crate::handoff::{
    Coordinator, CoordinatorEffect, HandoffConfig, Load, SourceEffect, TargetEffect,
};
use crate::lease::{Grantor, GrantorEffect, HolderEffect, LeaseConfig, TenureEffect};
use crate::testing::{Chance, Log, registration, slot};
use crate::*;

/// How many slots are ever owned.
pub(super) const HOT: u16 = 6;
const NODES: usize = 5;
const VOTERS: usize = 3;

/// What a run was like.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) violation: Option<String>,
    pub(super) steps: usize,
    pub(super) elections: usize,
    pub(super) takeovers: usize,
    pub(super) moves: usize,
    pub(super) aborted: usize,
    pub(super) lapses: usize,
    pub(super) replaced: usize,
    pub(super) trace: u64,
}

impl Report {
    pub(super) fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.elections += other.elections;
        self.takeovers += other.takeovers;
        self.moves += other.moves;
        self.aborted += other.aborted;
        self.lapses += other.lapses;
        self.replaced += other.replaced;
    }
}

pub(super) struct World {
    now: u64,
    order: u64,
    heap: BinaryHeap<Event>,
    chance: Chance,
    rules: Rules,
    config: LeaseConfig,
    nodes: Vec<Node>,
    raft: Raft,
    /// Proposals on their way to the log.
    proposed: BTreeMap<u64, (LeaderId, Command)>,
    store: Option<BTreeMap<SlotId, OwnerEpoch>>,
    checker: Checker,
    calm: bool,
    split: u64,
    nonces: u64,
    report: Report,
}

impl World {
    pub(super) fn new(seed: u64, rules: Rules, shared_store: bool) -> Self {
        let mut chance = Chance::new(seed);
        let mut log = Log::with_nodes(NODES as u32);
        log.rules = rules;
        let nodes = (0..NODES)
            .map(|index| {
                let id = NodeId(index as u32 * 2 + 1);
                let view = View::with_rules(log.table.clone(), rules);
                let me = log.table.member(id).expect("registered");
                let boot = log.table.node(id).expect("registered").boot;
                Node::new(index, me, boot, view, &mut chance)
            })
            .collect();
        let config = LeaseConfig::new(log.table.cluster(), Duration::from_millis(200));
        let mut world = Self {
            now: 0,
            order: 0,
            heap: BinaryHeap::new(),
            chance,
            rules,
            config,
            nodes,
            raft: Raft::new(log),
            proposed: BTreeMap::new(),
            store: shared_store.then(BTreeMap::new),
            checker: Checker::default(),
            calm: false,
            split: 0,
            nonces: 0,
            report: Report::default(),
        };
        for index in 0..NODES {
            world.at(index as u64 * 1000, What::Tick(index));
            world.be_born(index);
        }
        world.lead(0);
        world.at(500_000, What::Fault);
        world
    }

    pub(super) fn run(mut self, steps: usize) -> Report {
        while self.report.steps < steps && self.report.violation.is_none() {
            self.step();
        }
        if self.rules != Rules::ALL {
            return self.report;
        }
        self.calm = true;
        self.heal();
        let end = self.now + 8_000_000;
        while self.now < end && self.report.violation.is_none() {
            self.step();
        }
        if self.report.violation.is_none() {
            let unserved = (0..HOT).map(slot).find(|slot| {
                !self
                    .nodes
                    .iter()
                    .any(|node| node.acting(self.now).any(|(acts, _)| acts == *slot))
            });
            self.report.violation = unserved.map(|slot| {
                format!(
                    "slot {slot} is not served after 8 s of calm: {:?}",
                    self.raft.table.slot(slot)
                )
            });
        }
        self.report
    }

    fn at(&mut self, after: u64, what: What) {
        self.order += 1;
        self.heap.push(Event {
            at: self.now + after,
            order: self.order,
            what,
        });
    }

    fn step(&mut self) {
        let Some(event) = self.heap.pop() else { return };
        self.now = self.now.max(event.at);
        self.report.steps += 1;
        self.report.trace = self.report.trace.wrapping_mul(31).wrapping_add(self.now);
        self.happen(event.what);
        self.check();
    }

    fn check(&mut self) {
        let mut actors: [Vec<(Member, OwnerEpoch)>; HOT as usize] = Default::default();
        for node in &self.nodes {
            for (slot, epoch) in node.acting(self.now) {
                actors[usize::from(slot.index())].push((node.me, epoch));
            }
        }
        for (index, actors) in actors.iter().enumerate() {
            if let Some(what) = self.checker.acting(slot(index as u16), actors) {
                self.report.violation.get_or_insert(what);
            }
        }
    }

    /// The node that an event happens to.
    fn whose(&self, what: &What) -> Option<usize> {
        match what {
            What::Tick(index) | What::Deliver(index, _) | What::Apply(index) => Some(*index),
            What::FenceOver(index, ..) | What::Closed(index, ..) | What::Idle(index, ..) => {
                Some(*index)
            }
            What::RoundOver(leader, ..) => Some(self.index(leader.node)),
            _ => None,
        }
    }

    fn index(&self, id: NodeId) -> usize {
        (id.0 as usize).saturating_sub(1) / 2
    }

    fn happen(&mut self, what: What) {
        if let Some(index) = self.whose(&what) {
            let node = &mut self.nodes[index];
            if node.paused {
                node.backlog.push(what);
                return;
            }
            if !node.alive {
                if matches!(what, What::Tick(_) | What::Apply(_)) {
                    self.at(25_000, what);
                }
                return;
            }
        }
        match what {
            What::Tick(index) => self.tick(index),
            What::Deliver(index, message) => self.deliver(index, message),
            What::Apply(index) => self.apply(index),
            What::Append(key) => {
                if let Some((by, command)) = self.proposed.remove(&key) {
                    self.append(by, &command);
                }
            }
            What::RoundCheck(leader, id) => {
                let node = &self.nodes[self.index(leader.node)];
                let led = self.raft.leader == leader && node.alive && self.has_majority(node.index);
                let after = delay(&mut self.chance).min(60_000);
                self.at(after, What::RoundOver(leader, id, led));
            }
            What::RoundOver(leader, id, led) => {
                let index = self.index(leader.node);
                let now = self.nodes[index].reading(self.now);
                let effects = match &mut self.nodes[index].lead {
                    Some(lead) if lead.id == leader => lead.grantor.round_over(id, led, now),
                    _ => Vec::new(),
                };
                self.granted(index, effects);
            }
            What::FenceAsk(index, boot, slot, epoch) => {
                let store = self.store.as_mut().unwrap_or(&mut self.nodes[index].store);
                let known = store.entry(slot).or_insert(epoch);
                let answer = if *known > epoch { Err(*known) } else { Ok(()) };
                *known = (*known).max(epoch);
                let after = delay(&mut self.chance);
                self.at(after, What::FenceOver(index, boot, slot, epoch, answer));
            }
            What::FenceOver(index, boot, slot, epoch, answer) => {
                let node = &mut self.nodes[index];
                if let Some(life) = node.life.as_mut().filter(|_| node.boot == boot) {
                    let effects = life.tenure.fenced(slot, epoch, answer);
                    self.tenured(index, effects);
                }
            }
            What::Write(slot, epoch) => {
                let refused = self
                    .store
                    .as_ref()
                    .is_some_and(|store| store.get(&slot).is_some_and(|fence| epoch < *fence));
                if !refused && let Some(what) = self.checker.written(slot, epoch) {
                    self.report.violation.get_or_insert(what);
                }
            }
            What::Closed(index, boot, slot, started) => {
                let node = &mut self.nodes[index];
                let now = node.clock(self.now);
                if let Some(life) = node.life.as_mut().filter(|_| node.boot == boot) {
                    let effects = life.source.closed(slot, started, true, now);
                    if started > 0 {
                        let after = self.chance.between(1_000, 700_000);
                        self.at(after, What::Idle(index, boot, slot));
                    }
                    self.sourced(index, effects);
                }
            }
            What::Idle(index, boot, slot) => {
                let node = &mut self.nodes[index];
                let now = node.clock(self.now);
                if let Some(life) = node.life.as_mut().filter(|_| node.boot == boot) {
                    let effects = life.source.idle(slot, now);
                    self.sourced(index, effects);
                }
            }
            What::Fault => self.fault(),
            What::Heal(split) if split == self.split => {
                self.nodes.iter_mut().for_each(|node| node.side = 0)
            }
            What::Heal(_) => {}
            What::Wake(index) => self.wake(index),
            What::Restart(index) => self.restart(index),
            What::Elect => self.elect(),
        }
    }

    fn fault(&mut self) {
        if self.calm {
            return;
        }
        let index = self.chance.below(NODES as u64) as usize;
        match self.chance.below(12) {
            0..=2 if !self.nodes[index].paused && self.nodes[index].alive => {
                self.nodes[index].paused = true;
                let for_so_long = self.chance.between(50_000, 3_500_000);
                self.at(for_so_long, What::Wake(index));
            }
            3 if self.nodes[index].alive && !self.nodes[index].paused => {
                let node = &mut self.nodes[index];
                node.alive = false;
                node.life = None;
                node.lead = None;
                let for_so_long = self.chance.between(50_000, 3_000_000);
                self.at(for_so_long, What::Restart(index));
            }
            4..=7 => {
                for node in &mut self.nodes {
                    node.side = u8::from(self.chance.permille(400));
                }
                self.split += 1;
                let for_so_long = self.chance.between(200_000, 5_000_000);
                self.at(for_so_long, What::Heal(self.split));
            }
            8 | 9 => self.elect(),
            _ => {}
        }
        let leader = self.index(self.raft.leader.node);
        let gone =
            !self.nodes[leader].alive || self.nodes[leader].paused || !self.has_majority(leader);
        if gone {
            let after = self.chance.between(100_000, 900_000);
            self.at(after, What::Elect);
        }
        let next = self.chance.between(100_000, 1_500_000);
        self.at(next, What::Fault);
    }

    fn heal(&mut self) {
        for index in 0..NODES {
            self.nodes[index].side = 0;
            self.wake(index);
            if !self.nodes[index].alive {
                self.restart(index);
            }
        }
        self.elect();
    }

    fn wake(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.paused = false;
        for what in std::mem::take(&mut node.backlog) {
            let after = self.chance.below(2_000);
            self.at(after, what);
        }
    }

    fn restart(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.alive {
            return;
        }
        node.alive = true;
        node.backlog.clear();
        node.leader = None;
        node.store.clear();
        self.next_life(index);
        // A leader that restarts at once may resume its term.
        if self.raft.leader.node == self.nodes[index].me.id {
            self.lead(index);
        }
    }

    /// The process goes on under a new incarnation.
    fn next_life(&mut self, index: usize) {
        let boot = BootId(u128::from(self.chance.next()));
        let node = &mut self.nodes[index];
        let known = node
            .view
            .table()
            .node(node.me.id)
            .map_or(0, |node| node.incarnation.0);
        node.me.incarnation.0 = node.me.incarnation.0.max(known) + 1;
        node.boot = boot;
        node.life = None;
        node.next_register = 0;
    }

    fn has_majority(&self, index: usize) -> bool {
        let side = self.nodes[index].side;
        let with = self.nodes[..VOTERS]
            .iter()
            .filter(|node| node.alive && !node.paused && node.side == side);
        with.count() * 2 > VOTERS
    }

    fn elect(&mut self) {
        let can: Vec<_> = (0..VOTERS)
            .filter(|index| {
                self.nodes[*index].alive && !self.nodes[*index].paused && self.has_majority(*index)
            })
            .collect();
        if let Some(index) = self.chance.pick(&can).copied() {
            // What had reached a majority's log is committed, under the leader that wrote it.
            for (key, (by, command)) in self.proposed.clone() {
                if by == self.raft.leader && self.chance.permille(300) {
                    self.proposed.remove(&key);
                    self.commit(by, &command);
                }
            }
            self.raft.leader = LeaderId {
                term: self.raft.leader.term + 1,
                node: self.nodes[index].me.id,
            };
            self.report.elections += 1;
            self.lead(index);
        } else if self.calm {
            self.at(300_000, What::Elect);
        }
    }

    /// A voter begins to lead, or its process begins again in its term.
    fn lead(&mut self, index: usize) {
        let id = self.raft.leader;
        self.nonces += 1;
        let (config, rules, now) = (self.config, self.rules, self.now);
        let node = &mut self.nodes[index];
        let table = node.view.table();
        let (grantor, effects) =
            Grantor::with_rules(id, table, config, self.nonces, node.reading(now), rules);
        let clock = node.clock(now);
        let coordinator = Coordinator::with_rules(HandoffConfig::default(), table, clock, rules);
        node.lead = Some(Lead {
            id,
            grantor,
            coordinator,
        });
        self.granted(index, effects);
    }

    fn propose(&mut self, index: usize, command: Command) {
        if let Some(id) = self.nodes[index].lead.as_ref().map(|lead| lead.id) {
            let after = delay(&mut self.chance).min(200_000);
            self.at(after, What::Append(self.order));
            self.proposed.insert(self.order - 1, (id, command));
        }
    }

    /// A proposal reaches the log. One of a leader that is none any more is lost, or proposed again
    /// by the leader of now.
    fn append(&mut self, by: LeaderId, command: &Command) {
        let node = &self.nodes[self.index(by.node)];
        if self.raft.leader == by {
            if node.alive && self.has_majority(node.index) {
                self.commit(by, command);
            }
        } else if self.chance.permille(300) && !matches!(command, Command::Barrier { .. }) {
            self.commit(self.raft.leader, command);
        }
    }

    fn commit(&mut self, logged: LeaderId, command: &Command) {
        let before: Vec<_> = (0..HOT)
            .map(|index| self.raft.table.slot(slot(index)).clone())
            .collect();
        self.raft.commit(logged, command);
        for (index, before) in before.iter().enumerate() {
            let after = self.raft.table.slot(slot(index as u16));
            if after.epoch != before.epoch {
                let moved = after.via.is_some();
                self.report.moves += usize::from(moved);
                self.report.takeovers += usize::from(!moved);
            } else if before.moving.is_some() && after.moving.is_none() {
                self.report.aborted += 1;
            }
        }
        for index in 0..VOTERS {
            let after = delay(&mut self.chance);
            self.at(after, What::Apply(index));
        }
    }

    fn apply(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let Some(entry) = self.raft.entries.get(node.applied).cloned() else {
            return;
        };
        node.applied += 1;
        if let Some(delta) = entry.delta {
            node.view.advance(&delta);
            for to in VOTERS..NODES {
                if self.nodes[to].watches == index {
                    self.send(index, to, Message::Delta(Arc::clone(&delta)));
                }
            }
            self.table_changed(index);
        }
        if let (Some(nonce), Some(lead)) = (entry.nonce, &mut self.nodes[index].lead) {
            lead.grantor.barrier_applied(nonce);
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        if from == to {
            self.at(10, What::Deliver(to, message));
            return;
        }
        let lost = !self.calm && self.chance.permille(30);
        if lost || self.nodes[from].side != self.nodes[to].side {
            return;
        }
        let after = delay(&mut self.chance);
        if self.chance.permille(20) {
            let again = delay(&mut self.chance);
            self.at(again, What::Deliver(to, message.clone()));
        }
        self.at(after, What::Deliver(to, message));
    }

    fn tell_leader(&mut self, index: usize, message: Message) {
        if let Some((_, leader)) = self.nodes[index].leader {
            self.send(index, leader, message);
        }
    }

    /// The table of a node has changed: all its machines hear of it.
    fn table_changed(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let (clock, reading) = (node.clock(self.now), node.reading(self.now));
        let slots = || (0..HOT).map(slot);
        let table = node.view.table();
        let mut coordinated = Vec::new();
        if let Some(lead) = &mut node.lead {
            lead.grantor.table(table, reading);
            coordinated = lead.coordinator.table(table, slots(), clock);
        }
        let (mut target, mut tenure, mut source) = (Vec::new(), Vec::new(), Vec::new());
        let over = node.view.is_over(node.me);
        if let Some(life) = node.life.as_mut().filter(|_| !over) {
            target = life.target.table(table, slots(), clock);
            tenure = life.tenure.table(&node.view, slots());
            source = life.source.table(table, slots(), clock);
        }
        self.coordinated(index, coordinated);
        if over {
            self.die(index);
            return;
        }
        self.targeted(index, target);
        self.tenured(index, tenure);
        self.sourced(index, source);
        self.be_born(index);
    }

    /// A life of a node is over; its process goes on under the next.
    fn die(&mut self, index: usize) {
        if let Some(life) = &mut self.nodes[index].life {
            life.holder.dead();
            life.tenure.dead();
            self.report.replaced += 1;
        }
        self.next_life(index);
    }

    /// The table names this life: its machines begin.
    fn be_born(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let table = node.view.table();
        let ours = table.is_living(node.me)
            && table
                .node(node.me.id)
                .is_some_and(|rec| rec.boot == node.boot);
        if node.life.is_some() || !ours {
            return;
        }
        let reading = node.reading(self.now);
        let mut life = Life::new(node.me, node.boot, self.config, reading, self.rules);
        life.holder.voters(
            (0..VOTERS)
                .map(|voter| NodeId(voter as u32 * 2 + 1))
                .collect(),
        );
        if let Some((_, leader)) = node.leader {
            life.holder
                .leader(Some(NodeId(leader as u32 * 2 + 1)), reading);
        }
        node.life = Some(life);
        self.table_changed(index);
    }

    fn tick(&mut self, index: usize) {
        let jitter = self.chance.between(20_000, 30_000);
        self.at(jitter, What::Tick(index));
        let now = self.now;
        let load = Load {
            empty: self.chance.permille(30),
            longest: Duration::from_millis(self.chance.below(60)),
        };
        let node = &mut self.nodes[index];
        let (clock, reading) = (node.clock(now), node.reading(now));
        let boot = node.boot;
        if let Some(life) = &mut node.life {
            life.holder
                .report(node.view.table().version(), life.source.closed_count());
            let held = life.holder.tick(reading);
            let source = life.source.tick(clock, |_| load);
            let target = life.target.tick(clock, |_, _| true);
            self.held(index, held);
            self.sourced(index, source);
            self.targeted(index, target);
        } else if now >= node.next_register {
            node.next_register = now + 300_000;
            let mut wanted = registration(
                &format!("n{}", index + 1),
                index as u128 + 1,
                node.me.incarnation.0,
            );
            wanted.boot = boot;
            self.tell_leader(index, Message::Register(wanted));
        }
        let node = &self.nodes[index];
        let joining = node
            .view
            .table()
            .node(node.me.id)
            .is_some_and(|rec| rec.state == NodeState::Joining);
        if node.life.is_some() && joining && self.chance.permille(200) {
            let change = NodeChange::State(NodeState::Up);
            let command = Command::SetNode {
                member: node.me,
                boot,
                change,
            };
            self.tell_leader(index, Message::Propose(command));
        }
        if self.chance.permille(2) {
            let voter = self.chance.below(VOTERS as u64) as usize;
            self.nodes[index].watches = voter;
            self.send(index, voter, Message::AskTable(index));
        }
        self.write(index);
        self.tick_leader(index);
    }

    /// What the node acts for it writes; writes take their time.
    fn write(&mut self, index: usize) {
        if self.store.is_some() {
            let acting: Vec<_> = self.nodes[index].acting(self.now).collect();
            for (slot, epoch) in acting {
                let after = delay(&mut self.chance) * 4;
                self.at(after, What::Write(slot, epoch));
            }
        }
    }

    fn tick_leader(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let (clock, reading) = (node.clock(self.now), node.reading(self.now));
        let Some(lead) = &mut node.lead else { return };
        let id = lead.id;
        let granted = lead.grantor.tick(node.view.table(), reading);
        for (from, closed) in lead.grantor.closed() {
            lead.coordinator.closed(from, closed, clock);
        }
        let coordinated = lead.coordinator.tick(clock);
        let starting = lead.grantor.is_starting();
        self.granted(index, granted);
        self.coordinated(index, coordinated);
        if self.chance.permille(400) {
            for to in 0..NODES {
                self.send(index, to, Message::Leader(id, index));
            }
        }
        if !starting && self.chance.permille(100) {
            self.plan(index);
        }
    }

    /// Orphans get owners, and now and then a slot moves.
    fn plan(&mut self, index: usize) {
        let Self { nodes, chance, .. } = self;
        let table = nodes[index].view.table();
        let orphans = (0..HOT).map(slot).filter(|slot| table.is_orphan(*slot));
        let grants = grants(chance, table, orphans, None);
        if !grants.is_empty() {
            self.propose(index, Command::Assign { grants });
        } else if !self.calm && chance.permille(600) {
            let slot = slot(chance.below(u64::from(HOT)) as u16);
            let expect_epoch = table.slot(slot).epoch;
            if let Some(to) = someone(chance, table, None) {
                let reason = [MoveReason::Rebalance, MoveReason::Drain, MoveReason::Admin];
                let reason = *chance.pick(&reason).expect("not empty");
                let moves = vec![MoveStart {
                    slot,
                    expect_epoch,
                    to,
                }];
                self.propose(index, Command::BeginMoves { moves, reason });
            }
        }
    }

    fn grants_for(&mut self, index: usize, dead: Member) -> Vec<Grant> {
        let Self { nodes, chance, .. } = self;
        let table = nodes[index].view.table();
        let owned = (0..HOT)
            .map(slot)
            .filter(|slot| table.slot(*slot).owner == Some(dead));
        grants(chance, table, owned, Some(dead))
    }

    fn deliver(&mut self, index: usize, message: Message) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let (clock, reading) = (node.clock(now), node.reading(now));
        match message {
            Message::Beat(beat, via) => {
                let from = self.index(beat.member.id);
                if let Some(lead) = &mut self.nodes[index].lead {
                    let via = via.map(|via| NodeId(via as u32 * 2 + 1));
                    let effects = lead.grantor.heartbeat(beat, via, reading);
                    self.granted(index, effects);
                } else if via.is_none() && from != index {
                    // A voter passes it on.
                    if let Some((_, leader)) = self.nodes[index]
                        .leader
                        .filter(|(_, leader)| *leader != index)
                    {
                        self.send(index, leader, Message::Beat(beat, Some(index)));
                    }
                }
            }
            Message::Ack(ack) if ack.member.id != node.me.id => {
                let to = self.index(ack.member.id);
                self.send(index, to, Message::Ack(ack));
            }
            Message::Ack(ack) => {
                if let Some(life) = &mut node.life {
                    let effects = life.holder.ack(ack, reading);
                    self.held(index, effects);
                }
            }
            Message::TellDead(member) => {
                if node.me == member && node.life.is_some() {
                    self.die(index);
                }
            }
            Message::Leader(id, from) => {
                if node.lead.as_ref().is_some_and(|lead| lead.id < id) {
                    node.lead = None;
                }
                if node.leader.is_none_or(|(known, _)| known <= id) {
                    let new = node.leader != Some((id, from));
                    node.leader = Some((id, from));
                    let Some(life) = node.life.as_mut().filter(|_| new) else {
                        return;
                    };
                    let held = life.holder.leader(Some(id.node), reading);
                    let source = life.source.new_leader(clock);
                    self.held(index, held);
                    self.sourced(index, source);
                }
            }
            Message::Delta(delta) => match node.view.advance(&delta) {
                Advance::Advanced => self.table_changed(index),
                Advance::Gap => self.ask_table(index),
                _ => {}
            },
            Message::AskTable(from) => {
                let table = Arc::new(node.view.table().clone());
                self.send(index, from, Message::Table(table));
            }
            Message::Table(table) => {
                // A voter's table is its own state machine.
                if index >= VOTERS && node.view.install((*table).clone()) == Install::Installed {
                    self.table_changed(index);
                }
            }
            Message::Register(wanted) => {
                if let Some(lead) = &mut node.lead {
                    let effects = lead.grantor.register(wanted, node.view.table(), reading);
                    self.granted(index, effects);
                }
            }
            Message::Propose(command) => self.propose(index, command),
            Message::Prepared(from, step) => {
                if let Some(life) = &mut node.life {
                    life.source.prepared(from, step);
                }
            }
            Message::Values(from, slot, id) => {
                if let Some(life) = &mut node.life {
                    let effects = life.target.values(from, slot, id);
                    self.targeted(index, effects);
                }
            }
            Message::Received(from, step) => {
                if let Some(life) = &mut node.life {
                    let effects = life.source.received(from, step, clock);
                    self.sourced(index, effects);
                }
            }
            Message::Released(from, slots) => {
                if let Some(lead) = &mut node.lead {
                    let effects = lead
                        .coordinator
                        .released(from, &slots, node.view.table(), clock);
                    self.coordinated(index, effects);
                }
            }
            Message::AbortWanted(from, wanted) => {
                if let Some(lead) = &mut node.lead {
                    let effects =
                        lead.coordinator
                            .abort_wanted(from, &[wanted], node.view.table(), clock);
                    self.coordinated(index, effects);
                }
            }
        }
    }

    fn ask_table(&mut self, index: usize) {
        let voter = self.chance.below(VOTERS as u64) as usize;
        self.send(index, voter, Message::AskTable(index));
    }

    fn granted(&mut self, index: usize, effects: Vec<GrantorEffect>) {
        let Some(leader) = self.nodes[index].lead.as_ref().map(|lead| lead.id) else {
            return;
        };
        for effect in effects {
            match effect {
                GrantorEffect::Barrier { nonce } => self.propose(index, Command::Barrier { nonce }),
                GrantorEffect::Round { id } => {
                    let after = delay(&mut self.chance).min(60_000);
                    self.at(after, What::RoundCheck(leader, id));
                }
                GrantorEffect::Ack { via, ack } => {
                    let to = self.index(via.unwrap_or(ack.member.id));
                    self.send(index, to, Message::Ack(ack));
                }
                GrantorEffect::TellDead { member } => {
                    let to = self.index(member.id);
                    self.send(index, to, Message::TellDead(member));
                }
                GrantorEffect::DeclareDead { member, why } => {
                    let grants = self.grants_for(index, member);
                    let why = why.to_owned();
                    self.propose(
                        index,
                        Command::DeclareDead {
                            member,
                            why,
                            leader,
                            grants,
                        },
                    );
                }
                GrantorEffect::Register { node, replaces } => {
                    let grants = replaces.map_or_else(Vec::new, |old| self.grants_for(index, old));
                    self.propose(
                        index,
                        Command::Register {
                            node,
                            leader,
                            grants,
                        },
                    );
                }
                GrantorEffect::RefuseProcess { .. } | GrantorEffect::RefuseRegister { .. } => {}
            }
        }
    }

    fn held(&mut self, index: usize, effects: Vec<HolderEffect>) {
        for effect in effects {
            match effect {
                HolderEffect::Send { to, via, heartbeat } => {
                    let message = Message::Beat(heartbeat, None);
                    for to in std::iter::once(to).chain(via) {
                        let to = self.index(to);
                        self.send(index, to, message.clone());
                    }
                }
                HolderEffect::Valid | HolderEffect::Lapsed => {
                    let valid = effect == HolderEffect::Valid;
                    self.report.lapses += usize::from(!valid);
                    if let Some(life) = &mut self.nodes[index].life {
                        let effects = life.tenure.lease(valid);
                        self.tenured(index, effects);
                    }
                }
                HolderEffect::Behind { .. }
                    if index >= VOTERS && self.now >= self.nodes[index].next_ask =>
                {
                    self.nodes[index].next_ask = self.now + 1_000_000;
                    self.ask_table(index);
                }
                HolderEffect::Behind { .. }
                | HolderEffect::Dead
                | HolderEffect::Degraded { .. } => {}
            }
        }
    }

    fn tenured(&mut self, index: usize, effects: Vec<TenureEffect>) {
        for effect in effects {
            match effect {
                TenureEffect::Fence { slot, epoch } => {
                    let after = delay(&mut self.chance).min(20_000);
                    let boot = self.nodes[index].boot;
                    self.at(after, What::FenceAsk(index, boot, slot, epoch));
                }
                TenureEffect::Open { slot, epoch, via } => {
                    self.checker.opened(slot, epoch);
                    if let Some(life) = &mut self.nodes[index].life {
                        life.target.take(slot, via);
                    }
                }
                TenureEffect::Saw { slot, epoch } => self.nodes[index].view.saw(slot, epoch),
                TenureEffect::Suspend | TenureEffect::Resume | TenureEffect::Drop { .. } => {}
            }
        }
    }

    fn sourced(&mut self, index: usize, effects: Vec<SourceEffect>) {
        let (me, boot) = (self.nodes[index].me, self.nodes[index].boot);
        for effect in effects {
            match effect {
                SourceEffect::Close { slot, .. } => {
                    let started = usize::from(self.chance.permille(300));
                    let after = self.chance.below(2_000);
                    self.at(after, What::Closed(index, boot, slot, started));
                }
                SourceEffect::SendValues { slot, to } => {
                    let target = self.index(to.to.id);
                    self.send(index, target, Message::Values(me, slot, to.id));
                }
                SourceEffect::Cut { slot } => self.at(100, What::Idle(index, boot, slot)),
                SourceEffect::LetGo { slot, epoch } => {
                    if let Some(life) = &mut self.nodes[index].life {
                        life.tenure.release(slot, epoch);
                    }
                }
                SourceEffect::Release(all) => self.tell_leader(index, Message::Released(me, all)),
                SourceEffect::WantAbort(wanted) => {
                    self.tell_leader(index, Message::AbortWanted(me, wanted))
                }
                SourceEffect::Reopen { slot, epoch } => {
                    if let Some(life) = &mut self.nodes[index].life {
                        let effects = life.tenure.take_back(slot, epoch);
                        self.tenured(index, effects);
                    }
                }
                SourceEffect::Forget { .. } => {}
            }
        }
    }

    fn targeted(&mut self, index: usize, effects: Vec<TargetEffect>) {
        let me = self.nodes[index].me;
        for effect in effects {
            match effect {
                TargetEffect::Prepared { to, step } => {
                    let to = self.index(to.id);
                    self.send(index, to, Message::Prepared(me, step));
                }
                TargetEffect::Received { to, step } => {
                    let to = self.index(to.id);
                    self.send(index, to, Message::Received(me, step));
                }
                TargetEffect::Keep { .. } | TargetEffect::Discard { .. } => {}
            }
        }
    }

    fn coordinated(&mut self, index: usize, effects: Vec<CoordinatorEffect>) {
        for effect in effects {
            if let CoordinatorEffect::Propose(command) = effect {
                self.propose(index, command);
            }
        }
    }
}

fn someone(chance: &mut Chance, table: &Table, but: Option<Member>) -> Option<Member> {
    let members = table.nodes().keys().filter_map(|id| table.member(*id));
    let up: Vec<_> = members
        .filter(|m| table.is_up(*m) && Some(*m) != but)
        .collect();
    chance.pick(&up).copied()
}

fn grants(
    chance: &mut Chance,
    table: &Table,
    slots: impl Iterator<Item = SlotId>,
    but: Option<Member>,
) -> Vec<Grant> {
    slots
        .filter_map(|slot| {
            let to = someone(chance, table, but)?;
            Some(Grant {
                slot,
                expect_epoch: table.slot(slot).epoch,
                to,
            })
        })
        .collect()
}
