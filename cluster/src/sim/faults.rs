//! What goes wrong: pauses, crashes, partitions, elections.

use super::net::What;
use super::node::Lead;
use super::world::{NODES, VOTERS, World};
use crate::handoff::{Coordinator, HandoffConfig};
use crate::lease::Grantor;
use crate::*;

impl World {
    pub(super) fn fault(&mut self) {
        if self.calm {
            return;
        }
        let index = self.chance.below(NODES as u64) as usize;
        match self.chance.below(13) {
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
            10 | 11 => {
                let until = self.now + self.chance.between(300_000, 2_500_000);
                self.nodes[index % VOTERS].slow_until = until;
            }
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

    pub(super) fn heal(&mut self) {
        for index in 0..NODES {
            self.nodes[index].side = 0;
            self.wake(index);
            if !self.nodes[index].alive {
                self.restart(index);
            }
        }
        self.elect();
    }

    pub(super) fn wake(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.paused = false;
        for what in std::mem::take(&mut node.backlog) {
            let after = self.chance.below(2_000);
            self.at(after, what);
        }
    }

    pub(super) fn restart(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.alive {
            return;
        }
        node.alive = true;
        node.backlog.clear();
        node.leader = None;
        node.store.clear();
        node.boot = BootId(u128::from(self.chance.next()));
        self.forget_events(index);
        self.next_life(index);
        // A leader that restarts at once may resume its term.
        if self.raft.leader.node == self.nodes[index].me.id {
            self.lead(index);
        }
    }

    /// The process goes on under a new incarnation.
    pub(super) fn next_life(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let known = node
            .view
            .table()
            .node(node.me.id)
            .map_or(0, |node| node.incarnation.0);
        node.me.incarnation.0 = node.me.incarnation.0.max(known) + 1;
        node.life = None;
        node.next_register = 0;
    }

    pub(super) fn has_majority(&self, index: usize) -> bool {
        let side = self.nodes[index].side;
        let with = self.nodes[..VOTERS]
            .iter()
            .filter(|node| node.alive && !node.paused && node.side == side);
        with.count() * 2 > VOTERS
    }

    pub(super) fn elect(&mut self) {
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
    pub(super) fn lead(&mut self, index: usize) {
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
}
