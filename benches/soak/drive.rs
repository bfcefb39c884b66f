//! Events of every kind, streams that open and close, and bursts that fill the queues. Every one of
//! them has to be answered, by whatever it is.

use anyhow::bail;
use centripeta::proto::proxy::centrifugo_proxy_client::CentrifugoProxyClient;
use centripeta::proto::proxy::{
    ConnectRequest, MapPublishRequest, MapRemoveRequest, NotifyCacheEmptyRequest,
    NotifyChannelStateRequest, Publication, PublishRequest, RefreshRequest, RpcRequest,
    SharedPollRefreshRequest, StreamSubscribeRequest, SubRefreshRequest, SubscribeRequest,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::Status;
use tonic::transport::Channel;

type Client = CentrifugoProxyClient<Channel>;

/// Connections.
const CONNECTIONS: usize = 4;
/// Senders of events, each of which waits for its answer and a while.
const SENDERS: u64 = 16;
/// Streams that are opened again and again.
const STREAMS: u64 = 24;
/// Kinds of events that senders take in turn.
const KINDS: u64 = 18;
/// Events of a burst.
const BURST: u64 = 600;
/// From one burst to the next.
const BURSTS: Duration = Duration::from_secs(12);
/// An event without an answer for so long has none; the node's own limit is 3 s.
const PATIENCE: Duration = Duration::from_secs(10);
/// Complaints that are told.
const TOLD: usize = 10;

/// What was answered.
#[derive(Debug, Default)]
struct Counts {
    answers: BTreeMap<String, u64>,
    streams: u64,
    unanswered: u64,
    resent: u64,
    why: Vec<String>,
}

/// The load.
#[derive(Debug)]
pub(crate) struct Load {
    clients: Vec<Client>,
    counts: Mutex<Counts>,
}

impl Load {
    /// Connects to a node.
    pub(crate) async fn connect(address: &str) -> anyhow::Result<Arc<Self>> {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let channel = Channel::from_shared(format!("http://{address}"))?;
            clients.push(CentrifugoProxyClient::new(channel.connect().await?));
        }
        let counts = Mutex::default();
        Ok(Arc::new(Self { clients, counts }))
    }

    fn client(&self, number: u64) -> Client {
        let at = usize::try_from(number).unwrap_or(0) % CONNECTIONS;
        self.clients[at].clone()
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One event of each kind, so that everything has been there once.
    pub(crate) async fn warm_up(&self) -> anyhow::Result<()> {
        for number in 0..KINDS * CONNECTIONS as u64 {
            self.fire(number, number % KINDS).await;
        }
        let counts = self.counts();
        match counts.unanswered {
            0 => Ok(()),
            _ => bail!("the node does not answer: {}", counts.why.join("; ")),
        }
    }

    /// Sends until the end.
    pub(crate) async fn run(self: Arc<Self>, end: Instant) {
        let mut tasks = JoinSet::new();
        for sender in 0..SENDERS {
            let load = Arc::clone(&self);
            tasks.spawn(async move {
                let mut number = sender;
                while Instant::now() < end {
                    load.fire(number, number / SENDERS % KINDS).await;
                    number += SENDERS;
                    sleep(Duration::from_millis(fastrand::u64(10..50))).await;
                }
            });
        }
        for number in 0..STREAMS {
            let load = Arc::clone(&self);
            tasks.spawn(async move {
                while Instant::now() < end {
                    let stay = Duration::from_millis(fastrand::u64(100..4000));
                    let stay = (Instant::now() + stay).min(end);
                    let is_two_way = number % 2 == 1;
                    let opened = match is_two_way {
                        true => load.converse(number, stay).await,
                        false => load.listen(number, stay).await,
                    };
                    load.note(opened.map(|()| None));
                    sleep(Duration::from_millis(fastrand::u64(10..200))).await;
                }
            });
        }
        let load = Arc::clone(&self);
        tasks.spawn(async move { load.bursts(end).await });
        while let Some(ended) = tasks.join_next().await {
            if let Err(why) = ended {
                self.unanswered(&format!("a task of the load broke: {why}"));
            }
        }
    }

    /// Everything at once, again and again: more than fits into a lane, into the node, and into the
    /// queue of what is published.
    async fn bursts(self: Arc<Self>, end: Instant) {
        let mut next = Instant::now() + BURSTS / 2;
        while next < end {
            sleep_until(next).await;
            let mut burst = JoinSet::new();
            for number in 0..BURST {
                let load = Arc::clone(&self);
                burst.spawn(async move {
                    let method = ["held", "pub.cast", "pub.wait"][number as usize % 3];
                    let user = format!("burst-{}", number % 4);
                    while load.note(load.rpc(number, method, user.clone()).await) {}
                });
            }
            burst.join_all().await;
            next += BURSTS;
        }
    }

    async fn fire(&self, number: u64, kind: u64) {
        loop {
            let answer = timeout(PATIENCE, self.event(number, kind)).await;
            if !self.note(answer.unwrap_or_else(|_| Err(silence()))) {
                return;
            }
        }
    }

    async fn event(&self, number: u64, kind: u64) -> Result<Option<u32>, Status> {
        let mut client = self.client(number);
        let id = format!("client-{number}");
        let user = format!("u{}", number % 50);
        let channel = format!("chat:{}", number % 100);
        // The answers of calls that can't be refused by a message.
        macro_rules! plain {
            ($call:expr) => {
                $call.await.map(|_| None)
            };
        }
        macro_rules! coded {
            ($call:expr) => {
                $call
                    .await
                    .map(|answer| answer.into_inner().error.map(|error| error.code))
            };
        }
        match kind {
            0 => coded!(client.connect(ConnectRequest {
                client: id,
                ..Default::default()
            })),
            1 => plain!(client.refresh(RefreshRequest {
                client: id,
                user,
                ..Default::default()
            })),
            2 => coded!(client.subscribe(SubscribeRequest {
                client: id,
                user,
                channel,
                ..Default::default()
            })),
            3 => plain!(client.sub_refresh(SubRefreshRequest {
                client: id,
                user,
                channel,
                ..Default::default()
            })),
            4 => coded!(client.publish(PublishRequest {
                client: id,
                user,
                channel,
                data: "{}".into(),
                ..Default::default()
            })),
            5 => coded!(client.map_publish(MapPublishRequest {
                client: id,
                user,
                channel,
                data: "{}".into(),
                ..Default::default()
            })),
            6 => coded!(client.map_remove(MapRemoveRequest {
                client: id,
                user,
                channel,
                ..Default::default()
            })),
            7 => coded!(client.shared_poll_refresh(SharedPollRefreshRequest {
                channel,
                ..Default::default()
            })),
            8 => plain!(client.notify_cache_empty(NotifyCacheEmptyRequest { channel })),
            9 => coded!(client.notify_channel_state(NotifyChannelStateRequest::default())),
            10 => self.rpc(number, "echo.a", user).await,
            11 => self.rpc(number, "count", user).await,
            12 => self.rpc(number, "extra.3", user).await,
            13 => self.rpc(number, "no", user).await,
            14 => self.rpc(number, "held", user).await,
            15 => self.rpc(number, "version", user).await,
            16 => self.rpc(number, "pub.wait", user).await,
            _ => self.rpc(number, "pub.cast", user).await,
        }
    }

    async fn rpc(&self, number: u64, method: &str, user: String) -> Result<Option<u32>, Status> {
        let request = RpcRequest {
            client: format!("client-{number}"),
            user,
            method: method.to_owned(),
            data: "{}".into(),
            ..Default::default()
        };
        let mut client = self.client(number);
        let answer = timeout(PATIENCE, client.rpc(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(silence()))?;
        Ok(answer.into_inner().error.map(|error| error.code))
    }

    /// The version that the node answers with: the one wanted, or after this time the last one seen.
    pub(crate) async fn version(&self, wanted: u64, limit: Duration) -> Option<u64> {
        let end = Instant::now() + limit;
        let mut seen = None;
        while Instant::now() < end && seen != Some(wanted) {
            let request = RpcRequest {
                method: "version".to_owned(),
                ..Default::default()
            };
            let asked = timeout(limit, self.client(0).rpc(request)).await;
            let data = asked.ok().and_then(Result::ok);
            let data = data.and_then(|answer| answer.into_inner().result);
            let data = data.and_then(|result| {
                let value: serde_json::Value = serde_json::from_slice(&result.data).ok()?;
                value["version"].as_u64()
            });
            seen = data.or(seen);
            sleep(Duration::from_millis(20)).await;
        }
        seen
    }

    /// Opens a one-way stream and reads until it has stayed long enough.
    async fn listen(&self, number: u64, until: Instant) -> Result<(), Status> {
        let request = SubscribeRequest {
            channel: format!("feed:{number}"),
            ..Default::default()
        };
        let mut client = self.client(number);
        let opened = client.subscribe_unidirectional(request);
        let opened = timeout(PATIENCE, opened).await;
        let mut stream = opened.unwrap_or_else(|_| Err(silence()))?.into_inner();
        next(&mut stream).await?;
        self.counts().streams += 1;
        while Instant::now() < until {
            next(&mut stream).await?;
        }
        Ok(())
    }

    /// Opens a two-way stream and has every line answered until it has stayed long enough.
    async fn converse(&self, number: u64, until: Instant) -> Result<(), Status> {
        let subscribe_request = Some(SubscribeRequest {
            channel: format!("term:{number}"),
            ..Default::default()
        });
        let (lines, sent) = mpsc::channel(4);
        let gone = |_| Status::internal("the stream takes no lines");
        let first = StreamSubscribeRequest {
            subscribe_request,
            publication: None,
        };
        lines.send(first).await.map_err(gone)?;
        let sent = futures_util::stream::unfold(sent, |mut sent| async move {
            sent.recv().await.map(|line| (line, sent))
        });
        let mut client = self.client(number);
        let opened = timeout(PATIENCE, client.subscribe_bidirectional(sent)).await;
        let mut stream = opened.unwrap_or_else(|_| Err(silence()))?.into_inner();
        next(&mut stream).await?;
        self.counts().streams += 1;
        while Instant::now() < until {
            let publication = Some(Publication {
                data: "\"line\"".into(),
                ..Default::default()
            });
            let line = StreamSubscribeRequest {
                subscribe_request: None,
                publication,
            };
            lines.send(line).await.map_err(gone)?;
            next(&mut stream).await?;
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Counts an answer. Says whether the event has to be sent again, since it never left: its
    /// connection went away first, as each does after `listen.max_connection_age`. Centrifugo's own
    /// client sends such calls again by itself.
    fn note(&self, answer: Result<Option<u32>, Status>) -> bool {
        if let Err(status) = &answer
            && never_left(status)
        {
            self.counts().resent += 1;
            return true;
        }
        let label = match answer {
            Ok(None) => "ok".to_owned(),
            Ok(Some(code)) => format!("error {code}"),
            // One that the node sent has no cause here.
            Err(status) => match status.source() {
                Some(why) => {
                    self.unanswered(&chain(why));
                    return false;
                }
                None => format!("{:?}", status.code()),
            },
        };
        *self.counts().answers.entry(label).or_default() += 1;
        false
    }

    fn unanswered(&self, why: &str) {
        let mut counts = self.counts();
        counts.unanswered += 1;
        if counts.why.len() < TOLD {
            counts.why.push(why.to_owned());
        }
    }

    /// How many events were answered.
    pub(crate) fn answered(&self) -> u64 {
        self.counts().answers.values().sum()
    }

    /// What is wrong with the answers.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let counts = self.counts();
        let mut wrong = Vec::new();
        if counts.unanswered > 0 {
            let (count, why) = (counts.unanswered, counts.why.join("; "));
            wrong.push(format!("{count} events had no answer: {why}"));
        }
        // Broken handlers and routes would show as these.
        for label in ["Internal", "Unknown", "Unimplemented", "InvalidArgument"] {
            if let Some(count) = counts.answers.get(label) {
                wrong.push(format!("{count} events ended as {label}"));
            }
        }
        if !counts.answers.contains_key("error 111") {
            wrong.push("no queue was ever full".to_owned());
        }
        wrong
    }

    /// In words.
    pub(crate) fn summary(&self) -> String {
        let counts = self.counts();
        let answers = counts.answers.iter();
        let answers: Vec<_> = answers
            .map(|(label, count)| format!("{label} {count}"))
            .collect();
        format!(
            "answers  {}; {} streams; {} sent again on another connection; {} without an answer",
            answers.join(", "),
            counts.streams,
            counts.resent,
            counts.unanswered
        )
    }
}

/// The next message of a stream, which has to come.
async fn next<T>(stream: &mut tonic::Streaming<T>) -> Result<(), Status> {
    let message = timeout(PATIENCE, stream.message()).await;
    let ended = || Status::from_error("the stream ended early".into());
    message
        .unwrap_or_else(|_| Err(silence()))?
        .map(drop)
        .ok_or_else(ended)
}

/// No answer in time; has a cause, unlike what the node sends.
fn silence() -> Status {
    Status::from_error(format!("no answer within {PATIENCE:?}").into())
}

/// Whether the client gave the call back before a byte of it was sent.
fn never_left(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return error.is_canceled();
        }
        cause = error.source();
    }
    false
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
