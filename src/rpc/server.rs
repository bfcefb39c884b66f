//! The listener and its connections: frames in, calls beside each other, answers out.
//!
//! A connection costs two tasks and no thread. What it may hold is bounded ([`super::room`]): so many
//! calls, so many bytes of them and their answers, and each keeps its place until its answer is
//! written, so that a client which does not read stops being read from and hurts nobody else.

use super::fallback::{self, Passed};
use super::room::{Place, Room};
use super::{Codec, Services};
use crate::config::RpcAddress;
use crate::engine::faults::Throttle;
use crate::goridge::{Call, Decoder, Flags, Frame};
use crate::node::bind_unix;
use bytes::{Bytes, BytesMut};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream, lookup_host};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// The longest payload of a call, in bytes.
pub(super) const LONGEST: usize = 16 << 20;
/// Answers that wait to be written.
const ANSWERS: usize = 1024;
/// Bytes read at once.
pub(super) const CHUNK: usize = 4 * 1024;
/// Answers are gathered up to so many bytes for one write.
const WRITE: usize = 64 * 1024;
/// How long the answers of a connection may take whose caller has left, or has broken the rules.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// How long accepting rests after it failed.
const REST: Duration = Duration::from_millis(50);

/// An address that is bound.
#[derive(Debug)]
pub(crate) enum Door {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket; the file is removed at the end.
    Unix(UnixListener, PathBuf),
}

impl Door {
    /// Binds an address. Of a name, IPv4 is bound where it has such an address: PHP speaks no other.
    ///
    /// # Errors
    /// The address is taken, not ours, or the name has none.
    pub(crate) async fn bind(address: &RpcAddress) -> io::Result<Self> {
        match address {
            RpcAddress::Unix(path) => {
                let listener = bind_unix(path).await?;
                Ok(Self::Unix(listener, path.clone()))
            }
            RpcAddress::Tcp { host, port } => {
                let address = resolve(host, *port).await?;
                TcpListener::bind(address).await.map(Self::Tcp)
            }
        }
    }

    /// Where it is, with the port that it got.
    pub(crate) fn address(&self) -> io::Result<RpcAddress> {
        Ok(match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr()?;
                let host = match address.ip() {
                    IpAddr::V4(ip) => ip.to_string(),
                    IpAddr::V6(ip) => format!("[{ip}]"),
                };
                let port = address.port();
                RpcAddress::Tcp { host, port }
            }
            Self::Unix(_, path) => RpcAddress::Unix(path.clone()),
        })
    }

    /// Gives the address back, as it was found.
    pub(crate) fn close(self) {
        if let Self::Unix(_, path) = &self {
            // It may be gone already.
            drop(std::fs::remove_file(path));
        }
    }
}

/// An address of a host, IPv4 before IPv6; `localhost` needs nobody to say what it is.
async fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let found: Vec<SocketAddr> = lookup_host(format!("{host}:{port}")).await?.collect();
    let v4 = found.iter().find(|address| address.is_ipv4());
    let none = || io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    v4.or_else(|| found.first()).copied().ok_or_else(none)
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    address: RpcAddress,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves a bound address on the runtime of the caller.
    ///
    /// # Errors
    /// The system does not say where the address is.
    pub(crate) fn start(door: Door, services: Arc<Services>) -> io::Result<Self> {
        let address = door.address()?;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(serve(door, services, stopped));
        Ok(Self {
            address,
            stop,
            task,
        })
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> &RpcAddress {
        &self.address
    }

    /// Accepts and reads no more; answers that are due leave within `grace`, then every connection
    /// is closed.
    pub(crate) async fn shutdown(mut self, grace: Duration) {
        self.stop.send_replace(true);
        if timeout(grace, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// Serves until it is stopped; dropped, it takes its connections along.
async fn serve(door: Door, services: Arc<Services>, stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut stop = stopped.clone();
    let failures = Throttle::default();
    let faults = Arc::<Throttle>::default();
    loop {
        let accepted = tokio::select! {
            // Whoever stops it has been dropped, or has said so.
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&door) => accepted,
        };
        let (services, stopped) = (Arc::clone(&services), stopped.clone());
        let faults = Arc::clone(&faults);
        match accepted {
            Ok(Socket::Tcp(stream)) => {
                connections.spawn(connection(stream, services, stopped, faults));
            }
            Ok(Socket::Unix(stream)) => {
                connections.spawn(connection(stream, services, stopped, faults));
            }
            Err(error) => {
                if let Some(count) = failures.pass() {
                    tracing::warn!(%error, count, "connections to `rpc.listen` were not accepted");
                }
                tokio::time::sleep(REST).await;
            }
        }
    }
    door.close();
    while connections.join_next().await.is_some() {}
}

/// An accepted connection.
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

async fn accept(door: &Door) -> io::Result<Socket> {
    match door {
        Door::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            // Without it small answers wait for each other; not having it harms nobody.
            drop(stream.set_nodelay(true));
            Ok(Socket::Tcp(stream))
        }
        Door::Unix(listener, _) => Ok(Socket::Unix(listener.accept().await?.0)),
    }
}

/// An answer on its way out.
#[derive(Debug)]
pub(super) struct Answer {
    /// The frame.
    bytes: Bytes,
    /// Given back when it is written.
    place: Place,
}

impl Answer {
    /// An answer in the place of its call.
    pub(super) fn new(bytes: Bytes, mut place: Place) -> Self {
        place.answered(bytes.len());
        Self { bytes, place }
    }
}

/// One connection, to its end. Whoever connects may break the rules as often as it likes: the
/// listener logs it once a second.
async fn connection<S>(
    stream: S,
    services: Arc<Services>,
    stopped: watch::Receiver<bool>,
    faults: Arc<Throttle>,
) where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = tokio::io::split(stream);
    let (answers, outgoing) = mpsc::channel(ANSWERS);
    let mut tasks = JoinSet::new();
    tasks.spawn(answer(write, outgoing));
    let read = tokio::select! {
        read = calls(read, &services, answers, stopped) => read,
        // Nobody reads answers any more.
        _ = tasks.join_next() => return,
    };
    match read {
        // The answers to what was read still leave; whoever stops the server keeps the time.
        Ok(Left::Stopped) => drop(tasks.join_next().await),
        // It may have closed one half alone, and then reads them; but what is passed on to another
        // server may never be answered.
        Ok(Left::Caller) => drop(timeout(LAST_ANSWERS, tasks.join_next()).await),
        Err(why) => {
            if let Some(count) = faults.pass() {
                tracing::warn!(
                    count,
                    "a connection to `rpc.listen` is closed: {why} (`count` such connections since \
                     the last line)"
                );
            }
            drop(timeout(LAST_ANSWERS, tasks.join_next()).await);
        }
    }
}

/// Why no more calls are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// The caller has closed.
    Caller,
    /// The server ends.
    Stopped,
}

/// Reads calls and starts each.
async fn calls<R: AsyncRead + Unpin>(
    mut read: R,
    services: &Arc<Services>,
    answers: mpsc::Sender<Answer>,
    mut stopped: watch::Receiver<bool>,
) -> Result<Left, String> {
    let mut decoder = Decoder::new(LONGEST);
    let mut input = BytesMut::new();
    let room = Room::new();
    let mut other: Option<mpsc::Sender<Passed>> = None;
    loop {
        while let Some(frame) = decoder.next(&mut input).map_err(|why| why.to_string())? {
            if let Some(version) = decoder.odd_version() {
                tracing::warn!(
                    version,
                    "a connection to `rpc.listen` sends frames that are not of version 1; they are taken"
                );
            }
            let call = frame.as_call().map_err(|why| why.to_string())?;
            let codec = Codec::of(frame.flags);
            let Some(place) = room.place(frame.payload.len()).await else {
                return Ok(Left::Caller);
            };
            if let Some(address) = services.passes_on(&call.method) {
                let passed = Passed {
                    frame,
                    method: call.method,
                    seq: call.seq,
                    codec,
                    place,
                };
                let to = other.get_or_insert_with(|| fallback::start(address, answers.clone()));
                if to.send(passed).await.is_err() {
                    return Ok(Left::Caller);
                }
                continue;
            }
            let (services, answers) = (Arc::clone(services), answers.clone());
            tokio::spawn(async move {
                let bytes = respond(&services, codec, call).await;
                // A connection that is gone reads no answer.
                drop(answers.send(Answer::new(bytes, place)).await);
            });
        }
        input.reserve(CHUNK);
        let read = tokio::select! {
            read = read.read_buf(&mut input) => read,
            _ = stopped.wait_for(|stop| *stop) => return Ok(Left::Stopped),
        };
        match read {
            Ok(0) => {
                let ended = decoder.end(&input).map(|()| Left::Caller);
                return ended.map_err(|why| why.to_string());
            }
            Ok(_) => {}
            Err(why) if why.kind() == io::ErrorKind::ConnectionReset => return Ok(Left::Caller),
            Err(why) => return Err(why.to_string()),
        }
    }
}

/// Writes answers, several at once where they are there.
async fn answer<W: AsyncWrite + Unpin>(mut write: W, mut answers: mpsc::Receiver<Answer>) {
    let mut places = Vec::new();
    while let Some(first) = answers.recv().await {
        places.push(first.place);
        let written = match answers.is_empty() {
            true => write.write_all(&first.bytes).await,
            false => {
                let mut all = BytesMut::from(first.bytes);
                while all.len() < WRITE
                    && let Ok(next) = answers.try_recv()
                {
                    all.extend_from_slice(&next.bytes);
                    places.push(next.place);
                }
                write.write_all(&all).await
            }
        };
        if written.is_err() {
            return;
        }
        places.clear();
    }
    // The other side may have closed before.
    drop(write.shutdown().await);
}

/// The answer to a call, as it goes over the wire.
async fn respond(services: &Services, codec: Codec, call: Call) -> Bytes {
    let Call { seq, method, body } = call;
    match services.call(&method, codec, body).await {
        Ok(body) => {
            let mut out = BytesMut::new();
            let frame = Frame::call(codec.flags(), seq, &method, &body);
            match frame.and_then(|frame| frame.encode(&mut out)) {
                Ok(()) => out.freeze(),
                Err(why) => error(codec, seq, &method, &why.to_string()),
            }
        }
        Err(text) => error(codec, seq, &method, &text),
    }
}

/// The answer that a call failed, and why.
pub(super) fn error(codec: Codec, seq: u32, method: &str, text: &str) -> Bytes {
    let mut out = BytesMut::new();
    let flags = codec.flags().and(Flags::ERROR);
    // A name and some words always fit.
    let frame = Frame::call(flags, seq, method, text.as_bytes());
    frame.and_then(|frame| frame.encode(&mut out)).ok();
    out.freeze()
}
