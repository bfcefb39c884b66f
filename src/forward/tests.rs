//! Nodes in one process, joined by real links over loopback; the tests set their tables.

#![allow(clippy::unwrap_used)]

mod faults;
mod moves;
mod net;
mod outcomes;
mod streams;

use net::{Net, ms};
