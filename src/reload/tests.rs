//! What is said of two configurations.

#![allow(clippy::unwrap_used)]

use super::compare;
use crate::config::{Config, LoadOptions, fuzz_load, keys, load, needs_restart};

fn config(toml: &str) -> Config {
    fuzz_load(toml.as_bytes()).unwrap().config
}

/// What changes and what waits between two files.
fn between(was: &str, is: &str) -> (Vec<String>, Vec<String>) {
    let found = compare(&config(was), &config(is), true);
    (found.changed, found.needs_restart)
}

#[test]
fn the_same_configuration_changes_nothing_wherever_its_lines_stand() {
    let was = "[[route]]\non = \"rpc\"\nmatch = \"a\"\nhandler = \"echo\"\n";
    let is = format!("# moved\n\n{was}");
    assert_eq!(between(was, &is), (vec![], vec![]));
}

#[test]
fn limits_level_and_centrifugo_apply_at_once_and_are_shown_with_both_values() {
    let (changed, needs_restart) = between(
        "",
        "[limits]\nin_flight = 100\nmessage_bytes = \"1MiB\"\ntimeout = \"1500ms\"\n\
         header_bytes = \"32KiB\"\n\
         [log]\nlevel = \"debug\"\n[centrifugo]\napi = [\"grpc://10.0.0.1:10000\"]\n\
         [listen]\nmax_connection_age = \"1h\"\n",
    );
    assert_eq!(
        changed,
        [
            "centrifugo.api: [grpc://127.0.0.1:10000] -> [grpc://10.0.0.1:10000]",
            "limits.in_flight: 4096 -> 100",
            "limits.message_bytes: 4MiB -> 1MiB",
            "limits.header_bytes: 64KiB -> 32KiB (for connections that are opened from now on)",
            "limits.timeout: 3s -> 1s 500ms",
            "log.level: info -> debug",
            "listen.max_connection_age: 10m -> 1h (for connections that are opened from now on)",
        ]
    );
    assert!(needs_restart.is_empty(), "{needs_restart:?}");
}

#[test]
fn what_is_fixed_at_the_start_waits_and_the_running_value_stays() {
    let was = config("[listen]\nauth = { metadata = \"x-key\", value = \"one\" }\n");
    let is = config(
        "[node]\nname = \"b\"\n[listen]\ngrpc = \"127.0.0.1:9\"\nadmin_token = \"t\"\n\
         auth = { metadata = \"x-key\", value = \"two\" }\n[runtime]\ncores = 3\n\
         [metrics]\nenabled = false\nroadrunner = true\n[rpc]\nlisten = \"off\"\nallow_open = true\n\
         fallback = \"tcp://127.0.0.1:1\"\nold_disconnect = true\n[log]\nformat = \"json\"\n\
         [channel]\nnamespace_boundary = \"/\"\n[limits]\nin_flight = 7\n",
    );
    let found = compare(&was, &is, true);
    assert_eq!(
        found.needs_restart,
        [
            "node.name",
            "listen.grpc",
            "listen.auth.value",
            "listen.admin_token",
            "channel.namespace_boundary",
            "log.format",
            "runtime.cores",
            "metrics.enabled",
            "metrics.roadrunner",
            "rpc.listen",
            "rpc.allow_open",
            "rpc.fallback",
            "rpc.old_disconnect",
        ]
    );
    assert_eq!(found.changed, ["limits.in_flight: 4096 -> 7"]);
    let expected = Config {
        limits: is.limits,
        ..was
    };
    assert_eq!(found.effective, expected);
}

#[test]
fn routes_are_told_by_event_and_pattern_with_what_changes_in_them() {
    let (changed, _) = between(
        "[[route]]\non = [\"subscribe\", \"publish\"]\nmatch = \"chat:{room}\"\nhandler = \"allow\"\n\
         [[route]]\non = \"rpc\"\nmatch = \"a\"\nhandler = \"echo\"\n",
        "[[route]]\non = \"subscribe\"\nmatch = \"chat:{room}\"\nhandler = \"deny\"\ntimeout = \"1s\"\n\
         [[route]]\non = \"rpc\"\nmatch = \"a\"\nhandler = \"echo\"\nkey = \"user\"\n\
         [[route]]\non = \"refresh\"\nhandler = \"allow\"\n",
    );
    assert_eq!(
        changed,
        [
            "route subscribe \"chat:{room}\": handler allow -> deny, timeout none -> 1s",
            "route rpc \"a\": key none -> user",
            "route refresh: new",
            "route publish \"chat:{room}\": gone",
        ]
    );
}

#[test]
fn interceptors_and_handlers_are_told_by_name() {
    let limit = |name: &str, rate: u32| {
        format!("[[interceptor]]\nname = \"{name}\"\non = \"*\"\nkind = \"limit\"\nrate = {rate}\n")
    };
    let welcome = |user: &str| {
        format!("[handler.{user}]\nkind = \"static\"\nreply = {{ user = \"{user}\" }}\n")
    };
    let was = [limit("a", 1), limit("b", 1), limit("c", 1), welcome("x")].concat();
    let is = [limit("b", 1), limit("a", 2), limit("d", 1), welcome("y")].concat();
    let (changed, _) = between(&was, &is);
    assert_eq!(
        changed,
        [
            "interceptor a: rate 1 -> 2, burst 1 -> 2",
            "interceptor d: new",
            "interceptor c: gone",
            "interceptors: another order",
            "handler y: new",
            "handler x: gone",
        ]
    );
}

#[test]
fn no_secret_is_shown_in_what_changes() {
    let file = |key: &str| {
        format!(
            "[centrifugo]\nkey = \"{key}\"\n[[interceptor]]\nname = \"auth\"\non = \"*\"\n\
             kind = \"header-auth\"\nheader = \"x-key\"\nvalue = \"{key}\"\n"
        )
    };
    let (changed, _) = between(&file("hunter-one"), &file("hunter-two"));
    assert_eq!(
        changed,
        [
            "centrifugo.key: another one",
            "interceptor auth: value: another one",
        ]
    );
}

#[test]
fn secrets_of_a_cluster_are_taken_over_and_the_rest_of_it_stays_as_it_runs() {
    let secret = |text: &str| format!("[cluster]\nsecret = \"{text}\"\n");
    let was = config(&secret("first-of-16-bytes"));
    let is = config(&format!("{}voters = 5\n", secret("other-of-16-bytes")));
    let found = compare(&was, &is, true);
    assert_eq!(found.changed, ["cluster.secret: another one"]);
    assert_eq!(found.needs_restart, ["cluster.voters"]);
    let (effective, read) = (found.effective.cluster.unwrap(), is.cluster.unwrap());
    assert_eq!((effective.voters, effective.secrets), (3, read.secrets));
    // A node that runs alone joins by a restart only.
    let alone = compare(&config(""), &was, true);
    assert_eq!(alone.needs_restart, ["cluster"]);
    assert_eq!(alone.effective.cluster, None);
    assert!(alone.changed.is_empty(), "{:?}", alone.changed);
    let (changed, _) = between("", "[node]\nserves = [\"channel\"]\n");
    assert_eq!(
        changed,
        ["node.serves: connect, rpc, channel -> channel (nothing by itself: this node runs alone)"]
    );
}

#[test]
fn a_program_with_routes_of_its_own_has_no_changes_in_those_of_the_file() {
    let is = config("[[route]]\non = \"rpc\"\nmatch = \"a\"\nhandler = \"echo\"\n");
    assert!(compare(&config(""), &is, false).changed.is_empty());
}

/// Every key that stands once, with a value and another one.
const VALUES: &[(&str, &str, &str)] = &[
    ("node.name", "a", "b"),
    ("node.data", "./a", "./b"),
    ("node.roles", "[\"voter\"]", "[\"voter\", \"region\"]"),
    (
        "node.serves",
        "[\"rpc\", \"channel\"]",
        "[\"rpc:a.*\", \"channel\"]",
    ),
    ("cluster.listen", "127.0.0.1:15", "127.0.0.1:16"),
    ("cluster.advertise", "a:1", "b:1"),
    ("cluster.seeds", "[\"a:1\"]", "[\"a:1\", \"b:1\"]"),
    (
        "cluster.secret",
        "first-of-16-bytes",
        "[\"other-of-16-bytes\"]",
    ),
    ("cluster.tls.cert", "a.pem", "b.pem"),
    ("cluster.tls.key", "a.pem", "b.pem"),
    ("cluster.tls.ca", "a.pem", "b.pem"),
    ("cluster.insecure", "false", "true"),
    ("cluster.serve_stateless_isolated", "true", "false"),
    ("cluster.voters", "1", "3"),
    ("cluster.lease.length", "1200ms", "1300ms"),
    ("cluster.lease.heartbeat", "200ms", "100ms"),
    ("cluster.lease.drift_margin", "0.1", "0.2"),
    ("cluster.raft.heartbeat", "60ms", "50ms"),
    ("cluster.raft.election", "200ms", "190ms"),
    ("cluster.moves.open_limit", "512", "100"),
    ("cluster.moves.closed_per_node", "8", "9"),
    ("cluster.moves.prepare_timeout", "2s", "3s"),
    ("cluster.moves.release_timeout", "5s", "6s"),
    ("listen.grpc", "127.0.0.1:1", "127.0.0.1:2"),
    ("listen.admin", "127.0.0.1:3", "127.0.0.1:4"),
    ("listen.allow_open", "false", "true"),
    ("listen.max_connection_age", "1m", "2m"),
    ("listen.auth.metadata", "x-a", "x-b"),
    ("listen.auth.value", "one", "two"),
    ("listen.tls.cert", "a.pem", "b.pem"),
    ("listen.tls.key", "a.pem", "b.pem"),
    ("listen.tls.client_ca", "a.pem", "b.pem"),
    ("listen.admin_token", "one", "two"),
    ("rpc.listen", "tcp://127.0.0.1:5", "tcp://127.0.0.1:6"),
    ("rpc.allow_open", "false", "true"),
    ("rpc.fallback", "tcp://127.0.0.1:7", "tcp://127.0.0.1:8"),
    ("centrifugo.api", "[\"grpcs://a:1\"]", "[\"grpcs://b:1\"]"),
    ("centrifugo.key", "one", "two"),
    ("centrifugo.timeout", "1s", "2s"),
    ("centrifugo.queue", "100", "200"),
    ("centrifugo.queue_bytes", "32MiB", "64MiB"),
    ("centrifugo.batch", "10", "20"),
    ("centrifugo.flights", "2", "3"),
    ("centrifugo.message_bytes", "1MiB", "2MiB"),
    ("centrifugo.tls.ca", "a.pem", "b.pem"),
    ("centrifugo.tls.cert", "a.pem", "b.pem"),
    ("centrifugo.tls.key", "a.pem", "b.pem"),
    ("centrifugo.client", "ws://a:1/", "ws://b:1/"),
    ("channel.namespace_boundary", ":", "/"),
    ("log.format", "json", "pretty"),
    ("log.level", "info", "debug"),
    ("log.otlp", "https://a:4317", "https://b:4317"),
    ("log.sampling", "0.1", "0.2"),
    ("log.service", "one", "two"),
    ("log.otlp_headers", "a=b", "a=c"),
    ("log.otlp_ca", "a.pem", "b.pem"),
    ("limits.in_flight", "100", "200"),
    ("limits.in_flight_bytes", "32MiB", "64MiB"),
    ("limits.streams", "100", "200"),
    ("limits.message_bytes", "1MiB", "2MiB"),
    ("limits.header_bytes", "32KiB", "64KiB"),
    ("limits.timeout", "1s", "2s"),
    ("limits.deadline_margin", "20ms", "30ms"),
    ("limits.lane_queue", "10", "20"),
    ("limits.shard_events", "100", "200"),
    ("limits.shard_bytes", "8MiB", "16MiB"),
    ("limits.shutdown_grace", "1s", "2s"),
    ("runtime.cores", "1", "2"),
    ("runtime.shards_per_core", "8", "16"),
    ("runtime.passivate_after", "1s", "2s"),
    ("runtime.watchdog", "100ms", "200ms"),
    ("metrics.enabled", "true", "false"),
    ("metrics.roadrunner", "true", "false"),
    ("rpc.old_disconnect", "true", "false"),
];

#[test]
fn every_key_is_applied_or_waits_as_its_reference_says_and_is_told_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["a.pem", "b.pem"] {
        std::fs::write(dir.path().join(file), "some").unwrap();
    }
    let with = |changed: &str| {
        let mut options = LoadOptions::new(std::iter::empty());
        options.dir = dir.path().to_owned();
        let value = |(key, was, is): &(&str, &str, &str)| {
            format!("{key}={}", if *key == changed { is } else { was })
        };
        options.sets = VALUES.iter().map(value).collect();
        load(&options).unwrap().config
    };
    let was = with("");
    let is_once = |key: &&str| !key.contains("[]") && !key.contains("NAME");
    for key in keys().filter(is_once) {
        assert!(VALUES.iter().any(|it| it.0 == key), "{key} has no values");
        let found = compare(&was, &with(key), true);
        let (told, other) = match needs_restart(key) {
            true => (&found.needs_restart, &found.changed),
            false => (&found.changed, &found.needs_restart),
        };
        assert!(other.is_empty(), "{key}: {found:?}");
        assert_eq!(told.len(), 1, "{key}: {found:?}");
        let name = told[0].split(": ").next().unwrap();
        // A certificate and its key are one thing to a client.
        let is_pair = key == "centrifugo.tls.key" && name == "centrifugo.tls.cert";
        assert!(name == key || is_pair, "{key}: {found:?}");
    }
}
