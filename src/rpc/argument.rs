//! Arguments and results that are plain values, and what callers are told of unfit ones.

use super::Codec;
use bytes::Bytes;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What a call by a codec that is not spoken is told.
pub(super) const UNKNOWN_CODEC: &str = "goridge_read_request_body: unknown decoder used in frame";
/// What a protobuf call of a method that takes a plain value is told.
const NO_PROTO: &str = "goridge_read_request_body: message type is not a proto";
/// What a call for bytes is told by a method whose result is something else.
pub(super) const NO_BYTES: &str = "unknown Raw payload type";
/// What a call is told whose protobuf is none.
pub(super) const MALFORMED: &str =
    "goridge_read_request_body: proto: cannot parse invalid wire-format data";

/// The name that Go has for a type of argument.
pub(super) trait Plain: DeserializeOwned + Default {
    /// It.
    const NAME: &'static str;
}

impl Plain for bool {
    const NAME: &'static str = "bool";
}

impl Plain for String {
    const NAME: &'static str = "string";
}

/// The argument of a method that takes a plain value, by a codec whose result it can write.
pub(super) fn plain<T: Plain>(codec: Codec, body: &[u8]) -> Result<T, String> {
    let value: Option<T> = json(codec, body, T::NAME)?;
    // Go leaves a value as it was where there is `null`.
    Ok(value.unwrap_or_default())
}

/// The same of a method that takes an object.
pub(super) fn json<T: DeserializeOwned>(
    codec: Codec,
    body: &[u8],
    name: &str,
) -> Result<T, String> {
    match codec {
        Codec::Json if body.is_empty() => Err(format!(
            "goridge_read_request_body: json: {name} unexpected end of JSON input"
        )),
        Codec::Json => serde_json::from_slice(body)
            .map_err(|why| format!("goridge_read_request_body: json: {name} {why}")),
        Codec::Proto => Err(NO_PROTO.to_owned()),
        Codec::Raw => Err(NO_BYTES.to_owned()),
        Codec::Msgpack | Codec::Gob => Err(UNKNOWN_CODEC.to_owned()),
    }
}

/// The argument of a method that takes a message: protobuf, or the object of its JSON form.
pub(super) enum Given<M> {
    /// Decoded.
    Message(M),
    /// An object.
    Object(Value),
}

/// Reads such an argument.
pub(super) fn message<M: Message + Default>(codec: Codec, body: &[u8]) -> Result<Given<M>, String> {
    match codec {
        Codec::Proto => match M::decode(body) {
            Ok(message) => Ok(Given::Message(message)),
            Err(_) => Err(MALFORMED.to_owned()),
        },
        Codec::Json => {
            let start = String::from_utf8_lossy(body);
            match start.trim_start().chars().next() {
                Some('{') => serde_json::from_slice(body)
                    .map(Given::Object)
                    .map_err(|why| why.to_string()),
                Some(first) => Err(format!(
                    "invalid character '{first}' looking for beginning of value"
                )),
                None => Err("unexpected end of JSON input".to_owned()),
            }
        }
        Codec::Raw => Err(NO_BYTES.to_owned()),
        Codec::Msgpack | Codec::Gob => Err(UNKNOWN_CODEC.to_owned()),
    }
}

/// A text in an object; empty where there is none.
pub(super) fn text(object: &Value, name: &str) -> String {
    let text = object.get(name).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

/// A result as JSON.
pub(super) fn written<T: Serialize>(value: &T) -> Result<Bytes, String> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|why| why.to_string())
}
