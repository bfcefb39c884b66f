//! Nodes whose events are answered by upstreams over gRPC, with backends that show every byte.

#![allow(clippy::unwrap_used)]

#[path = "upstream/backend.rs"]
mod backend;
#[path = "upstream/bytes.rs"]
mod bytes_untouched;
#[path = "upstream/fleet.rs"]
mod fleet;
#[path = "upstream/front.rs"]
mod front;
#[path = "upstream/operations.rs"]
mod operations;
#[path = "support/process.rs"]
mod process;
#[path = "upstream/statuses.rs"]
mod statuses;
#[path = "upstream/streams.rs"]
mod streams;
mod support;
#[path = "upstream/tls.rs"]
mod tls;
