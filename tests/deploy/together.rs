//! The composition without containers: real nodes, Centrifugos, Redis and nginx with the shipped files,
//! of which only the addresses differ.

use super::world::Composition;
use super::{CENTRIFUGOS, NODES, found, get};
use crate::process::eventually;
use serde_json::json;

/// Whether the lease of a node that said this ran out while it lived.
fn lapsed(said: &[String]) -> bool {
    said.iter().any(|line| line.contains("the lease is over"))
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_get_through_nginx_and_two_centrifugos_to_three_nodes_and_the_loss_of_one_stops_none()
 {
    let Some(centrifugo) = found("centrifugo", "CENTRIFUGO_BIN") else {
        return;
    };
    let Some(redis) = found("redis-server", "REDIS_SERVER_BIN") else {
        return;
    };
    let Some(nginx) = found("nginx", "NGINX_BIN") else {
        return;
    };
    let mut all = Composition::begin().await;
    all.start_redis(redis);
    all.start_nodes();
    let again = all.found("a");
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.out.contains("nothing to do"), "{again:?}");
    // A lost disk founds no second cluster beside the first.
    let refused = all.found("empty");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("there is one already"), "{refused:?}");

    for name in CENTRIFUGOS {
        all.start_centrifugo(&centrifugo, name);
    }
    all.start_nginx(nginx);
    let [mut ann, mut bob] = all.clients_of_each().await;
    let lobby = json!({ "subscribe": { "channel": "chat:lobby" } });
    all.call(&mut ann, lobby.clone(), "subscribe").await;
    all.call(&mut bob, lobby, "subscribe").await;
    let publish = json!({ "publish": { "channel": "chat:lobby", "data": { "n": 7 } } });
    all.call(&mut ann, publish, "publish").await;
    assert_eq!(bob.hears("chat:lobby").await, json!({ "n": 7 }));
    let echo = json!({ "rpc": { "method": "echo", "data": { "n": 8 } } });
    for client in [&mut ann, &mut bob] {
        let reply = all.call(client, echo.clone(), "rpc").await;
        assert_eq!(reply["data"], json!({ "n": 8 }));
    }
    // Calls that come in by different Centrifugos and nodes meet in one owner.
    let mut counts = Vec::new();
    let mut owner = String::new();
    for at in 0..10 {
        let client = if at % 2 == 0 { &mut ann } else { &mut bob };
        let (count, by) = all.count(client).await;
        counts.push(count);
        owner = by;
    }
    assert!(counts.is_sorted_by(|one, next| one < next), "{counts:?}");

    // Clients reach neither metrics nor API; Prometheus finds them inside.
    for path in ["/metrics", "/health", "/api"] {
        let refused = get(&all.front(), path, None);
        assert!(refused.starts_with("HTTP/1.1 404"), "{path} {refused}");
    }
    for name in CENTRIFUGOS {
        let page = all.inside(name, "/metrics");
        assert!(page.starts_with("HTTP/1.1 200"), "{name} {page}");
    }

    // The owner dies: another node takes over, and clients stay where they are.
    let lost = NODES.into_iter().find(|node| *node == owner).unwrap();
    all.nodes[lost].signal("KILL");
    for client in [&mut ann, &mut bob] {
        let (_, now) = all.count(client).await;
        assert_ne!(now, owner);
    }
    // It counts from 1 again, since nothing durable is kept.
    let (count, _) = all.count(&mut ann).await;
    assert!(count < counts[9], "{count} after {counts:?}");
    let mut carl = all.client().await;
    all.count(&mut carl).await;

    // It comes back on its disk; then another is stopped as Compose stops it, and the
    // count goes on.
    all.start_node(lost);
    all.is_ready(lost);
    let stopped = NODES.into_iter().find(|node| *node != lost).unwrap();
    let mut counts = vec![all.count(&mut carl).await.0];
    all.nodes[stopped].signal("TERM");
    let mut node = all.nodes.remove(stopped).unwrap();
    let stop = tokio::task::spawn_blocking(move || (node.end(), node.said()));
    let mut failed = Vec::new();
    while !stop.is_finished() {
        match all.count_once(&mut carl).await {
            Ok((count, _)) => counts.push(count),
            Err(instead) => failed.push(instead),
        }
    }
    let (ended, said) = stop.await.unwrap();
    assert_eq!(ended.code(), Some(0));
    let (after, _) = all.count(&mut carl).await;
    counts.push(after);
    if lapsed(&said) || all.nodes.values().any(|node| lapsed(&node.said())) {
        eprintln!("SKIPPED: the machine is too slow: a lease ran out, and calls may fail then");
    } else {
        assert!(failed.is_empty(), "{failed:?}");
        let gapless = counts.is_sorted_by(|one, next| one + 1 == *next);
        assert!(gapless, "{counts:?}");
    }
    all.count(&mut all.client().await).await;

    // A Centrifugo dies: its clients come back through the other.
    all.centrifugos.remove("centrifugo-1");
    let mut dora = all.client().await;
    all.count(&mut dora).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_whose_disk_is_lost_is_replaced_under_another_name_and_a_non_voter_comes_back_under_its_own()
 {
    let mut all = Composition::begin().await;
    all.start_nodes();
    // Nobody is to vote twice: the name stays with the lost disk until an operator removes it.
    all.lose("c");
    all.start_node_on("c", "another", &[]);
    all.nodes["c"].says("belongs to node");
    let refused = all.operate(&["cluster", "remove", "c"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    all.lose("c");
    all.start_node_on("c", "another", &[("CENTRIPETA_NODE__NAME", "d")]);
    all.is_ready("c");
    eventually("c is removed", || {
        let removed = all.operate(&["cluster", "remove", "c"]);
        (removed.code == 0).then_some(())
    });
    all.vote(&["a", "b", "d"]);

    // A pod without a volume.
    let pod = [
        ("CENTRIPETA_NODE__NAME", "e"),
        ("CENTRIPETA_NODE__ROLES", "[\"ingress\", \"region\"]"),
    ];
    for disk in ["first", "second"] {
        all.start_node_on("e", disk, &pod);
        all.is_ready("e");
        all.lose("e");
    }
}
