//! Applying a command: pure, total, the same on every node.
//!
//! Entry, log id and the voters at that entry go in; no time, no chance, no I/O. A command whose
//! guard does not hold is refused with its reason and changes nothing; a list of grants or moves is
//! taken item by item.

use std::collections::BTreeSet;

use super::{
    Applied, Command, Completion, Delta, Entry, Grant, LeaderId, Member, Move, MoveAbort, MoveId,
    MoveReason, MoveStart, NodeChange, NodeRec, NodeState, Outcome, Refusal, Registration, Roles,
    Serves, Settings, SlotRec, Table,
};
use crate::{BootId, NodeId, OwnerEpoch, Rule, Rules, SlotId};

impl Table {
    /// Applies a committed entry.
    pub fn apply(&mut self, entry: Entry<'_>) -> Applied {
        self.apply_by(entry, Rules::ALL)
    }

    /// Applies a committed entry under these rules.
    pub fn apply_by(&mut self, entry: Entry<'_>, rules: Rules) -> Applied {
        let mut change = Change {
            table: self,
            rules,
            slots: BTreeSet::new(),
            nodes: BTreeSet::new(),
            settings: false,
        };
        let outcome = change.run(entry).unwrap_or_else(Outcome::Refused);
        let Change {
            slots,
            nodes,
            settings,
            ..
        } = change;
        if slots.is_empty() && nodes.is_empty() && !settings {
            return Applied {
                outcome,
                delta: None,
            };
        }
        let from = self.version;
        self.version = from.saturating_add(1);
        let delta = Delta {
            recovery: self.cluster.recovery,
            from,
            to: self.version,
            slots: slots
                .into_iter()
                .map(|slot| (slot, self.slot(slot).clone()))
                .collect(),
            nodes: nodes
                .into_iter()
                .filter_map(|id| Some((id, self.nodes.get(&id)?.clone())))
                .collect(),
            settings: settings.then(|| self.settings.clone()),
        };
        Applied {
            outcome,
            delta: Some(delta),
        }
    }
}

/// A table while an entry is applied, with what has changed so far.
struct Change<'t> {
    table: &'t mut Table,
    rules: Rules,
    slots: BTreeSet<SlotId>,
    nodes: BTreeSet<NodeId>,
    settings: bool,
}

type Ran = Result<Outcome, Refusal>;

impl Change<'_> {
    fn run(&mut self, entry: Entry<'_>) -> Ran {
        match entry.command {
            Command::Register {
                node,
                leader,
                grants,
            } => {
                self.led_by(*leader, entry.log.leader)?;
                self.register(node, grants, entry)
            }
            Command::SetNode {
                member,
                boot,
                change,
            } => self.set_node(*member, *boot, change),
            Command::DeclareDead {
                member,
                leader,
                grants,
                ..
            } => {
                self.led_by(*leader, entry.log.leader)?;
                self.declare_dead(*member, grants)
            }
            Command::Remove { id } => self.remove(*id, entry.voters),
            Command::Assign { grants } => Ok(done(self.grant(grants))),
            Command::BeginMoves { moves, reason } => {
                Ok(done(self.begin(moves, *reason, MoveId(entry.log.index))))
            }
            Command::CompleteMoves { moves } => Ok(done(self.complete(moves))),
            Command::AbortMoves { moves, .. } => Ok(done(self.abort(moves))),
            Command::SetSettings { settings } => self.set_settings(settings),
            Command::Barrier { nonce } => Ok(Outcome::Barrier(*nonce)),
        }
    }

    fn led_by(&self, proposed: LeaderId, logged: LeaderId) -> Result<(), Refusal> {
        if proposed == logged || !self.rules.hold(Rule::LeaderGuard) {
            return Ok(());
        }
        Err(Refusal::Leader { proposed, logged })
    }

    fn register(&mut self, node: &Registration, grants: &[Grant], entry: Entry<'_>) -> Ran {
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

    fn put(&mut self, id: NodeId, node: &Registration) {
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

    fn set_node(&mut self, member: Member, boot: BootId, change: &NodeChange) -> Ran {
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

    fn declare_dead(&mut self, member: Member, grants: &[Grant]) -> Ran {
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
    fn bury(&mut self, member: Member) {
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

    fn remove(&mut self, id: NodeId, voters: &BTreeSet<NodeId>) -> Ran {
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
    fn entomb(&mut self, id: NodeId) {
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

    fn grant(&mut self, grants: &[Grant]) -> usize {
        let mut changed = 0;
        for grant in grants {
            let fits = self.table.is_orphan(grant.slot) && self.table.is_up(grant.to);
            let Some(slot) = self.table.slots.get_mut(usize::from(grant.slot.index())) else {
                continue;
            };
            let next = slot.epoch.0.checked_add(1).map(OwnerEpoch);
            if let Some(next) = next.filter(|_| fits && slot.epoch == grant.expect_epoch) {
                slot.owner = Some(grant.to);
                slot.epoch = next;
                slot.via = None;
                slot.moving = None;
                self.slots.insert(grant.slot);
                changed += 1;
            }
        }
        changed
    }

    fn begin(&mut self, moves: &[MoveStart], reason: MoveReason, id: MoveId) -> usize {
        let mut changed = 0;
        for start in moves {
            let fits = !self.table.is_orphan(start.slot) && self.table.is_up(start.to);
            let Some(slot) = self.table.slots.get_mut(usize::from(start.slot.index())) else {
                continue;
            };
            let elsewhere = slot.owner.is_some_and(|owner| owner != start.to);
            if fits && elsewhere && slot.moving.is_none() && slot.epoch == start.expect_epoch {
                slot.moving = Some(Move {
                    id,
                    to: start.to,
                    reason,
                });
                self.slots.insert(start.slot);
                changed += 1;
            }
        }
        changed
    }

    fn complete(&mut self, moves: &[Completion]) -> usize {
        let mut changed = 0;
        for done in moves {
            let Some(slot) = self.table.slots.get_mut(usize::from(done.slot.index())) else {
                continue;
            };
            let Some(moving) = slot.moving else { continue };
            let matches = moving.id == done.id && slot.epoch == done.epoch;
            if !matches && self.rules.hold(Rule::MoveStepsMatch) {
                continue;
            }
            let Some(next) = slot.epoch.0.checked_add(1) else {
                continue;
            };
            slot.owner = Some(moving.to);
            slot.epoch = OwnerEpoch(next);
            slot.via = Some(moving.id);
            slot.moving = None;
            self.slots.insert(done.slot);
            changed += 1;
        }
        changed
    }

    fn abort(&mut self, moves: &[MoveAbort]) -> usize {
        let mut changed = 0;
        for abort in moves {
            let Some(slot) = self.table.slots.get_mut(usize::from(abort.slot.index())) else {
                continue;
            };
            if slot.moving.is_some_and(|moving| moving.id == abort.id) {
                slot.moving = None;
                self.slots.insert(abort.slot);
                changed += 1;
            }
        }
        changed
    }

    fn abort_where(&mut self, which: impl Fn(&SlotRec) -> bool) {
        self.each_slot(|slot| {
            let hit = which(slot);
            if hit {
                slot.moving = None;
            }
            hit
        });
    }

    /// Runs over all slots and notes those that it says it has changed.
    fn each_slot(&mut self, mut change: impl FnMut(&mut SlotRec) -> bool) {
        for (id, slot) in SlotId::all().zip(&mut self.table.slots) {
            if change(slot) {
                self.slots.insert(id);
            }
        }
    }

    fn set_settings(&mut self, settings: &Settings) -> Ran {
        let current = self.table.settings.version;
        let next = Settings {
            version: settings.version.saturating_add(1),
            ..settings.clone()
        };
        if next == self.table.settings {
            return Ok(Outcome::Repeat);
        }
        if settings.version != current {
            return Err(Refusal::SettingsVersion {
                expected: settings.version,
                current,
            });
        }
        if !matches!(settings.voters, 1 | 3 | 5) {
            return Err(Refusal::Voters(settings.voters));
        }
        let behind = self
            .table
            .nodes
            .iter()
            .find(|(_, node)| node.state == NodeState::Up && node.protocol < settings.protocol);
        if let Some((id, node)) = behind {
            return Err(Refusal::Protocol {
                id: *id,
                speaks: node.protocol,
                needs: settings.protocol,
            });
        }
        self.table.settings = next;
        self.settings = true;
        Ok(done(1))
    }
}

const fn done(changed: usize) -> Outcome {
    if changed == 0 {
        Outcome::Repeat
    } else {
        Outcome::Done { changed }
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
