//! The handle, as operators use it.

use tokio::sync::oneshot;

use super::Cluster;
use super::event::Order;
use crate::admin::{
    Answer, Ask, DrainView, DrainedView, EventsView, Health, MoveView, MovesView, Named, NodeView,
    Operations, PeerRow, RebalanceView, Refused, SlotView, Status, Told, VotersView, Where,
};

impl Cluster {
    async fn operate(&self, ask: Ask) -> Told {
        let (told, wait) = oneshot::channel();
        self.order(Order::Operate(ask, told));
        let ended = "the cluster's part of this node does not answer";
        wait.await
            .unwrap_or_else(|_| Told::Refused(Refused::Unavailable(ended.to_owned())))
    }
}

/// Sends a question, and takes the answer that belongs to it.
macro_rules! told {
    ($cluster:ident, $ask:expr, $told:ident) => {
        Box::pin(async move {
            match $cluster.operate($ask).await {
                Told::$told(answer) => Ok(answer),
                Told::Refused(refused) => Err(refused),
                _ => Err(Refused::Unavailable(
                    "the leader answers another question".to_owned(),
                )),
            }
        })
    };
}

impl Operations for Cluster {
    fn status(&self) -> Answer<'_, Status> {
        told!(self, Ask::Status, Status)
    }

    fn health(&self) -> Answer<'_, Health> {
        told!(self, Ask::Health, Health)
    }

    fn nodes(&self) -> Answer<'_, Vec<NodeView>> {
        told!(self, Ask::Nodes, Nodes)
    }

    fn peers(&self) -> Answer<'_, Vec<PeerRow>> {
        told!(self, Ask::Peers, Peers)
    }

    fn slots(&self, node: Option<String>) -> Answer<'_, Vec<SlotView>> {
        told!(self, Ask::Slots(node), Slots)
    }

    fn locate(&self, name: Vec<u8>) -> Answer<'_, Where> {
        told!(self, Ask::Locate(name), Locate)
    }

    fn moves(&self) -> Answer<'_, MovesView> {
        told!(self, Ask::Moves, Moves)
    }

    fn events(&self, after: u64) -> Answer<'_, EventsView> {
        told!(self, Ask::Events(after), Events)
    }

    fn drain(&self, node: String, force: bool) -> Answer<'_, DrainView> {
        told!(self, Ask::Drain(node, force), Drain)
    }

    fn drained(&self, node: String) -> Answer<'_, DrainedView> {
        told!(self, Ask::Drained(node), Drained)
    }

    fn undrain(&self, node: String) -> Answer<'_, Named> {
        told!(self, Ask::Undrain(node), Node)
    }

    fn move_slot(&self, slot: u16, to: String) -> Answer<'_, MoveView> {
        told!(self, Ask::MoveSlot(slot, to), Move)
    }

    fn rebalance(&self, plan: bool, across_builds: bool) -> Answer<'_, RebalanceView> {
        told!(self, Ask::Rebalance(plan, across_builds), Rebalance)
    }

    fn pause_moves(&self) -> Answer<'_, bool> {
        told!(self, Ask::PauseMoves, Paused)
    }

    fn resume_moves(&self) -> Answer<'_, bool> {
        told!(self, Ask::ResumeMoves, Paused)
    }

    fn voters(&self, wanted: Option<u8>) -> Answer<'_, VotersView> {
        told!(self, Ask::Voters(wanted), Voters)
    }

    fn remove(&self, node: String) -> Answer<'_, Named> {
        told!(self, Ask::Remove(node), Node)
    }
}
