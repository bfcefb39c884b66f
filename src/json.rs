//! The JSON form of the wire messages: field names as in the contract, payloads inline.
//!
//! This is what Centrifugo speaks over HTTP, what `fire` prints and takes, and what a `static` reply
//! is written in. Payloads stay byte for byte. Where a payload is not JSON, the functions of this
//! module show it as `{"$hex": "…"}` and take that form back; elsewhere such a message has no JSON.

mod result;

pub(crate) use result::{reply_from_json, subscribe_from_json};

use crate::event::{Event, EventKind, with_event};
use crate::proto::proxy;
use bytes::Bytes;
use prost::Message;
use serde::de::{self, DeserializeOwned, Deserializer};
use serde::ser::{self, Serializer};
use serde::{Deserialize, Serialize};
use std::cell::Cell;

/// Why a message has no JSON form, or JSON is not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not JSON at all.
    #[error("not JSON: {0}")]
    Syntax(String),
    /// The JSON is not the message that it should be.
    #[error("{what} `{key}`: {why}")]
    Key {
        /// Which message of which event.
        what: String,
        /// The key, with those around it, dotted.
        key: String,
        /// What is wrong with its value.
        why: String,
    },
    /// The JSON as a whole is not the message that it should be.
    #[error("{what}: {why}")]
    Whole {
        /// Which message of which event.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// The bytes are not the message that they should be.
    #[error("undecodable {what}: {why}")]
    Undecodable {
        /// Which message of which event.
        what: String,
        /// What is wrong.
        why: String,
    },
}

/// Encodes the request of an event from its JSON. A bidirectional stream takes the message that
/// opens it, `{"subscribe_request": {…}}`; a raw event takes `{"$hex": "…"}`.
pub fn request_from_json(kind: EventKind, text: &str) -> Result<Bytes, Error> {
    let what = format!("{kind} request");
    match kind {
        EventKind::StreamBidirectional => encode::<proxy::StreamSubscribeRequest>(&what, text),
        _ => with_event!(kind, E => encode::<<E as Event>::Request>(&what, text)),
    }
}

/// The JSON of an encoded request. Of a bidirectional stream, any message of the client's direction.
pub fn request_to_json(kind: EventKind, request: &[u8]) -> Result<String, Error> {
    let what = format!("{kind} request");
    match kind {
        EventKind::StreamBidirectional => decode::<proxy::StreamSubscribeRequest>(&what, request),
        _ => with_event!(kind, E => decode::<<E as Event>::Request>(&what, request)),
    }
}

/// Encodes the response of an event from its JSON: `result`, `error`, `disconnect`; of a stream
/// `subscribe_response` or `publication`.
pub fn response_from_json(kind: EventKind, text: &str) -> Result<Bytes, Error> {
    let what = format!("{kind} response");
    with_event!(kind, E => encode::<<E as Event>::Response>(&what, text))
}

/// The JSON of an encoded response; of a stream, of any message in the node's direction.
pub fn response_to_json(kind: EventKind, response: &[u8]) -> Result<String, Error> {
    let what = format!("{kind} response");
    with_event!(kind, E => decode::<<E as Event>::Response>(&what, response))
}

fn encode<M: Message + Default + DeserializeOwned>(what: &str, text: &str) -> Result<Bytes, Error> {
    let _hex = HexPayloads::on();
    let message: M = result::parse(what, text)?;
    Ok(message.encode_to_vec().into())
}

fn decode<M: Message + Default + Serialize>(what: &str, bytes: &[u8]) -> Result<String, Error> {
    let message = M::decode(bytes).map_err(|why| Error::Undecodable {
        what: what.to_owned(),
        why: why.to_string(),
    })?;
    let _hex = HexPayloads::on();
    serde_json::to_string(&message).map_err(|why| Error::Whole {
        what: what.to_owned(),
        why: why.to_string(),
    })
}

/// Whether a field has its zero value and is left out of the JSON form.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

thread_local! {
    static HEX_PAYLOADS: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, payloads on this thread may have the form of [`Hex`].
struct HexPayloads {
    before: bool,
}

impl HexPayloads {
    fn on() -> Self {
        Self {
            before: HEX_PAYLOADS.replace(true),
        }
    }
}

impl Drop for HexPayloads {
    fn drop(&mut self) {
        HEX_PAYLOADS.set(self.before);
    }
}

/// Bytes as `{"$hex": "…"}`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hex {
    #[serde(rename = "$hex", with = "hex_text")]
    bytes: Vec<u8>,
}

impl Hex {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Bytes as pairs of hexadecimal digits.
mod hex_text {
    use super::{Deserialize, Deserializer, Serializer, de};
    use std::fmt::Write;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        to.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        let pair = |pair: &[u8]| {
            let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
            u8::try_from(digit(0)? * 16 + digit(1)?).ok()
        };
        let bytes: Option<_> = text.as_bytes().chunks(2).map(pair).collect();
        bytes.ok_or_else(|| de::Error::custom("`$hex` takes pairs of hexadecimal digits"))
    }
}

/// `bytes` fields as inline JSON values, kept byte for byte.
pub(crate) mod payload {
    use super::{Bytes, Deserialize, Deserializer, HEX_PAYLOADS, Hex, Serialize, Serializer};
    use super::{de, ser};
    use serde_json::value::RawValue;

    /// Writes the payload as the JSON value that it holds; bytes that are not JSON are an error,
    /// save where [`Hex`] is taken.
    pub(crate) fn serialize<S: Serializer>(payload: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        match serde_json::from_slice::<&RawValue>(payload) {
            Ok(raw) => raw.serialize(to),
            Err(_) if HEX_PAYLOADS.get() => Hex::new(payload).serialize(to),
            Err(why) => Err(ser::Error::custom(format!("payload is not JSON: {why}"))),
        }
    }

    /// Keeps the text of the JSON value, whatever it is, save [`Hex`] where it is taken.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let raw = <Box<RawValue>>::deserialize(from).map_err(de::Error::custom)?;
        if HEX_PAYLOADS.get()
            && raw.get().starts_with('{')
            && let Ok(hex) = serde_json::from_str::<Hex>(raw.get())
        {
            return Ok(hex.into_bytes().into());
        }
        Ok(Bytes::from(
            String::from(<Box<str>>::from(raw)).into_bytes(),
        ))
    }
}

#[cfg(test)]
mod tests;
