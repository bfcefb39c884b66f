//! Nodes in one process, joined by real links over loopback; the tests set their tables.

#![allow(clippy::unwrap_used)]

mod net;
mod outcomes;

use net::{Net, ms};
