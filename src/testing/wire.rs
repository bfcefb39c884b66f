//! gRPC framing in memory: what a call sends and what comes back for it.

use crate::ingress::unary::ReplyBody;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use http_body::Body as _;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use tonic::{Code, Status};

/// A call before it is made.
#[derive(Debug)]
pub(super) struct Head {
    path: String,
    metadata: HeaderMap,
}

impl Head {
    pub(super) fn new(path: &str) -> Self {
        let mut metadata = HeaderMap::new();
        let kind = HeaderValue::from_static("application/grpc");
        metadata.insert(header::CONTENT_TYPE, kind);
        let path = path.to_owned();
        Self { path, metadata }
    }

    /// Adds metadata; names and values that can't be sent are a mistake of the test.
    pub(super) fn metadata(&mut self, name: &str, value: &str) {
        let name = HeaderName::from_bytes(name.as_bytes());
        let name = name.expect("metadata names are header names");
        let value = HeaderValue::from_str(value).expect("metadata values are visible ASCII");
        self.metadata.append(name, value);
    }

    pub(super) fn timeout(&mut self, timeout: Duration) {
        // gRPC allows eight digits, so longer times are said in a coarser unit.
        let text = match u32::try_from(timeout.as_micros()) {
            Ok(micros) if micros < 100_000_000 => format!("{micros}u"),
            _ => format!("{}S", timeout.as_secs().min(99_999_999)),
        };
        let value = HeaderValue::from_str(&text).expect("digits and a letter");
        self.metadata.insert("grpc-timeout", value);
    }

    pub(super) fn request<B>(self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self
            .path
            .parse()
            .expect("the name of a method fits into a path");
        *request.headers_mut() = self.metadata;
        request
    }
}

/// A message with gRPC's prefix.
pub(super) fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.freeze()
}

/// The messages of a response as they come, then its status.
#[derive(Debug)]
pub(super) struct Messages {
    body: Option<ReplyBody>,
    buffer: BytesMut,
    status: Option<Status>,
}

impl Messages {
    pub(super) fn new(response: Result<http::Response<ReplyBody>, Infallible>) -> Self {
        let response = match response {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let status = Status::from_header_map(response.headers());
        Self {
            body: status.is_none().then(|| response.into_body()),
            buffer: BytesMut::new(),
            status,
        }
    }

    /// The next message; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(length) = self.buffer.get(1..5) {
                let length = length
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                if self.buffer.len() >= length + 5 {
                    self.buffer.advance(5);
                    return Some(self.buffer.split_to(length).freeze());
                }
            }
            let body = self.body.as_mut()?;
            match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        self.status = Status::from_header_map(&trailers);
                    }
                },
                Some(Err(status)) => {
                    self.status = Some(status);
                    self.body = None;
                }
                None => self.body = None,
            }
        }
    }

    /// How the call ended, once it has.
    pub(super) fn status(&self) -> Option<(Code, &str)> {
        match (&self.status, &self.body) {
            (Some(status), _) => Some((status.code(), status.message())),
            (None, None) => Some((Code::Unknown, "the call ended without a status")),
            (None, Some(_)) => None,
        }
    }

    /// Ends the call from the caller's side.
    pub(super) fn cancel(&mut self) {
        self.body = None;
        self.status = Some(Status::cancelled("cancelled by the caller"));
    }
}
