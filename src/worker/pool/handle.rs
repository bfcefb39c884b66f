//! A running pool as the rest of the node sees it.

use super::super::info::WorkerState;
use super::super::queue::{Counts, ExecError, Queue};
use super::super::relay;
use super::reset::{Asker, Replaced};
use super::{Pool, PoolError, PoolMessage, PoolSpec, Roll};
use crate::answer::Flaws;
use crate::config::RelayAddress;
use bytes::Bytes;
use ractor::{Actor, ActorRef};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

/// One worker, for who asks.
#[derive(Debug, Clone)]
pub(crate) struct WorkerReport {
    /// Its process.
    pub(crate) pid: u32,
    /// Its state.
    pub(crate) state: WorkerState,
    /// Events so far.
    pub(crate) jobs: u64,
    /// Percent of a processor that it has used since it was started.
    pub(crate) cpu: f64,
    /// When it was started.
    pub(crate) created: SystemTime,
    /// Bytes that it holds.
    pub(crate) memory: u64,
}

/// How many workers a pool wants after it was asked for one more or one fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resized {
    /// Workers wanted.
    pub(crate) workers: usize,
    /// Whether that is another number than before.
    pub(crate) is_changed: bool,
}

/// A running pool. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct WorkerPool {
    name: Arc<str>,
    queue: Arc<Queue>,
    actor: ActorRef<PoolMessage>,
    roll: watch::Receiver<Roll>,
    flaws: Arc<Flaws>,
    debug: bool,
}

impl WorkerPool {
    /// Starts a pool on the runtime that this is called on; its workers come up by themselves.
    ///
    /// # Errors
    /// The actor can't be started, or the relay can't be listened on.
    pub(crate) async fn start(spec: PoolSpec) -> Result<Self, PoolError> {
        // Open before the first worker is there: it tries for a millisecond.
        let door = match &spec.relay {
            RelayAddress::Pipes => None,
            RelayAddress::Socket(address) => {
                let opened = relay::open(address, spec.command.owner).await;
                Some(opened.map_err(|why| PoolError::Relay(address.clone(), why))?)
            }
        };
        let queue = Arc::new(Queue::new(spec.rules()));
        let (call, roll) = watch::channel(Roll::default());
        let (name, debug) = (Arc::clone(&spec.name), spec.debug);
        let args = (spec, door, Arc::clone(&queue), call);
        let (actor, _) = Actor::spawn(None, Pool, args).await.map_err(Box::new)?;
        Ok(Self {
            name,
            queue,
            actor,
            roll,
            flaws: Arc::default(),
            debug,
        })
    }

    /// The name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What happened beside the answers.
    pub(crate) fn counts(&self) -> &Counts {
        &self.queue.counts
    }

    /// What was found in the answers.
    pub(crate) fn flaws(&self) -> &Flaws {
        &self.flaws
    }

    /// Requests in the pool, waiting and at work.
    pub(crate) fn requests(&self) -> usize {
        self.queue.requests()
    }

    /// Requests that wait for a worker.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Workers wanted now.
    pub(crate) fn wanted(&self) -> usize {
        self.queue.workers()
    }

    /// Whether there is a worker, idle or at work.
    pub(crate) fn is_ready(&self) -> bool {
        self.debug || !self.roll.borrow().workers.is_empty()
    }

    /// Who is there now.
    pub(crate) fn roll(&self) -> Roll {
        self.roll.borrow().clone()
    }

    /// Waits until there is a worker.
    ///
    /// # Errors
    /// Why the first one did not come up.
    pub(crate) async fn until_ready(&self) -> Result<(), Arc<str>> {
        if self.debug {
            return Ok(());
        }
        let mut roll = self.roll.clone();
        let known = |roll: &Roll| !roll.workers.is_empty() || roll.failure.is_some();
        let stopped = || Err(Arc::from("the pool is being stopped"));
        match roll.wait_for(known).await {
            Ok(roll) => match &roll.failure {
                Some(why) if roll.workers.is_empty() => Err(Arc::clone(why)),
                _ => Ok(()),
            },
            Err(_) => stopped(),
        }
    }

    /// Gives a request to a worker.
    ///
    /// # Errors
    /// There is no answer.
    #[cfg(test)]
    pub(crate) async fn exec(&self, context: &[u8], body: &[u8]) -> Result<Bytes, ExecError> {
        self.exec_until(context, body, None).await
    }

    /// The same for somebody who drops this at a deadline.
    ///
    /// # Errors
    /// There is no answer.
    pub(crate) async fn exec_until(
        &self,
        context: &[u8],
        body: &[u8],
        deadline: Option<Instant>,
    ) -> Result<Bytes, ExecError> {
        self.queue.exec(context, body, deadline).await
    }

    /// All workers.
    pub(crate) async fn workers(&self) -> Vec<WorkerReport> {
        self.ask(PoolMessage::List).await.unwrap_or_default()
    }

    /// One worker more, up to [`super::MOST_WORKERS`]; `None` if the pool is gone.
    pub(crate) async fn add(&self) -> Option<Resized> {
        self.ask(PoolMessage::Add).await
    }

    /// One worker fewer, but never the last; `None` if the pool is gone.
    pub(crate) async fn remove(&self) -> Option<Resized> {
        self.ask(PoolMessage::Remove).await
    }

    /// Replaces all workers in steps, so that no request meets a gap; answers how many. Where the first
    /// new one does not come up, the old ones go on. The answer comes when all new ones are up and the old
    /// ones have left, save those that are at work on an event, which leave when it is done: whoever asks
    /// may be one of them.
    ///
    /// # Errors
    /// Why new workers did not come up, or that they take longer than `reset_timeout`.
    pub(crate) async fn reset(&self) -> Replaced {
        self.replace(false).await
    }

    /// The same, and waits for all old ones.
    ///
    /// # Errors
    /// As for [`WorkerPool::reset`]; or old ones are at work for longer than `reset_timeout`.
    pub(crate) async fn reset_to_the_end(&self) -> Replaced {
        self.replace(true).await
    }

    async fn replace(&self, waits_for_work: bool) -> Replaced {
        let ask = |reply| {
            PoolMessage::Reset(Asker {
                reply,
                waits_for_work,
            })
        };
        let stopped = || Err("the pool is being stopped".to_owned());
        self.ask(ask).await.unwrap_or_else(stopped)
    }

    /// Takes no more requests, lets workers finish, and ends them; after the grace by force.
    pub(crate) async fn shutdown(&self, grace: Duration) {
        let (reply, gone) = oneshot::channel();
        if self.actor.cast(PoolMessage::Stop(reply)).is_err() {
            return;
        }
        let mut gone = gone;
        if timeout(grace, &mut gone).await.is_err() {
            drop(self.actor.cast(PoolMessage::KillAll));
            // Killed processes are gone in no time.
            drop(timeout(Duration::from_secs(1), gone).await);
        }
        self.actor.stop(None);
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> PoolMessage) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.actor.cast(message(reply)).ok()?;
        answer.await.ok()
    }
}
