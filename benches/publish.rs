//! The publish bench: publications per second through our publisher, beside a bare tonic client that
//! calls the same API one by one, with as many calls in flight.
//!
//! The API is that of a real Centrifugo (on `PATH`, or named by `CENTRIFUGO_BIN`), a child of this
//! process; without one, a server in this process that only counts. The contenders take turns within
//! a round, and what is reported is the median of the rounds' ratios: absolute figures of a shared
//! machine promise nothing.
//!
//! `cargo bench --bench publish -- [--rounds 5] [--seconds 2] [--in-flight 256] [--channels 1000]
//! [--bytes 32] [--flights 4] [--double]`; it fails below the bar of 3 at the default settings.

use anyhow::{Context, bail};
use centripeta::config::{CentrifugoConfig, Config, Endpoint};
use centripeta::egress::{Error, Publisher};
use centripeta::proto::api;
use centripeta::proto::api::centrifugo_api_client::CentrifugoApiClient;
use centripeta::proto::api::centrifugo_api_server::{CentrifugoApi, CentrifugoApiServer};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Below this the bench fails.
const BAR: f64 = 3.0;
/// What we aim at.
const AIM: f64 = 5.0;

#[derive(Debug, Clone)]
struct Settings {
    rounds: usize,
    time: Duration,
    in_flight: usize,
    channels: usize,
    bytes: usize,
    flights: usize,
    double: bool,
    /// Whether the bar holds for them.
    is_default: bool,
}

impl Settings {
    fn parse(arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut settings = Self {
            rounds: 5,
            time: Duration::from_secs(2),
            in_flight: 256,
            channels: 1000,
            bytes: 32,
            flights: Config::default().centrifugo.flights.get(),
            double: false,
            is_default: true,
        };
        let mut arguments = arguments.filter(|argument| argument != "--bench");
        while let Some(name) = arguments.next() {
            settings.is_default = false;
            if name == "--double" {
                settings.double = true;
                continue;
            }
            let value: usize = arguments
                .next()
                .and_then(|value| value.parse().ok())
                .filter(|value| *value > 0)
                .with_context(|| format!("{name} takes a number above 0"))?;
            match name.as_str() {
                "--rounds" => settings.rounds = value.min(100),
                "--seconds" => settings.time = Duration::from_secs(value.min(60) as u64),
                "--in-flight" => settings.in_flight = value.min(10_000),
                "--channels" => settings.channels = value.min(1_000_000),
                "--flights" => settings.flights = value.min(1024),
                "--bytes" => settings.bytes = value.clamp(2, 65_536),
                _ => bail!("no such option: {name}"),
            }
        }
        Ok(settings)
    }

    /// A JSON string of that size.
    fn payload(&self) -> bytes::Bytes {
        format!("\"{}\"", "x".repeat(self.bytes - 2)).into()
    }
}

/// Where the API is; a child ends with it.
struct Target {
    port: u16,
    name: &'static str,
    child: Option<(Child, tempfile::TempDir)>,
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.child {
            // It may be gone already.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn centrifugo() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CENTRIFUGO_BIN") {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH")?;
    let mut found = std::env::split_paths(&path).map(|dir| dir.join("centrifugo"));
    found.find(|path| path.is_file())
}

fn free_port() -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    Ok(listener.local_addr()?.port())
}

fn start_centrifugo(binary: &PathBuf) -> anyhow::Result<Target> {
    let (http, port) = (free_port()?, free_port()?);
    let dir = tempfile::tempdir()?;
    let config = serde_json::json!({
        "http_server": { "address": "127.0.0.1", "port": http },
        "grpc_api": { "enabled": true, "address": "127.0.0.1", "port": port },
        "channel": { "namespaces": [{ "name": "chat" }] },
        "log": { "level": "error" },
    });
    let file = dir.path().join("config.json");
    std::fs::write(&file, config.to_string())?;
    let child = Command::new(binary)
        .arg("--config")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Target {
        port,
        name: "a real Centrifugo",
        child: Some((child, dir)),
    })
}

/// An API that only counts.
#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Counting {
    fn count(&self) -> api::PublishResult {
        let offset = self.0.fetch_add(1, Ordering::Relaxed);
        let epoch = String::new();
        api::PublishResult { offset, epoch }
    }
}

#[tonic::async_trait]
impl CentrifugoApi for Counting {
    async fn publish(
        &self,
        _: Request<api::PublishRequest>,
    ) -> Result<Response<api::PublishResponse>, Status> {
        let (error, result) = (None, Some(self.count()));
        Ok(Response::new(api::PublishResponse { error, result }))
    }

    async fn batch(
        &self,
        request: Request<api::BatchRequest>,
    ) -> Result<Response<api::BatchResponse>, Status> {
        let reply = |_: &api::Command| api::Reply {
            publish: Some(Box::new(self.count())),
            ..Default::default()
        };
        let replies = request.get_ref().commands.iter().map(reply).collect();
        Ok(Response::new(api::BatchResponse { replies }))
    }
}

async fn start_double() -> anyhow::Result<Target> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let service = CentrifugoApiServer::new(Counting::default());
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))));
    Ok(Target {
        port,
        name: "a server that only counts",
        child: None,
    })
}

/// Calls as fast as they are answered, `in_flight` at once; answers how many a second.
async fn drive<F, Fut>(settings: &Settings, publish: F) -> anyhow::Result<f64>
where
    F: Fn(String) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send,
{
    let started = Instant::now();
    let end = started + settings.time;
    let done = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..settings.in_flight {
        let (publish, done, channels) = (publish.clone(), Arc::clone(&done), settings.channels);
        callers.spawn(async move {
            let mut at = caller;
            while Instant::now() < end {
                publish(format!("chat:{}", at % channels)).await?;
                done.fetch_add(1, Ordering::Relaxed);
                at += 7;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let count = done.load(Ordering::Relaxed) as f64;
    Ok(count / started.elapsed().as_secs_f64())
}

async fn bare(settings: &Settings, port: u16) -> anyhow::Result<f64> {
    let channel = Channel::from_shared(format!("http://127.0.0.1:{port}"))?;
    let client = CentrifugoApiClient::new(channel.connect().await?);
    let data = settings.payload();
    let publish = move |channel: String| {
        let (mut client, data) = (client.clone(), data.clone());
        async move {
            let request = api::PublishRequest {
                channel,
                data,
                ..Default::default()
            };
            let response = client.publish(request).await?.into_inner();
            response.result.context("an error")?;
            Ok(())
        }
    };
    drive(settings, publish).await
}

async fn ours(settings: &Settings, port: u16, batch: usize) -> anyhow::Result<(f64, f64)> {
    let config = CentrifugoConfig {
        api: vec![Endpoint {
            tls: false,
            host: "127.0.0.1".to_owned(),
            port,
        }],
        batch: NonZeroUsize::new(batch).context("a batch")?,
        flights: NonZeroUsize::new(match batch {
            1 => settings.in_flight,
            _ => settings.flights,
        })
        .context("flights")?,
        ..Config::default().centrifugo
    };
    let publisher = Publisher::connect(&config, ":")?;
    let (caller, data) = (publisher.clone(), settings.payload());
    let publish = move |channel: String| {
        let answer = caller.publish(api::PublishRequest {
            channel,
            data: data.clone(),
            ..Default::default()
        });
        async move {
            answer
                .await
                .map_err(|error: Error| anyhow::anyhow!(error))?;
            Ok(())
        }
    };
    let rate = drive(settings, publish).await?;
    let stats = publisher.stats();
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let mean = stats.answered as f64 / stats.sent as f64;
    Ok((rate, mean))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn run(settings: &Settings) -> anyhow::Result<bool> {
    let target = match centrifugo().filter(|_| !settings.double) {
        Some(binary) => start_centrifugo(&binary)?,
        None => start_double().await?,
    };
    println!("{settings:?} towards {}", target.name);
    let started = Instant::now();
    while tokio::net::TcpStream::connect(("127.0.0.1", target.port))
        .await
        .is_err()
    {
        if started.elapsed() > Duration::from_secs(20) {
            bail!("{} does not answer", target.name);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (mut batched, mut unbatched) = (Vec::new(), Vec::new());
    println!("round  bare/s  one by one/s  batched/s  in a call  ratio");
    for round in 0..=settings.rounds {
        let bare = bare(settings, target.port).await?;
        let (single, _) = ours(settings, target.port, 1).await?;
        let (many, mean) = ours(settings, target.port, 256).await?;
        let ratio = many / bare;
        println!("{round:5} {bare:7.0} {single:13.0} {many:10.0} {mean:10.1} {ratio:6.2}");
        // The first one warms up.
        if round > 0 {
            batched.push(ratio);
            unbatched.push(single / bare);
        }
    }
    let (batched, unbatched) = (median(batched), median(unbatched));
    println!(
        "median ratio to bare: batched {batched:.2} (bar {BAR}, aim {AIM}), one by one {unbatched:.2}"
    );
    Ok(!settings.is_default || batched >= BAR)
}

fn main() -> anyhow::Result<()> {
    let settings = Settings::parse(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Runtime::new()?;
    if !runtime.block_on(run(&settings))? {
        bail!("below the bar of {BAR}");
    }
    Ok(())
}
