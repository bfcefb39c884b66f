//! Where streams between nodes come from: TCP, or whatever a test puts in its place.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;

use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Handle, Id};

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

/// A TCP stream that is watched for readiness by the runtime that polls it: one that another runtime
/// has accepted would wake that first, for each piece that comes.
struct Roaming {
    /// Empty only while it moves.
    stream: Option<TcpStream>,
    home: Option<Id>,
}

impl Roaming {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream: Some(stream),
            home: Handle::try_current().ok().map(|handle| handle.id()),
        }
    }

    fn here(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        let home = Handle::try_current().ok().map(|handle| handle.id());
        if home != self.home
            && let Some(stream) = self.stream.take()
        {
            self.stream = Some(TcpStream::from_std(stream.into_std()?)?);
            self.home = home;
        }
        let lost = || io::Error::other("the stream could not move to another runtime");
        self.stream.as_mut().map(Pin::new).ok_or_else(lost)
    }
}

impl AsyncRead for Roaming {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.here()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Roaming {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.here()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.here()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.here()?.poll_shutdown(cx)
    }
}

pub(crate) fn connection(stream: TcpStream) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?;
    Ok(Connection {
        loopback: peer.ip().to_canonical().is_loopback(),
        peer: peer.to_string(),
        stream: Box::new(Roaming::new(stream)),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn an_accepted_stream_goes_on_where_the_runtime_that_accepted_it_is_gone() {
        let start = || Builder::new_current_thread().enable_all().build().unwrap();
        let (door, other) = (start(), start());
        let (mut far, mut near) = door.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let near = Tcp::new(listener);
            let far = std::net::TcpStream::connect(addr).unwrap();
            (far, near.accept().await.unwrap().stream)
        });
        other.block_on(async { near.write_all(b"from here").await.unwrap() });
        drop(door);
        let mut got = [0; 9];
        std::io::Read::read_exact(&mut far, &mut got).unwrap();
        assert_eq!(&got, b"from here");
        let answers = std::thread::spawn(move || {
            std::io::Write::write_all(&mut far, b"from there").unwrap();
        });
        other.block_on(async {
            let mut got = [0; 10];
            near.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"from there");
        });
        answers.join().unwrap();
    }
}
