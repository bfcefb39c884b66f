//! Who gets in: clients, browsers, and callers of the server API; and whether both sides mean the
//! same ports.

use super::super::finding::{Finding, Severity};
use super::Scope;
use super::model::{Uses, at, is_on, number, text, words};
use crate::config::Endpoint;
use crate::event::EventKind;
use serde_json::Value;
use std::net::IpAddr;

/// Settings of tokens, any of which makes them work.
const TOKENS: [&str; 4] = [
    "client.token.hmac_secret_key",
    "client.token.rsa_public_key",
    "client.token.ecdsa_public_key",
    "client.token.jwks_public_endpoint",
];
/// What Centrifugo takes as a message of its API without a setting, in bytes.
const API_MESSAGE_BYTES: u64 = 4 << 20;

pub(super) fn look(scope: &Scope<'_>, uses: &Uses<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(origins(scope.root));
    findings.extend(insecure(scope.root));
    findings.extend(tokens(scope, uses));
    findings.push(concurrency(scope.root));
    findings.extend(grpc_api(scope));
    findings.extend(ports(scope));
    findings
}

fn origins(root: &Value) -> Option<Finding> {
    let key = "client.allowed_origins";
    let origins = words(root, key);
    if origins.contains(&"*") {
        let found = "is *: any page in a browser can connect with its visitor's cookies";
        let fix = "list the origins of your own pages, such as https://shop.example";
        return Some(Finding::warn("file.origins", key, found, fix));
    }
    origins.is_empty().then(|| {
        let found = "is empty: every browser is refused (HTTP 403)";
        let fix = "list the origins of your own pages, such as https://shop.example";
        Finding::warn("file.origins", key, found, fix)
    })
}

fn insecure(root: &Value) -> Vec<Finding> {
    let switches = [
        (
            "client.insecure",
            Severity::Error,
            "is on: whoever connects is let in and may do everything",
        ),
        (
            "client.insecure_skip_token_signature_verify",
            Severity::Error,
            "is on: anyone can make a token of any user",
        ),
        (
            "http_api.insecure",
            Severity::Error,
            "is on: whoever reaches the HTTP API can publish and disconnect without a key",
        ),
        (
            "admin.insecure",
            Severity::Error,
            "is on: whoever reaches the admin page is an admin",
        ),
        (
            "client.allow_anonymous_connect_without_token",
            Severity::Warn,
            "is on: a connect that a handler answers with nothing is let in as anonymous, instead \
             of being refused",
        ),
    ];
    let mut findings = Vec::new();
    for (key, severity, found) in switches {
        if is_on(root, key) {
            let fix = "switch it off";
            findings.push(match severity {
                Severity::Error => Finding::error("file.insecure", key, found, fix),
                _ => Finding::warn("file.insecure", key, found, fix),
            });
        }
    }
    findings
}

/// Whether anyone can connect, and how.
fn tokens(scope: &Scope<'_>, uses: &Uses<'_>) -> Option<Finding> {
    let root = scope.root;
    let connects = uses.list.iter().any(|it| it.kind == EventKind::Connect);
    let has_tokens = TOKENS.iter().any(|key| text(root, key).is_some());
    if connects && has_tokens {
        let found = "clients with a token never come to the connect proxy, whatever it would say";
        return Some(Finding::note("file.tokens", "client.token", found));
    }
    let lets_in = is_on(root, "client.insecure")
        || is_on(root, "client.allow_anonymous_connect_without_token")
        || text(root, "client.user_id_http_header").is_some();
    if connects || has_tokens || lets_in {
        return None;
    }
    let found = "is off, and there is no key for tokens: nobody can connect";
    let fix = "set `enabled: true` and `endpoint` to this node, or `client.token.hmac_secret_key`";
    Some(Finding::error(
        "file.nobody",
        "client.proxy.connect",
        found,
        fix,
    ))
}

fn concurrency(root: &Value) -> Finding {
    let key = "client.concurrency";
    let id = "file.concurrency";
    match number(root, key).unwrap_or_default() {
        0 | 1 => {
            let found = "is off: the commands of a connection wait for one another, so a slow \
                         handler holds up that client";
            Finding::note(id, key, found).fix("8 lets them overlap; two publishes may then swap")
        }
        count => {
            let found = format!(
                "is {count}: commands of a connection overlap, and two publishes of one client may \
                 swap"
            );
            Finding::note(id, key, found).fix("where order matters, wait for each answer")
        }
    }
}

fn grpc_api(scope: &Scope<'_>) -> Vec<Finding> {
    let (root, ours) = (scope.root, &scope.config.centrifugo);
    let key = "grpc_api.enabled";
    // The old form `grpc_api: true` is told of as such.
    if at(root, "grpc_api").is_some_and(|api| !api.is_object()) {
        return Vec::new();
    }
    if !is_on(root, key) {
        let found = "is off: handlers can't publish";
        let fix = "set it to true, with `grpc_api.key`";
        return vec![Finding::warn("file.api-off", key, found, fix)];
    }
    let mut findings: Vec<Finding> = api_key(scope).into_iter().collect();
    let port = number(root, "grpc_api.port").unwrap_or(10_000);
    if !ours.api.is_empty() && !ours.api.iter().any(|api| u64::from(api.port) == port) {
        let apis: Vec<String> = ours.api.iter().map(Endpoint::to_string).collect();
        let found = format!("is {port}, and `centrifugo.api` is {}", apis.join(", "));
        let fix = "make them the same, unless something maps the ports";
        findings.push(Finding::warn("file.api-port", "grpc_api.port", found, fix));
    }
    let tls = is_on(root, "grpc_api.tls.enabled");
    if ours
        .api
        .iter()
        .any(|api| u64::from(api.port) == port && api.tls != tls)
    {
        let (found, fix) = match tls {
            true => (
                "is on, and `centrifugo.api` says grpc://",
                "write grpcs:// there",
            ),
            false => (
                "is off, and `centrifugo.api` says grpcs://",
                "write grpc:// there",
            ),
        };
        findings.push(Finding::error(
            "file.api-tls",
            "grpc_api.tls.enabled",
            found,
            fix,
        ));
    }
    let size = number(root, "grpc_api.max_receive_message_size").filter(|size| *size > 0);
    let size = size.unwrap_or(API_MESSAGE_BYTES);
    if size < ours.message_bytes as u64 {
        let at = "grpc_api.max_receive_message_size";
        let found = format!(
            "takes {size} bytes, and `centrifugo.message_bytes` is {}",
            ours.message_bytes
        );
        let fix = "make the latter no larger";
        findings.push(Finding::warn("file.api-size", at, found, fix));
    }
    findings
}

fn api_key(scope: &Scope<'_>) -> Option<Finding> {
    let root = scope.root;
    let at = "grpc_api.key";
    let address = text(root, "grpc_api.address").unwrap_or("0.0.0.0");
    let is_local = address == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|it| it.to_canonical().is_loopback());
    match (text(root, at), &scope.config.centrifugo.key) {
        (Some(theirs), Some(ours)) if ours.matches(theirs.as_bytes()) => None,
        (Some(_), Some(_)) => Some(Finding::error(
            "file.api-key",
            at,
            "is another key than `centrifugo.key`",
            "make them the same",
        )),
        (Some(_), None) => Some(Finding::error(
            "file.api-key",
            at,
            "is set, and `centrifugo.key` is not",
            "set `centrifugo.key` to it",
        )),
        (None, Some(_)) => {
            let found = "is not in the file, so it has to come by the environment";
            let fix = "set CENTRIFUGO_GRPC_API_KEY for Centrifugo to what `centrifugo.key` says";
            Some(Finding::note("file.api-key", at, found).fix(fix))
        }
        (None, None) if is_local => {
            let found = "is not set: whoever is on that machine can publish and disconnect";
            let fix = "set it, and `centrifugo.key` to the same";
            Some(Finding::note("file.api-key", at, found).fix(fix))
        }
        (None, None) => Some(Finding::error(
            "file.api-key",
            at,
            format!(
                "is not set, and the API listens on {address}: whoever reaches it can publish \
                     and disconnect"
            ),
            "set it, and `centrifugo.key` to the same; or `grpc_api.address` to 127.0.0.1",
        )),
    }
}

/// Where clients are served.
fn ports(scope: &Scope<'_>) -> Option<Finding> {
    let theirs = number(scope.root, "http_server.port").unwrap_or(8000);
    let uri: http::Uri = scope.config.centrifugo.client.parse().ok()?;
    let default = if uri.scheme_str() == Some("wss") {
        443
    } else {
        80
    };
    let ours = u64::from(uri.port_u16().unwrap_or(default));
    if ours != theirs {
        let found = format!("is {theirs}, and `centrifugo.client` is on port {ours}");
        let finding = Finding::note("file.client-port", "http_server.port", found);
        return Some(finding.fix("that is right only where something stands before Centrifugo"));
    }
    let key = "http_server.tls.enabled";
    let tls = is_on(scope.root, key);
    (tls != (uri.scheme_str() == Some("wss"))).then(|| {
        let (found, fix) = match tls {
            true => (
                "is on, and `centrifugo.client` says ws://",
                "write wss:// there",
            ),
            false => (
                "is off, and `centrifugo.client` says wss://",
                "write ws:// there",
            ),
        };
        Finding::warn("file.client-tls", key, found, fix)
    })
}
