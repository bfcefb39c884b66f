//! `/metrics` of a whole node: well-formed, right for the events fired, and what the reference, the
//! dashboard and the alerts name.
#![allow(clippy::unwrap_used)]

mod cluster;
#[allow(dead_code, reason = "other tests need the rest of it")]
#[path = "../publisher/double.rs"]
mod double;
mod exposition;
mod publisher;

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
    metrics,
};
use exposition::{Kind, Page};
use prom_text_format_parser::Scrape;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(20);
/// What every request holds in its client, user, channel and method; no label may.
const HUSH: &str = "hush";

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

struct World {
    node: Node,
    client: CentrifugoProxyClient<Channel>,
    admin: SocketAddr,
    gate: Arc<Semaphore>,
}

impl World {
    async fn start(sets: &[&str]) -> Self {
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

    async fn rpc(&self, method: &str) -> Result<RpcResponse, Status> {
        let request = RpcRequest {
            client: format!("{HUSH}-client"),
            user: format!("{HUSH}-user"),
            method: format!("{method}.{HUSH}-method"),
            ..Default::default()
        };
        let answer = self.client.clone().rpc(authorized(request)).await?;
        Ok(answer.into_inner())
    }

    fn publish(&self) -> tokio::task::JoinHandle<bool> {
        let mut client = self.client.clone();
        let request = PublishRequest {
            channel: format!("chat:{HUSH}"),
            ..Default::default()
        };
        let call = async move { client.publish(authorized(request)).await };
        tokio::spawn(async move { call.await.unwrap().into_inner().error.is_none() })
    }

    async fn get(&self, path: &str, token: Option<&str>) -> (String, String) {
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

    async fn page(&self) -> String {
        let (head, body) = self.get("/metrics", Some("sesame")).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let kind = "content-type: text/plain; version=0.0.4; charset=utf-8";
        assert!(head.lines().any(|line| line == kind), "{head}");
        body
    }

    /// Scrapes until the page says what we wait for.
    async fn eventually(&self, what: &str, holds: impl Fn(&Page) -> bool) -> String {
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
    async fn fire(&self) {
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
    async fn overfill_a_lane(&self) {
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

    async fn fire_what_is_no_event(&self) {
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
    async fn stream(&self) -> Result<Streaming<StreamSubscribeResponse>, Status> {
        let request = SubscribeRequest {
            channel: format!("feed:{HUSH}"),
            ..Default::default()
        };
        let mut client = self.client.clone();
        let stream = client.subscribe_unidirectional(authorized(request)).await?;
        Ok(stream.into_inner())
    }

    /// Opens a two-way stream with these messages.
    async fn two_way(
        &self,
        messages: Vec<StreamSubscribeRequest>,
    ) -> Result<Streaming<StreamSubscribeResponse>, Status> {
        let mut client = self.client.clone();
        let messages = authorized(futures_util::stream::iter(messages));
        let stream = client.subscribe_bidirectional(messages).await?;
        Ok(stream.into_inner())
    }

    /// A call written by hand, on a connection of its own: the head of its answer.
    async fn by_hand(
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

    async fn open_a_stream(&self) {
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

fn authorized<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("x-router-key", "right".parse().unwrap());
    request
}

/// Read by a library, which has to find every line, and by rules of our own that are stricter.
fn parse(text: &str) -> Page {
    let read = Scrape::parse(text).unwrap_or_else(|why| panic!("{why:?}\n{text}"));
    assert_eq!(read.to_string(), text, "what the library read of the page");
    exposition::parse(text).unwrap_or_else(|why| panic!("{why}\n{text}"))
}

/// The one number under these labels; 0 without such a sample.
fn number(page: &Page, metric: &str, wanted: &[(&str, &str)]) -> f64 {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let wanted: BTreeMap<String, String> = wanted.iter().map(owned).collect();
    let family = &page[metric];
    assert_ne!(family.kind, Kind::Histogram, "{metric} is not one number");
    let mut numbers = family.numbers.iter();
    let found = numbers.find(|(labels, _)| *labels == wanted);
    found.map_or(0.0, |(_, number)| *number)
}

/// The counts of events by kind, route, handler and outcome, but for those that are 0.
fn events(page: &Page) -> BTreeMap<[String; 4], u64> {
    let family = &page["centripeta_events_total"];
    assert_eq!(family.kind, Kind::Counter);
    let counts = family.numbers.iter().map(|(labels, count)| {
        let key = ["kind", "route", "handler", "outcome"].map(|name| labels[name].clone());
        (key, *count as u64)
    });
    counts.filter(|(_, count)| *count > 0).collect()
}

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_a_run_is_well_formed_and_says_what_happened() {
    let world = World::start(&[]).await;
    world.fire().await;
    let text = world.page().await;
    let page = parse(&text);

    let fired = [
        ["rpc", "ok.*", "yes", "ok"],
        ["rpc", "no.*", "no", "rejected"],
        ["rpc", "", "", "no_route"],
        ["rpc", "slow.*", "slow", "timeout"],
        ["rpc", "panic.*", "panics", "panic"],
        ["rpc", "once.*", "yes", "ok"],
        ["rpc", "once.*", "yes", "overloaded"],
        ["publish", "chat:{room}", "hold", "ok"],
        ["publish", "chat:{room}", "hold", "overloaded"],
        ["rpc", "", "", "unauthenticated"],
        ["connect", "", "", "undecodable"],
        ["stream", "feed:{name...}", "feed", "stream_open"],
    ];
    let counts = [3, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1];
    let fired = fired.map(|labels| labels.map(str::to_owned));
    let expected: BTreeMap<_, _> = fired.into_iter().zip(counts).collect();
    assert_eq!(events(&page), expected, "{text}");

    let refused = |reason| number(&page, "centripeta_refused_total", &[("reason", reason)]);
    for reason in ["rate", "lane", "unauthenticated", "undecodable"] {
        assert_eq!(refused(reason), 1.0, "{reason}");
    }
    for reason in ["in_flight", "streams", "shard", "draining", "parked"] {
        assert_eq!(refused(reason), 0.0, "{reason}");
    }
    for gauge in ["centripeta_in_flight_events", "centripeta_open_streams"] {
        assert_eq!(number(&page, gauge, &[]), 0.0, "{gauge}");
    }
    let passed = [
        ("interceptor", "watch"),
        ("half", "before"),
        ("result", "next"),
    ];
    // All but the unauthenticated one.
    assert_eq!(
        number(&page, "centripeta_interceptor_events_total", &passed),
        15.0
    );
    let answered = [
        ("interceptor", "once"),
        ("half", "before"),
        ("result", "answered"),
    ];
    assert_eq!(
        number(&page, "centripeta_interceptor_events_total", &answered),
        1.0
    );
    let connections = ["0", "1"].map(|core| {
        let core = [("core", core)];
        number(&page, "centripeta_connections_accepted_total", &core)
    });
    assert_eq!(connections, [1.0, 1.0]);
    assert_eq!(number(&page, "centripeta_ready", &[]), 1.0);
    assert!(!text.contains(HUSH), "{text}");
    world.node.shutdown(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_room_for_its_message_counts_as_overloaded() {
    // A two-way stream is charged 64 KiB until its first message is there.
    let world = World::start(&["limits.message_bytes=16KiB", "limits.in_flight_bytes=32KiB"]).await;
    let refusal = world.two_way(Vec::new()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable);
    let page = parse(&world.page().await);
    let key = ["stream_bidirectional", "", "", "overloaded"].map(str::to_owned);
    assert_eq!(events(&page), BTreeMap::from([(key, 1)]));
    let reason = [("reason", "in_flight_bytes")];
    assert_eq!(number(&page, "centripeta_refused_total", &reason), 1.0);
    world.node.shutdown(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_two_way_stream_without_a_request_in_its_first_message_counts_as_undecodable() {
    let world = World::start(&[]).await;
    for messages in [Vec::new(), vec![StreamSubscribeRequest::default()]] {
        let refusal = world.two_way(messages).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
    }
    let page = parse(&world.page().await);
    let key = ["stream_bidirectional", "", "", "undecodable"].map(str::to_owned);
    assert_eq!(events(&page), BTreeMap::from([(key, 2)]));
    let reason = [("reason", "undecodable")];
    assert_eq!(number(&page, "centripeta_refused_total", &reason), 2.0);
    world.node.shutdown(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_beyond_the_limit_counts_as_overloaded_and_not_as_open() {
    let world = World::start(&["limits.streams=1"]).await;
    let mut open = world.stream().await.unwrap();
    assert!(open.message().await.unwrap().is_some());
    let refusal = world.stream().await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable);
    let page = parse(&world.page().await);
    let key = |outcome| ["stream", "feed:{name...}", "feed", outcome].map(str::to_owned);
    let expected = [(key("stream_open"), 1), (key("overloaded"), 1)];
    assert_eq!(events(&page), BTreeMap::from(expected));
    let reason = [("reason", "streams")];
    assert_eq!(number(&page, "centripeta_refused_total", &reason), 1.0);
    assert_eq!(number(&page, "centripeta_open_streams", &[]), 1.0);
    drop(open);
    world.node.shutdown(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_of_events_are_in_the_buckets_where_they_belong() {
    let world = World::start(&[]).await;
    world.fire().await;
    let page = parse(&world.page().await);
    let mut times = BTreeMap::new();
    for (name, family) in &page {
        for (labels, histogram) in &family.histograms {
            // The buckets have been checked by the one who read the page.
            let (count, sum) = (histogram.count.unwrap(), histogram.sum.unwrap());
            assert_eq!(sum > 0.0, count > 0.0, "{name}: {sum} s of {count}");
            if name == "centripeta_event_duration_seconds" {
                let key = ["handler", "outcome"].map(|label| labels[label].clone());
                times.insert(key, histogram.clone());
            }
        }
    }
    let times = |handler: &str, outcome: &str| times.get(&[handler, outcome].map(str::to_owned));
    let slow = times("slow", "timeout").unwrap();
    let below = |bound: f64| {
        let bucket = slow.buckets.iter().find(|(upper, _)| *upper == bound);
        bucket.unwrap().1
    };
    assert_eq!(below(0.025), 0.0, "it ran for 50 ms");
    assert_eq!(below(f64::INFINITY), 1.0);
    // Who is refused on arrival has no time.
    assert!(times("", "unauthenticated").is_none());
    assert!(times("", "undecodable").is_some());
    world.node.shutdown(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrape_needs_the_token_and_has_no_page_where_metrics_are_off() {
    let world = World::start(&["metrics.enabled=false"]).await;
    assert!(world.rpc("ok").await.unwrap().error.is_none());
    for token in [None, Some("wrong")] {
        let (head, body) = world.get("/metrics", token).await;
        assert!(head.starts_with("HTTP/1.1 401"), "{head}");
        assert!(!body.contains("centripeta_"));
    }
    let (head, body) = world.get("/metrics", Some("sesame")).await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    assert!(body.contains("metrics.enabled"), "{body}");
    world.node.shutdown(LIMIT).await;
}

#[test]
fn the_reference_is_what_the_code_says() {
    if std::env::var_os("WRITE_DOCS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        fs::write(path, metrics::documentation()).unwrap();
    }
    assert_eq!(
        file("docs/metrics.md"),
        metrics::documentation(),
        "write it anew with WRITE_DOCS=1"
    );
}

/// Expressions of the dashboard and of the alerts, with the place of each.
fn expressions() -> Vec<(String, String)> {
    fn collect(value: &serde_json::Value, found: &mut Vec<(String, String)>) {
        match value {
            serde_json::Value::Object(fields) => {
                for key in ["expr", "query", "definition"] {
                    if let Some(text) = fields.get(key).and_then(|it| it.as_str()) {
                        found.push(("deploy/grafana.json".to_owned(), text.to_owned()));
                    }
                }
                fields.values().for_each(|field| collect(field, found));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    let dashboard: serde_json::Value = serde_json::from_str(&file("deploy/grafana.json")).unwrap();
    collect(&dashboard, &mut found);
    assert!(found.len() > 20, "the dashboard has panels");
    let alerts = file("deploy/alerts.yml");
    let names = alerts
        .lines()
        .filter(|line| line.contains("- alert: "))
        .count();
    let lines = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "));
    let before = found.len();
    found.extend(lines.map(|expr| ("deploy/alerts.yml".to_owned(), expr.to_owned())));
    assert!(names > 10, "there are alerts");
    assert_eq!(
        found.len() - before,
        names,
        "each alert has its expression on one line"
    );
    found
}

/// The words of an expression, but for those inside of quotes.
fn words(expression: &str) -> Vec<&str> {
    let outside = expression.split('"').step_by(2);
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    outside
        .flat_map(|part| part.split(move |c| !is_word(c)))
        .filter(|word| !word.is_empty())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dashboard_alerts_and_reference_name_the_metrics_that_a_run_exports() {
    let world = World::start(&[]).await;
    world.fire().await;
    let page = parse(&world.page().await);
    let exported: BTreeSet<&str> = page.keys().map(String::as_str).collect();
    // A run without worker processes and upstreams has nothing to say of them; `tests/workers` and
    // `tests/upstream` have some. Nor has one alone of a cluster; `cluster` has one that is not.
    let is_elsewhere = |name: &&str| {
        [
            "centripeta_worker",
            "centripeta_upstream",
            "centripeta_cluster_",
        ]
        .iter()
        .any(|part| name.starts_with(part))
    };
    let documented = metrics::names().filter(|it| !is_elsewhere(it));
    let documented: BTreeSet<&str> = documented.collect();
    assert_eq!(exported, documented);
    let reference = file("docs/metrics.md");
    for (name, family) in &page {
        assert!(reference.contains(&format!("| `{name}` |")), "{name}");
        let has_some = family.labels().next().is_some();
        assert!(has_some, "{name} has no sample");
        assert!(!family.help.is_empty(), "{name}");
    }

    let mut used = BTreeSet::new();
    for (place, expression) in expressions() {
        // What Prometheus adds, and the labels of the metrics in the expression.
        let mut known: BTreeSet<String> = ["instance", "job", "le"].map(str::to_owned).into();
        for word in words(&expression) {
            if !word.starts_with("centripeta_") {
                continue;
            }
            if is_elsewhere(&word) {
                let name = word.strip_suffix("_bucket").unwrap_or(word);
                let is_there = metrics::names().any(|it| it == name);
                assert!(is_there, "{place}: no {word}: {expression}");
                let labels = [
                    "handler",
                    "state",
                    "reason",
                    "code",
                    "kind",
                    "step",
                    "result",
                    "peer",
                    "endpoint",
                    "class",
                    "direction",
                ];
                known.extend(labels.map(str::to_owned));
                continue;
            }
            let of_histogram = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|suffix| word.strip_suffix(suffix))
                .find(|name| {
                    let family = page.get(*name);
                    family.is_some_and(|it| it.kind == Kind::Histogram)
                });
            let name = of_histogram.unwrap_or(word);
            let family = page.get(name);
            let family = family.unwrap_or_else(|| panic!("{place}: no {word}: {expression}"));
            if family.kind == Kind::Histogram {
                assert!(of_histogram.is_some(), "{place}: a part of {word} is meant");
            }
            known.extend(family.labels().flat_map(|labels| labels.keys().cloned()));
            used.insert(name.to_owned());
        }
        for label in labels_of(&expression) {
            assert!(
                known.contains(label),
                "{place}: no label {label}: {expression}"
            );
        }
    }
    let unused: Vec<_> = exported
        .iter()
        .filter(|name| !used.contains(**name))
        .collect();
    assert!(unused.is_empty(), "neither shown nor watched: {unused:?}");
    world.node.shutdown(LIMIT).await;
}

/// Labels that an expression groups by, joins on or selects.
fn labels_of(expression: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for opening in ["by (", "on (", "ignoring (", "group_left ("] {
        for after in expression.split(opening).skip(1) {
            let inside = after.split(')').next().unwrap();
            found.extend(inside.split(',').map(str::trim).filter(|it| !it.is_empty()));
        }
    }
    for after in expression.split('{').skip(1) {
        let inside = after.split('}').next().unwrap();
        let selectors = inside
            .split("\",")
            .filter_map(|it| it.split(['=', '!']).next());
        found.extend(selectors.map(str::trim).filter(|it| !it.is_empty()));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_never_arrive_count_as_timeouts() {
    let world = World::start(&[]).await;
    for kind in [EventKind::Rpc, EventKind::StreamBidirectional] {
        // Four bytes of the five before a message.
        let head = world
            .by_hand(kind, &[("grpc-timeout", "50m")], &[0; 4], false)
            .await;
        assert_eq!(head["grpc-status"], "4", "{kind}");
    }
    let page = parse(&world.page().await);
    let late = |kind: EventKind| ([kind.name(), "", "", "timeout"].map(str::to_owned), 1);
    let expected = [late(EventKind::Rpc), late(EventKind::StreamBidirectional)];
    assert_eq!(events(&page), BTreeMap::from(expected));
    world.node.shutdown(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_cannot_be_decompressed_count_as_undecodable() {
    let world = World::start(&[]).await;
    let kinds = [
        EventKind::Rpc,
        EventKind::Stream,
        EventKind::StreamBidirectional,
    ];
    let mut garbage = vec![1, 0, 0, 0, 9];
    garbage.extend(b"not gzip!");
    for kind in kinds {
        for encoding in ["gzip", "br"] {
            let head = world
                .by_hand(kind, &[("grpc-encoding", encoding)], &garbage, true)
                .await;
            assert_ne!(head["grpc-status"], "0", "{kind} {encoding}");
        }
    }
    let page = parse(&world.page().await);
    let two = kinds.map(|kind| ([kind.name(), "", "", "undecodable"].map(str::to_owned), 2));
    assert_eq!(events(&page), BTreeMap::from(two));
    let reason = [("reason", "undecodable")];
    assert_eq!(number(&page, "centripeta_refused_total", &reason), 6.0);
    world.node.shutdown(LIMIT).await;
}
