//! A backend that speaks gRPC byte by byte, and answers as a test says.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// What a call is answered.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// One message and OK.
    Reply(Bytes),
    /// No message, and this status.
    Status(i32),
    /// Headers with the status, as a call that never got to its method.
    TrailersOnly(i32),
    /// A message, and this status all the same.
    ReplyThen(Bytes, i32),
    /// An HTTP status without gRPC.
    Http(u16),
    /// A reset.
    Reset(Reason),
    /// Nothing, until the caller leaves.
    Hang,
    /// A stream of these messages, then this status; `None` to stay open.
    Stream(Vec<Bytes>, Option<i32>),
    /// A first message, then every message as it came; OK when the caller has ended.
    Echo(Bytes),
}

/// A call that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// The first message.
    pub(crate) message: Bytes,
    /// The certificate of the caller.
    pub(crate) certificate: Option<Vec<u8>>,
}

impl Seen {
    /// A header's only value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

type Script = dyn Fn(&Seen) -> Answer + Send + Sync;

struct Inner {
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    /// Calls that their caller has reset.
    cancelled: AtomicUsize,
    /// Bytes that streams have sent.
    sent: AtomicUsize,
    connections: AtomicUsize,
    leaving: Notify,
    has_left: AtomicBool,
}

/// A backend, which ends when dropped.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
    task: AbortHandle,
}

impl Backend {
    pub(crate) async fn start(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_at(any, None, script).await
    }

    /// A backend on an address, with TLS if there is an acceptor.
    pub(crate) async fn start_at(
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            script: Box::new(script),
            seen: Mutex::default(),
            cancelled: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            leaving: Notify::new(),
            has_left: AtomicBool::new(false),
        });
        let task = tokio::spawn(accept(listener, tls, Arc::clone(&inner)));
        let task = task.abort_handle();
        Self {
            address,
            inner,
            task,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("grpc://{}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.inner.seen.lock().unwrap().len()
    }

    pub(crate) fn cancelled(&self) -> usize {
        self.inner.cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn sent(&self) -> usize {
        self.inner.sent.load(Ordering::Relaxed)
    }

    pub(crate) fn connections(&self) -> usize {
        self.inner.connections.load(Ordering::Relaxed)
    }

    /// Ends at once: connections break, new ones are refused.
    pub(crate) fn kill(&self) {
        self.task.abort();
    }

    /// Ends as servers do that are told to: no new connections, GOAWAY on those there are.
    pub(crate) fn leave(&self) {
        self.inner.has_left.store(true, Ordering::Relaxed);
        self.inner.leaving.notify_waiters();
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, inner: Arc<Inner>) {
    // Ended with this task.
    let mut connections = JoinSet::new();
    loop {
        let leaving = inner.leaving.notified();
        if inner.has_left.load(Ordering::Relaxed) {
            break;
        }
        let socket = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            () = leaving => break,
        };
        socket.set_nodelay(true).unwrap();
        let (inner, tls) = (Arc::clone(&inner), tls.clone());
        connections.spawn(async move {
            let Some(tls) = tls else {
                return connection(socket, None, inner).await;
            };
            // Whom it does not trust it does not serve.
            if let Ok(socket) = tls.accept(socket).await {
                let certificates = socket.get_ref().1.peer_certificates();
                let first = certificates.and_then(|certificates| certificates.first());
                let certificate = first.map(|certificate| certificate.to_vec());
                connection(socket, certificate, inner).await;
            }
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection<S>(socket: S, certificate: Option<Vec<u8>>, inner: Arc<Inner>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    inner.connections.fetch_add(1, Ordering::Relaxed);
    let mut calls = JoinSet::new();
    // As servers in Rust have it; h2's own default takes no more than a hundred small frames.
    let handshake = h2::server::Builder::new()
        .initial_connection_window_size(1 << 20)
        .handshake(socket);
    let Ok(mut connection) = handshake.await else {
        return;
    };
    let mut is_leaving = false;
    loop {
        let leaving = inner.leaving.notified();
        if inner.has_left.load(Ordering::Relaxed) && !is_leaving {
            is_leaving = true;
            connection.graceful_shutdown();
        }
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let (inner, certificate) = (Arc::clone(&inner), certificate.clone());
                    calls.spawn(call(request, respond, certificate, inner));
                }
                _ => break,
            },
            () = leaving => {}
        }
    }
    while calls.join_next().await.is_some() {}
}

async fn call(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    certificate: Option<Vec<u8>>,
    inner: Arc<Inner>,
) {
    let (head, body) = request.into_parts();
    let mut messages = Messages {
        body,
        buffer: BytesMut::new(),
    };
    let Some(message) = messages.next().await else {
        return;
    };
    let seen = Seen {
        path: head.uri.path().to_owned(),
        headers: head.headers,
        message,
        certificate,
    };
    inner.seen.lock().unwrap().push(seen.clone());
    let answer = (inner.script)(&seen);
    let head = || {
        let head = Response::builder().header("content-type", "application/grpc");
        head.body(()).unwrap()
    };
    match answer {
        Answer::Reply(reply) => {
            let mut send = respond.send_response(head(), false).unwrap();
            all(&mut send, [reply], &inner).await;
            end(&mut send, 0);
        }
        Answer::Status(status) => {
            let mut send = respond.send_response(head(), false).unwrap();
            end(&mut send, status);
        }
        Answer::TrailersOnly(status) => {
            let mut head = head();
            head.headers_mut()
                .insert("grpc-status", status.to_string().parse().unwrap());
            respond.send_response(head, true).unwrap();
        }
        Answer::ReplyThen(reply, status) => {
            let mut send = respond.send_response(head(), false).unwrap();
            all(&mut send, [reply], &inner).await;
            end(&mut send, status);
        }
        Answer::Http(status) => {
            let head = Response::builder().status(status).body(()).unwrap();
            respond.send_response(head, true).unwrap();
        }
        Answer::Reset(reason) => respond.send_reset(reason),
        Answer::Hang => {
            let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            if reset.is_ok_and(|reason| reason == Reason::CANCEL) {
                inner.cancelled.fetch_add(1, Ordering::Relaxed);
            }
        }
        Answer::Stream(replies, status) => {
            let mut send = respond.send_response(head(), false).unwrap();
            all(&mut send, replies, &inner).await;
            match status {
                Some(status) => end(&mut send, status),
                None => stay(send, &inner).await,
            }
        }
        Answer::Echo(first) => {
            let mut send = respond.send_response(head(), false).unwrap();
            all(&mut send, [first], &inner).await;
            while let Some(message) = messages.next().await {
                all(&mut send, [message], &inner).await;
            }
            let reset = std::future::poll_fn(|cx| match send.poll_reset(cx) {
                std::task::Poll::Ready(Ok(reason)) => std::task::Poll::Ready(Some(reason)),
                _ => std::task::Poll::Ready(None),
            });
            match reset.await {
                Some(Reason::CANCEL) => drop(inner.cancelled.fetch_add(1, Ordering::Relaxed)),
                Some(_) => {}
                None => end(&mut send, 0),
            }
        }
    }
}

/// Waits for the caller to leave.
async fn stay(mut send: SendStream<Bytes>, inner: &Inner) {
    let reset = std::future::poll_fn(|cx| send.poll_reset(cx)).await;
    if reset.is_ok_and(|reason| reason == Reason::CANCEL) {
        inner.cancelled.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends messages within the caller's window.
async fn all(
    send: &mut SendStream<Bytes>,
    messages: impl IntoIterator<Item = Bytes>,
    inner: &Inner,
) {
    for message in messages {
        let mut frame = BytesMut::with_capacity(message.len() + 5);
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len()).unwrap());
        frame.put_slice(&message);
        let mut frame = frame.freeze();
        while !frame.is_empty() {
            send.reserve_capacity(frame.len());
            let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await;
            let Some(Ok(room)) = room else { return };
            let part = frame.split_to(room.min(frame.len()));
            inner.sent.fetch_add(part.len(), Ordering::Relaxed);
            if send.send_data(part, false).is_err() {
                return;
            }
        }
    }
}

fn end(send: &mut SendStream<Bytes>, status: i32) {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.to_string().parse().unwrap());
    trailers.insert("grpc-message", "as%20told".parse().unwrap());
    // A caller that has left reads no status.
    drop(send.send_trailers(trailers));
}

struct Messages {
    body: RecvStream,
    buffer: BytesMut,
}

impl Messages {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(length) = self.buffer.get(1..5) {
                let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
                if self.buffer.len() >= 5 + length {
                    self.buffer.advance(5);
                    return Some(self.buffer.split_to(length).freeze());
                }
            }
            let data = self.body.data().await?.ok()?;
            drop(self.body.flow_control().release_capacity(data.len()));
            self.buffer.extend_from_slice(&data);
        }
    }
}
