//! Several nodes as one, as real processes on hosts of their own (network namespaces): what a client
//! gets while owners die, pause, are cut off, leave and come.
//!
//! Needs root and `ip`, `iptables`; says so in one line where they are missing. `CLUSTER_LONG=1` (see
//! `scripts/cluster-long`) makes pauses, losses and delays as long and as many as they can get.
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

mod clocks;
mod drive;
mod ended;
mod faults;
mod fleet;
mod handoff;
mod handshake;
mod identity;
mod net;
mod operating;
mod partition;
mod pause;
mod relay;
mod rolling;
mod scene;
mod serves;
mod stream;
mod takeover;

use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Scenarios that run at a time: they wait more than they work.
const SEATS: usize = 2;

/// A share of time, in percent, beyond which a machine has enough to do.
const BUSY: f64 = 90.0;

/// Seats that are taken.
static TAKEN: Mutex<usize> = Mutex::new(0);
static LEFT: Condvar = Condvar::new();

/// Seats, held for as long as a scenario takes.
struct Turn(usize);

impl Turn {
    /// Waits for so many seats, if there can be hosts at all.
    fn take(what: &str, seats: usize) -> Option<Self> {
        static POSSIBLE: OnceLock<Result<(), &str>> = OnceLock::new();
        outside::or_skip(what, *POSSIBLE.get_or_init(net::possible))?;
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |taken: &mut usize| *taken + seats > SEATS;
        let free = LEFT.wait_while(taken, is_full);
        *free.unwrap_or_else(PoisonError::into_inner) += seats;
        Some(Self(seats))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        LEFT.notify_all();
    }
}

/// A turn beside another, where there is time for two; not so in the long forms.
fn turn(what: &str) -> Option<Turn> {
    Turn::take(what, if long() || is_busy() { SEATS } else { 1 })
}

/// Whether something on this machine waited for a processor nearly all of the last ten seconds.
fn is_busy() -> bool {
    let pressure = std::fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let some = pressure.strip_prefix("some avg10=");
    let share = some.and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok());
    share.unwrap_or(0.0) > BUSY
}

/// A turn of one that measures how long something takes: nothing else runs.
fn alone(what: &str) -> Option<Turn> {
    Turn::take(what, SEATS)
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

/// How long something lasts that could last for any time.
fn lasting(short: Duration, long_form: Duration) -> Duration {
    if long() { long_form } else { short }
}
