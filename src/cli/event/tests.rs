//! Requests from flags.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::json::request_to_json;
use clap::Parser;
use serde_json::{Value, json};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    event: EventArgs,
}

fn build(words: &[&str]) -> Result<FiredEvent, CliError> {
    let words = std::iter::once("fire").chain(words.iter().copied());
    Line::try_parse_from(words).unwrap().event.build()
}

fn request(words: &[&str]) -> Value {
    let event = build(words).unwrap();
    serde_json::from_str(&request_to_json(event.kind, &event.message).unwrap()).unwrap()
}

fn refusal(words: &[&str]) -> String {
    match build(words) {
        Err(CliError::Plain { what, why, .. }) => format!("{what}: {why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_is_a_version_4_uuid_and_new_each_time() {
    let id = new_client();
    let parts: Vec<usize> = id.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12]);
    assert_eq!(&id[14..15], "4");
    assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"));
    assert_ne!(id, new_client());
}

#[test]
fn an_rpc_carries_what_centrifugo_would_send() {
    let sent = request(&[
        "rpc",
        "--method",
        "seat.hold",
        "--user",
        "ada",
        "--client",
        "c1",
        "--data",
        "{\"b\":1.50,\"a\":2}",
        "--meta",
        "{\"plan\":\"pro\"}",
    ]);
    assert_eq!(
        sent,
        json!({
            "client": "c1", "transport": "websocket", "protocol": "json", "encoding": "json",
            "user": "ada", "method": "seat.hold", "data": {"b": 1.5, "a": 2},
            "meta": {"plan": "pro"},
        })
    );
}

#[test]
fn data_stays_byte_for_byte_and_a_file_that_is_not_json_goes_as_bytes() {
    let event = build(&["rpc", "--data", "{\"b\":1.50,  \"a\":2}"]).unwrap();
    let request: crate::proto::proxy::RpcRequest = prost::Message::decode(event.request).unwrap();
    assert_eq!(request.data, "{\"b\":1.50,  \"a\":2}");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), [0xff, 0, 7]).unwrap();
    let event = build(&["rpc", "--data", &format!("@{}", file.path().display())]).unwrap();
    let request: crate::proto::proxy::RpcRequest = prost::Message::decode(event.request).unwrap();
    assert_eq!(request.data.as_ref(), [0xff, 0, 7]);
}

#[test]
fn request_fields_go_over_those_of_the_flags() {
    let sent = request(&[
        "connect",
        "--client",
        "c1",
        "--request",
        "{\"name\":\"js\",\"protocol\":\"protobuf\",\"channels\":[\"a\"]}",
    ]);
    assert_eq!(sent["name"], "js");
    assert_eq!(sent["protocol"], "protobuf");
    assert_eq!(sent["channels"], json!(["a"]));
}

#[test]
fn a_two_way_stream_opens_with_the_subscribe_request_inside() {
    let sent = request(&[
        "stream_bidirectional",
        "--channel",
        "term:1",
        "--client",
        "c1",
    ]);
    assert_eq!(sent["subscribe_request"]["channel"], "term:1");
    let state = request(&[
        "channel_state",
        "--request",
        "{\"events\":[{\"time_ms\":1,\"channel\":\"a\",\"type\":\"occupied\"}]}",
    ]);
    assert_eq!(state["events"][0]["type"], "occupied");
}

#[test]
fn flags_without_a_field_and_fields_without_a_flag_are_usage_errors() {
    assert_eq!(refusal(&["subscribe"]), "subscribe: needs --channel");
    assert!(refusal(&["refresh", "--data", "1"]).contains("refresh --data"));
    assert!(refusal(&["connect", "--user", "ada"]).contains("connect --user"));
    assert!(refusal(&["rpc", "--data", "{"]).contains("not JSON"));
    assert!(refusal(&["refresh", "--meta", "1"]).contains("not a JSON object"));
    assert!(refusal(&["connect", "--metadata", "te=x"]).contains("can't be forwarded"));
    assert!(refusal(&["connect", "--metadata", "cookie=ä"]).contains("can't carry"));
    assert!(refusal(&["connect", "--request", "{\"nope\":1}"]).contains("nope"));
    assert!(refusal(&["raw", "--method", "Connect"]).contains("no raw method"));
    assert!(refusal(&["raw"]).contains("needs the name"));
}

#[test]
fn metadata_keeps_repeated_values_under_lower_case_names() {
    let event = build(&["connect", "--metadata", "X-A=1", "--metadata", "x-a=2"]).unwrap();
    let values: Vec<_> = event.metadata.get_all("x-a").iter().collect();
    assert_eq!(values, ["1", "2"]);
}
