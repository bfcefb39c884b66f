//! A node: listeners, cores, engine, admin; started in this order and ended in the other.

mod admin;
mod change;
mod cores;
mod membership;
mod workers;

use crate::config::{Config, ListenAddr, RpcAddress, TlsConfig};
use crate::control::Control;
use crate::egress::Publisher;
use crate::engine::{Engine, EngineConfig, EngineError, EngineLimits};
use crate::event::SERVICE_PATH;
use crate::ingress::auth::CallerAuth;
use crate::ingress::grpc::GrpcIngress;
use crate::ingress::listener::{Bound, ConnectionLimits, Connections, CoreDoor, Listener, Stop};
use crate::ingress::tls::{TlsAcceptor, TlsError, TlsFiles};
use crate::router::Router;
use crate::rpc::{Door, Server, Services};
use crate::trace::Tracer;
use crate::trace::export::Exporter;
use arc_swap::ArcSwap;
use centripeta_cluster::Standing;
use centripeta_cluster::peer::SecurityError;
use cores::Cores;
use http::{HeaderName, HeaderValue};
pub use membership::ClusterError;
pub(crate) use membership::Membership;
use membership::Prospect;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

/// How long the last publications have where events have used up the grace.
const LAST_CALLS: Duration = Duration::from_millis(500);

/// How long workers have to end where events have used up the grace.
const LAST_WORKERS: Duration = Duration::from_millis(500);

/// How long the collector has for the last spans, at most.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("`{key} = \"{address}\"`: {cause}")]
pub struct BindError {
    /// The key in `node.toml`.
    pub key: &'static str,
    /// Its value.
    pub address: String,
    /// What the system says.
    #[source]
    pub cause: io::Error,
}

impl BindError {
    /// How to mend it.
    pub fn help(&self) -> String {
        let Self {
            key,
            address,
            cause,
        } = self;
        match cause.kind() {
            io::ErrorKind::AddrInUse => format!(
                "end the process that listens on {address}, or choose another with \
                 `--set {key}=ADDRESS`"
            ),
            io::ErrorKind::AddrNotAvailable => {
                format!("`{key}` must be an address of this machine")
            }
            io::ErrorKind::AlreadyExists => {
                format!("move away what is at {address}, or choose another path for `{key}`")
            }
            io::ErrorKind::PermissionDenied => {
                format!("choose a port above 1023 or a path you may write for `{key}`")
            }
            _ => format!("choose another address for `{key}`"),
        }
    }
}

/// Every address that can't be listened on; never empty.
#[derive(Debug)]
pub struct BindErrors(pub Vec<BindError>);

impl fmt::Display for BindErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            let before = if at == 0 { "" } else { "; " };
            write!(f, "{before}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for BindErrors {}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Routes, stages or actors.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The credential of callers: it would let in everybody, or nobody.
    #[error("`listen.auth.{key}` {rule}")]
    Auth {
        /// Which part of it.
        key: &'static str,
        /// What is wrong with it, and the cure.
        rule: &'static str,
    },
    /// Certificates.
    #[error("`listen.tls`: {0}")]
    Tls(#[from] TlsError),
    /// The certificates towards Centrifugo.
    #[error("`centrifugo.tls`: {0}")]
    Centrifugo(#[source] TlsError),
    /// The certificates towards the collector of traces.
    #[error("`log.otlp`: {0}")]
    Collector(#[source] TlsError),
    /// Worker processes.
    #[error("{0}")]
    Workers(String),
    /// The node's part in its cluster.
    #[error("cluster: {0}")]
    Cluster(#[from] ClusterError),
    /// The address that workers call back by.
    #[error(transparent)]
    CallBack(BindError),
    /// The secrets or certificates towards other nodes.
    #[error("`cluster.secret` and `cluster.tls`: {0}")]
    Links(#[source] SecurityError),
    /// Threads.
    #[error("can't start threads: {0}")]
    Threads(#[from] io::Error),
}

/// The addresses of a node, bound before anything else happens, so that a taken port shows first.
#[derive(Debug)]
pub struct Listeners {
    grpc: Bound,
    admin: TcpListener,
    rpc: Option<Door>,
    cluster: Option<TcpListener>,
}

impl Listeners {
    /// Binds what the configuration says. A unix socket that nobody listens on is replaced.
    ///
    /// # Errors
    /// Addresses that are taken or not ours, all of them at once.
    pub async fn bind(config: &Config) -> Result<Self, BindErrors> {
        let grpc = match &config.listen.grpc {
            ListenAddr::Tcp(address) => TcpListener::bind(address).await.map(Bound::Tcp),
            ListenAddr::Unix(path) => bind_unix(path)
                .await
                .map(|listener| Bound::Unix(listener, path.clone())),
        };
        let grpc = grpc.map_err(|cause| BindError {
            key: "listen.grpc",
            address: config.listen.grpc.to_string(),
            cause,
        });
        let address = config.listen.admin;
        let admin = TcpListener::bind(address).await;
        let admin = admin.map_err(|cause| BindError {
            key: "listen.admin",
            address: address.to_string(),
            cause,
        });
        let rpc = match config.rpc.listens(config.has_workers()) {
            Some(address) => bind_rpc(&address).await.map(Some),
            None => Ok(None),
        };
        let cluster = match &config.cluster {
            Some(section) => TcpListener::bind(section.listen)
                .await
                .map(Some)
                .map_err(|cause| BindError {
                    key: "cluster.listen",
                    address: section.listen.to_string(),
                    cause,
                }),
            None => Ok(None),
        };
        match (grpc, admin, rpc, cluster) {
            (Ok(grpc), Ok(admin), Ok(rpc), Ok(cluster)) => Ok(Self {
                grpc,
                admin,
                rpc,
                cluster,
            }),
            (grpc, admin, rpc, cluster) => {
                // What was bound besides is given back, as it was found.
                if let Ok(Bound::Unix(_, path)) = &grpc {
                    drop(std::fs::remove_file(path));
                }
                let errors = grpc.err().into_iter().chain(admin.err());
                let errors = errors.chain(cluster.err());
                let errors = match rpc {
                    Ok(door) => {
                        door.into_iter().for_each(Door::close);
                        errors.collect()
                    }
                    Err(error) => errors.chain([error]).collect(),
                };
                Err(BindErrors(errors))
            }
        }
    }
}

async fn bind_rpc(address: &RpcAddress) -> Result<Door, BindError> {
    let bound = Door::bind(address).await;
    bound.map_err(|cause| BindError {
        key: "rpc.listen",
        address: address.to_string(),
        cause,
    })
}

/// Binds a path. Only a socket that refuses connections, as a process that is gone leaves it, is
/// replaced: whatever else has this name stays.
pub(crate) async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(taken) if taken.kind() == io::ErrorKind::AddrInUse => {
            if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
                let why = "it is there already, and no socket";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
            }
            match UnixStream::connect(path).await {
                Err(why) if why.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)?;
                    UnixListener::bind(path)
                }
                _ => Err(taken),
            }
        }
        bound => bound,
    }
}

/// Where a node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// Of the gRPC frontend, such as `127.0.0.1:10001` or `unix:///run/centripeta.sock`.
    pub grpc: GrpcAddress,
    /// Of the admin listener.
    pub admin: SocketAddr,
}

/// An address of the gRPC frontend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrpcAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for GrpcAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// How long connections may take to send their last bytes once everything is answered.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// How long calls are taken, in a cluster, from callers that are told to go.
const FAREWELL: Duration = Duration::from_millis(500);

/// Where workers call back; empty as long as there is nothing to call back for.
type CallBack = Arc<Mutex<Option<Server>>>;

/// A running node.
#[derive(Debug)]
pub struct Node {
    engine: Engine,
    publisher: Publisher,
    exporter: Option<Exporter>,
    rpc: CallBack,
    services: Arc<Services>,
    addresses: Addresses,
    connections: Vec<Arc<Connections>>,
    stop: watch::Sender<Stop>,
    listener: tokio::task::JoinHandle<()>,
    background: Vec<tokio::task::JoinHandle<()>>,
    health: HealthReporter,
    /// Keeps the health service in step with the node's part in its cluster.
    follows: Option<tokio::task::JoinHandle<()>>,
    cores: Cores,
    limits: Arc<ArcSwap<ConnectionLimits>>,
    standing: Arc<Standing>,
    membership: Option<Membership>,
    operators: admin::Operators,
}

impl Node {
    /// Who answers for the cluster on the admin listener, where the node itself has no part in one.
    #[doc(hidden)]
    pub fn set_operations(&self, operations: Arc<dyn centripeta_cluster::admin::Operations>) {
        self.operators.set(operations);
    }

    /// Starts everything on bound addresses. The caller's runtime runs what must never wait behind
    /// events: accepting, admin.
    ///
    /// # Errors
    /// The router contradicts itself, `listen.auth` holds no credential, certificates can't be read, threads can't be started.
    pub async fn start(
        config: &Config,
        router: Router,
        listeners: Listeners,
    ) -> Result<Self, NodeError> {
        Self::start_with(config, router, listeners, None).await
    }

    /// The same, with someone who carries out what the Admin service is asked to change.
    ///
    /// # Errors
    /// As for [`Node::start`].
    pub(crate) async fn start_with(
        config: &Config,
        router: Router,
        listeners: Listeners,
        control: Option<Control>,
    ) -> Result<Self, NodeError> {
        let auth = caller_auth(config)?;
        let tls = config
            .listen
            .tls
            .as_ref()
            .map(|tls| TlsAcceptor::try_new(tls_files(tls)));
        let tls = tls.transpose()?;
        let cores = Cores::start(config.runtime.cores.map(Into::into))?;
        let prospect = Prospect::open(config, listeners.cluster).await?;
        let standing = Arc::clone(&prospect.standing);
        let boundary = &config.channel.namespace_boundary;
        let publisher = Publisher::connect(&config.centrifugo, boundary);
        let publisher = publisher.map_err(NodeError::Centrifugo)?;
        let (tracer, exporter) = match &config.log.otlp {
            Some(otlp) => {
                let service = config.log.service.as_deref().unwrap_or("centripeta");
                let sampling = config.log.sampling;
                let started = Exporter::start(otlp, sampling, service, &config.node.name);
                let (tracer, exporter) = started.map_err(NodeError::Collector)?;
                (tracer, Some(exporter))
            }
            None => (Tracer::off(), None),
        };
        let (workers, upstreams) = (router.workers.clone(), router.upstreams.clone());
        let engine = Engine::start_with(
            router,
            EngineConfig {
                tracer,
                cluster: prospect.seat,
                ..engine_config(config)
            },
            Arc::clone(&standing),
            cores.handles(),
            publisher.clone(),
        )
        .await?;
        let health = HealthReporter::new();
        let alone = config.cluster.is_none();
        let first = if alone {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        set_serving(&health, first).await;
        let addresses = Addresses {
            grpc: match &listeners.grpc {
                Bound::Tcp(listener) => GrpcAddress::Tcp(listener.local_addr()?),
                Bound::Unix(_, path) => GrpcAddress::Unix(path.clone()),
            },
            admin: listeners.admin.local_addr()?,
        };
        let services = Arc::new(Services {
            publisher: publisher.clone(),
            pools: engine.shared.pools.clone(),
            collectors: engine.shared.collectors.clone(),
            config: ArcSwap::from_pointee("{}".to_owned()),
            fallback: config.rpc.fallback.clone(),
            old_disconnect: config.rpc.old_disconnect,
        });
        let rpc = listeners.rpc;
        let rpc = rpc.map(|door| Server::start(door, Arc::clone(&services)));
        let rpc = rpc.transpose()?;
        if let Some(rpc) = &rpc {
            tracing::info!(rpc = %rpc.address(), "workers can call back");
        }
        let call_back = rpc.as_ref().map(|rpc| rpc.address().to_string());
        workers::start(&workers, call_back.as_deref()).await?;
        engine.shared.pools.set(&workers::pools(&workers));
        upstreams.iter().for_each(|upstream| upstream.start());
        engine.shared.upstreams.set(&upstreams);
        let membership = prospect.enter(config, &engine, cores.handles()).await?;
        let (stop, stopped) = watch::channel(Stop::No);
        let mut background = Vec::new();
        if let Some(tls) = tls.clone() {
            tls.warn_if_expired();
            background.push(tokio::spawn(tls.watch()));
        }
        let operators = admin::Operators::new(&config.node.name, config.cluster.is_some());
        let admin = admin::router(
            engine.clone(),
            config,
            addresses.clone(),
            control,
            operators.clone(),
            membership.clone(),
        );
        background.push(tokio::spawn(admin::serve(listeners.admin, admin)));
        let doors = doors(auth.as_ref(), &engine, &cores, &health);
        let connections = doors.iter().map(|door| Arc::clone(&door.connections));
        let connections = connections.collect();
        let limits = Arc::new(ArcSwap::from_pointee(connection_limits(config)));
        let listener = Listener {
            bound: listeners.grpc,
            doors,
            tls,
            limits: Arc::clone(&limits),
            stop: stopped,
        };
        let listener = tokio::spawn(listener.run());
        if let Some(membership) = &membership {
            operators.set(Arc::new(membership.cluster().clone()));
            membership.is_ready();
        }
        let follows = membership
            .clone()
            .map(|membership| tokio::spawn(follow(membership, health.clone())));
        Ok(Self {
            follows,
            engine,
            publisher,
            exporter,
            rpc: Arc::new(Mutex::new(rpc)),
            services,
            addresses,
            connections,
            stop,
            listener,
            background,
            health,
            cores,
            limits,
            standing,
            membership,
            operators,
        })
    }

    /// Where it listens.
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Where workers call back, if they can: `[rpc]`.
    pub fn rpc_address(&self) -> Option<RpcAddress> {
        let rpc = self.rpc.lock().unwrap_or_else(PoisonError::into_inner);
        rpc.as_ref().map(|server| server.address().clone())
    }

    /// Waits until the process has to end, and says why: the node's part in its cluster can't go on.
    /// Without a cluster that never is.
    pub(crate) async fn fatal(&self) -> String {
        match &self.membership {
            Some(membership) => membership.cluster().fatal().await,
            None => std::future::pending().await,
        }
    }

    /// The node's part in its cluster in a few words; `None` for a node alone.
    pub(crate) fn cluster_summary(&self) -> Option<String> {
        self.membership.as_ref().map(Membership::summary)
    }

    /// What `rpc.Config` answers from now on: settings as JSON, without secrets. Without it that is
    /// an empty object.
    pub(crate) fn show_config(&self, json: String) {
        self.services.config.store(Arc::new(json));
    }

    /// A way to ask whether its cores still run.
    pub(crate) fn pulse(&self) -> Pulse {
        Pulse(self.cores.handles().to_vec())
    }

    /// The engine.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Replaces the workers of all pools, a few at a time, without waiting for it. Events meet no gap.
    pub(crate) fn reset_workers(&self) {
        workers::reset(&self.engine.shared.pools);
    }

    /// What handlers publish by, for tasks of the program's own. Bound to no slot.
    pub const fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Ends within about `grace`: unready at once; in a cluster all slots go to others, while events are
    /// taken as before; no new connections, what is in flight is finished, streams end with
    /// *unavailable*, what was published is sent; then everything stops. Answers how many events and
    /// streams had to be cut.
    pub async fn shutdown(self, grace: Duration) -> (usize, usize) {
        if let Some(follows) = &self.follows {
            follows.abort();
        }
        set_serving(&self.health, ServingStatus::NotServing).await;
        let end = Instant::now() + grace;
        if let Some(membership) = &self.membership {
            self.stop.send_replace(Stop::Soon);
            let before = self.engine.shared.slots.counts.ended();
            membership.drain(&self.standing, grace).await;
            let of_drain = self.engine.shared.slots.counts.ended().since(before);
            if let Some(words) = membership::ended_words(of_drain) {
                tracing::info!("{words}");
            }
        }
        self.stop.send_replace(Stop::Now);
        // A listener that has failed is gone already.
        drop(self.listener.await);
        if self.membership.is_some() {
            // What was sent before its sender heard is taken too.
            flushed(&self.connections, end.min(Instant::now() + FAREWELL)).await;
        }
        let left = end.saturating_duration_since(Instant::now());
        let (mut events, streams) = self.engine.drain(left).await;
        if let Some(membership) = &self.membership {
            // What came in here may be under way at others until now.
            membership.leave(end).await;
        }
        self.engine.close(end).await;
        let left = end.saturating_duration_since(Instant::now());
        workers::stop(&self.engine.shared.pools, left.max(LAST_WORKERS)).await;
        let left = end.saturating_duration_since(Instant::now());
        let lost = self.publisher.shutdown(left.max(LAST_CALLS)).await;
        if lost > 0 {
            tracing::warn!(
                lost,
                "the node ended before centrifugo took every publication"
            );
        }
        let rpc = self
            .rpc
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(rpc) = rpc {
            // Workers could publish until now; what they are owed leaves.
            rpc.shutdown(LAST_CALLS).await;
        }
        if let Some(exporter) = self.exporter {
            let left = end.saturating_duration_since(Instant::now());
            exporter.shutdown(left.clamp(LAST_CALLS, LAST_SPANS)).await;
        }
        let unsent = flushed(&self.connections, end.max(Instant::now() + FLUSH_TIMEOUT)).await;
        if unsent > 0 {
            tracing::warn!(
                connections = unsent,
                "closed before their last answers were taken"
            );
            events = events.max(unsent);
        }
        self.background
            .iter()
            .for_each(tokio::task::JoinHandle::abort);
        self.cores.stop();
        (events, streams)
    }
}

/// Tells a node that lives from one that hangs.
#[derive(Debug, Clone)]
pub(crate) struct Pulse(Vec<tokio::runtime::Handle>);

impl Pulse {
    /// Waits until every core has run a task of ours; `false` if one is gone.
    pub(crate) async fn felt(&self) -> bool {
        let beats: Vec<_> = self.0.iter().map(|core| core.spawn(async {})).collect();
        for beat in beats {
            if beat.await.is_err() {
                return false;
            }
        }
        true
    }
}

/// Waits until the connections have closed behind their last answers; not for ever, since a peer
/// may be gone without a word, or not read. Answers how many are left.
async fn flushed(connections: &[Arc<Connections>], end: Instant) -> usize {
    loop {
        let open: usize = connections.iter().map(|core| core.open()).sum();
        if open == 0 || Instant::now() >= end {
            return open;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// How often the health service looks whether the node takes part in its cluster.
const FOLLOW: Duration = Duration::from_millis(100);

/// The health service says *not serving* while the node has no part in its cluster: load balancers
/// go by it. Centrifugo does not ask.
async fn follow(membership: Membership, health: HealthReporter) {
    let mut was = None;
    loop {
        let status = match membership.ready() {
            Ok(()) => ServingStatus::Serving,
            Err(_) => ServingStatus::NotServing,
        };
        if was != Some(status) {
            set_serving(&health, status).await;
            was = Some(status);
        }
        tokio::time::sleep(FOLLOW).await;
    }
}

async fn set_serving(health: &HealthReporter, status: ServingStatus) {
    let service = SERVICE_PATH.trim_matches('/');
    health.set_service_status("", status).await;
    health.set_service_status(service, status).await;
}

pub(crate) fn tls_files(tls: &TlsConfig) -> TlsFiles {
    let TlsConfig {
        cert,
        key,
        client_ca,
    } = tls.clone();
    TlsFiles {
        cert,
        key,
        client_ca,
    }
}

fn engine_limits(config: &Config) -> EngineLimits {
    let limits = &config.limits;
    EngineLimits {
        in_flight: limits.in_flight.get(),
        in_flight_bytes: limits.in_flight_bytes,
        streams: limits.streams.get(),
        message_bytes: limits.message_bytes,
        lane_queue: limits.lane_queue.get(),
        shard_events: limits.shard_events.get(),
        shard_bytes: limits.shard_bytes,
        timeout: limits.timeout,
        deadline_margin: limits.deadline_margin,
    }
}

pub(crate) fn engine_config(config: &Config) -> EngineConfig {
    EngineConfig {
        node: config.node.name.clone(),
        limits: engine_limits(config),
        shards_per_core: u16::try_from(config.runtime.shards_per_core.get()).unwrap_or(u16::MAX),
        passivate_after: config.runtime.passivate_after,
        watchdog: config.runtime.watchdog,
        namespace_boundary: config.channel.namespace_boundary.clone(),
        metrics: config.metrics.enabled,
        tracer: Tracer::off(),
        cluster: None,
    }
}

fn connection_limits(config: &Config) -> ConnectionLimits {
    let limits = &config.limits;
    let streams = limits.streams.get().saturating_add(limits.in_flight.get());
    ConnectionLimits {
        streams: u32::try_from(streams).unwrap_or(u32::MAX),
        pending_resets: limits.in_flight.get(),
        header_bytes: u32::try_from(limits.header_bytes).unwrap_or(u32::MAX),
        max_age: config.listen.max_connection_age,
    }
}

/// The credential that callers must send, if there is one.
///
/// # Errors
/// It can't be one: taken for none, the listener would be open to all.
fn caller_auth(config: &Config) -> Result<Option<CallerAuth>, NodeError> {
    let Some(auth) = &config.listen.auth else {
        return Ok(None);
    };
    let wrong = |key, rule| NodeError::Auth { key, rule };
    let name = HeaderName::from_bytes(auth.metadata.as_bytes()).map_err(|_| {
        wrong(
            "metadata",
            "is not the name of gRPC metadata; use a-z, 0-9, `-`, `_` and `.`",
        )
    })?;
    let value = auth.value.expose();
    if value.is_empty() {
        return Err(wrong(
            "value",
            "is empty; give it a value, or leave `listen.auth` out",
        ));
    }
    if HeaderValue::from_str(value).is_err() {
        return Err(wrong(
            "value",
            "can't be sent as gRPC metadata; use visible ASCII",
        ));
    }
    Ok(Some(CallerAuth::new(name, value.as_bytes().to_vec())))
}

/// One service per core.
fn doors(
    auth: Option<&CallerAuth>,
    engine: &Engine,
    cores: &Cores,
    health: &HealthReporter,
) -> Vec<CoreDoor> {
    let door = |(core, handle): (usize, &tokio::runtime::Handle)| {
        let health = HealthServer::new(HealthService::from_health_reporter(health.clone()));
        let connections = Arc::clone(&engine.shared.cores[core].connections);
        let engine = engine.clone();
        CoreDoor {
            handle: handle.clone(),
            service: GrpcIngress::new(engine, core, auth.cloned(), health),
            connections,
        }
    };
    cores.handles().iter().enumerate().map(door).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::{AuthConfig, Secret};

    #[test]
    fn a_credential_that_nobody_could_send_stops_the_start_instead_of_opening_the_listener() {
        let with = |metadata: &str, value: &str| {
            let mut config = Config::default();
            config.listen.auth = Some(AuthConfig {
                metadata: metadata.to_owned(),
                value: Secret::new(value),
            });
            caller_auth(&config)
        };
        for (metadata, value, said) in [
            (
                "x router key",
                "sesame",
                "`listen.auth.metadata` is not the name",
            ),
            ("", "sesame", "`listen.auth.metadata` is not the name"),
            ("x-router-key", "", "`listen.auth.value` is empty"),
            ("x-router-key", "a\nb", "`listen.auth.value` can't be sent"),
        ] {
            let why = with(metadata, value).unwrap_err().to_string();
            assert!(why.starts_with(said), "{why}");
            assert!(!why.contains("sesame"), "{why}");
        }
        assert!(with("x-router-key", "sesame").unwrap().is_some());
        assert!(caller_auth(&Config::default()).unwrap().is_none());
    }
}
