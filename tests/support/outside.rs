//! What is outside of this crate and may be missing: ports, programs on this machine, and processes of
//! them that end with the test, whatever happens.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "each test target uses the part of it that it needs"
)]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;

/// How long a program may take until it answers.
const START: Duration = Duration::from_secs(20);
/// How long a program that is asked to end may take.
const END: Duration = Duration::from_secs(5);

/// Ports that nobody listens on. They are held until all are known, so that no two are the same.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind(("127.0.0.1", 0)).unwrap());
    held.each_ref()
        .map(|listener| listener.local_addr().unwrap().port())
}

/// A program on `PATH`.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|program| program.is_file())
}

/// The program that a variable names, or without one the first of its name on `PATH`.
pub(crate) fn named(variable: impl AsRef<OsStr>, name: &str) -> Option<PathBuf> {
    match std::env::var_os(variable) {
        Some(named) => Some(PathBuf::from(named)).filter(|program| program.is_file()),
        None => on_path(name),
    }
}

/// The real Centrifugo, or why there is none.
pub(crate) fn centrifugo() -> Result<PathBuf, &'static str> {
    let missing = "no centrifugo: put it on PATH or name it in CENTRIFUGO_BIN";
    named("CENTRIFUGO_BIN", "centrifugo").ok_or(missing)
}

/// The variable that names what must not be missing, in a comma list: programs as [`or_skip`] would say
/// that there is none (`redis` for "no redis-server on PATH"), or `cluster` for network namespaces and
/// what they need.
const MUST: &str = "CENTRIPETA_TEST_MUST";

/// Whether what is said to be missing is on such a list.
pub(crate) fn must(list: &str, missing: &str) -> bool {
    let is_it = |listed: &str| {
        let program = missing.strip_prefix("no ").unwrap_or_default();
        let program = program.trim_start_matches('`');
        let rest = program.strip_prefix(listed);
        rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
    };
    let mut listed = list.split(',').map(str::trim).filter(|it| !it.is_empty());
    listed.any(|listed| match listed {
        "cluster" => missing.contains("network namespaces") || is_it("iptables"),
        listed => is_it(listed),
    })
}

/// What was looked for; where it is missing, one line that says what is not tried without it. Where it
/// has been named in `CENTRIPETA_TEST_MUST` the test fails instead: nobody reads lines of a run that
/// is green.
pub(crate) fn or_skip<T>(what: &str, found: Result<T, impl AsRef<str>>) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(missing) => {
            let list = std::env::var(MUST).unwrap_or_default();
            let missing = missing.as_ref();
            assert!(
                !must(&list, missing),
                "{what}: {missing}; {MUST} is {list}, so this is not to be skipped"
            );
            // The macros would be captured.
            let line = format!("SKIPPED: {what}: {missing}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            None
        }
    }
}

/// A process with its output in a file; ended, by its id, when this goes out of scope.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    child: Child,
    log: PathBuf,
    is_asked: bool,
}

impl Program {
    /// Starts it in a folder, which gets its output as `NAME.log`.
    pub(crate) fn start(name: &str, command: &mut Command, dir: &Path) -> Self {
        let log = dir.join(format!("{name}.log"));
        let out = File::create(&log).unwrap();
        let err = out.try_clone().unwrap();
        command.current_dir(dir).stdin(Stdio::null());
        let child = command.stdout(out).stderr(err).spawn();
        Self {
            name: name.to_owned(),
            child: child.unwrap_or_else(|why| panic!("{name} does not start: {why}")),
            log,
            is_asked: false,
        }
    }

    /// It is asked to end before it is killed, for a program with processes of its own.
    pub(crate) fn asked_to_end(mut self) -> Self {
        self.is_asked = true;
        self
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The file with its output.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Sends a signal, such as `HUP`, to this process alone.
    pub(crate) fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        let sent = kill.args([format!("-{name}"), self.id().to_string()]);
        assert!(sent.status().unwrap().success(), "{} is gone", self.name);
    }

    /// Whether it has not ended by itself.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until a GET of `path` is answered with 200.
    pub(crate) fn wait_ready(&mut self, port: u16, path: &str) {
        self.wait_until(|| is_ok(port, path));
    }

    /// Waits until its port takes connections.
    pub(crate) fn wait_listens(&mut self, port: u16) {
        self.wait_until(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
    }

    fn wait_until(&mut self, is_there: impl Fn() -> bool) {
        let started = Instant::now();
        while !is_there() {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && started.elapsed() < START,
                "{} is not ready ({ended:?}):\n{}",
                self.name,
                fs::read_to_string(&self.log).unwrap_or_default()
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.is_asked && self.is_alive() {
            let id = self.id().to_string();
            drop(Command::new("kill").arg(id).status());
            let asked = Instant::now();
            while self.is_alive() && asked.elapsed() < END {
                std::thread::park_timeout(Duration::from_millis(10));
            }
        }
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
