//! Who should vote: from Raft's membership, how far each member is, and the table, to the next step.
//! Pure.
//!
//! Voters are one, three or five, and change two at a time, or one for one. A node becomes a learner
//! first, and a voter once it has caught up; one that does not for long keeps nobody else from it.
//! Nobody stops voting by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::{NodeId, NodeState, Table};

/// A learner this many entries behind, or fewer, has caught up.
const CAUGHT_UP: u64 = 64;
/// A learner that has not caught up after so long is late: others learn in its place.
const LATE: Duration = Duration::from_secs(30);
/// Who has looked at the learners longer ago than this has seen nothing of them meanwhile.
const LOOKED: Duration = Duration::from_secs(10);
/// In place of so many others learn at most.
const REPLACED: usize = 2;

/// Raft's membership, seen from the leader.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// The voters; two sets while they change from the first to the second.
    pub configs: Vec<BTreeSet<NodeId>>,
    /// Those who follow the log without a vote.
    pub learners: BTreeSet<NodeId>,
    /// Up to which entry each has the log; known to a leader only.
    pub matched: BTreeMap<NodeId, u64>,
    /// The leader's last entry.
    pub last: u64,
}

impl Members {
    /// Everyone who votes, in either set.
    pub fn voters(&self) -> BTreeSet<NodeId> {
        self.configs.iter().flatten().copied().collect()
    }

    /// Whether the voters are changing.
    pub fn is_joint(&self) -> bool {
        self.configs.len() > 1
    }

    /// Whether a learner has the log but for the last few entries.
    pub fn has_caught_up(&self, id: NodeId) -> bool {
        self.matched
            .get(&id)
            .is_some_and(|matched| matched.saturating_add(CAUGHT_UP) >= self.last)
    }
}

/// Since when learners have been behind.
#[derive(Debug, Clone, Default)]
pub struct Behind {
    since: BTreeMap<NodeId, Duration>,
    looked: Option<Duration>,
}

impl Behind {
    /// How many learners have been behind for 30 s. To be asked every few seconds by the leader; now
    /// counts from any fixed start.
    pub fn late(&mut self, members: &Members, now: Duration) -> usize {
        let looked = self.looked.replace(now);
        if looked.is_none_or(|looked| now.saturating_sub(looked) > LOOKED) {
            self.since.clear();
        }
        let behind = |id: &NodeId| members.learners.contains(id) && !members.has_caught_up(*id);
        self.since.retain(|id, _| behind(id));
        for id in members.learners.iter().filter(|id| behind(id)) {
            self.since.entry(*id).or_insert(now);
        }
        let late = |since: &&Duration| now.saturating_sub(**since) >= LATE;
        self.since.values().filter(late).count()
    }
}

/// What to do about the voters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A change that an earlier leader began is to be finished: these are the voters.
    Finish(BTreeSet<NodeId>),
    /// A node is to follow the log.
    Learn {
        /// The node.
        id: NodeId,
        /// Where it is dialled.
        addrs: Vec<String>,
    },
    /// A learner that is dead or gone is to be forgotten.
    Forget(NodeId),
    /// These are to be the voters.
    Vote(BTreeSet<NodeId>),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ids: &BTreeSet<NodeId>| {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            ids.join(", ")
        };
        match self {
            Self::Finish(ids) => write!(f, "the change to voters {} is finished", list(ids)),
            Self::Learn { id, addrs } => {
                write!(f, "node {id} at {} follows the log", addrs.join(", "))
            }
            Self::Forget(id) => write!(f, "node {id} follows the log no more"),
            Self::Vote(ids) => write!(f, "the voters are nodes {}", list(ids)),
        }
    }
}

/// Why a voter cannot be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceError {
    /// It does not vote.
    #[error("node {0} is no voter")]
    NoVoter(NodeId),
    /// It lives.
    #[error("node {0} is a living voter: stop it first")]
    Living(NodeId),
    /// The voters are changing.
    #[error("the voters are changing: try again in a moment")]
    Changing,
    /// Nobody can take its place.
    #[error(
        "no learner has caught up to vote in place of node {0}: start another node of role voter, then try again"
    )]
    NoLearner(NodeId),
}

/// The next step, if there is one, where so many learners are late.
pub fn plan(members: &Members, table: &Table, late: usize) -> Option<Step> {
    if let (true, Some(last)) = (members.is_joint(), members.configs.last()) {
        return Some(Step::Finish(last.clone()));
    }
    let voters = members.voters();
    if voters.is_empty() {
        return None;
    }
    if let Some(id) = members.learners.iter().find(|id| !may_vote(table, **id)) {
        return Some(Step::Forget(*id));
    }
    let wanted = usize::from(table.settings().voters);
    let mut ready = members
        .learners
        .iter()
        .filter(|id| members.has_caught_up(**id));
    if voters.len() + 2 <= wanted
        && let (Some(first), Some(second)) = (ready.next(), ready.next())
    {
        let mut voters = voters;
        voters.extend([*first, *second]);
        return Some(Step::Vote(voters));
    }
    let living = voters.iter().filter(|id| lives(table, **id)).count();
    let learning = members.learners.len().saturating_sub(late.min(REPLACED));
    if living + learning >= wanted {
        return None;
    }
    let next = table.nodes().iter().find(|(id, _)| {
        !voters.contains(id) && !members.learners.contains(id) && may_vote(table, **id)
    });
    next.map(|(id, node)| Step::Learn {
        id: *id,
        addrs: node.addrs.clone(),
    })
}

/// The voters after a learner has taken the place of one that is dead.
///
/// # Errors
/// If it lives, does not vote, or nobody can take its place.
pub fn replace(
    members: &Members,
    table: &Table,
    dead: NodeId,
) -> Result<BTreeSet<NodeId>, ReplaceError> {
    if members.is_joint() {
        return Err(ReplaceError::Changing);
    }
    let mut voters = members.voters();
    if !voters.remove(&dead) {
        return Err(ReplaceError::NoVoter(dead));
    }
    if lives(table, dead) {
        return Err(ReplaceError::Living(dead));
    }
    let learner = members
        .learners
        .iter()
        .find(|id| may_vote(table, **id) && members.has_caught_up(**id))
        .ok_or(ReplaceError::NoLearner(dead))?;
    voters.insert(*learner);
    Ok(voters)
}

fn lives(table: &Table, id: NodeId) -> bool {
    table.node(id).is_some_and(|node| node.state.is_living())
}

/// Whether it is there to vote, and to stay.
fn may_vote(table: &Table, id: NodeId) -> bool {
    table.node(id).is_some_and(|node| {
        node.roles.voter && matches!(node.state, NodeState::Joining | NodeState::Up)
    })
}
