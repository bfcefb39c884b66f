//! A stand-in for a collector of traces.

use centripeta::config::{Collector as Address, OtlpConfig};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status};

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Manner {
    #[default]
    Takes,
    NeverAnswers,
    Refuses(Code),
    /// Takes all but so many of each batch.
    Rejects(i64),
}

#[derive(Debug, Default)]
pub(crate) struct State {
    manner: Mutex<Manner>,
    spans: Mutex<Vec<Span>>,
    /// Attributes of the resource and metadata of the last export.
    pub(crate) last: Mutex<(BTreeMap<String, String>, BTreeMap<String, String>)>,
    pub(crate) exports: Mutex<usize>,
}

#[derive(Debug, Clone)]
struct Service(Arc<State>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        *self.0.exports.lock().unwrap() += 1;
        let metadata = request.metadata().clone().into_headers();
        let metadata = metadata.iter().map(|(name, value)| {
            let value = value.to_str().unwrap_or_default().to_owned();
            (name.as_str().to_owned(), value)
        });
        let metadata = metadata.collect();
        let manner = *self.0.manner.lock().unwrap();
        match manner {
            Manner::NeverAnswers => return std::future::pending().await,
            Manner::Refuses(code) => return Err(Status::new(code, "go away")),
            Manner::Takes | Manner::Rejects(_) => {}
        }
        let resources = request.into_inner().resource_spans;
        if let Some(resource) = resources.into_iter().next() {
            let attributes = resource.resource.unwrap_or_default().attributes;
            *self.0.last.lock().unwrap() = (texts(&attributes), metadata);
            let spans = resource.scope_spans.into_iter().flat_map(|it| it.spans);
            self.0.spans.lock().unwrap().extend(spans);
        }
        let partial_success = match manner {
            Manner::Rejects(rejected_spans) => Some(ExportTracePartialSuccess {
                rejected_spans,
                error_message: "too old".to_owned(),
            }),
            _ => None,
        };
        Ok(Response::new(ExportTraceServiceResponse {
            partial_success,
        }))
    }
}

/// Attributes as text.
pub(crate) fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |it: &KeyValue| match it.value.clone()?.value? {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        Value::DoubleValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    };
    let attributes = attributes.iter();
    attributes
        .map(|it| (it.key.clone(), text(it).unwrap_or_default()))
        .collect()
}

/// A running stand-in, with a runtime of its own.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) state: Arc<State>,
    address: SocketAddr,
    is_tls: bool,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        Self::with(None)
    }

    /// One that speaks TLS with this certificate and key, in PEM.
    pub(crate) fn with(identity: Option<Identity>) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let state = Arc::<State>::default();
        let service = TraceServiceServer::new(Service(Arc::clone(&state)));
        let is_tls = identity.is_some();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let mut server = Server::builder();
            if let Some(identity) = identity {
                let tls = ServerTlsConfig::new().identity(identity);
                server = server.tls_config(tls).unwrap();
            }
            let server = server.add_service(service);
            server.serve_with_incoming(incoming).await.unwrap();
        });
        Self {
            state,
            address,
            is_tls,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn set(&self, manner: Manner) {
        *self.state.manner.lock().unwrap() = manner;
    }

    /// What `log.otlp` says to reach it.
    pub(crate) fn config(&self) -> OtlpConfig {
        OtlpConfig {
            collector: Address {
                tls: self.is_tls,
                host: "localhost".to_owned(),
                port: self.address.port(),
            },
            headers: Vec::new(),
            ca: None,
        }
    }

    /// The spans so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.state.spans.lock().unwrap().clone()
    }

    /// The spans once there are so many.
    pub(crate) async fn spans_once(&self, count: usize) -> Vec<Span> {
        let what = format!("{count} spans arrive");
        crate::support::eventually(&what, async || self.spans().len() >= count).await;
        self.spans()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
