//! Several nodes as one, as real processes on hosts of their own (network namespaces): what a client
//! gets while owners die, pause, are cut off, leave and come.
//!
//! Needs root and `ip`, `iptables`; says so in one line where they are missing.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it watches real processes, to which no paused clock applies"
)]
#![allow(dead_code, reason = "shared support; each target uses a part of it")]

#[path = "../support/outside.rs"]
mod outside;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/mod.rs"]
mod support;

mod drive;
mod faults;
mod fleet;
mod handoff;
mod handshake;
mod identity;
mod net;
mod partition;
mod pause;
mod relay;
mod rolling;
mod serves;
mod stream;
mod takeover;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One fleet at a time: they measure how long things take.
static TURN: Mutex<()> = Mutex::new(());

/// Held for as long as a test takes, by its own thread.
struct Turn(MutexGuard<'static, ()>);

/// A turn, if there can be hosts at all.
fn turn(what: &str) -> Option<Turn> {
    outside::or_skip(what, net::possible())?;
    Some(Turn(TURN.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// Not a test: what runs as a process of its own on a host of a test.
#[test]
fn probe() {
    let Ok(arguments) = std::env::var("PROBE_ARGS") else {
        return;
    };
    relay::run(&arguments.lines().collect::<Vec<_>>());
}

/// Whether the long forms are wanted.
fn long() -> bool {
    std::env::var_os("CLUSTER_LONG").is_some_and(|value| value == "1")
}
