//! A node with routes of every outcome, and what is fired at it.

use super::exposition::Page;
use super::{HUSH, LIMIT, number, parse};
use centripeta::config::{Config, LoadOptions, load};
use centripeta::event::{EventKind, SERVICE_PATH};
use centripeta::event::{Publish, Rpc, Stream};
use centripeta::interceptor::Limit;
use centripeta::proto::proxy::centrifugo_proxy_client::CentrifugoProxyClient;
use centripeta::proto::proxy::{
    PublishRequest, RpcRequest, RpcResponse, StreamSubscribeRequest, StreamSubscribeResponse,
    SubscribeRequest,
};
use centripeta::{
    GrpcAddress, Listeners, Node, PublishReply, Reject, Route, Router, RpcReply, StreamReply,
};
use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

fn config(sets: &[&str]) -> Config {
    let mut options = LoadOptions::new([]);
    options.dir = tempfile::tempdir().unwrap().keep();
    options.sets = vec![
        "listen.grpc=127.0.0.1:0".into(),
        "listen.admin=127.0.0.1:0".into(),
        "listen.admin_token=sesame".into(),
        "listen.auth.metadata=x-router-key".into(),
        "listen.auth.value=right".into(),
        "runtime.cores=2".into(),
        "limits.lane_queue=1".into(),
    ];
    let more = sets.iter().map(|set| (*set).to_owned());
    options.sets.extend(more);
    let config = load(&options).unwrap().config;
    fs::remove_dir_all(options.dir).unwrap();
    config
}

/// Publishes wait until the gate lets them through.
fn router(gate: &Arc<Semaphore>) -> Router {
    let gate = Arc::clone(gate);
    let hold = move || {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            PublishReply::allow()
        }
    };
    let panics = || async { panic!("on purpose") };
    let panics = Route::of::<Rpc, _, _>(move || async move {
        panics().await;
        RpcReply::done()
    });
    let slow = || async {
        std::future::pending::<()>().await;
        RpcReply::done()
    };
    let all = Limit::per_second(0.001).burst(NonZeroU32::MIN);
    Router::new()
        .intercept_all("watch", Watch)
        .route(
            Route::of::<Rpc, _, _>(|| async { RpcReply::done() })
                .matching("ok.*")
                .named("yes"),
        )
        .route(
            Route::of::<Rpc, _, _>(|| async { Err::<RpcReply, _>(Reject::error(409, "taken")) })
                .matching("no.*")
                .named("no"),
        )
        .route(panics.matching("panic.*").named("panics"))
        .route(
            Route::of::<Rpc, _, _>(slow)
                .matching("slow.*")
                .timeout(Duration::from_millis(50))
                .named("slow"),
        )
        .route(
            Route::of::<Rpc, _, _>(|| async { RpcReply::done() })
                .matching("once.*")
                .named("yes")
                .intercept("once", all.per("all").unwrap()),
        )
        .route(
            Route::of::<Publish, _, _>(hold)
                .matching("chat:{room}")
                .named("hold"),
        )
        .route(
            Route::of::<Stream, _, _>(|| async { StreamReply::silent() })
                .matching("feed:{name...}")
                .named("feed"),
        )
}

/// A stage with both halves.
struct Watch;

impl centripeta::Interceptor for Watch {}

pub(super) struct World {
    pub(super) node: Node,
    pub(super) client: CentrifugoProxyClient<Channel>,
    pub(super) admin: SocketAddr,
    pub(super) gate: Arc<Semaphore>,
}

impl World {
    pub(super) async fn start(sets: &[&str]) -> Self {
        let config = config(sets);
        let listeners = Listeners::bind(&config).await.unwrap();
        let gate = Arc::new(Semaphore::new(0));
        let node = Node::start(&config, router(&gate), listeners)
            .await
            .unwrap();
        let GrpcAddress::Tcp(grpc) = node.addresses().grpc else {
            panic!("not a TCP address");
        };
        let admin = node.addresses().admin;
        let channel = Channel::from_shared(format!("http://{grpc}")).unwrap();
        let client = CentrifugoProxyClient::new(channel.connect().await.unwrap());
        Self {
            node,
            client,
            admin,
            gate,
        }
    }

    pub(super) async fn rpc(&self, method: &str) -> Result<RpcResponse, Status> {
        let request = RpcRequest {
            client: format!("{HUSH}-client"),
            user: format!("{HUSH}-user"),
            method: format!("{method}.{HUSH}-method"),
            ..Default::default()
        };
        let answer = self.client.clone().rpc(authorized(request)).await?;
        Ok(answer.into_inner())
    }

    pub(super) fn publish(&self) -> tokio::task::JoinHandle<bool> {
        let mut client = self.client.clone();
        let request = PublishRequest {
            channel: format!("chat:{HUSH}"),
            ..Default::default()
        };
        let call = async move { client.publish(authorized(request)).await };
        tokio::spawn(async move { call.await.unwrap().into_inner().error.is_none() })
    }

    pub(super) async fn get(&self, path: &str, token: Option<&str>) -> (String, String) {
        let token = token.map_or_else(String::new, |token| {
            format!("authorization: Bearer {token}\r\n")
        });
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{token}\r\n");
        let mut socket = TcpStream::connect(self.admin).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = socket.read_to_string(&mut answer);
        timeout(LIMIT, read).await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    pub(super) async fn page(&self) -> String {
        let (head, body) = self.get("/metrics", Some("sesame")).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let kind = "content-type: text/plain; version=0.0.4; charset=utf-8";
        assert!(head.lines().any(|line| line == kind), "{head}");
        body
    }

    /// Scrapes until the page says what we wait for.
    pub(super) async fn eventually(&self, what: &str, holds: impl Fn(&Page) -> bool) -> String {
        let until = Instant::now() + LIMIT;
        loop {
            let text = self.page().await;
            if holds(&parse(&text)) {
                return text;
            }
            assert!(
                Instant::now() < until,
                "not within the limit: {what}\n{text}"
            );
        }
    }

    /// Fires events that end in each of the ways that a caller can bring about.
    pub(super) async fn fire(&self) {
        for _ in 0..3 {
            assert!(self.rpc("ok").await.unwrap().error.is_none());
        }
        for _ in 0..2 {
            assert_eq!(self.rpc("no").await.unwrap().error.unwrap().code, 409);
        }
        assert_eq!(self.rpc("unknown").await.unwrap().error.unwrap().code, 104);
        let slow = self.rpc("slow").await.unwrap_err();
        assert_eq!(slow.code(), Code::DeadlineExceeded);
        assert_eq!(self.rpc("panic").await.unwrap_err().code(), Code::Internal);
        assert!(self.rpc("once").await.unwrap().error.is_none());
        assert_eq!(self.rpc("once").await.unwrap().error.unwrap().code, 111);
        self.overfill_a_lane().await;
        self.fire_what_is_no_event().await;
        self.open_a_stream().await;
    }

    /// One event runs, one waits behind it, the third is one too many.
    pub(super) async fn overfill_a_lane(&self) {
        let fits = [self.publish(), self.publish()];
        self.eventually("one waits behind the other", |page| {
            let waiting = ["0", "1"]
                .map(|core| number(page, "centripeta_lane_queued_events", &[("core", core)]));
            waiting.iter().sum::<f64>() == 1.0
        })
        .await;
        assert!(!self.publish().await.unwrap(), "there is no room");
        self.gate.add_permits(2);
        for call in fits {
            assert!(call.await.unwrap());
        }
    }

    pub(super) async fn fire_what_is_no_event(&self) {
        let mut client = self.client.clone();
        let stranger = client.rpc(RpcRequest::default()).await.unwrap_err();
        assert_eq!(stranger.code(), Code::Unauthenticated);

        /// Holds a number where the contract has a string.
        #[derive(Clone, PartialEq, prost::Message)]
        struct Wrong {
            #[prost(uint64, tag = "1")]
            client: u64,
        }
        let channel = Channel::from_shared(format!("http://{}", self.node.addresses().grpc));
        let mut grpc = tonic::client::Grpc::new(channel.unwrap().connect().await.unwrap());
        grpc.ready().await.unwrap();
        let path = "/centrifugal.centrifugo.proxy.CentrifugoProxy/Connect";
        let codec = tonic_prost::ProstCodec::<Wrong, Wrong>::default();
        let wrong = authorized(Wrong { client: 1 });
        let answer = grpc.unary(wrong, path.parse().unwrap(), codec).await;
        assert_eq!(answer.unwrap_err().code(), Code::InvalidArgument);
    }

    /// A one-way stream, not read yet.
    pub(super) async fn stream(&self) -> Result<Streaming<StreamSubscribeResponse>, Status> {
        let request = SubscribeRequest {
            channel: format!("feed:{HUSH}"),
            ..Default::default()
        };
        let mut client = self.client.clone();
        let stream = client.subscribe_unidirectional(authorized(request)).await?;
        Ok(stream.into_inner())
    }

    /// Opens a two-way stream with these messages.
    pub(super) async fn two_way(
        &self,
        messages: Vec<StreamSubscribeRequest>,
    ) -> Result<Streaming<StreamSubscribeResponse>, Status> {
        let mut client = self.client.clone();
        let messages = authorized(futures_util::stream::iter(messages));
        let stream = client.subscribe_bidirectional(messages).await?;
        Ok(stream.into_inner())
    }

    /// A call written by hand, on a connection of its own: the head of its answer.
    pub(super) async fn by_hand(
        &self,
        kind: EventKind,
        headers: &[(&str, &str)],
        body: &[u8],
        is_whole: bool,
    ) -> http::HeaderMap {
        let GrpcAddress::Tcp(address) = self.node.addresses().grpc else {
            panic!("the node listens on a path");
        };
        let socket = TcpStream::connect(address).await.unwrap();
        let (send, connection) = h2::client::handshake(socket).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut send = send.ready().await.unwrap();
        let url = format!("http://a{SERVICE_PATH}{}", kind.method());
        let mut request = http::Request::post(url)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-router-key", "right");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let (response, mut sender) = send.send_request(request, false).unwrap();
        let body = bytes::Bytes::copy_from_slice(body);
        sender.send_data(body, is_whole).unwrap();
        let head = timeout(LIMIT, response).await.unwrap().unwrap();
        connection.abort();
        head.headers().clone()
    }

    pub(super) async fn open_a_stream(&self) {
        let mut stream = self.stream().await.unwrap();
        assert!(stream.message().await.unwrap().is_some());
        self.eventually("one stream is open", |page| {
            number(page, "centripeta_open_streams", &[]) == 1.0
        })
        .await;
        drop(stream);
        let labels = [("kind", "stream"), ("reason", "cancelled")];
        self.eventually("it is over", |page| {
            number(page, "centripeta_stream_ends_total", &labels) == 1.0
        })
        .await;
    }
}

pub(super) fn authorized<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("x-router-key", "right".parse().unwrap());
    request
}
