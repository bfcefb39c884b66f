//! What is told about a configuration, and that no secret is among it.

use super::outside::free_ports;
use super::process::{probe, run, stock};
use std::fs;
use std::path::Path;

const SECRET: &str = "open-sesame-4711";

fn guarded(dir: &Path, args: &[&str]) -> std::process::Command {
    let mut command = stock(dir, args);
    command
        .env("CENTRIPETA_LISTEN__AUTH__METADATA", "x-router-key")
        .env("CENTRIPETA_LISTEN__AUTH__VALUE", SECRET);
    command
}

#[test]
fn every_problem_of_a_configuration_is_told_at_once_with_key_rule_and_fix() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("node.toml"),
        "[limits]\ntimeuot = \"2s\"\nstreams = 0\n",
    )
    .unwrap();
    for command in ["check-config", "serve", "print-config", "health"] {
        let ended = run(stock(dir.path(), [command]));
        assert_eq!(ended.code, 3, "{command} {ended:?}");
        assert!(
            ended.err.contains("error: limits.timeuot (node.toml:2)"),
            "{ended:?}"
        );
        assert!(
            ended.err.contains("help: did you mean `limits.timeout`?"),
            "{ended:?}"
        );
        assert!(ended.err.contains("error: limits.streams = 0"), "{ended:?}");
    }
    let ended = run(stock(dir.path(), ["check-config", "--json"]));
    assert_eq!((ended.code, ended.err.as_str()), (3, ""));
    let found = ended.json();
    assert_eq!(found["valid"], false);
    assert_eq!(found["problems"].as_array().unwrap().len(), 2);
    let ended = run(stock(
        dir.path(),
        ["check-config", "--config", "nowhere.toml"],
    ));
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.err.contains("nowhere.toml"), "{ended:?}");
}

#[test]
fn problems_of_settings_hide_none_of_the_routes_and_none_is_told_twice() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"
        [limits]
        streams = 0
        [[interceptor]]
        name = "pace"
        on = "route"
        kind = "limit"
        rate = -1
        [[route]]
        on = "raw"
        match = 3
        handler = "deny"
        [[route]]
        on = "rpc"
        match = "a.{x}"
        handler = "nobody"
        [[route]]
        on = "rpc"
        match = "a.{y}"
        handler = "slow"
        interceptors = ["pace"]
        [[route]]
        on = "rpc"
        match = "b.{"
        handler = "echo"
        [[route]]
        on = "subscribe"
        handler = "fixed"
        [handler.slow]
        kind = "static"
        error = { code = 1, message = "no" }
        [handler.fixed]
        kind = "static"
        reply = { nonsense = 1 }
    "#;
    fs::write(dir.path().join("node.toml"), text).unwrap();
    let found = run(stock(dir.path(), ["check-config", "--json"])).json();
    let problems = found["problems"].as_array().unwrap();
    let mut keys: Vec<_> = problems
        .iter()
        .map(|problem| problem["key"].as_str().unwrap())
        .collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "handler.slow.error.code",
            "interceptor.0.rate",
            "limits.streams",
            "route.0.match",
            "route.1.handler",
            "route.2.match",
            "route.3.match",
            "route.4.handler",
        ],
        "{problems:#?}"
    );
    for command in ["check-config", "serve", "explain"] {
        let args = [command, "rpc", "--method", "a.1"];
        let args = &args[..if command == "explain" { 4 } else { 1 }];
        let ended = run(stock(dir.path(), args));
        assert_eq!(ended.code, 3, "{ended:?}");
        for key in &keys {
            let lines = ended.err.lines();
            let told = lines.filter(|line| line.starts_with(&format!("error: {key} ")));
            assert_eq!(told.count(), 1, "{command}: {key} in {}", ended.err);
        }
    }
}

#[test]
fn a_credential_that_metadata_cannot_carry_is_a_problem_and_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[listen]\nauth = { metadata = \"x-key\", value = \"schl\u{fc}ssel\" }\n\
                [[interceptor]]\nname = \"a\"\non = \"*\"\nkind = \"header-auth\"\n\
                header = \"x-app\"\nvalue = \" padded\"\n";
    fs::write(dir.path().join("node.toml"), text).unwrap();
    let ended = run(stock(dir.path(), ["check-config"]));
    assert_eq!(ended.code, 3, "{ended:?}");
    for key in ["listen.auth.value", "interceptor.0.value"] {
        assert!(
            ended
                .err
                .contains(&format!("error: {key} = \"<redacted>\"")),
            "{ended:?}"
        );
    }
    assert_eq!(ended.err.matches("metadata can't carry").count(), 2);
    assert!(!ended.err.contains("padded"), "{ended:?}");
    let spaced = ["check-config", "--set", "listen.auth.value=two words!~"];
    let mended = text.replace("\" padded", "\"x");
    fs::write(dir.path().join("node.toml"), mended).unwrap();
    assert_eq!(run(stock(dir.path(), spaced)).code, 0);
}

#[test]
fn a_fine_configuration_is_fine_for_check_config() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run(stock(dir.path(), ["check-config"]));
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.contains("built-in defaults: fine"), "{ended:?}");
    let ended = run(stock(dir.path(), ["check-config", "--json"]));
    assert_eq!(ended.json()["valid"], true);
}

#[test]
fn certificates_that_are_none_and_conditions_of_the_program_are_problems_too() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x.pem"), "no certificate").unwrap();
    let sets = [
        "--set",
        "listen.tls.cert=x.pem",
        "--set",
        "listen.tls.key=x.pem",
    ];
    let ended = run(stock(dir.path(), [&["check-config"][..], &sets].concat()));
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.err.contains("listen.tls"), "{ended:?}");
    let open = [
        "--set",
        "listen.grpc=0.0.0.0:0",
        "--set",
        "listen.allow_open=true",
    ];
    for command in ["check-config", "serve"] {
        let ended = run(probe(dir.path(), [&[command][..], &open].concat()));
        assert_eq!(ended.code, 3, "{ended:?}");
        assert!(
            ended.err.contains("probe listens on loopback only"),
            "{ended:?}"
        );
        assert!(ended.err.contains("\nhelp: "), "{ended:?}");
    }
}

#[test]
fn printed_defaults_load_back_to_the_same_settings() {
    let dir = tempfile::tempdir().unwrap();
    let printed = run(stock(dir.path(), ["print-config", "--defaults"]));
    assert_eq!(printed.code, 0, "{printed:?}");
    fs::write(dir.path().join("printed.toml"), &printed.out).unwrap();
    let defaults = run(stock(dir.path(), ["print-config", "--defaults", "--json"])).json();
    let args = ["print-config", "--config", "printed.toml", "--json"];
    let loaded = run(stock(dir.path(), args)).json();
    assert_eq!(loaded["settings"], defaults["settings"]);
    let docs = run(stock(dir.path(), ["print-config", "--docs"]));
    assert!(docs.out.contains("| `timeout` |"), "{docs:?}");
}

#[test]
fn the_effective_settings_say_where_they_came_from() {
    let dir = tempfile::tempdir().unwrap();
    let ended = run(stock(
        dir.path(),
        [
            "print-config",
            "--set",
            "limits.timeout=2s",
            "--log",
            "warn",
        ],
    ));
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended
            .out
            .contains("timeout = \"2s\"  # --set limits.timeout"),
        "{ended:?}"
    );
    assert!(ended.out.contains("level = \"warn\""), "{ended:?}");
}

#[test]
fn c99_secrets_are_redacted_in_every_print() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &["print-config"][..],
        &["print-config", "--json"],
        &["check-config", "--json"],
        &["explain", "connect"],
        &["centrifugo-config"],
        &["check-config", "--set", "listen.nope=1"],
    ] {
        let ended = run(guarded(dir.path(), args));
        let text = format!("{}{}", ended.out, ended.err);
        assert!(!text.contains(SECRET), "{args:?} {text}");
    }
    let printed = run(guarded(dir.path(), &["print-config"]));
    assert!(printed.out.contains("<redacted>"), "{printed:?}");
}

#[test]
fn explain_shows_the_way_of_an_event_of_the_programs_own_routes() {
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "explain",
        "subscribe",
        "--channel",
        "chat:42",
        "--set",
        "runtime.cores=2",
    ];
    let text = run(probe(dir.path(), args)).out;
    for line in [
        "event        subscribe `chat:42`",
        "listener     grpc 127.0.0.1:10001, no credential",
        "interceptors outer (on *)",
        "route        subscribe `chat:{room}` takes it",
        "             room = `42`",
        "key          channel → lane channel chat:42",
        "slot         3027 → shard ",
        "owner        a alone, epoch 1",
        "deadline     the caller's grpc-timeout less 50 ms",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    let json = run(probe(dir.path(), [&args[..], &["--json"]].concat())).json();
    assert_eq!(json["route"]["place"]["slot"], 3027);

    // Asked to ask a node that is not there, it says the rest, and that it could not.
    let nobody = {
        let [port] = free_ports();
        format!("listen.admin=127.0.0.1:{port}")
    };
    let asked = run(probe(
        dir.path(),
        [&args[..], &["--running", "--set", &nobody]].concat(),
    ));
    assert_eq!(asked.code, 4, "{asked:?}");
    assert!(
        asked.out.contains("route        subscribe `chat:{room}`"),
        "{asked:?}"
    );
    assert!(
        asked.err.contains("the running node was not asked"),
        "{asked:?}"
    );
}

#[test]
fn routes_that_tie_are_a_problem_and_routes_that_a_program_ignores_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let route = |pattern: &str| {
        format!("[[route]]\non = \"subscribe\"\nmatch = \"{pattern}\"\nhandler = \"allow\"\n")
    };
    let text = format!("{}{}", route("chat:{a}"), route("chat:{b}"));
    fs::write(dir.path().join("node.toml"), text).unwrap();
    for command in [
        "check-config",
        "explain connect",
        "centrifugo-config",
        "serve",
    ] {
        let ports = [
            "--set",
            "listen.grpc=127.0.0.1:0",
            "--set",
            "listen.admin=127.0.0.1:0",
        ];
        let ended = run(stock(dir.path(), command.split(' ').chain(ports)));
        assert_eq!(ended.code, 3, "{command} {ended:?}");
        assert!(
            ended.err.contains("equally specific"),
            "{command} {ended:?}"
        );
        assert!(ended.err.contains("\nhelp: "), "{command} {ended:?}");
    }
    let ended = run(probe(dir.path(), ["check-config"]));
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.err.contains("warning: route"), "{ended:?}");
}
