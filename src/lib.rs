//! Centripeta: a clustered, actor-based event router that sits behind Centrifugo.

pub mod answer;
mod app;
mod builtin;
mod cli;
mod client;
pub mod config;
pub mod config_routes;
mod control;
mod cx;
mod dispatch;
pub mod egress;
mod engine;
pub mod envelope;
pub mod event;
pub mod extract;
mod forward;
#[doc(hidden)]
pub mod fuzzing;
pub mod goridge;
pub mod handler;
mod inbound;
mod ingress;
pub mod interceptor;
pub mod json;
pub mod metrics;
mod node;
pub mod notify;
pub mod outcome;
mod pipeline;
mod pool;
pub mod proto;
mod region;
pub mod reject;
mod reload;
pub mod reply;
pub mod router;
pub mod routing;
mod rpc;
mod supervision;
mod telemetry;
pub mod testing;
pub mod trace;
mod upstream;
mod watchdog;
mod worker;

pub use app::{App, Refusal, run};
pub use cx::Cx;
pub use egress::Publisher;
pub use engine::{BuildError, Engine, EngineConfig, EngineError, EngineLimits, RouteInfo};
pub use event::{
    CacheEmptyReply, ChannelStateReply, ConnectReply, EventKind, Json, MapPublishReply,
    MapRemoveReply, PublishReply, RefreshReply, RpcReply, SharedPollRefreshReply, StreamReply,
    SubRefreshReply, SubscribeOptions, SubscribeReply,
};
pub use extract::{
    Attribute, Channel, Client, Data, Deadline, FromRef, Headers, Inbound, Meta, Method, Param,
    Raw, Request, State, User,
};
pub use forward::{AttributeType, Seat, Wire};
pub use ingress::tls::TlsError;
pub use interceptor::{Flow, Interceptor};
pub use node::{
    Addresses, BindError, BindErrors, ClusterError, GrpcAddress, Listeners, Node, NodeError,
};
pub use outcome::{Failure, IntoOutcome, Outcome};
pub use pool::Pool;
pub use reject::Reject;
pub use reply::Reply;
pub use router::{On, Route, Router};
pub use trace::TraceContext;
