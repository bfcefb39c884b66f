//! The handler from outside: what `check-config` and `explain` say, and reloads of a real process.

use crate::backend::{Answer, Backend};
use crate::front::{handler, response};
use crate::process::{self, Running, run, stock};
use crate::support::{Client, path, small_request};
use centripeta::event::EventKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpStream;
use tokio::task::block_in_place;

const START: &str = "[listen]\ngrpc = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
                     [runtime]\ncores = 2\n[log]\nformat = \"json\"\n\
                     [[route]]\non = [\"rpc\", \"stream\"]\nhandler = \"b\"\n";

fn write(dir: &Path, rest: &str) {
    std::fs::write(dir.join("node.toml"), format!("{START}{rest}")).unwrap();
}

fn at(ports: &[u16]) -> Vec<String> {
    let address = |port: &u16| format!("grpc://127.0.0.1:{port}");
    ports.iter().map(address).collect()
}

/// What `check-config` says of a handler with these keys at one endpoint.
fn checked(rest: &str) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), rest);
    let ended = run(stock(dir.path(), ["check-config"]));
    (ended.code, ended.err)
}

#[test]
fn mistakes_are_told_with_their_key_and_their_cure() {
    let one = at(&[9000]);
    let with = |keys: &str| handler(&one, keys);
    for (rest, told) in [
        (
            "[handler.b]\nkind = \"grpc\"\n".to_owned(),
            &["handler.b.endpoints", "is missing"][..],
        ),
        (
            handler(&[], ""),
            &["handler.b.endpoints", "names no endpoint"],
        ),
        (
            handler(&["http://a:1".to_owned()], ""),
            &["handler.b.endpoints", "is not a gRPC address"],
        ),
        (handler(&at(&[1, 2, 1]), ""), &["names 127.0.0.1:1 twice"]),
        (
            with("tls = { cert = \"node.toml\" }"),
            &["handler.b.tls.cert", "is nothing without handler.b.tls.key"],
        ),
        (
            with("tls = { ca = \"gone.pem\" }"),
            &["handler.b.tls.ca", "cannot be read"],
        ),
        (
            with("tls = { ca = \"node.toml\" }"),
            &["handler.b.tls", "no certificate in it"],
        ),
        (
            with("metadata = { grpc-timeout = \"1S\" }"),
            &["handler.b.metadata", "keeps for itself"],
        ),
        (
            with("metadata = { x-key = \"a\\u0007\" }"),
            &["handler.b.metadata", "can't carry"],
        ),
        (
            with("retry = { on = [\"UNAVAILABEL\"] }"),
            &["handler.b.retry.on", "UNAVAILABLE"],
        ),
        (
            with("eject = { time = \"2m\" }"),
            &[
                "handler.b.eject.longest",
                "is less than handler.b.eject.time",
            ],
        ),
        (
            with("command = \"php\""),
            &["handler.b.command", "roadrunner"],
        ),
        (
            with("fallback = 1"),
            &["handler.b.fallback", "is not a key"],
        ),
    ] {
        let (code, said) = checked(&rest);
        assert_eq!(code, 3, "{rest}: {said}");
        for told in told {
            assert!(said.contains(told), "{rest}: no {told:?} in {said}");
        }
    }
    let (code, said) = checked(&with(
        "timeout = \"1s\"\nmetadata = { x-key = \"${X_KEY:-s3cr3t}\" }\n\
         retry = { on = [\"UNAVAILABLE\", \"ABORTED\"], budget = 0.2 }",
    ));
    assert_eq!(code, 0, "{said}");
}

#[test]
fn added_metadata_is_shown_by_no_print() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &handler(&at(&[9000]), "metadata = { x-key = \"s3cr3t\" }"),
    );
    let ended = run(stock(dir.path(), ["print-config"]));
    assert!(
        ended.out.contains("x-key") && !ended.out.contains("s3cr3t"),
        "{ended:?}"
    );
}

#[test]
fn explain_names_the_handler_and_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &handler(&at(&[9000, 9001]), ""));
    let ended = run(stock(dir.path(), ["explain", "rpc", "--method", "a"]));
    let line = ended.out.lines().find(|line| line.starts_with("handler"));
    let line = line.unwrap_or_else(|| panic!("{ended:?}"));
    let told = "b, an upstream at grpc://127.0.0.1:9000, grpc://127.0.0.1:9001";
    assert!(line.contains(told), "{line}");
    assert!(
        ended.out.contains("none: any shard, in parallel"),
        "{ended:?}"
    );
    let stream = ["explain", "stream", "--channel", "a:1", "--json"];
    let json = run(stock(dir.path(), stream)).json();
    assert_eq!(
        json["route"]["endpoints"][1], "grpc://127.0.0.1:9001",
        "{json}"
    );
    assert_eq!(json["route"]["key"], "none", "{json}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_moves_to_other_endpoints_without_a_failed_event_and_keeps_what_is_the_same() {
    let first = Backend::start(|_| Answer::Reply(response())).await;
    let second = Backend::start(|_| Answer::Reply(response())).await;
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &handler(&[first.endpoint()], ""));
    let node = Running::start(stock(dir.path(), ["serve"]));
    let grpc = block_in_place(|| node.logs("listening", "grpc"));
    let socket = TcpStream::connect(grpc).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let client = Client::new(socket).await;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let load = tokio::spawn(async move {
        let (rpc, request) = (path(EventKind::Rpc), small_request(EventKind::Rpc, "a"));
        while !stopped.load(Ordering::Relaxed) {
            let reply = client.call(&rpc, &[], &request).await;
            assert_eq!(reply.status, Some(0), "{reply:?}");
        }
    });
    let reloaded = |said: &str| {
        node.signal("HUP");
        process::eventually("it was reloaded", || {
            let lines = node.said().into_iter();
            let mut lines = lines.filter(|line| line.contains("\"reloaded"));
            lines.find(|line| line.contains(said))
        });
    };
    block_in_place(|| process::eventually("calls arrive", || (first.count() > 20).then_some(())));
    // Nothing of the handler has changed: its connections stay.
    let connections = first.connections();
    write(
        dir.path(),
        &format!(
            "{}[limits]\nlane_queue = 63\n",
            handler(&[first.endpoint()], "")
        ),
    );
    block_in_place(|| reloaded("lane_queue"));
    let arrived = first.count();
    block_in_place(|| {
        process::eventually("calls go on", || {
            (first.count() > arrived + 20).then_some(())
        });
    });
    assert_eq!(first.connections(), connections);
    write(dir.path(), &handler(&[second.endpoint()], ""));
    block_in_place(|| reloaded("handler b: changed"));
    block_in_place(|| {
        process::eventually("calls go elsewhere", || (second.count() > 20).then_some(()));
    });
    let last = first.count();
    let arrived = second.count();
    block_in_place(|| {
        process::eventually("calls go on", || {
            (second.count() > arrived + 20).then_some(())
        });
    });
    assert_eq!(first.count(), last);
    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();
    // A mistake changes nothing.
    write(dir.path(), &handler(&[], ""));
    node.signal("HUP");
    block_in_place(|| node.says("names no endpoint"));
}
