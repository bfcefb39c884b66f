//! `subscribe`: a client subscribes to a channel; the reply allows it, with options.

use super::{Event, EventKind, Gated, Parts};
use crate::answer::rules::Rules;
use crate::json;
use crate::proto::proxy;
use crate::reply::{Intent, ReplyMessage};

/// A client subscribes to a channel.
#[derive(Debug, Clone, Copy)]
pub struct Subscribe;

impl Event for Subscribe {
    const KIND: EventKind = EventKind::Subscribe;
    type Request = proxy::SubscribeRequest;
    type Result = proxy::SubscribeResult;
    type Response = proxy::SubscribeResponse;
}

impl Gated for Subscribe {
    fn result(message: &ReplyMessage) -> Option<&Self::Result> {
        match message {
            ReplyMessage::Subscribe(result) => Some(result),
            _ => None,
        }
    }

    fn message(result: Self::Result) -> ReplyMessage {
        ReplyMessage::Subscribe(Box::new(result))
    }

    fn parts(response: Self::Response) -> Result<Parts<Self::Result>, String> {
        Ok(Parts {
            result: response.result,
            error: response.error,
            disconnect: response.disconnect,
        })
    }

    fn check(result: &Self::Result, rules: &Rules) -> Result<(), String> {
        rules.payload("data", &result.data, "b64data", &result.b64data)?;
        rules.payload("info", &result.info, "b64info", &result.b64info)
    }
}

/// Allows a subscription.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SubscribeReply {
    pub(crate) result: proxy::SubscribeResult,
    pub(crate) intent: Intent,
}

impl SubscribeReply {
    /// Allows the subscription with the options of the namespace.
    pub fn allow() -> Self {
        Self::default()
    }

    /// Allows the subscription with the JSON of the result message, in the form that
    /// [`Reply::from_json`](crate::reply::Reply::from_json) takes.
    ///
    /// ```
    /// use centripeta::{StreamReply, SubscribeReply};
    ///
    /// let first = SubscribeReply::from_json(r#"{"data": {"n": 1}, "expire_in": "15m"}"#)?;
    /// let reply = StreamReply::silent().first(first);
    /// let why = SubscribeReply::from_json(r#"{"dta": 1}"#).unwrap_err();
    /// assert!(why.to_string().starts_with("subscribe result `dta`:"));
    /// # Ok::<(), centripeta::json::Error>(())
    /// ```
    ///
    /// # Errors
    /// The text is not JSON or not a subscribe result; the error names the key.
    pub fn from_json(text: &str) -> Result<Self, json::Error> {
        json::subscribe_from_json(text)
    }

    expiry_setters!("subscription");

    payload_setters! {
        /// What the client gets in the reply to its subscribe.
        data, data_bytes
    }

    payload_setters! {
        /// What others see of the client in this channel.
        info, info_bytes
    }

    null_setter!();

    override_setters!();

    /// What the client may do in the channel: `sub`, `pub`, `hst`, `prs` (Centrifugo PRO).
    #[must_use]
    pub fn permit<N: Into<String>>(mut self, actions: impl IntoIterator<Item = N>) -> Self {
        let actions = actions.into_iter().map(Into::into);
        self.result.allow.extend(actions);
        self
    }

    /// Publications that don't match the filter stay away from the client (Centrifugo PRO).
    #[must_use]
    pub fn server_tags_filter(mut self, filter: proxy::FilterNode) -> Self {
        self.result.server_tags_filter = Some(filter);
        self
    }
}

reply_of!(Subscribe, SubscribeReply);
