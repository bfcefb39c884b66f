//! The composition itself: its services, networks and secrets.

use super::{
    CENTRIFUGOS, NODES, OF_A_NODE, SECRETS, composed, composed_for, duration, file, networks, root,
    services, value, words, yaml,
};
use crate::outside::or_skip;
use crate::process::run;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

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
