//! The line to one worker: frames out, frames in, over a pair of pipes or a socket.
//!
//! A line is lent from event to event, and each core has a driver of its own. It is watched where it
//! is used: on another core than the last time it is registered there, which costs less than waking
//! one core from another for every answer. Reads and writes go straight to the descriptor.

use super::info::WorkerInfo;
use crate::goridge::{Decoder, Frame, FrameError};
use bytes::{Buf, BytesMut};
use rustix::io::Errno;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Handle, Id};

/// Bytes asked for by one read.
const CHUNK: usize = 16 * 1024;
/// What the system writes to a pipe in one piece, or not at all (`PIPE_BUF`).
const ATOMIC: usize = 4096;

/// Why a line is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The worker has closed its end, in words that RoadRunner's users know.
    #[error("Network: EOF")]
    Closed,
    /// It closed it within a frame.
    #[error("Network: unexpected EOF: {0}")]
    Cut(FrameError),
    /// What came is no frame.
    #[error("Network: {0}")]
    Frame(#[from] FrameError),
    /// The system refuses.
    #[error("Network: {0}")]
    Io(#[from] io::Error),
}

/// What a line is made of.
#[derive(Debug)]
pub(crate) enum Relay {
    /// The worker's stdout and stdin.
    Pipes(OwnedFd, Arc<OwnedFd>),
    /// A unix socket.
    Unix(std::os::unix::net::UnixStream),
    /// A TCP connection.
    Tcp(std::net::TcpStream),
}

/// The same, watched by the driver of a core.
#[derive(Debug)]
enum Watched {
    Pipes(pipe::Receiver, Arc<OwnedFd>),
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Watched {
    fn new(relay: Relay) -> io::Result<Self> {
        Ok(match relay {
            Relay::Pipes(read, write) => {
                Self::Pipes(pipe::Receiver::from_owned_fd_unchecked(read)?, write)
            }
            Relay::Unix(stream) => Self::Unix(UnixStream::from_std(stream)?),
            Relay::Tcp(stream) => Self::Tcp(TcpStream::from_std(stream)?),
        })
    }

    fn into_relay(self) -> io::Result<Relay> {
        Ok(match self {
            Self::Pipes(read, write) => Relay::Pipes(read.into_nonblocking_fd()?, write),
            Self::Unix(stream) => Relay::Unix(stream.into_std()?),
            Self::Tcp(stream) => Relay::Tcp(stream.into_std()?),
        })
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match self {
            Self::Pipes(_, write) => rustix::io::write(write, bytes),
            Self::Unix(stream) => rustix::io::write(stream, bytes),
            Self::Tcp(stream) => rustix::io::write(stream, bytes),
        }
    }

    async fn until_writable(&self) -> io::Result<()> {
        match self {
            // It is needed for big requests alone, so it is watched for as long as that.
            Self::Pipes(_, write) => {
                let write = pipe::Sender::from_owned_fd_unchecked(write.try_clone()?)?;
                write.writable().await
            }
            Self::Unix(stream) => stream.writable().await,
            Self::Tcp(stream) => stream.writable().await,
        }
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Pipes(read, _) => read.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
            Self::Tcp(stream) => stream.poll_read_ready(cx),
        }
    }

    fn read_now(&self, chunk: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Pipes(read, _) => rustix::io::read(read, chunk),
            Self::Unix(stream) => rustix::io::read(stream, chunk),
            Self::Tcp(stream) => rustix::io::read(stream, chunk),
        }
    }

    async fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Pipes(read, _) => read.read(chunk).await,
            Self::Unix(stream) => stream.read(chunk).await,
            Self::Tcp(stream) => stream.read(chunk).await,
        }
    }
}

/// The line to one worker.
pub(crate) struct Link {
    /// Whose line it is.
    pub(crate) worker: Arc<WorkerInfo>,
    /// `None` only after the system has refused to watch it.
    watched: Option<Watched>,
    /// Where it is watched.
    on: Id,
    decoder: Decoder,
    input: BytesMut,
    chunk: Box<[u8]>,
    output: BytesMut,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// A line over descriptors that do not block. Payloads beyond `limit` bytes are refused.
    ///
    /// # Errors
    /// The system does not watch them.
    pub(crate) fn new(worker: Arc<WorkerInfo>, relay: Relay, limit: usize) -> io::Result<Self> {
        Ok(Self {
            worker,
            watched: Some(Watched::new(relay)?),
            on: Handle::current().id(),
            decoder: Decoder::new(limit),
            input: BytesMut::new(),
            chunk: vec![0; CHUNK].into(),
            output: BytesMut::new(),
        })
    }

    /// What is to be written; empty when all of it has been.
    pub(crate) const fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Writes what is there. What fits a pipe that is empty goes in one piece, so that what follows
    /// a request (the fence) is there with it or not at all.
    ///
    /// # Errors
    /// The worker does not read any more.
    pub(crate) async fn flush(&mut self) -> Result<(), LinkError> {
        while !self.output.is_empty() {
            let line = here(&mut self.watched, &mut self.on)?;
            match line.write(&self.output) {
                Ok(written) => self.output.advance(written),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => line.until_writable().await?,
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        }
        Ok(())
    }

    /// The next frame.
    ///
    /// # Errors
    /// The worker has closed its end, or what came is no frame.
    pub(crate) async fn frame(&mut self) -> Result<Frame, LinkError> {
        loop {
            if let Some(frame) = self.frame_now()? {
                return Ok(frame);
            }
            let line = here(&mut self.watched, &mut self.on)?;
            match line.read(&mut self.chunk).await? {
                0 => {
                    return Err(match self.decoder.end(&self.input) {
                        Ok(()) => LinkError::Closed,
                        Err(noise @ (FrameError::Noise(_) | FrameError::NoScript(_))) => {
                            noise.into()
                        }
                        Err(cut) => LinkError::Cut(cut),
                    });
                }
                read => self.input.extend_from_slice(&self.chunk[..read]),
            }
        }
    }

    /// The next frame, if it has come already; does not wait.
    ///
    /// # Errors
    /// As for [`Link::frame`].
    pub(crate) fn frame_now(&mut self) -> Result<Option<Frame>, LinkError> {
        let frame = self.decoder.next(&mut self.input)?;
        if let Some(version) = self.decoder.odd_version() {
            let (pool, pid) = (self.worker.pool(), self.worker.pid);
            tracing::warn!(
                pool,
                pid,
                version,
                "a worker's frames are not of version 1; they are taken"
            );
        }
        Ok(frame)
    }

    /// How many bytes the worker has said unasked; 0 if it is gone, `None` if all is quiet. Where the
    /// core has looked already it is believed.
    pub(crate) fn said_unasked(&mut self) -> Option<usize> {
        let quiet = self.input.is_empty();
        if let (true, Some(watched)) = (self.on == Handle::current().id(), &self.watched) {
            let mut cx = Context::from_waker(Waker::noop());
            if watched.poll_read_ready(&mut cx).is_pending() && quiet {
                return None;
            }
        }
        let read = self.watched.as_ref().map(|it| it.read_now(&mut self.chunk));
        match read {
            Some(Err(Errno::AGAIN | Errno::INTR)) if quiet => None,
            Some(Ok(read)) => Some(self.input.len() + read),
            _ => Some(self.input.len()),
        }
    }

    /// Whether these bytes reach a pipe that is empty in one piece.
    pub(crate) const fn is_atomic(bytes: usize) -> bool {
        bytes <= ATOMIC
    }
}

/// The line, watched on this core.
fn here<'l>(watched: &'l mut Option<Watched>, on: &mut Id) -> io::Result<&'l mut Watched> {
    let core = Handle::current().id();
    if *on != core
        && let Some(line) = watched.take()
    {
        *watched = Some(Watched::new(line.into_relay()?)?);
        *on = core;
    }
    let gone = || io::Error::other("the line can't be watched any more");
    watched.as_mut().ok_or_else(gone)
}
