//! Many events at a bounded concurrency, and how they fared.

use super::FireArgs;
use super::client::{Client, Failed};
use crate::cli::error::{CliError, Exit};
use crate::cli::output;
use crate::cli::tally::{Ending, Tally};
use serde_json::json;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub(super) async fn run(client: &Client, args: &FireArgs) -> Result<(), CliError> {
    let left = Arc::new(AtomicU32::new(args.count));
    let tally = Arc::new(Mutex::new(Tally::default()));
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..args.concurrency.min(args.count) {
        let (mut client, left, tally) = (client.clone(), Arc::clone(&left), Arc::clone(&tally));
        let (event, timeout) = (args.event.clone(), args.timeout);
        tasks.spawn(async move {
            while take(&left) {
                let event = event.build()?;
                let (outcome, took) = client.call(&event, timeout).await;
                let ending = Ending::of(event.kind, &outcome);
                if let Err(Failed::Unreachable(error)) = outcome {
                    // The others see it as well.
                    return Err(error);
                }
                let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                tally.count(ending, took);
            }
            Ok(())
        });
    }
    while let Some(joined) = tasks.join_next().await {
        joined.map_err(CliError::internal)??;
    }
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    report(&tally, client.address(), begun.elapsed(), args)
}

/// Takes one of the events that are left.
fn take(left: &AtomicU32) -> bool {
    let less = |left: u32| left.checked_sub(1);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

fn report(
    tally: &Tally,
    address: &str,
    elapsed: Duration,
    args: &FireArgs,
) -> Result<(), CliError> {
    let times = &tally.times;
    let (p50, p99, longest) = (times.quantile(0.5), times.quantile(0.99), times.max());
    let (answered, failed) = (tally.answered(), tally.failed());
    let rate = answered as f64 / elapsed.as_secs_f64().max(1e-9);
    if args.json {
        output::say_json(&json!({
            "event": args.event.kind.name(), "to": address,
            "ok": tally.ok, "rejected": tally.rejected(), "failed": failed,
            "statuses": tally.statuses(), "rate": rate.round(),
            "p50_ms": output::milliseconds(p50), "p99_ms": output::milliseconds(p99),
            "max_ms": output::milliseconds(longest),
        }));
    } else {
        let statuses = tally.statuses().iter();
        let statuses = statuses.map(|(code, count)| format!(" {code} {count}"));
        output::say(&format!(
            "ok {}, rejected {}, failed {failed}{}",
            tally.ok,
            tally.rejected(),
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
    let why = format!("{failed} of {answered} calls ended with a gRPC status");
    let help = "fire one of them alone, or see the node's log";
    Err(CliError::new(Exit::Failed, what, why, help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_events_are_taken_than_there_are() {
        let left = AtomicU32::new(2);
        assert_eq!([take(&left), take(&left), take(&left)], [true, true, false]);
    }
}
