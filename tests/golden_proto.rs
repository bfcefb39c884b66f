//! Recorded traffic of a real Centrifugo 6.9 and the vectors of its contract, both ways through this
//! crate's messages (C02, C03).
//!
//! `tests/golden/centrifugo-grpc.jsonl` has one exchange per line: `request_hex` and `reply_hex` are
//! protobuf bodies, `request` and `reply` their decoded forms (payloads as text, or `{"$hex": …}`).

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use centripeta::answer::seal;
use centripeta::event::{EventKind, SERVICE_PATH};
use centripeta::json::{
    Error, request_from_json, request_to_json, response_from_json, response_to_json,
};
use centripeta::reply::Reply;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;

const RECORDED: &str = include_str!("golden/centrifugo-grpc.jsonl");

/// Replies that are broken on purpose; a decoder has to refuse them.
const BROKEN: [&str; 2] = ["connect-invalid-utf8-reply", "connect-broken-reply"];

/// Recorded replies that Centrifugo or an SDK mishandled (see `client_saw`); they may not leave.
const MISHANDLED: [&str; 33] = [
    "connect-bad-b64",
    "connect-broken-reply",
    "connect-data-not-json",
    "connect-disconnect-builtin-3000",
    "connect-disconnect-code-0",
    "connect-disconnect-code-5000",
    "connect-disconnect-reason-130",
    "connect-empty-result",
    "connect-error-code-0",
    "connect-info-not-json",
    "connect-invalid-utf8-reply",
    "connect-meta-not-json",
    "publish-bad-b64",
    "publish-data-not-json",
    "publish-replace-data",
    "refresh-bad-b64",
    "refresh-disconnect",
    "refresh-empty-result",
    "refresh-error",
    "refresh-error-and-result",
    "rpc-bad-b64",
    "rpc-data-not-json",
    "shared-poll-versioned-error",
    "shared-poll-versionless-error",
    "stream-uni-first-without-response",
    "stream-uni-publication-in-first-message",
    "sub-refresh-bad-b64",
    "sub-refresh-disconnect",
    "sub-refresh-empty-result",
    "sub-refresh-error",
    "subscribe-bad-b64",
    "subscribe-data-not-json",
    "subscribe-error-code-0",
];

/// A reply with a field that the contract does not have: no decoded form holds it, raw bytes do.
const UNKNOWN_FIELD: &str = "connect-unknown-field-reply";

type Encode = fn(EventKind, &str) -> Result<Bytes, Error>;
type Decode = fn(EventKind, &[u8]) -> Result<String, Error>;

fn recorded() -> Vec<(String, EventKind, Value)> {
    let lines = RECORDED.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let id = line["id"].as_str().unwrap().to_owned();
        let path = line["path"].as_str().unwrap();
        let kind = EventKind::from_method(path.strip_prefix(SERVICE_PATH).unwrap());
        assert_ne!(kind, EventKind::Raw, "{id}: {path}");
        (id, kind, line)
    });
    lines.collect()
}

/// The messages of a line in one direction: bytes and decoded form.
fn messages(line: &Value, direction: &str) -> Vec<(Vec<u8>, Value)> {
    let list = |value: &Value| match value {
        Value::Array(items) => items.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    };
    let encoded = list(&line[format!("{direction}_hex")]);
    let decoded = list(&line[direction]);
    assert_eq!(encoded.len(), decoded.len(), "{}", line["id"]);
    let bytes = encoded.iter().map(|hex| unhex(hex.as_str().unwrap()));
    bytes.zip(decoded).collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|digit| *digit != ' ').collect();
    let byte = |pair: &[char]| {
        let pair: String = pair.iter().collect();
        u8::from_str_radix(&pair, 16).unwrap()
    };
    digits.chunks(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The recorded form with payloads as this crate has them: inline where they are JSON.
fn inline(recorded: &Value) -> String {
    match recorded {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| {
                let value = match (key.as_str(), value) {
                    (
                        "data" | "info" | "meta" | "stream_data" | "prev_data",
                        Value::String(text),
                    ) => payload(text),
                    ("tags" | "labels", value) => value.to_string(),
                    (_, value) => inline(value),
                };
                format!("{}:{value}", Value::from(key.as_str()))
            });
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(","))
        }
        other => other.to_string(),
    }
}

fn payload(text: &str) -> String {
    let json = serde_json::from_str::<&serde_json::value::RawValue>(text);
    match json {
        Ok(json) if json.get() == text => text.to_owned(),
        _ => format!(r#"{{"$hex":"{}"}}"#, hex(text.as_bytes())),
    }
}

/// Whether the bytes of a message are not fixed by its content: the order of map entries is free,
/// and an entry may leave out a value that is an empty message.
fn has_free_form(message: &Value) -> bool {
    match message {
        Value::Object(fields) => fields.iter().any(|(key, value)| {
            let map = matches!(key.as_str(), "subs" | "tags" | "labels");
            let entries = value.as_object().filter(|_| map);
            let free = |value: &Value| value.as_object().is_some_and(|inner| inner.is_empty());
            entries.is_some_and(|map| map.len() > 1 || map.values().any(free))
                || has_free_form(value)
        }),
        Value::Array(items) => items.iter().any(has_free_form),
        _ => false,
    }
}

/// Both ways between bytes and decoded form; says whether the bytes could be compared.
fn agree(
    id: &str,
    kind: EventKind,
    (bytes, decoded): &(Vec<u8>, Value),
    encode: Encode,
    decode: Decode,
) -> bool {
    let expected = inline(decoded);
    let ours = decode(kind, bytes).unwrap_or_else(|why| panic!("{id}: {why}"));
    let parsed: Value = serde_json::from_str(&ours).unwrap();
    assert_eq!(
        parsed,
        serde_json::from_str::<Value>(&expected).unwrap(),
        "{id}"
    );
    let encoded = encode(kind, &expected).unwrap_or_else(|why| panic!("{id}: {why}"));
    let again = encode(kind, &ours).unwrap();
    if has_free_form(decoded) {
        for bytes in [encoded, again] {
            let ours: Value = serde_json::from_str(&decode(kind, &bytes).unwrap()).unwrap();
            assert_eq!(ours, parsed, "{id}");
        }
        return false;
    }
    assert_eq!(hex(&encoded), hex(bytes), "{id}: from the recorded form");
    assert_eq!(hex(&again), hex(bytes), "{id}: decoded and encoded again");
    true
}

#[test]
fn recorded_requests_decode_and_encode_byte_for_byte() {
    let mut seen = 0;
    for (id, kind, line) in recorded() {
        for message in messages(&line, "request") {
            assert!(agree(
                &id,
                kind,
                &message,
                request_from_json,
                request_to_json
            ));
            seen += 1;
        }
    }
    assert_eq!(seen, 290);
}

#[test]
fn recorded_replies_decode_and_encode_byte_for_byte() {
    let (mut exact, mut free) = (0, 0);
    for (id, kind, line) in recorded() {
        if BROKEN.contains(&id.as_str()) || line["reply_hex"].is_null() {
            continue;
        }
        for message in messages(&line, "reply") {
            if id == UNKNOWN_FIELD {
                let raw = Bytes::from(message.0);
                assert_eq!(
                    seal(kind, true, &mut Reply::raw(raw.clone())),
                    Ok(raw),
                    "{id}"
                );
                continue;
            }
            match agree(&id, kind, &message, response_from_json, response_to_json) {
                true => exact += 1,
                false => free += 1,
            }
        }
    }
    assert_eq!((exact, free), (198, 2));
}

#[test]
fn broken_replies_are_refused() {
    let mut seen = 0;
    for (id, kind, line) in recorded() {
        if BROKEN.contains(&id.as_str()) {
            let bytes = unhex(line["reply_hex"].as_str().unwrap());
            let decoded = response_to_json(kind, &bytes);
            assert!(matches!(decoded, Err(Error::Undecodable { .. })), "{id}");
            assert!(
                seal(kind, false, &mut Reply::raw(bytes.into())).is_err(),
                "{id}"
            );
            seen += 1;
        }
    }
    assert_eq!(seen, BROKEN.len());
}

#[test]
fn gate_lets_pass_what_centrifugo_heeds_and_refuses_what_it_mishandles() {
    let mut refused = BTreeSet::new();
    for (id, kind, line) in recorded() {
        let Some((bytes, _)) = messages(&line, "reply").into_iter().next() else {
            continue;
        };
        // Neither result nor error nor disconnect: leaves as `Reply::empty()` only.
        if bytes.is_empty() || (kind.is_stream() && bytes == [0x0a, 0x00]) {
            assert!(seal(kind, true, &mut Reply::raw(bytes.into())).is_err());
            continue;
        }
        let protocol = match messages(&line, "request").remove(0).1 {
            request if kind == EventKind::StreamBidirectional => {
                request["subscribe_request"]["protocol"].clone()
            }
            request => request["protocol"].clone(),
        };
        let mut reply = Reply::raw(bytes.into());
        if seal(kind, protocol == "json", &mut reply).is_err() {
            refused.insert(id);
        }
    }
    let refused: Vec<&str> = refused.iter().map(String::as_str).collect();
    assert_eq!(refused, MISHANDLED);
}

#[test]
fn vectors_of_the_contract_hold_both_ways() {
    let vectors: [(EventKind, Encode, Decode, &str, &str); 10] = [
        (
            EventKind::Connect,
            request_from_json,
            request_to_json,
            r#"{"client":"c","transport":"websocket","protocol":"json","encoding":"json","data":{},"name":"js","channels":["x"]}"#,
            "0A 01 63 12 09 77 65 62 73 6F 63 6B 65 74 1A 04 6A 73 6F 6E 22 04 6A 73 6F 6E 52 02 7B 7D 62 02 6A 73 72 01 78",
        ),
        (
            EventKind::Connect,
            response_from_json,
            response_to_json,
            r#"{"result":{"user":"42","subs":{"a:1":{"override":{"presence":{"value":true}}}},"meta":{}}}"#,
            "0A 17 0A 02 34 32 42 0D 0A 03 61 3A 31 12 06 32 04 0A 02 08 01 4A 02 7B 7D",
        ),
        (
            EventKind::Connect,
            response_from_json,
            response_to_json,
            r#"{"disconnect":{"code":4501,"reason":"no"}}"#,
            "1A 07 08 95 23 12 02 6E 6F",
        ),
        (
            EventKind::Refresh,
            response_from_json,
            response_to_json,
            r#"{"result":{"expire_at":1893456000}}"#,
            "0A 06 10 80 B1 EF 86 07",
        ),
        (
            EventKind::Rpc,
            request_from_json,
            request_to_json,
            r#"{"user":"42","method":"cart:add"}"#,
            "52 02 34 32 5A 08 63 61 72 74 3A 61 64 64",
        ),
        (
            EventKind::Rpc,
            response_from_json,
            response_to_json,
            r#"{"error":{"code":999,"message":"no stock"}}"#,
            "12 0D 08 E7 07 12 08 6E 6F 20 73 74 6F 63 6B",
        ),
        (
            EventKind::Subscribe,
            response_from_json,
            response_to_json,
            r#"{"result":{"override":{"presence":{}}}}"#,
            "0A 04 32 02 0A 00",
        ),
        (
            EventKind::Stream,
            response_from_json,
            response_to_json,
            r#"{"subscribe_response":{}}"#,
            "0A 00",
        ),
        (
            EventKind::StreamBidirectional,
            response_from_json,
            response_to_json,
            r#"{"publication":{"data":{},"tags":{"k":"v"}}}"#,
            "12 0C 22 02 7B 7D 3A 06 0A 01 6B 12 01 76",
        ),
        (
            EventKind::SharedPollRefresh,
            response_from_json,
            response_to_json,
            r#"{"result":{"items":[{"key":"k","data":1,"version":7}],"epoch":"e"}}"#,
            "0A 0D 0A 08 0A 01 6B 12 01 31 18 07 12 01 65",
        ),
    ];
    for (kind, encode, decode, json, bytes) in vectors {
        let bytes = unhex(bytes);
        assert_eq!(hex(&encode(kind, json).unwrap()), hex(&bytes), "{json}");
        assert_eq!(decode(kind, &bytes).unwrap(), json);
    }
}
