//! Proxy objects: where each event goes, for how long, and what goes with it.

use crate::cli::error::CliError;
use crate::cli::health::reachable;
use crate::config::{Config, ListenAddr};
use crate::engine::compile::Compiled;
use crate::event::EventKind;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::Duration;

/// After this time Centrifugo closes a connection that waits for its connect call.
const CONNECT_CAP: Duration = Duration::from_secs(10);
/// After this time Centrifugo closes a connection that leaves a channel while it subscribes.
const SUBSCRIBE_CAP: Duration = Duration::from_secs(5);

/// An event that goes to another address.
#[derive(Debug, Clone)]
pub(super) struct Split {
    pub(super) kind: EventKind,
    endpoint: String,
}

impl Split {
    /// `EVENT=ADDRESS`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (kind, address) = text
            .split_once('=')
            .ok_or("write EVENT=ADDRESS, such as rpc=10.0.0.2:10001")?;
        let kind: EventKind = kind.parse().map_err(|unknown| format!("{unknown}"))?;
        if path(kind).is_empty() {
            return Err(format!("Centrifugo 6.9 sends no {kind} events"));
        }
        let endpoint = endpoint(address)?;
        Ok(Self { kind, endpoint })
    }
}

/// An address as Centrifugo takes it.
pub(super) fn endpoint(address: &str) -> Result<String, String> {
    if let Some(path) = address.strip_prefix("unix://") {
        return match path.starts_with('/') {
            true => Ok(address.to_owned()),
            false => Err("a unix socket needs an absolute path: unix:///run/x.sock".to_owned()),
        };
    }
    let (scheme, rest) = match address.split_once("://") {
        None => ("grpc", address),
        Some((scheme @ ("grpc" | "tls"), rest)) => (scheme, rest),
        Some((other, _)) => {
            return Err(format!(
                "`{other}://` is not spoken; write grpc://HOST:PORT"
            ));
        }
    };
    let rule = "write HOST:PORT, grpc://HOST:PORT, tls://HOST:PORT or unix:///PATH";
    let port = rest.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(1..)) if !rest.contains(['/', ' ', '@']) => Ok(format!("{scheme}://{rest}")),
        _ => Err(rule.to_owned()),
    }
}

/// Where the proxy object of an event stands; empty for events that Centrifugo OSS does not send.
pub(in crate::cli) fn path(kind: EventKind) -> Vec<&'static str> {
    match kind {
        EventKind::Connect | EventKind::Refresh => vec!["client", "proxy", kind.name()],
        EventKind::Stream | EventKind::StreamBidirectional => {
            vec!["channel", "proxy", "subscribe_stream"]
        }
        EventKind::Rpc => vec!["rpc", "proxy"],
        EventKind::Subscribe
        | EventKind::SubRefresh
        | EventKind::Publish
        | EventKind::MapPublish
        | EventKind::MapRemove
        | EventKind::SharedPollRefresh => vec!["channel", "proxy", kind.name()],
        EventKind::CacheEmpty | EventKind::ChannelState | EventKind::Raw => Vec::new(),
    }
}

/// What proxy objects are made from.
pub(super) struct Proxies {
    own: String,
    splits: Vec<Split>,
    credential: Option<String>,
    server_ca: Option<String>,
    wants_certificate: bool,
    timeouts: Vec<(EventKind, Duration)>,
    default_timeout: Duration,
    pub(super) notes: Vec<String>,
}

/// One proxy object.
pub(super) struct Object {
    pub(super) value: Value,
    pub(super) wants_certificate: bool,
    pub(super) notes: Vec<String>,
}

impl Proxies {
    pub(super) fn new(
        config: &Config,
        compiled: &Compiled,
        to: Option<&str>,
        splits: &[Split],
    ) -> Result<Self, CliError> {
        let mut notes = Vec::new();
        let own = match to {
            Some(endpoint) => endpoint.to_owned(),
            None => listener(config, &mut notes)?,
        };
        let tls = config.listen.tls.as_ref();
        let server_ca = tls.map(|tls| absolute(&tls.cert)).transpose()?;
        if server_ca.is_some() {
            notes.push(
                "Centrifugo trusts `listen.tls.cert` itself; where an authority signed it, put \
                 that one into `server_ca_pem`"
                    .to_owned(),
            );
        }
        let default_timeout = config.limits.timeout;
        let timeouts = compiled.routes.iter().map(|compiled| {
            let timeout = compiled.route.timeout.unwrap_or(default_timeout);
            (compiled.route.kind, timeout)
        });
        Ok(Self {
            own,
            splits: splits.to_vec(),
            credential: config
                .listen
                .auth
                .as_ref()
                .map(|auth| auth.metadata.clone()),
            wants_certificate: tls.is_some_and(|tls| tls.client_ca.is_some()),
            server_ca,
            timeouts: timeouts.collect(),
            default_timeout,
            notes,
        })
    }

    /// The proxy object of an event.
    pub(super) fn object(&self, kind: EventKind) -> Object {
        let split = |split: &&Split| path(split.kind) == path(kind);
        let endpoint = self.splits.iter().rev().find(split);
        let endpoint = endpoint.map_or(&self.own, |split| &split.endpoint);
        let timeout = self.timeout(kind);
        let (endpoint, tls) = match endpoint.strip_prefix("tls://") {
            Some(rest) => (format!("grpc://{rest}"), true),
            None => (endpoint.clone(), false),
        };
        let mut value = json!({ "endpoint": endpoint, "timeout": go_duration(timeout) });
        if matches!(kind, EventKind::Connect | EventKind::Refresh) {
            value["enabled"] = json!(true);
        }
        // A connect has no meta yet, and a poll no client.
        if !matches!(kind, EventKind::Connect | EventKind::SharedPollRefresh) {
            value["include_connection_meta"] = json!(true);
        }
        if let Some(name) = &self.credential {
            value["grpc"]["credentials_key"] = json!(name);
        }
        if tls {
            value["grpc"]["tls"]["enabled"] = json!(true);
            if let Some(ca) = &self.server_ca {
                value["grpc"]["tls"]["server_ca_pem"] = json!(ca);
            }
        }
        Object {
            value,
            wants_certificate: tls && self.wants_certificate,
            notes: caps(kind, timeout),
        }
    }

    /// The longest that a route of the event may take: the node answers a margin earlier.
    fn timeout(&self, kind: EventKind) -> Duration {
        let same = |it: &&(EventKind, Duration)| path(it.0) == path(kind);
        let longest = self.timeouts.iter().filter(same).map(|it| it.1).max();
        longest.unwrap_or(self.default_timeout)
    }
}

fn caps(kind: EventKind, timeout: Duration) -> Vec<String> {
    let cap = match kind {
        EventKind::Connect => CONNECT_CAP,
        EventKind::Subscribe | EventKind::Stream | EventKind::StreamBidirectional => SUBSCRIBE_CAP,
        _ => return Vec::new(),
    };
    if timeout <= cap {
        return Vec::new();
    }
    vec![format!(
        "{kind} may take {}, but Centrifugo closes connections whose {kind} takes longer than {} s",
        go_duration(timeout),
        cap.as_secs()
    )]
}

/// The address of the node's own listener, as another process on this machine reaches it.
fn listener(config: &Config, notes: &mut Vec<String>) -> Result<String, CliError> {
    let scheme = if config.listen.tls.is_some() {
        "tls"
    } else {
        "grpc"
    };
    match &config.listen.grpc {
        ListenAddr::Tcp(address) if address.port() == 0 => Err(CliError::usage(
            "listen.grpc",
            "has port 0, so Centrifugo can't know where to send events",
            "give it a port, or name the address with --to",
        )),
        ListenAddr::Tcp(address) => {
            if address.ip().is_unspecified() {
                notes.push(format!(
                    "listen.grpc is {address}: Centrifugo is sent to loopback; where it runs on \
                     another machine, name the address with --to"
                ));
            }
            Ok(format!("{scheme}://{}", reachable(*address)))
        }
        ListenAddr::Unix(path) => Ok(format!("unix://{}", absolute(path)?)),
    }
}

fn absolute(path: &std::path::Path) -> Result<String, CliError> {
    let path = std::path::absolute(path).map_err(CliError::internal)?;
    Ok(path.display().to_string())
}

/// A time as Go writes it.
fn go_duration(time: Duration) -> String {
    match time.as_millis() {
        whole if whole % 1000 == 0 => format!("{}s", whole / 1000),
        milliseconds => format!("{milliseconds}ms"),
    }
}

/// The address to listen on for a host of our own configuration, if it is loopback.
pub(super) fn loopback(host: &str) -> Option<String> {
    let bare = host.trim_matches(['[', ']']);
    if bare == "localhost" {
        return Some("127.0.0.1".to_owned());
    }
    let address: IpAddr = bare.parse().ok()?;
    address.is_loopback().then(|| address.to_string())
}

/// Where clients connect, if that is Centrifugo itself: address (of loopback only) and port.
pub(super) fn client_listener(url: &str) -> Option<(Option<String>, u16)> {
    // Behind `wss` something else ends TLS.
    let uri: http::Uri = url
        .strip_prefix("ws://")
        .map(|it| format!("http://{it}"))?
        .parse()
        .ok()?;
    let host = uri.host()?;
    Some((loopback(host), uri.port_u16().unwrap_or(80)))
}
