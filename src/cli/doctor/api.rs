//! Centrifugo's server API, at every endpoint of `centrifugo.api`: there, ours to call, and what
//! version.

use super::finding::Finding;
use super::sniff::{Speaks, sniff};
use crate::config::{CentrifugoConfig, Config, Endpoint, ListenAddr};
use crate::egress::{Error, Publisher};
use crate::proto::api::{InfoRequest, InfoResult};
use futures_util::future::join_all;
use std::time::Duration;

/// How long an endpoint may take to answer.
const ANSWER: Duration = Duration::from_millis(2500);
/// The first major version whose settings and messages are ours.
const MAJOR: u32 = 6;

/// Every endpoint.
pub(super) async fn endpoints(config: &Config) -> Vec<Finding> {
    let centrifugo = &config.centrifugo;
    if centrifugo.api.is_empty() {
        let found = "is empty: handlers can't publish";
        return vec![Finding::note("api.none", "centrifugo.api", found)];
    }
    let looked = centrifugo.api.iter().map(|it| endpoint(config, it));
    join_all(looked).await.into_iter().flatten().collect()
}

async fn endpoint(config: &Config, endpoint: &Endpoint) -> Vec<Finding> {
    let at = endpoint.to_string();
    match (sniff(&endpoint.host, endpoint.port).await, endpoint.tls) {
        (Speaks::Nothing(why), _) => vec![Finding::error(
            "api.unreachable",
            at,
            format!("can't be reached: {why}"),
            "start Centrifugo with `grpc_api.enabled: true`, or correct `centrifugo.api`; the node \
             serves events without it, and publishes once it is there",
        )],
        (Speaks::Tls, false) => vec![Finding::error(
            "api.tls",
            at,
            "speaks TLS",
            "write grpcs:// in `centrifugo.api`, and `centrifugo.tls.ca` unless the system trusts \
             its certificate",
        )],
        (Speaks::Http2 | Speaks::Http1, true) => vec![Finding::error(
            "api.tls",
            at,
            "does not speak TLS",
            "write grpc:// in `centrifugo.api`, or set `grpc_api.tls` of Centrifugo",
        )],
        (Speaks::Http1, false) => vec![Finding::error(
            "api.stranger",
            at,
            "speaks HTTP/1: it may be Centrifugo's port for clients (8000) instead of its gRPC API",
            "set `grpc_api.enabled: true` of Centrifugo, and `centrifugo.api` to `grpc_api.port` \
             (10000 by default)",
        )],
        _ => ask(config, endpoint).await,
    }
}

async fn ask(config: &Config, endpoint: &Endpoint) -> Vec<Finding> {
    let at = endpoint.to_string();
    let asked = info(&config.centrifugo, endpoint).await;
    let result = match asked {
        Ok(result) => result,
        Err(error) => return vec![failed(config, endpoint, &error)],
    };
    let mut findings = vec![described(&at, &result)];
    let old = result.nodes.iter().filter(|node| {
        let major = node.version.trim_start_matches('v').split('.').next();
        let major = major.and_then(|major| major.parse::<u32>().ok());
        // 0 is a build without a version.
        major.is_some_and(|major| (1..MAJOR).contains(&major))
    });
    for node in old {
        let found = format!("node {} runs {}", node.name, node.version);
        let fix = "update to Centrifugo 6: its proxy settings have other names there";
        findings.push(Finding::warn("api.version", &at, found, fix));
    }
    if config.centrifugo.key.is_some() {
        let mut strangers = config.centrifugo.clone();
        strangers.key = None;
        if info(&strangers, endpoint).await.is_ok() {
            let found =
                "answers without a key as well: whoever reaches it can publish and disconnect";
            let fix = "set `grpc_api.key` of Centrifugo to what `centrifugo.key` says";
            findings.push(Finding::warn("api.open", &at, found, fix));
        }
    } else if !is_loopback(&endpoint.host) {
        let found = "asks for no key, and is not on this machine: whoever reaches it can publish";
        let fix = "set `grpc_api.key` of Centrifugo, and `centrifugo.key` to the same";
        findings.push(Finding::warn("api.open", &at, found, fix));
    }
    findings
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

/// One `info` call by a publisher of its own.
async fn info(centrifugo: &CentrifugoConfig, endpoint: &Endpoint) -> Result<InfoResult, Error> {
    let mut only = centrifugo.clone();
    only.api = vec![endpoint.clone()];
    let publisher = Publisher::connect(&only, ":").map_err(|why| Error::Unavailable {
        why: why.to_string(),
    })?;
    let asked = publisher.timeout(ANSWER).info(InfoRequest {}).await;
    publisher.shutdown(Duration::ZERO).await;
    asked
}

fn described(at: &str, result: &InfoResult) -> Finding {
    let mut versions: Vec<&str> = result
        .nodes
        .iter()
        .map(|node| node.version.as_str())
        .collect();
    versions.sort_unstable();
    versions.dedup();
    let clients: u64 = result
        .nodes
        .iter()
        .map(|node| u64::from(node.num_clients))
        .sum();
    let nodes = match result.nodes.len() {
        1 => "1 node".to_owned(),
        count => format!("{count} nodes"),
    };
    let found = format!(
        "takes our calls: Centrifugo {}, {nodes}, {clients} clients",
        versions.join(", ")
    );
    Finding::ok("api.info", at, found)
}

fn failed(config: &Config, endpoint: &Endpoint, error: &Error) -> Finding {
    let at = endpoint.to_string();
    let key = config.centrifugo.key.is_some();
    match error {
        Error::Unauthenticated if key => Finding::error(
            "api.key",
            at,
            "refuses our key: gRPC status 16, UNAUTHENTICATED",
            "set `centrifugo.key` to what Centrifugo's `grpc_api.key` says",
        ),
        Error::Unauthenticated => Finding::error(
            "api.key",
            at,
            "asks for a key, and `centrifugo.key` is not set: gRPC status 16, UNAUTHENTICATED",
            "set `centrifugo.key` to what Centrifugo's `grpc_api.key` says",
        ),
        Error::Unsupported { .. } if is_ours(config, endpoint) => Finding::error(
            "api.stranger",
            at,
            "is this node's own event listener",
            "set `centrifugo.api` to Centrifugo's `grpc_api.port` (10000 by default)",
        ),
        Error::Unsupported { why, .. } => Finding::error(
            "api.stranger",
            at,
            format!("speaks gRPC, and is not Centrifugo's API: {why}"),
            "set `centrifugo.api` to Centrifugo's `grpc_api.port` (10000 by default)",
        ),
        Error::Unavailable { why } if endpoint.tls => Finding::error(
            "api.tls",
            at,
            format!("no connection: {why}"),
            "set `centrifugo.tls.ca` to the authority of its certificate, and the host of the \
             endpoint to a name in it; where it asks for a certificate, `centrifugo.tls.cert` and \
             `.key`",
        ),
        Error::Unavailable { why } => Finding::error(
            "api.stranger",
            at,
            format!("takes connections, and does not answer as Centrifugo's API: {why}"),
            "set `centrifugo.api` to Centrifugo's `grpc_api.port` (10000 by default)",
        ),
        Error::Timeout { after, .. } => Finding::error(
            "api.timeout",
            at,
            format!("is reached, and did not answer within {after:?}"),
            "see whether that Centrifugo is overloaded or waits for its Redis or NATS",
        ),
        other => Finding::error(
            "api.failed",
            at,
            other.to_string(),
            "see Centrifugo's log; nothing else but its gRPC API should listen there",
        ),
    }
}

fn is_ours(config: &Config, endpoint: &Endpoint) -> bool {
    match &config.listen.grpc {
        ListenAddr::Tcp(address) => address.port() == endpoint.port && is_loopback(&endpoint.host),
        ListenAddr::Unix(_) => false,
    }
}

/// Where clients are served and the API is not there, the API is switched off.
pub(super) fn reconsider(findings: &mut [Finding], clients_are_served: bool) {
    let lost = |it: &&mut Finding| clients_are_served && it.id == "api.unreachable";
    for finding in findings.iter_mut().filter(lost) {
        finding.id = "api.disabled";
        finding.found = format!(
            "{}; clients are served, so Centrifugo runs with its gRPC API switched off or on \
             another port",
            finding.found
        );
        finding.fix = Some(
            "set `grpc_api.enabled: true`, `grpc_api.port` and `grpc_api.key` of Centrifugo, which \
             are off by default, and start it again"
                .to_owned(),
        );
    }
}
