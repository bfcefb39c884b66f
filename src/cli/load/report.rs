//! How a run goes, and the summary at its end.

use super::LoadArgs;
use super::drive::{Load, Pace};
use crate::cli::error::{CliError, Exit};
use crate::cli::output;
use crate::cli::tally::Times;
use crate::event::EventKind;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fmt::Write;
use std::time::Duration;
use tokio::time::{Instant, interval_at};

/// The quantiles told, by their names in JSON.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999)];

/// Where a run is told of each second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// One line of a terminal, written over.
    Live,
    /// A line each.
    Lines,
}

/// Tells each second on stderr how it goes.
pub(super) async fn tell(load: &Load, progress: Option<Progress>) -> Infallible {
    let Some(progress) = progress else {
        return std::future::pending().await;
    };
    let second = Duration::from_secs(1);
    let begun = Instant::now();
    let mut ticks = interval_at(begun + second, second);
    let mut last = begun;
    loop {
        let now = ticks.tick().await;
        let line = line(load, begun.elapsed(), now - last);
        last = now;
        match progress {
            Progress::Live => eprint!("\r\x1b[K{line}"),
            Progress::Lines => eprintln!("{line}"),
        }
    }
}

/// Takes the live line away.
pub(super) fn clear(progress: Option<Progress>) {
    if progress == Some(Progress::Live) {
        eprint!("\r\x1b[K");
    }
}

/// The last second in a line.
fn line(load: &Load, elapsed: Duration, since: Duration) -> String {
    let mut counts = load.counts();
    let rate = counts.recent.count() as f64 / since.as_secs_f64().max(1e-9);
    let (p50, p99) = (counts.recent.quantile(0.5), counts.recent.quantile(0.99));
    counts.recent.clear();
    let errors = counts.tally.failed() + counts.tally.unreachable;
    let mut line = format!(
        "{:>4} s  {rate:.0} a second  p50 {}  p99 {}  refused {}  errors {errors}  in flight {}",
        elapsed.as_secs(),
        output::time(p50),
        output::time(p99),
        counts.tally.rejected(),
        load.in_flight(),
    );
    if counts.missed > 0 {
        let _infallible = write!(line, "  missed {}", counts.missed);
    }
    line
}

/// Prints what became of the events, and ends as they did.
pub(super) fn summary(
    load: &Load,
    kind: EventKind,
    elapsed: Duration,
    args: &LoadArgs,
) -> Result<(), CliError> {
    if args.json {
        output::say_json(&object(load, kind, elapsed));
    } else {
        say(load, kind, elapsed);
    }
    let counts = load.counts();
    let tally = &counts.tally;
    let failed = tally.failed() + tally.unreachable;
    if failed + counts.missed + counts.abandoned == 0 {
        return Ok(());
    }
    let nobody = tally.answered() == 0 && tally.unreachable > 0;
    let exit = if nobody {
        Exit::Unreachable
    } else {
        Exit::Failed
    };
    if args.json {
        return Err(CliError::Said(exit));
    }
    let mut whys = Vec::new();
    for (count, why) in [
        (failed, "ended without a message"),
        (counts.missed, "were never sent"),
        (counts.abandoned, "were given up"),
    ] {
        if count > 0 {
            whys.push(format!("{count} {why}"));
        }
    }
    let due = load.sent() + counts.missed;
    let why = format!("of {due} events {}", whys.join(", "));
    let help = "fire one of them alone, or see the node's log and its /metrics";
    let what = format!("load {kind}");
    Err(CliError::new(exit, what, why, help))
}

fn say(load: &Load, kind: EventKind, elapsed: Duration) {
    let counts = load.counts();
    let (tally, seconds) = (&counts.tally, elapsed.as_secs_f64().max(1e-9));
    let connections = match load.connections() {
        1 => "1 connection".to_owned(),
        count => format!("{count} connections"),
    };
    let pace = match load.pace {
        Pace::Open { rate, .. } => format!("{rate} a second asked for"),
        Pace::Closed(concurrency) => format!("{concurrency} at once"),
    };
    output::say(&format!(
        "sent     {} {kind} events in {}, {pace} ({}, {connections})",
        load.sent(),
        output::time(elapsed),
        load.address(),
    ));
    output::say(&format!(
        "answered {}, {:.1} a second: {}",
        tally.answered(),
        tally.answered() as f64 / seconds,
        tally.words(),
    ));
    if counts.missed > 0 {
        let most = match load.pace {
            Pace::Open { most, .. } => most,
            Pace::Closed(_) => 0,
        };
        output::say(&format!(
            "missed   {}: they were due while {most} were unanswered (--max-in-flight), or this \
             machine was too slow to send them",
            counts.missed
        ));
    }
    if counts.abandoned > 0 {
        output::say(&format!("given up {} unanswered", counts.abandoned));
    }
    output::say(&format!("latency  {}", latency(&tally.times)));
    output::say(&match load.pace {
        Pace::Open { .. } => format!(
            "         from when each event was due, so what had to wait for a stall counts; of it p99 \
             {}, max {} are this program's own lateness",
            output::time(counts.lag.quantile(0.99)),
            output::time(counts.lag.max()),
        ),
        Pace::Closed(_) => {
            "         of the answers alone: what would have come during a stall was never sent, so \
             under overload this understates what clients wait; see --rate"
                .to_owned()
        }
    });
}

fn latency(times: &Times) -> String {
    let mut text = format!(
        "min {}, mean {}",
        output::time(times.min()),
        output::time(times.mean())
    );
    for (name, part) in QUANTILES {
        let name = name.replace('_', ".");
        let _infallible = write!(text, ", {name} {}", output::time(times.quantile(part)));
    }
    let _infallible = write!(text, ", max {}", output::time(times.max()));
    text
}

fn object(load: &Load, kind: EventKind, elapsed: Duration) -> Value {
    let counts = load.counts();
    let (tally, times) = (&counts.tally, &counts.tally.times);
    let mut object = json!({
        "event": kind.name(),
        "to": load.address(),
        "connections": load.connections(),
        "for_s": load.stretch.as_secs_f64(),
        "took_s": (elapsed.as_secs_f64() * 1e3).round() / 1e3,
        "sent": load.sent(),
        "answered": tally.answered(),
        "rejected": tally.rejected(),
        "missed": counts.missed,
        "abandoned": counts.abandoned,
        "rate": (tally.answered() as f64 / elapsed.as_secs_f64().max(1e-9) * 10.0).round() / 10.0,
    });
    match load.pace {
        Pace::Open { rate, most } => {
            object["mode"] = json!("open");
            object["rate_asked"] = json!(rate);
            object["max_in_flight"] = json!(most);
            object["latency_from"] = json!("due");
            object["send_lag_ms"] = json!({
                "p99": output::milliseconds(counts.lag.quantile(0.99)),
                "max": output::milliseconds(counts.lag.max()),
            });
        }
        Pace::Closed(concurrency) => {
            object["mode"] = json!("closed");
            object["concurrency"] = json!(concurrency);
            object["latency_from"] = json!("sent");
        }
    }
    tally.add_to(&mut object);
    let mut latency = json!({
        "min": output::milliseconds(times.min()),
        "mean": output::milliseconds(times.mean()),
        "max": output::milliseconds(times.max()),
    });
    for (name, part) in QUANTILES {
        latency[name] = json!(output::milliseconds(times.quantile(part)));
    }
    object["latency_ms"] = latency;
    object
}
