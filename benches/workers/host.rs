//! A host of workers: the stock program, or RoadRunner's.

use super::figures::Cpu;
use anyhow::{Context, bail};
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;

/// Length of a clock tick in `/proc`, fixed at 100 Hz for user space.
const TICK: Duration = Duration::from_millis(10);
/// How long a host may take to be there.
const START: Duration = Duration::from_secs(30);
/// How long it may take to end.
const STOP: Duration = Duration::from_secs(15);

/// Which one.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Centripeta.
    Ours(Setting),
    /// RoadRunner, by this binary.
    RoadRunner(PathBuf),
}

/// How ours is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Setting {
    /// As it is by default.
    Default,
    /// Without the fence behind each request, as RoadRunner does.
    NoFence,
    /// The built-in `echo` instead of workers, which stand idle: what remains of a call.
    NoWorkers,
}

/// One that runs with its workers; asked to end, and else killed, when dropped.
#[derive(Debug)]
pub(crate) struct Host {
    name: &'static str,
    child: Child,
    address: SocketAddr,
    workers: Vec<u32>,
}

impl Host {
    /// Starts it on a free port of loopback, with its files in `dir`.
    pub(crate) fn start(
        kind: &Kind,
        script: &'static str,
        workers: u32,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let [grpc, admin, api] = free_ports()?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/workers");
        let php = root.join(format!("{script}.php"));
        let words = ["php", "-d", "opcache.enable_cli=1"];
        let (name, mut command) = match kind {
            Kind::Ours(setting) => {
                let fence = *setting != Setting::NoFence;
                let handler = match setting {
                    Setting::NoWorkers => "echo",
                    _ => "php",
                };
                let text = format!(
                    "[listen]\ngrpc = \"127.0.0.1:{grpc}\"\nadmin = \"127.0.0.1:{admin}\"\n\
                     [log]\nlevel = \"warn\"\n[rpc]\nlisten = \"off\"\n\
                     [handler.php]\nkind = \"roadrunner\"\ncommand = {words:?}\n\
                     fence = {fence}\npool.num_workers = {workers}\n[handler.echo]\nkind = \"echo\"\n\
                     [[route]]\non = \"rpc\"\nhandler = {handler:?}\n\
                     [[route]]\non = \"publish\"\nhandler = \"php\"\n"
                );
                let text = text.replace("=1\"]", &format!("=1\", {php:?}]"));
                let file = dir.join(format!("{script}.toml"));
                fs::write(&file, text).context("write node.toml")?;
                let mut command = Command::new(env!("CARGO_BIN_EXE_centripeta"));
                command.args(["serve", "--config"]).arg(file);
                ("centripeta", command)
            }
            Kind::RoadRunner(binary) => {
                let text = format!(
                    "version: \"3\"\nlogs: {{ level: warn }}\n\
                     server: {{ command: [php, -d, \"opcache.enable_cli=1\", {php:?}] }}\n\
                     centrifuge:\n  proxy_address: \"tcp://127.0.0.1:{grpc}\"\n  \
                     grpc_api_address: \"127.0.0.1:{api}\"\n  pool: {{ num_workers: {workers} }}\n"
                );
                let file = dir.join(format!("{script}.yaml"));
                fs::write(&file, text).context("write .rr.yaml")?;
                let mut command = Command::new(binary);
                command.args(["serve", "-c"]).arg(file);
                ("roadrunner", command)
            }
        };
        let log = fs::File::create(dir.join(format!("{script}-{name}.log"))).context("a log")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("a log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let mut host = Self {
            name,
            child,
            address: SocketAddr::from(([127, 0, 0, 1], grpc)),
            workers: Vec::new(),
        };
        let end = Instant::now() + START;
        loop {
            host.workers = children_of(host.child.id());
            let is_up = TcpStream::connect(host.address).is_ok();
            if is_up && host.workers.len() >= workers as usize {
                break;
            }
            if let Some(status) = host.child.try_wait()? {
                bail!("{name} ended with {status}; see {}", dir.display());
            }
            if Instant::now() > end {
                bail!("{name} is not there after {START:?}; see {}", dir.display());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(host)
    }

    /// How it is called.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Where it takes events.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Processor time so far.
    ///
    /// # Errors
    /// The host, or a worker that was there at the start, is gone.
    pub(crate) fn cpu(&self) -> anyhow::Result<Cpu> {
        let workers = self.workers.iter().map(|pid| cpu_time(*pid));
        Ok(Cpu {
            host: cpu_time(self.child.id())?,
            workers: workers.sum::<anyhow::Result<_>>()?,
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        drop(Command::new("kill").arg(pid).status());
        let end = Instant::now() + STOP;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        // It may have ended already; there is nothing left to do then.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// User and system time of a process.
fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let fields = text.rsplit_once(')').context("no process")?.1;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    let (user, system) = (ticks(), ticks());
    let ticks = user.zip(system).map(|(user, system)| user + system);
    Ok(TICK * ticks.with_context(|| format!("{path}: unexpected form"))?)
}

/// Processes whose parent this is.
fn children_of(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task"))
        .into_iter()
        .flatten();
    let lists =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| {
            let pids = list.split_ascii_whitespace().map(str::parse);
            pids.filter_map(Result::ok).collect::<Vec<u32>>()
        })
        .collect()
}

fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let held = [(); N].map(|()| TcpListener::bind(("127.0.0.1", 0)));
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&held) {
        let listener = listener
            .as_ref()
            .map_err(|why| anyhow::anyhow!("a free port: {why}"))?;
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
