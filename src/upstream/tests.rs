//! Addresses that come and go, and who of them gets calls.
#![allow(clippy::unwrap_used)]

use super::handler::Upstream;
use super::health::Verdict;
use super::member::{Kind, Member};
use super::resolve::Resolver;
use crate::config::{Config, HandlerConfig, LoadOptions, UpstreamConfig, load};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The settings of a handler with these keys.
fn config(keys: &[&str]) -> UpstreamConfig {
    let dir = tempfile::tempdir().unwrap();
    let mut options = LoadOptions::new([]);
    options.dir = dir.path().to_owned();
    options.sets.push("handler.b.kind=grpc".to_owned());
    let keys = keys.iter().map(|key| format!("handler.b.{key}"));
    options.sets.extend(keys);
    let mut config: Config = load(&options).unwrap().config;
    match config.handlers.remove("b") {
        Some(HandlerConfig::Upstream(config)) => *config,
        other => panic!("{other:?}"),
    }
}

/// An upstream with the addresses `127.0.0.1:1` and so on.
fn upstream(addresses: u16, keys: &[&str]) -> Upstream {
    let endpoints = (1..=addresses).map(|port| format!("\"grpc://127.0.0.1:{port}\""));
    let endpoints = endpoints.collect::<Vec<_>>().join(",");
    let endpoints = format!("endpoints=[{endpoints}]");
    let keys: Vec<&str> = keys.iter().copied().chain([&*endpoints]).collect();
    Upstream::try_new("b", &config(&keys)).unwrap()
}

/// How often each address is picked of so many times.
fn picks(upstream: &Upstream, count: usize) -> BTreeMap<SocketAddr, usize> {
    let mut picks = BTreeMap::new();
    for _ in 0..count {
        let member = upstream.fleet().pick(Kind::Call, &[]).unwrap();
        *picks.entry(member.address).or_default() += 1;
    }
    picks
}

fn members(upstream: &Upstream) -> Vec<Arc<Member>> {
    let mut found: Vec<Arc<Member>> = Vec::new();
    while let Some(member) = upstream.fleet().pick(Kind::Call, &found) {
        if found.iter().any(|known| Arc::ptr_eq(known, &member)) {
            break;
        }
        found.push(member);
    }
    found.sort_by_key(|member| member.address);
    found
}

#[tokio::test]
async fn the_address_with_fewer_calls_under_way_is_taken_of_two() {
    let upstream = upstream(2, &[]);
    let members = members(&upstream);
    members[0]
        .under_way(Kind::Call)
        .fetch_add(1, Ordering::Relaxed);
    let taken = picks(&upstream, 200);
    assert_eq!(taken.get(&members[1].address), Some(&200), "{taken:?}");
    // Streams are counted by themselves.
    let stream = |_| upstream.fleet().pick(Kind::Stream, &[]).unwrap().address;
    let streams: Vec<SocketAddr> = (0..200).map(stream).collect();
    assert!(streams.contains(&members[0].address));
}

#[tokio::test]
async fn among_many_addresses_every_one_is_taken_but_the_busiest() {
    let upstream = upstream(5, &[]);
    let members = members(&upstream);
    assert_eq!(members.len(), 5);
    members[4]
        .under_way(Kind::Call)
        .fetch_add(9, Ordering::Relaxed);
    let taken = picks(&upstream, 1000);
    assert_eq!(taken.len(), 4, "{taken:?}");
    assert!(taken.values().all(|count| *count > 100), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn an_ejected_address_is_left_out_until_its_time_is_over_and_where_all_are_all_take_part() {
    let upstream = upstream(2, &["eject.failures=1", "eject.time=1s"]);
    let members = members(&upstream);
    let rule = &upstream.fleet().rule;
    let down = Verdict::Down;
    assert_eq!(members[0].failed(rule, down), Some(Duration::from_secs(1)));
    assert_eq!(picks(&upstream, 100).len(), 1);
    tokio::time::advance(Duration::from_millis(600)).await;
    assert_eq!(members[1].failed(rule, down), Some(Duration::from_secs(1)));
    // All are out: nobody has to bear all of it.
    let taken = picks(&upstream, 200);
    assert!(taken.values().all(|count| *count > 50), "{taken:?}");
    // A second attempt goes to the other one all the same.
    let tried = [Arc::clone(&members[0])];
    let next = upstream.fleet().pick(Kind::Call, &tried).unwrap();
    assert_eq!(next.address, members[1].address);
    // One that answers takes calls again at once.
    members[0].succeeded(true);
    let taken = picks(&upstream, 100);
    assert_eq!(taken.get(&members[0].address), Some(&100), "{taken:?}");
    tokio::time::advance(Duration::from_millis(1100)).await;
    assert_eq!(picks(&upstream, 100).len(), 2);
    assert_eq!(upstream.standings()[0].ejections, 1);
}

#[tokio::test(start_paused = true)]
async fn once_fewer_than_half_are_left_calls_go_to_all_that_can_be_reached() {
    let upstream = upstream(5, &["eject.failures=1", "eject.time=1m"]);
    let members = members(&upstream);
    let rule = &upstream.fleet().rule;
    let eject = |at: usize, verdict| assert!(members[at].failed(rule, verdict).is_some());
    let taken = || {
        let taken = picks(&upstream, 500);
        let ports = taken.keys().map(SocketAddr::port);
        ports.collect::<Vec<u16>>()
    };
    eject(0, Verdict::Down);
    eject(1, Verdict::Unreachable);
    assert_eq!(taken(), [3, 4, 5], "three of five are enough");
    eject(2, Verdict::Down);
    assert_eq!(taken(), [1, 3, 4, 5], "nobody is there on the second");
    eject(3, Verdict::Unreachable);
    eject(4, Verdict::Unreachable);
    assert_eq!(taken(), [1, 3]);
    // The last failure counts: that it is refused says more than what came before.
    for at in [0, 2] {
        assert_eq!(members[at].failed(rule, Verdict::Unreachable), None);
    }
    assert_eq!(taken(), [1, 2, 3, 4, 5], "somebody has to be asked");
}

/// Addresses that a name has, to be changed; and how often it was asked for.
#[derive(Default)]
struct Names {
    addresses: Mutex<Option<Vec<SocketAddr>>>,
    asked: AtomicUsize,
}

impl Names {
    fn set(&self, ports: Option<&[u16]>) {
        let address = |port: &u16| SocketAddr::from(([127, 0, 0, 1], *port));
        let addresses = ports.map(|ports| ports.iter().map(address).collect());
        *self.addresses.lock().unwrap() = addresses;
    }

    fn resolver(self: &Arc<Self>) -> Resolver {
        let names = Arc::clone(self);
        Resolver::new(move |host, port| {
            assert_eq!((&*host, port), ("backend.internal", 9000));
            names.asked.fetch_add(1, Ordering::Relaxed);
            let found = names.addresses.lock().unwrap().clone();
            let gone = || io::Error::new(io::ErrorKind::NotFound, "no such name");
            Box::pin(async move { found.ok_or_else(gone) })
        })
    }
}

fn ports(upstream: &Upstream) -> Vec<u16> {
    let members = members(upstream);
    members.iter().map(|member| member.address.port()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_name_is_looked_up_every_ten_seconds_and_what_it_keeps_keeps_its_record() {
    let names = Arc::new(Names::default());
    names.set(Some(&[3, 1, 3]));
    let config = config(&["endpoints=[\"grpc://backend.internal:9000\"]"]);
    let upstream = Upstream::with_resolver("b", &config, names.resolver()).unwrap();
    assert!(upstream.fleet().pick(Kind::Call, &[]).is_none());
    upstream.start();
    upstream.start();
    upstream.until_looked_up(Duration::from_secs(1)).await;
    assert_eq!(ports(&upstream), [1, 3]);
    let before = members(&upstream);
    names.set(Some(&[2, 3]));
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(ports(&upstream), [1, 3]);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let after = members(&upstream);
    assert_eq!(ports(&upstream), [2, 3]);
    assert!(Arc::ptr_eq(&before[1], &after[1]), "it is the same");
    // A name that is gone for a while changes nothing.
    names.set(None);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(ports(&upstream), [2, 3]);
    assert!(upstream.fleet().why_empty().contains("no such name"));
}

#[tokio::test(start_paused = true)]
async fn a_failure_has_the_name_looked_up_at_once_but_not_more_than_once_a_second() {
    let names = Arc::new(Names::default());
    names.set(Some(&[1]));
    let config = config(&["endpoints=[\"grpc://backend.internal:9000\"]"]);
    let upstream = Upstream::with_resolver("b", &config, names.resolver()).unwrap();
    upstream.start();
    upstream.until_looked_up(Duration::from_secs(1)).await;
    names.set(Some(&[2]));
    for _ in 0..30 {
        upstream.fleet().doubt.notify_one();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(ports(&upstream), [2]);
    let asked = names.asked.load(Ordering::Relaxed);
    assert!((3..=5).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_given_up_looks_nothing_up_any_more() {
    let names = Arc::new(Names::default());
    names.set(Some(&[1]));
    let config = config(&["endpoints=[\"grpc://backend.internal:9000\"]"]);
    let upstream = Upstream::with_resolver("b", &config, names.resolver()).unwrap();
    upstream.start();
    upstream.until_looked_up(Duration::from_secs(1)).await;
    drop(upstream);
    let asked = names.asked.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(names.asked.load(Ordering::Relaxed), asked);
}
