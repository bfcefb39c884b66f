//! The goridge RPC server: what workers call back by, as RoadRunner's plugins answer it.
//!
//! A call has a number, a method `service.Method`, a codec and an argument; calls of one connection
//! run beside each other, and answers come as they are ready. What is no frame ends its connection
//! and nothing else; what is no call of ours is answered with an error, in RoadRunner's words where
//! applications know them.

mod argument;
mod centrifuge;
mod fallback;
pub(crate) mod fuzz;
mod metrics;
mod room;
mod server;
mod services;
#[cfg(test)]
mod tests;

pub(crate) use metrics::Collectors;
pub(crate) use server::{Door, Server};
pub(crate) use services::Services;

use crate::goridge::Flags;

/// How arguments and results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// protobuf.
    Proto,
    /// JSON.
    Json,
    /// Bytes as they are.
    Raw,
    /// msgpack, which is not spoken here.
    Msgpack,
    /// Go's own encoding, which is not spoken here.
    Gob,
}

impl Codec {
    /// The codec of a call: of several bits the first in this order counts, and none is Go's.
    pub(crate) const fn of(flags: Flags) -> Self {
        if flags.has(Flags::PROTO) {
            Self::Proto
        } else if flags.has(Flags::JSON) {
            Self::Json
        } else if flags.has(Flags::RAW) {
            Self::Raw
        } else if flags.has(Flags::MSGPACK) {
            Self::Msgpack
        } else {
            Self::Gob
        }
    }

    /// The bit of the codec, as answers have it.
    pub(crate) const fn flags(self) -> Flags {
        match self {
            Self::Proto => Flags::PROTO,
            Self::Json => Flags::JSON,
            Self::Raw => Flags::RAW,
            Self::Msgpack => Flags::MSGPACK,
            Self::Gob => Flags::GOB,
        }
    }
}
