//! Centripeta: a clustered, actor-based event router that sits behind Centrifugo.

pub mod config;
pub mod event;
mod json;
pub mod proto;
