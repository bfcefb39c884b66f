//! A publisher whose configuration is replaced while calls wait and are on their way.

use crate::double::{Double, Fault, endpoint, towards};
use crate::{eventually, publication, publisher, publisher_with};
use centripeta::config::{ClientTlsConfig, Secret};
use centripeta::egress::{Error, Publisher, Refusal};
use std::time::Duration;

/// Whether its only endpoint is this one, and well.
fn is_at(publisher: &Publisher, double: &Double) -> bool {
    let endpoints = publisher.stats().endpoints;
    endpoints.len() == 1 && endpoints[0].address == double.endpoint() && endpoints[0].is_up
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_to_the_new_endpoint_in_order_and_none_is_lost() {
    let first = Double::start();
    // What is published at one of them is at both, as with a common broker.
    let second = Double::beside(&first);
    let publisher = publisher_with(vec![first.endpoint()], |config| {
        config.timeout = Duration::from_secs(20);
    })
    .await;
    let mut waiting = Vec::new();
    for n in 0..2000 {
        waiting.push(publisher.publish(publication("chat", &n.to_string())));
        if n % 250 == 125 {
            let to = if n % 500 == 125 { &second } else { &first };
            let mut config = towards(vec![to.endpoint()]);
            config.timeout = Duration::from_secs(20);
            publisher.reconfigure(&config).unwrap();
            eventually("it has arrived there", || is_at(&publisher, to)).await;
        }
    }
    for published in waiting {
        published.await.unwrap();
    }
    let published = first.state.of("chat");
    let expected: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
    assert!(published.iter().eq(expected.iter()), "{}", published.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_an_endpoint_that_is_down_leaves_for_the_one_that_takes_its_place() {
    let mut gone = Double::start();
    let publisher = publisher_with(vec![gone.endpoint()], |config| {
        config.timeout = Duration::from_secs(20);
    })
    .await;
    gone.kill();
    eventually("it is lost", || !publisher.stats().endpoints[0].is_up).await;
    let waits: Vec<_> = (0..3)
        .map(|n| publisher.publish(publication("chat", &n.to_string())))
        .collect();
    let stays = Double::start();
    publisher
        .reconfigure(&towards(vec![stays.endpoint()]))
        .unwrap();
    for published in waits {
        published.await.unwrap();
    }
    assert_eq!(stays.state.of("chat"), ["0", "1", "2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_is_used_by_later_calls() {
    let double = Double::start();
    *double.state.key.lock().unwrap() = Some("new".to_owned());
    let mut config = towards(vec![double.endpoint()]);
    config.key = Some(Secret::new("old"));
    let publisher = Publisher::connect(&config, ":").unwrap();
    eventually("it is connected", || is_at(&publisher, &double)).await;
    assert!(publisher.publish(publication("chat", "1")).await.is_err());
    config.key = Some(Secret::new("new"));
    publisher.reconfigure(&config).unwrap();
    // One after the other: the calls on the old connection may still be refused.
    let mut refused = 0;
    while publisher.publish(publication("chat", "1")).await.is_err() {
        refused += 1;
        assert!(refused < 100, "the new key is never used");
    }
    assert_eq!(double.state.of("chat").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_for_later_calls_and_an_endpoint_that_stays_keeps_its_connection() {
    let double = Double::start();
    let publisher = publisher(&double).await;
    double.state.set(Fault::None);
    let mut config = towards(vec![double.endpoint()]);
    config.message_bytes = 100;
    publisher.reconfigure(&config).unwrap();
    assert!(is_at(&publisher, &double), "it was never lost");
    let large = publisher.publish(publication("chat", &format!("\"{}\"", "x".repeat(200))));
    let refused = large.await.unwrap_err();
    let Error::Refused { refusal, .. } = refused else {
        panic!("{refused}")
    };
    assert!(matches!(refusal, Refusal::TooLarge { limit: 100, .. }));
    publisher.publish(publication("chat", "1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_cannot_be_read_are_refused_and_nothing_changes() {
    let double = Double::start();
    let publisher = publisher(&double).await;
    let mut secured = endpoint(double.address());
    secured.tls = true;
    let mut config = towards(vec![secured]);
    config.tls = ClientTlsConfig {
        ca: Some("/nowhere/ca.pem".into()),
        identity: None,
    };
    let why = publisher.reconfigure(&config).unwrap_err();
    assert!(why.to_string().contains("/nowhere/ca.pem"), "{why}");
    assert!(is_at(&publisher, &double));
    publisher.publish(publication("chat", "1")).await.unwrap();
}
