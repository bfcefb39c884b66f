//! Where a flat key of Centrifugo 3 to 5 stands in version 6.
//!
//! Most are the path itself with underscores, at times without its first parts; so the list of
//! version 6 answers for them, and only what was renamed is written down here.

use serde_json::Value;

/// Every key of Centrifugo 6.9, a path a line; a test compares it with a real one.
pub(super) const V6: &str = include_str!("v6_keys.txt");

/// What was renamed or moved, beside the rules.
const RENAMED: &[(&str, &str)] = &[
    ("engine", "engine.type"),
    ("broker", "broker.type"),
    ("name", "node.name"),
    ("secret", "client.token.hmac_secret_key"),
    ("tls_cert", "http_server.tls.cert_pem"),
    ("tls_key", "http_server.tls.key_pem"),
    ("grpc_api_tls", "grpc_api.tls.enabled"),
    ("grpc_api_tls_cert", "grpc_api.tls.cert_pem"),
    ("grpc_api_tls_key", "grpc_api.tls.key_pem"),
    ("websocket_disable", "websocket.disabled"),
    ("api_disable", "http_api.disabled"),
    ("usage_stats_disable", "usage_stats.disabled"),
    ("redis_use_lists", "engine.redis.history_use_lists"),
    ("redis_read_timeout", "engine.redis.io_timeout"),
    ("redis_tls", "engine.redis.tls.enabled"),
    (
        "redis_tls_skip_verify",
        "engine.redis.tls.insecure_skip_verify",
    ),
    ("redis_sentinels", "engine.redis.sentinel_address"),
    ("redis_master_name", "engine.redis.sentinel_master_name"),
    ("redis_cluster_addrs", "engine.redis.cluster_address"),
    ("global_redis_presence_ttl", "engine.redis.presence_ttl"),
    ("global_history_meta_ttl", "channel.history_meta_ttl"),
    ("global_presence_ttl", "engine.redis.presence_ttl"),
    (
        "user_subscribe_to_personal",
        "client.subscribe_to_user_personal_channel.enabled",
    ),
    (
        "user_personal_channel_namespace",
        "client.subscribe_to_user_personal_channel.personal_channel_namespace",
    ),
    (
        "user_personal_single_connection",
        "client.subscribe_to_user_personal_channel.single_connection",
    ),
    (
        "separate_subscription_token_config",
        "client.subscription_token.enabled",
    ),
    (
        "client_anonymous",
        "client.allow_anonymous_connect_without_token",
    ),
    ("client_request_max_size", "websocket.message_size_limit"),
    ("graphite", "graphite.enabled"),
];

/// Options of a namespace that were renamed.
const SPACE: &[(&str, &str)] = &[
    ("proxy_subscribe", "subscribe_proxy_enabled"),
    ("proxy_publish", "publish_proxy_enabled"),
    ("proxy_sub_refresh", "sub_refresh_proxy_enabled"),
    ("proxy_subscribe_stream", "subscribe_stream_proxy_enabled"),
    (
        "proxy_subscribe_stream_bidirectional",
        "subscribe_stream_proxy_bidirectional",
    ),
    ("publish", "allow_publish_for_client"),
    ("subscribe_to_publish", "allow_publish_for_subscriber"),
    ("anonymous", "allow_subscribe_for_anonymous"),
    ("history_lifetime", "history_ttl"),
    ("history_recover", "force_recovery"),
    ("recover", "force_recovery"),
    ("position", "force_positioning"),
];

/// Whether version 6 has this path, or anything below it.
pub(super) fn is_known(path: &str) -> bool {
    V6.lines().any(|line| {
        let rest = line.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// The path of an old key at the top of the file.
pub(super) fn top(key: &str, value: &Value) -> Option<String> {
    if let Some((_, new)) = RENAMED.iter().find(|(old, _)| *old == key)
        && (!value.is_object() || *new == key)
    {
        return Some((*new).to_owned());
    }
    // What belongs to channels comes last: most of its names are plain words.
    let starts = ["", "client_", "http_", "http_server_", "engine_", "broker_"];
    for start in starts {
        let name = format!("{start}{key}");
        let switch = value.is_boolean().then(|| format!("{name}_enabled"));
        if let Some(path) = switch.and_then(|name| flat(&name)).or_else(|| flat(&name)) {
            return Some(path);
        }
    }
    space(key).map(|name| format!("channel.without_namespace.{name}"))
}

/// The name of an old option of a namespace.
pub(super) fn space(key: &str) -> Option<String> {
    let renamed = SPACE.iter().find(|(old, _)| *old == key);
    let name = renamed.map_or(key, |(_, new)| new);
    is_known(&format!("channel.without_namespace.{name}")).then(|| name.to_owned())
}

/// The path that reads like the key with underscores for its dots; a whole object counts too.
fn flat(key: &str) -> Option<String> {
    V6.lines().find_map(|line| {
        if line.len() < key.len() {
            return None;
        }
        let (start, rest) = line.split_at_checked(key.len())?;
        let same = start
            .bytes()
            .zip(key.bytes())
            .all(|(theirs, ours)| theirs == ours || (theirs == b'.' && ours == b'_'));
        let ends = rest.is_empty() || rest.starts_with('.');
        // A single word is the name of a section, not an option of it.
        (same && ends && start.contains('.'))
            .then(|| start.to_owned())
            .or_else(|| (same && rest.is_empty()).then(|| line.to_owned()))
    })
}
