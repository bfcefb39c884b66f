//! A TCP relay that records what the client sends, can stop forwarding without a word, and can die and
//! return.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    /// What clients have sent, by connection.
    pub(crate) sent: Arc<Mutex<Vec<Vec<u8>>>>,
    silent: Arc<AtomicBool>,
    dead: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let sent: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let silent = Arc::new(AtomicBool::new(false));
        let (record, mute) = (Arc::clone(&sent), Arc::clone(&silent));
        let (dead, dies) = watch::channel(false);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *dies.borrow() {
                    continue;
                }
                let (record, mute) = (Arc::clone(&record), Arc::clone(&mute));
                let mut dies = dies.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = dies.wait_for(|dead| *dead) => {}
                        () = pass(client, target, record, mute) => {}
                    }
                });
            }
        });
        Self {
            address,
            sent,
            silent,
            dead,
            task,
        }
    }

    /// Cuts every connection where it is, and takes no other.
    pub(crate) fn die(&self) {
        self.dead.send_replace(true);
    }

    /// Takes connections again.
    pub(crate) fn come_back(&self) {
        self.dead.send_replace(false);
    }

    /// From now on connections stay open, and nothing crosses.
    pub(crate) fn silence(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    /// Kinds of the HTTP/2 frames that clients have sent, with their flags.
    pub(crate) fn frames(&self) -> Vec<(u8, u8)> {
        let mut frames = Vec::new();
        for bytes in self.sent.lock().unwrap().iter() {
            let mut rest = bytes
                .strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                .unwrap();
            while let [a, b, c, kind, flags, ..] = *rest {
                frames.push((kind, flags));
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                rest = rest.get(9 + length..).unwrap_or_default();
            }
        }
        frames
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(
    client: TcpStream,
    target: SocketAddr,
    record: Arc<Mutex<Vec<Vec<u8>>>>,
    mute: Arc<AtomicBool>,
) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let place = {
        let mut record = record.lock().unwrap();
        record.push(Vec::new());
        record.len() - 1
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let muted = Arc::clone(&mute);
    let back = async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            if muted.load(Ordering::SeqCst) {
                continue;
            }
            if to_client.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    let forth = async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            record.lock().unwrap()[place].extend_from_slice(&buffer[..count]);
            if mute.load(Ordering::SeqCst) {
                continue;
            }
            if to_server.write_all(&buffer[..count]).await.is_err() {
                break;
            }
        }
    };
    // Either end closes both.
    tokio::select! {
        () = back => {}
        () = forth => {}
    }
}
