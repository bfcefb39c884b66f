//! An event on its way to an upstream: one attempt, and what it brought.

use super::lease::Lease;
use super::metadata::timed;
use super::stream::{Feeder, two_way};
use crate::client::{CallError, GrpcStatus, Messages, Outgoing};
use crate::event::EventKind;
use crate::inbound::Inbound;
use bytes::Bytes;
use http::HeaderMap;
use tokio::time::Instant;

/// The largest answer read; what is above Centrifugo's limit is refused by its own rule.
const ANSWER_BYTES: usize = 8 << 20;

/// Why an event has no answer.
pub(super) enum Failed {
    /// Nobody is there.
    Unreachable(String),
    /// An answer says so.
    Status(GrpcStatus, String),
    /// An answer is none.
    Unreadable(String),
}

/// What came back.
pub(super) enum Answer {
    Reply(Bytes),
    Stream(Bytes, Messages, Option<Feeder>),
}

/// An event on its way.
pub(super) struct Ask {
    pub(super) kind: EventKind,
    pub(super) json_client: bool,
    pub(super) path: String,
    pub(super) metadata: HeaderMap,
    pub(super) request: Bytes,
    pub(super) deadline: Instant,
    pub(super) inbound: Option<Inbound>,
}

impl Ask {
    /// One attempt on one connection.
    pub(super) async fn attempt(&self, lease: &mut Lease) -> Result<Answer, CallError> {
        let channel = lease.connect().await.map_err(CallError::NotSent)?;
        let connection = channel.connection();
        if !self.kind.is_stream() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let metadata = timed(&self.metadata, left);
            let call = connection.call(&self.path, metadata, &self.request, ANSWER_BYTES);
            return call.await.map(Answer::Reply);
        }
        // As Centrifugo does, streams say no time: it would end them.
        let metadata = self.metadata.clone();
        let (body, feeder) = match self.kind {
            EventKind::StreamBidirectional => {
                let (body, feeder) = two_way(&self.request);
                (body, Some(feeder))
            }
            _ => (Outgoing::one(&self.request), None),
        };
        let opened = connection.open(&self.path, metadata, body, ANSWER_BYTES);
        let mut messages = opened.await?;
        match messages.next().await {
            Some(first) => first.map(|first| Answer::Stream(first, messages, feeder)),
            None => Err(CallError::Unreadable(
                "the stream ended before its first message".to_owned(),
            )),
        }
    }
}

/// Why an attempt has failed, and where.
pub(super) fn told(error: &CallError, place: &str) -> String {
    match error {
        CallError::NotSent(why) => format!("{place}: not sent: {why}"),
        CallError::Refused(why) => format!("{place}: refused unseen: {why}"),
        CallError::Lost(why) => format!("{place}: lost: {why}"),
        CallError::Unreadable(why) => format!("{place}: {why}"),
        CallError::Status(status) => of_status(status, place),
    }
}

/// A status, and who answered it.
pub(super) fn of_status(status: &GrpcStatus, place: &str) -> String {
    let (name, message) = (status.name(), &status.message);
    format!("upstream {place} answered status {name}: {message}")
}
