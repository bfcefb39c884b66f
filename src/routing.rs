//! From an event to its route and its lane: pure functions, no I/O, nothing that waits.
//!
//! | To change | Open |
//! |---|---|
//! | what a pattern such as `chat:{room}` means, which of two is more specific | `pattern.rs` |
//! | what a key such as `showing:{data.id}` means, what a lane is called | `key.rs` |
//! | which route an event takes, what makes a set of routes refuse to start | `table.rs` |

pub mod key;
pub mod pattern;
pub mod table;
