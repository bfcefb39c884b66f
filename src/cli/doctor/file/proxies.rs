//! Proxy objects: that they are there, dial this node, carry its credential, and leave it the time
//! that it needs.

use super::super::finding::Finding;
use super::Scope;
use super::endpoint::{Goes, goes, mistake, shown};
use super::model::{Uses, at, duration, is_on, text, words};
use crate::cli::centrifugo_config::{env_name, headers};
use crate::event::EventKind;
use serde_json::Value;
use std::time::Duration;

/// What SDKs wait for the reply to a command.
const SDK: Duration = Duration::from_secs(5);
/// What Centrifugo gives an event without a setting.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// What it gives a connection to become one, without a setting.
const STALE: Duration = Duration::from_secs(10);

pub(super) fn look(scope: &Scope<'_>, uses: &Uses<'_>) -> Vec<Finding> {
    let mut findings = missing(scope, uses);
    findings.extend(idle(scope.root, uses));
    let mut is_found = false;
    let mut strangers = Vec::new();
    for (path, object, kinds) in uses.objects() {
        let Some(endpoint) = text(object, "endpoint") else {
            continue;
        };
        findings.extend(time(scope, path, object, &kinds));
        if let Some(finding) = mistake(path, endpoint) {
            findings.push(finding);
            continue;
        }
        match goes(endpoint, scope.config, scope.own) {
            Goes::Elsewhere => strangers.push((path, endpoint, kinds)),
            whom => {
                is_found |= whom == Goes::Here;
                let own = Own {
                    scope,
                    path,
                    object,
                    kinds: &kinds,
                };
                findings.extend(own.look());
            }
        }
    }
    findings.extend(
        strangers
            .into_iter()
            .map(|(path, endpoint, kinds)| elsewhere(scope, path, endpoint, &kinds, is_found)),
    );
    findings
}

/// What is on and has no object, or one without an endpoint.
fn missing(scope: &Scope<'_>, uses: &Uses<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for one in &uses.list {
        let endpoint = one.object.and_then(|object| text(object, "endpoint"));
        if endpoint.is_some() {
            continue;
        }
        let found = format!("is on, and {} has no endpoint", one.path);
        let fix = match one.path.starts_with("proxies[") {
            true => "define a proxy of this name in `proxies`, with an endpoint".to_owned(),
            false => format!(
                "set {}.endpoint to grpc://{}",
                one.path, scope.config.listen.grpc
            ),
        };
        findings.push(Finding::error(
            "file.endpoint-missing",
            &one.switch,
            found,
            fix,
        ));
    }
    findings
}

/// Objects that were meant to be on.
fn idle(root: &Value, uses: &Uses<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for kind in [EventKind::Connect, EventKind::Refresh] {
        let path = format!("client.proxy.{kind}");
        let has_endpoint = text(root, &format!("{path}.endpoint")).is_some();
        if has_endpoint && !is_on(root, &format!("{path}.enabled")) {
            let found = "is off, though there is an endpoint; before version 6 that switched it on";
            let key = format!("{path}.enabled");
            findings.push(Finding::warn(
                "file.proxy-off",
                key,
                found,
                "set it to true",
            ));
        }
    }
    let events = at(root, "channel.proxy").and_then(Value::as_object);
    let channel = events.into_iter().flatten();
    let channel = channel.map(|(name, object)| (format!("channel.proxy.{name}"), object));
    let rpc = at(root, "rpc.proxy").map(|object| ("rpc.proxy".to_owned(), object));
    for (path, object) in channel.chain(rpc) {
        let is_used = uses.list.iter().any(|it| it.path == path);
        if !is_used && text(object, "endpoint").is_some() {
            let found = "has an endpoint, and no namespace that uses it";
            let finding = Finding::note("file.proxy-unused", path, found);
            findings
                .push(finding.fix(
                    "switch it on where it is meant, such as `subscribe_proxy_enabled: true`",
                ));
        }
    }
    findings
}

fn elsewhere(
    scope: &Scope<'_>,
    path: &str,
    endpoint: &str,
    kinds: &[EventKind],
    is_found: bool,
) -> Finding {
    let at = format!("{path}.endpoint");
    let listen = &scope.config.listen.grpc;
    let found = format!("goes to {}, and this node is {listen}", shown(endpoint));
    let fix = "correct it, unless another node takes these events; --to names another address of \
               this one";
    let is_meant = kinds.iter().any(|kind| scope.routes(*kind));
    if is_meant || !is_found {
        Finding::warn("file.endpoint-elsewhere", at, found, fix)
    } else {
        Finding::note("file.endpoint-elsewhere", at, found)
    }
}

/// The time that Centrifugo gives.
fn time(scope: &Scope<'_>, path: &str, object: &Value, kinds: &[EventKind]) -> Vec<Finding> {
    let key = format!("{path}.timeout");
    let set = at(object, "timeout");
    let timeout = match set.map(duration) {
        None => DEFAULT_TIMEOUT,
        Some(Some(timeout)) if timeout.is_zero() => DEFAULT_TIMEOUT,
        Some(Some(timeout)) => timeout,
        Some(None) => {
            let found = "is no duration, so Centrifugo does not start";
            return vec![Finding::error(
                "file.timeout-form",
                key,
                found,
                "write 1s or 300ms",
            )];
        }
    };
    if set.is_some_and(Value::is_number) && timeout < Duration::from_millis(1) {
        let found = format!("is a bare number, which means nanoseconds: {timeout:?}");
        return vec![Finding::error(
            "file.timeout-form",
            key,
            found,
            "write 1s or 300ms",
        )];
    }
    // Nobody waits for the others.
    let waits =
        |kind: &&EventKind| !kind.is_refresh() && !matches!(kind, EventKind::SharedPollRefresh);
    let is_waited_for = kinds.iter().find(waits).is_some();
    let stale = at(scope.root, "client.stale_close_delay")
        .and_then(duration)
        .unwrap_or(STALE);
    if kinds.contains(&EventKind::Connect) && timeout >= stale {
        let found = format!(
            "is {timeout:?}, and Centrifugo closes connections that take longer \
                             than {stale:?} to connect (3502, for good)"
        );
        return vec![Finding::error(
            "file.timeout-long",
            key,
            found,
            "make it shorter than 5s",
        )];
    }
    if is_waited_for && timeout >= SDK {
        let found = format!("is {timeout:?}, and SDKs give up after 5s, so late answers are lost");
        return vec![Finding::warn(
            "file.timeout-long",
            key,
            found,
            "make it shorter than 5s",
        )];
    }
    let routes = scope
        .compiled
        .routes
        .iter()
        .filter(|it| kinds.contains(&it.route.kind));
    let limit = scope.config.limits.timeout;
    let longest = routes.map(|it| it.route.timeout.unwrap_or(limit)).max();
    match longest.filter(|longest| *longest > timeout) {
        None => Vec::new(),
        Some(longest) => {
            let found = format!(
                "is {timeout:?}, so handlers have less than the {longest:?} that \
                                 `limits.timeout` or their route gives them"
            );
            let finding = Finding::note("file.timeout-short", key, found);
            vec![finding.fix("make it longer where handlers need the time, below 5s")]
        }
    }
}

/// A proxy object that calls this node.
struct Own<'a> {
    scope: &'a Scope<'a>,
    path: &'a str,
    object: &'a Value,
    kinds: &'a [EventKind],
}

impl Own<'_> {
    fn look(&self) -> Vec<Finding> {
        let mut findings = self.credential();
        findings.extend(self.tls());
        findings.extend(self.headers());
        findings.extend(self.content());
        findings
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// `listen.auth`, as the call has to bring it.
    fn credential(&self) -> Vec<Finding> {
        let Some(auth) = &self.scope.config.listen.auth else {
            return Vec::new();
        };
        let mut findings = Vec::new();
        let name = auth.metadata.as_str();
        let sent = text(self.object, "grpc.credentials_key");
        let fixed = at(self.object, "grpc.static_metadata").and_then(|it| it.get(name));
        let value = match (sent.filter(|sent| sent.eq_ignore_ascii_case(name)), fixed) {
            (Some(_), _) => text(self.object, "grpc.credentials_value"),
            (None, Some(fixed)) => fixed.as_str(),
            (None, None) => {
                let found = "is not `listen.auth.metadata`, so this node refuses every call";
                let fix = format!(
                    "set it to {name}, and `grpc.credentials_value` to `listen.auth.value`"
                );
                let key = self.key("grpc.credentials_key");
                return vec![Finding::error("file.credential", key, found, fix)];
            }
        };
        let key = self.key("grpc.credentials_value");
        match value {
            // It may name a variable of Centrifugo's.
            Some(value) if value.contains("${") => {}
            Some(value) if auth.value.matches(value.as_bytes()) => {}
            Some(_) => {
                let found = "is not `listen.auth.value`, so this node refuses every call";
                findings.push(Finding::error(
                    "file.credential",
                    key,
                    found,
                    "make them the same",
                ));
            }
            None => {
                let path: Vec<&str> = self
                    .path
                    .split(['.', '['])
                    .map(|it| it.trim_end_matches(']'))
                    .collect();
                let variable =
                    env_name(&[path.as_slice(), &["grpc", "credentials_value"]].concat());
                let found = "is not in the file, so it has to come by the environment";
                let fix = format!(
                    "set {} for Centrifugo to `listen.auth.value`",
                    variable.replace(['-', '.'], "_")
                );
                findings.push(Finding::note("file.credential", key, found).fix(fix));
            }
        }
        for list in ["http_headers", "emulated_headers", "grpc_metadata"] {
            if words(self.object, list)
                .iter()
                .any(|it| it.eq_ignore_ascii_case(name))
            {
                let found = format!(
                    "forwards {name} of clients beside the credential, so a client \
                                     that sends it has every call refused"
                );
                let fix = "take it out, or choose another `listen.auth.metadata`";
                findings.push(Finding::warn(
                    "file.credential-forwarded",
                    self.key(list),
                    found,
                    fix,
                ));
            }
        }
        findings
    }

    fn tls(&self) -> Vec<Finding> {
        let ours = self.scope.config.listen.tls.as_ref();
        let key = self.key("grpc.tls.enabled");
        let theirs = is_on(self.object, "grpc.tls.enabled");
        let mut findings = Vec::new();
        match (ours, theirs) {
            (None, true) => {
                let found = "is on, and `listen.tls` of this node is not set";
                findings.push(Finding::error(
                    "file.tls",
                    key,
                    found,
                    "switch it off, or set `listen.tls`",
                ));
            }
            (Some(_), false) => {
                let found = "is off, and this node speaks TLS (`listen.tls`)";
                let fix = "switch it on, with `grpc.tls.server_ca_pem`";
                findings.push(Finding::error("file.tls", key, found, fix));
            }
            (Some(tls), true) if tls.client_ca.is_some() => {
                let key = self.key("grpc.tls.cert_pem");
                if text(self.object, "grpc.tls.cert_pem").is_none() {
                    let found = "is not in the file, and this node asks for a certificate of \
                                 `listen.tls.client_ca`";
                    let fix = "set it and `key_pem`, here or in the environment";
                    findings.push(Finding::note("file.tls", key, found).fix(fix));
                }
            }
            _ => {}
        }
        if is_on(self.object, "grpc.tls.insecure_skip_verify") {
            let key = self.key("grpc.tls.insecure_skip_verify");
            let found = "is on: events go to whoever answers there";
            let fix = "name the authority in `grpc.tls.server_ca_pem` instead";
            findings.push(Finding::warn("file.tls-unverified", key, found, fix));
        }
        findings
    }

    /// What interceptors of the configuration look at.
    fn headers(&self) -> Option<Finding> {
        if self
            .kinds
            .iter()
            .all(|kind| *kind == EventKind::SharedPollRefresh)
        {
            return None;
        }
        let lists = ["http_headers", "emulated_headers", "grpc_metadata"];
        let mut sent: Vec<&str> = lists
            .iter()
            .flat_map(|list| words(self.object, list))
            .collect();
        let fixed = at(self.object, "grpc.static_metadata").and_then(Value::as_object);
        sent.extend(
            fixed
                .into_iter()
                .flat_map(|it| it.keys().map(String::as_str)),
        );
        let mut wanted = headers(self.scope.config, self.scope.compiled);
        wanted.retain(|name| !sent.iter().any(|it| it.eq_ignore_ascii_case(name)));
        if wanted.is_empty() {
            return None;
        }
        let found = format!(
            "lacks {}, which interceptors of this node look at",
            wanted.join(", ")
        );
        let fix = "add it, so that Centrifugo forwards it from the client's connection";
        Some(Finding::warn(
            "file.headers",
            self.key("http_headers"),
            found,
            fix,
        ))
    }

    /// What comes with events.
    fn content(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if is_on(self.object, "binary_encoding") {
            let found = "is on: data comes as base64 in `b64data`, which gRPC does not need";
            let finding = Finding::note("file.binary", self.key("binary_encoding"), found);
            findings.push(finding.fix(
                "switch it off, unless clients send what is not JSON and \
                                       handlers expect `b64data`",
            ));
        }
        let has_meta =
            |kind: &EventKind| !matches!(kind, EventKind::Connect | EventKind::SharedPollRefresh);
        if self.kinds.iter().any(has_meta) && !is_on(self.object, "include_connection_meta") {
            let found = "is off: handlers do not see the `meta` of the connect reply";
            let finding = Finding::note("file.meta", self.key("include_connection_meta"), found);
            findings.push(finding.fix("switch it on if they use it"));
        }
        findings
    }
}
