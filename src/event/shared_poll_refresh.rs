//! `shared_poll_refresh`: a Centrifugo node polls for tracked keys; the reply has what changed.

use super::{Event, EventKind, Gated, Parts};
use crate::answer::rules::Rules;
use crate::proto::proxy;
use crate::reply::{Intent, ReplyMessage};
use serde::Serialize;

/// A Centrifugo node polls for tracked keys.
#[derive(Debug, Clone, Copy)]
pub struct SharedPollRefresh;

impl Event for SharedPollRefresh {
    const KIND: EventKind = EventKind::SharedPollRefresh;
    type Request = proxy::SharedPollRefreshRequest;
    type Result = proxy::SharedPollRefreshResult;
    type Response = proxy::SharedPollRefreshResponse;
}

impl Gated for SharedPollRefresh {
    fn result(message: &ReplyMessage) -> Option<&Self::Result> {
        match message {
            ReplyMessage::SharedPollRefresh(result) => Some(result),
            _ => None,
        }
    }

    fn message(result: Self::Result) -> ReplyMessage {
        ReplyMessage::SharedPollRefresh(Box::new(result))
    }

    fn parts(response: Self::Response) -> Result<Parts<Self::Result>, String> {
        Ok(Parts {
            result: response.result,
            error: response.error,
            disconnect: None,
        })
    }

    fn check(result: &Self::Result, rules: &Rules) -> Result<(), String> {
        for item in &result.items {
            let at = |why| format!("items[{:?}]: {why}", item.key);
            rules.payload("data", &item.data, "", "").map_err(at)?;
            rules
                .payload("prev_data", &item.prev_data, "", "")
                .map_err(at)?;
        }
        Ok(())
    }
}

/// What changed among the polled keys; a key that is left out has not changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SharedPollRefreshReply {
    result: proxy::SharedPollRefreshResult,
    intent: Intent,
}

impl SharedPollRefreshReply {
    /// Nothing has changed, until items say otherwise.
    pub fn new() -> Self {
        Self::default()
    }

    /// A key's present value as JSON. `version` starts at 1 and never falls within an epoch;
    /// without versions it is 0, and Centrifugo compares the data.
    #[must_use]
    pub fn item<T: Serialize + ?Sized>(
        mut self,
        key: impl Into<String>,
        version: u64,
        value: &T,
    ) -> Self {
        let data = self.intent.json("data", value);
        self.result.items.push(proxy::SharedPollRefreshResultItem {
            key: key.into(),
            data,
            version,
            ..Default::default()
        });
        self
    }

    /// A key that is gone; those who track it are told.
    #[must_use]
    pub fn removed(mut self, key: impl Into<String>) -> Self {
        self.result.items.push(proxy::SharedPollRefreshResultItem {
            key: key.into(),
            removed: true,
            ..Default::default()
        });
        self
    }

    /// The epoch in which versions count. A new one makes every subscriber come anew, and every
    /// node must answer the same one for a channel.
    #[must_use]
    pub fn epoch(mut self, epoch: impl Into<String>) -> Self {
        self.result.epoch = epoch.into();
        self
    }

    null_setter!();
}

reply_of!(SharedPollRefresh, SharedPollRefreshReply);
