//! From checked settings to the runtime configuration.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check::Settings;
use super::cluster;
use super::schema::BUILT_IN;
use super::secret::Secret;
use super::types::{
    AuthConfig, CentrifugoConfig, ChannelConfig, ClientTlsConfig, Config, DynamicAllocatorConfig,
    EjectConfig, HandlerConfig, InterceptorConfig, InterceptorKind, LimitsConfig, ListenConfig,
    LogConfig, LogFormat, MetricsConfig, NodeConfig, On, OnInitConfig, OtlpConfig, RetryConfig,
    RouteConfig, RpcConfig, RuntimeConfig, StaticAnswer, TlsConfig, UpstreamConfig,
    UpstreamTlsConfig, Variables, WorkerPoolConfig, WorkersConfig,
};
use super::values::header_list;
use crate::answer::code_name;
use centripeta_cluster::Roles;

/// What `allow` extends by where no section says otherwise.
const EXTEND: Duration = Duration::from_secs(3600);

/// Builds the configuration. `None` if a key that has a default or is required has no fit value,
/// which the checks before have reported.
pub(super) fn build(settings: &Settings, dir: &Path) -> Option<Config> {
    let it = settings;
    Some(Config {
        node: NodeConfig {
            name: it.text("node.name")?,
            data: in_dir(dir, &it.text("node.data")?),
            roles: roles(&it.words("node.roles")?),
            serves: it.serves("node.serves")?,
        },
        listen: listen(it, dir)?,
        centrifugo: centrifugo(it, dir)?,
        channel: ChannelConfig {
            namespace_boundary: it.text("channel.namespace_boundary")?,
        },
        log: LogConfig {
            format: match it.text("log.format")?.as_str() {
                "pretty" => LogFormat::Pretty,
                "json" => LogFormat::Json,
                _ => LogFormat::Auto,
            },
            level: it.text("log.level")?,
            otlp: otlp(it, dir),
            sampling: it.share("log.sampling")?,
            service: it.text("log.service"),
        },
        limits: limits(it)?,
        runtime: RuntimeConfig {
            cores: NonZeroUsize::new(number(it, "runtime.cores")?),
            shards_per_core: positive(it, "runtime.shards_per_core")?,
            passivate_after: it.duration("runtime.passivate_after")?,
            watchdog: it.duration("runtime.watchdog")?,
        },
        metrics: MetricsConfig {
            enabled: it.flag("metrics.enabled")?,
            roadrunner: it.flag("metrics.roadrunner")?,
        },
        rpc: RpcConfig {
            listen: it.rpc_listen("rpc.listen"),
            allow_open: it.flag("rpc.allow_open")?,
            fallback: it.rpc_server("rpc.fallback"),
            old_disconnect: it.flag("rpc.old_disconnect")?,
        },
        cluster: cluster::build(it, &|key| it.text(key).map(|path| in_dir(dir, &path)))?,
        interceptors: (0..it.interceptors)
            .map(|at| interceptor(it, at))
            .collect::<Option<_>>()?,
        routes: (0..it.routes)
            .map(|at| route(it, at))
            .collect::<Option<_>>()?,
        handlers: handlers(it, dir)?,
    })
}

/// The routes of a configuration that has problems: what its entries say as far as they parsed, so
/// that they can be held against each other all the same.
pub(crate) struct Partial {
    /// The built-in defaults with these routes, and the interceptors and handlers they name. Where
    /// one of those did not parse, another that does no harm stands under its name.
    pub(crate) config: Config,
    /// Which `[[route]]` of the file each of these is.
    routes: Vec<usize>,
    /// The same of each `[[interceptor]]`.
    interceptors: Vec<usize>,
}

impl Partial {
    /// A key of this configuration as the file has it: entries that are left out count there.
    pub(crate) fn key_in_file(&self, key: &str) -> String {
        let mut parts = key.splitn(3, '.');
        let (section, at, rest) = (parts.next(), parts.next(), parts.next());
        let places = match section {
            Some("route") => &self.routes,
            Some("interceptor") => &self.interceptors,
            _ => return key.to_owned(),
        };
        let at = at.and_then(|at| places.get(at.parse::<usize>().ok()?));
        match (section, at, rest) {
            (Some(section), Some(at), Some(rest)) => format!("{section}.{at}.{rest}"),
            _ => key.to_owned(),
        }
    }
}

/// Builds what can be held against each other. `None` if patterns can't be read at all.
pub(super) fn partial(it: &Settings) -> Option<Partial> {
    let namespace_boundary = it.text("channel.namespace_boundary")?;
    let mut handlers = built_in();
    for name in &it.handlers {
        let handler = handler(it, name, Path::new(".")).unwrap_or(HandlerConfig::Deny);
        handlers.insert(name.clone(), handler);
    }
    let interceptors = (0..it.interceptors).filter_map(|at| {
        let found = interceptor(it, at).or_else(|| unfit_interceptor(it, at))?;
        Some((at, found))
    });
    let (stage_places, interceptors) = interceptors.unzip();
    let routes = (0..it.routes).filter_map(|at| Some((at, partial_route(it, at)?)));
    let (route_places, routes) = routes.unzip();
    Some(Partial {
        config: Config {
            channel: ChannelConfig { namespace_boundary },
            interceptors,
            routes,
            handlers,
            ..Config::default()
        },
        routes: route_places,
        interceptors: stage_places,
    })
}

/// Something that routes can name instead of an interceptor that did not parse.
fn unfit_interceptor(it: &Settings, at: usize) -> Option<InterceptorConfig> {
    let path = format!("interceptor.{at}");
    Some(InterceptorConfig {
        name: it.text(&format!("{path}.name"))?,
        on: it.on(&format!("{path}.on")).unwrap_or(On::Route),
        kind: InterceptorKind::AccessLog {
            level: tracing::Level::INFO,
            fields: Vec::new(),
        },
        origin: it.origin(&path),
    })
}

/// A route of which the events and the pattern are known.
fn partial_route(it: &Settings, at: usize) -> Option<RouteConfig> {
    let path = format!("route.{at}");
    let key = |name: &str| format!("{path}.{name}");
    let pattern = it.text(&key("match"));
    if pattern.is_none() && it.is_written(&key("match")) {
        return None;
    }
    Some(RouteConfig {
        on: it.events(&key("on"))?,
        pattern,
        key: it.text(&key("key")),
        handler: it
            .text(&key("handler"))
            .unwrap_or_else(|| "deny".to_owned()),
        timeout: it.duration(&key("timeout")),
        retry_safe: it.flag(&key("retry_safe")).unwrap_or_default(),
        interceptors: it.words(&key("interceptors")).unwrap_or_default(),
        pool: positive(it, &key("pool")),
        origin: it.origin(&path),
    })
}

fn roles(words: &[String]) -> Roles {
    let has = |role: &str| words.iter().any(|word| word == role);
    Roles {
        voter: has("voter"),
        ingress: has("ingress"),
        region: has("region"),
    }
}

fn number(settings: &Settings, key: &str) -> Option<usize> {
    settings
        .count(key)
        .and_then(|count| usize::try_from(count).ok())
}

fn positive(settings: &Settings, key: &str) -> Option<NonZeroUsize> {
    number(settings, key).and_then(NonZeroUsize::new)
}

/// Where a node is administered and what it asks for.
pub(crate) struct AdminAccess {
    /// `listen.admin`
    pub(crate) address: SocketAddr,
    /// `listen.admin_token`
    pub(crate) token: Option<Secret>,
}

/// The same of a configuration that may have problems elsewhere.
pub(super) fn admin_access(it: &Settings) -> Option<AdminAccess> {
    Some(AdminAccess {
        address: it.tcp("listen.admin")?,
        token: admin_token(it),
    })
}

fn admin_token(it: &Settings) -> Option<Secret> {
    it.secret("listen.admin_token")
        .filter(|token| !token.is_empty())
}

fn listen(it: &Settings, dir: &Path) -> Option<ListenConfig> {
    let file = |key: &str| it.text(key).map(|path| in_dir(dir, &path));
    Some(ListenConfig {
        grpc: it.listen("listen.grpc")?,
        admin: it.tcp("listen.admin")?,
        auth: match it.text("listen.auth.metadata") {
            Some(metadata) => Some(AuthConfig {
                metadata,
                value: it.secret("listen.auth.value")?,
            }),
            None => None,
        },
        tls: match file("listen.tls.cert") {
            Some(cert) => Some(TlsConfig {
                cert,
                key: file("listen.tls.key")?,
                client_ca: file("listen.tls.client_ca"),
            }),
            None => None,
        },
        admin_token: admin_token(it),
        allow_open: it.flag("listen.allow_open")?,
        max_connection_age: it.duration("listen.max_connection_age")?,
    })
}

fn centrifugo(it: &Settings, dir: &Path) -> Option<CentrifugoConfig> {
    let file = |key: &str| it.text(key).map(|path| in_dir(dir, &path));
    Some(CentrifugoConfig {
        api: it.endpoints("centrifugo.api")?,
        key: it.secret("centrifugo.key").filter(|key| !key.is_empty()),
        timeout: it.duration("centrifugo.timeout")?,
        queue: positive(it, "centrifugo.queue")?,
        queue_bytes: it.bytes("centrifugo.queue_bytes")?,
        batch: positive(it, "centrifugo.batch")?,
        flights: positive(it, "centrifugo.flights")?,
        message_bytes: it.bytes("centrifugo.message_bytes")?,
        tls: ClientTlsConfig {
            ca: file("centrifugo.tls.ca"),
            identity: file("centrifugo.tls.cert").zip(file("centrifugo.tls.key")),
        },
        client: it.text("centrifugo.client")?,
    })
}

/// Where traces go, if they do.
fn otlp(it: &Settings, dir: &Path) -> Option<OtlpConfig> {
    let headers = it.secret("log.otlp_headers");
    Some(OtlpConfig {
        collector: it.collector("log.otlp")?,
        headers: headers
            .and_then(|headers| header_list(headers.expose()))
            .unwrap_or_default(),
        ca: it.text("log.otlp_ca").map(|path| in_dir(dir, &path)),
    })
}

/// A path as it is reached from where the process stands.
fn in_dir(dir: &Path, path: &str) -> PathBuf {
    if dir == Path::new(".") {
        PathBuf::from(path)
    } else {
        dir.join(path)
    }
}

fn limits(it: &Settings) -> Option<LimitsConfig> {
    Some(LimitsConfig {
        in_flight: positive(it, "limits.in_flight")?,
        in_flight_bytes: it.bytes("limits.in_flight_bytes")?,
        streams: positive(it, "limits.streams")?,
        message_bytes: it.bytes("limits.message_bytes")?,
        header_bytes: it.bytes("limits.header_bytes")?,
        timeout: it.duration("limits.timeout")?,
        deadline_margin: it.duration("limits.deadline_margin")?,
        lane_queue: positive(it, "limits.lane_queue")?,
        shard_events: positive(it, "limits.shard_events")?,
        shard_bytes: it.bytes("limits.shard_bytes")?,
        shutdown_grace: it.duration("limits.shutdown_grace")?,
    })
}

fn interceptor(it: &Settings, at: usize) -> Option<InterceptorConfig> {
    let path = format!("interceptor.{at}");
    let key = |name: &str| format!("{path}.{name}");
    let kind = match it.text(&key("kind"))?.as_str() {
        "access-log" => InterceptorKind::AccessLog {
            level: it.text(&key("level"))?.parse().ok()?,
            fields: it.words(&key("fields"))?,
        },
        "header-auth" => InterceptorKind::HeaderAuth {
            header: it.text(&key("header"))?,
            value: it.secret(&key("value"))?,
        },
        _ => {
            let rate = it.rate(&key("rate"))?;
            let burst = it
                .count(&key("burst"))
                .and_then(|burst| u32::try_from(burst).ok());
            InterceptorKind::Limit {
                rate,
                burst: burst
                    .and_then(NonZeroU32::new)
                    .unwrap_or_else(|| whole(rate)),
                per: it.text(&key("per")),
            }
        }
    };
    Some(InterceptorConfig {
        name: it.text(&key("name"))?,
        on: it.on(&key("on"))?,
        kind,
        origin: it.origin(&path),
    })
}

/// A rate as a number of events, at least one.
fn whole(rate: f64) -> NonZeroU32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is above 0 and at most a million"
    )]
    let events = rate.ceil() as u32;
    NonZeroU32::new(events).unwrap_or(NonZeroU32::MIN)
}

fn route(it: &Settings, at: usize) -> Option<RouteConfig> {
    let path = format!("route.{at}");
    let key = |name: &str| format!("{path}.{name}");
    Some(RouteConfig {
        on: it.events(&key("on"))?,
        pattern: it.text(&key("match")),
        key: it.text(&key("key")),
        handler: it.text(&key("handler"))?,
        timeout: it.duration(&key("timeout")),
        retry_safe: it.flag(&key("retry_safe"))?,
        interceptors: it.words(&key("interceptors"))?,
        pool: positive(it, &key("pool")),
        origin: it.origin(&path),
    })
}

fn built_in() -> BTreeMap<String, HandlerConfig> {
    let built_in = BUILT_IN.iter().map(|kind| {
        let handler = match *kind {
            "allow" => HandlerConfig::Allow { extend: EXTEND },
            "deny" => HandlerConfig::Deny,
            "echo" => HandlerConfig::Echo,
            _ => HandlerConfig::Counter,
        };
        ((*kind).to_owned(), handler)
    });
    built_in.collect()
}

fn handlers(it: &Settings, dir: &Path) -> Option<BTreeMap<String, HandlerConfig>> {
    let mut handlers = built_in();
    for name in &it.handlers {
        handlers.insert(name.clone(), handler(it, name, dir)?);
    }
    Some(handlers)
}

fn handler(it: &Settings, name: &str, dir: &Path) -> Option<HandlerConfig> {
    let key = |key: &str| format!("handler.{name}.{key}");
    Some(match it.text(&key("kind"))?.as_str() {
        "static" => HandlerConfig::Static(answer(it, &key)?),
        "allow" => HandlerConfig::Allow {
            extend: it.duration(&key("extend"))?,
        },
        "deny" => HandlerConfig::Deny,
        "echo" => HandlerConfig::Echo,
        "roadrunner" => HandlerConfig::Workers(Box::new(workers(it, &key, dir)?)),
        "grpc" => HandlerConfig::Upstream(Box::new(upstream(it, &key, dir)?)),
        _ => HandlerConfig::Counter,
    })
}

fn workers(it: &Settings, key: &dyn Fn(&str) -> String, dir: &Path) -> Option<WorkersConfig> {
    let own = it.words(&key("command"))?;
    let of_pool = it.words(&key("pool.command"));
    let on_init = match it.words(&key("on_init.command")) {
        Some(command) => Some(OnInitConfig {
            command,
            exec_timeout: it.duration(&key("on_init.exec_timeout"))?,
            env: Variables(it.variables(&key("on_init.env"))?),
            user: it.text(&key("on_init.user")),
            exit_on_error: it.flag(&key("on_init.exit_on_error"))?,
        }),
        None => None,
    };
    let duration = |name: &str| it.duration(&key(&format!("pool.{name}")));
    let whole = |name: &str| number(it, &key(&format!("pool.{name}")));
    Some(WorkersConfig {
        command: of_pool.unwrap_or(own),
        relay: it.relay(&key("relay"))?,
        env: Variables(it.variables(&key("env"))?),
        dir: it.text(&key("dir")).map(|path| in_dir(dir, &path)),
        user: it.text(&key("user")),
        group: it.text(&key("group")),
        on_init,
        fence: it.flag(&key("fence"))?,
        max_frame: it.bytes(&key("max_frame"))?,
        allow_empty: it.flag(&key("allow_empty"))?,
        strict_replies: it.flag(&key("strict_replies"))?,
        on: it.events(&key("on")),
        pool: WorkerPoolConfig {
            num_workers: NonZeroUsize::new(whole("num_workers")?),
            max_jobs: it.count(&key("pool.max_jobs"))?,
            max_queue_size: NonZeroUsize::new(whole("max_queue_size")?),
            allocate_timeout: duration("allocate_timeout")?,
            destroy_timeout: duration("destroy_timeout")?,
            reset_timeout: duration("reset_timeout")?,
            stream_timeout: duration("stream_timeout")?,
            dynamic_allocator: match it.is_written(&key("pool.dynamic_allocator")) {
                true => Some(DynamicAllocatorConfig {
                    max_workers: whole("dynamic_allocator.max_workers")?,
                    spawn_rate: whole("dynamic_allocator.spawn_rate")?,
                    idle_timeout: duration("dynamic_allocator.idle_timeout")?,
                }),
                false => None,
            },
            debug: it.flag(&key("pool.debug"))?,
            ttl: duration("supervisor.ttl")?,
            idle_ttl: duration("supervisor.idle_ttl")?,
            exec_ttl: duration("supervisor.exec_ttl")?,
            max_worker_memory: it.count(&key("pool.supervisor.max_worker_memory"))?,
            watch_tick: duration("supervisor.watch_tick")?,
        },
    })
}

fn upstream(it: &Settings, key: &dyn Fn(&str) -> String, dir: &Path) -> Option<UpstreamConfig> {
    let file = |name: &str| it.text(&key(name)).map(|path| in_dir(dir, &path));
    let mut endpoints = it.endpoints(&key("endpoints"))?;
    if it.is_written(&key("tls")) {
        endpoints
            .iter_mut()
            .for_each(|endpoint| endpoint.tls = true);
    }
    let small = |name: &str| u32::try_from(it.count(&key(name))?).ok();
    let code = |name: &String| {
        let mut codes = (0..=16).map(tonic::Code::from_i32);
        let code = codes.find(|code| code_name(*code) == name);
        code.map(|code| code as i32)
    };
    let metadata = it.variables(&key("metadata"))?;
    let secret = |(name, value): (String, String)| (name, Secret::new(value));
    Some(UpstreamConfig {
        endpoints,
        tls: UpstreamTlsConfig {
            files: ClientTlsConfig {
                ca: file("tls.ca"),
                identity: file("tls.cert").zip(file("tls.key")),
            },
            name: it.text(&key("tls.name")),
        },
        metadata: metadata.into_iter().map(secret).collect(),
        timeout: it.duration(&key("timeout")),
        connect_timeout: it.duration(&key("connect_timeout"))?,
        retry: RetryConfig {
            on: it
                .words(&key("retry.on"))?
                .iter()
                .filter_map(code)
                .collect(),
            attempts: small("retry.attempts")?,
            budget: it.share(&key("retry.budget"))?,
        },
        eject: EjectConfig {
            failures: small("eject.failures")?,
            time: it.duration(&key("eject.time"))?,
            longest: it.duration(&key("eject.longest"))?,
        },
        strict_replies: it.flag(&key("strict_replies"))?,
    })
}

fn answer(it: &Settings, key: &dyn Fn(&str) -> String) -> Option<StaticAnswer> {
    let code = |name: &str| {
        it.count(&key(name))
            .and_then(|code| u32::try_from(code).ok())
    };
    if let Some(reply) = it.object(&key("reply")) {
        return Some(StaticAnswer::Reply(reply));
    }
    if let Some(code) = code("error.code") {
        return Some(StaticAnswer::Error {
            code,
            message: it.text(&key("error.message"))?,
            temporary: it.flag(&key("error.temporary"))?,
        });
    }
    let reason = it.text(&key("disconnect.reason"))?;
    Some(StaticAnswer::Disconnect {
        code: code("disconnect.code")?,
        reason,
    })
}
