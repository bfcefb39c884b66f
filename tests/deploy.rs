//! What is shipped to run a node by: container, composition, unit. Each says what the others and the
//! program say, and real programs take it.
#![allow(clippy::unwrap_used)]

#[path = "support/outside.rs"]
mod outside;
#[path = "support/process.rs"]
mod process;
#[path = "deploy/together.rs"]
mod together;

use centripeta::config::{Config, ListenAddr, LoadOptions, load};
use outside::{named, or_skip};
use process::{Running, run, stock};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SECRETS: [&str; 3] = [
    "ROUTER_KEY",
    "ROUTER_ADMIN_TOKEN",
    "CENTRIFUGO_GRPC_API_KEY",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A YAML file, with anchors and merges resolved.
fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&file(path)).unwrap()
}

fn services() -> serde_json::Map<String, Value> {
    yaml("docker-compose.yml")["services"]
        .as_object()
        .unwrap()
        .clone()
}

fn words(list: &Value) -> Vec<&str> {
    let list = list.as_array().into_iter().flatten();
    list.map(|word| word.as_str().unwrap()).collect()
}

fn duration(text: &Value) -> Duration {
    humantime(text.as_str().unwrap())
}

/// `35s` or `2m`, which is all that the files need.
fn humantime(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.len() - 1);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        _ => panic!("{text} is neither in seconds nor in minutes"),
    };
    Duration::from_secs(number.parse::<u64>().unwrap() * seconds)
}

/// The value of a variable in the tests: a secret that nothing else holds.
fn value(name: &str) -> String {
    format!("test-{}", name.to_lowercase())
}

/// The node's configuration in the composition.
fn composed() -> Config {
    let env: BTreeMap<String, String> = SECRETS
        .iter()
        .map(|name| ((*name).to_owned(), value(name)))
        .collect();
    let mut options = LoadOptions::new(env);
    options.file = Some(root().join("deploy/compose/node.toml"));
    let loaded = load(&options).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    loaded.config
}

fn port(listen: &ListenAddr) -> u16 {
    match listen {
        ListenAddr::Tcp(address) => address.port(),
        ListenAddr::Unix(path) => panic!("{} has no port", path.display()),
    }
}

/// The Compose that there is, and whether it is of the first generation.
fn compose() -> Option<(Command, bool)> {
    let answers = |command: &mut Command| {
        let output = command.arg("version").output().ok()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(said)
    };
    let mut plugin = Command::new("docker");
    if answers(plugin.arg("compose")).is_some() {
        let mut docker = Command::new("docker");
        docker.arg("compose");
        return Some((docker, false));
    }
    let said = answers(&mut Command::new("docker-compose"))?;
    let is_first = said.contains("version 1.");
    Some((Command::new("docker-compose"), is_first))
}

#[test]
fn the_compose_tool_there_is_takes_the_composition_and_wants_its_secrets() {
    let missing = "no docker-compose on PATH";
    let found = or_skip("what Compose says of our file", compose().ok_or(missing));
    let Some((_, is_first)) = found else { return };
    let dir = tempfile::tempdir().unwrap();
    let config = |text: &str, has_secrets: bool| {
        let path = dir.path().join("docker-compose.yml");
        std::fs::write(&path, text).unwrap();
        let (mut command, _) = compose().unwrap();
        command.arg("--project-directory").arg(dir.path());
        command.arg("-f").arg(path).args(["config", "--quiet"]);
        for name in SECRETS {
            match has_secrets {
                true => command.env(name, value(name)),
                false => command.env_remove(name),
            };
        }
        run(command)
    };
    let whole = file("docker-compose.yml");
    let mut text = whole.clone();
    if is_first {
        // docs/install.md says of it that it refuses two lines and takes the rest.
        let refused = config(&whole, true);
        assert_ne!(refused.code, 0, "{refused:?}");
        let said = refused.err + &refused.out;
        let names = ["'name'", "secrets.router_admin_token"];
        assert!(names.iter().all(|it| said.contains(it)), "{said}");
        let of_its_own = "environment: ROUTER_ADMIN_TOKEN";
        for (line, other) in [
            ("\nname: centripeta\n", "\n"),
            (of_its_own, "file: ./token"),
        ] {
            assert!(text.contains(line), "{line}");
            text = text.replace(line, other);
        }
    }
    let taken = config(&text, true);
    assert_eq!(taken.code, 0, "{taken:?}");
    let refused = config(&text, false);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(
        refused.err.contains("deploy/compose/env.example"),
        "{refused:?}"
    );
}

/// A program on `PATH`, or the one that a variable names; without one a line says so.
fn found(name: &str, variable: &str) -> Option<PathBuf> {
    let program =
        named(variable, name).ok_or_else(|| format!("no {name} on PATH or in {variable}"));
    or_skip(&format!("what {name} says of our files"), program)
}

#[test]
fn only_clients_and_prometheus_reach_the_composition_and_from_loopback() {
    let services = services();
    let names: Vec<&str> = services.keys().map(String::as_str).collect();
    assert_eq!(names, ["centrifugo", "centripeta", "prometheus", "redis"]);
    let published: BTreeSet<&str> = services
        .values()
        .flat_map(|service| words(&service["ports"]))
        .collect();
    let expected = ["127.0.0.1:8000:8000", "127.0.0.1:9090:9090"];
    assert_eq!(published, BTreeSet::from(expected));
    assert_eq!(
        yaml("docker-compose.yml")["networks"]["inner"]["internal"],
        true
    );
    for name in ["centripeta", "redis"] {
        assert_eq!(words(&services[name]["networks"]), ["inner"], "{name}");
    }
}

#[test]
fn every_service_is_checked_restarted_and_given_descriptors_and_time_to_stop() {
    let services = services();
    for (name, service) in &services {
        assert!(service["healthcheck"]["test"].is_array(), "{name}");
        assert_eq!(service["restart"], "unless-stopped", "{name}");
        assert!(
            service["ulimits"]["nofile"]["soft"].as_u64() >= Some(65_536),
            "{name}"
        );
        let image = service["image"].as_str().unwrap();
        assert!(
            name == "centripeta" || image.contains(':'),
            "{image} has no version"
        );
        let mounts = words(&service["volumes"]);
        for mount in mounts.iter().filter(|mount| mount.starts_with("./")) {
            let (from, rest) = mount.split_once(':').unwrap();
            assert!(root().join(from).is_file(), "{from}");
            assert!(rest.ends_with(":ro"), "{mount}");
        }
    }
    let needs = &services["centrifugo"]["depends_on"];
    for name in ["centripeta", "redis"] {
        assert_eq!(needs[name]["condition"], "service_healthy");
    }
    let node = composed();
    let stop = duration(&services["centripeta"]["stop_grace_period"]);
    assert!(stop >= node.limits.shutdown_grace + Duration::from_secs(5));
    let centrifugo: Value = serde_json::from_str(&file("deploy/compose/centrifugo.json")).unwrap();
    let stop = duration(&services["centrifugo"]["stop_grace_period"]);
    assert!(stop > duration(&centrifugo["shutdown"]["timeout"]));
}

#[test]
fn no_secret_is_committed_and_none_is_forgotten() {
    let text = file("docker-compose.yml");
    for (name, service) in &services() {
        let set = service["environment"].as_object().into_iter().flatten();
        for (variable, value) in set {
            let value = value.as_str().unwrap();
            assert!(
                value.starts_with("${") && value.contains(":?"),
                "{name} {variable}"
            );
        }
    }
    let asked: BTreeSet<&str> = text
        .split("${")
        .skip(1)
        .map(|rest| rest.split_once(":?").unwrap().0)
        .collect();
    assert_eq!(asked, BTreeSet::from(SECRETS));
    let example = file("deploy/compose/env.example");
    let listed = example.lines().filter(|line| !line.starts_with('#'));
    let listed: BTreeSet<&str> = listed.filter(|line| !line.is_empty()).collect();
    let empty: Vec<String> = SECRETS.iter().map(|name| format!("{name}=")).collect();
    assert_eq!(listed, empty.iter().map(String::as_str).collect());
    assert!(file(".gitignore").lines().any(|line| line == ".env"));
}

#[test]
fn the_nodes_file_is_valid_with_the_secrets_and_refused_without() {
    let path = root().join("deploy/compose/node.toml");
    let dir = tempfile::tempdir().unwrap();
    let check = |env: bool| {
        let mut command = stock(dir.path(), ["check-config"]);
        command.arg("--config").arg(&path);
        for name in SECRETS {
            command.env_remove(name);
            if env {
                command.env(name, value(name));
            }
        }
        run(command)
    };
    let valid = check(true);
    assert_eq!(valid.code, 0, "{valid:?}");
    let refused = check(false);
    assert_eq!(refused.code, 3, "{refused:?}");
    for name in SECRETS {
        assert!(refused.err.contains(name), "{refused:?}");
    }
    // The container gets these and no others.
    let set = services()["centripeta"]["environment"].clone();
    let set: BTreeSet<String> = set.as_object().unwrap().keys().cloned().collect();
    assert_eq!(set, SECRETS.map(str::to_owned).into());
}

/// Whether `whole` has everything that `part` has, at the same place.
fn holds(whole: &Value, part: &Value, at: &str) {
    match part {
        Value::Object(members) => {
            for (name, member) in members {
                holds(&whole[name], member, &format!("{at}.{name}"));
            }
        }
        part => assert_eq!(whole, part, "{at}"),
    }
}

#[test]
fn centrifugos_file_is_what_the_command_prints_on_redis_and_with_its_secrets_set() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = stock(
        dir.path(),
        ["centrifugo-config", "--to", "centripeta:10001"],
    );
    command
        .arg("--config")
        .arg(root().join("deploy/compose/node.toml"))
        .envs(SECRETS.map(|name| (name, value(name))));
    let printed = run(command);
    assert_eq!(printed.code, 0, "{printed:?}");
    let ours: Value = serde_json::from_str(&printed.out).unwrap();
    let shipped: Value = serde_json::from_str(&file("deploy/compose/centrifugo.json")).unwrap();
    holds(&shipped, &ours, "");
    assert_eq!(shipped["engine"]["type"], "redis");
    assert_eq!(
        words(&shipped["engine"]["redis"]["address"]),
        ["redis://redis:6379"]
    );
    assert!(!printed.out.contains("test-"), "a secret was printed");

    let services = services();
    let set = services["centrifugo"]["environment"].as_object().unwrap();
    let wanted = printed.err.lines().filter_map(|line| {
        let line = line.strip_prefix("  CENTRIFUGO_")?;
        Some(format!("CENTRIFUGO_{}", line.split(' ').next()?))
    });
    let wanted: BTreeSet<String> = wanted.collect();
    assert_eq!(set.keys().cloned().collect::<BTreeSet<_>>(), wanted);

    // Ports: of the node, of the server API, of clients, of health and metrics.
    let node = composed();
    let api = shipped["grpc_api"]["port"].as_u64();
    assert_eq!(api, Some(u64::from(node.centrifugo.api[0].port)));
    assert_eq!(node.centrifugo.api[0].host, "centrifugo");
    let client = shipped["http_server"]["port"].as_u64().unwrap();
    assert!(
        node.centrifugo
            .client
            .to_string()
            .contains(&format!(":{client}/"))
    );
    let inside = shipped["http_server"]["internal_port"].as_str().unwrap();
    let health = words(&services["centrifugo"]["healthcheck"]["test"]).join(" ");
    assert!(health.contains(&format!(":{inside}/health")), "{health}");

    if let Some(program) = found("centrifugo", "CENTRIFUGO_BIN") {
        let mut strict = Command::new(program);
        strict.args(["checkconfig", "-s", "-c"]);
        strict.arg(root().join("deploy/compose/centrifugo.json"));
        for (name, variable) in set {
            let variable = variable.as_str().unwrap();
            assert!(variable.starts_with("${"), "{name}");
            strict.env(name, "x");
        }
        let ended = run(strict);
        assert_eq!(ended.code, 0, "{ended:?}");
    }
}

/// The status of a GET on an address.
fn get(address: &str, path: &str, token: Option<&str>) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n{}\r\n",
        token.unwrap_or_default()
    );
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn prometheus_scrapes_where_the_node_of_the_composition_answers() {
    let prometheus = yaml("deploy/compose/prometheus.yml");
    let jobs = prometheus["scrape_configs"].as_array().unwrap();
    let job = |name: &str| jobs.iter().find(|job| job["job_name"] == name).unwrap();
    let ours = job("centripeta");
    let node = composed();
    let target = format!("centripeta:{}", node.listen.admin.port());
    assert_eq!(words(&ours["static_configs"][0]["targets"]), [target]);
    let shipped: Value = serde_json::from_str(&file("deploy/compose/centrifugo.json")).unwrap();
    let inside = shipped["http_server"]["internal_port"].as_str().unwrap();
    let target = format!("centrifugo:{inside}");
    assert_eq!(
        words(&job("centrifugo")["static_configs"][0]["targets"]),
        [target]
    );

    // The token, the rules and the file itself are where the container has them.
    let composition = yaml("docker-compose.yml");
    let service = &composition["services"]["prometheus"];
    let secret = words(&service["secrets"])[0];
    assert_eq!(
        ours["authorization"]["credentials_file"],
        format!("/run/secrets/{secret}")
    );
    assert_eq!(
        composition["secrets"][secret]["environment"],
        "ROUTER_ADMIN_TOKEN"
    );
    let mounts = words(&service["volumes"]).join("\n");
    for path in words(&prometheus["rule_files"]) {
        assert!(mounts.contains(path), "{path}");
    }

    // A node of this very file, on ports that are free.
    let dir = tempfile::tempdir().unwrap();
    let sets = ["listen.grpc=127.0.0.1:0", "listen.admin=127.0.0.1:0"];
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let mut command = stock(dir.path(), ["serve"].into_iter().chain(sets));
    command
        .arg("--config")
        .arg(root().join("deploy/compose/node.toml"))
        .envs(SECRETS.map(|name| (name, value(name))));
    let mut running = Running::start(command);
    let admin = running.logs("listening", "admin");
    let path = ours["metrics_path"].as_str().unwrap();
    let page = get(&admin, path, Some(&value("ROUTER_ADMIN_TOKEN")));
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.contains("centripeta_"), "{page}");
    for token in [None, Some("else")] {
        let refused = get(&admin, path, token);
        assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    }
    running.signal("TERM");
    assert_eq!(running.end().code(), Some(0));
}

/// The arguments of an instruction of the last stage.
fn instruction(name: &str) -> String {
    let text = file("Dockerfile");
    let (_, last) = text.rsplit_once("\nFROM ").unwrap();
    let line = last
        .lines()
        .find(|line| line.split(' ').next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name}"))[name.len() + 1..].to_owned()
}

#[test]
fn the_image_runs_the_program_itself_as_nobody_on_the_ports_of_the_defaults() {
    assert_eq!(instruction("ENTRYPOINT"), r#"["/usr/bin/centripeta"]"#);
    assert_eq!(instruction("CMD"), r#"["serve"]"#);
    assert_eq!(instruction("STOPSIGNAL"), "SIGTERM");
    let user: u32 = instruction("USER")
        .split(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(user > 0);
    for listen in [Config::default().listen, composed().listen] {
        let ports = format!("{} {}", port(&listen.grpc), listen.admin.port());
        assert_eq!(instruction("EXPOSE"), ports);
    }
    let version = format!("ARG VERSION={}\n", env!("CARGO_PKG_VERSION"));
    assert!(file("Dockerfile").contains(&version));
    // The directory that it starts in is the one that the composition mounts its file into.
    let mount = format!(":{}/node.toml:ro", instruction("WORKDIR"));
    let mounts = services()["centripeta"]["volumes"].clone();
    assert!(words(&mounts)[0].ends_with(&mount), "{mounts}");
}

#[test]
fn the_unit_waits_for_ready_leaves_the_drain_its_time_and_loops_on_no_bad_configuration() {
    let text = file("deploy/centripeta.service");
    let setting = |name: &str| {
        let line = text
            .lines()
            .find(|line| line.split_once('=').is_some_and(|it| it.0 == name));
        line.unwrap_or_else(|| panic!("no {name}"))[name.len() + 1..].to_owned()
    };
    assert_eq!(setting("Type"), "notify");
    assert_eq!(setting("Restart"), "on-failure");
    assert_eq!(setting("RestartPreventExitStatus"), "2 3");
    let stop = humantime(&setting("TimeoutStopSec"));
    let grace = Config::default().limits.shutdown_grace;
    assert!(stop >= grace + Duration::from_secs(10));
    assert_eq!(setting("ExecStart"), "/usr/bin/centripeta serve");
    assert_eq!(setting("CapabilityBoundingSet"), "");

    let Some(analyze) = found("systemd-analyze", "SYSTEMD_ANALYZE_BIN") else {
        return;
    };
    // It wants the program to be there.
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("centripeta.service");
    let program = env!("CARGO_BIN_EXE_centripeta");
    std::fs::write(&unit, text.replace("/usr/bin/centripeta", program)).unwrap();
    let mut verify = Command::new(analyze);
    verify.arg("verify").arg(&unit);
    let ended = run(verify);
    assert_eq!(ended.code, 0, "{ended:?}");
    let about = ended
        .err
        .lines()
        .filter(|line| line.contains("centripeta.service"));
    assert_eq!(about.count(), 0, "{ended:?}");
}
