//! A node, a Centrifugo and their ports, and what `doctor` says about them.

use crate::outside::{self, free_ports, or_skip};
use crate::process::{Ended, Running, run, stock};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// In every secret's place.
pub(crate) const SECRET: &str = "open-sesame-4711";
/// The key of the listener's credential.
pub(crate) const AUTH: &str = "x-router-key";
/// What `centrifugo-config` allows of itself.
pub(crate) const ORIGIN: &str = "http://localhost:3000";
/// The configuration that is shipped.
pub(crate) const NODE_TOML: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node.toml");

/// The proxies of the shipped routes.
pub(crate) const PROXIES: [&str; 7] = [
    "/client/proxy/connect",
    "/client/proxy/refresh",
    "/channel/proxy/subscribe",
    "/channel/proxy/publish",
    "/channel/proxy/sub_refresh",
    "/channel/proxy/subscribe_stream",
    "/rpc/proxy",
];

/// The real Centrifugo; without one a line says what is not tried.
pub(crate) fn centrifugo(what: &str) -> Option<PathBuf> {
    or_skip(what, outside::centrifugo())
}

/// A node with credentials everywhere, and its Centrifugo.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    dir: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) grpc: u16,
    admin: u16,
    pub(crate) api: u16,
    pub(crate) http: u16,
    /// Settings over those that every place has.
    pub(crate) more: Vec<String>,
}

impl Place {
    /// With the shipped configuration, on ports of its own.
    pub(crate) fn new(dir: &Path) -> Self {
        let [grpc, admin, api, http] = free_ports();
        Self {
            dir: dir.to_owned(),
            config: NODE_TOML.into(),
            grpc,
            admin,
            api,
            http,
            more: Vec::new(),
        }
    }

    /// What every command about it is given.
    pub(crate) fn args(&self) -> Vec<String> {
        let sets = [
            format!("listen.grpc=127.0.0.1:{}", self.grpc),
            format!("listen.admin=127.0.0.1:{}", self.admin),
            format!("listen.auth.metadata={AUTH}"),
            format!("listen.auth.value={SECRET}"),
            format!("listen.admin_token={SECRET}"),
            format!("centrifugo.api=[\"grpc://127.0.0.1:{}\"]", self.api),
            format!("centrifugo.key={SECRET}"),
            format!(
                "centrifugo.client=ws://127.0.0.1:{}/connection/websocket",
                self.http
            ),
        ];
        let sets = sets.into_iter().chain(self.more.iter().cloned());
        let sets = sets.flat_map(|set| ["--set".to_owned(), set]);
        let config = self.config.to_str().unwrap().to_owned();
        ["--config".to_owned(), config]
            .into_iter()
            .chain(sets)
            .collect()
    }

    /// Starts the node and waits until it listens.
    pub(crate) fn start_node(&self) -> Running {
        let mut command = stock(&self.dir, ["serve", "--set", "log.format=json"]);
        command.args(self.args());
        let node = Running::start(command);
        node.says("\"message\":\"listening\"");
        node
    }

    /// A file with what `centrifugo-config` prints, secrets within.
    pub(crate) fn generated(&self, dir: &Path) -> PathBuf {
        self.generated_with(dir, &["--with-secrets"])
    }

    pub(crate) fn generated_with(&self, dir: &Path, flags: &[&str]) -> PathBuf {
        let mut command = stock(dir, ["centrifugo-config"]);
        command.args(flags).args(self.args());
        let printed = run(command);
        assert_eq!(printed.code, 0, "{printed:?}");
        let file = dir.join("config.json");
        std::fs::write(&file, printed.out).unwrap();
        file
    }
}

/// A running Centrifugo.
pub(crate) struct Centrifugo {
    _process: Running,
}

impl Centrifugo {
    /// Starts it and waits until it serves clients.
    pub(crate) fn start(program: &Path, file: &Path) -> Self {
        let mut command = Command::new(program);
        let dir = file.parent().unwrap();
        command.arg("--config").arg(file).current_dir(dir);
        let process = Running::start(command);
        process.says("serving websocket");
        Self { _process: process }
    }
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) code: i32,
    list: Vec<Value>,
}

/// Runs it about a place, with further arguments.
pub(crate) fn doctor(place: &Place, more: &[&str]) -> Found {
    let mut command = stock(&place.dir, ["doctor", "--json"]);
    command.args(place.args()).args(more);
    Found::of(&run(command))
}

impl Found {
    pub(crate) fn of(ended: &Ended) -> Self {
        for said in [&ended.out, &ended.err] {
            assert!(!said.contains(SECRET), "{ended:?}");
        }
        let list = serde_json::from_str(&ended.out);
        let list = list.unwrap_or_else(|why| panic!("{why}: {ended:?}"));
        Self {
            code: ended.code,
            list,
        }
    }

    /// The ids of warnings and errors, in their order.
    pub(crate) fn bad(&self) -> Vec<&str> {
        let bad = self.list.iter().filter(|it| {
            let severity = it["severity"].as_str().unwrap();
            matches!(severity, "warn" | "error")
        });
        bad.inspect(|it| assert!(it["fix"].is_string(), "{it}"))
            .map(|it| it["id"].as_str().unwrap())
            .collect()
    }

    fn one(&self, id: &str) -> Option<&Value> {
        self.list.iter().find(|it| it["id"] == id)
    }

    pub(crate) fn severity(&self, id: &str) -> Option<&str> {
        self.one(id)?["severity"].as_str()
    }

    pub(crate) fn found(&self, id: &str) -> &str {
        self.one(id).unwrap()["found"].as_str().unwrap()
    }
}
