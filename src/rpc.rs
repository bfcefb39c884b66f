//! The goridge RPC server: what workers call back by, as RoadRunner's plugins answer it.
//!
//! A call has a number, a method `service.Method`, a codec and an argument; calls of one connection
//! run beside each other, and answers come as they are ready. What is no frame ends its connection
//! and nothing else; what is no call of ours is answered with an error, in RoadRunner's words where
//! applications know them.

mod centrifuge;
mod services;
#[cfg(test)]
mod tests;

pub(crate) use services::Services;

use crate::goridge::{Call, Decoder, Flags, Frame};
use bytes::{Bytes, BytesMut};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc};

/// The longest payload of a call, in bytes.
const LONGEST: usize = 16 << 20;
/// Calls of one connection at a time; more wait in its socket.
const AT_ONCE: usize = 1024;
/// Bytes read at once.
const CHUNK: usize = 8 * 1024;

/// How arguments and results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// protobuf.
    Proto,
    /// JSON.
    Json,
    /// Bytes as they are.
    Raw,
    /// msgpack, which is not spoken here.
    Msgpack,
    /// Go's own encoding, which is not spoken here.
    Gob,
}

impl Codec {
    /// The codec of a call: of several bits the first in this order counts, and none is Go's.
    pub(crate) const fn of(flags: Flags) -> Self {
        if flags.has(Flags::PROTO) {
            Self::Proto
        } else if flags.has(Flags::JSON) {
            Self::Json
        } else if flags.has(Flags::RAW) {
            Self::Raw
        } else if flags.has(Flags::MSGPACK) {
            Self::Msgpack
        } else {
            Self::Gob
        }
    }

    const fn flags(self) -> Flags {
        match self {
            Self::Proto => Flags::PROTO,
            Self::Json => Flags::JSON,
            Self::Raw => Flags::RAW,
            Self::Msgpack => Flags::MSGPACK,
            Self::Gob => Flags::GOB,
        }
    }
}

/// Where workers call.
#[derive(Debug)]
pub(crate) enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

/// Serves until the task is ended.
pub(crate) async fn serve(listener: Listener, services: Arc<Services>) {
    loop {
        let accepted = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                // Without it small answers wait for each other; not having it harms nobody.
                drop(stream.set_nodelay(true));
                tokio::spawn(connection(stream, Arc::clone(&services)));
            }),
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(connection(stream, Arc::clone(&services)));
            }),
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "a connection of a worker's RPC was not accepted");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

/// One connection, to its end.
async fn connection<S>(stream: S, services: Arc<Services>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = tokio::io::split(stream);
    let (answers, outgoing) = mpsc::channel(AT_ONCE);
    let writing = tokio::spawn(answer(write, outgoing));
    if let Err(why) = calls(read, &services, answers).await {
        tracing::warn!("a worker's RPC connection is closed: {why}");
    }
    // The answers to what was read still leave; a writer that has failed has told so.
    drop(writing.await);
}

/// Reads calls and starts each.
async fn calls<R: AsyncRead + Unpin>(
    mut read: R,
    services: &Arc<Services>,
    answers: mpsc::Sender<Bytes>,
) -> Result<(), String> {
    let mut decoder = Decoder::new(LONGEST);
    let mut input = BytesMut::new();
    let mut chunk = vec![0; CHUNK];
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        while let Some(frame) = decoder.next(&mut input).map_err(|why| why.to_string())? {
            let call = frame.as_call().map_err(|why| why.to_string())?;
            let codec = Codec::of(frame.flags);
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return Ok(());
            };
            let (services, answers) = (Arc::clone(services), answers.clone());
            tokio::spawn(async move {
                let answer = respond(&services, codec, call).await;
                // A connection that is gone reads no answer.
                drop(answers.send(answer).await);
                drop(place);
            });
        }
        match read.read(&mut chunk).await {
            Ok(0) => return decoder.end(&input).map_err(|why| why.to_string()),
            Ok(count) => input.extend_from_slice(&chunk[..count]),
            Err(why) if why.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(why) => return Err(why.to_string()),
        }
    }
}

/// Writes answers, as many at once as there are.
async fn answer<W: AsyncWrite + Unpin>(mut write: W, mut answers: mpsc::Receiver<Bytes>) {
    while let Some(first) = answers.recv().await {
        let mut all = BytesMut::from(first);
        while let Ok(next) = answers.try_recv() {
            all.extend_from_slice(&next);
        }
        if write.write_all(&all).await.is_err() {
            return;
        }
    }
    // The other side may have closed before.
    drop(write.shutdown().await);
}

/// The answer to a call, as it goes over the wire.
async fn respond(services: &Services, codec: Codec, call: Call) -> Bytes {
    let Call { seq, method, body } = call;
    let (flags, body) = match services.call(&method, codec, body).await {
        Ok(body) => (codec.flags(), body),
        Err(text) => (codec.flags().and(Flags::ERROR), Bytes::from(text)),
    };
    let mut out = BytesMut::new();
    let frame = Frame::call(flags, seq, &method, &body).and_then(|frame| frame.encode(&mut out));
    if let Err(why) = frame {
        let flags = codec.flags().and(Flags::ERROR);
        let short = Frame::call(flags, seq, &method, why.to_string().as_bytes());
        // An error of a few words always fits.
        drop(short.and_then(|frame| frame.encode(&mut out)));
    }
    out.freeze()
}
