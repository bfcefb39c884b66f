//! Nodes of a cluster in one process, and what is waited for.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::net::Net;
use super::parts::Around;
use crate::lease::Clock;
use crate::member::{DataDir, Error, Founding, RecoverOutcome};
use crate::raft::{StoreError, genesis};
use crate::shell::{Cluster, ClusterConfig, Door, Home, MemoryHome, Names};
use crate::testing::registration;
use crate::{
    BootId, ClusterId, ClusterInfo, DataId, Member, NodeId, NodeState, Now, Settings, SlotId,
    Standing, Table,
};

/// So few slots are not worth a move.
const SLACK: usize = 14;
/// Longer than anything takes, on a machine with little time.
const LONG: Duration = Duration::from_secs(30);

/// Waits until something holds.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(LONG, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}: not within {LONG:?}");
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(cluster) = &self.cluster else {
            return write!(f, "\n{} is stopped", self.name);
        };
        let status = cluster.status();
        let nodes = self.table().nodes().clone();
        let nodes: Vec<_> = nodes
            .iter()
            .map(|(id, node)| format!("{id}.{} {:?}", node.incarnation, node.state))
            .collect();
        write!(
            f,
            "\n{} acts for {}, {nodes:?}: {status:?}",
            self.name,
            self.acting()
        )
    }
}

/// A node, or one that was stopped.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) addr: String,
    pub(super) home: Kept,
    pub(super) around: Around,
    pub(super) standing: Arc<Standing>,
    pub(super) cluster: Option<Cluster>,
    change: fn(&mut ClusterConfig),
    net: Option<Arc<Net>>,
    /// Looks up its seeds, if not the system.
    names: Option<Arc<dyn Names>>,
}

/// What a node keeps while it is stopped.
pub(super) enum Kept {
    Memory(MemoryHome),
    Dir(tempfile::TempDir),
}

impl Kept {
    fn open(&self) -> Box<dyn Home> {
        static BOOTS: AtomicU64 = AtomicU64::new(1);
        match self {
            Self::Memory(home) => {
                let boot = BootId(BOOTS.fetch_add(1, Ordering::Relaxed).into());
                Box::new(home.start(boot))
            }
            Self::Dir(dir) => Box::new(DataDir::open(dir.path()).unwrap()),
        }
    }
}

impl Node {
    pub(super) fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().unwrap()
    }

    pub(super) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.standing.shown().table)
    }

    pub(super) fn me(&self) -> Member {
        self.standing.me()
    }

    /// How many slots it may act for now.
    pub(super) fn acting(&self) -> usize {
        let alive = self.cluster.is_some();
        SlotId::all()
            .filter(|slot| alive && self.standing.acts_for(*slot).is_some())
            .count()
    }

    pub(super) fn acts_for(&self, slot: SlotId) -> bool {
        self.cluster.is_some() && self.standing.acts_for(slot).is_some()
    }

    pub(super) fn state_of(&self, id: NodeId) -> Option<NodeState> {
        self.table().node(id).map(|node| node.state)
    }

    /// Recovers the cluster on it, as after the loss of the majority for good.
    pub(super) fn recover(&self) {
        if let Kept::Memory(home) = &self.home {
            home.recover().unwrap();
        }
    }

    /// The same on a disk, as an operator does it, beside nodes that live. What has stopped may take a
    /// moment to let go of its file.
    pub(super) async fn recover_dir(&self) -> RecoverOutcome {
        let Kept::Dir(dir) = &self.home else {
            panic!("{} is not on a disk", self.name)
        };
        let path = dir.path().to_owned();
        let tries = async {
            loop {
                let path = path.clone();
                let done = tokio::task::spawn_blocking(move || crate::member::recover(&path));
                match done.await.unwrap() {
                    Err(Error::Store(StoreError::Locked { .. })) => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    outcome => return outcome.unwrap(),
                }
            }
        };
        tokio::time::timeout(LONG, tries).await.unwrap()
    }

    /// It is reached elsewhere from its next start on.
    pub(super) fn move_house(&mut self) {
        self.addr = free();
    }

    /// Ends it like a crash.
    pub(super) async fn stop(&mut self) {
        if let Some(cluster) = self.cluster.take() {
            cluster.stop().await;
        }
    }

    /// Starts it, or starts it again.
    pub(super) async fn start(&mut self, seeds: &[String]) {
        let door = match &self.net {
            Some(net) => Door::Over(net.open(&self.addr)),
            None => {
                let mut listener = TcpListener::bind(&self.addr);
                until("its port is free", || {
                    if listener.is_err() {
                        listener = TcpListener::bind(&self.addr);
                    }
                    listener.is_ok()
                })
                .await;
                Door::Tcp(listener.unwrap())
            }
        };
        let now: Now = Arc::new(Clock::read);
        let mut config = ClusterConfig::new(
            self.home.open(),
            &self.name,
            door,
            vec![self.addr.clone()],
            Arc::clone(&now),
        );
        config.seeds = seeds.to_vec();
        if let Some(names) = &self.names {
            config.names = Arc::clone(names);
        }
        (self.change)(&mut config);
        self.around = Around::default();
        self.standing = Arc::new(Standing::new(now));
        let cluster = Cluster::start(
            config,
            Arc::clone(&self.standing),
            self.around.store.clone(),
            self.around.lanes.clone(),
            self.around.front.clone(),
        );
        let cluster = cluster.await.unwrap();
        cluster.ready(true);
        self.cluster = Some(cluster);
    }
}

/// A free address.
pub(super) fn free() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn addr_of(net: Option<&Arc<Net>>, index: usize) -> String {
    net.map_or_else(free, |_| format!("net-{index}"))
}

/// Nodes named a, b, c and so on; a founds the cluster and is the seed of the others.
pub(super) struct Nodes {
    pub(super) all: Vec<Node>,
    net: Option<Arc<Net>>,
}

impl Nodes {
    pub(super) fn seeds(&self) -> Vec<String> {
        self.all.iter().map(|node| node.addr.clone()).collect()
    }

    fn node(&self, home: Kept, addr: String, change: fn(&mut ClusterConfig)) -> Node {
        let index = u8::try_from(self.all.len()).unwrap();
        Node {
            name: char::from(b'a' + index).to_string(),
            addr,
            home,
            around: Around::default(),
            standing: Arc::new(Standing::new(Arc::new(Clock::read))),
            cluster: None,
            change,
            net: self.net.clone(),
            names: None,
        }
    }

    /// The founder alone, in memory.
    pub(super) async fn found(
        voters: u8,
        net: Option<Arc<Net>>,
        change: fn(&mut ClusterConfig),
    ) -> Self {
        let addr = addr_of(net.as_ref(), 0);
        let mut founder = registration("a", 1, 1);
        founder.addrs = vec![addr.clone()];
        let settings = Settings {
            voters,
            ..Settings::default()
        };
        let genesis = genesis(ClusterInfo::new(ClusterId(0xc1)), settings, &founder);
        let home = Kept::Memory(MemoryHome::founder(DataId(1), &genesis));
        let mut nodes = Self {
            all: Vec::new(),
            net,
        };
        let node = nodes.node(home, addr, change);
        nodes.all.push(node);
        nodes.all[0].start(&[]).await;
        nodes
    }

    /// The founder alone, on a disk.
    pub(super) async fn found_on_disk() -> Self {
        let (addr, dir) = (free(), tempfile::tempdir().unwrap());
        let founding = Founding::new("a", vec![addr.clone()]);
        crate::member::init(dir.path(), &founding).unwrap();
        let mut nodes = Self {
            all: Vec::new(),
            net: None,
        };
        let node = nodes.node(Kept::Dir(dir), addr, |_| {});
        nodes.all.push(node);
        nodes.all[0].start(&[]).await;
        nodes
    }

    /// One more node, in memory.
    pub(super) async fn join(&mut self, change: fn(&mut ClusterConfig)) {
        let data = DataId(self.all.len() as u128 + 1);
        let home = Kept::Memory(MemoryHome::new(data));
        self.join_with(home, change).await;
    }

    /// One more node, on a disk.
    pub(super) async fn join_on_disk(&mut self) {
        self.join_with(Kept::Dir(tempfile::tempdir().unwrap()), |_| {})
            .await;
    }

    /// One more node, in memory, whose only seed is this name.
    pub(super) async fn join_by(&mut self, seed: &str, names: Arc<dyn Names>) {
        let home = Kept::Memory(MemoryHome::new(DataId(self.all.len() as u128 + 1)));
        let mut node = self.node(home, free(), |_| {});
        node.names = Some(names);
        node.start(&[seed.to_owned()]).await;
        self.all.push(node);
    }

    async fn join_with(&mut self, home: Kept, change: fn(&mut ClusterConfig)) {
        let addr = addr_of(self.net.as_ref(), self.all.len());
        let mut node = self.node(home, addr, change);
        node.start(&self.seeds()).await;
        self.all.push(node);
    }

    /// So many nodes, up and with even slots.
    pub(super) async fn of(count: usize, voters: u8, change: fn(&mut ClusterConfig)) -> Self {
        let mut nodes = Self::found(voters, None, change).await;
        while nodes.all.len() < count {
            nodes.join(change).await;
        }
        nodes.even().await;
        nodes
    }

    /// The same over a network that can be cut.
    pub(super) async fn over(net: &Arc<Net>, count: usize, voters: u8) -> Self {
        let mut nodes = Self::found(voters, Some(Arc::clone(net)), |_| {}).await;
        while nodes.all.len() < count {
            nodes.join(|_| {}).await;
        }
        nodes.even().await;
        nodes.voting(usize::from(voters)).await;
        nodes
    }

    /// Waits until so many nodes vote.
    pub(super) async fn voting(&self, count: usize) {
        self.until("nodes vote", || {
            self.running().any(|node| {
                let raft = node.cluster().status().raft;
                raft.is_some_and(|raft| {
                    let members = raft.members;
                    raft.leads && !members.is_joint() && members.voters().len() == count
                })
            })
        })
        .await;
    }

    /// The nodes that run.
    pub(super) fn running(&self) -> impl Iterator<Item = &Node> {
        self.all.iter().filter(|node| node.cluster.is_some())
    }

    /// Waits until something holds; else says how things stand.
    pub(super) async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let end = tokio::time::Instant::now() + LONG;
        while !holds() {
            assert!(tokio::time::Instant::now() < end, "{what}: {:?}", self.all);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until every slot is served by exactly one node and each has its share.
    pub(super) async fn even(&self) {
        let count = self.running().count();
        let share = usize::from(crate::SLOT_COUNT) / count;
        self.until("slots are spread evenly", || {
            self.one_owner();
            self.running()
                .all(|node| node.acting().abs_diff(share) <= SLACK)
        })
        .await;
    }

    /// Waits until every slot is served.
    pub(super) async fn served(&self) {
        self.until("every slot is served", || {
            self.one_owner();
            let acting: usize = self.running().map(Node::acting).sum();
            acting == usize::from(crate::SLOT_COUNT)
        })
        .await;
    }

    /// I1, at this instant as far as one can look at several nodes at once: who is seen to act for a
    /// slot must be the only one, when looked at again.
    pub(super) fn one_owner(&self) {
        for slot in SlotId::all() {
            let acts = || {
                self.running()
                    .filter(|node| node.acts_for(slot))
                    .map(|node| node.me())
            };
            let seen: Vec<_> = acts().collect();
            if seen.len() > 1 {
                let again: Vec<_> = acts().collect();
                assert!(again.len() < 2, "slot {slot}: {again:?} act for it");
            }
        }
    }

    /// The node that leads.
    pub(super) async fn leader(&self) -> usize {
        let mut found = None;
        self.until("a node leads", || {
            let leads = |node: &Node| {
                node.cluster.as_ref().is_some_and(|cluster| {
                    let status = cluster.status();
                    status.leads && status.quorum
                })
            };
            found = self.all.iter().position(leads);
            found.is_some()
        })
        .await;
        found.unwrap()
    }
}
