//! The sockets of one process. When it is killed they close one after the other, in the order in
//! which they were opened: the tasks that hold them end in an order that tokio does not promise, and
//! each close draws how long its last segment takes.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use centripeta_cluster::peer::{Connection, Opening, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

#[derive(Default)]
struct Open {
    opened: u64,
    streams: BTreeMap<u64, TcpStream>,
    /// The process is being killed: nobody closes anything any more.
    killed: bool,
}

/// All of a process.
#[derive(Clone, Default)]
pub(crate) struct Sockets(Arc<Mutex<Open>>);

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sockets")
    }
}

impl Sockets {
    /// The process ends here and now: from now on [`Ends`] closes what is open.
    pub(crate) fn kill(&self) {
        self.0.lock().unwrap().killed = true;
    }

    fn hold(&self, stream: TcpStream, peer: String) -> Connection {
        let mut open = self.0.lock().unwrap();
        open.opened += 1;
        let id = open.opened;
        open.streams.insert(id, stream);
        Connection {
            stream: Box::new(Socket(id, self.clone())),
            peer,
            loopback: true,
        }
    }
}

/// Closes what is still open when the process is gone. The process holds it outside of all tasks.
pub(crate) struct Ends(pub(crate) Sockets);

impl Drop for Ends {
    fn drop(&mut self) {
        let open = std::mem::take(&mut self.0.0.lock().unwrap().streams);
        open.into_values().for_each(drop);
    }
}

struct Socket(u64, Sockets);

impl Socket {
    fn poll<T>(
        &self,
        then: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match self.1.0.lock().unwrap().streams.get_mut(&self.0) {
            Some(stream) => then(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut open = self.1.0.lock().unwrap();
        if !open.killed {
            open.streams.remove(&self.0);
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(|stream| stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(|stream| stream.poll_shutdown(cx))
    }
}

/// The network of turmoil, as links use it.
pub(crate) struct Net {
    listener: TcpListener,
    sockets: Sockets,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Net")
    }
}

impl Net {
    pub(crate) const fn new(listener: TcpListener, sockets: Sockets) -> Self {
        Self { listener, sockets }
    }
}

impl Transport for Net {
    fn dial<'a>(&'a self, addr: &'a str) -> Opening<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect(addr).await?;
            Ok(self.sockets.hold(stream, addr.to_owned()))
        })
    }

    fn accept(&self) -> Opening<'_> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            Ok(self.sockets.hold(stream, peer.to_string()))
        })
    }
}
