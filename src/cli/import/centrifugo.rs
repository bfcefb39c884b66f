//! A file of Centrifugo 3 to 5, flat keys, as one of version 6, which takes it without a warning.
//!
//! Proxies go on pointing to where they did. What version 6 does not have is listed.

use super::super::error::CliError;
use super::centrifugo_keys as keys;
use super::remark::Remarks;
use super::source::{Source, put, word};
use super::{Imported, text};
use serde_json::{Map, Value, json};

/// The events with a default proxy and where it stands.
const EVENTS: &[(&str, &str)] = &[
    ("connect", "client.proxy.connect"),
    ("refresh", "client.proxy.refresh"),
    ("subscribe", "channel.proxy.subscribe"),
    ("publish", "channel.proxy.publish"),
    ("sub_refresh", "channel.proxy.sub_refresh"),
    ("subscribe_stream", "channel.proxy.subscribe_stream"),
    ("cache_empty", "channel.proxy.cache_empty"),
    ("state", "channel.proxy.state"),
    ("rpc", "rpc.proxy"),
];

/// Old names inside of a proxy; of the flat ones, behind `proxy_`.
const PROXY: &[(&str, &str)] = &[
    ("http_headers", "http_headers"),
    ("static_http_headers", "http.static_headers"),
    ("grpc_metadata", "grpc_metadata"),
    ("binary_encoding", "binary_encoding"),
    ("include_connection_meta", "include_connection_meta"),
    ("grpc_cert_file", "grpc.tls.server_ca_pem"),
    ("grpc_tls", "grpc.tls"),
    ("grpc_credentials_key", "grpc.credentials_key"),
    ("grpc_credentials_value", "grpc.credentials_value"),
    ("grpc_compression", "grpc.compression"),
    (
        "http_status_code_transforms",
        "http.status_to_code_transforms",
    ),
    ("status_code_transforms", "http.status_to_code_transforms"),
    ("name", "name"),
    ("endpoint", "endpoint"),
    ("timeout", "timeout"),
];

/// The new file while it grows.
struct Draft {
    root: Map<String, Value>,
    left: Map<String, Value>,
    remarks: Remarks,
}

/// Makes a file of version 6; one that is of version 6 already stays as it is.
///
/// # Errors
///
/// None so far: what is not understood is listed.
pub(super) fn import(source: &Source) -> Result<Imported, CliError> {
    let left = source.root.as_object().cloned().unwrap_or_default();
    let mut draft = Draft {
        root: Map::new(),
        left,
        remarks: Remarks::default(),
    };
    if draft.left.iter().all(|(key, value)| is_section(key, value)) {
        draft.remarks.note(
            "version",
            "the file has the sections of Centrifugo 6 already, and is printed as it was",
        );
        return Ok(Imported {
            text: source.raw.clone(),
            remarks: draft.remarks,
        });
    }
    draft.remarks.warn(
        "version",
        "flat keys are of Centrifugo 3 to 5: version 6 ignores each with a warning, and starts without \
         proxies, gRPC API and origins",
    );
    draft.proxies();
    draft.spaces();
    draft.plain();
    draft.point();
    let text = serde_json::to_string_pretty(&Value::Object(draft.root));
    Ok(Imported {
        text: text.map_err(CliError::internal)?,
        remarks: draft.remarks,
    })
}

/// Whether this is a section of version 6; some of their names were switches before.
fn is_section(key: &str, value: &Value) -> bool {
    let nested = value.is_object() || (key == "consumers" && value.is_array());
    (nested || matches!(key, "proxies" | "pid_file" | "enable_unreleased_features"))
        && keys::is_known(key)
}

impl Draft {
    fn set(&mut self, path: &str, value: Value) {
        let parts: Vec<&str> = path.split('.').collect();
        let value = self.fitting(path, value);
        put(&mut self.root, &parts, value);
    }

    /// A number where version 6 wants a duration.
    fn fitting(&mut self, path: &str, value: Value) -> Value {
        let ends = [
            "_timeout",
            "_ttl",
            "_interval",
            "_delay",
            "_lag",
            ".timeout",
        ];
        let Some(number) = value
            .as_u64()
            .filter(|_| ends.iter().any(|end| path.ends_with(end)))
        else {
            return value;
        };
        // Nobody waits for nanoseconds: small numbers were meant as seconds.
        let time = match number {
            0..1_000_000 => std::time::Duration::from_secs(number),
            _ => std::time::Duration::from_nanos(number),
        };
        let shown = text::show(time);
        if number > 0 {
            let said = format!(
                "was the bare number {number}; \"{shown}\" is written, look whether that is meant"
            );
            self.remarks.warn(path, said);
        }
        json!(shown)
    }

    /// Default proxies, named ones, and the references to them.
    fn proxies(&mut self) {
        let granular = self.left.remove("granular_proxy_mode") == Some(json!(true));
        let mut common = Map::new();
        for (old, new) in PROXY {
            if let Some(value) = self.left.remove(&format!("proxy_{old}")) {
                proxy_key(&mut common, new, value);
            }
        }
        let mut rpc = false;
        for (event, path) in EVENTS {
            let endpoint = self.left.remove(&format!("proxy_{event}_endpoint"));
            let timeout = self.left.remove(&format!("proxy_{event}_timeout"));
            let Some(endpoint) = endpoint.filter(|it| it.as_str().is_some_and(|it| !it.is_empty()))
            else {
                continue;
            };
            if matches!(*event, "connect" | "refresh") {
                self.set(&format!("{path}.enabled"), json!(true));
            }
            for (key, value) in common.clone() {
                self.set(&format!("{path}.{key}"), value);
            }
            self.set(&format!("{path}.endpoint"), endpoint);
            if let Some(timeout) = timeout {
                self.set(&format!("{path}.timeout"), timeout);
            }
            rpc |= *event == "rpc";
        }
        if rpc && !granular {
            self.set("rpc.without_namespace.proxy_enabled", json!(true));
        }
        let named = self.named();
        for event in ["connect", "refresh"] {
            let key = format!("{event}_proxy_name");
            let Some(name) = self.left.remove(&key).as_ref().and_then(word) else {
                continue;
            };
            match named
                .iter()
                .find(|it| it.get("name").and_then(Value::as_str) == Some(&name))
            {
                Some(object) => {
                    let mut object = object.clone();
                    object.remove("name");
                    object.insert("enabled".to_owned(), json!(true));
                    self.set(&format!("client.proxy.{event}"), Value::Object(object));
                }
                None if name.is_empty() => {}
                None => self
                    .remarks
                    .left(&key, format!("names {name}, which is no entry of proxies")),
            }
        }
        self.rpc_spaces(rpc && !granular);
    }

    fn named(&mut self) -> Vec<Map<String, Value>> {
        let Some(Value::Array(list)) = self.left.remove("proxies") else {
            return Vec::new();
        };
        let mut named = Vec::new();
        for entry in list {
            let Value::Object(entry) = entry else {
                continue;
            };
            let mut made = Map::new();
            for (key, value) in entry {
                let new = PROXY
                    .iter()
                    .find(|(old, _)| *old == key)
                    .map(|(_, new)| *new);
                match new.or_else(|| keys::is_known(&format!("rpc.proxy.{key}")).then_some(&*key)) {
                    Some(new) => {
                        let value = self.fitting(&format!("proxies.{new}"), value);
                        proxy_key(&mut made, new, value);
                    }
                    None if key == "type" => {}
                    None => self
                        .remarks
                        .left(&format!("proxies[].{key}"), "is no key of version 6"),
                }
            }
            named.push(made);
        }
        if !named.is_empty() {
            let list = named.iter().cloned().map(Value::Object).collect();
            self.set("proxies", Value::Array(list));
        }
        named
    }

    fn rpc_spaces(&mut self, all: bool) {
        if let Some(name) = self.left.remove("rpc_proxy_name").as_ref().and_then(word)
            && !name.is_empty()
        {
            self.set("rpc.without_namespace.proxy_enabled", json!(true));
            self.set("rpc.without_namespace.proxy_name", json!(name));
        }
        let Some(Value::Array(list)) = self.left.remove("rpc_namespaces") else {
            return;
        };
        let mut made = Vec::new();
        for entry in list {
            let Value::Object(mut entry) = entry else {
                continue;
            };
            let mut space = Map::new();
            space.extend(entry.remove("name").map(|name| ("name".to_owned(), name)));
            let name = entry.remove("rpc_proxy_name").as_ref().and_then(word);
            let name = name.filter(|name| !name.is_empty());
            if all || name.is_some() {
                space.insert("proxy_enabled".to_owned(), json!(true));
            }
            space.extend(name.map(|name| ("proxy_name".to_owned(), json!(name))));
            for key in entry.keys() {
                self.remarks
                    .left(&format!("rpc_namespaces[].{key}"), "is no key of version 6");
            }
            made.push(Value::Object(space));
        }
        self.set("rpc.namespaces", Value::Array(made));
    }

    /// Channel namespaces, and the options of channels without one that name a proxy.
    fn spaces(&mut self) {
        if let Some(Value::Array(list)) = self.left.remove("namespaces") {
            let mut made = Vec::new();
            for entry in list {
                let Value::Object(entry) = entry else {
                    continue;
                };
                made.push(Value::Object(self.space(entry, "namespaces[]")));
            }
            self.set("channel.namespaces", Value::Array(made));
        }
        let own = |key: &str| {
            key.ends_with("_proxy_name")
                || (key != "name" && !keys_of_node(key) && keys::space(key).is_some())
        };
        let mut top = Map::new();
        for key in self.left.keys().cloned().collect::<Vec<_>>() {
            if own(&key)
                && let Some(value) = self.left.remove(&key)
            {
                top.insert(key, value);
            }
        }
        if !top.is_empty() {
            let made = self.space(top, "");
            self.set("channel.without_namespace", Value::Object(made));
        }
    }

    fn space(&mut self, entry: Map<String, Value>, place: &str) -> Map<String, Value> {
        let mut made = Map::new();
        for (key, value) in entry {
            let full = if place.is_empty() {
                key.clone()
            } else {
                format!("{place}.{key}")
            };
            if key == "publish" {
                self.remarks.warn(
                    &full,
                    "was a key of version 3 alone; it is allow_publish_for_client since 4, so no version \
                     understood this file as a whole if it has keys of 4 too",
                );
            }
            if let Some(event) = key.strip_suffix("_proxy_name") {
                if value.as_str().is_none_or(str::is_empty) {
                    continue;
                }
                made.insert(format!("{event}_proxy_enabled"), json!(true));
            }
            match (key.as_str(), keys::space(&key)) {
                ("name", _) => {
                    made.insert(key, value);
                }
                (_, Some(new)) => {
                    let value = self.fitting(&new, value);
                    made.insert(new, value);
                }
                ("protected" | "server_side", None) => self.remarks.left(
                    &full,
                    "is what every channel is since version 4 unless allow_subscribe_for_client or a proxy lets clients in",
                ),
                (_, None) => self.remarks.left(&full, "is no option of version 6"),
            }
        }
        made
    }

    /// Everything else, key by key.
    fn plain(&mut self) {
        for (key, value) in std::mem::take(&mut self.left) {
            if is_section(&key, &value) {
                self.set(&key, value);
                continue;
            }
            if matches!(&*key, "proxy_connect" | "proxy_refresh" | "proxy_rpc") {
                self.remarks.left(
                    &key,
                    "was never an option: the endpoint alone switched the proxy on; in version 6 `enabled` \
                     (written where there is an endpoint) does",
                );
                continue;
            }
            if key == "v3_use_offset" || key == "use_client_protocol_v1_by_default" {
                self.remarks
                    .left(&key, "is gone with the old client protocol");
                continue;
            }
            match keys::top(&key, &value) {
                Some(path) => {
                    if path == "broker.type" {
                        self.set("broker.enabled", json!(true));
                    }
                    self.set(&path, value);
                }
                None => self.remarks.left(
                    &key,
                    "has no counterpart in Centrifugo 6.9 (PRO may have one)",
                ),
            }
        }
    }

    /// Where events go, and how they would come here.
    fn point(&mut self) {
        let mut found = Vec::new();
        endpoints(&Value::Object(self.root.clone()), &mut found);
        if found.is_empty() {
            return;
        }
        found.sort_unstable();
        found.dedup();
        self.remarks.note(
            "proxies",
            format!(
                "point to {} as before; to send events to this program write grpc://HOST:PORT of \
                 listen.grpc there (by default grpc://127.0.0.1:10001)",
                found.join(", ")
            ),
        );
        self.remarks.note(
            "secrets",
            "keys and tokens of the old file stand in the new one; mind who can read it",
        );
    }
}

/// Keys of the node that are words of channels too.
fn keys_of_node(key: &str) -> bool {
    matches!(key, "map" | "shared_poll")
}

/// Puts a key of a proxy; a certificate switches TLS on.
fn proxy_key(object: &mut Map<String, Value>, path: &str, value: Value) {
    if path == "grpc.tls.server_ca_pem" {
        if value.as_str().is_none_or(str::is_empty) {
            return;
        }
        put(object, &["grpc", "tls", "enabled"], json!(true));
    }
    let parts: Vec<&str> = path.split('.').collect();
    put(object, &parts, value);
}

/// The endpoints anywhere in a tree.
pub(super) fn endpoints(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(text) if is_endpoint(key) && !text.is_empty() => {
                        found.push(text.clone())
                    }
                    value => endpoints(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|it| endpoints(it, found)),
        _ => {}
    }
}

fn is_endpoint(key: &str) -> bool {
    key == "endpoint" || (key.starts_with("proxy_") && key.ends_with("_endpoint"))
}
