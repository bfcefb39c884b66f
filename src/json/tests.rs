#![allow(clippy::unwrap_used)]
use super::*;
use crate::answer::seal;
use crate::event::setters::unix_after;
use crate::reply::{Reply, ReplyMessage};
use std::time::Duration;

fn reply(kind: EventKind, text: &str) -> Reply {
    Reply::from_json(kind, text).unwrap_or_else(|why| panic!("{kind}: {why}"))
}

fn refused(kind: EventKind, text: &str) -> String {
    match Reply::from_json(kind, text) {
        Ok(reply) => panic!("{kind} took {text}: {reply:?}"),
        Err(why) => why.to_string(),
    }
}

/// What leaves for a JSON of the result, as the JSON of the response.
fn leaves(kind: EventKind, text: &str) -> String {
    let response = seal(kind, true, &mut reply(kind, text)).unwrap();
    response_to_json(kind, &response).unwrap()
}

#[test]
fn every_kind_takes_the_json_of_its_result() {
    let cases: [(EventKind, &str); 13] = [
        (
            EventKind::Connect,
            r#"{"user":"u1","expire_at":9,"info":{"i":1},"data":[1,2.50],"channels":["a","b"],
            "subs":{"n":{"info":"x","data":null,"override":{"presence":{"value":true},
            "join_leave":{}},"cache_recover":true}},"meta":{"t":"1"},"labels":{"l":"v"}}"#,
        ),
        (
            EventKind::Refresh,
            r#"{"expire_at":9,"info":{"i":1},"meta":{"m":2}}"#,
        ),
        (
            EventKind::Subscribe,
            r#"{"expire_at":9,"data":12345678901234567890.0,"override":{"force_recovery":{}},
            "allow":["pub"],"server_tags_filter":{"op":"not","nodes":[{"key":"k","cmp":"eq"}]}}"#,
        ),
        (EventKind::SubRefresh, r#"{"expired":true}"#),
        (
            EventKind::Publish,
            r#"{"data":{"b":1,"a":2},"skip_history":true,"tags":{"data":"x"},"idempotency_key":"k",
            "delta":true,"version":18446744073709551615,"version_epoch":"e"}"#,
        ),
        (EventKind::Rpc, r#"{"data":null}"#),
        (EventKind::Stream, r#"{"data":{"n":1}}"#),
        (EventKind::StreamBidirectional, r#"{"b64data":"e30="}"#),
        (
            EventKind::MapPublish,
            r#"{"key":"k","data":1,"tags":{"a":"b"},"score":-5,"key_mode":"if_new","stream_data":2}"#,
        ),
        (EventKind::MapRemove, r#"{"key":"k","tags":{"a":"b"}}"#),
        (
            EventKind::SharedPollRefresh,
            r#"{"items":[{"key":"a","data":{"v":1},"version":7},{"key":"b","removed":true}],
            "epoch":"e"}"#,
        ),
        (EventKind::CacheEmpty, r#"{"populated":true}"#),
        (EventKind::ChannelState, "{}"),
    ];
    for (kind, text) in cases {
        let expected: String = text.lines().map(str::trim).collect();
        let expected = match kind.is_stream() {
            true => format!(r#"{{"subscribe_response":{{"result":{expected}}}}}"#),
            false => format!(r#"{{"result":{expected}}}"#),
        };
        assert_eq!(leaves(kind, text), expected, "{kind}");
    }
}

#[test]
fn raw_events_have_no_result_in_json() {
    let why = refused(EventKind::Raw, "{}");
    assert!(why.contains("no result message"), "{why}");
}

#[test]
fn errors_name_the_key_and_the_value() {
    let cases = [
        (
            EventKind::Connect,
            r#"{"user":42}"#,
            "connect result `user`: invalid type: integer `42`",
        ),
        (
            EventKind::Connect,
            r#"{"usr":"a"}"#,
            "connect result `usr`: unknown field `usr`",
        ),
        (
            EventKind::Connect,
            r#"{"usr":{"a":[1]}}"#,
            "connect result `usr`: unknown field `usr`",
        ),
        (
            EventKind::Connect,
            r#"{"user":null}"#,
            "connect result `user`: `null` is no value here",
        ),
        (
            EventKind::Connect,
            r#"{"subs":{"x":null}}"#,
            "connect result `subs.x`: `null`",
        ),
        (
            EventKind::Connect,
            r#"{"subs":null}"#,
            "connect result `subs`: `null`",
        ),
        (
            EventKind::Connect,
            r#"{"subs":[]}"#,
            "connect result `subs`: invalid type: sequence",
        ),
        (
            EventKind::Connect,
            r#"{"meta":null}"#,
            "connect result `meta`: must be a JSON object",
        ),
        (
            EventKind::Connect,
            r#"{"meta":"m"}"#,
            "connect result `meta`: must be a JSON object",
        ),
        (
            EventKind::Connect,
            r#"{"subs":{"ok":{},"x":{"override":{"presence":true}}}}"#,
            "connect result `subs.x.override.presence`: invalid type: boolean `true`",
        ),
        (
            EventKind::Subscribe,
            r#"{"override":null}"#,
            "subscribe result `override`: `null`",
        ),
        (
            EventKind::Subscribe,
            r#"{"override":{"presence":null}}"#,
            "subscribe result `override.presence`: `null`",
        ),
        (
            EventKind::Subscribe,
            r#"{"server_tags_filter":{"nodes":[{},{"vals":[1]}]}}"#,
            "subscribe result `server_tags_filter.nodes.1.vals.0`: invalid type: integer `1`",
        ),
        (
            EventKind::Refresh,
            r#"{"expire_at":1.5}"#,
            "refresh result `expire_at`: invalid type",
        ),
        (
            EventKind::Publish,
            r#"{"version":-1}"#,
            "publish result `version`: invalid value",
        ),
        (
            EventKind::Publish,
            r#"{"tags":{"a":null}}"#,
            "publish result `tags.a`: `null`",
        ),
        (
            EventKind::Publish,
            r#"{"expire_in":1}"#,
            "publish result `expire_in`: unknown field",
        ),
        (
            EventKind::Rpc,
            r#"{"data":1,"data":2}"#,
            "rpc result: duplicate field `data`",
        ),
        (
            EventKind::Rpc,
            "[]",
            "rpc result: expected a JSON object, found an array",
        ),
        (
            EventKind::Rpc,
            "null",
            "rpc result: expected a JSON object, found `null`",
        ),
        (EventKind::Rpc, "{", "not JSON: EOF"),
        (
            EventKind::SharedPollRefresh,
            r#"{"items":[{"key":"a"},null]}"#,
            "shared_poll_refresh result `items.1`: `null`",
        ),
        (
            EventKind::CacheEmpty,
            r#"{"populated":"x"}"#,
            "cache_empty result `populated`: invalid",
        ),
        (
            EventKind::ChannelState,
            r#"{"x":1}"#,
            "channel_state result `x`: unknown field `x`",
        ),
    ];
    for (kind, text, expected) in cases {
        let why = refused(kind, text);
        assert!(why.starts_with(expected), "{text}: {why}");
        let whole = text.ends_with('}');
        assert!(!whole || !why.contains("at line"), "{text}: {why}");
    }
}

#[test]
fn expire_in_becomes_expire_at_wherever_there_is_one() {
    let now = unix_after(Duration::ZERO);
    let near = |at: i64, seconds: i64| {
        assert!(
            (now + seconds - 1..now + seconds + 5).contains(&at),
            "{at} {now}"
        );
    };
    let text =
        r#"{"user":"u","expire_in":"15m","subs":{"expire_in":{"expire_in":60,"data":1.50}}}"#;
    match reply(EventKind::Connect, text).message() {
        ReplyMessage::Connect(result) => {
            near(result.expire_at, 900);
            near(result.subs["expire_in"].expire_at, 60);
            assert_eq!(result.subs["expire_in"].data, "1.50");
        }
        other => panic!("{other:?}"),
    }
    match reply(EventKind::Refresh, r#"{"expire_in":3600}"#).message() {
        ReplyMessage::Refresh(result) => near(result.expire_at, 3600),
        other => panic!("{other:?}"),
    }
    match reply(EventKind::SubRefresh, r#"{"expire_in":"1h 1s"}"#).message() {
        ReplyMessage::SubRefresh(result) => near(result.expire_at, 3601),
        other => panic!("{other:?}"),
    }
    for kind in [
        EventKind::Subscribe,
        EventKind::Stream,
        EventKind::StreamBidirectional,
    ] {
        match reply(kind, r#"{"expire_in":-10,"data":{"expire_in":"kept"}}"#).message() {
            ReplyMessage::Subscribe(result) => {
                near(result.expire_at, -10);
                assert_eq!(result.data, r#"{"expire_in":"kept"}"#);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn expire_in_that_is_no_duration_names_its_key() {
    let cases = [
        (
            r#"{"expire_in":"soon"}"#,
            "`expire_in`: takes whole seconds or a duration",
        ),
        (r#"{"expire_in":1.5}"#, "`expire_in`: takes whole seconds"),
        (r#"{"expire_in":null}"#, "`expire_in`: takes whole seconds"),
        (
            r#"{"expire_in":1,"expire_at":2}"#,
            "`expire_in`: stands beside `expire_at`",
        ),
        (
            r#"{"subs":{"n":{"expire_in":[]}}}"#,
            "`subs.n.expire_in`: takes whole seconds",
        ),
    ];
    for (text, expected) in cases {
        let why = refused(EventKind::Connect, text);
        assert!(why.contains(expected), "{text}: {why}");
    }
}

#[test]
fn zero_values_that_are_written_out_are_meant() {
    assert_eq!(
        leaves(EventKind::Connect, r#"{"user":"","data":1}"#),
        r#"{"result":{"data":1}}"#
    );
    assert_eq!(
        leaves(EventKind::SubRefresh, r#"{"expire_at":0}"#),
        r#"{"result":{}}"#
    );
    assert_eq!(
        leaves(EventKind::Publish, r#"{"data":null}"#),
        r#"{"result":{"data":null}}"#
    );
    for (kind, text) in [
        (EventKind::Connect, "{}"),
        (EventKind::Connect, r#"{"channels":["a"]}"#),
        (EventKind::SubRefresh, "{}"),
        (EventKind::Refresh, r#"{"expire_at":0}"#),
        (EventKind::Refresh, "{}"),
    ] {
        assert!(
            seal(kind, true, &mut reply(kind, text)).is_err(),
            "{kind} {text}"
        );
    }
}

#[test]
fn requests_have_a_json_form_both_ways() {
    let cases = [
        (
            EventKind::Rpc,
            r#"{"user":"u","method":"a.b","data":{"n":1.0},"meta":{"t":1}}"#,
        ),
        (EventKind::Rpc, r#"{"data":{"$hex":"ff0080"}}"#),
        (EventKind::Stream, r#"{"channel":"feed:1","data":"x"}"#),
        (
            EventKind::StreamBidirectional,
            r#"{"subscribe_request":{"channel":"term:1","data":null}}"#,
        ),
        (
            EventKind::StreamBidirectional,
            r#"{"publication":{"data":[]}}"#,
        ),
        (
            EventKind::ChannelState,
            r#"{"events":[{"time_ms":1,"channel":"a","type":"vacated"}]}"#,
        ),
        (EventKind::Raw, r#"{"$hex":"0a0163"}"#),
    ];
    for (kind, text) in cases {
        let request = request_from_json(kind, text).unwrap();
        assert_eq!(request_to_json(kind, &request).unwrap(), text);
    }
    let why = request_from_json(EventKind::Rpc, r#"{"user":1}"#).unwrap_err();
    assert!(why.to_string().starts_with("rpc request `user`:"), "{why}");
    let why = request_from_json(EventKind::Raw, r#"{"$hex":"0"}"#).unwrap_err();
    assert!(why.to_string().contains("pairs of hex"), "{why}");
    let why = request_to_json(EventKind::Rpc, &[0x0a, 0xff]).unwrap_err();
    assert!(matches!(why, Error::Undecodable { .. }), "{why}");
}

#[test]
fn responses_have_a_json_form_both_ways() {
    let cases = [
        (
            EventKind::Rpc,
            r#"{"error":{"code":999,"message":"no stock"}}"#,
        ),
        (EventKind::Rpc, r#"{"result":{"data":{"$hex":"fffe"}}}"#),
        (EventKind::Rpc, "{}"),
        (EventKind::Stream, r#"{"subscribe_response":{}}"#),
        (
            EventKind::Stream,
            r#"{"publication":{"data":1,"tags":{"k":"v"}}}"#,
        ),
    ];
    for (kind, text) in cases {
        let response = response_from_json(kind, text).unwrap();
        assert_eq!(response_to_json(kind, &response).unwrap(), text);
    }
}

#[test]
fn hex_form_is_an_ordinary_value_in_results() {
    let message = reply(EventKind::Rpc, r#"{"data":{"$hex":"ff"}}"#);
    match message.message() {
        ReplyMessage::Rpc(result) => assert_eq!(result.data, r#"{"$hex":"ff"}"#),
        other => panic!("{other:?}"),
    }
}
