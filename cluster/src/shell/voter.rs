//! Raft on this node: started from what the home keeps, or when a leader takes the node for a member.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Duration, Instant};

use super::core::Core;
use super::event::Event;
use super::wire::{Calls, GENESIS};
use crate::peer::{Class, Outcome};
use crate::raft::{self, TableWatch};
use crate::{NodeId, Table};

/// How long a node may take to say what the log begins with.
const GENESIS_WAIT: Duration = Duration::from_secs(3);

/// Raft on this node.
#[derive(Debug)]
pub(super) struct Raft {
    pub(super) handle: raft::Raft,
    pub(super) status: watch::Receiver<raft::Status>,
    pub(super) table: TableWatch,
    /// What others need that join.
    pub(super) genesis: Arc<Table>,
    /// It has stopped: nothing changes any more.
    over: bool,
}

/// What has changed in Raft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Table,
    Status,
}

impl Raft {
    /// Runs Raft from this store, and founds the cluster if that is to be done.
    pub(super) async fn start(
        store: &raft::Store,
        timing: raft::Timing,
        calls: Calls,
        founds: Option<Vec<String>>,
    ) -> Result<Self, raft::Error> {
        let handle = raft::Raft::start(store, timing, calls).await?;
        if let Some(addrs) = founds {
            handle.found(addrs).await?;
        }
        Ok(Self {
            status: handle.status(),
            table: handle.table(),
            genesis: Arc::new(store.genesis()?),
            handle,
            over: false,
        })
    }

    /// Waits for a change; for ever where Raft does not run. Cancelling loses nothing.
    pub(super) async fn turn(raft: &mut Option<Self>) -> Turn {
        let Some(raft) = raft.as_mut().filter(|raft| !raft.over) else {
            return std::future::pending().await;
        };
        let (alive, turn) = tokio::select! {
            changed = raft.table.changed() => (changed, Turn::Table),
            changed = raft.status.changed() => (changed.is_ok(), Turn::Status),
        };
        raft.over = !alive;
        turn
    }

    /// Tells the loop when Raft has stopped here.
    pub(super) fn watch(&self, events: tokio::sync::mpsc::UnboundedSender<Event>) {
        let handle = self.handle.clone();
        tokio::spawn(async move {
            let why = handle.stopped().await;
            drop(events.send(Event::RaftStopped(why)));
        });
    }
}

impl Core {
    /// A leader takes this node for a member: it gets a log, once someone has said what it begins
    /// with.
    pub(super) fn learn(&mut self, from: NodeId) {
        let busy = self
            .learning
            .as_ref()
            .is_some_and(|task| !task.is_finished());
        if busy || self.raft.is_some() || self.me.id == NodeId(0) || !self.setup.roles.voter {
            return;
        }
        let (links, events) = (self.links.clone(), self.events.clone());
        let task = tokio::spawn(async move {
            let deadline = Instant::now() + GENESIS_WAIT;
            let asked = links.request(from, Class::Control, GENESIS, bytes::Bytes::new(), deadline);
            let reply = match asked {
                Ok(answer) => answer.wait().await.ok(),
                Err(_) => None,
            };
            let table = reply
                .filter(|reply| reply.outcome == Outcome::Answered)
                .and_then(|reply| Table::decode(&reply.payload).ok());
            drop(events.send(Event::Genesis(table.map(Box::new))));
        });
        self.learning = Some(task.abort_handle());
    }

    /// What a log begins with is known, or nobody said: then it is asked for again by the next call.
    pub(super) fn learned(&mut self, genesis: Option<Table>) {
        self.learning = None;
        let Some(genesis) = genesis.filter(|_| self.raft.is_none()) else {
            return;
        };
        let store = match self.home.keep_log(&genesis) {
            Ok(store) => store,
            Err(why) => {
                tracing::error!(%why, "this node cannot keep a log");
                return;
            }
        };
        let (timing, calls) = (self.setup.timing, Calls(self.links.clone()));
        let events = self.events.clone();
        let task = tokio::spawn(async move {
            match Raft::start(&store, timing, calls, None).await {
                Ok(raft) => drop(events.send(Event::RaftRuns(Box::new(raft)))),
                Err(why) => drop(events.send(Event::Fatal(why.to_string()))),
            }
        });
        self.learning = Some(task.abort_handle());
    }

    /// Raft runs here from now on.
    pub(super) fn raft_runs(&mut self, raft: Raft) {
        self.learning = None;
        self.counts.flushes(raft.handle.flushes());
        raft.watch(self.events.clone());
        self.raft_slot.store(Some(Arc::new(raft.handle.clone())));
        self.raft = Some(raft);
        self.own_table();
        self.raft_status();
    }

    /// How things stand with Raft has changed.
    pub(super) fn raft_status(&mut self) {
        let Some(raft) = &mut self.raft else { return };
        let status = raft.status.borrow_and_update().clone();
        self.own_table();
        self.reach_members(&status);
        self.voters_changed();
        self.lead_or_not(&status);
        self.show_status();
    }

    /// Members whom the table calls dead are called all the same: without them there may be no
    /// quorum that could say otherwise.
    fn reach_members(&self, status: &raft::Status) {
        let Some(view) = &self.view else { return };
        let members = &status.members;
        for id in members.voters().iter().chain(&members.learners) {
            if *id != self.me.id
                && let Some(node) = view.table().node(*id)
                && !node.state.is_living()
            {
                let addrs = self.greeted.get(id).unwrap_or(&node.addrs);
                self.links.set_peer(*id, addrs.clone());
            }
        }
    }
}
