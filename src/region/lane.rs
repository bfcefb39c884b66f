//! A lane: what is known of one key inside its shard.

use crate::engine::flight::Flight;
use crate::engine::plan::Route;
use crate::outcome::{Overloaded, Unavailable};
use crate::region::shard::Waiting;
use crate::routing::key::LaneKey;
use centripeta_cluster::hold::Sender;
use centripeta_cluster::store::MemoryStore;
use centripeta_cluster::{OwnerEpoch, SlotId};
use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// What a handler that keeps its lane has put there; rebuilt from the store after passivation.
pub(crate) type LaneState = Box<dyn Any + Send + Sync>;

/// Where a keyed event runs.
#[derive(Debug, Clone)]
pub(crate) struct LaneView {
    /// The key.
    pub(crate) key: LaneKey,
    /// Its slot.
    pub(crate) slot: SlotId,
    /// The owner epoch under which it runs.
    pub(crate) epoch: OwnerEpoch,
    /// For an event of a cluster: which ingress core sent it, under which generation.
    pub(crate) leg: Option<Leg>,
    /// For handlers that keep their lane: where its value outlives it, and the owner's name.
    pub(crate) values: Option<Values>,
}

/// How an event of a cluster came to its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leg {
    /// The ingress core.
    pub(crate) sender: Sender,
    /// Its generation for the slot: once one was bounced, it and older ones are (R11).
    pub(crate) generation: u32,
    /// Whether it was held: then the limit of its lane does not count, only that of its shard.
    pub(crate) held: bool,
}

/// Where the values of keys are.
#[derive(Debug, Clone)]
pub(crate) struct Values {
    /// The values.
    pub(crate) store: Arc<MemoryStore>,
    /// The name of the node that owns them.
    pub(crate) node: Arc<str>,
}

/// Something that waits for its turn in a lane.
#[derive(Debug)]
pub(crate) enum Work {
    /// An event.
    Event {
        flight: Flight,
        route: Arc<Route>,
        waiting: Waiting,
    },
    /// A turn for a publication of a client into a two-way stream.
    Inbound(Box<InboundTurn>),
}

impl Work {
    /// When it stops waiting; a publication waits as long as its stream lives.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Event { flight, .. } => Some(flight.deadline()),
            Self::Inbound(_) => None,
        }
    }

    /// Whether it was held at its ingress: then the limit of its lane does not count.
    pub(crate) fn is_held(&self) -> bool {
        match self {
            Self::Event { flight, .. } => {
                let lane = flight.cx().lane.as_ref();
                lane.and_then(|lane| lane.leg).is_some_and(|leg| leg.held)
            }
            Self::Inbound(_) => false,
        }
    }

    /// Whether nobody waits for it any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        match self {
            Self::Event { flight, .. } => flight.is_abandoned(),
            Self::Inbound(turn) => turn.grant.is_closed(),
        }
    }
}

/// A two-way stream asks for a turn in the lane of its key.
#[derive(Debug)]
pub(crate) struct InboundTurn {
    /// The lane.
    pub(crate) key: LaneKey,
    /// How long the turn may last.
    pub(crate) limit: Duration,
    /// Gets the turn, which ends when what it gets is dropped; dropped itself where there is none
    /// to be had now.
    pub(crate) grant: oneshot::Sender<oneshot::Sender<()>>,
}

/// What runs in a lane; dropped, it ends, and its event is answered.
#[derive(Debug)]
pub(crate) struct Running {
    task: Option<AbortHandle>,
    stop: Option<oneshot::Sender<Unavailable>>,
    told: bool,
}

impl Running {
    /// A task, and where it hears that it is to stop; without that it is just ended.
    pub(crate) const fn new(task: AbortHandle, stop: Option<oneshot::Sender<Unavailable>>) -> Self {
        Self {
            task: Some(task),
            stop,
            told: false,
        }
    }

    /// Ends it; its event is answered with this.
    fn stop(&mut self, why: Unavailable) {
        match self.stop.take() {
            // One that is over by now has its answer.
            Some(stop) => drop(stop.send(why)),
            None if self.told => {}
            None => self.abort(),
        }
        self.told = true;
    }

    /// It goes on by itself, until its own end or that of the node: whoever gets the task sees to
    /// that.
    pub(crate) fn let_go(mut self) -> Option<AbortHandle> {
        self.task.take()
    }

    fn abort(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.abort();
    }
}

/// What a busy lane holds.
#[derive(Debug)]
pub(crate) struct Busy {
    /// What runs; dropping it ends it, and its event is answered.
    pub(crate) running: Running,
    /// What waits behind it, in order.
    pub(crate) queue: VecDeque<Work>,
}

/// A key in use, or kept for its state.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    busy: Option<Box<Busy>>,
    state: Option<LaneState>,
    /// Second of the shard's life in which it was last used.
    used: u32,
}

impl Lane {
    /// An idle lane with a state to keep.
    pub(crate) const fn idle(state: Option<LaneState>, used: u32) -> Self {
        Self {
            busy: None,
            state,
            used,
        }
    }

    /// Whether something runs in it or waits for it.
    pub(crate) const fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// Takes the state for the next handler.
    pub(crate) fn take_state(&mut self) -> Option<LaneState> {
        self.state.take()
    }

    /// Something runs in the lane; what waits stays.
    pub(crate) fn set_running(&mut self, running: Running, state: Option<LaneState>, used: u32) {
        (self.state, self.used) = (state, used);
        match &mut self.busy {
            Some(busy) => busy.running = running,
            None => {
                self.busy = Some(Box::new(Busy {
                    running,
                    queue: VecDeque::new(),
                }))
            }
        }
    }

    /// Ends what runs in the lane; the lane is busy until it is gone.
    pub(crate) fn stop(&mut self, why: Unavailable) {
        if let Some(busy) = &mut self.busy {
            busy.running.stop(why);
        }
    }

    /// What waits in the lane.
    pub(crate) fn queue(&mut self) -> Option<&mut VecDeque<Work>> {
        self.busy.as_mut().map(|busy| &mut busy.queue)
    }

    /// Lets work wait behind what runs; answers whether it is the first one.
    ///
    /// # Errors
    /// The lane's queue is full, or the lane is not busy; the work comes back.
    #[allow(
        clippy::result_large_err,
        reason = "the work is given back to be answered"
    )]
    pub(crate) fn wait(&mut self, work: Work, limit: usize) -> Result<bool, (Work, Overloaded)> {
        match &mut self.busy {
            Some(busy) if busy.queue.len() < limit => {
                busy.queue.push_back(work);
                Ok(busy.queue.len() == 1)
            }
            _ => Err((work, Overloaded::Lane)),
        }
    }

    /// What ran has ended: the next work, or the lane is idle.
    pub(crate) fn next(&mut self) -> Option<Work> {
        let next = self.busy.as_mut().and_then(|busy| busy.queue.pop_front());
        if next.is_none() {
            self.busy = None;
        }
        next
    }

    /// Whether more work waits.
    pub(crate) fn has_waiting(&self) -> bool {
        self.busy
            .as_ref()
            .is_some_and(|busy| !busy.queue.is_empty())
    }

    /// Back to idle with this state.
    pub(crate) fn rest(&mut self, state: Option<LaneState>, used: u32) {
        (self.state, self.used) = (state, used);
    }

    /// Whether the lane has nothing to keep.
    pub(crate) const fn is_empty(&self) -> bool {
        self.busy.is_none() && self.state.is_none()
    }

    /// Whether it has been idle since before `second`.
    pub(crate) const fn is_idle_since(&self, second: u32) -> bool {
        self.busy.is_none() && self.used < second
    }
}
