//! The `node.toml` of each round: what can be reloaded changes, and now and then the file is broken.

use super::drive::Load;
use anyhow::bail;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Every so many rounds the file is broken.
const BROKEN: u64 = 7;
/// The part of the good files that has to be seen applied within its round: the probe may be refused
/// while queues are full.
const APPLIED: f64 = 0.8;

/// The file, and what became of its versions.
#[derive(Debug)]
pub(crate) struct Files {
    dir: TempDir,
    api: [SocketAddr; 2],
    collector: Option<SocketAddr>,
    round: u64,
    /// The version in force.
    version: u64,
    good: u64,
    applied: u64,
    broken: u64,
    wrong: Vec<String>,
}

impl Files {
    /// Writes the first one.
    pub(crate) fn new(api: [SocketAddr; 2], collector: Option<SocketAddr>) -> anyhow::Result<Self> {
        let files = Self {
            dir: tempfile::tempdir()?,
            api,
            collector,
            round: 0,
            version: 0,
            good: 0,
            applied: 0,
            broken: 0,
            wrong: Vec::new(),
        };
        fs::write(files.path(), files.text())?;
        Ok(files)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("node.toml")
    }

    const fn is_broken(&self) -> bool {
        self.round % BROKEN == BROKEN - 1
    }

    /// Has the program itself check the files of the first rounds: those that are meant to be broken
    /// are, and no other.
    pub(crate) async fn check(&mut self) -> anyhow::Result<()> {
        for _ in 0..4 * BROKEN {
            self.next()?;
            let is_fine = super::node::is_fine(&self.path()).await?;
            if is_fine == self.is_broken() {
                bail!("round {}: {is_fine}:\n{}", self.round, self.text());
            }
        }
        self.round = 0;
        fs::write(self.path(), self.text())?;
        Ok(())
    }

    /// Writes the next one in the place of the last one, at once.
    pub(crate) fn next(&mut self) -> anyhow::Result<()> {
        self.round += 1;
        let mut text = self.text();
        if self.is_broken() {
            let mistakes = [
                "\n[limits]\nin_flight = 1\n",
                "\n[[route]]\non = \"rpc\"\nmatch = \"version\"\nhandler = \"echo\"\n",
                "\n[handler.x]\nkind = \"nonsense\"\n",
                "\n[nonsense]\n",
            ];
            let at = usize::try_from(self.round / BROKEN)? % mistakes.len();
            text.push_str(mistakes[at]);
        }
        let next: &Path = &self.dir.path().join("next.toml");
        fs::write(next, text)?;
        fs::rename(next, self.path())?;
        Ok(())
    }

    /// Asks the node which version is in force, for as long as this may take.
    pub(crate) async fn judge(&mut self, load: &Load, limit: Duration) {
        let wanted = self.round;
        let seen = load.version(wanted, limit).await;
        if self.is_broken() {
            self.broken += 1;
            if seen == Some(wanted) {
                self.wrong
                    .push(format!("the broken file {wanted} was applied"));
            }
            return;
        }
        self.good += 1;
        match seen {
            Some(version) if version == wanted => {
                self.applied += 1;
                self.version = version;
            }
            Some(version) if version < self.version => {
                self.wrong
                    .push(format!("version {version} answered after {}", self.version));
            }
            _ => {}
        }
    }

    fn text(&self) -> String {
        let round = self.round;
        let [dies, slow] = self.api;
        let level = ["info", "warn", "debug", "error"][round as usize % 4];
        let (in_flight, lane_queue) = (256 + 32 * (round % 3), 32 + 16 * (round % 2));
        let traces = self.collector.map_or_else(String::new, |collector| {
            format!("otlp = \"http://{collector}\"\nsampling = 1.0\n")
        });
        let publish = ["allow", "deny"][round as usize % 2];
        let mut text = format!(
            r#"
[node]
name = "soak"
[listen]
grpc = "127.0.0.1:0"
admin = "127.0.0.1:0"
[centrifugo]
api = ["grpc://{dies}", "grpc://{slow}"]
timeout = "2s"
queue = 128
flights = 2
[log]
format = "json"
level = "{level}"
{traces}
[limits]
in_flight = {in_flight}
lane_queue = {lane_queue}
[runtime]
passivate_after = "2s"
[[interceptor]]
name = "pace"
on = "route"
kind = "limit"
rate = {rate}
[[route]]
on = "connect"
handler = "welcome"
[[route]]
on = ["refresh", "sub_refresh", "subscribe", "map_publish", "map_remove", "shared_poll_refresh", "cache_empty", "channel_state"]
handler = "allow"
[[route]]
on = "publish"
match = "chat:{{room}}"
handler = "{publish}"
[[route]]
on = "rpc"
match = "version"
handler = "version"
[[route]]
on = "rpc"
match = "echo.*"
handler = "echo"
key = "user"
interceptors = ["pace"]
[[route]]
on = "rpc"
match = "count"
handler = "counter"
key = "user"
[handler.welcome]
kind = "static"
reply = {{ user = "guest-{{client}}" }}
[handler.version]
kind = "static"
reply = {{ data = {{ version = {round} }} }}
"#,
            rate = 100 + 50 * (round % 4),
        );
        for extra in 0..round % 5 {
            let _infallible = write!(
                text,
                "[[route]]\non = \"rpc\"\nmatch = \"extra.{extra}\"\nhandler = \"echo\"\n"
            );
        }
        text
    }

    /// What is wrong with the reloads.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let mut wrong = self.wrong.clone();
        if (self.applied as f64) < self.good as f64 * APPLIED {
            wrong.push(format!(
                "{} of {} files were seen applied",
                self.applied, self.good
            ));
        }
        wrong
    }

    /// In words.
    pub(crate) fn summary(&self) -> String {
        format!(
            "reloads  {} files, {} seen applied within their round; {} broken ones",
            self.good, self.applied, self.broken
        )
    }
}
