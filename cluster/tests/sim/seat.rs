//! One node of the simulation: what outlives its process, and what a process of it does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use centripeta_cluster::handoff::Load;
use centripeta_cluster::lease::{DropReason, Reading};
use centripeta_cluster::peer::{Outcome, Remote, Request};
use centripeta_cluster::{
    BootId, Cluster, ClusterConfig, Door, FIRST_KIND, Ingress, Member, MemoryHome, Move, MoveId,
    Now, OwnerEpoch, Region, Report, Reports, SlotId, Standing,
};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};
use turmoil::net::TcpListener;

use crate::checker::{Checker, Step, What};
use crate::sockets::{Ends, Net, Sockets};
use crate::store::{Shared, Store};

/// Where every node listens.
pub(crate) const PORT: u16 = 7946;
/// How long a sender waits for an answer.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How long a node that drains is given.
const GRACE: Duration = Duration::from_secs(2);

/// A node's name, by which it is dialled.
pub(crate) fn name(index: usize) -> String {
    format!("node-{index}")
}

/// What all nodes of a run share.
#[derive(Debug)]
pub(crate) struct Commons {
    pub(crate) checker: Checker,
    pub(crate) store: Shared,
    /// In nanoseconds.
    pub(crate) clock: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) seeds: Vec<String>,
    /// No new events are sent any more.
    pub(crate) quiet: AtomicBool,
}

/// A node.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) home: MemoryHome,
    /// How fast its clock is, in thousandths.
    pub(crate) rate: u64,
    pub(crate) commons: Arc<Commons>,
    pub(crate) boots: AtomicU64,
    /// It is to drain, leave and end.
    pub(crate) leave: AtomicBool,
    /// It has.
    pub(crate) left: AtomicBool,
    pub(crate) cluster: Mutex<Option<Cluster>>,
    /// Those of its process.
    pub(crate) sockets: Mutex<Sockets>,
}

impl Seat {
    pub(crate) fn new(index: usize, home: MemoryHome, rate: u64, commons: &Arc<Commons>) -> Self {
        Self {
            index,
            name: name(index),
            home,
            rate,
            commons: Arc::clone(commons),
            boots: AtomicU64::new(0),
            leave: AtomicBool::new(false),
            left: AtomicBool::new(false),
            cluster: Mutex::new(None),
            sockets: Mutex::default(),
        }
    }

    fn note(&self, what: What) {
        self.commons.checker.note(self.index, what);
    }

    fn now(self: &Arc<Self>) -> Now {
        let seat = Arc::clone(self);
        Arc::new(move || {
            let time = seat.commons.clock.load(Ordering::Relaxed);
            Reading::of_one(Duration::from_nanos(time / 1000 * seat.rate))
        })
    }

    /// A process of it, to its end.
    pub(crate) async fn live(self: Arc<Self>) -> turmoil::Result {
        let boot = self.boots.fetch_add(1, Ordering::Relaxed);
        let boot = BootId(u128::from(boot) * 10 + self.index as u128 + 1);
        self.note(What::Began(boot.0));
        let sockets = Sockets::default();
        let _ends = Ends(sockets.clone());
        *self.sockets.lock().unwrap() = sockets.clone();
        let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
        let now = self.now();
        let addr = format!("{}:{PORT}", self.name);
        let door = Door::Over(Arc::new(Net::new(listener, sockets)));
        let home = Box::new(self.home.start(boot));
        let mut config = ClusterConfig::new(home, &self.name, door, vec![addr], Arc::clone(&now));
        config.seeds.clone_from(&self.commons.seeds);
        config.control = Some(Handle::current());
        let standing = Arc::new(Standing::new(now));
        let store = Arc::new(Store::new(&self.commons.store));
        let lanes = Arc::new(Lanes {
            seat: Arc::clone(&self),
            standing: Arc::clone(&standing),
            store: Arc::clone(&store),
            state: Mutex::default(),
        });
        let (region, ingress) = (Arc::clone(&lanes), Arc::new(Front(Arc::clone(&lanes))));
        let cluster = Cluster::start(config, Arc::clone(&standing), store, region, ingress).await?;
        cluster.ready(true);
        self.commons.checker.begins(self.index, &standing);
        *self.cluster.lock().unwrap() = Some(cluster.clone());
        while !self.leave.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(fastrand::u64(5..25))).await;
            if !self.commons.quiet.load(Ordering::Relaxed) {
                self.send(&cluster, &lanes);
            }
        }
        let empty = cluster.drain(GRACE).await;
        cluster.leave(Duration::from_millis(500)).await;
        cluster.stop().await;
        self.note(What::Left(empty));
        self.left.store(true, Ordering::Relaxed);
        std::future::pending().await
    }

    fn step(&self, me: Member, event: u64, step: Step) {
        self.commons.checker.step(self.index, me, event, step);
    }

    /// An event that this node has sent is over, once, for whoever waits for it.
    fn ended(&self, me: Member, event: u64, answered: bool) {
        self.step(me, event, Step::Ended(answered));
    }

    /// Sends an event to the owner of its slot, wherever that is.
    fn send(self: &Arc<Self>, cluster: &Cluster, lanes: &Arc<Lanes>) {
        let slots: Vec<u16> = (0..4).map(|_| fastrand::u16(0..4096)).collect();
        for slot in slots.into_iter().filter_map(SlotId::new) {
            let event = self.commons.events.fetch_add(1, Ordering::Relaxed);
            let (seat, me) = (Arc::clone(self), lanes.standing.me());
            let owner = lanes.standing.owner_of(slot).filter(|owner| *owner != me);
            self.step(me, event, Step::Sent(owner));
            let Some(owner) = owner else {
                let lanes = Arc::clone(lanes);
                tokio::spawn(async move {
                    let answered = lanes.run(slot, event, me).await;
                    seat.ended(me, event, answered);
                });
                continue;
            };
            let mut payload = event.to_be_bytes().to_vec();
            payload.extend(slot.index().to_be_bytes());
            let until = Instant::now() + PATIENCE;
            let sent = cluster.request(owner.id, FIRST_KIND, payload.into(), until);
            tokio::spawn(async move {
                let reply = match sent {
                    Ok(answer) => answer.wait().await,
                    Err(why) => Err(why),
                };
                let answered = reply.is_ok_and(|reply| reply.outcome == Outcome::Answered);
                seat.ended(me, event, answered);
            });
        }
    }
}

#[derive(Debug, Default)]
struct Lane {
    reports: Option<Reports>,
    running: BTreeMap<SlotId, usize>,
    closing: BTreeMap<SlotId, MoveId>,
}

/// Runs events: each takes effect once at the shared fence, counts in its slot, and is answered if
/// that was in time.
#[derive(Debug)]
struct Lanes {
    seat: Arc<Seat>,
    standing: Arc<Standing>,
    store: Arc<Store>,
    state: Mutex<Lane>,
}

impl Lanes {
    /// Runs an event. Says whether it may be answered as done.
    async fn run(&self, slot: SlotId, event: u64, from: Member) -> bool {
        let Some(epoch) = self.standing.acts_for(slot) else {
            return false;
        };
        let me = self.standing.me();
        self.seat
            .step(me, event, Step::Started { from, slot, epoch });
        *self.state.lock().unwrap().running.entry(slot).or_default() += 1;
        let way = match fastrand::u32(0..60) {
            0 => fastrand::u64(300..2500),
            _ => fastrand::u64(0..4),
        };
        // The write is asked for while the node may act, and is on its way for so long.
        sleep(Duration::from_millis(way)).await;
        let commons = &self.seat.commons;
        let wrote = commons.store.now(slot, epoch, || {
            commons
                .checker
                .wrote(self.seat.index, me, slot, epoch, event);
        });
        if wrote.is_err() {
            self.seat.note(What::Fenced(slot, epoch, event));
        }
        let may = self.standing.may_act(slot, epoch);
        // A lane that may not act is gone, or will not go on before it may again.
        if wrote.is_ok()
            && may
            && let Some(count) = self.store.count(slot, epoch)
        {
            let index = self.seat.index;
            let table = Arc::clone(&self.standing.shown().table);
            commons.checker.counted(index, &table, slot, epoch, count);
        }
        self.ended(slot);
        wrote.is_ok() && may
    }

    fn ended(&self, slot: SlotId) {
        let mut lane = self.state.lock().unwrap();
        let Some(running) = lane.running.get_mut(&slot) else {
            return;
        };
        *running -= 1;
        if *running > 0 {
            return;
        }
        lane.running.remove(&slot);
        if let (Some(id), Some(reports)) = (lane.closing.remove(&slot), &lane.reports) {
            let _ = reports.send(Report::Idle { slot, id });
        }
    }
}

impl Region for Lanes {
    fn reports(&self, to: Reports) {
        self.state.lock().unwrap().reports = Some(to);
    }

    fn open(&self, slot: SlotId, epoch: OwnerEpoch) {
        self.seat.note(What::Open(slot, epoch));
    }

    fn suspend(&self) {
        self.seat.note(What::Suspended);
    }

    fn resume(&self) {
        self.seat.note(What::Resumed);
    }

    fn lose(&self, slot: SlotId, epoch: OwnerEpoch, _: DropReason) {
        self.state.lock().unwrap().closing.remove(&slot);
        self.seat.note(What::Lost(slot, epoch));
    }

    fn close(&self, slot: SlotId, to: Move) {
        self.seat.note(What::Shut(slot));
        let mut lane = self.state.lock().unwrap();
        let started = lane.running.get(&slot).copied().unwrap_or(0);
        let id = to.id;
        if started > 0 {
            lane.closing.insert(slot, id);
        }
        if let Some(reports) = &lane.reports {
            let _ = reports.send(Report::Closed { slot, id, started });
        }
    }

    fn cut(&self, _: SlotId) {}

    fn reopen(&self, slot: SlotId, epoch: OwnerEpoch) {
        self.state.lock().unwrap().closing.remove(&slot);
        self.seat.note(What::Open(slot, epoch));
    }

    fn forget(&self, slot: SlotId) {
        self.state.lock().unwrap().closing.remove(&slot);
    }

    fn load(&self, slot: SlotId) -> Load {
        Load {
            empty: !self.state.lock().unwrap().running.contains_key(&slot),
            longest: Duration::ZERO,
        }
    }
}

/// Takes the events of other nodes.
#[derive(Debug)]
struct Front(Arc<Lanes>);

impl Ingress for Front {
    fn request(&self, _: &Remote, mut request: Request) {
        let (payload, from) = (request.payload().clone(), request.from().member);
        let lanes = Arc::clone(&self.0);
        let (Some(event), Some(slot)) = (payload.first_chunk(), payload.last_chunk()) else {
            return;
        };
        let event = u64::from_be_bytes(*event);
        let Some(slot) = SlotId::new(u16::from_be_bytes(*slot)) else {
            return;
        };
        tokio::spawn(async move {
            if !request.start() {
                return;
            }
            if lanes.run(slot, event, from).await {
                request.reply(Bytes::new());
            }
        });
    }

    fn load(&self) -> u32 {
        0
    }

    fn table_changed(&self, _: &[SlotId]) {}

    fn resumed(&self, _: Member, _: SlotId) {}

    fn died(&self, _: Member) {}

    fn quorum(&self, in_reach: bool) {
        self.0.seat.note(What::Quorum(in_reach));
    }
}
