//! The way of an event, told before it comes: which node would run it, in which slot, whether it may.
//!
//! The node where it would come in looks it up as a dispatch does. What the node that would run it
//! has to say (its route, the gate of the slot, its lease), that one is asked, over the link that the
//! event would take. Nothing runs, and nothing is counted.

use crate::cx::Cx;
use crate::engine::shared::Shared;
use crate::envelope::Envelope;
use crate::event::EventKind;
use crate::forward::message::{self, EXPLAIN, Entry, EventMessage, ExplainedMessage};
use crate::forward::{Forward, unkeyed};
use crate::outcome::{Failure, Unavailable};
use bytes::Bytes;
use centripeta_cluster::admin::{Named, SlotView, name};
use centripeta_cluster::peer::{Outcome as LinkOutcome, Request, RequestError};
use centripeta_cluster::{Gate, Member, NodeId, NodeState, Shown, SlotId};
use futures_util::future::join_all;
use http::HeaderMap;
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// How long the node that would run the event has to say what it would do.
const ANSWER: Duration = Duration::from_secs(2);
/// Of the nodes that may run an event without a key, so many are asked.
const ASKED: usize = 8;

/// An event that is asked about.
#[derive(Debug)]
pub(crate) struct Question {
    /// Its kind.
    pub(crate) kind: EventKind,
    /// Of a raw event, its method.
    pub(crate) method: String,
    /// The request; of a two-way stream the subscribe request.
    pub(crate) raw: Bytes,
    /// What would come with the call.
    pub(crate) metadata: HeaderMap,
}

/// Where an event would go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It runs where it comes in.
    Here,
    /// It is sent on, once.
    Forwarded,
    /// It is a batch: each owner of its channels gets its part.
    Split,
    /// Nobody may take it now: it waits, up to its deadline.
    Held,
    /// It is answered *unavailable*.
    Unavailable,
    /// It is refused: nothing takes it, or its key can't be told.
    Refused,
}

impl Way {
    /// The way in a word.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Forwarded => "forwarded",
            Self::Split => "split",
            Self::Held => "held",
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
        }
    }
}

/// A node that would run the event, or one of those of which one would.
#[derive(Debug)]
pub(crate) struct Spot {
    /// Which one.
    pub(crate) node: Named,
    /// Where others dial it.
    pub(crate) addrs: Vec<String>,
    /// Where it stands.
    pub(crate) state: Option<NodeState>,
    /// What it says, or why it does not.
    pub(crate) said: Result<ExplainedMessage, String>,
}

/// The way of an event.
#[derive(Debug)]
pub(crate) struct Explained {
    /// Where it would come in.
    pub(crate) ingress: Named,
    /// The stages that it would pass there.
    pub(crate) stages: Vec<String>,
    /// The version of that node's table.
    pub(crate) version: u64,
    /// The lane of its key; empty without one.
    pub(crate) key: String,
    /// With a key, its slot.
    pub(crate) slot: Option<SlotView>,
    /// Where it would go.
    pub(crate) way: Way,
    /// Why, in words.
    pub(crate) why: String,
    /// Who would run it.
    pub(crate) spots: Vec<Spot>,
}

/// What the table says, and the members to look at.
struct Found {
    way: Way,
    why: String,
    members: Vec<Member>,
}

impl Found {
    fn new(way: Way, why: impl Into<String>, members: Vec<Member>) -> Self {
        let why = why.into();
        Self { way, why, members }
    }
}

impl Question {
    /// The event as a dispatch sees it.
    fn event(&self, shared: &Shared) -> Result<Cx, String> {
        let (raw, metadata) = (self.raw.clone(), self.metadata.clone());
        let now = Instant::now();
        let envelope = match self.kind {
            EventKind::Raw => Envelope::unknown_method(&self.method, raw, metadata, now),
            // The subscribe request is all that routes look at.
            kind => Envelope::try_new(kind, raw, metadata, now)
                .map_err(|why| format!("its request can't be read: {why}"))?,
        };
        let found = shared.plan.load().find(self.kind, envelope.subject());
        Ok(Cx::new(envelope, found))
    }
}

/// The way of an event that would come in at this node.
pub(crate) async fn explain(shared: &Arc<Shared>, question: Question) -> Explained {
    let shown = Arc::clone(&shared.standing.shown());
    let mut explained = Explained {
        ingress: name(&shown.table, shown.me.id),
        stages: Vec::new(),
        version: shown.table.version(),
        key: String::new(),
        slot: None,
        way: Way::Refused,
        why: String::new(),
        spots: Vec::new(),
    };
    let cx = match question.event(shared) {
        Ok(cx) => cx,
        Err(why) => {
            explained.why = why;
            return explained;
        }
    };
    let Some(route) = cx.matched().cloned() else {
        explained.why = "no route of this node takes it".to_owned();
        return explained;
    };
    explained.stages.clone_from(&route.info.stages);
    let key = match route.key.evaluate(&cx) {
        Ok(key) => key,
        Err(why) => {
            explained.why = why.to_string();
            return explained;
        }
    };
    let slot = key.as_ref().map(|key| key.slot());
    if let Some(key) = &key {
        explained.key = key.to_string();
    }
    explained.slot = slot.map(|slot| slot_view(&shown, slot));
    let found = match (slot, &shared.forward) {
        (Some(slot), forward) => keyed(shared, forward.as_deref(), &shown, slot),
        (None, None) => Found::new(
            Way::Here,
            "it has no key, and this node runs alone",
            vec![shown.me],
        ),
        (None, Some(forward)) => forward.unkeyed_way(shared, &shown, &cx),
    };
    (explained.way, explained.why) = (found.way, found.why);
    let asked = found.members.into_iter().enumerate();
    let asked = asked.map(|(at, member)| {
        let (shown, question, cx) = (&shown, &question, &cx);
        async move {
            let said = if member == shown.me {
                Ok(say(shared, cx, slot))
            } else if at < ASKED {
                ask(shared, question, slot, member.id).await
            } else {
                Err("it was not asked: there are many".to_owned())
            };
            let rec = shown.table.node(member.id);
            Spot {
                node: name(&shown.table, member.id),
                addrs: rec.map(|rec| rec.addrs.clone()).unwrap_or_default(),
                state: rec.map(|rec| rec.state),
                said,
            }
        }
    });
    explained.spots = join_all(asked).await;
    explained
}

fn slot_view(shown: &Shown, slot: SlotId) -> SlotView {
    let rec = shown.table.slot(slot);
    let owner = rec.owner.filter(|owner| shown.table.is_living(*owner));
    SlotView {
        slot,
        owner: owner.map(|owner| name(&shown.table, owner.id)),
        epoch: rec.epoch,
        moving_to: rec.moving.map(|moving| name(&shown.table, moving.to.id)),
    }
}

fn keyed(shared: &Shared, forward: Option<&Forward>, shown: &Shown, slot: SlotId) -> Found {
    let cut_off = forward.is_some_and(|it| it.cut_off.load(Ordering::Acquire));
    let rec = shown.table.slot(slot);
    let owner = rec.owner.filter(|owner| shown.table.is_living(*owner));
    let members: Vec<Member> = owner.into_iter().collect();
    if cut_off && shared.standing.acts_for(slot).is_none() {
        let why = "this node reaches no quorum: what it does not own is answered at once";
        return Found::new(Way::Unavailable, why, members);
    }
    match owner {
        None => Found::new(
            Way::Held,
            "the slot has no living owner: events wait for one, up to their deadline",
            members,
        ),
        Some(owner) if owner == shown.me => {
            Found::new(Way::Here, "this node owns the slot", members)
        }
        Some(owner) => {
            let owner = name(&shown.table, owner.id);
            let why = format!("{owner} owns the slot, and runs the event once it gets there");
            Found::new(Way::Forwarded, why, members)
        }
    }
}

impl Forward {
    /// Who would run an event without a key.
    fn unkeyed_way(&self, shared: &Shared, shown: &Shown, cx: &Cx) -> Found {
        if cx.kind() == EventKind::ChannelState {
            return self.batch_way(shown, cx);
        }
        let member = match self.server_for(shared, (cx.kind(), cx.method()), &[]) {
            Ok(None) => {
                let why = "it has no key, this node serves its kind and has room";
                return Found::new(Way::Here, why, vec![shown.me]);
            }
            Ok(Some(member)) => member,
            Err(why) => {
                let why = match why {
                    Unavailable::Isolated => {
                        "no quorum in reach, and cluster.serve_stateless_isolated is off"
                    }
                    _ => "no node in reach serves its kind: see node.serves of each",
                };
                return Found::new(Way::Unavailable, why, Vec::new());
            }
        };
        let kind = unkeyed::group(cx.kind(), cx.method());
        let nodes = shown.table.nodes().iter();
        let others = nodes.filter(|(id, node)| {
            **id != member.id
                && **id != shown.me.id
                && node.state == NodeState::Up
                && node.serves.covers(kind)
        });
        let others = others.filter_map(|(id, _)| shown.table.member(*id));
        let members: Vec<Member> = std::iter::once(member).chain(others).collect();
        let serves = shown.table.node(shown.me.id);
        let here = serves.is_some_and(|node| node.serves.covers(kind));
        let why = match (here, members.len()) {
            (true, _) => "this node serves its kind, but is draining or has no room",
            (false, 1) => "this node does not serve its kind, one other does",
            (false, _) => "this node does not serve its kind: the less busy of two others runs it",
        };
        Found::new(Way::Forwarded, why, members)
    }

    fn batch_way(&self, shown: &Shown, cx: &Cx) -> Found {
        match self.owners(cx.raw()) {
            Ok(owners) if owners.iter().all(|owner| *owner == shown.me) => Found::new(
                Way::Here,
                "this node owns every channel of the batch",
                vec![shown.me],
            ),
            Ok(owners) => Found::new(
                Way::Split,
                "each owner gets the channels of the batch that it owns",
                owners,
            ),
            Err(Failure::Unavailable(_)) => Found::new(
                Way::Unavailable,
                "a channel of the batch has no living owner: Centrifugo sends it once more",
                Vec::new(),
            ),
            Err(_) => Found::new(Way::Refused, "the batch can't be read", Vec::new()),
        }
    }
}

/// What this node says of an event that it would run.
fn say(shared: &Shared, cx: &Cx, slot: Option<SlotId>) -> ExplainedMessage {
    let standing = &shared.standing;
    let (gate, epoch) = match slot.map(|slot| standing.gate(slot)) {
        None => ("", 0),
        Some(Gate::Foreign) => ("foreign", 0),
        Some(Gate::Opening(epoch)) => ("opening", epoch.0),
        Some(Gate::Open(epoch)) => ("open", epoch.0),
        Some(Gate::Shut(epoch)) => ("shut", epoch.0),
    };
    let lease = (!standing.is_alone()).then(|| standing.lease_left().as_millis());
    let shard = slot.map(|slot| shared.layout.shard_of(slot));
    let mut said = ExplainedMessage {
        shard: shard.map(|shard| shard.index().into()),
        core: shard.map(|shard| shared.layout.core_of(shard).into()),
        gate: gate.to_owned(),
        epoch,
        lease_ms: lease.map(|left| u64::try_from(left).unwrap_or(u64::MAX)),
        ..ExplainedMessage::default()
    };
    let Some(route) = cx.matched() else {
        said.problem = "no route of it takes the event; give all nodes the same routes".to_owned();
        return said;
    };
    said.route.clone_from(&route.info.name);
    said.handler.clone_from(&route.info.handler);
    said.pool = route.info.pool.clone().unwrap_or_default();
    let own = route.key.evaluate(cx).ok().flatten();
    said.problem = if own.as_ref().map(|key| key.slot()) != slot {
        let own = own.map_or_else(|| "none".to_owned(), |key| key.to_string());
        format!("by its routes the key is `{own}`, in another slot; give all nodes the same routes")
    } else if slot.is_none() {
        String::new()
    } else if gate == "foreign" {
        "it does not own the slot any more, or does not know so yet".to_owned()
    } else if gate == "opening" {
        "the slot is about to open".to_owned()
    } else if gate == "shut" {
        "the slot is closed for a move: events wait at their ingress".to_owned()
    } else if said.lease_ms == Some(0) {
        "its lease is over: events wait up to their deadline".to_owned()
    } else {
        String::new()
    };
    said
}

/// Asks the node that would run the event.
async fn ask(
    shared: &Shared,
    question: &Question,
    slot: Option<SlotId>,
    node: NodeId,
) -> Result<ExplainedMessage, String> {
    let wire = shared.forward.as_ref().and_then(|it| it.wire.get());
    let wire = wire.ok_or("this node has no links yet")?;
    let metadata = question.metadata.iter().map(|(name, value)| Entry {
        name: Bytes::copy_from_slice(name.as_ref()),
        value: Bytes::copy_from_slice(value.as_bytes()),
    });
    let asked = EventMessage {
        slot: slot.map(|slot| slot.index().into()),
        kind: message::kind_code(question.kind),
        method: question.method.clone(),
        raw: question.raw.clone(),
        metadata: metadata.collect(),
        hop: 1,
        ..EventMessage::default()
    };
    let deadline = Instant::now() + ANSWER;
    let payload = asked.encode_to_vec().into();
    let said = |why: RequestError| why.to_string();
    let answer = wire.request(node, EXPLAIN, payload, deadline);
    let reply = answer.map_err(said)?.wait().await.map_err(said)?;
    match reply.outcome {
        LinkOutcome::Answered => ExplainedMessage::decode(reply.payload)
            .map_err(|why| format!("its answer can't be read: {why}")),
        // It knows no such question, or is at its end.
        LinkOutcome::NotStarted => {
            Err("it does not say: it is of an older version, or stops".to_owned())
        }
        LinkOutcome::Expired => Err("no answer by the deadline".to_owned()),
        LinkOutcome::Dropped => Err("the link was lost".to_owned()),
    }
}

/// Another node asks what this one would do with an event.
pub(super) fn answer(shared: &Shared, request: Request) {
    let read = || -> Result<(Question, Option<SlotId>), String> {
        let asked = EventMessage::decode(request.payload().clone())
            .map_err(|why| format!("the question is malformed: {why}"))?;
        let kind = message::kind_of(asked.kind)
            .ok_or_else(|| format!("its kind {} is not known to this version", asked.kind))?;
        let slot = match asked.slot {
            None => None,
            Some(index) => {
                let slot = u16::try_from(index).ok().and_then(SlotId::new);
                Some(slot.ok_or_else(|| format!("there is no slot {index}"))?)
            }
        };
        let metadata = message::headers(asked.metadata)?;
        let question = Question {
            kind,
            method: asked.method,
            raw: asked.raw,
            metadata,
        };
        Ok((question, slot))
    };
    let said = read().and_then(|(question, slot)| {
        let cx = question.event(shared)?;
        Ok(say(shared, &cx, slot))
    });
    let said = said.unwrap_or_else(|problem| ExplainedMessage {
        problem,
        ..ExplainedMessage::default()
    });
    request.reply(said.encode_to_vec().into());
}
