//! `publish`: a client publishes into a channel; the reply allows it, with changes.

use super::{Event, EventKind, Gated, Parts};
use crate::answer::rules::Rules;
use crate::proto::proxy;
use crate::reply::{Intent, ReplyMessage};
use serde::Serialize;

/// A client publishes into a channel.
#[derive(Debug, Clone, Copy)]
pub struct Publish;

impl Event for Publish {
    const KIND: EventKind = EventKind::Publish;
    type Request = proxy::PublishRequest;
    type Result = proxy::PublishResult;
    type Response = proxy::PublishResponse;
}

impl Gated for Publish {
    fn result(message: &ReplyMessage) -> Option<&Self::Result> {
        match message {
            ReplyMessage::Publish(result) => Some(result),
            _ => None,
        }
    }

    fn message(result: Self::Result) -> ReplyMessage {
        ReplyMessage::Publish(Box::new(result))
    }

    fn parts(response: Self::Response) -> Result<Parts<Self::Result>, String> {
        Ok(Parts {
            result: response.result,
            error: response.error,
            disconnect: response.disconnect,
        })
    }

    fn check(result: &Self::Result, rules: &Rules) -> Result<(), String> {
        rules.one_payload("data", &result.data, "b64data", &result.b64data)
    }
}

/// Allows a publication, as it is or changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PublishReply {
    result: proxy::PublishResult,
    intent: Intent,
}

impl PublishReply {
    /// Publishes what the client sent.
    pub fn allow() -> Self {
        Self::default()
    }

    /// Publishes the JSON of this value instead.
    pub fn replace<T: Serialize + ?Sized>(value: &T) -> Self {
        Self::allow().data(value)
    }

    replacing_setters! {
        /// What is published instead of what the client sent.
        data, data_bytes
    }

    null_setter!();

    /// Keeps the publication out of the channel's history.
    #[must_use]
    pub fn skip_history(mut self) -> Self {
        self.result.skip_history = true;
        self
    }

    tag_setters!();

    version_setters!();
}

reply_of!(Publish, PublishReply);
