//! What a `.rr.yaml` becomes: addresses, the listeners that change, commands, variables, durations.

use crate::{BOOKING, Imported, at, of_roadrunner, program, run, small};

#[test]
fn a_file_shaped_like_spirals_becomes_a_node_with_one_pool() {
    let made = of_roadrunner(BOOKING);
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
        of_roadrunner(text).passes_check_config();
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
        of_roadrunner(&text);
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
        let made = of_roadrunner(&small(&format!("centrifuge:\n  x: 1\n  {listen}\n")));
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
    let of = |more: &str| of_roadrunner(&small(&format!("centrifuge: {{}}\n{more}")));
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
    let made = of_roadrunner(&small(
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
    let none = of_roadrunner(&small("centrifuge: {}\n"));
    assert_eq!(
        at(&none.toml(), "rpc.listen").unwrap().as_str(),
        Some("off")
    );
}

#[test]
fn w113_variables_are_kept_and_quirks_are_told() {
    let made = of_roadrunner(
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
    let made = of_roadrunner(
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
        let made = of_roadrunner(&format!(
            "version: '3'\nserver:\n  command: {command}\ncentrifuge: {{}}\n"
        ));
        let found = at(&made.toml(), "handler.php.command").unwrap().clone();
        assert_eq!(found, toml::Value::from(words), "{command}");
        assert_eq!(made.says("warning", "server.command", "comma"), comma);
    }
    let both = of_roadrunner(&small("centrifuge: {pool: {command: php ws.php}}\n"));
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
        let made = of_roadrunner(&text);
        let table = made.toml();
        let found = at(&table, "handler.php.pool.allocate_timeout").and_then(toml::Value::as_str);
        assert_eq!(found, written, "{said}");
        let key = "centrifuge.pool.allocate_timeout";
        assert_eq!(made.says("warning", key, "nanoseconds"), told, "{said}");
        assert_eq!(made.says("left", key, "no duration"), said == "soon");
    }
}
