//! The endpoint of a proxy object: whether Centrifugo can dial it, and whether it is this node.

use super::super::finding::Finding;
use crate::config::{Config, ListenAddr};
use std::net::IpAddr;

/// Whom an endpoint reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goes {
    /// This node.
    Here,
    /// Somebody else.
    Elsewhere,
    /// A name that may be either.
    Somewhere,
}

/// What is wrong with an endpoint by itself; `None` if it can be dialled over gRPC.
pub(super) fn mistake(path: &str, endpoint: &str) -> Option<Finding> {
    let key = format!("{path}.endpoint");
    let is =
        |found: String, fix: &str| Some(Finding::error("file.endpoint-scheme", &key, found, fix));
    let rest = match endpoint.split_once("://") {
        None if endpoint.starts_with("unix:") => return None,
        None => endpoint,
        Some(("grpc", rest)) => rest,
        Some(("dns" | "unix" | "passthrough" | "ipv4" | "ipv6" | "xds" | "unix-abstract", _)) => {
            return None;
        }
        Some(("http" | "https", _)) => {
            return is(
                "is HTTP, which this node does not take events by".to_owned(),
                "write grpc://HOST:PORT of `listen.grpc`",
            );
        }
        Some((scheme @ ("grpcs" | "tls"), _)) => {
            return is(
                format!(
                    "{scheme}:// is none of Centrifugo's schemes, so every call fails with 100"
                ),
                "write grpc://HOST:PORT and set `grpc.tls.enabled: true` beside it",
            );
        }
        Some((scheme, _)) => {
            return is(
                format!(
                    "{scheme}:// is none of Centrifugo's schemes, so every call fails with 100"
                ),
                "write grpc://HOST:PORT of `listen.grpc`",
            );
        }
    };
    let address = rest.split('/').next().unwrap_or(rest);
    let Some((host, port)) = host_and_port(address) else {
        let found = "has no port, so Centrifugo dials 443";
        let fix = "write grpc://HOST:PORT of `listen.grpc`";
        return Some(Finding::error("file.endpoint-address", key, found, fix));
    };
    if host.is_empty()
        || port.parse::<u16>().is_ok_and(|port| port == 0)
        || port.parse::<u16>().is_err()
    {
        let found = "is no HOST:PORT, so every call fails";
        let fix = "write grpc://HOST:PORT of `listen.grpc`";
        return Some(Finding::error("file.endpoint-address", key, found, fix));
    }
    let looks_like_address = host.split('.').count() == 4
        && host.starts_with(|first: char| first.is_ascii_digit())
        && host
            .split('.')
            .next()
            .is_some_and(|label| label.parse::<u8>().is_ok());
    if looks_like_address && host.parse::<IpAddr>().is_err() {
        let found = format!("{host} looks like a mistyped IP address, and will not be found");
        let fix = "correct it: Centrifugo starts with it and fails at every call";
        return Some(Finding::error("file.endpoint-address", key, found, fix));
    }
    None
}

fn host_and_port(address: &str) -> Option<(&str, &str)> {
    let (host, port) = address.rsplit_once(':')?;
    // Of a bare IPv6 address the last group is no port.
    if host.contains(':') && !host.starts_with('[') {
        return None;
    }
    Some((host.trim_matches(['[', ']']), port))
}

/// Whether an endpoint is this node; `own` is another address of it.
pub(super) fn goes(endpoint: &str, config: &Config, own: Option<&str>) -> Goes {
    let bare = bare(endpoint);
    if own.is_some_and(|own| self::bare(own) == bare) {
        return Goes::Here;
    }
    let listen = match &config.listen.grpc {
        ListenAddr::Unix(path) => {
            let same = bare.strip_prefix("unix:").is_some_and(|it| {
                std::path::absolute(path).is_ok_and(|path| path == std::path::Path::new(it))
            });
            return if same { Goes::Here } else { Goes::Elsewhere };
        }
        ListenAddr::Tcp(address) => address,
    };
    let Some((host, port)) = host_and_port(&bare) else {
        return Goes::Elsewhere;
    };
    if listen.port() == 0 {
        return Goes::Somewhere;
    }
    if port.parse() != Ok(listen.port()) {
        return Goes::Elsewhere;
    }
    let host = if host == "localhost" {
        "127.0.0.1"
    } else {
        host
    };
    match host.parse::<IpAddr>() {
        Err(_) => Goes::Somewhere,
        Ok(_) if listen.ip().is_unspecified() => Goes::Here,
        Ok(address) if address.to_canonical() == listen.ip().to_canonical() => Goes::Here,
        Ok(_) => Goes::Elsewhere,
    }
}

/// Without what only says how to dial.
fn bare(endpoint: &str) -> String {
    for scheme in [
        "grpc://",
        "tls://",
        "passthrough:///",
        "dns:///",
        "ipv4:",
        "ipv6:",
    ] {
        if let Some(rest) = endpoint.strip_prefix(scheme) {
            return rest.split('/').next().unwrap_or(rest).to_owned();
        }
    }
    match endpoint.strip_prefix("unix://") {
        Some(path) => format!("unix:{path}"),
        None => endpoint.to_owned(),
    }
}

/// An endpoint without the password that may stand in it.
pub(super) fn shown(endpoint: &str) -> String {
    super::super::client::shown(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_told_apart_by_what_the_node_listens_on() {
        let mut config = Config::default();
        for (endpoint, whom) in [
            ("grpc://127.0.0.1:10001", Goes::Here),
            ("localhost:10001", Goes::Here),
            ("dns:///127.0.0.1:10001", Goes::Here),
            ("grpc://127.0.0.1:10002", Goes::Elsewhere),
            ("grpc://10.0.0.1:10001", Goes::Elsewhere),
            ("grpc://router:10001", Goes::Somewhere),
            ("unix:///run/x.sock", Goes::Elsewhere),
        ] {
            assert_eq!(goes(endpoint, &config, None), whom, "{endpoint}");
        }
        assert_eq!(goes("grpc://r:7", &config, Some("r:7")), Goes::Here);
        config.listen.grpc = ListenAddr::Tcp(([0, 0, 0, 0], 10001).into());
        assert_eq!(goes("grpc://10.0.0.1:10001", &config, None), Goes::Here);
        config.listen.grpc = ListenAddr::Unix("/run/x.sock".into());
        assert_eq!(goes("unix:///run/x.sock", &config, None), Goes::Here);
    }

    #[test]
    fn what_can_be_dialled_is_let_be() {
        for right in [
            "grpc://127.0.0.1:10001",
            "router:10001",
            "grpc://[::1]:10001",
            "dns:///router:10001",
            "unix:///run/x.sock",
            "grpc://1.example.com:10001",
        ] {
            assert_eq!(mistake("p", right), None, "{right}");
        }
    }
}
