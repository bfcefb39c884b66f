//! Centripeta: a clustered, actor-based event router that sits behind Centrifugo.

pub mod answer;
pub mod event;
pub mod json;
pub mod outcome;
pub mod proto;
pub mod reject;
pub mod reply;
