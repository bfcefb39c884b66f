//! A user's own program: a router, a condition of its own, and every command by one call.

use centripeta::proto::proxy::Publication;
use centripeta::{
    App, ConnectReply, Data, Inbound, Interceptor, Json, RefreshReply, Reject, Reply, Router,
    RpcReply, StreamReply, SubscribeReply, User,
};
use futures_util::stream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// A stage that lets everything pass.
struct Pass;

impl Interceptor for Pass {}

fn router() -> Router {
    Router::new()
        .intercept_all("outer", Pass)
        .connect(async || ConnectReply::user("u1").expire_in(Duration::from_secs(60)))
        .refresh(async || RefreshReply::extend(Duration::from_secs(60)))
        .subscribe("chat:{room}", async || SubscribeReply::allow())
        .publish("chat:{room}", async || Reply::empty())
        .rpc("who", async |User(user): User| Json(user))
        .rpc("no", async || {
            Err::<RpcReply, _>(Reject::error(1403, "not yours"))
        })
        .rpc("slow", slow)
        .rpc("boom", boom)
        .stream("feed:{name}", async || {
            let publications = ["1", "2"].map(|data| Publication {
                data: data.into(),
                ..Publication::default()
            });
            StreamReply::publications(stream::iter(publications))
        })
        .stream_bidirectional("term:{name}", async |inbound: Inbound| {
            StreamReply::publications(inbound)
        })
        .map_publish("board:{id}", async || Reply::empty())
        .map_remove("board:{id}", async || Reply::empty())
        .shared_poll_refresh("poll:{id}", async || Reply::empty())
        .with_state(())
}

async fn boom() -> Json<&'static str> {
    panic!("a seat fell over");
}

/// Says that it has begun by one file and waits for another.
async fn slow(Data(gate): Data<String>) -> Json<&'static str> {
    std::fs::write(format!("{gate}.begun"), "").unwrap();
    while !Path::new(&gate).exists() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Json("finished")
}

/// Runs the program and ends the process with its code.
pub(crate) fn run<'a>(args: impl Iterator<Item = &'a str>) -> ! {
    let app = App::new(router())
        .name("probe")
        .about("A program under test")
        .require(|config| match config.listen.grpc.is_beyond_loopback() {
            true => Err("probe listens on loopback only".to_owned()),
            false => Ok(()),
        });
    let args = std::iter::once("probe").chain(args).map(str::to_owned);
    let code = app.run_with(args.collect::<Vec<String>>());
    let codes = [0, 1, 2, 3, 4, 70];
    let number = codes
        .into_iter()
        .find(|number| ExitCode::from(*number) == code);
    std::process::exit(number.map_or(99, i32::from));
}
