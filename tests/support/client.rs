//! A gRPC client that shows every byte: messages framed by hand over an HTTP/2 connection.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, StatusCode};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

type End = JoinHandle<Result<(), h2::Error>>;

/// A connection.
#[derive(Clone)]
pub struct Client {
    send: SendRequest<Bytes>,
    end: Arc<Mutex<Option<End>>>,
}

/// What a call brought.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// HTTP status.
    pub http: StatusCode,
    /// Response headers.
    pub headers: HeaderMap,
    /// Messages, without their prefix.
    pub messages: Vec<Bytes>,
    /// `grpc-status`; `None` if the call ended without one.
    pub status: Option<i32>,
    /// `grpc-message`.
    pub text: String,
    /// The code of a reset, if the call ended by one.
    pub reset: Option<h2::Reason>,
}

impl Reply {
    /// The only message of a call that was answered OK.
    pub fn message(&self) -> &Bytes {
        assert_eq!((self.status, self.messages.len()), (Some(0), 1), "{self:?}");
        &self.messages[0]
    }
}

/// A gRPC message with its prefix.
pub fn frame(compressed: bool, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(u8::from(compressed));
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(message);
    frame.freeze()
}

impl Client {
    /// A connection over any transport.
    pub async fn new<T>(io: T) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::try_new(io).await.unwrap()
    }

    /// The same where the handshake may fail.
    pub async fn try_new<T>(io: T) -> Result<Self, h2::Error>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(1 << 24)
            .initial_max_send_streams(1)
            .max_concurrent_reset_streams(100_000)
            .handshake(io)
            .await?;
        let end = tokio::spawn(connection);
        let end = Arc::new(Mutex::new(Some(end)));
        Ok(Self { send, end })
    }

    /// One message each way, as Centrifugo calls.
    pub async fn call(&self, path: &str, headers: &[(&str, &str)], message: &[u8]) -> Reply {
        self.exchange(path, headers, frame(false, message)).await
    }

    /// The same with bytes of the body as they are.
    pub async fn exchange(&self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Reply {
        match self.open(path, headers).await {
            Ok(mut call) => {
                call.send(body, true).await;
                call.finish().await
            }
            Err(why) => Reply {
                reset: why.reason(),
                text: why.to_string(),
                ..Reply::default()
            },
        }
    }

    /// A call whose messages are sent and read one by one.
    pub async fn open(&self, path: &str, headers: &[(&str, &str)]) -> Result<Call, h2::Error> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://127.0.0.1{path}"));
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/grpc");
        }
        request = request.header("te", "trailers");
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        let mut send = self.send.clone().ready().await?;
        let (response, body) = send.send_request(request.body(()).unwrap(), false)?;
        Ok(Call {
            response: Some(response),
            body,
            reply: Reply::default(),
            incoming: None,
            buffer: BytesMut::new(),
        })
    }

    /// Waits for the end of the connection.
    pub async fn closed(&self) -> Result<(), h2::Error> {
        match self.end.lock().await.take() {
            Some(end) => end.await.unwrap(),
            None => Ok(()),
        }
    }
}

/// A call under way.
pub struct Call {
    response: Option<ResponseFuture>,
    /// What we send.
    pub body: SendStream<Bytes>,
    reply: Reply,
    incoming: Option<RecvStream>,
    buffer: BytesMut,
}

impl Call {
    /// Sends bytes within the peer's window; whatever a peer that has answered does not take is
    /// dropped.
    pub async fn send(&mut self, mut bytes: Bytes, end: bool) {
        while !bytes.is_empty() {
            self.body.reserve_capacity(bytes.len().min(1 << 16));
            let room = std::future::poll_fn(|cx| self.body.poll_capacity(cx)).await;
            let Some(Ok(room)) = room else { return };
            let part = bytes.split_to(room.min(bytes.len()));
            if self.body.send_data(part, end && bytes.is_empty()).is_err() {
                return;
            }
        }
    }

    /// Sends a message.
    pub async fn message(&mut self, message: &[u8]) {
        self.send(frame(false, message), false).await;
    }

    /// Resets the call, as a caller whose client has gone does.
    pub fn cancel(&mut self) {
        self.body.send_reset(h2::Reason::CANCEL);
    }

    /// The next message; `None` at the end.
    pub async fn next(&mut self) -> Option<Bytes> {
        if let Some(response) = self.response.take() {
            match response.await {
                Ok(response) => {
                    self.reply.http = response.status();
                    let (head, incoming) = response.into_parts();
                    self.status_of(&head.headers);
                    self.reply.headers = head.headers;
                    self.incoming = Some(incoming);
                }
                Err(why) => self.failed(&why),
            }
        }
        loop {
            if let Some(length) = self.buffer.get(1..5) {
                let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
                if self.buffer.len() >= 5 + length {
                    self.buffer.advance(5);
                    return Some(self.buffer.split_to(length).freeze());
                }
            }
            let incoming = self.incoming.as_mut()?;
            match incoming.data().await {
                Some(Ok(data)) => {
                    let _ = incoming.flow_control().release_capacity(data.len());
                    self.buffer.extend_from_slice(&data);
                }
                Some(Err(why)) => {
                    self.failed(&why);
                    self.incoming = None;
                }
                None => {
                    match incoming.trailers().await {
                        Ok(trailers) => self.status_of(&trailers.unwrap_or_default()),
                        Err(why) => self.failed(&why),
                    }
                    self.incoming = None;
                }
            }
        }
    }

    /// Reads to the end.
    pub async fn finish(mut self) -> Reply {
        while let Some(message) = self.next().await {
            self.reply.messages.push(message);
        }
        self.reply
    }

    fn status_of(&mut self, headers: &HeaderMap) {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(status) = text("grpc-status") {
            self.reply.status = status.parse().ok();
            self.reply.text = text("grpc-message").unwrap_or_default().replace("%20", " ");
        }
    }

    fn failed(&mut self, why: &h2::Error) {
        self.reply.reset = why.reason();
        self.reply.text = why.to_string();
    }
}
