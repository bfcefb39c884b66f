//! Nodes in one process, joined by real links.
