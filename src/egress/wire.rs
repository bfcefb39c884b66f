//! One connection to an endpoint, and unary gRPC calls on it that say whether they were sent.
//!
//! The connection sends no HTTP/2 pings: Centrifugo closes those that ping more often than every
//! five minutes (`too_many_pings`). A peer that is gone without a word is found by the time limit of
//! calls.

use super::tls::ClientTls;
use crate::config::Endpoint;
use crate::trace::TraceContext;
use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::{BufMut, Bytes, BytesMut};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::error::Error as StdError;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Where the methods of the API are.
const SERVICE: &str = "/centrifugal.centrifugo.api.CentrifugoApi/";
/// The largest answer read; a long history is the largest.
const ANSWER_BYTES: usize = 64 << 20;
/// Flow control of a connection: many answers at once.
const CONNECTION_WINDOW: u32 = 4 << 20;
const STREAM_WINDOW: u32 = 1 << 20;
const ERROR_MODE: HeaderName = HeaderName::from_static("x-centrifugo-error-mode");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const PREFIX: usize = 5;

/// Base64 with or without padding, as gRPC has it in metadata.
const METADATA: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A gRPC status that is not OK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GrpcStatus {
    /// Its number.
    pub(super) code: i32,
    /// Its text.
    pub(super) message: String,
    /// `grpc-status-details-bin`.
    pub(super) details: Option<Bytes>,
}

/// Why a call has no answer.
#[derive(Debug)]
pub(super) enum CallError {
    /// Nothing has reached the server's application.
    NotSent(String),
    /// It was on its way; nobody knows what became of it.
    Lost(String),
    /// The server said so.
    Status(GrpcStatus),
}

/// A connection. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    scheme: Scheme,
    authority: Authority,
    authorization: Option<HeaderValue>,
}

/// How connections are made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dialer {
    /// Certificates of `grpcs://` endpoints.
    pub(super) tls: ClientTls,
    /// `apikey KEY`, marked as sensitive.
    pub(super) authorization: Option<HeaderValue>,
}

impl Dialer {
    /// Connects. The handle ends when the connection does.
    pub(super) async fn dial(&self, to: &Endpoint) -> Result<(Connection, JoinHandle<()>), String> {
        let host = to.host.trim_start_matches('[').trim_end_matches(']');
        let socket = TcpStream::connect((host, to.port)).await;
        let socket = socket.map_err(|why| format!("{to}: {why}"))?;
        // A batch is written in one piece.
        socket
            .set_nodelay(true)
            .map_err(|why| format!("{to}: {why}"))?;
        if to.tls {
            let socket = self.tls.connect(host, socket).await;
            self.handshake(to, socket.map_err(|why| format!("{to}: {why}"))?)
                .await
        } else {
            self.handshake(to, socket).await
        }
    }

    async fn handshake<S>(
        &self,
        to: &Endpoint,
        socket: S,
    ) -> Result<(Connection, JoinHandle<()>), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let fail = |why: &dyn std::fmt::Display| format!("{to}: {why}");
        let authority = format!("{}:{}", to.host, to.port);
        let authority = authority.parse::<Authority>().map_err(|why| fail(&why))?;
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(|why| fail(&why))?;
        let driver = tokio::spawn(async move {
            if let Err(why) = driver.await {
                tracing::debug!(%why, "a connection to centrifugo failed");
            }
        });
        let scheme = if to.tls { Scheme::HTTPS } else { Scheme::HTTP };
        let connection = Connection {
            sender,
            scheme,
            authority,
            authorization: self.authorization.clone(),
        };
        Ok((connection, driver))
    }
}

impl Connection {
    /// `HOST:PORT` of the endpoint.
    pub(super) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// Calls a method with an encoded message; answers the encoded response. The caller keeps the
    /// time; the server is told of it, and of the trace if the call belongs to one.
    pub(super) async fn call(
        &self,
        method: &str,
        message: &[u8],
        timeout: Duration,
        transport_errors: bool,
        trace: Option<&TraceContext>,
    ) -> Result<Bytes, CallError> {
        let request = self
            .request(method, message, timeout, transport_errors, trace)
            .map_err(|why| CallError::NotSent(why.to_string()))?;
        let mut sender = self.sender.clone();
        let ready = sender.ready().await;
        ready.map_err(|why| CallError::NotSent(chain(&why)))?;
        let response = match sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut failed) => {
                let unsent = failed.take_message().is_some();
                let why = failed.into_error();
                return Err(if unsent || is_refused(&why) {
                    CallError::NotSent(chain(&why))
                } else {
                    CallError::Lost(chain(&why))
                });
            }
        };
        answer(response).await
    }

    fn request(
        &self,
        method: &str,
        message: &[u8],
        timeout: Duration,
        transport_errors: bool,
        trace: Option<&TraceContext>,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let path = PathAndQuery::try_from(format!("{SERVICE}{method}"))?;
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()?;
        let millis = timeout.as_millis().clamp(1, 99_999_999);
        let mut request = Request::post(uri)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(
                header::USER_AGENT,
                concat!("centripeta/", env!("CARGO_PKG_VERSION")),
            )
            .header(GRPC_TIMEOUT, format!("{millis}m"))
            .body(Full::new(frame(message)))?;
        if let Some(key) = &self.authorization {
            request
                .headers_mut()
                .insert(header::AUTHORIZATION, key.clone());
        }
        if transport_errors {
            let transport = HeaderValue::from_static("transport");
            request.headers_mut().insert(ERROR_MODE, transport);
        }
        if let Some(trace) = trace {
            trace.write(request.headers_mut());
        }
        Ok(request)
    }
}

fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    // Messages are bounded by `centrifugo.message_bytes`.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

async fn answer(response: Response<Incoming>) -> Result<Bytes, CallError> {
    let (head, body) = response.into_parts();
    // A failed call may have no body, and its status in the headers.
    if let Some(status) = status_of(&head.headers) {
        return Err(CallError::Status(status));
    }
    if head.status != StatusCode::OK {
        return Err(CallError::Status(of_http(head.status)));
    }
    let body = Limited::new(body, ANSWER_BYTES).collect().await;
    let body = body.map_err(|why| match why.downcast_ref::<hyper::Error>() {
        Some(error) if is_refused(error) => CallError::NotSent(chain(error)),
        _ => CallError::Lost(chain(&*why)),
    })?;
    let lost = |why: &str| Err(CallError::Lost(why.to_owned()));
    let Some(trailers) = body.trailers() else {
        return lost("the answer has no gRPC status");
    };
    if !trailers.contains_key("grpc-status") {
        return lost("the answer has no gRPC status");
    }
    if let Some(status) = status_of(trailers) {
        return Err(CallError::Status(status));
    }
    let mut bytes = body.to_bytes();
    match bytes.first_chunk::<PREFIX>() {
        Some([0, length @ ..]) if u32::from_be_bytes(*length) as usize + PREFIX == bytes.len() => {
            Ok(bytes.split_off(PREFIX))
        }
        _ => lost("the answer is not one uncompressed message"),
    }
}

/// The gRPC status among headers or trailers, if there is one and it is not OK.
fn status_of(headers: &HeaderMap) -> Option<GrpcStatus> {
    let text = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let code = std::str::from_utf8(text("grpc-status")?).ok();
    let code = code.and_then(|code| code.parse().ok()).unwrap_or(2);
    if code == 0 {
        return None;
    }
    let details = text("grpc-status-details-bin").and_then(|bytes| METADATA.decode(bytes).ok());
    Some(GrpcStatus {
        code,
        message: percent_decoded(text("grpc-message").unwrap_or_default()),
        details: details.map(Bytes::from),
    })
}

fn percent_decoded(text: &[u8]) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let code = text.get(at + 1..at + 3).filter(|_| *byte == b'%');
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(decoded) => {
                plain.push(decoded);
                at += 3;
            }
            None => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// What an HTTP status without a gRPC one means: something else than the API answered.
fn of_http(status: StatusCode) -> GrpcStatus {
    let code = match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    };
    GrpcStatus {
        code,
        message: format!("HTTP status {status} without a gRPC status"),
        details: None,
    }
}

/// Whether the peer says that it has not looked at the request.
fn is_refused(error: &hyper::Error) -> bool {
    let mut cause = error.source();
    while let Some(why) = cause {
        if let Some(why) = why.downcast_ref::<h2::Error>() {
            let reason = why.reason();
            let goes = why.is_go_away() && why.is_remote();
            return reason == Some(h2::Reason::REFUSED_STREAM)
                || goes && reason == Some(h2::Reason::NO_ERROR);
        }
        cause = why.source();
    }
    false
}

/// An error with its causes.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(why) = cause {
        text = format!("{text}: {why}");
        cause = why.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn messages_of_statuses_are_decoded() {
        assert_eq!(percent_decoded(b"a%20b%C3%BC%"), "a bü%");
        assert_eq!(percent_decoded(b"100%zz"), "100%zz");
    }

    #[test]
    fn a_status_of_trailers_comes_with_its_details_padded_or_not() {
        let mut headers = HeaderMap::new();
        assert_eq!(status_of(&headers), None);
        headers.insert("grpc-status", "0".parse().unwrap());
        assert_eq!(status_of(&headers), None);
        headers.insert("grpc-status", "5".parse().unwrap());
        for details in ["YWI", "YWI="] {
            headers.insert("grpc-status-details-bin", details.parse().unwrap());
            let status = status_of(&headers).unwrap();
            assert_eq!((status.code, status.details), (5, Some("ab".into())));
        }
    }
}
