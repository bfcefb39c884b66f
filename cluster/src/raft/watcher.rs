//! Tells how things stand, why Raft has stopped, and finishes what an earlier leader left half done.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::{ChangeMembers, RaftMetrics, ServerState};
use tokio::sync::watch;
use tokio::time::timeout;

use super::error::{Stopped, why};
use super::facade::CHANGE;
use super::feed::TableWatch;
use super::types::{Core, Id, Place, leadership};
use super::voters::Members;
use crate::NodeId;
use crate::table::LeaderId;

type Metrics = RaftMetrics<Id, Place>;

/// How things stand, as this node knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Who leads, and since which term. That it says so of itself proves nothing: only
    /// [`Raft::linearizable`] does.
    pub leader: Option<LeaderId>,
    /// Whether that is this node.
    pub leads: bool,
    /// The latest term seen.
    pub term: u64,
    /// The version of the table as applied here.
    pub version: u64,
    /// The last entry applied here.
    pub applied: Option<u64>,
    /// The entry up to which a snapshot holds all.
    pub snapshot: Option<u64>,
    /// Voters and learners.
    pub members: Members,
}

/// Tells how things stand, and finishes a change of the voters that an earlier leader began.
pub(super) struct Watcher {
    pub(super) id: Id,
    pub(super) core: Core,
    pub(super) table: TableWatch,
    pub(super) status: watch::Sender<Status>,
    pub(super) ended: watch::Sender<Option<Stopped>>,
}

impl Watcher {
    pub(super) async fn run(mut self) {
        let mut metrics = self.core.metrics();
        let mut finishing: Option<tokio::task::JoinHandle<()>> = None;
        loop {
            let now = metrics.borrow_and_update().clone();
            let next = status(self.id, &now, self.table.table().version());
            self.status.send_if_modified(|status| {
                let changed = *status != next;
                *status = next;
                changed
            });
            if let Err(fatal) = &now.running_state {
                self.ended.send_replace(Some(why(fatal)));
                break;
            }
            if inherited(self.id, &now).is_some()
                && finishing.as_ref().is_none_or(|task| task.is_finished())
            {
                finishing = Some(tokio::spawn(finish(self.id, self.core.clone())));
            }
            let changed = tokio::select! {
                changed = metrics.changed() => changed.is_ok(),
                changed = self.table.changed() => changed || metrics.changed().await.is_ok(),
            };
            if !changed {
                let last = metrics.borrow().running_state.clone();
                let ended = last.err().map_or(Stopped::Shutdown, |fatal| why(&fatal));
                self.ended.send_replace(Some(ended));
                break;
            }
        }
        if let Some(finishing) = finishing {
            finishing.abort();
        }
    }
}

/// The voters that an earlier leader was changing to, if this node leads now and must finish it.
fn inherited(id: Id, metrics: &Metrics) -> Option<BTreeSet<Id>> {
    let membership = &metrics.membership_config;
    let configs = membership.membership().get_joint_config();
    let by_other = membership
        .log_id()
        .is_none_or(|log| log.leader_id != metrics.vote.leader_id);
    let leads = metrics.state == ServerState::Leader && metrics.current_leader == Some(id);
    (leads && by_other && configs.len() > 1)
        .then(|| configs.last().cloned())
        .flatten()
}

async fn finish(id: Id, core: Core) {
    const AGAIN: Duration = Duration::from_millis(50);
    let metrics = core.metrics();
    loop {
        let Some(voters) = inherited(id, &metrics.borrow()) else {
            return;
        };
        tracing::info!(
            ?voters,
            "finishing a change of voters that an earlier leader began"
        );
        let change = ChangeMembers::ReplaceAllVoters(voters);
        match timeout(CHANGE, core.change_membership(change, false)).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => tracing::warn!(%error, "a change of voters is not finished yet"),
            Err(_) => tracing::warn!("a change of voters is not finished yet: no quorum"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn status(id: Id, metrics: &Metrics, version: u64) -> Status {
    let membership = metrics.membership_config.membership();
    let configs = membership.get_joint_config().iter();
    let matched = metrics.replication.iter().flatten();
    let leader = metrics
        .current_leader
        .filter(|_| metrics.vote.is_committed())
        .map(|_| leadership(metrics.vote.leader_id));
    Status {
        leader,
        leads: metrics.state == ServerState::Leader && metrics.current_leader == Some(id),
        term: metrics.current_term,
        version,
        applied: metrics.last_applied.map(|log| log.index),
        snapshot: metrics.snapshot.map(|log| log.index),
        members: Members {
            configs: configs
                .map(|ids| ids.iter().map(|id| NodeId::from(*id)).collect())
                .collect(),
            learners: membership.learner_ids().map(NodeId::from).collect(),
            matched: matched
                .filter_map(|(id, log)| Some((NodeId::from(*id), log.as_ref()?.index)))
                .collect(),
            last: metrics.last_log_index.unwrap_or(0),
        },
    }
}
