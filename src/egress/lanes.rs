//! Order per channel: which calls may go next, decided without any I/O.
//!
//! Every channel has a lane. A call stands in the lanes of all its channels; it may leave when it is
//! the first in each of them and none is held by another flight. A flight holds the lanes of its
//! calls until it has landed, so at most one flight per channel is on the wire; calls of one channel
//! may go together, in order.

use super::job::{Job, LaneKey};
use std::collections::{HashMap, VecDeque};
use tokio::time::Instant;

/// Which flight holds a lane.
pub(super) type FlightId = u64;

/// Calls that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<LaneKey, Lane>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    /// Calls that may be able to go; each is looked at again before it does.
    ready: VecDeque<usize>,
    /// Calls that could go but for the lease of their node.
    lapsed: Vec<usize>,
    len: usize,
    flights: FlightId,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<usize>,
    held: Option<FlightId>,
}

#[derive(Debug)]
struct Slot {
    job: Job,
    /// In how many of its lanes it is the first.
    first_in: usize,
}

/// Calls that leave together.
#[derive(Debug)]
pub(super) struct Flight {
    /// The calls, in order.
    pub(super) jobs: Vec<Job>,
    /// The lanes that it holds.
    pub(super) held: Vec<LaneKey>,
    /// Whether no two of the calls share a lane, so that their order does not matter.
    pub(super) is_unordered: bool,
}

impl Lanes {
    /// Calls that wait.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether some call may be able to go.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// A call joins the end of its lanes.
    pub(super) fn push(&mut self, job: Job) {
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let mut first_in = 0;
        for key in job.lanes.as_slice() {
            let lane = self.lanes.entry(*key).or_default();
            lane.waiting.push_back(id);
            first_in += usize::from(lane.waiting.len() == 1);
        }
        self.slots[id] = Some(Slot { job, first_in });
        self.len += 1;
        if self.may_go(id, None) {
            self.ready.push_back(id);
        }
    }

    /// Takes as many calls as may go together: at most `count`, of at most `bytes` beyond the first.
    pub(super) fn take(&mut self, count: usize, bytes: usize) -> Option<Flight> {
        self.flights += 1;
        let flight = self.flights;
        let (mut jobs, mut held, mut total) = (Vec::new(), Vec::new(), 0);
        let mut is_unordered = true;
        while let Some(id) = self.ready.pop_front() {
            if !self.may_go(id, Some(flight)) {
                continue;
            }
            let Some(slot) = &self.slots[id] else {
                continue;
            };
            if slot.job.is_lapsed() {
                self.lapsed.push(id);
                continue;
            }
            let length = slot.job.batch_len();
            if jobs.len() == count || (!jobs.is_empty() && total + length > bytes) {
                self.ready.push_front(id);
                break;
            }
            total += length;
            let Some(slot) = self.remove(id) else {
                continue;
            };
            for key in slot.job.lanes.as_slice() {
                let Some(lane) = self.lanes.get_mut(key) else {
                    continue;
                };
                lane.waiting.pop_front();
                if lane.held.replace(flight).is_none() {
                    held.push(*key);
                } else {
                    is_unordered = false;
                }
                if let Some(next) = lane.waiting.front().copied() {
                    self.is_first(next);
                    if self.may_go(next, Some(flight)) {
                        self.ready.push_back(next);
                    }
                }
            }
            jobs.push(slot.job);
        }
        let flight = Flight {
            jobs,
            held,
            is_unordered,
        };
        (!flight.jobs.is_empty()).then_some(flight)
    }

    /// The lease of their node may be back: calls that waited for it are looked at again.
    pub(super) fn look_again(&mut self) {
        self.ready.extend(self.lapsed.drain(..));
    }

    /// A flight has landed: others may have its lanes.
    pub(super) fn release(&mut self, held: &[LaneKey]) {
        for key in held {
            if let Some(lane) = self.lanes.get_mut(key) {
                lane.held = None;
            }
        }
        let mut next = Vec::new();
        for key in held {
            match self
                .lanes
                .get(key)
                .map(|lane| lane.waiting.front().copied())
            {
                Some(None) => drop(self.lanes.remove(key)),
                Some(Some(id)) if next.last() != Some(&id) => next.push(id),
                _ => {}
            }
        }
        next.retain(|id| self.may_go(*id, None));
        self.ready.extend(next);
    }

    /// Takes out the calls whose time is over.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Job> {
        self.take_out(|job| job.deadline <= now)
    }

    /// Takes out every call.
    pub(super) fn clear(&mut self) -> Vec<Job> {
        self.take_out(|_| true)
    }

    fn take_out(&mut self, is_over: impl Fn(&Job) -> bool) -> Vec<Job> {
        let over = |slot: &Option<Slot>| slot.as_ref().is_some_and(|slot| is_over(&slot.job));
        let ids: Vec<usize> = (0..self.slots.len())
            .filter(|id| over(&self.slots[*id]))
            .collect();
        if ids.is_empty() {
            return Vec::new();
        }
        let jobs = ids.iter().filter_map(|id| self.remove(*id));
        let jobs: Vec<Job> = jobs.map(|slot| slot.job).collect();
        let slots = &mut self.slots;
        for slot in slots.iter_mut().flatten() {
            slot.first_in = 0;
        }
        self.lanes.retain(|_, lane| {
            lane.waiting.retain(|id| slots[*id].is_some());
            if let Some(slot) = lane.waiting.front().and_then(|id| slots[*id].as_mut()) {
                slot.first_in += 1;
            }
            lane.held.is_some() || !lane.waiting.is_empty()
        });
        self.lapsed.clear();
        self.ready = (0..self.slots.len())
            .filter(|id| self.may_go(*id, None))
            .collect();
        jobs
    }

    fn remove(&mut self, id: usize) -> Option<Slot> {
        let slot = self.slots[id].take()?;
        self.free.push(id);
        self.len -= 1;
        Some(slot)
    }

    fn is_first(&mut self, id: usize) {
        if let Some(slot) = &mut self.slots[id] {
            slot.first_in += 1;
        }
    }

    /// Whether a call is the first in all its lanes, and none is held by another flight.
    fn may_go(&self, id: usize, flight: Option<FlightId>) -> bool {
        let Some(slot) = &self.slots[id] else {
            return false;
        };
        let lanes = slot.job.lanes.as_slice();
        let is_free = |key: &LaneKey| {
            let held = self.lanes.get(key).and_then(|lane| lane.held);
            held.is_none() || held == flight
        };
        slot.first_in == lanes.len() && lanes.iter().all(is_free)
    }
}

#[cfg(test)]
mod tests;
