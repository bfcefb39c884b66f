//! The node of the soak and its worker processes, as the system shows them.

use anyhow::{Context, bail};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// How long the node may take to be there, and to end.
const LIMIT: Duration = Duration::from_secs(60);

/// A running node; killed when dropped.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    dir: PathBuf,
    grpc: SocketAddr,
    admin: SocketAddr,
    mark: String,
}

impl Node {
    /// A node with a pool of this many workers and room for `room` requests, all workers up.
    pub(crate) async fn start(workers: usize, room: usize) -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("workers-soak-{}", std::process::id()));
        fs::create_dir_all(&dir).context("create a folder")?;
        let [grpc, admin] = [free_address()?, free_address()?];
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workers/standin.py");
        // Its processes are told by it, whoever their parent is.
        let mark = format!("workers-soak-{}", std::process::id());
        let state = dir.join("state");
        fs::write(&state, "fine").context("write the state")?;
        let text = format!(
            "[listen]\ngrpc = \"{grpc}\"\nadmin = \"{admin}\"\nmax_connection_age = \"24h\"\n[log]\nlevel = \"error\"\n\
             [rpc]\nlisten = \"off\"\n[[route]]\non = \"rpc\"\nhandler = \"app\"\n\
             [handler.app]\nkind = \"roadrunner\"\n\
             command = [\"python3\", \"-u\", {script:?}, \"{mark}\"]\n\
             env.STANDIN_START = \"file:{}\"\n\
             [handler.app.pool]\nnum_workers = {workers}\nmax_jobs = 5000\n\
             max_queue_size = {room}\nallocate_timeout = \"5s\"\n[handler.app.pool.supervisor]\nexec_ttl = \"1s\"\n\
             watch_tick = \"1s\"\nmax_worker_memory = 96\n",
            state.display()
        );
        let file = dir.join("node.toml");
        fs::write(&file, text).context("write node.toml")?;
        let log = fs::File::create(dir.join("node.log")).context("create the log")?;
        let child = Command::new(env!("CARGO_BIN_EXE_centripeta"))
            .args(["serve", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("the log")?)
            .stderr(log)
            .spawn()
            .context("start the node")?;
        let mut node = Self {
            child,
            dir,
            grpc,
            admin,
            mark,
        };
        let end = Instant::now() + LIMIT;
        loop {
            if node
                .get("/ready")
                .await
                .is_ok_and(|it| it.starts_with("HTTP/1.1 200"))
                && node.processes()?.len() == workers
            {
                return Ok(node);
            }
            if let Some(status) = node.child.try_wait()? {
                bail!("the node ended with {status}; see {}", node.dir.display());
            }
            if Instant::now() > end {
                bail!("the node is not ready; see {}", node.dir.display());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it takes events.
    pub(crate) fn address(&self) -> SocketAddr {
        self.grpc
    }

    /// Its resident memory in bytes.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let size = line.and_then(|rest| rest.trim().strip_suffix("kB"));
        let size: u64 = size.context("no VmRSS")?.trim().parse()?;
        Ok(size << 10)
    }

    /// Worker processes that live, wherever they hang.
    pub(crate) fn processes(&self) -> anyhow::Result<Vec<u32>> {
        self.marked(b"python3")
    }

    /// Processes that a worker has started and that outlive it.
    pub(crate) fn orphans(&self) -> anyhow::Result<Vec<u32>> {
        let children = self.marked(b"sh")?;
        // Looked at later, so that nobody's worker is missed.
        let workers = self.processes()?;
        // A worker leads the group of what it starts.
        let is_orphan = |pid: &u32| group(*pid).is_some_and(|leader| !workers.contains(&leader));
        Ok(children.into_iter().filter(is_orphan).collect())
    }

    /// Processes of this program that carry the mark.
    fn marked(&self, program: &[u8]) -> anyhow::Result<Vec<u32>> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // One that has just ended has none.
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0);
            // Before the worker's own program runs, ours does in its place.
            let runs = words
                .next()
                .is_some_and(|word| word.rsplit(|byte| *byte == b'/').next() == Some(program));
            if runs && words.any(|word| word == self.mark.as_bytes()) {
                found.push(pid);
            }
        }
        Ok(found)
    }

    /// From now on whoever starts ends at once.
    pub(crate) fn break_script(&self) -> anyhow::Result<()> {
        fs::write(self.dir.join("state"), "broken").context("break the script")
    }

    /// From now on whoever starts says nothing and does not end.
    pub(crate) fn hang_script(&self) -> anyhow::Result<()> {
        fs::write(self.dir.join("state"), "hang").context("hang the script")
    }

    /// From now on workers start again.
    pub(crate) fn mend(&self) -> anyhow::Result<()> {
        fs::write(self.dir.join("state"), "fine").context("mend the script")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) -> anyhow::Result<()> {
        let pid = self.pid().to_string();
        Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status()?;
        Ok(())
    }

    /// Requests in the pool, by its own gauge.
    pub(crate) async fn requests(&self) -> anyhow::Result<usize> {
        let page = self.get("/metrics").await?;
        let line = "centripeta_worker_requests{handler=\"app\"}";
        let found = page.lines().find_map(|it| it.strip_prefix(line));
        let found = found.context("no gauge of requests")?.trim();
        found.parse().context("the gauge of requests")
    }

    /// What is not yet as it is at rest; empty if all is.
    pub(crate) async fn unrest(&self, workers: usize) -> anyhow::Result<String> {
        let waiting = self.requests().await?;
        let (processes, orphans) = (self.processes()?.len(), self.orphans()?.len());
        if waiting == 0 && processes == workers && orphans == 0 {
            return Ok(String::new());
        }
        Ok(format!(
            "{waiting} requests in the pool, {processes} worker processes, {orphans} processes of workers that are gone"
        ))
    }

    /// Asks it to end; what is wrong with how it did.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Vec<String>> {
        self.signal("TERM")?;
        let end = Instant::now() + LIMIT;
        let mut wrong = Vec::new();
        loop {
            if let Some(status) = self.child.try_wait()? {
                if !status.success() {
                    wrong.push(format!("the node ended with {status}"));
                }
                break;
            }
            if Instant::now() > end {
                wrong.push("the node did not end".to_owned());
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        for (what, program) in [("worker", "python3"), ("workers' own", "sh")] {
            let left = self.marked(program.as_bytes())?;
            if !left.is_empty() {
                wrong.push(format!(
                    "{} {what} processes are left: {left:?}",
                    left.len()
                ));
                left.into_iter().try_for_each(kill)?;
            }
        }
        if wrong.is_empty() {
            // Nothing in it is needed any more.
            drop(fs::remove_dir_all(&self.dir));
        }
        Ok(wrong)
    }

    /// An answer of the admin listener, head and all.
    async fn get(&self, page: &str) -> anyhow::Result<String> {
        let mut socket = TcpStream::connect(self.admin).await?;
        let ask = format!("GET {page} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        socket.write_all(ask.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already; there is nothing left to do then.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The process group of a process; nothing of one that is gone.
fn group(pid: u32) -> Option<u32> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything: state, parent, group.
    let (_, rest) = line.rsplit_once(')')?;
    rest.split_whitespace().nth(2)?.parse().ok()
}

/// Ends a process, and what it has started in its group, at once.
pub(crate) fn kill(pid: u32) -> anyhow::Result<()> {
    // It may be gone by itself.
    Command::new("kill")
        .args(["-9", &pid.to_string()])
        .stderr(Stdio::null())
        .status()?;
    Ok(())
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
