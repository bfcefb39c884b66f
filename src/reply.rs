//! A reply before it leaves: the typed result of one event, raw bytes, or an explicit nothing.

use crate::proto::proxy;
use bytes::Bytes;
use futures_util::stream::BoxStream;
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
    sealed: Option<Bytes>,
}

impl Reply {
    /// A reply with this result.
    pub const fn new(message: ReplyMessage) -> Self {
        Self {
            message,
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

    /// The result.
    pub const fn message(&self) -> &ReplyMessage {
        &self.message
    }

    /// The result, to change it.
    pub fn message_mut(&mut self) -> &mut ReplyMessage {
        self.sealed = None;
        &mut self.message
    }

    /// The checked and encoded response, if nothing has changed since.
    pub(crate) const fn sealed(&self) -> Option<&Bytes> {
        self.sealed.as_ref()
    }

    /// Keeps the checked and encoded response.
    pub(crate) fn seal_with(&mut self, response: Bytes) {
        self.sealed = Some(response);
    }
}

/// Publications of a stream, as the handler produces them; an `Err` ends the stream with a failure.
pub type PublicationStream =
    BoxStream<'static, Result<proxy::Publication, crate::reject::BoxError>>;

/// An accepted subscription stream.
pub struct StreamOpen {
    /// Carried in the first message.
    pub first: Box<proxy::SubscribeResult>,
    /// What follows it; the end of the source ends the stream.
    pub publications: PublicationStream,
}

impl fmt::Debug for StreamOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamOpen")
            .field("first", &self.first)
            .finish_non_exhaustive()
    }
}
