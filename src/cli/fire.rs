//! `fire`: events as Centrifugo would send them, and what it would make of the replies.

pub(super) mod client;
mod load;
pub(super) mod stream;

use super::error::{CliError, Exit};
use super::event::{EventArgs, FiredEvent};
use super::{Session, block_on, meaning, output};
use crate::answer::code_name;
use crate::event::EventKind;
use crate::event::setters::unix_after;
use crate::json::response_to_json;
use bytes::Bytes;
use clap::Args;
use client::{Client, Failed, Target};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
#[command(after_help = "\
Sends the event over gRPC to listen.grpc of the configuration, with its credential, as an unbroken
client of a WebSocket would cause it. Exit code 0 if a message came back, be it a refusal; 1 if the
call ended with a gRPC status instead; 4 if nobody can be reached. With --count: 1 if any call did.

Examples:
  centripeta fire connect
  centripeta fire publish --channel chat:lobby --data '{\"text\":\"hello\"}' --user ada
  centripeta fire stream --channel feed:1 --for 10s
  centripeta fire rpc --method echo --data '{\"n\":1}' --count 10000 --concurrency 32")]
pub(super) struct FireArgs {
    #[command(flatten)]
    event: EventArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// How many events to send, each of a new client unless --client names one
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    count: u32,
    /// How many of them at once
    #[arg(long, value_name = "M", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=4096))]
    concurrency: u32,
    /// How long the reply may take; on streams the first message
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    timeout: Duration,
    /// How long to stay in a stream
    #[arg(long = "for", value_name = "DURATION", default_value = "3s", value_parser = duration)]
    stay: Duration,
    /// What the client publishes into a two-way stream, JSON; may be repeated
    #[arg(long, value_name = "JSON")]
    send: Vec<String>,
    /// Prints one JSON object; for streams one for each message
    #[arg(long)]
    json: bool,
}

/// Whom to call.
#[derive(Debug, Clone, Args)]
pub(super) struct TargetArgs {
    /// Where to send: HOST:PORT, grpc://HOST:PORT, tls://HOST:PORT or unix:///PATH
    /// [default: listen.grpc]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) to: Option<String>,
    /// The authority of the node's certificate, PEM [default: listen.tls.cert itself]
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The name in the node's certificate [default: the host]
    #[arg(long, value_name = "NAME")]
    tls_name: Option<String>,
    /// Our own certificate, PEM, where the node asks for one
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(super) tls_cert: Option<PathBuf>,
    /// The private key of our certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let longest = Duration::from_secs(24 * 3600);
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("must be more than 0".to_owned()),
        Ok(duration) if duration > longest => Err("must be at most 24h".to_owned()),
        Ok(duration) => Ok(duration),
        Err(why) => Err(format!("{why}; write it as 250ms or 2s")),
    }
}

pub(super) fn run(session: &Session, args: &FireArgs) -> Result<(), CliError> {
    let kind = args.event.kind;
    let several = args.count > 1 || args.concurrency > 1;
    if several && kind.is_stream() {
        let help = "leave --count and --concurrency out";
        return Err(CliError::usage(
            kind.name(),
            "streams are opened one by one",
            help,
        ));
    }
    if !args.send.is_empty() && kind != EventKind::StreamBidirectional {
        let help = "leave --send out, or fire stream_bidirectional";
        return Err(CliError::usage(kind.name(), "takes no --send", help));
    }
    let event = args.event.build()?;
    let config = session.load()?.config;
    let target = Target::of(&config, &args.target)?;
    block_on(async {
        let mut client = Client::connect(&target).await?;
        if kind.is_stream() {
            stream::run(&mut client, &event, args).await
        } else if several {
            load::run(&client, args).await
        } else {
            once(&mut client, &event, args).await
        }
    })
}

async fn once(client: &mut Client, event: &FiredEvent, args: &FireArgs) -> Result<(), CliError> {
    let (outcome, took) = client.call(event, args.timeout).await;
    let shown = Shown::of(event.kind, outcome)?;
    if args.json {
        let mut object = json!({
            "event": event.kind.name(),
            "to": client.address(),
            "took_ms": output::milliseconds(took),
        });
        shown.add_to(&mut object);
        output::say_json(&object);
    } else {
        shown.say();
        output::say(&format!(
            "took    {} ({})",
            output::time(took),
            client.address()
        ));
    }
    shown.into_end(event.kind, args.json)
}

/// What came back of a call.
struct Shown {
    /// The message as JSON, or the status.
    outcome: Result<String, tonic::Status>,
    /// What the client is told.
    means: String,
}

impl Shown {
    /// # Errors
    /// Nobody was reached, so there is nothing to show.
    fn of(kind: EventKind, outcome: Result<Bytes, Failed>) -> Result<Self, CliError> {
        match outcome {
            Ok(message) => {
                let text = response_to_json(kind, &message).map_err(|why| {
                    let help = "what answers there does not speak Centrifugo's proxy protocol";
                    CliError::new(Exit::Failed, format!("reply to {kind}"), why, help)
                })?;
                let value: Value = serde_json::from_str(&text).unwrap_or_default();
                let means = meaning::of_message(kind, &value, unix_after(Duration::ZERO));
                let outcome = Ok(text);
                Ok(Self { outcome, means })
            }
            Err(Failed::Status(status)) => {
                let means = meaning::of_status(kind, status.code());
                let outcome = Err(status);
                Ok(Self { outcome, means })
            }
            Err(Failed::Unreachable(error)) => Err(error),
        }
    }

    fn add_to(&self, object: &mut Value) {
        object["client"] = json!(self.means);
        match &self.outcome {
            Ok(text) => {
                object["status"] = json!("OK");
                object["reply"] = serde_json::from_str(text).unwrap_or_default();
            }
            Err(status) => {
                object["status"] = json!(code_name(status.code()));
                object["message"] = json!(status.message());
            }
        }
    }

    fn say(&self) {
        match &self.outcome {
            Ok(text) => output::say(text),
            Err(status) => {
                let code = code_name(status.code());
                output::say(&format!("status  {code}: {}", status.message()));
            }
        }
        output::say(&format!("client  {}", self.means));
    }

    /// A call that ended with a status has failed.
    fn into_end(self, kind: EventKind, json: bool) -> Result<(), CliError> {
        match self.outcome {
            Ok(_) => Ok(()),
            Err(_) if json => Err(CliError::Said(Exit::Failed)),
            Err(status) => Err(status_error(kind, &status)),
        }
    }
}

/// A status instead of a message.
fn status_error(kind: EventKind, status: &tonic::Status) -> CliError {
    use tonic::Code;
    let help = match status.code() {
        Code::Unauthenticated => {
            "use the configuration of the node you call, which has its `listen.auth`"
        }
        Code::Unimplemented => "add a route for this event; `explain` shows which there are",
        Code::DeadlineExceeded => "give it more time with --timeout, or make the handler faster",
        Code::InvalidArgument => "the event lacks what its handler or key needs; try `explain`",
        Code::Unavailable => {
            "try again in a moment; `health --ready` says whether the node is ready"
        }
        _ => "the node's log says what went wrong",
    };
    let code = code_name(status.code());
    let why = format!("gRPC status {code}: {}", status.message());
    CliError::new(Exit::Failed, format!("fire {kind}"), why, help)
}
