//! How proposals reach the log, and voters apply it.

use std::sync::Arc;

use super::net::{Message, What, delay, log_delay};
use super::world::{HOT, NODES, VOTERS, World};
use crate::testing::slot;
use crate::*;

impl World {
    pub(super) fn propose(&mut self, index: usize, command: Command) {
        if let Some(id) = self.nodes[index].lead.as_ref().map(|lead| lead.id) {
            let after = log_delay(&mut self.chance);
            self.at(after, What::Append(self.order));
            self.proposed.insert(self.order - 1, (id, command));
        }
    }

    /// A proposal reaches the log. One of a leader that is none any more is lost, or proposed again
    /// by the leader of now.
    pub(super) fn append(&mut self, by: LeaderId, command: &Command) {
        let node = &self.nodes[self.index(by.node)];
        if self.raft.leader == by {
            if node.alive && self.has_majority(node.index) {
                self.commit(by, command);
            }
        } else if self.chance.permille(300) && !matches!(command, Command::Barrier { .. }) {
            self.commit(self.raft.leader, command);
        }
    }

    pub(super) fn commit(&mut self, logged: LeaderId, command: &Command) {
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

    pub(super) fn apply(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.slow_until > self.now {
            let after = node.slow_until - self.now;
            self.at(after, What::Apply(index));
            return;
        }
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
}
