//! The examples of this crate as a reader starts them: each as a node of its own on loopback, asked
//! by the stock binary for every kind of event that it handles. No Centrifugo is needed.
#![allow(clippy::unwrap_used)]

#[path = "support/outside.rs"]
mod outside;
#[allow(dead_code, reason = "the tests against a real Centrifugo use the rest")]
#[path = "e2e/world.rs"]
mod world;

use outside::{Program, free_ports};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// An example that runs.
struct Example {
    dir: tempfile::TempDir,
    address: String,
    /// Ends it, by its id.
    node: Program,
}

impl Example {
    fn start(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [grpc, admin] = free_ports();
        let node = world::start_node(name, grpc, admin, dir.path());
        let address = format!("127.0.0.1:{grpc}");
        Self { dir, address, node }
    }

    /// What `fire` prints of one event, a JSON object for each message.
    fn fire(&self, args: &[&str]) -> Vec<Value> {
        let dir: &Path = self.dir.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_centripeta"));
        command.arg("fire").args(args).current_dir(dir);
        command.args(["--to", &self.address, "--timeout", "10s", "--json"]);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}{why}");
        let lines = said.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }

    /// The reply to a unary event.
    fn reply(&self, args: &[&str]) -> Value {
        let mut said = self.fire(args);
        assert_eq!(said.len(), 1, "{said:?}");
        said[0]["reply"].take()
    }

    fn end(mut self) {
        assert!(self.node.is_alive(), "it has ended by itself");
    }
}

/// The JSON that an rpc answered with.
fn data(reply: &Value) -> &Value {
    &reply["result"]["data"]
}

#[test]
fn minimal_connects_lets_members_in_and_greets() {
    let node = Example::start("minimal");
    let hello = r#"{"name":"Ann"}"#;
    let reply = node.reply(&["connect", "--data", hello]);
    assert_eq!(reply["result"]["user"], "Ann");
    let reply = node.reply(&["connect", "--data", r#"{"name":""}"#]);
    assert_eq!(reply["error"]["code"], 1400);
    let reply = node.reply(&["subscribe", "--channel", "room:7", "--user", "ann"]);
    assert!(
        reply["error"].is_null() && reply["result"].is_object(),
        "{reply}"
    );
    let reply = node.reply(&["subscribe", "--channel", "room:0", "--user", "ann"]);
    assert_eq!(reply["error"]["code"], 103);
    let reply = node.reply(&["rpc", "--method", "greet", "--data", hello, "--user", "ann"]);
    assert_eq!(data(&reply), &json!({ "text": "hello Ann, says ann" }));
    node.end();
}

#[test]
fn auth_knows_its_users_by_token_and_later_by_meta() {
    let node = Example::start("auth");
    let shop = ["--metadata", "x-app=shop"];
    let ask = |args: &[&str]| node.reply(&[args, &shop].concat());
    let reply = ask(&["connect", "--data", r#"{"token":"ann-secret"}"#]);
    assert_eq!(reply["result"]["user"], "ann");
    assert_eq!(reply["result"]["meta"], json!({ "role": "admin" }));
    let reply = ask(&["connect", "--data", r#"{"token":"guessed"}"#]);
    assert_eq!(reply["disconnect"]["code"], 4501);
    let strange = node.reply(&["connect", "--data", r#"{"token":"ann-secret"}"#]);
    assert!(strange["result"].is_null(), "without the header: {strange}");

    let ann = ["--user", "ann", "--meta", r#"{"role":"admin"}"#];
    let bob = ["--user", "bob", "--meta", r#"{"role":"customer"}"#];
    let reply = ask(&[&["refresh"], &ann[..]].concat());
    assert!(reply["result"]["expire_at"].is_string() || reply["result"]["expire_at"].is_number());
    let orders = |who: &[&str]| ask(&[&["subscribe", "--channel", "orders:ann"], who].concat());
    assert!(orders(&ann)["result"].is_object());
    assert_eq!(orders(&bob)["error"]["code"], 103);
    let news = ["publish", "--channel", "news", "--data", "\"sale\""];
    let reply = ask(&[&news[..], &ann].concat());
    assert_eq!(data(&reply), &json!({ "by": "ann", "text": "sale" }));
    let reply = ask(&[&["rpc", "--method", "whoami"], &bob[..]].concat());
    assert_eq!(data(&reply), &json!(["bob", "customer"]));
    let close = |who: &[&str]| ask(&[&["rpc", "--method", "shop.close"], who].concat());
    assert_eq!(data(&close(&ann)), "closed by ann");
    assert_eq!(close(&bob)["error"]["code"], 103);
    node.end();
}

#[test]
fn streams_tick_one_way_and_echo_two_ways() {
    let node = Example::start("streams");
    assert_eq!(node.reply(&["connect"])["result"]["user"], "guest");
    let said = node.fire(&["stream", "--channel", "clock:1", "--for", "500ms"]);
    let text = json!(said).to_string();
    assert!(
        text.contains(r#""every":1"#) && text.contains(r#""tick":0"#),
        "{text}"
    );
    let two = [
        "stream_bidirectional",
        "--channel",
        "term:a",
        "--user",
        "ann",
    ];
    let send = ["--send", "\"hi\"", "--send", "\"bye\"", "--for", "10s"];
    let text = json!(node.fire(&[two.as_slice(), &send].concat())).to_string();
    assert!(
        text.contains("ann is on a") && text.contains(r#""echo":"hi""#),
        "{text}"
    );
    node.end();
}

#[test]
fn mirror_does_what_the_data_says() {
    let node = Example::start("mirror");
    let reply = node.reply(&[
        "rpc",
        "--method",
        "r",
        "--data",
        r#"{"do":"error","code":1403,"message":"no"}"#,
    ]);
    assert_eq!(reply["error"]["code"], 1403);
    node.end();
}
