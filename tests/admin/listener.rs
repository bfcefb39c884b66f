//! The admin listener of a node: who is let in, by which protocol, and what hostile bytes do.

use crate::support::{Client, TestNode, client, soon};
use centripeta::config::Secret;
use centripeta::proto::admin::{GetInfoResponse, SetLogLevelRequest};
use centripeta::{Router, RpcReply};
use prost::Message;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const INFO: &str = "/centripeta.admin.v1.Admin/GetInfo";
const SET_LEVEL: &str = "/centripeta.admin.v1.Admin/SetLogLevel";

async fn node(token: Option<&str>) -> (TestNode, SocketAddr) {
    let router = Router::new()
        .rpc("a", async || RpcReply::done())
        .rpc("b", async || RpcReply::done());
    let node = TestNode::start_with(router, |config| {
        config.node.name = "tested".to_owned();
        config.listen.admin_token = token.map(Secret::new);
    })
    .await;
    let admin = node.0.addresses().admin;
    (node, admin)
}

async fn grpc(admin: SocketAddr) -> Client {
    Client::new(TcpStream::connect(admin).await.unwrap()).await
}

/// What an HTTP/1 server sends until it closes.
async fn exchange(admin: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(admin).await.unwrap();
    // A server that has seen enough may have closed already.
    drop(socket.write_all(bytes).await);
    drop(socket.shutdown().await);
    let mut answer = Vec::new();
    drop(soon("an answer", socket.read_to_end(&mut answer)).await);
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(admin: SocketAddr, path: &str, headers: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    exchange(admin, request.as_bytes()).await
}

#[tokio::test]
async fn grpc_and_plain_http_of_both_versions_share_the_port() {
    let (node, admin) = node(None).await;
    let client = grpc(admin).await;
    let reply = client.call(INFO, &[], b"").await;
    let info = GetInfoResponse::decode(reply.message().clone()).unwrap();
    assert_eq!((info.node.as_str(), info.routes), ("tested", 2));
    assert_eq!(info.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(info.grpc_address, node.address().to_string());
    assert_eq!(info.admin_address, admin.to_string());
    assert!(info.ready && info.reason.is_empty() && info.uptime_ms < 60_000);
    let health = get(admin, "/health", "").await;
    assert!(
        health.starts_with("HTTP/1.1 200") && health.contains("tested"),
        "{health}"
    );
    assert!(
        get(admin, "/metrics", "")
            .await
            .contains("centripeta_ready 1")
    );
    assert!(get(admin, "/nowhere", "").await.starts_with("HTTP/1.1 404"));
    // The others over HTTP/2, on the connection of the gRPC calls.
    let ready = client.call("/ready", &[("content-type", "text/plain")], b"");
    assert_eq!(ready.await.http, 405, "it is a POST");
    let mut send = h2_get(admin).await;
    let request = http::Request::get(format!("http://{admin}/ready"));
    let (answer, _) = send.send_request(request.body(()).unwrap(), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    // gRPC over HTTP/1 has no trailers that anybody would read.
    let old = format!(
        "POST {INFO} HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc\r\nconnection: close\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0"
    );
    let old = exchange(admin, old.as_bytes()).await;
    assert!(old.starts_with("HTTP/1.1 505"), "{old}");
}

async fn h2_get(admin: SocketAddr) -> h2::client::SendRequest<bytes::Bytes> {
    let socket = TcpStream::connect(admin).await.unwrap();
    let (send, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    send.ready().await.unwrap()
}

#[tokio::test]
async fn the_token_is_asked_of_everything_but_health_and_readiness() {
    let (_node, admin) = node(Some("sesame-9")).await;
    let client = grpc(admin).await;
    for path in [
        INFO,
        SET_LEVEL,
        "/centripeta.admin.v1.Admin/No",
        "/other.Service/No",
    ] {
        for headers in [
            &[][..],
            &[("authorization", "Bearer sesame-8")],
            &[("authorization", "Bearer sesame-99")],
            &[("authorization", "sesame-9")],
            &[("authorization", "Basic sesame-9")],
            &[("x-token", "Bearer sesame-9")],
        ] {
            let reply = client.call(path, headers, b"").await;
            assert_eq!(reply.status, Some(16), "{path} {headers:?} {reply:?}");
            assert!(reply.messages.is_empty());
        }
    }
    let right = [("authorization", "Bearer sesame-9")];
    let reply = client.call(INFO, &right, b"").await;
    assert!(!reply.message().is_empty());
    for path in ["/centripeta.admin.v1.Admin/No", "/other.Service/No"] {
        assert_eq!(
            client.call(path, &right, b"").await.status,
            Some(12),
            "{path}"
        );
    }
    for (path, headers, status) in [
        ("/health", "", "200"),
        ("/ready", "", "200"),
        ("/metrics", "", "401"),
        ("/nowhere", "", "401"),
        ("/metrics", "authorization: bearer sesame-9\r\n", "200"),
        ("/metrics", "authorization: Bearer sesame\r\n", "401"),
    ] {
        let answer = get(admin, path, headers).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{path} {headers} {answer}"
        );
    }
}

#[tokio::test]
async fn a_node_inside_of_another_program_says_that_it_takes_no_requests() {
    let (_node, admin) = node(None).await;
    let client = grpc(admin).await;
    for method in ["Reload", "GetLogLevel", "SetLogLevel"] {
        let path = format!("/centripeta.admin.v1.Admin/{method}");
        let reply = client.call(&path, &[], b"").await;
        assert_eq!(reply.status, Some(9), "{method} {reply:?}");
        assert!(reply.text.contains("takes no requests"), "{reply:?}");
    }
}

#[tokio::test]
async fn messages_that_are_none_or_too_large_are_refused_and_the_connection_lives() {
    let (_node, admin) = node(None).await;
    let client = grpc(admin).await;
    let large = SetLogLevelRequest {
        level: "x".repeat(70_000),
    };
    let large = client.call(SET_LEVEL, &[], &large.encode_to_vec()).await;
    assert_eq!(large.status, Some(11), "{large:?}");
    let cases: [(&str, bytes::Bytes); 5] = [
        ("no protobuf", client::frame(false, b"\xff\xff\xff")),
        ("not UTF-8", client::frame(false, b"\x0a\x02\xff\xfe")),
        ("compressed", client::frame(true, b"\x0a\x00")),
        ("cut off", bytes::Bytes::from_static(b"\0\0\0\0\x09abc")),
        (
            "a length of 4 GiB",
            bytes::Bytes::from_static(b"\0\xff\xff\xff\xff"),
        ),
    ];
    for (what, body) in cases {
        let reply = soon(what, client.exchange(SET_LEVEL, &[], body)).await;
        assert!(
            reply.status.is_some_and(|status| status > 0),
            "{what} {reply:?}"
        );
        assert!(reply.messages.is_empty(), "{what}");
    }
    let reply = client.call(INFO, &[], b"").await;
    assert!(!reply.message().is_empty(), "the connection lives");
}

#[tokio::test]
async fn bytes_that_are_no_http_end_their_connection_and_nothing_else() {
    let (_node, admin) = node(None).await;
    let healthy = grpc(admin).await;
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut noise = vec![0_u8; 4096];
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..32 {
        random.fill(&mut noise);
        exchange(admin, &noise).await;
        exchange(admin, &[preface, &noise[..]].concat()).await;
        let head = format!("GET /health HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 16));
        let answer = exchange(admin, head.as_bytes()).await;
        assert!(
            !answer.starts_with("HTTP/1.1 200"),
            "round {round} {answer}"
        );
    }
    // SETTINGS whose length is no multiple of six; HEADERS on stream 0; a frame of 16 MiB.
    for frame in [
        &b"\0\0\x05\x04\0\0\0\0\0abcde"[..],
        b"\0\0\x01\x01\x05\0\0\0\0\x88",
        b"\xff\xff\xff\0\0\0\0\0\x01",
    ] {
        exchange(admin, &[preface, frame].concat()).await;
    }
    let reply = soon("an answer", healthy.call(INFO, &[], b"")).await;
    assert!(!reply.message().is_empty());
    assert!(get(admin, "/health", "").await.starts_with("HTTP/1.1 200"));
}
