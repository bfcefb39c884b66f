//! Commands about nodes: coming, changing, dying, going.

use std::collections::BTreeSet;

use super::{Change, Ran, done};
use crate::table::{
    Entry, Grant, Member, NodeChange, NodeRec, NodeState, Outcome, Refusal, Registration, Roles,
    Serves, SlotRec,
};
use crate::{BootId, NodeId, Rule};

impl Change<'_> {
    pub(super) fn register(
        &mut self,
        node: &Registration,
        grants: &[Grant],
        entry: Entry<'_>,
    ) -> Ran {
        let known = self
            .table
            .nodes
            .iter()
            .find(|(_, known)| known.data == node.data);
        if let Some((id, known)) = known {
            let id = *id;
            if known.state == NodeState::Removed {
                return Err(Refusal::Removed(id));
            }
            if known.name != node.name {
                return Err(Refusal::Renamed {
                    id,
                    name: known.name.clone(),
                });
            }
            let old = Member {
                id,
                incarnation: known.incarnation,
            };
            let same_boot = known.boot == node.boot || !self.rules.hold(Rule::BootIdTellsApart);
            if known.incarnation == node.incarnation && same_boot {
                return if known.state.is_living() {
                    Ok(Outcome::Repeat)
                } else {
                    Err(Refusal::NotLiving(old))
                };
            }
            if node.incarnation <= known.incarnation {
                return Err(Refusal::SecondProcess {
                    id,
                    known: known.incarnation,
                    given: node.incarnation,
                });
            }
            self.bury(old);
            self.put(id, node);
            self.grant(grants);
            return Ok(Outcome::Registered(Member {
                id,
                incarnation: node.incarnation,
            }));
        }
        let namesake = self
            .table
            .nodes
            .iter()
            .find(|(_, known)| known.state != NodeState::Removed && known.name == node.name);
        let id = match u32::try_from(entry.log.index) {
            Ok(id) if !self.table.nodes.contains_key(&NodeId(id)) => NodeId(id),
            _ => return Err(Refusal::Exhausted(entry.log.index)),
        };
        if let Some((holder, known)) = namesake {
            let holder = *holder;
            let holds = self
                .table
                .slots
                .iter()
                .any(|slot| slot.holders.contains(&holder));
            if known.state != NodeState::Dead || entry.voters.contains(&holder) || holds {
                return Err(Refusal::NameTaken {
                    name: node.name.clone(),
                    holder,
                });
            }
            self.entomb(holder);
        }
        self.put(id, node);
        self.grant(grants);
        Ok(Outcome::Registered(Member {
            id,
            incarnation: node.incarnation,
        }))
    }

    pub(super) fn put(&mut self, id: NodeId, node: &Registration) {
        let rec = NodeRec {
            name: node.name.clone(),
            incarnation: node.incarnation,
            boot: node.boot,
            data: node.data,
            addrs: node.addrs.clone(),
            roles: node.roles,
            serves: node.serves.clone(),
            state: NodeState::Joining,
            protocol: node.protocol,
            build: node.build.clone(),
            routes_hash: node.routes_hash,
        };
        self.table.nodes.insert(id, rec);
        self.nodes.insert(id);
    }

    pub(super) fn set_node(&mut self, member: Member, boot: BootId, change: &NodeChange) -> Ran {
        let node = self
            .table
            .nodes
            .get_mut(&member.id)
            .ok_or(Refusal::Unknown(member.id))?;
        if node.incarnation != member.incarnation || !node.state.is_living() {
            return Err(Refusal::NotLiving(member));
        }
        if node.boot != boot && self.rules.hold(Rule::BootIdTellsApart) {
            return Err(Refusal::SecondProcess {
                id: member.id,
                known: node.incarnation,
                given: member.incarnation,
            });
        }
        let changed = match change {
            NodeChange::State(state) => {
                let from = node.state;
                match (from, *state) {
                    (from, to) if from == to => false,
                    (NodeState::Joining | NodeState::Draining, NodeState::Up)
                    | (NodeState::Joining | NodeState::Up, NodeState::Draining) => {
                        node.state = *state;
                        true
                    }
                    (from, to) => return Err(Refusal::Transition { from, to }),
                }
            }
            NodeChange::Serves(serves) => replace(&mut node.serves, serves),
            NodeChange::Addrs(addrs) => replace(&mut node.addrs, addrs),
            NodeChange::RoutesHash(hash) => replace(&mut node.routes_hash, hash),
        };
        if !changed {
            return Ok(Outcome::Repeat);
        }
        let draining = node.state == NodeState::Draining;
        self.nodes.insert(member.id);
        if draining {
            self.abort_where(|slot| slot.moving.is_some_and(|moving| moving.to.id == member.id));
        }
        Ok(done(1))
    }

    pub(super) fn declare_dead(&mut self, member: Member, grants: &[Grant]) -> Ran {
        let node = self
            .table
            .nodes
            .get(&member.id)
            .ok_or(Refusal::Unknown(member.id))?;
        if node.incarnation != member.incarnation {
            return Err(Refusal::NotLiving(member));
        }
        if !node.state.is_living() {
            return Ok(Outcome::Repeat);
        }
        self.bury(member);
        self.grant(grants);
        Ok(done(1))
    }

    /// The life is over: its slots are vacant, its moves, from and to, aborted.
    pub(super) fn bury(&mut self, member: Member) {
        if let Some(node) = self.table.nodes.get_mut(&member.id)
            && node.state.is_living()
        {
            node.state = NodeState::Dead;
            self.nodes.insert(member.id);
        }
        self.each_slot(|slot| {
            let owned = slot.owner.is_some_and(|owner| owner.id == member.id);
            let towards = slot.moving.is_some_and(|moving| moving.to.id == member.id);
            if owned {
                slot.owner = None;
                slot.via = None;
            }
            if owned || towards {
                slot.moving = None;
            }
            owned || towards
        });
    }

    pub(super) fn remove(&mut self, id: NodeId, voters: &BTreeSet<NodeId>) -> Ran {
        let node = self.table.nodes.get(&id).ok_or(Refusal::Unknown(id))?;
        if node.state == NodeState::Removed {
            return Ok(Outcome::Repeat);
        }
        if voters.contains(&id) {
            return Err(Refusal::Voter(id));
        }
        let owned = |slot: &&SlotRec| slot.owner.is_some_and(|owner| owner.id == id);
        let slots = self.table.slots.iter().filter(owned).count();
        if node.state != NodeState::Dead && slots > 0 {
            return Err(Refusal::OwnsSlots { id, slots });
        }
        self.entomb(id);
        Ok(done(1))
    }

    /// Leaves a tombstone: the id is not used again, the name is free.
    pub(super) fn entomb(&mut self, id: NodeId) {
        if let Some(member) = self.table.member(id) {
            self.bury(member);
        }
        if let Some(node) = self.table.nodes.get_mut(&id) {
            node.state = NodeState::Removed;
            node.addrs.clear();
            node.roles = Roles::default();
            node.serves = Serves::default();
            self.nodes.insert(id);
        }
    }
}

/// Whether the value was another one before.
fn replace<T: Clone + PartialEq>(old: &mut T, new: &T) -> bool {
    let differs = old != new;
    if differs {
        *old = new.clone();
    }
    differs
}
