//! The files that the composition gives to its services: each is taken by its own program.

use super::{
    CENTRIFUGOS, NODES, OF_A_NODE, SECRETS, composed, duration, environment, file, found, get,
    networks, root, services, value, words, yaml,
};
use crate::process::{Running, run, stock};
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

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

#[test]
fn no_proxy_of_the_composition_gives_up_before_others_have_taken_over_from_a_lost_node() {
    fn timeouts(value: &Value, at: &str, found: &mut Vec<(String, Value)>) {
        let Value::Object(members) = value else {
            return;
        };
        for (name, member) in members {
            let at = format!("{at}.{name}");
            match name.as_str() {
                "timeout" if at.contains(".proxy.") => found.push((at, member.clone())),
                _ => timeouts(member, &at, found),
            }
        }
    }
    let centrifugo: Value = serde_json::from_str(&file("deploy/compose/centrifugo.json")).unwrap();
    let mut found = Vec::new();
    timeouts(&centrifugo, "", &mut found);
    assert!(found.len() >= 6, "{found:?}");
    for (at, timeout) in found {
        assert!(
            duration(&timeout) >= Duration::from_secs(3),
            "{at}: {timeout}"
        );
    }
    // Nor does the one route whose events have a key of their own.
    let node = composed();
    let count = node.routes.iter().find(|route| route.handler == "counter");
    let limit = count.unwrap().timeout.unwrap_or(node.limits.timeout);
    assert!(limit >= Duration::from_millis(2500), "{limit:?}");
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
