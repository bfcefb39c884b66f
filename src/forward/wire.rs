//! What forwarding needs of the links between nodes.

use bytes::Bytes;
use centripeta_cluster::NodeId;
use centripeta_cluster::peer::{
    Answer, Answered, Class, LinkState, Links, RequestError, StreamAnswer,
};
use std::fmt;
use tokio::time::Instant;

/// The data links of this node to others.
pub trait Wire: Send + Sync + fmt::Debug + 'static {
    /// Sends a request. Those to one node start there in the order of the calls.
    ///
    /// # Errors
    /// It was not sent: the node is not known, too much waits for it, or it is too large. What becomes
    /// of it later, the answer says.
    fn request(
        &self,
        node: NodeId,
        kind: u8,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Answer, RequestError>;

    /// Sends a request that may be answered with a stream, in one order with the others.
    ///
    /// # Errors
    /// As [`Wire::request`].
    fn request_stream(
        &self,
        node: NodeId,
        kind: u8,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<StreamAnswer, RequestError>;

    /// Whether the link to a node carries something, as far as is known: true before its first use.
    fn is_reachable(&self, node: NodeId) -> bool;
}

impl Wire for Links {
    fn request(
        &self,
        node: NodeId,
        kind: u8,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Answer, RequestError> {
        Self::request(self, node, Class::Data, kind, payload, deadline)
    }

    fn request_stream(
        &self,
        node: NodeId,
        kind: u8,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<StreamAnswer, RequestError> {
        Self::request_stream(self, node, Class::Data, kind, payload, deadline)
    }

    fn is_reachable(&self, node: NodeId) -> bool {
        !matches!(
            self.state(node, Class::Data),
            LinkState::Silent | LinkState::Down
        )
    }
}

/// The answer to come, to either sort of request.
#[derive(Debug)]
pub(super) enum Pending {
    One(Answer),
    Stream(StreamAnswer),
}

impl Pending {
    /// Waits for it up to a time: `None` if it has not come by then. Cancelling loses nothing; not to
    /// be called again once it has come.
    pub(super) async fn by(&mut self, time: Instant) -> Option<Result<Answered, RequestError>> {
        match self {
            Self::One(answer) => answer.by(time).await,
            Self::Stream(answer) => answer.by(time).await,
        }
    }

    /// Waits for it. Cancelling loses nothing; not to be called again once it has come.
    pub(super) async fn wait(&mut self) -> Result<Answered, RequestError> {
        match self {
            Self::One(answer) => answer.ready().await,
            Self::Stream(answer) => answer.ready().await,
        }
    }

    /// Nobody wants it: the other node need not start the event, or go on with it. It says how that
    /// ended all the same.
    pub(super) fn cancel(&self) {
        match self {
            Self::One(answer) => answer.cancel(),
            Self::Stream(answer) => answer.cancel(),
        }
    }
}
