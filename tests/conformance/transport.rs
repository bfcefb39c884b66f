//! C12: the life of connections, unix sockets, health, and the end of a node.

use crate::support::client::frame;
use crate::support::{self, Client, TestNode, actor, path, small_request, soon};
use centripeta::config::{Config, ListenAddr};
use centripeta::event::EventKind;
use centripeta::{Listeners, Router, RpcReply};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

#[tokio::test]
async fn c12_an_old_connection_is_asked_to_go_and_finishes_what_it_has() {
    let node = TestNode::start_with(actor::router(), |config| {
        config.listen.max_connection_age = Duration::from_millis(200);
    })
    .await;
    let client = node.client().await;
    let mut stream = client.open(&path(EventKind::Stream), &[]).await.unwrap();
    let body = small_request(EventKind::Stream, "feed:1");
    stream.send(frame(false, &body), true).await;
    soon("the first message", stream.next()).await.unwrap();
    let body = small_request(EventKind::Rpc, "a");
    let headers = [("x-do", "sleep/600"), ("grpc-timeout", "10S")];
    let reply = soon(
        "an answer",
        client.call(&path(EventKind::Rpc), &headers, &body),
    )
    .await;
    assert_eq!(reply.status, Some(0), "{reply:?}");
    let late = client.call(&path(EventKind::Rpc), &[], &body).await;
    assert_eq!(
        late.status, None,
        "a connection that goes takes no more: {late:?}"
    );
    let more = tokio::time::timeout(Duration::from_millis(20), stream.next()).await;
    assert!(more.is_err(), "a stream stays: {more:?}");
    stream.cancel();
    drop(stream);
    soon("the connection is closed", client.closed())
        .await
        .unwrap();
    let fresh = node.client().await;
    assert_eq!(
        fresh.call(&path(EventKind::Rpc), &[], &body).await.status,
        Some(0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c12_a_shutdown_answers_everything_in_flight_before_it_closes_connections() {
    let node = TestNode::start(actor::router()).await;
    let address = node.address();
    let mut calls = Vec::new();
    for _ in 0..4 {
        let client = node.client().await;
        for n in 0..100 {
            let client = client.clone();
            calls.push(tokio::spawn(async move {
                // Long enough for all to be in flight on a slow machine too.
                let act = format!("sleep/{}", 3000 + n);
                let headers = [("x-do", &*act), ("grpc-timeout", "20S")];
                let body = small_request(EventKind::Rpc, "a");
                client.call(&path(EventKind::Rpc), &headers, &body).await
            }));
        }
    }
    support::eventually("all are in flight", async || node.in_flight() == 400).await;
    let begun = Instant::now();
    assert_eq!(node.0.shutdown(Duration::from_secs(10)).await, (0, 0));
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    for call in calls {
        let reply = call.await.unwrap();
        assert_eq!(reply.status, Some(0), "{reply:?}");
    }
    assert!(
        TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_ends_streams_unavailable_and_cuts_what_outlives_its_grace() {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    let mut streams = Vec::new();
    for kind in [EventKind::Stream, EventKind::StreamBidirectional] {
        for n in 0..20 {
            let mut call = client.open(&path(kind), &[]).await.unwrap();
            let body = small_request(kind, &format!("feed:{n}"));
            call.send(frame(false, &body), kind == EventKind::Stream)
                .await;
            soon("the first message", call.next()).await.unwrap();
            streams.push(call);
        }
    }
    let stuck = client.clone();
    let stuck = tokio::spawn(async move {
        let headers = [("x-do", "sleep/60000"), ("grpc-timeout", "60S")];
        let body = small_request(EventKind::Publish, "chat:1");
        stuck.call(&path(EventKind::Publish), &headers, &body).await
    });
    support::eventually("it is in flight", async || node.in_flight() == 1).await;
    let begun = Instant::now();
    assert_eq!(node.0.shutdown(Duration::from_secs(1)).await, (1, 0));
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    for call in streams {
        assert_eq!(soon("the end", call.finish()).await.status, Some(14));
    }
    let cut = soon("an end", stuck).await.unwrap();
    assert!(matches!(cut.status, Some(14)), "{cut:?}");
}

#[tokio::test]
async fn the_health_service_says_serving_and_hears_the_drain() {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    let check = "/grpc.health.v1.Health/Check";
    let service = b"\x0a\x2ccentrifugal.centrifugo.proxy.CentrifugoProxy";
    for name in [&b""[..], service] {
        let reply = client.call(check, &[], name).await;
        assert_eq!(reply.message(), &b"\x08\x01"[..], "{name:?}");
    }
    assert_eq!(
        client.call(check, &[], b"\x0a\x05other").await.status,
        Some(5)
    );
    let mut watch = client
        .open("/grpc.health.v1.Health/Watch", &[])
        .await
        .unwrap();
    watch.send(frame(false, service), true).await;
    assert_eq!(
        soon("serving", watch.next()).await.unwrap(),
        &b"\x08\x01"[..]
    );
    let drain = tokio::spawn(node.0.shutdown(Duration::from_millis(200)));
    assert_eq!(
        soon("not serving", watch.next()).await.unwrap(),
        &b"\x08\x02"[..]
    );
    drop(watch);
    drain.await.unwrap();
}

/// Sockets that have said nothing, half of the preface, and all of it without settings.
async fn silent(node: &TestNode) -> Vec<TcpStream> {
    let mut sockets = Vec::new();
    for opening in [
        &b""[..],
        b"PRI * HTTP/2.0",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut socket = TcpStream::connect(node.address()).await.unwrap();
        socket.write_all(opening).await.unwrap();
        sockets.push(socket);
    }
    sockets
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_sockets_and_an_open_health_watch_hold_up_no_shutdown() {
    let node = TestNode::start(actor::router()).await;
    let _sockets = silent(&node).await;
    let client = node.client().await;
    let mut watch = client
        .open("/grpc.health.v1.Health/Watch", &[])
        .await
        .unwrap();
    watch.send(frame(false, b""), true).await;
    let serving = soon("serving", watch.next()).await.unwrap();
    assert_eq!(serving, &b"\x08\x01"[..]);
    let begun = Instant::now();
    let drain = tokio::spawn(node.0.shutdown(Duration::from_secs(30)));
    let last = soon("not serving", watch.next()).await.unwrap();
    assert_eq!(last, &b"\x08\x02"[..]);
    assert_eq!(soon("the end", watch.finish()).await.status, Some(14));
    assert_eq!(drain.await.unwrap(), (0, 0));
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn silent_sockets_do_not_outlive_the_age_of_connections() {
    let node = TestNode::start_with(actor::router(), |config| {
        config.listen.max_connection_age = Duration::from_millis(200);
    })
    .await;
    for mut socket in silent(&node).await {
        let mut answer = Vec::new();
        // Reset or closed, whatever the node had said before.
        let _ = soon("the end", socket.read_to_end(&mut answer)).await;
    }
}

#[tokio::test]
async fn a_health_check_takes_no_large_message() {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    let check = "/grpc.health.v1.Health/Check";
    let mut call = client.open(check, &[]).await.unwrap();
    // Announced, and not sent: it is refused before any of it is kept.
    call.send(vec![0, 0, 0, 8, 0].into(), false).await;
    assert_eq!(soon("a refusal", call.finish()).await.status, Some(11));
    assert_eq!(client.call(check, &[], b"").await.status, Some(0));
}

#[tokio::test]
async fn a_unix_socket_serves_replaces_a_dead_one_and_is_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path_of = folder.path().join("node.sock");
    drop(std::os::unix::net::UnixListener::bind(&path_of).unwrap());
    assert!(path_of.exists(), "what a killed process leaves");
    let listen = |config: &mut Config| config.listen.grpc = ListenAddr::Unix(path_of.clone());
    let node = TestNode::start_with(actor::router(), listen).await;
    let client = Client::new(UnixStream::connect(&path_of).await.unwrap()).await;
    let body = small_request(EventKind::Rpc, "a");
    let reply = client.call(&path(EventKind::Rpc), &[], &body).await;
    assert_eq!(reply.status, Some(0));

    let mut config = Config::default();
    listen(&mut config);
    config.listen.admin = "127.0.0.1:0".parse().unwrap();
    let taken = Listeners::bind(&config).await.unwrap_err();
    assert!(taken.to_string().contains("listen.grpc"), "{taken}");
    let help = taken.0[0].help();
    assert!(help.contains("--set listen.grpc="), "{help}");
    node.0.shutdown(Duration::from_secs(1)).await;
    assert!(!path_of.exists());
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_key_and_a_fix() {
    let node = TestNode::start(Router::new()).await;
    let mut config = Config::default();
    config.listen.grpc = ListenAddr::Tcp(node.address());
    config.listen.admin = node.0.addresses().admin;
    let taken = Listeners::bind(&config).await.unwrap_err();
    let addresses = [node.address(), config.listen.admin];
    assert_eq!(taken.0.len(), 2, "{taken}");
    for ((error, key), address) in taken
        .0
        .iter()
        .zip(["listen.grpc", "listen.admin"])
        .zip(addresses)
    {
        let address = address.to_string();
        assert_eq!((error.key, error.address.as_str()), (key, address.as_str()));
        assert!(error.help().contains(&address), "{}", error.help());
        assert!(taken.to_string().contains(&address), "{taken}");
    }
}

#[tokio::test]
async fn a_file_in_the_place_of_the_socket_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path_of = folder.path().join("accounts.db");
    std::fs::write(&path_of, "precious").unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path_of, &link).unwrap();
    let mut config = Config::default();
    config.listen.admin = "127.0.0.1:0".parse().unwrap();
    for path in [&path_of, &link] {
        config.listen.grpc = ListenAddr::Unix(path.clone());
        let refused = Listeners::bind(&config).await.unwrap_err();
        assert!(refused.to_string().contains("no socket"), "{refused}");
        let help = refused.0[0].help();
        assert!(help.contains("move away"), "{help}");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
    }
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
}

async fn get(node: &TestNode, path: &str) -> String {
    let admin = node.0.addresses().admin;
    let mut socket = TcpStream::connect(admin).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("an answer", socket.read_to_string(&mut answer))
        .await
        .unwrap();
    answer
}

#[tokio::test]
async fn health_and_readiness_answer_while_every_core_is_held() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let router = Router::new().rpc("*", move || {
        // Blocks the core, as no handler should.
        let _ = held.lock().unwrap().recv();
        async { RpcReply::done() }
    });
    let node = TestNode::start_with(router, |config| {
        config.runtime.cores = Some(1.try_into().unwrap());
    })
    .await;
    let client = node.client().await;
    let mut call = client
        .open(&path(EventKind::Rpc), &[("grpc-timeout", "30S")])
        .await
        .unwrap();
    call.send(frame(false, &small_request(EventKind::Rpc, "a")), true)
        .await;
    support::eventually("it is in flight", async || node.in_flight() == 1).await;
    assert!(get(&node, "/health").await.starts_with("HTTP/1.1 200"));
    support::eventually("it is not ready", async || {
        let ready = get(&node, "/ready").await;
        ready.starts_with("HTTP/1.1 503") && ready.contains("holds core 0")
    })
    .await;
    assert!(get(&node, "/other").await.starts_with("HTTP/1.1 404"));
    release.send(()).unwrap();
    assert_eq!(soon("an answer", call.finish()).await.status, Some(0));
    support::eventually("it is ready again", async || {
        get(&node, "/ready").await.starts_with("HTTP/1.1 200")
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_waits_for_a_reader_that_takes_its_answer_slowly() {
    let big = "x".repeat(700_000);
    let router = Router::new().rpc("*", move || {
        let reply = centripeta::Json(big.clone());
        async move { reply }
    });
    let node = TestNode::start(router).await;
    let socket = TcpStream::connect(node.address()).await.unwrap();
    let (send, connection) = h2::client::handshake(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://a{}", path(EventKind::Rpc)))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let mut send = send.ready().await.unwrap();
    let (response, mut body) = send.send_request(request.body(()).unwrap(), false).unwrap();
    let message = support::client::frame(false, &small_request(EventKind::Rpc, "a"));
    body.send_data(message, true).unwrap();
    let mut reply = response.await.unwrap().into_body();
    // The window is 64 kB: the rest can't have left yet.
    let first = reply.data().await.unwrap().unwrap();
    let drain = tokio::spawn(node.0.shutdown(Duration::from_secs(20)));
    let mut taken = first.len();
    reply.flow_control().release_capacity(first.len()).unwrap();
    while let Some(data) = reply.data().await {
        let data = data.unwrap();
        taken += data.len();
        tokio::task::yield_now().await;
        reply.flow_control().release_capacity(data.len()).unwrap();
    }
    assert!(taken > 700_000, "{taken}");
    assert_eq!(reply.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    drop(send);
    assert_eq!(drain.await.unwrap(), (0, 0));
    drop(connection.await);
}
