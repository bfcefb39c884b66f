//! What a node says of its part in the cluster; secrets that change while it runs.

#![allow(clippy::unwrap_used, clippy::field_reassign_with_default)]

use super::*;
use crate::config::{LoadOptions, load};
use crate::node::{Listeners, Node};
use crate::region::GateCounts;
use crate::router::Router;
use centripeta_cluster::member::{Founding, init};
use centripeta_cluster::peer::{SecretSource, SecurityConfig, probe};
use std::path::Path;
use std::sync::atomic::Ordering;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_server::Health;
use tonic_health::server::HealthService;

const OLD: &str = "an old secret of sixteen bytes";
const NEW: &str = "a new secret of sixteen bytes";

/// A node that is ready, but for this.
fn but(change: impl FnOnce(&mut Status)) -> Status {
    let mut status = Status::default();
    status.state = Some(NodeState::Up);
    status.lease_left = Duration::from_millis(900);
    status.table_age = Some(Duration::from_millis(100));
    change(&mut status);
    status
}

#[test]
fn a_node_is_ready_only_up_with_a_lease_and_a_fresh_table_and_says_what_is_missing() {
    assert_eq!(readiness(&but(|_| {})), Ok(()));
    let not = |status: Status, words: &str| {
        let why = readiness(&status).unwrap_err();
        assert!(why.contains(words), "{why}");
    };
    for (state, words) in [
        (None, "no member of it has answered"),
        (Some(NodeState::Joining), "joining the cluster"),
        (Some(NodeState::Draining), "draining"),
        (Some(NodeState::Dead), "joins again"),
        (Some(NodeState::Removed), "joins again"),
    ] {
        not(but(|status| status.state = state), words);
    }
    let refuse = |status: &mut Status| status.refused = Some("the name is taken".to_owned());
    let refused = but(|status| {
        status.state = None;
        refuse(status);
    });
    not(refused, "the name is taken");
    assert_eq!(readiness(&but(refuse)), Ok(()), "a refusal that is over");
    not(
        but(|status| status.lease_left = Duration::ZERO),
        "no lease: the leader, or a quorum, is out of reach",
    );
    let stuck = |status: &mut Status| {
        status.lease_left = Duration::ZERO;
        status.degraded = Some(Some(1));
    };
    not(but(stuck), "no lease: core 1 makes too little progress");
    for age in [None, Some(STALE)] {
        not(but(|status| status.table_age = age), "out of date");
    }
}

#[test]
fn a_degraded_node_is_ready_and_names_the_core_that_is_late_or_its_timer() {
    let late = |worker| but(|status| status.degraded = worker);
    assert_eq!(degraded(&late(None)), None);
    for (worker, words) in [
        (Some(3), "core 3 makes too little progress"),
        (None, "the lease timer was late"),
    ] {
        let status = late(Some(worker));
        assert_eq!(readiness(&status), Ok(()));
        assert_eq!(degraded(&status).as_deref(), Some(words));
    }
}

#[test]
fn the_summary_of_a_node_says_what_it_has_or_what_is_missing() {
    let up = but(|status| status.slots = 1365);
    assert_eq!(summary(&up), "up with 1365 slots");
    let busy = but(|status| {
        (status.slots, status.leads, status.vacant) = (4096, true, 2);
        status.degraded = Some(None);
    });
    assert_eq!(
        summary(&busy),
        "up with 4096 slots, leads, degraded: the lease timer was late, 2 slots without an owner"
    );
    let lapsed = but(|status| status.lease_left = Duration::ZERO);
    assert_eq!(summary(&lapsed), readiness(&lapsed).unwrap_err());
}

#[test]
fn a_drain_is_in_vain_without_heirs_and_after_four_seconds_without_a_quorum() {
    let ms = Duration::from_millis;
    assert_eq!(vain(true, ms(3_999)), None);
    assert!(vain(true, ms(4_000)).unwrap().contains("no quorum"));
    assert!(vain(false, ms(0)).unwrap().contains("no other node"));
}

#[test]
fn a_drain_says_what_it_has_ended_itself_and_nothing_of_what_was_ended_before() {
    let counts = GateCounts::default();
    counts.cut.store(7, Ordering::Relaxed);
    counts.streams.store(40, Ordering::Relaxed);
    let before = counts.ended();
    assert_eq!(ended_words(counts.ended().since(before)), None);
    counts.cut.store(9, Ordering::Relaxed);
    counts.streams.store(45, Ordering::Relaxed);
    let words = ended_words(counts.ended().since(before)).unwrap();
    assert!(
        words.contains("cut 2 events") && words.contains("ended 5 streams"),
        "{words}"
    );
}

fn config(dir: &Path, listen: &str, more: &[&str]) -> Config {
    let mut options = LoadOptions::new([]);
    options.dir = dir.to_owned();
    options.sets = vec![
        "listen.grpc=127.0.0.1:0".into(),
        "listen.admin=127.0.0.1:0".into(),
        "runtime.cores=1".into(),
        "node.name=a".into(),
        format!("node.data={}", dir.join("data").display()),
        format!("cluster.listen={listen}"),
    ];
    options.sets.extend(more.iter().map(|it| (*it).to_owned()));
    load(&options).unwrap().config
}

async fn free() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Whether someone with this secret is let in.
async fn enters(listen: &str, secret: &str) -> bool {
    let security = SecurityConfig {
        secrets: vec![SecretSource::Text(secret.to_owned())],
        tls: None,
        insecure: false,
    };
    probe(listen, "b", security).await.is_ok()
}

async fn serves(node: &Node) -> ServingStatus {
    let service = HealthService::from_health_reporter(node.health.clone());
    let request = tonic::Request::new(HealthCheckRequest::default());
    let said = service.check(request).await.unwrap().into_inner().status;
    match said {
        1 => ServingStatus::Serving,
        _ => ServingStatus::NotServing,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_changes_secrets_and_what_is_served_and_health_follows_the_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let listen = free().await;
    let file = dir.path().join("secret");
    std::fs::write(&file, OLD).unwrap();
    let secret = format!("cluster.secret=file:{}", file.display());
    let before = config(dir.path(), &listen, &[&secret]);
    let founding = Founding {
        voters: 1,
        ..Founding::new("a", vec![listen.clone()])
    };
    init(&before.node.data, &founding).unwrap();
    let listeners = Listeners::bind(&before).await.unwrap();
    let node = Node::start(&before, Router::new(), listeners)
        .await
        .unwrap();
    let membership = node.membership.clone().unwrap();
    let until = async |what: &str, holds: &dyn Fn() -> bool| {
        for _ in 0..2_000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("not within the limit: {what}");
    };
    until("the node is ready", &|| membership.ready().is_ok()).await;
    let mut tries = 0;
    while serves(&node).await != ServingStatus::Serving {
        tries += 1;
        assert!(tries < 2_000, "health follows");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(enters(&listen, OLD).await && !enters(&listen, NEW).await);

    // The same file says something else.
    std::fs::write(&file, NEW).unwrap();
    let change = node.prepare(&before, Router::new()).await.unwrap();
    assert!(enters(&listen, OLD).await, "nothing is touched yet");
    change.apply();
    assert!(enters(&listen, NEW).await && !enters(&listen, OLD).await);

    std::fs::remove_file(&file).unwrap();
    let refused = node.prepare(&before, Router::new()).await.unwrap_err();
    assert!(refused.to_string().contains("cluster.secret"), "{refused}");
    assert!(enters(&listen, NEW).await, "what runs stays");

    std::fs::write(&file, NEW).unwrap();
    let after = config(
        dir.path(),
        &listen,
        &[&secret, "node.serves=[\"connect\", \"channel\"]"],
    );
    let hash = node.engine.routes_hash();
    let router = Router::new().publish("*", || async { crate::event::PublishReply::allow() });
    node.prepare(&after, router).await.unwrap().apply();
    assert_ne!(node.engine.routes_hash(), hash);
    let standing = Arc::clone(&node.standing);
    let (now, serves) = (node.engine.routes_hash(), after.node.serves.clone());
    until("the table says so", &|| {
        let shown = standing.shown();
        let me = shown.table.node(shown.me.id);
        me.is_some_and(|me| me.serves == serves && me.routes_hash == now)
    })
    .await;
    node.shutdown(Duration::from_millis(100)).await;
}
