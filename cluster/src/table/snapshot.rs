//! A whole table as bytes, and what a table that was read must satisfy.
//!
//! One format byte, eight bytes of checksum over the rest, then the table as the codec lays it out.

use super::Table;
use crate::codec::{self, DecodeError};
use crate::{HASH_ID, NodeId, SLOT_COUNT, SlotId};

/// What is wrong with a table that could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTable {
    /// It hashes names in another way.
    #[error("hash id {0:?}: this build knows {HASH_ID:?}")]
    HashId(String),
    /// It has another number of slots.
    #[error("{0} slots: must be {SLOT_COUNT}")]
    Slots(usize),
    /// A slot names a node that is not there, or is not alive.
    #[error(
        "slot {slot} is owned by or moves to node {node}, which does not live in that incarnation"
    )]
    Ghost {
        /// The slot.
        slot: SlotId,
        /// The node.
        node: NodeId,
    },
    /// A slot moves without an owner.
    #[error("slot {0} moves but has no owner")]
    MovesUnowned(SlotId),
    /// Two nodes have one name.
    #[error("nodes {0} and {1} have one name")]
    Namesakes(NodeId, NodeId),
}

impl Table {
    /// The table as bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode_table(self)
    }

    /// A table from bytes.
    ///
    /// # Errors
    /// If they are cut short, changed, of another format, or hold a table that cannot be.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let table = codec::decode_table(bytes)?;
        table.check()?;
        Ok(table)
    }

    /// Whether the table is one that commands can have led to.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&self) -> Result<(), InvalidTable> {
        if self.cluster.hash_id != HASH_ID {
            return Err(InvalidTable::HashId(self.cluster.hash_id.clone()));
        }
        if self.cluster.slot_count != SLOT_COUNT {
            return Err(InvalidTable::Slots(usize::from(self.cluster.slot_count)));
        }
        for (slot, rec) in self.slots() {
            let named = [rec.owner, rec.moving.map(|moving| moving.to)];
            if let Some(ghost) = named
                .into_iter()
                .flatten()
                .find(|named| !self.is_living(*named))
            {
                return Err(InvalidTable::Ghost {
                    slot,
                    node: ghost.id,
                });
            }
            if rec.moving.is_some() && rec.owner.is_none() {
                return Err(InvalidTable::MovesUnowned(slot));
            }
        }
        let mut names = std::collections::BTreeMap::new();
        for (id, node) in self
            .nodes
            .iter()
            .filter(|(_, node)| node.state != super::NodeState::Removed)
        {
            if let Some(other) = names.insert(&node.name, *id) {
                return Err(InvalidTable::Namesakes(other, *id));
            }
        }
        Ok(())
    }
}
