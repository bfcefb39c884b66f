//! nginx with `deploy/nginx.conf` in front of a real Centrifugo with a node behind it: what
//! `docs/production.md` says of it. Without the programs each test says loudly that it was skipped.
#![allow(clippy::unwrap_used)]

#[path = "../support/outside.rs"]
mod outside;
mod sdk;
mod world;

use sdk::{Sdk, publications};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use world::{Client, LIMIT, READ_TIMEOUT, Setup, Streaming, World, status};

/// Subscribes to the feed; gives back where the subscription stands.
async fn subscribe(client: &mut Client) -> Value {
    let reply = client
        .call(json!({ "subscribe": { "channel": "feed:news" } }))
        .await;
    assert!(reply["error"].is_null(), "{reply}");
    reply["subscribe"].clone()
}

async fn publish(world: &World, data: &Value) {
    let published = world.node.publisher().publish_json("feed:news", data).await;
    published.unwrap_or_else(|why| panic!("{why}: {}", world.say_logs()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_connect_call_and_hear_through_nginx_and_handlers_see_where_they_come_from() {
    let Some(world) = World::start(Setup::default()).await else {
        return;
    };
    let mut client = Client::connect(world.port).await;
    let reply = client.call(json!({ "rpc": { "method": "ip" } })).await;
    // The address that the client claims for itself is gone.
    let seen = json!([["127.0.0.1"], ["127.0.0.1"]]);
    assert_eq!(reply["rpc"]["data"], seen, "{reply}");
    subscribe(&mut client).await;
    publish(&world, &json!({ "n": 1 })).await;
    assert_eq!(client.publication().await, Ok(json!({ "n": 1 })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_centrifugo_but_its_client_paths_is_reachable_through_nginx() {
    let Some(world) = World::start(Setup::default()).await else {
        return;
    };
    for path in [
        "/api/info",
        "/metrics",
        "/health",
        "/",
        "/connectionfoo",
        "/emulation/x",
    ] {
        assert_eq!(
            status(world.port, &format!("GET {path}"), "").await,
            404,
            "{path}"
        );
    }
    assert_eq!(status(world.port, "POST /api/publish", "{}").await, 404);
    // Centrifugo itself judges what comes here.
    assert_eq!(status(world.port, "POST /emulation", "no JSON").await, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_outlives_the_read_timeout_of_nginx_by_pings_alone() {
    let setup = Setup {
        ping: "1s",
        ..Setup::default()
    };
    let Some(world) = World::start(setup).await else {
        return;
    };
    let mut client = Client::connect(world.port).await;
    let started = Instant::now();
    while started.elapsed() < READ_TIMEOUT * 2 {
        assert_eq!(client.step().await, Ok(None), "nothing but pings");
    }
    let reply = client.call(json!({ "rpc": { "method": "ip" } })).await;
    assert!(reply["rpc"].is_object(), "{reply}");
    assert!(client.pings >= 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_rarer_than_the_read_timeout_lose_the_connection() {
    let Some(world) = World::start(Setup::default()).await else {
        return;
    };
    let mut client = Client::connect(world.port).await;
    let started = Instant::now();
    let ended = client.step().await;
    assert!(ended.is_err(), "{ended:?}");
    assert!(started.elapsed() >= READ_TIMEOUT - READ_TIMEOUT / 10);
    assert_eq!(client.pings, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sse_and_http_streaming_arrive_unbuffered_and_send_by_emulation() {
    let Some(world) = World::start(Setup::default()).await else {
        return;
    };
    let sse = "/connection/sse?cf_connect=%7B%22id%22%3A1%2C%22connect%22%3A%7B%7D%7D";
    let connect = json!({ "id": 1, "connect": {} }).to_string();
    let streams = [
        (format!("GET {sse}"), String::new()),
        ("POST /connection/http_stream".to_owned(), connect),
    ];
    for (head, body) in streams {
        let mut stream = Streaming::request(world.port, &head, &body).await;
        let connected = stream.message().await["connect"].clone();
        let (session, node) = (&connected["session"], &connected["node"]);
        assert!(session.is_string(), "{head}: {connected}");
        let command = json!({ "id": 2, "subscribe": { "channel": "feed:news" } }).to_string();
        let emulated = json!({ "session": session, "node": node, "data": command }).to_string();
        assert_eq!(
            status(world.port, "POST /emulation", &emulated).await,
            204,
            "{head}"
        );
        let subscribed = stream.message().await;
        assert_eq!(subscribed["id"], 2, "{head}: {subscribed}");
        assert!(subscribed["error"].is_null(), "{head}: {subscribed}");
        // One by one, each while the response is open and before the next is published.
        for n in 0..3 {
            publish(&world, &json!({ "n": n })).await;
            let push = stream.message().await;
            assert_eq!(push["push"]["pub"]["data"]["n"], n, "{head}: {push}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_of_nginx_keeps_connections_and_loses_no_publication() {
    let setup = Setup {
        ping: "1s",
        ..Setup::default()
    };
    let Some(world) = World::start(setup).await else {
        return;
    };
    let mut client = Client::connect(world.port).await;
    subscribe(&mut client).await;
    let reading = tokio::spawn(async move {
        let mut heard = Vec::new();
        while heard.last() != Some(&json!("end")) {
            heard.push(client.publication().await.unwrap());
        }
        heard
    });
    let mut said = Vec::new();
    for n in 0..60 {
        if n == 20 || n == 40 {
            world.reload_nginx().await;
            // New clients are served meanwhile.
            Client::connect(world.port).await;
        }
        said.push(json!(n));
        publish(&world, &json!(n)).await;
    }
    said.push(json!("end"));
    publish(&world, &json!("end")).await;
    let heard = timeout(LIMIT, reading).await.unwrap().unwrap();
    assert_eq!(heard, said);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_cut_at_the_end_of_a_reload_recovers_what_it_missed() {
    let setup = Setup {
        ping: "1s",
        shutdown: "1s",
    };
    let Some(world) = World::start(setup).await else {
        return;
    };
    let mut client = Client::connect(world.port).await;
    let place = subscribe(&mut client).await;
    publish(&world, &json!("before")).await;
    assert_eq!(client.publication().await, Ok(json!("before")));
    world.reload_nginx().await;
    // The old worker's time is over.
    while client.step().await.is_ok() {}
    for n in 0..3 {
        publish(&world, &json!(n)).await;
    }
    let mut client = Client::connect(world.port).await;
    let again = json!({
        "channel": "feed:news", "recover": true, "epoch": place["epoch"], "offset": 1,
    });
    let reply = client.call(json!({ "subscribe": again })).await["subscribe"].clone();
    assert_eq!(reply["recovered"], true, "{reply}");
    let missed = reply["publications"].as_array().unwrap().iter();
    let missed: Vec<_> = missed.map(|it| it["data"].clone()).collect();
    assert_eq!(missed, [json!(0), json!(1), json!(2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sdks_that_a_reload_cuts_off_come_back_by_themselves_and_miss_nothing() {
    let Some(modules) = sdk::modules() else {
        return;
    };
    for transport in ["websocket", "http_stream"] {
        let setup = Setup {
            ping: "1s",
            shutdown: "1s",
        };
        let Some(world) = World::start(setup).await else {
            return;
        };
        let mut sdk = Sdk::start(&modules, transport, world.port);
        let mut heard = sdk.until("subscribed").await;
        assert!(
            heard.contains(&json!({ "event": "connected", "by": transport })),
            "{heard:?}"
        );
        world.reload_nginx().await;
        // Somebody publishes all the time: before the cut, during it and after it.
        let mut said = Vec::new();
        let mut is_cut = false;
        let mut pace = tokio::time::interval(READ_TIMEOUT / 40);
        while !is_cut {
            loop {
                tokio::select! {
                    more = sdk.next() => {
                        is_cut |= more["event"] == "connecting";
                        heard.push(more);
                    }
                    _ = pace.tick() => break,
                }
            }
            said.push(json!(said.len()));
            publish(&world, said.last().unwrap()).await;
        }
        let again = sdk.until("subscribed").await;
        assert_eq!(again.last().unwrap()["recovered"], true, "{again:?}");
        heard.extend(again);
        said.push(json!("end"));
        publish(&world, &json!("end")).await;
        while heard.last().unwrap()["data"] != json!("end") {
            heard.push(sdk.next().await);
        }
        assert!(said.len() > 3, "there was time for some");
        assert_eq!(publications(&heard), said, "{transport}");
    }
}
