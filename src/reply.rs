//! A reply before it leaves: the typed result of one event, raw bytes, or an explicit nothing.

use crate::event::EventKind;
use crate::json;
use crate::proto::proxy;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::Serialize;
use std::fmt;

/// The result message of an event, by kind.
#[derive(Debug, Clone, PartialEq)]
pub enum ReplyMessage {
    /// Of `connect`.
    Connect(Box<proxy::ConnectResult>),
    /// Of `refresh`.
    Refresh(Box<proxy::RefreshResult>),
    /// Of `subscribe`.
    Subscribe(Box<proxy::SubscribeResult>),
    /// Of `sub_refresh`.
    SubRefresh(Box<proxy::SubRefreshResult>),
    /// Of `publish`.
    Publish(Box<proxy::PublishResult>),
    /// Of `rpc`.
    Rpc(proxy::RpcResult),
    /// Of `map_publish`.
    MapPublish(Box<proxy::MapPublishResult>),
    /// Of `map_remove`.
    MapRemove(Box<proxy::MapRemoveResult>),
    /// Of `shared_poll_refresh`.
    SharedPollRefresh(Box<proxy::SharedPollRefreshResult>),
    /// Of `cache_empty`.
    CacheEmpty(proxy::NotifyCacheEmptyResult),
    /// Of `channel_state`.
    ChannelState(proxy::NotifyChannelStateResult),
    /// An encoded response message, sent as it is once it has passed the checks.
    Raw(Bytes),
    /// Neither result nor error nor disconnect: an act of the handler, in words (`Reply::empty()`).
    Empty,
}

/// A reply on its way out. Changing it through [`Reply::message_mut`] makes the gate check again.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    message: ReplyMessage,
    intent: Intent,
    sealed: Option<Bytes>,
}

/// What was said in words when the reply was built, and what went wrong then.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Intent {
    /// A connect result without a user is meant.
    pub(crate) anonymous: bool,
    /// A sub_refresh result that removes the expiry for good is meant.
    pub(crate) never_expires: bool,
    /// Payloads that are JSON `null` are meant.
    pub(crate) null_payloads: bool,
    /// An encoded response that leaves as it is, whatever is in it.
    pub(crate) untouched: bool,
    /// Why the reply can't be built; the gate refuses it with this text.
    pub(crate) flaw: Option<Box<str>>,
}

impl Intent {
    const NONE: Self = Self {
        anonymous: false,
        never_expires: false,
        null_payloads: false,
        untouched: false,
        flaw: None,
    };

    /// The JSON of a payload. If it can't be written, the first such error is kept for the gate.
    pub(crate) fn json<T: Serialize + ?Sized>(&mut self, field: &str, value: &T) -> Bytes {
        match serde_json::to_vec(value) {
            Ok(json) => Bytes::from(json),
            Err(why) => {
                self.spoil(format!("`{field}` can't be written as JSON: {why}"));
                Bytes::new()
            }
        }
    }

    /// Keeps the first thing that went wrong.
    pub(crate) fn spoil(&mut self, flaw: String) {
        self.flaw.get_or_insert_with(|| flaw.into());
    }

    /// Adds what was said while a part of the reply was built.
    pub(crate) fn absorb(&mut self, part: Self) {
        self.anonymous |= part.anonymous;
        self.never_expires |= part.never_expires;
        self.null_payloads |= part.null_payloads;
        self.untouched |= part.untouched;
        if let Some(flaw) = part.flaw {
            self.flaw.get_or_insert(flaw);
        }
    }
}

impl Reply {
    /// A reply with this result.
    pub const fn new(message: ReplyMessage) -> Self {
        Self::with_intent(message, Intent::NONE)
    }

    /// A reply with this result, and what was said when it was built.
    pub(crate) const fn with_intent(message: ReplyMessage, intent: Intent) -> Self {
        Self {
            message,
            intent,
            sealed: None,
        }
    }

    /// Neither result nor error nor disconnect. Centrifugo reads it as *allowed* for subscribe,
    /// publish, rpc, map events and streams, as *refused* (3501) for connect, and as *expired* for
    /// refresh and sub_refresh.
    pub const fn empty() -> Self {
        Self::new(ReplyMessage::Empty)
    }

    /// An encoded response message of the event (not only its result), sent as it is if it passes
    /// the checks; unknown fields survive.
    pub const fn raw(response: Bytes) -> Self {
        Self::new(ReplyMessage::Raw(response))
    }

    /// The reply of an event from the JSON of its result message: field names as in the contract;
    /// `data`, `info` and `meta` are JSON values, kept byte for byte. Wherever there is an
    /// `expire_at`, `expire_in` may stand instead: whole seconds or a duration (`"15m"`) from now.
    ///
    /// What is written out is meant: `"user": ""` (an anonymous user), `"expire_at": 0` of a
    /// sub_refresh (no expiry any more), and `null` as a payload. Unknown keys, wrong types and
    /// `null` anywhere else are errors that name the key.
    ///
    /// ```
    /// use centripeta::{event::EventKind, reply::Reply};
    ///
    /// let text = r#"{"user": "u1", "expire_in": "15m", "subs": {"news": {"data": {"n": 1}}}}"#;
    /// assert!(Reply::from_json(EventKind::Connect, text).is_ok());
    /// let why = Reply::from_json(EventKind::Connect, r#"{"user": 42}"#).unwrap_err();
    /// assert!(why.to_string().starts_with("connect result `user`:"));
    /// ```
    pub fn from_json(kind: EventKind, text: &str) -> Result<Self, json::Error> {
        json::reply_from_json(kind, text)
    }

    /// Says that a connect result without a user is meant: the client is admitted as anonymous.
    #[must_use]
    pub fn anonymous(mut self) -> Self {
        self.intent.anonymous = true;
        self
    }

    /// Says that a sub_refresh result without `expire_at` is meant: the subscription never expires
    /// again.
    #[must_use]
    pub fn never_expires(mut self) -> Self {
        self.intent.never_expires = true;
        self
    }

    /// Says that payloads which are JSON `null` are meant. Without it they are refused, save the
    /// data of an rpc: published, `null` would replace the publication.
    #[must_use]
    pub fn null_payloads(mut self) -> Self {
        self.intent.null_payloads = true;
        self
    }

    /// What was said when the reply was built.
    pub(crate) const fn intent(&self) -> &Intent {
        &self.intent
    }

    /// The result.
    pub const fn message(&self) -> &ReplyMessage {
        &self.message
    }

    /// The result, to change it. What was said when the reply was built (an anonymous user, no
    /// expiry, `null` payloads) still holds; the reply of a worker or an upstream, which leaves as it
    /// came, is one of ours from then on and checked like any other.
    pub fn message_mut(&mut self) -> &mut ReplyMessage {
        self.sealed = None;
        self.intent.untouched = false;
        &mut self.message
    }

    /// The checked and encoded response, if nothing has changed since.
    pub(crate) const fn sealed(&self) -> Option<&Bytes> {
        self.sealed.as_ref()
    }

    /// The same, taken out of a reply that is on its way.
    pub(crate) fn take_sealed(&mut self) -> Option<Bytes> {
        self.sealed.take()
    }

    /// Keeps the checked and encoded response.
    pub(crate) fn seal_with(&mut self, response: Bytes) {
        self.sealed = Some(response);
    }
}

/// Publications of a stream, as the handler produces them; an `Err` ends the stream with a failure.
pub type PublicationStream =
    BoxStream<'static, Result<proxy::Publication, crate::reject::BoxError>>;

/// Encoded messages of a stream that cross as they are.
pub(crate) type MessageStream = BoxStream<'static, Result<Bytes, crate::reject::BoxError>>;

/// An accepted subscription stream.
pub struct StreamOpen {
    /// What the client gets in the reply to its subscribe.
    pub(crate) first: FirstMessage,
    /// What follows it; the end of the source ends the stream.
    pub(crate) rest: StreamSource,
}

/// The first message of an accepted stream.
#[derive(Debug)]
pub(crate) enum FirstMessage {
    /// One with this result.
    Result(Box<proxy::SubscribeResult>),
    /// One that crosses as it is.
    Encoded(Bytes),
}

/// What follows the first message of a stream.
pub(crate) enum StreamSource {
    /// Publications.
    Publications(PublicationStream),
    /// Messages that cross as they are.
    Messages(MessageStream),
}

impl StreamOpen {
    /// A stream that begins with a message that carries this result, and ends with these
    /// publications.
    pub fn new(first: proxy::SubscribeResult, publications: PublicationStream) -> Self {
        Self {
            first: FirstMessage::Result(Box::new(first)),
            rest: StreamSource::Publications(publications),
        }
    }

    /// The same of encoded messages, which cross as they are.
    pub(crate) const fn encoded(first: Bytes, messages: MessageStream) -> Self {
        Self {
            first: FirstMessage::Encoded(first),
            rest: StreamSource::Messages(messages),
        }
    }
}

impl fmt::Debug for StreamOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamOpen")
            .field("first", &self.first)
            .finish_non_exhaustive()
    }
}
