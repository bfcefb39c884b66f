//! Accepts connections and deals them to the cores, each to the one that has the fewest.
//!
//! One listener for all cores: a second node that binds the same port by mistake fails at once.

use crate::engine::faults::Throttle;
use crate::ingress::grpc::GrpcIngress;
use crate::ingress::tls::TlsAcceptor;
use arc_swap::ArcSwap;
use http::Request;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::io;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Pings a silent connection, so that the streams of a dead peer end.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long a ping may stay unanswered.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to say that it speaks HTTP/2.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);
/// What it says for that, in bytes: the preface and the head of its settings.
const OPENING: usize = 24 + 9;
/// How long a connection without a call may take to go when it is asked to.
const SILENT: Duration = Duration::from_secs(1);
/// Pause after a failed accept: descriptors may have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What a call may have sent that nobody has read yet, in bytes: one command of a Centrifugo's client
/// at its default limit. A stream whose handler has stopped reading keeps this much, and its sender
/// waits.
const STREAM_WINDOW: u32 = 64 << 10;
/// The same for all calls of a connection together, as large as HTTP/2 has it, so that streams which
/// are not read leave room for the others: the bound is the number of calls times [`STREAM_WINDOW`].
/// The transport ends a connection with many small frames that nobody reads, at half of this in
/// bookkeeping: with the default of 1 MiB one stream with 2500 publications was enough.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// Age and idle checks vary by this much, so that connections do not end together.
const AGE_JITTER: f64 = 0.2;

/// A bound address, before anything is served on it.
#[derive(Debug)]
pub(crate) enum Bound {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket; the file is removed at the end.
    Unix(UnixListener, PathBuf),
}

/// What every connection is set up with.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionLimits {
    /// Streams that a connection may have open: those of subscriptions and events in flight.
    pub(crate) streams: u32,
    /// Streams that a peer may reset before we have looked at them: a stall makes many.
    pub(crate) pending_resets: usize,
    /// Bytes of the headers of a call.
    pub(crate) header_bytes: u32,
    /// Age at which the peer is asked to open another connection; ± 20 %.
    pub(crate) max_age: Duration,
}

/// A core as the listener sees it.
#[derive(Debug, Clone)]
pub(crate) struct CoreDoor {
    /// Its runtime.
    pub(crate) handle: Handle,
    /// Its service.
    pub(crate) service: GrpcIngress,
    /// Its connections.
    pub(crate) connections: Arc<Connections>,
}

/// The connections of a core, counted.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: AtomicUsize,
    accepted: AtomicU64,
}

impl Connections {
    /// Those that are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// All that there have been.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

/// How far a node is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// It stays.
    No,
    /// Open connections are asked to go elsewhere; callers that know nowhere else come back and are
    /// served.
    Soon,
    /// Nothing new comes in.
    Now,
}

/// Serves until `stop` says so; the connections then finish what they have.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Where calls come in.
    pub(crate) bound: Bound,
    /// Who serves them.
    pub(crate) doors: Vec<CoreDoor>,
    /// Encryption, if there is any.
    pub(crate) tls: Option<TlsAcceptor>,
    /// Limits of the connections that come in from now on; those that are open keep theirs.
    pub(crate) limits: Arc<ArcSwap<ConnectionLimits>>,
    /// Rises when the node drains.
    pub(crate) stop: watch::Receiver<Stop>,
}

impl Listener {
    /// Accepts until told to stop.
    pub(crate) async fn run(self) {
        let Self {
            bound,
            doors,
            tls,
            limits,
            mut stop,
        } = self;
        let dealer = Dealer {
            doors,
            tls,
            limits,
            stop: stop.clone(),
            handshakes: Arc::default(),
        };
        let accept = async {
            match &bound {
                Bound::Tcp(listener) => loop {
                    match listener.accept().await {
                        Ok((socket, _)) => dealer.deal_tcp(socket),
                        Err(error) => accept_failed(&error).await,
                    }
                },
                Bound::Unix(listener, _) => loop {
                    match listener.accept().await {
                        Ok((socket, _)) => dealer.deal_unix(socket),
                        Err(error) => accept_failed(&error).await,
                    }
                },
            }
        };
        tokio::select! {
            () = accept => {}
            _ = stop.wait_for(|stop| *stop == Stop::Now) => {}
        }
        if let Bound::Unix(_, path) = &bound {
            // Somebody may have removed it already.
            drop(std::fs::remove_file(path));
        }
    }
}

/// A peer that went away between its connect and our accept is no fault; the rest is said.
async fn accept_failed(error: &io::Error) {
    if error.kind() != io::ErrorKind::ConnectionAborted {
        tracing::warn!(%error, "a connection could not be accepted");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Deals sockets to the cores.
struct Dealer {
    doors: Vec<CoreDoor>,
    tls: Option<TlsAcceptor>,
    limits: Arc<ArcSwap<ConnectionLimits>>,
    stop: watch::Receiver<Stop>,
    /// TLS handshakes that fail: anybody can bring them about.
    handshakes: Arc<Throttle>,
}

impl Dealer {
    fn deal_tcp(&self, socket: TcpStream) {
        // Without it small replies wait for the acknowledgement of earlier ones.
        drop(socket.set_nodelay(true));
        match socket.into_std() {
            Ok(socket) => self.deal(move || TcpStream::from_std(socket)),
            Err(error) => tracing::warn!(%error, "a connection could not be handed to a core"),
        }
    }

    fn deal_unix(&self, socket: UnixStream) {
        match socket.into_std() {
            Ok(socket) => self.deal(move || UnixStream::from_std(socket)),
            Err(error) => tracing::warn!(%error, "a connection could not be handed to a core"),
        }
    }

    /// Hands a socket to the core that has the fewest connections.
    fn deal<S>(&self, socket: impl FnOnce() -> io::Result<S> + Send + 'static)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let fewest = self.doors.iter().min_by_key(|door| door.connections.open());
        let Some(door) = fewest else { return };
        let open = OpenConnection::new(&door.connections);
        let (service, tls) = (door.service.clone(), self.tls.clone());
        let (limits, stop) = (self.limits.load_full(), self.stop.clone());
        let handshakes = Arc::clone(&self.handshakes);
        door.handle.spawn(async move {
            let _open = open;
            let socket = match socket() {
                Ok(socket) => socket,
                Err(error) => return tracing::warn!(%error, "a core could not take a connection"),
            };
            match tls {
                None => serve(socket, service, &limits, stop).await,
                Some(tls) => {
                    let mut stopped = stop.clone();
                    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(socket));
                    let done = tokio::select! {
                        done = handshake => done,
                        _ = stopped.wait_for(|stop| *stop == Stop::Now) => return,
                    };
                    let why = match done {
                        Ok(Ok(socket)) => return serve(socket, service, &limits, stop).await,
                        Ok(Err(error)) => error.to_string(),
                        Err(_) => "it took too long".to_owned(),
                    };
                    if let Some(count) = handshakes.pass() {
                        tracing::warn!(
                            why,
                            count,
                            "a TLS handshake failed (`count` of them since the last line)"
                        );
                    }
                }
            }
        });
    }
}

/// Counts a connection while it is open.
struct OpenConnection(Arc<Connections>);

impl OpenConnection {
    fn new(count: &Arc<Connections>) -> Self {
        count.open.fetch_add(1, Ordering::Relaxed);
        count.accepted.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How far a connection has come.
#[derive(Debug, Default)]
struct Seen {
    /// It has said that it speaks HTTP/2.
    opened: AtomicBool,
    /// It has had a call.
    called: AtomicBool,
}

impl Seen {
    fn opened(&self) -> bool {
        self.opened.load(Ordering::Relaxed)
    }

    fn called(&self) -> bool {
        self.called.load(Ordering::Relaxed)
    }

    /// Ready when the connection should have opened and has not.
    async fn late(&self) {
        tokio::time::sleep(OPENING_TIMEOUT).await;
        if self.opened() {
            std::future::pending::<()>().await;
        }
    }
}

/// A socket whose first bytes are counted.
struct Opening<S> {
    socket: S,
    read: usize,
    seen: Arc<Seen>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = to.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, to);
        if self.read < OPENING {
            self.read += to.filled().len().saturating_sub(before);
            self.seen
                .opened
                .store(self.read >= OPENING, Ordering::Relaxed);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

/// The service of a connection.
struct Noted {
    service: GrpcIngress,
    seen: Arc<Seen>,
}

type GrpcRequest = Request<hyper::body::Incoming>;

impl hyper::service::Service<GrpcRequest> for Noted {
    type Response = <GrpcIngress as hyper::service::Service<GrpcRequest>>::Response;
    type Error = <GrpcIngress as hyper::service::Service<GrpcRequest>>::Error;
    type Future = <GrpcIngress as hyper::service::Service<GrpcRequest>>::Future;

    fn call(&self, request: GrpcRequest) -> Self::Future {
        self.seen.called.store(true, Ordering::Relaxed);
        hyper::service::Service::call(&self.service, request)
    }
}

/// Serves one connection to its end.
async fn serve<S>(
    socket: S,
    service: GrpcIngress,
    limits: &ConnectionLimits,
    mut stop: watch::Receiver<Stop>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let seen = Arc::new(Seen::default());
    let socket = Opening {
        socket,
        read: 0,
        seen: Arc::clone(&seen),
    };
    let service = Noted {
        service,
        seen: Arc::clone(&seen),
    };
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.streams)
        .max_pending_accept_reset_streams(limits.pending_resets)
        // It counts, for the life of a connection, what arrives for calls that were refused before
        // their message was complete: overload must not close the connection of everybody else.
        .max_local_error_reset_streams(None)
        .max_header_list_size(limits.header_bytes)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = pin!(connection);
    let came_at = *stop.borrow();
    let jitter = 1.0 - AGE_JITTER + 2.0 * AGE_JITTER * fastrand::f64();
    let age = tokio::time::sleep(limits.max_age.mul_f64(jitter));
    tokio::select! {
        ended = connection.as_mut() => return report(ended),
        () = seen.late() => return tracing::debug!("a connection did not open in time"),
        () = age => {}
        _ = stop.wait_for(|stop| *stop == Stop::Now || *stop > came_at) => {}
    }
    if !seen.opened() {
        return;
    }
    // GOAWAY: what is under way is finished, later calls come on another connection.
    connection.as_mut().graceful_shutdown();
    if !seen.called() {
        // Whoever has asked nothing is owed nothing, and may not even read this.
        let gone = tokio::time::timeout(SILENT, connection.as_mut()).await;
        match gone {
            Ok(ended) => return report(ended),
            Err(_) if !seen.called() => return,
            Err(_) => {}
        }
    }
    report(connection.await);
}

fn report(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
