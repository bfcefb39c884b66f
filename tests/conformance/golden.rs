//! Replays: every recorded gRPC request of a real Centrifugo 6.9, with its path and its metadata, is
//! answered with the recorded reply where that may leave us, and refused where it may not.
//!
//! `tests/golden_proto.rs` names the replies that may not leave; here it is what the node does. Where the
//! recorded backend gave a status, let the caller wait or ended a stream, so does the handler here.

use crate::support::actor::unhex;
use crate::support::client::frame;
use crate::support::{TestNode, path, soon};
use bytes::Bytes;
use centripeta::answer::{seal, stream_publication};
use centripeta::event::{
    Connect, Event, EventKind, MapPublish, MapRemove, Publish, Refresh, Rpc, SERVICE_PATH,
    SharedPollRefresh, Stream, StreamBidirectional, SubRefresh, Subscribe,
};
use centripeta::outcome::Unavailable;
use centripeta::proto::proxy::{
    ConnectResponse, ConnectResult, Publication, StreamSubscribeResponse,
};
use centripeta::reply::StreamOpen;
use centripeta::{Failure, Headers, Outcome, Reply, Route, Router};
use futures_util::{StreamExt, stream};
use prost::Message;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;
use std::time::Duration;

/// A recorded exchange.
struct Exchange {
    kind: EventKind,
    json_client: bool,
    metadata: Vec<(String, String)>,
    requests: Vec<Bytes>,
    replies: Vec<Bytes>,
    /// Whether the recorded backend ended the call, and how.
    status: Option<i64>,
    /// Whether Centrifugo gave the call up.
    is_given_up: bool,
}

/// What the recorded backend did of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Course {
    /// It replied; a stream may have ended later.
    Replied,
    /// It failed the call before any reply.
    Failed,
    /// It said nothing while Centrifugo waited.
    Silent,
    /// Its reply was above what Centrifugo takes, and is not in the recording.
    TooBig,
}

impl Exchange {
    fn course(&self) -> Course {
        match self.status {
            _ if !self.replies.is_empty() => Course::Replied,
            _ if self.is_given_up => Course::Silent,
            Some(0) if !self.kind.is_stream() => Course::TooBig,
            // A stream that ends before its first message is a failure, whatever its status.
            Some(_) => Course::Failed,
            None => panic!("no reply, no status and not given up"),
        }
    }

    /// How a handler here fails where the recorded backend gave its status, and the status of that: its
    /// own where one of our failures has it, else INTERNAL.
    fn failure(&self) -> (Failure, i32) {
        match self.status {
            Some(3) => (Failure::Undecodable("recorded".to_owned()), 3),
            Some(4) => (Failure::Deadline, 4),
            Some(14) => (Failure::Unavailable(Unavailable::Draining), 14),
            Some(16) => (Failure::Unauthenticated, 16),
            other => {
                let place = "the recorded backend".to_owned();
                let cause = format!("status {other:?}");
                (Failure::Internal { place, cause }, 13)
            }
        }
    }

    /// The status with which the recorded backend ended a stream that it had accepted.
    fn end(&self) -> Option<i64> {
        let is_open = || {
            let first = StreamSubscribeResponse::decode(self.replies[0].clone()).unwrap();
            let response = first.subscribe_response.unwrap_or_default();
            response.error.is_none() && response.disconnect.is_none()
        };
        self.status
            .filter(|_| self.kind.is_stream() && !self.replies.is_empty() && is_open())
    }

    /// The deadline to call with: short where the recorded backend let it pass.
    fn deadline(&self) -> &'static str {
        match self.course() {
            Course::Silent => "200m",
            _ => "10S",
        }
    }
}

static RECORDED: LazyLock<HashMap<String, Exchange>> = LazyLock::new(|| {
    let lines = include_str!("../golden/centrifugo-grpc.jsonl").lines();
    lines
        .map(|line| exchange(&serde_json::from_str(line).unwrap()))
        .collect()
});

fn exchange(line: &Value) -> (String, Exchange) {
    let list = |value: &Value| match value {
        Value::Array(items) => items.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    };
    let messages = |key: &str| -> Vec<Bytes> {
        let encoded = list(&line[key]).into_iter();
        encoded
            .map(|hex| unhex(hex.as_str().unwrap()).into())
            .collect()
    };
    let path = line["path"].as_str().unwrap();
    let metadata = line["metadata"].as_object().unwrap().iter();
    // The client of this test writes the pseudo headers and `te` itself; recorded deadlines of a
    // second would make a slow machine fail.
    let own = |name: &str| name.starts_with(':') || name == "te" || name == "grpc-timeout";
    let metadata = metadata
        .filter(|(name, _)| !own(name))
        .flat_map(|(name, value)| {
            let values = list(value).into_iter();
            let name = name.clone();
            values.map(move |value| (name.clone(), value.as_str().unwrap().to_owned()))
        });
    let request = &list(&line["request"])[0];
    let inner = request.get("subscribe_request").unwrap_or(request);
    let exchange = Exchange {
        kind: EventKind::from_method(path.strip_prefix(SERVICE_PATH).unwrap()),
        json_client: inner["protocol"] == "json",
        metadata: metadata.collect(),
        requests: messages("request_hex"),
        replies: messages("reply_hex"),
        status: line["grpc_status"].as_i64(),
        is_given_up: line["cancelled_by_centrifugo"] == true,
    };
    (line["id"].as_str().unwrap().to_owned(), exchange)
}

/// Answers as the recorded backend did.
async fn replayed(Headers(headers): Headers) -> Outcome {
    let id = headers["x-golden"].to_str().unwrap();
    let exchange = &RECORDED[id];
    match exchange.course() {
        Course::Replied => {}
        Course::Failed => return exchange.failure().0.into(),
        Course::Silent => return std::future::pending().await,
        Course::TooBig => return Outcome::Reply(Reply::raw(too_big())),
    }
    match exchange.replies.as_slice() {
        [first] if exchange.end().is_none() && is_empty(exchange.kind, first) => {
            Outcome::Reply(Reply::empty())
        }
        [only] if exchange.end().is_none() => Outcome::Reply(Reply::raw(only.clone())),
        [] => unreachable!("replied without a reply"),
        [first, ..] => {
            let first = StreamSubscribeResponse::decode(first.clone()).unwrap();
            if first.publication.is_some() {
                return Outcome::Reply(Reply::raw(exchange.replies[0].clone()));
            }
            let first = first
                .subscribe_response
                .and_then(|response| response.result);
            let first = first.unwrap_or_default();
            let items = stream::iter(publications(exchange)).map(Ok);
            let publications = match exchange.end() {
                None => items.chain(stream::pending()).boxed(),
                Some(0) => items.boxed(),
                Some(_) => items.chain(stream::iter([Err("recorded".into())])).boxed(),
            };
            Outcome::Stream(StreamOpen::new(first, publications))
        }
    }
}

/// A connect reply above 4 MiB.
fn too_big() -> Bytes {
    let result = ConnectResult {
        user: "u1".to_owned(),
        data: format!("\"{}\"", "a".repeat(4 << 20)).into(),
        ..ConnectResult::default()
    };
    let reply = ConnectResponse {
        result: Some(result),
        ..ConnectResponse::default()
    };
    reply.encode_to_vec().into()
}

fn is_empty(kind: EventKind, reply: &[u8]) -> bool {
    reply.is_empty() || (kind.is_stream() && reply == [0x0a, 0x00])
}

fn publications(exchange: &Exchange) -> Vec<Publication> {
    let later = exchange.replies[1..].iter();
    later
        .filter_map(|message| {
            StreamSubscribeResponse::decode(message.clone())
                .unwrap()
                .publication
        })
        .collect()
}

fn route<E: Event>(router: Router) -> Router
where
    Outcome: centripeta::IntoOutcome<E>,
{
    router.route(Route::of::<E, _, _>(replayed))
}

fn mirror() -> Router {
    let router = route::<Refresh>(route::<Connect>(Router::new()));
    let router = route::<SubRefresh>(route::<Subscribe>(router));
    let router = route::<Rpc>(route::<Publish>(router));
    let router = route::<StreamBidirectional>(route::<Stream>(router));
    let router = route::<MapRemove>(route::<MapPublish>(router));
    route::<SharedPollRefresh>(router)
}

#[tokio::test]
async fn recorded_calls_are_answered_as_recorded_or_refused_where_the_reply_may_not_leave() {
    let node = TestNode::start(mirror()).await;
    let client = node.client().await;
    let (mut same, mut refused, mut failed, mut given_up) = (0, 0, 0, 0);
    let mut failures: BTreeMap<i32, usize> = BTreeMap::new();
    for (id, exchange) in RECORDED
        .iter()
        .filter(|(_, exchange)| !exchange.kind.is_stream())
    {
        let mut headers: Vec<(&str, &str)> =
            vec![("x-golden", id), ("grpc-timeout", exchange.deadline())];
        headers.extend(
            exchange
                .metadata
                .iter()
                .map(|(name, value)| (&**name, &**value)),
        );
        let path = path(exchange.kind);
        let call = client.call(&path, &headers, &exchange.requests[0]);
        let reply = soon("an answer", call).await;
        match exchange.course() {
            Course::Replied => {}
            Course::Failed => {
                let (_, status) = exchange.failure();
                assert_ne!(exchange.status, Some(0), "{id}");
                assert_eq!(
                    (reply.status, reply.messages.len()),
                    (Some(status), 0),
                    "{id}"
                );
                *failures.entry(status).or_default() += 1;
                failed += 1;
                continue;
            }
            Course::Silent => {
                assert_eq!((reply.status, reply.messages.len()), (Some(4), 0), "{id}");
                given_up += 1;
                continue;
            }
            Course::TooBig => {
                assert_eq!((reply.status, reply.messages.len()), (Some(13), 0), "{id}");
                refused += 1;
                continue;
            }
        }
        let expected = exchange.replies[0].clone();
        let may_leave = match is_empty(exchange.kind, &expected) {
            true => Ok(expected),
            false => seal(
                exchange.kind,
                exchange.json_client,
                &mut Reply::raw(expected),
            ),
        };
        match may_leave {
            Ok(expected) => {
                assert_eq!(reply.message(), &expected, "{id}");
                same += 1;
            }
            Err(_) => {
                assert_eq!((reply.status, reply.messages.len()), (Some(13), 0), "{id}");
                refused += 1;
            }
        }
    }
    assert_eq!((same, refused, failed, given_up), (122, 32, 75, 7));
    let failures: Vec<_> = failures.into_iter().collect();
    assert_eq!(failures, [(3, 4), (4, 4), (13, 50), (14, 13), (16, 4)]);
}

#[tokio::test]
async fn recorded_streams_are_opened_refused_and_filled_as_recorded() {
    let node = TestNode::start(mirror()).await;
    let client = node.client().await;
    let (mut opened, mut refused, mut broken) = (0, 0, 0);
    let (mut failed_first, mut given_up, mut finished, mut failed) = (0, 0, 0, 0);
    for (id, exchange) in RECORDED
        .iter()
        .filter(|(_, exchange)| exchange.kind.is_stream())
    {
        let mut headers: Vec<(&str, &str)> =
            vec![("x-golden", id), ("grpc-timeout", exchange.deadline())];
        headers.extend(
            exchange
                .metadata
                .iter()
                .map(|(name, value)| (&**name, &**value)),
        );
        let mut call = client.open(&path(exchange.kind), &headers).await.unwrap();
        for request in &exchange.requests {
            let end = exchange.kind == EventKind::Stream;
            call.send(frame(false, request), end).await;
        }
        if let Some(status) = match exchange.course() {
            Course::Failed => Some(exchange.failure().1),
            Course::Silent => Some(4),
            Course::TooBig | Course::Replied => None,
        } {
            let reply = soon("the end", call.finish()).await;
            assert_eq!(
                (reply.status, reply.messages.len()),
                (Some(status), 0),
                "{id}"
            );
            match exchange.course() {
                Course::Silent => given_up += 1,
                _ => failed_first += 1,
            }
            continue;
        }
        let first = soon("the first message", call.next()).await;
        let recorded = exchange.replies[0].clone();
        let mut reply = Reply::raw(recorded.clone());
        let is_good = is_empty(exchange.kind, &recorded)
            || seal(exchange.kind, exchange.json_client, &mut reply).is_ok();
        let Some(first) = first else {
            assert!(!is_good, "{id}");
            assert_eq!(
                soon("the end", call.finish()).await.status,
                Some(13),
                "{id}"
            );
            broken += 1;
            continue;
        };
        assert!(is_good, "{id}");
        let decode = |message: &Bytes| StreamSubscribeResponse::decode(message.clone()).unwrap();
        let (ours, theirs) = (decode(&first), decode(&recorded));
        let (ours, theirs) = (
            ours.subscribe_response.unwrap_or_default(),
            theirs.subscribe_response.unwrap_or_default(),
        );
        assert_eq!(
            (&ours.error, &ours.disconnect),
            (&theirs.error, &theirs.disconnect),
            "{id}"
        );
        let result = |result: Option<_>| result.unwrap_or_default();
        assert_eq!(result(ours.result), result(theirs.result), "{id}");
        if ours.error.is_some() || ours.disconnect.is_some() {
            assert_eq!(soon("the end", call.finish()).await.status, Some(0), "{id}");
            refused += 1;
            continue;
        }
        opened += 1;
        for publication in exchange
            .replies
            .get(1..)
            .map(|_| publications(exchange))
            .unwrap_or_default()
        {
            match stream_publication(exchange.json_client, &publication) {
                Ok(expected) => {
                    let next = soon("a publication", call.next()).await;
                    assert_eq!(next, Some(expected), "{id}");
                }
                Err(_) => {
                    assert_eq!(
                        soon("the end", call.finish()).await.status,
                        Some(13),
                        "{id}"
                    );
                    call = client.open(&path(exchange.kind), &headers).await.unwrap();
                    break;
                }
            }
        }
        if let Some(status) = exchange.end() {
            let end = soon("the end", call.finish()).await;
            let ours = if status == 0 { 0 } else { 13 };
            assert_eq!((end.status, end.messages.len()), (Some(ours), 0), "{id}");
            match status {
                0 => finished += 1,
                _ => failed += 1,
            }
            continue;
        }
        // What the recorded backend kept open, we keep open too.
        let more = tokio::time::timeout(Duration::from_millis(5), call.next()).await;
        assert!(more.is_err(), "{id} ({:?}): {more:?}", exchange.status);
        call.cancel();
    }
    // Of 39; those that ended are among the opened ones.
    assert_eq!((opened, refused, broken), (31, 3, 2));
    assert_eq!((failed_first, given_up), (2, 1));
    assert_eq!((finished, failed), (3, 6));
}
