//! What clients under load were told, and whether it holds together.

use super::clients::{Clients, now_ms};
use super::process::eventually;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Clients, each calling and publishing in a room of its own.
pub(crate) const CLIENTS: usize = 8;
/// How long a client rests between two rounds.
const REST_MS: u64 = 40;

fn client(number: usize) -> String {
    format!("client-{number}")
}

fn room(number: usize) -> String {
    format!("r{number}")
}

/// What a client did, in order.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) is_publish: bool,
    pub(crate) n: u64,
    pub(crate) result: Result<Value, Value>,
}

/// Connects clients to the Centrifugos in turn. Each subscribes to its room, to that of the next, which
/// publishes through another Centrifugo, and to a stream.
pub(crate) fn begin(clients: &mut Clients, urls: &[&str]) {
    for number in 0..CLIENTS {
        clients.connect(&client(number), urls[number % urls.len()]);
    }
    for number in 0..CLIENTS {
        let next = (number + 1) % CLIENTS;
        clients.subscribe(&client(number), &format!("chat:{}", room(number)));
        clients.subscribe(&client(number), &format!("chat:{}", room(next)));
        clients.subscribe(&client(number), &format!("feed:{}", room(number)));
    }
    for number in 0..CLIENTS {
        let load = json!({ "client": client(number), "room": room(number), "rest": REST_MS });
        clients.ask("load", load).unwrap();
    }
}

/// A client comes while a node is away: it connects, subscribes and counts, trying again by itself where
/// that is needed. Gives what it was told of failures on the way.
pub(crate) fn newcomer(clients: &mut Clients, name: &str, url: &str) -> Vec<Value> {
    clients.connect(name, url);
    clients.subscribe(name, &format!("chat:{name}"));
    let counted = eventually("the newcomer counts", || {
        let counted = clients.rpc(name, "count", &json!({ "room": name }));
        counted.ok()
    });
    assert!(counted["count"].as_u64() >= Some(1), "{counted}");
    clients.all(|line| line["client"] == name && line["event"] == "error")
}

/// Waits until every client has called and published once more, and gives the time that it took.
pub(crate) fn round(clients: &Clients) -> Duration {
    let (from, began) = (now_ms(), Instant::now());
    let is_fresh = |line: &Value| {
        line["began"].as_u64().is_some_and(|began| began >= from) && line.get("ok").is_some()
    };
    eventually("every client is answered", || {
        let fresh = clients.all(is_fresh);
        let has = |number: usize, call: &str| {
            let of = json!(client(number));
            fresh
                .iter()
                .any(|line| line["client"] == of && line["call"] == call)
        };
        (0..CLIENTS)
            .all(|number| has(number, "count") && has(number, "publish"))
            .then_some(())
    });
    began.elapsed()
}

/// Waits until every stream is there, by the clients' own doing; gives how often they came anew.
pub(crate) fn streams_are_back(clients: &Clients) -> usize {
    let streams = |line: &Value| {
        let channel = line["channel"].as_str();
        let is_change = matches!(line["event"].as_str(), Some("subscribed" | "subscribing"));
        is_change && channel.is_some_and(|channel| channel.starts_with("feed:"))
    };
    eventually("every stream is subscribed", || {
        let changes = clients.all(streams);
        let is_there = |number: usize| {
            let of = json!(client(number));
            let last = changes.iter().rev().find(|line| line["client"] == of);
            last.is_some_and(|line| line["event"] == "subscribed")
        };
        (0..CLIENTS).all(is_there).then(|| {
            let all = changes.iter().filter(|line| line["event"] == "subscribed");
            all.count() - CLIENTS
        })
    })
}

/// What each client did from this time on, in milliseconds.
pub(crate) fn calls(clients: &Clients, since: u64) -> Vec<Vec<Call>> {
    let lines = clients.all(|line| {
        let is_call = line.get("call").is_some();
        is_call && line["began"].as_u64().is_some_and(|began| began >= since)
    });
    let of = |number: usize| {
        let of = json!(client(number));
        let lines = lines.iter().filter(|line| line["client"] == of);
        let call = |line: &Value| Call {
            is_publish: line["call"] == "publish",
            n: line["n"].as_u64().unwrap(),
            result: match line.get("error") {
                Some(error) => Err(error.clone()),
                None => Ok(line["ok"].clone()),
            },
        };
        lines.map(call).collect()
    };
    (0..CLIENTS).map(of).collect()
}

/// Nobody lost a connection, nor a subscription to a channel without a stream.
pub(crate) fn nobody_was_cut_off(clients: &Clients) {
    let cut = clients.all(|line| {
        let event = line["event"].as_str();
        let is_feed = |channel: &str| channel.starts_with("feed:");
        match line["channel"].as_str() {
            None => event == Some("disconnected"),
            Some(channel) => event == Some("unsubscribed") && !is_feed(channel),
        }
    });
    assert!(cut.is_empty(), "{cut:?}");
    let is_ours = |line: &Value| {
        let name = line["client"].as_str();
        name.is_some_and(|name| name.starts_with("client-"))
    };
    let connects = clients.all(|line| line["event"] == "connected" && is_ours(line));
    assert_eq!(connects.len(), CLIENTS);
}

/// Every publication that was accepted has reached the subscriber at the other Centrifugo, in order and
/// once.
pub(crate) fn publications_arrived(clients: &Clients, calls: &[Vec<Call>]) {
    for (number, calls) in calls.iter().enumerate() {
        let reader = json!(client((number + CLIENTS - 1) % CLIENTS));
        let channel = json!(format!("chat:{}", room(number)));
        let published = calls
            .iter()
            .filter(|call| call.is_publish && call.result.is_ok());
        let published: Vec<u64> = published.map(|call| call.n).collect();
        let Some(last) = published.last() else {
            panic!("{reader} heard of no publication in {channel}");
        };
        let mut heard = eventually("the last publication", || {
            let lines = clients.all(|line| {
                line["event"] == "publication"
                    && line["client"] == reader
                    && line["channel"] == channel
            });
            let numbers = lines
                .iter()
                .map(|line| line["ctx"]["data"]["n"].as_u64().unwrap());
            let numbers: Vec<u64> = numbers.collect();
            numbers.contains(last).then_some(numbers)
        });
        assert!(
            heard.is_sorted_by(|one, next| one < next),
            "{channel}: {heard:?}"
        );
        // One that failed may be out all the same; what was accepted is.
        heard.retain(|n| published.contains(n));
        assert_eq!(heard, published, "{channel}");
    }
}

/// The counts of each room go on by one for each event, or begin anew under another owner where nodes
/// may die. Gives how often they did.
pub(crate) fn counts_hold(calls: &[Vec<Call>], may_begin_anew: bool) -> usize {
    let mut anew = 0;
    for (number, calls) in calls.iter().enumerate() {
        let mut last: Option<(u64, u64)> = None;
        // Events since the last count: those that were answered, and those that were not.
        let (mut answered, mut unclear) = (0, 0);
        for call in calls {
            match &call.result {
                Err(_) => unclear += 1,
                Ok(_) if call.is_publish => answered += 1,
                Ok(told) => {
                    let count = told["count"].as_u64().unwrap();
                    let epoch = told["epoch"].as_u64().unwrap();
                    let at = format!(
                        "room {number}: {last:?}, then {answered} answered, {unclear} not, then {told}"
                    );
                    if let Some((before, owner)) = last {
                        let least = before + answered + 1;
                        assert!(epoch >= owner, "an older owner: {at}");
                        if count < least {
                            assert!(may_begin_anew && epoch > owner, "a count is lost: {at}");
                            assert!((1..=answered + unclear + 1).contains(&count), "{at}");
                            anew += 1;
                        } else {
                            assert!(count <= least + unclear, "counted too often: {at}");
                        }
                    }
                    last = Some((count, epoch));
                    (answered, unclear) = (0, 0);
                }
            }
        }
        assert!(last.is_some(), "room {number} was never counted");
    }
    anew
}
