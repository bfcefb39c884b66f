//! A stand-in for Centrifugo's server API, with faults: what it was sent is kept in order, and it can
//! be killed and started again on the same port.

use bytes::Bytes;
use centripeta::config::{CentrifugoConfig, Config, Endpoint};
use centripeta::proto::api::centrifugo_api_server::{CentrifugoApi, CentrifugoApiServer};
use centripeta::proto::api::{self, Command, Error, Reply};
use prost::Message;
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Each call takes so long, after it has had its effect.
    Slow(Duration),
    /// A batch of publications answers only the first of its commands.
    HalfBatch,
    /// Each call fails with UNAVAILABLE, after it has had its effect.
    Unavailable,
    /// There are no batches, as with an old Centrifugo.
    NoBatch,
}

/// What the stand-in has seen, and how it behaves. Survives a restart.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) fault: Mutex<Fault>,
    pub(crate) key: Mutex<Option<String>>,
    /// Channel and data of every publication, in order of effect.
    pub(crate) published: Mutex<Vec<(String, Bytes)>>,
    keys: Mutex<HashMap<(String, String), u64>>,
    /// Commands of every batch that was not empty.
    pub(crate) batches: Mutex<Vec<(usize, bool)>>,
    /// Calls of publications by themselves.
    pub(crate) singles: Mutex<usize>,
    /// Reads.
    pub(crate) reads: Mutex<usize>,
    /// `traceparent` and `tracestate` of every call but empty batches.
    #[allow(dead_code, reason = "read where it is tested")]
    pub(crate) traces: Mutex<Vec<[Option<String>; 2]>>,
}

impl State {
    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    pub(crate) fn of(&self, channel: &str) -> Vec<Bytes> {
        let published = self.published.lock().unwrap();
        let of = published.iter().filter(|(name, _)| name == channel);
        of.map(|(_, data)| data.clone()).collect()
    }

    fn publish(&self, request: &api::PublishRequest) -> Result<api::PublishResult, Error> {
        if request.channel.is_empty() || request.data.is_empty() && request.b64data.is_empty() {
            return Err(error(107, "bad request"));
        }
        if request.channel.starts_with("nosuch:") {
            return Err(error(102, "unknown channel"));
        }
        let mut published = self.published.lock().unwrap();
        let offset = 1 + published
            .iter()
            .filter(|(name, _)| *name == request.channel)
            .count();
        let mut offset = offset as u64;
        let key = (request.channel.clone(), request.idempotency_key.clone());
        let first = self.keys.lock().unwrap().get(&key).copied();
        match first {
            Some(first) if !key.1.is_empty() => offset = first,
            _ => {
                published.push((request.channel.clone(), request.data.clone()));
                self.keys.lock().unwrap().insert(key, offset);
            }
        }
        let epoch = "e".to_owned();
        Ok(api::PublishResult { offset, epoch })
    }

    fn broadcast(&self, request: &api::BroadcastRequest) -> Result<api::BroadcastResult, Error> {
        let one = |channel: &String| {
            let request = api::PublishRequest {
                channel: channel.clone(),
                data: request.data.clone(),
                ..Default::default()
            };
            let (result, error) = split(self.publish(&request));
            api::PublishResponse { error, result }
        };
        let responses = request.channels.iter().map(one).collect();
        Ok(api::BroadcastResult { responses })
    }

    fn presence(&self, request: &api::PresenceRequest) -> Result<api::PresenceResult, Error> {
        *self.reads.lock().unwrap() += 1;
        match request.channel.starts_with("plain:") {
            true => Err(error(108, "not available")),
            false => Ok(api::PresenceResult::default()),
        }
    }

    fn run(&self, command: &Command) -> Reply {
        let mut reply = Reply::default();
        let failed = if let Some(request) = &command.publish {
            self.publish(request)
                .map(|it| reply.publish = Some(Box::new(it)))
        } else if let Some(request) = &command.broadcast {
            self.broadcast(request)
                .map(|it| reply.broadcast = Some(Box::new(it)))
        } else if let Some(request) = &command.presence {
            self.presence(request)
                .map(|it| reply.presence = Some(Box::new(it)))
        } else {
            Err(error(104, "not found"))
        };
        reply.error = failed.err().map(Box::new);
        reply
    }
}

fn error(code: u32, message: &str) -> Error {
    let message = message.to_owned();
    Error { code, message }
}

fn split<T>(result: Result<T, Error>) -> (Option<T>, Option<Error>) {
    match result {
        Ok(result) => (Some(result), None),
        Err(error) => (None, Some(error)),
    }
}

#[derive(Debug, Clone)]
struct Service(Arc<State>);

impl Service {
    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let key = self.0.key.lock().unwrap().clone();
        let given = request.metadata().get("authorization");
        let given = given.and_then(|value| value.to_str().ok());
        match key {
            Some(key) if given != Some(&format!("apikey {key}")) => {
                Err(Status::unauthenticated("unauthenticated"))
            }
            _ => Ok(()),
        }
    }

    fn keep_trace<T>(&self, request: &Request<T>) {
        let trace = ["traceparent", "tracestate"].map(|name| {
            let value = request.metadata().get(name)?;
            value.to_str().ok().map(str::to_owned)
        });
        self.0.traces.lock().unwrap().push(trace);
    }

    async fn suffer(&self) -> Result<(), Status> {
        let fault = *self.0.fault.lock().unwrap();
        match fault {
            Fault::Slow(time) => tokio::time::sleep(time).await,
            Fault::Unavailable => return Err(Status::unavailable("try later")),
            Fault::None | Fault::HalfBatch | Fault::NoBatch => {}
        }
        Ok(())
    }
}

/// A `Status` as Centrifugo sends it in transport mode.
fn status(error: &Error) -> Status {
    #[derive(Clone, PartialEq, Message)]
    struct Any {
        #[prost(string, tag = "1")]
        type_url: String,
        #[prost(bytes = "vec", tag = "2")]
        value: Vec<u8>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct RpcStatus {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
        #[prost(message, repeated, tag = "3")]
        details: Vec<Any>,
    }
    let code = match error.code {
        102 | 104 => Code::NotFound,
        _ => Code::InvalidArgument,
    };
    let details = RpcStatus {
        code: code as i32,
        message: error.message.clone(),
        details: vec![Any {
            type_url: "type.googleapis.com/centrifugal.centrifugo.api.Error".to_owned(),
            value: error.encode_to_vec(),
        }],
    };
    Status::with_details(code, error.message.clone(), details.encode_to_vec().into())
}

macro_rules! answer {
    ($self:ident, $request:ident, $method:ident, $response:ident) => {{
        $self.check(&$request)?;
        $self.keep_trace(&$request);
        let is_transport = $request.metadata().contains_key("x-centrifugo-error-mode");
        let result = $self.0.$method($request.get_ref());
        $self.suffer().await?;
        match result {
            Err(error) if is_transport => Err(status(&error)),
            result => {
                let (result, error) = split(result);
                Ok(Response::new(api::$response { error, result }))
            }
        }
    }};
}

#[tonic::async_trait]
impl CentrifugoApi for Service {
    async fn publish(
        &self,
        request: Request<api::PublishRequest>,
    ) -> Result<Response<api::PublishResponse>, Status> {
        *self.0.singles.lock().unwrap() += 1;
        answer!(self, request, publish, PublishResponse)
    }

    async fn broadcast(
        &self,
        request: Request<api::BroadcastRequest>,
    ) -> Result<Response<api::BroadcastResponse>, Status> {
        answer!(self, request, broadcast, BroadcastResponse)
    }

    async fn presence(
        &self,
        request: Request<api::PresenceRequest>,
    ) -> Result<Response<api::PresenceResponse>, Status> {
        answer!(self, request, presence, PresenceResponse)
    }

    async fn batch(
        &self,
        request: Request<api::BatchRequest>,
    ) -> Result<Response<api::BatchResponse>, Status> {
        self.check(&request)?;
        if *self.0.fault.lock().unwrap() == Fault::NoBatch {
            return Err(Status::unimplemented("unknown method Batch"));
        }
        if !request.get_ref().commands.is_empty() {
            self.keep_trace(&request);
        }
        let api::BatchRequest { commands, parallel } = request.into_inner();
        let mut replies: Vec<Reply> = commands.iter().map(|it| self.0.run(it)).collect();
        if !commands.is_empty() {
            self.0
                .batches
                .lock()
                .unwrap()
                .push((commands.len(), parallel));
            if *self.0.fault.lock().unwrap() == Fault::HalfBatch {
                replies.truncate(commands.len().div_ceil(2));
            }
        }
        self.suffer().await?;
        Ok(Response::new(api::BatchResponse { replies }))
    }
}

/// A running stand-in.
#[derive(Debug)]
pub(crate) struct Double {
    pub(crate) state: Arc<State>,
    address: SocketAddr,
    identity: Option<Identity>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Double {
    /// Starts one on a free port.
    pub(crate) fn start() -> Self {
        Self::with(Arc::default(), None)
    }

    /// The same over what another one has seen, as two nodes share a broker.
    pub(crate) fn beside(other: &Self) -> Self {
        Self::with(Arc::clone(&other.state), None)
    }

    /// One that speaks TLS with this certificate and key, in PEM.
    pub(crate) fn with_tls(certificate: &str, key: &str) -> Self {
        Self::with(Arc::default(), Some(Identity::from_pem(certificate, key)))
    }

    fn with(state: Arc<State>, identity: Option<Identity>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut double = Self {
            state,
            address: listener.local_addr().unwrap(),
            identity,
            runtime: None,
        };
        double.serve(listener);
        double
    }

    fn serve(&mut self, listener: TcpListener) {
        listener.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let service = CentrifugoApiServer::new(Service(Arc::clone(&self.state)));
        let identity = self.identity.clone();
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
        self.runtime = Some(runtime);
    }

    /// Ends it at once: its connections are cut in the middle.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Starts it again where it was.
    pub(crate) fn restart(&mut self) {
        let started = tokio::time::Instant::now();
        let listener = loop {
            match TcpListener::bind(self.address) {
                Ok(listener) => break listener,
                Err(why) => assert!(started.elapsed() < Duration::from_secs(5), "{why}"),
            }
            std::thread::yield_now();
        };
        self.serve(listener);
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        endpoint(self.address)
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        tls: false,
        host: address.ip().to_string(),
        port: address.port(),
    }
}

/// The default configuration towards these endpoints.
pub(crate) fn towards(endpoints: Vec<Endpoint>) -> CentrifugoConfig {
    CentrifugoConfig {
        api: endpoints,
        ..Config::default().centrifugo
    }
}
