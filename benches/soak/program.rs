//! The program under test: handlers that publish, wait and stream, beside the routes of `node.toml`.

use centripeta::egress::{Error, Publisher};
use centripeta::event::Rpc;
use centripeta::proto::proxy::Publication;
use centripeta::{App, Inbound, Reject, Route, Router, RpcReply, StreamReply, User};
use futures_util::stream;
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{interval, sleep};

/// Runs it with these arguments.
pub(crate) fn run(arguments: Vec<String>) -> ExitCode {
    App::new(router()).name("soak").run_with(arguments)
}

fn router() -> Router {
    Router::new()
        .with_config_routes()
        .rpc("pub.wait", publish)
        .rpc("pub.cast", cast)
        .rpc("no", || async {
            Err::<RpcReply, _>(Reject::error(1403, "not yours"))
        })
        .route(Route::of::<Rpc, _, _>(held).matching("held").key("user"))
        .stream("feed:{name}", || async {
            StreamReply::publications(ticks())
        })
        .stream_bidirectional("term:{name}", |inbound: Inbound| async {
            StreamReply::publications(inbound)
        })
        .with_state(())
}

/// Publishes and waits for the answer.
async fn publish(User(user): User, publisher: Publisher) -> Result<RpcReply, Reject> {
    let channel = format!("chat:{user}");
    let published = publisher
        .publish_json(channel, &json!({ "by": user }))
        .await;
    let published = published.map_err(Error::into_reject)?;
    Ok(RpcReply::data(&published.offset))
}

/// Publishes a few and waits for none.
async fn cast(User(user): User, publisher: Publisher) -> Result<RpcReply, Reject> {
    for number in 0..8 {
        let channel = format!("chat:{user}");
        let queued = publisher.publish_now(channel, &json!({ "number": number }));
        queued.map_err(Error::into_reject)?;
    }
    Ok(RpcReply::done())
}

/// Holds its user's lane for a while.
async fn held() -> RpcReply {
    sleep(Duration::from_millis(20)).await;
    RpcReply::done()
}

fn ticks() -> impl stream::Stream<Item = Publication> + Send {
    stream::unfold(
        (interval(Duration::from_millis(50)), 0_u64),
        |(mut timer, count)| async move {
            timer.tick().await;
            let data = count.to_string().into();
            let publication = Publication {
                data,
                ..Default::default()
            };
            Some((publication, (timer, count + 1)))
        },
    )
}
