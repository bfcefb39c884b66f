//! `/metrics` of nodes that form a cluster: every metric of the cluster is there and true, and shown
//! or watched.

use super::exposition::{Kind, Labels, Page};
use super::shipped::{expressions, words};
use super::{LIMIT, file, parse};
use centripeta::config::{Config, LoadOptions, load};
use centripeta::proto::proxy::RpcRequest;
use centripeta::proto::proxy::centrifugo_proxy_client::CentrifugoProxyClient;
use centripeta::{GrpcAddress, Listeners, Node, Router, RpcReply, metrics};
use centripeta_cluster::member::{self, Founding};
use serde_json::Value;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

/// What a node of `name` is configured with, where others find the first.
fn config(dir: &Path, name: &str, listen: &str, seed: &str) -> Config {
    let mut options = LoadOptions::new([]);
    options.dir = dir.to_owned();
    options.sets = vec![
        "listen.grpc=127.0.0.1:0".into(),
        "listen.admin=127.0.0.1:0".into(),
        "runtime.cores=1".into(),
        format!("node.name={name}"),
        format!("node.data={}", dir.join(name).display()),
        format!("cluster.listen={listen}"),
        format!("cluster.seeds={seed}"),
    ];
    load(&options).unwrap().config
}

async fn free() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

async fn get(node: &Node, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let mut socket = TcpStream::connect(node.addresses().admin).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = socket.read_to_string(&mut answer);
    timeout(LIMIT, read).await.unwrap().unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

async fn page(node: &Node) -> Page {
    parse(&get(node, "/metrics").await)
}

/// Scrapes until the page says what we wait for.
async fn eventually(node: &Node, what: &str, holds: impl Fn(&Page) -> bool) -> Page {
    let until = Instant::now() + LIMIT;
    loop {
        let page = page(node).await;
        if holds(&page) {
            return page;
        }
        assert!(Instant::now() < until, "not within the limit: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// All samples with these labels, added up; of a histogram, how many were counted.
fn number(page: &Page, metric: &str, wanted: &[(&str, &str)]) -> f64 {
    let Some(family) = page.get(metric) else {
        return 0.0;
    };
    let fits = |labels: &Labels| {
        let has = |(name, value): &(&str, &str)| labels.get(*name).is_some_and(|it| it == value);
        wanted.iter().all(has)
    };
    let numbers = family.numbers.iter().filter(|(labels, _)| fits(labels));
    let counts = family.histograms.iter().filter(|(labels, _)| fits(labels));
    let counted: f64 = counts.filter_map(|(_, it)| it.count).sum();
    numbers.map(|(_, number)| number).sum::<f64>() + counted
}

/// A cluster of one voter, on this disk.
fn found(config: &Config, listen: &str) {
    let founding = Founding {
        voters: 1,
        ..Founding::new("a", vec![listen.to_owned()])
    };
    member::init(&config.node.data, &founding).unwrap();
}

/// Nodes `a`, which has founded the cluster, and `b`; and where `a` takes links.
async fn two(dir: &Path) -> (Node, Node, String) {
    let (first, second) = (free().await, free().await);
    let of_a = config(dir, "a", &first, &first);
    found(&of_a, &first);
    let of_b = config(dir, "b", &second, &first);
    let listeners = Listeners::bind(&of_a).await.unwrap();
    let a = Node::start(&of_a, Router::new(), listeners).await.unwrap();
    // What `b` gets then has to move.
    eventually(&a, "a has every slot", |page| {
        number(page, "centripeta_cluster_slots", &[("state", "open")]) == 4096.0
    })
    .await;
    let listeners = Listeners::bind(&of_b).await.unwrap();
    let b = Node::start(&of_b, Router::new(), listeners).await.unwrap();
    (a, b, first)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_of_a_cluster_are_true_and_each_is_shown_or_watched() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, listen) = two(dir.path()).await;
    let open = |page: &Page| number(page, "centripeta_cluster_slots", &[("state", "open")]);
    let settled = |page: &Page| {
        open(page) > 2_000.0
            && open(page) < 2_100.0
            && number(page, "centripeta_cluster_link_up", &[("class", "control")]) == 2.0
    };
    let of_a = eventually(&a, "slots have moved to b", |page| {
        settled(page)
            && number(page, "centripeta_cluster_moves", &[]) == 0.0
            // The new owner says so on its own way.
            && number(page, "centripeta_cluster_move_stall_seconds", &[]) > 0.0
    })
    .await;
    let owned = "centripeta_cluster_owned_slots";
    let rest = 4096.0 - number(&of_a, owned, &[]);
    eventually(&b, "and b knows it", |page| {
        settled(page) && number(page, owned, &[]) == rest
    })
    .await;
    let version = "centripeta_cluster_table_version";
    let of_b = eventually(&b, "its table is the leader's", |page| {
        number(page, version, &[]) == number(&of_a, version, &[])
            && number(page, "centripeta_cluster_table_lag_versions", &[]) == 0.0
    })
    .await;
    for page in [&of_a, &of_b] {
        // At least: it was founded, two nodes have come, their slots were given and moved.
        assert!(number(page, version, &[]) >= 6.0);
        assert_eq!(number(page, "centripeta_cluster_outgoing_moves", &[]), 0.0);
        let oldest = "centripeta_cluster_oldest_move_seconds";
        assert_eq!(number(page, oldest, &[]), 0.0, "no move is open");
        let control = [("class", "control")];
        let silence = "centripeta_cluster_link_silence_seconds";
        let silence = number(page, silence, &control);
        assert!(silence > 0.0 && silence < 2.0, "of two links: {silence}");
        let reconnects = "centripeta_cluster_link_reconnects_total";
        assert_eq!(number(page, reconnects, &control), 0.0);
        let left = number(page, "centripeta_cluster_lease_remaining_seconds", &[]);
        assert!(left > 0.0 && left <= 1.2, "{left}");
        assert_eq!(number(page, "centripeta_cluster_quorum", &[]), 1.0);
        assert_eq!(number(page, "centripeta_cluster_vacant_slots", &[]), 0.0);
        assert_eq!(number(page, "centripeta_cluster_degraded", &[]), 0.0);
        let up = [("state", "up")];
        assert_eq!(number(page, "centripeta_cluster_members", &up), 2.0);
        assert!(number(page, "centripeta_cluster_table_age_seconds", &[]) < 2.0);
        assert!(number(page, "centripeta_cluster_raft_term", &[]) >= 1.0);
        assert_eq!(number(page, "centripeta_ready", &[]), 1.0);
    }
    let leads = "centripeta_cluster_leads";
    assert_eq!(
        (number(&of_a, leads, &[]), number(&of_b, leads, &[])),
        (1.0, 0.0)
    );
    let moved = number(&of_a, "centripeta_cluster_move_stall_seconds", &[]);
    assert!(moved > 0.0 && moved <= 4096.0, "{moved}");
    assert!(number(&of_a, "centripeta_cluster_commit_seconds", &[]) > 0.0);
    assert!(number(&of_a, "centripeta_cluster_flush_seconds", &[]) > 0.0);

    // Someone who speaks garbage.
    let mut socket = TcpStream::connect(&listen).await.unwrap();
    socket.write_all(&[b'x'; 64]).await.unwrap();
    let refused = eventually(&a, "the refusal counts", |page| {
        let malformed = [("reason", "not_a_peer")];
        number(page, "centripeta_cluster_refused_links_total", &malformed) == 1.0
    })
    .await;
    drop(refused);

    let exported: BTreeSet<&str> = of_a.keys().map(String::as_str).collect();
    let ours = |name: &&str| name.starts_with("centripeta_cluster_");
    let documented: BTreeSet<&str> = metrics::names().filter(ours).collect();
    let missing: Vec<_> = documented.difference(&exported).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let shown: Vec<(String, String)> = expressions();
    let used: BTreeSet<&str> = shown.iter().flat_map(|(_, it)| words(it)).collect();
    let reference = file("docs/metrics.md");
    for name in documented {
        let family = &of_a[name];
        assert!(reference.contains(&format!("| `{name}` |")), "{name}");
        assert!(family.labels().next().is_some(), "{name} has no sample");
        let is_used = match family.kind {
            Kind::Histogram => used.contains(format!("{name}_bucket").as_str()),
            _ => used.contains(name),
        };
        assert!(is_used, "neither shown nor watched: {name}");
    }
    b.shutdown(LIMIT).await;
    let alone = |page: &Page| number(page, owned, &[]) == 4096.0;
    let of_a = eventually(&a, "all slots are back", alone).await;
    let state = |state| number(&of_a, "centripeta_cluster_members", &[("state", state)]);
    assert_eq!((state("up"), state("dead") + state("draining")), (1.0, 1.0));
    a.shutdown(Duration::ZERO).await;
}

/// Holds the core that an rpc runs on until something is sent.
fn holding() -> (Router, mpsc::Sender<()>) {
    let (release, held) = mpsc::channel();
    let held = Mutex::new(held);
    let router = Router::new().rpc("hold", move || {
        // Blocks the core, as no handler should.
        let _ = held.lock().unwrap().recv();
        async { RpcReply::done() }
    });
    (router, release)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_core_that_is_held_is_named_by_readiness_and_makes_the_node_degraded_until_it_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let listen = free().await;
    let mut config = config(dir.path(), "a", &listen, &listen);
    config.runtime.cores = NonZeroUsize::new(2);
    found(&config, &listen);
    let (router, release) = holding();
    let listeners = Listeners::bind(&config).await.unwrap();
    let node = Node::start(&config, router, listeners).await.unwrap();
    let degraded = |page: &Page| number(page, "centripeta_cluster_degraded", &[]);
    eventually(&node, "it is ready", |page| {
        number(page, "centripeta_ready", &[]) == 1.0 && degraded(page) == 0.0
    })
    .await;
    let GrpcAddress::Tcp(grpc) = node.addresses().grpc else {
        panic!("not a TCP address");
    };
    let channel = Channel::from_shared(format!("http://{grpc}")).unwrap();
    let mut client = CentrifugoProxyClient::new(channel.connect().await.unwrap());
    let call = tokio::spawn(async move {
        let method = "hold".to_owned();
        let mut request = tonic::Request::new(RpcRequest {
            method,
            ..RpcRequest::default()
        });
        request.set_timeout(LIMIT);
        client.rpc(request).await
    });
    let held = eventually(&node, "a core makes no progress", |page| {
        degraded(page) == 1.0
    })
    .await;
    let lease = number(&held, "centripeta_cluster_lease_remaining_seconds", &[]);
    assert!(lease > 0.0, "one core of two costs no lease");
    let ready: Value = serde_json::from_str(&get(&node, "/ready").await).unwrap();
    let words = ready["degraded"].as_str().unwrap_or_default();
    let is_core = |core: usize| words == format!("core {core} makes too little progress");
    assert!((0..2).any(is_core), "{ready}");

    release.send(()).unwrap();
    assert!(call.await.unwrap().is_ok());
    eventually(&node, "it goes on", |page| degraded(page) == 0.0).await;
    let ready: Value = serde_json::from_str(&get(&node, "/ready").await).unwrap();
    assert!(ready["degraded"].is_null(), "{ready}");
    node.shutdown(Duration::ZERO).await;
}
