//! What is refused to an operator, and the command to propose where it is not. Pure.

use std::collections::BTreeSet;

use super::{DrainView, Known, Named, Refused, find_node, state_word};
use crate::{
    Command, Member, MoveReason, MoveStart, NodeChange, NodeId, NodeRec, NodeState, Serves,
    Settings, SlotId, raft,
};

/// A node that is to take slots again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undrain {
    /// Which node. Whatever the command, it is in quarantine no more.
    pub node: Named,
    /// What to propose; nothing if it did not drain.
    pub command: Option<Command>,
}

impl Known<'_> {
    /// A drain: refused when the quorum or the last server of a group would go, unless forced.
    ///
    /// # Errors
    /// If it is refused.
    pub fn drain(&self, node: &str, force: bool) -> Result<(Command, DrainView), Refused> {
        let (id, rec) = self.find(node)?;
        let named = self.name(id);
        if !rec.state.is_living() {
            return Err(Refused::no(
                format!(
                    "{named} is {}: it has nothing to give away",
                    state_word(rec.state)
                ),
                format!("start it again, or `cluster remove {}`", named.name),
            ));
        }
        let forced = self.lost_with(id, rec);
        if !forced.is_empty() && !force && rec.state != NodeState::Draining {
            let cure = "let another node take its place first, or say --force";
            return Err(Refused::no(forced.join("; "), cure));
        }
        let view = DrainView {
            slots: self.owned_by(id),
            node: named,
            forced,
        };
        Ok((turn(id, rec, NodeState::Draining), view))
    }

    /// What the cluster would lose with a node, in words: empty if it can go.
    pub fn lost_with(&self, id: NodeId, node: &NodeRec) -> Vec<String> {
        let mut lost = Vec::new();
        lost.extend(self.quorum_lost_with(id));
        let others = || {
            let up =
                |(other, node): &(&NodeId, &NodeRec)| **other != id && node.state == NodeState::Up;
            self.table.nodes().iter().filter(up).map(|(_, node)| node)
        };
        let named = self.name(id);
        let mut last = |what: &str| lost.push(format!("{named} is the last node that {what}"));
        if node.roles.ingress && !others().any(|other| other.roles.ingress) {
            last("takes events (role ingress)");
        }
        if node.serves.connect && !others().any(|other| other.serves.connect) {
            last("serves connect");
        }
        let owns = |node: &NodeRec| node.roles.region && node.serves.channel;
        if owns(node) && !others().any(owns) {
            last("serves channel (and so owns slots)");
        }
        for pattern in &node.serves.rpc {
            let covered = |other: &NodeRec| covers(&other.serves, pattern);
            if !others().any(covered) {
                last(&match pattern.as_str() {
                    "*" => "serves rpc".to_owned(),
                    some => format!("serves rpc:{some}"),
                });
            }
        }
        lost
    }

    fn quorum_lost_with(&self, id: NodeId) -> Option<String> {
        let stays = |voter: &NodeId| {
            let rec = self.table.node(*voter);
            let stays =
                rec.is_some_and(|rec| matches!(rec.state, NodeState::Joining | NodeState::Up));
            *voter != id && stays
        };
        let without = |config: &BTreeSet<NodeId>| {
            let left = config.iter().filter(|voter| stays(voter)).count();
            let needed = config.len() / 2 + 1;
            (config.contains(&id) && left < needed).then_some((left, needed, config.len()))
        };
        let (left, needed, of) = self.raft.members.configs.iter().find_map(without)?;
        let named = self.name(id);
        Some(format!(
            "without {named} {left} of {of} voters are left and {needed} are needed: the quorum would go"
        ))
    }

    /// A node that is to take slots again.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn undrain(&self, node: &str) -> Result<Undrain, Refused> {
        let (id, rec) = self.find(node)?;
        let drains = rec.state == NodeState::Draining;
        Ok(Undrain {
            node: self.name(id),
            command: drains.then(|| turn(id, rec, NodeState::Up)),
        })
    }

    /// A move of one slot.
    ///
    /// # Errors
    /// If there is no such slot or node, the slot has no owner or is moving, or the node can't have
    /// it.
    pub fn move_slot(&self, slot: u16, to: &str) -> Result<Command, Refused> {
        let Some(slot) = SlotId::new(slot) else {
            let why = format!("there is no slot {slot}");
            return Err(Refused::no(why, "slots are numbered from 0 to 4095"));
        };
        let (id, node) = self.find(to)?;
        let named = self.name(id);
        let rec = self.table.slot(slot);
        let index = slot.index();
        let Some(owner) = self.owner(rec) else {
            return Err(Refused::no(
                format!("slot {index} has no owner to move it from"),
                "see `cluster health`: it is granted to a node by itself",
            ));
        };
        if owner == id {
            let why = format!("{named} owns slot {index} already");
            return Err(Refused::no(why, "nothing is to be done"));
        }
        if let Some(moving) = rec.moving {
            return Err(Refused::no(
                format!(
                    "slot {index} is moving to {} already",
                    self.name(moving.to.id)
                ),
                "wait until that is over: see `cluster moves`",
            ));
        }
        if node.state != NodeState::Up {
            let why = format!("{named} is {}, not up", state_word(node.state));
            return Err(Refused::no(
                why,
                "choose a node that is up: see `cluster nodes`",
            ));
        }
        if !node.roles.region || !node.serves.channel {
            return Err(Refused::no(
                format!("{named} owns no slots: it needs the role region and to serve channel"),
                "choose another node: see `cluster nodes`",
            ));
        }
        let held = self.conditions.and_then(|it| it.held_back.get(&id));
        if let Some(held) = held {
            return Err(Refused::no(
                format!("{named} gets no new slots: {}", held.as_str()),
                "choose another node, or see `cluster health` for the cure",
            ));
        }
        let start = MoveStart {
            slot,
            expect_epoch: rec.epoch,
            to: member(id, node),
        };
        Ok(Command::BeginMoves {
            moves: vec![start],
            reason: MoveReason::Admin,
        })
    }

    /// Pauses moves, or lets them go on; nothing to propose if it is so already.
    pub fn pause_moves(&self, paused: bool) -> Option<Command> {
        let now = self.table.settings();
        (now.moves_paused != paused).then(|| Command::SetSettings {
            settings: Settings {
                moves_paused: paused,
                ..now.clone()
            },
        })
    }

    /// How many voters are wanted from now on; nothing to propose if it is so already.
    ///
    /// # Errors
    /// If it is not 1, 3 or 5, or below the number of those who vote.
    pub fn want_voters(&self, wanted: u8) -> Result<Option<Command>, Refused> {
        if !matches!(wanted, 1 | 3 | 5) {
            let why = format!("{wanted} voters can't be wanted");
            let cure = "1, 3 or 5: an even number is less available than one less";
            return Err(Refused::no(why, cure));
        }
        let voting = self.raft.members.voters().len();
        if usize::from(wanted) < voting {
            return Err(Refused::no(
                format!("{voting} nodes vote, and nobody stops voting by itself"),
                "only raise the number; a voter lost for good is replaced by `cluster remove`",
            ));
        }
        let now = self.table.settings();
        Ok((now.voters != wanted).then(|| Command::SetSettings {
            settings: Settings {
                voters: wanted,
                ..now.clone()
            },
        }))
    }

    /// A node that is to go for good: what [`Raft::remove`](raft::Raft::remove) is called with.
    ///
    /// # Errors
    /// If there is no such node, it lives and has slots, or it votes and nobody can replace it.
    pub fn remove(&self, node: &str) -> Result<NodeId, Refused> {
        let (id, rec) = self.find(node)?;
        let named = self.name(id);
        if self.raft.members.voters().contains(&id) {
            raft::replace(&self.raft.members, self.table, id).map_err(|refused| {
                let cure = match refused {
                    raft::ReplaceError::Living(_) => {
                        format!("stop {named} first; it is dead to the others within 2 s")
                    }
                    raft::ReplaceError::NoLearner(_) => {
                        "start another node of role voter, wait until `cluster voters` shows it \
                         as learner, then try again"
                            .to_owned()
                    }
                    _ => "try again in a moment".to_owned(),
                };
                Refused::no(refused.to_string(), cure)
            })?;
        }
        let slots = self.owned_by(id);
        if rec.state.is_living() && slots > 0 {
            return Err(Refused::no(
                format!("{named} lives and owns {slots} slots"),
                format!("`cluster drain {} --wait` first", named.name),
            ));
        }
        Ok(id)
    }

    fn find(&self, text: &str) -> Result<(NodeId, &NodeRec), Refused> {
        let id = find_node(self.table, text)?;
        let node = self.table.node(id);
        node.map(|node| (id, node))
            .ok_or_else(|| Refused::no(format!("there is no node {text:?}"), "see `cluster nodes`"))
    }
}

const fn member(id: NodeId, node: &NodeRec) -> Member {
    Member {
        id,
        incarnation: node.incarnation,
    }
}

fn turn(id: NodeId, node: &NodeRec, state: NodeState) -> Command {
    Command::SetNode {
        member: member(id, node),
        boot: node.boot,
        change: NodeChange::State(state),
    }
}

/// Whether a node that serves this runs every method of the pattern.
fn covers(serves: &Serves, pattern: &str) -> bool {
    serves.rpc.iter().any(|other| {
        let prefix = other.strip_suffix('*');
        other == pattern || prefix.is_some_and(|prefix| pattern.starts_with(prefix))
    })
}
