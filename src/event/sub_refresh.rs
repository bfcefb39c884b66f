//! `sub_refresh`: a subscription reached its expiry; the reply extends it or ends it.

use super::{Event, EventKind, Gated, Parts, setters::unix_after};
use crate::answer::rules::Rules;
use crate::proto::proxy;
use crate::reply::{Intent, ReplyMessage};
use std::time::Duration;

/// A subscription reached its expiry.
#[derive(Debug, Clone, Copy)]
pub struct SubRefresh;

impl Event for SubRefresh {
    const KIND: EventKind = EventKind::SubRefresh;
    type Request = proxy::SubRefreshRequest;
    type Result = proxy::SubRefreshResult;
    type Response = proxy::SubRefreshResponse;
}

impl Gated for SubRefresh {
    fn result(message: &ReplyMessage) -> Option<&Self::Result> {
        match message {
            ReplyMessage::SubRefresh(result) => Some(result),
            _ => None,
        }
    }

    fn message(result: Self::Result) -> ReplyMessage {
        ReplyMessage::SubRefresh(Box::new(result))
    }

    fn parts(response: Self::Response) -> Result<Parts<Self::Result>, String> {
        Ok(Parts {
            result: response.result,
            error: response.error,
            disconnect: response.disconnect,
        })
    }

    fn check(result: &Self::Result, rules: &Rules) -> Result<(), String> {
        let unsaid = result.expire_at == 0 && !rules.never_expires;
        if !result.expired && (result.expire_at < 0 || unsaid) {
            return Err(
                "the sub_refresh result sets neither `expire_at` nor `expired`, which \
                        removes the expiry for good; use `SubRefreshReply::extend`, `expire` or \
                        `never_expires`"
                    .to_owned(),
            );
        }
        rules.payload("info", &result.info, "b64info", &result.b64info)
    }
}

/// Extends a subscription or ends it; there is no third answer, Centrifugo ignores errors here.
#[derive(Debug, Clone, PartialEq)]
pub struct SubRefreshReply {
    result: proxy::SubRefreshResult,
    intent: Intent,
}

impl SubRefreshReply {
    /// The subscription lives on for this long; then it is asked for again.
    pub fn extend(by: Duration) -> Self {
        Self::extend_until(unix_after(by))
    }

    /// The subscription lives on until then, in Unix seconds. 0 is refused when the reply leaves; a
    /// time in the past ends the subscription.
    pub fn extend_until(unix_seconds: i64) -> Self {
        Self {
            result: proxy::SubRefreshResult {
                expire_at: unix_seconds,
                ..Default::default()
            },
            intent: Intent::default(),
        }
    }

    /// The subscription is over: the client is unsubscribed with 2501 and subscribes anew.
    pub fn expire() -> Self {
        let mut reply = Self::extend_until(0);
        reply.result.expired = true;
        reply
    }

    /// The subscription does not expire any more: Centrifugo never asks for it again.
    pub fn never_expires() -> Self {
        let mut reply = Self::extend_until(0);
        reply.intent.never_expires = true;
        reply
    }

    payload_setters! {
        /// Replaces what others see of the subscription.
        info, info_bytes
    }

    null_setter!();
}

reply_of!(SubRefresh, SubRefreshReply);
