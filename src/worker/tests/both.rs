//! One list for the stand-in worker in Python and for one in PHP, over pipes and over sockets.

use super::*;
use crate::config::RpcAddress;
use std::path::Path;
use tokio::time::timeout;

/// The workers that this machine can run; says so loudly of the one in PHP.
fn commands() -> Vec<Vec<String>> {
    let in_php = php().map(|(php, script)| vec![php, script]);
    if in_php.is_none() {
        eprintln!("SKIPPED: no php on PATH: nothing is shown of workers in PHP");
    }
    let mut commands = vec![spec(1).command.command];
    commands.extend(in_php);
    commands
}

/// PHP and its worker.
pub(super) fn php() -> Option<(String, String)> {
    let runs = std::process::Command::new("php").arg("-v").output();
    let script = standin().with_file_name("raw.php");
    runs.is_ok_and(|it| it.status.success())
        .then(|| ("php".to_owned(), script.display().to_string()))
}

/// Pipes, a unix socket, and TCP.
fn relays(dir: &Path) -> [RelayAddress; 3] {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let host = "127.0.0.1".to_owned();
    [
        RelayAddress::Pipes,
        RelayAddress::Socket(RpcAddress::Unix(dir.join("relay.sock"))),
        RelayAddress::Socket(RpcAddress::Tcp { host, port }),
    ]
}

fn over(command: &[String], relay: &RelayAddress, workers: usize) -> PoolSpec {
    let mut spec = spec(workers);
    spec.command.command = command.to_vec();
    if let RelayAddress::Socket(address) = relay {
        spec = with_env(spec, "RR_RELAY", &address.to_string());
        spec.command.has_socket = true;
    }
    spec.relay = relay.clone();
    spec
}

async fn failure(pool: &WorkerPool, what: &str) -> String {
    let asked = timeout(PATIENCE, ask(pool, what)).await;
    asked.unwrap().unwrap_err().to_string()
}

async fn pid(pool: &WorkerPool) -> u32 {
    ask(pool, "pid").await.unwrap().parse().unwrap()
}

/// What is answered, and the worker is the same afterwards.
async fn good_answers(pool: &WorkerPool) {
    let before = pid(pool).await;
    for size in [1_usize, 4056, 4080, 5000, 65_536, 300_000, 3 << 20] {
        let body: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let answer = pool.exec(br#"{"type":["rpc"]}"#, &body).await.unwrap();
        assert!(answer == body, "{size} bytes");
    }
    for (what, wanted) in [
        ("slowly", "do:slowly"),
        ("context", "{}"),
        ("with-context", "body"),
        ("empty", ""),
        ("codec:4", "do:codec:4"),
        ("codec:128", "do:codec:128"),
        ("stderr:20", "do:stderr:20"),
    ] {
        assert_eq!(ask(pool, what).await.unwrap(), wanted, "{what}");
    }
    assert_eq!(ask(pool, "big:8").await.unwrap().len(), 8 << 20);
    let seen = ask(pool, "frame").await.unwrap();
    let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
    let wanted = serde_json::json!({ "flags": 0x80, "stream": 0, "options": [2], "context": 2 });
    assert_eq!(seen, wanted);
    for (what, words) in [
        ("soft", "SoftJob: soft boom"),
        ("drop", "answered nothing"),
        ("stream:3", "streaming response not supported"),
        ("ping", "streaming response not supported"),
    ] {
        let why = failure(pool, what).await;
        assert!(why.contains(words), "{what}: {why}");
    }
    assert_eq!(pid(pool).await, before);
    // Itself the last of all that it was asked.
    assert_eq!(ask(pool, "served").await.unwrap(), "23");
}

/// What costs the worker, and nobody else.
async fn bad_answers(pool: &WorkerPool) {
    for (what, words) in [
        ("no-options", "Decode: 0 options"),
        ("two-options", "Decode: 2 options"),
        ("beyond", "bad payload"),
        ("cut", "unexpected EOF"),
        ("noise", "oops, this is no frame at all"),
        ("noise-and-answer", "oops"),
        ("crc", "checksum"),
        ("exit:7", "exit status: 7; on stderr: leaving"),
        ("die", "signal: 9"),
    ] {
        let before = pid(pool).await;
        let why = failure(pool, what).await;
        assert!(why.contains(words), "{what}: {why}");
        assert_ne!(pid(pool).await, before, "{what}");
        until_dead(before).await;
    }
    for what in ["twice", "answer-and-exit"] {
        let before = pid(pool).await;
        assert_eq!(ask(pool, what).await.unwrap(), format!("do:{what}"));
        assert_ne!(pid(pool).await, before, "{what}");
    }
}

#[tokio::test]
async fn w122_the_standin_and_a_worker_in_php_pass_the_same_list() {
    for command in commands() {
        let dir = tempfile::tempdir().unwrap();
        for relay in relays(dir.path()) {
            let pool = pool(over(&command, &relay, 1)).await;
            good_answers(&pool).await;
            bad_answers(&pool).await;
            let marker = dir.path().join(format!("once-{}", relay_name(&relay)));
            let before = pid(&pool).await;
            let what = format!("replace-once:{}", marker.display());
            let other: u32 = ask(&pool, &what).await.unwrap().parse().unwrap();
            assert_ne!(other, before);
            assert!(
                failure(&pool, "replace")
                    .await
                    .contains("asked to be replaced")
            );
            let last = pid(&pool).await;
            pool.shutdown(PATIENCE).await;
            assert!(!is_alive(last));
        }
    }
}

fn relay_name(relay: &RelayAddress) -> &'static str {
    match relay {
        RelayAddress::Pipes => "pipes",
        RelayAddress::Socket(RpcAddress::Unix(_)) => "unix",
        RelayAddress::Socket(RpcAddress::Tcp { .. }) => "tcp",
    }
}

#[tokio::test]
async fn w26_a_missing_script_fails_the_start_with_what_php_says_of_it() {
    let Some((php, _)) = php() else {
        eprintln!("SKIPPED: no php on PATH: nothing is shown of workers in PHP");
        return;
    };
    let missing = [php, "/no/such/app.php".to_owned()];
    let pool = WorkerPool::start(over(&missing, &RelayAddress::Pipes, 1));
    let why = pool.await.unwrap().reset().await.unwrap_err();
    // It says so on stdout, where an answer is due.
    let words = "Could not open input file: /no/such/app.php";
    assert!(why.contains(words), "{why}");
}

#[tokio::test]
async fn w35_ten_thousand_requests_of_random_size_come_back_from_php() {
    let Some((php, script)) = php() else {
        eprintln!("SKIPPED: no php on PATH: nothing is shown of workers in PHP");
        return;
    };
    let pool = pool(over(&[php, script], &RelayAddress::Pipes, 2)).await;
    let before = pids(&pool.workers().await);
    let mut random = fastrand::Rng::with_seed(1);
    let bytes: Vec<u8> = (0..=1 << 20).map(|_| random.u8(b'a'..=b'z')).collect();
    let bytes = std::sync::Arc::new(bytes);
    let some = |seed: u64| {
        let (pool, bytes) = (pool.clone(), std::sync::Arc::clone(&bytes));
        async move {
            let mut random = fastrand::Rng::with_seed(seed);
            for _ in 0..2500 {
                // As many small ones as large ones.
                let most = 1 << random.u32(0..=20);
                let size = random.usize(1..=most);
                let from = random.usize(0..bytes.len() - size);
                let body = &bytes[from..from + size];
                let answer = pool.exec(b"{}", body).await.unwrap();
                assert!(answer == body, "{size} bytes");
            }
        }
    };
    futures_util::future::join_all((0..4).map(some)).await;
    assert_eq!(pids(&pool.workers().await), before, "nobody was replaced");
    assert_eq!(pool.counts().dropped.get(), 0);
}
