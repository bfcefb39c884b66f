//! A node whose events are answered by upstreams.

use crate::backend::Backend;
use crate::support::client::Reply;
use crate::support::{Client, TestNode, path};
use bytes::Bytes;
use centripeta::config::{LoadOptions, load};
use centripeta::config_routes::assemble;
use centripeta::event::EventKind;
use centripeta::{Listeners, Node, Router};
use std::fmt::Write;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Unary events.
pub(crate) const UNARY: [EventKind; 12] = [
    EventKind::Connect,
    EventKind::Refresh,
    EventKind::Subscribe,
    EventKind::SubRefresh,
    EventKind::Publish,
    EventKind::Rpc,
    EventKind::MapPublish,
    EventKind::MapRemove,
    EventKind::SharedPollRefresh,
    EventKind::CacheEmpty,
    EventKind::ChannelState,
    EventKind::Raw,
];

/// A handler `b` at these endpoints, with more of its keys.
pub(crate) fn handler(endpoints: &[String], keys: &str) -> String {
    format!("[handler.b]\nkind = \"grpc\"\nendpoints = {endpoints:?}\n{keys}\n")
}

/// Every event goes there.
pub(crate) fn routes() -> String {
    let mut text = String::new();
    for kind in EventKind::ALL {
        let name = kind.name();
        write!(text, "[[route]]\non = \"{name}\"\nhandler = \"b\"\n").unwrap();
    }
    text
}

/// A node in this process.
pub(crate) struct Front {
    pub(crate) node: TestNode,
    pub(crate) client: Client,
    _dir: TempDir,
}

impl Front {
    /// A node with every event routed to these backends.
    pub(crate) async fn start(backends: &[&Backend], keys: &str) -> Self {
        let endpoints: Vec<String> = backends.iter().map(|it| it.endpoint()).collect();
        Self::start_with(&handler(&endpoints, keys)).await
    }

    /// The same with this handler and more of the configuration.
    pub(crate) async fn start_with(rest: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let start = "[listen]\ngrpc = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
                     [runtime]\ncores = 2\n";
        let text = format!("{start}{}{rest}", routes());
        std::fs::write(dir.path().join("node.toml"), text).unwrap();
        let mut options = LoadOptions::new([]);
        options.dir = dir.path().to_owned();
        let config = load(&options).unwrap().config;
        let router = assemble(&config, Router::new().with_config_routes()).unwrap();
        let listeners = Listeners::bind(&config).await.unwrap();
        let node = TestNode(Node::start(&config, router, listeners).await.unwrap());
        let client = node.client().await;
        Self {
            node,
            client,
            _dir: dir,
        }
    }

    /// One call.
    pub(crate) async fn call(&self, kind: EventKind, message: &[u8]) -> Reply {
        self.client.call(&path(kind), &[], message).await
    }

    /// The number of a line of `/metrics` that starts like this.
    pub(crate) async fn metric(&self, start: &str) -> Option<f64> {
        let admin = self.node.0.addresses().admin;
        let mut socket = TcpStream::connect(admin).await.unwrap();
        let request = "GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut page = String::new();
        socket.read_to_string(&mut page).await.unwrap();
        let line = page.lines().find(|line| line.starts_with(start))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }
}

/// A field with the number 1000 that no message knows.
pub(crate) const UNKNOWN: &[u8] = &[0xc2, 0x3e, 0x03, b'n', b'e', b'w'];

/// A message with that field behind it.
pub(crate) fn with_unknown(message: &[u8]) -> Bytes {
    [message, UNKNOWN].concat().into()
}

/// A response of any event with a result, a field that nobody knows inside of it and another behind.
pub(crate) fn response() -> Bytes {
    let mut response = vec![0x0a, u8::try_from(UNKNOWN.len()).unwrap()];
    response.extend_from_slice(UNKNOWN);
    with_unknown(&response)
}

/// The first message of an accepted stream, with such fields.
pub(crate) fn accepted() -> Bytes {
    let inner = response();
    let mut first = vec![0x0a, u8::try_from(inner.len()).unwrap()];
    first.extend_from_slice(&inner);
    with_unknown(&first)
}

/// A message with a publication of this data, with such fields.
pub(crate) fn publication(data: &[u8]) -> Bytes {
    let mut publication = vec![0x22];
    prost::encoding::encode_varint(data.len() as u64, &mut publication);
    publication.extend_from_slice(data);
    let publication = with_unknown(&publication);
    let mut message = vec![0x12];
    prost::encoding::encode_varint(publication.len() as u64, &mut message);
    message.extend_from_slice(&publication);
    with_unknown(&message)
}
