//! A leader that leaves hands over: once the table knows that it has left, it proposes nothing more,
//! and asks a voter that has all of its log to stand for election at once. It stays until another
//! node leads, since its own vote makes the majority; so nobody waits for an election time-out.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::time::{Instant, timeout};

use super::core::Core;
use super::event::Event;
use super::wire::SUCCEED;
use crate::peer::{Class, Request};
use crate::{LeaderId, NodeId, NodeState};

/// How long proposals that are under way are waited for.
const SETTLE: Duration = Duration::from_millis(300);
/// How long a voter may take until it leads.
const SUCCEEDS: Duration = Duration::from_millis(600);
/// How long all of it may take: then the others elect a leader when they miss this one.
const HAND_OVER: Duration = Duration::from_secs(2);

/// How far a leader is that hands over.
#[derive(Debug, Default)]
pub(super) struct Succession {
    /// Since when it is to hand over.
    due: Option<Duration>,
    given_up: bool,
}

impl Succession {
    /// Whether this node leads no more of its own accord, whatever Raft says.
    pub(super) const fn is_given_up(&self) -> bool {
        self.given_up
    }
}

impl Core {
    /// This node has led until the table knew that it has left.
    pub(super) fn outlived(&mut self) {
        self.leaving.succession.due = Some(self.clock());
        self.hand_over();
    }

    /// Hands over, where that is due.
    pub(super) fn hand_over(&mut self) {
        let Some(due) = self.leaving.succession.due else {
            return;
        };
        let busy = self.lead.as_ref().is_some_and(|lead| lead.in_flight() > 0);
        if busy && self.clock().saturating_sub(due) < SETTLE {
            return;
        }
        self.leaving.succession.due = None;
        let (Some(_), Some(raft), Some(view)) = (&self.lead, &self.raft, &self.view) else {
            self.left();
            return;
        };
        let table = view.table();
        let up: BTreeSet<NodeId> = table
            .nodes()
            .iter()
            .filter(|(_, node)| node.state == NodeState::Up)
            .map(|(id, _)| *id)
            .collect();
        let (raft, links, events) = (raft.handle.clone(), self.links.clone(), self.events.clone());
        let mut status = raft.status();
        let me = self.me.id;
        self.leaving.succession.given_up = true;
        let now = status.borrow().clone();
        self.lead_or_not(&now);
        tokio::spawn(async move {
            let end = Instant::now() + HAND_OVER;
            let another = |status: &crate::raft::Status| {
                status.leader.is_some_and(|leader| leader.node != me)
            };
            while Instant::now() < end {
                let Some((heir, leader, last)) = raft.heir(&up, SETTLE).await else {
                    break;
                };
                tracing::info!(to = %heir, "this node hands the lead over");
                let deadline = Instant::now() + SUCCEEDS;
                let payload = encode(leader, last);
                let asked = links.request(heir, Class::Control, SUCCEED, payload, deadline);
                if let Ok(answer) = asked {
                    drop(answer.wait().await);
                }
                if timeout(SUCCEEDS, status.wait_for(another)).await.is_ok() {
                    break;
                }
            }
            drop(events.send(Event::Left));
        });
    }

    /// The leader leaves, and wants this node to lead.
    pub(super) fn succeed_asked(&mut self, mut request: Request) {
        let from = request.from().member.id;
        let (Some(raft), Some((leader, last))) = (&self.raft, decode(request.payload())) else {
            request.bounce("this node keeps no log".into());
            return;
        };
        if leader.node != from || self.leaving.drains() || self.leaving.is_gone() {
            request.bounce("this node does not stand for election".into());
            return;
        }
        if request.start() {
            let raft = raft.handle.clone();
            tokio::spawn(async move {
                match raft.succeed(leader, last, SUCCEEDS).await {
                    Ok(()) => request.reply(Bytes::new()),
                    Err(why) => {
                        tracing::debug!(%why, "this node does not succeed the leader");
                        drop(request);
                    }
                }
            });
        }
    }
}

fn encode(leader: LeaderId, last: u64) -> Bytes {
    let mut to = BytesMut::with_capacity(20);
    to.put_u64_le(leader.term);
    to.put_u32_le(leader.node.0);
    to.put_u64_le(last);
    to.freeze()
}

fn decode(from: &[u8]) -> Option<(LeaderId, u64)> {
    let (term, rest) = from.split_first_chunk::<8>()?;
    let (node, rest) = rest.split_first_chunk::<4>()?;
    let leader = LeaderId {
        term: u64::from_le_bytes(*term),
        node: NodeId(u32::from_le_bytes(*node)),
    };
    let last = <[u8; 8]>::try_from(rest).ok()?;
    Some((leader, u64::from_le_bytes(last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leadership_comes_back_as_it_was_and_anything_else_is_none() {
        let leader = LeaderId {
            term: 7,
            node: NodeId(3),
        };
        let bytes = encode(leader, u64::MAX);
        assert_eq!(decode(&bytes), Some((leader, u64::MAX)));
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None);
        }
        assert_eq!(decode(&[bytes.as_ref(), &[0]].concat()), None);
    }
}
