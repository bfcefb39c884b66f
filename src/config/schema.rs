//! Every key there is: path, type, default, unit, meaning and since when. What is read, checked,
//! printed and documented follows from this table alone.

use centripeta_cluster::peer::{SECRET_MIN, SECRETS_MAX};

/// A section of `node.toml`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section {
    /// Its name at the top of the file.
    pub(super) name: &'static str,
    /// How often it stands there.
    pub(super) shape: Shape,
    /// What it is for.
    pub(super) meaning: &'static str,
}

/// How a section stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// `[name]`, once.
    Once,
    /// `[name]`, once, and its defaults hold only where it is written.
    Optional,
    /// `[[name]]`, in order.
    Entries,
    /// `[name.NAME]`, by name.
    Named,
}

impl Section {
    /// The start of its keys' paths in [`KEYS`].
    pub(super) fn prefix(&self) -> &'static str {
        match self.shape {
            Shape::Once | Shape::Optional => self.name,
            Shape::Entries if self.name == "route" => "route[]",
            Shape::Entries => "interceptor[]",
            Shape::Named => "handler.NAME",
        }
    }
}

/// What values a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// Any text.
    Text,
    /// A name of letters, digits, `_`, `-`, at most 64.
    Name,
    /// A credential; empty is the same as absent.
    Secret,
    /// `true` or `false`.
    Flag,
    /// A whole number between the two.
    Count(u64, u64),
    /// A number above 0.
    Rate,
    /// A time between the two, in milliseconds.
    Duration(u64, u64),
    /// A size between the two, in bytes.
    Bytes(u64, u64),
    /// `IP:PORT` or `unix:///PATH`.
    Listen,
    /// `IP:PORT`.
    Tcp,
    /// A file that must be there.
    File,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A log level, or a list of `target=level`.
    Filter,
    /// What ends a namespace in a channel name.
    Boundary,
    /// A list of `grpc://HOST:PORT` or `grpcs://HOST:PORT`.
    Endpoints,
    /// A `ws://` or `wss://` address.
    SocketUrl,
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    Collector,
    /// A number from 0 to 1.
    Share,
    /// A gRPC metadata key.
    Metadata,
    /// An event, or a list of events.
    Events,
    /// An event, a list of events, `"*"` or `"route"`.
    On,
    /// Where the RPC server listens: `tcp://HOST:PORT`, `unix://PATH` or `off`.
    RpcListen,
    /// A goridge RPC server to call: `tcp://HOST:PORT` or `unix://PATH`.
    RpcServer,
    /// `pipes`, `unix:///PATH` or `tcp://127.0.0.1:PORT`.
    Relay,
    /// A list of names.
    Names,
    /// A list of these words.
    Words(&'static [&'static str]),
    /// A route's key.
    Key,
    /// What a limit counts by.
    Per,
    /// A table of anything JSON can say.
    Object,
    /// A code of an error that may leave.
    ErrorCode,
    /// A code of a disconnect that may leave.
    DisconnectCode,
    /// A disconnect's reason.
    Reason,
    /// A program and its arguments: a list, or a string that is split on white space.
    Command,
    /// Names and values of environment variables.
    Variables,
    /// A list of groups of events: `connect`, `rpc`, `rpc:PATTERN`, `channel`.
    Serves,
    /// `HOST:PORT`, or empty.
    Peer,
    /// A list of `HOST:PORT`.
    Peers,
    /// A secret, or a list of secrets, that nodes share.
    Secrets,
    /// Names and values of gRPC metadata.
    MetadataTable,
}

impl Kind {
    /// The type as the documentation names it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Name => "name (letters, digits, `_`, `-`)".to_owned(),
            Self::Secret => "secret".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Count(from, to) => format!("number, {from} to {to}"),
            Self::Rate => "number above 0".to_owned(),
            Self::Duration(from, to) => format!("duration, {} to {}", time(*from), time(*to)),
            Self::Bytes(from, to) => format!("size, {} to {}", size(*from), size(*to)),
            Self::Listen => "IP:PORT or unix:///PATH".to_owned(),
            Self::Tcp => "IP:PORT".to_owned(),
            Self::File => "path of a file".to_owned(),
            Self::Choice(words) => words.join(", "),
            Self::Filter => "level, or target=level separated by commas".to_owned(),
            Self::Boundary => "text, at least one character".to_owned(),
            Self::Endpoints => "list of grpc://HOST:PORT or grpcs://HOST:PORT".to_owned(),
            Self::SocketUrl => "ws:// or wss:// address".to_owned(),
            Self::Collector => "http://HOST:PORT or https://HOST:PORT".to_owned(),
            Self::Share => "number, 0 to 1".to_owned(),
            Self::Metadata => "metadata key".to_owned(),
            Self::Events => "event or list of events".to_owned(),
            Self::On => "`*`, event, list of events, or `route`".to_owned(),
            Self::RpcListen => "tcp://HOST:PORT, unix:///PATH or off".to_owned(),
            Self::Relay => "pipes, unix:///PATH or tcp://127.0.0.1:PORT".to_owned(),
            Self::RpcServer => "tcp://HOST:PORT or unix:///PATH".to_owned(),
            Self::Names => "list of names".to_owned(),
            Self::Words(words) => format!("list of {}", words.join(", ")),
            Self::Key => "`none`, `user`, `client`, `channel`, or a template".to_owned(),
            Self::Per => "`user`, `client`, `channel`, `all`, or a template".to_owned(),
            Self::Object => "table".to_owned(),
            Self::ErrorCode => "number, 100 to 113 or 400 to 1999".to_owned(),
            Self::DisconnectCode => "number, 4000 to 4999".to_owned(),
            Self::Reason => "text, at most 123 bytes".to_owned(),
            Self::Command => "list of words, or text that is split on white space".to_owned(),
            Self::Variables => "table of texts".to_owned(),
            Self::Serves => "list of connect, rpc, rpc:METHOD, rpc:PREFIX.*, channel".to_owned(),
            Self::Peer => "HOST:PORT".to_owned(),
            Self::Peers => "list of HOST:PORT".to_owned(),
            Self::Secrets => {
                format!("secret or list of at most {SECRETS_MAX}, each at least {SECRET_MIN} bytes")
            }
            Self::MetadataTable => "table of metadata keys and secrets".to_owned(),
        }
    }
}

/// Milliseconds as a person writes them, in the largest unit that needs no fraction.
pub(super) fn time(milliseconds: u64) -> String {
    match milliseconds {
        0 => "0s".to_owned(),
        _ if milliseconds.is_multiple_of(HOUR) => format!("{}h", milliseconds / HOUR),
        _ if milliseconds.is_multiple_of(60_000) => format!("{}m", milliseconds / 60_000),
        _ if milliseconds.is_multiple_of(1000) => format!("{}s", milliseconds / 1000),
        _ => format!("{milliseconds}ms"),
    }
}

/// Bytes as a person writes them.
pub(super) fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes)
        .display()
        .iec()
        .to_string()
        .replace(".0 ", "")
        .replace(' ', "")
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// Its dotted path; `interceptor[]`, `route[]` and `handler.NAME` stand for each entry.
    pub(super) path: &'static str,
    /// What it takes.
    pub(super) kind: Kind,
    /// What it is for.
    pub(super) meaning: &'static str,
    /// Its value as TOML where nobody sets it.
    pub(super) default: Option<&'static str>,
    /// What happens without it, if there is no default.
    pub(super) absent: &'static str,
    /// A value as TOML for the documentation of a key without a default.
    pub(super) example: &'static str,
    /// What the number counts, if its type does not say so.
    pub(super) unit: &'static str,
    /// Whether it must be there wherever its table is.
    pub(super) required: bool,
    /// The `kind`s of entry that have it; empty for all.
    pub(super) of_kinds: &'static [&'static str],
    /// The version that brought it.
    pub(super) since: &'static str,
}

const fn key(path: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key {
        path,
        kind,
        meaning,
        default: None,
        absent: "",
        example: "",
        unit: "",
        required: false,
        of_kinds: &[],
        since: "0.1.0",
    }
}

impl Key {
    const fn default(mut self, toml: &'static str) -> Self {
        self.default = Some(toml);
        self
    }

    const fn optional(mut self, absent: &'static str, example: &'static str) -> Self {
        self.absent = absent;
        self.example = example;
        self
    }

    const fn required(mut self, example: &'static str) -> Self {
        self.required = true;
        self.example = example;
        self
    }

    const fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit;
        self
    }

    const fn of(mut self, kinds: &'static [&'static str]) -> Self {
        self.of_kinds = kinds;
        self
    }

    /// The last part of the path.
    pub(super) fn name(&self) -> &'static str {
        self.path
            .rsplit_once('.')
            .map_or(self.path, |(_, name)| name)
    }

    /// Whether entries of this kind have the key; without a kind every key is.
    pub(super) fn is_of(&self, kind: Option<&str>) -> bool {
        self.of_kinds.is_empty() || kind.is_none_or(|kind| self.of_kinds.contains(&kind))
    }
}

/// The key with this path.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The keys whose path starts with `prefix` and a dot, with what follows it.
pub(super) fn below(prefix: &str) -> impl Iterator<Item = (&'static str, &'static Key)> {
    KEYS.iter().filter_map(move |key| {
        let rest = key.path.strip_prefix(prefix)?.strip_prefix('.')?;
        Some((rest, key))
    })
}

/// Kinds of interceptor.
pub(super) const INTERCEPTOR_KINDS: &[&str] = &["access-log", "header-auth", "limit"];
/// Kinds of handler section.
pub(super) const HANDLER_KINDS: &[&str] = &[
    "static",
    "allow",
    "deny",
    "echo",
    "counter",
    "roadrunner",
    "grpc",
];
/// Handlers that a route may name without a section.
pub(super) const BUILT_IN: &[&str] = &["allow", "deny", "echo", "counter"];
/// Kinds of interceptor and handler that a later version brings.
pub(super) const LATER_KINDS: &[&str] = &[
    "jwt",
    "schema",
    "idempotency",
    "breaker",
    "retry",
    "cache",
    "transform",
    "audit",
    "storm-guard",
    "demo",
    "http",
];
/// Keys and sections that a later version brings.
pub(super) const LATER_KEYS: &[&str] = &["listen.http", "state"];
/// Tables of an entry that have their defaults where nobody writes them, by the entry's kind.
pub(super) const FILLED: &[(&str, &[&str])] = &[
    ("roadrunner", &["pool", "pool.supervisor"]),
    ("grpc", &["retry", "eject"]),
];
/// Tables of an optional section that have their defaults wherever the section is written.
pub(super) const FILLED_SECTIONS: &[(&str, &[&str])] = &[("cluster", &["lease", "raft", "moves"])];
/// Sections and keys that a running node can't change: they say where it listens, how it is laid out
/// and how names are read. Everything else is applied by a reload.
pub(super) const RESTART: &[&str] = &[
    "node",
    "cluster",
    "listen",
    "channel",
    "log.format",
    "log.otlp",
    "log.otlp_headers",
    "log.otlp_ca",
    "log.service",
    "runtime",
    "metrics",
    "rpc",
];

/// Keys inside of those that a reload applies all the same.
pub(super) const APPLIED: &[&str] = &[
    "listen.max_connection_age",
    "node.serves",
    "cluster.secret",
    "cluster.tls",
];

/// Whether a changed value of this dotted key (or of the section of this name) waits for a restart;
/// a reload applies the others.
pub fn needs_restart(key: &str) -> bool {
    let is_in = |of: &&str| {
        let rest = key.strip_prefix(*of);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    !APPLIED.iter().any(is_in) && RESTART.iter().any(is_in)
}

/// What an access log line may show.
pub(super) const LOG_FIELDS: &[&str] = &[
    "event", "client", "user", "channel", "method", "route", "handler", "key", "outcome", "code",
    "took",
];
/// Plain log levels.
pub(super) const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// What keys of worker pools are of.
const WORKERS: &[&str] = &["roadrunner"];
/// What keys of upstreams are of.
const UPSTREAM: &[&str] = &["grpc"];
/// What keys of applications that speak the contract themselves are of.
const FOREIGN: &[&str] = &["roadrunner", "grpc"];
/// gRPC statuses that a call may be repeated on.
pub(super) const STATUSES: &[&str] = &[
    "CANCELLED",
    "UNKNOWN",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "ABORTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
];

const MIB: u64 = 1 << 20;
const HOUR: u64 = 3_600_000;

/// Every section, in the order of the file.
pub(super) const SECTIONS: &[Section] = &[
    Section {
        name: "node",
        shape: Shape::Once,
        meaning: "Who this node is.",
    },
    Section {
        name: "listen",
        shape: Shape::Once,
        meaning: "Where the node listens and whom it lets in.",
    },
    Section {
        name: "centrifugo",
        shape: Shape::Once,
        meaning: "The Centrifugo we publish to.",
    },
    Section {
        name: "channel",
        shape: Shape::Once,
        meaning: "How channel names are read; the same as in Centrifugo.",
    },
    Section {
        name: "log",
        shape: Shape::Once,
        meaning: "What the node says on stderr, and where its traces go.",
    },
    Section {
        name: "limits",
        shape: Shape::Once,
        meaning: "Admission: refused at the edge, never queued without bound.",
    },
    Section {
        name: "runtime",
        shape: Shape::Once,
        meaning: "Cores, shards and idle lanes.",
    },
    Section {
        name: "metrics",
        shape: Shape::Once,
        meaning: "What the node counts of itself (docs/metrics.md).",
    },
    Section {
        name: "rpc",
        shape: Shape::Once,
        meaning: "Where worker applications call back: goridge RPC as RoadRunner speaks it, without credentials.",
    },
    Section {
        name: "cluster",
        shape: Shape::Optional,
        meaning: "Several nodes as one. Without this section a node runs alone; with it, run `cluster init` once on the first node, then `serve` on each. `cluster.advertise` has to be set where `cluster.listen` is a wildcard.",
    },
    Section {
        name: "interceptor",
        shape: Shape::Entries,
        meaning: "Pipeline actors: those on \"*\" in file order (outermost), then those on the event, then the route's own.",
    },
    Section {
        name: "route",
        shape: Shape::Entries,
        meaning: "Which handler answers which event; the more specific match wins.",
    },
    Section {
        name: "handler",
        shape: Shape::Named,
        meaning: "Handlers by name. `allow`, `deny`, `echo` and `counter` are there without a section.",
    },
];

/// Every key, in the order of the file.
pub(super) const KEYS: &[Key] = &[
    key("node.name", Kind::Name, "The name of this node in logs, metrics and replies; one per node.").default("\"a\""),
    key("node.data", Kind::Text, "The folder of what a member of a cluster keeps: its identity and the Raft log. Unused without [cluster].").default("\"./data\""),
    key("node.roles", Kind::Words(&["voter", "ingress", "region"]), "What the node is there for in a cluster: it may vote in Raft, takes events, owns slots. Unused without [cluster].").default("[\"voter\", \"ingress\", \"region\"]"),
    key("node.serves", Kind::Serves, "The events that it runs in a cluster: connect and refresh, rpc without a key (all of it, or a method, or a prefix), everything with a key. What it takes of the others it sends on. Unused without [cluster].").default("[\"connect\", \"rpc\", \"channel\"]"),
    // listen
    key("listen.grpc", Kind::Listen, "Where Centrifugo's event proxy reaches us over gRPC. Beyond loopback only with `auth`, `tls.client_ca` or `allow_open`.").default("\"127.0.0.1:10001\""),
    key("listen.admin", Kind::Tcp, "Where /health, /ready and the admin service answer. Beyond loopback only with `admin_token`.").default("\"127.0.0.1:10003\""),
    key("listen.allow_open", Kind::Flag, "Lets anyone who reaches `grpc` send events; for networks that keep strangers out by themselves.").default("false"),
    key("listen.max_connection_age", Kind::Duration(1000, 24 * HOUR), "After this time, give or take 20 %, a connection is asked to reconnect, so that load spreads over new nodes.").default("\"10m\""),
    key("listen.auth.metadata", Kind::Metadata, "The metadata key in which callers present their credential; removed before any handler or log sees it.").required("\"x-router-key\""),
    key("listen.auth.value", Kind::Secret, "The credential that callers present.").required("\"${ROUTER_KEY}\""),
    key("listen.tls.cert", Kind::File, "The certificate chain of `grpc`, PEM; re-read when the file changes.").required("\"/etc/centripeta/cert.pem\""),
    key("listen.tls.key", Kind::File, "The private key of the certificate, PEM; re-read when the file changes.").required("\"/etc/centripeta/key.pem\""),
    key("listen.tls.client_ca", Kind::File, "Only callers with a certificate of this authority, PEM, are let in.").optional("no client certificate is asked for", "\"/etc/centripeta/ca.pem\""),
    key("listen.admin_token", Kind::Secret, "The bearer token that the admin listener asks for, except for /health and /ready.").optional("none is asked for", "\"${ROUTER_ADMIN_TOKEN}\""),
    // centrifugo
    key("centrifugo.api", Kind::Endpoints, "The gRPC server APIs of the Centrifugo nodes; grpcs:// for TLS. Calls go to those that are well.").default("[\"grpc://127.0.0.1:10000\"]"),
    key("centrifugo.key", Kind::Secret, "The key of that API; empty for none.").default("\"${CENTRIFUGO_GRPC_API_KEY:-}\""),
    key("centrifugo.timeout", Kind::Duration(1, 10 * 60_000), "How long a call may take, from when it is made to its answer.").default("\"2s\""),
    key("centrifugo.queue", Kind::Count(1, 1_000_000), "Calls that wait or are on their way; beyond it a call is refused at once.").default("16384").unit("calls"),
    key("centrifugo.queue_bytes", Kind::Bytes(1024, 1 << 40), "The bytes of those calls together.").default("\"64MiB\""),
    key("centrifugo.batch", Kind::Count(1, 1024), "Publications sent in one call, if that many wait; 1 sends each by itself.").default("256").unit("publications"),
    key("centrifugo.flights", Kind::Count(1, 1024), "Batches on their way to one endpoint at once; what is published meanwhile gathers for the next.").default("4").unit("batches"),
    key("centrifugo.message_bytes", Kind::Bytes(1024, 256 * MIB), "The largest message sent; at most Centrifugo's `grpc_api.max_receive_message_size`.").default("\"4MiB\""),
    key("centrifugo.tls.ca", Kind::File, "The authority of the certificates of grpcs:// endpoints, PEM; read at every connection.").optional("those that the system trusts", "\"/etc/centripeta/centrifugo-ca.pem\""),
    key("centrifugo.tls.cert", Kind::File, "Our certificate for a Centrifugo with `grpc_api.tls.client_ca_pem`, PEM; with `tls.key`.").optional("none is shown", "\"/etc/centripeta/client.pem\""),
    key("centrifugo.tls.key", Kind::File, "The private key of that certificate, PEM.").optional("none is shown", "\"/etc/centripeta/client-key.pem\""),
    key("centrifugo.client", Kind::SocketUrl, "Where clients connect; only used to check a setup.").default("\"ws://127.0.0.1:8000/connection/websocket\""),
    // channel
    key("channel.namespace_boundary", Kind::Boundary, "What ends the namespace in a channel name; `{x}` in a match never crosses it.").default("\":\""),
    // log
    key("log.format", Kind::Choice(&["auto", "pretty", "json"]), "How lines look; `auto` is pretty on a terminal and JSON elsewhere.").default("\"auto\""),
    key("log.level", Kind::Filter, "The least important level shown, for all or by target. `log-level` changes it at run time, until the next reload or start.").default("\"info\""),
    key("log.otlp", Kind::Collector, "The collector that traces are exported to, over OTLP with gRPC; https:// for TLS. A collector that is slow or gone costs spans, never events.").optional("traces are not recorded; the context of a caller is still passed on", "\"http://127.0.0.1:4317\""),
    key("log.sampling", Kind::Share, "The share of traces recorded of those that begin here; a caller's `traceparent` says itself whether it is. 1 records every event.").default("0.01"),
    key("log.service", Kind::Name, "The `service.name` of traces; their `service.instance.id` is `node.name`.").optional("the program's name", "\"centripeta\""),
    key("log.otlp_headers", Kind::Secret, "Metadata that the collector asks for, as NAME=VALUE, several separated by commas.").optional("none is sent", "\"${OTLP_HEADERS}\""),
    key("log.otlp_ca", Kind::File, "The authority of the certificate of an https:// collector, PEM; read at every connection.").optional("those that the system trusts", "\"/etc/centripeta/collector-ca.pem\""),
    // limits
    key("limits.in_flight", Kind::Count(1, 1_000_000), "Events being worked on at once; a stream counts until it is accepted.").default("4096").unit("events"),
    key("limits.in_flight_bytes", Kind::Bytes(1024, 1 << 40), "The bytes of those events together; at least `message_bytes`.").default("\"64MiB\""),
    key("limits.streams", Kind::Count(1, 10_000_000), "Accepted subscription streams.").default("100_000").unit("streams"),
    key("limits.message_bytes", Kind::Bytes(1024, 256 * MIB), "The largest message taken. Replies have a limit of their own, 4 MiB, which is what Centrifugo takes; it drops a client over a reply of about 1 MiB.").default("\"4MiB\""),
    key("limits.header_bytes", Kind::Bytes(1024, 16 * MIB), "The headers of one call together.").default("\"64KiB\""),
    key("limits.timeout", Kind::Duration(1, HOUR), "How long an event may take where the caller sends no grpc-timeout; for streams until they are accepted. SDKs give up after 5 s.").default("\"3s\""),
    key("limits.deadline_margin", Kind::Duration(0, 10_000), "How much earlier than the caller we give up, so that the answer arrives; at most 10 % of the time there is.").default("\"50ms\""),
    key("limits.lane_queue", Kind::Count(1, 65_536), "Events waiting in one lane, that is for one key.").default("64").unit("events"),
    key("limits.shard_events", Kind::Count(1, 1_000_000), "Events that wait in one shard.").default("4096").unit("events"),
    key("limits.shard_bytes", Kind::Bytes(1024, 1 << 40), "The bytes of those events together; at least `message_bytes`.").default("\"16MiB\""),
    key("limits.shutdown_grace", Kind::Duration(0, HOUR), "How long a stopping node waits for what it has accepted.").default("\"25s\""),
    // runtime
    key("runtime.cores", Kind::Count(0, 1024), "Threads that handle events; 0 for one per core.").default("0").unit("threads"),
    key("runtime.shards_per_core", Kind::Count(8, 64), "Shard actors on each of them.").default("16").unit("shards"),
    key("runtime.passivate_after", Kind::Duration(1, 24 * HOUR), "After how long without an event a lane with state is put to sleep.").default("\"120s\""),
    key("runtime.watchdog", Kind::Duration(10, 60_000), "How long a handler may hold its thread before it is named in the log.").default("\"200ms\""),
    // metrics
    key("metrics.enabled", Kind::Flag, "Whether events are counted and `/metrics` on the admin listener answers.").default("true"),
    key("metrics.roadrunner", Kind::Flag, "Whether worker pools are shown under RoadRunner's names (`rr_centrifugo_*`) too, for dashboards that know those; each new worker makes new series there.").default("false"),
    // rpc
    key("rpc.listen", Kind::RpcListen, "Where workers call `centrifuge.*` and the other services. `localhost` is 127.0.0.1; beyond loopback only with `allow_open`.").optional("off, unless a handler is a worker pool; then tcp://127.0.0.1:6001", "\"tcp://127.0.0.1:6001\""),
    key("rpc.allow_open", Kind::Flag, "Lets anyone who reaches `listen` publish and reset workers; for networks that keep strangers out by themselves.").default("false"),
    key("rpc.fallback", Kind::RpcServer, "The RPC server of a RoadRunner that keeps other plugins (jobs, kv, lock): calls of services that are not here are passed on to it.").optional("such calls are answered \"can't find service\"", "\"tcp://127.0.0.1:6002\""),
    key("rpc.old_disconnect", Kind::Flag, "For applications with a PHP SDK before 2.4, whose disconnect() is sent as an unsubscribe and does nothing: such calls are told apart and disconnect.").default("false"),
    // cluster
    key("cluster.listen", Kind::Tcp, "Where the other nodes reach this one. Beyond loopback only with `secret`, `tls` or `insecure`.").default("\"127.0.0.1:7946\""),
    key("cluster.advertise", Kind::Peer, "What the others dial; empty for `listen`. Required where `listen` is a wildcard.").default("\"\""),
    key("cluster.seeds", Kind::Peers, "Nodes to join through, by address or DNS name; every address of a name is tried.").default("[]"),
    key("cluster.secret", Kind::Secrets, "What the nodes share to know each other: the first proves, all are accepted. Rotate by [old, new], [new, old], [new], each step on every node before the next; a `file:` is read again when it changes. Use 32 random bytes.").default("[]"),
    key("cluster.tls.cert", Kind::File, "The node's certificate, PEM, made out to `node.name`; re-read when the file changes.").required("\"/etc/centripeta/node.pem\""),
    key("cluster.tls.key", Kind::File, "The private key of that certificate, PEM; re-read when the file changes.").required("\"/etc/centripeta/node-key.pem\""),
    key("cluster.tls.ca", Kind::File, "The cluster's own authority, PEM, which every node's certificate has to come from.").required("\"/etc/centripeta/cluster-ca.pem\""),
    key("cluster.insecure", Kind::Flag, "Links beyond loopback without secret and TLS, for networks that keep strangers out by themselves.").default("false"),
    key("cluster.serve_stateless_isolated", Kind::Flag, "Whether connect and rpc without a key go on where no quorum is in reach.").default("true"),
    key("cluster.voters", Kind::Count(1, 5), "How many voters are wanted: 1, 3 or 5. Read by `cluster init` only; later by `cluster voters`.").default("3").unit("nodes"),
    key("cluster.lease.length", Kind::Duration(100, 60_000), "For how long a node may act for its slots after a heartbeat; at least four of them. Read by `cluster init` only.").default("\"1200ms\""),
    key("cluster.lease.heartbeat", Kind::Duration(10, 15_000), "How often a node asks the leader to renew its lease.").default("\"200ms\""),
    key("cluster.lease.drift_margin", Kind::Share, "How much longer than a lease the leader waits before it gives slots away, as a share of it; at least 0.09, since clocks may be slewed by so much. Read by `cluster init` only.").default("0.10"),
    key("cluster.raft.heartbeat", Kind::Duration(5, 10_000), "How often a Raft leader is heard; voters need a round trip of less than half of it.").default("\"60ms\""),
    key("cluster.raft.election", Kind::Duration(10, 60_000), "How long the first voter waits for a leader before it stands for election; each further one 30 ms more. The worst election has to fit into 0.7 of the lease.").default("\"200ms\""),
    key("cluster.moves.open_limit", Kind::Count(1, 4096), "Moves of slots that are open at once in the whole cluster; the leader's value counts.").default("512").unit("slots"),
    key("cluster.moves.closed_per_node", Kind::Count(1, 4096), "Slots that a node keeps closed for a move at once, but for empty ones.").default("8").unit("slots"),
    key("cluster.moves.prepare_timeout", Kind::Duration(100, 60_000), "How long a move waits for its target and for long events before it is given up; a drain goes on.").default("\"2s\""),
    key("cluster.moves.release_timeout", Kind::Duration(100, 10 * 60_000), "How long a drain lets an event run once its slot is closed, before it is answered unavailable.").default("\"5s\""),
    // interceptor
    key("interceptor[].name", Kind::Name, "Its name in routes, logs, spans and metrics; one per interceptor.").required("\"log\""),
    key("interceptor[].on", Kind::On, "The events it sees: all, one, a list, or those of the routes that name it.").required("\"*\""),
    key("interceptor[].kind", Kind::Choice(INTERCEPTOR_KINDS), "What it does: a line per event, a required header, or a limit of events per second.").required("\"access-log\""),
    key("interceptor[].level", Kind::Choice(&["error", "warn", "info", "debug", "trace"]), "The level of its lines.").default("\"info\"").of(&["access-log"]),
    key("interceptor[].fields", Kind::Words(LOG_FIELDS), "What a line shows; besides, `trace_id` where the event has a trace.").default("[\"event\", \"client\", \"user\", \"channel\", \"method\", \"route\", \"outcome\", \"code\", \"took\"]").of(&["access-log"]),
    key("interceptor[].header", Kind::Metadata, "The header that must be there, as Centrifugo forwards it in metadata.").required("\"x-app-key\"").of(&["header-auth"]),
    key("interceptor[].value", Kind::Secret, "The value it must have; events without it are refused like `deny`.").required("\"${APP_KEY}\"").of(&["header-auth"]),
    key("interceptor[].rate", Kind::Rate, "Events a second, on average.").required("20").unit("events per second").of(&["limit"]),
    key("interceptor[].burst", Kind::Count(1, 1_000_000), "Events at once after a pause.").optional("as many as `rate`, at least 1", "40").unit("events").of(&["limit"]),
    key("interceptor[].per", Kind::Per, "What is counted by itself; a template is over {user} {client} {channel} {method} {param.X} {data.X} {header.NAME}.").optional("`user`, on connect `all`", "\"user\"").of(&["limit"]),
    // route
    key("route[].on", Kind::Events, "The events it takes.").required("[\"subscribe\", \"publish\"]"),
    key("route[].match", Kind::Text, "The channels: a pattern such as chat:{room}; for rpc the methods: a.b, a.* or *.").optional("everything", "\"chat:{room}\""),
    key("route[].key", Kind::Key, "What is handled one after the other; a template is over {user} {client} {channel} {method} {param.X} {data.X}.").optional("`channel` for events with a channel, else `none`; `none` where a worker pool or an upstream answers", "\"user\""),
    key("route[].handler", Kind::Name, "Who answers: a built-in handler or a [handler.NAME].").required("\"allow\""),
    key("route[].timeout", Kind::Duration(1, HOUR), "How long its events may take, if that is less than the caller gives.").optional("`limits.timeout`", "\"1s\""),
    key("route[].retry_safe", Kind::Flag, "In a cluster: an event that may have run at a node which was lost runs once more at another, since running it twice does no harm. Connect, refresh, subscribe and sub_refresh do so anyway.").default("false"),
    key("route[].interceptors", Kind::Names, "Interceptors on \"route\" that its events pass, in this order.").default("[]"),
    key("route[].pool", Kind::Count(1, 256), "Threads of its own, for a handler that computes long or blocks.").optional("it runs on the shards' threads", "2").unit("threads"),
    // handler
    key("handler.NAME.kind", Kind::Choice(HANDLER_KINDS), "What it does: a fixed answer, the event's plain yes, its plain no, data back to the caller, a count, workers in PHP or another language, or an upstream over gRPC.").required("\"static\""),
    key("handler.NAME.reply", Kind::Object, "The event's result message; strings may hold {client} {user} {channel} {method} {param.NAME}, expire_in is a duration. Instead of `error` and `disconnect`.").optional("see `error`, `disconnect`", "{ user = \"guest-{client}\" }").of(&["static"]),
    key("handler.NAME.error.code", Kind::ErrorCode, "The code of the error it answers.").required("1403").of(&["static"]),
    key("handler.NAME.error.message", Kind::Text, "The error's text, which the client sees.").required("\"not yours\"").of(&["static"]),
    key("handler.NAME.error.temporary", Kind::Flag, "Whether SDKs try again.").default("false").of(&["static"]),
    key("handler.NAME.disconnect.code", Kind::DisconnectCode, "The code of the disconnect it answers; from 4500 SDKs do not come back.").required("4403").of(&["static"]),
    key("handler.NAME.disconnect.reason", Kind::Reason, "The disconnect's reason.").default("\"\"").of(&["static"]),
    key("handler.NAME.extend", Kind::Duration(1000, 720 * HOUR), "By how much it extends a session on refresh and sub_refresh.").default("\"1h\"").of(&["allow"]),
    key("handler.NAME.command", Kind::Command, "The worker's program and its arguments, never given to a shell.").required("[\"php\", \"app.php\"]").of(WORKERS),
    key("handler.NAME.relay", Kind::Relay, "How frames reach a worker: by its stdin and stdout (`pipes`, faster), or by a socket that it connects to, for applications that write to stdout. Pools may share one; TCP is for loopback only.").default("\"pipes\"").of(WORKERS),
    key("handler.NAME.env", Kind::Variables, "Environment variables of the workers, above those of the node; names in capitals.").default("{}").of(WORKERS),
    key("handler.NAME.dir", Kind::Text, "The folder that workers run in; looked up at each start, so that a changed link is followed.").optional("that of the node", "\"/srv/app/current\"").of(WORKERS),
    key("handler.NAME.user", Kind::Text, "The user that workers run as, by name or number; the node has to be root then.").optional("that of the node", "\"www-data\"").of(WORKERS),
    key("handler.NAME.group", Kind::Text, "The group that workers run as, by name or number.").optional("the first group of `user`", "\"www-data\"").of(WORKERS),
    key("handler.NAME.fence", Kind::Flag, "Whether each request is followed by a question that shows requests passed over and second answers; `false` for workers that take no control frame between requests.").default("true").of(WORKERS),
    key("handler.NAME.max_frame", Kind::Bytes(1024, 1 << 30), "The longest answer taken from a worker.").default("\"64MiB\"").of(WORKERS),
    key("handler.NAME.allow_empty", Kind::Flag, "Whether an empty answer may cross; Centrifugo reads one as *allowed* for most events, and refresh as *expired*.").default("false").of(WORKERS),
    key("handler.NAME.strict_replies", Kind::Flag, "Whether answers that Centrifugo or an SDK would mishandle are refused, as those of other handlers are; else they cross untouched and are told of once.").default("false").of(FOREIGN),
    key("handler.NAME.on", Kind::Events, "The events that the workers know, for SDKs that know fewer: a route with another one stops the start.").optional("all but streams and `raw`", "[\"connect\", \"rpc\"]").of(WORKERS),
    key("handler.NAME.on_init.command", Kind::Command, "What is run once before the pool starts.").required("[\"php\", \"warmup.php\"]").of(WORKERS),
    key("handler.NAME.on_init.exec_timeout", Kind::Duration(1, 24 * HOUR), "How long it may take before it is killed.").default("\"60s\"").of(WORKERS),
    key("handler.NAME.on_init.env", Kind::Variables, "Its environment variables, above those of the node.").default("{}").of(WORKERS),
    key("handler.NAME.on_init.user", Kind::Text, "The user that it runs as.").optional("that of the node", "\"www-data\"").of(WORKERS),
    key("handler.NAME.on_init.exit_on_error", Kind::Flag, "Whether the pool does not start if it fails.").default("false").of(WORKERS),
    key("handler.NAME.pool.num_workers", Kind::Count(0, 500), "Workers kept alive; 0 for one per CPU, at most 500.").default("0").unit("workers").of(WORKERS),
    key("handler.NAME.pool.max_jobs", Kind::Count(0, 1 << 40), "Events after which a worker is replaced, give or take 14 %; 0 for never.").default("0").unit("events").of(WORKERS),
    key("handler.NAME.pool.max_queue_size", Kind::Count(0, 10_000_000), "Requests in the pool at once, those at work included; 0 for as many as `limits.in_flight`. Those that wait get a worker in the order in which they came, but for those that came within 5 ms of each other: of these one on the core where it became free is first.").default("0").unit("requests").of(WORKERS),
    key("handler.NAME.pool.allocate_timeout", Kind::Duration(1, HOUR), "The longest start of a worker, and the longest wait of an event for one; its deadline may be nearer.").default("\"60s\"").of(WORKERS),
    key("handler.NAME.pool.destroy_timeout", Kind::Duration(1, HOUR), "The longest end of a worker that is asked to leave; 10s at most.").default("\"60s\"").of(WORKERS),
    key("handler.NAME.pool.reset_timeout", Kind::Duration(1, HOUR), "How long whoever asks for a reset waits for its end: the new workers are started a quarter of the pool at a time, behind a first one alone, and the old ones finish what they are at.").default("\"60s\"").of(WORKERS),
    key("handler.NAME.pool.stream_timeout", Kind::Duration(1, HOUR), "How long the rest of an answer may take that a worker began to stream, which no event takes.").default("\"60s\"").of(WORKERS),
    key("handler.NAME.pool.debug", Kind::Flag, "A fresh worker for each event, so that a changed script counts at once; where it does not start, the event says why.").default("false").of(WORKERS),
    key("handler.NAME.pool.command", Kind::Command, "The program of this pool, instead of the handler's `command`.").optional("the handler's `command`", "[\"php\", \"app.php\"]").of(WORKERS),
    key("handler.NAME.pool.dynamic_allocator.max_workers", Kind::Count(1, 100), "The most workers beyond `num_workers`, which come when events wait for one; without this table there are none.").default("10").unit("workers").of(WORKERS),
    key("handler.NAME.pool.dynamic_allocator.spawn_rate", Kind::Count(1, 100), "How many come, or go, at a time.").default("5").unit("workers").of(WORKERS),
    key("handler.NAME.pool.dynamic_allocator.idle_timeout", Kind::Duration(1000, HOUR), "How long none of them was needed before they go.").default("\"60s\"").of(WORKERS),
    key("handler.NAME.pool.supervisor.ttl", Kind::Duration(0, 8760 * HOUR), "The age at which a worker is replaced; 0 for any.").default("\"0s\"").of(WORKERS),
    key("handler.NAME.pool.supervisor.idle_ttl", Kind::Duration(0, 8760 * HOUR), "Idle time after which a worker that has worked is replaced; 0 for any.").default("\"0s\"").of(WORKERS),
    key("handler.NAME.pool.supervisor.exec_ttl", Kind::Duration(0, 24 * HOUR), "The longest work on one event: only this kills a worker that runs too long, the caller's deadline does not. 0 for any.").default("\"30s\"").of(WORKERS),
    key("handler.NAME.pool.supervisor.max_worker_memory", Kind::Count(0, 1 << 30), "Memory at which a worker is replaced once it is free; 0 for any.").default("0").unit("MiB").of(WORKERS),
    key("handler.NAME.pool.supervisor.watch_tick", Kind::Duration(10, HOUR), "How often age, idle time and memory are looked at.").default("\"5s\"").of(WORKERS),
    key("handler.NAME.endpoints", Kind::Endpoints, "Where an upstream is: applications that speak Centrifugo's proxy protocol, each as good as the other. A name stands for every address that it has; it is looked up every 10 s, and when a call fails.").required("[\"grpc://10.0.0.5:9000\", \"grpc://backend.internal:9000\"]").of(UPSTREAM),
    key("handler.NAME.timeout", Kind::Duration(1, HOUR), "The longest call to the upstream, all attempts together, if that is less than the event may take; of streams until they are accepted. The upstream is told what is left, as grpc-timeout.").optional("as long as the event may take", "\"800ms\"").of(UPSTREAM),
    key("handler.NAME.connect_timeout", Kind::Duration(1, HOUR), "The longest attempt to connect to one address, TLS included.").default("\"1s\"").of(UPSTREAM),
    key("handler.NAME.metadata", Kind::MetadataTable, "Metadata of every call, besides the caller's, which is passed on; it replaces what the caller sends under the same name.").default("{}").of(UPSTREAM),
    key("handler.NAME.tls.ca", Kind::File, "The authority that certificates of the endpoints must come from, PEM. `tls`, even an empty one, secures all endpoints, those of grpc:// too. Its files are read again when they change.").optional("those that the system trusts", "\"/etc/centripeta/backend-ca.pem\"").of(UPSTREAM),
    key("handler.NAME.tls.cert", Kind::File, "Our certificate towards the upstream, PEM, for mutual TLS.").optional("none is shown", "\"/etc/centripeta/router.pem\"").of(UPSTREAM),
    key("handler.NAME.tls.key", Kind::File, "The private key of `cert`, PEM.").optional("none is shown", "\"/etc/centripeta/router-key.pem\"").of(UPSTREAM),
    key("handler.NAME.tls.name", Kind::Text, "The name that certificates of the endpoints must have.").optional("the endpoint's host", "\"backend.internal\"").of(UPSTREAM),
    key("handler.NAME.retry.on", Kind::Words(STATUSES), "Statuses after which a call is sent again, to another address if there is one; a call that was lost with its connection counts as UNAVAILABLE. An application may see such an event twice. What was provably not sent is always sent again.").default("[]").of(UPSTREAM),
    key("handler.NAME.retry.attempts", Kind::Count(1, 10), "How often a call is sent at most, the first time included.").default("3").unit("attempts").of(UPSTREAM),
    key("handler.NAME.retry.budget", Kind::Share, "How many calls are sent again for each that succeeds, so that retries do not add to a breakdown; ten more to begin with.").default("0.1").of(UPSTREAM),
    key("handler.NAME.eject.failures", Kind::Count(0, 1000), "After so many failures in a row (not sent, lost, UNAVAILABLE) an address gets no calls for a while, unless too few others are left; ten times as many where some were errors that may be the event's (UNKNOWN, INTERNAL, too late); 0 for never.").default("5").unit("failures").of(UPSTREAM),
    key("handler.NAME.eject.time", Kind::Duration(1, HOUR), "For how long the first time; it doubles with each time that follows soon.").default("\"1s\"").of(UPSTREAM),
    key("handler.NAME.eject.longest", Kind::Duration(1, HOUR), "For how long at most.").default("\"1m\"").of(UPSTREAM),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_stands_in_a_section_once_and_says_what_it_means() {
        for (index, key) in KEYS.iter().enumerate() {
            let prefixes = SECTIONS.iter().map(Section::prefix);
            let homes = prefixes.filter(|prefix| key.path.starts_with(&format!("{prefix}.")));
            assert_eq!(homes.count(), 1, "{}", key.path);
            assert!(
                KEYS[..index].iter().all(|other| other.path != key.path),
                "{}",
                key.path
            );
            assert!(key.meaning.ends_with('.'), "{}", key.path);
            assert!(!key.kind.describe().is_empty());
            let answered = key.default.is_some() || !key.example.is_empty();
            assert!(answered, "{} needs a default or an example", key.path);
            assert!(!key.required || key.default.is_none(), "{}", key.path);
        }
    }

    #[test]
    fn bounds_are_documented_as_people_write_them() {
        assert_eq!(Kind::Duration(1, HOUR).describe(), "duration, 1ms to 1h");
        assert_eq!(
            Kind::Bytes(1024, 256 * MIB).describe(),
            "size, 1KiB to 256MiB"
        );
    }
}
