//! Slots and ownership.
