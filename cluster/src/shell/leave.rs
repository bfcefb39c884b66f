//! How a node goes: it gives its slots away, waits for what others have under way here, stops acting,
//! and says so.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::core::Core;
use super::event::Event;
use super::hurry::Hurry;
use super::succession::Succession;
use super::wire::LEAVE;
use crate::NodeState;
use crate::peer::{Class, Control, Outcome};

/// How long the leader may take to know that this node has left.
const LEADER: Duration = Duration::from_secs(1);
/// It is told again after so long.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Drain {
    began: Duration,
    grace: Duration,
    done: Option<oneshot::Sender<bool>>,
}

/// How far a node is on its way out.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    drain: Option<Drain>,
    leave: Option<oneshot::Sender<()>>,
    gone: bool,
    pub(super) hurry: Hurry,
    pub(super) succession: Succession,
}

impl Leaving {
    /// Whether it gives its slots away.
    pub(super) const fn drains(&self) -> bool {
        self.drain.is_some()
    }

    /// When it began to, and how long it may take.
    pub(super) fn time(&self) -> Option<(Duration, Duration)> {
        self.drain.as_ref().map(|drain| (drain.began, drain.grace))
    }

    /// Whether it acts no more, and will not again.
    pub(super) const fn is_gone(&self) -> bool {
        self.gone
    }
}

impl Core {
    /// Gives all slots away; `done` hears whether none is left within the grace.
    pub(super) fn drain(&mut self, grace: Duration, done: oneshot::Sender<bool>) {
        self.leaving.drain = Some(Drain {
            began: self.clock(),
            grace,
            done: Some(done),
        });
        self.asked_leader = Duration::ZERO;
    }

    /// Looks how far a drain is.
    pub(super) fn go_on_leaving(&mut self) {
        let now = self.clock();
        let me = self.me;
        let (drained, left) = self.view.as_ref().map_or((false, true), |view| {
            let table = view.table();
            let state = table.node(me.id).map(|node| node.state);
            let drains = matches!(state, Some(NodeState::Draining | NodeState::Dead) | None);
            let owns = table.slots().any(|(_, rec)| rec.owner == Some(me));
            (drains, owns)
        });
        let Some(drain) = &mut self.leaving.drain else {
            return;
        };
        let for_now = now.saturating_sub(drain.began);
        let empty = drained && !left;
        if (empty || for_now >= drain.grace)
            && let Some(done) = drain.done.take()
        {
            let _ = done.send(empty);
        }
    }

    /// Waits for peers, stops acting, tells the leader.
    pub(super) fn leave(&mut self, within: Duration, done: oneshot::Sender<()>) {
        self.leaving.leave = Some(done);
        let deadline = Instant::now() + within;
        let mut asks = JoinSet::new();
        for node in self.others() {
            let asked = self
                .links
                .request(node, Class::Data, LEAVE, Bytes::new(), deadline);
            if let Ok(answer) = asked {
                asks.spawn(answer.wait());
            }
        }
        let events = self.events.clone();
        tokio::spawn(async move {
            while asks.join_next().await.is_some() {}
            drop(events.send(Event::Parted));
        });
    }

    /// Peers that leave are answered once nothing that was sent to them is unanswered.
    pub(super) fn part_from_peers(&mut self) {
        let parting = std::mem::take(&mut self.parting);
        for (node, request) in parting {
            if self.links.unanswered(node, Class::Data) == 0 {
                request.reply(Bytes::new());
            } else if request.deadline() > Instant::now() {
                self.parting.push((node, request));
            }
        }
    }

    /// Nothing of others is under way here any more: the node stops acting and says so.
    pub(super) fn parted(&mut self) {
        self.leaving.gone = true;
        self.die();
        let now = self.reading();
        if let (Some(lead), Some(view)) = (&mut self.lead, &self.view) {
            let effects = lead.leave(view.table(), now);
            self.led(effects);
        }
        let leaving = Control::Leaving(self.me);
        let events = self.events.clone();
        let leader = self.leader_at_raft();
        if leader == Some(self.me.id) || leader.is_none() {
            self.lead_message(self.me.id, leaving);
            let (mut status, me) = (self.status.subscribe(), self.me);
            tokio::spawn(async move {
                let gone = status.wait_for(|status| {
                    status.me != Some(me) || status.state == Some(NodeState::Dead)
                });
                drop(tokio::time::timeout(LEADER, gone).await);
                drop(events.send(Event::Outlived));
            });
            return;
        }
        let links = self.links.clone();
        let payload: Bytes = leaving.encode().into();
        tokio::spawn(async move {
            let end = Instant::now() + LEADER;
            while let Some(leader) = leader.filter(|_| Instant::now() < end) {
                let told = match links.request(leader, Class::Control, LEAVE, payload.clone(), end)
                {
                    Ok(answer) => answer.wait().await.ok(),
                    Err(_) => None,
                };
                if told.is_some_and(|reply| reply.outcome == Outcome::Answered) {
                    break;
                }
                sleep(AGAIN).await;
            }
            drop(events.send(Event::Left));
        });
    }

    /// The leader knows, or it took too long.
    pub(super) fn left(&mut self) {
        if let Some(done) = self.leaving.leave.take() {
            let _ = done.send(());
        }
    }
}
