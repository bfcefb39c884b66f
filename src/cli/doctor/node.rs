//! The node itself: its event listener, as Centrifugo reaches it, and its admin listener.

use super::finding::Finding;
use super::sniff::{Speaks, sniff};
use crate::answer::code_name;
use crate::cli::error::CliError;
use crate::cli::event::FiredEvent;
use crate::cli::fire::client::{Client, Failed, Target};
use crate::cli::health::{ask, reachable};
use crate::config::{Config, ListenAddr, ListenConfig};
use crate::event::EventKind;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// How long one answer of the node may take.
const ANSWER: Duration = Duration::from_secs(2);
/// A method that nobody has: whether it is refused before or after the credential is looked at
/// tells all, and no handler of an application runs.
const METHOD: &str = "CentripetaDoctor";

/// What the configuration says about who gets in.
pub(super) fn access(listen: &ListenConfig) -> Vec<Finding> {
    let at = format!("listen.grpc {}", listen.grpc);
    let asks_certificate = listen
        .tls
        .as_ref()
        .is_some_and(|tls| tls.client_ca.is_some());
    let events = if listen.auth.is_some() {
        Finding::ok("auth.events", at, "asks callers for `listen.auth`")
    } else if asks_certificate {
        Finding::ok(
            "auth.events",
            at,
            "asks callers for a certificate of `listen.tls.client_ca`",
        )
    } else if listen.grpc.is_beyond_loopback() {
        Finding::warn(
            "auth.events",
            at,
            "is open beyond loopback: whoever reaches it can send events as any user \
             (`listen.allow_open`)",
            "set `listen.auth`, and `grpc.credentials_key` and `grpc.credentials_value` of \
             Centrifugo's proxies to it; or `listen.tls.client_ca`",
        )
    } else {
        Finding::ok(
            "auth.events",
            at,
            "asks for no credential, and is on this machine only",
        )
    };
    let at = format!("listen.admin {}", listen.admin);
    let admin = match (
        &listen.admin_token,
        listen.admin.ip().to_canonical().is_loopback(),
    ) {
        (Some(_), _) => Finding::ok("auth.admin", at, "asks for `listen.admin_token`"),
        (None, true) => Finding::ok(
            "auth.admin",
            at,
            "asks for no token, and is on this machine only",
        ),
        (None, false) => Finding::error(
            "auth.admin",
            at,
            "is open beyond loopback",
            "set `listen.admin_token`",
        ),
    };
    vec![events, admin]
}

/// The event listener: reachable, serving, and refusing whom it should.
pub(super) async fn listener(
    config: &Config,
    target: &Target,
    shows_certificate: bool,
) -> Vec<Finding> {
    let listen = &config.listen;
    let wants = listen
        .tls
        .as_ref()
        .is_some_and(|tls| tls.client_ca.is_some());
    let client = match Client::connect(target).await {
        Ok(client) => client,
        Err(_) if wants && !shows_certificate => return vec![uncertified(target)],
        Err(error) => return vec![unreachable(config, target, &error).await],
    };
    let at = client.address().to_owned();
    let mut findings = Vec::new();
    match timeout(ANSWER, health(&client)).await {
        Ok(Ok(ServingStatus::Serving)) => {
            findings.push(Finding::ok(
                "router.serving",
                &at,
                "is reached over gRPC and serves",
            ));
        }
        Ok(Ok(_)) => findings.push(Finding::error(
            "router.serving",
            &at,
            "is reached, and says that it does not serve: it is stopping",
            "wait for its end and start it again",
        )),
        Ok(Err(status)) => {
            return vec![match client.failed(status) {
                Failed::Unreachable(_) if wants && !shows_certificate => uncertified(target),
                Failed::Unreachable(error) => unreachable(config, target, &error).await,
                Failed::Status(status) => stranger(&at, &status),
            }];
        }
        Err(_) => {
            let found = format!(
                "is reached, and does not answer within {} s",
                ANSWER.as_secs()
            );
            let fix = "see the node's log: a handler may hold its threads (`runtime.watchdog`)";
            findings.push(Finding::error("router.serving", &at, found, fix));
            return findings;
        }
    }
    findings.extend(credentials(config, &client).await);
    findings
}

async fn health(client: &Client) -> Result<ServingStatus, tonic::Status> {
    let request = HealthCheckRequest {
        service: String::new(),
    };
    let answer = HealthClient::new(client.channel()).check(request).await?;
    let HealthCheckResponse { status } = answer.into_inner();
    Ok(ServingStatus::try_from(status).unwrap_or(ServingStatus::Unknown))
}

fn stranger(at: &str, status: &tonic::Status) -> Finding {
    let code = code_name(status.code());
    let found =
        format!("speaks gRPC, but its health service answers {code}: it is no node of this kind");
    let fix = "correct `listen.grpc` or --to; Centrifugo's own API is not where events go";
    Finding::error("router.stranger", at, found, fix)
}

fn uncertified(target: &Target) -> Finding {
    Finding::note(
        "router.certificate",
        target.address(),
        "refuses callers without a certificate of `listen.tls.client_ca`, as it should; more was \
         not tried",
    )
    .fix("give a certificate with --tls-cert FILE --tls-key FILE")
}

async fn unreachable(config: &Config, target: &Target, error: &CliError) -> Finding {
    let at = target.address();
    let start = "start the node with `serve`, give the --config it runs with, or name its address \
                 with --to";
    let address = match &config.listen.grpc {
        ListenAddr::Tcp(address) if target.is_own() => reachable(*address),
        _ => {
            let found = format!("can't be reached: {}", error.why());
            return Finding::error("router.unreachable", at, found, start);
        }
    };
    match (
        sniff(&address.ip().to_string(), address.port()).await,
        &config.listen.tls,
    ) {
        (Speaks::Tls, None) => Finding::error(
            "router.tls",
            at,
            "speaks TLS, and this configuration has no `listen.tls`",
            "give the --config that the node runs with",
        ),
        (Speaks::Http2, Some(_)) => Finding::error(
            "router.tls",
            at,
            "does not speak TLS, and this configuration has `listen.tls`",
            "give the --config that the node runs with, or start it again with this one",
        ),
        (Speaks::Http1, _) => Finding::error(
            "router.stranger",
            at,
            "speaks HTTP/1: something else than a node's event listener is there",
            "correct `listen.grpc`; it must not be the port of `listen.admin` or of Centrifugo",
        ),
        (Speaks::Tls, Some(_)) => Finding::error(
            "router.tls",
            at,
            format!("the TLS handshake failed: {}", error.why()),
            "name the authority of its certificate with --tls-ca FILE and the name in it with \
             --tls-name NAME; Centrifugo needs the same in `grpc.tls.server_ca_pem` and \
             `grpc.tls.server_name`",
        ),
        _ => Finding::error(
            "router.unreachable",
            at,
            format!("can't be reached: {}", error.why()),
            start,
        ),
    }
}

/// Calls with the credential of the configuration, without one, and with a wrong one.
async fn credentials(config: &Config, client: &Client) -> Vec<Finding> {
    let at = client.address();
    let with_own = probe(client).await;
    if let Err(why) = &with_own {
        let found = format!("an event was not answered: {why}");
        let fix = "see the node's log";
        return vec![Finding::error("router.credential", at, found, fix)];
    }
    let Some(auth) = &config.listen.auth else {
        if with_own == Ok(Code::Unauthenticated) {
            let found = "asks for a credential, and this configuration has no `listen.auth`";
            let fix = "give the --config that the node runs with";
            return vec![Finding::error("router.credential", at, found, fix)];
        }
        return Vec::new();
    };
    if with_own == Ok(Code::Unauthenticated) {
        let found = "refuses the `listen.auth` of this configuration";
        let fix = "give the --config (and the environment) that the node runs with; Centrifugo's \
                   `grpc.credentials_key` and `grpc.credentials_value` have to be the same";
        return vec![Finding::error("router.credential", at, found, fix)];
    }
    let mut open = Vec::new();
    let name = HeaderName::from_bytes(auth.metadata.as_bytes()).ok();
    let wrong = name.map(|name| (name, HeaderValue::from_static("centripeta-doctor")));
    for (which, credential) in [("no", None), ("a wrong", wrong)] {
        if probe(&client.with_auth(credential)).await != Ok(Code::Unauthenticated) {
            open.push(which);
        }
    }
    if open.is_empty() {
        let found = "takes the credential of `listen.auth` and refuses none and a wrong one";
        return vec![Finding::ok("router.credential", at, found)];
    }
    let found = format!(
        "takes calls with {} credential: it runs with another configuration than this one, without \
         `listen.auth`",
        open.join(" and with ")
    );
    let fix = "start it again with this configuration";
    vec![Finding::error("router.open", at, found, fix)]
}

/// The status of a call that no handler takes.
async fn probe(client: &Client) -> Result<Code, String> {
    let event = FiredEvent {
        kind: EventKind::Raw,
        raw_method: METHOD.to_owned(),
        message: Bytes::new(),
        request: Bytes::new(),
        metadata: HeaderMap::new(),
    };
    match client.clone().call(&event, ANSWER).await.0 {
        Ok(_) => Ok(Code::Ok),
        Err(Failed::Status(status)) => Ok(status.code()),
        Err(Failed::Unreachable(error)) => Err(error.why()),
    }
}

/// The admin listener: ready, and asking for its token.
pub(super) async fn admin(config: &Config) -> Vec<Finding> {
    let listen = &config.listen;
    let at = format!("http://{}", reachable(listen.admin));
    if listen.admin.port() == 0 {
        let found = "has port 0, so the node's port is not known";
        return vec![Finding::note("admin.port", at, found).fix("set `listen.admin` to a port")];
    }
    let address = reachable(listen.admin);
    let lost = |why: &str| {
        let found = format!("can't be asked whether the node is ready: {why}");
        let fix = "start the node with `serve`, or give the --config or --set listen.admin=ADDRESS \
                   it runs with";
        vec![Finding::error("admin.unreachable", &at, found, fix)]
    };
    let (status, body) = match timeout(ANSWER, ask(address, "/ready", None)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(why)) => return lost(&why),
        Err(_) => return lost(&format!("no answer within {} s", ANSWER.as_secs())),
    };
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default();
    let (node, version) = (text("node"), text("version"));
    if node.is_empty() {
        let found = format!("answers HTTP {status} and nothing that a node would say");
        let fix = "something else listens there: correct `listen.admin`";
        return vec![Finding::error("admin.stranger", at, found, fix)];
    }
    let mut findings = vec![match status {
        StatusCode::OK => Finding::ok("admin.ready", &at, format!("node {node} is ready")),
        _ => Finding::error(
            "admin.ready",
            &at,
            format!("node {node} takes no events: {}", text("reason")),
            "wait a moment and ask again; the node's log says more",
        ),
    }];
    if node != config.node.name {
        findings.push(Finding::warn(
            "admin.other-node",
            &at,
            format!(
                "is node {node}, and this configuration is of {}",
                config.node.name
            ),
            "give the --config that the node runs with, or the node another port",
        ));
    }
    if version != env!("CARGO_PKG_VERSION") {
        let found = format!("runs {version}; this is {}", env!("CARGO_PKG_VERSION"));
        findings.push(Finding::note("admin.version", &at, found));
    }
    findings.extend(token(listen, &at).await);
    findings
}

/// Whether the token is asked for, and is this one.
async fn token(listen: &ListenConfig, at: &str) -> Option<Finding> {
    let token = listen.admin_token.as_ref();
    let address = reachable(listen.admin);
    let status = async |token| {
        let asked = timeout(ANSWER, ask(address, "/metrics", token)).await;
        Some(asked.ok()?.ok()?.0)
    };
    let without = status(None).await?;
    if token.is_none() {
        return (without == StatusCode::UNAUTHORIZED).then(|| {
            let found = "asks for a token, and this configuration has no `listen.admin_token`";
            let fix = "give the --config (and the environment) that the node runs with";
            Finding::error("admin.token", at, found, fix)
        });
    }
    let with = status(token).await?;
    Some(match (without, with) {
        (StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED) => Finding::error(
            "admin.token",
            at,
            "refuses the `listen.admin_token` of this configuration",
            "give the --config (and the environment) that the node runs with",
        ),
        (StatusCode::UNAUTHORIZED, _) => Finding::ok(
            "admin.token",
            at,
            "takes `listen.admin_token` and refuses none",
        ),
        _ => Finding::error(
            "admin.token",
            at,
            "answers without the token: it runs with another configuration than this one",
            "start it again with this configuration",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_is_open_beyond_loopback_is_warned_of() {
        let mut listen = Config::default().listen;
        let id = |listen: &ListenConfig| access(listen).remove(0).severity;
        assert_eq!(id(&listen), super::super::finding::Severity::Ok);
        listen.grpc = ListenAddr::Tcp(([0, 0, 0, 0], 10001).into());
        assert_eq!(id(&listen), super::super::finding::Severity::Warn);
    }
}
