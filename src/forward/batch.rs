//! `channel_state`: a batch of channels, split by their owners and joined again. If any part is not
//! acknowledged, neither is the batch, and Centrifugo sends it once more.

use crate::cx::Cx;
use crate::dispatch::run_here;
use crate::engine::flight::{Flight, Landed};
use crate::engine::guard::Limits as _;
use crate::engine::plan::Route;
use crate::envelope::Envelope;
use crate::event::EventKind;
use crate::forward::wire::Pending;
use crate::forward::{Forward, cannot_cross, outcome};
use crate::outcome::{Failure, Outcome, Unavailable};
use crate::proto::proxy::ChannelEvent;
use bytes::{BufMut, Bytes, BytesMut};
use centripeta_cluster::peer::{Answered, Outcome as LinkOutcome, Reply, RequestError};
use centripeta_cluster::{Member, OwnerEpoch, SlotId, slot_of};
use futures_util::future::join_all;
use prost::encoding::{DecodeContext, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The channels of one owner.
#[derive(Debug, Default)]
struct Part {
    request: BytesMut,
    slots: Vec<u32>,
}

/// A part that is under way.
enum PartSent {
    Here(oneshot::Receiver<Landed>),
    There(Pending),
}

/// A field of a batch, as it came: with its channel, if it is an event.
type BatchField<'a> = (Option<String>, &'a [u8]);

fn fields(raw: &Bytes) -> Result<Vec<BatchField<'_>>, DecodeError> {
    let mut fields = Vec::new();
    let mut rest: &[u8] = raw;
    while !rest.is_empty() {
        let whole = rest;
        let (tag, wire_type) = decode_key(&mut rest)?;
        let mut value = rest;
        skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
        let field = &whole[..whole.len() - rest.len()];
        let channel = match tag {
            1 => {
                decode_varint(&mut value)?;
                let event = &value[..value.len() - rest.len()];
                Some(ChannelEvent::decode(event)?.channel)
            }
            _ => None,
        };
        fields.push((channel, field));
    }
    Ok(fields)
}

impl Forward {
    /// Runs a batch: here, if every channel of it is this node's.
    pub(super) fn batch(self: &Arc<Self>, mut flight: Flight, route: Arc<Route>) {
        let parts = match self.parts(flight.cx().raw()) {
            Ok(parts) => parts,
            Err(failure) => return flight.finish(failure.into()),
        };
        let me = self.standing().me();
        if parts.keys().all(|owner| *owner == me) {
            let slots = parts.into_values().flat_map(|part| part.slots);
            return match self.acting(slots) {
                Ok(acts) => {
                    self.counts.local.add_one();
                    flight.cx_mut().acts = acts;
                    run_here(flight, route, None);
                }
                Err(why) => flight.finish(Failure::Unavailable(why).into()),
            };
        }
        let this = Arc::clone(self);
        if let Some(handle) = self.handles.get(flight.core().0) {
            handle.spawn(async move { this.join(flight, parts).await });
        }
    }

    /// Under which epochs this node may act for every slot of a part, at this very moment; else why it
    /// may not.
    pub(super) fn acting(
        &self,
        slots: impl IntoIterator<Item = u32>,
    ) -> Result<Vec<(SlotId, OwnerEpoch)>, Unavailable> {
        let acts = |index| {
            let slot = u16::try_from(index).ok().and_then(SlotId::new)?;
            Some((slot, self.standing().acts_for(slot)?))
        };
        let acting: Option<Vec<_>> = slots.into_iter().map(acts).collect();
        acting.ok_or_else(|| match self.standing().has_lease() {
            true => Unavailable::Moving,
            false => Unavailable::Lapsed,
        })
    }

    /// Who owns the channels of a batch.
    pub(super) fn owners(&self, raw: &Bytes) -> Result<Vec<Member>, Failure> {
        Ok(self.parts(raw)?.into_keys().collect())
    }

    fn parts(&self, raw: &Bytes) -> Result<BTreeMap<Member, Part>, Failure> {
        let fields = fields(raw).map_err(|why| Failure::Undecodable(why.to_string()))?;
        let mut parts: BTreeMap<Member, Part> = BTreeMap::new();
        for (channel, field) in &fields {
            let Some(channel) = channel else { continue };
            let slot = slot_of(channel.as_bytes());
            let owner = self.standing().owner_of(slot);
            let owner = owner.ok_or(Failure::Unavailable(Unavailable::NoOwner))?;
            let part = parts.entry(owner).or_default();
            part.request.put_slice(field);
            part.slots.push(u32::from(slot.index()));
        }
        // What is not an event belongs to each part.
        for (_, field) in fields.iter().filter(|(channel, _)| channel.is_none()) {
            for part in parts.values_mut() {
                part.request.put_slice(field);
            }
        }
        Ok(parts)
    }

    async fn join(self: Arc<Self>, mut flight: Flight, parts: BTreeMap<Member, Part>) {
        flight.send_away();
        let me = self.standing().me();
        let all = parts.into_iter().map(|(owner, part)| {
            let sent = if owner == me {
                self.part_here(&flight, part).map(PartSent::Here)
            } else {
                self.part_there(&flight, owner, part).map(PartSent::There)
            };
            let this = &self;
            async move {
                match sent {
                    Ok(PartSent::Here(landed)) => match landed.await {
                        Ok(Landed::Done(outcome)) => outcome,
                        Ok(Landed::Stream(..)) | Err(_) => {
                            Failure::Unavailable(Unavailable::Crashed).into()
                        }
                    },
                    Ok(PartSent::There(mut answer)) => {
                        this.part_outcome(owner, answer.wait().await)
                    }
                    Err(failure) => failure.into(),
                }
            }
        });
        let mut joined = Box::pin(join_all(all.collect::<Vec<_>>()));
        let deadline = flight.deadline();
        let outcomes = {
            let (_, call) = flight.parts();
            tokio::select! {
                biased;
                outcomes = &mut joined => Ok(outcomes),
                () = poll_fn(|cx| call.poll_gone(cx)) => Err(Failure::Cancelled),
                () = tokio::time::sleep_until(deadline) => Err(Failure::Deadline),
            }
        };
        let outcome = match outcomes {
            Err(failure) => failure.into(),
            Ok(mut outcomes) => {
                let refused = |outcome: &Outcome| !matches!(outcome, Outcome::Reply(_));
                let at = outcomes.iter().position(refused).unwrap_or(0);
                outcomes.swap_remove(at)
            }
        };
        flight.finish(outcome);
    }

    /// A part for this node: an event of its own, without stages.
    fn part_here(&self, flight: &Flight, part: Part) -> Result<oneshot::Receiver<Landed>, Failure> {
        let acts = self.acting(part.slots).map_err(Failure::Unavailable)?;
        let shared = flight.shared();
        let cx = flight.cx();
        let (reply, landed) = oneshot::channel();
        let metadata = cx.metadata().clone();
        let raw = part.request.freeze();
        let envelope = Envelope::try_new(EventKind::ChannelState, raw, metadata, cx.deadline());
        let envelope = envelope.map_err(|why| Failure::Undecodable(why.to_string()))?;
        let found = shared.plan.load().find(EventKind::ChannelState, "");
        let mut part = Cx::new(envelope, found);
        part.set_attributes(cx.attributes().clone());
        part.acts = acts;
        let no_stages = Arc::clone(&self.no_stages);
        let (core, shared) = (flight.core(), Arc::clone(shared));
        Flight::launch(part, None, no_stages, core, shared, reply);
        Ok(landed)
    }

    fn part_there(&self, flight: &Flight, owner: Member, part: Part) -> Result<Pending, Failure> {
        let mut message = self.message(flight, None).map_err(cannot_cross)?;
        (message.raw, message.slots, message.part) = (part.request.freeze(), part.slots, true);
        let payload = message.encode_with(flight.cx().metadata());
        self.counts.forwarded.add_one();
        let sent = self.wire_request(owner.id, payload, flight.deadline(), false);
        sent.map_err(|why| match why {
            RequestError::Overloaded => Failure::Overloaded(crate::outcome::Overloaded::Peer),
            RequestError::TooLarge { .. } => cannot_cross(why.to_string()),
            _ => Failure::Unavailable(Unavailable::NoOwner),
        })
    }

    fn part_outcome(&self, owner: Member, answer: Result<Answered, RequestError>) -> Outcome {
        let lost = || Failure::Unavailable(Unavailable::LostPeer).into();
        let Ok(Answered::Reply(reply)) = answer else {
            return lost();
        };
        let Reply {
            outcome,
            load,
            payload,
        } = reply;
        self.heard_load(owner.id, load);
        match outcome {
            LinkOutcome::Answered if self.is_heeded(owner) => {
                outcome::decode(EventKind::ChannelState, payload)
            }
            LinkOutcome::Expired => Failure::Deadline.into(),
            LinkOutcome::NotStarted => Failure::Unavailable(Unavailable::NoOwner).into(),
            LinkOutcome::Answered | LinkOutcome::Dropped => lost(),
        }
    }
}
