//! Runs a piece of user code: panics are caught, the deadline and the caller's leaving end it.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep, sleep_until};

/// How a guarded piece of user code ended.
#[derive(Debug)]
pub(crate) enum Ended<T> {
    /// With its own result.
    Done(T),
    /// By a panic, with its message.
    Panicked(String),
    /// Dropped at the deadline.
    Deadline,
    /// Dropped since the caller went away.
    Cancelled,
}

/// What may end a piece of user code from outside.
pub(crate) trait Limits {
    /// When the code is dropped.
    fn limit(&self) -> Instant;
    /// Ready once nobody waits for the result any more.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Runs `code` until it is done, panics, or one of the limits is reached. The timer is made only
/// for code that has to wait.
pub(crate) async fn guarded<F: Future>(code: F, limits: &mut impl Limits) -> Ended<F::Output> {
    let mut code = pin!(Some(code));
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    let ended = poll_fn(|cx| {
        let Some(running) = code.as_mut().as_pin_mut() else {
            return Poll::Ready(Ended::Cancelled);
        };
        match poll_caught(running, cx) {
            Poll::Ready(Ok(done)) => return Poll::Ready(Ended::Done(done)),
            Poll::Ready(Err(message)) => return Poll::Ready(Ended::Panicked(message)),
            Poll::Pending => {}
        }
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(limits.limit())));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ended::Deadline);
        }
        if limits.poll_gone(cx).is_ready() {
            return Poll::Ready(Ended::Cancelled);
        }
        Poll::Pending
    })
    .await;
    drop_caught(|| code.set(None));
    ended
}

/// Drops user code with panics caught: whatever its destructors do, the event is answered and the
/// next one runs.
pub(crate) fn drop_caught(release: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(release)) {
        let message = panic_message(panic.as_ref());
        tracing::error!(message, "a handler or stage panicked while it was dropped");
    }
}

/// Polls once with panics caught; a future that panicked must not be polled again.
pub(crate) fn poll_caught<F: Future + ?Sized>(
    code: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, String>> {
    match catch_unwind(AssertUnwindSafe(|| code.poll(cx))) {
        Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panic) => Poll::Ready(Err(panic_message(panic.as_ref()))),
    }
}

/// The text of a panic, as far as it has one.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without text".to_owned()
    }
}
