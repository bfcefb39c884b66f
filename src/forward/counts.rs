//! What forwarding counts.

use crate::metrics::cells::Counter;
use centripeta_cluster::peer::Reason;

/// Reasons of bounces, in the order of the cells.
pub(crate) const BOUNCES: [&str; 5] = ["wrong_owner", "moving", "lapsed", "behind", "stale"];

/// Counters of one node; all start at 0.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Events sent to another node, each once.
    pub(crate) forwarded: Counter,
    /// Events run by this node for itself.
    pub(crate) local: Counter,
    /// Events of other nodes that came in.
    pub(crate) received: Counter,
    /// Events that came back unstarted, by reason.
    pub(crate) bounced: [Counter; BOUNCES.len()],
    /// Events of other nodes that this node sent back unstarted, by reason.
    pub(crate) sent_back: [Counter; BOUNCES.len()],
    /// Events sent once more.
    pub(crate) resent: Counter,
    /// Held events that nobody took before their deadline.
    pub(crate) expired: Counter,
    /// Events that another node had when their callers went away: it was told.
    pub(crate) cancelled: Counter,
    /// Answers of lives of nodes that were over.
    pub(crate) dropped: Counter,
}

/// The place of a reason.
pub(super) const fn bounce(reason: Reason) -> usize {
    match reason {
        Reason::WrongOwner => 0,
        Reason::Moving(_) => 1,
        Reason::Lapsed => 2,
        Reason::Behind => 3,
        Reason::Stale => 4,
    }
}
