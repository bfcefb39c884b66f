//! Hundreds of nodes: the whole shell of each (feed, leases, Raft, links), in one process over links in
//! memory.
//!
//! Time is simulated: each way of a link takes one to two milliseconds, work takes none. What the
//! leader costs is measured in real time, on a thread of its own. What the tests print are figures;
//! what they assert are the targets of the design.
//!
//! ```sh
//! cargo test -p centripeta-cluster --test scale -- --nocapture                                # 110 nodes
//! cargo test -p centripeta-cluster --release --test scale -- --ignored --nocapture --test-threads=1   # 300
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it measures"
)]

mod channels;
mod fleet;
mod net;
mod spread;
