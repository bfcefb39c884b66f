//! What Centrifugo asks: the kinds of event, by name and by wire method.

#[macro_use]
pub(crate) mod setters;

pub mod cache_empty;
pub mod channel_state;
pub mod connect;
pub mod map_publish;
pub mod map_remove;
pub mod publish;
pub mod raw;
pub mod refresh;
pub mod rpc;
pub mod shared_poll_refresh;
pub mod stream;
pub mod stream_bidirectional;
pub mod sub_refresh;
pub mod subscribe;

pub use cache_empty::{CacheEmpty, CacheEmptyReply};
pub use channel_state::{ChannelState, ChannelStateReply};
pub use connect::{Connect, ConnectReply, SubscribeOptions};
pub use map_publish::{KeyMode, MapPublish, MapPublishReply};
pub use map_remove::{MapRemove, MapRemoveReply};
pub use publish::{Publish, PublishReply};
pub use raw::{Raw, RawMessage};
pub use refresh::{Refresh, RefreshReply};
pub use rpc::{Json, Rpc, RpcReply};
pub use shared_poll_refresh::{SharedPollRefresh, SharedPollRefreshReply};
pub use stream::{Stream, StreamReply};
pub use stream_bidirectional::StreamBidirectional;
pub use sub_refresh::{SubRefresh, SubRefreshReply};
pub use subscribe::{Subscribe, SubscribeReply};

use crate::answer::rules::Rules;
use crate::proto::proxy;
use crate::reply::ReplyMessage;
use std::fmt;
use std::str::FromStr;

/// Path prefix of the proxy service; a method's HTTP/2 path is this and its name.
pub const SERVICE_PATH: &str = "/centrifugal.centrifugo.proxy.CentrifugoProxy/";

/// A kind of event of Centrifugo's proxy protocol (`proto/proxy.proto`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum EventKind {
    /// A client connects without a token.
    Connect,
    /// A connection reached its expiry.
    Refresh,
    /// A client subscribes to a channel.
    Subscribe,
    /// A subscription reached its expiry.
    SubRefresh,
    /// A client publishes into a channel.
    Publish,
    /// A client calls a method.
    Rpc,
    /// A subscription as a stream of publications to one client.
    Stream,
    /// The same, with the client's publications in the other direction.
    StreamBidirectional,
    /// A client publishes an entry into a map channel.
    MapPublish,
    /// A client removes an entry from a map channel.
    MapRemove,
    /// A Centrifugo node polls for tracked keys.
    SharedPollRefresh,
    /// A cache recovery found nothing stored (PRO).
    CacheEmpty,
    /// Channels became occupied or vacated (PRO).
    ChannelState,
    /// Any other unary method of the service, by path.
    Raw,
}

impl EventKind {
    /// Every kind, in the order of the declaration.
    pub const ALL: [Self; 14] = [
        Self::Connect,
        Self::Refresh,
        Self::Subscribe,
        Self::SubRefresh,
        Self::Publish,
        Self::Rpc,
        Self::Stream,
        Self::StreamBidirectional,
        Self::MapPublish,
        Self::MapRemove,
        Self::SharedPollRefresh,
        Self::CacheEmpty,
        Self::ChannelState,
        Self::Raw,
    ];

    /// The name in `node.toml`, on the command line, in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Refresh => "refresh",
            Self::Subscribe => "subscribe",
            Self::SubRefresh => "sub_refresh",
            Self::Publish => "publish",
            Self::Rpc => "rpc",
            Self::Stream => "stream",
            Self::StreamBidirectional => "stream_bidirectional",
            Self::MapPublish => "map_publish",
            Self::MapRemove => "map_remove",
            Self::SharedPollRefresh => "shared_poll_refresh",
            Self::CacheEmpty => "cache_empty",
            Self::ChannelState => "channel_state",
            Self::Raw => "raw",
        }
    }

    /// The method of the proxy service, as it stands in the path; empty for [`EventKind::Raw`].
    pub const fn method(self) -> &'static str {
        match self {
            Self::Connect => "Connect",
            Self::Refresh => "Refresh",
            Self::Subscribe => "Subscribe",
            Self::SubRefresh => "SubRefresh",
            Self::Publish => "Publish",
            Self::Rpc => "RPC",
            Self::Stream => "SubscribeUnidirectional",
            Self::StreamBidirectional => "SubscribeBidirectional",
            Self::MapPublish => "MapPublish",
            Self::MapRemove => "MapRemove",
            Self::SharedPollRefresh => "SharedPollRefresh",
            Self::CacheEmpty => "NotifyCacheEmpty",
            Self::ChannelState => "NotifyChannelState",
            Self::Raw => "",
        }
    }

    /// The kind that a method of the proxy service stands for; [`EventKind::Raw`] if it is none of
    /// the thirteen.
    pub fn from_method(method: &str) -> Self {
        let known = Self::ALL.iter().find(|kind| kind.method() == method);
        known
            .copied()
            .filter(|kind| *kind != Self::Raw)
            .unwrap_or(Self::Raw)
    }

    /// Whether the event opens a subscription stream.
    pub const fn is_stream(self) -> bool {
        matches!(self, Self::Stream | Self::StreamBidirectional)
    }

    /// Whether running the event twice does no harm, whatever its handler: it only asks who someone
    /// is, or whether something may go on.
    pub const fn is_retry_safe(self) -> bool {
        matches!(
            self,
            Self::Connect | Self::Refresh | Self::Subscribe | Self::SubRefresh
        )
    }

    /// Whether the event asks for an extension, where Centrifugo ignores errors and disconnects.
    pub const fn is_refresh(self) -> bool {
        matches!(self, Self::Refresh | Self::SubRefresh)
    }

    /// Whether the event names one channel, which routes match and which is its key by default.
    pub const fn has_channel(self) -> bool {
        matches!(
            self,
            Self::Subscribe
                | Self::SubRefresh
                | Self::Publish
                | Self::Stream
                | Self::StreamBidirectional
                | Self::MapPublish
                | Self::MapRemove
                | Self::SharedPollRefresh
                | Self::CacheEmpty
        )
    }

    /// What a route's `match` is compared with.
    pub const fn subject(self) -> Subject {
        match self {
            Self::Rpc | Self::Raw => Subject::Method,
            Self::Connect | Self::Refresh | Self::ChannelState => Subject::Nothing,
            _ => Subject::Channel,
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no event's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no event is called `{0}`")]
pub struct UnknownEvent(pub String);

impl FromStr for EventKind {
    type Err = UnknownEvent;

    fn from_str(name: &str) -> Result<Self, UnknownEvent> {
        let known = Self::ALL.iter().find(|kind| kind.name() == name);
        known.copied().ok_or_else(|| UnknownEvent(name.to_owned()))
    }
}

/// What the `match` of a route is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The channel, by a pattern such as `chat:{room}`.
    Channel,
    /// The rpc method (`a.b`, `a.*`, `*`), for raw events the name of the gRPC method.
    Method,
    /// The event has no name to match; `match` is refused.
    Nothing,
}

/// A kind of event as a type: what a handler of it gets and may answer.
///
/// Implemented by the markers of the modules below; not meant for other types.
pub trait Event: Send + Sync + 'static {
    /// The kind.
    const KIND: EventKind;
    /// The request message.
    type Request: prost::Message + Default + serde::Serialize + serde::de::DeserializeOwned;
    /// The result message inside the response.
    type Result: prost::Message + Default + serde::Serialize + serde::de::DeserializeOwned;
    /// The response message.
    type Response: prost::Message + Default + serde::Serialize + serde::de::DeserializeOwned;
}

/// What the gate has to know of an event to check its replies.
pub(crate) trait Gated: Event {
    /// The result, if the message is one of this event's.
    fn result(message: &ReplyMessage) -> Option<&Self::Result>;

    /// The reply of a result.
    fn message(result: Self::Result) -> ReplyMessage;

    /// The parts of a response, of which Centrifugo heeds one; why, if it can't be a response.
    fn parts(response: Self::Response) -> Result<Parts<Self::Result>, String>;

    /// Why a result may not leave.
    fn check(result: &Self::Result, rules: &Rules) -> Result<(), String>;
}

/// A response taken apart.
#[derive(Debug)]
pub(crate) struct Parts<R> {
    pub(crate) result: Option<R>,
    pub(crate) error: Option<proxy::Error>,
    pub(crate) disconnect: Option<proxy::Disconnect>,
}

/// Runs an expression with the marker type of a kind under the given name.
macro_rules! with_event {
    ($kind:expr, $event:ident => $body:expr) => {
        match $kind {
            $crate::event::EventKind::Connect => with_event!(@ $event = Connect; $body),
            $crate::event::EventKind::Refresh => with_event!(@ $event = Refresh; $body),
            $crate::event::EventKind::Subscribe => with_event!(@ $event = Subscribe; $body),
            $crate::event::EventKind::SubRefresh => with_event!(@ $event = SubRefresh; $body),
            $crate::event::EventKind::Publish => with_event!(@ $event = Publish; $body),
            $crate::event::EventKind::Rpc => with_event!(@ $event = Rpc; $body),
            $crate::event::EventKind::Stream => with_event!(@ $event = Stream; $body),
            $crate::event::EventKind::StreamBidirectional => {
                with_event!(@ $event = StreamBidirectional; $body)
            }
            $crate::event::EventKind::MapPublish => with_event!(@ $event = MapPublish; $body),
            $crate::event::EventKind::MapRemove => with_event!(@ $event = MapRemove; $body),
            $crate::event::EventKind::SharedPollRefresh => {
                with_event!(@ $event = SharedPollRefresh; $body)
            }
            $crate::event::EventKind::CacheEmpty => with_event!(@ $event = CacheEmpty; $body),
            $crate::event::EventKind::ChannelState => with_event!(@ $event = ChannelState; $body),
            $crate::event::EventKind::Raw => with_event!(@ $event = Raw; $body),
        }
    };
    (@ $event:ident = $name:ident; $body:expr) => {{
        type $event = $crate::event::$name;
        $body
    }};
}
pub(crate) use with_event;
