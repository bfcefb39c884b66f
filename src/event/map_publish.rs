//! `map_publish`: a client publishes an entry into a map channel; the reply allows it, with changes.

use super::{Event, EventKind, Gated, Parts};
use crate::answer::rules::Rules;
use crate::proto::proxy;
use crate::reply::{Intent, ReplyMessage};
use serde::Serialize;

/// A client publishes an entry into a map channel.
#[derive(Debug, Clone, Copy)]
pub struct MapPublish;

impl Event for MapPublish {
    const KIND: EventKind = EventKind::MapPublish;
    type Request = proxy::MapPublishRequest;
    type Result = proxy::MapPublishResult;
    type Response = proxy::MapPublishResponse;
}

impl Gated for MapPublish {
    fn result(message: &ReplyMessage) -> Option<&Self::Result> {
        match message {
            ReplyMessage::MapPublish(result) => Some(result),
            _ => None,
        }
    }

    fn message(result: Self::Result) -> ReplyMessage {
        ReplyMessage::MapPublish(Box::new(result))
    }

    fn parts(response: Self::Response) -> Result<Parts<Self::Result>, String> {
        Ok(Parts {
            result: response.result,
            error: response.error,
            disconnect: response.disconnect,
        })
    }

    fn check(result: &Self::Result, rules: &Rules) -> Result<(), String> {
        let (stream, b64stream) = (&result.stream_data, &result.b64stream_data);
        rules.one_payload("data", &result.data, "b64data", &result.b64data)?;
        rules.one_payload("stream_data", stream, "b64stream_data", b64stream)
    }
}

/// When an entry is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyMode {
    /// Only if the key is not there yet.
    IfNew,
    /// Only if the key is there.
    IfExists,
}

/// Allows an entry, as it is or changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MapPublishReply {
    result: proxy::MapPublishResult,
    intent: Intent,
}

impl MapPublishReply {
    /// Stores what the client sent, under the key it sent.
    pub fn allow() -> Self {
        Self::default()
    }

    /// Stores the JSON of this value instead.
    pub fn replace<T: Serialize + ?Sized>(value: &T) -> Self {
        Self::allow().data(value)
    }

    /// Stores under this key instead.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.result.key = key.into();
        self
    }

    replacing_setters! {
        /// What is stored instead of what the client sent.
        data, data_bytes
    }

    payload_setters! {
        /// What goes into the stream beside the map (ignored by Centrifugo 6.9).
        stream_data, stream_data_bytes
    }

    null_setter!();

    /// Stores only if the key is new, or only if it exists.
    #[must_use]
    pub fn key_mode(mut self, mode: KeyMode) -> Self {
        let name = match mode {
            KeyMode::IfNew => "if_new",
            KeyMode::IfExists => "if_exists",
        };
        name.clone_into(&mut self.result.key_mode);
        self
    }

    /// Place of the entry in an ordered map (ignored by Centrifugo 6.9).
    #[must_use]
    pub fn score(mut self, score: i64) -> Self {
        self.result.score = score;
        self
    }

    tag_setters!();

    version_setters!();
}

reply_of!(MapPublish, MapPublishReply);
