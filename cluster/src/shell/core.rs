//! The loop: everything that one node knows and drives, in one task.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::MissedTickBehavior;

use super::counts::{Counts, Unserved};
use super::event::{Event, Order};
use super::feed::{Feed, Follow};
use super::home::Home;
use super::leave::Leaving;
use super::life::Life;
use super::names::Names;
use super::operate::Watched;
use super::parked::Shards;
use super::quiet::Quiet;
use super::spoke::Spoke;
use super::status::Status;
use super::values::Arrivals;
use super::voter::{Raft, Turn};
use super::wire::{CONTROL, RaftSlot};
use crate::handoff::{HandoffConfig, Prepared};
use crate::lead::{Lead, ProposalId};
use crate::lease::{Progress, Reading};
use crate::peer::{Class, Control, Links, Request};
use crate::raft::Timing;
use crate::store::StateStore;
use crate::{
    BootId, Gate, Ingress, LeaderId, Member, MoveId, NodeId, NodeState, Now, Outcome, Region,
    Report, Roles, Serves, ShardLayout, SlotId, Standing, View,
};

/// How often the machines are told the time.
pub(super) const TICK: Duration = Duration::from_millis(25);
/// The same while a slot is closed for a move: whoever waits for it waits for each step.
const STEP: Duration = Duration::from_millis(5);
/// So many events are handled before the loop looks at time and Raft again.
const BATCH: usize = 128;

/// What stays as it was at the start.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) name: String,
    pub(super) advertise: Vec<String>,
    pub(super) seeds: Vec<String>,
    /// Looks up seeds; `None` where they are dialled as they stand.
    pub(super) names: Option<Arc<dyn Names>>,
    pub(super) roles: Roles,
    pub(super) heartbeat: Duration,
    pub(super) timing: Timing,
    pub(super) handoff: HandoffConfig,
    pub(super) open_limit: usize,
    pub(super) lift_after: Duration,
    pub(super) payload_limit: usize,
    pub(super) build: String,
    pub(super) layout: Option<ShardLayout>,
}

/// One node of a cluster, as long as its process.
pub(super) struct Core {
    pub(super) setup: Setup,
    pub(super) serves: Serves,
    pub(super) routes_hash: u64,
    pub(super) home: Box<dyn Home>,
    pub(super) me: Member,
    pub(super) boot: BootId,
    pub(super) links: Links,
    pub(super) standing: Arc<Standing>,
    pub(super) store: Arc<dyn StateStore>,
    pub(super) region: Arc<dyn Region>,
    pub(super) ingress: Arc<dyn Ingress>,
    pub(super) now: Now,
    pub(super) events: UnboundedSender<Event>,
    pub(super) status: watch::Sender<Status>,
    pub(super) counts: Arc<Counts>,
    pub(super) unserved: Unserved,
    pub(super) quiet: Quiet,
    /// The latest version of the table that anyone has spoken of.
    pub(super) newest: u64,

    /// `None` before the node has seen a table.
    pub(super) view: Option<View>,
    pub(super) life: Option<Life>,
    pub(super) raft: Option<Raft>,
    pub(super) raft_slot: RaftSlot,
    /// A task that fetches what a log begins with.
    pub(super) learning: Option<AbortHandle>,

    pub(super) lead: Option<Lead>,
    pub(super) tending: bool,
    /// The voters when the leader's part last heard of them.
    pub(super) members_seen: Vec<BTreeSet<NodeId>>,
    /// Who waits for a proposal of an operator.
    pub(super) asked: BTreeMap<ProposalId, oneshot::Sender<Result<Outcome, String>>>,
    /// Who waits to be registered, by process.
    pub(super) registering: BTreeMap<BootId, Vec<Request>>,
    /// The node that a process last spoke as.
    pub(super) spoke: Spoke,

    /// The leadership that last made itself known.
    pub(super) leader: Option<LeaderId>,
    /// When the leader last acknowledged a heartbeat.
    pub(super) acked: Option<Reading>,
    /// When the table was last known to be the newest.
    pub(super) current: Option<Reading>,
    pub(super) quorum: bool,

    /// Where nodes said last that they are reached.
    pub(super) greeted: BTreeMap<NodeId, Vec<String>>,
    pub(super) feed: Feed,
    pub(super) follow: Follow,
    pub(super) joining: Option<AbortHandle>,
    pub(super) join_again: Duration,
    pub(super) refused: Option<String>,
    /// How often in a row no seed has answered, and which reasons were told.
    pub(super) unheard: (u32, BTreeSet<String>),

    /// When workers have ticked, in whichever life.
    pub(super) progress: Progress,
    pub(super) shards: Shards,
    pub(super) watched: Watched,
    /// When the node was last in touch with its cluster, or asked whether that was recovered.
    pub(super) in_touch: Duration,
    pub(super) ready: bool,
    /// When something was last asked of the leader about this node.
    pub(super) asked_leader: Duration,
    pub(super) leaving: Leaving,

    /// What targets of moves have said that they are ready for, before this node reaches them.
    pub(super) prepared: BTreeMap<SlotId, (Member, Prepared)>,
    /// Values that are coming, and those that are there.
    pub(super) arriving: Arrivals,
    pub(super) arrived: BTreeMap<SlotId, (MoveId, Vec<bytes::Bytes>)>,
    pub(super) sending: BTreeMap<SlotId, (MoveId, JoinHandle<()>)>,
    pub(super) attempts: u64,
    /// Slots of which others are still to be told that they are served again.
    pub(super) resumed: VecDeque<SlotId>,
    /// Peers that leave and wait for our word, with what they asked.
    pub(super) parting: Vec<(NodeId, Request)>,
}

impl Core {
    /// Runs until the handle stops it or is gone.
    pub(super) async fn run(
        mut self,
        mut events: UnboundedReceiver<Event>,
        mut reports: UnboundedReceiver<Report>,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut step = tokio::time::interval(STEP);
        step.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopped = None;
        // After a timer whatever waits has its turn: on a machine with little time the next one is
        // due already, and would be for ever.
        let mut timed = false;
        while stopped.is_none() {
            let after_timer = std::mem::take(&mut timed);
            tokio::select! {
                biased;
                _ = tick.tick(), if !after_timer => {
                    self.tick();
                    timed = true;
                }
                _ = step.tick(), if !after_timer && self.is_moving() => {
                    self.step();
                    timed = true;
                }
                turn = Raft::turn(&mut self.raft) => match turn {
                    Turn::Table => self.own_table(),
                    Turn::Status => self.raft_status(),
                },
                event = events.recv() => {
                    let mut next = event;
                    let mut room = BATCH;
                    while let Some(event) = next {
                        if let Event::Order(Order::Stop(done)) = event {
                            stopped = Some(done);
                            break;
                        }
                        self.happened(event);
                        room -= 1;
                        // What is taken out is handled: nothing is left in hand.
                        next = if room > 0 { events.try_recv().ok() } else { None };
                    }
                    for _ in 0..BATCH {
                        let Ok(report) = reports.try_recv() else { break };
                        self.reported(report);
                    }
                }
                Some(report) = reports.recv() => self.reported(report),
                () = std::future::ready(()), if after_timer => {}
            }
        }
        self.stop().await;
        if let Some(done) = stopped {
            let _ = done.send(());
        }
    }

    /// Ends what runs beside the loop.
    async fn stop(&mut self) {
        self.standing.end_lease();
        for task in [self.joining.take(), self.learning.take()]
            .into_iter()
            .flatten()
        {
            task.abort();
        }
        self.raft_slot.store(None);
        if let Some(raft) = self.raft.take() {
            drop(raft.handle.shutdown().await);
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Control(from, control) => self.deliver(from, control),
            Event::Request(request) => self.requested(request),
            Event::WantedAsMember(from) => self.learn(from),
            Event::Part(from, part, request) => self.part(from, &part, request),
            Event::Staged(staged) => self.staged(*staged),
            Event::Link(event) => self.link(event),
            Event::Fenced(me, slot, epoch, answer) => {
                if let Some(life) = self.life.as_mut().filter(|life| life.me == me) {
                    let effects = life.tenure.fenced(slot, epoch, answer);
                    self.tenured(effects);
                }
            }
            Event::Ready(me, slot, epoch) => self.open(me, slot, epoch),
            Event::Sent(slot, id, refused) => self.sent(slot, id, refused),
            Event::Round(leader, id, led) => {
                // Whatever was committed before it began counts.
                self.own_table();
                let now = self.reading();
                if let (Some(lead), Some(view)) = (&mut self.lead, &self.view)
                    && lead.leader() == leader
                {
                    let effects = lead.round_done(view.table(), id, led, now);
                    self.led(effects);
                }
            }
            Event::Proposed(leader, id, answer) => self.proposed(leader, id, answer),
            Event::Tended => self.tending = false,
            Event::RunsAgain(leader, word) => {
                if self.leader == Some(leader) {
                    self.shards.heard(word);
                }
            }
            Event::Joined(table) => {
                self.joining = None;
                self.take_table(*table);
            }
            Event::SecondProcess(member) => {
                self.joining = None;
                self.second_process(member);
            }
            Event::NotRegistered(why) => {
                self.joining = None;
                self.not_registered(why);
            }
            Event::Genesis(table) => self.learned(table.map(|table| *table)),
            Event::RaftStopped(why) => {
                // It was not asked to: when it is, the loop is over.
                self.fatal(&why.to_string());
            }
            Event::RaftRuns(raft) => self.raft_runs(*raft),
            Event::Fatal(why) => self.fatal(&why),
            Event::Buried(member) => self.buried(member),
            Event::Recovered(recovery) => self.recovered(recovery),
            Event::NotJoined(why) => self.not_joined(why),
            Event::Parted => self.parted(),
            Event::Outlived => self.outlived(),
            Event::Left => self.left(),
            Event::Order(order) => self.order(order),
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Ready(ready) => {
                self.ready = ready;
                self.asked_leader = Duration::ZERO;
            }
            Order::Change(change) => self.change(change),
            Order::Propose(command, answer) => self.ask(command, answer),
            Order::Operate(ask, told) => self.operate(ask, told),
            Order::OperateAlone(ask, told) => self.operate_alone(ask, told),
            Order::TellMove(slot, told) => self.tell_move(slot, told),
            Order::TellMoves(steps, told) => self.tell_moves(steps, told),
            Order::Drain(grace, done) => self.drain(grace, done),
            Order::Leave(within, done) => self.leave(within, done),
            Order::Stop(_) => {}
        }
    }

    fn reported(&mut self, report: Report) {
        let (now, reading) = (self.clock(), self.reading());
        match report {
            Report::Worked { core } => self.progress.worked(core, reading),
            Report::Parked { slot, parked } => self.shard_parked(slot, parked),
            Report::Closed { .. } | Report::Idle { .. } => {}
        }
        let Some(life) = &mut self.life else { return };
        let effects = match report {
            Report::Closed { slot, id, started } => {
                if life.source.shut_for(slot).is_none_or(|to| to.id != id) {
                    return;
                }
                let values = !self.store.is_empty(slot);
                life.source.closed(slot, started, values, now)
            }
            Report::Idle { slot, id } => {
                if life.source.shut_for(slot).is_none_or(|to| to.id != id) {
                    return;
                }
                life.source.idle(slot, !self.store.is_empty(slot), now)
            }
            Report::Worked { core } => {
                life.holder.worked(core, reading);
                return;
            }
            Report::Parked { .. } => return,
        };
        self.sourced(effects);
    }

    /// The moves of this node go on.
    fn step(&mut self) {
        let clock = self.clock();
        if let Some(life) = &mut self.life {
            let (region, store, standing) = (&self.region, &self.store, &self.standing);
            let source = life.source.tick(clock, |slot| {
                if matches!(standing.gate(slot), Gate::Opening(_)) {
                    return None;
                }
                let mut load = region.load(slot);
                load.empty &= store.is_empty(slot);
                Some(load)
            });
            let target = life.target.tick(clock, |_, _| true);
            self.sourced(source);
            self.targeted(target);
        }
    }

    /// Whether a slot is closed here, which others wait for.
    fn is_moving(&self) -> bool {
        self.life
            .as_ref()
            .is_some_and(|life| life.source.closed_count() > 0)
    }

    /// Time has passed.
    fn tick(&mut self) {
        let now = self.reading();
        if let Some(life) = &mut self.life {
            let version = self.view.as_ref().map_or(0, |view| view.table().version());
            life.holder.report(version, life.source.closed_count());
            let held = life.holder.tick(now);
            self.held(held);
        }
        self.take_prepared();
        self.step();
        if let (Some(lead), Some(view)) = (&mut self.lead, &self.view) {
            let effects = lead.tick(view.table(), now);
            self.led(effects);
        }
        self.ask_whether_recovered();
        self.join();
        self.be_up();
        self.keep_following();
        self.tell_resumed();
        self.tell_parked();
        self.go_on_leaving();
        self.hurry();
        self.hand_over();
        self.part_from_peers();
        self.show_status();
    }

    /// What both clocks say.
    pub(super) fn reading(&self) -> Reading {
        (self.now)()
    }

    /// The one clock for time-outs.
    pub(super) fn clock(&self) -> Duration {
        self.reading().raw
    }

    /// Sends a control message; to this node itself as well.
    pub(super) fn send(&self, to: NodeId, control: Control) {
        if to == self.me.id {
            drop(self.events.send(Event::Control(to, control)));
            return;
        }
        self.send_bytes(to, control.encode().into());
    }

    /// The same, encoded already.
    pub(super) fn send_bytes(&self, to: NodeId, control: bytes::Bytes) {
        if let Err(why) = self.links.cast(to, Class::Control, CONTROL, control) {
            tracing::debug!(node = %to, %why, "a control message is not sent");
        }
    }

    /// Sends a control message to the leader, if one is known, and through others where the way to it
    /// is bad.
    pub(super) fn tell_leader(&self, control: Control) {
        let Some(leader) = self.leader else { return };
        if let Some(life) = &self.life
            && matches!(control, Control::Released(..))
        {
            for via in life.holder.detour(self.reading()) {
                self.send(via, control.clone());
            }
        }
        self.send(leader.node, control);
    }

    /// Everyone who lives but this node.
    pub(super) fn others(&self) -> BTreeSet<NodeId> {
        let living = self.all_others().filter(|(_, state)| state.is_living());
        living.map(|(id, _)| id).collect()
    }

    /// Everyone who was not removed but this node, and where they stand.
    pub(super) fn all_others(&self) -> impl Iterator<Item = (NodeId, NodeState)> {
        let nodes = self.view.iter().flat_map(|view| view.table().nodes());
        nodes
            .filter(|(id, node)| **id != self.me.id && node.state != NodeState::Removed)
            .map(|(id, node)| (*id, node.state))
    }
}
