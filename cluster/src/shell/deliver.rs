//! What a node does with a control message, a question, or a change of a link.

use std::time::Duration;

use tokio::time::Instant;

use super::core::Core;
use super::quiet::host;
use super::wire::{ADMIN, GENESIS, HURRY, LEAVE, PARKED, REGISTER, SUCCEED, TABLE};
use crate::peer::{Class, Control, LinkError, LinkEvent, Outcome, Request};
use crate::{LeaderId, NodeId};

/// How long a registration that was passed on may take.
const PASSED_ON: Duration = Duration::from_millis(2400);

impl Core {
    pub(super) fn deliver(&mut self, from: NodeId, control: Control) {
        let (now, clock) = (self.reading(), self.clock());
        match control {
            Control::Heartbeat(heartbeat, via) => {
                let control = Control::Heartbeat(heartbeat, via);
                if self.lead.is_some() {
                    self.spoke.heard(&heartbeat, via, from);
                    self.acked_version(heartbeat.member.id, heartbeat.version);
                    self.lead_message(from, control);
                } else if via.is_none() && heartbeat.member.id == from {
                    self.pass_on(from, Control::Heartbeat(heartbeat, Some(self.me.id)));
                }
            }
            Control::Ack(ack) if ack.member.id != self.me.id => {
                self.send(ack.member.id, Control::Ack(ack));
            }
            Control::Ack(ack) => {
                let Some(life) = &mut self.life else { return };
                let held = life.holder.ack(ack, now);
                let Some(start) = life.holder.rests_on() else {
                    return;
                };
                self.standing.renew(start, life.lease.length);
                self.acked = Some(now);
                self.newest = self.newest.max(ack.version);
                let version = self.view.as_ref().map_or(0, |view| view.table().version());
                if ack.version <= version {
                    self.current = Some(start);
                }
                self.held(held);
                self.see_quorum();
            }
            Control::Dead(member) => {
                if member == self.me && self.life.is_some() {
                    self.die();
                } else if member.id == self.me.id {
                    self.buried(member);
                }
            }
            Control::SecondProcess(member, boot) => {
                if boot == self.boot {
                    self.second_process(member);
                }
            }
            Control::Leading(leader) => self.heard_leader(leader),
            Control::Delta(delta) => {
                if self.take_delta(&delta)
                    && let Some(view) = &self.view
                {
                    self.send(from, Control::WantTable(view.table().version()));
                }
            }
            Control::WantTable(version) => self.table_wanted(from, version),
            Control::Table(table) => self.take_table(table),
            Control::Registered(_) => {}
            Control::NotRegistered(boot, why) => {
                if boot == self.boot {
                    self.not_registered(why);
                }
            }
            Control::Register(_) | Control::Propose(_) | Control::Leaving(_) => {
                self.lead_message(from, control);
            }
            Control::Released(member, ref _slots) => self.lead_or_pass_on(from, member.id, control),
            Control::AbortWanted(member, ref _wanted) => {
                self.lead_or_pass_on(from, member.id, control);
            }
            Control::Prepared(member, step) => self.prepared(member, step),
            Control::Received(member, step) => {
                if let Some(life) = &mut self.life {
                    let effects = life.source.received(member, step, clock);
                    self.sourced(effects);
                }
            }
            Control::Resumed(member, slot) => {
                if member != self.me {
                    self.stall_ends(slot);
                    self.taken_over(slot, false);
                }
                self.ingress.resumed(member, slot);
            }
        }
    }

    /// A step of a move for the leader: a voter passes on what came straight.
    fn lead_or_pass_on(&mut self, from: NodeId, member: NodeId, control: Control) {
        if self.lead.is_some() {
            self.lead_message(from, control);
        } else if from == member {
            self.pass_on(from, control);
        }
    }

    /// Passes a message on to the leader, if that is someone else.
    fn pass_on(&self, from: NodeId, control: Control) {
        if let Some(leader) = self.leader.filter(|leader| leader.node != self.me.id)
            && from != self.me.id
            && from != leader.node
        {
            self.send(leader.node, control);
        }
    }

    /// A leader has made itself known.
    pub(super) fn heard_leader(&mut self, leader: LeaderId) {
        if self.leader.is_some_and(|known| known >= leader) {
            return;
        }
        self.leader = Some(leader);
        self.note_leader(leader);
        let (now, clock) = (self.reading(), self.clock());
        if let Some(life) = &mut self.life {
            let held = life.holder.leader(Some(leader.node), now);
            let source = life.source.new_leader(clock);
            self.held(held);
            self.sourced(source);
        }
        self.shards.say_again();
        self.tell_parked();
    }

    pub(super) fn requested(&mut self, request: Request) {
        let from = request.from().member.id;
        match (request.from().class, request.kind()) {
            (Class::Data, LEAVE) => self.parting.push((from, request)),
            (Class::Data, _) => request.bounce("no such question".into()),
            (_, REGISTER) => self.register_asked(request),
            (_, TABLE) => match &self.view {
                Some(view) => {
                    let control = Control::Table(view.table().clone());
                    request.reply(control.encode().into());
                }
                None => request.bounce("this node has no table yet".into()),
            },
            (_, GENESIS) => match &self.raft {
                Some(raft) => request.reply(raft.genesis.encode().into()),
                None => request.bounce("this node keeps no log".into()),
            },
            (_, LEAVE) => match (Control::decode(request.payload()), &self.lead) {
                (Ok(control @ Control::Leaving(_)), Some(_)) => {
                    self.lead_message(from, control);
                    request.reply(bytes::Bytes::new());
                }
                _ => request.bounce("this node does not lead".into()),
            },
            (_, PARKED) => self.parked_told(request),
            (_, HURRY) => self.hurry_told(request),
            (_, SUCCEED) => self.succeed_asked(request),
            (_, ADMIN) => self.operation_asked(request),
            _ => request.bounce("no such question".into()),
        }
    }

    /// Someone wants to be registered: the leader answers later, others pass it on.
    fn register_asked(&mut self, mut request: Request) {
        let Ok(Control::Register(wanted)) = Control::decode(request.payload()) else {
            request.bounce("no registration".into());
            return;
        };
        if self.lead.is_some() {
            if request.start() {
                let from = request.from().member.id;
                if request.from().class == Class::Ask {
                    self.spoke.asked(wanted.boot, from);
                }
                let waiting = self.registering.entry(wanted.boot).or_default();
                // An older question of the same process has been given up.
                waiting.clear();
                waiting.push(request);
                self.lead_message(from, Control::Register(wanted));
            }
            return;
        }
        let leader = self.leader_at_raft().filter(|leader| *leader != self.me.id);
        let Some(leader) = leader.filter(|_| request.from().class == Class::Ask) else {
            request.bounce("no leader is known here".into());
            return;
        };
        let deadline = Instant::now() + PASSED_ON;
        let payload = request.payload().clone();
        let asked = self
            .links
            .request(leader, Class::Control, REGISTER, payload, deadline);
        let Ok(answer) = asked else {
            request.bounce("the leader is not in reach".into());
            return;
        };
        tokio::spawn(async move {
            match answer.wait().await {
                Ok(reply) if reply.outcome == Outcome::Answered => request.reply(reply.payload),
                _ => request.bounce("the leader did not answer".into()),
            }
        });
    }

    /// Who leads, as Raft says here, or as was last heard.
    pub(super) fn leader_at_raft(&self) -> Option<NodeId> {
        let raft = self.raft.as_ref();
        let leader = raft.and_then(|raft| raft.status.borrow().leader);
        leader.max(self.leader).map(|leader| leader.node)
    }

    /// Somebody is kept out: said once a minute for each host and reason.
    fn link_refused(&mut self, from: &str, reason: &'static str, why: &str) {
        // Whoever joins is in the table, and called by others, a moment before it knows itself.
        if reason == LinkError::NotJoined.label() {
            tracing::debug!(%from, %why, "a link is refused");
            return;
        }
        let now = self.clock();
        match self.quiet.say(host(from), why, now) {
            Some(0) => tracing::warn!(%from, %why, "a link is refused"),
            Some(more) => tracing::warn!(%from, %why, more, "a link is refused, again"),
            None => tracing::debug!(%from, %why, "a link is refused"),
        }
    }

    /// A link has changed.
    pub(super) fn link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { peer, class, .. } => {
                if class == Class::Control {
                    self.tell_that_it_leads(peer);
                } else {
                    self.take_prepared();
                }
            }
            LinkEvent::Silent { peer, class } | LinkEvent::Down { peer, class, .. } => {
                if class == Class::Control {
                    self.link_lost(peer);
                }
            }
            LinkEvent::Accepted(remote) => {
                let id = remote.member.id;
                if id != NodeId(0) && id != self.me.id {
                    self.links.hasten(id);
                }
                if id != NodeId(0) && id != self.me.id && !remote.addrs.is_empty() {
                    self.greeted.insert(id, remote.addrs.clone());
                    let view = self.view.as_ref();
                    let node = view.and_then(|view| view.table().node(id));
                    // The table may be older than where its nodes are now.
                    if node.is_none_or(|node| node.addrs != remote.addrs) {
                        self.links.set_peer(id, remote.addrs.clone());
                    }
                    if remote.class == Class::Control {
                        self.tell_that_it_leads(id);
                    }
                }
            }
            LinkEvent::Refused { from, reason, why } => self.link_refused(&from, reason, &why),
        }
    }
}
