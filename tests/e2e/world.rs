//! What a conformance run needs around it: programs, free ports, configurations, and processes that
//! end with the test, whatever happens.

use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;

/// The key of HS256 tokens that the Centrifugos trust.
pub(crate) const TOKEN_KEY: &str = "not-a-secret";
/// How long a program may take until it answers.
const START: Duration = Duration::from_secs(20);

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
        let centrifugo = match std::env::var_os("CENTRIFUGO_BIN") {
            Some(named) => Some(PathBuf::from(named)).filter(|path| path.is_file()),
            None => on_path("centrifugo"),
        };
        let centrifugo =
            centrifugo.ok_or("no centrifugo: put it on PATH or name it in CENTRIFUGO_BIN")?;
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

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
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

/// Ports that nobody listens on. They are held until all are known, so that no two are the same.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind(("127.0.0.1", 0)).expect("a free port"));
    held.each_ref()
        .map(|listener| listener.local_addr().expect("its address").port())
}

/// A process that ends, by its id, when this goes out of scope.
#[derive(Debug)]
pub(crate) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts it with its output in a file of `dir`.
    pub(crate) fn start(name: &str, command: &mut Command, dir: &Path) -> Self {
        let log = dir.join(format!("{name}.log"));
        let out = File::create(&log).expect("a log file");
        let err = out.try_clone().expect("the same file");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|why| panic!("{name} does not start: {why}"));
        Self {
            name: name.to_owned(),
            child,
            log,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until a GET of `path` is answered with 200.
    pub(crate) fn wait_ready(&mut self, port: u16, path: &str) {
        let started = Instant::now();
        while !is_ok(port, path) {
            let ended = self.child.try_wait().expect("its state");
            assert!(
                ended.is_none() && started.elapsed() < START,
                "{} is not ready ({ended:?}):\n{}",
                self.name,
                fs::read_to_string(&self.log).unwrap_or_default()
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Whether it has not ended by itself.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; there is nothing left to do then.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn is_ok(port: u16, path: &str) -> bool {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let limit = Duration::from_secs(1);
    let Ok(mut stream) = TcpStream::connect_timeout(&address, limit) else {
        return false;
    };
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let mut head = [0; 12];
    stream.set_read_timeout(Some(limit)).is_ok()
        && stream.write_all(request.as_bytes()).is_ok()
        && stream.read_exact(&mut head).is_ok()
        && head.ends_with(b" 200")
}

/// An example as a node on these ports.
pub(crate) fn start_node(name: &str, grpc: u16, admin: u16, dir: &Path) -> Running {
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
    let mut node = Running::start(name, &mut command, dir);
    node.wait_ready(admin, "/ready");
    node
}

/// A Centrifugo with this configuration, kept in a file of `dir`.
pub(crate) fn start_centrifugo(
    binary: &Path,
    name: &str,
    config: &Value,
    dir: &Path,
) -> (Running, PathBuf) {
    let file = dir.join(format!("{name}.json"));
    fs::write(&file, config.to_string()).expect("a configuration file");
    let mut command = Command::new(binary);
    command.arg("--config").arg(&file).current_dir(dir);
    let mut centrifugo = Running::start(name, &mut command, dir);
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
