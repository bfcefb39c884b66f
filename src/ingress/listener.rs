//! Accepts connections and deals them to the cores, each to the one that has the fewest.
//!
//! One listener for all cores: a second node that binds the same port by mistake fails at once.

use crate::ingress::grpc::GrpcIngress;
use crate::ingress::tls::TlsAcceptor;
use arc_swap::ArcSwap;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Pings a silent connection, so that the streams of a dead peer end.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long a ping may stay unanswered.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
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
        door.handle.spawn(async move {
            let _open = open;
            let socket = match socket() {
                Ok(socket) => socket,
                Err(error) => return tracing::warn!(%error, "a core could not take a connection"),
            };
            match tls {
                None => serve(socket, service, &limits, stop).await,
                Some(tls) => {
                    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(socket));
                    match handshake.await {
                        Ok(Ok(socket)) => serve(socket, service, &limits, stop).await,
                        Ok(Err(error)) => tracing::warn!(%error, "a TLS handshake failed"),
                        Err(_) => tracing::warn!("a TLS handshake took too long"),
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

/// Serves one connection to its end.
async fn serve<S>(
    socket: S,
    service: GrpcIngress,
    limits: &ConnectionLimits,
    mut stop: watch::Receiver<Stop>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
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
        () = age => {}
        _ = stop.wait_for(|stop| *stop == Stop::Now || *stop > came_at) => {}
    }
    // GOAWAY: what is under way is finished, later calls come on another connection.
    connection.as_mut().graceful_shutdown();
    report(connection.await);
}

fn report(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
