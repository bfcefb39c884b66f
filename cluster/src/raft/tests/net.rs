//! A network in memory, and nodes on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::{genesis, identity, register, until};
use crate::raft::memory::Memory;
use crate::raft::{CallError, FOUNDER, Network, Raft, Store, Timing};
use crate::testing::Chance;
use crate::{Command, Member, NodeChange, NodeId, NodeState, Outcome};

#[derive(Debug)]
struct Wires {
    nodes: BTreeMap<NodeId, Raft>,
    cut: BTreeSet<(NodeId, NodeId)>,
    isolated: BTreeSet<NodeId>,
    delay: Duration,
    loss_percent: u64,
    chance: Chance,
}

/// All wires between all nodes.
#[derive(Debug, Clone)]
pub(super) struct Net(Arc<Mutex<Wires>>);

/// A node's end of them.
#[derive(Debug, Clone)]
pub(super) struct End {
    from: NodeId,
    net: Net,
}

impl Net {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Wires {
            nodes: BTreeMap::new(),
            cut: BTreeSet::new(),
            isolated: BTreeSet::new(),
            delay: Duration::from_millis(1),
            loss_percent: 0,
            chance: Chance::new(7),
        })))
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.0.lock().unwrap()
    }

    pub(super) fn end(&self, from: NodeId) -> End {
        End {
            from,
            net: self.clone(),
        }
    }

    pub(super) fn plug(&self, raft: &Raft) {
        self.wires().nodes.insert(raft.id(), raft.clone());
    }

    pub(super) fn unplug(&self, id: NodeId) {
        self.wires().nodes.remove(&id);
    }

    /// Cuts a node off from all others, both ways.
    pub(super) fn isolate(&self, id: NodeId) {
        self.wires().isolated.insert(id);
    }

    /// Cuts what goes from the first to the second.
    pub(super) fn cut(&self, from: NodeId, to: NodeId) {
        self.wires().cut.insert((from, to));
    }

    pub(super) fn heal(&self) {
        let mut wires = self.wires();
        wires.cut.clear();
        wires.isolated.clear();
    }

    pub(super) fn lossy(&self, percent: u64, delay: Duration) {
        let mut wires = self.wires();
        wires.loss_percent = percent;
        wires.delay = delay;
    }

    /// Whether one message arrives, and after how long.
    fn way(&self, from: NodeId, to: NodeId) -> Option<Duration> {
        let mut wires = self.wires();
        let lost = wires.chance.below(100) < wires.loss_percent;
        let cut = wires.cut.contains(&(from, to))
            || wires.isolated.contains(&from)
            || wires.isolated.contains(&to);
        (!lost && !cut).then_some(wires.delay)
    }
}

impl Network for End {
    async fn call(&self, to: NodeId, rpc: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let Some(delay) = self.net.way(self.from, to) else {
            return std::future::pending().await;
        };
        tokio::time::sleep(delay).await;
        let node = self.net.wires().nodes.get(&to).cloned();
        let node = node.ok_or(CallError::Unreachable(to))?;
        let answer = node
            .handle(&rpc)
            .await
            .map_err(|error| CallError::Refused {
                to,
                why: error.to_string(),
            })?;
        let Some(delay) = self.net.way(to, self.from) else {
            return std::future::pending().await;
        };
        tokio::time::sleep(delay).await;
        Ok(answer)
    }
}

/// A cluster in memory.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) net: Net,
    pub(super) rafts: BTreeMap<NodeId, Raft>,
    memories: BTreeMap<NodeId, (Arc<Memory>, Store)>,
    timing: Timing,
}

impl Nodes {
    pub(super) fn new(timing: Timing) -> Self {
        Self {
            net: Net::new(),
            rafts: BTreeMap::new(),
            memories: BTreeMap::new(),
            timing,
        }
    }

    /// Starts a node, on its old memory if it has one.
    pub(super) async fn start(&mut self, id: NodeId) -> Raft {
        let (_, store) = self.memories.entry(id).or_insert_with(|| {
            let memory = Arc::new(Memory::default());
            let store = Store::in_memory(&memory, identity(id.0), &genesis());
            (memory, store)
        });
        let raft = Raft::start(store, self.timing, self.net.end(id))
            .await
            .unwrap();
        self.net.plug(&raft);
        self.rafts.insert(raft.id(), raft.clone());
        raft
    }

    /// Stops a node as a crash does: what it had not flushed is lost.
    pub(super) async fn crash(&mut self, id: NodeId) {
        self.net.unplug(id);
        self.rafts.remove(&id).unwrap().shutdown().await.unwrap();
        self.memory(id).crash();
    }

    pub(super) fn memory(&self, id: NodeId) -> &Arc<Memory> {
        &self.memories[&id].0
    }

    pub(super) fn store(&self, id: NodeId) -> &Store {
        &self.memories[&id].1
    }

    pub(super) fn raft(&self, id: NodeId) -> Raft {
        self.rafts[&id].clone()
    }

    /// One node that has founded the cluster, and is up in its table.
    pub(super) async fn founded(timing: Timing) -> Self {
        let mut nodes = Self::new(timing);
        let first = nodes.start(FOUNDER).await;
        first.found(vec!["n1:7946".to_owned()]).await.unwrap();
        until("it leads", &first, |status| status.leads).await;
        let founder = join(&first, "n1", 1).await;
        assert_eq!(founder.id, FOUNDER);
        nodes
    }

    /// Another node, in the table and running.
    pub(super) async fn join(&mut self, data: u128) -> Raft {
        let leader = self.leader().await;
        let member = join(&leader, &format!("n{data}"), data).await;
        self.start(member.id).await
    }

    /// So many nodes, as many of them voters as the table wants.
    pub(super) async fn of(count: u32, timing: Timing) -> Self {
        let mut nodes = Self::founded(timing).await;
        for data in 2..=count {
            nodes.join(u128::from(data)).await;
        }
        let wanted = usize::from(genesis().settings().voters);
        nodes
            .tend(wanted.min(usize::try_from(count).unwrap()))
            .await;
        nodes
    }

    /// Lets the leader tend its voters until there are so many.
    pub(super) async fn tend(&self, wanted: usize) -> Vec<usize> {
        let leader = self.leader().await;
        let mut seen = Vec::new();
        for _ in 0..1000 {
            let members = leader.status().borrow().members.clone();
            let count = members.voters().len();
            if seen.last() != Some(&count) {
                seen.push(count);
            }
            if count == wanted && !members.is_joint() {
                return seen;
            }
            leader.tend_voters().await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{wanted} voters: {:?}", leader.status().borrow());
    }

    /// The node that leads by the word of a majority.
    pub(super) async fn leader(&self) -> Raft {
        let found = async {
            loop {
                for raft in self.rafts.values() {
                    if raft.linearizable(Duration::from_millis(100)).await.is_ok() {
                        return raft.clone();
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), found)
            .await
            .expect("somebody leads")
    }

    /// Waits until every running node has the table of this one, and they are the same.
    pub(super) async fn agree(&self, with: &Raft) {
        let version = with.table().table().version();
        for raft in self.rafts.values() {
            until("it has the table", raft, |status| status.version >= version).await;
            assert_eq!(*raft.table().table(), *with.table().table());
        }
    }
}

/// Puts a node into the table, and up.
pub(super) async fn join(leader: &Raft, name: &str, data: u128) -> Member {
    let (command, boot) = register(leader, name, data);
    let Outcome::Registered(member) = leader.propose(command).await.unwrap().outcome else {
        panic!("{name} is refused")
    };
    let change = NodeChange::State(NodeState::Up);
    let up = Command::SetNode {
        member,
        boot,
        change,
    };
    leader.propose(up).await.unwrap();
    member
}
