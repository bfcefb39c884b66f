//! A network in memory whose streams can be cut and stalled.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::AtomicU64;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::sync::{Mutex as AsyncMutex, watch};

use super::*;
use crate::peer::Opening;
use crate::testing::Chance;

const BUFFER: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Net {
    listeners: Mutex<HashMap<String, mpsc::UnboundedSender<Connection>>>,
    stalled: watch::Sender<bool>,
    cuts: Mutex<Option<Chance>>,
    cut: watch::Sender<()>,
    pub(super) dialled: AtomicU32,
}

impl Net {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            listeners: Mutex::default(),
            stalled: watch::Sender::new(false),
            cuts: Mutex::default(),
            cut: watch::Sender::new(()),
            dialled: AtomicU32::new(0),
        })
    }

    /// Every stream opened from now on breaks after a while, with what is on it.
    pub(super) fn cut_at_random(&self, seed: Option<u64>) {
        *lock(&self.cuts) = seed.map(Chance::new);
    }

    /// Nothing gets through any more, on any stream; none breaks.
    pub(super) fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    /// Every stream that is open breaks, with what is on it.
    pub(super) fn cut(&self) {
        self.cut.send_replace(());
    }

    pub(super) fn node(self: &Arc<Self>, addr: &str) -> Arc<Mem> {
        let (sender, incoming) = mpsc::unbounded_channel();
        lock(&self.listeners).insert(addr.to_owned(), sender);
        Arc::new(Mem {
            net: Arc::clone(self),
            incoming: AsyncMutex::new(incoming),
        })
    }

    fn connect(&self, addr: &str) -> io::Result<Connection> {
        self.dialled.fetch_add(1, Ordering::Relaxed);
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let listener = lock(&self.listeners)
            .get(addr)
            .cloned()
            .ok_or_else(refused)?;
        let (near, mid) = duplex(BUFFER);
        let (dim, far) = duplex(BUFFER);
        let budget = lock(&self.cuts)
            .as_mut()
            .map_or(u64::MAX, |chance| chance.between(2_000, 400_000));
        let (stalled, mut cut) = (self.stalled.subscribe(), self.cut.subscribe());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = cut.changed() => {}
                () = wire(mid, dim, budget, stalled) => {}
            }
        });
        let end = |stream| Connection {
            stream: Box::new(stream),
            peer: addr.to_owned(),
            loopback: true,
        };
        listener.send(end(far)).map_err(|_| refused())?;
        Ok(end(near))
    }
}

/// Carries bytes both ways until its budget is used up.
async fn wire(one: DuplexStream, two: DuplexStream, budget: u64, stalled: watch::Receiver<bool>) {
    let left = AtomicU64::new(budget);
    let (one_read, one_write) = split(one);
    let (two_read, two_write) = split(two);
    tokio::select! {
        () = way(one_read, two_write, &left, stalled.clone()) => {}
        () = way(two_read, one_write, &left, stalled) => {}
    }
}

async fn way(
    mut from: tokio::io::ReadHalf<DuplexStream>,
    mut to: tokio::io::WriteHalf<DuplexStream>,
    left: &AtomicU64,
    mut stalled: watch::Receiver<bool>,
) {
    let mut piece = [0; 4096];
    loop {
        let Ok(read @ 1..) = from.read(&mut piece).await else {
            return;
        };
        if stalled.wait_for(|stalled| !stalled).await.is_err() {
            return;
        }
        let before = left.fetch_sub(read as u64, Ordering::Relaxed);
        let read = read.min(usize::try_from(before).unwrap_or(usize::MAX));
        if to.write_all(&piece[..read]).await.is_err() || before <= 4096 {
            return;
        }
    }
}

#[derive(Debug)]
pub(super) struct Mem {
    net: Arc<Net>,
    incoming: AsyncMutex<mpsc::UnboundedReceiver<Connection>>,
}

impl Transport for Mem {
    fn dial<'a>(&'a self, addr: &'a str) -> Opening<'a> {
        Box::pin(async move { self.net.connect(addr) })
    }

    fn accept(&self) -> Opening<'_> {
        Box::pin(async {
            let next = self.incoming.lock().await.recv().await;
            match next {
                Some(connection) => Ok(connection),
                None => std::future::pending().await,
            }
        })
    }
}
