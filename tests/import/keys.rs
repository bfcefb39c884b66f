//! Every key that `.rr.yaml` may hold for us, in one file: each has its counterpart with its value, or
//! is listed.

use crate::{Imported, at, leaves, of_roadrunner, run, small};
use serde_json::Value;
use std::fs;

/// A file with every key; what is added here has to be in one of the lists below.
const EVERY: &str = r#"
version: "3"
server:
  command: php app.php
  relay: unix:///tmp/relay.sock
  relay_timeout: 60s
  user: nobody
  group: nogroup
  env: [{app_env: prod}]
  on_init:
    command: php warm.php --all
    exec_timeout: 20s
    exit_on_error: true
    user: nobody
    env: [{warm: "1"}]
centrifuge:
  proxy_address: unix:///tmp/proxy.sock
  grpc_api_address: tcp://centrifugo.internal:10000
  use_compressor: true
  name: app
  version: 1.2.3
  tls: {cert: tls.crt, key: tls.key}
  pool:
    command: php ws.php
    num_workers: 3
    max_jobs: 64
    max_queue_size: 100
    allocate_timeout: 11s
    destroy_timeout: 12s
    reset_timeout: 13s
    stream_timeout: 14s
    debug: false
    supervisor: {watch_tick: 2s, ttl: 1h, idle_ttl: 5m, exec_ttl: 45s, max_worker_memory: 128}
    dynamic_allocator: {max_workers: 9, spawn_rate: 4, idle_timeout: 15s}
rpc: {listen: "tcp://127.0.0.1:6001"}
logs:
  mode: production
  level: warn
  encoding: console
  output: /var/log/app.log
  err_output: stdout
  line_ending: "\n"
  format: x
  time_format: y
  skip_line_ending: true
  file_logger_options: {log_output: /tmp/a.log, max_size: 100, max_age: 24, max_backups: 10, compress: true}
  channels: {server: {level: error}}
metrics:
  address: 127.0.0.1:2112
  collect: {orders: {type: counter, help: Orders., labels: [kind]}}
status: {address: "127.0.0.1:2114", unavailable_status_code: 500, check_timeout: 3}
otel:
  exporter: otlp
  client: grpc
  endpoint: collector.internal:4317
  insecure: true
  compress: true
  custom_url: /traces
  headers: {x-team: a}
  resource: {service_name: shop, service_version: 1.0.0, service_namespace: b, service_instance_id: c}
endure: {grace_period: 12s, log_level: error, print_graph: true, watchdog_sec: 5}
include: [more.yaml]
envfile: .env
http: {address: "127.0.0.1:8080"}
jobs: {consume: [a]}
kv: {local: {driver: memory}}
grpc: {listen: "tcp://127.0.0.1:9001"}
temporal: {address: "127.0.0.1:7233"}
tcp: {servers: {a: {addr: "127.0.0.1:7777"}}}
service: {a: {command: ls}}
fileserver: {address: "127.0.0.1:10101"}
reload: {interval: 1s}
lock: {x: 1}
broadcast: {default: {driver: memory}}
websockets: {path: /ws}
mystery: {deep: {key: 1}}
"#;

/// Theirs, ours, and the value there, as TOML.
const KEPT: [(&str, &str, &str); 39] = [
    (
        "server.relay",
        "handler.php.relay",
        r#""unix:///tmp/relay.sock""#,
    ),
    ("server.user", "handler.php.user", r#""nobody""#),
    ("server.group", "handler.php.group", r#""nogroup""#),
    ("server.env", "handler.php.env", r#"{ APP_ENV = "prod" }"#),
    (
        "server.on_init.command",
        "handler.php.on_init.command",
        r#"["php", "warm.php", "--all"]"#,
    ),
    (
        "server.on_init.exec_timeout",
        "handler.php.on_init.exec_timeout",
        r#""20s""#,
    ),
    (
        "server.on_init.exit_on_error",
        "handler.php.on_init.exit_on_error",
        "true",
    ),
    (
        "server.on_init.user",
        "handler.php.on_init.user",
        r#""nobody""#,
    ),
    (
        "server.on_init.env",
        "handler.php.on_init.env",
        r#"{ WARM = "1" }"#,
    ),
    (
        "centrifuge.proxy_address",
        "listen.grpc",
        r#""unix:///tmp/proxy.sock""#,
    ),
    (
        "centrifuge.grpc_api_address",
        "centrifugo.api",
        r#"["grpcs://centrifugo.internal:10000"]"#,
    ),
    (
        "centrifuge.tls.cert",
        "centrifugo.tls.cert",
        r#""DIR/tls.crt""#,
    ),
    (
        "centrifuge.tls.key",
        "centrifugo.tls.key",
        r#""DIR/tls.key""#,
    ),
    (
        "centrifuge.pool.command",
        "handler.php.command",
        r#"["php", "ws.php"]"#,
    ),
    (
        "centrifuge.pool.num_workers",
        "handler.php.pool.num_workers",
        "3",
    ),
    (
        "centrifuge.pool.max_jobs",
        "handler.php.pool.max_jobs",
        "64",
    ),
    (
        "centrifuge.pool.max_queue_size",
        "handler.php.pool.max_queue_size",
        "100",
    ),
    (
        "centrifuge.pool.allocate_timeout",
        "handler.php.pool.allocate_timeout",
        r#""11s""#,
    ),
    (
        "centrifuge.pool.destroy_timeout",
        "handler.php.pool.destroy_timeout",
        r#""12s""#,
    ),
    (
        "centrifuge.pool.reset_timeout",
        "handler.php.pool.reset_timeout",
        r#""13s""#,
    ),
    (
        "centrifuge.pool.stream_timeout",
        "handler.php.pool.stream_timeout",
        r#""14s""#,
    ),
    ("centrifuge.pool.debug", "handler.php.pool.debug", "false"),
    (
        "centrifuge.pool.supervisor.watch_tick",
        "handler.php.pool.supervisor.watch_tick",
        r#""2s""#,
    ),
    (
        "centrifuge.pool.supervisor.ttl",
        "handler.php.pool.supervisor.ttl",
        r#""1h""#,
    ),
    (
        "centrifuge.pool.supervisor.idle_ttl",
        "handler.php.pool.supervisor.idle_ttl",
        r#""5m""#,
    ),
    (
        "centrifuge.pool.supervisor.exec_ttl",
        "handler.php.pool.supervisor.exec_ttl",
        r#""45s""#,
    ),
    (
        "centrifuge.pool.supervisor.max_worker_memory",
        "handler.php.pool.supervisor.max_worker_memory",
        "128",
    ),
    (
        "centrifuge.pool.dynamic_allocator.max_workers",
        "handler.php.pool.dynamic_allocator.max_workers",
        "9",
    ),
    (
        "centrifuge.pool.dynamic_allocator.spawn_rate",
        "handler.php.pool.dynamic_allocator.spawn_rate",
        "4",
    ),
    (
        "centrifuge.pool.dynamic_allocator.idle_timeout",
        "handler.php.pool.dynamic_allocator.idle_timeout",
        r#""15s""#,
    ),
    ("rpc.listen", "rpc.fallback", r#""tcp://127.0.0.1:6001""#),
    ("logs.encoding", "log.format", r#""pretty""#),
    ("logs.level", "log.level", r#""warn""#),
    ("metrics.address", "listen.admin", r#""127.0.0.1:2112""#),
    (
        "otel.client",
        "log.otlp",
        r#""http://collector.internal:4317""#,
    ),
    (
        "otel.endpoint",
        "log.otlp",
        r#""http://collector.internal:4317""#,
    ),
    (
        "otel.insecure",
        "log.otlp",
        r#""http://collector.internal:4317""#,
    ),
    ("otel.resource.service_name", "log.service", r#""shop""#),
    ("endure.grace_period", "limits.shutdown_grace", r#""12s""#),
];

/// Those without a counterpart, with all that is below them, and a word of what is said.
const LISTED: [(&str, &str); 39] = [
    ("server.relay_timeout", "allocate_timeout"),
    ("centrifuge.use_compressor", "not compressed"),
    ("centrifuge.name", "never used"),
    ("centrifuge.version", "never used"),
    ("logs.output", "stderr"),
    ("logs.err_output", "stderr"),
    ("logs.line_ending", "stderr"),
    ("logs.format", "stderr"),
    ("logs.time_format", "stderr"),
    ("logs.skip_line_ending", "stderr"),
    ("logs.file_logger_options", "stderr"),
    ("logs.channels", "stderr"),
    ("metrics.collect", "over RPC"),
    ("status.address", "listen.admin"),
    ("status.unavailable_status_code", "503"),
    ("status.check_timeout", "at once"),
    ("otel.compress", "[log]"),
    ("otel.custom_url", "[log]"),
    ("otel.headers", "otlp_headers"),
    ("otel.resource", "[log]"),
    ("endure.log_level", "no counterpart"),
    ("endure.print_graph", "no counterpart"),
    ("endure.watchdog_sec", "no counterpart"),
    ("include", "were not read"),
    ("envfile", "not read"),
    ("http", "a RoadRunner has to go on"),
    ("jobs", "a RoadRunner has to go on"),
    ("kv", "a RoadRunner has to go on"),
    ("grpc", "a RoadRunner has to go on"),
    ("temporal", "a RoadRunner has to go on"),
    ("tcp", "a RoadRunner has to go on"),
    ("service", "a RoadRunner has to go on"),
    ("fileserver", "a RoadRunner has to go on"),
    ("reload", "a RoadRunner has to go on"),
    ("lock", "a RoadRunner has to go on"),
    ("broadcast", "a RoadRunner has to go on"),
    ("websockets", "a RoadRunner has to go on"),
    ("mystery.deep.key", "no key that is known"),
    ("centrifuge.pool.wrokers", "no key that is known"),
];

/// Keys that decide together with others, or are said elsewhere.
const ASIDE: [&str; 4] = ["version", "server.command", "logs.mode", "otel.exporter"];

#[test]
fn w111_every_key_has_its_counterpart_with_its_value_or_is_listed_by_its_path() {
    // A mistyped key is listed too.
    let text = EVERY.replace(
        "    num_workers: 3\n",
        "    num_workers: 3\n    wrokers: 4\n",
    );
    let made = of_roadrunner(&text);
    let table = made.toml();
    let folder = made.dir.path().display().to_string();
    for (theirs, ours, value) in KEPT {
        let value = value.replace("DIR", &folder);
        let wanted: toml::Table = toml::from_str(&format!("it = {value}")).unwrap();
        let found = at(&table, ours);
        assert_eq!(found, Some(&wanted["it"]), "{theirs}\n{}", made.config);
        assert!(!made.says("left", theirs, "no key"), "{theirs} is both");
    }
    for (key, words) in LISTED {
        made.expect("left", key, words);
    }
    // And nothing of the file is in neither list.
    let root: Value = serde_saphyr::from_str(&text).unwrap();
    let mut paths = Vec::new();
    leaves("", &root, &mut paths);
    assert!(paths.len() > 80, "{}", paths.len());
    let known = || {
        let kept = KEPT.iter().map(|it| it.0);
        kept.chain(LISTED.iter().map(|it| it.0)).chain(ASIDE)
    };
    for path in &paths {
        let is_it = |key: &str| path == key || path.starts_with(&format!("{key}."));
        assert!(known().any(is_it), "{path} is in no list");
    }
    for key in known() {
        let below = format!("{key}.");
        let is_it = |path: &String| path == key || path.starts_with(&below);
        assert!(paths.iter().any(is_it), "{key} is not in the file");
    }
    // What is listed is all that is listed.
    for remark in made.remarks.iter().filter(|it| it["weight"] == "left") {
        let key = remark["key"].as_str().unwrap();
        assert!(LISTED.iter().any(|it| it.0 == key), "{remark}");
    }
}

#[test]
fn w111_what_is_made_of_every_key_passes_check_config() {
    let made = of_roadrunner(EVERY);
    let signed = rcgen::generate_simple_self_signed(vec!["router".to_owned()]).unwrap();
    let file = |name: &str| made.dir.path().join(name);
    fs::write(file("tls.crt"), signed.cert.pem()).unwrap();
    fs::write(file("tls.key"), signed.signing_key.serialize_pem()).unwrap();
    made.passes_check_config();
}

#[test]
fn w111_keys_that_mean_something_else_with_other_values_are_told_too() {
    let pool = |text: &str| of_roadrunner(&small(&format!("centrifuge: {{pool: {{{text}}}}}\n")));
    let debug = pool("debug: true");
    let found = at(&debug.toml(), "handler.php.pool.debug").cloned();
    assert_eq!(found, Some(toml::Value::Boolean(true)));
    debug.passes_check_config();
    let cpus = pool("num_workers: 0");
    let found = at(&cpus.toml(), "handler.php.pool.num_workers").cloned();
    assert_eq!(found, Some(toml::Value::Integer(0)));
    cpus.passes_check_config();
    pool("dynamic_allocator: {max_workers: 5}").expect(
        "note",
        "centrifuge.pool.dynamic_allocator",
        "allocate_timeout",
    );
    for (section, level, format) in [
        ("mode: production", "info,centripeta=debug", "json"),
        ("mode: development", "info,centripeta=debug", "pretty"),
        ("encoding: json, level: panic", "error", "json"),
        ("mode: none", "off", "pretty"),
        ("mode: raw, level: info", "info", "pretty"),
    ] {
        let made = of_roadrunner(&small(&format!("centrifuge: {{}}\nlogs: {{{section}}}\n")));
        let table = made.toml();
        let text = |key| at(&table, key).and_then(toml::Value::as_str);
        let found = (text("log.level"), text("log.format"));
        assert_eq!(found, (Some(level), Some(format)), "{section}");
        assert_eq!(
            made.says("left", "logs.mode", "raw"),
            section.contains("raw")
        );
    }
    for (section, key, words) in [
        ("endpoint: 'c:4318'", "otel", "over gRPC"),
        ("exporter: zipkin", "otel.exporter", "OTLP alone"),
        ("exporter: jaeger", "otel.exporter", "OTLP alone"),
    ] {
        let made = of_roadrunner(&small(&format!("centrifuge: {{}}\notel: {{{section}}}\n")));
        made.expect("left", key, words);
        assert_eq!(at(&made.toml(), "log.otlp"), None, "{section}");
    }
    // A group is new: RoadRunner passed over it.
    let text = "version: '3'\nserver: {command: php a.php, group: nogroup}\ncentrifuge: {}\n";
    of_roadrunner(text).expect("warning", "server.group", "ignored");
}

#[test]
fn w115_sections_of_other_plugins_are_listed_by_name_and_so_is_a_file_without_ours() {
    let made = of_roadrunner(&small(
        "centrifuge: {}\nhttp: {address: ':80'}\nsmtp: {a: 1}\n",
    ));
    made.expect("left", "http", "RoadRunner");
    made.expect("left", "smtp", "RoadRunner");
    let alone = run("roadrunner", ".rr.yaml", &small("http: {}\n"), None);
    assert!(alone.err().unwrap().contains("no `centrifuge` section"));
}

/// The text at a path of what was made.
#[track_caller]
fn text(made: &Imported, path: &str) -> String {
    let table = made.toml();
    let found = at(&table, path).and_then(toml::Value::as_str);
    found
        .unwrap_or_else(|| panic!("no {path}\n{}", made.config))
        .to_owned()
}

#[test]
fn relative_sockets_are_found_from_the_folder_of_the_file_as_roadrunner_does() {
    let made = of_roadrunner(
        "version: '3'\nserver: {command: php a.php, relay: 'unix://relay.sock'}\n\
         centrifuge: {proxy_address: 'unix://run/proxy.sock'}\nrpc: {listen: 'unix://rr.sock'}\n",
    );
    let folder = made.dir.path().display();
    for (key, file) in [
        ("listen.grpc", "run/proxy.sock"),
        ("rpc.listen", "rr.sock"),
        ("handler.php.relay", "relay.sock"),
    ] {
        assert_eq!(text(&made, key), format!("unix://{folder}/{file}"));
    }
    made.passes_check_config();
    // Beside others ours is another one.
    let made = of_roadrunner(&small(
        "centrifuge: {}\nrpc: {listen: 'unix://rr.sock'}\nkv: {a: {driver: memory}}\n",
    ));
    let theirs = format!("unix://{}/rr.sock", made.dir.path().display());
    assert_eq!(text(&made, "rpc.fallback"), theirs);
    assert_eq!(text(&made, "rpc.listen"), format!("{theirs}.centripeta"));
    made.passes_check_config();
}

#[test]
fn a_relay_that_is_open_becomes_loopback_and_one_in_a_variable_stays() {
    let of = |relay: &str| {
        of_roadrunner(&format!(
            "version: '3'\nserver: {{command: php a.php, relay: '{relay}'}}\ncentrifuge: {{}}\n"
        ))
    };
    for (relay, written, warned) in [
        ("tcp://0.0.0.0:7001", "tcp://127.0.0.1:7001", true),
        ("tcp://:7001", "tcp://127.0.0.1:7001", true),
        (
            "tcp://${H:-0.0.0.0}:${P:-7001}",
            "tcp://127.0.0.1:${P:-7001}",
            true,
        ),
        ("tcp://localhost:7001", "tcp://127.0.0.1:7001", false),
        ("tcp://[::1]:7001", "tcp://[::1]:7001", false),
        ("${RELAY:-pipes}", "${RELAY:-pipes}", false),
    ] {
        let made = of(relay);
        assert_eq!(text(&made, "handler.php.relay"), written, "{relay}");
        let told = made.says("warning", "server.relay", "pass for a worker");
        assert_eq!(told, warned, "{relay}");
        made.passes_check_config();
    }
}

#[test]
fn zeros_of_the_allocator_are_roadrunners_defaults_and_left_out() {
    let made = of_roadrunner(&small(
        "centrifuge: {pool: {dynamic_allocator: {max_workers: 0, spawn_rate: 0, idle_timeout: 0s}}}\n",
    ));
    let table = made.toml();
    let place = at(&table, "handler.php.pool.dynamic_allocator").unwrap();
    assert_eq!(place.as_table().map(toml::Table::len), Some(0));
    made.passes_check_config();
}

#[test]
fn the_admin_listener_makes_way_for_addresses_of_the_file() {
    for more in [
        "centrifuge: {proxy_address: 'tcp://127.0.0.1:10003'}\n",
        "centrifuge: {}\nrpc: {listen: 'tcp://127.0.0.1:10003'}\n",
        "centrifuge: {}\nhttp: {address: '0.0.0.0:10003'}\n",
        "centrifuge: {proxy_address: ':10003'}\nstatus: {address: 'unix://a.sock'}\n",
    ] {
        let made = of_roadrunner(&small(more));
        assert_eq!(text(&made, "listen.admin"), "127.0.0.1:10004", "{more}");
        let told = made.says("note", "metrics", "127.0.0.1:10004")
            || made.says("left", "status.address", "127.0.0.1:10004");
        assert!(told, "{more}{:#?}", made.remarks);
        made.passes_check_config();
    }
    let usual = of_roadrunner(&small("centrifuge: {}\n"));
    usual.expect("note", "metrics", "127.0.0.1:10003");
}

#[test]
fn an_api_address_without_a_port_gets_the_usual_one_and_a_warning() {
    for (address, written) in [
        ("tcp://centrifugo", "grpc://centrifugo:10000"),
        ("centrifugo:10001", "grpc://centrifugo:10001"),
        ("tcp://[::1]", "grpc://[::1]:10000"),
        (
            "${API:-centrifugo:10000}",
            "grpc://${API:-centrifugo:10000}",
        ),
    ] {
        let made = of_roadrunner(&small(&format!(
            "centrifuge: {{grpc_api_address: '{address}'}}\n"
        )));
        let found = at(&made.toml(), "centrifugo.api").cloned();
        assert_eq!(found, Some(toml::Value::from(vec![written])), "{address}");
        let told = made.says("warning", "centrifuge.grpc_api_address", "no port");
        assert_eq!(told, !address.contains("1000"), "{address}");
        made.passes_check_config();
    }
}

#[test]
fn beside_a_roadrunner_that_stays_its_rpc_address_keeps_host_and_variables() {
    for (theirs, fallback, ours) in [
        (
            "tcp://${RPC_HOST:-127.0.0.1}:${RPC_PORT:-6001}",
            "tcp://${RPC_HOST:-127.0.0.1}:${RPC_PORT:-6001}",
            "tcp://127.0.0.1:6002",
        ),
        (
            "tcp://0.0.0.0:6001",
            "tcp://127.0.0.1:6001",
            "tcp://127.0.0.1:6002",
        ),
        (
            "tcp://:${P:-6001}",
            "tcp://127.0.0.1:${P:-6001}",
            "tcp://127.0.0.1:6002",
        ),
        // It listens there alone.
        (
            "tcp://10.1.2.3:6001",
            "tcp://10.1.2.3:6001",
            "tcp://127.0.0.1:6002",
        ),
    ] {
        let made = of_roadrunner(&small(&format!(
            "centrifuge: {{}}\nrpc: {{listen: '{theirs}'}}\njobs: {{consume: [a]}}\n"
        )));
        assert_eq!(text(&made, "rpc.fallback"), fallback);
        assert_eq!(text(&made, "rpc.listen"), ours);
        let told = made.says("note", "rpc.listen", "has a variable");
        assert_eq!(told, fallback.contains('$'), "{theirs}");
        made.passes_check_config();
    }
}

#[test]
fn beside_a_roadrunner_that_stays_workers_are_not_told_its_address_and_its_on_init_is_told_of() {
    let file = |others: &str| {
        of_roadrunner(&format!(
            "version: '3'\nserver:\n  command: php a.php\n  env: [{{RR_RPC: 'tcp://127.0.0.1:6001'}}, {{A: b}}]\n  \
             on_init: {{command: php migrate.php, env: [{{RR_RPC: 'tcp://127.0.0.1:6001'}}]}}\n\
             centrifuge: {{}}\nrpc: {{listen: 'tcp://127.0.0.1:6001'}}\n{others}"
        ))
    };
    let beside = file("http: {address: ':8080'}\n");
    let table = beside.toml();
    let env = at(&table, "handler.php.env").unwrap();
    assert_eq!(env.as_table().map(toml::Table::len), Some(1), "{env}");
    assert_eq!(at(&table, "handler.php.on_init.env"), None);
    for key in ["server.env.RR_RPC", "server.on_init.env.RR_RPC"] {
        beside.expect("left", key, "told tcp://127.0.0.1:6002");
    }
    beside.expect("warning", "server.on_init", "RoadRunner that stays");
    beside.passes_check_config();
    // Alone nothing of that is so.
    let alone = file("");
    let env = at(&alone.toml(), "handler.php.env").cloned().unwrap();
    assert_eq!(env["RR_RPC"].as_str(), Some("tcp://127.0.0.1:6001"));
    alone.expect("warning", "server.env.RR_RPC", "overrides");
    assert!(!alone.says("warning", "server.on_init", "stays"));
}
