//! What is shipped to run a node by: container, composition, unit. Each says what the others and the
//! program say, and real programs take it.
#![allow(clippy::unwrap_used)]

#[path = "deploy/client.rs"]
mod client;
#[path = "deploy/composition.rs"]
mod composition;
#[path = "deploy/dns.rs"]
mod dns;
#[path = "deploy/files.rs"]
mod files;
#[path = "deploy/image.rs"]
mod image;
#[path = "deploy/kubernetes.rs"]
mod kubernetes;
#[path = "support/outside.rs"]
mod outside;
#[path = "support/process.rs"]
mod process;
#[path = "deploy/together.rs"]
mod together;
#[path = "deploy/unit.rs"]
mod unit;
#[path = "deploy/world.rs"]
mod world;

use centripeta::config::{Config, ListenAddr, LoadOptions, load};
use outside::{named, or_skip};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
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

/// A program on `PATH`, or the one that a variable names; without one a line says so.
fn found(name: &str, variable: &str) -> Option<PathBuf> {
    let program =
        named(variable, name).ok_or_else(|| format!("no {name} on PATH or in {variable}"));
    or_skip(&format!("what {name} says of our files"), program)
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
