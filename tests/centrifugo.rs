//! The lines of the conformance list that need a real Centrifugo and real clients (kind E).
//!
//! `mirror` and Centrifugos with different settings are started on loopback; `tests/e2e/driver.mjs`
//! drives them with the official JavaScript SDK and says how each case went, by its number. Without
//! the programs the test says loudly that it was skipped: see [`Programs::find`].
//!
//! To run some cases only: `CENTRIPETA_E2E_ONLY=C25,C78 cargo test --test centrifugo`.
#![allow(clippy::unwrap_used)]

#[path = "support/outside.rs"]
mod outside;
#[path = "e2e/world.rs"]
mod world;

use outside::{Program, free_ports, or_skip};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;
use tokio::time::Instant;
use world::{Programs, Setup, TOKEN_KEY};

/// How long all cases together may take. They run side by side; the longest waits for 70 s.
const LIMIT: Duration = Duration::from_secs(240);

/// Every line of kind E, and those of kind W whose reply may not leave us, seen from the client.
const LINES: &[u32] = &[
    25, 26, 27, 28, 30, 32, 33, 35, 37, 38, 39, 40, 41, 42, 43, 45, 46, 47, 48, 49, 51, 52, 54, 55,
    56, 57, 58, 59, 60, 62, 63, 64, 65, 66, 67, 68, 70, 71, 72, 74, 75, 76, 77, 78, 81, 84, 89, 90,
];

/// The other examples have a case each.
const EXAMPLES: [&str; 2] = ["auth", "streams"];

#[test]
fn real_centrifugo_and_real_clients_see_what_the_conformance_list_says() {
    let what = "the E lines of the conformance list";
    let Some(programs) = or_skip(what, Programs::find()) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let [grpc, admin, minimal, auth, streams, relay] = free_ports();
    let [main_port, serial_port, quick_port, down_port, examples_port] = free_ports();
    let mut mirror = world::start_node("mirror", grpc, admin, dir);
    let others = [("minimal", minimal), ("auth", auth), ("streams", streams)];
    let others = others.map(|(name, grpc)| {
        let [admin] = free_ports();
        world::start_node(name, grpc, admin, dir)
    });

    let main = Setup {
        grpc,
        minimal,
        concurrency: 8,
        meta: true,
        refresh: true,
        quick: false,
    };
    let serial = Setup {
        concurrency: 0,
        meta: false,
        refresh: false,
        ..main
    };
    let quick = Setup {
        quick: true,
        ..main
    };
    let down = Setup {
        grpc: relay,
        ..main
    };
    let configs = [
        ("main", world::centrifugo_config(main_port, main)),
        ("serial", world::centrifugo_config(serial_port, serial)),
        ("quick", world::centrifugo_config(quick_port, quick)),
        ("down", world::centrifugo_config(down_port, down)),
        (
            "examples",
            world::examples_config(examples_port, auth, streams),
        ),
    ];
    let mut centrifugos = Vec::new();
    let mut described = serde_json::Map::new();
    for (name, config) in configs {
        let (running, file) = world::start_centrifugo(&programs.centrifugo, name, &config, dir);
        let port = &config["http_server"]["port"];
        let about = json!({ "port": port, "pid": running.id(), "config": file });
        described.insert(name.to_owned(), about);
        centrifugos.push(running);
    }

    let driver = json!({
        "journal": mirror.log(),
        "relay": { "from": relay, "to": grpc },
        "tokenKey": TOKEN_KEY,
        "centrifugos": described,
    });
    let results = drive(&programs, &driver, dir);
    assert!(mirror.is_alive(), "the mirror is gone");
    drop((others, centrifugos));
    judge(&results);
}

#[test]
fn mirror_refuses_to_listen_beyond_loopback() {
    let cases = [
        &["listen.grpc=0.0.0.0:0"][..],
        &["listen.admin=0.0.0.0:0"],
        &["rpc.listen=tcp://0.0.0.0:0", "rpc.allow_open=true"],
        &[
            "cluster.listen=0.0.0.0:0",
            "cluster.advertise=127.0.0.1:7946",
            "cluster.insecure=true",
        ],
        &["cluster.advertise=192.0.2.1:7946", "cluster.insecure=true"],
    ];
    for sets in cases {
        let mut mirror = Command::new(world::example("mirror"));
        // What the configuration itself would ask for beyond loopback is given.
        mirror.args(["serve", "--set", "listen.allow_open=true"]);
        mirror.args(["--set", "listen.admin_token=token"]);
        for set in sets {
            mirror.args(["--set", set]);
        }
        let output = mirror.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains("loopback only"), "{said}");
    }
}

/// Runs the driver to its end, and gives back what it said.
fn drive(programs: &Programs, world: &serde_json::Value, dir: &std::path::Path) -> String {
    // Modules are looked for beside the files that import them.
    let scripts = dir.join("e2e");
    copy_scripts(&world::e2e_dir(), &scripts);
    symlink(
        fs::canonicalize(&programs.node_modules).unwrap(),
        scripts.join("node_modules"),
    )
    .unwrap();
    let file = dir.join("world.json");
    fs::write(&file, world.to_string()).unwrap();
    let mut command = Command::new(&programs.node);
    command.arg(scripts.join("driver.mjs")).arg(&file);
    let mut driver = Program::start("driver", &mut command, dir);
    let started = Instant::now();
    while driver.is_alive() && started.elapsed() < LIMIT {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    fs::read_to_string(driver.log()).unwrap()
}

fn copy_scripts(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_name() == "cases" {
            copy_scripts(&path, &target);
        } else if path
            .extension()
            .is_some_and(|kind| kind == "mjs" || kind == "json")
        {
            fs::copy(path, target).unwrap();
        }
    }
}

/// Every line has a case, and every case is ok.
fn judge(results: &str) {
    println!("{results}");
    let mut verdicts: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    for line in results.lines() {
        if let Some((name, verdict)) = line.split_once(' ') {
            let verdicts = verdicts.entry(name).or_default();
            verdicts.push(verdict.starts_with("ok: "));
        }
    }
    let lines = LINES.iter().map(|line| format!("C{line}"));
    let names = lines.chain(EXAMPLES.map(str::to_owned));
    let only = std::env::var("CENTRIPETA_E2E_ONLY").ok();
    let is_wanted = |name: &String| {
        only.as_ref()
            .is_none_or(|only| only.split(',').any(|one| one == name))
    };
    let is_ok = |name: &String| {
        let verdicts = verdicts.get(name.as_str());
        verdicts.is_some_and(|verdicts| verdicts.iter().all(|ok| *ok))
    };
    let bad: Vec<_> = names
        .filter(|name| is_wanted(name) && !is_ok(name))
        .collect();
    assert!(
        bad.is_empty(),
        "failed or not run: {}\n{results}",
        bad.join(", ")
    );
}
