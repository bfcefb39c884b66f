//! What waits to be written on a link, and the loop that writes it: full frames under load, at once
//! when there is little, a sign of life when there is nothing.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::frame::{Envelope, frame, next_batch};
use super::hello::LinkError;

/// A link carries something this often.
pub(crate) const PING: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
struct Items {
    items: VecDeque<Envelope>,
    bytes: usize,
    closed: bool,
}

/// Envelopes on their way out.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    items: Mutex<Items>,
    wake: Notify,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Items> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, envelope: Envelope) {
        let mut items = self.lock();
        items.bytes += envelope.weight();
        items.items.push_back(envelope);
        drop(items);
        self.wake.notify_one();
    }

    /// How many envelopes and bytes wait.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let items = self.lock();
        (items.items.len(), items.bytes)
    }

    /// What is there is still written, then the loop ends.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    fn take(&self) -> (Vec<Envelope>, bool) {
        let mut items = self.lock();
        let batch = next_batch(&mut items.items);
        items.bytes -= batch.iter().map(Envelope::weight).sum::<usize>();
        (batch, items.closed)
    }

    /// Writes what comes until the queue is closed or the stream fails. When nothing comes, `idle`
    /// says what to write.
    pub(crate) async fn write_to<W: AsyncWrite + Unpin>(
        &self,
        to: &mut W,
        idle: impl Fn() -> Envelope,
    ) -> Result<(), LinkError> {
        let mut last = Instant::now();
        loop {
            let (batch, closed) = self.take();
            if !batch.is_empty() {
                to.write_all(&frame(&batch)).await?;
                last = Instant::now();
                continue;
            }
            to.flush().await?;
            if closed {
                to.shutdown().await?;
                return Ok(());
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = sleep_until(last + PING) => self.push(idle()),
            }
        }
    }
}
