//! Where streams between nodes come from: TCP, or whatever a test puts in its place.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A stream of any kind.
pub type BoxStream = Box<dyn Stream>;

/// A stream, and where it leads.
pub struct Connection {
    /// The bytes.
    pub stream: BoxStream,
    /// The other end, for messages.
    pub peer: String,
    /// Whether both ends are on this host: then it may be plain.
    pub loopback: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .field("loopback", &self.loopback)
            .finish_non_exhaustive()
    }
}

/// What a transport does, some time.
pub type Opening<'a> = Pin<Box<dyn Future<Output = io::Result<Connection>> + Send + 'a>>;

/// Opens streams and takes those that others open.
pub trait Transport: Send + Sync + fmt::Debug + 'static {
    /// Opens a stream to an address.
    fn dial<'a>(&'a self, addr: &'a str) -> Opening<'a>;
    /// The next stream that was opened to this node.
    fn accept(&self) -> Opening<'_>;
}

/// TCP, without delay of small segments.
#[derive(Debug)]
pub struct Tcp {
    listener: TcpListener,
}

impl Tcp {
    /// Takes what comes in there.
    pub const fn new(listener: TcpListener) -> Self {
        Self { listener }
    }
}

pub(crate) fn connection(stream: TcpStream) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?;
    Ok(Connection {
        loopback: peer.ip().to_canonical().is_loopback(),
        peer: peer.to_string(),
        stream: Box::new(stream),
    })
}

impl Transport for Tcp {
    fn dial<'a>(&'a self, addr: &'a str) -> Opening<'a> {
        Box::pin(async move { connection(TcpStream::connect(addr).await?) })
    }

    fn accept(&self) -> Opening<'_> {
        Box::pin(async { connection(self.listener.accept().await?.0) })
    }
}
