//! Subscriptions as streams: each subscriber gets publications of its own, straight from a handler.
//!
//! `clock:{seconds}` ticks one way; `term:{name}` is a two-way line that repeats what the client
//! publishes, and ends when it reads `"bye"`. A handler learns that a client has left by being
//! dropped: whatever its stream holds is freed with it.
//!
//! ```text
//! cargo run --example streams -- serve
//! cargo run --example streams -- fire stream --channel clock:1
//! ```
//!
//! In Centrifugo the namespaces need `"subscribe_stream_proxy_enabled": true`, and `term` also
//! `"subscribe_stream_proxy_bidirectional": true`.

use centripeta::proto::proxy::Publication;
use centripeta::reject::BoxError;
use centripeta::{
    App, ConnectReply, Inbound, Param, Reject, Router, StreamReply, SubscribeReply, User,
};
use futures_util::stream::{self, Stream};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::interval;

fn main() -> ExitCode {
    App::new(router())
        .name("streams")
        .about("One-way and two-way subscription streams")
        .run()
}

fn router() -> Router {
    Router::new()
        .connect(|| async { ConnectReply::user("guest") })
        .stream("clock:{seconds}", clock)
        .stream_bidirectional("term:{name}", term)
}

/// Refuses before it accepts: an error after the first message would make SDKs resubscribe at once,
/// over and over.
async fn clock(Param(seconds): Param<u64>) -> Result<StreamReply, Reject> {
    if !(1..=3600).contains(&seconds) {
        return Err(Reject::bad_request("a tick takes 1 to 3600 seconds"));
    }
    let ticks = ticks(Duration::from_secs(seconds));
    let first = SubscribeReply::allow().data(&json!({ "every": seconds }));
    Ok(StreamReply::try_publications(ticks).first(first))
}

/// A publication per period, from now on and for ever.
fn ticks(period: Duration) -> impl Stream<Item = Result<Publication, serde_json::Error>> + Send {
    stream::unfold((interval(period), 0_u64), |(mut timer, count)| async move {
        timer.tick().await;
        let tick = Publication::json(&json!({ "tick": count }));
        Some((tick, (timer, count + 1)))
    })
}

/// Greets, then answers line by line; asking for the next line says that the last one is done.
async fn term(User(user): User, Param(name): Param<String>, inbound: Inbound) -> StreamReply {
    let lines = stream::try_unfold(inbound, |mut inbound| async move {
        let Some(line) = inbound.recv().await else {
            return Ok::<_, BoxError>(None);
        };
        let text: Value = serde_json::from_slice(&line.data)?;
        if text == "bye" {
            return Ok(None);
        }
        let answer = Publication::json(&json!({ "echo": text }))?.tag("kind", "echo");
        Ok(Some((answer, inbound)))
    });
    let welcome = json!({ "text": format!("{user} is on {name}") });
    StreamReply::try_publications(lines).first(SubscribeReply::allow().data(&welcome))
}
