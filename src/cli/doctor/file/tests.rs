//! Each mistake and what is said of it; and that what we print ourselves has none.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::{LoadOptions, load};
use crate::config_routes;
use crate::router::Router;
use serde_json::json;
use std::io::Write;

/// Settings of ours for a test: the shipped file and some keys.
fn ours(sets: &[&str]) -> (Config, Compiled) {
    let mut options = LoadOptions::new([]);
    options.file = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("node.toml"));
    options.sets = sets.iter().map(|set| (*set).to_owned()).collect();
    let config = load(&options).unwrap().config;
    let router = Router::new().with_config_routes().with_state(());
    let router = config_routes::assemble(&config, router).unwrap();
    let compiled = Compiled::try_new(router, ":").unwrap();
    (config, compiled)
}

/// A file without a mistake for the shipped routes.
fn fine() -> Value {
    let proxy = json!({
        "endpoint": "grpc://127.0.0.1:10001", "timeout": "3s", "include_connection_meta": true,
    });
    let mut client = proxy.clone();
    client["enabled"] = json!(true);
    json!({
        "client": {
            "allowed_origins": ["http://localhost:3000"],
            "proxy": { "connect": client, "refresh": client },
        },
        "channel": {
            "proxy": {
                "subscribe": proxy, "publish": proxy, "sub_refresh": proxy, "subscribe_stream": proxy,
            },
            "without_namespace": { "publish_proxy_enabled": true, "sub_refresh_proxy_enabled": true },
            "namespaces": [
                { "name": "chat", "subscribe_proxy_enabled": true, "publish_proxy_enabled": true,
                  "sub_refresh_proxy_enabled": true },
                { "name": "feed", "subscribe_stream_proxy_enabled": true },
            ],
        },
        "rpc": { "proxy": proxy, "without_namespace": { "proxy_enabled": true } },
        "grpc_api": { "enabled": true, "address": "127.0.0.1" },
    })
}

fn set(root: &mut Value, path: &str, value: Value) {
    let mut at = root;
    for key in path.split('.') {
        at = match key.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[key],
        };
    }
    *at = value;
}

fn judged(root: &Value, sets: &[&str]) -> Vec<Finding> {
    let (config, compiled) = ours(sets);
    let scope = Scope {
        root,
        config: &config,
        compiled: &compiled,
        own: None,
    };
    judge(&scope)
}

fn bad(findings: &[Finding]) -> Vec<&Finding> {
    let bad = |it: &&Finding| it.severity >= Severity::Warn;
    findings.iter().filter(bad).collect()
}

const AUTH: [&str; 2] = ["listen.auth.metadata=x-key", "listen.auth.value=sesame"];

#[test]
fn a_file_without_a_mistake_has_neither_errors_nor_warnings() {
    let findings = judged(&fine(), &[]);
    assert_eq!(bad(&findings), Vec::<&Finding>::new());
}

#[test]
fn each_mistake_has_its_finding_where_it_stands_and_a_fix() {
    use Severity::{Error, Note, Warn};
    let connect = "client.proxy.connect";
    let with = |key: &str| format!("{connect}.{key}");
    let cases: Vec<(String, Value, &[&str], Severity, &str)> = vec![
        (
            "proxy_connect_endpoint".into(),
            json!("grpc://h:1"),
            &[],
            Error,
            "file.old-key",
        ),
        (
            "allowed_origins".into(),
            json!(["*"]),
            &[],
            Error,
            "file.old-key",
        ),
        ("grpc_api".into(), json!(true), &[], Error, "file.old-key"),
        ("namespaces".into(), json!([]), &[], Error, "file.old-key"),
        (
            "channel.namespaces.0.publish".into(),
            json!(true),
            &[],
            Error,
            "file.old-key",
        ),
        (
            with("grpc_credentials_key"),
            json!("k"),
            &[],
            Error,
            "file.old-key",
        ),
        (with("timeuot"), json!("1s"), &[], Warn, "file.unknown-key"),
        ("chanel".into(), json!({}), &[], Warn, "file.unknown-key"),
        (with("timeout"), json!("5s"), &[], Warn, "file.timeout-long"),
        (
            with("timeout"),
            json!("10s"),
            &[],
            Error,
            "file.timeout-long",
        ),
        (
            "rpc.proxy.timeout".into(),
            json!("10s"),
            &[],
            Warn,
            "file.timeout-long",
        ),
        (
            "rpc.proxy.timeout".into(),
            json!("200ms"),
            &[],
            Note,
            "file.timeout-short",
        ),
        (
            with("timeout"),
            json!("2d"),
            &[],
            Error,
            "file.timeout-form",
        ),
        (with("timeout"), json!(5), &[], Error, "file.timeout-form"),
        (
            with("endpoint"),
            json!(""),
            &[],
            Error,
            "file.endpoint-missing",
        ),
        (
            "rpc.proxy.endpoint".into(),
            json!(""),
            &[],
            Error,
            "file.endpoint-missing",
        ),
        (
            "channel.namespaces.0.publish_proxy_name".into(),
            json!("x2"),
            &[],
            Error,
            "file.endpoint-missing",
        ),
        (
            with("endpoint"),
            json!("http://127.0.0.1:10001"),
            &[],
            Error,
            "file.endpoint-scheme",
        ),
        (
            with("endpoint"),
            json!("grpcs://127.0.0.1:10001"),
            &[],
            Error,
            "file.endpoint-scheme",
        ),
        (
            with("endpoint"),
            json!("tcp://127.0.0.1:10001"),
            &[],
            Error,
            "file.endpoint-scheme",
        ),
        (
            with("endpoint"),
            json!("grpc://router"),
            &[],
            Error,
            "file.endpoint-address",
        ),
        (
            with("endpoint"),
            json!("grpc://router:x"),
            &[],
            Error,
            "file.endpoint-address",
        ),
        (
            with("endpoint"),
            json!("grpc://127.0.0.1c:10001"),
            &[],
            Error,
            "file.endpoint-address",
        ),
        (
            with("endpoint"),
            json!("grpc://127.0.0.1:9"),
            &[],
            Warn,
            "file.endpoint-elsewhere",
        ),
        (with("enabled"), json!(false), &[], Warn, "file.proxy-off"),
        (
            "channel.proxy.map_publish".into(),
            json!({ "endpoint": "h:1" }),
            &[],
            Note,
            "file.proxy-unused",
        ),
        (connect.into(), json!({}), &[], Error, "file.nobody"),
        (connect.into(), json!({}), &[], Warn, "file.route-idle"),
        (
            "client.allowed_origins".into(),
            json!(["*"]),
            &[],
            Warn,
            "file.origins",
        ),
        (
            "client.allowed_origins".into(),
            json!([]),
            &[],
            Warn,
            "file.origins",
        ),
        (
            "client.insecure".into(),
            json!(true),
            &[],
            Error,
            "file.insecure",
        ),
        (
            "http_api".into(),
            json!({ "insecure": true }),
            &[],
            Error,
            "file.insecure",
        ),
        (
            "client.allow_anonymous_connect_without_token".into(),
            json!(true),
            &[],
            Warn,
            "file.insecure",
        ),
        (
            "client.token".into(),
            json!({ "hmac_secret_key": "s" }),
            &[],
            Note,
            "file.tokens",
        ),
        (
            "client.concurrency".into(),
            json!(8),
            &[],
            Note,
            "file.concurrency",
        ),
        (
            "grpc_api.enabled".into(),
            json!(false),
            &[],
            Warn,
            "file.api-off",
        ),
        (
            "grpc_api.address".into(),
            json!("0.0.0.0"),
            &[],
            Error,
            "file.api-key",
        ),
        (
            "grpc_api.key".into(),
            json!("theirs"),
            &[],
            Error,
            "file.api-key",
        ),
        (
            "grpc_api.key".into(),
            json!("theirs"),
            &["centrifugo.key=ours"],
            Error,
            "file.api-key",
        ),
        (
            "grpc_api.address".into(),
            json!(""),
            &["centrifugo.key=ours"],
            Note,
            "file.api-key",
        ),
        (
            "grpc_api.port".into(),
            json!(10005),
            &[],
            Warn,
            "file.api-port",
        ),
        (
            "grpc_api.tls".into(),
            json!({ "enabled": true }),
            &[],
            Error,
            "file.api-tls",
        ),
        (
            "grpc_api.max_receive_message_size".into(),
            json!(1024),
            &[],
            Warn,
            "file.api-size",
        ),
        (
            "http_server".into(),
            json!({ "port": 8001 }),
            &[],
            Note,
            "file.client-port",
        ),
        (
            "http_server".into(),
            json!({ "tls": { "enabled": true } }),
            &[],
            Warn,
            "file.client-tls",
        ),
        (
            "channel.without_namespace.publish_proxy_enabled".into(),
            json!(false),
            &[],
            Note,
            "file.route-idle",
        ),
        (
            with("grpc.credentials_value"),
            json!("sesame"),
            &AUTH,
            Error,
            "file.credential",
        ),
        (
            with("grpc"),
            json!({ "credentials_key": "X-Key", "credentials_value": "no" }),
            &AUTH,
            Error,
            "file.credential",
        ),
        (
            with("grpc.tls.enabled"),
            json!(true),
            &[],
            Error,
            "file.tls",
        ),
        (
            with("grpc.tls.insecure_skip_verify"),
            json!(true),
            &[],
            Warn,
            "file.tls-unverified",
        ),
        (
            with("binary_encoding"),
            json!(true),
            &[],
            Note,
            "file.binary",
        ),
        (
            "rpc.proxy.include_connection_meta".into(),
            json!(false),
            &[],
            Note,
            "file.meta",
        ),
        (
            "channel.namespaces".into(),
            json!([]),
            &[],
            Error,
            "file.namespace-missing",
        ),
        (
            "channel.namespaces.0.publish_proxy_enabled".into(),
            json!(false),
            &[],
            Warn,
            "file.route-idle",
        ),
        (
            "channel.namespaces.1.subscribe_stream_proxy_enabled".into(),
            json!(false),
            &[],
            Warn,
            "file.route-idle",
        ),
        (
            "channel.namespaces.1.subscribe_stream_proxy_bidirectional".into(),
            json!(true),
            &[],
            Warn,
            "file.route-idle",
        ),
        (
            "channel.namespaces.1.subscribe_proxy_enabled".into(),
            json!(true),
            &[],
            Error,
            "file.stream-conflict",
        ),
        (
            "channel.namespaces.0.subscription_type".into(),
            json!("map"),
            &[],
            Error,
            "file.map-subscribe",
        ),
        (
            "rpc.without_namespace.proxy_enabled".into(),
            json!(false),
            &[],
            Warn,
            "file.route-idle",
        ),
        (
            "channel.namespace_boundary".into(),
            json!("/"),
            &[],
            Error,
            "file.boundary",
        ),
    ];
    for (path, value, sets, severity, id) in cases {
        let mut root = fine();
        set(&mut root, &path, value.clone());
        let findings = judged(&root, sets);
        let found = findings
            .iter()
            .find(|it| it.id == id && it.severity == severity);
        let found = found.unwrap_or_else(|| panic!("{path} = {value}: no {id} in {findings:#?}"));
        assert!(
            !found.looked_at.is_empty() && !found.found.is_empty(),
            "{found:?}"
        );
        let needs_fix = severity >= Severity::Warn;
        assert!(found.fix.is_some() || !needs_fix, "{found:?}");
    }
}

#[test]
fn a_credential_is_right_by_either_way_and_left_to_the_environment_with_its_name() {
    let mut root = fine();
    let right = json!({ "credentials_key": "X-Key", "credentials_value": "sesame" });
    let fixed = json!({ "static_metadata": { "x-key": "sesame" } });
    for path in [
        "client.proxy.connect",
        "client.proxy.refresh",
        "channel.proxy.subscribe",
        "channel.proxy.publish",
        "channel.proxy.sub_refresh",
        "channel.proxy.subscribe_stream",
    ] {
        set(&mut root, &format!("{path}.grpc"), right.clone());
    }
    set(&mut root, "rpc.proxy.grpc", fixed);
    assert_eq!(bad(&judged(&root, &AUTH)), Vec::<&Finding>::new());
    set(
        &mut root,
        "rpc.proxy.grpc",
        json!({ "credentials_key": "x-key" }),
    );
    let findings = judged(&root, &AUTH);
    assert_eq!(bad(&findings), Vec::<&Finding>::new());
    let note = findings
        .iter()
        .find(|it| it.id == "file.credential")
        .unwrap();
    assert!(
        note.fix
            .as_ref()
            .unwrap()
            .contains("CENTRIFUGO_RPC_PROXY_GRPC_CREDENTIALS_VALUE")
    );
    set(&mut root, "rpc.proxy.http_headers", json!(["X-KEY"]));
    let findings = judged(&root, &AUTH);
    assert_eq!(bad(&findings)[0].id, "file.credential-forwarded");
}

#[test]
fn no_value_that_may_be_a_secret_is_told() {
    let mut root = fine();
    for path in [
        "client.proxy.connect.grpc.credentials_value",
        "grpc_api.key",
        "client.token.hmac_secret_key",
        "api_key",
        "token_hmac_secret_key",
        "client.proxy.connect.http.static_headers.authorization",
        "http_api.key",
        "secrett",
        "client.proxy.connect.grpc.static_metadata.x-key",
    ] {
        set(&mut root, path, json!("hunter2"));
    }
    set(
        &mut root,
        "rpc.proxy.endpoint",
        json!("http://me:hunter2@h:1/x"),
    );
    set(
        &mut root,
        "channel.proxy.publish.endpoint",
        json!("grpc://me:hunter2@h:1/x"),
    );
    let findings = judged(&root, &AUTH);
    assert!(findings.len() > 10);
    let text = json!(findings).to_string();
    assert!(!text.contains("hunter2"), "{text}");
}

fn file(name: &str, text: &str) -> Vec<Finding> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let (config, compiled) = ours(&[]);
    look(&path, &config, &compiled, None)
}

#[test]
fn json_yaml_and_toml_are_read_and_case_does_not_matter() {
    let yaml = "Client:\n  allowed_origins: ['*']\n";
    let toml = "[client]\nAllowed_Origins = [\"*\"]\n";
    let json = r#"{ "client": { "ALLOWED_ORIGINS": ["*"] } }"#;
    for (name, text) in [
        ("c.yaml", yaml),
        ("c.yml", yaml),
        ("c.toml", toml),
        ("c.json", json),
    ] {
        let findings = file(name, text);
        let origins = findings.iter().find(|it| it.id == "file.origins").unwrap();
        assert!(origins.found.starts_with("is *"), "{name}: {origins:?}");
        assert_eq!(findings.last().unwrap().id, "file.environment");
    }
    let findings = file("c.json", &fine().to_string());
    assert_eq!(findings[0].id, "file.fine", "{findings:?}");
    assert!(
        findings[0].found.contains("connect, refresh"),
        "{findings:?}"
    );
}

#[test]
fn what_can_not_be_parsed_is_told_by_its_line_without_what_stands_there() {
    for (name, text) in [
        ("c.json", "{\n\"key\": \"hunter2\" // mine\n}"),
        ("c.yaml", "a: 1\nkey: \"hunter2\n"),
        ("c.toml", "a = 1\nkey = hunter2 hunter2\n"),
    ] {
        let findings = file(name, text);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].id, "file.syntax");
        assert!(findings[0].found.contains("line "), "{findings:?}");
        assert!(!findings[0].found.contains("hunter2"), "{findings:?}");
    }
    assert_eq!(file("c.conf", "")[0].id, "file.syntax");
    assert_eq!(file("c.json", "[]")[0].id, "file.syntax");
    let (config, compiled) = ours(&[]);
    let nowhere = look(Path::new("/nonexistent/c.json"), &config, &compiled, None);
    assert_eq!(nowhere[0].id, "file.read");
}
