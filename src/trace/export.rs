//! The task that sends finished spans to a collector, over OTLP with gRPC.
//!
//! One request is on its way at a time: a batch of about 512 spans, or what there is after a second.
//! A batch that the collector does not take is sent again where that can help, a few times; then its
//! spans count as failed. Meanwhile the queue fills, and drops what is too much. What is wrong is said
//! in one line, at most once a minute, and once more when it is over.

use crate::client::ClientTls;
use crate::config::{ClientTlsConfig, Collector, OtlpConfig};
use crate::ingress::codec::BytesCodec;
use crate::ingress::tls::TlsError;
use crate::trace::otlp;
use crate::trace::span::Span;
use crate::trace::tracer::{BATCH_SPANS, Outlet, Queue, Tracer};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::client::TlsStream;
use tonic::client::Grpc;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// The method of the collector.
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// Spans wait at most so long for their batch.
const FLUSH: Duration = Duration::from_secs(1);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the collector may take for a batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a batch is sent at most.
const ATTEMPTS: u32 = 3;
/// The pause before the second time, doubled before the third, and half of it more or less.
const BACKOFF: Duration = Duration::from_millis(500);
/// Between two lines of one trouble.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// The running export. Dropping it ends it at once.
#[derive(Debug)]
pub(crate) struct Exporter {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    queue: Arc<Queue>,
}

impl Exporter {
    /// Starts on the current runtime. A collector that is not there is no reason not to.
    ///
    /// # Errors
    /// The file of authorities can't be used.
    pub(crate) fn start(
        config: &OtlpConfig,
        sampling: f64,
        service: &str,
        node: &str,
    ) -> Result<(Tracer, Self), TlsError> {
        let channel = channel(config)?;
        let (tracer, outlet) = Tracer::new(sampling);
        let queue = Arc::clone(&outlet.queue);
        let (stop, stopped) = watch::channel(false);
        let sender = Sender {
            grpc: Grpc::new(channel).max_decoding_message_size(64 * 1024),
            metadata: metadata(config),
            resource: otlp::resource(service, node),
            trouble: Trouble::new(&config.collector),
            stopped,
            outlet,
        };
        tracing::info!(collector = %config.collector, sampling, "traces are on");
        let task = tokio::spawn(sender.run());
        Ok((tracer, Self { stop, task, queue }))
    }

    /// Sends what is left, for so long at most; what is left then is dropped.
    pub(crate) async fn shutdown(mut self, limit: Duration) {
        self.stop.send_replace(true);
        let ended = timeout(limit, &mut self.task).await;
        let left = self.queue.abandon();
        if ended.is_err() && left > 0 {
            tracing::warn!(
                spans = left,
                "the node ended before the collector took its last spans"
            );
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection that is made when it is needed, and made again when it is lost.
fn channel(config: &OtlpConfig) -> Result<Channel, TlsError> {
    let Collector { tls, host, port } = &config.collector;
    let wrong = |why: &dyn std::fmt::Display| TlsError::Config(format!("`log.otlp`: {why}"));
    // The endpoint itself speaks h2c: what secures it is the connector.
    let uri = format!("http://{host}:{port}");
    let endpoint = Endpoint::from_shared(uri).map_err(|why| wrong(&why))?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("centripeta/", env!("CARGO_PKG_VERSION")))
        .map_err(|why| wrong(&why))?;
    if !tls {
        return Ok(endpoint.connect_lazy());
    }
    let origin = format!("https://{host}:{port}").parse::<Uri>();
    let endpoint = endpoint.origin(origin.map_err(|why| wrong(&why))?);
    let tls = ClientTls::new(ClientTlsConfig {
        ca: config.ca.clone(),
        identity: None,
    });
    // What can't work is found at the start; the files are read at every connection.
    tls.config()?;
    let connector = Connector {
        tls,
        host: host.trim_start_matches('[').trim_end_matches(']').into(),
        port: *port,
    };
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// Connects with TLS.
#[derive(Clone)]
struct Connector {
    tls: ClientTls,
    host: Arc<str>,
    port: u16,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { tls, host, port } = self.clone();
        Box::pin(async move {
            let socket = TcpStream::connect((&*host, port)).await?;
            let socket = tls.connect(&host, socket).await;
            Ok(TokioIo::new(socket.map_err(io::Error::other)?))
        })
    }
}

/// What the collector asks callers for.
fn metadata(config: &OtlpConfig) -> MetadataMap {
    let mut map = MetadataMap::new();
    for (name, value) in &config.headers {
        let name = AsciiMetadataKey::from_bytes(name.as_bytes());
        let value = AsciiMetadataValue::try_from(value.expose());
        // The configuration was checked for both.
        if let (Ok(name), Ok(mut value)) = (name, value) {
            value.set_sensitive(true);
            map.insert(name, value);
        }
    }
    map
}

struct Sender {
    grpc: Grpc<Channel>,
    metadata: MetadataMap,
    resource: Resource,
    trouble: Trouble,
    stopped: watch::Receiver<bool>,
    outlet: Outlet,
}

/// How a batch ended.
enum Sent {
    /// The collector took it, but for so many spans.
    Taken {
        rejected: usize,
        why: String,
    },
    Failed(Status),
}

impl Sender {
    /// Runs until it is stopped and nothing is left.
    async fn run(mut self) {
        let mut tick = interval(FLUSH);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stopped = self.stopped.clone();
        let mut is_last = false;
        while !is_last {
            tokio::select! {
                biased;
                // Whoever drops the other end has ended this task too.
                _ = stopped.wait_for(|stopped| *stopped) => is_last = true,
                () = self.outlet.queue.is_full() => {}
                _ = tick.tick() => {}
            }
            loop {
                let spans = self.outlet.take();
                let count = spans.len();
                if count > 0 {
                    self.send(spans).await;
                }
                // What comes meanwhile gathers for the next one.
                if count == 0 || count < BATCH_SPANS && !is_last {
                    break;
                }
            }
            let dropped = self.outlet.queue.counts().dropped;
            self.trouble.dropped(dropped);
        }
    }

    async fn send(&mut self, spans: Vec<Span>) {
        let count = spans.len();
        let message = otlp::request(&self.resource, spans).encode_to_vec();
        match self.deliver(message.into()).await {
            Sent::Taken { rejected, why } => {
                let rejected = rejected.min(count);
                self.outlet.queue.sent(count - rejected, rejected);
                if rejected > 0 {
                    self.trouble.refused(&why);
                } else {
                    self.trouble.is_over();
                }
            }
            Sent::Failed(status) => {
                self.outlet.queue.sent(0, count);
                self.trouble.failed(&status);
            }
        }
    }

    async fn deliver(&mut self, message: Bytes) -> Sent {
        let mut pause = BACKOFF;
        for attempt in 1.. {
            let status = match self.export(message.clone()).await {
                Ok(response) => {
                    let partial = response.partial_success.unwrap_or_default();
                    return Sent::Taken {
                        rejected: usize::try_from(partial.rejected_spans).unwrap_or_default(),
                        why: partial.error_message,
                    };
                }
                Err(status) => status,
            };
            if attempt == ATTEMPTS || !may_help(status.code()) || *self.stopped.borrow() {
                return Sent::Failed(status);
            }
            // It is said at once, not when the last attempt has failed.
            self.trouble.failed(&status);
            let stop = self.stopped.wait_for(|stopped| *stopped);
            tokio::select! {
                _ = stop => {}
                () = sleep(pause.mul_f64(0.5 + fastrand::f64())) => {}
            }
            pause *= 2;
        }
        Sent::Failed(Status::cancelled("no attempt"))
    }

    async fn export(&mut self, message: Bytes) -> Result<ExportTraceServiceResponse, Status> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        request.set_timeout(EXPORT_TIMEOUT);
        let call = async {
            let unavailable =
                |why: tonic::transport::Error| Status::unavailable(crate::answer::chain(&why));
            self.grpc.ready().await.map_err(unavailable)?;
            let path = PathAndQuery::from_static(EXPORT);
            self.grpc.unary(request, path, BytesCodec::unary()).await
        };
        let answer = timeout(EXPORT_TIMEOUT, call).await;
        let answer = answer.map_err(|_| {
            Status::deadline_exceeded(format!("no answer within {EXPORT_TIMEOUT:?}"))
        })??;
        // What it says beside OK is of no use if it is malformed.
        Ok(ExportTraceServiceResponse::decode(answer.into_inner()).unwrap_or_default())
    }
}

/// Whether sending it again may help. A collector that has let ten seconds pass gets the next batch
/// instead.
const fn may_help(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable | Code::Aborted | Code::ResourceExhausted | Code::Cancelled
    )
}

/// Says what is wrong, once in a while.
#[derive(Debug)]
struct Trouble {
    collector: String,
    said: Option<Instant>,
    /// Whether it was said that batches fail, and none has been taken since.
    is_on: bool,
    /// Spans dropped when that was last looked at.
    dropped: u64,
}

impl Trouble {
    fn new(collector: &Collector) -> Self {
        Self {
            collector: collector.to_string(),
            said: None,
            is_on: false,
            dropped: 0,
        }
    }

    /// Whether it is time for a line.
    fn may_say(&mut self) -> bool {
        let now = Instant::now();
        let is_time = self.said.is_none_or(|said| now >= said + SAY_AGAIN);
        if is_time {
            self.said = Some(now);
        }
        is_time
    }

    fn failed(&mut self, status: &Status) {
        if !self.may_say() {
            return;
        }
        self.is_on = true;
        let help = match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => {
                "give `log.otlp_headers` what the collector asks for"
            }
            Code::Unimplemented => "`log.otlp` must be the OTLP port for gRPC, usually 4317",
            _ => {
                "start a collector that takes OTLP over gRPC there, correct `log.otlp`, or remove it; \
                 events go on without their spans"
            }
        };
        let (collector, why) = (&self.collector, words(status));
        tracing::warn!(collector, why, help, "traces can't be exported");
    }

    fn refused(&mut self, why: &str) {
        if self.may_say() {
            let (collector, help) = (&self.collector, "see the collector's log");
            tracing::warn!(collector, why, help, "the collector refuses spans");
        }
    }

    fn dropped(&mut self, dropped: u64) {
        let new = dropped - self.dropped;
        if new > 0 && self.may_say() {
            let collector = &self.collector;
            let help = "lower `log.sampling`, or give the collector more room";
            tracing::warn!(
                collector,
                dropped = new,
                help,
                "spans come faster than they are taken"
            );
        }
        if new > 0 {
            self.dropped = dropped;
        }
    }

    fn is_over(&mut self) {
        if std::mem::take(&mut self.is_on) {
            tracing::info!(collector = self.collector, "traces are exported again");
        }
    }
}

/// A status with its causes: a connection that fails says why only there.
fn words(status: &Status) -> String {
    let text = match status.message() {
        "" => format!("{:?}", status.code()),
        message => message.to_owned(),
    };
    match std::error::Error::source(status) {
        Some(cause) => format!("{text}: {}", crate::answer::chain(cause)),
        None => text,
    }
}
