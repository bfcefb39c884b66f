//! The nodes, their links and their table.

use crate::egress::Publisher;
use crate::forward::Seat;
use crate::node::engine_config;
use crate::proto::proxy::{PublishRequest, RpcRequest};
use crate::router::Router;
use crate::testing::TestRouter;
use bytes::Bytes;
use centripeta_cluster::lease::Reading;
use centripeta_cluster::peer::{
    Handler, Identity, LinkConfig, LinkEvent, Links, Remote, Request, Tcp,
};
use centripeta_cluster::{
    BootId, ClusterId, ClusterInfo, Command, DataId, Entry, Gate, Grant, Incarnation, Ingress,
    LeaderId, LogId, Member, MoveId, NodeChange, NodeId, NodeState, Outcome, Registration, Roles,
    Serves, Settings, Shown, SlotId, Standing, Table, slot_of,
};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::sleep;

pub(super) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Hands what comes on links to the node's ingress.
#[derive(Debug, Default)]
struct Door(OnceLock<Arc<dyn Ingress>>);

impl Handler for Door {
    fn request(&self, from: &Remote, request: Request) {
        if let Some(ingress) = self.0.get() {
            ingress.request(from, request);
        }
    }
    fn cast(&self, _: &Remote, _: u8, _: Bytes) {}
    fn event(&self, _: LinkEvent) {}
    fn load(&self) -> u32 {
        self.0.get().map_or(0, |ingress| ingress.load())
    }
}

pub(super) struct Node {
    pub(super) router: TestRouter,
    pub(super) standing: Arc<Standing>,
    pub(super) ingress: Arc<dyn Ingress>,
    pub(super) links: Links,
    pub(super) member: Member,
    boot: BootId,
    pub(super) addr: String,
    clock: Arc<Mutex<Duration>>,
}

impl Node {
    /// The node knows this table from now on; its own slots are open, but for those named.
    pub(super) fn show(&self, table: &Table, shut: &[SlotId]) {
        let changed: Vec<SlotId> = SlotId::all().collect();
        for slot in &changed {
            let rec = table.slot(*slot);
            let gate = match rec.owner {
                Some(owner) if owner == self.member && shut.contains(slot) => Gate::Shut(rec.epoch),
                Some(owner) if owner == self.member => Gate::Open(rec.epoch),
                _ => Gate::Foreign,
            };
            self.standing.set_gate(*slot, gate);
        }
        self.standing.show(Shown {
            table: Arc::new(table.clone()),
            me: self.member,
            boot: self.boot,
        });
        self.ingress.table_changed(&changed);
    }

    /// Its lease is over for so long, or is valid.
    pub(super) fn lapse(&self, over: Option<Duration>) {
        let end = Duration::from_secs(3601);
        *self.clock.lock().unwrap() = over.map_or(Duration::from_secs(1), |over| end + over);
    }

    pub(super) fn counts(&self) -> &crate::forward::Counts {
        &self.router.engine().shared.forward.as_ref().unwrap().counts
    }

    pub(super) fn held(&self) -> usize {
        self.router
            .engine()
            .shared
            .forward
            .as_ref()
            .unwrap()
            .held()
            .0
    }
}

/// Several nodes and the log of their table. They are told of it by [`Net::tell`].
pub(super) struct Net {
    pub(super) nodes: Vec<Node>,
    pub(super) table: Table,
    index: u64,
}

pub(super) fn registration(at: usize) -> Registration {
    Registration {
        name: format!("n{at}"),
        data: DataId(at as u128 + 1),
        incarnation: Incarnation(1),
        boot: BootId(at as u128 + 100),
        addrs: vec![format!("n{at}:1")],
        roles: Roles {
            voter: true,
            ingress: true,
            region: true,
        },
        serves: Serves {
            connect: true,
            channel: true,
            rpc: vec!["*".to_owned()],
        },
        protocol: 1,
        build: "1".to_owned(),
        routes_hash: 1,
    }
}

impl Net {
    /// So many nodes of one router, each with the slots whose number leaves its place.
    pub(super) async fn of(count: usize, router: impl Fn(usize) -> Router) -> Self {
        Self::with(count, router, |_, _| {}).await
    }

    /// The same with settings and what each serves.
    pub(super) async fn with(
        count: usize,
        router: impl Fn(usize) -> Router,
        change: impl Fn(usize, &mut Registration),
    ) -> Self {
        let info = ClusterInfo::new(ClusterId(7));
        let mut net = Self {
            nodes: Vec::new(),
            table: Table::new(info, Settings::default()),
            index: 0,
        };
        for at in 0..count {
            let mut node = registration(at);
            change(at, &mut node);
            let boot = node.boot;
            let leader = net.leader();
            let outcome = net.commit(&Command::Register {
                node,
                leader,
                grants: Vec::new(),
            });
            let Outcome::Registered(member) = outcome else {
                panic!("{outcome:?}")
            };
            net.commit(&Command::SetNode {
                member,
                boot,
                change: NodeChange::State(NodeState::Up),
            });
            net.add(router(at), member, boot).await;
        }
        for slot in SlotId::all() {
            net.give(slot, usize::from(slot.index()) % count);
        }
        net.tell();
        net
    }

    async fn add(&mut self, router: Router, member: Member, boot: BootId) {
        let at = self.nodes.len();
        let clock = Arc::new(Mutex::new(Duration::from_secs(1)));
        let read = Arc::clone(&clock);
        let standing = Arc::new(Standing::new(Arc::new(move || {
            Reading::of_one(*read.lock().unwrap())
        })));
        standing.renew(
            Reading::of_one(Duration::from_secs(1)),
            Duration::from_secs(3600),
        );
        let mut settings = engine_config(&crate::config::Config::default());
        settings.node = format!("n{at}");
        settings.cluster = Some(Seat {
            serve_stateless_isolated: at != 1,
        });
        let ownership = Arc::clone(&standing);
        let router = TestRouter::with_settings(router, settings, Publisher::closed(), ownership)
            .await
            .unwrap();
        let ingress = router.engine().ingress().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let door = Arc::new(Door::default());
        door.0.set(Arc::clone(&ingress)).unwrap();
        let identity = Identity::new(ClusterId(7), member, boot, &format!("n{at}"));
        let transport = Arc::new(Tcp::new(listener));
        let links = Links::start(LinkConfig::default(), identity, transport, door).unwrap();
        for node in &self.nodes {
            node.links.set_peer(member.id, vec![addr.clone()]);
            links.set_peer(node.member.id, vec![node.addr.clone()]);
        }
        router.engine().connect(Arc::new(links.clone()));
        self.nodes.push(Node {
            router,
            standing,
            ingress,
            links,
            member,
            boot,
            addr,
            clock,
        });
    }

    fn leader(&self) -> LeaderId {
        LeaderId {
            term: 1,
            node: NodeId(1),
        }
    }

    pub(super) fn commit(&mut self, command: &Command) -> Outcome {
        self.index += 1;
        let log = LogId {
            leader: self.leader(),
            index: self.index,
        };
        let voters = BTreeSet::new();
        let entry = Entry {
            log,
            voters: &voters,
            command,
        };
        self.table.apply(entry).outcome
    }

    /// A node is declared dead; its slots go to another.
    pub(super) fn kill(&mut self, at: usize, heir: usize) {
        let member = self.nodes[at].member;
        let leader = self.leader();
        let to = self.nodes[heir].member;
        let orphans = self.table.slots();
        let orphans = orphans.filter(|(_, rec)| rec.owner == Some(member));
        let grants = orphans.map(|(slot, rec)| Grant {
            slot,
            expect_epoch: rec.epoch,
            to,
        });
        let grants = grants.collect();
        self.commit(&Command::DeclareDead {
            member,
            why: "test".to_owned(),
            leader,
            grants,
        });
    }

    pub(super) fn give(&mut self, slot: SlotId, at: usize) {
        let grant = Grant {
            slot,
            expect_epoch: self.table.slot(slot).epoch,
            to: self.nodes[at].member,
        };
        self.commit(&Command::Assign {
            grants: vec![grant],
        });
    }

    /// Begins to move a slot.
    pub(super) fn begin(&mut self, slot: SlotId, at: usize) -> MoveId {
        let to = self.nodes[at].member;
        let start = centripeta_cluster::MoveStart {
            slot,
            expect_epoch: self.table.slot(slot).epoch,
            to,
        };
        self.commit(&Command::BeginMoves {
            moves: vec![start],
            reason: centripeta_cluster::MoveReason::Admin,
        });
        self.table.slot(slot).moving.unwrap().id
    }

    /// Completes a move.
    pub(super) fn complete(&mut self, slot: SlotId, id: MoveId) {
        let completion = centripeta_cluster::Completion {
            slot,
            id,
            epoch: self.table.slot(slot).epoch,
        };
        self.commit(&Command::CompleteMoves {
            moves: vec![completion],
        });
    }

    /// Every node knows the table.
    pub(super) fn tell(&self) {
        for node in &self.nodes {
            node.show(&self.table, &[]);
        }
    }

    /// A channel whose owner is that node.
    pub(super) fn channel(&self, at: usize) -> String {
        self.channel_in(at, "c")
    }

    pub(super) fn channel_in(&self, at: usize, prefix: &str) -> String {
        let owner = self.nodes[at].member;
        (0..100_000)
            .map(|n| format!("{prefix}{n}"))
            .find(|name| self.table.slot(slot_of(name.as_bytes())).owner == Some(owner))
            .unwrap()
    }
}

pub(super) fn publish(channel: &str, data: &str) -> PublishRequest {
    PublishRequest {
        client: "c1".to_owned(),
        protocol: "json".to_owned(),
        user: "u1".to_owned(),
        channel: channel.to_owned(),
        data: data.to_owned().into(),
        ..Default::default()
    }
}

pub(super) fn rpc(method: &str, data: &str) -> RpcRequest {
    RpcRequest {
        client: "c1".to_owned(),
        protocol: "json".to_owned(),
        user: "u1".to_owned(),
        method: method.to_owned(),
        data: data.to_owned().into(),
        ..Default::default()
    }
}

/// Waits until a condition holds.
pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if holds() {
            return;
        }
        sleep(ms(1)).await;
    }
    panic!("not within the limit: {what}");
}
