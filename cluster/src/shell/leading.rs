//! The leader's part, where this node leads: the shell performs what [`Lead`] wants.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::core::Core;
use super::event::Event;
use super::spoke::Spoke;
use crate::lead::{Lead, LeadConfig, LeadEffect, ProposalId};
use crate::lease::LeaseConfig;
use crate::peer::Control;
use crate::{Command, LeaderId, NodeId, Outcome, raft};

impl Core {
    /// Begins to lead, goes on, or stops.
    pub(super) fn lead_or_not(&mut self, status: &raft::Status) {
        let leads = status
            .leader
            .filter(|leader| status.leads && leader.node == self.me.id)
            .filter(|_| !self.leaving.succession.is_given_up());
        let current = self.lead.as_ref().map(Lead::leader);
        if current == leads {
            if leads.is_some() && self.members_seen != status.members.configs {
                self.members_seen.clone_from(&status.members.configs);
                let now = self.reading();
                if let Some(lead) = &mut self.lead {
                    lead.members_changed(now);
                }
            }
            return;
        }
        if current.is_some() {
            tracing::info!("this node leads no more");
            self.lead = None;
            self.asked.clear();
            self.registering.clear();
            self.spoke = Spoke::default();
        }
        let (Some(leader), Some(view)) = (leads, &self.view) else {
            return;
        };
        tracing::info!(%leader, "this node leads");
        let lease = LeaseConfig::new(view.table().cluster(), self.setup.heartbeat);
        let config = LeadConfig {
            handoff: self.setup.handoff,
            open_limit: self.setup.open_limit,
            ..LeadConfig::new(lease)
        };
        let now = (self.now)();
        let (lead, effects) = Lead::new(leader, config, view.table(), fastrand::u64(..), now);
        self.lead = Some(lead);
        self.tending = false;
        self.led(effects);
    }

    /// A message for the leader's part.
    pub(super) fn lead_message(&mut self, from: NodeId, control: Control) {
        let now = self.reading();
        if let (Some(lead), Some(view)) = (&mut self.lead, &self.view) {
            let effects = lead.message(view.table(), from, control, now);
            self.led(effects);
        }
    }

    pub(super) fn led(&mut self, effects: Vec<LeadEffect>) {
        let Some(leader) = self.lead.as_ref().map(Lead::leader) else {
            return;
        };
        for effect in effects {
            match effect {
                LeadEffect::Propose { id, command } => self.propose(leader, id, command),
                LeadEffect::Round { id } => self.round(leader, id),
                LeadEffect::Send { to, control } => self.send(to, control),
                LeadEffect::Answer { boot, control } => {
                    if boot == self.boot {
                        drop(self.events.send(Event::Control(self.me.id, control)));
                    } else if let Some(waiting) = self.registering.remove(&boot) {
                        let bytes: bytes::Bytes = control.encode().into();
                        for request in waiting {
                            request.reply(bytes.clone());
                        }
                    } else if let Some(node) = self.spoke.node(boot) {
                        self.send(node, control);
                    }
                }
                LeadEffect::TendVoters => self.tend_voters(),
                LeadEffect::Announce => {
                    let bytes: bytes::Bytes = Control::Leading(leader).encode().into();
                    for node in self.others() {
                        self.send_bytes(node, bytes.clone());
                    }
                    drop(
                        self.events
                            .send(Event::Control(self.me.id, Control::Leading(leader))),
                    );
                }
                LeadEffect::Note(note) => tracing::info!("{note}"),
            }
        }
    }

    fn propose(&mut self, leader: LeaderId, id: ProposalId, command: Command) {
        let Some(raft) = &self.raft else { return };
        let (raft, events) = (raft.handle.clone(), self.events.clone());
        let counts = Arc::clone(&self.counts);
        tokio::spawn(async move {
            let began = Instant::now();
            let answer = match raft.propose(command).await {
                Ok(committed) => {
                    counts.commit.record(began.elapsed());
                    Ok(committed.outcome)
                }
                Err(why) => Err(why.to_string()),
            };
            drop(events.send(Event::Proposed(leader, id, answer)));
        });
    }

    /// A proposal is decided. What it changed is told first.
    pub(super) fn proposed(
        &mut self,
        leader: LeaderId,
        id: ProposalId,
        answer: Result<Outcome, String>,
    ) {
        self.own_table();
        let now = self.reading();
        let (Some(lead), Some(view)) = (&mut self.lead, &self.view) else {
            return;
        };
        if lead.leader() != leader {
            return;
        }
        let effects = lead.proposed(view.table(), id, answer.clone(), now);
        self.led(effects);
        if let Some(asked) = self.asked.remove(&id) {
            drop(asked.send(answer));
        }
    }

    fn round(&self, leader: LeaderId, id: u64) {
        let Some(raft) = &self.raft else { return };
        let (raft, events) = (raft.handle.clone(), self.events.clone());
        tokio::spawn(async move {
            let proof = raft.linearizable(raft.round_limit()).await;
            let led = proof.is_ok_and(|by| by == leader);
            drop(events.send(Event::Round(leader, id, led)));
        });
    }

    fn tend_voters(&mut self) {
        let Some(raft) = self.raft.as_ref().filter(|_| !self.tending) else {
            return;
        };
        self.tending = true;
        let (raft, events) = (raft.handle.clone(), self.events.clone());
        tokio::spawn(async move {
            match raft.tend_voters().await {
                Ok(Some(step)) => tracing::info!("voters: {step}"),
                Ok(None) => {}
                Err(why) => tracing::debug!(%why, "voters are as they were"),
            }
            drop(events.send(Event::Tended));
        });
    }

    /// The handle wants something committed.
    pub(super) fn ask(
        &mut self,
        command: Command,
        answer: oneshot::Sender<Result<Outcome, String>>,
    ) {
        let now = self.reading();
        let (Some(lead), Some(view)) = (&mut self.lead, &self.view) else {
            drop(answer.send(Err("this node does not lead".to_owned())));
            return;
        };
        let (id, effects) = lead.ask(view.table(), command, now);
        self.asked.insert(id, answer);
        self.led(effects);
    }

    /// Whoever opens a link hears at once who leads.
    pub(super) fn tell_that_it_leads(&self, to: NodeId) {
        if let Some(lead) = self.lead.as_ref().filter(|lead| !lead.is_starting()) {
            self.send(to, Control::Leading(lead.leader()));
        }
    }
}
