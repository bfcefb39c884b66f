//! `connect`: a client connects without a token; the reply says who it is.

use super::{Event, EventKind, Gated, Parts};
use crate::answer::rules::Rules;
use crate::proto::proxy;
use crate::reply::{Intent, ReplyMessage};
use serde::Serialize;

/// A client connects without a token.
#[derive(Debug, Clone, Copy)]
pub struct Connect;

impl Event for Connect {
    const KIND: EventKind = EventKind::Connect;
    type Request = proxy::ConnectRequest;
    type Result = proxy::ConnectResult;
    type Response = proxy::ConnectResponse;
}

impl Gated for Connect {
    fn result(message: &ReplyMessage) -> Option<&Self::Result> {
        match message {
            ReplyMessage::Connect(result) => Some(result),
            _ => None,
        }
    }

    fn message(result: Self::Result) -> ReplyMessage {
        ReplyMessage::Connect(Box::new(result))
    }

    fn parts(response: Self::Response) -> Result<Parts<Self::Result>, String> {
        Ok(Parts {
            result: response.result,
            error: response.error,
            disconnect: response.disconnect,
        })
    }

    fn check(result: &Self::Result, rules: &Rules) -> Result<(), String> {
        if result.user.is_empty() && !rules.anonymous {
            return Err(
                "the connect result names no user; say `ConnectReply::anonymous()` (in \
                        JSON `\"user\": \"\"`) if an anonymous user is meant"
                    .to_owned(),
            );
        }
        rules.payload("data", &result.data, "b64data", &result.b64data)?;
        rules.payload("info", &result.info, "b64info", &result.b64info)?;
        rules.meta(&result.meta)?;
        for (channel, options) in &result.subs {
            let at = |why| format!("subs[{channel:?}]: {why}");
            rules
                .payload("data", &options.data, "b64data", &options.b64data)
                .map_err(at)?;
            rules
                .payload("info", &options.info, "b64info", &options.b64info)
                .map_err(at)?;
        }
        Ok(())
    }
}

/// Admits a client: who it is, until when, and what it is subscribed to from the start.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectReply {
    result: proxy::ConnectResult,
    intent: Intent,
}

impl ConnectReply {
    /// Admits the client as this user. An empty id is refused when the reply leaves: anonymous
    /// users are admitted by [`ConnectReply::anonymous`] only.
    pub fn user(id: impl Into<String>) -> Self {
        Self {
            result: proxy::ConnectResult {
                user: id.into(),
                ..Default::default()
            },
            intent: Intent::default(),
        }
    }

    /// Admits the client without a user id, whatever Centrifugo's own settings for anonymous
    /// users are.
    pub fn anonymous() -> Self {
        let mut reply = Self::user("");
        reply.intent.anonymous = true;
        reply
    }

    expiry_setters!("connection");

    payload_setters! {
        /// What the client gets in the reply to its connect.
        data, data_bytes
    }

    payload_setters! {
        /// What others see of the connection in presence, joins and publications.
        info, info_bytes
    }

    null_setter!();

    /// What Centrifugo keeps with the connection and hands to later events, unseen by the client.
    /// It must become a JSON object; anything else is refused when the reply leaves.
    #[must_use]
    pub fn meta<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        self.result.meta = self.intent.json("meta", value);
        self
    }

    /// Subscribes the connection to a channel with the options of its namespace.
    #[must_use]
    pub fn channel(mut self, name: impl Into<String>) -> Self {
        self.result.channels.push(name.into());
        self
    }

    /// Subscribes the connection to a channel with options of its own; they win over
    /// [`ConnectReply::channel`].
    #[must_use]
    pub fn sub(mut self, name: impl Into<String>, options: impl Into<SubscribeOptions>) -> Self {
        let options = options.into();
        self.intent.absorb(options.intent);
        self.result.subs.insert(name.into(), options.result);
        self
    }

    /// Adds a label to the connection (Centrifugo PRO).
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.result.labels.insert(name.into(), value.into());
        self
    }
}

reply_of!(Connect, ConnectReply);

/// Options of a subscription that the connect reply brings along.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SubscribeOptions {
    result: proxy::SubscribeOptions,
    intent: Intent,
}

impl SubscribeOptions {
    /// The options of the namespace.
    pub fn new() -> Self {
        Self::default()
    }

    payload_setters! {
        /// What the client gets with the subscription.
        data, data_bytes
    }

    payload_setters! {
        /// What others see of the client in this channel.
        info, info_bytes
    }

    override_setters!();

    /// Whether the client gets the channel's last publication (cache recovery mode only).
    #[must_use]
    pub fn cache_recover(mut self, on: bool) -> Self {
        self.result.cache_recover = on;
        self
    }
}

impl From<proxy::SubscribeOptions> for SubscribeOptions {
    fn from(result: proxy::SubscribeOptions) -> Self {
        Self {
            result,
            intent: Intent::default(),
        }
    }
}
