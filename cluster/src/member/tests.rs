#![allow(clippy::unwrap_used)]
//! Data directories as starts, crashes, backups and copies leave them.
