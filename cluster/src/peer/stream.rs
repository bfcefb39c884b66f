//! The two ends of a stream: what a user holds of it.
//!
//! A stream is two directions, each with a window of its own and ended on its own: finished by its
//! writer with a last message, dropped by its writer, or cancelled by its reader. It lives as long as
//! the link that it was accepted on (R12 brings back requests, not streams): when that is lost, both
//! ends of both directions learn why, and whoever asked for the stream asks again.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::pipe::Pipe;

/// The largest last message, in bytes. It goes beyond the window.
pub const FINAL_MAX: usize = 64 * 1024;

/// Why a stream has ended, or takes a message no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The other end went away before it had finished.
    #[error("the other end of the stream was dropped before it had finished")]
    Dropped,
    /// The other end reads no more.
    #[error("the other end reads this stream no more")]
    Cancelled,
    /// The link is lost, and the stream with it.
    #[error("the link of the stream was lost: {0}")]
    Lost(Arc<str>),
    /// The peer's life is over.
    #[error("the peer of the stream is gone")]
    Gone,
    /// It was finished before.
    #[error("the stream is over")]
    Over,
    /// The message is too large: it was not sent, and the stream goes on.
    #[error("{length} bytes: this message of a stream has at most {limit}")]
    TooLarge {
        /// Its length in bytes.
        length: usize,
        /// What is allowed, in bytes.
        limit: usize,
    },
}

/// What comes out of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamItem {
    /// A message.
    Message(Bytes),
    /// The other end has finished, with this.
    Finished(Bytes),
}

/// A stream that the receiver of a request has accepted.
#[derive(Debug)]
pub struct OpenStream {
    /// What it was accepted with.
    pub first: Bytes,
    /// How much the peer has in flight.
    pub load: u32,
    /// The way there.
    pub tx: StreamTx,
    /// The way back.
    pub rx: StreamRx,
}

/// The writing end of one direction. Dropped before it has finished, it tells the other end so.
pub struct StreamTx {
    pipe: Arc<Pipe>,
    limit: usize,
}

/// The reading end of one direction. Dropped, it tells the other end that nobody reads any more.
pub struct StreamRx {
    pipe: Arc<Pipe>,
}

pub(super) fn ends(pipe: &Arc<Pipe>, limit: usize) -> (StreamTx, StreamRx) {
    let tx = StreamTx {
        pipe: Arc::clone(pipe),
        limit,
    };
    let rx = StreamRx {
        pipe: Arc::clone(pipe),
    };
    (tx, rx)
}

impl StreamTx {
    /// Sends a message, once there is room in the window: 32 messages or 256 KiB that the other end
    /// has not read, or nothing at all for a larger one. Dropped before it is done, nothing was sent.
    ///
    /// # Errors
    /// If the stream has ended, or the message is larger than a payload may be.
    pub async fn send(&mut self, message: Bytes) -> Result<(), StreamError> {
        poll_fn(|cx| self.poll_ready(cx, message.len())).await?;
        self.pipe.send(message).map(|_| ())
    }

    /// Whether a message of so many bytes may go now; if not, the task is woken when that changes.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn poll_ready(
        &mut self,
        cx: &mut Context<'_>,
        bytes: usize,
    ) -> Poll<Result<(), StreamError>> {
        match self.fits(bytes, self.limit) {
            Ok(()) => self.pipe.poll_ready(cx, bytes),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Sends a message if there is room now: whether it was sent.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn try_send(&mut self, message: Bytes) -> Result<bool, StreamError> {
        self.fits(message.len(), self.limit)?;
        self.pipe.send(message)
    }

    /// Ends this direction cleanly, with a last message of up to [`FINAL_MAX`] bytes that need not
    /// wait for room. The other direction goes on.
    ///
    /// # Errors
    /// If the stream has ended, or the message is too large: then the direction is dropped.
    pub fn finish(self, last: Bytes) -> Result<(), StreamError> {
        self.fits(last.len(), FINAL_MAX)?;
        self.pipe.finish(last)
    }

    /// Waits until the other end reads no more, or the stream is lost.
    pub async fn closed(&mut self) -> StreamError {
        poll_fn(|cx| self.pipe.poll_closed(cx)).await
    }

    fn fits(&self, length: usize, limit: usize) -> Result<(), StreamError> {
        if length > limit {
            return Err(StreamError::TooLarge { length, limit });
        }
        Ok(())
    }
}

impl StreamRx {
    /// The next message. What has come is handed out before an error. Dropped before it is done,
    /// nothing is lost.
    ///
    /// # Errors
    /// If the other end was dropped, or the link is lost; after the last message that it is over.
    pub async fn recv(&mut self) -> Result<StreamItem, StreamError> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The same, polled.
    ///
    /// # Errors
    /// As [`Self::recv`].
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<StreamItem, StreamError>> {
        self.pipe.poll_recv(cx)
    }
}

impl Drop for StreamTx {
    fn drop(&mut self) {
        self.pipe.drop_tx();
    }
}

impl Drop for StreamRx {
    fn drop(&mut self) {
        self.pipe.drop_rx();
    }
}

impl fmt::Debug for StreamTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StreamTx").field(&self.pipe.id()).finish()
    }
}

impl fmt::Debug for StreamRx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StreamRx").field(&self.pipe.id()).finish()
    }
}
