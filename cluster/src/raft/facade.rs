//! The handle on a running Raft. Every call ends within a limit of its own: openraft's would wait
//! for ever where a quorum is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::error::{CheckIsLeaderError, ClientWriteError, InitializeError, RaftError};
use openraft::{ChangeMembers, Snapshot};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::error::{Error, Stopped, not_leader, only_fatal, stopped, unchanged};
use super::feed::TableWatch;
use super::network::{Clients, Network};
use super::settings::Timing;
use super::store::Store;
use super::types::{Core, Id, Place, Request, Response, leadership, place};
use super::voters::{self, Behind, Step};
use super::watcher::{Status, Watcher};
use crate::codec::{decode_rpc, encode_rpc};
use crate::table::{LeaderId, LogId, Outcome};
use crate::times::Times;
use crate::{Command, NodeId};

/// How long a round that proves leadership may take at the least before the next is tried; else as long
/// as a heartbeat, into which two round trips to a voter have to fit.
const ROUND: Duration = Duration::from_millis(100);
/// How long is waited at least between two rounds that failed.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a proposal may take.
const PROPOSE: Duration = Duration::from_secs(2);
/// How long a change of the members may take.
pub(super) const CHANGE: Duration = Duration::from_secs(5);
/// How long a call of another node may take here.
const HANDLE: Duration = Duration::from_secs(5);
/// How long Raft may take to stop.
const STOP: Duration = Duration::from_secs(5);

/// A command that was committed and applied here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the log.
    pub log: LogId,
    /// What came of it.
    pub outcome: Outcome,
}

/// A running Raft. A clone is the same one.
#[derive(Debug, Clone)]
pub struct Raft {
    id: NodeId,
    pub(super) core: CoreHandle,
    table: TableWatch,
    status: watch::Receiver<Status>,
    stopped: watch::Receiver<Option<Stopped>>,
    flushes: Arc<Times>,
    round: Duration,
    began: Instant,
    behind: Arc<Mutex<Behind>>,
}

/// openraft's handle, which does not print itself.
#[derive(Clone)]
pub(super) struct CoreHandle(pub(super) Core);

impl std::fmt::Debug for CoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Core")
    }
}

impl Raft {
    /// Runs the Raft of this store on the current runtime, with these timers and over this network,
    /// until [`shutdown`](Self::shutdown). A node that joins waits here for its leader's calls; one
    /// that founds goes on with [`found`](Self::found). A store is run once at a time.
    ///
    /// # Errors
    /// If the store is damaged or the timers contradict each other.
    pub async fn start(
        store: &Store,
        timing: Timing,
        network: impl Network,
    ) -> Result<Self, Error> {
        let id = store.identity()?.node;
        let round = timing.heartbeat.max(ROUND);
        let config = timing.config(store.rank()?).map_err(Error::Timing)?;
        let machine = store.machine()?;
        let table = machine.publisher().watch();
        let core = Core::new(
            id.into(),
            Arc::new(config),
            Clients(network),
            store.log_store(),
            machine,
        )
        .await
        .map_err(stopped)?;
        let (status, status_seen) = watch::channel(Status::default());
        let (ended, ended_seen) = watch::channel(None);
        let watcher = Watcher {
            id: id.into(),
            core: core.clone(),
            table: table.clone(),
            status,
            ended,
        };
        tokio::spawn(watcher.run());
        Ok(Self {
            id,
            core: CoreHandle(core),
            table,
            status: status_seen,
            stopped: ended_seen,
            flushes: Arc::clone(&store.flushes),
            round,
            began: Instant::now(),
            behind: Arc::default(),
        })
    }

    /// Founds the cluster with this node as its only voter. Once founded it changes nothing.
    ///
    /// # Errors
    /// If it takes longer than 2 s, or Raft has stopped.
    pub async fn found(&self, addrs: Vec<String>) -> Result<(), Error> {
        let first = BTreeMap::from([(Id::from(self.id), Place { addrs })]);
        match limited("found", PROPOSE, self.core.0.initialize(first)).await? {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(RaftError::APIError(error)) => Err(Error::Members(error.to_string())),
            Err(RaftError::Fatal(fatal)) => Err(stopped(fatal)),
        }
    }

    /// Answers a call that another node's [`Network`] brought here.
    ///
    /// # Errors
    /// If the bytes make no sense, Raft has stopped, or it takes longer than 5 s.
    pub async fn handle(&self, rpc: &[u8]) -> Result<Vec<u8>, Error> {
        let request: Request = decode_rpc(rpc)?;
        let response = limited("answer", HANDLE, self.answer(request)).await??;
        Ok(encode_rpc(&response))
    }

    async fn answer(&self, request: Request) -> Result<Response, Error> {
        let core = &self.core.0;
        Ok(match request {
            Request::Append(append) => {
                let appended = core.append_entries(append).await;
                Response::Append(appended.map_err(only_fatal)?)
            }
            Request::Vote(ballot) => Response::Vote(core.vote(ballot).await.map_err(only_fatal)?),
            Request::Snapshot { vote, kept } => {
                // Looked at before Raft takes it: what it cannot install stops it.
                crate::Table::decode(&kept.table)?;
                let snapshot = Snapshot {
                    meta: kept.meta,
                    snapshot: Box::new(std::io::Cursor::new(kept.table)),
                };
                let installed = core.install_full_snapshot(vote, snapshot).await;
                Response::Snapshot {
                    vote: installed.map_err(stopped)?.vote,
                }
            }
        })
    }

    /// How long a round that proves leadership may take: 100 ms, or a heartbeat where that is longer.
    pub fn round_limit(&self) -> Duration {
        self.round
    }

    /// Proves that this node leads now: a round of heartbeats that begins after the call and that a
    /// majority answers, and waits until all that was committed before it is applied here. A round
    /// has [`round_limit`](Self::round_limit); the next follows at once, until `within` is over. Returns the leadership.
    ///
    /// # Errors
    /// If this node does not lead, or no round succeeds in time.
    pub async fn linearizable(&self, within: Duration) -> Result<LeaderId, Error> {
        let end = Instant::now() + within;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match timeout(self.round.min(left), self.prove()).await {
                Ok(Err(Error::NoQuorum { .. })) | Err(_) if left > PAUSE => {
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(Err(Error::NoQuorum { .. })) | Err(_) => {
                    return Err(Error::NoQuorum { limit: within });
                }
                Ok(done) => return done,
            }
        }
    }

    async fn prove(&self) -> Result<LeaderId, Error> {
        let (read, applied) = match self.core.0.get_read_log_id().await {
            Ok(logs) => logs,
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to))) => {
                return Err(not_leader(to.leader_id));
            }
            Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => {
                return Err(Error::NoQuorum { limit: self.round });
            }
            Err(RaftError::Fatal(fatal)) => return Err(stopped(fatal)),
        };
        let read = read.ok_or(Error::NoQuorum { limit: self.round })?;
        if applied < Some(read) {
            self.core
                .0
                .wait(Some(self.round))
                .applied_index_at_least(Some(read.index), "a round's log id")
                .await
                .map_err(|_| Error::NoQuorum { limit: self.round })?;
        }
        Ok(leadership(read.leader_id))
    }

    /// Proposes a command and waits until it is applied here, for 2 s at most. Dropping the future
    /// does not take the command back.
    ///
    /// # Errors
    /// If this node does not lead; or after 2 s, when it may still take effect. That the table
    /// refuses is no error: it stands in the outcome.
    pub async fn propose(&self, command: Command) -> Result<Committed, Error> {
        const LOST: Error = Error::Timeout {
            what: "propose",
            limit: PROPOSE,
        };
        let write = async {
            let answer = self.core.0.client_write_ff(command).await;
            answer.map_err(stopped)?.await.map_err(|_| LOST)
        };
        let written = match limited("propose", PROPOSE, write).await?? {
            Ok(written) => written,
            Err(ClientWriteError::ForwardToLeader(to)) => return Err(not_leader(to.leader_id)),
            Err(ClientWriteError::ChangeMembershipError(error)) => {
                return Err(Error::Members(error.to_string()));
            }
        };
        Ok(Committed {
            log: place(written.log_id),
            outcome: written.data.ok_or(LOST)?,
        })
    }

    /// Lets a node follow the log, without waiting until it has caught up.
    ///
    /// # Errors
    /// If this node does not lead, or it takes longer than 5 s.
    pub async fn add_learner(&self, id: NodeId, addrs: Vec<String>) -> Result<(), Error> {
        let add = self.core.0.add_learner(id.into(), Place { addrs }, false);
        limited("add a learner", CHANGE, add)
            .await?
            .map(drop)
            .map_err(unchanged)
    }

    /// Makes these nodes the voters, in one change through a joint configuration. Each must be a
    /// member; who no longer votes is forgotten.
    ///
    /// # Errors
    /// If this node does not lead, another change is under way, one of them is no member, or it
    /// takes longer than 5 s; the change may then be half done, and is finished by the next leader.
    pub async fn set_voters(&self, voters: &BTreeSet<NodeId>) -> Result<(), Error> {
        let voters = voters.iter().map(|id| Id::from(*id)).collect();
        let change = ChangeMembers::ReplaceAllVoters(voters);
        self.change("change the voters", change).await
    }

    async fn change(
        &self,
        what: &'static str,
        change: ChangeMembers<Id, Place>,
    ) -> Result<(), Error> {
        limited(what, CHANGE, self.core.0.change_membership(change, false))
            .await?
            .map(drop)
            .map_err(unchanged)
    }

    /// Takes the next step toward the wanted voters, if there is one: to be called by the leader,
    /// every second or so and when members change.
    ///
    /// # Errors
    /// As the call that the step is.
    pub async fn tend_voters(&self) -> Result<Option<Step>, Error> {
        let members = self.status.borrow().members.clone();
        let late = {
            let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
            behind.late(&members, self.began.elapsed())
        };
        let step = voters::plan(&members, &self.table.table(), late);
        match &step {
            None => {}
            Some(Step::Finish(voters) | Step::Vote(voters)) => self.set_voters(voters).await?,
            Some(Step::Learn { id, addrs }) => self.add_learner(*id, addrs.clone()).await?,
            Some(Step::Forget(id)) => {
                let gone = ChangeMembers::RemoveNodes(BTreeSet::from([Id::from(*id)]));
                self.change("forget a learner", gone).await?;
            }
        }
        Ok(step)
    }

    /// Removes a dead node for good. If it votes, a learner that has caught up takes its place
    /// first, in one change.
    ///
    /// # Errors
    /// If it is a voter that lives or that nobody can replace, the table refuses, this node does not
    /// lead, or it takes too long.
    pub async fn remove(&self, id: NodeId) -> Result<Committed, Error> {
        let members = self.status.borrow().members.clone();
        if members.voters().contains(&id) {
            let voters = voters::replace(&members, &self.table.table(), id)?;
            self.set_voters(&voters).await?;
        }
        let committed = self.propose(Command::Remove { id }).await?;
        match committed.outcome {
            Outcome::Refused(refusal) => Err(refusal.into()),
            _ => Ok(committed),
        }
    }

    /// How long writes of log and vote took, until they were on the disk.
    pub const fn flushes(&self) -> &Arc<Times> {
        &self.flushes
    }

    /// This node.
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Option<LeaderId> {
        self.status.borrow().leader
    }

    /// How things stand, now and whenever that changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// The table as applied here, now and whenever it changes.
    pub fn table(&self) -> TableWatch {
        self.table.clone()
    }

    /// Makes a snapshot now. It is done when [`Status::snapshot`] says so.
    ///
    /// # Errors
    /// If Raft has stopped.
    pub async fn snapshot(&self) -> Result<(), Error> {
        let trigger = self.core.0.trigger();
        limited("snapshot", PROPOSE, trigger.snapshot())
            .await?
            .map_err(stopped)
    }

    /// Waits until Raft runs here no more, and says why. After a fatal reason the process must end.
    pub async fn stopped(&self) -> Stopped {
        let mut stopped = self.stopped.clone();
        let seen = stopped.wait_for(Option::is_some).await;
        seen.ok()
            .and_then(|why| why.clone())
            .unwrap_or(Stopped::Shutdown)
    }

    /// Stops Raft here, within 5 s.
    ///
    /// # Errors
    /// If it takes longer.
    pub async fn shutdown(&self) -> Result<(), Error> {
        // A task that was cancelled or broke has stopped as well.
        limited("shut down", STOP, self.core.0.shutdown())
            .await
            .map(drop)
    }
}

async fn limited<T>(
    what: &'static str,
    limit: Duration,
    call: impl Future<Output = T>,
) -> Result<T, Error> {
    timeout(limit, call)
        .await
        .map_err(|_| Error::Timeout { what, limit })
}
