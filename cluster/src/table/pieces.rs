//! The parts of a table that copies of it share.
//!
//! A node keeps several copies of its table (what Raft has applied, its view, what its data path
//! reads), and each change makes new ones. What did not change is shared by all of them: a copy
//! costs a count per piece of slots and one for the nodes, a change the copy of what it touches.

use std::ops::{Deref, DerefMut, Index, IndexMut};
use std::sync::Arc;

use super::SlotRec;
use crate::SLOT_COUNT;

/// A value that is copied when one of its sharers changes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Shared<T>(Arc<T>);

impl<T> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

/// How many slots a piece has.
const PIECE: usize = 64;
const PIECES: usize = SLOT_COUNT as usize / PIECE;

/// All [`SLOT_COUNT`] slots, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pieces(Box<[Arc<[SlotRec; PIECE]>; PIECES]>);

impl Pieces {
    /// Every slot vacant.
    pub(crate) fn vacant() -> Self {
        let vacant = Arc::new([const { SlotRec::VACANT }; PIECE]);
        Self(Box::new([(); PIECES].map(|()| Arc::clone(&vacant))))
    }

    /// These slots; `None` if they are not [`SLOT_COUNT`].
    pub(crate) fn of(slots: Vec<SlotRec>) -> Option<Self> {
        if slots.len() != usize::from(SLOT_COUNT) {
            return None;
        }
        let mut pieces = Self::vacant();
        for (index, rec) in slots.into_iter().enumerate() {
            *pieces.get_mut(index)? = rec;
        }
        Some(pieces)
    }

    /// A slot.
    pub(crate) fn get(&self, index: usize) -> Option<&SlotRec> {
        self.0.get(index / PIECE)?.get(index % PIECE)
    }

    /// A slot, to change it: its piece is this copy's own from now on.
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut SlotRec> {
        Arc::make_mut(self.0.get_mut(index / PIECE)?).get_mut(index % PIECE)
    }

    /// Every slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &SlotRec> {
        self.0.iter().flat_map(|piece| piece.iter())
    }

    /// Every slot, to change them all.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut SlotRec> {
        let pieces = self.0.iter_mut();
        pieces.flat_map(|piece| Arc::make_mut(piece).iter_mut())
    }

    /// How many pieces two copies do not share.
    #[cfg(test)]
    pub(crate) fn apart(&self, other: &Self) -> usize {
        let pairs = self.0.iter().zip(other.0.iter());
        pairs.filter(|(one, two)| !Arc::ptr_eq(one, two)).count()
    }
}

impl Index<usize> for Pieces {
    type Output = SlotRec;

    fn index(&self, index: usize) -> &SlotRec {
        &self.0[index / PIECE][index % PIECE]
    }
}

impl IndexMut<usize> for Pieces {
    fn index_mut(&mut self, index: usize) -> &mut SlotRec {
        &mut Arc::make_mut(&mut self.0[index / PIECE])[index % PIECE]
    }
}
