//! The shard actor: runs the lanes of a fixed group of slots.

use crate::engine::flight::Flight;
use crate::engine::loose::Loose;
use crate::engine::plan::Route;
use crate::engine::seat::Seat;
use crate::engine::shared::{Apart, Gauge, Shared};
use crate::region::lane::{InboundTurn, Lane, Work};
use crate::region::slots::Memory;
use crate::region::tenure::Order;
use crate::routing::key::{BuildLaneHasher, LaneKey, LaneMap};
use crate::watchdog::Beat;
use centripeta_cluster::{OwnerEpoch, SLOT_COUNT, SlotId};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// A shard as senders see it.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    /// Where its actor sits.
    pub(crate) seat: Seat<ShardMessage>,
    /// What it keeps of its slots through crashes.
    pub(crate) memory: Memory,
    index: u16,
    core: usize,
    /// Events that wait in all shards of the core.
    core_waiting: Arc<Apart<Gauge>>,
    events: Gauge,
    bytes: Gauge,
    lanes: Tally,
    /// How many actors have sat here.
    lives: AtomicU64,
}

/// What the actor says of its lanes; it alone writes here, on a cache line that no sender writes.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Tally {
    lanes: AtomicUsize,
    busy: AtomicUsize,
    queued: AtomicUsize,
}

/// What a shard holds at one moment; its parts are read one after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ShardLoad {
    /// Events that wait, in the mailbox or in lanes.
    pub(crate) events: usize,
    /// Bytes of their requests.
    pub(crate) bytes: usize,
    /// Those of them that wait in lanes.
    pub(crate) queued: usize,
    /// Lanes in which something runs.
    pub(crate) busy: usize,
    /// Idle lanes with a state.
    pub(crate) kept: usize,
}

impl Shard {
    /// A shard on a core, by its index, not running yet.
    pub(crate) fn new(index: u16, core: usize, core_waiting: Arc<Apart<Gauge>>) -> Self {
        Self {
            index,
            core,
            core_waiting,
            ..Self::default()
        }
    }

    /// Its slots, in the order of their places, where there are so many shards.
    pub(crate) fn slots(&self, shards: u16) -> impl Iterator<Item = SlotId> {
        (self.index..SLOT_COUNT)
            .step_by(usize::from(shards.max(1)))
            .filter_map(SlotId::new)
    }

    /// The core that runs it.
    pub(crate) const fn core(&self) -> usize {
        self.core
    }

    /// What it holds now.
    pub(crate) fn load(&self) -> ShardLoad {
        let get = |cell: &AtomicUsize| cell.load(Ordering::Relaxed);
        let (events, bytes) = (self.events.get(), self.bytes.get());
        if self.seat.is_parked() {
            // The actor took its lanes with it.
            return ShardLoad {
                events,
                bytes,
                ..ShardLoad::default()
            };
        }
        let busy = get(&self.lanes.busy);
        ShardLoad {
            events,
            bytes,
            queued: get(&self.lanes.queued),
            busy,
            kept: get(&self.lanes.lanes).saturating_sub(busy),
        }
    }

    /// A place among the events that wait here.
    pub(crate) fn admit(self: &Arc<Self>, bytes: usize, shared: &Shared) -> Option<Waiting> {
        if !self.events.try_add(1, shared.limits.shard_events()) {
            return None;
        }
        if !self.bytes.try_add(bytes, shared.limits.shard_bytes()) {
            self.events.sub(1);
            return None;
        }
        self.core_waiting.add(1);
        Some(Waiting {
            shard: Arc::clone(self),
            bytes,
        })
    }
}

/// A place among the events that wait in a shard, given back when dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    shard: Arc<Shard>,
    bytes: usize,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shard.events.sub(1);
        self.shard.bytes.sub(self.bytes);
        self.shard.core_waiting.sub(1);
    }
}

/// What a shard actor is sent.
#[derive(Debug)]
pub(crate) enum ShardMessage {
    /// An event to run, in the lane of its key if it has one.
    Run {
        /// The event.
        flight: Flight,
        /// Its route.
        route: Arc<Route>,
        /// Its place among those that wait.
        waiting: Waiting,
    },
    /// A two-way stream asks for a turn.
    Inbound(Box<InboundTurn>),
    /// What ran in a lane has ended, in the given life of the shard.
    Ended(LaneKey, u64),
    /// Answer events whose deadline passed while they waited.
    Sweep,
    /// Drop kept lanes that have been idle for long.
    Passivate,
    /// Something is to be done with a slot.
    Slot(SlotId, Order),
    /// Look again at what waits for a gate or for the lease; by the shard's own timer or not.
    Look {
        /// Whether its timer says so.
        timed: bool,
    },
}

/// The actor; see the module's text.
#[derive(Debug)]
pub(crate) struct ShardActor;

/// What a shard actor needs.
#[derive(Debug)]
pub(crate) struct ShardArgs {
    /// The shard.
    pub(crate) shard: Arc<Shard>,
    /// What all share.
    pub(crate) shared: Arc<Shared>,
    /// How long a kept lane stays idle.
    pub(crate) passivate_after: Duration,
}

/// A slot as its shard has it.
#[derive(Debug)]
pub(super) struct SlotLanes {
    /// Which one.
    pub(super) slot: SlotId,
    /// Its lanes.
    pub(super) lanes: LaneMap<Lane>,
    /// What waits for the gate or the lease, in the order in which it came; nothing overtakes it.
    pub(super) held: VecDeque<Work>,
    /// The epoch that the states of its lanes are of.
    pub(super) epoch: OwnerEpoch,
}

/// The lanes of a shard.
#[derive(Debug)]
pub(crate) struct ShardState {
    pub(super) shard: Arc<Shard>,
    pub(super) shared: Arc<Shared>,
    pub(super) beat: Arc<Beat>,
    /// What runs without a key.
    pub(super) loose: Loose,
    /// Its slots, by their place.
    pub(super) slots: Box<[SlotLanes]>,
    /// Lanes in all of them.
    pub(super) lanes: usize,
    /// Lanes in which something runs.
    pub(super) busy: usize,
    /// Events that wait in lanes, or in front of them.
    pub(super) waiting_in_lanes: usize,
    /// What was last said of the three.
    told: Option<(usize, usize, usize)>,
    /// Which of the actors that have sat here this is; what another one started is none of its
    /// business.
    pub(super) life: u64,
    /// Lanes in which something may wait.
    pub(super) queued: HashSet<LaneKey, BuildLaneHasher>,
    /// Places of slots in front of which something waits.
    pub(super) holding: BTreeSet<usize>,
    pub(super) next_sweep: Option<Instant>,
    pub(super) passivate_after: Duration,
    pub(super) passivation_runs: bool,
    pub(super) looks: bool,
    pub(super) started: Instant,
}

impl Actor for ShardActor {
    type Msg = ShardMessage;
    type State = ShardState;
    type Arguments = ShardArgs;

    async fn pre_start(
        &self,
        _: ActorRef<ShardMessage>,
        args: ShardArgs,
    ) -> Result<ShardState, ActorProcessingErr> {
        let ShardArgs {
            shard,
            shared,
            passivate_after,
        } = args;
        let beat = Arc::clone(&shared.cores[shard.core].beat);
        let life = shard.lives.fetch_add(1, Ordering::Relaxed);
        let lanes = |slot| {
            shared.slots.set_lanes(slot, 0);
            // What another actor was to say before it died is said now.
            shared.slots.say_closed(slot);
            SlotLanes {
                slot,
                lanes: LaneMap::default(),
                held: VecDeque::new(),
                epoch: OwnerEpoch::FIRST,
            }
        };
        let slots = shard.slots(shared.layout.shards()).map(lanes).collect();
        let mut state = ShardState {
            loose: Loose::new(Arc::clone(&shared)),
            shard,
            shared,
            beat,
            slots,
            lanes: 0,
            busy: 0,
            waiting_in_lanes: 0,
            told: None,
            life,
            queued: HashSet::default(),
            holding: BTreeSet::new(),
            next_sweep: None,
            passivate_after,
            passivation_runs: false,
            looks: false,
            started: Instant::now(),
        };
        state.tell();
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<ShardMessage>,
        message: ShardMessage,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        // One poll, in which everything happens: the future of a message stays small, and nothing in
        // here can wait.
        let mut message = Some(message);
        poll_fn(|cx| {
            if let Some(message) = message.take() {
                state.handle(&myself, message, cx);
            }
            Poll::Ready(())
        })
        .await;
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<ShardMessage>,
        _: ractor::SupervisionEvent,
        _: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        // A shard has no children: what waits runs in tasks that its lanes hold.
        Ok(())
    }
}

impl ShardState {
    fn handle(
        &mut self,
        myself: &ActorRef<ShardMessage>,
        message: ShardMessage,
        cx: &mut Context<'_>,
    ) {
        match message {
            ShardMessage::Run {
                flight,
                route,
                waiting,
            } => {
                self.arrive(
                    myself,
                    Work::Event {
                        flight,
                        route,
                        waiting,
                    },
                    cx,
                );
            }
            ShardMessage::Inbound(turn) => self.arrive(myself, Work::Inbound(turn), cx),
            ShardMessage::Ended(key, life) if life == self.life => self.ended(myself, &key, cx),
            ShardMessage::Ended(..) => {}
            ShardMessage::Sweep => self.sweep(myself),
            ShardMessage::Passivate => self.passivate(myself),
            ShardMessage::Slot(slot, order) => self.obey(myself, slot, order, cx),
            ShardMessage::Look { timed } => self.look(myself, timed, cx),
        }
        self.tell();
    }

    /// Says what the lanes hold, if that is not what was said last: most events change nothing.
    fn tell(&mut self) {
        let now = (self.lanes, self.busy, self.waiting_in_lanes);
        if self.told == Some(now) {
            return;
        }
        self.told = Some(now);
        let (lanes, busy, queued) = now;
        let tally = &self.shard.lanes;
        tally.lanes.store(lanes, Ordering::Relaxed);
        tally.busy.store(busy, Ordering::Relaxed);
        tally.queued.store(queued, Ordering::Relaxed);
    }
}
