//! What a shard does by the clock: deadlines of what waits, passivation, another look at gates.

use crate::outcome::Failure;
use crate::region::gate::LOOK_AGAIN;
use crate::region::lane::{Lane, Work};
use crate::region::shard::{ShardMessage, ShardState};
use ractor::ActorRef;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// Expired events are looked for at most this often.
const SWEEP_PAUSE: Duration = Duration::from_millis(5);

impl ShardState {
    /// Seconds of the shard's life.
    pub(super) fn second(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// Something that waits expires at this time.
    pub(super) fn sweep_at(&mut self, myself: &ActorRef<ShardMessage>, deadline: Instant) {
        if self.next_sweep.is_some_and(|next| next <= deadline) {
            return;
        }
        let at = deadline.max(Instant::now() + SWEEP_PAUSE);
        self.next_sweep = Some(at);
        cast_at(myself, at, || ShardMessage::Sweep);
    }

    /// Answers what has waited beyond its deadline, or for a caller that went away.
    pub(super) fn sweep(&mut self, myself: &ActorRef<ShardMessage>) {
        let now = Instant::now();
        self.next_sweep = None;
        let mut nearest: Option<Instant> = None;
        let mut gone = 0;
        let shards = self.shared.layout.shards();
        let slots = &mut self.slots;
        self.queued.retain(|key| {
            let at = usize::from(key.slot().index() / shards);
            let lane = slots.get_mut(at).and_then(|slot| slot.lanes.get_mut(key));
            let Some(queue) = lane.and_then(Lane::queue) else {
                return false;
            };
            sweep_queue(queue, now, &mut nearest, &mut gone);
            !queue.is_empty()
        });
        self.holding.retain(|at| {
            let Some(slot) = slots.get_mut(*at) else {
                return false;
            };
            sweep_queue(&mut slot.held, now, &mut nearest, &mut gone);
            !slot.held.is_empty()
        });
        self.waiting_in_lanes -= gone;
        if let Some(nearest) = nearest {
            self.sweep_at(myself, nearest);
        }
    }

    /// Kept lanes are looked at later.
    pub(super) fn passivate_later(&mut self, myself: &ActorRef<ShardMessage>) {
        if !self.passivation_runs {
            self.passivation_runs = true;
            let at = Instant::now() + self.passivate_after / 4;
            cast_at(myself, at, || ShardMessage::Passivate);
        }
    }

    /// Drops lanes that have been idle for long; their values are in the store.
    pub(super) fn passivate(&mut self, myself: &ActorRef<ShardMessage>) {
        self.passivation_runs = false;
        let idle_for = u32::try_from(self.passivate_after.as_secs())
            .unwrap_or(u32::MAX)
            .max(1);
        if let Some(second) = self.second().checked_sub(idle_for) {
            let kept_before = self.lanes;
            for at in 0..self.slots.len() {
                let lanes = &mut self.slots[at].lanes;
                let before = lanes.len();
                lanes.retain(|_, lane| !lane.is_idle_since(second + 1));
                if lanes.len() * 4 < lanes.capacity() {
                    lanes.shrink_to_fit();
                }
                self.count_lanes(at, before);
            }
            let dropped = kept_before - self.lanes;
            if dropped > 0 {
                tracing::debug!(dropped, kept = self.lanes, "idle lanes passivated");
            }
        }
        if self.lanes > 0 {
            self.passivate_later(myself);
        }
    }

    /// What waits for a gate or the lease is looked at again soon, should nobody say that it is
    /// time.
    pub(super) fn look_later(&mut self, myself: &ActorRef<ShardMessage>) {
        if !self.looks {
            self.looks = true;
            cast_at(myself, Instant::now() + LOOK_AGAIN, || ShardMessage::Look {
                timed: true,
            });
        }
    }
}

fn sweep_queue(
    queue: &mut VecDeque<Work>,
    now: Instant,
    nearest: &mut Option<Instant>,
    gone: &mut usize,
) {
    let mut kept = VecDeque::with_capacity(queue.len());
    for work in queue.drain(..) {
        let expired = work.deadline().is_some_and(|deadline| deadline <= now);
        match work {
            Work::Event { flight, .. } if expired => {
                *gone += 1;
                flight.finish(Failure::Deadline.into());
            }
            Work::Event { flight, .. } if flight.is_abandoned() => {
                *gone += 1;
                flight.finish(Failure::Cancelled.into());
            }
            work if work.is_abandoned() => drop(work),
            work => {
                *nearest = match (*nearest, work.deadline()) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
                kept.push_back(work);
            }
        }
    }
    *queue = kept;
}

fn cast_at(myself: &ActorRef<ShardMessage>, at: Instant, message: fn() -> ShardMessage) {
    let myself = myself.clone();
    tokio::spawn(async move {
        tokio::time::sleep_until(at).await;
        // A shard that is gone has nothing to be reminded of.
        drop(myself.cast(message()));
    });
}
