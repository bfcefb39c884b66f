//! `refresh`: a connection reached its expiry; the reply extends it or ends it.

use super::{Event, EventKind, Gated, Parts, setters::unix_after};
use crate::answer::rules::Rules;
use crate::proto::proxy;
use crate::reply::{Intent, ReplyMessage};
use serde::Serialize;
use std::time::Duration;

/// A connection reached its expiry.
#[derive(Debug, Clone, Copy)]
pub struct Refresh;

impl Event for Refresh {
    const KIND: EventKind = EventKind::Refresh;
    type Request = proxy::RefreshRequest;
    type Result = proxy::RefreshResult;
    type Response = proxy::RefreshResponse;
}

impl Gated for Refresh {
    fn result(message: &ReplyMessage) -> Option<&Self::Result> {
        match message {
            ReplyMessage::Refresh(result) => Some(result),
            _ => None,
        }
    }

    fn message(result: Self::Result) -> ReplyMessage {
        ReplyMessage::Refresh(Box::new(result))
    }

    fn parts(response: Self::Response) -> Result<Parts<Self::Result>, String> {
        Ok(Parts {
            result: response.result,
            error: response.error,
            disconnect: response.disconnect,
        })
    }

    fn check(result: &Self::Result, rules: &Rules) -> Result<(), String> {
        if !result.expired && result.expire_at <= 0 {
            return Err(
                "the refresh result sets neither `expire_at` nor `expired`, which ends \
                        the session; use `RefreshReply::extend` or `RefreshReply::expire`"
                    .to_owned(),
            );
        }
        rules.payload("info", &result.info, "b64info", &result.b64info)?;
        rules.meta(&result.meta)
    }
}

/// Extends a connection or ends it; there is no third answer, Centrifugo ignores errors here.
#[derive(Debug, Clone, PartialEq)]
pub struct RefreshReply {
    result: proxy::RefreshResult,
    intent: Intent,
}

impl RefreshReply {
    /// The connection lives on for this long; then it is asked for again.
    pub fn extend(by: Duration) -> Self {
        Self::extend_until(unix_after(by))
    }

    /// The connection lives on until then, in Unix seconds. 0 is refused when the reply leaves; a
    /// time in the past ends the connection.
    pub fn extend_until(unix_seconds: i64) -> Self {
        Self {
            result: proxy::RefreshResult {
                expire_at: unix_seconds,
                ..Default::default()
            },
            intent: Intent::default(),
        }
    }

    /// The connection is over: the client is closed with 3005 and connects anew.
    pub fn expire() -> Self {
        let mut reply = Self::extend_until(0);
        reply.result.expired = true;
        reply
    }

    payload_setters! {
        /// Replaces what others see of the connection.
        info, info_bytes
    }

    null_setter!();

    /// Replaces what Centrifugo keeps with the connection. It must become a JSON object; anything
    /// else is refused when the reply leaves.
    #[must_use]
    pub fn meta<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        self.result.meta = self.intent.json("meta", value);
        self
    }
}

reply_of!(Refresh, RefreshReply);
