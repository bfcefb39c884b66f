//! Workers that connect to a socket; numbers are those of the worker checklist.

use super::*;
use crate::config::RpcAddress;
use futures_util::future::join_all;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Workers whose frames go over this socket.
fn over(address: &RpcAddress, workers: usize) -> PoolSpec {
    let mut spec = with_env(spec(workers), "RR_RELAY", &address.to_string());
    spec.relay = RelayAddress::Socket(address.clone());
    spec.command.has_socket = true;
    spec
}

fn unix(dir: &Path) -> RpcAddress {
    RpcAddress::Unix(dir.join("relay.sock"))
}

/// A port of loopback that nobody has.
fn tcp() -> RpcAddress {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    RpcAddress::Tcp {
        host: "127.0.0.1".to_owned(),
        port: held.local_addr().unwrap().port(),
    }
}

async fn answers(pool: &WorkerPool, calls: usize) {
    let asked = (0..calls).map(|_| ask(pool, "pid"));
    let pids = pids(&pool.workers().await);
    for answer in join_all(asked).await {
        let pid: u32 = answer.unwrap().parse().unwrap();
        assert!(pids.contains(&pid), "{pid} is none of {pids:?}");
    }
}

#[tokio::test]
async fn w22_w24_workers_connect_over_a_unix_socket_and_each_answers_on_its_own_connection() {
    let dir = tempfile::tempdir().unwrap();
    let pool = pool(over(&unix(dir.path()), 4)).await;
    answers(&pool, 40).await;
    // What they print is no part of the line.
    assert!(ask(&pool, "print").await.is_ok());
    let before = pids(&pool.workers().await);
    assert_eq!(pool.reset_to_the_end().await, Ok(4));
    assert!(
        pids(&pool.workers().await)
            .iter()
            .all(|pid| !before.contains(pid))
    );
    answers(&pool, 20).await;
    pool.shutdown(PATIENCE).await;
    for pid in before {
        assert!(!is_alive(pid));
    }
}

#[tokio::test]
async fn w22_w24_workers_connect_over_tcp() {
    let pool = pool(over(&tcp(), 3)).await;
    answers(&pool, 30).await;
    assert!(ask(&pool, "sleep:1").await.is_ok());
}

#[tokio::test]
async fn w22_a_worker_behind_a_shell_is_known_by_the_group_that_it_connects_from() {
    let dir = tempfile::tempdir().unwrap();
    for address in [unix(dir.path()), tcp()] {
        let mut spec = over(&address, 1);
        let line = format!("{}; exit $?", spec.command.command.join(" "));
        spec.command.command = vec!["sh".to_owned(), "-c".to_owned(), line];
        let pool = pool(spec).await;
        let shell = pids(&pool.workers().await);
        let php: u32 = ask(&pool, "pid").await.unwrap().parse().unwrap();
        assert_ne!(shell, [php]);
        pool.shutdown(PATIENCE).await;
        until_dead(php).await;
    }
}

#[tokio::test]
async fn w23_strangers_and_garbage_on_the_relay_keep_no_worker_out() {
    let address = tcp();
    let RpcAddress::Tcp { port, .. } = &address else {
        unreachable!()
    };
    let pool = pool(over(&address, 2)).await;
    let mut strangers = Vec::new();
    for words in ["GET / HTTP/1.1\r\n\r\n", "", "\u{0}\u{0}\u{0}\u{0}"] {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", *port))
            .await
            .unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        strangers.push(stream);
    }
    // One that says it is a worker of somebody else is given to nobody.
    let mut liar = tokio::net::TcpStream::connect(("127.0.0.1", *port))
        .await
        .unwrap();
    let mut answer = BytesMut::new();
    Frame::pid(1).encode(&mut answer).unwrap();
    liar.write_all(&answer).await.unwrap();
    assert_eq!(pool.reset().await, Ok(2));
    for pid in pids(&pool.workers().await) {
        std::process::Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status()
            .unwrap();
    }
    until("new workers have connected", || async {
        ask(&pool, "pid").await.is_ok() && pool.workers().await.len() == 2
    })
    .await;
    // The one with garbage was closed on.
    let mut closed = Vec::new();
    strangers[0].read_to_end(&mut closed).await.ok();
    assert!(!closed.is_empty(), "the question for its pid came first");
}

#[tokio::test]
async fn w23_connections_that_say_nothing_keep_no_worker_out_however_many_there_are() {
    let address = tcp();
    let RpcAddress::Tcp { port, .. } = &address else {
        unreachable!()
    };
    let pool = pool(over(&address, 1)).await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", *port));
        silent.push(stream.await.unwrap());
    }
    // The oldest made room for the last.
    let mut asked = [0; 24];
    silent[299].read_exact(&mut asked).await.unwrap();
    let mut first = Vec::new();
    silent[0].read_to_end(&mut first).await.ok();
    assert_eq!(pool.reset().await, Ok(1));
    assert!(ask(&pool, "echo").await.is_ok());
}

#[tokio::test]
async fn w20_w25_a_worker_that_does_not_shake_hands_on_a_socket_fails_the_start_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    for (start, pid, words) in [
        ("no-control", "1", "no CONTROL flag"),
        ("", "0", "pid should be greater than 0"),
        ("exit", "1", "broken from the start"),
    ] {
        let mut spec = over(&unix(dir.path()), 1);
        spec.allocate_timeout = Duration::from_secs(5);
        let spec = with_env(spec, "STANDIN_START", start);
        let spec = with_env(spec, "STANDIN_PID", pid);
        let pool = WorkerPool::start(spec).await.unwrap();
        let why = pool.reset().await.unwrap_err();
        assert!(why.contains(words), "{start}: {why}");
        pool.shutdown(PATIENCE).await;
    }
}

#[tokio::test]
async fn two_pools_share_a_relay_and_the_last_one_takes_the_socket_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let address = unix(dir.path());
    let first = pool(over(&address, 2)).await;
    let second = pool(over(&address, 2)).await;
    answers(&first, 8).await;
    answers(&second, 8).await;
    first.shutdown(PATIENCE).await;
    drop(first);
    answers(&second, 8).await;
    second.shutdown(PATIENCE).await;
    drop(second);
    let path = dir.path().join("relay.sock");
    until("the socket is gone", || async { !path.exists() }).await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let host = "127.0.0.1".to_owned();
    let refused = WorkerPool::start(over(&RpcAddress::Tcp { host, port }, 1)).await;
    let why = refused.unwrap_err().to_string();
    assert!(
        why.contains(&format!("tcp://127.0.0.1:{port}")) && why.contains("in use"),
        "{why}"
    );
}
