//! Events between nodes: to the owner of their key, or to a node that serves their kind, once.
//!
//! An event passes its stages where it came in. Then, in a cluster, [`Forward`] decides where it
//! runs. With a key it goes through the hold of its core, which sends it to the owner of its slot,
//! this node or another, or keeps it while there is none; order per key holds through moves, lapses
//! and crashes. Without one it runs here, or at the less busy of two others. The event itself stays at
//! its ingress until it is answered, so the `after` halves of its stages see what came of it. What
//! another node sends here passes no stage, runs in the same shards and is never sent on.
//!
//! | To change | Open |
//! |---|---|
//! | the bytes between nodes | `message.rs`, `outcome.rs` |
//! | events with a key: sent, held, bounced, lost | `held.rs` |
//! | events that another node has: answers, deadlines, callers that leave | `sent.rs` |
//! | events without a key: who runs them | `unkeyed.rs` |
//! | what comes from other nodes | `receive.rs` |
//! | nodes whose routes differ | `differ.rs` |
//! | the way of an event, told before it comes | `explain.rs` |
//! | batches of channels, split by owner | `batch.rs` |
//! | streams that another node runs | `stream.rs` |
//! | attributes that cross | `attributes.rs` |
//! | what is needed of links | `wire.rs` |

mod attributes;
mod batch;
mod counts;
mod differ;
pub(crate) mod explain;
pub(crate) mod fuzz;
mod held;
mod message;
mod outcome;
mod receive;
mod sent;
mod stream;
#[cfg(test)]
mod tests;
mod unkeyed;
mod wire;

pub(crate) use attributes::AttributeSet;
pub use attributes::AttributeType;
pub(crate) use attributes::Attributes;
pub(crate) use counts::{BOUNCES, Counts};
pub(crate) use receive::PeerCall;
pub(crate) use stream::stream_end;
pub use wire::Wire;

use crate::dispatch::{Place, run_here};
use crate::engine::flight::Flight;
use crate::engine::plan::Route;
use crate::engine::shared::Shared;
use crate::outcome::{Failure, Unavailable};
use crate::pipeline::Chain;
use crate::routing::key::LaneKey;
use bytes::Bytes;
use centripeta_cluster::peer::{Mark, Remote, Request, RequestError, Sent};
use centripeta_cluster::{BootId, Ingress, Member, NodeId, NodeState, SlotId, Standing};
use held::HoldCore;
use message::EventMessage;
use receive::Reception;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use wire::Pending;

/// How long a link waits for an answer beyond the deadline of its event: the node that runs it answers
/// by the deadline itself.
const WAY_HOME: Duration = Duration::from_millis(250);
/// Without a quorum for so long, events with a key are answered at once.
const CUT_OFF_AFTER: Duration = Duration::from_millis(100);

/// How a node of a cluster forwards.
#[derive(Debug, Clone, Copy)]
pub struct Seat {
    /// Whether events without a key go on without a quorum (`cluster.serve_stateless_isolated`).
    pub serve_stateless_isolated: bool,
}

/// Sends events to other nodes, holds them, takes those of others; see the module's text.
pub(crate) struct Forward {
    standing: Arc<Standing>,
    seat: Seat,
    this: Weak<Self>,
    shared: Weak<Shared>,
    wire: OnceLock<Arc<dyn Wire>>,
    holds: Vec<HoldCore>,
    handles: Vec<Handle>,
    tasks: Mutex<Vec<AbortHandle>>,
    /// What each node has in flight, as its last answer said.
    loads: RwLock<BTreeMap<NodeId, u32>>,
    quorum: AtomicBool,
    /// Counts losses of the quorum, so that an old timer does nothing.
    losses: AtomicU64,
    cut_off: AtomicBool,
    reception: Reception,
    differing: differ::Differing,
    /// The chain of events that have passed theirs elsewhere.
    no_stages: Arc<Chain>,
    started: Instant,
    pub(crate) counts: Counts,
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward")
            .field("standing", &self.standing)
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
    }
}

/// The data behind a lock; what a panic left there is used as it is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Forward {
    /// Begins to forward for an engine with these cores.
    pub(crate) fn start(
        standing: Arc<Standing>,
        seat: Seat,
        shared: Weak<Shared>,
        cores: &[Handle],
    ) -> Arc<Self> {
        let this = Arc::new_cyclic(|this| Self {
            standing,
            seat,
            this: this.clone(),
            shared,
            wire: OnceLock::new(),
            holds: cores.iter().map(|_| HoldCore::default()).collect(),
            handles: cores.to_vec(),
            tasks: Mutex::default(),
            loads: RwLock::default(),
            quorum: AtomicBool::new(true),
            losses: AtomicU64::new(0),
            cut_off: AtomicBool::new(false),
            reception: Reception::default(),
            differing: differ::Differing::default(),
            no_stages: Arc::new(Chain::new(Vec::new(), None)),
            started: Instant::now(),
            counts: Counts::default(),
        });
        let ticking = cores.iter().enumerate().map(|(core, handle)| {
            let wake = this.holds[core].ticker();
            let tick = held::tick_while_needed(Arc::downgrade(&this), core, wake);
            handle.spawn(tick).abort_handle()
        });
        lock(&this.tasks).extend(ticking);
        let emptying = cores.iter().enumerate().map(|(core, handle)| {
            let answers = this.holds[core].answers();
            let empty = sent::empty(Arc::downgrade(&this), core, answers);
            handle.spawn(empty).abort_handle()
        });
        lock(&this.tasks).extend(emptying);
        let waking = cores.iter().enumerate().map(|(core, handle)| {
            let wakes = this.holds[core].wakes();
            let wake = held::wake_when_told(Arc::downgrade(&this), core, wakes);
            handle.spawn(wake).abort_handle()
        });
        lock(&this.tasks).extend(waking);
        this
    }

    /// The links to the other nodes: said once, before which every event for them waits.
    pub(crate) fn connect(&self, wire: Arc<dyn Wire>) {
        // A second one changes nothing.
        let _first = self.wire.set(wire);
    }

    fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Events held on all cores, and their bytes.
    pub(crate) fn held(&self) -> (usize, usize) {
        let each = self.holds.iter().map(HoldCore::held);
        each.fold((0, 0), |sum, held| (sum.0 + held.0, sum.1 + held.1))
    }

    /// An event has passed its stages.
    pub(crate) fn dispatch(
        self: &Arc<Self>,
        flight: Flight,
        route: Arc<Route>,
        key: Option<LaneKey>,
    ) {
        if flight.peer().is_some() {
            return self.run_for_peer(flight, route, key);
        }
        match key {
            Some(key) => self.offer(flight, route, key),
            None => self.unkeyed(flight, route),
        }
    }

    /// Sends an event of this node, with a key, to the owner of its slot, or holds it.
    fn offer(self: &Arc<Self>, flight: Flight, route: Arc<Route>, key: LaneKey) {
        let slot = key.slot();
        if self.cut_off.load(Ordering::Acquire) && self.standing().acts_for(slot).is_none() {
            return flight.finish(Failure::Unavailable(Unavailable::Isolated).into());
        }
        self.hold_offer(flight, route, key);
    }

    /// Runs an event of another node: with the key that this node's route gives it, which must fall
    /// into the slot that it was sent for.
    fn run_for_peer(&self, flight: Flight, route: Arc<Route>, key: Option<LaneKey>) {
        let asked = flight.peer().and_then(PeerCall::asked);
        let place = match (asked, key) {
            (None, None) => None,
            (Some((slot, leg)), Some(key)) if key.slot() == slot => Some(Place {
                key,
                slot,
                leg: Some(leg),
            }),
            (asked, key) => {
                let key = key.map(|key| (key.slot(), key.to_string()));
                let shared = Arc::clone(flight.shared());
                return self.other_key(&shared, flight, asked, key);
            }
        };
        run_here(flight, route, place);
    }

    /// A life is over: what was sent back (R11) is kept for the latest process of each node, this
    /// one among them. One that is dead by the table may live, and comes back with its generations.
    fn forget_processes(&self) {
        let shown = self.standing().shown();
        let nodes = shown.table.nodes().values();
        let known = nodes.filter(|node| node.state != NodeState::Removed);
        let living: BTreeSet<BootId> = known.map(|node| node.boot).chain([shown.boot]).collect();
        self.reception.keep(&living);
        let shared = self.shared.upgrade();
        for shard in shared.iter().flat_map(|shared| &shared.shards) {
            shard.memory.bars().keep(|boot| living.contains(&boot));
        }
    }

    fn has_quorum(&self) -> bool {
        self.quorum.load(Ordering::Acquire)
    }

    /// What a node has in flight, as its last answer said.
    fn load_of(&self, node: NodeId) -> u32 {
        let loads = self.loads.read().unwrap_or_else(PoisonError::into_inner);
        loads.get(&node).copied().unwrap_or_default()
    }

    fn heard_load(&self, node: NodeId, load: u32) {
        if self.load_of(node) != load {
            let mut loads = self.loads.write().unwrap_or_else(PoisonError::into_inner);
            loads.insert(node, load);
        }
    }

    /// Whether what comes from this life still counts: a fence without clocks.
    fn is_heeded(&self, member: Member) -> bool {
        let is_living = self.standing().shown().table.is_living(member);
        if !is_living {
            self.counts.dropped.add_one();
        }
        is_living
    }

    fn wire_request(
        &self,
        node: NodeId,
        payload: Bytes,
        deadline: Instant,
        is_stream: bool,
    ) -> Result<Pending, RequestError> {
        let unknown = || RequestError::UnknownPeer(node);
        let wire = self.wire.get().ok_or_else(unknown)?;
        let deadline = deadline + WAY_HOME;
        if is_stream {
            let answer = wire.request_stream(node, message::EVENT, payload, deadline);
            return answer.map(Pending::Stream);
        }
        let answer = wire.request(node, message::EVENT, payload, deadline);
        answer.map(Pending::One)
    }

    /// Sends an event of a core, which may be answered with a stream.
    fn send_to(
        &self,
        core: usize,
        node: NodeId,
        payload: Bytes,
        deadline: Instant,
        (is_stream, mark): (bool, Mark),
    ) -> Result<Sent, RequestError> {
        let unknown = || RequestError::UnknownPeer(node);
        let wire = self.wire.get().ok_or_else(unknown)?;
        let hold = self.holds.get(core).ok_or_else(unknown)?;
        let (what, to) = ((message::EVENT, is_stream), (hold.answers() as _, mark));
        wire.request_to(node, what, payload, deadline + WAY_HOME, to)
    }

    /// An event as it crosses, or why it can't.
    fn encode(&self, flight: &Flight, leg: Option<(SlotId, u32, bool)>) -> Result<Bytes, String> {
        let message = self.message(flight, leg)?;
        Ok(message.encode_with(flight.cx().metadata()))
    }

    /// The same without its metadata, which [`EventMessage::encode_with`] adds.
    fn message(
        &self,
        flight: &Flight,
        leg: Option<(SlotId, u32, bool)>,
    ) -> Result<EventMessage, String> {
        let cx = flight.cx();
        let plan = flight.shared().plan.load();
        let attributes = plan.attributes.encode(cx.attributes())?;
        let trace = cx.trace_context();
        Ok(EventMessage {
            slot: leg.map(|(slot, ..)| u32::from(slot.index())),
            version: self.standing().shown().table.version(),
            kind: message::kind_code(cx.kind()),
            method: match cx.kind() {
                crate::event::EventKind::Raw => cx.method().to_owned(),
                _ => String::new(),
            },
            raw: cx.raw().clone(),
            metadata: Vec::new(),
            attributes,
            traceparent: trace.traceparent().unwrap_or_default(),
            tracestate: trace.tracestate().unwrap_or_default().to_owned(),
            generation: leg.map_or(0, |(_, generation, _)| generation),
            core: u32::try_from(flight.core().0).unwrap_or(u32::MAX),
            held: leg.is_some_and(|(.., held)| held),
            hop: 1,
            way_home_ms: u32::try_from(WAY_HOME.as_millis()).unwrap_or(u32::MAX),
            authority: cx.authority().unwrap_or_default().to_owned(),
            part: false,
            slots: Vec::new(),
        })
    }
}

/// The failure of an event that can't cross.
fn cannot_cross(cause: String) -> Failure {
    let place = "the way to the node that would run the event".to_owned();
    Failure::Internal { place, cause }
}

impl Ingress for Forward {
    fn request(&self, from: &Remote, request: Request) {
        if let (Some(this), Some(shared)) = (self.this.upgrade(), self.shared.upgrade()) {
            this.receive(&shared, from, request);
        }
        // Without an engine the request says by its drop that it has not started.
    }

    fn load(&self) -> u32 {
        let in_flight = self
            .shared
            .upgrade()
            .map(|shared| shared.in_flight.events.get());
        u32::try_from(in_flight.unwrap_or_default()).unwrap_or(u32::MAX)
    }

    fn table_changed(&self, slots: &[SlotId]) {
        if let Some(this) = self.this.upgrade() {
            this.wake(slots);
        }
    }

    fn resumed(&self, owner: Member, slot: SlotId) {
        if self.standing().owner_of(slot) == Some(owner) {
            self.table_changed(&[slot]);
        }
    }

    fn died(&self, member: Member) {
        let mut loads = self.loads.write().unwrap_or_else(PoisonError::into_inner);
        loads.remove(&member.id);
        drop(loads);
        self.forget_processes();
        if let Some(this) = self.this.upgrade() {
            this.lose_soon(member);
        }
    }

    fn quorum(&self, in_reach: bool) {
        let before = self.quorum.swap(in_reach, Ordering::AcqRel);
        if in_reach {
            self.losses.fetch_add(1, Ordering::AcqRel);
            if self.cut_off.swap(false, Ordering::AcqRel)
                && let Some(this) = self.this.upgrade()
            {
                this.wake(&SlotId::all().collect::<Vec<_>>());
            }
        } else if before {
            let loss = self.losses.fetch_add(1, Ordering::AcqRel) + 1;
            let this = self.this.clone();
            let Some(handle) = self.handles.first() else {
                return;
            };
            handle.spawn(async move {
                tokio::time::sleep(CUT_OFF_AFTER).await;
                if let Some(this) = this.upgrade()
                    && this.losses.load(Ordering::Acquire) == loss
                {
                    this.cut_off.store(true, Ordering::Release);
                    this.give_up_all();
                }
            });
        }
    }
}
