//! Vectors and recorded frames, byte for byte.

use crate::Served;
use crate::double::{Answer, Double};
use bytes::{Bytes, BytesMut};
use centripeta::goridge::{Call, Decoder, Flags, Frame};
use serde_json::Value;
use std::collections::HashMap;

fn unhex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks_exact(2);
    digits
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The vector of this name.
pub(crate) fn vector(id: &str) -> Vec<u8> {
    let lines = include_str!("../golden/goridge-vectors.txt").lines();
    let mut found = lines.filter_map(|line| line.split_once(' '));
    unhex(found.find(|(name, _)| *name == id).unwrap().1)
}

fn frame(bytes: &[u8]) -> Frame {
    let mut bytes = BytesMut::from(bytes);
    Decoder::new(1 << 20).next(&mut bytes).unwrap().unwrap()
}

fn call(bytes: &[u8]) -> Call {
    frame(bytes).as_call().unwrap()
}

#[tokio::test]
async fn l92_a_publish_of_tv23_is_answered_by_tv24_and_reaches_centrifugo_unchanged() {
    let answer = call(&vector("TV24")).body;
    let double = Double::start(move |_, _| Ok(answer.clone())).await;
    let served = Served::start(&double).await;
    let mut client = served.client().await;
    let given = client.exchange(&vector("TV23")).await;
    assert_eq!(hex(&given), hex(&vector("TV24")));
    assert_eq!(double.requests("Publish"), [call(&vector("TV23")).body]);
}

#[tokio::test]
async fn l93_an_error_of_centrifugos_stays_inside_the_response_as_in_tv25() {
    let answer = call(&vector("TV25")).body;
    let double = Double::start(move |_, _| Ok(answer.clone())).await;
    let served = Served::start(&double).await;
    let mut client = served.client().await;
    let given = client.exchange(&vector("TV23")).await;
    assert_eq!(hex(&given), hex(&vector("TV25")));
}

#[tokio::test]
async fn l95_an_unknown_service_is_answered_by_tv27() {
    let served = Served::start(&Double::plain().await).await;
    let mut client = served.client().await;
    let mut unknown = BytesMut::new();
    let asked = Frame::call(Flags::JSON, 4, "foo.Bar", b"\"x\"").unwrap();
    asked.encode(&mut unknown).unwrap();
    let given = client.exchange(&unknown).await;
    assert_eq!(hex(&given), hex(&vector("TV27")));
}

#[tokio::test]
async fn l106_tv28_without_a_pool_is_answered_by_null() {
    let served = Served::start(&Double::plain().await).await;
    let mut client = served.client().await;
    let given = client.exchange(&vector("TV28")).await;
    let given = call(&given);
    assert_eq!((given.seq, given.method.as_str()), (11, "informer.Workers"));
    assert_eq!(given.body, r#"{"workers":null}"#);
}

#[tokio::test]
async fn the_version_of_tv30_is_tv31() {
    let served = Served::start(&Double::plain().await).await;
    let mut client = served.client().await;
    let given = client.exchange(&vector("TV30")).await;
    assert_eq!(hex(&given), hex(&vector("TV31")));
}

#[tokio::test]
async fn the_disconnect_of_old_sdks_disconnects_where_that_is_asked_for_and_unsubscribes_stay() {
    let double = Double::plain().await;
    let served = Served::start_with(&double, |config| config.rpc.old_disconnect = true).await;
    let mut client = served.client().await;
    let given = client.exchange(&vector("TV32")).await;
    assert_eq!(frame(&given).flags, Flags::PROTO);
    let given = call(&given);
    assert_eq!(
        (given.seq, given.method.as_str()),
        (15, "centrifuge.Unsubscribe"),
        "it is answered as it was called"
    );
    let sent = call(&vector("TV32")).body;
    assert_eq!(double.requests("Disconnect"), [sent]);
    assert!(double.requests("Unsubscribe").is_empty());
    // A code below 128 and none: both are valid text where an unsubscribe has its user.
    for middle in [&[0x12, 2, 0x08, 5][..], &[]] {
        let old = [&[0x0a, 2][..], b"u1", middle].concat();
        let call = Frame::call(Flags::PROTO, 1, "centrifuge.Unsubscribe", &old).unwrap();
        let mut bytes = BytesMut::new();
        call.encode(&mut bytes).unwrap();
        client.exchange(&bytes).await;
        assert_eq!(double.requests("Disconnect").last().unwrap(), &old);
    }
    let proper = [&[0x0a, 4][..], b"news", &[0x12, 2], b"u1"].concat();
    let call = Frame::call(Flags::PROTO, 1, "centrifuge.Unsubscribe", &proper).unwrap();
    let mut bytes = BytesMut::new();
    call.encode(&mut bytes).unwrap();
    client.exchange(&bytes).await;
    assert_eq!(double.requests("Unsubscribe"), [proper]);
    assert_eq!(double.requests("Disconnect").len(), 3);
}

#[tokio::test]
async fn the_disconnect_that_old_sdks_send_as_tv32_is_answered_and_disconnects_nobody() {
    let double = Double::plain().await;
    let served = Served::start(&double).await;
    let mut client = served.client().await;
    let given = client.exchange(&vector("TV32")).await;
    assert_eq!(frame(&given).flags, Flags::PROTO.and(Flags::ERROR));
    let given = call(&given);
    assert_eq!(
        (given.seq, given.method.as_str()),
        (15, "centrifuge.Unsubscribe")
    );
    let text = "goridge_read_request_body: proto: cannot parse invalid wire-format data";
    assert_eq!(given.body, text);
    assert!(double.requests("Unsubscribe").is_empty());
}

#[tokio::test]
async fn l100_and_l101_a_lying_length_of_nv10_or_one_option_of_nv11_ends_that_connection_alone() {
    let served = Served::start(&Double::plain().await).await;
    let mut other = served.client().await;
    for id in ["NV10", "NV11"] {
        let mut client = served.client().await;
        client.send(&vector(id)).await;
        client.is_closed().await;
        assert_eq!(
            other.json("rpc.Version", "true").await,
            r#""2025.1.15""#,
            "{id}"
        );
    }
}

#[tokio::test]
async fn l98_a_call_without_a_codec_as_nv12_gets_flags_60_and_the_text_of_the_unknown_decoder() {
    let served = Served::start(&Double::plain().await).await;
    let mut client = served.client().await;
    let given = client.exchange(&vector("NV12")).await;
    assert_eq!(frame(&given).flags, Flags(0x60));
    let given = call(&given);
    assert_eq!((given.seq, given.method.as_str()), (1, "rpc.Version"));
    assert_eq!(
        given.body,
        "goridge_read_request_body: unknown decoder used in frame"
    );
}

/// Recorded calls and their answers, in order.
fn recorded() -> Vec<(Vec<u8>, Vec<u8>)> {
    let lines = include_str!("../golden/goridge.jsonl").lines();
    let mut pairs = Vec::new();
    let mut asked = None;
    for line in lines {
        let value: Value = serde_json::from_str(line).unwrap();
        let bytes = || unhex(value["frame_hex"].as_str().unwrap());
        match value["direction"].as_str() {
            Some("rpc-client->server") => asked = Some(bytes()),
            Some("server->rpc-client") => pairs.push((asked.take().unwrap(), bytes())),
            _ => {}
        }
    }
    pairs
}

/// Calls whose answer depends on the RoadRunner that was recorded, or on its workers.
const OF_ITS_OWN: [&str; 5] = [
    "rpc.Version",
    "informer.List",
    "informer.AddWorker",
    "informer.RemoveWorker",
    "resetter.List",
];

#[tokio::test]
async fn recorded_calls_are_answered_as_roadrunner_answered_them() {
    let pairs = recorded();
    assert_eq!(pairs.len(), 29);
    let mut answers: HashMap<(String, Bytes), Answer> = HashMap::new();
    for (asked, answered) in &pairs {
        let (asked, answered) = (call(asked), frame(answered));
        let Some(method) = asked.method.strip_prefix("centrifuge.") else {
            continue;
        };
        let answer = match answered.flags.has(Flags::ERROR) {
            true => Err((12, "unknown method")),
            false => Ok(answered.as_call().unwrap().body),
        };
        answers.insert((method.to_owned(), asked.body), answer);
    }
    let double = Double::start(move |method, request| {
        let key = (method.to_owned(), Bytes::copy_from_slice(request));
        // The publication that comes as JSON.
        let usual = || Ok(Bytes::from_static(b"\x12\x0c\x08\x03\x12\x08rNJyEThE"));
        answers.get(&key).cloned().unwrap_or_else(usual)
    })
    .await;
    let served = Served::start(&double).await;
    let mut client = served.client().await;
    for (asked, answered) in pairs {
        let given = client.exchange(&asked).await;
        let (given_call, method) = (call(&given), call(&asked).method);
        assert_eq!(given_call.seq, call(&asked).seq);
        assert_eq!(given_call.method, method);
        let about_workers = method == "informer.Workers" && call(&asked).body == "\"centrifuge\"";
        if OF_ITS_OWN.contains(&method.as_str()) || about_workers {
            continue;
        }
        let words = String::from_utf8_lossy(&given_call.body).into_owned();
        assert_eq!(hex(&given), hex(&answered), "{method}: {words}");
    }
}
