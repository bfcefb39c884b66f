//! What waits to be written on a link, and the loop that writes it: full frames under load, at once
//! when there is little, a sign of life when there is nothing.
//!
//! What flows in streams has a lane of its own. While both lanes have something their frames take
//! turns, so that however many streams are full, an answer waits behind one frame of theirs. Nothing
//! of a stream overtakes the envelope that opens it.

use std::collections::VecDeque;
use std::pin::pin;
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
    /// How many have ever flowed, and of those how many came before each stream that is about to
    /// open: the rest waits for it.
    flowed: u64,
    barriers: VecDeque<u64>,
    /// The last frame was one of the first lane.
    turn: bool,
    bytes: usize,
    closed: bool,
}

impl Items {
    fn push(&mut self, envelope: Envelope) {
        self.bytes += envelope.weight();
        if envelope.flows() {
            self.flowing.push_back(envelope);
            return;
        }
        if matches!(envelope, Envelope::StreamOpened { .. }) {
            self.barriers
                .push_back(self.flowed + self.flowing.len() as u64);
        }
        self.items.push_back(envelope);
    }

    /// What goes into the next frame.
    fn take(&mut self) -> Vec<Envelope> {
        let may_flow = match self.barriers.front() {
            Some(barrier) => usize::try_from(barrier - self.flowed).unwrap_or(usize::MAX),
            None => self.flowing.len(),
        };
        let flows = may_flow > 0 && (self.turn || self.items.is_empty());
        self.turn = !flows;
        let batch = if flows {
            next_batch(&mut self.flowing, may_flow)
        } else {
            next_batch(&mut self.items, usize::MAX)
        };
        if flows {
            self.flowed += batch.len() as u64;
        }
        for envelope in &batch {
            self.bytes -= envelope.weight();
            if matches!(envelope, Envelope::StreamOpened { .. }) {
                self.barriers.pop_front();
            }
        }
        batch
    }
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
        self.put(envelope);
        self.wake();
    }

    /// The same without waking who writes: whoever holds a lock meanwhile does that after it.
    pub(crate) fn put(&self, envelope: Envelope) {
        self.lock().push(envelope);
    }

    /// There is something to write.
    pub(crate) fn wake(&self) {
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
        let batch = items.take();
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
        // Set once; when it is over it is set anew, if something was written meanwhile.
        let mut quiet = pin!(sleep_until(last + PING));
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
                () = &mut quiet => {
                    if last + PING <= Instant::now() {
                        last = Instant::now();
                        self.put(idle());
                    }
                    quiet.as_mut().reset(last + PING);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn message(id: u64, bytes: usize) -> Envelope {
        Envelope::StreamData {
            id,
            payload: Bytes::from(vec![0; bytes]),
        }
    }

    fn opens(id: u64) -> Envelope {
        Envelope::StreamOpened {
            id,
            load: 0,
            payload: Bytes::new(),
        }
    }

    #[test]
    fn an_answer_waits_behind_one_frame_of_streams_however_many_are_full() {
        let queue = Queue::default();
        (0..1000).for_each(|id| queue.push(message(id, 32 * 1024)));
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

    proptest! {
        #[test]
        fn nothing_of_a_stream_overtakes_its_opening_and_each_lane_keeps_its_order(
            steps in prop::collection::vec((0u8..5, 0usize..3, any::<prop::sample::Index>()), 0..600),
        ) {
            let queue = Queue::default();
            let (mut opened, mut sent) = (0, Vec::new());
            let mut first = Vec::new();
            let mut flowing = Vec::new();
            for (step, size, which) in steps {
                let envelope = match step {
                    0 => {
                        opened += 1;
                        opens(opened)
                    }
                    1 | 2 if opened > 0 => {
                        message(1 + which.index(opened as usize) as u64, size * 30_000)
                    }
                    3 => Envelope::Ping,
                    _ => {
                        sent.extend(queue.take().0);
                        continue;
                    }
                };
                if envelope.flows() { &mut flowing } else { &mut first }.push(envelope.clone());
                queue.push(envelope);
            }
            while queue.waiting().0 > 0 {
                let batch = queue.take().0;
                prop_assert!(!batch.is_empty(), "something goes while something waits");
                sent.extend(batch);
            }
            let mut open = HashSet::new();
            for envelope in &sent {
                match envelope {
                    Envelope::StreamOpened { id, .. } => prop_assert!(open.insert(*id)),
                    Envelope::StreamData { id, .. } => prop_assert!(open.contains(id)),
                    _ => {}
                }
            }
            let (flowed, other): (Vec<_>, Vec<_>) = sent.into_iter().partition(Envelope::flows);
            prop_assert_eq!((flowed, other), (flowing, first));
            prop_assert_eq!(queue.waiting(), (0, 0));
        }
    }
}
