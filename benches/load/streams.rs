//! Many open subscription streams: how long they take to open, and what each one costs in memory.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::{Buf, Bytes};
use centripeta::proto::proxy::{StreamSubscribeResponse, SubscribeRequest};
use h2::RecvStream;
use h2::client::SendRequest;
use prost::Message;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::client::{connect, send};
use super::contenders::contenders;
use super::machine::resident_bytes;
use super::request::{Head, client_id, frame};
use super::role::ServerOptions;

const PATH: &str = "/centrifugal.centrifugo.proxy.CentrifugoProxy/SubscribeUnidirectional";
const CONNECTIONS: usize = 4;
/// Streams of a connection that wait for their first message at a time.
const OPENING: usize = 64;
const OPEN_TIMEOUT: Duration = Duration::from_secs(120);

/// What the streams of one server showed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StreamsReport {
    name: &'static str,
    streams: usize,
    connections: usize,
    open_seconds: f64,
    rss_before_mib: f64,
    rss_open_mib: f64,
    bytes_per_stream: f64,
}

impl StreamsReport {
    /// The report as a line of text.
    pub(crate) fn text(&self) -> String {
        format!(
            "{}: {} streams on {} connections open after {:.2} s; {:.0} bytes each (RSS {:.1} MiB, before {:.1} MiB)\n",
            self.name,
            self.streams,
            self.connections,
            self.open_seconds,
            self.bytes_per_stream,
            self.rss_open_mib,
            self.rss_before_mib,
        )
    }
}

/// Opens `streams` streams on each server, one server after the other.
///
/// # Errors
/// If any stream is refused, does not get its first message in time, or ends by itself.
pub(crate) async fn measure(streams: usize) -> anyhow::Result<Vec<StreamsReport>> {
    let mut reports = Vec::new();
    for contender in contenders(ServerOptions::default()) {
        let server = contender.start().await?;
        let report = open_all(contender.name, server.process(), server.printed()?, streams)
            .await
            .with_context(|| format!("server {}", contender.name))?;
        reports.push(report);
        server.stop().await?;
    }
    Ok(reports)
}

async fn open_all(
    name: &'static str,
    process: u32,
    address: SocketAddr,
    streams: usize,
) -> anyhow::Result<StreamsReport> {
    let head = Head::new(address, PATH, None)?;
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        connections.push(connect(address).await?);
    }
    // One stream each, so that what a connection costs is not charged to the streams.
    for sender in &mut connections {
        drop(open(sender, &head, 0).await?);
    }
    let before = resident_bytes(process)?;

    let opened = std::sync::Arc::new(AtomicUsize::new(0));
    let mut openers = JoinSet::new();
    let started = Instant::now();
    for lane in 0..CONNECTIONS * OPENING {
        let mut sender = connections[lane % CONNECTIONS].clone();
        let head = head.clone();
        let opened = opened.clone();
        openers.spawn(async move {
            let mut bodies = Vec::new();
            for index in (lane..streams).step_by(CONNECTIONS * OPENING) {
                bodies.push(open(&mut sender, &head, index).await?);
                opened.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, anyhow::Error>(bodies)
        });
    }
    let mut bodies = Vec::with_capacity(streams);
    while !openers.is_empty() {
        let left = OPEN_TIMEOUT.saturating_sub(started.elapsed());
        let Ok(joined) = timeout(left, openers.join_next()).await else {
            let opened = opened.load(Ordering::Relaxed);
            bail!("{opened} of {streams} streams were open after {OPEN_TIMEOUT:?}");
        };
        if let Some(joined) = joined {
            bodies.extend(joined??);
        }
    }
    let open_seconds = started.elapsed().as_secs_f64();
    let open = resident_bytes(process)?;
    ensure!(bodies.len() == streams, "{} streams opened", bodies.len());
    ensure!(
        bodies.iter_mut().all(is_silent),
        "a stream ended or spoke unasked"
    );
    Ok(StreamsReport {
        name,
        streams,
        connections: CONNECTIONS,
        open_seconds,
        rss_before_mib: before as f64 / f64::from(1 << 20),
        rss_open_mib: open as f64 / f64::from(1 << 20),
        bytes_per_stream: open.saturating_sub(before) as f64 / streams as f64,
    })
}

/// Opens a stream and waits for the message that accepts it.
async fn open(
    sender: &mut SendRequest<Bytes>,
    head: &Head,
    index: usize,
) -> anyhow::Result<RecvStream> {
    let request = SubscribeRequest {
        client: client_id(index),
        transport: "websocket".into(),
        protocol: "json".into(),
        encoding: "json".into(),
        user: format!("user-{index}"),
        channel: format!("bench:{index}"),
        ..SubscribeRequest::default()
    };
    let mut body = send(sender, head, frame(&request)).await?.into_body();
    let mut received = Vec::new();
    loop {
        let chunk = body
            .data()
            .await
            .context("the stream ended before its first message")??;
        body.flow_control().release_capacity(chunk.len())?;
        received.extend_from_slice(&chunk);
        if let Some(message) = first_message(&received) {
            let first = StreamSubscribeResponse::decode(message)?;
            let accept = first
                .subscribe_response
                .context("the first message is no answer to the subscribe")?;
            ensure!(
                accept.error.is_none() && accept.disconnect.is_none(),
                "the stream was refused: {accept:?}"
            );
            return Ok(body);
        }
    }
}

fn first_message(received: &[u8]) -> Option<&[u8]> {
    let (mut prefix, rest) = received.split_at_checked(5)?;
    prefix.advance(1);
    rest.get(..prefix.get_u32() as usize)
}

fn is_silent(body: &mut RecvStream) -> bool {
    let mut context = TaskContext::from_waker(Waker::noop());
    matches!(body.poll_data(&mut context), Poll::Pending)
}
