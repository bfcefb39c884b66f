//! Who decides what is recorded, and the bounded queue of what was.

use crate::trace::context::{SAMPLED, SpanId, TraceContext, TraceId};
use crate::trace::span::Span;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::{Notify, mpsc};

/// Spans that may wait for their export or be on their way; beyond it the newest are dropped.
pub const QUEUE_SPANS: usize = 8192;
/// Spans sent at once.
pub(super) const BATCH_SPANS: usize = 512;

/// One more than the largest number of the bits that decide.
const ALL: u64 = 1 << 56;

/// Records what happens to events, or nothing. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    /// Trace ids whose low 56 bits are at least this are recorded.
    threshold: AtomicU64,
    /// Random numbers of threads are good enough for cores, this is for nodes.
    salt: u64,
    queue: Arc<Queue>,
    sender: mpsc::UnboundedSender<Vec<Span>>,
}

/// What the queue holds, and what became of spans.
#[derive(Debug, Default)]
pub(super) struct Queue {
    queued: AtomicUsize,
    /// A batch is there.
    is_full: Notify,
    exported: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

/// What has become of the spans so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SpanCounts {
    /// Taken by the collector.
    pub(crate) exported: u64,
    /// Dropped since the queue was full, or the node ended.
    pub(crate) dropped: u64,
    /// Sent, and not taken.
    pub(crate) failed: u64,
}

/// The other end of a tracer's queue.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(super) queue: Arc<Queue>,
    receiver: mpsc::UnboundedReceiver<Vec<Span>>,
}

impl Tracer {
    /// One that records nothing.
    pub const fn off() -> Self {
        Self(None)
    }

    /// One that records this share of the traces that begin here, and its queue's end.
    pub(crate) fn new(sampling: f64) -> (Self, Outlet) {
        let queue = Arc::new(Queue::default());
        let (sender, receiver) = mpsc::unbounded_channel();
        let tracer = Self(Some(Arc::new(Inner {
            threshold: AtomicU64::new(threshold(sampling)),
            salt: RandomState::new().hash_one(0),
            queue: Arc::clone(&queue),
            sender,
        })));
        (tracer, Outlet { queue, receiver })
    }

    /// Whether it records at all.
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Changes the share of traces that are recorded (`log.sampling`), from the next event on.
    pub(crate) fn set_sampling(&self, sampling: f64) {
        if let Some(inner) = &self.0 {
            inner
                .threshold
                .store(threshold(sampling), Ordering::Relaxed);
        }
    }

    /// A new trace, sampled or not; its span has no id yet. `None` if nothing is recorded.
    pub(super) fn begin(&self) -> Option<TraceContext> {
        let inner = self.0.as_ref()?;
        let trace_id = TraceId(fastrand::u128(1..) ^ u128::from(inner.salt) << 64);
        let is_sampled = is_sampled(trace_id, inner.threshold.load(Ordering::Relaxed));
        Some(TraceContext {
            trace_id,
            span_id: SpanId::default(),
            flags: if is_sampled { SAMPLED } else { 0 },
            state: None,
        })
    }

    /// Hands finished spans over, or drops them.
    pub(super) fn record(&self, spans: Vec<Span>) {
        let Some(inner) = &self.0 else {
            return;
        };
        let (queue, count) = (&inner.queue, spans.len());
        let before = queue.queued.fetch_add(count, Ordering::Relaxed);
        if before + count > QUEUE_SPANS || inner.sender.send(spans).is_err() {
            queue.queued.fetch_sub(count, Ordering::Relaxed);
            queue.dropped.fetch_add(count as u64, Ordering::Relaxed);
        } else if before < BATCH_SPANS && before + count >= BATCH_SPANS {
            queue.is_full.notify_one();
        }
    }

    /// What has become of its spans.
    pub(crate) fn counts(&self) -> SpanCounts {
        let counts = self.0.as_ref().map(|inner| inner.queue.counts());
        counts.unwrap_or_default()
    }
}

impl Queue {
    pub(super) fn counts(&self) -> SpanCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SpanCounts {
            exported: count(&self.exported),
            dropped: count(&self.dropped),
            failed: count(&self.failed),
        }
    }

    /// Waits until a batch is there.
    pub(super) async fn is_full(&self) {
        self.is_full.notified().await;
    }

    /// The collector has answered: so many of a batch it took, so many it did not.
    pub(super) fn sent(&self, exported: usize, failed: usize) {
        self.exported.fetch_add(exported as u64, Ordering::Relaxed);
        self.failed.fetch_add(failed as u64, Ordering::Relaxed);
        self.queued.fetch_sub(exported + failed, Ordering::Relaxed);
    }

    /// The node ends with spans in the queue; answers how many.
    pub(super) fn abandon(&self) -> usize {
        let left = self.queued.swap(0, Ordering::Relaxed);
        self.dropped.fetch_add(left as u64, Ordering::Relaxed);
        left
    }
}

impl Outlet {
    /// About a batch of what waits; empty if nothing does. It never waits itself, so that recording
    /// wakes nobody.
    pub(crate) fn take(&mut self) -> Vec<Span> {
        let mut batch = Vec::new();
        while batch.len() < BATCH_SPANS
            && let Ok(spans) = self.receiver.try_recv()
        {
            batch.extend(spans);
        }
        batch
    }
}

/// Ids from this on are recorded; the rule that OpenTelemetry's samplers agree on.
fn threshold(sampling: f64) -> u64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of 2^56 is exact enough, and clamped"
    )]
    let threshold = ((1.0 - sampling.clamp(0.0, 1.0)) * ALL as f64) as u64;
    threshold.min(ALL)
}

fn is_sampled(trace_id: TraceId, threshold: u64) -> bool {
    let [_, low @ ..] = (trace_id.0 as u64).to_be_bytes();
    let [a, b, c, d, e, f, g] = low;
    u64::from_be_bytes([0, a, b, c, d, e, f, g]) >= threshold
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::span::{Event, What};

    fn spans(count: usize) -> Vec<Span> {
        let span = |_| Span {
            trace_id: TraceId(1),
            id: SpanId(2),
            parent: SpanId(0),
            flags: 1,
            state: None,
            start: 1,
            end: 2,
            error: None,
            what: What::Listener(Box::new(Event::nothing())),
        };
        (0..count).map(span).collect()
    }

    #[test]
    fn the_trace_id_alone_decides_for_a_share() {
        let id = |low: u64| TraceId(u128::from(u64::MAX) << 64 | u128::from(low));
        let quarter = threshold(0.25);
        assert!(is_sampled(id(u64::MAX), quarter) && is_sampled(id(u64::MAX), threshold(1e-9)));
        assert!(!is_sampled(id(0), quarter) && is_sampled(id(0), threshold(1.0)));
        assert!(!is_sampled(id(u64::MAX), threshold(0.0)));
        // The upper byte of the lower half takes no part.
        assert!(!is_sampled(id(0xff << 56), quarter));
        let (edge, below) = (quarter, quarter - 1);
        assert!(is_sampled(id(edge), quarter) && !is_sampled(id(below), quarter));
    }

    #[test]
    fn about_the_share_of_new_traces_is_recorded() {
        let (tracer, _outlet) = Tracer::new(0.1);
        let begin = |tracer: &Tracer| tracer.begin().is_some_and(|it| it.is_sampled());
        let sampled = (0..10_000).filter(|_| begin(&tracer)).count();
        assert!((700..1300).contains(&sampled), "{sampled}");
        tracer.set_sampling(0.0);
        assert!(!(0..1000).any(|_| begin(&tracer)));
        tracer.set_sampling(1.0);
        assert!((0..1000).all(|_| begin(&tracer)));
        assert_eq!(Tracer::off().begin(), None);
    }

    #[test]
    fn the_newest_are_dropped_and_counted_where_the_queue_is_full() {
        let (tracer, mut outlet) = Tracer::new(1.0);
        for _ in 0..QUEUE_SPANS / 8 {
            tracer.record(spans(8));
        }
        tracer.record(spans(3));
        assert_eq!(tracer.counts().dropped, 3);
        let first = outlet.take();
        assert_eq!(first.len(), BATCH_SPANS);
        // What is on its way still has its place.
        tracer.record(spans(1));
        assert_eq!(tracer.counts().dropped, 4);
        outlet.queue.sent(500, 12);
        tracer.record(spans(BATCH_SPANS));
        let counts = tracer.counts();
        assert_eq!(
            (counts.exported, counts.failed, counts.dropped),
            (500, 12, 4)
        );
        assert_eq!(outlet.queue.abandon(), QUEUE_SPANS);
        assert_eq!(tracer.counts().dropped, 4 + QUEUE_SPANS as u64);
    }

    #[tokio::test]
    async fn a_batch_that_is_there_is_told_of() {
        let (tracer, mut outlet) = Tracer::new(1.0);
        tracer.record(spans(BATCH_SPANS - 1));
        tracer.record(spans(1));
        outlet.queue.is_full().await;
        assert_eq!(outlet.take().len(), BATCH_SPANS);
        assert!(outlet.take().is_empty());
    }
}
