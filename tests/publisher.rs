//! Publishing back: the lines C93 and C101 to C110 of the conformance list, faults of endpoints, and
//! a real Centrifugo where there is one.

#![allow(clippy::unwrap_used)]

#[path = "publisher/batching.rs"]
mod batching;
#[path = "publisher/conformance.rs"]
mod conformance;
#[path = "publisher/double.rs"]
mod double;
#[path = "publisher/faults.rs"]
mod faults;
#[path = "publisher/forward.rs"]
mod forward;
#[path = "publisher/handlers.rs"]
mod handlers;
#[path = "support/outside.rs"]
mod outside;
#[path = "rpc/double.rs"]
mod raw;
#[path = "publisher/real.rs"]
mod real;
#[path = "publisher/reconfigured.rs"]
mod reconfigured;
#[path = "publisher/relay.rs"]
mod relay;

use centripeta::config::{CentrifugoConfig, Endpoint};
use centripeta::egress::Publisher;
use centripeta::proto::api;
use double::{Double, towards};
use std::time::Duration;
use tokio::time::Instant;

/// A publisher towards one stand-in, with a change to its configuration.
async fn publisher_with(
    endpoints: Vec<Endpoint>,
    change: impl FnOnce(&mut CentrifugoConfig),
) -> Publisher {
    let mut config = towards(endpoints);
    change(&mut config);
    let publisher = Publisher::connect(&config, ":").unwrap();
    eventually("every endpoint is up", || {
        publisher
            .stats()
            .endpoints
            .iter()
            .all(|endpoint| endpoint.is_up)
    })
    .await;
    publisher
}

async fn publisher(double: &Double) -> Publisher {
    publisher_with(vec![double.endpoint()], |_| {}).await
}

/// Waits until a condition holds.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(20), "never: {what}");
        tick.tick().await;
    }
}

fn publication(channel: &str, data: &str) -> api::PublishRequest {
    api::PublishRequest {
        channel: channel.to_owned(),
        data: data.to_owned().into(),
        ..Default::default()
    }
}

fn presence(channel: &str) -> api::PresenceRequest {
    let channel = channel.to_owned();
    api::PresenceRequest { channel }
}
