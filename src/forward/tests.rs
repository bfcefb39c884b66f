//! Nodes in one process, joined by real links over loopback; the tests set their tables.

#![allow(clippy::unwrap_used)]

mod cancel;
mod differ;
mod explain;
mod faults;
mod hostile;
mod lives;
mod moves;
mod net;
mod outcomes;
mod streams;

use net::{Net, ms};
