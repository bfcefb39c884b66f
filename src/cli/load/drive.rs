//! Sends the events: at their times, or one after the other, with every answer counted.

use crate::cli::error::CliError;
use crate::cli::event::EventArgs;
use crate::cli::fire::client::Client;
use crate::cli::fire::stream;
use crate::cli::tally::{Ending, Tally, Times};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, sleep_until};

/// Events sent before others get their turn.
const BURST: usize = 64;
/// What a closed loop waits for after it reached nobody, so that it does not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// When events are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// So many a second, at fixed times, as long as no more than `most` are unanswered.
    Open {
        /// Events a second.
        rate: f64,
        /// Unanswered at once.
        most: usize,
    },
    /// So many at once.
    Closed(u32),
}

/// What has been counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// How events ended.
    pub(super) tally: Tally,
    /// Times of the last second, where it is told of.
    pub(super) recent: Times,
    /// How late this program sent what was due, which is part of the latencies.
    pub(super) lag: Times,
    /// Events that were due and not sent.
    pub(super) missed: u64,
    /// Events given up unanswered, by a second Ctrl-C.
    pub(super) abandoned: u64,
}

/// A run.
pub(super) struct Load {
    event: EventArgs,
    clients: Vec<Client>,
    /// When events are sent.
    pub(super) pace: Pace,
    /// How long.
    pub(super) stretch: Duration,
    timeout: Duration,
    counts: Mutex<Counts>,
    sent: AtomicU64,
    in_flight: AtomicUsize,
}

/// Counts an event in flight until it is dropped.
struct Flying(Arc<Load>);

impl Drop for Flying {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many events are due within this time, the first one at once.
fn arrivals(rate: f64, stretch: Duration) -> u64 {
    // What is due at the very end is not, however the product was rounded.
    ((rate * stretch.as_secs_f64() - 1e-6).ceil() as u64).max(1)
}

impl Load {
    pub(super) fn new(
        event: EventArgs,
        clients: Vec<Client>,
        pace: Pace,
        stretch: Duration,
        timeout: Duration,
    ) -> Self {
        Self {
            event,
            clients,
            pace,
            stretch,
            timeout,
            counts: Mutex::default(),
            sent: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
        }
    }

    /// What has been counted so far.
    pub(super) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Events unanswered now.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Over how many connections.
    pub(super) fn connections(&self) -> usize {
        self.clients.len()
    }

    /// Whom it calls.
    pub(super) fn address(&self) -> &str {
        self.clients.first().map_or("", Client::address)
    }

    /// Sends and waits for the answers; `stops` says how often the user wants to stop. Answers how
    /// long it took.
    ///
    /// # Errors
    /// An event can't be built.
    pub(super) async fn run(
        self: Arc<Self>,
        mut stops: watch::Receiver<u8>,
    ) -> Result<Duration, CliError> {
        let begun = Instant::now();
        let mut tasks = match self.pace {
            Pace::Open { rate, most } => self.open(rate, most, begun, &mut stops).await?,
            Pace::Closed(concurrency) => self.closed(concurrency, begun, &stops),
        };
        loop {
            tokio::select! {
                done = tasks.join_next() => match done {
                    Some(done) => done.map_err(CliError::internal)??,
                    None => break,
                },
                Ok(_) = stops.wait_for(|stops| *stops >= 2) => {
                    self.counts().abandoned = self.in_flight() as u64;
                    break;
                }
            }
        }
        Ok(begun.elapsed())
    }

    /// Sends each event when it is due, and leaves those that are unanswered when the time is over.
    async fn open(
        self: &Arc<Self>,
        rate: f64,
        most: usize,
        begun: Instant,
        stops: &mut watch::Receiver<u8>,
    ) -> Result<JoinSet<Result<(), CliError>>, CliError> {
        let total = arrivals(rate, self.stretch);
        let due = |number: u64| begun + Duration::from_secs_f64(number as f64 / rate);
        let last = begun + self.stretch + self.timeout;
        let mut tasks = JoinSet::new();
        let mut next = 0;
        while next < total {
            let mut burst = 0;
            while next < total && burst < BURST && due(next) <= Instant::now() {
                if self.in_flight() < most {
                    let ((flying, _), number, due) = (self.fly(), next, due(next));
                    tasks.spawn(async move { flying.0.one(number, due).await.map(drop) });
                } else {
                    self.counts().missed += 1;
                }
                next += 1;
                burst += 1;
            }
            if Instant::now() > last {
                // This machine is too slow to send them.
                self.counts().missed += total - next;
                break;
            }
            while let Some(done) = tasks.try_join_next() {
                done.map_err(CliError::internal)??;
            }
            if burst == BURST {
                yield_now().await;
            }
            if next < total {
                tokio::select! {
                    biased;
                    Ok(_) = stops.wait_for(|stops| *stops >= 1) => break,
                    () = sleep_until(due(next)) => {}
                }
            }
        }
        Ok(tasks)
    }

    /// Starts so many senders, each of which sends its next event when the last one is answered.
    fn closed(
        self: &Arc<Self>,
        concurrency: u32,
        begun: Instant,
        stops: &watch::Receiver<u8>,
    ) -> JoinSet<Result<(), CliError>> {
        let mut tasks = JoinSet::new();
        for _ in 0..concurrency {
            let (load, stops) = (Arc::clone(self), stops.clone());
            tasks.spawn(async move {
                let end = begun + load.stretch;
                while Instant::now() < end && *stops.borrow() == 0 {
                    let (flying, number) = load.fly();
                    let ending = flying.0.one(number, Instant::now()).await?;
                    drop(flying);
                    if ending == Ending::Unreachable {
                        sleep(PAUSE).await;
                    }
                }
                Ok(())
            });
        }
        tasks
    }

    /// Counts an event as sent and in flight; how many were sent before.
    fn fly(self: &Arc<Self>) -> (Flying, u64) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let before = self.sent.fetch_add(1, Ordering::Relaxed);
        (Flying(Arc::clone(self)), before)
    }

    /// Sends one event and counts how it ended, timed from when it was due.
    async fn one(&self, number: u64, due: Instant) -> Result<Ending, CliError> {
        let lag = due.elapsed();
        let event = self.event.numbered(number)?.build()?;
        let connection = usize::try_from(number).unwrap_or(0) % self.clients.len();
        let mut client = self.clients[connection].clone();
        let outcome = if event.kind.is_stream() {
            let opened = stream::open(&mut client, &event, Vec::new(), self.timeout).await;
            opened.map(|(first, _)| first)
        } else {
            client.call(&event, self.timeout).await.0
        };
        let took = due.elapsed();
        let ending = Ending::of(event.kind, &outcome);
        let mut counts = self.counts();
        counts.tally.count(ending, took);
        counts.lag.record(lag);
        if ending != Ending::Unreachable {
            counts.recent.record(took);
        }
        Ok(ending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_is_due_at_once_and_none_at_the_end() {
        let seconds = Duration::from_secs_f64;
        assert_eq!(arrivals(200.0, seconds(1.0)), 200);
        assert_eq!(arrivals(100.0, seconds(1.1)), 110);
        assert_eq!(arrivals(333.3, seconds(3.0)), 1000);
        assert_eq!(arrivals(0.1, seconds(1.0)), 1);
        assert_eq!(arrivals(0.1, seconds(10.1)), 2);
    }
}
