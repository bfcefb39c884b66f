//! What a conformance run needs around it: programs, their configurations, and how they are started.

use crate::outside::{self, Program, on_path};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The key of HS256 tokens that the Centrifugos trust.
pub(crate) const TOKEN_KEY: &str = "not-a-secret";
/// The programs that the run starts.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) centrifugo: PathBuf,
    pub(crate) node: PathBuf,
    pub(crate) node_modules: PathBuf,
}

impl Programs {
    /// Finds them, or says which one is missing.
    pub(crate) fn find() -> Result<Self, String> {
        let centrifugo = outside::centrifugo()?;
        let node = on_path("node").ok_or("no node on PATH")?;
        let node_modules = match std::env::var_os("CENTRIPETA_E2E_NODE_MODULES") {
            Some(named) => PathBuf::from(named),
            None => e2e_dir().join("node_modules"),
        };
        if !node_modules.join("centrifuge/package.json").is_file()
            || !node_modules.join("ws/package.json").is_file()
        {
            return Err(
                "no node_modules with centrifuge and ws: run `npm install` in tests/e2e, \
                        or name them in CENTRIPETA_E2E_NODE_MODULES"
                    .to_owned(),
            );
        }
        Ok(Self {
            centrifugo,
            node,
            node_modules,
        })
    }
}

/// Where the driver lives.
pub(crate) fn e2e_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e")
}

/// An example of this crate, which `cargo test` builds beside the tests.
pub(crate) fn example(name: &str) -> PathBuf {
    let mut dir = std::env::current_exe().expect("a test knows where it is");
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    let path = dir.join("examples").join(name);
    let built = fs::metadata(&path).and_then(|file| file.modified());
    // Running this test alone does not build the examples again.
    let is_fresh = built.is_ok_and(|built| {
        let sources = fs::read_to_string(path.with_extension("d")).unwrap_or_default();
        let newer = |source: &str| {
            let changed = fs::metadata(source).and_then(|file| file.modified());
            changed.is_ok_and(|changed| changed > built)
        };
        !sources.split_whitespace().skip(1).any(newer)
    });
    assert!(
        is_fresh,
        "{} is missing or older than its sources: run `cargo build --examples` first (a plain \
         `cargo test` does)",
        path.display()
    );
    path
}

/// An example as a node on these ports.
pub(crate) fn start_node(name: &str, grpc: u16, admin: u16, dir: &Path) -> Program {
    let mut command = Command::new(example(name));
    command.arg("serve").current_dir(dir);
    let sets = [
        format!("listen.grpc=127.0.0.1:{grpc}"),
        format!("listen.admin=127.0.0.1:{admin}"),
        "log.format=json".to_owned(),
        "log.level=warn,mirror=debug".to_owned(),
    ];
    for set in sets {
        command.arg("--set").arg(set);
    }
    let mut node = Program::start(name, &mut command, dir);
    node.wait_ready(admin, "/ready");
    node
}

/// A Centrifugo with this configuration, kept in a file of `dir`.
pub(crate) fn start_centrifugo(
    binary: &Path,
    name: &str,
    config: &Value,
    dir: &Path,
) -> (Program, PathBuf) {
    let file = dir.join(format!("{name}.json"));
    fs::write(&file, config.to_string()).expect("a configuration file");
    let mut command = Command::new(binary);
    command.arg("--config").arg(&file).current_dir(dir);
    let mut centrifugo = Program::start(name, &mut command, dir);
    let port = config["http_server"]["port"].as_u64().expect("a port");
    let port = u16::try_from(port).expect("a port");
    centrifugo.wait_ready(port, "/health");
    (centrifugo, file)
}

/// How the Centrifugos of a run differ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    /// Where the router is, or seems to be.
    pub(crate) grpc: u16,
    /// Where the other router is, for the namespace `closed`.
    pub(crate) minimal: u16,
    /// `client.concurrency`.
    pub(crate) concurrency: u32,
    /// Whether events carry the connection meta.
    pub(crate) meta: bool,
    /// Whether connections are refreshed by us.
    pub(crate) refresh: bool,
    /// Whether what takes long by default is quick, and send queues are short.
    pub(crate) quick: bool,
}

/// The configuration of a Centrifugo that asks us about everything.
pub(crate) fn centrifugo_config(port: u16, setup: Setup) -> Value {
    let endpoint = format!("grpc://127.0.0.1:{}", setup.grpc);
    let proxy = |timeout: &str| {
        json!({
            "endpoint": endpoint, "timeout": timeout,
            "include_connection_meta": setup.meta,
        })
    };
    let named = |name: &str, port: u16, timeout: &str| json!({ "name": name, "endpoint": format!("grpc://127.0.0.1:{port}"), "timeout": timeout });
    let mut connect = proxy("1s");
    connect["enabled"] = json!(true);
    let mut refresh = proxy("1s");
    refresh["enabled"] = json!(setup.refresh);
    let mut client = json!({
        "concurrency": setup.concurrency,
        "token": { "hmac_secret_key": TOKEN_KEY },
        "proxy": { "connect": connect, "refresh": refresh },
    });
    let mut websocket = json!({});
    if setup.quick {
        client["presence_update_interval"] = json!("1s");
        client["expired_sub_close_delay"] = json!("1s");
        client["queue_max_size"] = json!(131_072);
        websocket["message_size_limit"] = json!(4_194_304);
    }
    json!({
        "http_server": { "address": "127.0.0.1", "port": port },
        "health": { "enabled": true },
        "prometheus": { "enabled": true },
        "websocket": websocket,
        "uni_websocket": { "enabled": true },
        "client": client,
        "proxies": [named("slow", setup.grpc, "10s"), named("minimal", setup.minimal, "1s")],
        "rpc": {
            "proxy": proxy("10s"),
            "without_namespace": { "proxy_enabled": true },
            "namespaces": [{ "name": "cart", "proxy_enabled": true }, { "name": "off" }],
        },
        "channel": {
            "proxy": {
                "subscribe": proxy("1s"), "publish": proxy("1s"), "sub_refresh": proxy("1s"),
                "subscribe_stream": proxy("1s"), "map_publish": proxy("1s"),
                "map_remove": proxy("1s"),
            },
            "namespaces": namespaces(),
        },
    })
}

fn namespaces() -> Value {
    json!([
        {
            "name": "chat", "subscribe_proxy_enabled": true, "publish_proxy_enabled": true,
            "presence": true, "allow_presence_for_subscriber": true,
        },
        {
            "name": "hist", "subscribe_proxy_enabled": true, "publish_proxy_enabled": true,
            "history_size": 10, "history_ttl": "300s", "allow_history_for_subscriber": true,
        },
        // Presence is off here, and switched on while it runs, to see who takes part in it.
        {
            "name": "dark", "subscribe_proxy_enabled": true, "presence": false,
            "allow_presence_for_subscriber": true,
        },
        { "name": "srv", "subscribe_proxy_enabled": true },
        { "name": "live", "subscribe_proxy_enabled": true, "sub_refresh_proxy_enabled": true },
        { "name": "own", "subscribe_proxy_enabled": true, "allow_user_limited_channels": true },
        { "name": "slow", "subscribe_proxy_enabled": true, "subscribe_proxy_name": "slow" },
        { "name": "closed", "publish_proxy_enabled": true, "publish_proxy_name": "minimal" },
        { "name": "feed", "subscribe_stream_proxy_enabled": true },
        {
            "name": "term", "subscribe_stream_proxy_enabled": true,
            "subscribe_stream_proxy_bidirectional": true,
        },
        {
            "name": "board", "subscription_type": "map", "allow_subscribe_for_client": true,
            "map": {
                "mode": "recoverable", "key_ttl": "60s",
                "publish_proxy_enabled": true, "remove_proxy_enabled": true,
            },
        },
    ])
}

/// The configuration of a Centrifugo whose application is the example `auth`, with the streams of
/// the example `streams`.
pub(crate) fn examples_config(port: u16, auth: u16, streams: u16) -> Value {
    let proxy = json!({
        "endpoint": format!("grpc://127.0.0.1:{auth}"),
        "include_connection_meta": true,
        "grpc": { "static_metadata": { "x-app": "shop" } },
    });
    let mut connect = proxy.clone();
    connect["enabled"] = json!(true);
    json!({
        "http_server": { "address": "127.0.0.1", "port": port },
        "health": { "enabled": true },
        "client": { "proxy": { "connect": connect, "refresh": connect } },
        "proxies": [{ "name": "streams", "endpoint": format!("grpc://127.0.0.1:{streams}") }],
        "rpc": { "proxy": proxy, "without_namespace": { "proxy_enabled": true } },
        "channel": {
            "proxy": { "subscribe": proxy, "publish": proxy },
            "without_namespace": { "publish_proxy_enabled": true },
            "namespaces": [
                { "name": "orders", "subscribe_proxy_enabled": true },
                {
                    "name": "clock", "subscribe_stream_proxy_enabled": true,
                    "subscribe_stream_proxy_name": "streams",
                },
                {
                    "name": "term", "subscribe_stream_proxy_enabled": true,
                    "subscribe_stream_proxy_name": "streams",
                    "subscribe_stream_proxy_bidirectional": true,
                },
            ],
        },
    })
}
