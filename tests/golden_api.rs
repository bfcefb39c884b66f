//! Recorded calls of the server API of a real Centrifugo 6.9, both ways through this crate's messages
//! (C103).
//!
//! `tests/golden/centrifugo-grpc-api.jsonl` has one call per line: `request_hex` and `reply_hex` are
//! protobuf bodies, `request` and `reply` their decoded forms (payloads as text).

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use centripeta::config::{Config, Secret};
use centripeta::egress::{Error, Publisher, Request};
use centripeta::proto::api;
use http::HeaderMap;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt::Write;
use std::pin::Pin;

const RECORDED: &str = include_str!("golden/centrifugo-grpc-api.jsonl");
const SERVICE: &str = "/centrifugal.centrifugo.api.CentrifugoApi/";

/// Where the recorder wrote an empty field.
const EMPTY_FIELD: [&str; 2] = [
    "api-grpc-subscribe-user-empty",
    "api-grpc-disconnect-user-empty",
];
/// Where a map has several entries, whose order is free.
const SEVERAL_ENTRIES: [&str; 2] = ["api-grpc-info", "api-grpc-channels"];

/// A publication of bytes that are no JSON, and so has no JSON form.
const NOT_JSON: &str = "api-grpc-publish-not-json";

fn lines() -> impl Iterator<Item = Value> {
    RECORDED
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
}

/// The vectors of the contract: a batch of one publish at once, and a refused publish.
#[test]
fn vectors_of_the_server_api_hold_both_ways() {
    let publish = api::PublishRequest {
        channel: "a".to_owned(),
        data: "{}".into(),
        ..Default::default()
    };
    let batch = api::BatchRequest {
        commands: vec![api::Command {
            publish: Some(Box::new(publish)),
            ..Default::default()
        }],
        parallel: true,
    };
    let bytes = unhex("0a0922070a016112027b7d1001");
    assert_eq!(batch.encode_to_vec(), bytes);
    assert_eq!(api::BatchRequest::decode(&*bytes), Ok(batch));
    let refused = api::PublishResponse {
        error: Some(api::Error {
            code: 102,
            message: "unknown channel".to_owned(),
        }),
        ..Default::default()
    };
    let bytes = unhex("0a130866120f756e6b6e6f776e206368616e6e656c");
    assert_eq!(refused.encode_to_vec(), bytes);
    assert_eq!(api::PublishResponse::decode(&*bytes), Ok(refused));
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().collect();
    let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The recorded form with payloads inline, and without what is at its zero value.
fn inline(recorded: &Value) -> Value {
    match recorded {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| **value != "");
            let fields = fields.map(|(key, value)| {
                let is_payload = matches!(
                    key.as_str(),
                    "data" | "info" | "conn_info" | "chan_info" | "params"
                );
                let value = match value {
                    Value::String(text) if is_payload => serde_json::from_str(text).unwrap(),
                    value if key == "metrics" => fractions(value),
                    value => inline(value),
                };
                (key.clone(), value)
            });
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(inline).collect(),
        other => other.clone(),
    }
}

/// Metrics are fractions, recorded without a point where they are whole.
fn fractions(recorded: &Value) -> Value {
    match recorded {
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, value)| (key.clone(), fractions(value)));
            Value::Object(fields.collect())
        }
        other => other.as_f64().map_or_else(|| other.clone(), Value::from),
    }
}

/// One message: decoded it is what was recorded, encoded from either form it is the recorded bytes.
fn both_ways<M>(id: &str, recorded_hex: &Value, recorded: &Value)
where
    M: Message + Default + Serialize + DeserializeOwned,
{
    let Some(recorded_hex) = recorded_hex.as_str() else {
        return;
    };
    let message = M::decode(&unhex(recorded_hex)[..]).unwrap();
    let form = serde_json::to_string(&message);
    if id == NOT_JSON && form.is_err() {
        assert_eq!(hex(&message.encode_to_vec()), recorded_hex, "{id}");
        return;
    }
    let form = form.unwrap_or_else(|why| panic!("{id}: {why}"));
    let value: Value = serde_json::from_str(&form).unwrap();
    assert_eq!(value, inline(recorded), "{id}");
    let read: M = serde_json::from_str(&form).unwrap();
    if !EMPTY_FIELD.contains(&id) && !SEVERAL_ENTRIES.contains(&id) {
        assert_eq!(
            hex(&message.encode_to_vec()),
            recorded_hex,
            "{id}: encoded again"
        );
        assert_eq!(
            hex(&read.encode_to_vec()),
            recorded_hex,
            "{id}: from its JSON"
        );
    }
}

macro_rules! of_method {
    ($method:expr, $($name:literal: $request:ident, $response:ident;)*) => {
        match $method {
            $($name => (
                both_ways::<api::$request> as fn(&str, &Value, &Value),
                both_ways::<api::$response> as fn(&str, &Value, &Value),
            ),)*
            other => panic!("no messages of {other}"),
        }
    };
}

macro_rules! calls {
    ($method:expr, $($name:literal: $request:ident;)*) => {
        match $method {
            $($name => call::<api::$request> as fn(&Publisher, &[u8]) -> Replay,)*
            other => panic!("no call of {other}"),
        }
    };
}

#[test]
fn c103_every_recorded_call_decodes_and_encodes_both_ways() {
    let mut methods = BTreeSet::new();
    for line in lines() {
        let id = line["id"].as_str().unwrap();
        let method = line["path"]
            .as_str()
            .unwrap()
            .strip_prefix(SERVICE)
            .unwrap();
        methods.insert(method.to_owned());
        let (request, response) = of_method!(method,
            "Batch": BatchRequest, BatchResponse;
            "Publish": PublishRequest, PublishResponse;
            "Broadcast": BroadcastRequest, BroadcastResponse;
            "Subscribe": SubscribeRequest, SubscribeResponse;
            "Unsubscribe": UnsubscribeRequest, UnsubscribeResponse;
            "Disconnect": DisconnectRequest, DisconnectResponse;
            "Presence": PresenceRequest, PresenceResponse;
            "PresenceStats": PresenceStatsRequest, PresenceStatsResponse;
            "History": HistoryRequest, HistoryResponse;
            "HistoryRemove": HistoryRemoveRequest, HistoryRemoveResponse;
            "Info": InfoRequest, InfoResponse;
            "RPC": RpcRequest, RpcResponse;
            "Refresh": RefreshRequest, RefreshResponse;
            "Channels": ChannelsRequest, ChannelsResponse;
            "Connections": ConnectionsRequest, ConnectionsResponse;
            "BlockUser": BlockUserRequest, BlockUserResponse;
            "MapPublish": MapPublishRequest, MapPublishResponse;
            "MapRemove": MapRemoveRequest, MapRemoveResponse;
            "MapReadState": MapReadStateRequest, MapReadStateResponse;
            "MapReadStream": MapReadStreamRequest, MapReadStreamResponse;
            "MapStats": MapStatsRequest, MapStatsResponse;
            "MapClear": MapClearRequest, MapClearResponse;
            "SharedPollPublish": SharedPollPublishRequest, SharedPollPublishResponse;
        );
        request(id, &line["request_hex"], &line["request"]);
        response(id, &line["reply_hex"], &line["reply"]);
    }
    // Every open method, and two of PRO.
    assert_eq!((lines().count(), methods.len()), (63, 23));
}

/// Answers what was recorded for a call: by path, message and error mode.
async fn replayed(
    request: http::Request<Incoming>,
) -> Result<http::Response<BoxBody<Bytes, Infallible>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let message = hex(&body.collect().await?.to_bytes()[5..]);
    let is_transport = head.headers.contains_key("x-centrifugo-error-mode");
    let is_it = |line: &Value| {
        let metadata = &line["metadata"];
        line["path"] == head.uri.path()
            && line["request_hex"] == message.as_str()
            && metadata["authorization"] == head.headers["authorization"].to_str().unwrap()
            && metadata.get("x-centrifugo-error-mode").is_some() == is_transport
    };
    let mut trailers = HeaderMap::new();
    let mut reply = Bytes::new();
    match lines().find(is_it) {
        Some(line) => {
            trailers.insert(
                "grpc-status",
                line["grpc_status"].to_string().parse().unwrap(),
            );
            for (name, field) in [
                ("grpc-message", "grpc_message"),
                ("grpc-status-details-bin", "grpc_status_details_bin"),
            ] {
                if let Some(text) = line[field].as_str() {
                    trailers.insert(name, text.parse().unwrap());
                }
            }
            if let Some(recorded) = line["reply_hex"].as_str() {
                let recorded = unhex(recorded);
                let length = u32::try_from(recorded.len()).unwrap();
                reply = [&[0], &length.to_be_bytes()[..], &recorded].concat().into();
            }
        }
        // The publisher asks for an empty batch to see whether we are there.
        None => drop(trailers.insert("grpc-status", "14".parse().unwrap())),
    }
    if message.is_empty() && head.uri.path().ends_with("/Batch") {
        reply = Bytes::from_static(&[0; 5]);
        trailers.insert("grpc-status", "0".parse().unwrap());
    }
    let body = Full::new(reply)
        .with_trailers(async { Some(Ok(trailers)) })
        .boxed();
    Ok(http::Response::new(body))
}

async fn replay() -> Publisher {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let server = http2::Builder::new(TokioExecutor::new());
            let serving = server.serve_connection(TokioIo::new(socket), service_fn(replayed));
            tokio::spawn(serving);
        }
    });
    let mut config = Config::default().centrifugo;
    config.api[0].port = port;
    config.key = Some(Secret::new("api-key"));
    Publisher::connect(&config, ":")
        .unwrap()
        .binary()
        .anonymous()
}

type Replay = Pin<Box<dyn Future<Output = Result<String, Error>>>>;

fn call<R>(publisher: &Publisher, message: &[u8]) -> Replay
where
    R: Request,
    R::Result: Serialize + 'static,
{
    let answer = publisher.call(R::decode(message).unwrap());
    Box::pin(async move { Ok(serde_json::to_string(&answer.await?).unwrap()) })
}

/// Every recorded call, made by the publisher, has the recorded result or error.
#[tokio::test]
async fn replayed_calls_have_the_recorded_results_and_errors() {
    let publisher = replay().await;
    let mut replayed = 0;
    for line in lines() {
        let id = line["id"].as_str().unwrap();
        let method = line["path"]
            .as_str()
            .unwrap()
            .strip_prefix(SERVICE)
            .unwrap();
        let is_ours = line["metadata"]["authorization"] == "apikey api-key";
        if !is_ours
            || method == "Batch"
            || id == "api-grpc-publish-bad-b64"
            || EMPTY_FIELD.contains(&id)
        {
            continue;
        }
        let publisher = match line["metadata"].get("x-centrifugo-error-mode") {
            Some(_) => publisher.transport_errors(),
            None => publisher.clone(),
        };
        let call = calls!(method,
            "Publish": PublishRequest;
            "Broadcast": BroadcastRequest;
            "Subscribe": SubscribeRequest;
            "Unsubscribe": UnsubscribeRequest;
            "Disconnect": DisconnectRequest;
            "Presence": PresenceRequest;
            "PresenceStats": PresenceStatsRequest;
            "History": HistoryRequest;
            "HistoryRemove": HistoryRemoveRequest;
            "Info": InfoRequest;
            "RPC": RpcRequest;
            "Refresh": RefreshRequest;
            "Channels": ChannelsRequest;
            "Connections": ConnectionsRequest;
            "BlockUser": BlockUserRequest;
            "MapPublish": MapPublishRequest;
            "MapRemove": MapRemoveRequest;
            "MapReadState": MapReadStateRequest;
            "MapReadStream": MapReadStreamRequest;
            "MapStats": MapStatsRequest;
            "MapClear": MapClearRequest;
            "SharedPollPublish": SharedPollPublishRequest;
        );
        let answer = call(&publisher, &unhex(line["request_hex"].as_str().unwrap())).await;
        let code = line["reply"]["error"]["code"].as_u64();
        match answer {
            Ok(result) => {
                let result: Value = serde_json::from_str(&result).unwrap();
                assert_eq!(result, inline(&line["reply"]["result"]), "{id}");
            }
            Err(Error::Unsupported { .. }) => assert_eq!(line["grpc_status"], 12, "{id}"),
            Err(error) if line["grpc_status"] == 0 => {
                assert_eq!(error.code().map(u64::from), code, "{id}: {error}");
            }
            Err(error) => {
                let text = line["grpc_message"].as_str().unwrap();
                assert!(
                    error.code().is_some() && error.to_string().contains(text),
                    "{id}: {error}"
                );
            }
        }
        replayed += 1;
    }
    assert_eq!(replayed, 54);
}
