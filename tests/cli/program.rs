//! A user's own program: a router, a condition of its own, and every command by one call.

use centripeta::event::Rpc;
use centripeta::proto::proxy::Publication;
use centripeta::{
    App, ConnectReply, Data, Inbound, Interceptor, Json, RefreshReply, Reject, Reply, Route,
    Router, RpcReply, StreamReply, SubscribeReply, User,
};
use futures_util::stream;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
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
        .route(Route::of::<Rpc, _, _>(stall).matching("stall").key("user"))
        .rpc("crowd", crowd)
        .rpc("most", async || Json(MOST.load(Ordering::Relaxed)))
        .rpc("distinct", distinct)
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

/// One of them takes a while, and the others of its key with it.
async fn stall(Data(number): Data<u64>) -> Json<u64> {
    if number == 20 {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Json(number)
}

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// Counts how many of it run at once.
async fn crowd() -> Json<usize> {
    let now = NOW.fetch_add(1, Ordering::Relaxed) + 1;
    MOST.fetch_max(now, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(5)).await;
    NOW.fetch_sub(1, Ordering::Relaxed);
    Json(now)
}

/// How many different numbers it has seen.
async fn distinct(Data(number): Data<u64>) -> Json<usize> {
    static SEEN: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());
    let mut seen = SEEN.lock().unwrap();
    seen.insert(number);
    Json(seen.len())
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
