//! Links in memory whose ways take time.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use centripeta_cluster::peer::{Connection, Opening, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// What is under way in one direction, in bytes.
const ROOM: usize = 64 * 1024;
/// What one way takes: after it all goes on that has come meanwhile.
const WAY: Duration = Duration::from_millis(1);

type Coming = mpsc::UnboundedReceiver<(String, DuplexStream)>;

/// The network.
#[derive(Debug)]
pub(crate) struct Net {
    doors: Mutex<BTreeMap<String, mpsc::UnboundedSender<(String, DuplexStream)>>>,
    /// Where ways are walked; without, they take no time.
    runtime: Option<Handle>,
}

impl Net {
    pub(crate) fn new(runtime: Option<Handle>) -> Arc<Self> {
        Arc::new(Self {
            doors: Mutex::default(),
            runtime,
        })
    }

    /// The door of a node.
    pub(crate) fn open(self: &Arc<Self>, addr: &str) -> Arc<dyn Transport> {
        let (door, coming) = mpsc::unbounded_channel();
        self.doors.lock().unwrap().insert(addr.to_owned(), door);
        Arc::new(Way {
            net: Arc::clone(self),
            addr: addr.to_owned(),
            coming: tokio::sync::Mutex::new(coming),
        })
    }
}

#[derive(Debug)]
struct Way {
    net: Arc<Net>,
    addr: String,
    coming: tokio::sync::Mutex<Coming>,
}

fn connection(stream: DuplexStream, peer: String) -> Connection {
    Connection {
        stream: Box::new(stream),
        peer,
        loopback: true,
    }
}

async fn carry(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>) {
    let mut buffer = vec![0; ROOM];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        tokio::time::sleep(WAY).await;
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    // The other end may be gone.
    drop(to.shutdown().await);
}

impl Transport for Way {
    fn dial<'a>(&'a self, addr: &'a str) -> Opening<'a> {
        Box::pin(async move {
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let door = self.net.doors.lock().unwrap().get(addr).cloned();
            let door = door.ok_or_else(refused)?;
            let (here, near) = duplex(ROOM);
            let Some(runtime) = &self.net.runtime else {
                door.send((self.addr.clone(), near))
                    .map_err(|_| refused())?;
                return Ok(connection(here, addr.to_owned()));
            };
            let (far, there) = duplex(ROOM);
            door.send((self.addr.clone(), there))
                .map_err(|_| refused())?;
            let ((near_read, near_write), (far_read, far_write)) = (split(near), split(far));
            runtime.spawn(carry(near_read, far_write));
            runtime.spawn(carry(far_read, near_write));
            Ok(connection(here, addr.to_owned()))
        })
    }

    fn accept(&self) -> Opening<'_> {
        Box::pin(async move {
            match self.coming.lock().await.recv().await {
                Some((peer, stream)) => Ok(connection(stream, peer)),
                None => std::future::pending().await,
            }
        })
    }
}
