//! `centrifuge.*`: Centrifugo's server API, passed on.

use super::{Codec, argument};
use crate::egress::{Error, Publisher, Refusal};
use crate::proto::api;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use prost::Message;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::fmt;

/// Fields of requests and results that hold a payload: Go writes them as base64.
const PAYLOADS: [&str; 5] = ["data", "info", "conn_info", "chan_info", "params"];

/// Names of gRPC statuses by their number.
const STATUSES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// One call; the method is written without `centrifuge.`.
pub(super) async fn call(
    publisher: &Publisher,
    method: &str,
    codec: Codec,
    body: Bytes,
) -> Result<Bytes, String> {
    match codec {
        Codec::Proto => forward(publisher, method, body).await,
        Codec::Json => json(publisher, method, &body).await,
        Codec::Raw => Err(argument::NO_BYTES.to_owned()),
        Codec::Msgpack | Codec::Gob => Err(argument::UNKNOWN_CODEC.to_owned()),
    }
}

/// Whether a method may exist: which ones do, Centrifugo knows. Names are capitalised.
pub(super) fn may_be(method: &str) -> bool {
    method.starts_with(|first: char| first.is_ascii_uppercase())
        && method.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The method that is meant: PHP's SDK before 2.4 sends the bytes of a disconnect as an unsubscribe.
/// They are told apart by the user, where a disconnect has its code and reason as a message of their
/// own, or nothing; an unsubscribe of the SDK always names one.
pub(super) fn meant<'m>(method: &'m str, body: &[u8]) -> &'m str {
    if method != "Unsubscribe" {
        return method;
    }
    let as_sent = api::UnsubscribeRequest::decode(body);
    let is_user = as_sent.is_ok_and(|it| {
        let first = it.user.bytes().next();
        // The keys of a code and of a reason.
        first.is_some_and(|first| first != 0x08 && first != 0x12)
    });
    let disconnect = api::DisconnectRequest::decode(body);
    match disconnect.is_ok_and(|it| !it.user.is_empty()) && !is_user {
        true => "Disconnect",
        false => method,
    }
}

async fn forward(publisher: &Publisher, method: &str, body: Bytes) -> Result<Bytes, String> {
    publisher
        .forward(method, body)
        .await
        .map_err(|why| text(method, &why))
}

/// The error of a call in the words of gRPC's Go client.
fn text(method: &str, why: &Error) -> String {
    let status = |number: usize, text: String| {
        let name = STATUSES.get(number).copied().unwrap_or("Unknown");
        format!("rpc error: code = {name} desc = {text}")
    };
    match why {
        Error::Refused {
            refusal: Refusal::Malformed(_),
            ..
        } => argument::MALFORMED.to_owned(),
        Error::Refused { .. } => status(8, why.to_string()),
        Error::Unsupported { .. } => status(12, format!("method {method} not implemented")),
        Error::Unauthenticated => status(16, why.to_string()),
        Error::Timeout { .. } => status(4, "context deadline exceeded".to_owned()),
        Error::Overloaded { .. } => status(8, why.to_string()),
        Error::Status {
            status: number,
            message,
            ..
        } => status(usize::try_from(*number).unwrap_or(2), message.clone()),
        other => status(14, other.to_string()),
    }
}

/// The methods that PHP's SDK has, as JSON; payloads are base64, as Go writes bytes.
async fn json(publisher: &Publisher, method: &str, body: &[u8]) -> Result<Bytes, String> {
    macro_rules! by_name {
        ($($name:literal: $request:ident -> $response:ident;)*) => {
            match method {
                $($name => {
                    let request: api::$request = read(body)?;
                    let bytes = request.encode_to_vec().into();
                    let response = forward(publisher, method, bytes).await?;
                    let response = api::$response::decode(response).map_err(|why| why.to_string())?;
                    write(&response)
                })*
                _ => Err(format!(
                    "centrifuge.{method} is not spoken as JSON; call it by the protobuf codec"
                )),
            }
        };
    }
    by_name! {
        "Publish": PublishRequest -> PublishResponse;
        "Broadcast": BroadcastRequest -> BroadcastResponse;
        "Subscribe": SubscribeRequest -> SubscribeResponse;
        "Unsubscribe": UnsubscribeRequest -> UnsubscribeResponse;
        "Disconnect": DisconnectRequest -> DisconnectResponse;
        "Refresh": RefreshRequest -> RefreshResponse;
        "Presence": PresenceRequest -> PresenceResponse;
        "PresenceStats": PresenceStatsRequest -> PresenceStatsResponse;
        "Channels": ChannelsRequest -> ChannelsResponse;
        "BlockUser": BlockUserRequest -> BlockUserResponse;
        "UnblockUser": UnblockUserRequest -> UnblockUserResponse;
    }
}

/// An object whose fields keep their order, since Go writes them in the order of the contract.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        from.deserialize_map(Object)
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// A request: its payloads become what they hold.
fn read<R: DeserializeOwned>(body: &[u8]) -> Result<R, String> {
    let wrong = |why: serde_json::Error| format!("goridge_read_request_body: json: {why}");
    let mut fields: Fields = serde_json::from_slice(body).map_err(wrong)?;
    for (name, value) in &mut fields.0 {
        if !PAYLOADS.contains(&name.as_str()) {
            continue;
        }
        let encoded: String = serde_json::from_str(value.get()).map_err(wrong)?;
        let illegal = |why: &str| {
            format!("goridge_read_request_body: json: {name}: {why}; it must be JSON in base64")
        };
        let bytes = STANDARD
            .decode(encoded)
            .map_err(|why| illegal(&why.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|why| illegal(&why.to_string()))?;
        *value = RawValue::from_string(text).map_err(|why| illegal(&why.to_string()))?;
    }
    let whole = serde_json::to_vec(&fields).map_err(wrong)?;
    serde_json::from_slice(&whole).map_err(wrong)
}

/// A response: what its payloads hold becomes base64.
fn write<R: Serialize>(response: &R) -> Result<Bytes, String> {
    let text = serde_json::to_string(response).map_err(|why| why.to_string())?;
    let value = RawValue::from_string(text).map_err(|why| why.to_string())?;
    Ok(Bytes::from(encoded(&value).get().to_owned()))
}

/// The same value with the payloads in it, however deep, as base64.
fn encoded(value: &RawValue) -> Box<RawValue> {
    let again = |text: Result<String, serde_json::Error>| {
        let raw = text.and_then(RawValue::from_string);
        // What was JSON stays JSON.
        raw.unwrap_or_else(|_| value.to_owned())
    };
    if let Ok(mut fields) = serde_json::from_str::<Fields>(value.get()) {
        for (name, inner) in &mut fields.0 {
            *inner = match PAYLOADS.contains(&name.as_str()) {
                true => again(serde_json::to_string(&STANDARD.encode(inner.get()))),
                false => encoded(inner),
            };
        }
        return again(serde_json::to_string(&fields));
    }
    if let Ok(items) = serde_json::from_str::<Vec<Box<RawValue>>>(value.get()) {
        let items: Vec<Box<RawValue>> = items.iter().map(|item| encoded(item)).collect();
        return again(serde_json::to_string(&items));
    }
    value.to_owned()
}
