//! The composition without containers: real nodes, Centrifugos, Redis and nginx with the shipped files,
//! of which only the addresses differ.

use super::client::count_of;
use super::world::Composition;
use super::{CENTRIFUGOS, NODES, found, get};
use crate::process::eventually;
use serde_json::{Value, json};

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
    let ok = |reply: Result<Value, String>, part: &str| {
        let reply = reply.unwrap();
        assert!(reply[part].is_object(), "{reply}: {}", all.say());
        reply[part].clone()
    };
    let lobby = json!({ "subscribe": { "channel": "chat:lobby" } });
    ok(ann.call(lobby.clone()).await, "subscribe");
    ok(bob.call(lobby).await, "subscribe");
    let publish = json!({ "publish": { "channel": "chat:lobby", "data": { "n": 7 } } });
    ok(ann.call(publish).await, "publish");
    assert_eq!(bob.hears("chat:lobby").await, json!({ "n": 7 }));
    let echo = json!({ "rpc": { "method": "echo", "data": { "n": 8 } } });
    for client in [&mut ann, &mut bob] {
        let reply = ok(client.call(echo.clone()).await, "rpc");
        assert_eq!(reply["data"], json!({ "n": 8 }));
    }
    // Calls that come in by different Centrifugos and nodes meet in one owner.
    let (first, owner) = all.count(&mut ann).await;
    assert_eq!(first, 1);
    for count in 2..=9 {
        let client = if count % 2 == 0 { &mut bob } else { &mut ann };
        assert_eq!(all.count(client).await, (count, owner.clone()));
    }

    // Clients reach neither metrics nor API; Prometheus finds them inside.
    for path in ["/metrics", "/health", "/api"] {
        let refused = get(&all.front(), path, None);
        assert!(refused.starts_with("HTTP/1.1 404"), "{path} {refused}");
    }

    // The owner dies: another node takes over, and clients stay where they are.
    let lost = NODES.into_iter().find(|node| *node == owner).unwrap();
    all.nodes[lost].signal("KILL");
    for client in [&mut ann, &mut bob] {
        let (_, now) = all.count(client).await;
        assert_ne!(now, owner);
    }
    // It counts from 1 again, since nothing durable is kept; what was answered to nobody may have counted.
    let (count, _) = all.count(&mut ann).await;
    assert!((3..12).contains(&count), "{count}");
    let mut carl = all.client().await;
    all.count(&mut carl).await;

    // It comes back on its disk; then another is stopped as Compose stops it, and no call is lost.
    all.start_node(lost);
    all.is_ready(lost);
    let stopped = NODES.into_iter().find(|node| *node != lost).unwrap();
    let mut counts = vec![all.count(&mut carl).await.0];
    all.nodes[stopped].signal("TERM");
    let mut node = all.nodes.remove(stopped).unwrap();
    let mut stop = tokio::task::spawn_blocking(move || node.end());
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut stop => break ended.unwrap(),
            counted = carl.call(count_of("lobby")) => {
                let reply = counted.unwrap();
                let count = reply["rpc"]["data"]["count"].as_u64();
                counts.push(count.unwrap_or_else(|| panic!("{reply}: {}", all.say())));
            }
        }
    };
    assert_eq!(ended.code(), Some(0));
    let gapless: Vec<u64> = (counts[0]..).take(counts.len()).collect();
    assert_eq!(counts, gapless);
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
    assert_eq!(all.voters(), ["a", "b", "d"]);

    // A pod without a volume.
    let pod = [
        ("CENTRIPETA_NODE__NAME", "e"),
        ("CENTRIPETA_NODE__ROLES", "[\"ingress\", \"region\"]"),
    ];
    for disk in ["first", "second", "third"] {
        all.start_node_on("e", disk, &pod);
        all.is_ready("e");
        all.lose("e");
    }
}
