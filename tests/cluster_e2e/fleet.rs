//! Three nodes of one cluster on loopback.
//!
//! Each node takes events on a loopback address of its own, all on the same port, so that one name can
//! stand for all of them.

use super::nodes::{self, Place, Spec, names};
use super::outside::free_ports;
use super::process::{eventually, probe, stock};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The nodes.
pub(crate) const NODES: [&str; 3] = ["a", "b", "c"];

/// What nodes are started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    /// The stock binary, with the routes of its configuration.
    Stock,
    /// A program of a user's own: `program.rs`.
    Own,
}

/// Addresses and ports on loopback for three nodes.
#[derive(Debug)]
pub(crate) struct Loopback {
    binary: Binary,
    /// Where each takes events, on its address.
    pub(crate) port: u16,
    admin: [u16; 3],
    peers: [u16; 3],
}

impl Loopback {
    fn new(binary: Binary) -> Self {
        let port = shared_port();
        let ports: [u16; 6] = free_ports();
        let [a, b, c, peers @ ..] = ports;
        Self {
            binary,
            port,
            admin: [a, b, c],
            peers,
        }
    }

    /// A command of the program that the nodes are.
    pub(crate) fn program(&self, dir: &Path, arguments: &[&str]) -> Command {
        match self.binary {
            Binary::Stock => stock(dir, arguments),
            Binary::Own => probe(dir, arguments.iter().copied()),
        }
    }
}

impl Place for Loopback {
    fn on(&self, _: usize, program: &Path) -> Command {
        Command::new(program)
    }

    fn grpc(&self, node: usize, _: &Path) -> String {
        format!("{}:{}", ip(node), self.port)
    }

    fn admin(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.admin[node])
    }

    fn peers(&self, node: usize, _: u16) -> String {
        format!("127.0.0.1:{}", self.peers[node])
    }

    fn serve(&self, _: usize, home: &Path) -> Command {
        self.program(home, &["serve"])
    }
}

/// The address on which a node takes events.
pub(crate) fn ip(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 1 + u8::try_from(node).unwrap())
}

/// A port that is free on every address.
fn shared_port() -> u16 {
    eventually("a port that is free on three addresses", || {
        let first = TcpListener::bind((ip(0), 0)).ok()?;
        let port = first.local_addr().ok()?.port();
        let others = (1..NODES.len()).map(|node| TcpListener::bind((ip(node), port)));
        others
            .collect::<Result<Vec<_>, _>>()
            .is_ok()
            .then_some(port)
    })
}

/// Three nodes on loopback.
pub(crate) type Fleet = nodes::Fleet<Loopback>;

impl Fleet {
    /// Three nodes that serve everything, formed and with every slot spread. `routes` gives what stands
    /// in the configuration of the node of this name.
    pub(crate) fn of(binary: Binary, routes: impl Fn(&str) -> String) -> Self {
        let spec = |name: String| Spec::of(&name, routes(&name));
        Self::formed(binary, names(NODES.len()).map(spec).collect())
    }

    /// The same, each serving these groups of events.
    pub(crate) fn serving(
        binary: Binary,
        serves: [&[&str]; 3],
        routes: impl Fn(&str) -> String,
    ) -> Self {
        let spec =
            |(name, serves): (String, &[&str])| Spec::of(&name, routes(&name)).that_serves(serves);
        Self::formed(binary, names(NODES.len()).zip(serves).map(spec).collect())
    }

    fn formed(binary: Binary, specs: Vec<Spec>) -> Self {
        let patient = |spec| Spec {
            rest: "[limits]\nshutdown_grace = \"12s\"\n".to_owned(),
            ..spec
        };
        let specs = specs.into_iter().map(patient).collect();
        let dir = tempfile::tempdir().unwrap();
        let mut fleet = Self::files(dir, Loopback::new(binary), specs);
        fleet.form();
        fleet
    }

    /// Where a node takes events.
    pub(crate) fn address(&self, node: usize) -> SocketAddr {
        SocketAddr::from((ip(node), self.net.port))
    }

    /// Asks a node to end, and waits until it has drained.
    pub(crate) fn drain(&mut self, node: usize) {
        let code = self.stop(node);
        assert_eq!(code, Some(0), "{} ends with {code:?}", NODES[node]);
    }

    /// The sum of the series of a metric of a node with this label, if it can be asked.
    pub(crate) fn metric(&self, node: usize, name: &str, label: &str) -> Option<f64> {
        let page = http_get(&self.net.admin(node), "/metrics")?;
        let series = page
            .lines()
            .filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
        let values = series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Some(values.sum())
    }
}

fn http_get(address: &str, path: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    Some(page)
}
