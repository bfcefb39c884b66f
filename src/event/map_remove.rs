//! `map_remove`: a client removes an entry from a map channel; the reply allows it.

use super::{Event, EventKind, Gated, Parts};
use crate::answer::rules::Rules;
use crate::proto::proxy;
use crate::reply::{Intent, ReplyMessage};

/// A client removes an entry from a map channel.
#[derive(Debug, Clone, Copy)]
pub struct MapRemove;

impl Event for MapRemove {
    const KIND: EventKind = EventKind::MapRemove;
    type Request = proxy::MapRemoveRequest;
    type Result = proxy::MapRemoveResult;
    type Response = proxy::MapRemoveResponse;
}

impl Gated for MapRemove {
    fn result(message: &ReplyMessage) -> Option<&Self::Result> {
        match message {
            ReplyMessage::MapRemove(result) => Some(result),
            _ => None,
        }
    }

    fn message(result: Self::Result) -> ReplyMessage {
        ReplyMessage::MapRemove(Box::new(result))
    }

    fn parts(response: Self::Response) -> Result<Parts<Self::Result>, String> {
        Ok(Parts {
            result: response.result,
            error: response.error,
            disconnect: response.disconnect,
        })
    }

    fn check(_: &Self::Result, _: &Rules) -> Result<(), String> {
        Ok(())
    }
}

/// Allows a removal.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MapRemoveReply {
    result: proxy::MapRemoveResult,
    intent: Intent,
}

impl MapRemoveReply {
    /// Removes the entry under the key that the client sent.
    pub fn allow() -> Self {
        Self::default()
    }

    /// Removes this key instead.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.result.key = key.into();
        self
    }

    tag_setters!();
}

reply_of!(MapRemove, MapRemoveReply);
