//! What tells a node from another, and the file that says so.

use std::path::{Path, PathBuf};

/// The port that others reach a node at.
pub(super) const PORT: u16 = 7946;

/// What a node is configured with.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) name: String,
    /// `node.roles`, `node.serves` and whatever else, as lines of `[node]`.
    pub(crate) node: String,
    /// Lines for the end of the file: sections of their own.
    pub(crate) rest: String,
    /// Its routes.
    pub(crate) routes: String,
    /// How its links are kept from strangers, as lines of `[cluster]`.
    pub(crate) guard: String,
    /// The port that others reach it at, where it has a host of its own.
    pub(crate) port: u16,
    /// What others dial, where that is not where it listens.
    pub(crate) advertise: String,
    /// `node.data`, where it is not in the folder of the node.
    pub(crate) data: Option<PathBuf>,
}

impl Spec {
    /// A node that does everything by these routes, with links that nothing guards.
    pub(crate) fn of(name: &str, routes: String) -> Self {
        Self {
            name: name.to_owned(),
            node: String::new(),
            rest: String::new(),
            routes,
            guard: String::new(),
            port: PORT,
            advertise: String::new(),
            data: None,
        }
    }

    /// The same, but it runs these groups of events only.
    pub(crate) fn that_serves(self, serves: &[&str]) -> Self {
        Self {
            node: format!("serves = {serves:?}\n"),
            ..self
        }
    }

    /// Whether it may own slots.
    pub(super) fn may_own(&self) -> bool {
        !self.node.contains("serves") || self.node.contains("\"channel\"")
    }

    /// The configuration.
    pub(super) fn file(
        &self,
        data: &Path,
        grpc: &str,
        admin: &str,
        peers: &str,
        seeds: &[String],
    ) -> String {
        format!(
            "[node]\nname = \"{}\"\ndata = \"{}\"\n{}\n\
             [listen]\ngrpc = \"{grpc}\"\nadmin = \"{admin}\"\n\
             [log]\nformat = \"json\"\nlevel = \"info\"\n\
             [runtime]\ncores = 1\n\
             [cluster]\nlisten = \"{peers}\"\nadvertise = \"{}\"\nseeds = {seeds:?}\n{}\n{}\n{}",
            self.name,
            data.display(),
            self.node,
            self.advertise,
            self.guard,
            self.routes,
            self.rest,
        )
    }
}

/// Whoever connects is a guest.
pub(crate) const WELCOME: &str = r#"
[handler.welcome]
kind = "static"
reply = { user = "guest-{client}" }

[[route]]
on = "connect"
handler = "welcome"
"#;

/// `a`, `b`, `c` …
pub(crate) fn names(count: usize) -> impl Iterator<Item = String> {
    ('a'..='z').take(count).map(String::from)
}
