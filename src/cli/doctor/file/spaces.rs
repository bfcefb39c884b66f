//! Namespaces against our routes: a route whose namespace is not there, or does not send its
//! event, never sees one.

use super::super::finding::{Finding, Severity};
use super::Scope;
use super::model::{is_on, spaces, text};
use crate::cli::centrifugo_config::namespaces::{Namespaces, Space};
use crate::event::EventKind;
use serde_json::{Map, Value};

pub(super) fn look(scope: &Scope<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = boundary(scope).into_iter().collect();
    findings.extend(clients(scope));
    let wanted_boundary = &scope.config.channel.namespace_boundary;
    let mut wanted = Namespaces::of_routes(scope.compiled, wanted_boundary);
    let theirs = spaces(scope.root, "channel");
    let by_place = |place: &str| theirs.iter().find(|it| it.0 == place).map(|it| it.1);
    let (options, kinds) = wanted.options(&Space::Without);
    let place = "channel.without_namespace";
    let without = by_place(place).unwrap_or(&Value::Null);
    let idle = switched_off(place, without, &options, &names(kinds));
    findings.extend(idle.into_iter().map(|mut finding| {
        // A route for everything is meant for the namespaces that there are.
        let path = finding.looked_at.strip_prefix(place).unwrap_or_default();
        let path = path.trim_start_matches('.');
        if theirs.iter().any(|(_, space)| is_on(space, path)) {
            finding.severity = Severity::Note;
        }
        finding
    }));
    for name in wanted.names() {
        let (options, kinds) = wanted.options(&Space::Named(name.clone()));
        if options.is_empty() {
            continue;
        }
        let place = format!("channel.namespaces[{name}]");
        match by_place(&place) {
            Some(space) => findings.extend(switched_off(&place, space, &options, &names(kinds))),
            None => {
                let found = format!(
                    "is not there, and routes here take {} of it: clients get 102",
                    names(kinds)
                );
                let mut options = options;
                options.insert("name".to_owned(), name.clone().into());
                let fix = format!("add {} to `channel.namespaces`", Value::Object(options));
                findings.push(Finding::error("file.namespace-missing", place, found, fix));
            }
        }
    }
    findings.extend(rpc(scope, &wanted));
    findings.extend(
        theirs
            .iter()
            .filter_map(|(place, space)| conflict(place, space)),
    );
    findings
}

fn names(kinds: impl IntoIterator<Item = EventKind>) -> String {
    let names: Vec<&str> = kinds.into_iter().map(EventKind::name).collect();
    names.join(", ")
}

fn boundary(scope: &Scope<'_>) -> Option<Finding> {
    let key = "channel.namespace_boundary";
    let theirs = text(scope.root, key).unwrap_or(":");
    let ours = &scope.config.channel.namespace_boundary;
    (theirs != ours).then(|| {
        let found = format!(
            "is `{theirs}`, and that of this node is `{ours}`: routes match other channels"
        );
        Finding::error("file.boundary", key, found, "make them the same")
    })
}

/// Routes for connect and refresh, which have a proxy of their own.
fn clients(scope: &Scope<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for kind in [EventKind::Connect, EventKind::Refresh] {
        let key = format!("client.proxy.{kind}.enabled");
        let endpoint = format!("client.proxy.{kind}.endpoint");
        // With an endpoint it is told of already.
        if scope.routes(kind) && !is_on(scope.root, &key) && text(scope.root, &endpoint).is_none() {
            let found = format!("is off: the route for {kind} never sees an event");
            let fix = format!(
                "set it to true, and `endpoint` to grpc://{}",
                scope.config.listen.grpc
            );
            findings.push(Finding::warn("file.route-idle", key, found, fix));
        }
    }
    findings
}

/// Options of a namespace that its routes need and that are not as they have to be.
fn switched_off(
    place: &str,
    space: &Value,
    options: &Map<String, Value>,
    kinds: &str,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, wanted) in flat("", options) {
        let is_right = match &wanted {
            Value::Bool(true) => is_on(space, &path),
            Value::String(word) if path == "subscription_type" => text(space, &path) == Some(word),
            // Modes and times are anyone's choice.
            _ => true,
        };
        if !is_right {
            let found = format!("is not {wanted}, and routes here take {kinds} of it");
            let fix = format!("set it to {wanted}, or remove the route");
            let key = format!("{place}.{path}");
            findings.push(Finding::warn("file.route-idle", key, found, fix));
        }
    }
    let both = "subscribe_stream_proxy_bidirectional";
    if options.contains_key("subscribe_stream_proxy_enabled")
        && !options.contains_key(both)
        && is_on(space, both)
    {
        let found = "is on, and the route here takes streams of one direction (`stream`)";
        let fix = "switch it off, or make the route `stream_bidirectional`";
        findings.push(Finding::warn(
            "file.route-idle",
            format!("{place}.{both}"),
            found,
            fix,
        ));
    }
    findings
}

/// Options with their paths.
fn flat(prefix: &str, options: &Map<String, Value>) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (key, value) in options {
        let path = format!("{prefix}{key}");
        match value {
            Value::Object(inner) => found.extend(flat(&format!("{path}."), inner)),
            value => found.push((path, value.clone())),
        }
    }
    found
}

fn rpc(scope: &Scope<'_>, wanted: &Namespaces) -> Vec<Finding> {
    if !wanted.has(EventKind::Rpc) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let key = "rpc.without_namespace.proxy_enabled";
    if !is_on(scope.root, key) {
        let found = "is off: routes for rpc never see an event, and clients get 104";
        findings.push(Finding::warn(
            "file.route-idle",
            key,
            found,
            "set it to true",
        ));
    }
    let theirs = spaces(scope.root, "rpc");
    for name in wanted.rpc_names() {
        let place = format!("rpc.namespaces[{name}]");
        match theirs.iter().find(|it| it.0 == place) {
            Some((_, space)) if is_on(space, "proxy_enabled") => {}
            Some(_) => {
                let key = format!("{place}.proxy_enabled");
                let found = "is off: routes for its methods never see an event";
                findings.push(Finding::warn(
                    "file.route-idle",
                    key,
                    found,
                    "set it to true",
                ));
            }
            None => {
                let found = "is not there, and routes here take its methods: clients get 104";
                let fix = format!("add {{\"name\": \"{name}\", \"proxy_enabled\": true}}");
                findings.push(Finding::error("file.namespace-missing", place, found, fix));
            }
        }
    }
    findings
}

/// What Centrifugo does not start with.
fn conflict(place: &str, space: &Value) -> Option<Finding> {
    let key = |key: &str| format!("{place}.{key}");
    let stream = "subscribe_stream_proxy_enabled";
    let plain = [
        "subscribe_proxy_enabled",
        "publish_proxy_enabled",
        "sub_refresh_proxy_enabled",
    ];
    if is_on(space, stream) && plain.iter().any(|it| is_on(space, it)) {
        let found =
            "is on beside the subscribe, publish or sub_refresh proxy: Centrifugo does not start";
        let fix = "give streams a namespace of their own";
        return Some(Finding::error(
            "file.stream-conflict",
            key(stream),
            found,
            fix,
        ));
    }
    let is_map = text(space, "subscription_type") == Some("map");
    if is_map && is_on(space, "subscribe_proxy_enabled") {
        let found = "is on for a map namespace: clients get 107 whatever the handler says";
        let fix = "switch it off, and `allow_subscribe_for_client` on";
        return Some(Finding::error(
            "file.map-subscribe",
            key("subscribe_proxy_enabled"),
            found,
            fix,
        ));
    }
    None
}
