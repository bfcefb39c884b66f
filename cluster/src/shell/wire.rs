//! What the shell sends over links, and what comes in: control messages as casts, questions as
//! requests, Raft's calls past the loop straight to Raft, data to the node around it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::event::Event;
use crate::peer::{Class, Control, Handler, LinkEvent, Links, Outcome, Remote, Request};
use crate::raft::{CallError, Network, Raft};
use crate::{FIRST_KIND, Ingress, MoveId, NodeId, SlotId};

/// A cast on control links: a [`Control`] message.
pub(super) const CONTROL: u8 = 0;
/// A call of Raft.
pub(super) const RAFT: u8 = 1;
/// A node asks to be registered; the answer is a [`Control`] message.
pub(super) const REGISTER: u8 = 2;
/// The whole table is wanted; the answer is a [`Control`] message.
pub(super) const TABLE: u8 = 3;
/// The table that the log begins with is wanted.
pub(super) const GENESIS: u8 = 4;
/// A node leaves; on data links the answer says that nothing sent to it is unanswered, on control
/// links that the leader knows.
pub(super) const LEAVE: u8 = 5;
/// A question of an operator, sent on.
pub(super) const ADMIN: u8 = 6;
/// A shard of a node is parked, or runs again.
pub(super) const PARKED: u8 = 7;

/// Half of the time that a node has for its drain is over: its moves are not limited any more.
pub(super) const HURRY: u8 = 8;
/// The leader leaves, and asks a voter to stand for election at once; the answer says that it leads.
pub(super) const SUCCEED: u8 = 9;

/// On data links: a part of the values of a slot that moves. An answer that is not empty says why
/// the target cannot take them.
pub(super) const VALUES: u8 = 1;

/// How long the answer to a call of Raft is waited for at most: Raft itself gives up earlier.
const CALL: Duration = Duration::from_secs(10);

/// Raft here, for calls that come: none before the node is a member.
pub(super) type RaftSlot = Arc<ArcSwapOption<Raft>>;

/// Takes what comes on links.
pub(super) struct Door {
    pub(super) events: UnboundedSender<Event>,
    pub(super) raft: RaftSlot,
    pub(super) ingress: Arc<dyn Ingress>,
}

impl Handler for Door {
    fn request(&self, from: &Remote, mut request: Request) {
        match (from.class, request.kind()) {
            (Class::Data, kind) if kind >= FIRST_KIND => self.ingress.request(from, request),
            (Class::Data, VALUES) => {
                if let Some(part) = Part::decode(request.payload())
                    && request.start()
                {
                    drop(self.events.send(Event::Part(from.member, part, request)));
                }
            }
            (Class::Control, RAFT) => match self.raft.load_full() {
                Some(raft) => {
                    if request.start() {
                        tokio::spawn(async move {
                            match raft.handle(request.payload()).await {
                                Ok(answer) => request.reply(answer.into()),
                                Err(why) => request.bounce(why.to_string().into()),
                            }
                        });
                    }
                }
                None => drop(self.events.send(Event::WantedAsMember(from.member.id))),
            },
            _ => drop(self.events.send(Event::Request(request))),
        }
    }

    fn cast(&self, from: &Remote, kind: u8, payload: Bytes) {
        if from.class != Class::Control || kind != CONTROL {
            return;
        }
        match Control::decode(&payload) {
            Ok(control) => drop(self.events.send(Event::Control(from.member.id, control))),
            Err(why) => {
                tracing::warn!(node = %from.member.id, %why, "a control message is malformed")
            }
        }
    }

    fn event(&self, event: LinkEvent) {
        drop(self.events.send(Event::Link(event)));
    }

    fn load(&self) -> u32 {
        self.ingress.load()
    }
}

/// Carries Raft's calls over control links.
#[derive(Debug, Clone)]
pub(super) struct Calls(pub(super) Links);

impl Network for Calls {
    async fn call(&self, to: NodeId, rpc: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let deadline = Instant::now() + CALL;
        let answer = self
            .0
            .request(to, Class::Control, RAFT, rpc.into(), deadline)
            .map_err(|_| CallError::Unreachable(to))?;
        let reply = answer.wait().await;
        let reply = reply.map_err(|_| CallError::Unreachable(to))?;
        match reply.outcome {
            Outcome::Answered => Ok(reply.payload.to_vec()),
            Outcome::NotStarted => Err(CallError::Unreachable(to)),
            Outcome::Expired | Outcome::Dropped => {
                let why = String::from_utf8_lossy(&reply.payload).into_owned();
                Err(CallError::Refused { to, why })
            }
        }
    }
}

/// A part of the values of a slot that moves. Parts of one attempt come in order; values are pieces
/// as the store made them, cut where they are larger than a part may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) slot: SlotId,
    pub(super) id: MoveId,
    /// Which sending of them this is.
    pub(super) attempt: u64,
    /// Which part of it, from 0.
    pub(super) index: u32,
    /// Whether a piece ends with this part.
    pub(super) ends_piece: bool,
    /// Whether it is the last.
    pub(super) last: bool,
    pub(super) bytes: Bytes,
}

const PART_HEAD: usize = 2 + 8 + 8 + 4 + 1;

impl Part {
    pub(super) fn encode(&self) -> Bytes {
        let mut to = BytesMut::with_capacity(PART_HEAD + self.bytes.len());
        to.put_u16_le(self.slot.index());
        to.put_u64_le(self.id.0);
        to.put_u64_le(self.attempt);
        to.put_u32_le(self.index);
        to.put_u8(u8::from(self.ends_piece) | u8::from(self.last) << 1);
        to.put_slice(&self.bytes);
        to.freeze()
    }

    pub(super) fn decode(from: &Bytes) -> Option<Self> {
        let mut rest = from.as_ref();
        let slot = u16::from_le_bytes(take(&mut rest)?);
        let id = MoveId(u64::from_le_bytes(take(&mut rest)?));
        let attempt = u64::from_le_bytes(take(&mut rest)?);
        let index = u32::from_le_bytes(take(&mut rest)?);
        let [flags] = take(&mut rest)?;
        Some(Self {
            slot: SlotId::new(slot)?,
            id,
            attempt,
            index,
            ends_piece: flags & 1 != 0,
            last: flags & 2 != 0,
            bytes: from.slice_ref(rest),
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_part_comes_back_as_it_was_and_a_short_one_is_none() {
        let part = Part {
            slot: SlotId::new(4095).unwrap(),
            id: MoveId(7),
            attempt: u64::MAX,
            index: 3,
            ends_piece: true,
            last: false,
            bytes: Bytes::from_static(b"value"),
        };
        let bytes = part.encode();
        assert_eq!(Part::decode(&bytes), Some(part));
        for length in 0..PART_HEAD {
            assert_eq!(Part::decode(&bytes.slice(..length)), None);
        }
        let mut foreign = bytes.to_vec();
        foreign[1] = 0xff;
        assert_eq!(Part::decode(&foreign.into()), None, "there is no such slot");
    }
}
