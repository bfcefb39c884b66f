//! The work is shared: connect on one node, rpc on another, channels on the third, whichever of them
//! Centrifugo asks.

use super::centrifugo::To;
use super::clients::Clients;
use super::fleet::{Binary, Fleet, NODES};
use super::process::eventually;
use serde_json::{Value, json};

/// What every node answers; the fixed replies name it.
fn routes(name: &str) -> String {
    format!(
        r#"
[handler.welcome]
kind = "static"
reply = {{ user = "guest-{{client}}", data = {{ node = "{name}" }} }}

[handler.who]
kind = "static"
reply = {{ data = {{ node = "{name}", client = "{{client}}" }} }}

[[route]]
on = "connect"
handler = "welcome"

[[route]]
on = ["subscribe", "publish"]
match = "chat:{{room}}"
handler = "counter"

[[route]]
on = "subscribe"
match = "seen:{{room}}"
handler = "seen"

[handler.seen]
kind = "static"
reply = {{ data = {{ client = "{{client}}", user = "{{user}}" }} }}

[[route]]
on = "rpc"
match = "who"
handler = "who"

[[route]]
on = "rpc"
match = "count"
key = "chat:{{data.room}}"
handler = "counter"
"#
    )
}

#[test]
fn with_connect_rpc_and_channels_on_a_node_each_every_event_runs_where_it_is_served() {
    let Some((_turn, programs)) = super::turn("nodes that share the work behind a Centrifugo")
    else {
        return;
    };
    let fleet = Fleet::serving(
        Binary::Stock,
        [&["connect"], &["rpc"], &["channel"]],
        routes,
    );
    let right: &[_] = &[("connect", 0), ("rpc", 1), ("subscribe", 2), ("publish", 2)];
    let wrong: &[_] = &[("connect", 1), ("rpc", 2), ("subscribe", 0), ("publish", 1)];
    let ways = [
        ("right", To::Split(right)),
        ("wrong", To::Split(wrong)),
        ("all-a", To::Node(0)),
        ("all-b", To::Node(1)),
        ("all-c", To::Node(2)),
    ];
    let mut clients = Clients::start(&programs);
    for (way, to) in &ways {
        let centrifugo = fleet.centrifugo(&programs, way, to, |_| {});
        let connected = clients.connect(way, &centrifugo.url);
        assert_eq!(connected["data"]["node"], "a", "{way}: {connected}");
        let who = clients.rpc(way, "who", &json!({})).unwrap();
        assert_eq!(who["node"], "b", "{way}: {who}");
        assert_eq!(who["client"], connected["client"], "{way}");

        // What happens in a channel meets in its owner, with the calls of the channel's key.
        let channel = format!("chat:{way}");
        clients.subscribe(way, &channel);
        for n in 1..=2 {
            let published = clients.publish(way, &channel, &json!({ "n": n }));
            published.unwrap_or_else(|why| panic!("{way}: {why}"));
        }
        let count = clients.rpc(way, "count", &json!({ "room": way })).unwrap();
        assert_eq!((&count["node"], &count["count"]), (&json!("c"), &json!(4)));
        for n in 1..=2 {
            eventually("the publication", || {
                clients.find(|line| {
                    line["channel"] == json!(channel)
                        && line["event"] == "publication"
                        && line["ctx"]["data"]["n"] == json!(n)
                })
            });
        }
    }
    for (node, name) in NODES.iter().enumerate() {
        let forwarded = |place| {
            let name = "centripeta_forward_events_total";
            fleet.metric(node, name, &format!("place=\"{place}\""))
        };
        let counted = (forwarded("forwarded"), forwarded("received"));
        let both = matches!(counted, (Some(1.0..), Some(1.0..)));
        assert!(both, "{name} sends events on and takes them: {counted:?}");
    }
}

#[test]
fn c91_a_client_that_connected_on_one_node_subscribes_on_another() {
    let Some((_turn, programs)) = super::turn("C91") else {
        return;
    };
    let mut fleet = Fleet::of(Binary::Stock, routes);
    let split: &[_] = &[("connect", 0), ("subscribe", 1), ("publish", 2), ("rpc", 2)];
    let centrifugo = fleet.centrifugo(&programs, "c91", &To::Split(split), |_| {});
    let mut clients = Clients::start(&programs);
    let connected = clients.connect("one", &centrifugo.url);
    let id = connected["client"].as_str().unwrap().to_owned();
    let met = |node, event| {
        let label = format!("kind=\"{event}\"");
        let count = fleet.metric(node, "centripeta_events_total", &label);
        count.unwrap() > 0.0
    };
    clients.subscribe("one", "chat:c91");
    assert_eq!(
        [0, 1, 2].map(|node| met(node, "connect")),
        [true, false, false]
    );
    assert_eq!(
        [0, 1, 2].map(|node| met(node, "subscribe")),
        [false, true, false]
    );

    // Nor does it matter that the node that saw the client connect is gone.
    fleet.kill(0);
    let seen = clients.subscribe("one", "seen:c91");
    assert_eq!(
        seen["data"],
        json!({ "client": id, "user": format!("guest-{id}") })
    );
    let who: Value = clients.rpc("one", "who", &json!({})).unwrap();
    assert_eq!(who["client"], json!(id));
    clients.publish("one", "chat:c91", &json!({})).unwrap();
    let connects = clients.all(|line| line["event"] == "connected");
    assert_eq!(connects.len(), 1, "the client has never reconnected");
}
