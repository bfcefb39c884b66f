//! What becomes of the wants of the leader's machines, and of what nodes ask for.

use super::flights::Purpose;
use super::{Lead, LeadEffect, Note};
use crate::handoff::CoordinatorEffect;
use crate::lease::{GrantorEffect, Reading, RegisterRefusal};
use crate::peer::Control;
use crate::{
    BootId, Command, Incarnation, Member, NodeChange, NodeId, NodeRec, NodeState, Outcome, Refusal,
    Registration, Table,
};

/// So many registrations may be under way; who is left out asks again.
const REGISTERING: usize = 64;
/// So many changes that nodes make of themselves.
const CHANGING: usize = 512;
/// So many refused processes are remembered.
const NOTED: usize = 256;

impl Lead {
    /// What a node asks to be proposed: only about itself.
    pub(super) fn propose_for(
        &mut self,
        from: NodeId,
        command: Command,
        effects: &mut Vec<LeadEffect>,
    ) {
        let Command::SetNode { member, change, .. } = &command else {
            return;
        };
        // A death is proposed by the leader alone.
        let fair = !matches!(change, NodeChange::State(state) if !state.is_living());
        let room = self.flights.count(Purpose::Change) < CHANGING;
        if member.id == from && fair && room && !self.flights.has(&command) {
            self.flights.start(Purpose::Change, command, effects);
        }
    }

    pub(super) fn granted(
        &mut self,
        granted: Vec<GrantorEffect>,
        table: &Table,
        now: Reading,
        effects: &mut Vec<LeadEffect>,
    ) {
        let mut coming = Vec::new();
        for effect in granted {
            match effect {
                GrantorEffect::Barrier { nonce } => {
                    let command = Command::Barrier { nonce };
                    self.flights.start(Purpose::Barrier, command, effects);
                }
                GrantorEffect::Round { id } => effects.push(LeadEffect::Round { id }),
                GrantorEffect::Ack { via, ack } => effects.push(LeadEffect::Send {
                    to: via.unwrap_or(ack.member.id),
                    control: Control::Ack(ack),
                }),
                GrantorEffect::TellDead { member } => effects.push(LeadEffect::Send {
                    to: member.id,
                    control: Control::Dead(member),
                }),
                GrantorEffect::RefuseProcess { member, boot } => {
                    self.refuse_process(member.id, member.incarnation, boot, effects);
                }
                GrantorEffect::DeclareDead { member, why } => {
                    if !self.flights.any(Purpose::Death(member)) {
                        self.roster
                            .condemn(member, why, self.grantor.has_left(member));
                    }
                }
                GrantorEffect::Register { node, replaces } => {
                    if let Some(old) = replaces {
                        self.roster.replace(old, self.grantor.has_left(old));
                    }
                    coming.push((node, replaces));
                }
                GrantorEffect::RefuseRegister {
                    boot,
                    why: RegisterRefusal::SecondProcess { id, given, .. },
                    ..
                } => self.refuse_process(id, given, boot, effects),
                GrantorEffect::RefuseRegister { boot, why, .. } => {
                    let why = why.to_string();
                    let control = Control::NotRegistered(boot, why.clone());
                    effects.push(LeadEffect::Answer { boot, control });
                    let name = format!("process {:032x}", boot.0);
                    self.note_once(boot, Note::NotRegistered { name, why }, effects);
                }
            }
        }
        for (node, replaces) in coming {
            let room = self.flights.count(Purpose::Register) < REGISTERING;
            if !room || self.flights.registers(&node) {
                continue;
            }
            let grants = replaces.map_or_else(Vec::new, |old| self.grants_for(&[old], table, now));
            let leader = self.leader();
            let command = Command::Register {
                node,
                leader,
                grants,
            };
            self.flights.start(Purpose::Register, command, effects);
        }
    }

    pub(super) fn coordinated(
        &mut self,
        coordinated: Vec<CoordinatorEffect>,
        table: &Table,
        now: Reading,
        effects: &mut Vec<LeadEffect>,
    ) {
        for effect in coordinated {
            match effect {
                CoordinatorEffect::Propose(command) => self.steps.take(command, &self.flights),
                CoordinatorEffect::Failed { from, to } => {
                    // What ended with a life, or with a drain of its target, is no failure.
                    let state = |id| table.node(id).map(|node: &NodeRec| node.state);
                    let both = state(from).is_some_and(NodeState::is_living)
                        && state(to) == Some(NodeState::Up);
                    if both && !self.rests.rests(from, to, now.raw) {
                        self.rests.failed(from, to, now.raw);
                        effects.push(LeadEffect::Note(Note::Rests(from, to)));
                    }
                }
                CoordinatorEffect::Completed { from, to } => self.rests.completed(from, to),
            }
        }
    }

    /// Tells a process that another one has its life.
    fn refuse_process(
        &mut self,
        id: NodeId,
        incarnation: Incarnation,
        boot: BootId,
        effects: &mut Vec<LeadEffect>,
    ) {
        let member = Member { id, incarnation };
        let control = Control::SecondProcess(member, boot);
        effects.push(LeadEffect::Answer { boot, control });
        self.note_once(boot, Note::SecondProcess(member), effects);
    }

    /// A refused process asks on and on: what is new about it is told once.
    fn note_once(&mut self, boot: BootId, note: Note, effects: &mut Vec<LeadEffect>) {
        if self.noted.get(&boot) == Some(&note) {
            return;
        }
        if self.noted.len() >= NOTED {
            self.noted.clear();
        }
        self.noted.insert(boot, note.clone());
        effects.push(LeadEffect::Note(note));
    }

    /// Answers a process that wanted to be registered.
    pub(super) fn registered(
        &mut self,
        table: &Table,
        node: Registration,
        outcome: Outcome,
        effects: &mut Vec<LeadEffect>,
    ) {
        let boot = node.boot;
        let known = || {
            let same = table.nodes().iter().find(|(_, known)| known.boot == boot);
            same.and_then(|(id, _)| table.member(*id))
        };
        let control = match outcome {
            Outcome::Registered(member) => Control::Registered(member),
            Outcome::Repeat => match known() {
                Some(member) => Control::Registered(member),
                None => return,
            },
            // Another leadership's: it asks again.
            Outcome::Refused(Refusal::Leader { .. }) => return,
            // It needs a higher incarnation.
            Outcome::Refused(Refusal::NotLiving(member)) => Control::Dead(member),
            Outcome::Refused(Refusal::SecondProcess { id, given, .. }) => {
                return self.refuse_process(id, given, boot, effects);
            }
            Outcome::Refused(why) => {
                let why = why.to_string();
                let control = Control::NotRegistered(boot, why.clone());
                let name = node.name;
                self.note_once(boot, Note::NotRegistered { name, why }, effects);
                control
            }
            Outcome::Done { .. } | Outcome::Barrier(_) => return,
        };
        effects.push(LeadEffect::Answer { boot, control });
    }
}
