//! Where something listens or is dialled.

use crate::config::problem::Fault;
use crate::config::types::{Collector, Endpoint, ListenAddr, RpcAddress};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

pub(super) fn tcp(text: &str) -> Result<SocketAddr, Fault> {
    if let Some(port) = text
        .strip_prefix("localhost:")
        .and_then(|port| port.parse().ok())
    {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.parse().map_err(|_| {
        let fix = match text.strip_prefix(':').or_else(|| text.strip_prefix("*:")) {
            Some(port) if port.parse::<u16>().is_ok() => {
                format!("for every address of the machine write 0.0.0.0:{port}")
            }
            _ => {
                "write an IP address and a port, such as 127.0.0.1:10001 or [::1]:10001".to_owned()
            }
        };
        Fault::new("is not an address to listen on", fix)
    })
}

pub(super) fn listen(text: &str) -> Result<ListenAddr, Fault> {
    let Some(path) = text.strip_prefix("unix:") else {
        return tcp(text).map(ListenAddr::Tcp);
    };
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') || path.len() > 107 || path.contains('\0') {
        return Err(Fault::new(
            "is not the absolute path of a socket of at most 107 bytes",
            "write three slashes, as in unix:///run/centripeta.sock",
        ));
    }
    Ok(ListenAddr::Unix(PathBuf::from(path)))
}

pub(super) fn endpoint(text: &str) -> Result<Endpoint, Fault> {
    let fault = || {
        Fault::of_part(
            text,
            "is not a gRPC address",
            "write grpc://HOST:PORT, such as grpc://127.0.0.1:10000",
        )
    };
    let (tls, rest) = match text.strip_prefix("grpcs://") {
        Some(rest) => (true, Some(rest)),
        None => (false, text.strip_prefix("grpc://")),
    };
    let (host, port) = rest.and_then(host_and_port).ok_or_else(fault)?;
    Ok(Endpoint { tls, host, port })
}

pub(super) fn collector(text: &str) -> Result<Collector, Fault> {
    let (tls, rest) = match text.strip_prefix("https://") {
        Some(rest) => (true, Some(rest)),
        None => (false, text.strip_prefix("http://")),
    };
    match rest.and_then(host_and_port) {
        Some((host, port)) => Ok(Collector { tls, host, port }),
        None if text.contains("/v1/") => Err(Fault::new(
            "is an address of OTLP over HTTP, and traces leave over gRPC",
            "write the collector's port for gRPC and no path, such as http://127.0.0.1:4317",
        )),
        None => Err(Fault::new(
            "is not the address of a collector",
            "write http://HOST:PORT or https://HOST:PORT, such as http://127.0.0.1:4317",
        )),
    }
}

/// `tcp://HOST:PORT`, `unix:///PATH` or `HOST:PORT`; port 0 (any free one) only to listen on.
pub(super) fn rpc_address(text: &str, listens: bool, fix: &str) -> Result<RpcAddress, Fault> {
    if text.starts_with("unix:") {
        return match listen(text)? {
            ListenAddr::Unix(path) => Ok(RpcAddress::Unix(path)),
            ListenAddr::Tcp(_) => Err(Fault::new("is not an address of a goridge RPC", fix)),
        };
    }
    let rest = text.strip_prefix("tcp://").unwrap_or(text);
    if let Some(host) = rest.strip_suffix(":0").filter(|_| listens) {
        let (host, _) = host_and_port(&format!("{host}:1"))
            .ok_or_else(|| Fault::new("is not an address of a goridge RPC", fix))?;
        return Ok(RpcAddress::Tcp { host, port: 0 });
    }
    match host_and_port(rest) {
        Some((host, port)) => Ok(RpcAddress::Tcp { host, port }),
        None => Err(Fault::new("is not an address of a goridge RPC", fix)),
    }
}

/// The parts of `HOST:PORT`, where a slash may follow.
pub(super) fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.trim_end_matches('/').rsplit_once(':')?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let valid = match bare {
        Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let letter =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            !host.is_empty() && host.bytes().all(letter)
        }
    };
    let port = port.parse::<u16>().ok()?;
    (valid && port > 0).then(|| (host.to_owned(), port))
}

pub(super) fn socket_url(text: &str) -> Result<(), Fault> {
    let read = text.parse::<http::Uri>().ok();
    let scheme = read.as_ref().and_then(http::Uri::scheme_str);
    if matches!(scheme, Some("ws" | "wss")) && read.as_ref().is_some_and(is_plain_authority) {
        return Ok(());
    }
    Err(Fault::new(
        "is not a WebSocket address",
        "write ws://HOST:PORT/PATH, such as ws://127.0.0.1:8000/connection/websocket",
    ))
}

/// A host, and no credential before it, which every print would show.
pub(super) fn is_plain_authority(uri: &http::Uri) -> bool {
    uri.authority()
        .is_some_and(|it| !it.host().is_empty() && !it.as_str().contains('@'))
}
