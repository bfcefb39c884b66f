//! Tasks that go on by themselves: handlers of events without a key, and halves of stages that have
//! to wait. No lane holds them, so the actor that started them does, for the end of the node: what
//! has outlived the grace by then is dropped, and its event answered.

use crate::engine::shared::Shared;
use std::sync::Arc;
use tokio::task::AbortHandle;

/// So many are kept before the first look at which of them are over.
const FEW: usize = 16;

/// Tasks that go on by themselves until the engine is closed. Dropped then, it ends them; dropped
/// before, as when its actor crashes, it leaves them alone.
#[derive(Debug)]
pub(crate) struct Loose {
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
    /// At so many it looks which are over: at most twice as many as lately ran, so that each costs
    /// the same, however many there are.
    tidy_at: usize,
}

impl Loose {
    /// None yet, of this engine.
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            tasks: Vec::new(),
            tidy_at: FEW,
        }
    }

    /// One more, if there is one.
    pub(crate) fn add(&mut self, task: Option<AbortHandle>) {
        let Some(task) = task else {
            return;
        };
        if self.tasks.len() >= self.tidy_at {
            self.tasks.retain(|task| !task.is_finished());
            self.tidy_at = FEW.max(self.tasks.len() * 2);
        }
        self.tasks.push(task);
    }

    /// How many are kept.
    #[cfg(test)]
    pub(crate) const fn len(&self) -> usize {
        self.tasks.len()
    }
}

impl Drop for Loose {
    fn drop(&mut self) {
        if self.shared.is_closed() {
            self.tasks.iter().for_each(AbortHandle::abort);
        }
    }
}
