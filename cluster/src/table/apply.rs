//! Applying a command: pure, total, the same on every node.
//!
//! Entry, log id and the voters at that entry go in; no time, no chance, no I/O. A command whose
//! guard does not hold is refused with its reason and changes nothing; a list of grants or moves is
//! taken item by item.

mod nodes;
mod slots;

use std::collections::BTreeSet;

use super::{
    Applied, Command, Delta, Entry, LeaderId, MoveId, NodeState, Outcome, Refusal, Settings, Table,
};
use crate::{NodeId, Rule, Rules, SlotId};

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
