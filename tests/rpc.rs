//! goridge RPC against a node that serves it: the vectors TV23 to TV32 and NV10 to NV12, recorded
//! frames, the lines 92 to 110 of the worker checklist that need no PHP, the fallback, and a real
//! Centrifugo where there is one.

#![allow(clippy::unwrap_used)]

#[path = "rpc/calls.rs"]
mod calls;
#[path = "rpc/client.rs"]
mod client;
#[path = "rpc/connections.rs"]
mod connections;
#[path = "rpc/double.rs"]
mod double;
#[path = "rpc/fallback.rs"]
mod fallback;
#[path = "support/logs.rs"]
mod logs;
#[path = "rpc/real.rs"]
mod real;
#[path = "rpc/vectors.rs"]
mod vectors;

use centripeta::config::{Config, Endpoint, ListenAddr, RpcAddress, RpcListen};
use centripeta::{Listeners, Node, Router};
use double::Double;
use std::time::Duration;
use tokio::time::Instant;

/// A node that workers can call.
struct Served {
    node: Node,
    address: RpcAddress,
}

impl Served {
    async fn start(double: &Double) -> Self {
        Self::start_with(double, |_| {}).await
    }

    async fn start_with(double: &Double, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = free();
        config.centrifugo.api = vec![Endpoint {
            tls: false,
            host: double.address.ip().to_string(),
            port: double.address.port(),
        }];
        config.centrifugo.timeout = Duration::from_secs(60);
        change(&mut config);
        Self::of(config).await
    }

    /// Waits until Centrifugo is there, if it is meant to be.
    async fn of(config: Config) -> Self {
        let listeners = Listeners::bind(&config).await.unwrap();
        let node = Node::start(&config, Router::new(), listeners)
            .await
            .unwrap();
        let address = node.rpc_address().unwrap();
        eventually("centrifugo is up", || {
            let stats = node.publisher().stats();
            stats.endpoints.iter().all(|endpoint| endpoint.is_up)
        })
        .await;
        Self { node, address }
    }

    async fn client(&self) -> client::Client {
        client::Client::connect(&self.address).await
    }

    /// What is at a path of the admin listener.
    async fn page(&self, path: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let admin = self.node.addresses().admin;
        let mut stream = tokio::net::TcpStream::connect(admin).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        page
    }
}

/// A configuration on free ports.
fn free() -> Config {
    let any = "127.0.0.1:0".parse().unwrap();
    let mut config = Config::default();
    config.listen.grpc = ListenAddr::Tcp(any);
    config.listen.admin = any;
    config.runtime.cores = Some(1.try_into().unwrap());
    config.rpc.listen = Some(RpcListen::At(RpcAddress::Tcp {
        host: "127.0.0.1".to_owned(),
        port: 0,
    }));
    config
}

/// Waits until a condition holds.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    while !condition() {
        assert!(started.elapsed() < client::SOON, "never: {what}");
        tick.tick().await;
    }
}
