//! Where everything listens: two listeners can't have one address, however it is spelled, and calls
//! that are passed on must not come back.
//!
//! No name is looked up here: `localhost` is known, of others nobody knows what they will mean.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use crate::config::check::Settings;
use crate::config::problem::Problem;
use crate::config::types::{ListenAddr, RelayAddress, RpcAddress, RpcConfig};

/// A host, as far as it is known without asking anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    /// In lower case.
    Name(String),
}

/// Where something listens.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Tcp(Host, u16),
    Unix(PathBuf),
}

/// A listener: its key, its place, and for relays the address that pools may share.
struct Listener {
    key: String,
    place: Place,
    shared: Option<RpcAddress>,
}

/// Checks every listener against every other; `used` are the handlers that routes name.
pub(super) fn check(it: &Settings, used: &[String], problems: &mut Vec<Problem>) {
    let rpc = rpc(it, used);
    let listeners = listeners(it, used, rpc.as_ref());
    for (at, second) in listeners.iter().enumerate() {
        for first in &listeners[..at] {
            if second.place.meets(&first.place) {
                problems.extend(meeting(it, first, second));
            }
        }
    }
    let round = rpc.zip(it.rpc_server("rpc.fallback"));
    if round.is_some_and(|(rpc, fallback)| Place::of(&rpc).is_reached_by(&fallback)) {
        problems.push(it.problem(
            "rpc.fallback",
            "is where rpc.listen is, so that calls would come back for ever",
            "name the address of the other RPC server, or give rpc.listen one of its own",
        ));
    }
}

/// Where workers call back, said or not.
fn rpc(it: &Settings, used: &[String]) -> Option<RpcAddress> {
    let listen = it.rpc_listen("rpc.listen");
    if listen.is_none() && it.is_written("rpc.listen") {
        // What is wrong with it is told already.
        return None;
    }
    let rpc = RpcConfig {
        listen,
        ..RpcConfig::default()
    };
    rpc.listens(!pools(it, used).is_empty())
}

/// The worker pools that routes name.
fn pools<'a>(it: &'a Settings, used: &[String]) -> Vec<&'a String> {
    let kind = |name: &str| it.text(&format!("handler.{name}.kind"));
    let is_pool = |name: &&String| {
        used.contains(*name) && kind(name.as_str()).as_deref() == Some("roadrunner")
    };
    it.handlers.iter().filter(is_pool).collect()
}

fn listeners(it: &Settings, used: &[String], rpc: Option<&RpcAddress>) -> Vec<Listener> {
    let mut found = Vec::new();
    let mut add = |key: &str, place: Option<Place>, shared: Option<RpcAddress>| {
        let is_any = |place: &Place| matches!(place, Place::Tcp(_, 0));
        found.extend(place.filter(|it| !is_any(it)).map(|place| Listener {
            key: key.to_owned(),
            place,
            shared,
        }));
    };
    let tcp = |key: &str| {
        it.tcp(key)
            .map(|at| Place::Tcp(Host::Ip(at.ip().to_canonical()), at.port()))
    };
    let grpc = it.listen("listen.grpc").map(|at| match at {
        ListenAddr::Tcp(at) => Place::Tcp(Host::Ip(at.ip().to_canonical()), at.port()),
        ListenAddr::Unix(path) => Place::Unix(path),
    });
    add("listen.grpc", grpc, None);
    add("listen.admin", tcp("listen.admin"), None);
    if it.is_written("cluster") {
        add("cluster.listen", tcp("cluster.listen"), None);
    }
    add("rpc.listen", rpc.map(Place::of), None);
    for name in pools(it, used) {
        let key = format!("handler.{name}.relay");
        if let Some(RelayAddress::Socket(relay)) = it.relay(&key) {
            add(&key, Some(Place::of(&relay)), Some(relay));
        }
    }
    found
}

/// What is said of two listeners at one place: at the one that somebody wrote.
fn meeting(it: &Settings, first: &Listener, second: &Listener) -> Option<Problem> {
    if first.shared.is_some() && second.shared.is_some() {
        // Pools with one address share it, but only as it is written.
        return (first.shared != second.shared).then(|| {
            let rule = format!("is where {} is, spelled otherwise", first.key);
            let fix =
                "write both alike, so that the pools share it, or give each a port of its own";
            it.problem(&second.key, rule, fix)
        });
    }
    let (here, there) = match it.is_written(&second.key) || !it.is_written(&first.key) {
        true => (second, first),
        false => (first, second),
    };
    let default = match it.is_written(&there.key) {
        true => "",
        false => " by default",
    };
    let what = match here.place {
        Place::Tcp(..) => "port",
        Place::Unix(_) => "socket",
    };
    let (here, there) = (&here.key, &there.key);
    Some(it.problem(
        here,
        format!("is the {what} that {there} has{default}"),
        format!("change {here} or {there}: give each a {what} of its own"),
    ))
}

impl Host {
    /// As listeners understand it: `localhost` is IPv4 to them.
    fn of(host: &str) -> Self {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse::<IpAddr>() {
            Ok(ip) => Self::Ip(ip.to_canonical()),
            Err(_) if bare.eq_ignore_ascii_case("localhost") => {
                Self::Ip(Ipv4Addr::LOCALHOST.into())
            }
            Err(_) => Self::Name(bare.to_ascii_lowercase()),
        }
    }

    /// Whether it is every address of the machine, of those that the other one may be.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ip(IpAddr::V6(ip)), _) => ip.is_unspecified(),
            (Self::Ip(IpAddr::V4(ip)), Self::Ip(IpAddr::V4(_)) | Self::Name(_)) => {
                ip.is_unspecified()
            }
            _ => false,
        }
    }
}

impl Place {
    fn of(address: &RpcAddress) -> Self {
        match address {
            RpcAddress::Tcp { host, port } => Self::Tcp(Host::of(host), *port),
            RpcAddress::Unix(path) => Self::Unix(path.clone()),
        }
    }

    /// Whether two listeners can't both be there.
    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(host, port), Self::Tcp(other, there)) => {
                port == there && (host == other || host.covers(other) || other.covers(host))
            }
            (one, other) => one == other,
        }
    }

    /// Whether a connection to this address surely ends at the listener. Dialled, a wildcard is
    /// loopback, and `localhost` may be of either kind.
    fn is_reached_by(&self, address: &RpcAddress) -> bool {
        let (Self::Tcp(listens, port), RpcAddress::Tcp { host, port: there }) = (self, address)
        else {
            return *self == Self::of(address);
        };
        let dialled = match Host::of(host) {
            _ if host.eq_ignore_ascii_case("localhost") => vec![
                Host::Ip(Ipv4Addr::LOCALHOST.into()),
                Host::Ip(Ipv6Addr::LOCALHOST.into()),
            ],
            Host::Ip(IpAddr::V4(ip)) if ip.is_unspecified() => {
                vec![Host::Ip(Ipv4Addr::LOCALHOST.into())]
            }
            Host::Ip(IpAddr::V6(ip)) if ip.is_unspecified() => {
                vec![Host::Ip(Ipv6Addr::LOCALHOST.into())]
            }
            other => vec![other],
        };
        let is_near = |host: &Host| matches!(host, Host::Ip(ip) if ip.is_loopback());
        let ends_here = |host: &Host| listens == host || is_near(host) && listens.covers(host);
        port == there && dialled.iter().any(ends_here)
    }
}
