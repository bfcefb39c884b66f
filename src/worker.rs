//! Workers in other languages: pools of processes that answer events over goridge frames, as
//! RoadRunner runs them.
//!
//! An event borrows a worker's line from the pool's [`queue`] and talks to the process itself, on the
//! core where it is ([`lease`]); no actor stands between. A [`pool`] actor supervises a worker actor
//! for each process, which starts it, shakes hands, and sees to its end.

mod actor;
pub(crate) mod context;
pub(crate) mod handler;
pub(crate) mod info;
mod init;
mod lease;
mod link;
mod owner;
pub(crate) mod pool;
pub(crate) mod pools;
pub(crate) mod process;
pub(crate) mod queue;
pub(crate) mod relay;
mod stderr;
#[cfg(test)]
mod tests;
