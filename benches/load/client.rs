//! The load: HTTP/2 connections with a number of calls in flight each, in a closed loop.
//!
//! Raw `h2` rather than a gRPC client, since what the load costs is taken from the servers. Each load
//! thread has a runtime of its own and a share of the connections.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, StatusCode};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::request::{Call, Head, RPC_PATH};
use super::stats::Stats;
use super::window::Window;

/// What Centrifugo sends with a call under its default time-out of a second.
const GRPC_TIMEOUT: &str = "999871u";
/// Connecting must be done after this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Calls still open this long after the end of a round are a failure of the round.
const LAST_CALLS_TIMEOUT: Duration = Duration::from_secs(10);
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// How a server is driven.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Connections in all.
    pub(crate) connections: usize,
    /// Calls in flight on each.
    pub(crate) in_flight: usize,
    /// Threads that share the connections.
    pub(crate) threads: usize,
}

/// Load threads at work.
#[derive(Debug)]
pub(crate) struct RunningLoad {
    threads: Vec<JoinHandle<anyhow::Result<Stats>>>,
}

impl RunningLoad {
    /// Starts to drive the server; `calls` are chosen at random.
    pub(crate) fn start(
        load: Load,
        address: SocketAddr,
        calls: &Arc<[Call]>,
        window: Window,
    ) -> anyhow::Result<Self> {
        let threads = load.threads.clamp(1, load.connections);
        let threads = (0..threads)
            .map(|index| {
                let share = (index..load.connections).step_by(threads).count();
                let calls = Arc::clone(calls);
                let seed = index as u64;
                thread::Builder::new()
                    .name(format!("load-{index}"))
                    .spawn(move || drive(share, load.in_flight, address, &calls, window, seed))
            })
            .collect::<Result<_, _>>()
            .context("start the load threads")?;
        Ok(Self { threads })
    }

    /// Waits for the end of the window and the last calls, and sums up.
    pub(crate) fn finish(self) -> anyhow::Result<Stats> {
        let mut stats = Stats::new();
        for thread in self.threads {
            stats.merge(
                thread
                    .join()
                    .map_err(|_| anyhow!("a load thread panicked"))??,
            );
        }
        Ok(stats)
    }
}

fn drive(
    connections: usize,
    in_flight: usize,
    address: SocketAddr,
    calls: &Arc<[Call]>,
    window: Window,
    seed: u64,
) -> anyhow::Result<Stats> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let head = Rc::new(Head::new(address, RPC_PATH, Some(GRPC_TIMEOUT))?);
    let stats = Rc::new(RefCell::new(Stats::new()));
    let tasks = LocalSet::new();
    runtime.block_on(tasks.run_until(async {
        let mut workers = Vec::with_capacity(connections * in_flight);
        for connection in 0..connections {
            let sender = connect(address).await?;
            for slot in 0..in_flight {
                let worker = Worker {
                    sender: sender.clone(),
                    head: Rc::clone(&head),
                    calls: Arc::clone(calls),
                    stats: Rc::clone(&stats),
                    random: fastrand::Rng::with_seed(
                        (seed << 32) + ((connection as u64) << 16) + slot as u64,
                    ),
                };
                workers.push(tokio::task::spawn_local(worker.run(window)));
            }
        }
        let end = window.until + LAST_CALLS_TIMEOUT;
        for worker in workers {
            timeout_at(end, worker)
                .await
                .context("calls were still unanswered long after the end of the round")??;
        }
        Ok::<_, anyhow::Error>(())
    }))?;
    drop(tasks);
    let stats = stats.replace(Stats::new());
    Ok(stats)
}

/// Opens a connection and keeps it going on the current runtime.
pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<SendRequest<Bytes>> {
    timeout(CONNECT_TIMEOUT, async {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(socket)
            .await?;
        tokio::spawn(async move {
            // A broken connection shows as failed calls.
            let _result = connection.await;
        });
        Ok(sender)
    })
    .await
    .with_context(|| format!("connect to {address} in time"))?
}

/// One call in flight after the other.
struct Worker {
    sender: SendRequest<Bytes>,
    head: Rc<Head>,
    calls: Arc<[Call]>,
    stats: Rc<RefCell<Stats>>,
    random: fastrand::Rng,
}

impl Worker {
    async fn run(mut self, window: Window) {
        let mut started = Instant::now();
        while started < window.until {
            let call = &self.calls[self.random.usize(..self.calls.len())];
            let outcome = one_call(&mut self.sender, &self.head, call).await;
            let finished = Instant::now();
            match outcome {
                Ok(()) if window.contains(finished) => {
                    self.stats.borrow_mut().answered(finished - started)
                }
                Ok(()) => {}
                Err(error) => {
                    self.stats.borrow_mut().failed(|| format!("{error:#}"));
                    // A server that fails at once must not turn the loop into a spin.
                    sleep_until(finished + Duration::from_millis(1)).await;
                }
            }
            started = finished;
        }
    }
}

async fn one_call(sender: &mut SendRequest<Bytes>, head: &Head, call: &Call) -> anyhow::Result<()> {
    let response = send(sender, head, call.frame.clone()).await?;
    let headers_only = response.headers().get("grpc-status").is_some();
    if headers_only {
        check_status(response.headers())?;
    }
    let mut body = response.into_body();
    let mut received = Bytes::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        received = match received.is_empty() {
            true => chunk,
            false => [received, chunk].concat().into(),
        };
    }
    let trailers = body.trailers().await?.context("a reply without trailers")?;
    check_status(&trailers)?;
    ensure!(call.is_answered_by(&received), "a reply with other data");
    Ok(())
}

/// Sends a call and waits for the head of its reply.
pub(crate) async fn send(
    sender: &mut SendRequest<Bytes>,
    head: &Head,
    frame: Bytes,
) -> anyhow::Result<http::Response<h2::RecvStream>> {
    std::future::poll_fn(|context| sender.poll_ready(context)).await?;
    let (response, mut body) = sender.send_request(head.request(), false)?;
    body.send_data(frame, true)?;
    let response = response.await?;
    if response.status() != StatusCode::OK {
        bail!("HTTP status {}", response.status());
    }
    Ok(response)
}

fn check_status(headers: &HeaderMap) -> anyhow::Result<()> {
    match headers.get("grpc-status").map(|status| status.as_bytes()) {
        Some(b"0") => Ok(()),
        Some(code) => bail!(
            "gRPC status {}: {}",
            String::from_utf8_lossy(code),
            headers
                .get("grpc-message")
                .and_then(|message| message.to_str().ok())
                .unwrap_or_default()
        ),
        None => bail!("a reply without grpc-status"),
    }
}
