//! A node from its start to its end, and the commands that talk to it.

use super::process::{Ended, Running, eventually, probe, run, stock};
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

const FREE: [&str; 4] = [
    "--set",
    "listen.grpc=127.0.0.1:0",
    "--set",
    "listen.admin=127.0.0.1:0",
];

/// A node of the program under test on free ports.
pub(crate) struct Node {
    process: Running,
    pub(crate) grpc: String,
    admin: String,
}

impl Node {
    pub(crate) fn start(dir: &Path, more: &[&str]) -> Self {
        Self::of(probe(dir, [&["serve"][..], &FREE, more].concat()))
    }

    fn of(command: Command) -> Self {
        let process = Running::start(command);
        let grpc = process.logs("listening", "grpc");
        let admin = process.logs("listening", "admin");
        Self {
            process,
            grpc,
            admin,
        }
    }

    pub(crate) fn fire(&self, dir: &Path, args: &[&str]) -> Ended {
        run(stock(
            dir,
            [&["fire"][..], args, &["--to", &self.grpc]].concat(),
        ))
    }

    fn health(&self, dir: &Path, args: &[&str]) -> Ended {
        let admin = format!("listen.admin={}", self.admin);
        run(stock(
            dir,
            [&["health", "--set", &admin][..], args].concat(),
        ))
    }
}

fn lines(ended: &Ended) -> Vec<Value> {
    let lines = ended.out.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_node_serves_answers_health_and_fire_and_drains_with_an_event_in_flight() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path(), &[]);
    for args in [&[][..], &["--ready"]] {
        let ended = node.health(dir.path(), args);
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    assert_eq!(node.health(dir.path(), &["--json"]).json()["status"], "ok");
    let connected = node.fire(dir.path(), &["connect"]);
    assert_eq!(connected.code, 0, "{connected:?}");
    assert!(
        connected.out.contains("connected as user `u1`"),
        "{connected:?}"
    );

    let gate = dir.path().join("gate").display().to_string();
    let data = serde_json::to_string(&gate).unwrap();
    let args = [
        "fire",
        "rpc",
        "--method",
        "slow",
        "--timeout",
        "20s",
        "--data",
        &data,
        "--to",
    ];
    let mut slow = stock(dir.path(), args);
    slow.args([node.grpc.as_str(), "--json"]);
    let mut slow = Running::start(slow);
    eventually("the slow event has begun", || {
        Path::new(&format!("{gate}.begun")).exists().then_some(())
    });
    node.process.signal("TERM");
    node.process.says("\"message\":\"draining\"");
    eventually("the node takes nothing new", || {
        let refused = node.fire(dir.path(), &["rpc", "--method", "who"]);
        matches!(refused.code, 1 | 4).then_some(())
    });
    std::fs::write(&gate, "").unwrap();
    let reply = slow.says("finished");
    assert!(reply.contains("\"status\":\"OK\""), "{reply}");
    assert!(slow.end().success());
    assert_eq!(node.process.end().code(), Some(0));
    node.process.says("nothing was cut");
}

#[test]
fn a_second_signal_ends_the_drain_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path(), &["--set", "limits.shutdown_grace=10m"]);
    let gate = dir.path().join("never").display().to_string();
    let data = serde_json::to_string(&gate).unwrap();
    let args = [
        "fire",
        "rpc",
        "--method",
        "slow",
        "--timeout",
        "10m",
        "--data",
        &data,
        "--to",
    ];
    let mut slow = stock(dir.path(), args);
    slow.arg(&node.grpc);
    let mut slow = Running::start(slow);
    eventually("the slow event has begun", || {
        Path::new(&format!("{gate}.begun")).exists().then_some(())
    });
    node.process.signal("INT");
    node.process.says("\"message\":\"draining\"");
    node.process.signal("INT");
    assert_eq!(node.process.end().code(), Some(1));
    node.process.says("error: drain: ended at once by SIGINT");
    slow.end();
}

#[test]
fn a_taken_port_ends_with_4_and_names_the_key_and_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for key in ["listen.grpc", "listen.admin"] {
        let set = format!("{key}={address}");
        let ended = run(stock(
            dir.path(),
            [&["serve"][..], &FREE, &["--set", &set]].concat(),
        ));
        assert_eq!(ended.code, 4, "{ended:?}");
        assert!(
            ended.err.contains(&format!("error: listen: `{key} = ")),
            "{ended:?}"
        );
        assert!(
            ended
                .err
                .contains(&format!("help: end the process that listens on {address}"))
        );
        let log = ended.err.lines().filter(|line| line.starts_with("{\""));
        let log: Vec<&str> = log
            .filter(|line| line.contains("\"level\":\"ERROR\""))
            .collect();
        assert_eq!(log.len(), 1, "one line for a refused start: {ended:?}");
    }
}

#[test]
fn two_taken_ports_are_both_told_and_bad_routes_come_before_either() {
    let dir = tempfile::tempdir().unwrap();
    let taken = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let taken = taken.each_ref().map(|it| it.local_addr().unwrap());
    let grpc = format!("listen.grpc={}", taken[0]);
    let admin = format!("listen.admin={}", taken[1]);
    let args = ["serve", "--set", &grpc, "--set", &admin];
    let ended = run(stock(dir.path(), args));
    assert_eq!(ended.code, 4, "{ended:?}");
    for address in taken {
        let help = format!("help: end the process that listens on {address}");
        assert!(ended.err.contains(&help), "{ended:?}");
    }
    let route = "[[route]]\non = \"rpc\"\nhandler = \"echo\"\n";
    std::fs::write(dir.path().join("node.toml"), route.repeat(2)).unwrap();
    let ended = run(stock(dir.path(), args));
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.err.contains("error: route.1.match"), "{ended:?}");
}

#[test]
fn the_hints_of_serve_can_be_typed_as_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let route = "[[route]]\non = \"rpc\"\nmatch = \"seat.*\"\nhandler = \"echo\"\n";
    let file = dir.path().join("my node.toml");
    std::fs::write(&file, route).unwrap();
    let file = file.to_str().unwrap();
    let args = ["serve", "--config", file, "--set", "log.format=pretty"];
    let node = Running::start(stock(dir.path(), [&args[..], &FREE].concat()));
    node.says("Ctrl-C drains");
    let hints = ["fire rpc", "centrifugo-config"].map(|part| node.says(part));
    for hint in hints {
        let (hint, _) = hint.split_once(" > ").unwrap_or((&hint, ""));
        let mut shell = Command::new("sh");
        shell.args(["-c", hint]).current_dir(dir.path());
        let ended = run(shell);
        assert_eq!(ended.code, 0, "{hint}: {ended:?}");
        assert!(!ended.out.contains("127.0.0.1:0"), "{hint}: {ended:?}");
    }
}

#[test]
fn what_nobody_listens_on_ends_fire_with_4_and_health_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let ended = run(stock(
        dir.path(),
        ["fire", "connect", "--to", &free.to_string()],
    ));
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(
        ended.err.contains("help: start the node with `serve`"),
        "{ended:?}"
    );
    let set = format!("listen.admin={free}");
    let ended = run(stock(dir.path(), ["health", "--set", &set]));
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(ended.err.contains("can't be reached"), "{ended:?}");
}

#[test]
fn fire_tells_replies_refusals_and_failures_apart() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let who = node.fire(dir.path(), &["rpc", "--method", "who", "--user", "ada"]);
    assert_eq!(who.code, 0, "{who:?}");
    assert!(
        who.out.starts_with("{\"result\":{\"data\":\"ada\"}}"),
        "{who:?}"
    );
    assert!(
        who.out.contains("client  the call succeeds with this data"),
        "{who:?}"
    );
    assert!(who.out.contains("took    "), "{who:?}");
    let no = node.fire(dir.path(), &["rpc", "--method", "no", "--json"]);
    assert_eq!(no.code, 0, "{no:?}");
    assert_eq!(no.json()["reply"]["error"]["code"], 1403);
    assert!(
        no.json()["client"]
            .as_str()
            .unwrap()
            .contains("error 1403 to the caller")
    );
    let raw = node.fire(dir.path(), &["raw", "--method", "NewThing"]);
    assert_eq!(raw.code, 1, "{raw:?}");
    assert!(
        raw.err
            .contains("error: fire raw: gRPC status UNIMPLEMENTED"),
        "{raw:?}"
    );
    let gate = dir.path().join("shut").display().to_string();
    let data = serde_json::to_string(&gate).unwrap();
    let args = [
        "rpc",
        "--method",
        "slow",
        "--data",
        &data,
        "--timeout",
        "100ms",
    ];
    let late = node.fire(dir.path(), &args);
    assert_eq!(late.code, 1, "{late:?}");
    assert!(late.err.contains("DEADLINE_EXCEEDED"), "{late:?}");
}

#[test]
fn fire_sends_many_at_a_bounded_concurrency_and_sums_up() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let many = [
        "--count",
        "200",
        "--concurrency",
        "8",
        "--timeout",
        "10s",
        "--json",
    ];
    let ok = node.fire(
        dir.path(),
        &[&["rpc", "--method", "who", "--user", "ada"], &many[..]].concat(),
    );
    assert_eq!(ok.code, 0, "{ok:?}");
    let sum = ok.json();
    assert_eq!(
        (&sum["ok"], &sum["failed"]),
        (&200.into(), &0.into()),
        "{sum}"
    );
    assert!(sum["p99_ms"].as_f64().unwrap() >= sum["p50_ms"].as_f64().unwrap());
    let no = node.fire(
        dir.path(),
        &[&["rpc", "--method", "no"], &many[..]].concat(),
    );
    assert_eq!(no.json()["rejected"], 200, "{no:?}");
    let failed = node.fire(dir.path(), &[&["raw", "--method", "X"], &many[..]].concat());
    assert_eq!(failed.code, 1, "{failed:?}");
    assert_eq!(failed.json()["statuses"]["UNIMPLEMENTED"], 200);
}

#[test]
fn fire_follows_streams_to_their_end_and_publishes_into_those_of_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let one = node.fire(dir.path(), &["stream", "--channel", "feed:1", "--json"]);
    assert_eq!(one.code, 0, "{one:?}");
    let said = lines(&one);
    assert_eq!(said[0]["type"], "first");
    assert_eq!(said[1]["message"]["publication"]["data"], 1);
    assert_eq!(said[2]["message"]["publication"]["data"], 2);
    assert_eq!(
        (&said[3]["type"], &said[3]["status"]),
        (&"end".into(), &"OK".into())
    );
    assert!(
        said[3]["client"]
            .as_str()
            .unwrap()
            .contains("unsubscribe 2000")
    );
    let args = [
        "stream_bidirectional",
        "--channel",
        "term:1",
        "--send",
        "{\"a\":1}",
        "--send",
        "2",
        "--for",
        "1s",
        "--json",
    ];
    let both = lines(&node.fire(dir.path(), &args));
    assert_eq!(
        both[1]["message"]["publication"]["data"]["a"], 1,
        "{both:?}"
    );
    assert_eq!(both[2]["message"]["publication"]["data"], 2, "{both:?}");
    let refused = node.fire(dir.path(), &["stream", "--channel", "nope:1"]);
    assert_eq!(refused.code, 0, "{refused:?}");
    assert!(
        refused.out.contains("error 103: the subscription ends"),
        "{refused:?}"
    );
}

#[test]
fn c97_the_credential_of_the_configuration_is_sent_and_c99_appears_in_no_log() {
    let dir = tempfile::tempdir().unwrap();
    let secret = "open-sesame-4711";
    let guarded = |mut command: Command| {
        command
            .env("CENTRIPETA_LISTEN__AUTH__METADATA", "x-router-key")
            .env("CENTRIPETA_LISTEN__AUTH__VALUE", secret);
        command
    };
    let args = [&["serve", "--log", "trace"][..], &FREE].concat();
    let node = Node::of(guarded(probe(dir.path(), args)));
    let without = node.fire(dir.path(), &["connect"]);
    assert_eq!(without.code, 1, "{without:?}");
    assert!(without.err.contains("UNAUTHENTICATED"), "{without:?}");
    let cookie = "cookie=session-c0ffee";
    let args = [
        "fire",
        "connect",
        "--metadata",
        cookie,
        "--log",
        "trace",
        "--to",
        &node.grpc,
    ];
    let with = run(guarded(stock(dir.path(), args)));
    assert_eq!(with.code, 0, "{with:?}");
    let text = format!("{}{}{}", node.process.said().join("\n"), with.out, with.err);
    assert!(!text.contains(secret) && !text.contains("c0ffee"), "{text}");
}

#[test]
fn fire_finds_its_own_node_over_a_unix_socket_and_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let admin = ["--set", "listen.admin=127.0.0.1:0"];
    let socket = format!("listen.grpc=unix://{}/node.sock", dir.path().display());
    let unix = ["--set", &socket];
    let _node = Node::of(probe(dir.path(), [&["serve"][..], &unix, &admin].concat()));
    let ended = run(stock(
        dir.path(),
        [&["fire", "connect"][..], &unix].concat(),
    ));
    assert_eq!(ended.code, 0, "{ended:?}");

    let certificate = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(dir.path().join("cert.pem"), certificate.cert.pem()).unwrap();
    let key = certificate.signing_key.serialize_pem();
    std::fs::write(dir.path().join("key.pem"), key).unwrap();
    let tls = [
        "--set",
        "listen.tls.cert=cert.pem",
        "--set",
        "listen.tls.key=key.pem",
    ];
    let node = Node::of(probe(dir.path(), [&["serve"][..], &FREE, &tls].concat()));
    let own = format!("listen.grpc={}", node.grpc);
    let args = [&["fire", "connect", "--set", &own][..], &tls].concat();
    let ended = run(stock(dir.path(), args));
    assert_eq!(ended.code, 0, "{ended:?}");
    let plain = node.fire(dir.path(), &["connect"]);
    assert_eq!(plain.code, 4, "{plain:?}");
}

#[test]
fn everything_that_the_shipped_configuration_proposes_works() {
    let dir = tempfile::tempdir().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("node.toml");
    std::fs::copy(&file, dir.path().join("node.toml")).unwrap();
    let node = Node::of(stock(dir.path(), [&["serve"][..], &FREE].concat()));
    let text = std::fs::read_to_string(&file).unwrap();
    let proposed = text
        .lines()
        .filter_map(|line| line.strip_prefix("#   centripeta fire "));
    let mut count = 0;
    for line in proposed {
        let words: Vec<&str> = line
            .split(' ')
            .map(|word| word.trim_matches('\''))
            .collect();
        let ended = node.fire(dir.path(), &[&words[..], &["--json"]].concat());
        assert_eq!(ended.code, 0, "{line} {ended:?}");
        let reply = &ended.json()["reply"];
        assert!(
            reply.get("error").is_none() && reply.get("disconnect").is_none(),
            "{ended:?}"
        );
        count += 1;
    }
    assert!(count >= 5, "{count} proposals");
    let denied = node.fire(
        dir.path(),
        &["publish", "--channel", "chat:staff", "--json"],
    );
    assert_eq!(denied.json()["reply"]["error"]["code"], 1403);
    let way = run(stock(dir.path(), ["explain", "rpc", "--method", "echo"]));
    assert!(
        way.out.contains("log (on *) → per-user (on route)"),
        "{way:?}"
    );
    assert!(way.out.contains("handler      echo"), "{way:?}");
}

#[test]
fn a_panic_is_one_line_of_the_json_log_with_its_place_and_one_with_its_event() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &[]);
    let boom = node.fire(dir.path(), &["rpc", "--method", "boom"]);
    assert_eq!(boom.code, 1, "{boom:?}");
    assert!(boom.err.contains("INTERNAL"), "{boom:?}");
    assert!(
        !boom.err.contains("seat"),
        "the cause is for the log: {boom:?}"
    );
    let place = node.process.says("\"panicked: a seat fell over\"");
    let place: Value = serde_json::from_str(&place).unwrap();
    assert!(
        place["location"].as_str().unwrap().contains("program.rs"),
        "{place}"
    );
    let event = node.process.says("\"subject\":\"boom\"");
    let event: Value = serde_json::from_str(&event).unwrap();
    assert_eq!(
        (&event["level"], &event["event"]),
        (&"ERROR".into(), &"rpc".into()),
        "{event}"
    );
    for line in node.process.said() {
        assert!(
            !line.contains("panicked at"),
            "a line beside the log: {line}"
        );
    }
}
