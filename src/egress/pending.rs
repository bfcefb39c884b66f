//! The answer to a call, to be awaited or not.

use super::error::Error;
use bytes::Bytes;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

type Decode<T> = Box<dyn FnOnce(Bytes) -> Result<T, Error> + Send>;

/// The answer to a call that is queued already: calls leave in the order in which they were made,
/// whether their answers are awaited or not. Dropping it does not take the call back, but nobody
/// learns then how it went; see [`Publisher::cast`](super::Publisher::cast) for that.
#[must_use = "errors are lost unless it is awaited; `cast` and `publish_now` log them"]
pub struct Pending<T>(Inner<T>);

enum Inner<T> {
    Failed(Option<Error>),
    Plain(
        oneshot::Receiver<Result<Bytes, Error>>,
        fn(Bytes) -> Result<T, Error>,
    ),
    With(oneshot::Receiver<Result<Bytes, Error>>, Option<Decode<T>>),
}

impl<T> Pending<T> {
    /// A call that was not made.
    pub(super) const fn failed(error: Error) -> Self {
        Self(Inner::Failed(Some(error)))
    }

    /// A call whose result is decoded by a function.
    pub(super) const fn plain(
        answer: oneshot::Receiver<Result<Bytes, Error>>,
        decode: fn(Bytes) -> Result<T, Error>,
    ) -> Self {
        Self(Inner::Plain(answer, decode))
    }

    /// A call whose result needs to be known by more than its type.
    pub(super) fn with(
        answer: oneshot::Receiver<Result<Bytes, Error>>,
        decode: impl FnOnce(Bytes) -> Result<T, Error> + Send + 'static,
    ) -> Self {
        Self(Inner::With(answer, Some(Box::new(decode))))
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let closed = |answer: Result<_, _>| answer.unwrap_or(Err(Error::Closed));
        match &mut self.get_mut().0 {
            Inner::Failed(error) => Poll::Ready(Err(error.take().unwrap_or(Error::Closed))),
            Inner::Plain(answer, decode) => Pin::new(answer)
                .poll(cx)
                .map(|answer| closed(answer).and_then(*decode)),
            Inner::With(answer, decode) => Pin::new(answer).poll(cx).map(|answer| {
                let decode = decode.take().ok_or(Error::Closed)?;
                closed(answer).and_then(decode)
            }),
        }
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}
