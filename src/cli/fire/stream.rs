//! A subscription stream, as Centrifugo opens it for one client.

use super::client::{Client, Failed};
use super::{FireArgs, Shown};
use crate::answer::code_name;
use crate::cli::error::{CliError, Exit};
use crate::cli::event::{FiredEvent, raw};
use crate::cli::{meaning, output};
use crate::event::EventKind;
use crate::json::{request_from_json, response_to_json};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;
use tonic::codec::Streaming;

pub(super) async fn run(
    client: &mut Client,
    event: &FiredEvent,
    args: &FireArgs,
) -> Result<(), CliError> {
    let mut sent = Vec::new();
    for text in &args.send {
        let data = raw("--send", text)?;
        let frame = format!("{{\"publication\":{{\"data\":{data}}}}}");
        let frame = request_from_json(event.kind, &frame).map_err(CliError::internal)?;
        sent.push(frame);
    }
    let begun = Instant::now();
    let opened = open(client, event, sent, args.timeout).await;
    let took = begun.elapsed();
    let (first, replies) = match opened {
        Ok((first, replies)) => (Ok(first), Some(replies)),
        Err(failed) => (Err(failed), None),
    };
    let shown = Shown::of(event.kind, first)?;
    if args.json {
        let mut object = json!({
            "type": "first", "event": event.kind.name(), "to": client.address(),
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
    let accepted = shown.is_accepted();
    shown.into_end(event.kind, args.json)?;
    match replies {
        Some(replies) if accepted => follow(client, event.kind, replies, args).await,
        _ => Ok(()),
    }
}

/// Opens a stream, sends these messages behind the one that opens it, and waits for the first
/// message of the other side.
pub(in crate::cli) async fn open(
    client: &mut Client,
    event: &FiredEvent,
    sent: Vec<Bytes>,
    timeout: Duration,
) -> Result<(Bytes, Streaming<Bytes>), Failed> {
    let messages = stream::iter(std::iter::once(event.message.clone()).chain(sent));
    // Centrifugo never closes its half.
    let messages: stream::BoxStream<'static, Bytes> = match event.kind {
        EventKind::StreamBidirectional => messages.chain(stream::pending()).boxed(),
        _ => messages.boxed(),
    };
    let opened = async {
        let mut replies = client.open(event, messages).await?;
        let first = replies.message().await?;
        let ended = || Status::internal("the stream ended before its first message");
        Ok::<_, Status>((first.ok_or_else(ended)?, replies))
    };
    let opened = tokio::time::timeout(timeout, opened).await;
    let opened = opened.unwrap_or_else(|_| Err(Status::deadline_exceeded("no message in time")));
    opened.map_err(|status| client.failed(status))
}

impl Shown {
    /// Whether a stream goes on after this first message.
    fn is_accepted(&self) -> bool {
        let first: Option<Value> = self
            .outcome
            .as_ref()
            .ok()
            .and_then(|text| serde_json::from_str(text).ok());
        first.is_some_and(|first| {
            let response = &first["subscribe_response"];
            response.is_object()
                && response.get("error").is_none()
                && response.get("disconnect").is_none()
        })
    }
}

/// Shows what comes until the stream or our patience ends.
async fn follow(
    client: &Client,
    kind: EventKind,
    mut replies: Streaming<Bytes>,
    args: &FireArgs,
) -> Result<(), CliError> {
    let patience = tokio::time::sleep(args.stay);
    tokio::pin!(patience);
    loop {
        let next = tokio::select! {
            next = replies.message() => next,
            () = &mut patience => {
                return say_end(args, &format!("we left after {:?}", args.stay), None);
            }
        };
        match next {
            Ok(Some(message)) => say_message(kind, &message, args)?,
            Ok(None) => {
                let means = meaning::of_stream_end(None);
                return say_end(args, "the stream ended", Some(("OK", means)));
            }
            Err(status) => match client.failed(status) {
                Failed::Unreachable(error) => return Err(error),
                Failed::Status(status) => {
                    let code = code_name(status.code());
                    let means = meaning::of_stream_end(Some(status.code()));
                    say_end(args, "the stream was broken off", Some((code, means)))?;
                    return match args.json {
                        true => Err(CliError::Said(Exit::Failed)),
                        false => Err(super::status_error(kind, &status)),
                    };
                }
            },
        }
    }
}

fn say_message(kind: EventKind, message: &[u8], args: &FireArgs) -> Result<(), CliError> {
    let text = response_to_json(kind, message).map_err(|why| {
        let help = "what answers there does not speak Centrifugo's proxy protocol";
        CliError::new(Exit::Failed, format!("message of {kind}"), why, help)
    })?;
    if args.json {
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        output::say_json(&json!({ "type": "message", "message": value }));
    } else {
        output::say(&text);
    }
    Ok(())
}

fn say_end(args: &FireArgs, what: &str, status: Option<(&str, &str)>) -> Result<(), CliError> {
    if args.json {
        let (status, client) = status.unzip();
        output::say_json(&json!({
            "type": "end", "end": what, "status": status, "client": client,
        }));
        return Ok(());
    }
    match status {
        Some((code, means)) => {
            output::say(&format!("end     {what}, status {code}"));
            output::say(&format!("client  {means}"));
        }
        None => output::say(&format!("end     {what}")),
    }
    Ok(())
}
