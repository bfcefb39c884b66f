//! Any event in process, for the tests of an application: no port, no Centrifugo.
//!
//! A [`TestRouter`] runs a real engine on the current runtime and answers byte for byte what the
//! gRPC frontend would send. It goes with a paused clock, so that deadlines, expiries and idle times
//! pass at once.
//!
//! ```
//! use centripeta::proto::proxy::RpcRequest;
//! use centripeta::testing::TestRouter;
//! use centripeta::{Reject, Router, RpcReply, User};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let router = Router::new().rpc("seat.hold", |User(user): User| async move {
//!     match user.as_str() {
//!         "42" => Ok(RpcReply::data(&"held")),
//!         _ => Err(Reject::error(409, "taken")),
//!     }
//! });
//! let router = TestRouter::new(router).await?;
//! let hold = |user: &str| RpcRequest {
//!     user: user.to_owned(),
//!     method: "seat.hold".to_owned(),
//!     ..Default::default()
//! };
//!
//! let held = router.rpc(hold("42")).await;
//! assert_eq!(held.result().map(|result| &*result.data), Some(&b"\"held\""[..]));
//!
//! let taken = router.rpc(hold("7")).metadata("x-request-id", "1").await;
//! assert_eq!(taken.error().map(|error| error.code), Some(409));
//!
//! // Without a route the answer is a refusal, never an empty OK.
//! let unknown = router.rpc(RpcRequest { method: "seat.steal".to_owned(), ..hold("42") }).await;
//! assert_eq!(unknown.error().map(|error| error.code), Some(104));
//! # Ok(())
//! # }
//! ```

mod call;
mod stream;
mod wire;

pub use call::{TestAnswer, TestCall};
pub use stream::{TestStream, TestStreamCall};

use crate::config::Config;
use crate::egress::{Publisher, Recorder};
use crate::engine::{Engine, EngineConfig, EngineError};
use crate::event::{
    CacheEmpty, ChannelState, Connect, EventKind, Gated, MapPublish, MapRemove, Publish, Raw,
    Refresh, Rpc, SERVICE_PATH, SharedPollRefresh, SubRefresh, Subscribe,
};
use crate::ingress::grpc::GrpcIngress;
use crate::node::engine_config;
use crate::proto::proxy;
use crate::router::Router;
use bytes::Bytes;
use centripeta_cluster::Standing;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

/// A router with an engine of its own, called in process. See the [module](self) for an example.
#[derive(Debug, Clone)]
pub struct TestRouter {
    ingress: GrpcIngress,
    engine: Engine,
    recorder: Arc<Recorder>,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $method:ident($request:ident) -> $event:ident;)*) => {
        $(
            $(#[$doc])*
            #[must_use = "an event happens when it is awaited"]
            #[allow(clippy::needless_pass_by_value, reason = "requests are built for one call")]
            pub fn $method(&self, request: proxy::$request) -> TestCall<$event> {
                self.call::<$event>(<$event as crate::event::Event>::KIND.method(), &request)
            }
        )*
    };
}

impl TestRouter {
    /// Starts an engine for the router on the current tokio runtime, at the built-in defaults. It
    /// runs until the runtime ends or [`TestRouter::shutdown`].
    ///
    /// # Errors
    /// The router contradicts itself; all problems are named.
    pub async fn new(router: Router) -> Result<Self, EngineError> {
        Self::with_config(router, &Config::default()).await
    }

    /// The same with other limits. Of the configuration only `[node]`, `[limits]`, `[runtime]` and
    /// `[channel]` count; there is one core.
    ///
    /// # Errors
    /// As for [`TestRouter::new`].
    pub async fn with_config(router: Router, config: &Config) -> Result<Self, EngineError> {
        let recorder = Arc::new(Recorder::default());
        let publisher = Publisher::recording(Arc::clone(&recorder));
        let mut router = Self::with_publisher(router, config, publisher).await?;
        router.recorder = recorder;
        Ok(router)
    }

    /// The same with a publisher of one's own, such as one that is connected to a real Centrifugo.
    ///
    /// # Errors
    /// As for [`TestRouter::new`].
    pub async fn with_publisher(
        router: Router,
        config: &Config,
        publisher: Publisher,
    ) -> Result<Self, EngineError> {
        let standing = Arc::new(Standing::alone(&config.node.name));
        Self::with_standing(router, config, publisher, standing).await
    }

    /// The same where slots may have other owners, as among several nodes: gates and lease are set
    /// on the standing.
    ///
    /// # Errors
    /// As for [`TestRouter::new`].
    pub async fn with_standing(
        router: Router,
        config: &Config,
        publisher: Publisher,
        standing: Arc<Standing>,
    ) -> Result<Self, EngineError> {
        Self::with_settings(router, engine_config(config), publisher, standing).await
    }

    /// The same with these settings of the engine.
    pub(crate) async fn with_settings(
        router: Router,
        settings: EngineConfig,
        publisher: Publisher,
        standing: Arc<Standing>,
    ) -> Result<Self, EngineError> {
        let cores = [Handle::current()];
        let engine = Engine::start_with(router, settings, standing, &cores, publisher).await?;
        let health = HealthServer::new(HealthService::from_health_reporter(HealthReporter::new()));
        let ingress = GrpcIngress::new(engine.clone(), 0, None, health);
        Ok(Self {
            ingress,
            engine,
            recorder: Arc::default(),
        })
    }

    calls! {
        /// A client connects.
        connect(ConnectRequest) -> Connect;
        /// A connection reaches its expiry.
        refresh(RefreshRequest) -> Refresh;
        /// A client subscribes.
        subscribe(SubscribeRequest) -> Subscribe;
        /// A subscription reaches its expiry.
        sub_refresh(SubRefreshRequest) -> SubRefresh;
        /// A client publishes.
        publish(PublishRequest) -> Publish;
        /// A client calls a method.
        rpc(RpcRequest) -> Rpc;
        /// A client publishes an entry into a map channel.
        map_publish(MapPublishRequest) -> MapPublish;
        /// A client removes an entry from a map channel.
        map_remove(MapRemoveRequest) -> MapRemove;
        /// Centrifugo polls for tracked keys.
        shared_poll_refresh(SharedPollRefreshRequest) -> SharedPollRefresh;
        /// A cache recovery found nothing.
        cache_empty(NotifyCacheEmptyRequest) -> CacheEmpty;
        /// Channels became occupied or vacated.
        channel_state(NotifyChannelStateRequest) -> ChannelState;
    }

    /// A unary method that is none of the thirteen, with its encoded message.
    #[must_use = "an event happens when it is awaited"]
    pub fn raw(&self, method: &str, message: impl Into<Bytes>) -> TestCall<Raw> {
        TestCall::new::<Raw>(self.ingress.clone(), &path(method), message.into())
    }

    /// An event of a kind with a message that is already encoded, whatever it holds: what a test of
    /// malformed input sends. `E` is not one of the two streams; see [`TestRouter::stream`].
    #[must_use = "an event happens when it is awaited"]
    #[allow(private_bounds, reason = "implemented for every event, and only there")]
    pub fn encoded<E: Gated>(&self, message: impl Into<Bytes>) -> TestCall<E> {
        let path = path(E::KIND.method());
        TestCall::new::<E>(self.ingress.clone(), &path, message.into())
    }

    /// A client subscribes to a channel whose subscriptions are streams.
    #[must_use = "an event happens when it is awaited"]
    #[allow(
        clippy::needless_pass_by_value,
        reason = "requests are built for one call"
    )]
    pub fn stream(&self, request: proxy::SubscribeRequest) -> TestStreamCall {
        let path = path(EventKind::Stream.method());
        let message = request.encode_to_vec().into();
        TestStreamCall::new(self.ingress.clone(), &path, message, false)
    }

    /// The same with a direction for the client's publications, see [`TestStream::publish`].
    #[must_use = "an event happens when it is awaited"]
    pub fn stream_bidirectional(&self, request: proxy::SubscribeRequest) -> TestStreamCall {
        let path = path(EventKind::StreamBidirectional.method());
        let first = proxy::StreamSubscribeRequest {
            subscribe_request: Some(request),
            publication: None,
        };
        let message = first.encode_to_vec().into();
        TestStreamCall::new(self.ingress.clone(), &path, message, true)
    }

    /// What handlers have published: nothing is sent, calls are kept and answered at once. Empty
    /// with a publisher of one's own.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The engine, for its counters and its readiness.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Drains as a node does: new events are refused, those in flight have `grace` to end, streams
    /// end with *unavailable*. Answers how many events and streams had to be cut.
    pub async fn shutdown(&self, grace: Duration) -> (usize, usize) {
        self.engine.shutdown(grace).await
    }

    fn call<E: Gated>(&self, method: &str, request: &E::Request) -> TestCall<E> {
        let message = request.encode_to_vec().into();
        TestCall::new::<E>(self.ingress.clone(), &path(method), message)
    }
}

fn path(method: &str) -> String {
    format!("{SERVICE_PATH}{method}")
}

#[cfg(test)]
mod tests;
