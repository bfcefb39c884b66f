//! Links between nodes: the part that needs no network.

mod order;

pub use order::{Arrived, Inbox, Opened, Outbox, StaleLink};
