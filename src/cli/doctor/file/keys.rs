//! Keys that Centrifugo 6 does not have: those of version 3 to 5, each with its new place, and
//! others, which are typing mistakes. It starts with them all the same, without what they were
//! meant to switch on.

use super::super::finding::Finding;
use super::model::at;
use serde_json::Value;

/// Old flat keys and their places now, from the longest prefix: `*` stands for the rest of the key.
const OLD: &[(&str, &str)] = &[
    (
        "proxy_connect_*",
        "client.proxy.connect.*, with `enabled: true` beside it",
    ),
    (
        "proxy_refresh_*",
        "client.proxy.refresh.*, with `enabled: true` beside it",
    ),
    ("proxy_connect", "client.proxy.connect.enabled"),
    ("proxy_refresh", "client.proxy.refresh.enabled"),
    (
        "proxy_subscribe_stream_bidirectional",
        "channel.without_namespace.subscribe_stream_proxy_bidirectional",
    ),
    (
        "proxy_subscribe_stream_*",
        "channel.proxy.subscribe_stream.*",
    ),
    (
        "proxy_subscribe_stream",
        "channel.without_namespace.subscribe_stream_proxy_enabled",
    ),
    ("proxy_sub_refresh_*", "channel.proxy.sub_refresh.*"),
    (
        "proxy_sub_refresh",
        "channel.without_namespace.sub_refresh_proxy_enabled",
    ),
    ("proxy_subscribe_*", "channel.proxy.subscribe.*"),
    (
        "proxy_subscribe",
        "channel.without_namespace.subscribe_proxy_enabled",
    ),
    ("proxy_publish_*", "channel.proxy.publish.*"),
    (
        "proxy_publish",
        "channel.without_namespace.publish_proxy_enabled",
    ),
    (
        "proxy_rpc_*",
        "rpc.proxy.*, with `rpc.without_namespace.proxy_enabled: true`",
    ),
    ("proxy_cache_empty_*", "channel.proxy.cache_empty.* (PRO)"),
    ("proxy_state_*", "channel.proxy.state.* (PRO)"),
    ("proxy_http_headers", "`http_headers` of each proxy"),
    (
        "proxy_static_http_headers",
        "`http.static_headers` of each proxy",
    ),
    ("proxy_grpc_metadata", "`grpc_metadata` of each proxy"),
    ("proxy_binary_encoding", "`binary_encoding` of each proxy"),
    (
        "proxy_include_connection_meta",
        "`include_connection_meta` of each proxy",
    ),
    (
        "proxy_grpc_cert_file",
        "`grpc.tls.enabled` and `grpc.tls.server_ca_pem` of each proxy",
    ),
    ("proxy_grpc_tls", "`grpc.tls` of each proxy"),
    (
        "proxy_grpc_credentials_*",
        "`grpc.credentials_*` of each proxy",
    ),
    ("proxy_grpc_compression", "`grpc.compression` of each proxy"),
    (
        "proxy_http_status_code_transforms",
        "`http.status_to_code_transforms` of each proxy",
    ),
    (
        "granular_proxy_mode",
        "nowhere: named `proxies` are always there",
    ),
    (
        "connect_proxy_name",
        "client.proxy.connect: the object itself, no name",
    ),
    (
        "refresh_proxy_name",
        "client.proxy.refresh: the object itself, no name",
    ),
    (
        "rpc_proxy_name",
        "rpc.without_namespace.proxy_name, with `proxy_enabled: true`",
    ),
    (
        "subscribe_proxy_name",
        "channel.without_namespace, with `subscribe_proxy_enabled: true`",
    ),
    (
        "publish_proxy_name",
        "channel.without_namespace, with `publish_proxy_enabled: true`",
    ),
    (
        "sub_refresh_proxy_name",
        "channel.without_namespace, with `sub_refresh_proxy_enabled: true`",
    ),
    (
        "subscribe_stream_proxy_name",
        "channel.without_namespace, with `subscribe_stream_proxy_enabled: true`",
    ),
    ("namespaces", "channel.namespaces"),
    ("rpc_namespaces", "rpc.namespaces"),
    ("rpc_namespace_boundary", "rpc.namespace_boundary"),
    ("channel_*", "channel.*"),
    ("api_key", "http_api.key"),
    ("api_insecure", "http_api.insecure"),
    ("api_error_mode", "http_api.error_mode"),
    ("grpc_api_*", "grpc_api.*"),
    ("allowed_origins", "client.allowed_origins"),
    (
        "allow_anonymous_connect_without_token",
        "client.allow_anonymous_connect_without_token",
    ),
    ("token_*", "client.token.*"),
    ("client_*", "client.*"),
    (
        "publish",
        "channel.without_namespace.allow_publish_for_client",
    ),
    (
        "allow_publish_for_*",
        "channel.without_namespace.allow_publish_for_*",
    ),
    (
        "allow_subscribe_for_*",
        "channel.without_namespace.allow_subscribe_for_*",
    ),
    (
        "allow_presence_for_*",
        "channel.without_namespace.allow_presence_for_*",
    ),
    (
        "allow_history_for_*",
        "channel.without_namespace.allow_history_for_*",
    ),
    (
        "allow_user_limited_channels",
        "channel.without_namespace.allow_user_limited_channels",
    ),
    ("presence", "channel.without_namespace.presence"),
    ("join_leave", "channel.without_namespace.join_leave"),
    ("force_*", "channel.without_namespace.force_*"),
    ("history_size", "channel.without_namespace.history_size"),
    ("history_ttl", "channel.without_namespace.history_ttl"),
    ("address", "http_server.address"),
    ("port", "http_server.port"),
    ("internal_address", "http_server.internal_address"),
    ("internal_port", "http_server.internal_port"),
    ("redis_*", "engine.redis.*"),
    ("admin_*", "admin.*"),
    ("log_level", "log.level"),
    ("log_file", "log.file"),
    ("secret", "client.token.hmac_secret_key"),
];

/// Old keys within a namespace or a proxy.
const OLD_SPACE: &[(&str, &str)] = &[
    ("proxy_subscribe", "subscribe_proxy_enabled"),
    ("proxy_publish", "publish_proxy_enabled"),
    ("proxy_sub_refresh", "sub_refresh_proxy_enabled"),
    ("proxy_subscribe_stream", "subscribe_stream_proxy_enabled"),
    (
        "proxy_subscribe_stream_bidirectional",
        "subscribe_stream_proxy_bidirectional",
    ),
    ("publish", "allow_publish_for_client"),
    ("anonymous", "allow_subscribe_for_anonymous"),
    ("subscribe_to_publish", "allow_publish_for_subscriber"),
    ("recover", "force_recovery"),
    ("position", "force_positioning"),
];
const OLD_PROXY: &[(&str, &str)] = &[
    ("static_http_headers", "http.static_headers"),
    (
        "grpc_cert_file",
        "grpc.tls.enabled and grpc.tls.server_ca_pem",
    ),
    ("grpc_tls", "grpc.tls"),
    ("grpc_credentials_*", "grpc.credentials_*"),
    ("grpc_compression", "grpc.compression"),
    ("status_code_transforms", "http.status_to_code_transforms"),
];

const TOP: &str = "http_server log engine broker presence_manager map_broker controller shared_poll \
    client channel rpc proxies http_api grpc_api consumers websocket sse http_stream webtransport \
    uni_sse uni_http_stream uni_websocket uni_grpc emulation admin prometheus health swagger debug \
    init opentelemetry graphite usage_stats node shutdown pid_file enable_unreleased_features";
const CLIENT: &str = "proxy allowed_origins token subscription_token \
    allow_anonymous_connect_without_token disallow_anonymous_connection_tokens ping_interval \
    pong_timeout expired_close_delay expired_sub_close_delay stale_close_delay channel_limit \
    queue_max_size presence_update_interval concurrency channel_position_check_delay \
    channel_position_max_time_lag connection_limit user_connection_limit connection_rate_limit \
    connect_include_server_time history_max_publication_limit recovery_max_publication_limit \
    insecure_skip_token_signature_verify user_id_http_header insecure \
    subscribe_to_user_personal_channel connect_code_to_unidirectional_disconnect";
const CHANNEL: &str = "proxy without_namespace namespaces history_meta_ttl publication_data_format \
    max_length private_prefix namespace_boundary user_boundary user_separator";
const SPACE: &str = "name presence join_leave force_push_join_leave \
    map_clients_presence_channel_prefix map_users_presence_channel_prefix history_size history_ttl \
    history_meta_ttl force_positioning allow_positioning force_recovery allow_recovery \
    force_recovery_mode auto_cache_recover allowed_delta_types allow_tags_filter delta_publish \
    allow_subscribe_for_anonymous allow_subscribe_for_client allow_publish_for_anonymous \
    allow_publish_for_subscriber allow_publish_for_client allow_presence_for_anonymous \
    allow_presence_for_subscriber allow_presence_for_client allow_history_for_anonymous \
    allow_history_for_subscriber allow_history_for_client allow_user_limited_channels channel_regex \
    publication_data_format subscribe_proxy_enabled subscribe_proxy_name publish_proxy_enabled \
    publish_proxy_name sub_refresh_proxy_enabled sub_refresh_proxy_name \
    subscribe_stream_proxy_enabled subscribe_stream_proxy_name subscribe_stream_proxy_bidirectional \
    subscription_type map shared_poll";
const MAP: &str = "mode key_ttl stream_size stream_ttl meta_ttl remove_client_on_unsubscribe \
    client_key allow_publish_for_client allow_publish_for_subscriber allow_publish_for_anonymous \
    allow_remove_for_client allow_remove_for_subscriber allow_remove_for_anonymous \
    publish_proxy_enabled publish_proxy_name remove_proxy_enabled remove_proxy_name \
    default_page_size min_page_size max_page_size live_transition_max_publication_limit \
    subscribe_catch_up_timeout";
const POLL: &str = "proxy_name refresh_interval refresh_batch_size max_keys_per_connection mode \
    channel_shutdown_delay track_expired_extra_delay publish_enabled";
const RPC: &str = "proxy without_namespace namespaces ping namespace_boundary";
const RPC_SPACE: &str = "name proxy_enabled proxy_name";
const PROXY: &str = "name enabled endpoint timeout http_headers grpc_metadata emulated_headers \
    binary_encoding include_connection_meta http grpc";
const PROXY_HTTP: &str = "tls static_headers status_to_code_transforms";
const PROXY_GRPC: &str = "tls credentials_key credentials_value compression static_metadata";
const TLS: &str =
    "enabled cert_pem key_pem server_ca_pem client_ca_pem insecure_skip_verify server_name";
const EVENTS: &str = "subscribe publish sub_refresh subscribe_stream map_publish map_remove \
    shared_poll_refresh cache_empty state";
const HTTP_API: &str = "disabled handler_prefix key error_mode external insecure";
const GRPC_API: &str =
    "enabled error_mode address port key tls reflection max_receive_message_size";
const HTTP_SERVER: &str = "address port internal_address internal_port tls tls_autocert tls_external \
    internal_tls http3 h2c_external";
/// What is unknown, over the whole file.
pub(super) fn look(root: &Value) -> Vec<Finding> {
    let mut seen = Seen::default();
    seen.object(root, "", TOP, OLD);
    seen.below(root, "client", CLIENT, &[]);
    seen.below(root, "client.proxy", "connect refresh", &[]);
    seen.below(root, "channel", CHANNEL, &[]);
    seen.below(root, "channel.proxy", EVENTS, &[]);
    seen.below(root, "rpc", RPC, &[]);
    seen.below(root, "http_api", HTTP_API, &[]);
    seen.below(root, "grpc_api", GRPC_API, &[]);
    seen.below(root, "http_server", HTTP_SERVER, &[]);
    let events = EVENTS
        .split_whitespace()
        .map(|event| format!("channel.proxy.{event}"));
    let alone = ["client.proxy.connect", "client.proxy.refresh", "rpc.proxy"];
    for path in events.chain(alone.map(str::to_owned)) {
        if let Some(object) = at(root, &path) {
            seen.proxy(object, &path);
        }
    }
    let named = at(root, "proxies").and_then(Value::as_array);
    for object in named.into_iter().flatten() {
        let name = super::model::text(object, "name").unwrap_or_default();
        seen.proxy(object, &format!("proxies[{name}]"));
    }
    for (place, space) in super::model::spaces(root, "channel") {
        seen.object(space, &place, SPACE, OLD_SPACE);
        seen.below_at(space, "map", &place, MAP);
        seen.below_at(space, "shared_poll", &place, POLL);
    }
    for (place, space) in super::model::spaces(root, "rpc") {
        seen.object(space, &place, RPC_SPACE, OLD_SPACE);
    }
    seen.findings
}

#[derive(Debug, Default)]
struct Seen {
    findings: Vec<Finding>,
}

impl Seen {
    fn proxy(&mut self, object: &Value, place: &str) {
        self.object(object, place, PROXY, OLD_PROXY);
        self.below_at(object, "http", place, PROXY_HTTP);
        self.below_at(object, "grpc", place, PROXY_GRPC);
        self.below_at(object, "grpc.tls", place, TLS);
        self.below_at(object, "http.tls", place, TLS);
    }

    fn below(&mut self, root: &Value, path: &str, known: &str, old: &[(&str, &str)]) {
        if let Some(object) = at(root, path) {
            self.object(object, path, known, old);
        }
    }

    fn below_at(&mut self, root: &Value, path: &str, place: &str, known: &str) {
        if let Some(object) = at(root, path) {
            self.object(object, &format!("{place}.{path}"), known, &[]);
        }
    }

    /// Looks at the keys of one object.
    fn object(&mut self, object: &Value, place: &str, known: &str, old: &[(&str, &str)]) {
        let top = place.is_empty();
        for (key, value) in object.as_object().into_iter().flatten() {
            let full = if top {
                key.clone()
            } else {
                format!("{place}.{key}")
            };
            // `grpc_api: true` is of version 3 to 5.
            if top && key == "grpc_api" && value.is_boolean() {
                self.old(&full, "grpc_api.enabled");
            } else if known.split_whitespace().any(|it| it == key) {
            } else if let Some(new) = old.iter().find_map(|(old, new)| renamed(key, old, new)) {
                self.old(&full, &new);
            } else {
                self.unknown(&full, key, known);
            }
        }
    }

    fn old(&mut self, key: &str, new: &str) {
        let found = "is a key of Centrifugo 3 to 5, which version 6 ignores with a warning";
        let fix = format!("it is now {new}");
        self.findings
            .push(Finding::error("file.old-key", key, found, fix));
    }

    fn unknown(&mut self, full: &str, key: &str, known: &str) {
        let found = "is no key of Centrifugo 6.9 (PRO has more), which ignores it with a warning";
        let near = known.split_whitespace().filter(|it| distance(it, key) <= 2);
        let fix = match near.min_by_key(|it| distance(it, key)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                "correct or remove it; `centrifugo checkconfig -s` names all of them".to_owned()
            }
        };
        self.findings
            .push(Finding::warn("file.unknown-key", full, found, fix));
    }
}

/// The new place of a key, if the pattern is about it.
fn renamed(key: &str, old: &str, new: &str) -> Option<String> {
    match old.strip_suffix('*') {
        Some(prefix) => {
            let rest = key.strip_prefix(prefix).filter(|rest| !rest.is_empty())?;
            Some(new.replacen('*', rest, 1))
        }
        None => (key == old).then(|| new.to_owned()),
    }
}

/// Letters to insert, remove or change between two keys.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut corner = row[0];
        row[0] = line + 1;
        for (column, theirs) in other.iter().enumerate() {
            let change = corner + usize::from(letter != *theirs);
            corner = row[column + 1];
            row[column + 1] = change.min(corner + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_keys_keep_their_last_part() {
        let new = |key: &str| OLD.iter().find_map(|(old, new)| renamed(key, old, new));
        for (key, place) in [
            (
                "proxy_sub_refresh_timeout",
                "channel.proxy.sub_refresh.timeout",
            ),
            (
                "proxy_subscribe_stream_endpoint",
                "channel.proxy.subscribe_stream.endpoint",
            ),
            (
                "proxy_subscribe_endpoint",
                "channel.proxy.subscribe.endpoint",
            ),
            ("token_hmac_secret_key", "client.token.hmac_secret_key"),
            ("grpc_api_key", "grpc_api.key"),
            ("client_concurrency", "client.concurrency"),
        ] {
            assert_eq!(new(key).as_deref(), Some(place), "{key}");
        }
        assert_eq!(distance("timeout", "timeuot"), 2);
        assert_eq!(distance("a", "abc"), 2);
    }
}
