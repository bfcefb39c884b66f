//! What is told: mistakes that two files show side by side, and where remarks stand.

use crate::{BOOKING, program, run, small};
use std::fs;

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
