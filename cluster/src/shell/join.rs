//! How a node comes into the table: it asks for a registration, says when it is ready, and keeps its
//! record true.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::core::Core;
use super::event::Event;
use super::names::resolved;
use super::wire::{REGISTER, TABLE};
use crate::peer::{Control, Links, Outcome, PROTOCOLS};
use crate::{Command, Member, NodeChange, NodeId, NodeState, Registration, View};

/// How long an answer to a registration is waited for: an older life is waited out meanwhile.
const REGISTERED: Duration = Duration::from_millis(2500);
/// The next address is asked if the one before has not answered by then.
const STAGGER: Duration = Duration::from_millis(300);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);
/// So many rounds without an answer are nothing to speak of: others may be about to start.
const QUIET: u32 = 8;
/// So many reasons for it are told.
const TOLD: usize = 16;
/// Until the table that was asked for names this node, it is asked for this often.
const TABLE_AGAIN: Duration = Duration::from_millis(30);
/// What is wanted of the leader is said again after so long.
const ASK_AGAIN: Duration = Duration::from_millis(500);

impl Core {
    /// Asks to be registered, where that is due.
    pub(super) fn join(&mut self) {
        let now = self.clock();
        let ends = self.leaving.is_gone() || self.status.borrow().fatal.is_some();
        if self.life.is_some() || ends || now < self.join_again {
            return;
        }
        // A life in which nothing would run is none: it would soon be over, with the slots it got.
        if !self.progress.is_enough(self.reading()) {
            return;
        }
        let wanted = self.registration();
        if self.lead.is_some() {
            self.join_again = now + PAUSE;
            self.lead_message(self.me.id, Control::Register(wanted));
            return;
        }
        if self
            .joining
            .as_ref()
            .is_some_and(|task| !task.is_finished())
        {
            return;
        }
        self.join_again = now + PAUSE;
        let (known, seeds, names) = (
            self.known_addrs(),
            self.setup.seeds.clone(),
            self.setup.names.clone(),
        );
        let own = self.setup.advertise.clone();
        let (links, events) = (self.links.clone(), self.events.clone());
        let task = tokio::spawn(async move {
            let mut addrs = known;
            for seed in seeds {
                match &names {
                    Some(names) => addrs.extend(resolved(names.as_ref(), &seed).await),
                    None => addrs.push(seed),
                }
            }
            let mut seen = std::collections::BTreeSet::new();
            addrs.retain(|addr| !own.contains(addr) && seen.insert(addr.clone()));
            drop(events.send(ask_each(links, addrs, wanted).await));
        });
        self.joining = Some(task.abort_handle());
    }

    fn registration(&self) -> Registration {
        Registration {
            name: self.setup.name.clone(),
            data: self.home.data(),
            incarnation: self.home.incarnation(),
            boot: self.boot,
            addrs: self.setup.advertise.clone(),
            roles: self.setup.roles,
            serves: self.serves.clone(),
            protocol: *PROTOCOLS.end(),
            build: self.setup.build.clone(),
            routes_hash: self.routes_hash,
        }
    }

    /// Where others are, the leader first.
    pub(super) fn known_addrs(&self) -> Vec<String> {
        let leader = self.leader_at_raft();
        let mut nodes: Vec<_> = self
            .view
            .iter()
            .flat_map(|view| view.table().nodes())
            .filter(|(id, node)| **id != self.me.id && node.state != NodeState::Removed)
            .map(|(id, node)| (Some(*id) != leader, *id, node))
            .collect();
        nodes.sort_by_key(|(rest, id, node)| (*rest, !node.state.is_living(), *id));
        let addrs = nodes.into_iter().flat_map(|(_, id, node)| {
            let greeted = self.greeted.get(&id).into_iter().flatten();
            greeted.chain(&node.addrs).cloned().collect::<Vec<_>>()
        });
        addrs.collect()
    }

    /// No seed has answered. That is told, once for each reason, when it goes on.
    pub(super) fn not_joined(&mut self, reasons: Vec<String>) {
        self.joining = None;
        let (rounds, told) = &mut self.unheard;
        *rounds = rounds.saturating_add(1);
        if *rounds < QUIET {
            return;
        }
        for why in reasons {
            if told.len() < TOLD && told.insert(why.clone()) {
                tracing::warn!(%why, "no node has registered this one yet; it goes on asking");
            }
        }
    }

    /// The node is not registered.
    pub(super) fn not_registered(&mut self, why: String) {
        if self.refused.as_ref() != Some(&why) {
            tracing::error!(%why, "this node is not registered");
        }
        self.refused = Some(why);
        self.join_again = self.clock() + ASK_AGAIN;
        self.show_status();
    }

    /// Something about this node changes.
    pub(super) fn change(&mut self, change: NodeChange) {
        match change {
            NodeChange::Serves(serves) => self.serves = serves,
            NodeChange::Addrs(addrs) => self.setup.advertise = addrs,
            NodeChange::RoutesHash(hash) => self.routes_hash = hash,
            NodeChange::State(_) => {}
        }
        self.greet();
        self.asked_leader = Duration::ZERO;
    }

    /// Asks the leader for what the table does not say yet of this node: that it is up once it is
    /// ready and makes progress, and what has changed.
    pub(super) fn be_up(&mut self) {
        let (Some(life), Some(view)) = (&self.life, &self.view) else {
            return;
        };
        let Some(rec) = view.table().node(life.me.id) else {
            return;
        };
        let change = if rec.state == NodeState::Joining && self.ready && life.degraded.is_none() {
            NodeChange::State(NodeState::Up)
        } else if self.leaving.drains() && rec.state != NodeState::Draining {
            NodeChange::State(NodeState::Draining)
        } else if rec.serves != self.serves {
            NodeChange::Serves(self.serves.clone())
        } else if rec.addrs != self.setup.advertise {
            NodeChange::Addrs(self.setup.advertise.clone())
        } else if rec.routes_hash != self.routes_hash {
            NodeChange::RoutesHash(self.routes_hash)
        } else {
            return;
        };
        let now = self.clock();
        if now.saturating_sub(self.asked_leader) < ASK_AGAIN {
            return;
        }
        self.asked_leader = now;
        let command = Command::SetNode {
            member: life.me,
            boot: self.boot,
            change,
        };
        self.tell_leader(Control::Propose(command));
    }
}

/// Asks one address after the other, not waiting long for any; the first that decides does.
async fn ask_each(links: Links, addrs: Vec<String>, wanted: Registration) -> Event {
    let mut asks = JoinSet::new();
    let mut rest = addrs.into_iter();
    let mut unheard = Vec::new();
    loop {
        if let Some(addr) = rest.next() {
            asks.spawn(ask(links.clone(), addr, wanted.clone()));
        } else if asks.is_empty() {
            return Event::NotJoined(unheard);
        }
        let next = async {
            if rest.len() == 0 {
                std::future::pending::<()>().await;
            }
            sleep(STAGGER).await;
        };
        tokio::select! {
            Some(done) = asks.join_next() => {
                match done {
                    Ok(Ok(event)) => return event,
                    Ok(Err(why)) => unheard.push(why),
                    Err(_) => {}
                }
            }
            () = next => {}
        }
    }
}

/// Asks one address.
///
/// # Errors
/// If it decides nothing; in words.
async fn ask(links: Links, addr: String, wanted: Registration) -> Result<Event, String> {
    let boot = wanted.boot;
    let payload = Control::Register(wanted).encode().into();
    let deadline = Instant::now() + REGISTERED;
    let reply = match links.ask(&addr, REGISTER, payload, deadline).await {
        Ok(reply) if reply.outcome == Outcome::Answered => reply,
        Ok(reply) => {
            let why = String::from_utf8_lossy(&reply.payload).into_owned();
            tracing::debug!(%addr, %why, "a node cannot register this one");
            return Err(format!("{addr}: {why}"));
        }
        Err(why) => {
            tracing::debug!(%addr, %why, "a seed does not answer");
            return Err(format!("{addr}: {why}"));
        }
    };
    match Control::decode(&reply.payload) {
        Ok(Control::Registered(member)) => fetch(&links, &addr, member)
            .await
            .ok_or_else(|| format!("{addr}: its table does not name this node yet")),
        Ok(Control::Dead(member)) => Ok(Event::Buried(member)),
        Ok(Control::SecondProcess(member, of)) if of == boot => Ok(Event::SecondProcess(member)),
        Ok(Control::NotRegistered(of, why)) if of == boot => Ok(Event::NotRegistered(why)),
        _ => Err(format!("{addr}: its answer is not understood")),
    }
}

/// The table, once it names this life.
async fn fetch(links: &Links, addr: &str, member: Member) -> Option<Event> {
    let end = Instant::now() + REGISTERED;
    while Instant::now() < end {
        let reply = links
            .ask(addr, TABLE, bytes::Bytes::new(), end)
            .await
            .ok()?;
        if let Ok(Control::Table(table)) = Control::decode(&reply.payload)
            && member.id != NodeId(0)
        {
            let over = View::new(table.clone()).is_over(member);
            if over {
                return Some(Event::Buried(member));
            }
            if table.is_living(member) {
                return Some(Event::Joined(Box::new(table)));
            }
        }
        sleep(TABLE_AGAIN).await;
    }
    None
}
