//! Endpoints that are slow, silent, lost and back.

use crate::double::{Double, Fault, endpoint, towards};
use crate::relay::Relay;
use crate::{eventually, presence, publication, publisher, publisher_with};
use bytes::Bytes;
use centripeta::config::ClientTlsConfig;
use centripeta::egress::{Error, Publisher};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub(crate) const CHANNELS: usize = 10;
pub(crate) const EACH: usize = 1000;

pub(crate) fn numbers(data: &[Bytes]) -> Vec<usize> {
    let number = |data: &Bytes| std::str::from_utf8(data).unwrap().parse().unwrap();
    data.iter().map(number).collect()
}

/// Publishes 10 000 times while `trouble` runs; answers how often that went well.
pub(crate) async fn publish_all(publisher: &Publisher, trouble: impl Future<Output = ()>) -> usize {
    let publishing = async {
        let mut done = 0;
        for hundred in 0..EACH / 100 {
            let waiting: Vec<_> = (0..100 * CHANNELS)
                .map(|at| {
                    let number = hundred * 100 + at / CHANNELS;
                    publisher.publish_json(format!("chat:{}", at % CHANNELS), &number)
                })
                .collect();
            for published in waiting {
                match published.await {
                    Ok(_) => done += 1,
                    Err(error) => assert!(error.may_be_done(), "{error}"),
                }
            }
        }
        done
    };
    tokio::join!(publishing, trouble).0
}

/// Kills and restarts an endpoint again and again, each time after some more publications.
async fn dies_and_returns(double: &mut Double) {
    let state = Arc::clone(&double.state);
    for share in 1..6 {
        let reached = CHANNELS * EACH * share / 8;
        let published = || state.published.lock().unwrap().len();
        eventually("some more are published", || published() >= reached).await;
        double.kill();
        eventually("its connections are gone", || {
            std::net::TcpStream::connect(double.address()).is_err()
        })
        .await;
        double.restart();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_of_10_000_publications_is_kept_while_an_endpoint_dies_and_returns() {
    let mut lost = Double::start();
    let stays = Double::beside(&lost);
    let endpoints = vec![lost.endpoint(), stays.endpoint()];
    let publisher =
        publisher_with(endpoints, |config| config.timeout = Duration::from_secs(20)).await;
    let publisher = publisher.idempotent();
    let done = publish_all(&publisher, dies_and_returns(&mut lost)).await;
    // With keys, what is lost is sent again, and has its effect once.
    assert_eq!(done, CHANNELS * EACH);
    let all: Vec<usize> = (0..EACH).collect();
    for channel in 0..CHANNELS {
        assert_eq!(numbers(&lost.state.of(&format!("chat:{channel}"))), all);
    }
    assert!(publisher.stats().batches > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_keys_nothing_is_sent_twice_while_the_only_endpoint_dies_and_returns() {
    let mut double = Double::start();
    let endpoints = vec![double.endpoint()];
    let publisher =
        publisher_with(endpoints, |config| config.timeout = Duration::from_secs(20)).await;
    let done = publish_all(&publisher, dies_and_returns(&mut double)).await;
    let mut arrived = 0;
    for channel in 0..CHANNELS {
        let numbers = numbers(&double.state.of(&format!("chat:{channel}")));
        let is_strict = numbers.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(is_strict, "in order and never twice: {numbers:?}");
        arrived += numbers.len();
    }
    assert!(arrived >= done, "{arrived} arrived, {done} were answered");
    assert!(done > CHANNELS * EACH / 2, "{done}");
}

#[tokio::test]
async fn a_silent_endpoint_is_left_within_two_seconds() {
    let behind = Double::start();
    let stays = Double::beside(&behind);
    let relay = Relay::to(behind.address()).await;
    let endpoints = vec![endpoint(relay.address), stays.endpoint()];
    let publisher = publisher_with(endpoints, |_| {}).await;
    relay.silence();
    let started = Instant::now();
    // Some are on their way to the silent one; those that follow are not, once it is suspect.
    let mut hanging = Vec::new();
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    while publisher.stats().endpoints[0].is_up {
        hanging.push(publisher.publish_json(format!("hang:{}", hanging.len()), &1));
        tick.tick().await;
    }
    for at in 0..50 {
        publisher.publish_json("chat:1", &at).await.unwrap();
    }
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    let mut timeouts = 0;
    for published in hanging {
        match published.await {
            Err(Error::Timeout { sent: true, .. }) => timeouts += 1,
            answer => drop(answer.unwrap()),
        }
    }
    assert!(timeouts > 0, "the silent one had some");
}

#[tokio::test]
async fn a_read_that_hangs_is_asked_again_elsewhere_within_its_time() {
    let behind = Double::start();
    let stays = Double::beside(&behind);
    let relay = Relay::to(behind.address()).await;
    let endpoints = vec![endpoint(relay.address), stays.endpoint()];
    let publisher = publisher_with(endpoints, |_| {}).await;
    relay.silence();
    let reads: Vec<_> = (0..4)
        .map(|_| publisher.presence(presence("chat:1")))
        .collect();
    for read in reads {
        read.await.unwrap();
    }
    assert!(publisher.stats().retries > 0);
}

#[tokio::test]
async fn a_call_without_an_answer_ends_at_its_deadline() {
    let double = Double::start();
    let publisher = publisher(&double).await;
    double.state.set(Fault::Slow(Duration::from_secs(3)));
    let quick = publisher.timeout(Duration::from_millis(100));
    let started = Instant::now();
    let error = quick
        .publish(publication("chat:1", "{}"))
        .await
        .unwrap_err();
    let after = Duration::from_millis(100);
    let method = "Publish".into();
    assert_eq!(
        error,
        Error::Timeout {
            method,
            after,
            sent: true
        }
    );
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn only_what_is_safe_is_sent_twice() {
    let double = Double::start();
    let publisher = publisher(&double).await;
    double.state.set(Fault::Unavailable);
    let plain = publisher
        .publish(publication("plain", "{}"))
        .await
        .unwrap_err();
    assert!(matches!(plain, Error::Status { status: 14, .. }), "{plain}");
    assert_eq!(*double.state.singles.lock().unwrap(), 1);
    let keyed = publisher
        .idempotent()
        .publish(publication("keyed", "{}"))
        .await;
    assert!(keyed.is_err());
    assert_eq!(*double.state.singles.lock().unwrap(), 4, "three attempts");
    assert_eq!(double.state.of("keyed").len(), 1, "one effect");
    publisher.presence(presence("chat:1")).await.unwrap_err();
    assert_eq!(*double.state.reads.lock().unwrap(), 3);
}

#[tokio::test]
async fn retries_end_when_their_budget_is_spent() {
    let double = Double::start();
    let publisher = publisher(&double).await;
    double.state.set(Fault::Unavailable);
    for _ in 0..30 {
        publisher.presence(presence("chat:1")).await.unwrap_err();
    }
    let reads = *double.state.reads.lock().unwrap();
    assert_eq!(
        reads,
        30 + 10,
        "a few retries to begin with, then none without successes"
    );
}

#[tokio::test]
async fn calls_wait_for_an_endpoint_that_returns_and_say_so_if_it_does_not() {
    let mut double = Double::start();
    double.kill();
    let publisher = Publisher::connect(&towards(vec![double.endpoint()]), ":").unwrap();
    let short = publisher.timeout(Duration::from_millis(150));
    let error = short
        .publish(publication("chat:1", "{}"))
        .await
        .unwrap_err();
    let Error::Unavailable { why } = &error else {
        panic!("{error}");
    };
    assert!(why.contains(&double.endpoint().to_string()), "{why}");
    let waiting = publisher.publish(publication("chat:1", "{}"));
    double.restart();
    assert_eq!(waiting.await.unwrap().offset, 1);
}

#[tokio::test]
async fn tls_endpoints_are_reached_by_their_authority() {
    let names = vec!["127.0.0.1".to_owned()];
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(names).unwrap();
    let double = Double::with_tls(&cert.pem(), &signing_key.serialize_pem());
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, cert.pem()).unwrap();
    let mut endpoint = double.endpoint();
    endpoint.tls = true;
    let publisher = publisher_with(vec![endpoint.clone()], |config| {
        config.tls = ClientTlsConfig {
            ca: Some(ca.clone()),
            identity: None,
        };
    })
    .await;
    assert_eq!(
        publisher
            .publish(publication("chat:1", "{}"))
            .await
            .unwrap()
            .offset,
        1
    );

    let mut config = towards(vec![endpoint]);
    config.tls.ca = Some(dir.path().join("gone.pem"));
    let error = Publisher::connect(&config, ":").unwrap_err();
    assert!(error.to_string().contains("gone.pem"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_time_is_over_before_its_batch_is_sent_again_takes_no_other_ones_answer() {
    let mut double = Double::start();
    let state = Arc::clone(&double.state);
    state.set(Fault::Slow(Duration::from_millis(300)));
    let publisher = publisher_with(vec![double.endpoint()], |config| {
        config.flights = 1.try_into().unwrap();
        config.timeout = Duration::from_secs(15);
    });
    let publisher = publisher.await.idempotent();
    let first = publisher.publish_json("chat:first", &1);
    eventually("one is on its way", || *state.singles.lock().unwrap() == 1).await;
    let (called, short) = (Instant::now(), Duration::from_millis(900));
    let over = publisher.timeout(short).publish_json("chat:a", &1);
    let refused = publisher.publish_json("nosuch:b", &1);
    let done = publisher.publish_json("chat:c", &1);
    first.await.unwrap();
    eventually("the others are", || {
        !state.batches.lock().unwrap().is_empty()
    })
    .await;
    double.kill();
    eventually("the time of one is over", || called.elapsed() > short).await;
    state.set(Fault::None);
    double.restart();
    let error = over.await.unwrap_err();
    assert!(
        matches!(error, Error::Timeout { sent: true, .. }),
        "{error}"
    );
    assert_eq!(refused.await.unwrap_err().code(), Some(102));
    assert_eq!(done.await.unwrap().offset, 1);
    assert_eq!(*state.batches.lock().unwrap(), [(3, true), (2, true)]);
}
