//! `load`: events at a rate, or so many at once, for a bounded time, and how they fared.
//!
//! With `--rate` events are due at fixed times, whatever becomes of those before them, and each is
//! timed from when it was due: what a stall keeps waiting counts as waiting (an open loop). With
//! `--concurrency` the next event is sent once one is answered (a closed loop): the time is that of
//! the answer alone, which is no measure of overload, and the summary says so.

mod drive;
mod report;

use super::error::CliError;
use super::event::EventArgs;
use super::fire::client::{Client, Target};
use super::fire::{TargetArgs, duration};
use super::{Session, block_on};
use clap::Args;
use drive::{Load, Pace};
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Events in flight of an open loop.
const MOST_IN_FLIGHT: u32 = 10_000;
/// The longest run.
const LONGEST: Duration = Duration::from_secs(3600);
/// The highest rate, in events a second.
const FASTEST: f64 = 1_000_000.0;

#[derive(Debug, Args)]
// In help texts a plain {n} is a line break, so a reset of colours stands within; it is not shown.
#[command(after_help = "\
Sends events as `fire` does, each of a new client unless --client names one; streams are left once
they are accepted. In every argument of the event {\x1b[0mn} stands for its number, from 0 on, {n%100} for
one of 100 values, and {{\x1b[0mn}} for {\x1b[0mn} itself.

--rate sends at fixed times, whatever becomes of the events before, and times each from when it was
due (an open loop): what waits for a stall counts. Events that are due while --max-in-flight of them
are unanswered are missed, and counted. --concurrency sends the next event once one is answered (a
closed loop): its times leave out what would have waited.

Ctrl-C ends it early, with the summary. Exit code 0 if every event got a message, be it a refusal;
1 if any got a gRPC status, or was missed; 4 if nobody was ever reached.

Examples:
  centripeta load rpc --method echo --data '{\"n\":{\x1b[0mn}}' --rate 1000 --for 30s
  centripeta load publish --channel 'chat:{n%100}' --concurrency 64 --json")]
pub(super) struct LoadArgs {
    #[command(flatten)]
    event: EventArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    pace: PaceArgs,
    /// How long to send, at most 1h
    #[arg(long = "for", value_name = "DURATION", default_value = "10s", value_parser = stretch)]
    stretch: Duration,
    /// How many events of --rate may be unanswered [default: 10000]
    #[arg(long, value_name = "N", conflicts_with = "concurrency",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_in_flight: Option<u32>,
    /// Over how many connections; Centrifugo has one for each kind of event
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// How long a reply may take; on streams the first message
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    timeout: Duration,
    /// Tells each second on stderr how it goes, also where that is no terminal
    #[arg(long)]
    progress: bool,
    /// Prints the summary as one JSON object
    #[arg(long)]
    json: bool,
}

/// One of both.
#[derive(Debug, Clone, Copy, Args)]
#[group(required = true, multiple = false)]
struct PaceArgs {
    /// Events a second, sent at fixed times
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,
    /// Events at once, each sent when another one is answered
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: Option<u32>,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= FASTEST => Ok(rate),
        Ok(_) => Err(format!("must be more than 0 and at most {FASTEST}")),
        Err(why) => Err(why.to_string()),
    }
}

fn stretch(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        stretch if stretch > LONGEST => Err("must be at most 1h".to_owned()),
        stretch => Ok(stretch),
    }
}

pub(super) fn run(session: &Session, args: &LoadArgs) -> Result<(), CliError> {
    let event = args.event.clone().inlined()?;
    // What is wrong with one of them is wrong with all.
    event.numbered(0)?.build()?;
    let config = session.load()?.config;
    let target = Target::of(&config, &args.target)?;
    if !target.is_local() {
        eprintln!(
            "warning: load: {} is another machine, and gets all of this",
            target.address()
        );
    }
    let pace = match (args.pace.rate, args.pace.concurrency) {
        (Some(rate), _) => Pace::Open {
            rate,
            most: args.max_in_flight.unwrap_or(MOST_IN_FLIGHT) as usize,
        },
        // The group asks for one of both.
        (None, concurrency) => Pace::Closed(concurrency.unwrap_or(1)),
    };
    block_on(async {
        let mut clients = Vec::new();
        for _ in 0..args.connections {
            clients.push(Client::connect(&target).await?);
        }
        let kind = event.kind;
        let load = Arc::new(Load::new(event, clients, pace, args.stretch, args.timeout));
        let (asked, stops) = watch::channel(0_u8);
        let progress = match (std::io::stderr().is_terminal(), args.progress) {
            (true, _) => Some(report::Progress::Live),
            (false, true) => Some(report::Progress::Lines),
            (false, false) => None,
        };
        let elapsed = tokio::select! {
            elapsed = Arc::clone(&load).run(stops) => elapsed,
            never = report::tell(&load, progress) => match never {},
            never = signals(&asked) => match never {},
        };
        report::clear(progress);
        report::summary(&load, kind, elapsed?, args)
    })
}

/// Counts Ctrl-C: the first one ends the sending, the second the waiting.
async fn signals(asked: &watch::Sender<u8>) -> std::convert::Infallible {
    while tokio::signal::ctrl_c().await.is_ok() {
        asked.send_modify(|count| *count = count.saturating_add(1));
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_times_are_bounded() {
        assert_eq!(rate("0.5"), Ok(0.5));
        assert_eq!(rate("1e3"), Ok(1000.0));
        for wrong in ["0", "-1", "nan", "inf", "1000001", "x", ""] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert_eq!(stretch("1h"), Ok(LONGEST));
        assert!(stretch("61m").is_err() && stretch("0s").is_err());
    }
}
