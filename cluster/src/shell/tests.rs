//! Several nodes in one process over real TCP: they form a cluster, lose and regain nodes, move slots.

#![allow(clippy::unwrap_used)]

mod faults;
mod forming;
mod leaving;
mod moves;
mod net;
mod nodes;
mod operating;
mod parts;
