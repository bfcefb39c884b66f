//! `import`: what a file of RoadRunner or of an old Centrifugo becomes, and what is said of the rest.
//! What comes out is given to `check-config` and to a real Centrifugo where that is possible.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

/// One import in a folder of its own.
struct Imported {
    dir: tempfile::TempDir,
    config: String,
    remarks: Vec<Value>,
}

impl Imported {
    /// The new `node.toml`.
    fn toml(&self) -> toml::Table {
        toml::from_str(&self.config).unwrap_or_else(|why| panic!("{why}:\n{}", self.config))
    }

    /// The new file of Centrifugo.
    fn json(&self) -> Value {
        serde_json::from_str(&self.config).unwrap()
    }

    /// Whether there is such a remark whose text holds the words.
    fn says(&self, weight: &str, key: &str, words: &str) -> bool {
        self.remarks.iter().any(|it| {
            it["weight"] == weight
                && it["key"] == key
                && it["text"].as_str().unwrap().contains(words)
        })
    }

    #[track_caller]
    fn expect(&self, weight: &str, key: &str, words: &str) {
        let found = self.says(weight, key, words);
        assert!(found, "no {weight} of {key}: {words}\n{:#?}", self.remarks);
    }
}

fn program(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_centripeta");
    Command::new(program).args(arguments).output().unwrap()
}

fn run(
    from: &str,
    name: &str,
    text: &str,
    other: Option<(&str, &str)>,
) -> Result<Imported, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(name);
    fs::write(&file, text).unwrap();
    let mut arguments = vec!["import".to_owned(), from.to_owned(), "--json".to_owned()];
    arguments.push(file.display().to_string());
    if let Some((name, text)) = other {
        let file = dir.path().join(name);
        fs::write(&file, text).unwrap();
        arguments.extend(["--with".to_owned(), file.display().to_string()]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = program(&arguments);
    if !output.status.success() {
        assert_eq!(output.status.code(), Some(1));
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    Ok(Imported {
        dir,
        config: said["config"].as_str().unwrap().to_owned(),
        remarks: said["remarks"].as_array().unwrap().clone(),
    })
}

fn roadrunner(text: &str) -> Imported {
    run("roadrunner", ".rr.yaml", text, None).unwrap()
}

fn centrifugo(text: &str) -> Imported {
    run("centrifugo", "config.json", text, None).unwrap()
}

/// What stands at a dotted path of a table.
fn at<'a>(table: &'a toml::Table, path: &str) -> Option<&'a toml::Value> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    rest.split('.')
        .filter(|part| !part.is_empty())
        .try_fold(table.get(first)?, |value, part| value.get(part))
}

const BOOKING: &str = "\
version: '3.0'
rpc:
  listen: tcp://0.0.0.0:6001
server:
  command: 'php app.php'
  relay: pipes
centrifuge:
  proxy_address: 'tcp://0.0.0.0:10001'
  grpc_api_address: 'centrifugo:10000'
  pool:
    num_workers: 2
";

/// The smallest file, to which a test adds.
fn small(more: &str) -> String {
    format!("version: \"3\"\nserver: {{command: php app.php}}\n{more}")
}

#[test]
fn a_file_shaped_like_spirals_becomes_a_node_with_one_pool() {
    let made = roadrunner(BOOKING);
    let table = made.toml();
    let folder = made.dir.path().display().to_string();
    for (path, value) in [
        ("listen.grpc", "0.0.0.0:10001"),
        ("rpc.listen", "tcp://127.0.0.1:6001"),
        ("handler.php.kind", "roadrunner"),
        ("handler.php.dir", folder.as_str()),
        ("limits.shutdown_grace", "30s"),
        ("log.format", "pretty"),
    ] {
        let found = at(&table, path).and_then(toml::Value::as_str);
        assert_eq!(found, Some(value), "{path}\n{}", made.config);
    }
    assert_eq!(
        at(&table, "listen.allow_open").unwrap().as_bool(),
        Some(true)
    );
    assert_eq!(
        at(&table, "handler.php.allow_empty").unwrap().as_bool(),
        Some(true)
    );
    assert_eq!(
        at(&table, "handler.php.pool.num_workers")
            .unwrap()
            .as_integer(),
        Some(2)
    );
    let command = at(&table, "handler.php.command").unwrap();
    assert_eq!(command, &toml::Value::from(vec!["php", "app.php"]));
    let api = at(&table, "centrifugo.api").unwrap();
    assert_eq!(api, &toml::Value::from(vec!["grpc://centrifugo:10000"]));
    let on = table["route"][0]["on"].as_array().unwrap();
    assert_eq!(on.len(), 6);
    assert_eq!(at(&table, "handler.php.pool.max_queue_size"), None);
    assert_eq!(at(&table, "rpc.fallback"), None);
    made.expect("warning", "centrifuge.proxy_address", "allow_open");
    made.expect("warning", "rpc.listen", "open beyond this machine");
    made.expect("note", "centrifuge.pool.supervisor.exec_ttl", "30s");
    made.expect("note", "centrifuge.pool.max_queue_size", "4096");
    made.expect("note", "sub_refresh", "SDK");
    let left = made.remarks.iter().find(|it| it["weight"] == "left");
    assert_eq!(left, None, "everything of it has a counterpart");
}

#[test]
fn check_config_takes_what_is_printed() {
    let everything = small(
        "centrifuge:\n  proxy_address: ':10001'\n  pool: {num_workers: 0, supervisor: {exec_ttl: 5s, ttl: 0s}}\n\
         metrics: {address: 0.0.0.0:2112}\nhttp: {address: 0.0.0.0:8080}\nrpc: {listen: 'tcp://127.0.0.1:6001'}\n\
         logs: {mode: production, level: warn}\n",
    );
    for text in [BOOKING, &everything, &small("centrifuge: {}\n")] {
        let made = roadrunner(text);
        let file = made.dir.path().join("node.toml");
        fs::write(&file, &made.config).unwrap();
        let checked = program(&["check-config", "--config", &file.display().to_string()]);
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        let errors: Vec<&str> = said
            .lines()
            .filter(|it| it.starts_with("error: "))
            .collect();
        let later = "not part of this version";
        if errors.iter().any(|error| error.contains(later)) {
            // Nothing else may be wrong with it.
            let others: Vec<_> = errors.iter().filter(|it| !it.contains(later)).collect();
            assert!(others.is_empty(), "{others:?}\n{}", made.config);
            let line =
                b"SKIPPED: check-config on imported files: no worker pools in this version\n";
            std::io::stderr().write_all(line).unwrap();
            continue;
        }
        assert!(checked.status.success(), "{said}\n{}", made.config);
    }
}

#[test]
fn w112_what_is_refused_is_told_with_its_cure() {
    for (text, why) in [
        ("version: 3\ncentrifuge: {}\n", "version: must be a string"),
        (
            "version: 3.0\ncentrifuge: {}\n",
            "version: must be a string",
        ),
        ("centrifuge: {}\n", "version: is missing"),
        ("version: \"3\"\n", "no `centrifuge` section"),
        (
            "version: \"3\"\ncentrifuge: {}\n",
            "server.command: is missing",
        ),
        ("a: [1, 2\nb: }", "can't be parsed"),
        ("just words", "holds no keys"),
    ] {
        let error = run("roadrunner", ".rr.yaml", text, None).err().unwrap();
        assert!(
            error.contains(why) && error.contains("help: "),
            "{text}: {error}"
        );
    }
    for good in ["\"3\"", "'3.0'", "\"2.7\""] {
        let text = format!("version: {good}\nserver.command: php a.php\ncentrifuge: {{}}\n");
        roadrunner(&text);
    }
    let missing = program(&["import", "roadrunner", "no-such-file.yaml"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no-such-file.yaml"));
    assert_eq!(program(&["import", "nginx", "x"]).status.code(), Some(2));
}

#[test]
fn addresses_are_kept_and_open_ones_are_told() {
    for (listen, written, open) in [
        ("", "127.0.0.1:30000", false),
        (
            "proxy_address: tcp://127.0.0.1:10001",
            "127.0.0.1:10001",
            false,
        ),
        ("proxy_address: 'localhost:10001'", "127.0.0.1:10001", false),
        ("proxy_address: 'tcp://:10001'", "0.0.0.0:10001", true),
        ("proxy_address: '10.0.0.5:1'", "10.0.0.5:1", true),
        (
            "proxy_address: unix:///run/c.sock",
            "unix:///run/c.sock",
            false,
        ),
        (
            "proxy_address: 'tcp://${HOST:-0.0.0.0}:9'",
            "${HOST:-0.0.0.0}:9",
            true,
        ),
        ("proxy_address: 'tcp://[::1]:9'", "[::1]:9", false),
    ] {
        let made = roadrunner(&small(&format!("centrifuge:\n  x: 1\n  {listen}\n")));
        let table = made.toml();
        assert_eq!(at(&table, "listen.grpc").unwrap().as_str(), Some(written));
        let is_open = at(&table, "listen.allow_open").is_some();
        assert_eq!(is_open, open, "{listen}");
        assert_eq!(
            made.says("warning", "centrifuge.proxy_address", "allow_open"),
            open
        );
    }
}

#[test]
fn metrics_or_else_status_become_the_admin_listener() {
    let of = |more: &str| roadrunner(&small(&format!("centrifuge: {{}}\n{more}")));
    let both = of("metrics: {address: '127.0.0.1:2112'}\nstatus: {address: '127.0.0.1:2114'}\n");
    assert_eq!(
        at(&both.toml(), "listen.admin").unwrap().as_str(),
        Some("127.0.0.1:2112")
    );
    both.expect("left", "status.address", "127.0.0.1:2114");
    let status = of("status: {address: '127.0.0.1:2114'}\n");
    assert_eq!(
        at(&status.toml(), "listen.admin").unwrap().as_str(),
        Some("127.0.0.1:2114")
    );
    let names = |made: &Imported| at(&made.toml(), "metrics.roadrunner").is_some();
    assert!(names(&both) && !names(&status), "dashboards go on");
    let neither = of("");
    assert_eq!(at(&neither.toml(), "listen.admin"), None);
    let open = of("metrics: {address: '0.0.0.0:2112'}\n");
    let table = open.toml();
    assert_eq!(
        at(&table, "listen.admin").unwrap().as_str(),
        Some("0.0.0.0:2112")
    );
    let token = at(&table, "listen.admin_token").unwrap().as_str().unwrap();
    let random = token.strip_prefix("${ROUTER_ADMIN_TOKEN:-").unwrap();
    assert_eq!(random.len(), 33, "32 digits and the brace: {token}");
    open.expect("warning", "metrics.address", "bearer token");
}

#[test]
fn a_roadrunner_that_stays_keeps_its_port_and_gets_our_unknown_calls() {
    let made = roadrunner(&small(
        "centrifuge: {}\nrpc: {listen: 'tcp://127.0.0.1:6001'}\nhttp: {address: '0.0.0.0:6002'}\njobs: {consume: [a]}\n",
    ));
    let table = made.toml();
    assert_eq!(
        at(&table, "rpc.listen").unwrap().as_str(),
        Some("tcp://127.0.0.1:6003")
    );
    assert_eq!(
        at(&table, "rpc.fallback").unwrap().as_str(),
        Some("tcp://127.0.0.1:6001")
    );
    made.expect("note", "rpc.listen", "tcp://127.0.0.1:6003");
    made.expect("left", "http", "RoadRunner");
    made.expect("left", "jobs", "RoadRunner");
    let none = roadrunner(&small("centrifuge: {}\n"));
    assert_eq!(
        at(&none.toml(), "rpc.listen").unwrap().as_str(),
        Some("off")
    );
}

#[test]
fn w113_variables_are_kept_and_quirks_are_told() {
    let made = roadrunner(
        "version: '3'\nserver:\n  command: [php, '${SCRIPT:-app.php}', $MODE]\n  env:\n    - plain: $A\n    \
         - both: '${A} and ${B:-d}'\n    - pass: 'pa$$word'\ncentrifuge: {}\n",
    );
    let table = made.toml();
    let command = at(&table, "handler.php.command").unwrap();
    assert_eq!(
        command,
        &toml::Value::from(vec!["php", "${SCRIPT:-app.php}", "${MODE}"])
    );
    let env = at(&table, "handler.php.env").unwrap();
    assert_eq!(env["PLAIN"].as_str(), Some("${A}"));
    assert_eq!(env["BOTH"].as_str(), Some("${A} and ${B:-d}"));
    assert_eq!(env["PASS"].as_str(), Some("paword"));
    made.expect("warning", "server.env.BOTH", "whole value empty");
    made.expect("warning", "server.env.PASS", "eats");
    made.expect("note", "server.env.PLAIN", "no default");
    assert!(!made.says("warning", "server.env.PLAIN", "whole value"));
}

#[test]
fn w114_dotted_and_mixed_case_keys_are_understood() {
    let made = roadrunner(
        "VERSION: '3'\nServer.Command: php a.php\nCentrifuge:\n  Pool.Num_Workers: 3\n  pool.supervisor.exec_ttl: 7s\n",
    );
    let table = made.toml();
    assert_eq!(
        at(&table, "handler.php.pool.num_workers")
            .unwrap()
            .as_integer(),
        Some(3)
    );
    let limit = at(&table, "handler.php.pool.supervisor.exec_ttl").unwrap();
    assert_eq!(limit.as_str(), Some("7s"));
    assert!(!made.says("note", "centrifuge.pool.supervisor.exec_ttl", ""));
}

#[test]
fn commands_are_split_as_roadrunner_does() {
    for (command, words, comma) in [
        ("'php  app.php'", vec!["php", "app.php"], false),
        ("[php app.php]", vec!["php", "app.php"], false),
        ("[php, 'my app.php']", vec!["php", "my app.php"], false),
        ("'php a.php --x=1,2'", vec!["php", "a.php", "--x=1,2"], true),
    ] {
        let made = roadrunner(&format!(
            "version: '3'\nserver:\n  command: {command}\ncentrifuge: {{}}\n"
        ));
        let found = at(&made.toml(), "handler.php.command").unwrap().clone();
        assert_eq!(found, toml::Value::from(words), "{command}");
        assert_eq!(made.says("warning", "server.command", "comma"), comma);
    }
    let both = roadrunner(&small("centrifuge: {pool: {command: php ws.php}}\n"));
    let found = at(&both.toml(), "handler.php.command").unwrap().clone();
    assert_eq!(found, toml::Value::from(vec!["php", "ws.php"]));
    both.expect("note", "centrifuge.pool.command", "other pools");
}

#[test]
fn w76_durations_are_go_s_and_bare_numbers_are_told() {
    for (said, written, told) in [
        ("1m30s", Some("1m30s"), false),
        ("1.5s", Some("1s500ms"), false),
        ("60", Some("1m"), true),
        ("60000000000", Some("1m"), true),
        ("0s", None, false),
        ("soon", None, false),
    ] {
        let text = small(&format!(
            "centrifuge:\n  pool:\n    allocate_timeout: {said}\n"
        ));
        let made = roadrunner(&text);
        let table = made.toml();
        let found = at(&table, "handler.php.pool.allocate_timeout").and_then(toml::Value::as_str);
        assert_eq!(found, written, "{said}");
        let key = "centrifuge.pool.allocate_timeout";
        assert_eq!(made.says("warning", key, "nanoseconds"), told, "{said}");
        assert_eq!(made.says("left", key, "no duration"), said == "soon");
    }
}

#[test]
fn w111_w115_every_key_without_a_counterpart_is_listed_by_its_path() {
    let made = roadrunner(&small(
        "centrifuge: {use_compressor: true, name: x, pool: {wrokers: 4, dynamic_allocator: {max_workers: 5}}}\n\
         logs: {output: /a, channels: {http: {level: info}}}\nstatus: {check_timeout: 3}\n\
         metrics: {collect: {a: {type: counter}}}\nendure: {print_graph: true, grace_period: 12s}\n\
         otel: {endpoint: 'c:4318'}\nenvfile: .env\ninclude: [b.yaml]\nmystery: {deep: {key: 1}}\n",
    ));
    for key in [
        "centrifuge.use_compressor",
        "centrifuge.name",
        "centrifuge.pool.wrokers",
        "logs.output",
        "logs.channels",
        "status.check_timeout",
        "metrics.collect",
        "endure.print_graph",
        "otel",
        "envfile",
        "include",
        "mystery.deep.key",
    ] {
        made.expect("left", key, "");
    }
    let table = made.toml();
    assert_eq!(
        at(&table, "limits.shutdown_grace").unwrap().as_str(),
        Some("12s")
    );
    made.expect(
        "note",
        "centrifuge.pool.dynamic_allocator",
        "allocate_timeout",
    );
    let extra = at(&table, "handler.php.pool.dynamic_allocator.max_workers").unwrap();
    assert_eq!(extra.as_integer(), Some(5));
    let otel = roadrunner(&small(
        "centrifuge: {}\notel: {client: grpc, endpoint: 'c:4317', insecure: true}\n",
    ));
    assert_eq!(
        at(&otel.toml(), "log.otlp").unwrap().as_str(),
        Some("http://c:4317")
    );
}

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
    let made = centrifugo(FLAT);
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
    let made = centrifugo(text);
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

/// The paths of a tree; empty objects and lists are leaves.
fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
    match value.as_object().filter(|object| !object.is_empty()) {
        Some(object) => object.iter().for_each(|(name, value)| {
            let path = format!("{path}.{name}");
            leaves(path.trim_start_matches('.'), value, found);
        }),
        None => found.push(path.to_owned()),
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

#[test]
fn mistakes_of_the_two_files_are_told_with_their_cure() {
    let config = r#"{
      // copied from a page
      "allowed_origins": ["*"], "publish": true, "proxy_connect": true,
      "grpc_api": true, "grpc_api_port": 10005, "grpc_api_address": "0.0.0.0",
      "proxy_connect_endpoint": "grpc://127.0.0.1:10002", "proxy_connect_timeout": "10s",
      "proxy_refresh_endpoint": "grpc://127.0.0.1c:10001",
      "proxy_subscribe_endpoint": "grpc://127.0.0.1:10001",
    }"#;
    let checks = [
        ("comments", "JSON has none"),
        ("allowed_origins", "cookies"),
        ("endpoint", "127.0.0.1c is a mistyped address"),
        ("endpoint", "not the port of centrifuge.proxy_address"),
        ("endpoint", "in containers 127.0.0.1 is Centrifugo itself"),
        ("proxy_connect_timeout", "5 s"),
        ("grpc_api", "no key"),
        ("centrifuge.grpc_api_address", "not the port"),
    ];
    let one = run(
        "centrifugo",
        "config.json",
        config,
        Some((".rr.yaml", BOOKING)),
    )
    .unwrap();
    let other = run(
        "roadrunner",
        ".rr.yaml",
        BOOKING,
        Some(("config.json", config)),
    )
    .unwrap();
    for (key, words) in checks {
        one.expect("warning", key, words);
        other.expect("warning", key, words);
    }
    one.expect("warning", "publish", "version 3 alone");
    one.expect("warning", "version", "ignores");
    one.expect("left", "proxy_connect", "never an option");
    one.expect("note", "sub_refresh", "no proxy");
    one.expect("note", "refresh", "expire_at");
    other.expect("warning", "rpc.listen", "open beyond");
    other.expect("note", "centrifuge.pool.supervisor.exec_ttl", "for ever");
}

#[test]
fn remarks_stand_on_stderr_and_the_file_alone_on_stdout() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(".rr.yaml");
    fs::write(&file, small("centrifuge: {}\nhttp: {}\nodd: 1\n")).unwrap();
    let output = program(&["import", "roadrunner", &file.display().to_string()]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(toml::from_str::<toml::Table>(&text).is_ok(), "{text}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("not taken over: http: "), "{said}");
    assert!(said.contains("not taken over: odd: "), "{said}");
}
