//! What a node does with a message.

use std::sync::Arc;

use super::net::Message;
use super::world::{VOTERS, World};
use crate::*;

impl World {
    pub(super) fn deliver(&mut self, index: usize, message: Message) {
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
}
