//! What comes in: addresses, sizes, and callers who do not wait; and what workers say on stderr.

use crate::node::{Node, Script, ask, ask_data, handler, hex, request_of, routes};
use crate::process::eventually;
use crate::support::{Client, path};
use centripeta::event::EventKind;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::block_in_place;
use tokio::time::Instant;

/// A yes to an rpc, without data.
const YES: &[u8] = &[0x0a, 0];

/// A request that is answered with [`YES`], of exactly so many bytes.
fn of_size(size: usize) -> Vec<u8> {
    let mut message = request_of(EventKind::Rpc, &format!("hex:{}", hex(YES))).to_vec();
    // Field 99, of which nobody knows, with a length of four bytes.
    let rest = size - message.len() - 6;
    message.extend_from_slice(b"\x9a\x06");
    let length = [0, 7, 14, 21].map(|at| u8::try_from((rest >> at) & 127).unwrap());
    message.extend_from_slice(&[length[0] | 128, length[1] | 128, length[2] | 128, length[3]]);
    message.resize(size, b'x');
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w86_four_mebibytes_are_the_limit_of_a_request_until_it_is_raised() {
    const LIMIT: usize = 4 << 20;
    let config = handler(Script::Python, "", "num_workers = 1") + &routes();
    let node = Node::start(&config).await;
    let client = node.client().await;
    let at_limit = of_size(LIMIT);
    assert_eq!(at_limit.len(), LIMIT);
    let reply = client.call(&path(EventKind::Rpc), &[], &at_limit).await;
    assert_eq!(reply.message(), YES);
    let beyond = of_size(LIMIT + 1);
    let reply = client.call(&path(EventKind::Rpc), &[], &beyond).await;
    assert_eq!((reply.status, reply.messages.len()), (Some(11), 0));
    assert!(
        reply.text.contains("limits.message_bytes"),
        "{}",
        reply.text
    );
    let raised = format!("[limits]\nmessage_bytes = \"5MiB\"\n{config}");
    let node = Node::start(&raised).await;
    let client = node.client().await;
    let reply = client.call(&path(EventKind::Rpc), &[], &beyond).await;
    assert_eq!(reply.message(), YES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w87_the_listener_takes_an_address_with_and_without_tcp_and_a_socket_file() {
    let config = handler(Script::Python, "", "num_workers = 1") + &routes();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("grpc.sock");
    let unix = format!("unix://{}", file.display());
    for address in ["127.0.0.1:0", "tcp://127.0.0.1:0", &unix] {
        let set = [("CENTRIPETA_LISTEN__GRPC", address)];
        let node = Node::start_unready(&config, &set);
        node.until_ready().await;
        let client = match address == unix {
            false => {
                let socket = TcpStream::connect(node.grpc()).await.unwrap();
                Client::new(socket).await
            }
            true => Client::new(UnixStream::connect(&file).await.unwrap()).await,
        };
        let pid = ask_data(&client, "rpc-pid").await;
        assert!(!pid.is_empty(), "{address}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_whose_deadline_passes_in_the_queue_is_answered_then_and_its_request_never_runs() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let keys = format!("env = {{ STANDIN_LOG = \"{}\" }}", log.display());
    let pool = "num_workers = 1\nallocate_timeout = \"20s\"";
    let node = Node::start(&(handler(Script::Python, &keys, pool) + &routes())).await;
    let client = node.client().await;
    let before = ask_data(&client, "rpc-pid").await;
    let busy = {
        let client = client.clone();
        let directive = format!("sleep-hex:3000.{}", hex(YES));
        tokio::spawn(async move { ask(&client, EventKind::Rpc, &directive).await })
    };
    let requests = "centripeta_worker_requests{handler=\"app\"}";
    block_in_place(|| node.until_metric(requests, 1));
    let started = Instant::now();
    let message = request_of(EventKind::Rpc, "rpc-body");
    let headers = [("grpc-timeout", "300m")];
    let reply = client.call(&path(EventKind::Rpc), &headers, &message).await;
    assert_eq!((reply.status, reply.messages.len()), (Some(4), 0));
    assert!(started.elapsed() < Duration::from_millis(2000));
    assert!(!busy.is_finished(), "the worker goes on");
    block_in_place(|| node.until_metric(requests, 1));
    assert_eq!(busy.await.unwrap().message(), YES);
    assert_eq!(ask_data(&client, "rpc-pid").await, before);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(!log.contains("rpc-body"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w28_what_a_worker_says_on_stderr_is_in_the_log_with_its_pid_and_loses_nothing() {
    for script in Script::all() {
        let node = Node::start(&(handler(script, "", "num_workers = 1") + &routes())).await;
        let client = node.client().await;
        let pid = ask_data(&client, "rpc-pid").await;
        let pid: u64 = String::from_utf8_lossy(&pid).parse().unwrap();
        // Its answer is none of an rpc: what it says first is meant here.
        ask(&client, EventKind::Rpc, "stderr:200000").await;
        block_in_place(|| {
            eventually("all of the line is in the log", || {
                let said = node.process.said();
                let lines = said
                    .iter()
                    .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
                let mut seen = 0;
                for line in lines.filter(|line| line["pid"] == pid && line["pool"] == "app") {
                    let text = line.to_string();
                    seen += text.matches('y').count().saturating_sub(9);
                }
                (seen >= 199_000).then_some(())
            });
        });
    }
}
