//! A replica dies under a call; a cluster is without a leader.

use super::centrifugo::To;
use super::clients::{Answer, Clients};
use super::fleet::{Binary, Fleet, NODES};
use super::nodes::WELCOME;
use super::process::eventually;
use super::support::{self, Client, path, request, small_request};
use centripeta::event::EventKind;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Much less than the ten seconds that Centrifugo would wait.
const PROMPT: Duration = Duration::from_secs(3);

/// A failure that a client may try again.
fn is_temporary(answer: &Answer) -> bool {
    let error = answer.as_ref().err();
    error.is_some_and(|error| error["code"] == 100 && error["temporary"] == true)
}

/// A room whose calls this node answers.
fn room_of(clients: &mut Clients, fleet: &Fleet, node: usize) -> String {
    for number in 0..200 {
        let room = format!("r{number}");
        let owner = clients
            .rpc("one", "slow", &json!({ "room": room }))
            .unwrap();
        if owner == json!(fleet.pid(node)) {
            return room;
        }
    }
    panic!("{} owns none of 200 rooms", NODES[node]);
}

/// Begins a call in a room, ends a process under it, and gives what the caller got and after how long.
fn killed_under(
    clients: &mut Clients,
    fleet: &mut Fleet,
    room: &str,
    owner: u32,
    victim: usize,
) -> (Answer, Duration) {
    let gate = fleet
        .dir
        .path()
        .join(format!("gate-{room}-{}", NODES[victim]));
    let gate = gate.display().to_string();
    let data = json!({ "room": room, "gate": gate });
    let call = json!({ "client": "one", "method": "slow", "data": data });
    let call = clients.tell("rpc", call);
    let begun = format!("{gate}.begun");
    eventually("the call has begun", || {
        let by = std::fs::read_to_string(Path::new(&begun)).ok()?;
        (by == owner.to_string()).then_some(())
    });
    fleet.kill(victim);
    let died = Instant::now();
    (clients.answer(call), died.elapsed())
}

#[test]
fn c94_a_replica_killed_under_a_call_fails_it_promptly_and_a_survivor_answers_the_next() {
    let Some((_turn, programs)) = super::turn("C94") else {
        return;
    };
    let mut fleet = Fleet::of(Binary::Own, |_| String::new());
    let centrifugo = fleet.centrifugo(&programs, "c94", &To::From(0), |config| {
        config["rpc"]["proxy"]["timeout"] = json!("10s");
    });
    let mut clients = Clients::start(&programs);
    clients.connect("one", &centrifugo.url);

    // The owner of the call dies; it came in through another.
    let room = room_of(&mut clients, &fleet, 2);
    let owner = fleet.pid(2);
    let (answer, took) = killed_under(&mut clients, &mut fleet, &room, owner, 2);
    assert!(is_temporary(&answer), "{answer:?}");
    eprintln!("C94: the owner died: answered after {took:?}");
    assert!(took < PROMPT, "{took:?}");
    let next = clients.rpc("one", "slow", &json!({ "room": room }));
    let survivors = [json!(fleet.pid(0)), json!(fleet.pid(1))];
    assert!(survivors.contains(next.as_ref().unwrap()), "{next:?}");

    // The node that Centrifugo asked dies; the call runs on another.
    fleet.start(2);
    fleet.settled(&[0, 1, 2]);
    let room = room_of(&mut clients, &fleet, 1);
    let owner = fleet.pid(1);
    let (answer, took) = killed_under(&mut clients, &mut fleet, &room, owner, 0);
    assert!(is_temporary(&answer), "{answer:?}");
    eprintln!("C94: the node that was asked died: answered after {took:?}");
    assert!(took < PROMPT, "{took:?}");
    // Nobody waits for the call any more, so its room is free.
    let next = clients.rpc("one", "slow", &json!({ "room": room }));
    assert_eq!(next, Ok(json!(owner)));
}

/// Routes for every kind of event that a client causes.
const ROUTES: &str = r#"
[[route]]
on = ["refresh", "sub_refresh", "subscribe", "publish", "map_publish", "map_remove", "stream"]
handler = "allow"

[[route]]
on = "rpc"
match = "count"
key = "room:{data.room}"
handler = "counter"
"#;

/// What calls of each kind came to: `OK`, or the status.
type Seen = Arc<Mutex<BTreeMap<&'static str, Vec<i32>>>>;

/// Calls a node with every kind of event, again and again; no answer is OK and empty.
async fn call_on(client: Client, stop: Arc<AtomicBool>, seen: Seen) {
    const KINDS: [EventKind; 8] = [
        EventKind::Connect,
        EventKind::Refresh,
        EventKind::Subscribe,
        EventKind::SubRefresh,
        EventKind::Publish,
        EventKind::MapPublish,
        EventKind::MapRemove,
        EventKind::Rpc,
    ];
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let calls = KINDS.map(|kind| {
            let client = client.clone();
            async move {
                let message = match kind {
                    EventKind::Rpc => {
                        let data = format!(r#"{{"room":"r{}"}}"#, turn % 64);
                        let json = format!(
                            r#"{{"client":"c1","protocol":"json","user":"u1","method":"count","data":{data}}}"#
                        );
                        request(kind, &json)
                    }
                    _ => small_request(kind, &format!("room:{}", turn % 64)),
                };
                let headers = [("grpc-timeout", "400m")];
                (kind, client.call(&path(kind), &headers, &message).await)
            }
        });
        for (kind, reply) in futures_util::future::join_all(calls).await {
            let status = reply.status.unwrap_or_else(|| panic!("{kind}: {reply:?}"));
            if status == 0 {
                assert!(!reply.message().is_empty(), "{kind}: an empty OK");
            }
            seen.lock()
                .unwrap()
                .entry(kind.name())
                .or_default()
                .push(status);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c95_without_a_leader_no_call_is_answered_with_an_empty_ok() {
    let Some((_turn, programs)) = super::turn("C95") else {
        return;
    };
    let mut fleet = Fleet::of(Binary::Stock, |_| format!("{WELCOME}{ROUTES}"));
    let leader = fleet.leader(0);
    let survivor = (leader + 1) % NODES.len();
    let other = (leader + 2) % NODES.len();
    let centrifugo = fleet.centrifugo(&programs, "c95", &To::Node(survivor), |config| {
        let chat = json!({
            "name": "chat", "subscribe_proxy_enabled": true, "publish_proxy_enabled": true,
        });
        config["channel"]["namespaces"] = json!([chat]);
    });
    let mut clients = Clients::start(&programs);
    clients.connect("one", &centrifugo.url);
    clients.subscribe("one", "chat:before");

    let socket = TcpStream::connect(fleet.address(survivor)).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Seen::default();
    let calling = call_on(
        Client::new(socket).await,
        Arc::clone(&stop),
        Arc::clone(&seen),
    );
    let calling = tokio::spawn(calling);
    let answered = |kinds: &'static [&'static str], status: i32| {
        let seen = Arc::clone(&seen);
        async move {
            seen.lock().unwrap().clear();
            let what = format!("{kinds:?} are answered with status {status}");
            support::eventually(&what, async || {
                let seen = seen.lock().unwrap();
                let has = |kind| seen.get(kind).is_some_and(|all| all.contains(&status));
                kinds.iter().all(has)
            })
            .await;
        }
    };
    const ALL: &[&str] = &[
        "connect",
        "refresh",
        "subscribe",
        "sub_refresh",
        "publish",
        "map_publish",
        "map_remove",
        "rpc",
    ];
    const KEYED: &[&str] = &[
        "subscribe",
        "sub_refresh",
        "publish",
        "map_publish",
        "map_remove",
        "rpc",
    ];
    answered(ALL, 0).await;

    fleet.kill(leader);
    fleet.kill(other);
    // Nobody leads, and the lease is over: what has an owner is unavailable, the rest goes on.
    let later = json!({ "client": "one", "channel": "chat:after", "later": true });
    eventually("the survivor is without a leader", || {
        let call = json!({ "room": "r1" });
        is_temporary(&clients.rpc("one", "count", &call)).then_some(())
    });
    answered(KEYED, 14).await;
    seen.lock().unwrap().clear();
    answered(&["connect", "refresh"], 0).await;
    let done: Vec<_> = {
        let seen = seen.lock().unwrap();
        let keyed = seen.iter().filter(|(kind, _)| KEYED.contains(kind));
        keyed
            .filter(|(_, all)| all.contains(&0))
            .map(|(kind, _)| *kind)
            .collect()
    };
    assert!(done.is_empty(), "acted without a leader: {done:?}");
    let published = clients.publish("one", "chat:before", &json!({}));
    assert!(is_temporary(&published), "{published:?}");
    clients.ask("subscribe", later).unwrap();
    let of_later = |event: &'static str| {
        move |line: &Value| line["channel"] == "chat:after" && line["event"] == event
    };
    eventually("the subscription is refused", || {
        clients.find(of_later("error"))
    });
    assert_eq!(clients.find(of_later("subscribed")), None);

    // A leader again: everything is answered, and the subscription comes by itself.
    fleet.start(other);
    answered(ALL, 0).await;
    eventually("the subscription", || clients.find(of_later("subscribed")));
    let publication = clients.publish("one", "chat:after", &json!({}));
    publication.unwrap();
    stop.store(true, Ordering::Relaxed);
    calling.await.unwrap();
}
