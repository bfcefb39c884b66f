//! What forwarding needs of the links between nodes.

use bytes::Bytes;
use centripeta_cluster::NodeId;
use centripeta_cluster::peer::{
    Answer, Answered, Answers, Class, LinkState, Links, Mark, RequestError, Sent, StreamAnswer,
};
use std::fmt;
use std::sync::Arc;
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

    /// Sends a request, in one order with the others, whose answer comes to a place; with `stream` it
    /// may be one.
    ///
    /// # Errors
    /// As [`Wire::request`]; nothing comes to the place then.
    fn request_to(
        &self,
        node: NodeId,
        what: (u8, bool),
        payload: Bytes,
        deadline: Instant,
        to: (Arc<dyn Answers>, Mark),
    ) -> Result<Sent, RequestError>;

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

    fn request_to(
        &self,
        node: NodeId,
        what: (u8, bool),
        payload: Bytes,
        deadline: Instant,
        to: (Arc<dyn Answers>, Mark),
    ) -> Result<Sent, RequestError> {
        Self::request_to(self, (node, Class::Data), what, payload, deadline, to)
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
    /// Waits for it. Cancelling loses nothing; not to be called again once it has come.
    pub(super) async fn wait(&mut self) -> Result<Answered, RequestError> {
        match self {
            Self::One(answer) => answer.ready().await,
            Self::Stream(answer) => answer.ready().await,
        }
    }
}
