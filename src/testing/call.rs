//! An event that has one answer.

use crate::event::{Event, Gated, Parts};
use crate::ingress::grpc::GrpcIngress;
use crate::json;
use crate::proto::proxy;
use crate::testing::wire::{Head, Messages, frame};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use prost::Message;
use std::fmt;
use std::future::IntoFuture;
use std::time::Duration;
use tonic::Code;

/// An event on its way: await it for the answer. Dropping the future is a caller that goes away.
pub struct TestCall<E: Event> {
    ingress: GrpcIngress,
    head: Head,
    message: Bytes,
    parts: fn(&[u8]) -> Option<Parts<E::Result>>,
}

impl<E: Event> fmt::Debug for TestCall<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestCall")
            .field("event", &E::KIND.name())
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

impl<E: Event> TestCall<E> {
    pub(super) fn new<G>(ingress: GrpcIngress, path: &str, message: Bytes) -> Self
    where
        G: Gated<Result = E::Result>,
    {
        Self {
            ingress,
            head: Head::new(path),
            message,
            parts: |response| G::parts(G::Response::decode(response).ok()?).ok(),
        }
    }

    /// Adds metadata, as Centrifugo forwards headers; a name may come more than once.
    ///
    /// # Panics
    /// The name or the value can't be sent as a header.
    #[must_use]
    pub fn metadata(mut self, name: &str, value: &str) -> Self {
        self.head.metadata(name, value);
        self
    }

    /// What the caller allows for the answer (`grpc-timeout`); by default `limits.timeout` counts.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.head.timeout(timeout);
        self
    }
}

impl<E: Event> IntoFuture for TestCall<E> {
    type Output = TestAnswer<E>;
    type IntoFuture = BoxFuture<'static, TestAnswer<E>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self {
            ingress,
            head,
            message,
            parts,
        } = self;
        Box::pin(async move {
            let request = head.request(Full::new(frame(&message)));
            let mut messages = Messages::new(ingress.serve(request).await);
            let message = messages.next().await;
            while messages.next().await.is_some() {}
            let parts = message.as_deref().and_then(parts);
            TestAnswer::new(message, parts, messages.status())
        })
    }
}

/// The answer to an event, as it would be on the wire.
pub struct TestAnswer<E: Event> {
    message: Option<Bytes>,
    result: Option<E::Result>,
    error: Option<proxy::Error>,
    disconnect: Option<proxy::Disconnect>,
    status: Code,
    status_message: String,
}

impl<E: Event> TestAnswer<E> {
    /// An answer of these parts; a call that has not ended counts as OK so far.
    pub(super) fn new(
        message: Option<Bytes>,
        parts: Option<Parts<E::Result>>,
        status: Option<(Code, &str)>,
    ) -> Self {
        let (status, status_message) = status.unwrap_or((Code::Ok, ""));
        let (result, error, disconnect) = match parts {
            Some(parts) => (parts.result, parts.error, parts.disconnect),
            None => (None, None, None),
        };
        Self {
            message,
            result,
            error,
            disconnect,
            status,
            status_message: status_message.to_owned(),
        }
    }

    /// The result, if the answer has one.
    pub const fn result(&self) -> Option<&E::Result> {
        self.result.as_ref()
    }

    /// The error that the client gets, if it gets one.
    pub const fn error(&self) -> Option<&proxy::Error> {
        self.error.as_ref()
    }

    /// The disconnect that the client gets, if it gets one.
    pub const fn disconnect(&self) -> Option<&proxy::Disconnect> {
        self.disconnect.as_ref()
    }

    /// The gRPC status; `Ok` if there is a response message.
    pub const fn status(&self) -> Code {
        self.status
    }

    /// The text of the status, empty with `Ok`.
    pub fn status_message(&self) -> &str {
        &self.status_message
    }

    /// The response message as it would go over the wire; `None` with a status other than `Ok`.
    pub const fn message(&self) -> Option<&Bytes> {
        self.message.as_ref()
    }

    /// Whether the answer is an OK with neither result nor error nor disconnect, which Centrifugo
    /// reads as *allowed* for most events.
    pub const fn is_empty(&self) -> bool {
        self.message.is_some()
            && self.result.is_none()
            && self.error.is_none()
            && self.disconnect.is_none()
    }

    /// The response message in the JSON that Centrifugo uses; empty without one.
    pub fn json(&self) -> String {
        let message = self.message.as_deref();
        let json = message.and_then(|message| json::response_to_json(E::KIND, message).ok());
        json.unwrap_or_default()
    }
}

impl<E: Event> fmt::Debug for TestAnswer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestAnswer")
            .field("status", &self.status)
            .field("status_message", &self.status_message)
            .field("message", &self.json())
            .finish_non_exhaustive()
    }
}
