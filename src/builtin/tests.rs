//! Every built-in handler and every kind of event, through a running engine.
#![allow(clippy::unwrap_used)]

use super::{Allow, Counter, Deny, Echo};
use crate::answer::{Answer, answer, stream_first};
use crate::config::{Config, fuzz_load};
use crate::config_routes::assemble;
use crate::cx::Cx;
use crate::engine::flight::Landed;
use crate::engine::{Engine, EngineConfig, EngineLimits, Incoming};
use crate::event::EventKind;
use crate::handler::{AnyHandler, HandlerFuture};
use crate::json::{request_from_json, response_to_json};
use crate::outcome::{Outcome, StreamEnd, StreamEndReason};
use crate::router::{Route, Router};
use bytes::Bytes;
use centripeta_cluster::Standing;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::runtime::Handle;

/// An engine on the runtime of the test.
pub(crate) struct Running(Engine);

/// The configuration of a text.
pub(crate) fn config(toml: &str) -> Config {
    match fuzz_load(toml.as_bytes()) {
        Ok(loaded) => loaded.config,
        Err(why) => panic!("{why}"),
    }
}

impl Running {
    /// The routes of a configuration.
    pub(crate) async fn of(toml: &str) -> Self {
        let config = config(toml);
        let router = assemble(&config, Router::new().with_config_routes()).unwrap();
        Self::start(router, config.runtime.passivate_after).await
    }

    async fn start(router: Router, passivate_after: Duration) -> Self {
        let config = EngineConfig {
            node: "a".to_owned(),
            limits: EngineLimits {
                in_flight: 100,
                in_flight_bytes: 1 << 24,
                streams: 10,
                message_bytes: 1 << 22,
                lane_queue: 10,
                shard_events: 100,
                shard_bytes: 1 << 24,
                timeout: Duration::from_secs(3),
                deadline_margin: Duration::from_millis(50),
            },
            shards_per_core: 8,
            passivate_after,
            watchdog: Duration::from_secs(60),
            namespace_boundary: ":".to_owned(),
            metrics: true,
            tracer: crate::trace::Tracer::off(),
            cluster: None,
        };
        let cores = [Handle::current()];
        let engine = Engine::start(router, config, Arc::new(Standing::alone("a")), &cores).await;
        Self(engine.unwrap())
    }

    /// The answer to a request, given in JSON, with metadata. A stream that is accepted is over at
    /// once.
    pub(crate) async fn ask_with(
        &self,
        kind: EventKind,
        request: &Value,
        metadata: &[(&'static str, &'static str)],
    ) -> Answer {
        let form = match kind {
            // What opens it is a subscribe request, as for the other stream.
            EventKind::StreamBidirectional => EventKind::Stream,
            kind => kind,
        };
        let raw = match kind {
            EventKind::Raw => Bytes::new(),
            _ => request_from_json(form, &request.to_string()).unwrap(),
        };
        let metadata = metadata.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        let incoming = Incoming {
            kind,
            method: "Other".to_owned(),
            raw,
            metadata: HeaderMap::from_iter(metadata),
            authority: None,
            timeout: None,
            at: None,
            inbound: None,
            permit: None,
        };
        let mut entered = self.0.enter(0, incoming).unwrap();
        match entered.landed().await {
            Landed::Done(outcome) => answer(kind, entered.json_client, outcome),
            Landed::Stream(open, flight) => {
                let (open_for, sent, received) = (Duration::from_secs(7), 0, 0);
                flight.end_stream(StreamEnd {
                    reason: StreamEndReason::Cancelled,
                    open_for,
                    sent,
                    received,
                });
                Answer::Open(stream_first(entered.json_client, &open).unwrap())
            }
        }
    }

    /// The same in a word: the response as JSON, `open` before that of an accepted stream, or the
    /// status.
    pub(crate) async fn ask(&self, kind: EventKind, request: &Value) -> String {
        said(kind, &self.ask_with(kind, request, &[]).await)
    }
}

/// An answer in a word; see [`Running::ask`].
pub(crate) fn said(kind: EventKind, answer: &Answer) -> String {
    match answer {
        Answer::Message(message) => response_to_json(kind, message).unwrap(),
        Answer::Open(first) => format!("open {}", response_to_json(kind, first).unwrap()),
        Answer::Status { code, .. } => format!("{code:?}"),
    }
}

/// A request of a kind with all that the tests look at.
fn request(kind: EventKind) -> Value {
    let mut request = json!({});
    let mut set = |name: &str, value: &str| request[name] = value.into();
    if kind.has_channel() {
        set("channel", "chat:7");
    }
    match kind {
        EventKind::Rpc => set("method", "seat.hold"),
        EventKind::MapPublish | EventKind::MapRemove => set("key", "k"),
        _ => {}
    }
    if !matches!(
        kind,
        EventKind::CacheEmpty
            | EventKind::ChannelState
            | EventKind::SharedPollRefresh
            | EventKind::Raw
    ) {
        set("client", "c1");
        set("protocol", "json");
        if kind != EventKind::Connect {
            set("user", "ann");
        }
    }
    request
}

async fn answers<H: AnyHandler>(name: &str, handler: H, key: Option<&str>) -> Vec<String> {
    let handler: Arc<dyn AnyHandler> = Arc::new(handler);
    let routes = EventKind::ALL.iter().map(|kind| {
        let mut route = Route::configured(*kind, name.to_owned(), Arc::clone(&handler));
        let has_user = !matches!(kind, EventKind::ChannelState | EventKind::Raw);
        if let Some(key) = key
            && !kind.has_channel()
            && has_user
        {
            route.key = Some(key.to_owned());
        }
        route
    });
    let router = routes.fold(Router::new(), Router::route);
    let running = Running::start(router, Duration::from_secs(60)).await;
    let mut answers = Vec::new();
    for kind in EventKind::ALL {
        let answer = running.ask(kind, &request(kind)).await;
        answers.push(format!("{kind}: {}", without_time(&answer, 3600)));
    }
    answers
}

/// Replaces an `expire_at` by `SOON` if it is so many seconds from now.
pub(crate) fn without_time(text: &str, seconds: u64) -> String {
    let Some((before, rest)) = text.split_once("\"expire_at\":") else {
        return text.to_owned();
    };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap();
    let (time, after) = rest.split_at(end);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let left = time.parse::<u64>().unwrap() - now.unwrap().as_secs();
    assert!(
        (seconds - 5..=seconds + 1).contains(&left),
        "{left} s in {text}"
    );
    format!("{before}\"expire_at\":SOON{after}")
}

#[tokio::test]
async fn allow_answers_every_event_with_its_plain_yes_and_never_connect_or_raw() {
    let extend = Duration::from_secs(3600);
    assert_eq!(
        answers("allow", Allow { extend }, None).await,
        [
            "connect: Internal",
            r#"refresh: {"result":{"expire_at":SOON}}"#,
            r#"subscribe: {"result":{}}"#,
            r#"sub_refresh: {"result":{"expire_at":SOON}}"#,
            r#"publish: {"result":{}}"#,
            r#"rpc: {"result":{}}"#,
            r#"stream: open {"subscribe_response":{"result":{}}}"#,
            r#"stream_bidirectional: open {"subscribe_response":{"result":{}}}"#,
            r#"map_publish: {"result":{}}"#,
            r#"map_remove: {"result":{}}"#,
            r#"shared_poll_refresh: {"result":{}}"#,
            r#"cache_empty: {"result":{}}"#,
            r#"channel_state: {"result":{}}"#,
            "raw: Internal",
        ]
    );
}

#[tokio::test]
async fn deny_answers_every_event_with_its_plain_no() {
    let no = r#"{"error":{"code":103,"message":"permission denied"}}"#;
    assert_eq!(
        answers("deny", Deny, None).await,
        [
            r#"connect: {"disconnect":{"code":4403,"reason":"forbidden"}}"#.to_owned(),
            r#"refresh: {"result":{"expired":true}}"#.to_owned(),
            format!("subscribe: {no}"),
            r#"sub_refresh: {"result":{"expired":true}}"#.to_owned(),
            format!("publish: {no}"),
            format!("rpc: {no}"),
            format!(r#"stream: {{"subscribe_response":{no}}}"#),
            format!(r#"stream_bidirectional: {{"subscribe_response":{no}}}"#),
            format!("map_publish: {no}"),
            format!("map_remove: {no}"),
            "shared_poll_refresh: Internal".to_owned(),
            "cache_empty: Internal".to_owned(),
            "channel_state: Internal".to_owned(),
            "raw: Internal".to_owned(),
        ]
    );
}

#[tokio::test]
async fn echo_answers_calls_alone() {
    for answer in answers("echo", Echo, None).await {
        let expected = match answer.starts_with("rpc:") {
            true => r#"rpc: {"result":{}}"#,
            false => "Internal",
        };
        assert!(answer.ends_with(expected), "{answer}");
    }
}

#[tokio::test]
async fn counter_counts_every_event_with_a_key_and_says_yes() {
    let counted = r#"{"key":"ann","count":2,"node":"a","epoch":1}"#;
    assert_eq!(
        answers("counter", Counter, Some("user")).await,
        [
            "connect: Internal".to_owned(),
            r#"refresh: {"result":{"expire_at":SOON}}"#.to_owned(),
            r#"subscribe: {"result":{}}"#.to_owned(),
            r#"sub_refresh: {"result":{"expire_at":SOON}}"#.to_owned(),
            r#"publish: {"result":{}}"#.to_owned(),
            format!(r#"rpc: {{"result":{{"data":{counted}}}}}"#),
            r#"stream: open {"subscribe_response":{"result":{}}}"#.to_owned(),
            r#"stream_bidirectional: open {"subscribe_response":{"result":{}}}"#.to_owned(),
            r#"map_publish: {"result":{}}"#.to_owned(),
            r#"map_remove: {"result":{}}"#.to_owned(),
            r#"shared_poll_refresh: {"result":{}}"#.to_owned(),
            r#"cache_empty: {"result":{}}"#.to_owned(),
            "channel_state: Internal".to_owned(),
            "raw: Internal".to_owned(),
        ],
        "the refresh of the same user was counted before the call"
    );
}

#[tokio::test]
async fn echo_gives_binary_data_back_byte_for_byte_and_says_what_is_not_base64() {
    let running = Running::of("[[route]]\non = \"rpc\"\nhandler = \"echo\"\n").await;
    let ask = |request: Value| {
        let running = &running;
        async move { running.ask(EventKind::Rpc, &request).await }
    };
    let json = json!({"protocol": "json", "method": "m", "data": {"n": [1, null]}});
    assert_eq!(ask(json).await, r#"{"result":{"data":{"n":[1,null]}}}"#);
    let binary =
        json!({"protocol": "protobuf", "encoding": "binary", "method": "m", "b64data": "AP8Q"});
    assert_eq!(
        ask(binary).await,
        r#"{"result":{"data":{"$hex":"00ff10"}}}"#
    );
    let broken = json!({"protocol": "protobuf", "method": "m", "b64data": "%"});
    assert!(ask(broken).await.contains("\"code\":107"));
}

const COUNT: &str = "[[route]]\non = \"rpc\"\nmatch = \"count\"\nkey = \"chat:{data.room}\"\nhandler = \"counter\"\n\
                     [[route]]\non = \"publish\"\nhandler = \"counter\"\n";

fn count_of(answer: &str) -> Value {
    let answer: Value = serde_json::from_str(answer).unwrap();
    answer["result"]["data"].clone()
}

#[tokio::test]
async fn a_counter_counts_each_key_by_itself_wherever_it_is_met() {
    let running = Running::of(COUNT).await;
    let call = |room: &str| json!({"method": "count", "client": "c", "data": {"room": room}});
    for (room, count) in [("1", 1), ("1", 2), ("2", 1)] {
        let counted = count_of(&running.ask(EventKind::Rpc, &call(room)).await);
        assert_eq!(
            counted,
            json!({"key": format!("chat:{room}"), "count": count, "node": "a", "epoch": 1})
        );
    }
    let publish = json!({"channel": "chat:2", "client": "c", "data": {}});
    assert_eq!(
        running.ask(EventKind::Publish, &publish).await,
        r#"{"result":{}}"#
    );
    let counted = count_of(&running.ask(EventKind::Rpc, &call("2")).await);
    assert_eq!(counted["count"], 3, "the publication is in the same lane");
}

/// A counter that says how often it found its lane as it had left it.
#[derive(Default)]
struct Watched {
    found: Arc<AtomicUsize>,
}

impl AnyHandler for Watched {
    fn call(&self, cx: &mut Cx) -> HandlerFuture {
        let found = usize::from(cx.lane_state.is_some());
        self.found.fetch_add(found, Ordering::Relaxed);
        Counter.call(cx)
    }

    fn keeps_lane(&self) -> bool {
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_count_survives_the_passivation_of_its_lane() {
    let found = Arc::<AtomicUsize>::default();
    let watched = Watched {
        found: Arc::clone(&found),
    };
    let mut route = Route::configured(EventKind::Rpc, "counter".to_owned(), Arc::new(watched));
    route.key = Some("user".to_owned());
    let running = Running::start(Router::new().route(route), Duration::from_secs(2)).await;
    let call = request(EventKind::Rpc);
    let count = || async { count_of(&running.ask(EventKind::Rpc, &call).await)["count"].clone() };
    assert_eq!((count().await, count().await), (json!(1), json!(2)));
    assert_eq!(found.load(Ordering::Relaxed), 1, "the lane is kept");
    // On a paused clock this waits for nothing but the shard's own timers.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(count().await, 3);
    assert_eq!(found.load(Ordering::Relaxed), 1, "the lane was new");
    assert_eq!(count().await, 4);
    assert_eq!(found.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_event_without_a_key_is_not_counted_but_told_the_fix() {
    let counter = Arc::new(Counter);
    let route = Route::configured(EventKind::Rpc, "counter".to_owned(), counter);
    let running = Running::start(Router::new().route(route), Duration::from_secs(1)).await;
    let incoming = Incoming {
        kind: EventKind::Rpc,
        method: String::new(),
        raw: Bytes::new(),
        metadata: HeaderMap::new(),
        authority: None,
        timeout: None,
        at: None,
        inbound: None,
        permit: None,
    };
    let (_, outcome) = running.0.outcome(0, incoming).await;
    assert!(
        matches!(&outcome, Outcome::Failure(why) if why.to_string().contains("key = \"user\"")),
        "{outcome:?}"
    );
}
