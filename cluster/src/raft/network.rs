//! How Raft's calls reach other nodes: through whatever carries bytes to a node and its answer back.

use std::future::Future;
use std::time::Duration;

use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    InstallSnapshotRequest, InstallSnapshotResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, Snapshot};

use super::types::{Append, Appended, Id, Kept, Place, Request, Response, Types, Vote};
use crate::NodeId;
use crate::codec::{decode_rpc, encode_rpc};

/// How long replication to a node rests that cannot be reached. Shorter than half of an election:
/// a node that comes back hears from the leader before it stands for election.
const REST: Duration = Duration::from_millis(50);

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no way to the node now; another try should wait a little.
    #[error("node {0} cannot be reached")]
    Unreachable(NodeId),
    /// It did not answer in time.
    #[error("node {to} did not answer within {limit:?}")]
    Timeout {
        /// The node.
        to: NodeId,
        /// How long was waited.
        limit: Duration,
    },
    /// It answered that it cannot.
    #[error("node {to} refused: {why}")]
    Refused {
        /// The node.
        to: NodeId,
        /// Its words.
        why: String,
    },
    /// Its answer makes no sense.
    #[error("the answer of node {to} is malformed: {why}")]
    Malformed {
        /// The node.
        to: NodeId,
        /// What is wrong with it.
        why: String,
    },
}

/// Carries calls of Raft. Cloning it is cheap: it is a handle.
pub trait Network: Clone + Send + Sync + 'static {
    /// Brings these bytes to the node, for its [`Raft::handle`](super::Raft::handle), and its answer
    /// back. Dropping the future gives the call up. It need not watch the time: the caller does.
    fn call(
        &self,
        to: NodeId,
        rpc: Vec<u8>,
    ) -> impl Future<Output = Result<Vec<u8>, CallError>> + Send;
}

/// Hands out clients.
#[derive(Debug, Clone)]
pub(crate) struct Clients<N>(pub(crate) N);

impl<N: Network> RaftNetworkFactory<Types> for Clients<N> {
    type Network = Client<N>;

    async fn new_client(&mut self, target: Id, _: &Place) -> Client<N> {
        Client {
            to: target.into(),
            network: self.0.clone(),
        }
    }
}

/// The way to one node.
#[derive(Debug)]
pub(crate) struct Client<N> {
    to: NodeId,
    network: N,
}

type Failed<E> = RPCError<Id, Place, RaftError<Id, E>>;

impl<N: Network> Client<N> {
    async fn call(&self, request: &Request, limit: Duration) -> Result<Response, CallError> {
        let to = self.to;
        let call = self.network.call(to, encode_rpc(request));
        let bytes = tokio::time::timeout(limit, call)
            .await
            .map_err(|_| CallError::Timeout { to, limit })??;
        decode_rpc(&bytes).map_err(|error| CallError::Malformed {
            to,
            why: error.to_string(),
        })
    }

    fn surprised(&self) -> CallError {
        CallError::Malformed {
            to: self.to,
            why: "it answers another call".to_owned(),
        }
    }
}

fn failed<E: std::error::Error>(error: &CallError) -> Failed<E> {
    match error {
        CallError::Timeout { .. } => RPCError::Network(NetworkError::new(error)),
        _ => RPCError::Unreachable(Unreachable::new(error)),
    }
}

fn broken(error: &CallError) -> StreamingError<Types, Fatal<Id>> {
    StreamingError::Unreachable(Unreachable::new(error))
}

impl<N: Network> RaftNetwork<Types> for Client<N> {
    async fn append_entries(
        &mut self,
        rpc: Append,
        option: RPCOption,
    ) -> Result<Appended, Failed<openraft::error::Infallible>> {
        match self.call(&Request::Append(rpc), option.hard_ttl()).await {
            Ok(Response::Append(appended)) => Ok(appended),
            Ok(_) => Err(failed(&self.surprised())),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Snapshots travel whole, by [`full_snapshot`](Self::full_snapshot): a table is small.
    async fn install_snapshot(
        &mut self,
        _: InstallSnapshotRequest<Types>,
        _: RPCOption,
    ) -> Result<InstallSnapshotResponse<Id>, Failed<openraft::error::InstallSnapshotError>> {
        Err(failed(&CallError::Refused {
            to: self.to,
            why: "a snapshot is not sent in pieces".to_owned(),
        }))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Id>,
        option: RPCOption,
    ) -> Result<VoteResponse<Id>, Failed<openraft::error::Infallible>> {
        match self.call(&Request::Vote(rpc), option.hard_ttl()).await {
            Ok(Response::Vote(voted)) => Ok(voted),
            Ok(_) => Err(failed(&self.surprised())),
            Err(error) => Err(failed(&error)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Id>, StreamingError<Types, Fatal<Id>>> {
        let kept = Kept {
            meta: snapshot.meta,
            table: snapshot.snapshot.into_inner(),
        };
        let request = Request::Snapshot { vote, kept };
        let answer = tokio::select! {
            closed = cancel => return Err(closed.into()),
            answer = self.call(&request, option.hard_ttl()) => answer,
        };
        match answer {
            Ok(Response::Snapshot { vote }) => Ok(SnapshotResponse::new(vote)),
            Ok(_) => Err(broken(&self.surprised())),
            Err(error) => Err(broken(&error)),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(REST))
    }
}
