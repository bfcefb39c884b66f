//! The lives of a process, and what a changed table means for it.

use super::node::Life;
use super::world::{HOT, VOTERS, World};
use crate::testing::slot;
use crate::*;

impl World {
    /// The table of a node has changed: all its machines hear of it.
    pub(super) fn table_changed(&mut self, index: usize) {
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
        self.routed(index);
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
    pub(super) fn die(&mut self, index: usize) {
        if let Some(life) = &mut self.nodes[index].life {
            life.holder.dead();
            life.tenure.dead();
            self.report.replaced += 1;
        }
        self.next_life(index);
    }

    /// The table names this life: its machines begin.
    pub(super) fn be_born(&mut self, index: usize) {
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
}
