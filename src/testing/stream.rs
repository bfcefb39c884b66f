//! A subscription that is a stream.

use crate::event::{Gated, Stream};
use crate::ingress::grpc::GrpcIngress;
use crate::proto::proxy;
use crate::testing::call::TestAnswer;
use crate::testing::wire::{Head, Messages, frame};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::unfold;
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message;
use std::convert::Infallible;
use std::future::IntoFuture;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::Code;

/// A stream about to be opened: await it for its first message.
#[derive(Debug)]
pub struct TestStreamCall {
    ingress: GrpcIngress,
    head: Head,
    first: Bytes,
    two_way: bool,
}

impl TestStreamCall {
    pub(super) fn new(ingress: GrpcIngress, path: &str, first: Bytes, two_way: bool) -> Self {
        Self {
            ingress,
            head: Head::new(path),
            first,
            two_way,
        }
    }

    /// Adds metadata; see [`TestCall::metadata`](crate::testing::TestCall::metadata).
    ///
    /// # Panics
    /// The name or the value can't be sent as a header.
    #[must_use]
    pub fn metadata(mut self, name: &str, value: &str) -> Self {
        self.head.metadata(name, value);
        self
    }

    /// What the caller allows until the stream is accepted.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.head.timeout(timeout);
        self
    }
}

impl IntoFuture for TestStreamCall {
    type Output = TestStream;
    type IntoFuture = BoxFuture<'static, TestStream>;

    fn into_future(self) -> Self::IntoFuture {
        let Self {
            ingress,
            head,
            first,
            two_way,
        } = self;
        Box::pin(async move {
            let (outgoing, sent) = mpsc::unbounded_channel::<Bytes>();
            // The receiver is in hand, so the first message can't be lost.
            drop(outgoing.send(frame(&first)));
            let body = StreamBody::new(Box::pin(unfold(sent, |mut sent| async move {
                let data = sent.recv().await?;
                Some((Ok::<_, Infallible>(Frame::data(data)), sent))
            })));
            let outgoing = two_way.then_some(outgoing);
            let mut messages = Messages::new(ingress.serve(head.request(body)).await);
            let message = messages.next().await;
            let parts = message.as_deref().and_then(|message| {
                Stream::parts(proxy::StreamSubscribeResponse::decode(message).ok()?).ok()
            });
            let first = TestAnswer::new(message, parts, messages.status());
            TestStream {
                first,
                messages,
                outgoing,
            }
        })
    }
}

/// A subscription stream after its first message. Dropping it is a client that goes away.
#[derive(Debug)]
pub struct TestStream {
    first: TestAnswer<Stream>,
    messages: Messages,
    outgoing: Option<mpsc::UnboundedSender<Bytes>>,
}

impl TestStream {
    /// The first message: accepted or refused.
    pub const fn first(&self) -> &TestAnswer<Stream> {
        &self.first
    }

    /// Whether the first message accepted the subscription.
    pub const fn is_accepted(&self) -> bool {
        self.first.message().is_some()
            && self.first.error().is_none()
            && self.first.disconnect().is_none()
    }

    /// The next publication; `None` once the stream has ended, see [`TestStream::status`].
    pub async fn next(&mut self) -> Option<proxy::Publication> {
        let message = self.messages.next().await?;
        let message = proxy::StreamSubscribeResponse::decode(message);
        message.ok()?.publication
    }

    /// Publishes from the client's side; does nothing on a one-way stream, or on one that is over.
    pub fn publish(&self, data: impl Into<Bytes>) {
        let request = proxy::StreamSubscribeRequest {
            subscribe_request: None,
            publication: Some(proxy::Publication {
                data: data.into(),
                ..Default::default()
            }),
        };
        if let Some(outgoing) = &self.outgoing {
            drop(outgoing.send(frame(&request.encode_to_vec())));
        }
    }

    /// Says that the client will publish nothing more; the stream stays open.
    pub fn finish_publishing(&mut self) {
        self.outgoing = None;
    }

    /// The client unsubscribes or goes away.
    pub fn cancel(&mut self) {
        self.outgoing = None;
        self.messages.cancel();
    }

    /// How the stream ended, once it has: `Ok` is the clean end, after which the client does not
    /// come back by itself.
    pub fn status(&self) -> Option<Code> {
        self.messages.status().map(|(code, _)| code)
    }

    /// Reads to the end; answers the status. Publications on the way are dropped.
    pub async fn ended(&mut self) -> Code {
        while self.messages.next().await.is_some() {}
        self.status().unwrap_or(Code::Unknown)
    }
}
