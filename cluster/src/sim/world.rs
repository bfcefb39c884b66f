//! The world: time, the network, faults, and what happens to each node.

use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use super::checker::Checker;
use super::events::{Data, Event, Events};
use super::net::{Message, Timed, What, delay};
use super::node::Node;
use super::raft::Raft;
use crate::lease::LeaseConfig;
use crate::testing::{Chance, Log, slot};
use crate::*;

/// How many slots are ever owned.
pub(super) const HOT: u16 = 6;
pub(super) const NODES: usize = 5;
pub(super) const VOTERS: usize = 3;

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
    pub(super) ambiguous: usize,
    pub(super) bounced: usize,
    pub(super) again: usize,
    pub(super) ran: usize,
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
        self.ambiguous += other.ambiguous;
        self.bounced += other.bounced;
        self.again += other.again;
        self.ran += other.ran;
    }
}

pub(super) struct World {
    pub(super) now: u64,
    pub(super) order: u64,
    pub(super) heap: BinaryHeap<Timed>,
    pub(super) chance: Chance,
    pub(super) rules: Rules,
    pub(super) config: LeaseConfig,
    pub(super) nodes: Vec<Node>,
    pub(super) raft: Raft,
    /// Proposals on their way to the log.
    pub(super) proposed: BTreeMap<u64, (LeaderId, Command)>,
    pub(super) store: Option<BTreeMap<SlotId, OwnerEpoch>>,
    pub(super) checker: Checker,
    /// Data links: in order, and nothing is lost while both ends live.
    pub(super) links: BTreeMap<(usize, usize), VecDeque<Data>>,
    pub(super) events: Vec<Event>,
    /// The newest event that ran, per ingress process and channel.
    pub(super) newest: BTreeMap<(BootId, u64), u64>,
    pub(super) calm: bool,
    /// Whether events come in.
    pub(super) busy: bool,
    pub(super) split: u64,
    pub(super) nonces: u64,
    pub(super) report: Report,
}

impl World {
    pub(super) fn new(seed: u64, rules: Rules, shared_store: bool, busy: bool) -> Self {
        let mut chance = Chance::new(seed);
        let mut log = Log::with_nodes(NODES as u32);
        log.rules = rules;
        let nodes = (0..NODES)
            .map(|index| {
                let id = NodeId(index as u32 * 2 + 1);
                let view = View::with_rules(log.table.clone(), rules);
                let me = log.table.member(id).expect("registered");
                let boot = log.table.node(id).expect("registered").boot;
                let mut node = Node::new(index, me, boot, view, &mut chance);
                node.events = Events::new(rules);
                node
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
            links: BTreeMap::new(),
            events: Vec::new(),
            newest: BTreeMap::new(),
            calm: false,
            busy,
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
        if self.report.violation.is_none() {
            self.report.violation = self.unanswered();
        }
        self.report
    }

    pub(super) fn at(&mut self, after: u64, what: What) {
        self.order += 1;
        self.heap.push(Timed {
            at: self.now + after,
            order: self.order,
            what,
        });
    }

    pub(super) fn step(&mut self) {
        let Some(event) = self.heap.pop() else { return };
        self.now = self.now.max(event.at);
        self.report.steps += 1;
        self.report.trace = self.report.trace.wrapping_mul(31).wrapping_add(self.now);
        self.happen(event.what);
        self.check();
    }

    pub(super) fn check(&mut self) {
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
    pub(super) fn whose(&self, what: &What) -> Option<usize> {
        match what {
            What::Tick(index) | What::Deliver(index, _) | What::Apply(index) => Some(*index),
            What::FenceOver(index, ..) | What::Closed(index, ..) | What::Idle(index, ..) => {
                Some(*index)
            }
            What::RoundOver(leader, ..) => Some(self.index(leader.node)),
            _ => None,
        }
    }

    pub(super) fn index(&self, id: NodeId) -> usize {
        (id.0 as usize).saturating_sub(1) / 2
    }

    pub(super) fn happen(&mut self, what: What) {
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
            What::FenceAsk(index, life_of, slot, epoch) => {
                let store = self.store.as_mut().unwrap_or(&mut self.nodes[index].store);
                let known = store.entry(slot).or_insert(epoch);
                let answer = if *known > epoch { Err(*known) } else { Ok(()) };
                *known = (*known).max(epoch);
                let after = delay(&mut self.chance);
                self.at(after, What::FenceOver(index, life_of, slot, epoch, answer));
            }
            What::FenceOver(index, life_of, slot, epoch, answer) => {
                let node = &mut self.nodes[index];
                if let Some(life) = node.life.as_mut().filter(|_| node.me == life_of) {
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
            What::Closed(index, life_of, slot, started) => {
                let node = &mut self.nodes[index];
                let now = node.clock(self.now);
                if let Some(life) = node.life.as_mut().filter(|_| node.me == life_of) {
                    let effects = life.source.closed(slot, started, true, now);
                    if started > 0 {
                        let after = self.chance.between(1_000, 700_000);
                        self.at(after, What::Idle(index, life_of, slot));
                    }
                    self.sourced(index, effects);
                }
            }
            What::Idle(index, life_of, slot) => {
                let node = &mut self.nodes[index];
                let now = node.clock(self.now);
                if let Some(life) = node.life.as_mut().filter(|_| node.me == life_of) {
                    let effects = life.source.idle(slot, true, now);
                    self.sourced(index, effects);
                }
            }
            What::Link(from, to) => self.arrive(from, to),
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

    pub(super) fn send(&mut self, from: usize, to: usize, message: Message) {
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

    pub(super) fn tell_leader(&mut self, index: usize, message: Message) {
        if let Some((_, leader)) = self.nodes[index].leader {
            self.send(index, leader, message);
        }
    }

    pub(super) fn ask_table(&mut self, index: usize) {
        let voter = self.chance.below(VOTERS as u64) as usize;
        self.send(index, voter, Message::AskTable(index));
    }
}
