//! `health`: what a container check asks.

use super::error::{CliError, Exit};
use super::{Session, block_on, output};
use crate::config::Secret;
use bytes::Bytes;
use clap::Args;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;

/// How long the node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The largest answer that is read, in bytes: a page of metrics.
const ANSWER_BYTES: usize = 16 << 20;

#[derive(Debug, Args)]
#[command(after_help = "\
Asks the admin listener of the configuration (listen.admin). Exit code 0 if the node is alive, with
--ready if it takes events; 1 if not, or if it can't be reached within 3 s.

Example:
  centripeta health --ready")]
pub(super) struct HealthArgs {
    /// Whether it takes events, not merely whether it lives
    #[arg(long)]
    ready: bool,
    /// Prints the node's answer as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(session: &Session, args: &HealthArgs) -> Result<(), CliError> {
    let address = reachable(session.load()?.config.listen.admin);
    let path = if args.ready { "/ready" } else { "/health" };
    let asked = block_on(async {
        match tokio::time::timeout(TIMEOUT, ask(address, path, None)).await {
            Ok(answered) => Ok(answered),
            Err(_) => Ok(Err(format!("no answer within {} s", TIMEOUT.as_secs()))),
        }
    })?;
    let failed = |why: &dyn fmt::Display, help: &str| {
        if args.json {
            output::say_json(&json!({ "status": "unreachable", "reason": why.to_string() }));
        }
        CliError::new(Exit::Failed, format!("http://{address}{path}"), why, help)
    };
    let (status, answer) = asked.map_err(|why| {
        failed(
            &why,
            "start the node with `serve`, or give the --config or --set listen.admin=ADDRESS it runs with",
        )
    })?;
    let Ok(answer) = serde_json::from_slice::<Value>(&answer) else {
        let why = format!("HTTP status {status} and an answer that is not a node's");
        return Err(failed(
            &why,
            "something else listens there; check listen.admin",
        ));
    };
    let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default();
    if args.json {
        output::say_json(&answer);
    } else if status == StatusCode::OK {
        let degraded = match text("degraded") {
            "" => String::new(),
            why => format!(", degraded: {why}"),
        };
        let (node, status) = (text("node"), text("status"));
        output::say(&format!("node {node}: {status}{degraded}"));
    }
    if status == StatusCode::OK {
        return Ok(());
    }
    let why = format!("{}: {}", text("status"), text("reason"));
    let help = "ask again in a moment; the node's log says more";
    Err(CliError::new(
        Exit::Failed,
        format!("node {}", text("node")),
        why,
        help,
    ))
}

/// The address to dial for one to listen on: a wildcard is reached over loopback.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// One request, with a bearer token where one is given, and no more of its answer than a node would
/// send.
pub(super) async fn ask(
    address: SocketAddr,
    path: &str,
    token: Option<&Secret>,
) -> Result<(StatusCode, Bytes), String> {
    let refused = |error: &dyn fmt::Display| format!("can't be reached: {error}");
    let socket = TcpStream::connect(address)
        .await
        .map_err(|error| refused(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
        .await
        .map_err(|error| refused(&error))?;
    // It ends with the runtime at the latest.
    tokio::spawn(connection);
    let mut request = Request::get(path).header(header::HOST, address.to_string());
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| refused(&error))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| refused(&error))?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| refused(&error))?;
    Ok((parts.status, body.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_asked_over_loopback() {
        let of = |text: &str| {
            text.parse::<SocketAddr>()
                .map(|it| reachable(it).to_string())
        };
        assert_eq!(of("0.0.0.0:1").as_deref(), Ok("127.0.0.1:1"));
        assert_eq!(of("[::]:1").as_deref(), Ok("[::1]:1"));
        assert_eq!(of("10.0.0.1:1").as_deref(), Ok("10.0.0.1:1"));
    }
}
