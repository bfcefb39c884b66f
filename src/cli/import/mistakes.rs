//! Mistakes that the two files show, alone or side by side, each with its cure. The file of
//! Centrifugo may be of any version.

use super::centrifugo::endpoints;
use super::remark::Remarks;
use super::source::{Source, at, word};
use super::text::{duration, is_loopback, split};
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;

/// What clients wait for an answer.
const SDK_TIMEOUT: Duration = Duration::from_secs(5);

/// Looks at a `.rr.yaml` and a file of Centrifugo.
pub(super) fn look(theirs: Option<&Source>, proxy: Option<&Source>, remarks: &mut Remarks) {
    if let Some(proxy) = proxy {
        if proxy.has_comments {
            remarks.warn(
                "comments",
                "JSON has none, nor commas before a closing bracket: Centrifugo refuses such a file. They \
                 were passed over here; remove them there",
            );
        }
        dial(&proxy.root, remarks);
        times("", &proxy.root, remarks);
        access(&proxy.root, remarks);
        refresh(&proxy.root, remarks);
    }
    if let (Some(theirs), Some(proxy)) = (theirs, proxy) {
        together(&theirs.root, &proxy.root, remarks);
    }
}

/// The first of these paths that is there.
fn first<'a>(root: &'a Value, paths: &[&str]) -> Option<&'a Value> {
    paths
        .iter()
        .find_map(|path| at(root, path))
        .filter(|it| !it.is_null())
}

fn is_on(root: &Value, paths: &[&str]) -> bool {
    first(root, paths).is_some_and(|it| word(it).is_some_and(|it| it == "true"))
}

fn all_endpoints(root: &Value) -> Vec<String> {
    let mut found = Vec::new();
    endpoints(root, &mut found);
    found.sort_unstable();
    found.dedup();
    found
}

fn dial(root: &Value, remarks: &mut Remarks) {
    for endpoint in all_endpoints(root) {
        let (host, port) = split(endpoint.split_once("://").map_or(&*endpoint, |(_, it)| it));
        let host = host.split('/').next().unwrap_or_default();
        let numbers =
            host.split('.').count() == 4 && host.starts_with(|it: char| it.is_ascii_digit());
        if numbers && host.parse::<IpAddr>().is_err() {
            remarks.warn(
                "endpoint",
                format!(
                    "{endpoint}: {host} is a mistyped address. Centrifugo starts with it and fails at every \
                     call; where it is that of refresh, sessions then never end. Correct it"
                ),
            );
        }
        if endpoint.starts_with("grpc://") && port.parse::<u16>().is_err() {
            remarks.warn(
                "endpoint",
                format!("{endpoint} has no port, and is dialled at 443: write grpc://HOST:PORT"),
            );
        }
        if endpoint.starts_with("http") {
            remarks.note(
                "endpoint",
                format!(
                    "{endpoint} is HTTP; this program takes events over gRPC: grpc://HOST:PORT"
                ),
            );
        }
    }
}

/// Time-outs of proxies that outlast the client.
fn times(path: &str, value: &Value, remarks: &mut Remarks) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        let is_flat = key.starts_with("proxy_") && key.ends_with("_timeout");
        let is_nested = key == "timeout" && path.contains("prox");
        if is_flat || is_nested {
            let time = value.as_str().and_then(duration);
            if time.is_some_and(|time| time >= SDK_TIMEOUT) {
                remarks.warn(
                    &path,
                    "is as long as the 5 s after which an SDK gives up, or longer: write less, such as 3s, so \
                     that the client gets an answer",
                );
            }
        }
        match value {
            Value::Array(list) => list.iter().for_each(|it| times(&path, it, remarks)),
            value => times(&path, value, remarks),
        }
    }
}

fn access(root: &Value, remarks: &mut Remarks) {
    let origins = first(root, &["client.allowed_origins", "allowed_origins"]);
    let any = match origins {
        Some(Value::Array(list)) => list.iter().any(|it| it == "*"),
        Some(Value::String(text)) => text.split_whitespace().any(|it| it == "*"),
        _ => false,
    };
    if any {
        remarks.warn(
            "allowed_origins",
            "\"*\" lets any web page open connections with a visitor's cookies, and version 6 warns: list \
             the origins of your pages",
        );
    }
    let enabled = is_on(root, &["grpc_api.enabled", "grpc_api"]);
    let key = first(root, &["grpc_api.key", "grpc_api_key"]).and_then(Value::as_str);
    let address = first(
        root,
        &[
            "grpc_api.address",
            "grpc_api_address",
            "http_server.address",
            "address",
        ],
    );
    let address = address.and_then(Value::as_str).unwrap_or_default();
    if enabled && key.is_none_or(str::is_empty) && !is_loopback(address) {
        remarks.warn(
            "grpc_api",
            "is open and has no key: anyone in reach can publish and disconnect. Set grpc_api.key there and \
             centrifugo.key here, or grpc_api.address to 127.0.0.1",
        );
    }
}

fn refresh(root: &Value, remarks: &mut Remarks) {
    let has = |event: &str, path: &str| {
        first(
            root,
            &[
                &format!("{path}.endpoint"),
                &format!("proxy_{event}_endpoint"),
            ],
        )
        .is_some()
    };
    if has("subscribe", "channel.proxy.subscribe")
        && !has("sub_refresh", "channel.proxy.sub_refresh")
    {
        remarks.note(
            "sub_refresh",
            "has no proxy: subscriptions can't be made to expire and be looked at again; add one, and the \
             switch in the namespaces, if they should",
        );
    }
    if has("connect", "client.proxy.connect") {
        if has("refresh", "client.proxy.refresh") {
            remarks.note(
                "refresh",
                "is sent only for connections whose connect answer sets expire_at (the same holds for \
                 sub_refresh and the subscribe answer)",
            );
        } else {
            remarks.note(
                "refresh",
                "has no proxy: a connect answer that sets expire_at ends connections for good then; leave \
                 expire_at out, or add the proxy",
            );
        }
    }
}

fn together(theirs: &Value, proxy: &Value, remarks: &mut Remarks) {
    let text = |path: &str, default: &str| {
        let said = at(theirs, path).and_then(word);
        said.unwrap_or_else(|| default.to_owned())
    };
    let listen = text("centrifuge.proxy_address", "tcp://127.0.0.1:30000");
    let api = text("centrifuge.grpc_api_address", "127.0.0.1:10000");
    let (listen_host, listen_port) = split(&listen);
    let (api_host, api_port) = split(&api);
    let endpoints = all_endpoints(proxy);
    let grpc: Vec<&String> = endpoints
        .iter()
        .filter(|it| it.starts_with("grpc://"))
        .collect();
    for endpoint in &grpc {
        let (host, port) = split(endpoint);
        if port != listen_port {
            remarks.warn(
                "endpoint",
                format!(
                    "{endpoint} of Centrifugo is not the port of centrifuge.proxy_address, {listen}: write the \
                     same port in both"
                ),
            );
        }
        if is_loopback(&host) && !is_loopback(&api_host) {
            remarks.warn(
                "endpoint",
                format!(
                    "{endpoint} stands beside {api} in .rr.yaml: in containers 127.0.0.1 is Centrifugo itself. \
                     Use the name of the other container in both, or 127.0.0.1 in both on one host"
                ),
            );
        }
        if !is_loopback(&host) && is_loopback(&listen_host) {
            remarks.warn(
                "centrifuge.proxy_address",
                format!(
                    "{listen} is reached from this machine alone, and Centrifugo calls {endpoint}"
                ),
            );
        }
    }
    if grpc.is_empty() {
        remarks.warn(
            "endpoint",
            "Centrifugo's file sends no event over gRPC, and .rr.yaml waits for them",
        );
    }
    let port = first(proxy, &["grpc_api.port", "grpc_api_port"]).and_then(word);
    let port = port.unwrap_or_else(|| "10000".to_owned());
    if port != api_port {
        remarks.warn(
            "centrifuge.grpc_api_address",
            format!(
                "{api} is not the port of Centrifugo's gRPC API, {port}: write the same in both"
            ),
        );
    }
    if !is_on(proxy, &["grpc_api.enabled", "grpc_api"]) {
        remarks.warn(
            "grpc_api",
            "is off in Centrifugo's file, so PHP can't publish: set grpc_api.enabled there",
        );
    }
}
