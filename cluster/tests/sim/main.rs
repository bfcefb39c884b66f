//! Several nodes in one simulated network: real shells, links and openraft on turmoil, one thread,
//! simulated time, every fault drawn from a seed. Each seed is run twice and must leave the same trace
//! to the last line.
//!
//! | File | What is in it |
//! |---|---|
//! | `world.rs` | hosts, faults, and the order of a run |
//! | `seat.rs` | one node: its lives, its clock, the events that it runs and sends |
//! | `sockets.rs` | the network of turmoil, and the sockets of a process when it is killed |
//! | `store.rs` | the fence that all nodes share (R7), and the values that moves carry |
//! | `checker.rs` | the trace, and what must never happen |
//! | `seeds.rs` | which seeds are run |
//!
//! `SIM_SEEDS=5000 cargo test -p centripeta-cluster --test sim` runs more of them,
//! `SIM_FIRST=17 SIM_SEEDS=1` one of them alone. The order in which tokio takes ready branches is
//! seeded as well, which needs `--cfg tokio_unstable`: `.cargo/config.toml` sets it.
#![allow(clippy::unwrap_used)]

mod checker;
mod seat;
mod seeds;
mod sockets;
mod store;
mod world;
