//! Whether a node's workers make progress. It outlives the lives of a node: a worker that is stuck in
//! one of them is stuck in the next.

use std::time::Duration;

use super::Reading;

/// A worker without a tick for so long is stalled.
const STALLED: Duration = Duration::from_secs(1);
/// One worker stalled for so long is stuck.
const STUCK: Duration = Duration::from_secs(10);

/// When each worker of a node has ticked last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress(Vec<Reading>);

impl Progress {
    /// So many workers, which have all ticked just now.
    pub fn new(workers: usize, now: Reading) -> Self {
        Self(vec![now; workers])
    }

    /// A worker has ticked. One that there is not is passed over.
    pub fn worked(&mut self, worker: usize, now: Reading) {
        if let Some(last) = self.0.get_mut(worker) {
            *last = now;
        }
    }

    /// The first worker that has not ticked for 1 s.
    pub fn stalled(&self, now: Reading) -> Option<usize> {
        self.spans(now).position(|span| span > STALLED)
    }

    /// Whether it is enough to act for slots: not all workers are stalled, and none for 10 s.
    pub fn is_enough(&self, now: Reading) -> bool {
        let all = !self.0.is_empty() && self.spans(now).all(|span| span > STALLED);
        !all && self.spans(now).all(|span| span <= STUCK)
    }

    fn spans(&self, now: Reading) -> impl Iterator<Item = Duration> {
        self.0.iter().map(move |last| now.longest_since(*last))
    }
}
