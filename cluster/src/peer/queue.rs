//! What waits to be written on a link, and the loop that writes it: full frames under load, at once
//! when there is little, a sign of life when there is nothing.
//!
//! What flows in streams has a lane of its own. While both lanes have something their frames take
//! turns, so that however many streams are full, an answer waits behind one frame of theirs.

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
    flowing: VecDeque<Envelope>,
    /// The last frame was one of the first lane.
    turn: bool,
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
        if envelope.flows() {
            items.flowing.push_back(envelope);
        } else {
            items.items.push_back(envelope);
        }
        drop(items);
        self.wake.notify_one();
    }

    /// How many envelopes and bytes wait.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let items = self.lock();
        (items.items.len() + items.flowing.len(), items.bytes)
    }

    /// What is there is still written, then the loop ends.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    fn take(&self) -> (Vec<Envelope>, bool) {
        let mut items = self.lock();
        let flows = !items.flowing.is_empty() && (items.turn || items.items.is_empty());
        items.turn = !flows;
        let batch = next_batch(if flows {
            &mut items.flowing
        } else {
            &mut items.items
        });
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn an_answer_waits_behind_one_frame_of_streams_however_many_are_full() {
        let queue = Queue::default();
        let message = |id| Envelope::StreamData {
            id,
            payload: Bytes::from(vec![0; 32 * 1024]),
        };
        (0..1000).for_each(|id| queue.push(message(id)));
        assert!(queue.take().0.iter().all(Envelope::flows));
        queue.push(Envelope::Accepted { id: 1 });
        assert_eq!(queue.take().0, [Envelope::Accepted { id: 1 }]);
        // And streams go on however many answers there are.
        (0..1000).for_each(|id| queue.push(Envelope::Accepted { id }));
        let flows: Vec<bool> = (0..8).map(|_| queue.take().0[0].flows()).collect();
        assert_eq!(flows.iter().filter(|flows| **flows).count(), 4, "{flows:?}");
        while !queue.take().0.is_empty() {}
        assert_eq!(queue.waiting(), (0, 0));
    }
}
