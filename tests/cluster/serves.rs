//! Work is split: one node runs connects, one rpcs, one channels. Each takes every event.

use super::drive::Door;
use super::fleet::{Fleet, Spec};
use super::process::eventually;
use super::support::{Client, json, path, request};
use centripeta::event::EventKind;

const CLIENT: &str = r#""client":"c1","transport":"websocket","protocol":"json","encoding":"json""#;

/// Handlers whose replies name the node.
fn routes(name: &str) -> String {
    let own = format!("user = \"served-by-{name}\"");
    let who = format!(
        "[handler.who]\nkind = \"static\"\nreply = {{ data = {{ node = \"{name}\" }} }}\n\
         [[route]]\non = \"rpc\"\nmatch = \"who\"\nhandler = \"who\"\n"
    );
    let plain = Spec::plain(name).routes;
    plain.replace("user = \"guest-{client}\"", &own) + &who
}

fn spec(name: &str, serves: &[&str]) -> Spec {
    Spec {
        routes: routes(name),
        ..Spec::plain(name).that_serves(serves)
    }
}

async fn answer(client: &Client, kind: EventKind, rest: &str) -> String {
    let user = match kind {
        EventKind::Connect => "",
        _ => r#","user":"u1""#,
    };
    let message = request(kind, &format!("{{{CLIENT}{user}{rest}}}"));
    let reply = client.call(&path(kind), &[], &message).await;
    json(kind, reply.message())
}

/// What `explain` on a node says: it names who runs each kind, and what that one says of itself.
fn explained(fleet: &Fleet, through: usize) {
    let ways: [(&[&str], usize, &str); 3] = [
        (&["connect"], 0, "welcome"),
        (&["rpc", "--method", "who", "--user", "u1"], 1, "who"),
        (&["rpc", "--method", "count", "--user", "u1"], 2, "counter"),
    ];
    for (event, runs, handler) in ways {
        let told = fleet
            .json(through, &[&["explain"], event].concat())
            .unwrap();
        let path = &told["path"];
        let way = if runs == through { "here" } else { "forwarded" };
        assert_eq!(path["ingress"]["name"], fleet.name(through), "{told}");
        assert_eq!(path["way"], way, "{told}");
        let node = &path["nodes"][0];
        assert_eq!(node["node"]["name"], fleet.name(runs), "{told}");
        assert_eq!(
            (&node["handler"], &node["unknown"]),
            (&handler.into(), &"".into()),
            "{told}"
        );
        assert!(node["lease_ms"].as_u64().unwrap() > 0, "{told}");
        if runs == 2 {
            assert_eq!(told["route"]["place"]["owner"], "c", "{told}");
            assert_eq!(
                (&node["gate"], &node["epoch"]),
                (&"open".into(), &path["slot"]["epoch"])
            );
        }
    }
    let offline = fleet.json(
        through,
        &["explain", "rpc", "--method", "count", "--offline"],
    );
    let offline = offline.unwrap();
    assert!(
        offline["path"].is_null() && offline["route"]["place"]["owner"].is_null(),
        "{offline}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_event_is_answered_through_any_node_by_the_node_that_serves_it() {
    let Some(_turn) = super::turn("nodes serve different events") else {
        return;
    };
    let mut fleet = Fleet::of(vec![
        spec("a", &["connect"]),
        spec("b", &["rpc"]),
        spec("c", &["channel"]),
    ]);
    for through in 0..3 {
        let door = Door::new(fleet.socket(through));
        let client = door.client().await.unwrap();
        let welcome = answer(&client, EventKind::Connect, "").await;
        assert!(welcome.contains("served-by-a"), "{through}: {welcome}");
        let who = answer(&client, EventKind::Rpc, r#","method":"who""#).await;
        assert!(who.contains(r#""node":"b""#), "{through}: {who}");
        let counted = door.count("u1").await.unwrap();
        assert_eq!(
            (counted.node.as_str(), counted.count),
            ("c", through as u64 + 1)
        );
        let subscribed = answer(&client, EventKind::Subscribe, r#","channel":"chat:1""#).await;
        assert!(subscribed.contains("result"), "{through}: {subscribed}");
        explained(&fleet, through);
    }
    // A reload changes what a node serves, in the whole cluster.
    fleet.respec(1, |spec| spec.node = "serves = [\"connect\"]\n".to_owned());
    fleet.respec(0, |spec| {
        spec.node = "serves = [\"connect\", \"rpc\"]\n".to_owned();
    });
    for node in [0, 1] {
        let reloaded = fleet.json(node, &["reload"]).unwrap();
        let waits = reloaded["needs_restart"].to_string();
        assert!(!waits.contains("serves"), "{reloaded}");
    }
    let door = Door::new(fleet.socket(2));
    let client = door.client().await.unwrap();
    super::support::eventually("rpcs are answered by the other node", async || {
        let who = answer(&client, EventKind::Rpc, r#","method":"who""#).await;
        who.contains(r#""node":"a""#)
    })
    .await;
    eventually("the table says so", || {
        let nodes = fleet.json(2, &["cluster", "nodes"])?;
        let of_b = nodes["nodes"]
            .as_array()?
            .iter()
            .find(|node| node["node"]["name"] == "b")?;
        (!of_b["serves"].to_string().contains("rpc")).then_some(())
    });
}
