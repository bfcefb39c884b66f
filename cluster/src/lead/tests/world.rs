//! A leader, a log, and nodes that do what they are told: heartbeats every 200 ms, and moves that
//! are released at once. Proposals wait until the test commits them or has them fail.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::handoff::Released;
use crate::lead::flights::slots_of;
use crate::lead::*;
use crate::lease::{Ack, Heartbeat, LeaseConfig};
use crate::testing::{Log, leader};
use crate::*;

pub(super) const TICK: Duration = Duration::from_millis(25);

pub(super) fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// How a node behaves. One that is not told otherwise is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    Degraded,
    /// Heard only through node 1.
    Indirect,
    Silent,
}

pub(super) struct World {
    pub(super) log: Log,
    pub(super) lead: Lead,
    pub(super) now: Duration,
    pub(super) flying: VecDeque<(ProposalId, Command)>,
    pub(super) rounds: Vec<u64>,
    pub(super) effects: Vec<LeadEffect>,
    pub(super) moods: BTreeMap<NodeId, Mood>,
    /// Whether sources release what moves.
    pub(super) releasing: bool,
    /// The most moves that were open at once, and how many have begun.
    pub(super) most_open: usize,
    pub(super) begun: usize,
    seq: u64,
}

pub(super) fn config(log: &Log) -> LeadConfig {
    LeadConfig::new(LeaseConfig::new(log.table.cluster(), millis(200)))
}

impl World {
    /// A new leader over this log, before its barrier.
    pub(super) fn over(log: Log) -> Self {
        let now = Duration::from_secs(100);
        let config = config(&log);
        let reading = Reading::of_one(now);
        let (lead, effects) = Lead::new(leader(log.term), config, &log.table, 7, reading);
        let mut world = Self {
            log,
            lead,
            now,
            flying: VecDeque::new(),
            rounds: Vec::new(),
            effects: Vec::new(),
            moods: BTreeMap::new(),
            releasing: true,
            most_open: 0,
            begun: 0,
            seq: 0,
        };
        world.take(effects);
        world
    }

    /// A leader of so many nodes that are up, older than 3 s, every slot owned.
    pub(super) fn settled(nodes: u32) -> Self {
        let mut world = Self::over(Log::with_nodes(nodes));
        world.run(millis(6000));
        assert_eq!(world.vacant(), 0);
        world
    }

    /// The id of the node with this number in its name. 0 stays 0.
    pub(super) fn id(&self, number: u32) -> NodeId {
        let name = format!("n{number}");
        let mut named = self.log.table.nodes().iter();
        let found = named.find(|(_, node)| node.name == name && node.state != NodeState::Removed);
        found.map_or(NodeId(0), |(id, _)| *id)
    }

    pub(super) fn reading(&self) -> Reading {
        Reading::of_one(self.now)
    }

    /// Notes what the leader wants. No slot may be in two proposals at once.
    pub(super) fn take(&mut self, effects: Vec<LeadEffect>) {
        for effect in &effects {
            match effect {
                LeadEffect::Propose { id, command } => {
                    let busy: BTreeSet<_> = self
                        .flying
                        .iter()
                        .flat_map(|(_, other)| slots_of(other))
                        .collect();
                    for slot in slots_of(command) {
                        assert!(!busy.contains(&slot), "{slot:?} is in two");
                    }
                    self.flying.push_back((*id, command.clone()));
                }
                LeadEffect::Round { id } => self.rounds.push(*id),
                _ => {}
            }
        }
        self.effects.extend(effects);
    }

    /// Commits the proposal that was made first.
    pub(super) fn commit(&mut self) -> Option<Command> {
        let (id, command) = self.flying.pop_front()?;
        let applied = self.apply(&command);
        let answer = Ok(applied.outcome);
        let effects = self
            .lead
            .proposed(&self.log.table, id, answer, self.reading());
        self.take(effects);
        Some(command)
    }

    pub(super) fn commit_all(&mut self) {
        while self.commit().is_some() {}
    }

    /// Has the proposal that was made first fail.
    pub(super) fn fail(&mut self) -> Command {
        let (id, command) = self.flying.pop_front().unwrap();
        let answer = Err("no quorum".to_owned());
        let effects = self
            .lead
            .proposed(&self.log.table, id, answer, self.reading());
        self.take(effects);
        command
    }

    /// Something is committed, by whomever, and the leader sees it.
    pub(super) fn apply(&mut self, command: &Command) -> Applied {
        let applied = self.log.commit(command);
        if let (Command::BeginMoves { .. }, Outcome::Done { changed }) = (command, &applied.outcome)
        {
            self.begun += changed;
        }
        self.show(&applied);
        applied
    }

    pub(super) fn show(&mut self, applied: &Applied) {
        self.most_open = self.most_open.max(self.open());
        if let Some(delta) = &applied.delta {
            let slots: Vec<_> = delta.slots.iter().map(|(slot, _)| *slot).collect();
            let effects = self
                .lead
                .table_changed(&self.log.table, slots, self.reading());
            self.take(effects);
        }
    }

    /// Another leader follows, in the same log. What the old one had under way is lost, or logged
    /// before the other begins.
    pub(super) fn succeed(&mut self, mut logged: impl FnMut() -> bool) {
        self.log.term += 1;
        for (_, command) in std::mem::take(&mut self.flying) {
            if logged() {
                self.log.commit(&command);
            }
        }
        self.rounds.clear();
        let config = config(&self.log);
        let (leader, reading) = (leader(self.log.term), self.reading());
        let nonce = 1000 + self.log.term;
        let (lead, effects) = Lead::new(leader, config, &self.log.table, nonce, reading);
        self.lead = lead;
        self.take(effects);
    }

    /// A node joins and comes up.
    pub(super) fn join(&mut self, id: u32) -> Member {
        let before = self.log.table.version();
        let member = self.log.join(&format!("n{id}"), u128::from(id));
        assert!(self.log.table.version() > before);
        let reading = self.reading();
        let effects = self.lead.table_changed(&self.log.table, [], reading);
        self.take(effects);
        member
    }

    pub(super) fn turn(&mut self, id: u32, state: NodeState) {
        let applied = self.log.turn(self.id(id).0, state);
        self.show(&applied);
    }

    pub(super) fn tell(&mut self, from: u32, control: Control) {
        self.tell_as(self.id(from), control);
    }

    pub(super) fn tell_as(&mut self, from: NodeId, control: Control) {
        let reading = self.reading();
        let effects = self.lead.message(&self.log.table, from, control, reading);
        self.take(effects);
    }

    /// One tick, and whatever is due at it.
    pub(super) fn tick(&mut self) {
        self.now += TICK;
        if self.now.as_millis().is_multiple_of(200) {
            self.beat();
        }
        for id in std::mem::take(&mut self.rounds) {
            let reading = self.reading();
            let effects = self.lead.round_done(&self.log.table, id, true, reading);
            self.take(effects);
        }
        let effects = self.lead.tick(&self.log.table, self.reading());
        self.take(effects);
    }

    /// So much time, in which all that is proposed is committed and all that moves released.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.commit_all();
            if self.releasing {
                self.release();
            }
            self.commit_all();
            self.tick();
        }
        self.commit_all();
    }

    pub(super) fn beat(&mut self) {
        let living: Vec<_> = self
            .log
            .table
            .nodes()
            .iter()
            .filter(|(_, node)| node.state.is_living())
            .map(|(id, node)| (*id, node.incarnation, node.boot))
            .collect();
        for (id, incarnation, boot) in living {
            let mood = self.moods.get(&id).copied().unwrap_or(Mood::Well);
            self.seq += 1;
            let heartbeat = Heartbeat {
                member: Member { id, incarnation },
                boot,
                seq: self.seq,
                version: self.log.table.version(),
                degraded: mood == Mood::Degraded,
                closed: 0,
            };
            match mood {
                Mood::Silent => {}
                Mood::Indirect => {
                    self.tell(1, Control::Heartbeat(heartbeat, Some(NodeId(1))));
                }
                _ => self.tell_as(id, Control::Heartbeat(heartbeat, None)),
            }
        }
    }

    /// What each source would say of its moves.
    pub(super) fn releases(&self) -> BTreeMap<Member, Vec<Released>> {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (slot, rec) in self.log.table.slots() {
            if let (Some(moving), Some(owner)) = (rec.moving, rec.owner) {
                let step = Released {
                    slot,
                    id: moving.id,
                    epoch: rec.epoch,
                };
                all.entry(owner).or_default().push(step);
            }
        }
        all
    }

    pub(super) fn release(&mut self) {
        for (owner, slots) in self.releases() {
            self.tell_as(owner.id, Control::Released(owner, slots));
        }
    }

    pub(super) fn open(&self) -> usize {
        let slots = self.log.table.slots();
        slots.filter(|(_, rec)| rec.moving.is_some()).count()
    }

    pub(super) fn vacant(&self) -> usize {
        SlotId::all()
            .filter(|slot| self.log.table.is_orphan(*slot))
            .count()
    }

    pub(super) fn owned(&self, id: u32) -> usize {
        let owner = self.log.table.member(self.id(id));
        let slots = self.log.table.slots();
        slots
            .filter(|(_, rec)| owner.is_some() && rec.owner == owner)
            .count()
    }

    pub(super) fn member(&self, id: u32) -> Member {
        self.log.table.member(self.id(id)).unwrap()
    }

    pub(super) fn boot(&self, id: u32) -> BootId {
        self.log.table.node(self.id(id)).unwrap().boot
    }

    /// A node's build, as if it had started with it.
    pub(super) fn build(&mut self, id: u32, build: &str) {
        let id = self.id(id);
        self.log.table.nodes.get_mut(&id).unwrap().build = build.to_owned();
        let reading = self.reading();
        let effects = self.lead.table_changed(&self.log.table, [], reading);
        self.take(effects);
    }

    pub(super) fn mood(&mut self, id: u32, mood: Mood) {
        self.moods.insert(self.id(id), mood);
    }

    pub(super) fn notes(&self) -> Vec<Note> {
        let note = |effect: &LeadEffect| match effect {
            LeadEffect::Note(note) => Some(note.clone()),
            _ => None,
        };
        self.effects.iter().filter_map(note).collect()
    }

    pub(super) fn acks(&self) -> Vec<(NodeId, Ack)> {
        let ack = |effect: &LeadEffect| match effect {
            LeadEffect::Send {
                to,
                control: Control::Ack(ack),
            } => Some((*to, *ack)),
            _ => None,
        };
        self.effects.iter().filter_map(ack).collect()
    }

    pub(super) fn answers(&self) -> Vec<(BootId, Control)> {
        let answer = |effect: &LeadEffect| match effect {
            LeadEffect::Answer { boot, control } => Some((*boot, control.clone())),
            _ => None,
        };
        self.effects.iter().filter_map(answer).collect()
    }

    pub(super) fn commands(&self) -> Vec<Command> {
        self.flying
            .iter()
            .map(|(_, command)| command.clone())
            .collect()
    }
}
