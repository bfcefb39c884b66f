//! Calls with one message each way, without an allocation that they could do without.
//!
//! This is the path of nearly every event, and its shape decides the throughput: the general path
//! (tonic's `Grpc`) keeps a future of several kilobytes for each call, which is more than all else
//! that a call needs. Compressed requests and streams go on there once their message has been read here.
//! A message that does not arrive at once takes its place among the events in flight while it is read.

use crate::answer::{Answer, answer};
use crate::engine::flight::Landed;
use crate::engine::shared::Permit;
use crate::engine::{Entered, Incoming};
use crate::event::EventKind;
use crate::ingress::grpc::GrpcIngress;
use crate::outcome::Failure;
use crate::trace::Arrival;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;

/// Bytes of a gRPC frame before its message: a flag and a length.
const PREFIX: usize = 5;

/// What is known of a call from its head.
pub(crate) struct Head {
    pub(crate) kind: EventKind,
    /// For raw events, the name of the method.
    pub(crate) method: String,
    pub(crate) metadata: HeaderMap,
    /// The host that the caller named.
    pub(crate) authority: Option<Authority>,
    pub(crate) timeout: Option<Duration>,
    /// Whether the message may be compressed.
    pub(crate) may_be_compressed: bool,
}

pin_project! {
    /// A call on its way: first its message is read, then its event is waited for.
    pub(crate) struct UnaryCall<B> {
        ingress: GrpcIngress,
        #[pin]
        state: State<B>,
        #[pin]
        timer: Option<Sleep>,
        // When it came in, if its message did not come with it.
        at: Option<Instant>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<B> {
        Reading { head: Option<Head>, #[pin] body: B, message: Message, permit: Option<Permit> },
        Waiting { kind: EventKind, entered: Entered },
        General { call: BoxFuture<'static, Response<Body>> },
    }
}

impl<B> UnaryCall<B> {
    /// A call whose message is still to be read.
    pub(crate) fn new(ingress: GrpcIngress, head: Head, body: B) -> Self {
        let message = Message::new(ingress.message_bytes(), head.may_be_compressed);
        let (head, permit) = (Some(head), None);
        let state = State::Reading {
            head,
            body,
            message,
            permit,
        };
        Self {
            ingress,
            state,
            timer: None,
            at: None,
        }
    }
}

impl<B> Future for UnaryCall<B>
where
    B: HttpBody<Data = Bytes>,
{
    type Output = Result<Response<ReplyBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProj::Reading {
                    head,
                    body,
                    message,
                    permit,
                } => {
                    let kind = head.as_ref().map_or(EventKind::Raw, |head| head.kind);
                    let (ingress, at) = (&*this.ingress, *this.at);
                    let arrival = |head: &Option<Head>| arrival(ingress, head.as_ref(), at);
                    match message.poll(body, cx) {
                        Poll::Ready(Ok(raw)) => {
                            let Some(head) = head.take() else {
                                return Poll::Pending;
                            };
                            let is_compressed = message.is_compressed;
                            let (permit, at) = (permit.take(), *this.at);
                            match begin(this.ingress, head, raw, is_compressed, permit, at) {
                                Ok(state) => state,
                                Err(failure) => {
                                    let refused = answer(kind, true, failure.into());
                                    return Poll::Ready(Ok(respond(refused)));
                                }
                            }
                        }
                        Poll::Ready(Err(status)) => {
                            ingress.malformed(kind, &status, arrival(head));
                            return Poll::Ready(Ok(refuse(&status)));
                        }
                        Poll::Pending => {
                            let size = message.size();
                            let charged = ingress.charge(kind, permit, size, || arrival(head));
                            if let Err(failure) = charged {
                                let refused = answer(kind, true, failure.into());
                                return Poll::Ready(Ok(respond(refused)));
                            }
                            // Bounds the time that a caller takes to send its message.
                            if this.timer.is_none() {
                                let asked = head.as_ref().and_then(|head| head.timeout);
                                let longest = this.ingress.timeout();
                                let wait = asked.map_or(longest, |asked| asked.min(longest));
                                let now = Instant::now();
                                *this.at = Some(now);
                                this.timer.set(Some(sleep_until(now + wait)));
                            }
                            if let Some(timer) = this.timer.as_mut().as_pin_mut() {
                                ready!(timer.poll(cx));
                            }
                            let late =
                                Status::deadline_exceeded("the request message did not arrive");
                            ingress.late(kind, arrival(head));
                            return Poll::Ready(Ok(refuse(&late)));
                        }
                    }
                }
                StateProj::Waiting { kind, entered } => {
                    let landed = match entered.poll_landed(cx) {
                        Poll::Ready(landed) => landed,
                        Poll::Pending => {
                            if let Some(timer) = this.timer.as_mut().as_pin_mut() {
                                ready!(timer.poll(cx));
                            }
                            Landed::Done(Failure::Deadline.into())
                        }
                    };
                    let outcome = match landed {
                        Landed::Done(outcome) => outcome,
                        Landed::Stream(_, flight) => {
                            let why = "a stream in answer to a call of one message".to_owned();
                            let failure = Failure::BadReply(why);
                            flight.refuse_stream(failure.clone());
                            failure.into()
                        }
                    };
                    entered.count(&outcome);
                    let answered = answer(*kind, entered.json_client, outcome);
                    return Poll::Ready(Ok(respond(answered)));
                }
                StateProj::General { call } => {
                    let response = ready!(call.as_mut().poll(cx));
                    return Poll::Ready(Ok(response.map(ReplyBody::General)));
                }
            };
            match &next {
                State::Waiting { entered, .. } => {
                    this.timer.set(Some(sleep_until(entered.backstop())));
                }
                _ => this.timer.set(None),
            }
            this.state.set(next);
        }
    }
}

/// A call that is refused while its message is read.
fn arrival(ingress: &GrpcIngress, head: Option<&Head>, at: Option<Instant>) -> Arrival {
    let of = |head: &Head| {
        let at = at.unwrap_or_else(Instant::now);
        ingress.arrival((head.kind, &head.method), &head.metadata, at)
    };
    head.map(of).unwrap_or_default()
}

/// The message is there: the event is let in, or the call goes on by the general path.
fn begin<B>(
    ingress: &GrpcIngress,
    head: Head,
    raw: Bytes,
    is_compressed: bool,
    permit: Option<Permit>,
    at: Option<Instant>,
) -> Result<State<B>, Failure> {
    let Head {
        kind,
        method,
        metadata,
        authority,
        timeout,
        may_be_compressed: _,
    } = head;
    if kind.is_stream() || is_compressed {
        let mut request = Request::new(Full::new(frame(is_compressed, &raw)));
        *request.headers_mut() = metadata;
        let call = Box::pin(ingress.clone().serve_general(
            kind,
            method,
            (timeout, at),
            authority,
            request,
        ));
        return Ok(State::General { call });
    }
    let inbound = None;
    let incoming = Incoming {
        kind,
        method,
        raw,
        metadata,
        authority,
        timeout,
        at,
        inbound,
        permit,
    };
    let entered = ingress.enter(incoming)?;
    Ok(State::Waiting { kind, entered })
}

/// The one message of a call, as it arrives.
pub(crate) struct Message {
    limit: usize,
    may_be_compressed: bool,
    is_compressed: bool,
    buffer: BytesMut,
    whole: Option<Bytes>,
}

impl Message {
    fn new(limit: usize, may_be_compressed: bool) -> Self {
        Self {
            limit,
            may_be_compressed,
            is_compressed: false,
            buffer: BytesMut::new(),
            whole: None,
        }
    }

    /// What the message takes or will take, as far as that is known, in bytes.
    fn size(&self) -> usize {
        match self.length(&self.buffer) {
            Ok(Some(length)) => PREFIX + length,
            _ => self.buffer.len(),
        }
    }

    /// The message of a body that came in these pieces.
    pub(crate) fn of_pieces(limit: usize, pieces: &[&[u8]]) -> Result<Bytes, Status> {
        let mut message = Self::new(limit, false);
        for piece in pieces {
            message.push(&Bytes::copy_from_slice(piece))?;
        }
        message.take()
    }

    /// Reads to the end of the body. A message that came in one piece is not copied.
    fn poll<B: HttpBody<Data = Bytes>>(
        &mut self,
        mut body: Pin<&mut B>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Bytes, Status>> {
        loop {
            let frame = match ready!(body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                // The caller went away: nobody reads this.
                Some(Err(_)) => return Poll::Ready(Err(Status::cancelled("the call ended early"))),
                None => return Poll::Ready(self.take()),
            };
            if let Ok(data) = frame.into_data() {
                self.push(&data)?;
            }
            if body.is_end_stream() {
                return Poll::Ready(self.take());
            }
        }
    }

    fn push(&mut self, data: &Bytes) -> Result<(), Status> {
        if data.is_empty() {
            return Ok(());
        }
        if self.whole.is_some() {
            return Err(Status::invalid_argument(
                "more than one message in a unary call",
            ));
        }
        if self.buffer.is_empty() {
            self.is_compressed = data[0] == 1;
        }
        if self.buffer.is_empty()
            && let Some(length) = self.length(data)?
            && data.len() == PREFIX + length
        {
            self.whole = Some(data.slice(PREFIX..));
            return Ok(());
        }
        self.buffer.extend_from_slice(data);
        let Some(length) = self.length(&self.buffer)? else {
            return Ok(());
        };
        if self.buffer.len() < PREFIX + length {
            return Ok(());
        }
        if self.buffer.len() > PREFIX + length {
            return Err(Status::invalid_argument(
                "more than one message in a unary call",
            ));
        }
        self.buffer.advance(PREFIX);
        self.whole = Some(std::mem::take(&mut self.buffer).freeze());
        Ok(())
    }

    /// The length of the message that the bytes begin with, once that much of them is there.
    fn length(&self, data: &[u8]) -> Result<Option<usize>, Status> {
        let [flag, length @ ..] = data else {
            return Ok(None);
        };
        if *flag > u8::from(self.may_be_compressed) {
            return Err(Status::invalid_argument(
                "a compressed message without `grpc-encoding`",
            ));
        }
        let Some(length) = length.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > self.limit {
            let limit = self.limit;
            return Err(Status::out_of_range(format!(
                "a message of {length} bytes, the limit is {limit} (limits.message_bytes)"
            )));
        }
        Ok(Some(length))
    }

    fn take(&mut self) -> Result<Bytes, Status> {
        let missing = || Status::invalid_argument("the call ended before its message was complete");
        self.whole.take().ok_or_else(missing)
    }
}

/// The response to an answer.
fn respond(answer: Answer) -> Response<ReplyBody> {
    match answer {
        Answer::Message(message) | Answer::Open(message) => {
            let mut response = Response::new(ReplyBody::Message(Some(frame(false, &message))));
            let kind = HeaderValue::from_static("application/grpc");
            // A map that is not told takes memory for six; the other one is the server's date.
            let mut headers = HeaderMap::with_capacity(2);
            headers.insert(CONTENT_TYPE, kind);
            *response.headers_mut() = headers;
            response
        }
        Answer::Status { code, message } => refuse(&Status::new(code, message)),
    }
}

/// A status without a message.
fn refuse(status: &Status) -> Response<ReplyBody> {
    status
        .clone()
        .into_http::<tonic::body::Body>()
        .map(ReplyBody::General)
}

fn frame(is_compressed: bool, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(u8::from(is_compressed));
    // `answer::seal` refuses replies long before they reach 4 GiB.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// The body of a response.
#[derive(Debug)]
pub(crate) enum ReplyBody {
    /// One message and the status OK behind it.
    Message(Option<Bytes>),
    /// Only the trailers are left.
    Trailers,
    /// All has been sent.
    Done,
    /// A body of tonic's.
    General(tonic::body::Body),
}

impl HttpBody for ReplyBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let (frame, next) = match &mut *self {
            Self::General(body) => return Pin::new(body).poll_frame(cx),
            Self::Message(message) => (
                Frame::data(message.take().unwrap_or_default()),
                Self::Trailers,
            ),
            Self::Trailers => {
                let mut trailers = HeaderMap::with_capacity(1);
                let name = HeaderName::from_static("grpc-status");
                trailers.insert(name, HeaderValue::from_static("0"));
                (Frame::trailers(trailers), Self::Done)
            }
            Self::Done => return Poll::Ready(None),
        };
        *self = next;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::General(body) => body.is_end_stream(),
            Self::Done => true,
            Self::Message(_) | Self::Trailers => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::General(body) => body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}
