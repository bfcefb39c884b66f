//! Many events at a bounded concurrency, and how they fared.

use super::FireArgs;
use super::client::{Client, Failed, code_name};
use crate::cli::error::{CliError, Exit};
use crate::cli::{meaning, output};
use crate::json::response_to_json;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How the calls fared.
#[derive(Debug, Default)]
struct Tally {
    /// A message said yes.
    ok: u32,
    /// A message said no.
    rejected: u32,
    /// A status came instead, by its name.
    failed: BTreeMap<&'static str, u32>,
    took: Vec<Duration>,
}

pub(super) async fn run(client: &Client, args: &FireArgs) -> Result<(), CliError> {
    let left = Arc::new(AtomicU32::new(args.count));
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..args.concurrency.min(args.count) {
        let (mut client, left) = (client.clone(), Arc::clone(&left));
        let (event, timeout) = (args.event.clone(), args.timeout);
        tasks.spawn(async move {
            let mut tally = Tally::default();
            while take(&left) {
                let event = event.build()?;
                let (outcome, took) = client.call(&event, timeout).await;
                tally.took.push(took);
                match outcome {
                    Ok(message) => {
                        let reply = response_to_json(event.kind, &message).unwrap_or_default();
                        let reply: Value = serde_json::from_str(&reply).unwrap_or_default();
                        match meaning::is_refusal(event.kind, &reply) {
                            true => tally.rejected += 1,
                            false => tally.ok += 1,
                        }
                    }
                    Err(Failed::Status(status)) => {
                        *tally.failed.entry(code_name(status.code())).or_default() += 1;
                    }
                    // The others see it as well.
                    Err(Failed::Unreachable(error)) => return Err(error),
                }
            }
            Ok(tally)
        });
    }
    let mut all = Tally::default();
    while let Some(joined) = tasks.join_next().await {
        all.add(joined.map_err(CliError::internal)??);
    }
    all.report(client.address(), begun.elapsed(), args)
}

/// Takes one of the events that are left.
fn take(left: &AtomicU32) -> bool {
    let less = |left: u32| left.checked_sub(1);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.ok += other.ok;
        self.rejected += other.rejected;
        for (code, count) in other.failed {
            *self.failed.entry(code).or_default() += count;
        }
        self.took.extend(other.took);
    }

    fn report(mut self, address: &str, elapsed: Duration, args: &FireArgs) -> Result<(), CliError> {
        self.took.sort_unstable();
        let (p50, p99) = (self.quantile(0.5), self.quantile(0.99));
        let longest = self.quantile(1.0);
        let rate = self.took.len() as f64 / elapsed.as_secs_f64().max(1e-9);
        let failed: u32 = self.failed.values().sum();
        if args.json {
            output::say_json(&json!({
                "event": args.event.kind.name(), "to": address,
                "ok": self.ok, "rejected": self.rejected, "failed": failed,
                "statuses": self.failed, "rate": rate.round(),
                "p50_ms": output::milliseconds(p50), "p99_ms": output::milliseconds(p99),
                "max_ms": output::milliseconds(longest),
            }));
        } else {
            let statuses = self
                .failed
                .iter()
                .map(|(code, count)| format!(" {code} {count}"));
            output::say(&format!(
                "ok {}, rejected {}, failed {failed}{}",
                self.ok,
                self.rejected,
                statuses.collect::<Vec<_>>().concat(),
            ));
            output::say(&format!(
                "p50 {}, p99 {}, max {}; {rate:.0} a second, {} at once ({address})",
                output::time(p50),
                output::time(p99),
                output::time(longest),
                args.concurrency,
            ));
        }
        if failed == 0 {
            return Ok(());
        }
        if args.json {
            return Err(CliError::Said(Exit::Failed));
        }
        let what = format!("fire {}", args.event.kind);
        let why = format!(
            "{failed} of {} calls ended with a gRPC status",
            self.took.len()
        );
        let help = "fire one of them alone, or see the node's log";
        Err(CliError::new(Exit::Failed, what, why, help))
    }

    /// The time within which this part of the calls was answered.
    fn quantile(&self, part: f64) -> Duration {
        let last = self.took.len().saturating_sub(1);
        let at = (last as f64 * part).ceil() as usize;
        self.took.get(at.min(last)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let took = (1..=100).map(Duration::from_millis).collect();
        let tally = Tally {
            took,
            ..Tally::default()
        };
        assert_eq!(tally.quantile(0.5), Duration::from_millis(51));
        assert_eq!(tally.quantile(0.99), Duration::from_millis(100));
        assert_eq!(tally.quantile(1.0), Duration::from_millis(100));
        assert_eq!(Tally::default().quantile(0.5), Duration::ZERO);
    }

    #[test]
    fn no_more_events_are_taken_than_there_are() {
        let left = AtomicU32::new(2);
        assert_eq!([take(&left), take(&left), take(&left)], [true, true, false]);
    }
}
