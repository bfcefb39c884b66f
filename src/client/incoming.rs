//! The messages of an answer: of one call, or of a stream as they come.

use super::outgoing::PREFIX;
use super::status::{CallError, has_status, refusal, status_of};
use bytes::{Buf, Bytes, BytesMut};
use http::Response;
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The only message of a call of at most so many bytes.
pub(super) async fn answer(response: Response<Incoming>, limit: usize) -> Result<Bytes, CallError> {
    let (head, body) = response.into_parts();
    if let Some(status) = refusal(head.status, &head.headers) {
        return Err(CallError::Status(status));
    }
    let body = Limited::new(body, limit.saturating_add(PREFIX))
        .collect()
        .await;
    let body = body.map_err(|why| match why.downcast_ref::<hyper::Error>() {
        Some(error) => CallError::of(error),
        // Nothing else fails but the limit.
        None => CallError::Unreadable(format!("the answer has more than {limit} bytes")),
    })?;
    let Some(trailers) = body.trailers().filter(|trailers| has_status(trailers)) else {
        return Err(CallError::Lost("the answer has no gRPC status".to_owned()));
    };
    if let Some(status) = status_of(trailers) {
        return Err(CallError::Status(status));
    }
    let mut bytes = body.to_bytes();
    match bytes.first_chunk::<PREFIX>() {
        Some([0, length @ ..]) if u32::from_be_bytes(*length) as usize + PREFIX == bytes.len() => {
            Ok(bytes.split_off(PREFIX))
        }
        _ => Err(CallError::Unreadable(
            "the answer is not one uncompressed message".to_owned(),
        )),
    }
}

/// The messages of a stream. More is read from the wire only when somebody asks for the next one, so
/// that a slow reader slows its server.
#[derive(Debug)]
pub(crate) struct Messages {
    body: Option<Incoming>,
    buffer: BytesMut,
    limit: usize,
}

impl Messages {
    /// Messages of at most so many bytes.
    pub(super) fn of(response: Response<Incoming>, limit: usize) -> Result<Self, CallError> {
        let (head, body) = response.into_parts();
        if let Some(status) = refusal(head.status, &head.headers) {
            return Err(CallError::Status(status));
        }
        Ok(Self {
            // With its status in the headers it has ended.
            body: (!has_status(&head.headers)).then_some(body),
            buffer: BytesMut::new(),
            limit,
        })
    }

    /// The next message; `None` at the end with the status OK.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, CallError>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, CallError>>> {
        loop {
            match self.buffered() {
                Ok(None) => {}
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Err(why) => return self.end(Some(CallError::Unreadable(why))),
            }
            let Some(body) = &mut self.body else {
                return Poll::Ready(None);
            };
            let frame = match std::task::ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(why)) => return self.end(Some(CallError::of(&why))),
                None => {
                    let why = "the stream ended without a gRPC status".to_owned();
                    return self.end(Some(CallError::Lost(why)));
                }
            };
            match frame.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => {
                    if let Some(trailers) = frame.trailers_ref().filter(|it| has_status(it)) {
                        let failed = status_of(trailers).map(CallError::Status);
                        let torn = || CallError::Unreadable("it ends amid a message".to_owned());
                        let torn = (!self.buffer.is_empty()).then(torn);
                        return self.end(failed.or(torn));
                    }
                }
            }
        }
    }

    fn end(&mut self, why: Option<CallError>) -> Poll<Option<Result<Bytes, CallError>>> {
        self.body = None;
        self.buffer.clear();
        Poll::Ready(why.map(Err))
    }

    /// A message that is here as a whole.
    fn buffered(&mut self) -> Result<Option<Bytes>, String> {
        let Some([compressed, length @ ..]) = self.buffer.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if *compressed != 0 {
            return Err("a message is compressed, which was not asked for".to_owned());
        }
        if length > self.limit {
            return Err(format!(
                "a message has {length} bytes, more than {}",
                self.limit
            ));
        }
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}
