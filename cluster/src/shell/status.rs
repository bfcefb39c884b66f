//! How things stand with a node, for readiness and metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use super::core::Core;
use crate::admin::MoveStep;
use crate::lease::Reading;
use crate::{BootId, LeaderId, Member, NodeState, raft};

/// How things stand with a node in its cluster.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Its life; node 0 before it has joined.
    pub me: Option<Member>,
    /// Its process.
    pub boot: Option<BootId>,
    /// Where the table says that it stands; `None` while it is not in the table in this life.
    pub state: Option<NodeState>,
    /// The version of its table.
    pub version: u64,
    /// By how many versions the table is behind the latest that the leader has spoken of.
    pub version_lag: u64,
    /// How long ago the table was known to be the newest; `None`: never yet.
    pub table_age: Option<Duration>,
    /// How much of its lease is left.
    pub lease_left: Duration,
    /// The leadership that last made itself known.
    pub leader: Option<LeaderId>,
    /// Whether this node leads.
    pub leads: bool,
    /// Whether a quorum is in reach: without it nothing with a key is served.
    pub quorum: bool,
    /// How many slots the table gives to this life.
    pub slots: usize,
    /// How many slots nobody owns.
    pub vacant: usize,
    /// How many moves are open in the table.
    pub moves: usize,
    /// How long the oldest of them has been open.
    pub oldest_move: Option<Duration>,
    /// How many slots are closed here for a move.
    pub closed: u16,
    /// How far moves away from here are, and how many are so far.
    pub steps: BTreeMap<MoveStep, usize>,
    /// Too little progress is made: by this worker, or, if `None`, the lease timer was late.
    pub degraded: Option<Option<usize>>,
    /// How Raft stands; `None` where it does not run.
    pub raft: Option<raft::Status>,
    /// Why the node is not registered, as it was last told.
    pub refused: Option<String>,
    /// Why the process must end.
    pub fatal: Option<String>,
    /// When that was so.
    pub(super) at: Reading,
}

impl Core {
    /// Publishes how things stand.
    pub(super) fn show_status(&mut self) {
        self.see_quorum();
        let now = self.reading();
        let table = self.view.as_ref().map(crate::View::table);
        let rec = table.and_then(|table| table.node(self.me.id));
        let rec = rec.filter(|rec| rec.incarnation == self.me.incarnation);
        self.status.send_modify(|status| {
            if let Some(table) = table
                && (status.version != table.version() || status.me != Some(self.me))
            {
                status.version = table.version();
                (status.slots, status.vacant, status.moves) = (0, 0, 0);
                for (_, rec) in table.slots() {
                    let lives = |owner| table.is_living(owner);
                    status.slots += usize::from(rec.owner == Some(self.me));
                    status.vacant += usize::from(!rec.owner.is_some_and(lives));
                    status.moves += usize::from(rec.moving.is_some());
                }
            }
            status.version_lag = self.newest.saturating_sub(status.version);
            status.oldest_move = self.watched.ages.oldest(now.raw);
            status.me = Some(self.me);
            status.boot = Some(self.boot);
            status.state = rec.map(|rec| rec.state);
            status.table_age = self.current.map(|then| now.longest_since(then));
            status.lease_left = self.standing.lease_left();
            status.leader = self.leader;
            status.leads = self.lead.is_some();
            status.quorum = self.quorum;
            status.closed = self
                .life
                .as_ref()
                .map_or(0, |life| life.source.closed_count());
            status.steps = self
                .life
                .as_ref()
                .map(|life| life.source.progress())
                .unwrap_or_default();
            status.degraded = match &self.life {
                Some(life) => life.degraded,
                None => self.progress.stalled(now).map(Some),
            };
            status.raft = self.raft.as_ref().map(|raft| raft.status.borrow().clone());
            status.refused.clone_from(&self.refused);
            status.at = now;
        });
    }

    /// Tells the ingress when a quorum comes into reach or is lost: only an acknowledgement of a
    /// leader proves one.
    pub(super) fn see_quorum(&mut self) {
        let now = self.reading();
        let length = self.life.as_ref().map(|life| life.lease.length);
        let quorum = self
            .acked
            .zip(length)
            .is_some_and(|(acked, length)| now.longest_since(acked) < length);
        if quorum != self.quorum {
            self.quorum = quorum;
            self.ingress.quorum(quorum);
        }
    }
}
