//! A node on a free port, and a client that speaks gRPC byte by byte.

#![allow(clippy::unwrap_used, unreachable_pub)]
#![allow(
    dead_code,
    reason = "each test target uses the part of it that it needs"
)]

pub mod actor;
pub mod client;
pub mod logs;

pub use client::Client;

use bytes::Bytes;
use centripeta::config::{Config, ListenAddr};
use centripeta::event::{EventKind, SERVICE_PATH};
use centripeta::{GrpcAddress, Listeners, Node, Router};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// A node of the library's own making, on loopback ports that were free.
pub struct TestNode(pub Node);

impl TestNode {
    /// A node with the built-in defaults on two cores.
    pub async fn start(router: Router) -> Self {
        Self::start_with(router, |_| {}).await
    }

    /// The same with a changed configuration.
    pub async fn start_with(router: Router, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.listen.grpc = ListenAddr::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        config.listen.admin = SocketAddr::from(([127, 0, 0, 1], 0));
        config.runtime.cores = Some(2.try_into().unwrap());
        change(&mut config);
        let listeners = Listeners::bind(&config).await.unwrap();
        Self(Node::start(&config, router, listeners).await.unwrap())
    }

    /// Its TCP address.
    pub fn address(&self) -> SocketAddr {
        match &self.0.addresses().grpc {
            GrpcAddress::Tcp(address) => *address,
            GrpcAddress::Unix(path) => panic!("{} is no TCP address", path.display()),
        }
    }

    /// A connection to it.
    pub async fn client(&self) -> Client {
        let socket = TcpStream::connect(self.address()).await.unwrap();
        // As grpc-go does; without it each message waits for an acknowledgement.
        socket.set_nodelay(true).unwrap();
        Client::new(socket).await
    }

    /// Events in flight.
    pub fn in_flight(&self) -> usize {
        self.0.engine().in_flight()
    }
}

/// The path of a kind of event; a raw one calls a method that nobody knows.
pub fn path(kind: EventKind) -> String {
    let method = match kind.method() {
        "" => "Unheard",
        method => method,
    };
    format!("{SERVICE_PATH}{method}")
}

/// A request of a kind from its JSON.
pub fn request(kind: EventKind, json: &str) -> Bytes {
    centripeta::json::request_from_json(kind, json).unwrap()
}

/// The smallest request that Centrifugo sends for a kind, for a channel or method of this name.
pub fn small_request(kind: EventKind, subject: &str) -> Bytes {
    let client = r#""client":"c1","transport":"websocket","protocol":"json","encoding":"json""#;
    let json = match kind {
        EventKind::Connect | EventKind::Refresh => format!("{{{client}}}"),
        EventKind::Rpc => format!(r#"{{{client},"user":"u1","method":"{subject}"}}"#),
        EventKind::StreamBidirectional => {
            format!(r#"{{"subscribe_request":{{{client},"channel":"{subject}"}}}}"#)
        }
        EventKind::SharedPollRefresh | EventKind::CacheEmpty => {
            format!(r#"{{"channel":"{subject}"}}"#)
        }
        EventKind::ChannelState => "{}".to_owned(),
        EventKind::Raw => r#"{"$hex":"0a0131"}"#.to_owned(),
        _ => format!(r#"{{{client},"user":"u1","channel":"{subject}"}}"#),
    };
    request(kind, &json)
}

/// The JSON of a response message.
pub fn json(kind: EventKind, message: &[u8]) -> String {
    centripeta::json::response_to_json(kind, message).unwrap()
}

/// Waits until a condition holds, at most ten seconds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(10);
    while tokio::time::Instant::now() < limit {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within ten seconds: {what}");
}

/// Awaits something that has to happen within ten seconds.
pub async fn soon<F: Future>(what: &str, work: F) -> F::Output {
    match tokio::time::timeout(Duration::from_secs(10), work).await {
        Ok(done) => done,
        Err(_) => panic!("not within ten seconds: {what}"),
    }
}
