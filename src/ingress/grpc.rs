//! The gRPC frontend: all methods of Centrifugo's proxy service through one service over bytes.

use crate::answer::{Answer, answer, stream_first};
use crate::engine::flight::{Flight, Landed};
use crate::engine::shared::{Gauge, Permit, StreamPermit};
use crate::engine::{Drain, Engine, Entered, Incoming};
use crate::event::{EventKind, SERVICE_PATH};
use crate::inbound;
use crate::ingress::auth::CallerAuth;
use crate::ingress::codec::BytesCodec;
use crate::ingress::deadline;
use crate::ingress::session::{Accepted, Place, Reader, Session};
use crate::ingress::unary::{Head, ReplyBody, UnaryCall};
use crate::metrics::End;
use crate::outcome::Failure;
use crate::proto::proxy::Publication;
use crate::reply::{StreamOpen, StreamSource};
use crate::trace::Arrival;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::uri::Authority;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{CompressionEncoding, EnabledCompressionEncodings, Streaming};
use tonic::server::{Grpc, ServerStreamingService, StreamingService, UnaryService};

/// What a reply may have in bytes; more is refused before it is encoded (`answer::seal`), so this
/// is only the transport's own limit.
const MAX_REPLY_BYTES: usize = 8 * 1024 * 1024;

/// What the first message of a two-way stream is charged until it is there: Centrifugo takes no
/// larger commands from its clients by default.
const FIRST_MESSAGE_BYTES: usize = 64 * 1024;

/// gRPC health checking of the standard service; it says nothing but whether we serve, so it asks
/// for no credential.
type Health = tonic_health::pb::health_server::HealthServer<tonic_health::server::HealthService>;

/// What the name of a service may take, in bytes.
const HEALTH_BYTES: usize = 1024;

/// Health checks and watches of a core at a time: anybody may ask.
const HEALTH_CALLS: usize = 512;

/// The service of one core.
#[derive(Clone)]
pub(crate) struct GrpcIngress(Arc<Inner>);

struct Inner {
    engine: Engine,
    core: usize,
    auth: Option<CallerAuth>,
    health: Health,
    health_calls: Arc<Gauge>,
}

impl std::fmt::Debug for GrpcIngress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrpcIngress")
            .field("core", &self.0.core)
            .finish_non_exhaustive()
    }
}

impl GrpcIngress {
    /// The service of a core.
    pub(crate) fn new(
        engine: Engine,
        core: usize,
        auth: Option<CallerAuth>,
        health: Health,
    ) -> Self {
        Self(Arc::new(Inner {
            engine,
            core,
            auth,
            health: health.max_decoding_message_size(HEALTH_BYTES),
            health_calls: Arc::default(),
        }))
    }

    /// Serves one call.
    pub(crate) fn serve<B>(&self, mut request: Request<B>) -> Serving<B>
    where
        B: HttpBody<Data = Bytes, Error: Into<tonic::codegen::StdError> + Send> + Send + 'static,
    {
        let path = request.uri().path();
        let Some(method) = path.strip_prefix(SERVICE_PATH) else {
            let this = self.clone();
            return Serving::general(async move { this.elsewhere(request).await });
        };
        let kind = EventKind::from_method(method);
        let method = if kind == EventKind::Raw {
            method.to_owned()
        } else {
            String::new()
        };
        if !is_grpc(request.headers()) {
            return Serving::ready(plain(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        if let Some(auth) = &self.0.auth
            && !auth.admit(request.headers_mut())
        {
            let failure = Failure::Unauthenticated;
            // A stranger does not say what is recorded.
            let arrival = self.arrival((kind, &method), &HeaderMap::new(), Instant::now());
            self.0.engine.refused(self.0.core, kind, &failure, arrival);
            return Serving::ready(refuse(kind, failure));
        }
        let timeout = match deadline::of(request.headers()) {
            Ok(timeout) => timeout,
            Err(why) => {
                let status = Status::invalid_argument(why.to_string());
                let arrival = self.arrival((kind, &method), request.headers(), Instant::now());
                self.malformed(kind, &status, arrival);
                return Serving::ready(status.into_http());
            }
        };
        if kind == EventKind::StreamBidirectional {
            let this = self.clone();
            let call = this.serve_general(kind, method, (timeout, None), None, request);
            return Serving::general(call);
        }
        let (parts, body) = request.into_parts();
        let authority = parts.uri.into_parts().authority;
        let may_be_compressed = is_compressed(&parts.headers);
        let metadata = parts.headers;
        let head = Head {
            kind,
            method,
            metadata,
            authority,
            timeout,
            may_be_compressed,
        };
        Serving::Unary {
            call: UnaryCall::new(self.clone(), head, body),
        }
    }

    /// Streams, and calls whose message is compressed; of the others than two-way streams the message
    /// has been read already. The time that the caller allows counts from when the call came.
    pub(super) async fn serve_general<B>(
        self,
        kind: EventKind,
        method: String,
        (timeout, at): (Option<Duration>, Option<Instant>),
        authority: Option<Authority>,
        request: Request<B>,
    ) -> Response<Body>
    where
        B: HttpBody<Data = Bytes, Error: Into<tonic::codegen::StdError> + Send> + Send + 'static,
    {
        let is_read = AtomicBool::new(false);
        let at = at.unwrap_or_else(Instant::now);
        let arrival = self.arrival((kind, &method), request.headers(), at);
        let call = Call {
            ingress: &self,
            kind,
            method,
            timeout,
            at,
            authority,
            is_read: &is_read,
        };
        let response = match kind {
            EventKind::Stream => {
                self.grpc(BytesCodec::stream())
                    .server_streaming(call, request)
                    .await
            }
            EventKind::StreamBidirectional => {
                // The first message is read by the call itself, within the same time.
                self.grpc(BytesCodec::stream())
                    .streaming(call, request)
                    .await
            }
            _ => self.grpc(BytesCodec::unary()).unary(call, request).await,
        };
        // A message that can't be decompressed was answered on the way.
        if !is_read.load(Ordering::Relaxed)
            && let Some(status) = Status::from_header_map(response.headers())
        {
            self.malformed(kind, &status, arrival);
        }
        response
    }

    /// A call that came in at this time, for its span should it be refused.
    pub(super) fn arrival(
        &self,
        call: (EventKind, &str),
        metadata: &HeaderMap,
        at: Instant,
    ) -> Arrival {
        self.0.engine.arrival(call, metadata, at)
    }

    /// Logs, counts and records a call whose head or message is none.
    pub(super) fn malformed(&self, kind: EventKind, status: &Status, arrival: Arrival) {
        if status.code() != tonic::Code::Cancelled {
            let failure = Failure::Undecodable(status.message().to_owned());
            let arrival = arrival.with_status(status.code());
            self.0.engine.refused(self.0.core, kind, &failure, arrival);
        }
    }

    /// Logs, counts and records a call whose message did not arrive in time.
    pub(super) fn late(&self, kind: EventKind, arrival: Arrival) {
        let engine = &self.0.engine;
        engine.refused(self.0.core, kind, &Failure::Deadline, arrival);
    }

    /// Gives a call whose message does not arrive at once a place among the events in flight, for so
    /// many bytes; logs, counts and records a refusal.
    pub(super) fn charge(
        &self,
        kind: EventKind,
        permit: &mut Option<Permit>,
        bytes: usize,
        arrival: impl FnOnce() -> Arrival,
    ) -> Result<(), Failure> {
        let shared = &self.0.engine.shared;
        let charged = match permit {
            Some(permit) => permit.grow_to(bytes),
            None => Permit::acquire(shared, bytes).map(|new| *permit = Some(new)),
        };
        charged.map_err(Failure::Overloaded).inspect_err(|failure| {
            let engine = &self.0.engine;
            engine.refused(self.0.core, kind, failure, arrival());
        })
    }

    /// The largest message.
    pub(super) fn message_bytes(&self) -> usize {
        self.0.engine.shared.limits.message_bytes()
    }

    /// How long an event may take where the caller does not say.
    pub(super) fn timeout(&self) -> Duration {
        self.0.engine.shared.limits.timeout()
    }

    fn grpc(&self, codec: BytesCodec) -> Grpc<BytesCodec> {
        let mut accepted = EnabledCompressionEncodings::default();
        accepted.enable(CompressionEncoding::Gzip);
        Grpc::new(codec)
            .apply_compression_config(accepted, EnabledCompressionEncodings::default())
            .apply_max_message_size_config(Some(self.message_bytes()), Some(MAX_REPLY_BYTES))
    }

    /// Health checks, and nothing else.
    async fn elsewhere<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes, Error: Into<tonic::codegen::StdError> + Send> + Send + 'static,
    {
        use tower_service::Service;
        if request.uri().path().starts_with("/grpc.health.v1.Health/") {
            let mut health = self.0.health.clone();
            let Some(place) = HealthPlace::take(&self.0.health_calls) else {
                return Status::unavailable("too many health checks").into_http();
            };
            return match tokio::time::timeout(self.timeout(), health.call(request)).await {
                Ok(Ok(response)) => response.map(|body| {
                    Body::new(Watched {
                        body,
                        drained: Box::pin(drained(self.0.engine.drains())),
                        is_over: false,
                        _place: place,
                    })
                }),
                Ok(Err(never)) => match never {},
                Err(_) => Status::deadline_exceeded("no message").into_http(),
            };
        }
        if !is_grpc(request.headers()) {
            return plain(StatusCode::NOT_FOUND);
        }
        Status::unimplemented("no such service").into_http()
    }

    pub(super) fn enter(&self, incoming: Incoming) -> Result<Entered, Failure> {
        self.0.engine.enter(self.0.core, incoming)
    }
}

/// A place among the health checks of a core.
struct HealthPlace(Arc<Gauge>);

impl HealthPlace {
    fn take(taken: &Arc<Gauge>) -> Option<Self> {
        let got = taken.try_add(1, HEALTH_CALLS);
        got.then(|| Self(Arc::clone(taken)))
    }
}

impl Drop for HealthPlace {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

/// Ready once the node drains.
async fn drained(mut drains: watch::Receiver<Option<Drain>>) {
    // Without the engine there is nothing to watch either.
    drop(drains.wait_for(Option::is_some).await);
}

/// The answer to a health check; a watch ends when the node drains, behind its last word.
struct Watched {
    body: Body,
    drained: BoxFuture<'static, ()>,
    is_over: bool,
    _place: HealthPlace,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        std::task::ready!(self.drained.as_mut().poll(cx));
        self.is_over = true;
        let mut trailers = HeaderMap::new();
        let ended = Status::unavailable("the node drains").add_header(&mut trailers);
        Poll::Ready(Some(ended.map(|()| http_body::Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }
}

/// Whether a request is gRPC at all, in protobuf.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(http::header::CONTENT_TYPE)
        .map(http::HeaderValue::as_bytes);
    kind.is_some_and(|kind| {
        let kind = kind.strip_prefix(b"application/grpc").unwrap_or(b"-");
        matches!(kind.first(), None | Some(b'+' | b';'))
    })
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn refuse(kind: EventKind, failure: Failure) -> Response<Body> {
    match answer(kind, true, failure.into()) {
        Answer::Status { code, message } => Status::new(code, message).into_http(),
        // Only overload and bad data have messages, and neither is decided here.
        Answer::Message(_) | Answer::Open(_) => Status::unavailable("refused").into_http(),
    }
}

/// One call, as tonic hands over its message.
struct Call<'a> {
    ingress: &'a GrpcIngress,
    kind: EventKind,
    method: String,
    timeout: Option<Duration>,
    /// When it came.
    at: Instant,
    authority: Option<Authority>,
    /// Set once the call is here; of others than two-way streams, once its message is.
    is_read: &'a AtomicBool,
}

impl Call<'_> {
    fn incoming(&mut self, request: tonic::Request<Bytes>) -> Incoming {
        self.is_read.store(true, Ordering::Relaxed);
        let (metadata, _, raw) = request.into_parts();
        Incoming {
            kind: self.kind,
            method: std::mem::take(&mut self.method),
            raw,
            metadata: metadata.into_headers(),
            authority: self.authority.take(),
            timeout: self.timeout,
            at: Some(self.at),
            inbound: None,
            permit: None,
        }
    }
}

type UnaryAnswer = Result<tonic::Response<Bytes>, Status>;

impl<'a> UnaryService<Bytes> for Call<'a> {
    type Response = Bytes;
    type Future = BoxFuture<'a, UnaryAnswer>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let (ingress, kind) = (self.ingress, self.kind);
        let incoming = self.incoming(request);
        let entered = ingress.enter(incoming);
        Box::pin(async move {
            let (json_client, outcome) = match entered {
                Ok(mut entered) => {
                    let outcome = match entered.landed().await {
                        Landed::Done(outcome) => outcome,
                        Landed::Stream(_, flight) => {
                            let why = "a stream in answer to a call of one message".to_owned();
                            let failure = Failure::BadReply(why);
                            flight.refuse_stream(failure.clone());
                            failure.into()
                        }
                    };
                    entered.count(&outcome);
                    (entered.json_client, outcome)
                }
                Err(failure) => (true, failure.into()),
            };
            match answer(kind, json_client, outcome) {
                Answer::Message(message) | Answer::Open(message) => {
                    Ok(tonic::Response::new(message))
                }
                Answer::Status { code, message } => Err(Status::new(code, message)),
            }
        })
    }
}

type StreamAnswer = Result<tonic::Response<Session>, Status>;

impl<'a> ServerStreamingService<Bytes> for Call<'a> {
    type Response = Bytes;
    type ResponseStream = Session;
    type Future = BoxFuture<'a, StreamAnswer>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let (ingress, kind) = (self.ingress, self.kind);
        let incoming = self.incoming(request);
        Box::pin(async move { ingress.open(kind, incoming, None).await })
    }
}

impl<'a> StreamingService<Bytes> for Call<'a> {
    type Response = Bytes;
    type ResponseStream = Session;
    type Future = BoxFuture<'a, StreamAnswer>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let (ingress, kind, timeout, at) = (self.ingress, self.kind, self.timeout, self.at);
        self.is_read.store(true, Ordering::Relaxed);
        Box::pin(async move {
            let (metadata, _, mut messages) = request.into_parts();
            let metadata = metadata.into_headers();
            let arrival = || ingress.arrival((kind, ""), &metadata, at);
            let longest = ingress.timeout();
            let wait = timeout.map_or(longest, |timeout| timeout.min(longest));
            let mut permit = None;
            let charged = ingress.charge(kind, &mut permit, FIRST_MESSAGE_BYTES, arrival);
            if let Err(failure) = charged {
                return refused_stream(kind, true, failure);
            }
            let first = tokio::time::timeout(wait, messages.message()).await;
            let late = |_| Status::deadline_exceeded("no first message");
            let first = first.map_err(late);
            let first = first.inspect_err(|_| ingress.late(kind, arrival()))?;
            let malformed = |status: &Status| ingress.malformed(kind, status, arrival());
            let first = first.inspect_err(malformed)?;
            let raw = subscribe_request(first).map_err(Status::invalid_argument);
            let raw = raw.inspect_err(malformed)?;
            let (to_handler, source) = inbound::channel();
            let method = String::new();
            let inbound = Some(source);
            let incoming = Incoming {
                kind,
                method,
                raw,
                metadata,
                authority: None,
                timeout,
                at: Some(at),
                inbound,
                permit,
            };
            ingress
                .open(kind, incoming, Some((messages, to_handler)))
                .await
        })
    }
}

/// A message of a two-way stream, with the request inside kept as bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Frame {
    /// Of the first message.
    #[prost(bytes = "bytes", optional, tag = "1")]
    subscribe_request: Option<Bytes>,
    /// Of the others.
    #[prost(message, optional, tag = "2")]
    pub(super) publication: Option<Publication>,
}

/// The request in the first message of a two-way stream, or what is wrong with the message.
fn subscribe_request(first: Option<Bytes>) -> Result<Bytes, &'static str> {
    let first = first.ok_or("no first message")?;
    let frame = <Frame as prost::Message>::decode(first);
    let frame = frame.map_err(|_| "the first message is malformed")?;
    let missing = "the first message has no subscribe_request";
    frame.subscribe_request.ok_or(missing)
}

/// For fuzzing: a message of a two-way stream is read as the contract's own decoder reads it, save
/// that the request inside is not looked into.
pub(crate) fn fuzz_two_way(bytes: &[u8]) {
    let first = subscribe_request(Some(Bytes::copy_from_slice(bytes)));
    let Ok(whole) = <crate::proto::proxy::StreamSubscribeRequest as prost::Message>::decode(bytes)
    else {
        return;
    };
    let publication = <Frame as prost::Message>::decode(bytes).map(|frame| frame.publication);
    assert_eq!(publication, Ok(whole.publication));
    assert_eq!(first.is_ok(), whole.subscribe_request.is_some());
}

type InboundSide = (
    Streaming<Bytes>,
    tokio::sync::mpsc::Sender<crate::inbound::InboundItem>,
);

impl GrpcIngress {
    /// Opens a subscription stream.
    async fn open(
        &self,
        kind: EventKind,
        incoming: Incoming,
        inbound: Option<InboundSide>,
    ) -> StreamAnswer {
        let mut entered = match self.enter(incoming) {
            Ok(entered) => entered,
            Err(failure) => return refused_stream(kind, true, failure),
        };
        let outcome = match entered.landed().await {
            Landed::Stream(open, flight) => {
                return self.opened(kind, entered, open, flight, inbound);
            }
            Landed::Done(outcome) => outcome,
        };
        let json_client = entered.json_client;
        let end = End::from(&outcome);
        match answer(kind, json_client, outcome) {
            Answer::Message(message) => {
                entered.count(end);
                Ok(tonic::Response::new(Session::refused(message)))
            }
            Answer::Open(message) => match StreamPermit::acquire(&self.0.engine.shared) {
                Ok(permit) => {
                    entered.count(End::STREAM_OPEN);
                    let silence = Box::pin(futures_util::stream::pending());
                    let source = StreamSource::Publications(silence);
                    let accepted = Accepted {
                        first: message,
                        source,
                        flight: None,
                        reader: None,
                    };
                    let session = self.session(kind, accepted, permit, json_client);
                    Ok(tonic::Response::new(session))
                }
                Err(why) => {
                    let failure = Failure::Overloaded(why);
                    self.0.engine.shared.faults.failed(kind, "", &failure);
                    refuse_stream(kind, entered, failure)
                }
            },
            Answer::Status { code, message } => {
                entered.count(end);
                Err(Status::new(code, message))
            }
        }
    }

    /// A handler has accepted a stream: its first message goes out now.
    fn opened(
        &self,
        kind: EventKind,
        mut entered: Entered,
        open: StreamOpen,
        flight: Flight,
        inbound: Option<InboundSide>,
    ) -> StreamAnswer {
        let json = entered.json_client;
        let permit = StreamPermit::acquire(&self.0.engine.shared).map_err(Failure::Overloaded);
        match stream_first(json, &open).and_then(|first| Ok((first, permit?))) {
            Ok((first, permit)) => {
                entered.count(End::STREAM_OPEN);
                let reader = inbound.map(|(messages, to)| {
                    let shared = &self.0.engine.shared;
                    Reader::spawn(messages, to, &flight, shared, entered.limit)
                });
                let source = open.rest;
                let accepted = Accepted {
                    first,
                    source,
                    flight: Some(flight),
                    reader,
                };
                let session = self.session(kind, accepted, permit, json);
                Ok(tonic::Response::new(session))
            }
            Err(failure) => {
                flight.refuse_stream(failure.clone());
                refuse_stream(kind, entered, failure)
            }
        }
    }

    fn session(
        &self,
        kind: EventKind,
        accepted: Accepted,
        permit: StreamPermit,
        json_client: bool,
    ) -> Session {
        let place = Place {
            kind,
            core: self.0.core,
        };
        Session::open(accepted, place, permit, json_client, self.0.engine.drains())
    }
}

/// A stream that its handler accepted can't be opened.
fn refuse_stream(kind: EventKind, mut entered: Entered, failure: Failure) -> StreamAnswer {
    entered.count(&failure);
    refused_stream(kind, entered.json_client, failure)
}

fn refused_stream(kind: EventKind, json_client: bool, failure: Failure) -> StreamAnswer {
    match answer(kind, json_client, failure.into()) {
        Answer::Message(message) => Ok(tonic::Response::new(Session::refused(message))),
        Answer::Status { code, message } => Err(Status::new(code, message)),
        // A failure never opens a stream.
        Answer::Open(_) => Err(Status::internal("internal error")),
    }
}

/// Whether the message of a call is compressed.
fn is_compressed(headers: &HeaderMap) -> bool {
    headers
        .get("grpc-encoding")
        .is_some_and(|encoding| encoding != "identity")
}

pin_project! {
    /// A call being served.
    #[project = ServingProj]
    pub(crate) enum Serving<B> {
        /// A call with one message each way.
        Unary { #[pin] call: UnaryCall<B> },
        /// Everything else.
        General { call: BoxFuture<'static, Response<Body>> },
        /// An answer that needs no call.
        Ready { response: Option<Response<Body>> },
    }
}

impl<B> Serving<B> {
    fn general(call: impl Future<Output = Response<Body>> + Send + 'static) -> Self {
        Self::General {
            call: Box::pin(call),
        }
    }

    const fn ready(response: Response<Body>) -> Self {
        Self::Ready {
            response: Some(response),
        }
    }
}

impl<B: HttpBody<Data = Bytes>> Future for Serving<B> {
    type Output = Result<Response<ReplyBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            ServingProj::Unary { call } => call.poll(cx),
            ServingProj::General { call } => call
                .as_mut()
                .poll(cx)
                .map(|response| Ok(response.map(ReplyBody::General))),
            ServingProj::Ready { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response.map(ReplyBody::General))),
                None => Poll::Pending,
            },
        }
    }
}

/// The service as hyper calls it.
impl hyper::service::Service<Request<hyper::body::Incoming>> for GrpcIngress {
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = Serving<hyper::body::Incoming>;

    fn call(&self, request: Request<hyper::body::Incoming>) -> Self::Future {
        self.serve(request)
    }
}
