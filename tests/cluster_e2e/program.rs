//! A user's own program, whose handlers take their time and answer polls.

use centripeta::event::{Rpc, SharedPollRefresh};
use centripeta::proto::proxy;
use centripeta::{
    App, Channel, ConnectReply, Data, Json, Request, Route, Router, SharedPollRefreshReply,
    SubscribeReply,
};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn router() -> Router {
    let slow = Route::of::<Rpc, _, _>(slow);
    let poll = Route::of::<SharedPollRefresh, _, _>(poll);
    Router::new()
        .connect(async || ConnectReply::user("u1"))
        .subscribe("chat:{room}", async || SubscribeReply::allow())
        .route(slow.matching("slow").key("room:{data.room}"))
        .route(poll.matching("poll:{name}"))
        .with_state(())
}

/// A call that ends when a file is there, unless it need not wait.
#[derive(Deserialize)]
struct Slow {
    /// The file; another beside it says that the call has begun.
    gate: Option<String>,
}

async fn slow(Data(Slow { gate }): Data<Slow>) -> Json<u32> {
    if let Some(gate) = gate {
        let begun = std::fs::write(format!("{gate}.begun"), std::process::id().to_string());
        begun.expect("the folder of the test");
        while !Path::new(&gate).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Json(std::process::id())
}

/// A channel that is polled: its epoch, which is its life in this process, and the version of each key.
type Polled = (String, BTreeMap<String, u64>);

/// What this process has been polled for.
static POLLED: Mutex<BTreeMap<String, Polled>> = Mutex::new(BTreeMap::new());

/// Every poll finds something new: the owner of the channel counts versions, whoever is asked.
async fn poll(
    Channel(channel): Channel,
    Request(request): Request<SharedPollRefresh>,
) -> SharedPollRefreshReply {
    let proxy::SharedPollRefreshRequest { items, .. } = request;
    let mut polled = POLLED.lock().unwrap_or_else(PoisonError::into_inner);
    let (epoch, versions) = polled
        .entry(channel)
        .or_insert_with(|| (begun(), BTreeMap::new()));
    let mut reply = SharedPollRefreshReply::new().epoch(epoch.clone());
    for item in items {
        let version = versions.entry(item.key.clone()).or_insert(0);
        *version += 1;
        reply = reply.item(item.key, *version, version);
    }
    reply
}

/// A name for a life that begins now.
fn begun() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    format!(
        "{}-{}",
        std::process::id(),
        now.unwrap_or_default().as_nanos()
    )
}

/// Runs the program and ends the process with its code.
pub(crate) fn run<'a>(arguments: impl Iterator<Item = &'a str>) -> ! {
    let app = App::new(router()).name("probe");
    let arguments = std::iter::once("probe").chain(arguments).map(str::to_owned);
    let code = app.run_with(arguments.collect::<Vec<String>>());
    std::process::exit(i32::from(code != ExitCode::SUCCESS));
}
