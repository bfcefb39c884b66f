//! Reset: new workers for all old ones, in steps. The first new one comes alone, and where it does not
//! come up the old ones go on. Then a few are started at a time, and each sends away the one whose
//! place it takes. A reset that is asked for meanwhile begins when this one has started its last: what
//! came up before may not know what the second one is about.

use super::super::info::{WorkerInfo, WorkerState};
use super::{PoolMessage, PoolState};
use ractor::ActorRef;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

/// The part of a pool, as in one of so many, that is started at a time.
pub(super) const STEPS: usize = 4;

/// How many workers were replaced, or why not all.
pub(crate) type Replaced = Result<usize, String>;

/// Somebody who waits for a reset.
#[derive(Debug)]
pub(crate) struct Asker {
    /// Who is told.
    pub(crate) reply: oneshot::Sender<Replaced>,
    /// Whether for the end of old workers too that are at work on an event. Whoever asks in the middle
    /// of an event would wait for itself.
    pub(crate) waits_for_work: bool,
}

impl Asker {
    fn tell(self, what: Replaced) {
        // It may have gone.
        drop(self.reply.send(what));
    }
}

/// A reset whose new workers are not all up.
#[derive(Debug)]
pub(super) struct Reset {
    number: u64,
    /// Workers still to be replaced.
    rest: VecDeque<u64>,
    /// New workers that are being started.
    booting: BTreeSet<u64>,
    /// Whether one has come up.
    is_proven: bool,
    /// Old workers that have not left.
    old: BTreeSet<u64>,
    count: usize,
    askers: Vec<Asker>,
}

/// A reset whose new workers are all up, and whose old ones have not all left.
#[derive(Debug)]
pub(super) struct Parting {
    number: u64,
    old: BTreeSet<u64>,
    count: usize,
    askers: Vec<Asker>,
}

impl PoolState {
    /// Begins a reset, or notes that one more is asked for.
    pub(super) fn start_reset(&mut self, myself: &ActorRef<PoolMessage>, asker: Asker) {
        if self.stopped {
            return asker.tell(Err("the pool is being stopped".to_owned()));
        }
        if self.spec.debug {
            // Each event has a new worker anyway.
            return asker.tell(Ok(0));
        }
        self.next_reset.push(asker);
        if self.reset.is_none() {
            self.next_reset(myself);
        }
    }

    /// Begins the reset that was asked for, if one was.
    fn next_reset(&mut self, myself: &ActorRef<PoolMessage>) {
        let askers = std::mem::take(&mut self.next_reset);
        if askers.is_empty() {
            return;
        }
        self.give_up_renewals();
        let staying = self.slots.iter().filter(|(_, slot)| !slot.leaving);
        let rest: VecDeque<u64> = staying.map(|(id, _)| *id).collect();
        self.resets += 1;
        let before = self.next;
        // Who waits for the next try need not wait any more.
        self.not_before = Instant::now();
        self.fill(myself);
        // A place that nobody had is filled with what is new.
        let booting: BTreeSet<u64> = (before..self.next).collect();
        self.reset = Some(Reset {
            number: self.resets,
            old: rest.iter().copied().collect(),
            count: rest.len() + booting.len(),
            rest,
            booting,
            is_proven: false,
            askers,
        });
        self.go_on(myself);
        let (myself, limit, number) = (myself.clone(), self.spec.reset_timeout, self.resets);
        tokio::spawn(async move {
            sleep(limit).await;
            drop(myself.cast(PoolMessage::ResetOverdue(number)));
        });
    }

    /// Starts the new workers whose turn it is, or ends the reset that has no more to start.
    fn go_on(&mut self, myself: &ActorRef<PoolMessage>) {
        loop {
            let at_once = self.wanted().div_ceil(STEPS);
            let Some(reset) = &mut self.reset else { return };
            let room = if reset.is_proven { at_once } else { 1 };
            if reset.booting.len() >= room {
                return;
            }
            let Some(old) = reset.rest.pop_front() else {
                break;
            };
            if self.slots.get(&old).is_some_and(|slot| !slot.leaving) {
                let id = self.spawn(myself, Some(old), self.spec.max_jobs, None);
                if let Some(reset) = &mut self.reset {
                    reset.booting.extend(id);
                }
            }
        }
        let is_up = |reset: &mut Reset| reset.booting.is_empty();
        let Some(reset) = self.reset.take_if(is_up) else {
            return;
        };
        self.partings.push(Parting {
            number: reset.number,
            old: reset.old,
            count: reset.count,
            askers: reset.askers,
        });
        self.check_partings();
        self.trim();
        self.next_reset(myself);
    }

    /// A worker has come up.
    pub(super) fn reset_has_new(&mut self, myself: &ActorRef<PoolMessage>, id: u64) {
        let Some(reset) = &mut self.reset else { return };
        if reset.booting.remove(&id) {
            reset.is_proven = true;
            self.go_on(myself);
        }
    }

    /// A worker did not come up. If a reset has started it, that ends: old workers that have no new one
    /// go on, and so do the new ones that are being started.
    pub(super) fn reset_has_failed(&mut self, myself: &ActorRef<PoolMessage>, id: u64, why: &str) {
        let is_one = |reset: &mut Reset| reset.booting.contains(&id);
        let Some(reset) = self.reset.take_if(is_one) else {
            return;
        };
        let text = match reset.is_proven {
            false => why.to_owned(),
            true => format!(
                "not all of {} old workers have a new one, the others go on: {why}",
                reset.count
            ),
        };
        for asker in reset.askers {
            asker.tell(Err(text.clone()));
        }
        self.trim();
        self.next_reset(myself);
    }

    /// A worker has left.
    pub(super) fn reset_has_left(&mut self, myself: &ActorRef<PoolMessage>, id: u64) {
        if let Some(reset) = &mut self.reset {
            reset.old.remove(&id);
            reset.booting.remove(&id);
            self.go_on(myself);
        }
        for parting in &mut self.partings {
            parting.old.remove(&id);
        }
        self.check_partings();
    }

    /// Answers whoever waits for nothing more.
    fn check_partings(&mut self) {
        for parting in &mut self.partings {
            let info = |id: &u64| self.slots.get(id)?.info.as_ref();
            // One that was idle has been asked to stop.
            let is_at_work = |info: &Arc<WorkerInfo>| info.state() == WorkerState::Invalid;
            let mut old = parting.old.iter();
            let all_at_work = old.all(|id| info(id).is_some_and(is_at_work));
            let all_gone = parting.old.is_empty();
            let done = |asker: &mut Asker| all_gone || all_at_work && !asker.waits_for_work;
            for asker in parting.askers.extract_if(.., done) {
                asker.tell(Ok(parting.count));
            }
        }
        for parting in self.partings.extract_if(.., |it| it.old.is_empty()) {
            let (pool, workers) = (&*self.spec.name, parting.count);
            tracing::info!(pool, workers, "workers replaced");
        }
    }

    /// The time of a reset is over: whoever waits for it is told how far it is. It goes on.
    pub(super) fn end_reset(&mut self, number: u64) {
        let limit = self.spec.reset_timeout;
        if let Some(reset) = self.reset.as_mut().filter(|it| it.number == number) {
            let why = format!(
                "{} of {} new workers are not up after {limit:?} (`reset_timeout`); the reset goes on, and \
                 old workers stay until theirs is",
                reset.rest.len() + reset.booting.len(),
                reset.count,
            );
            for asker in std::mem::take(&mut reset.askers) {
                asker.tell(Err(why.clone()));
            }
        }
        let mut partings = self.partings.iter_mut();
        if let Some(parting) = partings.find(|it| it.number == number) {
            let why = format!(
                "{} of {} old workers are still there after {limit:?} (`reset_timeout`); they take no more \
                 events, leave when they are done, and at the latest by `exec_ttl`",
                parting.old.len(),
                parting.count,
            );
            for asker in std::mem::take(&mut parting.askers) {
                asker.tell(Err(why.clone()));
            }
        }
    }

    /// The pool is being stopped: nobody waits for a reset any more.
    pub(super) fn give_up_resets(&mut self) {
        let under_way = self.reset.take().map(|it| it.askers);
        let parting = std::mem::take(&mut self.partings).into_iter();
        let parting = parting.flat_map(|it| it.askers);
        let waiting = std::mem::take(&mut self.next_reset);
        for asker in under_way
            .into_iter()
            .flatten()
            .chain(parting)
            .chain(waiting)
        {
            asker.tell(Err("the pool is being stopped".to_owned()));
        }
    }
}
