//! What forwarding needs of the links between nodes.

use bytes::Bytes;
use centripeta_cluster::NodeId;
use centripeta_cluster::peer::{Answer, Class, LinkState, Links, RequestError};
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

    fn is_reachable(&self, node: NodeId) -> bool {
        !matches!(
            self.state(node, Class::Data),
            LinkState::Silent | LinkState::Down
        )
    }
}
