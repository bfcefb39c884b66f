//! `load` against a real node: what it sends, what it counts, and that its times are honest.

use super::node::Node;
use super::process::{Ended, Running, eventually, run, stock};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::Path;

fn load(dir: &Path, node: &Node, args: &[&str]) -> Ended {
    let to = ["--to", &node.grpc];
    run(stock(dir, [&["load"][..], args, &to].concat()))
}

fn loaded(dir: &Path, node: &Node, args: &[&str]) -> Value {
    let ended = load(dir, node, &[args, &["--json"]].concat());
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{ended:?}");
    ended.json()
}

fn number(value: &Value, path: &str) -> f64 {
    let found = value.pointer(path).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no {path} in {value}"))
}

#[test]
fn an_open_loop_sends_what_is_due_within_its_time_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let event = ["rpc", "--method", "who", "--user", "u{n}"];
    let pace = ["--rate", "200", "--for", "1s"];
    let told = loaded(dir.path(), &node, &[&event[..], &pace].concat());
    for (key, wanted) in [
        ("event", json!("rpc")),
        ("mode", json!("open")),
        ("latency_from", json!("due")),
        ("rate_asked", json!(200.0)),
        ("connections", json!(1)),
        ("sent", json!(200)),
        ("answered", json!(200)),
        ("ok", json!(200)),
        ("missed", json!(0)),
        ("failed", json!(0)),
        ("errors", json!({})),
    ] {
        assert_eq!(told[key], wanted, "{key} of {told}");
    }
    // The last one is due 5 ms before the end.
    assert!(number(&told, "/took_s") >= 0.995, "{told}");
    let times = ["min", "p50", "p90", "p99", "p99_9", "max"];
    let times = times.map(|name| number(&told, &format!("/latency_ms/{name}")));
    assert!(times.is_sorted() && times[0] > 0.0, "{told}");
    assert!(number(&told, "/send_lag_ms/max") > 0.0, "{told}");
    let mean = number(&told, "/latency_ms/mean");
    assert!(times[0] <= mean && mean <= times[5], "{told}");
}

#[test]
fn what_waits_for_a_stall_shows_in_an_open_loop_and_not_in_a_closed_one() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &["--set", "limits.lane_queue=1000"]);
    // The event of number 20 holds its lane for 300 ms.
    let event = ["rpc", "--method", "stall", "--data", "{n}", "--user", "u1"];
    let open = ["--rate", "200", "--for", "1s"];
    let open = loaded(dir.path(), &node, &[&event[..], &open].concat());
    assert_eq!(open["ok"], 200, "{open}");
    // 60 of 200 were due meanwhile; a quarter of those in its last 75 ms.
    assert!(number(&open, "/latency_ms/p90") > 100.0, "{open}");
    assert!(number(&open, "/latency_ms/p99") > 250.0, "{open}");
    let closed = ["--concurrency", "1", "--for", "1s"];
    let closed = loaded(dir.path(), &node, &[&event[..], &closed].concat());
    assert!(number(&closed, "/latency_ms/max") > 250.0, "{closed}");
    assert!(number(&closed, "/latency_ms/p90") < 100.0, "{closed}");
    let said = load(
        dir.path(),
        &node,
        &[&event[..], &["--concurrency", "1", "--for", "50ms"]].concat(),
    );
    assert!(said.out.contains("understates"), "{said:?}");
}

#[test]
fn a_closed_loop_has_no_more_in_flight_than_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let args = ["rpc", "--method", "crowd", "--concurrency", "3"];
    let more = ["--for", "500ms", "--connections", "2"];
    let told = loaded(dir.path(), &node, &[&args[..], &more].concat());
    assert_eq!(told["mode"], "closed", "{told}");
    assert_eq!(told["concurrency"], 3, "{told}");
    assert_eq!(told["ok"], told["sent"], "{told}");
    assert!(number(&told, "/sent") > 3.0, "{told}");
    let most = node.fire(dir.path(), &["rpc", "--method", "most", "--json"]);
    let most = number(&most.json(), "/reply/result/data");
    assert!((2.0..=3.0).contains(&most), "{most} at once");
}

#[test]
fn templates_give_each_event_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let event = ["rpc", "--method", "distinct", "--data", "{n%7}"];
    let pace = ["--rate", "1000", "--for", "50ms"];
    let told = loaded(dir.path(), &node, &[&event[..], &pace].concat());
    assert_eq!(told["ok"], 50, "{told}");
    let seen = node.fire(
        dir.path(),
        &["rpc", "--method", "distinct", "--data", "0", "--json"],
    );
    assert_eq!(seen.json()["reply"]["result"]["data"], 7, "{seen:?}");
    let stream = ["stream", "--channel", "feed:{n%2}", "--concurrency", "2"];
    let told = loaded(
        dir.path(),
        &node,
        &[&stream[..], &["--for", "100ms"]].concat(),
    );
    assert_eq!(told["ok"], told["sent"], "{told}");
}

#[test]
fn its_help_shows_templates_as_they_are_typed() {
    let dir = tempfile::tempdir().unwrap();
    let help = run(stock(dir.path(), ["load", "--help"])).out;
    for shown in [
        "of the event {n} stands for its number",
        "{n%100} for",
        "and {{n}} for {n} itself.",
        r#"--data '{"n":{n}}' --rate 1000"#,
    ] {
        assert!(help.contains(shown), "{shown} is not in\n{help}");
    }
}

#[test]
fn what_the_application_means_is_no_failure_and_a_status_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let pace = ["--rate", "1000", "--for", "10ms"];
    let refused = [&["rpc", "--method", "no"][..], &pace].concat();
    let told = loaded(dir.path(), &node, &refused);
    assert_eq!(told["errors"], json!({ "1403": 10 }), "{told}");
    assert_eq!(told["rejected"], 10, "{told}");
    let broken = [&["rpc", "--method", "boom"][..], &pace].concat();
    let ended = load(dir.path(), &node, &broken);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.out.contains("INTERNAL: 10"), "{ended:?}");
    let error = "error: load rpc: of 10 events 10 ended without a message\nhelp: ";
    assert!(ended.err.contains(error), "{ended:?}");
    let ended = load(dir.path(), &node, &[&broken[..], &["--json"]].concat());
    assert_eq!((ended.code, ended.err.as_str()), (1, ""), "{ended:?}");
    assert_eq!(ended.json()["statuses"], json!({ "INTERNAL": 10 }));
}

#[test]
fn events_that_find_no_place_are_missed_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let never = dir.path().join("never").display().to_string();
    let data = serde_json::to_string(&never).unwrap();
    let event = ["rpc", "--method", "slow", "--data", &data];
    let pace = ["--rate", "100", "--for", "300ms", "--max-in-flight", "5"];
    let args = [&event[..], &pace, &["--timeout", "5s"]].concat();
    let ended = load(dir.path(), &node, &[&args[..], &["--json"]].concat());
    assert_eq!(ended.code, 1, "{ended:?}");
    let told = ended.json();
    assert_eq!((&told["sent"], &told["missed"]), (&json!(5), &json!(25)));
    assert_eq!(
        told["statuses"],
        json!({ "DEADLINE_EXCEEDED": 5 }),
        "{told}"
    );
}

#[test]
fn an_interrupt_ends_it_early_with_the_summary_of_what_was_done() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let args = ["load", "connect", "--rate", "50"];
    let mut command = stock(dir.path(), args);
    command.args(["--for", "1h", "--progress", "--to", &node.grpc]);
    let mut running = Running::start(command);
    let line = running.says(" a second  p50 ");
    assert!(line.contains("errors 0"), "{line}");
    running.signal("INT");
    assert!(running.end().success());
    let sent = eventually("the summary", || {
        let said = running.said();
        said.into_iter().find(|line| line.starts_with("sent "))
    });
    assert!(sent.contains("50 a second asked for"), "{sent}");
    running.says("p99.9");
}

#[test]
fn nobody_there_ends_with_4_and_another_machine_is_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = closed.local_addr().unwrap().to_string();
    drop(closed);
    for (to, warned) in [(here.as_str(), false), ("nobody.invalid:1", true)] {
        let args = ["load", "connect", "--rate", "1", "--for", "1s", "--to", to];
        let ended = run(stock(dir.path(), args));
        assert_eq!(ended.code, 4, "{ended:?}");
        assert_eq!(ended.err.contains("warning: load: "), warned, "{ended:?}");
        assert!(ended.err.contains("help: start the node"), "{ended:?}");
    }
}
