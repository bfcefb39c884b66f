//! What operators see and ask, on this node: answered here where it leads, or needs no leader; else
//! sent on to the leader.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::core::Core;
use super::event::{Event, Order};
use super::wire::ADMIN;
use crate::admin::{
    Ask, DrainedView, Known, MoveAges, MoveStep, Named, OPERATION_SECONDS, PeerLink, PeerRow,
    Refused, Step, Told, find_node, name, state_word,
};
use crate::allocation::{self, Conditions};
use crate::peer::{Class, Links, Outcome as Answered, Request};
use crate::{Command, Ended, LeaderId, MoveId, NodeId, NodeState, Outcome, SlotId, Table, View};

/// How long the leader has for an operation.
const LEADER: Duration = Duration::from_secs(OPERATION_SECONDS);
/// How long a node has to say whom it reaches.
const ROW: Duration = Duration::from_secs(2);
/// How long the source of a move has to say how far it is.
const STEPS: Duration = Duration::from_millis(500);

/// What is kept for operators beside the table.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) events: crate::admin::Events,
    /// The version up to which the log has said why things changed.
    pub(super) reasons: u64,
    pub(super) ages: MoveAges,
    /// How far moves are, as their sources last said.
    pub(super) steps: BTreeMap<(SlotId, MoveId), MoveStep>,
    /// What had been ended here when this node's latest drain began.
    pub(super) drain_from: Option<Ended>,
}

/// Where the answer to an operation goes.
pub(super) type ToldTo = oneshot::Sender<Told>;

/// Now, since the Unix epoch.
pub(super) fn wall_clock() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// Whether a node may answer from what it knows itself, and from what others tell it.
const fn needs_no_leader(ask: &Ask) -> bool {
    matches!(
        ask,
        Ask::Status
            | Ask::Health
            | Ask::Nodes
            | Ask::Peers
            | Ask::Slots(_)
            | Ask::Locate(_)
            | Ask::Moves
            | Ask::Events(_)
            | Ask::Voters(None)
            | Ask::Links
            | Ask::Steps
            | Ask::Drained(_)
            | Ask::Ended
    )
}

/// How long a leader has for what it is asked. With what this node then needs to answer by itself it
/// stays below [`OPERATION_SECONDS`].
const fn patience(ask: &Ask) -> Duration {
    match ask {
        // It asks all others, and each may take as long as that for its row.
        Ask::Peers => ROW.saturating_mul(2),
        ask if needs_no_leader(ask) => ROW,
        _ => LEADER,
    }
}

/// Whether the node that is asked answers for itself.
const fn is_of_each(ask: &Ask) -> bool {
    matches!(ask, Ask::Links | Ask::Steps | Ask::Ended)
}

impl Core {
    /// An operator asks this node.
    pub(super) fn operate(&mut self, ask: Ask, told: ToldTo) {
        let leads = self.lead.as_ref().is_some_and(|lead| !lead.is_starting());
        if leads || is_of_each(&ask) {
            self.perform(ask, told);
            return;
        }
        let leader = self.leader_at_raft().filter(|leader| *leader != self.me.id);
        let payload: Bytes = ask.encode().into();
        let deadline = Instant::now() + patience(&ask);
        let answer = leader.filter(|_| self.quorum).and_then(|leader| {
            let links = &self.links;
            links
                .request(leader, Class::Control, ADMIN, payload, deadline)
                .ok()
        });
        let events = self.events.clone();
        tokio::spawn(async move {
            if let Some(answer) = answer
                && let Ok(reply) = answer.wait().await
                && reply.outcome == Answered::Answered
                && let Ok(said) = Told::decode(&reply.payload)
            {
                drop(told.send(said));
            } else {
                drop(events.send(Event::Order(Order::OperateAlone(ask, told))));
            }
        });
    }

    /// The leader could not be asked.
    pub(super) fn operate_alone(&mut self, ask: Ask, told: ToldTo) {
        if needs_no_leader(&ask) {
            self.perform(ask, told);
        } else {
            let why = "no leader is in reach".to_owned();
            drop(told.send(Told::Refused(Refused::Unavailable(why))));
        }
    }

    /// Another node has sent on what it was asked.
    pub(super) fn operation_asked(&mut self, mut request: Request) {
        let leads = self.lead.as_ref().is_some_and(|lead| !lead.is_starting());
        match Ask::decode(request.payload()) {
            Ok(ask) if leads || is_of_each(&ask) => {
                if request.start() {
                    let (told, wait) = oneshot::channel::<Told>();
                    tokio::spawn(async move {
                        if let Ok(told) = wait.await {
                            request.reply(told.encode().into());
                        }
                    });
                    self.perform(ask, told);
                }
            }
            Ok(_) => request.bounce("this node does not lead".into()),
            Err(why) => request.bounce(why.to_string().into()),
        }
    }

    /// Answers from what is known here, and proposes where this node leads.
    fn perform(&mut self, ask: Ask, told: ToldTo) {
        match self.answer(ask, told) {
            Ok(None) => {}
            Ok(Some((said, told))) => drop(told.send(said)),
            Err((refused, told)) => drop(told.send(Told::Refused(refused))),
        }
    }

    /// What the views and checks are made from.
    fn known<T>(&self, see: impl FnOnce(&Known<'_>) -> T) -> Option<T> {
        let view = self.view.as_ref()?;
        let now = self.reading();
        let (conditions, heard) = match &self.lead {
            Some(lead) => (Some(lead.conditions(now)), lead.heard(now)),
            None => (None, BTreeMap::new()),
        };
        let raft = match &self.raft {
            Some(raft) => raft.status.borrow().clone(),
            None => crate::raft::Status {
                leader: self.leader,
                ..crate::raft::Status::default()
            },
        };
        let mut steps = self.watched.steps.clone();
        let own = self.own_steps();
        steps.extend(own.into_iter().map(|it| ((it.slot, it.id), it.step)));
        Some(see(&Known {
            table: view.table(),
            raft: &raft,
            me: self.me.id,
            quorum: self.quorum,
            conditions: conditions.as_ref(),
            heard: &heard,
            ages: &self.watched.ages,
            steps: &steps,
            now: now.raw,
        }))
    }

    fn answer(
        &mut self,
        ask: Ask,
        told: ToldTo,
    ) -> Result<Option<(Told, ToldTo)>, (Refused, ToldTo)> {
        let Some(table) = self.view.as_ref().map(View::table) else {
            let why = "this node has not joined yet".to_owned();
            return Err((Refused::Unavailable(why), told));
        };
        let now = self.reading();
        let waits = self
            .lead
            .as_ref()
            .map(|lead| lead.waits().to_vec())
            .unwrap_or_default();
        /// Sends on a refusal, with where it goes.
        macro_rules! checked {
            ($known:expr) => {
                match self.known($known) {
                    Some(Ok(checked)) => checked,
                    Some(Err(refused)) => return Err((refused, told)),
                    None => return Ok(None),
                }
            };
        }
        macro_rules! seen {
            ($known:expr) => {
                match self.known($known) {
                    Some(seen) => seen,
                    None => return Ok(None),
                }
            };
        }
        let said = match ask {
            Ask::Status => Told::Status(seen!(|known| known.status())),
            Ask::Health => Told::Health(seen!(|known| known.health())),
            Ask::Nodes => Told::Nodes(seen!(|known| known.nodes())),
            Ask::Slots(node) => Told::Slots(checked!(|known| known.slots(node.as_deref()))),
            Ask::Locate(text) => Told::Locate(seen!(|known| known.locate(&text))),
            Ask::Moves => {
                let sources = self.sources();
                if !sources.is_empty() {
                    self.ask_sources(sources, told);
                    return Ok(None);
                }
                Told::Moves(seen!(|known| known.moves(&waits)))
            }
            Ask::Steps => Told::Steps(self.own_steps()),
            Ask::Ended => Told::Ended(self.ended()),
            Ask::Drained(text) => match find_node(table, &text) {
                Err(refused) => return Err((refused, told)),
                Ok(id) if id == self.me.id => Told::Drained(DrainedView {
                    node: name(table, id),
                    ended: self.ended(),
                }),
                Ok(id) => {
                    self.ask_ended(name(table, id), told);
                    return Ok(None);
                }
            },
            Ask::Voters(None) => Told::Voters(seen!(|known| known.voters())),
            Ask::Links => Told::Links(self.link_row()),
            Ask::Events(after) => {
                let me = name(table, self.me.id);
                let events = &self.watched.events;
                Told::Events(events.view(me, self.me.incarnation, after))
            }
            Ask::Peers => {
                self.ask_rows(told);
                return Ok(None);
            }
            Ask::Drain(node, force) => {
                let (command, view) = checked!(|known| known.drain(&node, force));
                self.decide(command, told, move |_| Told::Drain(view));
                return Ok(None);
            }
            Ask::Undrain(node) => {
                let undrain = checked!(|known| known.undrain(&node));
                if let (Ok(id), Some(lead)) = (find_node(table, &node), &mut self.lead) {
                    lead.undrained(id, now);
                }
                let Some(command) = undrain.command else {
                    return Ok(Some((Told::Node(undrain.node), told)));
                };
                self.decide(command, told, move |_| Told::Node(undrain.node));
                return Ok(None);
            }
            Ask::MoveSlot(slot, to) => {
                let command = checked!(|known| known.move_slot(slot, &to));
                let (answer, wait) = oneshot::channel();
                self.ask(command, answer);
                let events = self.events.clone();
                tokio::spawn(async move {
                    match committed(wait.await.ok()) {
                        Ok(_) => drop(events.send(Event::Order(Order::TellMove(slot, told)))),
                        Err(refused) => drop(told.send(Told::Refused(refused))),
                    }
                });
                return Ok(None);
            }
            Ask::Rebalance(only_plan, across) => {
                let conditions = match &self.lead {
                    Some(lead) => lead.conditions(now),
                    None => Conditions::default(),
                };
                let conditions = Conditions {
                    across_builds: across || conditions.across_builds,
                    ..conditions
                };
                let plan = allocation::plan(table, &conditions);
                let view = seen!(|known| known.rebalance(&plan, !only_plan));
                if let Some(lead) = self.lead.as_mut().filter(|_| !only_plan) {
                    lead.rebalance(across, now);
                }
                Told::Rebalance(view)
            }
            Ask::PauseMoves | Ask::ResumeMoves => {
                let pause = ask == Ask::PauseMoves;
                let command = seen!(|known| known.pause_moves(pause));
                // Without a command it was so already.
                let before = if command.is_none() { pause } else { !pause };
                let Some(command) = command else {
                    return Ok(Some((Told::Paused(before), told)));
                };
                self.decide(command, told, move |_| Told::Paused(before));
                return Ok(None);
            }
            Ask::Voters(Some(wanted)) => {
                let command = checked!(|known| known.want_voters(wanted));
                let view = seen!(|known| known.voters_wanted(wanted));
                let Some(command) = command else {
                    return Ok(Some((Told::Voters(view), told)));
                };
                self.decide(command, told, move |_| Told::Voters(view));
                return Ok(None);
            }
            Ask::Remove(node) => {
                let id = checked!(|known| known.remove(&node));
                let named = name(table, id);
                let Some(raft) = self.raft.as_ref().map(|raft| raft.handle.clone()) else {
                    return Ok(None);
                };
                tokio::spawn(async move {
                    let said = match raft.remove(id).await {
                        Ok(_) => Told::Node(named),
                        Err(why) => Told::Refused((&why).into()),
                    };
                    drop(told.send(said));
                });
                return Ok(None);
            }
        };
        Ok(Some((said, told)))
    }

    /// Proposes for an operator; the answer is told once it is committed.
    fn decide(
        &mut self,
        command: Command,
        told: ToldTo,
        say: impl FnOnce(Outcome) -> Told + Send + 'static,
    ) {
        let (answer, wait) = oneshot::channel();
        self.ask(command, answer);
        tokio::spawn(async move {
            let said = committed(wait.await.ok()).map_or_else(Told::Refused, say);
            drop(told.send(said));
        });
    }

    /// A move that an operator asked for has begun.
    pub(super) fn tell_move(&mut self, slot: u16, told: ToldTo) {
        self.own_table();
        let view = SlotId::new(slot).and_then(|slot| self.known(|known| known.move_view(slot))?);
        let none = || {
            let why = "the move is over already, or has not begun: see `cluster where`".to_owned();
            Told::Refused(Refused::Unavailable(why))
        };
        drop(told.send(view.map_or_else(none, Told::Move)));
    }

    /// How far the moves away from here are.
    fn own_steps(&self) -> Vec<Step> {
        let steps = self.life.iter().flat_map(|life| life.source.steps());
        steps
            .map(|(slot, id, step)| Step { slot, id, step })
            .collect()
    }

    /// What this node's drain has ended so far.
    fn ended(&self) -> Ended {
        let before = self.watched.drain_from;
        before.map_or_else(Ended::default, |before| self.region.ended().since(before))
    }

    /// The table says whether this node drains: what it ends from then on is of its drain.
    pub(super) fn note_drain(&mut self, before: &Table, after: &Table) {
        let drains = |table: &Table| {
            let node = table.node(self.me.id);
            node.is_some_and(|node| node.state == NodeState::Draining)
        };
        if drains(after) && !drains(before) {
            self.watched.drain_from = Some(self.region.ended());
        }
    }

    /// Asks a node what its drain has ended.
    fn ask_ended(&self, node: Named, told: ToldTo) {
        let deadline = Instant::now() + ROW;
        let payload: Bytes = Ask::Ended.encode().into();
        let answer = (self.links).request(node.id, Class::Control, ADMIN, payload, deadline);
        tokio::spawn(async move {
            let reply = match answer {
                Ok(answer) => answer.wait().await,
                Err(why) => Err(why),
            };
            let said = match reply {
                Ok(reply) => Told::decode(&reply.payload).map_err(|why| why.to_string()),
                Err(why) => Err(why.to_string()),
            };
            let said = match said {
                Ok(Told::Ended(ended)) => Told::Drained(DrainedView { node, ended }),
                Ok(_) => Told::Refused(Refused::Unavailable(format!("{node} does not say"))),
                Err(why) => Told::Refused(Refused::Unavailable(format!("{node}: {why}"))),
            };
            drop(told.send(said));
        });
    }

    /// Other nodes from which slots move.
    fn sources(&self) -> BTreeSet<NodeId> {
        let slots = self.view.iter().flat_map(|view| view.table().slots());
        slots
            .filter(|(_, rec)| rec.moving.is_some())
            .filter_map(|(_, rec)| Some(rec.owner?.id))
            .filter(|id| *id != self.me.id)
            .collect()
    }

    /// Asks the sources of moves how far they are; then the moves are told.
    fn ask_sources(&self, sources: BTreeSet<NodeId>, told: ToldTo) {
        let deadline = Instant::now() + STEPS;
        let payload: Bytes = Ask::Steps.encode().into();
        let mut asks = JoinSet::new();
        for id in sources {
            let links = &self.links;
            if let Ok(answer) = links.request(id, Class::Control, ADMIN, payload.clone(), deadline)
            {
                asks.spawn(answer.wait());
            }
        }
        let events = self.events.clone();
        tokio::spawn(async move {
            let mut steps = Vec::new();
            // A source that does not say how far it is has its moves shown all the same.
            for reply in asks.join_all().await.into_iter().flatten() {
                if let Ok(Told::Steps(said)) = Told::decode(&reply.payload) {
                    steps.extend(said);
                }
            }
            drop(events.send(Event::Order(Order::TellMoves(steps, told))));
        });
    }

    /// The sources of moves have said how far they are.
    pub(super) fn tell_moves(&mut self, steps: Vec<Step>, told: ToldTo) {
        let steps = steps.into_iter().map(|it| ((it.slot, it.id), it.step));
        self.watched.steps = steps.collect();
        let waits = self.lead.as_ref().map(|lead| lead.waits().to_vec());
        let waits = waits.unwrap_or_default();
        let moves = self.known(|known| known.moves(&waits));
        let none = || {
            Told::Refused(Refused::Unavailable(
                "this node has not joined yet".to_owned(),
            ))
        };
        drop(told.send(moves.map_or_else(none, Told::Moves)));
    }

    /// Whom this node reaches, the dead included: one that is cut off counts as dead before long.
    fn link_row(&self) -> Vec<PeerLink> {
        let Some(view) = &self.view else {
            return Vec::new();
        };
        let table = view.table();
        self.all_others()
            .map(|(id, _)| PeerLink {
                to: name(table, id),
                control: self.links.state(id, Class::Control),
                data: self.links.state(id, Class::Data),
            })
            .collect()
    }

    /// Asks every node whom it reaches.
    fn ask_rows(&self, told: ToldTo) {
        let Some(table) = self.view.as_ref().map(|view| view.table().clone()) else {
            return;
        };
        let own = PeerRow {
            from: name(&table, self.me.id),
            links: self.link_row(),
            unknown: None,
        };
        let mut asks = JoinSet::new();
        let mut rows = vec![own];
        for (id, state) in self.all_others() {
            if state.is_living() {
                asks.spawn(row(self.links.clone(), id, table.clone()));
            } else {
                // It is not to be dialled, but its place in the matrix is where a cut shows.
                rows.push(PeerRow {
                    from: name(&table, id),
                    links: Vec::new(),
                    unknown: Some(state_word(state).to_owned()),
                });
            }
        }
        tokio::spawn(async move {
            rows.extend(asks.join_all().await);
            rows.sort_by_key(|row| row.from.id);
            drop(told.send(Told::Peers(rows)));
        });
    }

    /// The list of events hears who leads.
    pub(super) fn note_leader(&mut self, leader: LeaderId) {
        if let Some(view) = &self.view {
            let named = name(view.table(), leader.node);
            let version = view.table().version();
            self.watched
                .events
                .leader(Some(&named), version, wall_clock());
        }
    }
}

/// One node's row.
async fn row(links: Links, id: NodeId, table: Table) -> PeerRow {
    let deadline = Instant::now() + ROW;
    let payload: Bytes = Ask::Links.encode().into();
    let reply = match links.request(id, Class::Control, ADMIN, payload, deadline) {
        Ok(answer) => answer.wait().await,
        Err(why) => Err(why),
    };
    let said = match reply {
        Ok(reply) => Told::decode(&reply.payload).map_err(|why| why.to_string()),
        Err(why) => Err(why.to_string()),
    };
    let (links, unknown) = match said {
        Ok(Told::Links(links)) => (links, None),
        Ok(_) => (Vec::new(), Some("it answers another question".to_owned())),
        Err(why) => (Vec::new(), Some(why)),
    };
    PeerRow {
        from: name(&table, id),
        links,
        unknown,
    }
}

/// What came of a proposal, for an operator.
fn committed(answer: Option<Result<Outcome, String>>) -> Result<Outcome, Refused> {
    match answer {
        Some(Ok(Outcome::Refused(why))) => Err((&why).into()),
        Some(Ok(Outcome::Done { changed: 0 })) => Err(Refused::Unavailable(
            "the table has changed meanwhile: ask again".to_owned(),
        )),
        Some(Ok(outcome)) => Ok(outcome),
        Some(Err(why)) => Err(Refused::Unavailable(why)),
        None => Err(Refused::Unavailable("this node leads no more".to_owned())),
    }
}
