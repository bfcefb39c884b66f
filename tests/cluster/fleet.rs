//! Nodes on hosts of their own, started from the stock binary.
//!
//! Events come in over a unix socket per node, which a namespace does not cut; nodes reach each other
//! over the network of the test.

use super::net::Net;
use super::nodes::{self, Place, WELCOME};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use super::nodes::{Spec, names};

/// A secret for nodes beyond loopback.
pub(crate) const SECRET: &str = "a secret of sixteen bytes and more";

/// The port that each node has for its operators, on its own host.
const ADMIN: u16 = 10003;

impl Spec {
    /// A node that does everything.
    pub(crate) fn plain(name: &str) -> Self {
        Self {
            guard: format!("secret = \"{SECRET}\""),
            ..Self::of(name, format!("{WELCOME}{ROUTES}"))
        }
    }
}

/// Routes that every node of a test has, beside [`WELCOME`].
pub(crate) const ROUTES: &str = r#"
[[route]]
on = ["subscribe", "publish"]
match = "chat:{room}"
handler = "allow"

[[route]]
on = "rpc"
match = "count"
key = "room:{user}"
handler = "counter"

[[route]]
on = "rpc"
match = "echo"
handler = "echo"

[[route]]
on = "stream"
match = "feed:{name}"
handler = "allow"
"#;

impl Place for Net {
    fn on(&self, node: usize, program: &Path) -> Command {
        Net::on(self, node, program)
    }

    fn grpc(&self, _: usize, home: &Path) -> String {
        format!("unix://{}", socket(home).display())
    }

    fn admin(&self, _: usize) -> String {
        format!("127.0.0.1:{ADMIN}")
    }

    fn peers(&self, node: usize, port: u16) -> String {
        format!("{}:{port}", self.address(node))
    }
}

fn socket(home: &Path) -> PathBuf {
    home.join("events.sock")
}

/// Nodes on hosts.
pub(crate) type Fleet = nodes::Fleet<Net>;

impl Fleet {
    /// These nodes, formed and every slot spread: the first founds the cluster.
    pub(crate) fn of(specs: Vec<Spec>) -> Self {
        let mut fleet = Self::prepare(specs, 0);
        fleet.form();
        fleet
    }

    /// So many nodes that do everything.
    pub(crate) fn plain(count: usize) -> Self {
        Self::of(names(count).map(|name| Spec::plain(&name)).collect())
    }

    /// Hosts and files, and `spare` hosts more; nothing is started.
    pub(crate) fn prepare(specs: Vec<Spec>, spare: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let net = Net::new(specs.len() + spare, dir.path());
        Self::files(dir, net, specs)
    }

    /// Where a node takes events.
    pub(crate) fn socket(&self, node: usize) -> PathBuf {
        socket(&self.home(node))
    }

    /// A page of a node's admin listener.
    pub(crate) fn page(&self, node: usize, path: &str) -> String {
        let get = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{ADMIN}; printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
        );
        let mut bash = self.net.on(node, Path::new("bash"));
        let out = bash.args(["-c", &get]).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    }
}
