//! The way of work through a shard: to the gate of its slot, into its lane, to its end.

use crate::outcome::Failure;
use crate::region::gate::{bounce, verdict};
use crate::region::lane::{Lane, LaneState, Running, Work};
use crate::region::shard::{ShardMessage, ShardState};
use crate::routing::key::LaneKey;
use centripeta_cluster::peer::{Reason, Verdict};
use centripeta_cluster::{OwnerEpoch, SlotId};
use ractor::ActorRef;
use std::task::Context;

impl ShardState {
    /// The place of a slot among those of the shard.
    pub(super) fn place(&self, slot: SlotId) -> usize {
        usize::from(slot.index() / self.shared.layout.shards())
    }

    /// Says how many lanes a slot has, after some came or went.
    pub(super) fn count_lanes(&mut self, at: usize, before: usize) {
        let slot = &self.slots[at];
        let now = slot.lanes.len();
        if now != before {
            self.lanes = self.lanes + now - before;
            self.shared.slots.set_lanes(slot.slot, now);
        }
    }

    /// Whether work may start, or take its place in a lane, at this moment.
    pub(super) fn judge(&self, slot: SlotId, work: &Work) -> Verdict {
        let leg = match work {
            Work::Event { flight, .. } => flight.cx().lane.as_ref().and_then(|lane| lane.leg),
            Work::Inbound(_) => None,
        };
        verdict(&self.shard, &self.shared, slot, leg)
    }

    /// Sends work back unstarted. A stream keeps its publication, and asks again while it is open.
    pub(super) fn bounce(&self, work: Work, reason: Reason) {
        match work {
            Work::Event { flight, .. } => bounce(&self.shard, flight, reason),
            Work::Inbound(turn) => drop(turn),
        }
    }

    /// Work has come in: it runs now, waits behind what runs in its lane or for the gate of its
    /// slot, or goes back.
    pub(super) fn arrive(
        &mut self,
        myself: &ActorRef<ShardMessage>,
        work: Work,
        cx: &mut Context<'_>,
    ) {
        let Some((key, slot)) = place_of(&work) else {
            // What has to wait goes on by itself: no lane waits for it.
            if let (Some(running), _) = self.run(None, work, None, cx) {
                self.loose.add(running.let_go());
            }
            return;
        };
        let key = key.clone();
        let at = self.place(slot);
        if !self.slots[at].held.is_empty() {
            return self.hold(myself, at, work);
        }
        match self.judge(slot, &work) {
            Verdict::Run(epoch) => {
                let limit = match work.is_held() {
                    true => usize::MAX,
                    false => self.shared.limits.lane_queue(),
                };
                self.enter(myself, (at, epoch), key, work, limit, cx);
            }
            Verdict::Wait => self.hold(myself, at, work),
            Verdict::Bounce(reason) => self.bounce(work, reason),
        }
    }

    /// Work that may start does so, or waits behind what runs in its lane if not more than `limit`
    /// wait there.
    pub(super) fn enter(
        &mut self,
        myself: &ActorRef<ShardMessage>,
        (at, epoch): (usize, OwnerEpoch),
        key: LaneKey,
        work: Work,
        limit: usize,
        cx: &mut Context<'_>,
    ) {
        self.set_epoch(at, epoch);
        let kept = match self.slots[at].lanes.get_mut(&key) {
            Some(lane) if lane.is_busy() => return self.queue(myself, at, key, work, limit),
            Some(lane) => lane.take_state(),
            None => None,
        };
        self.run_in_lane(myself, (at, epoch), key, work, kept, cx);
    }

    /// States of lanes are good for one epoch.
    fn set_epoch(&mut self, at: usize, epoch: OwnerEpoch) {
        let slot = &mut self.slots[at];
        if slot.epoch == epoch {
            return;
        }
        slot.epoch = epoch;
        let before = slot.lanes.len();
        slot.lanes.retain(|_, lane| {
            drop(lane.take_state());
            !lane.is_empty()
        });
        self.count_lanes(at, before);
    }

    fn queue(
        &mut self,
        myself: &ActorRef<ShardMessage>,
        at: usize,
        key: LaneKey,
        work: Work,
        limit: usize,
    ) {
        let Some(lane) = self.slots[at].lanes.get_mut(&key) else {
            return;
        };
        let deadline = work.deadline();
        match lane.wait(work, limit) {
            Ok(is_first) => {
                // Events have a deadline, publications of a stream have none.
                self.waiting_in_lanes += usize::from(deadline.is_some());
                if is_first {
                    self.queued.insert(key);
                }
                if let Some(deadline) = deadline {
                    self.sweep_at(myself, deadline);
                }
            }
            Err((Work::Event { flight, .. }, why)) => {
                flight.finish(Failure::Overloaded(why).into());
            }
            // The stream keeps its publication and asks again.
            Err((Work::Inbound(turn), _)) => drop(turn),
        }
    }

    /// Runs work in a lane that is not busy, and leaves the lane as the work leaves it.
    fn run_in_lane(
        &mut self,
        myself: &ActorRef<ShardMessage>,
        (at, epoch): (usize, OwnerEpoch),
        key: LaneKey,
        mut work: Work,
        kept: Option<LaneState>,
        cx: &mut Context<'_>,
    ) {
        if let Work::Event { flight, .. } = &mut work
            && let Some(lane) = &mut flight.cx_mut().lane
        {
            lane.epoch = epoch;
        }
        let (running, state) = self.run(Some(&key), work, kept, cx);
        let before = self.slots[at].lanes.len();
        if running.is_none() && state.is_none() && !self.slots[at].lanes.contains_key(&key) {
            // Nothing is left of it: the way of most events.
            return;
        }
        let used = self.second();
        let lanes = &mut self.slots[at].lanes;
        match running {
            Some(running) => {
                let lane = lanes.entry(key).or_default();
                self.busy += usize::from(!lane.is_busy());
                lane.set_running(running, state, used);
            }
            None => match lanes.get_mut(&key) {
                Some(lane) => {
                    lane.rest(state, used);
                    if lane.has_waiting() {
                        // One at a time, so that other lanes get their turn in between.
                        drop(myself.cast(ShardMessage::Ended(key, self.life)));
                    } else {
                        self.busy -= usize::from(lane.is_busy());
                        lane.next();
                        if lane.is_empty() {
                            lanes.remove(&key);
                        }
                    }
                }
                None if state.is_some() => {
                    lanes.insert(key, Lane::idle(state, used));
                    self.passivate_later(myself);
                }
                None => {}
            },
        }
        self.count_lanes(at, before);
    }

    /// What ran in a lane has ended: the next one, or the lane is idle.
    pub(super) fn ended(
        &mut self,
        myself: &ActorRef<ShardMessage>,
        key: &LaneKey,
        cx: &mut Context<'_>,
    ) {
        let slot = key.slot();
        let at = self.place(slot);
        let before = self.slots[at].lanes.len();
        loop {
            let Some(lane) = self.slots[at].lanes.get_mut(key) else {
                return;
            };
            let was_busy = lane.is_busy();
            let next = lane.next();
            self.busy -= usize::from(was_busy && next.is_none());
            let Some(work) = next else {
                if lane.is_empty() {
                    self.slots[at].lanes.remove(key);
                    self.count_lanes(at, before);
                } else {
                    self.passivate_later(myself);
                }
                return;
            };
            match self.judge(slot, &work) {
                Verdict::Run(epoch) => {
                    self.waiting_in_lanes -= usize::from(work.deadline().is_some());
                    self.set_epoch(at, epoch);
                    let lane = self.slots[at].lanes.get_mut(key);
                    let kept = lane.and_then(Lane::take_state);
                    return self.run_in_lane(myself, (at, epoch), key.clone(), work, kept, cx);
                }
                // Whatever waits in the lane came before what waits in front of the slot. The lane
                // is free when the next look at it finds it empty.
                Verdict::Wait => self.hold_lane(myself, at, key, work),
                Verdict::Bounce(reason) => {
                    self.waiting_in_lanes -= usize::from(work.deadline().is_some());
                    self.bounce(work, reason);
                }
            }
        }
    }

    /// Starts work; answers the task it goes on in, if it has to wait, and the state of the lane.
    fn run(
        &mut self,
        key: Option<&LaneKey>,
        work: Work,
        kept: Option<LaneState>,
        cx: &mut Context<'_>,
    ) -> (Option<Running>, Option<LaneState>) {
        match work {
            Work::Event {
                flight,
                route,
                waiting,
            } => self.run_event(key, flight, route, waiting, kept, cx),
            Work::Inbound(turn) => {
                let ended = |key: &LaneKey| self.ended_message(Some(key));
                let task = super::streams::run_turn(*turn, ended);
                (task.map(|task| Running::new(task, None)), kept)
            }
        }
    }
}

/// The lane of work and its slot; none without a key.
pub(super) fn place_of(work: &Work) -> Option<(&LaneKey, SlotId)> {
    match work {
        Work::Event { flight, .. } => {
            let lane = flight.cx().lane.as_ref()?;
            Some((&lane.key, lane.slot))
        }
        Work::Inbound(turn) => Some((&turn.key, turn.key.slot())),
    }
}
