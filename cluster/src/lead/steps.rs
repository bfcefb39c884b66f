//! Moves to be completed or aborted. While one entry of a kind is under way the next are gathered: a
//! busy cluster commits many in one entry, an idle one each at once.

use std::collections::{BTreeMap, BTreeSet};

use super::LeadEffect;
use super::flights::{Flight, Flights, Purpose};
use crate::{Command, Completion, MoveAbort, MoveId, SlotId, Table};

/// What waits to be proposed.
#[derive(Debug, Clone, Default)]
pub(super) struct Steps {
    complete: Vec<Completion>,
    abort: BTreeMap<String, Vec<MoveAbort>>,
    queued: BTreeSet<SlotId>,
    /// One has failed: nothing goes out before the next tick.
    held: bool,
}

impl Steps {
    /// Takes a command about open moves.
    pub(super) fn take(&mut self, command: Command, flights: &Flights) {
        let mut fresh = |slot: SlotId| !flights.is_busy(slot) && self.queued.insert(slot);
        match command {
            Command::CompleteMoves { moves } => {
                self.complete
                    .extend(moves.into_iter().filter(|step| fresh(step.slot)));
            }
            Command::AbortMoves { moves, why } => {
                let moves: Vec<_> = moves.into_iter().filter(|step| fresh(step.slot)).collect();
                self.abort.entry(why).or_default().extend(moves);
            }
            _ => {}
        }
    }

    /// One could not be proposed, or nobody knows what became of it.
    pub(super) fn failed(&mut self, flight: Flight, flights: &Flights) {
        self.held = true;
        self.take(flight.command, flights);
    }

    /// A tick: what failed may be tried again.
    pub(super) fn tick(&mut self) {
        self.held = false;
    }

    /// Proposes what waits, as far as nothing of its kind is under way and the table still fits.
    pub(super) fn flush(
        &mut self,
        table: &Table,
        flights: &mut Flights,
        effects: &mut Vec<LeadEffect>,
    ) {
        if self.held || self.queued.is_empty() {
            return;
        }
        if !flights.any(Purpose::Complete) {
            let mut moves = std::mem::take(&mut self.complete);
            moves.retain(|step| self.is_due(step.slot, step.id, table, flights));
            if !moves.is_empty() {
                let command = Command::CompleteMoves { moves };
                flights.start(Purpose::Complete, command, effects);
            }
        }
        while !flights.any(Purpose::Abort) {
            let Some((why, mut moves)) = self.abort.pop_first() else {
                break;
            };
            moves.retain(|step| self.is_due(step.slot, step.id, table, flights));
            if !moves.is_empty() {
                let command = Command::AbortMoves { moves, why };
                flights.start(Purpose::Abort, command, effects);
            }
        }
    }

    fn is_due(&mut self, slot: SlotId, id: MoveId, table: &Table, flights: &Flights) -> bool {
        self.queued.remove(&slot);
        let open = table.slot(slot).moving.is_some_and(|open| open.id == id);
        open && !flights.is_busy(slot)
    }
}
