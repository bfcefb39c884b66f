//! The body of a call: one message, or a stream of them.

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::BoxStream;
use http_body::{Body, Frame, SizeHint};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The length of what stands before each message.
pub(super) const PREFIX: usize = 5;

/// Messages to send. One of a stream is asked for only when the peer has room for it; an error among
/// them resets the call with its reason.
pub(crate) enum Outgoing {
    /// One message, and with it the end.
    One(Option<Bytes>),
    /// Any number of them.
    Many(Option<BoxStream<'static, Result<Bytes, h2::Error>>>),
}

impl Outgoing {
    /// One message.
    pub(crate) fn one(message: &[u8]) -> Self {
        Self::One(Some(frame(message)))
    }

    /// A stream of messages.
    pub(crate) fn many(messages: BoxStream<'static, Result<Bytes, h2::Error>>) -> Self {
        Self::Many(Some(messages))
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").finish_non_exhaustive()
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match &mut *self {
            Self::One(message) => Poll::Ready(message.take().map(|it| Ok(Frame::data(it)))),
            Self::Many(None) => Poll::Ready(None),
            Self::Many(Some(messages)) => {
                let next = std::task::ready!(messages.as_mut().poll_next(cx));
                if !matches!(next, Some(Ok(_))) {
                    self.set(Self::Many(None));
                }
                Poll::Ready(next.map(|next| next.map(|message| Frame::data(frame(&message)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::One(None) | Self::Many(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::One(Some(message)) => SizeHint::with_exact(message.len() as u64),
            Self::One(None) | Self::Many(None) => SizeHint::with_exact(0),
            Self::Many(Some(_)) => SizeHint::default(),
        }
    }
}

/// A message with its prefix. Messages are bounded by whoever lets them in.
fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}
