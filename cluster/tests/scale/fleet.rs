//! So many nodes, each with its whole shell, and nothing to do.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use centripeta_cluster::handoff::Load;
use centripeta_cluster::lease::{DropReason, Reading};
use centripeta_cluster::peer::{Remote, Request};
use centripeta_cluster::raft::genesis;
use centripeta_cluster::store::MemoryStore;
use centripeta_cluster::{
    BootId, Cluster, ClusterConfig, ClusterId, ClusterInfo, DataId, Door, Ingress, Member,
    MemoryHome, Move, NodeState, Now, OwnerEpoch, Region, Report, Reports, Roles, Settings, SlotId,
    Standing,
};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::channels::registration;
use super::net::Net;

/// Lanes that have nothing in them.
#[derive(Debug, Default)]
struct Lanes(Mutex<Option<Reports>>);

impl Region for Lanes {
    fn reports(&self, to: Reports) {
        *self.0.lock().unwrap() = Some(to);
    }

    fn open(&self, _: SlotId, _: OwnerEpoch) {}

    fn suspend(&self) {}

    fn resume(&self) {}

    fn lose(&self, _: SlotId, _: OwnerEpoch, _: DropReason) {}

    fn close(&self, slot: SlotId, to: Move) {
        let closed = Report::Closed {
            slot,
            id: to.id,
            started: 0,
        };
        if let Some(reports) = &*self.0.lock().unwrap() {
            reports.send(closed).unwrap();
        }
    }

    fn cut(&self, _: SlotId) {}

    fn reopen(&self, _: SlotId, _: OwnerEpoch) {}

    fn forget(&self, _: SlotId) {}

    fn load(&self, _: SlotId) -> Load {
        Load {
            empty: true,
            longest: Duration::ZERO,
        }
    }
}

/// An ingress that nothing comes to.
#[derive(Debug)]
struct Front;

impl Ingress for Front {
    fn request(&self, _: &Remote, request: Request) {
        drop(request);
    }

    fn load(&self) -> u32 {
        0
    }

    fn table_changed(&self, _: &[SlotId]) {}

    fn resumed(&self, _: Member, _: SlotId) {}

    fn died(&self, _: Member) {}

    fn quorum(&self, _: bool) {}
}

/// A node.
pub(crate) struct Node {
    pub(crate) cluster: Cluster,
    pub(crate) standing: Arc<Standing>,
    pub(crate) number: u32,
}

/// How many vote; they own nothing, as the design has it for large clusters.
pub(crate) const VOTERS: u32 = 3;

/// Which time nodes live in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Time {
    /// Work takes none of it.
    Simulated,
    /// That of the machine. Voters have a thread each, all others share as many as there are cores, which
    /// is little for hundreds of nodes: where they are late, nobody is to be held for dead. So leases are
    /// longer than by default; what a leader is asked by each node, and how often, is the same. Slots
    /// belong to [`OWNERS`]: who has had slots of each other keeps a link, and hundreds of thousands of
    /// links would be more than two cores carry.
    Real,
}

/// How long leases last in real time, and how long voters wait for a leader.
const REAL_LEASE: Duration = Duration::from_secs(20);
const REAL_ELECTION: Duration = Duration::from_secs(2);

/// How many nodes own slots in real time.
const OWNERS: u32 = 64;

/// How many nodes join at a time.
const JOINING: usize = 25;

async fn start(number: u32, net: &Arc<Net>, others: &Handle, now: &Now, time: Time) -> Node {
    let addr = |number: u32| format!("n{number}");
    let known = registration(number);
    let home = match number {
        1 => {
            let mut founder = registration(1);
            founder.addrs = vec![addr(1)];
            let mut info = ClusterInfo::new(ClusterId(0xc1));
            if time == Time::Real {
                info.lease_length = REAL_LEASE;
            }
            let table = genesis(info, Settings::default(), &founder);
            MemoryHome::founder(DataId(1), &table)
        }
        _ => MemoryHome::new(DataId(number.into())),
    };
    let home = Box::new(home.start(BootId(number.into())));
    let door = Door::Over(net.open(&addr(number)));
    let advertise = vec![addr(number)];
    let mut config = ClusterConfig::new(home, &known.name, door, advertise, Arc::clone(now));
    config.seeds = (1..=VOTERS).map(addr).collect();
    config.roles = Roles {
        voter: number <= VOTERS,
        ingress: true,
        region: number > VOTERS && (time == Time::Simulated || number <= VOTERS + OWNERS),
    };
    if time == Time::Real {
        config.timing.election = REAL_ELECTION;
    }
    let own_thread = time == Time::Real && number <= VOTERS;
    config.control = (!own_thread).then(|| others.clone());
    let standing = Arc::new(Standing::new(Arc::clone(now)));
    let cluster = Cluster::start(
        config,
        Arc::clone(&standing),
        Arc::new(MemoryStore::default()),
        Arc::new(Lanes::default()),
        Arc::new(Front),
    );
    let cluster = cluster.await.unwrap();
    cluster.ready(true);
    Node {
        cluster,
        standing,
        number,
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(240), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

/// Nodes of one cluster.
pub(crate) struct Fleet {
    pub(crate) nodes: Vec<Node>,
    /// Where those run that have no thread of their own, in real time.
    threads: Option<tokio::runtime::Runtime>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

impl Fleet {
    /// So many nodes, of which three vote; all up, every slot owned, nothing moves.
    pub(crate) async fn of(count: u32, now: &Now, time: Time) -> Self {
        let threads = (time == Time::Real).then(|| {
            let mut threads = tokio::runtime::Builder::new_multi_thread();
            threads.thread_name("others").enable_all().build().unwrap()
        });
        let others = match &threads {
            Some(threads) => threads.handle().clone(),
            None => Handle::current(),
        };
        let net = match time {
            Time::Simulated => Net::new(Some(others.clone())),
            Time::Real => Net::new(None),
        };
        let founder = start(1, &net, &others, now, time).await;
        let mut fleet = Self {
            nodes: vec![founder],
            threads,
        };
        until("the founder leads", || fleet.up() == 1).await;
        for number in 2..=count {
            fleet
                .nodes
                .push(start(number, &net, &others, now, time).await);
            if fleet.nodes.len().is_multiple_of(JOINING) {
                let joined = fleet.nodes.len();
                let took = until("those that join are up", || fleet.up() == joined).await;
                println!("{joined} nodes are up, the last {JOINING} after {took:.1?}");
            }
        }
        fleet.settled().await;
        fleet
    }

    /// How many nodes are up, as the leader has it.
    fn up(&self) -> usize {
        let Some(leader) = self.leader() else {
            return 0;
        };
        let table = Arc::clone(&leader.standing.shown().table);
        let up = table.nodes().values();
        up.filter(|node| node.state == NodeState::Up).count()
    }

    /// Waits until all know of all, every slot is owned and nothing moves.
    pub(crate) async fn settled(&self) -> Duration {
        let mut told = Instant::now();
        until("all are up and all slots are spread", || {
            if told.elapsed() > Duration::from_secs(10) {
                told = Instant::now();
                println!("{}", self.describe());
            }
            let leader = self.leader();
            let Some(leader) = leader else { return false };
            let table = Arc::clone(&leader.standing.shown().table);
            let raft = leader.cluster.status().raft;
            let voters = raft.map_or(0, |raft| raft.members.voters().len());
            self.up() == self.nodes.len()
                && voters == VOTERS as usize
                && table
                    .slots()
                    .all(|(slot, rec)| rec.moving.is_none() && !table.is_orphan(slot))
                && self
                    .nodes
                    .iter()
                    .all(|node| node.standing.shown().table.version() == table.version())
                && self
                    .share(&table)
                    .is_some_and(|(least, most)| most - least <= 1)
        })
        .await
    }

    /// How far it is, in a line.
    fn describe(&self) -> String {
        let Some(leader) = self.leader() else {
            return "nobody leads".to_owned();
        };
        let table = Arc::clone(&leader.standing.shown().table);
        let mut states = std::collections::BTreeMap::new();
        for node in table.nodes().values() {
            *states.entry(format!("{:?}", node.state)).or_insert(0) += 1;
        }
        let moving = table
            .slots()
            .filter(|(_, rec)| rec.moving.is_some())
            .count();
        let orphans = table
            .slots()
            .filter(|(slot, _)| table.is_orphan(*slot))
            .count();
        let version = table.version();
        let behind = self
            .nodes
            .iter()
            .filter(|node| node.standing.shown().table.version() != version)
            .count();
        format!(
            "{states:?}, {moving} move, {orphans} orphans, version {version}, {behind} behind, share {:?}",
            self.share(&table)
        )
    }

    fn share(&self, table: &centripeta_cluster::Table) -> Option<(usize, usize)> {
        let mut owned = std::collections::BTreeMap::new();
        for (_, rec) in table.slots() {
            *owned.entry(rec.owner?).or_insert(0_usize) += 1;
        }
        Some((*owned.values().min()?, *owned.values().max()?))
    }

    /// The node that leads.
    pub(crate) fn leader(&self) -> Option<&Node> {
        let leads = |node: &&Node| {
            let status = node.cluster.status();
            status.leads && status.quorum
        };
        self.nodes.iter().find(leads)
    }

    /// Ends a node like a crash.
    pub(crate) async fn kill(&mut self, number: u32) {
        let place = self.nodes.iter().position(|node| node.number == number);
        let node = self.nodes.swap_remove(place.unwrap());
        node.cluster.stop().await;
    }
}

/// A clock for all nodes: that of the runtime, which may be simulated.
pub(crate) fn clock() -> Now {
    let start = Instant::now();
    Arc::new(move || Reading::of_one(Duration::from_secs(1) + start.elapsed()))
}
