//! `doctor`, as a process, against a real node and a real Centrifugo (on `PATH`, or named by
//! `CENTRIFUGO_BIN`); without the program the tests that need it say loudly that they were skipped.
#![allow(clippy::unwrap_used)]

#[path = "support/outside.rs"]
mod outside;
#[path = "support/process.rs"]
mod process;
#[path = "doctor/world.rs"]
mod world;

use outside::free_ports;
use process::{run, stock};
use serde_json::json;
use std::fs;
use tokio::time::Instant;
use world::{Centrifugo, Found, NODE_TOML, Place, doctor};

#[test]
fn a_setup_that_works_is_found_right_and_each_fault_by_its_name() {
    let Some(program) = world::centrifugo("a setup that works") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path());
    let _node = place.start_node();
    let file = place.generated(dir.path());
    let _real = Centrifugo::start(&program, &file);
    let file = file.to_str().unwrap();
    let origin = world::ORIGIN;

    let right = doctor(&place, &["--centrifugo-config", file, "--origin", origin]);
    assert_eq!(right.code, 0, "{right:#?}");
    assert_eq!(right.bad(), Vec::<&str>::new(), "{right:#?}");
    for id in [
        "auth.events",
        "auth.admin",
        "router.serving",
        "router.credential",
        "admin.ready",
        "admin.token",
        "api.info",
        "client.connect",
        "client.router",
        "file.fine",
    ] {
        assert_eq!(right.severity(id), Some("ok"), "{id} {right:#?}");
    }
    assert!(right.found("api.info").contains("1 node"), "{right:#?}");

    let at = |set: &str| doctor(&place, &["--set", set]);
    for (set, id) in [
        ("centrifugo.key=wrong", "api.key"),
        ("listen.auth.value=wrong", "router.credential"),
        ("listen.admin_token=wrong", "admin.token"),
    ] {
        let found = at(set);
        assert_eq!((found.code, found.bad()), (1, vec![id]), "{set} {found:#?}");
    }
    assert!(at("centrifugo.key=wrong").found("api.key").contains("16"));
    // An open port of something else.
    for (port, scheme, id) in [
        (place.http, "grpc", "api.stranger"),
        (place.grpc, "grpc", "api.stranger"),
        (place.api, "grpcs", "api.tls"),
    ] {
        let found = at(&format!("centrifugo.api=[\"{scheme}://127.0.0.1:{port}\"]"));
        assert_eq!(
            (found.code, found.bad()),
            (1, vec![id]),
            "{port} {found:#?}"
        );
    }
    let http = place.http;
    for (url, id) in [
        (
            format!("ws://127.0.0.1:{http}/connection/nothing"),
            "client.stranger",
        ),
        (
            format!("wss://127.0.0.1:{http}/connection/websocket"),
            "client.tls",
        ),
        (
            format!("ws://127.0.0.1:{}/connection/websocket", place.api),
            "client.stranger",
        ),
    ] {
        let found = at(&format!("centrifugo.client={url}"));
        assert_eq!((found.code, found.bad()), (1, vec![id]), "{url} {found:#?}");
    }
    let foreign = doctor(&place, &["--origin", "https://elsewhere.example"]);
    assert_eq!(
        (foreign.code, foreign.bad()),
        (1, vec!["client.origin"]),
        "{foreign:#?}"
    );
}

#[test]
fn a_centrifugo_that_does_not_ask_this_node_is_told_by_its_cause() {
    let Some(program) = world::centrifugo("a Centrifugo that asks another node") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path());
    let _node = place.start_node();
    let mut other = Place::new(dir.path());
    fs::write(
        dir.path().join("other.toml"),
        "[node]\nname = \"other\"\n[[route]]\non = \"connect\"\nhandler = \"deny\"\n",
    )
    .unwrap();
    other.config = dir.path().join("other.toml");
    let _other = other.start_node();

    let connect = |endpoint: &str, key: &str| {
        let grpc = json!({ "credentials_key": key, "credentials_value": world::SECRET });
        json!({ "proxy": { "connect": { "enabled": true, "endpoint": endpoint, "grpc": grpc } } })
    };
    let [nowhere] = free_ports();
    let here = format!("grpc://127.0.0.1:{}", place.grpc);
    let there = format!("grpc://127.0.0.1:{}", other.grpc);
    let cases = [
        (json!({}), &place, vec!["api.disabled", "client.no-proxy"]),
        (
            connect(&format!("grpc://127.0.0.1:{nowhere}"), world::AUTH),
            &place,
            vec!["api.disabled", "client.proxy"],
        ),
        (
            connect(&here, "x-other"),
            &place,
            vec!["api.disabled", "client.credential"],
        ),
        (
            connect(&there, world::AUTH),
            &place,
            vec!["api.disabled", "client.elsewhere"],
        ),
        // The same one, seen from the node that it asks, whose application refuses everybody.
        (connect(&there, world::AUTH), &other, vec!["api.disabled"]),
    ];
    for (index, (client, seen_from, wanted)) in cases.into_iter().enumerate() {
        let [http] = free_ports();
        let file = dir.path().join(format!("{index}.json"));
        let server = json!({ "address": "127.0.0.1", "port": http });
        let config = json!({ "http_server": server, "client": client });
        fs::write(&file, config.to_string()).unwrap();
        let _real = Centrifugo::start(&program, &file);
        let url = format!("centrifugo.client=ws://127.0.0.1:{http}/connection/websocket");
        let found = doctor(seen_from, &["--set", &url]);
        assert_eq!(found.bad(), wanted, "{config} {found:#?}");
        assert_eq!(found.code, 1);
        if seen_from.grpc == other.grpc {
            assert_eq!(found.severity("client.router"), Some("ok"), "{found:#?}");
            assert!(found.found("client.router").contains("4403"), "{found:#?}");
        }
    }
}

#[test]
fn an_api_without_a_key_is_warned_of_and_a_missing_node_alone_ends_with_4() {
    let Some(program) = world::centrifugo("an API without a key") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path());
    let file = place.generated(dir.path());
    let text = fs::read_to_string(&file).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["grpc_api"]["key"] = json!("");
    fs::write(&file, config.to_string()).unwrap();
    let _real = Centrifugo::start(&program, &file);
    let lost = doctor(&place, &[]);
    assert_eq!(lost.code, 4, "{lost:#?}");
    assert_eq!(
        lost.bad(),
        ["router.unreachable", "admin.unreachable", "api.open"],
        "{lost:#?}"
    );
    assert_eq!(lost.severity("api.open"), Some("warn"), "{lost:#?}");
    assert_eq!(lost.severity("client.failed"), Some("note"), "{lost:#?}");
}

#[test]
fn where_nothing_runs_everything_is_told_soon_with_its_fix_and_without_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path());
    let begun = Instant::now();
    let lost = doctor(&place, &[]);
    assert!(begun.elapsed().as_secs() < 20);
    assert_eq!(lost.code, 1, "{lost:#?}");
    assert_eq!(
        lost.bad(),
        [
            "router.unreachable",
            "admin.unreachable",
            "api.unreachable",
            "client.unreachable"
        ],
        "{lost:#?}"
    );
    let mut words = stock(dir.path(), ["doctor"]);
    words.args(place.args());
    let words = run(words);
    assert_eq!(words.code, 1, "{words:?}");
    assert_eq!(words.out.matches("\n       fix: ").count(), 4, "{words:?}");
    assert!(
        words.out.ends_with("4 errors, 0 warnings, 0 notes\n"),
        "{words:?}"
    );
    for said in [&words.out, &words.err] {
        assert!(!said.contains(world::SECRET), "{words:?}");
    }
}

#[test]
fn who_takes_connections_and_never_answers_holds_it_up_for_a_bounded_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place::new(dir.path());
    // The system takes the connections, and nobody reads them.
    let mute = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = mute.local_addr().unwrap().port();
    place.more = vec![
        format!("listen.grpc=127.0.0.1:{port}"),
        format!("centrifugo.api=[\"grpc://127.0.0.1:{port}\"]"),
        format!("centrifugo.client=ws://127.0.0.1:{port}/connection/websocket"),
    ];
    let begun = Instant::now();
    let found = doctor(&place, &[]);
    assert!(begun.elapsed().as_secs() < 20, "{found:#?}");
    assert_eq!(found.code, 1, "{found:#?}");
    assert_eq!(
        found.bad(),
        [
            "router.serving",
            "admin.unreachable",
            "api.stranger",
            "client.stranger"
        ],
        "{found:#?}"
    );
}

#[test]
fn what_centrifugo_config_prints_has_neither_errors_nor_warnings() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path());
    for secrets in [&[][..], &["--with-secrets"]] {
        let file = place.generated_with(dir.path(), secrets);
        let found = doctor(&place, &["--centrifugo-config", file.to_str().unwrap()]);
        let bad: Vec<&str> = found.bad();
        let of_file: Vec<_> = bad.iter().filter(|id| id.starts_with("file.")).collect();
        assert!(of_file.is_empty(), "{found:#?}");
        assert_eq!(found.severity("file.fine"), Some("ok"), "{found:#?}");
    }
    // Without any setting of ours, as the shipped files stand.
    let mut command = stock(dir.path(), ["centrifugo-config", "--config", NODE_TOML]);
    command.env_remove("CENTRIFUGO_GRPC_API_KEY");
    let file = dir.path().join("plain.json");
    fs::write(&file, run(command).out).unwrap();
    let mut command = stock(dir.path(), ["doctor", "--json", "--config", NODE_TOML]);
    command.arg("--centrifugo-config").arg(&file);
    let found = Found::of(&run(command));
    assert_eq!(found.severity("file.fine"), Some("ok"), "{found:#?}");
}

#[test]
fn every_key_that_centrifugo_knows_is_known() {
    let Some(program) = world::centrifugo("the keys of Centrifugo") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path());
    let file = dir.path().join("all.json");
    let mut command = std::process::Command::new(&program);
    command.arg("defaultconfig").arg("--config").arg(&file);
    assert_eq!(run(command).code, 0);
    let text = fs::read_to_string(&file).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut space = config["channel"]["without_namespace"].clone();
    space["name"] = json!("chat");
    config["channel"]["namespaces"] = json!([space]);
    fs::write(&file, config.to_string()).unwrap();
    let found = doctor(&place, &["--centrifugo-config", file.to_str().unwrap()]);
    for id in ["file.unknown-key", "file.old-key"] {
        assert_eq!(found.severity(id), None, "{found:#?}");
    }
}

#[test]
fn everything_is_looked_at_over_tls_too() {
    let Some(program) = world::centrifugo("a setup with TLS") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let [cert, key] = [&cert, &key].map(|path| path.to_str().unwrap());
    let plain = Place::new(dir.path());
    let mut place = plain.clone();
    place.more = vec![
        format!("listen.tls.cert={cert}"),
        format!("listen.tls.key={key}"),
        format!("listen.tls.client_ca={cert}"),
        format!("centrifugo.tls.ca={cert}"),
        format!("centrifugo.api=[\"grpcs://127.0.0.1:{}\"]", place.api),
        format!(
            "centrifugo.client=wss://127.0.0.1:{}/connection/websocket",
            place.http
        ),
    ];
    let _node = place.start_node();
    let file = place.generated(dir.path());
    let text = fs::read_to_string(&file).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    let tls = json!({ "enabled": true, "cert_pem": cert, "key_pem": key });
    config["http_server"] = json!({ "address": "127.0.0.1", "port": place.http, "tls": tls });
    config["grpc_api"]["tls"] = tls;
    for pointer in world::PROXIES {
        let proxy = config.pointer_mut(pointer).unwrap();
        proxy["grpc"]["tls"]["cert_pem"] = json!(cert);
        proxy["grpc"]["tls"]["key_pem"] = json!(key);
    }
    fs::write(&file, config.to_string()).unwrap();
    let _real = Centrifugo::start(&program, &file);
    let file = file.to_str().unwrap();

    let shown = ["--tls-cert", cert, "--tls-key", key];
    let right = doctor(
        &place,
        &[&shown[..], &["--centrifugo-config", file]].concat(),
    );
    assert_eq!(
        (right.code, right.bad()),
        (0, Vec::<&str>::new()),
        "{right:#?}"
    );
    for id in [
        "router.credential",
        "api.info",
        "client.router",
        "file.fine",
    ] {
        assert_eq!(right.severity(id), Some("ok"), "{id} {right:#?}");
    }
    // Without a certificate there is nothing more to say than that it is asked for.
    let stranger = doctor(&place, &[]);
    assert_eq!(stranger.code, 0, "{stranger:#?}");
    assert_eq!(
        stranger.severity("router.certificate"),
        Some("note"),
        "{stranger:#?}"
    );
    let found = doctor(&plain, &[]);
    assert_eq!(found.code, 1);
    assert_eq!(
        found.bad(),
        ["router.tls", "api.tls", "client.tls"],
        "{found:#?}"
    );
}
