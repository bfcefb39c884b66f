//! All nodes serve everything, behind two Centrifugos: each is drained and started again, then each is
//! killed, under the load of clients.

use super::centrifugo::{Centrifugo, To};
use super::clients::{Clients, now_ms};
use super::fleet::{Binary, Fleet};
use super::load::{self, Call};
use super::nodes::WELCOME;
use super::outside::{Program, free_ports, on_path, or_skip};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

/// What takeover may take, and what Centrifugo then waits for one call.
const SERVED_AGAIN: Duration = Duration::from_secs(3 + 3);

/// How often drains are tried where the machine is too slow for leases.
const TRIES: usize = 3;

const ROUTES: &str = r#"
[[route]]
on = ["subscribe", "publish"]
match = "chat:{room}"
handler = "counter"

[[route]]
on = "rpc"
match = "count"
key = "chat:{data.room}"
handler = "counter"

[[route]]
on = "stream"
match = "feed:{room}"
handler = "allow"
"#;

#[test]
fn clients_go_on_while_every_node_is_drained_in_turn_and_then_killed_in_turn() {
    let what = "nodes that leave and die behind two Centrifugos";
    let Some((_turn, programs)) = super::turn(what) else {
        return;
    };
    let found = on_path("redis-server").ok_or("no redis-server on PATH");
    let Some(binary) = or_skip(what, found) else {
        return;
    };
    let mut fleet = Fleet::of(Binary::Stock, |_| format!("{WELCOME}{ROUTES}"));
    let [port] = free_ports();
    let mut command = Command::new(binary);
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--port", &port.to_string()]);
    let mut redis = Program::start("redis", &mut command, fleet.dir.path());
    redis.wait_listens(port);
    let on_redis = |config: &mut Value| {
        let address = format!("redis://127.0.0.1:{port}");
        config["engine"] = json!({ "type": "redis", "redis": { "address": address } });
        assert_eq!(config["rpc"]["proxy"]["timeout"], "3s");
    };
    let one = fleet.centrifugo(&programs, "one", &To::From(0), on_redis);
    let other = fleet.centrifugo(&programs, "other", &To::From(1), on_redis);
    let mut clients = Clients::start(&programs);
    load::begin(&mut clients, &[&one.url, &other.url]);
    load::round(&clients);

    let leader = fleet.leader(0);
    let mut order: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    order.push(leader);
    let drained = drain_all(&mut fleet, &mut clients, &order, [&one, &other]);
    load::counts_hold(&drained, false);
    load::publications_arrived(&clients, &drained);
    let returned = load::streams_are_back(&clients);
    assert!(returned > 0, "a drain ends the streams of its node");

    let mut slowest = Duration::ZERO;
    for (turn, node) in order.into_iter().enumerate() {
        if turn > 0 {
            // Two at a time would be the majority.
            fleet.settled(&[0, 1, 2]);
            load::round(&clients);
        }
        fleet.kill(node);
        slowest = slowest.max(load::round(&clients));
        load::newcomer(&mut clients, &format!("late-{node}"), &one.url);
        fleet.start(node);
    }
    load::streams_are_back(&clients);
    clients.ask("rest", json!({})).unwrap();
    let all = load::calls(&clients, 0);
    let failed = all
        .iter()
        .flatten()
        .filter_map(|call| call.result.as_ref().err());
    let failed: Vec<_> = failed.collect();
    let is_worse = |error: &&&Value| error["code"] != 100 || error["temporary"] != true;
    let worse: Vec<_> = failed.iter().filter(is_worse).collect();
    assert!(worse.is_empty(), "{worse:?}");
    let anew = load::counts_hold(&all, true);
    load::publications_arrived(&clients, &all);
    load::nobody_was_cut_off(&clients);
    eprintln!(
        "drained: {} calls, 0 failed, {returned} streams came anew; killed: {} calls in all, {} \
         failed, {anew} counts began anew, all served again within {slowest:?}",
        drained.iter().map(Vec::len).sum::<usize>(),
        all.iter().map(Vec::len).sum::<usize>(),
        failed.len(),
    );
    assert!(anew > 0, "a crash loses the counts of its node");
    assert!(slowest < SERVED_AGAIN, "{slowest:?}");
}

/// Drains every node in turn and starts it again; gives what clients did meanwhile. None of it failed.
///
/// Where the machine stands still for longer than a lease, nodes have to stop acting, and calls fail as
/// they should: then it is no drain that was seen, and all of it is done once more.
fn drain_all(
    fleet: &mut Fleet,
    clients: &mut Clients,
    order: &[usize],
    centrifugos: [&Centrifugo; 2],
) -> Vec<Vec<Call>> {
    for attempt in 0..TRIES {
        let (began, lapsed) = (now_ms(), fleet.lapsed());
        let mut troubles = Vec::new();
        for node in order {
            fleet.drain(*node);
            for (which, centrifugo) in centrifugos.iter().enumerate() {
                let name = format!("comes-{attempt}-{node}-{which}");
                troubles.extend(load::newcomer(clients, &name, &centrifugo.url));
            }
            load::round(clients);
            fleet.start(*node);
            fleet.settled(&[0, 1, 2]);
            load::round(clients);
        }
        let calls = load::calls(clients, began);
        let failed = calls.iter().flatten().filter(|call| call.result.is_err());
        let failed: Vec<_> = failed.collect();
        if failed.is_empty() && troubles.is_empty() {
            return calls;
        }
        let why = centrifugos.map(Centrifugo::complaints).join("\n");
        assert!(
            fleet.lapsed() > lapsed,
            "calls failed in drains: {failed:?} {troubles:?}\n{why}"
        );
        eprintln!(
            "the machine is too slow: a lease ran out in a drain, and {} calls failed; once more",
            failed.len() + troubles.len()
        );
    }
    panic!("in each of {TRIES} rounds of drains a lease ran out and calls failed");
}
