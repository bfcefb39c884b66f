//! Clients of a Centrifugo: its JSON protocol over WebSocket, rpc calls in a closed loop.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::request::{KEYS, payload};
use super::stats::Stats;
use super::window::Window;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const LAST_CALLS_TIMEOUT: Duration = Duration::from_secs(10);

type Socket = WebSocketStream<TcpStream>;

/// What a Centrifugo sends for a command; a ping has nothing at all.
#[derive(Debug, Deserialize)]
struct Reply<'a> {
    #[serde(default)]
    id: u64,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    rpc: Option<RpcReply<'a>>,
    #[serde(borrow)]
    connect: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct RpcReply<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// Drives `clients` clients with `in_flight` calls each on the calling thread until the window ends.
///
/// # Errors
/// If a client can't connect, is disconnected, or waits for a reply for too long.
pub(crate) fn drive(
    address: SocketAddr,
    clients: usize,
    in_flight: usize,
    window: Window,
) -> anyhow::Result<Stats> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let stats = Rc::new(RefCell::new(Stats::new()));
    let tasks = LocalSet::new();
    runtime.block_on(tasks.run_until(async {
        let mut running = Vec::with_capacity(clients);
        for seed in 0..clients {
            let client = Client {
                socket: connect(address).await?,
                waiting: HashMap::with_capacity(in_flight),
                next_id: 1,
                random: fastrand::Rng::with_seed(seed as u64),
                stats: Rc::clone(&stats),
            };
            running.push(tokio::task::spawn_local(client.run(in_flight, window)));
        }
        let end = window.until + LAST_CALLS_TIMEOUT;
        for client in running {
            timeout_at(end, client)
                .await
                .context("calls were still unanswered long after the end of the round")???;
        }
        Ok::<_, anyhow::Error>(())
    }))?;
    let stats = stats.replace(Stats::new());
    Ok(stats)
}

async fn connect(address: SocketAddr) -> anyhow::Result<Socket> {
    timeout(CONNECT_TIMEOUT, async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let url = format!("ws://{address}/connection/websocket");
        let (socket, _response) = tokio_tungstenite::client_async(url, stream).await?;
        Ok(socket)
    })
    .await
    .with_context(|| format!("connect to {address} in time"))?
}

/// A connection with the calls that it waits for.
struct Client {
    socket: Socket,
    waiting: HashMap<u64, (Instant, Bytes)>,
    next_id: u64,
    random: fastrand::Rng,
    stats: Rc<RefCell<Stats>>,
}

impl Client {
    async fn run(mut self, in_flight: usize, window: Window) -> anyhow::Result<()> {
        self.command(r#""connect":{}"#).await?;
        self.socket.flush().await?;
        let mut connected = false;
        while !connected || !self.waiting.is_empty() {
            let frame = self.socket.next().await.context("closed by Centrifugo")??;
            let text = match &frame {
                Message::Text(text) => text.as_str(),
                Message::Close(reason) => bail!("closed by Centrifugo: {reason:?}"),
                _ => continue,
            };
            for line in text.lines() {
                let reply: Reply<'_> =
                    serde_json::from_str(line).with_context(|| format!("reply {line}"))?;
                if reply.connect.is_some() {
                    connected = true;
                    for _ in 0..in_flight {
                        self.call().await?;
                    }
                } else if reply.id > 0 {
                    let now = Instant::now();
                    self.answered(&reply, now, window)?;
                    if now < window.until {
                        self.call().await?;
                    }
                } else if line == "{}" {
                    self.socket.feed(Message::text("{}")).await?;
                }
            }
            self.socket.flush().await?;
        }
        self.socket.close(None).await?;
        Ok(())
    }

    async fn call(&mut self) -> anyhow::Result<()> {
        let data = payload(self.random.usize(..KEYS));
        let text = std::str::from_utf8(&data)?;
        let command = format!(r#""rpc":{{"method":"bench.echo","data":{text}}}"#);
        let id = self.command(&command).await?;
        self.waiting.insert(id, (Instant::now(), data));
        Ok(())
    }

    async fn command(&mut self, command: &str) -> anyhow::Result<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let message = Message::text(format!(r#"{{"id":{id},{command}}}"#));
        self.socket.feed(message).await?;
        Ok(id)
    }

    fn answered(&mut self, reply: &Reply<'_>, now: Instant, window: Window) -> anyhow::Result<()> {
        let (started, data) = self
            .waiting
            .remove(&reply.id)
            .with_context(|| format!("reply to no rpc of ours: {reply:?}"))?;
        let returned = reply.rpc.as_ref().and_then(|rpc| rpc.data);
        let mut stats = self.stats.borrow_mut();
        match (reply.error, returned) {
            (Some(error), _) => stats.failed(|| error.to_string()),
            (None, Some(returned)) if returned.get().as_bytes() == data => {
                if window.contains(now) {
                    stats.answered(now - started);
                }
            }
            (None, returned) => stats.failed(|| format!("a reply with other data: {returned:?}")),
        }
        Ok(())
    }
}
