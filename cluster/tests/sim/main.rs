//! Several nodes in one simulated network: real shells, links and openraft on turmoil, one thread,
//! simulated time, every fault drawn from a seed. Each seed is run twice; most leave the same trace
//! to the last line, some do not yet (`seeds.rs`).
//!
//! | File | What is in it |
//! |---|---|
//! | `world.rs` | hosts, faults, and the order of a run |
//! | `seat.rs` | one node: its lives, its clock, the events that it runs and sends |
//! | `store.rs` | the store that all nodes share, with the fence of R7 |
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
mod store;
mod world;
