//! Every kind of event × every outcome, over a real connection: what leaves is the table of answers,
//! and never an empty OK (C24).

#![allow(clippy::unwrap_used)]

mod support;

use bytes::Bytes;
use centripeta::Router;
use centripeta::config::{AuthConfig, Secret};
use centripeta::event::EventKind;
use support::actor::{self, EXPIRY};
use support::client::Reply;
use support::{Client, TestNode, json, path, small_request, soon};

const INTERNAL: Expected = Expected::Status(13, "internal error");
const UNAVAILABLE: Expected = Expected::Status(14, "unavailable, try again");
const DEADLINE: Expected = Expected::Status(4, "deadline exceeded");

/// What a call has to bring.
#[derive(Debug, Clone, PartialEq)]
enum Expected {
    /// A status and its text, no message.
    Status(i32, &'static str),
    /// OK with this message; a stream ends after it.
    Json(String),
    /// A stream's first message, after which it stays open.
    Open(String),
}

/// How the events are answered alike.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Group {
    Client,
    Refresh,
    Stream,
    Rest,
}

fn group(kind: EventKind) -> Group {
    match kind {
        EventKind::Connect
        | EventKind::Subscribe
        | EventKind::Publish
        | EventKind::Rpc
        | EventKind::MapPublish
        | EventKind::MapRemove => Group::Client,
        EventKind::Refresh | EventKind::SubRefresh => Group::Refresh,
        EventKind::Stream | EventKind::StreamBidirectional => Group::Stream,
        EventKind::SharedPollRefresh
        | EventKind::CacheEmpty
        | EventKind::ChannelState
        | EventKind::Raw => Group::Rest,
    }
}

fn expired() -> Expected {
    Expected::Json(r#"{"result":{"expired":true}}"#.to_owned())
}

/// An error or a disconnect for the client, where there is one.
fn said(kind: EventKind, what: &str, rest: Expected) -> Expected {
    match group(kind) {
        Group::Client => Expected::Json(what.to_owned()),
        Group::Stream => Expected::Json(format!(r#"{{"subscribe_response":{what}}}"#)),
        Group::Refresh => expired(),
        Group::Rest => rest,
    }
}

fn yes(kind: EventKind) -> Expected {
    let result = match kind {
        EventKind::Connect => r#"{"result":{"user":"u1"}}"#.to_owned(),
        EventKind::Refresh | EventKind::SubRefresh => {
            format!(r#"{{"result":{{"expire_at":{EXPIRY}}}}}"#)
        }
        EventKind::Stream | EventKind::StreamBidirectional => {
            return Expected::Open(r#"{"subscribe_response":{"result":{}}}"#.to_owned());
        }
        EventKind::Raw => r#"{"$hex":"0a03726177"}"#.to_owned(),
        _ => r#"{"result":{}}"#.to_owned(),
    };
    Expected::Json(result)
}

fn empty(kind: EventKind) -> Expected {
    match kind {
        EventKind::Raw => Expected::Json(r#"{"$hex":""}"#.to_owned()),
        EventKind::Stream | EventKind::StreamBidirectional => {
            Expected::Open(r#"{"subscribe_response":{}}"#.to_owned())
        }
        _ => Expected::Json("{}".to_owned()),
    }
}

fn error(kind: EventKind) -> Expected {
    said(
        kind,
        r#"{"error":{"code":409,"message":"taken"}}"#,
        INTERNAL,
    )
}

fn temporary(kind: EventKind) -> Expected {
    match group(kind) {
        Group::Client => said(
            kind,
            r#"{"error":{"code":503,"message":"later","temporary":true}}"#,
            INTERNAL,
        ),
        Group::Refresh | Group::Stream => UNAVAILABLE,
        Group::Rest => INTERNAL,
    }
}

fn disconnect(kind: EventKind) -> Expected {
    said(
        kind,
        r#"{"disconnect":{"code":4501,"reason":"go"}}"#,
        INTERNAL,
    )
}

fn bad_data(kind: EventKind) -> Expected {
    let status = Expected::Status(3, "bad data");
    match group(kind) {
        Group::Refresh => status,
        _ => said(
            kind,
            r#"{"error":{"code":107,"message":"bad request"}}"#,
            status,
        ),
    }
}

fn overload(kind: EventKind) -> Expected {
    match group(kind) {
        Group::Client => said(
            kind,
            r#"{"error":{"code":111,"message":"too many requests","temporary":true}}"#,
            UNAVAILABLE,
        ),
        _ => UNAVAILABLE,
    }
}

fn no_route(kind: EventKind) -> Expected {
    let error = match kind {
        EventKind::Connect => r#"{"error":{"code":108,"message":"not available"}}"#,
        EventKind::Rpc => r#"{"error":{"code":104,"message":"method not found"}}"#,
        _ => r#"{"error":{"code":103,"message":"permission denied"}}"#,
    };
    said(
        kind,
        error,
        Expected::Status(12, "no route takes this event"),
    )
}

fn stream(kind: EventKind) -> Expected {
    match group(kind) {
        Group::Stream => yes(kind),
        _ => INTERNAL,
    }
}

/// Makes a call and says what came, without the words of any cause.
async fn made(client: &Client, kind: EventKind, headers: &[(&str, &str)]) -> Expected {
    let body = small_request(kind, "chat:1");
    sent(client, kind, headers, &body).await
}

async fn sent(
    client: &Client,
    kind: EventKind,
    headers: &[(&str, &str)],
    body: &Bytes,
) -> Expected {
    if !kind.is_stream() {
        let reply = soon("the answer", client.call(&path(kind), headers, body)).await;
        return shown(kind, reply);
    }
    let mut call = client.open(&path(kind), headers).await.unwrap();
    let end = kind == EventKind::Stream;
    call.send(support::client::frame(false, body), end).await;
    let Some(first) = soon("the first message", call.next()).await else {
        return shown(kind, call.finish().await);
    };
    let first = json(kind, &first);
    // Whatever comes within a moment would be the end of a refusal.
    match tokio::time::timeout(std::time::Duration::from_millis(20), call.next()).await {
        Err(_) => Expected::Open(first),
        Ok(None) => {
            let reply = call.finish().await;
            assert_eq!(reply.status, Some(0), "{reply:?}");
            Expected::Json(first)
        }
        Ok(Some(more)) => panic!("a second message: {more:?}"),
    }
}

fn shown(kind: EventKind, reply: Reply) -> Expected {
    assert_eq!(reply.http, 200, "{reply:?}");
    assert!(!reply.text.contains("secret"), "{reply:?}");
    match reply.status {
        Some(0) => Expected::Json(json(kind, reply.message())),
        Some(status) => {
            assert_eq!(reply.messages, Vec::<Bytes>::new());
            Expected::Status(status, String::leak(reply.text))
        }
        None => panic!("no status: {reply:?}"),
    }
}

type Row = (&'static str, &'static str, fn(EventKind) -> Expected);

#[tokio::test]
async fn c24_every_outcome_of_every_event_is_answered_as_the_table_says() {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    let too_long = format!("disconnect/4501/{}", "x".repeat(124));
    let too_long: &'static str = String::leak(too_long);
    let rows: Vec<Row> = vec![
        ("", "", yes),
        ("empty", "", empty),
        ("error/409/taken", "", error),
        ("temporary/503", "", temporary),
        ("disconnect/4501/go", "", disconnect),
        ("error/0/none", "", |_| INTERNAL),
        ("error/99/low", "", |_| INTERNAL),
        ("error/2000/high", "", |_| INTERNAL),
        ("disconnect/0/none", "", |_| INTERNAL),
        ("disconnect/3000/reserved", "", |_| INTERNAL),
        ("disconnect/5000/high", "", |_| INTERNAL),
        (too_long, "", |_| INTERNAL),
        ("fail", "", |_| INTERNAL),
        ("panic", "", |_| INTERNAL),
        ("panic-later", "", |_| INTERNAL),
        ("sleep/10000", "", |_| DEADLINE),
        ("bad-data", "", bad_data),
        ("stream", "", stream),
        ("", "overload", overload),
        ("", "parked", |_| UNAVAILABLE),
        ("", "no-owner", |_| UNAVAILABLE),
        ("", "panic", |_| INTERNAL),
        ("", "fail", |_| INTERNAL),
        ("", "bad-after", |kind| match group(kind) {
            // What the stage sees of a stream is its end, when the first message is long gone.
            Group::Stream => yes(kind),
            _ => INTERNAL,
        }),
    ];
    for (act, stage, expected) in rows {
        for kind in EventKind::ALL {
            let timeout = if act.starts_with("sleep") {
                "50m"
            } else {
                "5S"
            };
            let headers = [("x-do", act), ("x-stage", stage), ("grpc-timeout", timeout)];
            let came = made(&client, kind, &headers).await;
            assert_eq!(came, expected(kind), "{kind}: {act} {stage}");
            if act != "empty" {
                assert_ne!(came, empty(kind), "{kind}: {act} {stage}");
            }
        }
    }
}

#[tokio::test]
async fn c24_a_missing_route_is_an_explicit_refusal_of_every_event() {
    let node = TestNode::start(Router::new()).await;
    let client = node.client().await;
    for kind in EventKind::ALL {
        assert_eq!(made(&client, kind, &[]).await, no_route(kind), "{kind}");
    }
}

#[tokio::test]
async fn undecodable_requests_of_every_event_are_invalid_arguments() {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    for kind in EventKind::ALL
        .into_iter()
        .filter(|kind| *kind != EventKind::Raw)
    {
        let torn: &[&[u8]] = match kind {
            EventKind::StreamBidirectional => &[
                b"\x0a\xff",
                b"\xff\xff",
                b"\x0a\x02\x0a\xff",
                b"",
                b"\x12\x00",
            ],
            _ => &[b"\x0a\xff", b"\xff\xff", b"\x0a\x05a"],
        };
        for body in torn {
            let came = sent(&client, kind, &[], &Bytes::from_static(body)).await;
            assert!(
                matches!(came, Expected::Status(3, _)),
                "{kind} {body:?}: {came:?}"
            );
        }
    }
}

#[tokio::test]
async fn c97_callers_without_the_credential_are_unauthenticated_for_every_event() {
    let node = TestNode::start_with(actor::router(), |config| {
        config.listen.auth = Some(AuthConfig {
            metadata: "x-router-key".to_owned(),
            value: Secret::new("sesame"),
        });
    })
    .await;
    let client = node.client().await;
    let refused = Expected::Status(16, "unauthenticated");
    for kind in EventKind::ALL {
        let key = ("x-router-key", "sesame");
        let wrong = ("x-router-key", "sesam");
        for headers in [&[][..], &[wrong], &[key, wrong], &[wrong, key]] {
            let came = made(&client, kind, headers).await;
            assert_eq!(came, refused, "{kind} {headers:?}");
        }
        assert_eq!(made(&client, kind, &[key]).await, yes(kind), "{kind}");
    }
}

#[tokio::test]
async fn events_beyond_in_flight_are_refused_as_overload_on_the_wire() {
    let node = TestNode::start_with(actor::router(), |config| {
        config.limits.in_flight = 1.try_into().unwrap();
    })
    .await;
    let client = node.client().await;
    let holder = client.clone();
    let held = tokio::spawn(async move {
        let headers = [("x-do", "sleep/60000"), ("grpc-timeout", "60S")];
        made(&holder, EventKind::Rpc, &headers).await
    });
    support::eventually("one is in flight", async || node.in_flight() == 1).await;
    for kind in EventKind::ALL {
        assert_eq!(made(&client, kind, &[]).await, overload(kind), "{kind}");
    }
    held.abort();
    support::eventually("the caller's leaving is noticed", async || {
        node.in_flight() == 0
    })
    .await;
    assert_eq!(
        made(&client, EventKind::Rpc, &[]).await,
        yes(EventKind::Rpc)
    );
}
