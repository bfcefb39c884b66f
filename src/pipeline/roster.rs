//! The stages that a core runs: those of its plan, and those of earlier plans that events still pass.
//!
//! Whoever sends events to a stage holds a lease of it. With the last lease the stage's actor ends and
//! its supervisor forgets it, so that replaced stages leave nothing behind.

use super::Stage;
use crate::engine::seat::Seat;
use crate::supervision::{ChildId, SupervisorMessage};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The stages of one core, and the seat of their supervisor. A supervisor that is started again
/// starts what is listed here.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    listed: Mutex<Listed>,
    /// Where their supervisor sits.
    pub(crate) supervisor: Seat<SupervisorMessage>,
}

#[derive(Debug, Default)]
struct Listed {
    next: ChildId,
    stages: BTreeMap<ChildId, Arc<Stage>>,
}

impl Roster {
    /// Lists a stage, whose actor the caller has started.
    pub(crate) fn list(self: &Arc<Self>, stage: Stage) -> Arc<Lease> {
        let stage = Arc::new(stage);
        let mut listed = self.listed();
        let id = listed.next;
        listed.next += 1;
        listed.stages.insert(id, Arc::clone(&stage));
        drop(listed);
        Arc::new(Lease {
            roster: Arc::clone(self),
            id,
            stage,
        })
    }

    /// The stages now, in the order in which they were listed.
    pub(crate) fn stages(&self) -> Vec<(ChildId, Arc<Stage>)> {
        let listed = self.listed();
        let stages = listed.stages.iter();
        stages.map(|(id, stage)| (*id, Arc::clone(stage))).collect()
    }

    fn listed(&self) -> MutexGuard<'_, Listed> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a stage running.
#[derive(Debug)]
pub(crate) struct Lease {
    roster: Arc<Roster>,
    id: ChildId,
    stage: Arc<Stage>,
}

impl Lease {
    /// The stage.
    pub(crate) const fn stage(&self) -> &Arc<Stage> {
        &self.stage
    }

    /// Its supervisor's name for it.
    pub(crate) const fn id(&self) -> ChildId {
        self.id
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let stage = self.roster.listed().stages.remove(&self.id);
        // A supervisor that is gone, or has not started it yet, runs nothing to be ended.
        drop(
            self.roster
                .supervisor
                .cast(SupervisorMessage::Remove(self.id)),
        );
        drop(stage);
    }
}
