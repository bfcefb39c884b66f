//! What a node does as time passes.

use std::time::Duration;

use super::net::{Message, What, delay};
use super::world::{HOT, NODES, VOTERS, World};
use crate::handoff::Load;
use crate::testing::{Chance, registration, slot};
use crate::*;

impl World {
    pub(super) fn tick(&mut self, index: usize) {
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
            let source = life.source.tick(clock, |_| Some(load));
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
        self.tick_events(index);
        self.tick_leader(index);
    }

    /// What the node acts for it writes; writes take their time.
    pub(super) fn write(&mut self, index: usize) {
        if self.store.is_some() {
            let acting: Vec<_> = self.nodes[index].acting(self.now).collect();
            for (slot, epoch) in acting {
                let after = delay(&mut self.chance) * 4;
                self.at(after, What::Write(slot, epoch));
            }
        }
    }

    pub(super) fn tick_leader(&mut self, index: usize) {
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
    pub(super) fn plan(&mut self, index: usize) {
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

    pub(super) fn grants_for(&mut self, index: usize, dead: Member) -> Vec<Grant> {
        let Self { nodes, chance, .. } = self;
        let table = nodes[index].view.table();
        let owned = (0..HOT)
            .map(slot)
            .filter(|slot| table.slot(*slot).owner == Some(dead));
        grants(chance, table, owned, Some(dead))
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
