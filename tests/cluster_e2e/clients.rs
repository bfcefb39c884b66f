//! The process in which clients of the SDK live, and what it says of them.

use super::process::eventually;
use super::world::Programs;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// What a client was answered, or the error that it got.
pub(crate) type Answer = Result<Value, Value>;

/// Clients; they end with this.
pub(crate) struct Clients {
    _dir: tempfile::TempDir,
    child: Child,
    stdin: ChildStdin,
    said: Arc<Mutex<Vec<Value>>>,
    asked: u64,
}

impl Clients {
    /// No clients yet.
    pub(crate) fn start(programs: &Programs) -> Self {
        // Modules are looked for beside the file that imports them.
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("clients.mjs");
        fs::write(&script, include_str!("clients.mjs")).unwrap();
        let modules = fs::canonicalize(&programs.node_modules).unwrap();
        symlink(modules, dir.path().join("node_modules")).unwrap();
        let mut command = Command::new(&programs.node);
        command.arg(script).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Ok(line) = serde_json::from_str(&line) {
                    heard.lock().unwrap().push(line);
                }
            }
        });
        Self {
            _dir: dir,
            stdin: child.stdin.take().unwrap(),
            child,
            said,
            asked: 0,
        }
    }

    /// Tells them to do something; gives the number of the answer to come.
    pub(crate) fn tell(&mut self, act: &str, mut with: Value) -> u64 {
        self.asked += 1;
        with["id"] = json!(self.asked);
        with["do"] = json!(act);
        writeln!(self.stdin, "{with}").unwrap();
        self.asked
    }

    /// The answer of that number.
    pub(crate) fn answer(&self, id: u64) -> Answer {
        let what = format!("answer {id}");
        let line = eventually(&what, || self.find(|line| line["re"] == json!(id)));
        match line.get("error") {
            Some(error) => Err(error.clone()),
            None => Ok(line["ok"].clone()),
        }
    }

    /// Both.
    pub(crate) fn ask(&mut self, act: &str, with: Value) -> Answer {
        let id = self.tell(act, with);
        self.answer(id)
    }

    /// A client that is connected; gives what it was told.
    pub(crate) fn connect(&mut self, client: &str, url: &str) -> Value {
        let told = self.ask("connect", json!({ "client": client, "url": url }));
        told.unwrap()
    }

    /// A subscription that is there; gives what the client was told.
    pub(crate) fn subscribe(&mut self, client: &str, channel: &str) -> Value {
        let told = self.ask("subscribe", json!({ "client": client, "channel": channel }));
        told.unwrap()
    }

    /// A call.
    pub(crate) fn rpc(&mut self, client: &str, method: &str, data: &Value) -> Answer {
        let with = json!({ "client": client, "method": method, "data": data });
        self.ask("rpc", with)
    }

    /// A publication.
    pub(crate) fn publish(&mut self, client: &str, channel: &str, data: &Value) -> Answer {
        let with = json!({ "client": client, "channel": channel, "data": data });
        self.ask("publish", with)
    }

    /// The first line that was said and is like this.
    pub(crate) fn find(&self, is: impl Fn(&Value) -> bool) -> Option<Value> {
        let said = self.said.lock().unwrap();
        said.iter().find(|line| is(line)).cloned()
    }

    /// Every such line.
    pub(crate) fn all(&self, is: impl Fn(&Value) -> bool) -> Vec<Value> {
        let said = self.said.lock().unwrap();
        said.iter().filter(|line| is(line)).cloned().collect()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The time as the clients tell it, in milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}
