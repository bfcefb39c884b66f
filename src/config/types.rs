//! The configuration as the node uses it: validated, typed, and the only form that travels.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use super::cluster::ClusterConfig;
use super::problem::Origin;
use super::secret::Secret;
use crate::event::EventKind;
use centripeta_cluster::{Roles, Serves};

/// Everything a node is told. [`Config::default`] is the built-in defaults: no route, no
/// interceptor.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[node]`
    pub node: NodeConfig,
    /// `[listen]`
    pub listen: ListenConfig,
    /// `[centrifugo]`
    pub centrifugo: CentrifugoConfig,
    /// `[channel]`
    pub channel: ChannelConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[limits]`
    pub limits: LimitsConfig,
    /// `[runtime]`
    pub runtime: RuntimeConfig,
    /// `[metrics]`
    pub metrics: MetricsConfig,
    /// `[rpc]`
    pub rpc: RpcConfig,
    /// `[cluster]`; without it the node runs alone.
    pub cluster: Option<ClusterConfig>,
    /// `[[interceptor]]`, in file order.
    pub interceptors: Vec<InterceptorConfig>,
    /// `[[route]]`, in file order; handler and interceptors exist under their names.
    pub routes: Vec<RouteConfig>,
    /// `[handler.NAME]` and the built-in handlers, by name.
    pub handlers: BTreeMap<String, HandlerConfig>,
}

/// `[node]`: who the node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its name in logs, metrics and replies.
    pub name: String,
    /// The folder of what a member of a cluster keeps.
    pub data: PathBuf,
    /// What it is there for in a cluster.
    pub roles: Roles,
    /// Which events it runs in a cluster.
    pub serves: Serves,
}

/// `[listen]`: where the node listens and whom it lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenConfig {
    /// Where Centrifugo's event proxy reaches us.
    pub grpc: ListenAddr,
    /// Where the admin listener is.
    pub admin: SocketAddr,
    /// The credential that callers of `grpc` must present.
    pub auth: Option<AuthConfig>,
    /// The certificate of `grpc`; h2c without.
    pub tls: Option<TlsConfig>,
    /// The bearer token of the admin listener, never empty.
    pub admin_token: Option<Secret>,
    /// Whether `grpc` may be open beyond loopback without a credential.
    pub allow_open: bool,
    /// After how long, ± 20 %, a connection is asked to reconnect.
    pub max_connection_age: Duration,
}

/// `listen.auth`: a credential in metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// The metadata key, lower case.
    pub metadata: String,
    /// What it must hold, never empty.
    pub value: Secret,
}

/// `listen.tls`: files in PEM form, which were there at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority that callers' certificates must come from.
    pub client_ca: Option<PathBuf>,
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddr {
    /// TCP; port 0 takes any free one.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl ListenAddr {
    /// Whether other machines can reach it; a wildcard address counts as yes.
    pub fn is_beyond_loopback(&self) -> bool {
        match self {
            Self::Tcp(address) => is_beyond_loopback(address),
            Self::Unix(_) => false,
        }
    }
}

/// Whether other machines can reach a TCP address; a wildcard counts as yes.
pub(super) fn is_beyond_loopback(address: &SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// `[rpc]`: where worker applications call back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RpcConfig {
    /// Where to listen, if that is said; see [`RpcConfig::listens`].
    pub listen: Option<RpcListen>,
    /// Whether it may be reached beyond loopback.
    pub allow_open: bool,
    /// Who answers calls of services that are not here.
    pub fallback: Option<RpcAddress>,
    /// Whether a disconnect that old SDKs send under the wrong name is carried out.
    pub old_disconnect: bool,
}

impl Config {
    /// The first key by which others than this machine can reach the node: a listener, or what the
    /// rest of its cluster is told to dial. For programs that are for one machine only, see
    /// [`App::require`](crate::App::require).
    pub fn beyond_loopback(&self) -> Option<&'static str> {
        let rpc = self.rpc.listens(self.has_workers());
        let cluster = self.cluster.as_ref();
        let dialled = cluster.and_then(|cluster| cluster.advertise.as_deref());
        let reached = [
            ("listen.grpc", self.listen.grpc.is_beyond_loopback()),
            ("listen.admin", is_beyond_loopback(&self.listen.admin)),
            (
                "rpc.listen",
                rpc.is_some_and(|address| address.is_beyond_loopback()),
            ),
            (
                "cluster.listen",
                cluster.is_some_and(|cluster| is_beyond_loopback(&cluster.listen)),
            ),
            (
                "cluster.advertise",
                dialled.is_some_and(super::rules::cluster::is_elsewhere),
            ),
        ];
        let first = reached.into_iter().find(|(_, reached)| *reached);
        first.map(|(key, _)| key)
    }

    /// Whether a route is answered by a worker pool.
    pub(crate) fn has_workers(&self) -> bool {
        self.routes.iter().any(|route| {
            let handler = self.handlers.get(&route.handler);
            matches!(handler, Some(HandlerConfig::Workers(_)))
        })
    }
}

impl RpcConfig {
    /// Where the RPC server listens: as it is said, else on `tcp://127.0.0.1:6001` if the node has
    /// worker pools, else nowhere.
    pub fn listens(&self, has_pools: bool) -> Option<RpcAddress> {
        match &self.listen {
            Some(RpcListen::Off) => None,
            Some(RpcListen::At(address)) => Some(address.clone()),
            None => has_pools.then(|| RpcAddress::Tcp {
                host: "127.0.0.1".to_owned(),
                port: 6001,
            }),
        }
    }
}

/// `rpc.listen`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RpcListen {
    /// Nowhere, whatever handlers there are.
    Off,
    /// Here.
    At(RpcAddress),
}

/// An address of a goridge RPC server, as PHP's libraries write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RpcAddress {
    /// TCP.
    Tcp {
        /// A name or an address; IPv6 in brackets.
        host: String,
        /// To listen, 0 takes any free one; never 0 otherwise.
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
}

impl RpcAddress {
    /// Whether other machines may be able to reach it. A wildcard counts as yes, and so does a
    /// name other than `localhost`, of which nobody knows what it will mean.
    pub fn is_beyond_loopback(&self) -> bool {
        match self {
            Self::Tcp { host, .. } => {
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                let ip = bare.parse::<std::net::IpAddr>();
                !host.eq_ignore_ascii_case("localhost")
                    && !ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
            }
            Self::Unix(_) => false,
        }
    }
}

impl fmt::Display for RpcAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// How frames reach the workers of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum RelayAddress {
    /// By their stdin and stdout.
    #[default]
    Pipes,
    /// By a socket that they connect to.
    Socket(RpcAddress),
}

/// As `RR_RELAY` tells it.
impl fmt::Display for RelayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pipes => f.write_str("pipes"),
            Self::Socket(address) => address.fmt(f),
        }
    }
}

/// `[centrifugo]`: the Centrifugo we publish to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CentrifugoConfig {
    /// Its gRPC server APIs.
    pub api: Vec<Endpoint>,
    /// The key of that API, never empty.
    pub key: Option<Secret>,
    /// How long a call may take.
    pub timeout: Duration,
    /// Calls that wait or are on their way.
    pub queue: NonZeroUsize,
    /// The bytes of those calls together.
    pub queue_bytes: usize,
    /// Publications sent in one call.
    pub batch: NonZeroUsize,
    /// Batches on their way to one endpoint at once.
    pub flights: NonZeroUsize,
    /// The largest message sent, in bytes.
    pub message_bytes: usize,
    /// TLS towards `grpcs://` endpoints.
    pub tls: ClientTlsConfig,
    /// Where clients connect, `ws://` or `wss://`; used only to check a setup.
    pub client: String,
}

/// `centrifugo.tls`: files in PEM form, which were there at the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientTlsConfig {
    /// The authority that the endpoints' certificates must come from; `None` for the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate and its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A gRPC server to call, `grpc://HOST:PORT`, or `grpcs://HOST:PORT` with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// A name or an address; IPv6 in brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

impl Endpoint {
    /// The host without the brackets of IPv6, as it is looked up and certified.
    pub(crate) fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// `HOST:PORT`.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "grpcs" } else { "grpc" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// `[channel]`: how channel names are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelConfig {
    /// What ends the namespace, never empty.
    pub namespace_boundary: String,
}

/// `[log]`: what the node says on stderr, and where its traces go.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// A level, or `level,target=level`, fit for an env filter.
    pub level: String,
    /// Where traces are exported to; nothing is recorded without.
    pub otlp: Option<OtlpConfig>,
    /// The share of traces recorded of those that begin here, 0 to 1.
    pub sampling: f64,
    /// The `service.name` of traces; `None` for the program's name.
    pub service: Option<String>,
}

/// `log.otlp`: a collector of traces, and what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpConfig {
    /// Its address.
    pub collector: Collector,
    /// Metadata of every export: names in lower case, values of visible ASCII.
    pub headers: Vec<(String, Secret)>,
    /// The authority that its certificate must come from; `None` for the system's.
    pub ca: Option<PathBuf>,
}

/// A collector that speaks OTLP over gRPC, `http://HOST:PORT`, or `https://HOST:PORT` with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// A name or an address; IPv6 in brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// `[limits]`: admission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Events being worked on at once.
    pub in_flight: NonZeroUsize,
    /// The bytes of those events together; at least `message_bytes`.
    pub in_flight_bytes: usize,
    /// Accepted subscription streams.
    pub streams: NonZeroUsize,
    /// The largest message taken, in bytes. Replies are limited by
    /// [`MAX_REPLY_BYTES`](crate::answer::MAX_REPLY_BYTES) instead.
    pub message_bytes: usize,
    /// The headers of one call together, in bytes.
    pub header_bytes: usize,
    /// How long an event may take where the caller names no deadline.
    pub timeout: Duration,
    /// How much earlier than the caller we give up; at most a tenth of the time there is.
    pub deadline_margin: Duration,
    /// Events waiting in one lane.
    pub lane_queue: NonZeroUsize,
    /// Events that wait in one shard.
    pub shard_events: NonZeroUsize,
    /// The bytes of those events together; at least `message_bytes`.
    pub shard_bytes: usize,
    /// How long a stopping node waits for what it has accepted.
    pub shutdown_grace: Duration,
}

/// `[runtime]`: cores, shards and idle lanes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// Threads that handle events; `None` for one per core.
    pub cores: Option<NonZeroUsize>,
    /// Shard actors on each, 8 to 64.
    pub shards_per_core: NonZeroUsize,
    /// After how long without an event a lane with state sleeps.
    pub passivate_after: Duration,
    /// How long a handler may hold its thread before it is named.
    pub watchdog: Duration,
}

/// `[metrics]`: what the node counts of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsConfig {
    /// Whether it counts, and answers `/metrics`.
    pub enabled: bool,
    /// Whether worker pools are shown under RoadRunner's names too.
    pub roadrunner: bool,
}

/// One `[[interceptor]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct InterceptorConfig {
    /// Its name; no two share one.
    pub name: String,
    /// The events it sees.
    pub on: On,
    /// What it does.
    pub kind: InterceptorKind,
    /// Where it stands.
    pub origin: Origin,
}

/// The events that an interceptor sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum On {
    /// All, outermost.
    All,
    /// These, inside those on all.
    Events(Vec<EventKind>),
    /// Those of the routes that name it, innermost.
    Route,
}

/// What an interceptor does.
#[derive(Debug, Clone, PartialEq)]
pub enum InterceptorKind {
    /// `access-log`: a line per event.
    AccessLog {
        /// The level of its lines.
        level: tracing::Level,
        /// What a line shows.
        fields: Vec<String>,
    },
    /// `header-auth`: refuses what lacks a header.
    HeaderAuth {
        /// The metadata key, lower case.
        header: String,
        /// What it must hold, never empty.
        value: Secret,
    },
    /// `limit`: refuses what comes too fast.
    Limit {
        /// Events a second, above 0.
        rate: f64,
        /// Events at once after a pause.
        burst: NonZeroU32,
        /// `user`, `client`, `channel`, `all` or a template; `None` for `user`, on connect `all`.
        per: Option<String>,
    },
}

/// One `[[route]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteConfig {
    /// The events it takes, each once, never empty.
    pub on: Vec<EventKind>,
    /// The channels or methods; `None` for all.
    pub pattern: Option<String>,
    /// `none`, `user`, `client`, `channel` or a template; `None` for the event's default.
    pub key: Option<String>,
    /// The name of a handler in [`Config::handlers`].
    pub handler: String,
    /// How long its events may take; `None` for the limit of all.
    pub timeout: Option<Duration>,
    /// Whether its events may run twice, should a node of the cluster be lost with them.
    pub retry_safe: bool,
    /// Names of interceptors that its events pass innermost, in this order.
    pub interceptors: Vec<String>,
    /// Threads of its own for the handler; `None` to run on the shards' threads.
    pub pool: Option<NonZeroUsize>,
    /// Where it stands.
    pub origin: Origin,
}

/// A handler of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum HandlerConfig {
    /// `static`: a fixed answer.
    Static(StaticAnswer),
    /// `allow`: the event's plain yes.
    Allow {
        /// By how much refresh and sub_refresh extend.
        extend: Duration,
    },
    /// `deny`: the event's plain no.
    Deny,
    /// `echo`: an rpc's data back to the caller.
    Echo,
    /// `counter`: counts the events of its key.
    Counter,
    /// `roadrunner`: a pool of worker processes.
    Workers(Box<WorkersConfig>),
    /// `grpc`: an upstream that speaks Centrifugo's proxy protocol.
    Upstream(Box<UpstreamConfig>),
}

/// A `roadrunner` handler: worker processes and their pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkersConfig {
    /// Program and arguments, never empty.
    pub command: Vec<String>,
    /// How frames reach the workers.
    pub relay: RelayAddress,
    /// Environment variables, names in capitals; values may be secret.
    pub env: Variables,
    /// The folder that workers run in.
    pub dir: Option<PathBuf>,
    /// The user that workers run as, by name or number.
    pub user: Option<String>,
    /// The group that workers run as, by name or number.
    pub group: Option<String>,
    /// What is run once before the pool starts.
    pub on_init: Option<OnInitConfig>,
    /// Whether requests are fenced.
    pub fence: bool,
    /// The longest answer taken from a worker, in bytes.
    pub max_frame: usize,
    /// Whether an empty answer may cross.
    pub allow_empty: bool,
    /// Whether answers that Centrifugo would mishandle are refused.
    pub strict_replies: bool,
    /// The events that the workers know; `None` for all that a pool can answer.
    pub on: Option<Vec<EventKind>>,
    /// `pool`
    pub pool: WorkerPoolConfig,
}

/// A `grpc` handler: an upstream that speaks Centrifugo's proxy protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamConfig {
    /// Where it is, never empty; with TLS wherever the handler has `tls`.
    pub endpoints: Vec<Endpoint>,
    /// What secures those with TLS.
    pub tls: UpstreamTlsConfig,
    /// Metadata of every call: names in lower case, values of visible ASCII.
    pub metadata: Vec<(String, Secret)>,
    /// The longest call; `None` for as long as the event may take.
    pub timeout: Option<Duration>,
    /// The longest attempt to connect.
    pub connect_timeout: Duration,
    /// `retry`
    pub retry: RetryConfig,
    /// `eject`
    pub eject: EjectConfig,
    /// Whether answers that Centrifugo would mishandle are refused.
    pub strict_replies: bool,
}

/// `tls` of a `grpc` handler.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamTlsConfig {
    /// The authority, and our certificate.
    pub files: ClientTlsConfig,
    /// The name that certificates must have; `None` for the endpoint's host.
    pub name: Option<String>,
}

/// `retry` of a `grpc` handler: calls that were sent and are sent again.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryConfig {
    /// gRPC statuses, by their numbers.
    pub on: Vec<i32>,
    /// How often a call is sent at most, the first time included.
    pub attempts: u32,
    /// So many of them for each success, 0 to 1.
    pub budget: f64,
}

/// `eject` of a `grpc` handler: addresses that fail are left out for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EjectConfig {
    /// After so many failures in a row; 0 for never.
    pub failures: u32,
    /// For how long the first time.
    pub time: Duration,
    /// For how long at most.
    pub longest: Duration,
}

/// Environment variables, whose `Debug` shows no values.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Variables(pub BTreeMap<String, String>);

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// `on_init` of a `roadrunner` handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnInitConfig {
    /// Program and arguments, never empty.
    pub command: Vec<String>,
    /// How long it may take.
    pub exec_timeout: Duration,
    /// Its environment variables.
    pub env: Variables,
    /// The user that it runs as, by name or number.
    pub user: Option<String>,
    /// Whether the pool does not start if it fails.
    pub exit_on_error: bool,
}

/// `pool` and `pool.supervisor` of a `roadrunner` handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerPoolConfig {
    /// Workers kept alive; `None` for one per CPU.
    pub num_workers: Option<NonZeroUsize>,
    /// Events after which a worker is replaced; 0 for never.
    pub max_jobs: u64,
    /// Requests in the pool at once; `None` for `limits.in_flight`.
    pub max_queue_size: Option<NonZeroUsize>,
    /// The longest start of a worker, and the longest wait for one.
    pub allocate_timeout: Duration,
    /// The longest end of a worker.
    pub destroy_timeout: Duration,
    /// How long a reset waits for workers at work.
    pub reset_timeout: Duration,
    /// How long the rest of an unwanted stream may take.
    pub stream_timeout: Duration,
    /// More workers where events wait; `None` without the table.
    pub dynamic_allocator: Option<DynamicAllocatorConfig>,
    /// A fresh worker for each event.
    pub debug: bool,
    /// The age at which a worker is replaced; zero for any.
    pub ttl: Duration,
    /// Idle time after which a worker is replaced; zero for any.
    pub idle_ttl: Duration,
    /// The longest work on one event; zero for any.
    pub exec_ttl: Duration,
    /// MiB of memory at which a worker is replaced; 0 for any.
    pub max_worker_memory: u64,
    /// How often age, idle time and memory are looked at.
    pub watch_tick: Duration,
}

/// `pool.dynamic_allocator` of a `roadrunner` handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamicAllocatorConfig {
    /// The most workers beyond `num_workers`.
    pub max_workers: usize,
    /// Workers that come, or go, at a time.
    pub spawn_rate: usize,
    /// How long none of them was needed before they go.
    pub idle_timeout: Duration,
}

/// The answer of a `static` handler.
#[derive(Debug, Clone, PartialEq)]
pub enum StaticAnswer {
    /// The event's result message, a JSON object with `{…}` in strings not yet replaced.
    Reply(serde_json::Value),
    /// An error whose code may leave.
    Error {
        /// 100 to 113 or 400 to 1999.
        code: u32,
        /// What the client sees.
        message: String,
        /// Whether SDKs try again.
        temporary: bool,
    },
    /// A disconnect whose code may leave.
    Disconnect {
        /// 4000 to 4999.
        code: u32,
        /// At most 123 bytes.
        reason: String,
    },
}
