//! Nodes that are cut off.
