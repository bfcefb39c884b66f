//! A node that its cluster was recovered without: it is refused by all. Once someone has said so it
//! registers anew; one that keeps a log ends, since that log could vote against the recovery.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::core::Core;
use super::event::Event;
use super::wire::TABLE;
use crate::NodeId;
use crate::peer::{Control, Links};

/// After so long without a quorum, and then this often, it asks.
const ALONE: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(1);

impl Core {
    /// Asks, as a stranger, whether the cluster was recovered, where that may be why it is silent.
    pub(super) fn ask_whether_recovered(&mut self) {
        let now = self.clock();
        let Some(known) = self.home.known().filter(|_| !self.quorum) else {
            self.in_touch = now;
            return;
        };
        if now.saturating_sub(self.in_touch) < ALONE || self.leaving.is_gone() {
            return;
        }
        self.in_touch = now;
        let mut addrs = self.known_addrs();
        if self.setup.names.is_none() || addrs.is_empty() {
            addrs.extend(self.setup.seeds.iter().cloned());
        }
        let own = self.setup.advertise.clone();
        addrs.retain(|addr| !own.contains(addr));
        let (links, events) = (self.links.clone(), self.events.clone());
        tokio::spawn(async move {
            for addr in addrs {
                if let Some((cluster, recovery)) = recovery_at(&links, &addr).await
                    && cluster == known.cluster
                    && recovery > known.recovery
                {
                    drop(events.send(Event::Recovered(recovery)));
                    return;
                }
            }
        });
    }

    /// The cluster was recovered without this node: what it knows of itself is over.
    pub(super) fn recovered(&mut self, recovery: u32) {
        let known = self.home.known();
        if known.is_none_or(|known| known.recovery >= recovery) {
            return;
        }
        if self.raft.is_some() {
            self.fatal(
                "the cluster was recovered without this voter, and its log is of no use any more: \
                 start it on an empty data directory, as a new node",
            );
            return;
        }
        tracing::warn!(
            recovery,
            "the cluster was recovered without this node: it registers anew"
        );
        if let Err(why) = self.home.forget() {
            self.fatal(&why.to_string());
            return;
        }
        if let Some(task) = self.joining.take() {
            task.abort();
        }
        self.die();
        self.me.id = NodeId(0);
        self.greet();
        self.join_again = Duration::ZERO;
    }
}

/// Which cluster is at an address, and how often it was recovered.
async fn recovery_at(links: &Links, addr: &str) -> Option<(crate::ClusterId, u32)> {
    let deadline = Instant::now() + ANSWER;
    let reply = links
        .ask_as_stranger(addr, TABLE, Bytes::new(), deadline)
        .await
        .ok()?;
    match Control::decode(&reply.payload) {
        Ok(Control::Table(table)) => Some((table.cluster().id, table.cluster().recovery)),
        _ => None,
    }
}
