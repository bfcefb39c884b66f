//! Fixed answers, through a running engine and at the start.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::builtin::tests::{Running, without_time};
use serde_json::{Value, json};

fn route(on: &str, more: &str, handler: &str) -> String {
    format!(
        "[[route]]\non = {on}\n{more}\nhandler = \"it\"\n[handler.it]\nkind = \"static\"\n{handler}\n"
    )
}

async fn answer(on: &str, more: &str, handler: &str, request: Value) -> String {
    let kind: EventKind = on.parse().unwrap();
    let running = Running::of(&route(&format!("{on:?}"), more, handler)).await;
    let first = running.ask(kind, &request).await;
    assert_eq!(
        without_time(&first, 900),
        without_time(&running.ask(kind, &request).await, 900)
    );
    first
}

#[tokio::test]
async fn a_guest_is_welcomed_by_the_name_of_its_client_for_a_time_from_now() {
    let reply = r#"reply = { user = "guest-{client}", expire_in = "15m", channels = ["news", "of:{client}"], subs = { "in:{client}" = { expire_in = 900 } } }"#;
    let told = answer("connect", "", reply, json!({"client": "c1"})).await;
    let (before, sub) = told.split_once("\"subs\":").unwrap();
    assert_eq!(
        without_time(before, 900),
        r#"{"result":{"user":"guest-c1","expire_at":SOON,"channels":["news","of:c1"],"#
    );
    assert_eq!(without_time(sub, 900), r#"{"in:c1":{"expire_at":SOON}}}}"#);
}

#[tokio::test]
async fn fields_stand_in_payloads_as_json_and_never_end_their_string() {
    let reply = r#"reply = { data = { "who-{user}" = "{{{user}}} {method} of {param.room}" } }"#;
    let request = json!({"client": "c", "user": "a\"b\\{client}\n", "method": "leave.7"});
    assert_eq!(
        answer("rpc", "match = \"leave.{room}\"", reply, request).await,
        r#"{"result":{"data":{"who-a\"b\\{client}\n":"{a\"b\\{client}\n} leave.7 of 7"}}}"#
    );
}

#[tokio::test]
async fn a_reply_without_fields_is_encoded_once() {
    let fixed = |reply: Value| {
        let answer = StaticAnswer::Reply(reply);
        Fixed::try_new(&answer, EventKind::Publish, None).unwrap().0
    };
    let Answer::Same(reply) = fixed(json!({"data": {"n": 1}})) else {
        panic!("it is the same for all");
    };
    assert!(reply.sealed().is_some());
    assert!(matches!(
        fixed(json!({"data": "{user}"})),
        Answer::Filled(_)
    ));
    let Answer::Same(reply) = fixed(json!({"b64data": "AP8="})) else {
        panic!("it is the same for all");
    };
    assert!(reply.sealed().is_none(), "a JSON client can't have it");
}

#[tokio::test]
async fn errors_and_disconnects_are_answered_as_written_and_end_a_refresh() {
    let error = "error = { code = 1403, message = \"staff only\" }";
    let request = json!({"client": "c", "user": "u", "channel": "chat:1"});
    assert_eq!(
        answer("subscribe", "", error, request.clone()).await,
        r#"{"error":{"code":1403,"message":"staff only"}}"#
    );
    let temporary = "error = { code = 1403, message = \"later\", temporary = true }";
    assert_eq!(
        answer("publish", "", temporary, request.clone()).await,
        r#"{"error":{"code":1403,"message":"later","temporary":true}}"#
    );
    let disconnect = "disconnect = { code = 4403, reason = \"gone\" }";
    assert_eq!(
        answer("stream", "", disconnect, request.clone()).await,
        r#"{"subscribe_response":{"disconnect":{"code":4403,"reason":"gone"}}}"#
    );
    assert_eq!(
        answer("sub_refresh", "", disconnect, request).await,
        r#"{"result":{"expired":true}}"#
    );
}

#[tokio::test]
async fn a_stream_with_a_fixed_reply_is_open() {
    let reply = "reply = { data = { channel = \"{channel}\" } }";
    let request = json!({"client": "c", "channel": "feed:1"});
    assert_eq!(
        answer("stream", "", reply, request).await,
        r#"open {"subscribe_response":{"result":{"data":{"channel":"feed:1"}}}}"#
    );
}

#[test]
fn what_a_reply_cannot_be_is_said_at_the_start_with_the_fix() {
    let pattern = Pattern::parse("chat:{room}", ":").unwrap();
    let why = |kind, reply: Value| {
        let answer = StaticAnswer::Reply(reply);
        let why = Fixed::try_new(&answer, kind, Some(&pattern)).unwrap_err();
        format!("{why}; {}", why.fix())
    };
    let cases = [
        (
            EventKind::Connect,
            json!({"usr": "x"}),
            "connect result `usr`: unknown field",
        ),
        (EventKind::Connect, json!({"channels": []}), "names no user"),
        (
            EventKind::Connect,
            json!({"user": "{user}"}),
            "is empty in every `connect` event; use {client}",
        ),
        (
            EventKind::Refresh,
            json!({}),
            "sets neither `expire_at` nor `expired`",
        ),
        (
            EventKind::Connect,
            json!({"user": "u", "expire_in": "{client}"}),
            "found \"{client}\"",
        ),
        (
            EventKind::Publish,
            json!({"data": ["{usr}"]}),
            "`{usr}` is no field of a static reply; the fields are",
        ),
        (
            EventKind::Publish,
            json!({"data": "{user"}),
            "never closed; close it",
        ),
        (
            EventKind::Publish,
            json!({"data": "{param.id}"}),
            "needs `{id}` in the route's `match`, which is `chat:{room}`; name {id}",
        ),
        (
            EventKind::Publish,
            json!({"data": "{method}"}),
            "`{method}` is empty in every `publish` event",
        ),
        (
            EventKind::CacheEmpty,
            json!({"populated": "{client}"}),
            "populated",
        ),
        (
            EventKind::SharedPollRefresh,
            json!({"epoch": "{client}"}),
            "is empty in every",
        ),
        (
            EventKind::Publish,
            json!({"b64data": "YWJj{user}"}),
            "base64",
        ),
        (EventKind::Publish, json!({"data": "\u{FDD0}"}), "U+FDD0"),
        (
            EventKind::Publish,
            json!({"data": {"x": "y".repeat(5 << 20)}}),
            "bytes",
        ),
        (EventKind::Raw, json!({}), "no result message"),
    ];
    for (kind, reply, part) in cases {
        let why = why(kind, reply);
        assert!(why.contains(part), "{why}");
    }
}
