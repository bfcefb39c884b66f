//! Programs under test: started, listened to, and ended by their own id.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it waits for other processes, to which no paused clock applies"
)]
#![allow(
    dead_code,
    reason = "each test target uses the part of it that it needs"
)]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Waits for a condition and gives what it found.
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "never happened: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The stock binary, in a directory without a configuration.
pub(crate) fn stock<A: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_centripeta"));
    command.args(args).current_dir(dir);
    command
}

/// A program of our own router: this test executable, which runs `probe` (see `main.rs`).
pub(crate) fn probe<A: Into<String>>(dir: &Path, args: impl IntoIterator<Item = A>) -> Command {
    let args: Vec<String> = args.into_iter().map(Into::into).collect();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "probe",
            "--nocapture",
            "--quiet",
            "--test-threads=1",
        ])
        .env("PROBE_ARGS", args.join("\n"))
        .current_dir(dir);
    command
}

/// What a program that ends by itself has left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a program to its end.
pub(crate) fn run(mut command: Command) -> Ended {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    Ended {
        code: status.code().unwrap_or(-1),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

impl Ended {
    /// The JSON object on stdout.
    pub(crate) fn json(&self) -> serde_json::Value {
        let line = self.out.lines().find(|line| line.starts_with('{'));
        let line = line.unwrap_or_else(|| panic!("no JSON in {self:?}"));
        serde_json::from_str(line).unwrap()
    }
}

/// A program that runs until it is told to end; killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        listen(child.stdout.take().unwrap(), &lines);
        listen(child.stderr.take().unwrap(), &lines);
        Self { child, lines }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything said so far, on stdout and stderr.
    pub(crate) fn said(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for a line that holds `part`.
    pub(crate) fn says(&self, part: &str) -> String {
        eventually(
            &format!("a line with {part:?} in {:#?}", self.said()),
            || self.said().into_iter().find(|line| line.contains(part)),
        )
    }

    /// A field of a line of the JSON log.
    pub(crate) fn logs(&self, message: &str, field: &str) -> String {
        let line = self.says(&format!("\"message\":\"{message}\""));
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        line[field].as_str().unwrap().to_owned()
    }

    /// Sends a signal to this process alone.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status();
        assert!(sent.unwrap().success());
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let said = self.said();
        eventually(&format!("the end of a process that said {said:#?}"), || {
            self.child.try_wait().unwrap()
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn listen(from: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) {
    let lines = Arc::clone(lines);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    });
}
