//! How the lead passes on without an election time-out. The leader that goes names a voter with all
//! of its log, and votes for it: a leader's own vote is bound by no lease, others' are while they
//! have heard it lately. Where the leader's vote is not enough for a majority (five voters), the
//! heir stands again until the others' leases are over.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Raft;
use super::error::{Error, stopped};
use super::watcher::Status;
use crate::NodeId;
use crate::table::LeaderId;

/// How long the log may take to come as far as the leader's.
const CATCH_UP: Duration = Duration::from_millis(200);
/// How long an election is waited for before the next: longer than it takes with disks that are slow.
const AGAIN: Duration = Duration::from_millis(80);

impl Raft {
    /// Who could lead next: one of these that votes and has all of this leader's log, waited for so
    /// long; with this leadership and the last entry. `None` if this node does not lead, is the only
    /// voter, or none gets there in time.
    pub async fn heir(
        &self,
        of: &BTreeSet<NodeId>,
        within: Duration,
    ) -> Option<(NodeId, LeaderId, u64)> {
        let mut status = self.status();
        let me = self.id();
        let voters = status.borrow().members.voters();
        if !voters.iter().any(|id| *id != me && of.contains(id)) {
            return None;
        }
        let found = status.wait_for(|status| !status.leads || heir(status, me, of).is_some());
        let status = timeout(within, found).await.ok()?.ok()?;
        let leader = status.leader.filter(|_| status.leads)?;
        Some((heir(&status, me, of)?, leader, status.members.last))
    }

    /// Stands for election at once, since `leader` hands over, and again until this node leads.
    /// Nothing is done unless that one leads as far as is known here, and the log here comes as far
    /// as its last entry.
    ///
    /// # Errors
    /// If it does not lead within this time, another one does, or Raft has stopped.
    pub async fn succeed(
        &self,
        leader: LeaderId,
        last: u64,
        within: Duration,
    ) -> Result<(), Error> {
        const WHAT: &str = "succeed the leader";
        let end = Instant::now() + within;
        let late = |limit| Error::Timeout { what: WHAT, limit };
        let mut status = self.status();
        let has_all = |status: &Status| {
            status.leader == Some(leader)
                && status.members.last >= last
                && status.members.voters().contains(&self.id())
        };
        match timeout(CATCH_UP, status.wait_for(has_all)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err(late(CATCH_UP)),
        }
        while Instant::now() < end {
            self.elect().await?;
            let decided = |status: &Status| {
                status.leads || status.leader.is_some_and(|other| other != leader)
            };
            if let Ok(Ok(status)) = timeout(AGAIN, status.wait_for(decided)).await {
                return match status.leader {
                    Some(other) if !status.leads => {
                        let leader = Some(other.node);
                        Err(Error::NotLeader { leader })
                    }
                    _ => Ok(()),
                };
            }
        }
        Err(late(within))
    }

    async fn elect(&self) -> Result<(), Error> {
        let trigger = self.core.0.trigger();
        trigger.elect().await.map_err(stopped)
    }
}

fn heir(status: &Status, me: NodeId, of: &BTreeSet<NodeId>) -> Option<NodeId> {
    let members = &status.members;
    let has_all = |id: &NodeId| {
        let matched = members.matched.get(id);
        matched.is_some_and(|matched| *matched >= members.last)
    };
    let voters = members.voters();
    let others = voters.iter().filter(|id| **id != me && of.contains(id));
    others.copied().find(has_all)
}
