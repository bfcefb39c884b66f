//! How Centrifugo reads its file: values at paths, durations, and which proxy object takes which
//! events.

use crate::event::EventKind;
use serde_json::Value;
use std::time::Duration;

/// The value at a dotted path.
pub(super) fn at<'a>(root: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(root, |at, key| at.get(key))
}

/// A switch; Centrifugo takes the words for it too.
pub(super) fn is_on(root: &Value, path: &str) -> bool {
    match at(root, path) {
        Some(Value::Bool(on)) => *on,
        Some(Value::String(word)) => {
            matches!(word.as_str(), "true" | "TRUE" | "True" | "t" | "T" | "1")
        }
        Some(Value::Number(number)) => number.as_i64() != Some(0),
        _ => false,
    }
}

/// A text; empty counts as absent, as it does there.
pub(super) fn text<'a>(root: &'a Value, path: &str) -> Option<&'a str> {
    at(root, path)?.as_str().filter(|text| !text.is_empty())
}

/// A number, be it written as a text.
pub(super) fn number(root: &Value, path: &str) -> Option<u64> {
    match at(root, path)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A list of words, or words in one text.
pub(super) fn words<'a>(root: &'a Value, path: &str) -> Vec<&'a str> {
    match at(root, path) {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(text)) => text.split_whitespace().collect(),
        _ => Vec::new(),
    }
}

/// A time as Go writes it, such as `1m30s` or `1.5s`; `None` for what Go does not take. A bare
/// number is nanoseconds.
pub(super) fn duration(value: &Value) -> Option<Duration> {
    let text = match value {
        Value::Number(number) => return number.as_u64().map(Duration::from_nanos),
        Value::String(text) => text.as_str(),
        _ => return None,
    };
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (count, after) = rest.split_at(digits);
        let unit_end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += count.parse::<f64>().ok()? * scale;
        rest = next;
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok())?
}

/// Switches of a namespace: what turns an event on, what names its proxy, the event.
pub(super) const SWITCHES: [(&str, &str, EventKind); 6] = [
    (
        "subscribe_proxy_enabled",
        "subscribe_proxy_name",
        EventKind::Subscribe,
    ),
    (
        "publish_proxy_enabled",
        "publish_proxy_name",
        EventKind::Publish,
    ),
    (
        "sub_refresh_proxy_enabled",
        "sub_refresh_proxy_name",
        EventKind::SubRefresh,
    ),
    (
        "subscribe_stream_proxy_enabled",
        "subscribe_stream_proxy_name",
        EventKind::Stream,
    ),
    (
        "map.publish_proxy_enabled",
        "map.publish_proxy_name",
        EventKind::MapPublish,
    ),
    (
        "map.remove_proxy_enabled",
        "map.remove_proxy_name",
        EventKind::MapRemove,
    ),
];

/// An event that the file sends through a proxy object.
#[derive(Debug)]
pub(super) struct Use<'a> {
    /// The event.
    pub(super) kind: EventKind,
    /// What turned it on.
    pub(super) switch: String,
    /// Where its proxy object stands, such as `rpc.proxy` or `proxies[slow]`.
    pub(super) path: String,
    /// The object itself, if it is there.
    pub(super) object: Option<&'a Value>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Uses<'a> {
    pub(super) list: Vec<Use<'a>>,
}

impl<'a> Uses<'a> {
    /// Those of a file.
    pub(super) fn of(root: &'a Value) -> Self {
        let mut found = Self::default();
        for kind in [EventKind::Connect, EventKind::Refresh] {
            let path = format!("client.proxy.{kind}");
            if is_on(root, &format!("{path}.enabled")) {
                let object = at(root, &path);
                let switch = format!("{path}.enabled");
                found.list.push(Use {
                    kind,
                    switch,
                    path,
                    object,
                });
            }
        }
        for (place, space) in spaces(root, "channel") {
            found.space(root, &place, space);
        }
        for (place, space) in spaces(root, "rpc") {
            if is_on(space, "proxy_enabled") {
                let name = text(space, "proxy_name");
                found.add(
                    root,
                    EventKind::Rpc,
                    "rpc.proxy",
                    name,
                    format!("{place}.proxy_enabled"),
                );
            }
        }
        found
    }

    fn space(&mut self, root: &'a Value, place: &str, space: &'a Value) {
        for (switch, name, kind) in SWITCHES {
            if !is_on(space, switch) {
                continue;
            }
            let default = match kind {
                EventKind::Stream => "channel.proxy.subscribe_stream".to_owned(),
                _ => format!("channel.proxy.{kind}"),
            };
            let both =
                kind == EventKind::Stream && is_on(space, "subscribe_stream_proxy_bidirectional");
            let kind = if both {
                EventKind::StreamBidirectional
            } else {
                kind
            };
            self.add(
                root,
                kind,
                &default,
                text(space, name),
                format!("{place}.{switch}"),
            );
        }
        if text(space, "subscription_type") == Some("shared_poll") {
            let kind = EventKind::SharedPollRefresh;
            let default = format!("channel.proxy.{kind}");
            let name = text(space, "shared_poll.proxy_name");
            self.add(
                root,
                kind,
                &default,
                name,
                format!("{place}.subscription_type"),
            );
        }
    }

    fn add(
        &mut self,
        root: &'a Value,
        kind: EventKind,
        default: &str,
        name: Option<&str>,
        switch: String,
    ) {
        let (path, object) = match name.filter(|name| *name != "default") {
            None => (default.to_owned(), at(root, default)),
            Some(name) => {
                let named = at(root, "proxies").and_then(Value::as_array);
                let mut named = named.into_iter().flatten();
                let object = named.find(|it| text(it, "name") == Some(name));
                (format!("proxies[{name}]"), object)
            }
        };
        self.list.push(Use {
            kind,
            switch,
            path,
            object,
        });
    }

    /// Each proxy object that is there, once, with the kinds of event that it takes.
    pub(super) fn objects(&self) -> Vec<(&str, &'a Value, Vec<EventKind>)> {
        let mut objects: Vec<(&str, &Value, Vec<EventKind>)> = Vec::new();
        for one in &self.list {
            let Some(object) = one.object else { continue };
            match objects.iter_mut().find(|it| it.0 == one.path) {
                Some((_, _, kinds)) if kinds.contains(&one.kind) => {}
                Some((_, _, kinds)) => kinds.push(one.kind),
                None => objects.push((&one.path, object, vec![one.kind])),
            }
        }
        objects
    }
}

/// The namespaces of `channel` or `rpc`, and what is without one, with their places.
pub(super) fn spaces<'a>(root: &'a Value, of: &str) -> Vec<(String, &'a Value)> {
    let mut found = Vec::new();
    let without = format!("{of}.without_namespace");
    if let Some(space) = at(root, &without) {
        found.push((without, space));
    }
    let list = at(root, &format!("{of}.namespaces")).and_then(Value::as_array);
    for space in list.into_iter().flatten() {
        let name = text(space, "name").unwrap_or_default();
        found.push((format!("{of}.namespaces[{name}]"), space));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let of = |value: Value| duration(&value).map(|it| it.as_millis());
        for (value, milliseconds) in [
            (json!("1s"), Some(1000)),
            (json!("300ms"), Some(300)),
            (json!("1m30s"), Some(90_000)),
            (json!("1.5s"), Some(1500)),
            (json!(2_000_000_000), Some(2000)),
            (json!(5), Some(0)),
            (json!("1"), None),
            (json!("2d"), None),
            (json!(""), None),
            (json!("s"), None),
            (json!(true), None),
        ] {
            assert_eq!(of(value.clone()), milliseconds, "{value}");
        }
    }

    #[test]
    fn uses_follow_names_and_switches() {
        let root = json!({
            "proxies": [{ "name": "slow", "endpoint": "grpc://h:1" }],
            "channel": {
                "proxy": { "subscribe_stream": { "endpoint": "grpc://h:2" } },
                "namespaces": [
                    { "name": "aa", "publish_proxy_enabled": true, "publish_proxy_name": "slow" },
                    { "name": "bb", "subscribe_stream_proxy_enabled": "true",
                      "subscribe_stream_proxy_bidirectional": true },
                    { "name": "cc", "subscribe_proxy_enabled": false },
                ],
            },
        });
        let uses = Uses::of(&root);
        let found: Vec<_> = uses
            .list
            .iter()
            .map(|it| (it.kind, it.path.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                (EventKind::Publish, "proxies[slow]"),
                (
                    EventKind::StreamBidirectional,
                    "channel.proxy.subscribe_stream"
                ),
            ]
        );
        assert_eq!(uses.objects().len(), 2);
    }
}
