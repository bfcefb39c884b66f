//! The client side of gRPC, for the servers that a node calls: Centrifugo's API and the upstreams of
//! `grpc` handlers.
//!
//! A call says what became of it: whether it was sent at all is what retries depend on. Messages are
//! bytes; who sends them knows what is in them.

mod budget;
mod incoming;
mod outgoing;
mod status;
pub(crate) mod tls;
mod wire;

pub(crate) use budget::Budget;
pub(crate) use incoming::Messages;
pub(crate) use outgoing::Outgoing;
pub(crate) use status::{CallError, GrpcStatus};
pub(crate) use tls::ClientTls;
pub(crate) use wire::{Connection, GRPC_TIMEOUT, Windows, dial, grpc_timeout};
