//! The same comparison behind a real Centrifugo: its clients call rpc, its proxy calls each server in
//! turn. Every server has a Centrifugo of its own, started anew for each round.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::child::RoleProcess;
use super::contenders::{Running, Target, contenders};
use super::ratio::{Better, Comparison, Figure};
use super::role::{Role, ServerOptions};
use super::rounds::{self, Plan, Tally};
use super::stats::Stats;
use super::websocket;

const CLIENTS: usize = 50;
const IN_FLIGHT: usize = 8;
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// Time given to the clients to connect before the warm-up.
const CONNECT_ALLOWANCE: Duration = Duration::from_millis(300);

/// What the servers showed behind a Centrifugo.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CentrifugoReport {
    clients: usize,
    in_flight: usize,
    comparisons: Vec<Comparison>,
}

impl CentrifugoReport {
    /// The report as text.
    pub(crate) fn text(&self) -> String {
        let mut text =
            format!("\nbehind Centrifugo: {CLIENTS} clients x {IN_FLIGHT} in flight, rpc\n");
        for comparison in &self.comparisons {
            text += &comparison.text();
        }
        text
    }
}

/// The program named by `CENTRIFUGO_BIN`, else the one on `PATH`.
pub(crate) fn find() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CENTRIFUGO_BIN") {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join("centrifugo"))
        .find(|path| path.is_file())
}

/// Drives all servers through all rounds.
///
/// # Errors
/// If Centrifugo or a server can't be started, or any call fails.
pub(crate) async fn measure(program: &Path, plan: &Plan) -> anyhow::Result<CentrifugoReport> {
    let contenders = contenders(ServerOptions {
        access_log: plan.access_log,
        no_metrics: plan.no_metrics,
        ..ServerOptions::default()
    });
    let mut rounds = Vec::with_capacity(plan.rounds);
    for number in 0..plan.rounds {
        let servers = Running::start(&contenders).await?;
        let mut fronts = Vec::with_capacity(contenders.len());
        for index in 0..contenders.len() {
            fronts.push(Centrifugo::start(program, servers.target(index)?.address).await?);
        }
        let slice = async |index: usize| drive(servers.target(index)?, &fronts[index], plan).await;
        rounds.push(rounds::run(&servers, plan, number, slice).await?);
        for front in fronts {
            front.guard.stop().await?;
        }
        servers.stop().await?;
    }
    Ok(CentrifugoReport {
        clients: CLIENTS,
        in_flight: IN_FLIGHT,
        comparisons: Comparison::of_each(&contenders, &figures(), &rounds),
    })
}

/// A running Centrifugo whose rpc proxy is one of the servers.
struct Centrifugo {
    guard: RoleProcess,
    process: u32,
    address: SocketAddr,
    _folder: TempDir,
}

impl Centrifugo {
    async fn start(program: &Path, proxy: SocketAddr) -> anyhow::Result<Self> {
        let address = free_address()?;
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("config.json");
        let settings = json!({
            "http_server": { "address": address.ip(), "port": address.port().to_string() },
            "log": { "level": "error" },
            "client": { "concurrency": 8, "allow_anonymous_connect_without_token": true },
            "rpc": {
                "proxy": { "endpoint": format!("grpc://{proxy}") },
                "without_namespace": { "proxy_enabled": true },
            },
        });
        std::fs::write(&config, settings.to_string())?;
        let text = |path: &Path| path.to_str().map(str::to_owned).context("path not UTF-8");
        let command = vec![text(program)?, "-c".to_owned(), text(&config)?];
        let guard = RoleProcess::start(&Role::Guard(command)).await?;
        let started = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            ensure!(
                started.elapsed() < READY_TIMEOUT,
                "Centrifugo did not listen on {address} in time"
            );
            sleep(Duration::from_millis(10)).await;
        }
        Ok(Self {
            process: guard.printed()?,
            guard,
            address,
            _folder: folder,
        })
    }
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

async fn drive(target: Target, centrifugo: &Centrifugo, plan: &Plan) -> anyhow::Result<Tally> {
    let window = plan.window(CONNECT_ALLOWANCE);
    let address = centrifugo.address;
    let threads = plan.load_threads.clamp(1, CLIENTS);
    let threads: Vec<_> = (0..threads)
        .map(|index| {
            let share = (index..CLIENTS).step_by(threads).count();
            thread::spawn(move || websocket::drive(address, share, IN_FLIGHT, window))
        })
        .collect();
    let cpu = window
        .cpu_use(target.process, Some(centrifugo.process))
        .await?;
    let stats = tokio::task::block_in_place(|| {
        let mut stats = Stats::new();
        for thread in threads {
            stats.merge(
                thread
                    .join()
                    .map_err(|_| anyhow!("a load thread panicked"))??,
            );
        }
        Ok::<_, anyhow::Error>(stats)
    })?;
    Tally::of_slice(target, window, stats, cpu).context("behind Centrifugo")
}

fn figures() -> Vec<Figure> {
    let mut figures = Tally::speed_figures();
    figures.extend([
        Figure::new("server_cpu_us_per_event", Better::Lower, |it| {
            it.us_per_call(it.cpu.server)
        }),
        Figure::new("server_percent_of_both", Better::Lower, |it| {
            let both = it.cpu.server + it.cpu.centrifugo;
            100.0 * it.us_per_call(it.cpu.server) / it.us_per_call(both)
        }),
        Figure::new("centrifugo_cpu_us_per_event", Better::Neither, |it| {
            it.us_per_call(it.cpu.centrifugo)
        }),
        Figure::new("load_cpu_us_per_event", Better::Neither, |it| {
            it.us_per_call(it.cpu.load)
        }),
        Figure::others(),
    ]);
    let barred = |figure: Figure| figure.with_bar("events_per_second", 0.95);
    figures.into_iter().map(barred).collect()
}
