//! Who listens where: the proxy, the admin listener, the RPC server.

use super::super::source::at;
use super::super::text::{host_and_port, is_loopback, split, split_raw};
use super::{Draft, quoted};
use rustls::crypto::ring::default_provider;
use serde_json::Value;

/// The port of `listen.admin`, if nothing is said.
const ADMIN: u16 = 10_003;

impl Draft<'_> {
    /// `[listen]`.
    pub(super) fn listen(&mut self) {
        self.table("listen");
        let key = "centrifuge.proxy_address";
        let from = if self.had(key) {
            key
        } else {
            "RoadRunner's default"
        };
        let address = self.text(key);
        let address = address.unwrap_or_else(|| "tcp://127.0.0.1:30000".to_owned());
        let (grpc, open) = self.address(key, &address);
        self.put("grpc", &grpc, from);
        if open {
            self.raw("allow_open", "true", "beyond this machine, as it was");
            self.remarks.warn(
                key,
                format!(
                    "{address} lets anyone who reaches it send events, as before: allow_open = true \
                     says so; better is listen.auth, listen.tls.client_ca or 127.0.0.1"
                ),
            );
        }
        self.admin();
    }

    fn admin(&mut self) {
        let chosen = if self.had("metrics") {
            "metrics.address"
        } else if self.had("status.address") {
            "status.address"
        } else {
            let at = self.default_admin();
            self.remarks.note(
                "metrics",
                format!("RoadRunner served neither metrics nor status; both are at {at} here"),
            );
            return;
        };
        let address = self.text(chosen);
        let address = address.unwrap_or_else(|| "127.0.0.1:2112".to_owned());
        let (admin, open) = self.address(chosen, &address);
        if admin.starts_with("unix:") {
            let at = self.default_admin();
            self.remarks.left(
                chosen,
                format!(
                    "is a socket file; listen.admin takes an IP address and a port alone, and is at {at}"
                ),
            );
            return;
        }
        self.put("admin", &admin, chosen);
        if open {
            let token = format!("${{ROUTER_ADMIN_TOKEN:-{}}}", token());
            self.put(
                "admin_token",
                &token,
                "asked for, save at /health and /ready",
            );
            self.remarks.warn(
                chosen,
                format!(
                    "{address} is open beyond this machine, where all but /health and /ready wants a \
                     token here: give ROUTER_ADMIN_TOKEN, or keep the random one that was written, and \
                     have the scraper of /metrics send it as a bearer token"
                ),
            );
        }
        if !self.others.is_empty() {
            self.remarks.warn(
                chosen,
                format!("{address} is ours now: give the RoadRunner that stays another address"),
            );
        }
        if chosen == "metrics.address"
            && let Some(status) = self.text("status.address")
        {
            self.remarks.left(
                "status.address",
                format!("{status} is gone: /health and /ready answer at listen.admin, {admin}"),
            );
        }
    }

    /// Where the admin listener is if nothing is said of it: at its default, unless something else of
    /// the file is there.
    fn default_admin(&mut self) -> String {
        let mut taken = Vec::new();
        ports(&self.source.root, &mut taken);
        if !taken.contains(&ADMIN) {
            return format!("127.0.0.1:{ADMIN}, the default of listen.admin,");
        }
        let address = format!("127.0.0.1:{}", self.free_port(ADMIN));
        let from = format!("{ADMIN}, the default, stands in the file already");
        self.put("admin", &address, &from);
        address
    }

    /// `[metrics]`: dashboards go on with the names that they know.
    pub(super) fn metrics(&mut self) {
        if self.had("metrics") {
            self.table("metrics");
            self.raw("roadrunner", "true", "RoadRunner's names beside ours");
        }
    }

    /// `IP:PORT` or `unix://PATH` of an address, and whether it is open beyond this machine.
    fn address(&mut self, key: &str, address: &str) -> (String, bool) {
        let Some(bare) = host_and_port(address) else {
            return (self.socket(address), false);
        };
        if address.contains("-tcp://") || address.starts_with("${") {
            self.remarks.note(
                key,
                "the variable in it has to say HOST:PORT, without tcp://",
            );
        }
        let (host, port) = split(&bare);
        let number = port.parse::<u16>();
        if number.is_err() {
            self.remarks.warn(
                key,
                format!(
                    "{address} has no port that is known here; check-config says whether it will do"
                ),
            );
        }
        let open = !is_loopback(&host);
        if host.is_empty() && bare.starts_with(':') {
            return (format!("0.0.0.0{bare}"), true);
        }
        if host == "localhost" {
            return (bare.replacen("localhost", "127.0.0.1", 1), false);
        }
        if host.parse::<std::net::IpAddr>().is_err() && !host.is_empty() {
            self.remarks.warn(
                key,
                format!("{host} is a name, and listeners take IP addresses: 127.0.0.1 is written; say 0.0.0.0 if callers come from elsewhere"),
            );
            return (format!("127.0.0.1:{port}"), false);
        }
        (bare, open)
    }

    /// `[rpc]`.
    pub(super) fn rpc(&mut self) {
        let stays = !self.others.is_empty();
        let listen = self.text("rpc.listen");
        self.table("rpc");
        if !self
            .source
            .root
            .as_object()
            .is_some_and(|it| it.contains_key("rpc"))
        {
            self.raw(
                "listen",
                "\"off\"",
                "no rpc section: RoadRunner listens nowhere then",
            );
            return;
        }
        let key = "rpc.listen";
        let theirs = listen.unwrap_or_else(|| "tcp://127.0.0.1:6001".to_owned());
        if !stays {
            let kept = self.loopback(key, &theirs, "publish and reset workers");
            self.put("listen", &kept, key);
            return;
        }
        let fallback = self.dialled(&theirs);
        let ours = match host_and_port(&theirs) {
            None => format!("{fallback}.centripeta"),
            Some(_) => {
                let first = split(&theirs).1.parse().unwrap_or(6001);
                format!("tcp://127.0.0.1:{}", self.free_port(first))
            }
        };
        self.put("listen", &ours, "a port of its own, since RoadRunner stays");
        self.put(
            "fallback",
            &fallback,
            "rpc.listen of the RoadRunner that stays",
        );
        self.remarks.note(
            key,
            format!(
                "RoadRunner stays at {theirs}, so workers here call {ours}, which no address of the file \
                 has; it hands on to RoadRunner what it does not serve itself. RR_RPC is set to it"
            ),
        );
        if fallback.contains("${") {
            self.remarks.note(
                key,
                format!(
                    "has a variable, which rpc.fallback has too: give it to both programs with one value; \
                     {ours} must stay free"
                ),
            );
        }
        self.own_rpc = Some(ours);
    }

    /// An address of RoadRunner as others on its machine call it; its variables stay.
    fn dialled(&self, address: &str) -> String {
        if host_and_port(address).is_none() {
            return self.socket(address);
        }
        let (host, port) = split_raw(address);
        match host.trim_matches(['[', ']']) {
            "" | "0.0.0.0" | "::" => format!("tcp://127.0.0.1:{port}"),
            "localhost" => format!("tcp://127.0.0.1:{port}"),
            _ if address.starts_with("${") => address.to_owned(),
            _ => format!("tcp://{host}:{port}"),
        }
    }

    /// A socket file as RoadRunner finds it: from the folder of its file.
    fn socket(&self, address: &str) -> String {
        match address.strip_prefix("unix://") {
            Some(path) => format!("unix://{}", self.beside(path)),
            None => address.to_owned(),
        }
    }

    /// An address that nobody beyond this machine reaches; `could` is what they could do there.
    pub(super) fn loopback(&mut self, key: &str, address: &str, could: &str) -> String {
        if host_and_port(address).is_none() {
            return self.socket(address);
        }
        let (host, port) = split(address);
        if is_loopback(&host) && address.starts_with("tcp://") {
            return address.replacen("localhost", "127.0.0.1", 1);
        }
        let port = match split_raw(address).1 {
            "" if port.is_empty() => "6001",
            "" => &port,
            raw => raw,
        };
        let made = format!("tcp://127.0.0.1:{port}");
        if is_loopback(&host) {
            self.remarks
                .note(key, format!("{address} is written as {made}"));
        } else {
            let why = format!("anyone who reaches it could {could}");
            self.remarks.warn(
                key,
                format!("{address} is open beyond this machine: {why}. {made} is written"),
            );
        }
        made
    }

    /// The first port behind this one that no text of the file ends with.
    fn free_port(&self, first: u16) -> u16 {
        let mut taken = vec![2112, 10_000, 10_001, 10_002, ADMIN, 30_000];
        ports(&self.source.root, &mut taken);
        let next = first.checked_add(1).unwrap_or(6001);
        (next..=u16::MAX)
            .find(|port| !taken.contains(port))
            .unwrap_or(6002)
    }

    /// `[centrifugo]`.
    pub(super) fn centrifugo(&mut self) {
        self.table("centrifugo");
        let key = "centrifuge.grpc_api_address";
        let address = self.text(key);
        let from = if address.is_some() {
            key
        } else {
            "RoadRunner's default"
        };
        let address = address.unwrap_or_else(|| "127.0.0.1:10000".to_owned());
        let tls = at(&self.source.root, "centrifuge.tls").is_some_and(|it| !it.is_null());
        let scheme = if tls { "grpcs" } else { "grpc" };
        let bare = address.replace("tcp://", "");
        let bare = bare.split_once("://").map_or(&*bare, |(_, bare)| bare);
        let mut bare = bare.to_owned();
        if !bare.contains("${") && split_raw(&bare).1.is_empty() {
            bare = format!("{}:10000", bare.trim_end_matches(':'));
            self.remarks.warn(
                key,
                format!("{address} has no port: {bare} is written, the usual one of Centrifugo's gRPC API"),
            );
        }
        let api = format!("[{}]", quoted(&format!("{scheme}://{bare}")));
        self.raw("api", &api, from);
        self.remarks.note(
            key,
            "RoadRunner has no key for Centrifugo's gRPC API; where grpc_api.key is set there, give it \
             to centrifugo.key, whose default is the variable CENTRIFUGO_GRPC_API_KEY",
        );
        for (name, ours) in [("cert", "tls.cert"), ("key", "tls.key")] {
            let key = format!("centrifuge.tls.{name}");
            if let Some(path) = self.text(&key) {
                let path = self.beside(&path);
                self.put(ours, &path, &key);
            }
        }
        let gzip = self.flag("centrifuge.use_compressor");
        if gzip == Some(true) {
            self.remarks.left(
                "centrifuge.use_compressor",
                "calls to Centrifugo's API are not compressed here",
            );
        }
        for key in ["centrifuge.name", "centrifuge.version"] {
            self.list(key, "was never used by RoadRunner, and has no counterpart");
        }
    }

    /// A path as RoadRunner finds it: from the folder of its file.
    pub(super) fn beside(&self, path: &str) -> String {
        if path.starts_with(['/', '$']) {
            return path.to_owned();
        }
        std::path::Path::new(&self.folder())
            .join(path)
            .display()
            .to_string()
    }

    /// The folder of the file, in full.
    pub(super) fn folder(&self) -> String {
        let file = std::path::absolute(&self.source.path);
        let file = file.unwrap_or_else(|_| self.source.path.clone());
        let folder = file.parent().unwrap_or_else(|| std::path::Path::new("/"));
        folder.display().to_string()
    }
}

fn ports(value: &Value, found: &mut Vec<u16>) {
    match value {
        Value::String(text) => found.extend(split(text).1.parse::<u16>()),
        Value::Array(list) => list.iter().for_each(|it| ports(it, found)),
        Value::Object(object) => object.values().for_each(|it| ports(it, found)),
        _ => {}
    }
}

/// A token that nobody can guess.
fn token() -> String {
    let mut bytes = [0; 16];
    if default_provider().secure_random.fill(&mut bytes).is_err() {
        // An empty one is refused by the listener, which is safe.
        return String::new();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
