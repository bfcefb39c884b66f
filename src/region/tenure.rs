//! The lanes of a node as the cluster's shell drives them: slots open, close, go and come back.
//!
//! What is known of a slot changes at once, on the caller's thread; what its lanes do follows by a
//! message to its shard, in order. A shard that is not there has no lanes: nothing is left to do.

use crate::engine::Engine;
use crate::engine::shared::Shared;
use crate::outcome::{StreamEndReason, Unavailable};
use crate::region::lane::{Lane, Work};
use crate::region::shard::{Shard, ShardMessage, ShardState};
use crate::region::work::place_of;
use crate::routing::key::LaneKey;
use centripeta_cluster::handoff::Load;
use centripeta_cluster::lease::DropReason;
use centripeta_cluster::peer::{Reason, Verdict};
use centripeta_cluster::store::StateStore;
use centripeta_cluster::{Ended, Move, MoveReason, OwnerEpoch, Region, Report, Reports, SlotId};
use ractor::ActorRef;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;
use tokio::runtime::Handle;

/// In a drain, what each open stream adds to the time over which those of a slot end.
const PER_STREAM: Duration = Duration::from_millis(5);
/// That time is at most so long: a slot that closed is gone soon.
const STREAMS_END: Duration = Duration::from_secs(2);
/// How many events that had waited for a gate start before others get their turn.
const AT_ONCE: usize = 64;
/// How often a core says that it makes progress.
const PROGRESS: Duration = Duration::from_millis(200);

/// What a shard is to do with a slot.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    /// Events run from now on, or again.
    Open,
    /// What has not started goes back, for this move.
    Close(Move),
    /// What still runs is dropped.
    Cut,
    /// Lanes are dropped, what runs is stopped, the rest goes back.
    Lose,
}

/// The lanes of an engine.
#[derive(Debug)]
struct Lanes(Arc<Shared>);

impl Engine {
    /// The lanes of this node, for the shell of its cluster.
    pub fn region(&self) -> Arc<dyn Region> {
        Arc::new(Lanes(Arc::clone(&self.shared)))
    }

    /// Where the values of its slots live.
    pub fn store(&self) -> Arc<dyn StateStore> {
        Arc::clone(&self.shared.store) as Arc<dyn StateStore>
    }
}

impl Lanes {
    fn shard(&self, slot: SlotId) -> &Arc<Shard> {
        &self.0.shards[usize::from(self.0.layout.shard_of(slot).index())]
    }

    fn order(&self, slot: SlotId, order: Order) {
        let sent = self.shard(slot).seat.cast(ShardMessage::Slot(slot, order));
        if sent.is_err() {
            // A parked shard has nothing that had not started.
            self.0.slots.say_closed(slot);
        }
    }

    fn end_streams(&self, slot: SlotId, reason: StreamEndReason) {
        let drains = reason == StreamEndReason::Drained;
        let each = if drains { PER_STREAM } else { Duration::ZERO };
        self.0.slots.end_streams(slot, reason, each, STREAMS_END);
    }
}

impl Region for Lanes {
    fn reports(&self, to: Reports) {
        self.0.slots.set_reports(to);
    }

    fn open(&self, slot: SlotId, _: OwnerEpoch) {
        self.0.slots.unclose(slot);
        self.order(slot, Order::Open);
    }

    fn suspend(&self) {
        // Whatever acts asks for the lease right before; there is nothing to be told.
    }

    fn resume(&self) {
        self.0.slots.changed.notify_waiters();
        for shard in &self.0.shards {
            // A shard that is not there holds nothing.
            drop(shard.seat.cast(ShardMessage::Look { timed: false }));
        }
    }

    fn lose(&self, slot: SlotId, epoch: OwnerEpoch, why: DropReason) {
        tracing::debug!(%slot, %epoch, ?why, "the slot is lost");
        self.0.slots.unclose(slot);
        self.0.slots.changed.notify_waiters();
        self.end_streams(slot, StreamEndReason::Moved);
        self.order(slot, Order::Lose);
    }

    fn close(&self, slot: SlotId, to: Move) {
        self.0.slots.close(slot, to);
        let reason = match to.reason {
            MoveReason::Drain => StreamEndReason::Drained,
            MoveReason::Rebalance | MoveReason::Admin => StreamEndReason::Moved,
        };
        self.end_streams(slot, reason);
        self.order(slot, Order::Close(to));
    }

    fn cut(&self, slot: SlotId) {
        self.order(slot, Order::Cut);
    }

    fn reopen(&self, slot: SlotId, _: OwnerEpoch) {
        self.0.slots.unclose(slot);
        self.order(slot, Order::Open);
    }

    fn forget(&self, slot: SlotId) {
        self.0.slots.unclose(slot);
        self.0.slots.changed.notify_waiters();
        self.end_streams(slot, StreamEndReason::Moved);
        self.order(slot, Order::Lose);
    }

    fn ended(&self) -> Ended {
        self.0.slots.counts.ended()
    }

    fn load(&self, slot: SlotId) -> Load {
        let (lanes, streams, longest) = self.0.slots.load(slot);
        let empty = lanes == 0 && streams == 0 && self.0.store.is_empty(slot);
        Load { empty, longest }
    }
}

impl ShardState {
    /// Does with a slot what the shell wants.
    pub(super) fn obey(
        &mut self,
        myself: &ActorRef<ShardMessage>,
        slot: SlotId,
        order: Order,
        cx: &mut Context<'_>,
    ) {
        let at = self.place(slot);
        match order {
            Order::Open => self.release(myself, at, cx),
            Order::Close(to) => {
                // One that was opened again in the meantime stays open.
                if self.shared.slots.closed_for(slot) == Some(to) {
                    self.bounce_unstarted(at, Reason::Moving(to));
                    self.shared.slots.say_closed(slot);
                }
            }
            Order::Cut => self.stop(at, Unavailable::Cut),
            Order::Lose => self.lose(at),
        }
    }

    fn lose(&mut self, at: usize) {
        self.stop(at, Unavailable::Lost);
        self.bounce_unstarted(at, Reason::WrongOwner);
        let slot = &mut self.slots[at];
        let before = slot.lanes.len();
        // A lane stays until what ran in it is gone: one event of a key at a time, whatever happens.
        slot.lanes.retain(|_, lane| {
            drop(lane.take_state());
            !lane.is_empty()
        });
        self.count_lanes(at, before);
    }

    /// Ends what runs in a slot.
    fn stop(&mut self, at: usize, why: Unavailable) {
        for lane in self.slots[at].lanes.values_mut() {
            lane.stop(why);
        }
    }

    /// Sends back all that has not started, in order: what waits in a lane came before what waits in
    /// front of the slot.
    fn bounce_unstarted(&mut self, at: usize, reason: Reason) {
        let slot = &mut self.slots[at];
        let queues = slot.lanes.values_mut().filter_map(Lane::queue);
        let mut all: Vec<Work> = queues.flat_map(std::mem::take).collect();
        all.extend(std::mem::take(&mut slot.held));
        self.holding.remove(&at);
        for work in all {
            self.waiting_in_lanes -= usize::from(work.deadline().is_some());
            self.bounce(work, reason);
        }
    }

    /// Work waits for the gate of its slot, or for the lease.
    pub(super) fn hold(&mut self, myself: &ActorRef<ShardMessage>, at: usize, work: Work) {
        if let Some(deadline) = work.deadline() {
            self.waiting_in_lanes += 1;
            self.sweep_at(myself, deadline);
            let held = &self.shared.slots.counts.held;
            held.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        self.slots[at].held.push_back(work);
        self.holding.insert(at);
        self.look_later(myself);
    }

    /// What waits in a lane, `first` of all, waits for the gate of its slot instead.
    pub(super) fn hold_lane(
        &mut self,
        myself: &ActorRef<ShardMessage>,
        at: usize,
        key: &LaneKey,
        first: Work,
    ) {
        let slot = &mut self.slots[at];
        let queue = slot.lanes.get_mut(key).and_then(Lane::queue);
        let queue = queue.map(std::mem::take).unwrap_or_default();
        for work in queue.into_iter().rev() {
            slot.held.push_front(work);
        }
        slot.held.push_front(first);
        self.holding.insert(at);
        self.look_later(myself);
    }

    /// Looks again at all that waits for a gate or the lease.
    pub(super) fn look(
        &mut self,
        myself: &ActorRef<ShardMessage>,
        timed: bool,
        cx: &mut Context<'_>,
    ) {
        self.looks &= !timed;
        let holding: Vec<usize> = self.holding.iter().copied().collect();
        for at in holding {
            self.release(myself, at, cx);
        }
        if !self.holding.is_empty() {
            self.look_later(myself);
        }
    }

    /// Lets what waits in front of a slot go on, or back, as far as it may.
    fn release(&mut self, myself: &ActorRef<ShardMessage>, at: usize, cx: &mut Context<'_>) {
        let slot = self.slots[at].slot;
        for _ in 0..AT_ONCE {
            let Some(work) = self.slots[at].held.front() else {
                break;
            };
            let verdict = self.judge(slot, work);
            if verdict == Verdict::Wait {
                return;
            }
            let Some(work) = self.slots[at].held.pop_front() else {
                break;
            };
            self.waiting_in_lanes -= usize::from(work.deadline().is_some());
            match verdict {
                Verdict::Run(epoch) => {
                    if let Some((key, _)) = place_of(&work) {
                        let key = key.clone();
                        // The shard's limit has let it in; a lapse costs no event its place.
                        self.enter(myself, (at, epoch), key, work, usize::MAX, cx);
                    }
                }
                Verdict::Bounce(reason) => self.bounce(work, reason),
                Verdict::Wait => {}
            }
        }
        let held: &VecDeque<Work> = &self.slots[at].held;
        if held.is_empty() {
            self.holding.remove(&at);
        } else {
            drop(myself.cast(ShardMessage::Slot(slot, Order::Open)));
        }
    }
}

/// A shard is parked, or runs again.
pub(crate) fn shard_parked(shared: &Shared, shard: &Shard, parked: bool) {
    if shard.memory.park(parked) == parked {
        return;
    }
    let mut first = None;
    for slot in shard.slots(shared.layout.shards()) {
        first = first.or(Some(slot));
        shared.slots.set_lanes(slot, 0);
        if parked {
            shared.slots.say_closed(slot);
        }
    }
    if let Some(slot) = first {
        shared.slots.report(Report::Parked { slot, parked });
    }
}

/// Says of each core, from that core itself, that it makes progress, as long as the engine runs.
pub(crate) fn report_progress(shared: &Arc<Shared>, cores: &[Handle]) {
    if shared.standing.is_alone() {
        return;
    }
    for (core, handle) in cores.iter().enumerate() {
        let engine = Arc::downgrade(shared);
        handle.spawn(async move {
            loop {
                tokio::time::sleep(PROGRESS).await;
                let Some(shared) = engine.upgrade().filter(|shared| !shared.is_closed()) else {
                    return;
                };
                shared.slots.report(Report::Worked { core });
            }
        });
    }
}
