//! Proposals that are under way: what each is for, and which slots it would change. A slot is in one
//! at a time.

use std::collections::{BTreeMap, BTreeSet};

use super::{LeadEffect, ProposalId};
use crate::{Command, Member, Registration, SlotId};

/// What a proposal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Barrier,
    Death(Member),
    Register,
    /// Of the node itself.
    Change,
    Assign,
    Begin,
    Complete,
    Abort,
    /// An operator's.
    Asked,
}

/// A proposal that is under way.
#[derive(Debug, Clone)]
pub(super) struct Flight {
    pub(super) purpose: Purpose,
    pub(super) command: Command,
}

/// All that are under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Flights {
    last: u64,
    all: BTreeMap<ProposalId, Flight>,
    busy: BTreeSet<SlotId>,
}

impl Flights {
    /// A number for a proposal to come.
    pub(super) fn number(&mut self) -> ProposalId {
        self.last += 1;
        ProposalId(self.last)
    }

    /// Whether a proposal that would change the slot is under way.
    pub(super) fn is_busy(&self, slot: SlotId) -> bool {
        self.busy.contains(&slot)
    }

    /// Whether one of this purpose is.
    pub(super) fn any(&self, purpose: Purpose) -> bool {
        self.all.values().any(|flight| flight.purpose == purpose)
    }

    /// How many of this purpose are.
    pub(super) fn count(&self, purpose: Purpose) -> usize {
        let of = |flight: &&Flight| flight.purpose == purpose;
        self.all.values().filter(of).count()
    }

    /// Whether the very same command is.
    pub(super) fn has(&self, command: &Command) -> bool {
        self.all.values().any(|flight| flight.command == *command)
    }

    /// Whether this process is being registered.
    pub(super) fn registers(&self, node: &Registration) -> bool {
        self.all.values().any(|flight| {
            matches!(&flight.command, Command::Register { node: other, .. } if other.boot == node.boot)
        })
    }

    /// How many slots are about to begin to move.
    pub(super) fn beginning(&self) -> usize {
        let moves = |flight: &Flight| match &flight.command {
            Command::BeginMoves { moves, .. } => moves.len(),
            _ => 0,
        };
        self.all.values().map(moves).sum()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// A proposal sets out. Its slots are free: callers see to that.
    pub(super) fn start(
        &mut self,
        purpose: Purpose,
        command: Command,
        effects: &mut Vec<LeadEffect>,
    ) {
        let id = self.number();
        self.start_as(id, purpose, command, effects);
    }

    /// The same, under a number that was drawn before.
    pub(super) fn start_as(
        &mut self,
        id: ProposalId,
        purpose: Purpose,
        command: Command,
        effects: &mut Vec<LeadEffect>,
    ) {
        self.busy.extend(slots_of(&command));
        effects.push(LeadEffect::Propose {
            id,
            command: command.clone(),
        });
        self.all.insert(id, Flight { purpose, command });
    }

    /// A proposal was answered.
    pub(super) fn end(&mut self, id: ProposalId) -> Option<Flight> {
        let flight = self.all.remove(&id)?;
        for slot in slots_of(&flight.command) {
            self.busy.remove(&slot);
        }
        Some(flight)
    }
}

/// The slots that a command names.
pub(super) fn slots_of(command: &Command) -> Vec<SlotId> {
    match command {
        Command::Register { grants, .. }
        | Command::DeclareDead { grants, .. }
        | Command::Assign { grants } => grants.iter().map(|grant| grant.slot).collect(),
        Command::BeginMoves { moves, .. } => moves.iter().map(|start| start.slot).collect(),
        Command::CompleteMoves { moves } => moves.iter().map(|done| done.slot).collect(),
        Command::AbortMoves { moves, .. } => moves.iter().map(|abort| abort.slot).collect(),
        Command::SetNode { .. }
        | Command::Remove { .. }
        | Command::SetSettings { .. }
        | Command::Barrier { .. } => Vec::new(),
    }
}
