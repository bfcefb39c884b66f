//! What is shipped to run a node by: container, composition, unit. Each says what the others and the
//! program say, and real programs take it.
#![allow(clippy::unwrap_used)]

#[path = "deploy/client.rs"]
mod client;
#[path = "deploy/dns.rs"]
mod dns;
#[path = "deploy/kubernetes.rs"]
mod kubernetes;
#[path = "support/outside.rs"]
mod outside;
#[path = "support/process.rs"]
mod process;
#[path = "deploy/together.rs"]
mod together;
#[path = "deploy/world.rs"]
mod world;

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

const SECRETS: [&str; 4] = [
    "ROUTER_KEY",
    "ROUTER_ADMIN_TOKEN",
    "CLUSTER_SECRET",
    "CENTRIFUGO_GRPC_API_KEY",
];

/// What the composition says of each node by itself.
const OF_A_NODE: [&str; 2] = ["CENTRIPETA_NODE__NAME", "CENTRIPETA_CLUSTER__ADVERTISE"];

/// The nodes, by their name in the cluster; each is a service `centripeta-NAME`.
const NODES: [&str; 3] = ["a", "b", "c"];

const CENTRIFUGOS: [&str; 2] = ["centrifugo-1", "centrifugo-2"];

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

/// What a service finds in its environment once Compose has put in the secrets.
fn environment(service: &str) -> BTreeMap<String, String> {
    let set = services()[service]["environment"].clone();
    let set = set.as_object().unwrap().iter();
    set.map(|(name, text)| {
        let text = text.as_str().unwrap();
        let asked = text
            .strip_prefix("${")
            .and_then(|rest| rest.split_once(":?"));
        let set = asked.map_or_else(|| text.to_owned(), |(secret, _)| value(secret));
        (name.clone(), set)
    })
    .collect()
}

/// The networks of a service, with the further names that it has in each.
fn networks(service: &Value) -> BTreeMap<String, Vec<String>> {
    let owned = |list: &Value| words(list).into_iter().map(str::to_owned).collect();
    match &service["networks"] {
        Value::Object(networks) => networks
            .iter()
            .map(|(name, how)| (name.clone(), owned(&how["aliases"])))
            .collect(),
        list => words(list)
            .into_iter()
            .map(|name| (name.to_owned(), Vec::new()))
            .collect(),
    }
}

/// The configuration of node a in the composition.
fn composed() -> Config {
    composed_for("a")
}

/// The configuration of a node in the composition.
fn composed_for(node: &str) -> Config {
    let env = environment(&format!("centripeta-{node}"));
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
    let expected = [
        "centrifugo-1",
        "centrifugo-2",
        "centripeta-a",
        "centripeta-b",
        "centripeta-c",
        "centripeta-init",
        "nginx",
        "prometheus",
        "redis",
    ];
    assert_eq!(names, expected);
    let published: BTreeSet<(&str, &str)> = services
        .iter()
        .flat_map(|(name, service)| words(&service["ports"]).into_iter().map(|it| (&**name, it)))
        .collect();
    let expected = [
        ("nginx", "127.0.0.1:8000:80"),
        ("prometheus", "127.0.0.1:9090:9090"),
    ];
    assert_eq!(published, BTreeSet::from(expected));
    assert_eq!(
        yaml("docker-compose.yml")["networks"]["inner"]["internal"],
        true
    );
    for (name, service) in &services {
        let networks: Vec<String> = networks(service).into_keys().collect();
        match &**name {
            "nginx" | "prometheus" => assert_eq!(networks, ["inner", "outer"], "{name}"),
            _ => assert_eq!(networks, ["inner"], "{name}"),
        }
    }
}

#[test]
fn every_service_is_checked_restarted_and_given_descriptors_and_time_to_stop() {
    let services = services();
    for (name, service) in &services {
        match &**name {
            // Runs once.
            "centripeta-init" => assert_eq!(service["restart"], "no"),
            _ => {
                assert!(service["healthcheck"]["test"].is_array(), "{name}");
                assert_eq!(service["restart"], "unless-stopped", "{name}");
            }
        }
        assert!(
            service["ulimits"]["nofile"]["soft"].as_u64() >= Some(65_536),
            "{name}"
        );
        let image = service["image"].as_str().unwrap();
        assert!(
            image == "centripeta" || image.contains(':'),
            "{image} has no version"
        );
        let mounts = words(&service["volumes"]);
        for mount in mounts.iter().filter(|mount| mount.starts_with("./")) {
            let (from, rest) = mount.split_once(':').unwrap();
            assert!(root().join(from).is_file(), "{from}");
            assert!(rest.ends_with(":ro"), "{mount}");
        }
    }
    for name in NODES.map(|node| format!("centripeta-{node}")) {
        let node = composed();
        let service = &services[&name];
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(words(&service["cap_drop"]), ["ALL"], "{name}");
        let check = words(&service["healthcheck"]["test"]).join(" ");
        assert!(check.ends_with("centripeta health --ready"), "{check}");
        let stop = duration(&service["stop_grace_period"]);
        assert!(stop >= node.limits.shutdown_grace + Duration::from_secs(5));
        for centrifugo in CENTRIFUGOS {
            let needs = &services[centrifugo]["depends_on"];
            assert_eq!(needs[&name]["condition"], "service_healthy");
        }
    }
    let centrifugo: Value = serde_json::from_str(&file("deploy/compose/centrifugo.json")).unwrap();
    for name in CENTRIFUGOS {
        let service = &services[name];
        let needs = &service["depends_on"]["redis"];
        assert_eq!(needs["condition"], "service_healthy");
        let stop = duration(&service["stop_grace_period"]);
        assert!(stop > duration(&centrifugo["shutdown"]["timeout"]));
        // nginx finds no name of what has not started.
        let needs = &services["nginx"]["depends_on"];
        assert_eq!(needs[name]["condition"], "service_healthy");
    }
}

#[test]
fn the_nodes_differ_by_name_address_and_disk_alone_and_the_first_founds_the_cluster() {
    let services = services();
    let stripped = |service: &str| {
        let mut service = services[service].clone();
        let members = service.as_object_mut().unwrap();
        for of_its_own in ["environment", "volumes", "depends_on"] {
            members.remove(of_its_own);
        }
        service
    };
    let mut disks = BTreeSet::new();
    for node in NODES {
        let name = format!("centripeta-{node}");
        let service = &services[&name];
        assert_eq!(stripped(&name), stripped("centripeta-a"));
        let config = composed_for(node);
        assert_eq!(config.node.name, node);
        let cluster = config.cluster.unwrap();
        let peers = cluster.listen.port();
        assert_eq!(
            cluster.advertise.as_deref(),
            Some(&*format!("{name}:{peers}"))
        );
        assert!(cluster.listen.ip().is_unspecified());
        // One name for all of them: of Centrifugo's proxies, and of the seed.
        assert_eq!(networks(service)["inner"], ["centripeta"]);
        assert_eq!(cluster.seeds, [format!("centripeta:{peers}")]);
        assert_eq!(cluster.security().secrets.len(), 1);
        // Its disk is a volume of its own, where node.data is.
        let place = config.node.data.display().to_string();
        let mounts = words(&service["volumes"]);
        let disk = mounts.iter().find_map(|mount| {
            let (volume, at) = mount.split_once(':')?;
            (at == place).then_some(volume)
        });
        let disk = disk.unwrap_or_else(|| panic!("nothing at {place} in {mounts:?}"));
        let volumes = yaml("docker-compose.yml")["volumes"].clone();
        assert!(volumes.as_object().unwrap().contains_key(disk), "{disk}");
        assert!(disks.insert(disk.to_owned()), "{disk} is of two nodes");
        // A ready node needs a quorum: were they to wait for each other, no stop of all would be survived.
        let needs = service["depends_on"].as_object().into_iter().flatten();
        let needs: Vec<&str> = needs.map(|(name, _)| &**name).collect();
        let expected: &[&str] = if node == "a" {
            &["centripeta-init"]
        } else {
            &[]
        };
        assert_eq!(needs, expected);
    }
    let first = &services["centripeta-a"];
    let needs = &first["depends_on"]["centripeta-init"]["condition"];
    assert_eq!(needs, "service_completed_successfully");
    let init = &services["centripeta-init"];
    assert_eq!(words(&init["command"]), ["cluster", "init"]);
    for same in ["environment", "volumes", "image", "read_only", "cap_drop"] {
        assert_eq!(init[same], first[same], "{same}");
    }
    // It is no node that others could find.
    assert_eq!(networks(init)["inner"], Vec::<String>::new());
}

#[test]
fn the_image_has_a_place_for_the_disk_of_a_node_that_belongs_to_its_user() {
    let data = composed().node.data.display().to_string();
    let user = instruction("USER");
    let copied = format!("COPY --from=build --chown={user} /data {data}\n");
    assert!(file("Dockerfile").contains(&copied), "{copied}");
}

#[test]
fn the_compositions_nginx_is_the_shipped_one_but_for_how_it_finds_centrifugo() {
    let begin = |text: &str| text.find("\nworker_processes").unwrap();
    let (shipped, composed) = (file("deploy/nginx.conf"), file("deploy/compose/nginx.conf"));
    let (shipped, composed) = (&shipped[begin(&shipped)..], &composed[begin(&composed)..]);
    // The parts before a block, the block, and after it.
    let parts = |text: &str, from: &str| {
        let to = "    server {\n        listen 80;";
        let (before, rest) = text.split_once(from).unwrap();
        let (block, after) = rest.split_once(to).unwrap();
        [before, block, after].map(str::to_owned)
    };
    let [before, _, after] = parts(shipped, "    # Every Centrifugo node;");
    let [before_too, block, after_too] = parts(composed, "    # Every Centrifugo stands");
    assert_eq!(before, before_too);
    let after = after.replace("http://centrifugo;", "http://$centrifugo;");
    assert_eq!(after, after_too);
    let centrifugo: Value = serde_json::from_str(&file("deploy/compose/centrifugo.json")).unwrap();
    let all = format!("default centrifugo:{};", centrifugo["http_server"]["port"]);
    assert!(block.contains(&all), "{block}");
    for name in CENTRIFUGOS {
        assert_eq!(networks(&services()[name])["inner"], ["centrifugo"]);
    }
}

#[test]
fn no_secret_is_committed_and_none_is_forgotten() {
    let text = file("docker-compose.yml");
    for (name, service) in &services() {
        let set = service["environment"].as_object().into_iter().flatten();
        for (variable, value) in set {
            if OF_A_NODE.contains(&&**variable) {
                continue;
            }
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
    // Whoever copies a line that makes them makes all.
    for page in ["deploy/compose/env.example", "docs/install.md"] {
        let line = format!("for name in {}; do", SECRETS.join(" "));
        assert!(file(page).contains(&line), "{page}: {line}");
    }
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
    // The containers get these and no others.
    for node in NODES {
        let set = environment(&format!("centripeta-{node}"));
        let set: BTreeSet<String> = set.into_keys().collect();
        let expected = SECRETS.into_iter().chain(OF_A_NODE).map(str::to_owned);
        assert_eq!(set, expected.collect());
    }
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
    assert_eq!(services["centrifugo-1"], services["centrifugo-2"]);
    let set = services["centrifugo-1"]["environment"].as_object().unwrap();
    let wanted = printed.err.lines().filter_map(|line| {
        let line = line.strip_prefix("  CENTRIFUGO_")?;
        Some(format!("CENTRIFUGO_{}", line.split(' ').next()?))
    });
    let wanted: BTreeSet<String> = wanted.collect();
    assert_eq!(set.keys().cloned().collect::<BTreeSet<_>>(), wanted);

    // Ports: of the node, of the server API, of clients, of health and metrics.
    let node = composed();
    let api = shipped["grpc_api"]["port"].as_u64();
    let apis = node.centrifugo.api.iter();
    let apis: Vec<_> = apis.map(|it| (&*it.host, u64::from(it.port))).collect();
    assert_eq!(apis, CENTRIFUGOS.map(|name| (name, api.unwrap())));
    let client = shipped["http_server"]["port"].as_u64().unwrap();
    assert!(
        node.centrifugo
            .client
            .to_string()
            .contains(&format!(":{client}/"))
    );
    let inside = shipped["http_server"]["internal_port"].as_str().unwrap();
    let health = words(&services["centrifugo-1"]["healthcheck"]["test"]).join(" ");
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
    let admin = node.listen.admin.port();
    let targets = NODES.map(|node| format!("centripeta-{node}:{admin}"));
    assert_eq!(words(&ours["static_configs"][0]["targets"]), targets);
    let shipped: Value = serde_json::from_str(&file("deploy/compose/centrifugo.json")).unwrap();
    let inside = shipped["http_server"]["internal_port"].as_str().unwrap();
    let targets = CENTRIFUGOS.map(|name| format!("{name}:{inside}"));
    assert_eq!(
        words(&job("centrifugo")["static_configs"][0]["targets"]),
        targets
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
    let sets = [
        "listen.grpc=127.0.0.1:0",
        "listen.admin=127.0.0.1:0",
        "cluster.listen=127.0.0.1:0",
        "cluster.advertise=",
        "cluster.seeds=[]",
        "node.data=data",
    ];
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
    let mounts = services()["centripeta-a"]["volumes"].clone();
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
    // What a member of a cluster keeps goes where the node may write.
    let data = format!(
        "CENTRIPETA_NODE__DATA=/var/lib/{}",
        setting("StateDirectory")
    );
    assert_eq!(setting("Environment"), data);

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
