#![allow(clippy::unwrap_used)]

mod leases;
mod model;
mod moves;
mod proposals;
mod world;
