//! A client of the official JavaScript SDK, as a process.

use crate::outside::{on_path, or_skip};
use crate::world::LIMIT;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// Where the packages `centrifuge` and `ws` are, or one line that they are missing.
pub(crate) fn modules() -> Option<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let modules = match std::env::var_os("CENTRIPETA_E2E_NODE_MODULES") {
        Some(named) => PathBuf::from(named),
        None => tests.join("e2e/node_modules"),
    };
    let has = |name: &str| modules.join(name).join("package.json").is_file();
    let is_there = on_path("node").is_some() && has("centrifuge") && has("ws");
    let missing = "no node on PATH, or no node_modules with centrifuge and ws in tests/e2e";
    let modules = is_there.then(|| fs::canonicalize(modules).unwrap());
    or_skip("SDKs through nginx", modules.ok_or(missing))
}

/// The client; it ends with this.
pub(crate) struct Sdk {
    _dir: TempDir,
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Sdk {
    pub(crate) fn start(modules: &Path, transport: &str, port: u16) -> Self {
        // Modules are looked for beside the file that imports them.
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("sdk.mjs");
        fs::write(&script, include_str!("sdk.mjs")).unwrap();
        symlink(modules, dir.path().join("node_modules")).unwrap();
        let mut command = Command::new("node");
        command.arg(script).args([transport, &port.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            _dir: dir,
            _child: child,
            lines,
        }
    }

    /// The next thing that it says.
    pub(crate) async fn next(&mut self) -> Value {
        let line = timeout(LIMIT, self.lines.next_line()).await;
        let line = line.expect("it says nothing more").unwrap();
        serde_json::from_str(&line.expect("it has ended")).unwrap()
    }

    /// Everything up to the first such event, with it.
    pub(crate) async fn until(&mut self, event: &str) -> Vec<Value> {
        let mut said = Vec::new();
        while said
            .last()
            .is_none_or(|last: &Value| last["event"] != event)
        {
            said.push(self.next().await);
        }
        said
    }
}

/// The data of the publications among these.
pub(crate) fn publications(said: &[Value]) -> Vec<Value> {
    let publications = said.iter().filter(|it| it["event"] == json!("publication"));
    publications.map(|it| it["data"].clone()).collect()
}
