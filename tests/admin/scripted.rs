//! A node whose part in a cluster answers operators as it is told, and remembers what it was asked.

use crate::support::TestNode;
use centripeta::Router;
use centripeta_cluster::admin::{
    Answer, Ask, DrainView, DrainedView, EventsView, Health, MoveView, MovesView, Named, NodeView,
    Operations, PeerRow, RebalanceView, Refused, SlotView, Status, Told, VotersView, Where,
};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

type Script = Box<dyn Fn(&Ask) -> Told + Send + Sync>;

/// Answers by a script.
pub(crate) struct Scripted {
    script: Script,
    asked: Mutex<Vec<Ask>>,
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl Scripted {
    fn told<T>(&self, ask: Ask, pick: fn(Told) -> Option<T>) -> Answer<'_, T>
    where
        T: Send + 'static,
    {
        let told = (self.script)(&ask);
        self.asked.lock().unwrap().push(ask);
        let answer = match told {
            Told::Refused(refused) => Err(refused),
            told => Ok(pick(told).expect("the script answers another question")),
        };
        Box::pin(std::future::ready(answer))
    }
}

/// A part of an answer.
macro_rules! only {
    ($kind:ident) => {
        |told| match told {
            Told::$kind(inner) => Some(inner),
            _ => None,
        }
    };
}

impl Operations for Scripted {
    fn status(&self) -> Answer<'_, Status> {
        self.told(Ask::Status, only!(Status))
    }
    fn health(&self) -> Answer<'_, Health> {
        self.told(Ask::Health, only!(Health))
    }
    fn nodes(&self) -> Answer<'_, Vec<NodeView>> {
        self.told(Ask::Nodes, only!(Nodes))
    }
    fn peers(&self) -> Answer<'_, Vec<PeerRow>> {
        self.told(Ask::Peers, only!(Peers))
    }
    fn slots(&self, node: Option<String>) -> Answer<'_, Vec<SlotView>> {
        self.told(Ask::Slots(node), only!(Slots))
    }
    fn locate(&self, name: Vec<u8>) -> Answer<'_, Where> {
        self.told(Ask::Locate(name), only!(Locate))
    }
    fn moves(&self) -> Answer<'_, MovesView> {
        self.told(Ask::Moves, only!(Moves))
    }
    fn events(&self, after: u64) -> Answer<'_, EventsView> {
        self.told(Ask::Events(after), only!(Events))
    }
    fn drain(&self, node: String, force: bool) -> Answer<'_, DrainView> {
        self.told(Ask::Drain(node, force), only!(Drain))
    }
    fn drained(&self, node: String) -> Answer<'_, DrainedView> {
        self.told(Ask::Drained(node), only!(Drained))
    }
    fn undrain(&self, node: String) -> Answer<'_, Named> {
        self.told(Ask::Undrain(node), only!(Node))
    }
    fn move_slot(&self, slot: u16, to: String) -> Answer<'_, MoveView> {
        self.told(Ask::MoveSlot(slot, to), only!(Move))
    }
    fn rebalance(&self, plan: bool, across_builds: bool) -> Answer<'_, RebalanceView> {
        self.told(Ask::Rebalance(plan, across_builds), only!(Rebalance))
    }
    fn pause_moves(&self) -> Answer<'_, bool> {
        self.told(Ask::PauseMoves, only!(Paused))
    }
    fn resume_moves(&self) -> Answer<'_, bool> {
        self.told(Ask::ResumeMoves, only!(Paused))
    }
    fn voters(&self, wanted: Option<u8>) -> Answer<'_, VotersView> {
        self.told(Ask::Voters(wanted), only!(Voters))
    }
    fn remove(&self, node: String) -> Answer<'_, Named> {
        self.told(Ask::Remove(node), only!(Node))
    }
}

/// A node with such a part.
pub(crate) struct Member {
    _node: TestNode,
    pub(crate) admin: SocketAddr,
    part: Arc<Scripted>,
}

impl Member {
    pub(crate) async fn start(script: impl Fn(&Ask) -> Told + Send + Sync + 'static) -> Self {
        let node = TestNode::start(Router::new()).await;
        let part = Arc::new(Scripted {
            script: Box::new(script),
            asked: Mutex::default(),
        });
        node.0.set_operations(part.clone());
        Self {
            admin: node.0.addresses().admin,
            _node: node,
            part,
        }
    }

    /// What was asked of it so far.
    pub(crate) fn asked(&self) -> Vec<Ask> {
        self.part.asked.lock().unwrap().clone()
    }
}

/// A refusal.
pub(crate) fn no(why: &str, cure: &str) -> Told {
    Told::Refused(Refused::no(why, cure))
}
