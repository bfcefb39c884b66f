//! Who acts for a slot.
//!
//! A node asks its [`Ownership`] on every keyed event. Alone it owns every slot
//! ([`Standing::alone`](crate::Standing::alone)); among several nodes the answer comes from the table
//! they agree on.

use std::fmt;

use crate::SlotId;

/// A node's number within its cluster; never used again for another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts the owners that a slot has had: one more at every grant. What an older owner writes can be
/// told from, and refused by, what a newer one has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnerEpoch(pub u64);

impl OwnerEpoch {
    /// The epoch of a slot's first owner.
    pub const FIRST: Self = Self(1);
}

impl fmt::Display for OwnerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who acts for a slot, as far as this node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// This node.
    Here {
        /// Under which epoch.
        epoch: OwnerEpoch,
    },
    /// Another node.
    Node {
        /// Which one.
        id: NodeId,
        /// Under which epoch.
        epoch: OwnerEpoch,
    },
    /// Nobody: events of the slot are answered as unavailable.
    Vacant,
}

/// Knows the owner of every slot.
pub trait Ownership: fmt::Debug + Send + Sync {
    /// The owner of a slot now. Asked on every keyed event: answers from memory, never waits.
    fn owner(&self, slot: SlotId) -> Owner;
}
