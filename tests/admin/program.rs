//! A program whose handlers fail in every way and publish, around the stages of `node.toml`.

use centripeta::interceptor::{AccessLog, HeaderAuth};
use centripeta::{
    App, ConnectReply, Data, Failure, Json, Publisher, RefreshReply, Reject, Router, RpcReply,
    StreamReply, SubscribeReply,
};
use std::process::ExitCode;
use std::time::Duration;

fn router() -> Router {
    let value = std::env::var("PROBE_STAGE_SECRET").unwrap_or_else(|_| "unset".to_owned());
    let stage = HeaderAuth::new(
        http::HeaderName::from_static("x-stage-key"),
        centripeta::config::Secret::new(value),
    );
    Router::new()
        .intercept_all("log", AccessLog::default())
        .intercept_all("stage", stage)
        .connect(async || ConnectReply::user("u1"))
        .refresh(async || RefreshReply::extend(Duration::from_secs(60)))
        .subscribe("chat:{room}", async || SubscribeReply::allow())
        .rpc("publish", publish)
        .rpc("number", async |Data(number): Data<u64>| Json(number))
        .rpc("boom", async || -> Json<()> { panic!("a seat fell over") })
        .rpc("late", async || -> Json<()> {
            std::future::pending().await
        })
        .rpc("rejected", async || {
            Err::<RpcReply, _>(Reject::error(1403, "not yours"))
        })
        .rpc("failed", async || -> Result<RpcReply, Failure> {
            Err(Failure::Cancelled)
        })
        .stream("feed:{name}", async || StreamReply::silent())
        .with_state(())
}

/// Publishes what it was given, and says how that went.
async fn publish(Data(data): Data<String>, publisher: Publisher) -> Json<String> {
    // Once waited for, once not: both ways to fail.
    drop(publisher.publish_now("chat:1", &data));
    match publisher.publish_json("chat:1", &data).await {
        Ok(_) => Json("published".to_owned()),
        Err(_) => Json("lost".to_owned()),
    }
}

/// Runs the program and ends the process with its code.
pub(crate) fn run<'a>(args: impl Iterator<Item = &'a str>) -> ! {
    let args = std::iter::once("probe").chain(args).map(str::to_owned);
    let code = App::new(router())
        .name("probe")
        .run_with(args.collect::<Vec<String>>());
    std::process::exit(i32::from(code != ExitCode::SUCCESS));
}
