//! Several nodes behind a real Centrifugo, with clients of the official JavaScript SDK: what these see
//! while nodes share the work, leave, come back and die. Tests of lines of the conformance list carry
//! their number.
//!
//! Needs `centrifugo`, `node` and the packages of `tests/e2e`, and for two Centrifugos `redis-server`;
//! says so in one line where they are missing.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it watches real processes, to which no paused clock applies"
)]
#![allow(dead_code, reason = "shared support; each target uses a part of it")]

#[path = "../support/fleet.rs"]
mod nodes;
#[path = "../support/outside.rs"]
mod outside;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/mod.rs"]
mod support;
#[path = "../e2e/world.rs"]
mod world;

mod centrifugo;
mod clients;
mod every;
mod failover;
mod fleet;
mod load;
mod names;
mod poll;
mod program;
mod split;

use std::sync::{Mutex, MutexGuard, PoisonError};
use world::Programs;

/// One fleet at a time: they measure how long things take.
static TURN: Mutex<()> = Mutex::new(());

/// The turn of a test, on a runtime of its own.
struct Turn(MutexGuard<'static, ()>);

impl Turn {
    fn take() -> Self {
        Self(TURN.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A turn, and the programs, if they are there.
fn turn(what: &str) -> Option<(Turn, Programs)> {
    let programs = outside::or_skip(what, Programs::find())?;
    Some((Turn::take(), programs))
}

/// Not a test of its own: the program that tests start from this executable. Without their arguments
/// it does nothing.
#[test]
fn probe() {
    if let Ok(args) = std::env::var("PROBE_ARGS") {
        program::run(args.lines());
    }
}
