//! A network in memory that can be cut, in each direction of each pair.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;

use crate::peer::{Connection, Opening, Transport};

/// How much is under way in one direction of a stream, in bytes.
const ROOM: usize = 256 * 1024;

#[derive(Debug, Default)]
struct Links {
    doors: BTreeMap<String, mpsc::UnboundedSender<(String, DuplexStream)>>,
    /// From whom to whom nothing comes through.
    cut: BTreeSet<(String, String)>,
    /// Who cannot dial whom, and gets through all the same where it was dialled.
    refused: BTreeSet<(String, String)>,
    waiting: Vec<Waker>,
}

/// The network.
#[derive(Debug, Default)]
pub(super) struct Net {
    links: Mutex<Links>,
}

impl Net {
    /// The door of a node.
    pub(super) fn open(self: &Arc<Self>, addr: &str) -> Arc<dyn Transport> {
        let (door, coming) = mpsc::unbounded_channel();
        self.links
            .lock()
            .unwrap()
            .doors
            .insert(addr.to_owned(), door);
        Arc::new(Way {
            net: Arc::clone(self),
            addr: addr.to_owned(),
            coming: tokio::sync::Mutex::new(coming),
        })
    }

    /// Nothing that the one sends reaches the other any more.
    pub(super) fn cut(&self, from: &str, to: &str) {
        let cut = (from.to_owned(), to.to_owned());
        self.links.lock().unwrap().cut.insert(cut);
    }

    /// Nothing comes through between the two any more.
    pub(super) fn isolate(&self, one: &str, other: &str) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// The one cannot dial the other.
    pub(super) fn refuse(&self, from: &str, to: &str) {
        let refused = (from.to_owned(), to.to_owned());
        self.links.lock().unwrap().refused.insert(refused);
    }

    /// Everything comes through again, late what was under way.
    pub(super) fn heal(&self) {
        let mut links = self.links.lock().unwrap();
        links.cut.clear();
        links.refused.clear();
        links.waiting.drain(..).for_each(Waker::wake);
    }

    /// Whether the way is open; else whoever asks is woken once it is.
    fn is_open(&self, from: &str, to: &str, cx: &Context<'_>) -> bool {
        let mut links = self.links.lock().unwrap();
        let open = !links.cut.contains(&(from.to_owned(), to.to_owned()));
        if !open {
            links.waiting.push(cx.waker().clone());
        }
        open
    }
}

/// How one node reaches others and is reached.
#[derive(Debug)]
struct Way {
    net: Arc<Net>,
    addr: String,
    coming: tokio::sync::Mutex<mpsc::UnboundedReceiver<(String, DuplexStream)>>,
}

impl Way {
    fn connection(&self, stream: DuplexStream, peer: String) -> Connection {
        Connection {
            stream: Box::new(End {
                net: Arc::clone(&self.net),
                stream,
                here: self.addr.clone(),
                there: peer.clone(),
            }),
            peer,
            loopback: true,
        }
    }
}

impl Transport for Way {
    fn dial<'a>(&'a self, addr: &'a str) -> Opening<'a> {
        Box::pin(async move {
            // A greeting must come through, and its answer.
            std::future::poll_fn(|cx| {
                let there = self.net.is_open(&self.addr, addr, cx);
                let back = self.net.is_open(addr, &self.addr, cx);
                if there && back {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            let (here, there) = tokio::io::duplex(ROOM);
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let way = (self.addr.clone(), addr.to_owned());
            let door = {
                let links = self.net.links.lock().unwrap();
                let door = links.doors.get(addr).cloned();
                door.filter(|_| !links.refused.contains(&way))
            };
            let door = door.ok_or_else(refused)?;
            door.send((self.addr.clone(), there))
                .map_err(|_| refused())?;
            Ok(self.connection(here, addr.to_owned()))
        })
    }

    fn accept(&self) -> Opening<'_> {
        Box::pin(async move {
            match self.coming.lock().await.recv().await {
                Some((peer, stream)) => Ok(self.connection(stream, peer)),
                None => std::future::pending().await,
            }
        })
    }
}

/// One end of a stream.
struct End {
    net: Arc<Net>,
    stream: DuplexStream,
    here: String,
    there: String,
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.net.is_open(&self.there, &self.here, cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, to)
    }
}

impl AsyncWrite for End {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
