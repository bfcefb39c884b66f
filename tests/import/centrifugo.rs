//! Files of Centrifugo before version 6: where their keys find their places, and that a real one takes
//! what comes out.

use crate::{leaves, of_centrifugo, run};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

const FLAT: &str = r#"{
  "token_hmac_secret_key": "s3cret", "api_key": "k", "admin": true, "admin_password": "p",
  "admin_secret": "q", "allowed_origins": ["http://localhost:3000"], "port": 8001,
  "log_level": "debug", "engine": "redis", "redis_address": "127.0.0.1:6379", "redis_prefix": "x",
  "grpc_api": true, "grpc_api_port": 10009, "grpc_api_key": "gk", "client_channel_limit": 64,
  "ping_interval": "20s", "uni_sse": true, "health": true, "websocket_compression": true,
  "proxy_connect_endpoint": "grpc://127.0.0.1:10001", "proxy_connect_timeout": "2s",
  "proxy_refresh_endpoint": "grpc://127.0.0.1:10001",
  "proxy_subscribe_endpoint": "grpc://127.0.0.1:10001",
  "proxy_publish_endpoint": "grpc://127.0.0.1:10001",
  "proxy_sub_refresh_endpoint": "grpc://127.0.0.1:10001",
  "proxy_rpc_endpoint": "grpc://127.0.0.1:10001", "proxy_rpc_timeout": "3s",
  "proxy_http_headers": ["Cookie"], "proxy_include_connection_meta": true,
  "proxy_grpc_credentials_key": "x-k", "proxy_grpc_credentials_value": "v",
  "presence": true, "history_size": 10, "history_ttl": "300s", "proxy_subscribe": true,
  "allow_publish_for_subscriber": true, "user_subscribe_to_personal": true,
  "rpc_namespaces": [{"name": "cart"}],
  "namespaces": [{"name": "chat", "proxy_subscribe": true, "proxy_publish": true, "join_leave": true,
    "force_recovery": true, "history_size": 5, "history_ttl": "60s", "proxy_sub_refresh": true}]
}"#;

const GRANULAR: &str = r#"
granular_proxy_mode: true
proxies:
  - name: one
    endpoint: grpc://127.0.0.1:10002
    timeout: 2s
    grpc_credentials_key: x-k
    grpc_credentials_value: v
    static_http_headers: {x-a: b}
connect_proxy_name: one
rpc_proxy_name: one
subscribe_proxy_name: one
token_hmac_secret_key: abc
namespaces:
  - name: chat
    publish_proxy_name: one
rpc_namespaces:
  - name: cart
    rpc_proxy_name: one
"#;

#[test]
fn flat_keys_find_their_places_in_version_6() {
    let made = of_centrifugo(FLAT);
    let root = made.json();
    for (pointer, value) in [
        ("/client/token/hmac_secret_key", json!("s3cret")),
        ("/http_api/key", json!("k")),
        ("/admin/enabled", json!(true)),
        ("/admin/password", json!("p")),
        ("/client/allowed_origins/0", json!("http://localhost:3000")),
        ("/http_server/port", json!(8001)),
        ("/engine/type", json!("redis")),
        ("/engine/redis/address", json!("127.0.0.1:6379")),
        ("/grpc_api/enabled", json!(true)),
        ("/grpc_api/port", json!(10009)),
        ("/client/channel_limit", json!(64)),
        ("/client/ping_interval", json!("20s")),
        ("/uni_sse/enabled", json!(true)),
        ("/client/proxy/connect/enabled", json!(true)),
        ("/client/proxy/connect/timeout", json!("2s")),
        (
            "/channel/proxy/subscribe/grpc/credentials_key",
            json!("x-k"),
        ),
        ("/channel/proxy/sub_refresh/http_headers/0", json!("Cookie")),
        ("/rpc/proxy/timeout", json!("3s")),
        ("/rpc/without_namespace/proxy_enabled", json!(true)),
        ("/rpc/namespaces/0/proxy_enabled", json!(true)),
        ("/channel/without_namespace/presence", json!(true)),
        (
            "/channel/without_namespace/subscribe_proxy_enabled",
            json!(true),
        ),
        ("/channel/namespaces/0/publish_proxy_enabled", json!(true)),
        (
            "/channel/namespaces/0/sub_refresh_proxy_enabled",
            json!(true),
        ),
    ] {
        assert_eq!(root.pointer(pointer), Some(&value), "{pointer}\n{root:#}");
    }
    made.expect("note", "proxies", "grpc://127.0.0.1:10001");
    let left = made.remarks.iter().find(|it| it["weight"] == "left");
    assert_eq!(left, None);
}

#[test]
fn named_proxies_keep_their_names_and_get_their_switches() {
    let made = run("centrifugo", "config.yaml", GRANULAR, None).unwrap();
    let root = made.json();
    for (pointer, value) in [
        ("/proxies/0/name", json!("one")),
        ("/proxies/0/grpc/credentials_key", json!("x-k")),
        ("/proxies/0/http/static_headers/x-a", json!("b")),
        (
            "/client/proxy/connect/endpoint",
            json!("grpc://127.0.0.1:10002"),
        ),
        ("/client/proxy/connect/enabled", json!(true)),
        ("/rpc/without_namespace/proxy_name", json!("one")),
        ("/rpc/namespaces/0/proxy_enabled", json!(true)),
        (
            "/channel/without_namespace/subscribe_proxy_name",
            json!("one"),
        ),
        (
            "/channel/without_namespace/subscribe_proxy_enabled",
            json!(true),
        ),
        ("/channel/namespaces/0/publish_proxy_enabled", json!(true)),
    ] {
        assert_eq!(root.pointer(pointer), Some(&value), "{pointer}\n{root:#}");
    }
}

#[test]
fn a_file_of_version_6_passes_through() {
    let text = "{\"client\": {\"allowed_origins\": [\"http://a\"]},\n \"grpc_api\": {\"enabled\": true, \"key\": \"k\"}}";
    let made = of_centrifugo(text);
    assert_eq!(made.config, text);
    made.expect("note", "version", "as it was");
}

/// The real program, or one loud line.
fn real(what: &str) -> Option<std::ffi::OsString> {
    let named = std::env::var_os("CENTRIFUGO_BIN").unwrap_or_else(|| "centrifugo".into());
    if Command::new(&named).arg("version").output().is_ok() {
        return Some(named);
    }
    let line = format!("SKIPPED: {what}: no centrifugo on PATH or in CENTRIFUGO_BIN\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    None
}

#[test]
fn a_real_centrifugo_takes_the_files_without_a_warning() {
    let Some(centrifugo) = real("imported files and a real Centrifugo") else {
        return;
    };
    let toml = "token_hmac_secret_key = \"a\"\nproxy_connect_endpoint = \"grpc://127.0.0.1:1\"\n\
                proxy_connect_timeout = 2\nbroker = \"nats\"\nnats_url = \"nats://localhost:4222\"\n\
                tls_external = false\nsecret = \"b\"\n";
    for (name, text) in [("a.json", FLAT), ("b.yaml", GRANULAR), ("c.toml", toml)] {
        let made = run("centrifugo", name, text, None).unwrap();
        let file = made.dir.path().join("v6.json");
        fs::write(&file, &made.config).unwrap();
        let output = Command::new(&centrifugo)
            .args(["checkconfig", "-s", "-c"])
            .arg(&file)
            .output()
            .unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "{name}: {said}\n{}", made.config);
        let warns = ["WRN", "warn", "unknown"]
            .iter()
            .any(|it| said.contains(it));
        assert!(!warns, "{name}: {said}");
    }
}

#[test]
fn the_list_of_keys_is_that_of_a_real_centrifugo() {
    let Some(centrifugo) = real("the keys of version 6") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("defaults.json");
    let mut command = Command::new(centrifugo);
    command.args(["defaultconfig", "-c"]).arg(&file);
    assert!(command.output().unwrap().status.success());
    let defaults = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let mut theirs = Vec::new();
    leaves("", &defaults, &mut theirs);
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/import/v6_keys.txt");
    let list = fs::read_to_string(list).unwrap();
    let unknown: Vec<_> = theirs
        .iter()
        .filter(|key| !list.lines().any(|it| it == *key))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
