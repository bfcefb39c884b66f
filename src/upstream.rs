//! Upstreams: applications in any language that speak Centrifugo's proxy protocol over gRPC, as they
//! would to Centrifugo itself (`kind = "grpc"`).
//!
//! An event goes out as the bytes that came in, and the bytes of the answer come back ([`handler`]).
//! Its way is decided for each call anew: a [`fleet`] holds every address of every endpoint, names are
//! looked up again and again ([`resolve`]), and of two taken at random the one with fewer calls under
//! way gets the call. Who fails several times in a row is left out for a while ([`health`]).
//!
//! A core has connections of its own to each address ([`member`]), so that a call stays on the core
//! where its event is. What was provably not sent is sent elsewhere; what was sent is sent again only
//! where the configuration says so, within a budget.

mod ask;
mod fleet;
pub(crate) mod handler;
mod health;
mod lease;
mod member;
mod metadata;
mod resolve;
mod stats;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

use arc_swap::ArcSwap;
use handler::Upstream;
use std::sync::Arc;

pub(crate) use stats::RESULTS as CALL_RESULTS;

/// The upstreams of a node. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upstreams(Arc<ArcSwap<Vec<Arc<Upstream>>>>);

impl Upstreams {
    /// Makes it these.
    pub(crate) fn set(&self, upstreams: &[Arc<Upstream>]) {
        self.0.store(Arc::new(upstreams.to_vec()));
    }

    /// All of them.
    pub(crate) fn all(&self) -> Arc<Vec<Arc<Upstream>>> {
        self.0.load_full()
    }
}
