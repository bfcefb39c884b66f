//! Idle lanes that are kept for their state: what each costs in memory, and whether many of them make
//! an event dearer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use centripeta::proto::proxy::{RpcRequest, RpcResponse};
use h2::client::SendRequest;
use prost::Message;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::client::{connect, send};
use super::contenders::contenders;
use super::machine::resident_bytes;
use super::request::{Head, RPC_PATH, client_id, frame};
use super::role::ServerOptions;

const CONNECTIONS: usize = 4;
/// Calls of a connection that wait for their reply at a time.
const IN_FLIGHT: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(300);

/// What the lanes of our node showed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LanesReport {
    lanes: usize,
    rss_before_mib: f64,
    rss_after_mib: f64,
    bytes_per_lane: f64,
    events_per_second_first_tenth: f64,
    events_per_second_last_tenth: f64,
    events_per_second_again: f64,
}

impl LanesReport {
    /// The report as a line of text.
    pub(crate) fn text(&self) -> String {
        format!(
            "ours: {} idle lanes with a counter each; {:.0} bytes a lane, its value in the store \
             included (RSS {:.1} MiB, before {:.1} MiB)\n  events/s creating the first tenth {:.0}, \
             the last tenth {:.0}; visiting every lane again {:.0}\n",
            self.lanes,
            self.bytes_per_lane,
            self.rss_after_mib,
            self.rss_before_mib,
            self.events_per_second_first_tenth,
            self.events_per_second_last_tenth,
            self.events_per_second_again,
        )
    }
}

/// Counts an event in each of `lanes` keys, then once more.
///
/// # Errors
/// A call fails, or a counter says something else than it should.
pub(crate) async fn measure(lanes: usize) -> anyhow::Result<LanesReport> {
    let ours = contenders(ServerOptions::default())
        .pop()
        .context("our node is the last one")?;
    let server = ours.start().await?;
    let (process, address) = (server.process(), server.printed::<SocketAddr>()?);
    let head = Head::new(address, RPC_PATH, None)?;
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        connections.push(connect(address).await?);
    }
    // What the process takes for any load at all is not charged to the lanes.
    count(&connections, &head, 0..lanes.min(2_000), 1).await?;
    let before = resident_bytes(process)?;
    let tenth = (lanes / 10).max(1);
    let first = count(&connections, &head, 2_000..2_000 + tenth, 1).await?;
    count(&connections, &head, 2_000 + tenth..2_000 + lanes - tenth, 1).await?;
    let last = count(&connections, &head, 2_000 + lanes - tenth..2_000 + lanes, 1).await?;
    let after = resident_bytes(process)?;
    let again = count(&connections, &head, 2_000..2_000 + lanes, 2).await?;
    server.stop().await?;
    let mib = f64::from(1 << 20);
    Ok(LanesReport {
        lanes,
        rss_before_mib: before as f64 / mib,
        rss_after_mib: after as f64 / mib,
        bytes_per_lane: after.saturating_sub(before) as f64 / lanes as f64,
        events_per_second_first_tenth: tenth as f64 / first.as_secs_f64(),
        events_per_second_last_tenth: tenth as f64 / last.as_secs_f64(),
        events_per_second_again: lanes as f64 / again.as_secs_f64(),
    })
}

/// One event in each of these keys; every counter has to come to `expected`.
async fn count(
    connections: &[SendRequest<Bytes>],
    head: &Head,
    keys: std::ops::Range<usize>,
    expected: u64,
) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let mut callers = JoinSet::new();
    let step = CONNECTIONS * IN_FLIGHT;
    for lane in 0..step {
        let mut sender = connections[lane % CONNECTIONS].clone();
        let (head, keys) = (head.clone(), keys.clone());
        callers.spawn(async move {
            for key in keys.skip(lane).step_by(step) {
                one(&mut sender, &head, key, expected).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    let all = async {
        while let Some(joined) = callers.join_next().await {
            joined??;
        }
        Ok::<_, anyhow::Error>(())
    };
    timeout(TIMEOUT, all)
        .await
        .context("the lanes took too long")??;
    Ok(started.elapsed())
}

async fn one(
    sender: &mut SendRequest<Bytes>,
    head: &Head,
    key: usize,
    expected: u64,
) -> anyhow::Result<()> {
    let request = RpcRequest {
        client: client_id(key),
        transport: "websocket".into(),
        protocol: "json".into(),
        encoding: "json".into(),
        user: format!("user-{}", key % 2_000),
        method: "bench.count".into(),
        data: format!("{{\"room\":\"k{key}\"}}").into(),
        ..RpcRequest::default()
    };
    let mut body = send(sender, head, frame(&request)).await?.into_body();
    let mut received = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        received.extend_from_slice(&chunk);
    }
    let message = received.get(5..).context("a call without a reply")?;
    let result = RpcResponse::decode(message)?
        .result
        .context("a reply without a result")?;
    let count: serde_json::Value = serde_json::from_slice(&result.data)?;
    ensure!(
        count["count"] == expected,
        "key {key}: {count}, expected {expected}"
    );
    Ok(())
}
