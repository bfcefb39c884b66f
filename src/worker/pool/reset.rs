//! Reset: new workers for all old ones, one by one. Where the first new one does not come up, the
//! old ones go on.

use super::{PoolMessage, PoolState};
use ractor::ActorRef;
use std::collections::BTreeSet;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

/// A reset under way.
#[derive(Debug)]
pub(super) struct Reset {
    /// Workers still to be replaced: the first new one has not come up yet.
    pub(super) rest: Vec<u64>,
    /// Old workers that have not left.
    pub(super) old: BTreeSet<u64>,
    pub(super) count: usize,
    pub(super) replies: Vec<oneshot::Sender<Result<usize, String>>>,
}

impl PoolState {
    /// Begins one, or joins the one under way.
    pub(super) fn start_reset(
        &mut self,
        myself: &ActorRef<PoolMessage>,
        reply: oneshot::Sender<Result<usize, String>>,
    ) {
        if self.stopped {
            drop(reply.send(Err("the pool is being stopped".to_owned())));
            return;
        }
        if let Some(reset) = &mut self.reset {
            return reset.replies.push(reply);
        }
        let staying = self.slots.iter().filter(|(_, slot)| !slot.leaving);
        let mut rest: Vec<u64> = staying.map(|(id, _)| *id).collect();
        let (old, count) = (rest.iter().copied().collect(), rest.len());
        self.resets += 1;
        // Who waits for the next try need not wait any more.
        self.not_before = Instant::now();
        self.fill(myself);
        let first = (!rest.is_empty()).then(|| rest.remove(0));
        self.reset = Some(Reset {
            rest,
            old,
            count,
            replies: vec![reply],
        });
        match first {
            Some(first) => self.spawn(myself, Some(first), self.spec.max_jobs),
            None => self.check_reset(),
        }
        let (myself, limit, number) = (myself.clone(), self.spec.reset_timeout, self.resets);
        tokio::spawn(async move {
            sleep(limit).await;
            drop(myself.cast(PoolMessage::ResetOverdue(number)));
        });
    }

    /// Answers a reset whose old workers have all left.
    pub(super) fn check_reset(&mut self) {
        let done = self
            .reset
            .as_ref()
            .is_some_and(|reset| reset.old.is_empty());
        if let Some(reset) = self.reset.take_if(|_| done) {
            tracing::info!(
                pool = &*self.spec.name,
                workers = reset.count,
                "workers replaced"
            );
            for reply in reset.replies {
                drop(reply.send(Ok(reset.count)));
            }
            self.trim();
        }
    }

    /// Old workers are still at work when `reset_timeout` is over: they leave when they are done.
    pub(super) fn end_reset(&mut self, number: u64) {
        if self.resets != number {
            return;
        }
        if let Some(reset) = self.reset.take() {
            let why = format!(
                "{} of {} old workers are still at work after {:?} (`reset_timeout`); they leave when \
                 they are done, and at the latest by `exec_ttl`",
                reset.old.len(),
                reset.count,
                self.spec.reset_timeout
            );
            for reply in reset.replies {
                drop(reply.send(Err(why.clone())));
            }
            self.trim();
        }
    }
}
