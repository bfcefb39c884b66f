//! Events of other nodes: checked, in order behind those that wait for a newer table, run in the
//! shards of this node and answered on the link. They pass no stage and are never sent on.

use crate::cx::Cx;
use crate::engine::faults::Throttle;
use crate::engine::flight::Flight;
use crate::engine::guard::{drop_caught, panic_message};
use crate::engine::plan::Plan;
use crate::engine::shared::{CoreId, Permit, Shared};
use crate::envelope::Envelope;
use crate::event::EventKind;
use crate::forward::AttributeSet;
use crate::forward::message::{self, EVENT, Entry, EventMessage};
use crate::forward::stream::Opening;
use crate::forward::{Forward, counts, explain, lock, outcome, stream, unkeyed};
use crate::inbound::{self, InboundItem};
use crate::outcome::{Failure, Outcome};
use crate::region::Leg;
use crate::reply::StreamOpen;
use crate::trace::{Trace, TraceContext};
use bytes::Bytes;
use centripeta_cluster::hold::{Bars, Sender};
use centripeta_cluster::peer::{CATCH_UP, NotHere, Reason, Remote, Request};
use centripeta_cluster::{BootId, OwnerEpoch, SlotId, Standing};
use http::HeaderMap;
use http::uri::Authority;
use prost::Message;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What waits for a newer table, in order per ingress core and slot, and what was sent back of it.
#[derive(Debug, Default)]
pub(super) struct Reception {
    waiting: Mutex<HashMap<(Sender, SlotId), VecDeque<Received>>>,
    bars: Mutex<Bars>,
    /// Events that can't be run as they came.
    refused: Throttle,
}

impl Reception {
    /// An event of this leg goes back: its generation does not start here any more.
    pub(super) fn bar(&self, slot: SlotId, leg: Leg) {
        lock(&self.bars).bounced(leg.sender, slot, leg.generation);
    }

    /// Forgets what was sent back of processes that are over.
    pub(super) fn keep(&self, living: &BTreeSet<BootId>) {
        lock(&self.bars).keep(|boot| living.contains(&boot));
    }

    /// For how many ingress cores and slots something is kept.
    #[cfg(test)]
    pub(super) fn marks(&self) -> usize {
        lock(&self.bars).len()
    }

    /// Something of this sender came back.
    #[cfg(test)]
    pub(super) fn mark(&self, sender: Sender, slot: SlotId) {
        lock(&self.bars).bounced(sender, slot, 1);
    }
}

/// An event of another node that is not under way yet.
#[derive(Debug)]
struct Received {
    request: Request,
    message: EventMessage,
    kind: EventKind,
    slot: Option<SlotId>,
    sender: Sender,
    since: Instant,
}

impl Received {
    fn leg(&self) -> Leg {
        Leg {
            sender: self.sender,
            generation: self.message.generation,
            held: self.message.held,
        }
    }

    /// When its answer is due here.
    fn deadline(&self) -> Instant {
        let way_home = Duration::from_millis(u64::from(self.message.way_home_ms));
        let due = self.request.deadline();
        due.checked_sub(way_home).unwrap_or(due)
    }
}

/// The call of another node, while its event is under way here. Dropped unanswered it says to the
/// other node whether the event had started.
#[derive(Debug)]
pub(crate) struct PeerCall {
    request: Request,
    asked: Option<(SlotId, Leg)>,
    forward: Arc<Forward>,
    /// Where the client's publications go, on a two-way stream.
    inbound: Option<mpsc::Sender<InboundItem>>,
    limit: Duration,
    permit: Permit,
}

impl PeerCall {
    /// For an event with a key, the slot that it was sent for, and how.
    pub(crate) const fn asked(&self) -> Option<(SlotId, Leg)> {
        self.asked
    }

    /// The name of the node that has sent it.
    pub(crate) fn from(&self) -> &str {
        &self.request.from().name
    }

    /// Whether it may run: asked right before it does.
    pub(crate) fn start(&mut self) -> bool {
        self.request.start()
    }

    /// Ready once the other node waits no more, or is gone.
    pub(crate) fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        self.request.poll_cancelled(cx)
    }

    /// Answers.
    pub(crate) fn answer(self, outcome: &Outcome) {
        let Self { request, .. } = self;
        request.reply(outcome::encode(outcome));
    }

    /// Says that it has not started, since this node is at its end.
    pub(crate) fn give_back(self) {
        self.request.bounce(Bytes::new());
    }

    /// Says that it has not started, and why.
    pub(crate) fn bounce(self, why: &NotHere) {
        let Self {
            request, forward, ..
        } = self;
        forward.counts.sent_back[counts::bounce(why.reason)].add_one();
        request.bounce(message::encode_not_here(why));
    }

    /// Its handler has accepted a stream.
    pub(crate) fn open(self, open: StreamOpen, flight: Flight) {
        let Self {
            request,
            inbound,
            limit,
            permit,
            ..
        } = self;
        let opening = Opening {
            request,
            inbound,
            limit,
            permit,
        };
        let shared = Arc::clone(flight.shared());
        stream::open(&shared, opening, open, flight);
    }
}

/// The event of a request, or what is wrong with it.
fn read(
    from: &Remote,
    payload: Bytes,
) -> Result<(EventMessage, EventKind, Option<SlotId>, Sender), String> {
    let message = EventMessage::decode(payload).map_err(|why| format!("it is malformed: {why}"))?;
    let kind = message::kind_of(message.kind)
        .ok_or_else(|| format!("its kind {} is not known to this version", message.kind))?;
    if message.hop != 1 {
        return Err(format!("it has been sent on {} times", message.hop));
    }
    let slot = match message.slot {
        None => None,
        Some(index) => {
            let slot = u16::try_from(index).ok().and_then(SlotId::new);
            Some(slot.ok_or_else(|| format!("there is no slot {index}"))?)
        }
    };
    let core = u16::try_from(message.core).map_err(|_| format!("its core is {}", message.core))?;
    let sender = Sender {
        boot: from.boot,
        core,
    };
    Ok((message, kind, slot, sender))
}

/// Puts an attribute of an event in. Its type is the application's: a panic while it is read costs
/// the event, not the link with all that is under way on it.
fn read_attribute(plan: &Plan, entry: &Entry, to: &mut AttributeSet) -> Result<(), String> {
    let read = || plan.attributes.decode(&entry.name, &entry.value, to);
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let name = String::from_utf8_lossy(&entry.name);
        let message = panic_message(panic.as_ref());
        Err(format!(
            "the attribute `{name}` panicked while it was read: {message}"
        ))
    })
}

fn version(standing: &Standing) -> u64 {
    standing.shown().table.version()
}

impl Forward {
    /// Another node has sent something.
    pub(super) fn receive(self: &Arc<Self>, shared: &Arc<Shared>, from: &Remote, request: Request) {
        match request.kind() {
            EVENT => {}
            message::EXPLAIN => return explain::answer(shared, request),
            _ => return request.bounce(Bytes::new()),
        }
        self.counts.received.add_one();
        let (message, kind, slot, sender) = match read(from, request.payload().clone()) {
            Ok(read) => read,
            Err(cause) => return self.refuse(request, cause),
        };
        let received = Received {
            request,
            message,
            kind,
            slot,
            sender,
            since: Instant::now(),
        };
        let Some(slot) = slot else {
            return self.admit(shared, received);
        };
        let place = (sender, slot);
        let mut waiting = lock(&self.reception.waiting);
        if let Some(queue) = waiting.get_mut(&place) {
            queue.push_back(received);
        } else if version(self.standing()) >= received.message.version {
            drop(waiting);
            self.admit(shared, received);
        } else {
            waiting.insert(place, VecDeque::from([received]));
            drop(waiting);
            let this = Arc::clone(self);
            let shared = Arc::clone(shared);
            if let Some(handle) = self.handles.first() {
                handle.spawn(async move { this.catch_up(&shared, place).await });
            }
        }
    }

    /// Answers an event that can't be run as it came. A peer may send any number of them: they are
    /// counted, and logged at most once a second.
    fn refuse(&self, request: Request, cause: String) {
        if let Some(count) = self.reception.refused.pass() {
            tracing::warn!(
                from = request.from().name,
                cause,
                count,
                "an event of another node can't be run (`count` such events since the last line)"
            );
        }
        let place = "the node that should run the event".to_owned();
        let failure = Failure::Internal { place, cause };
        request.reply(outcome::encode(&failure.into()));
    }

    /// Lets events in that wait for a newer table, each in its turn.
    async fn catch_up(self: Arc<Self>, shared: &Arc<Shared>, place: (Sender, SlotId)) {
        loop {
            let next = {
                let mut waiting = lock(&self.reception.waiting);
                let next = waiting.get_mut(&place).and_then(VecDeque::pop_front);
                if next.is_none() {
                    waiting.remove(&place);
                }
                next
            };
            let Some(received) = next else {
                return;
            };
            let wanted = received.message.version;
            let until = received.since + CATCH_UP;
            // Whether it came in time is asked below.
            drop(tokio::time::timeout_at(until, self.standing().reached(wanted)).await);
            self.admit(shared, received);
        }
    }

    /// Runs an event of another node, or says that it may not run here.
    fn admit(self: &Arc<Self>, shared: &Arc<Shared>, received: Received) {
        let leg = received.leg();
        if let Some(slot) = received.slot {
            let behind = version(self.standing()) < received.message.version;
            let mut bars = lock(&self.reception.bars);
            let reason = if behind {
                Some(Reason::Behind)
            } else if bars.admits(leg.sender, slot, leg.generation) {
                None
            } else {
                Some(Reason::Stale)
            };
            if let Some(reason) = reason {
                bars.bounced(leg.sender, slot, leg.generation);
                drop(bars);
                return self.send_back(received.request, slot, reason);
            }
        }
        let deadline = received.deadline();
        if deadline <= Instant::now() {
            let late = Failure::Deadline.into();
            return received.request.reply(outcome::encode(&late));
        }
        if received.slot.is_none() && !self.serves(&received) {
            self.counts.sent_back[counts::bounce(Reason::WrongOwner)].add_one();
            return received.request.bounce(Bytes::new());
        }
        let acts = match received.message.part {
            false => Ok(Vec::new()),
            true => self.acting(received.message.slots.iter().copied()),
        };
        let Ok(acts) = acts else {
            self.counts.sent_back[counts::bounce(Reason::WrongOwner)].add_one();
            return received.request.bounce(Bytes::new());
        };
        let permit = match Permit::acquire(shared, received.message.raw.len()) {
            Ok(permit) => permit,
            // Another server may have room.
            Err(_) if received.slot.is_none() => return received.request.bounce(Bytes::new()),
            Err(which) => {
                let full = Failure::Overloaded(which).into();
                return received.request.reply(outcome::encode(&full));
            }
        };
        self.launch(shared, received, (deadline, leg, acts), permit);
    }

    /// Whether this node serves an event without a key, by the table.
    fn serves(&self, received: &Received) -> bool {
        let shown = self.standing().shown();
        let method = match received.kind {
            EventKind::Rpc => {
                let envelope = Envelope::try_new(
                    received.kind,
                    received.message.raw.clone(),
                    HeaderMap::new(),
                    received.since,
                );
                envelope.map_or_else(|_| String::new(), |envelope| envelope.method().to_owned())
            }
            _ => String::new(),
        };
        let kind = unkeyed::group(received.kind, &method);
        let node = shown.table.node(shown.me.id);
        node.is_some_and(|node| node.serves.covers(kind))
    }

    /// Says that an event has not started here.
    fn send_back(&self, request: Request, slot: SlotId, reason: Reason) {
        let shown = self.standing().shown();
        let rec = shown.table.slot(slot);
        let why = NotHere {
            reason,
            owner: rec.owner,
            epoch: rec.epoch,
            version: shown.table.version(),
        };
        self.counts.sent_back[counts::bounce(reason)].add_one();
        request.bounce(message::encode_not_here(&why));
    }

    fn launch(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        received: Received,
        (deadline, leg, acts): (Instant, Leg, Vec<(SlotId, OwnerEpoch)>),
        permit: Permit,
    ) {
        let Received {
            request,
            message,
            kind,
            slot,
            since,
            ..
        } = received;
        let metadata = match message::headers(message.metadata) {
            Ok(metadata) => metadata,
            Err(cause) => return self.refuse(request, cause),
        };
        let raw = message.raw;
        let (envelope, failure) = if kind == EventKind::Raw {
            let envelope = Envelope::unknown_method(&message.method, raw, metadata, deadline);
            (envelope, None)
        } else {
            let (envelope, wrong) = Envelope::scanned(kind, raw, metadata, deadline);
            (
                envelope,
                wrong.map(|why| Failure::Undecodable(why.to_string())),
            )
        };
        let plan = shared.plan.load();
        let mut attributes = AttributeSet::default();
        for entry in message.attributes {
            if let Err(cause) = read_attribute(&plan, &entry, &mut attributes) {
                drop_caught(|| drop(attributes));
                return self.refuse(request, cause);
            }
        }
        let found = match failure {
            None => plan.find(kind, envelope.subject()),
            Some(_) => None,
        };
        drop(plan);
        if found.is_none() && failure.is_none() {
            // Its ingress has found one.
            let cause = format!("no route here takes the {kind} `{}`", envelope.subject());
            return self.no_route(request, slot.map(|slot| (slot, leg)), &cause);
        }
        let mut cx = Cx::new(envelope, found);
        cx.set_attributes(attributes);
        cx.acts = acts;
        let mut to_handler = None;
        if kind == EventKind::StreamBidirectional {
            let (to, source) = inbound::channel();
            (to_handler, cx.inbound) = (Some(to), Some(source));
        }
        let state = Some(message.tracestate.as_str()).filter(|state| !state.is_empty());
        let context = TraceContext::parse(&message.traceparent, state);
        cx.trace = Trace::go_on(&shared.tracer, context, since);
        cx.authority = message.authority.parse::<Authority>().ok();
        let core = match slot {
            Some(slot) => shared.shards[usize::from(shared.layout.shard_of(slot).index())].core(),
            None => fastrand::usize(..shared.cores.len()),
        };
        let call = Box::new(PeerCall {
            request,
            asked: slot.map(|slot| (slot, leg)),
            forward: Arc::clone(self),
            inbound: to_handler,
            limit: deadline.saturating_duration_since(since),
            permit,
        });
        let chain = Arc::clone(&self.no_stages);
        Flight::arrive(cx, failure, chain, CoreId(core), Arc::clone(shared), call);
    }
}
