//! `raw`: any other unary method of the service; nothing is known of its messages.

use super::{Event, EventKind, Gated, Parts};
use crate::answer::rules::Rules;
use crate::json::Hex;
use crate::outcome::{IntoOutcome, Outcome};
use crate::reply::{Reply, ReplyMessage};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::encoding::{self, DecodeContext, WireType};
use prost::{DecodeError, Message};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Any other unary method of the service, by path.
#[derive(Debug, Clone, Copy)]
pub struct Raw;

impl Event for Raw {
    const KIND: EventKind = EventKind::Raw;
    type Request = RawMessage;
    type Result = RawMessage;
    type Response = RawMessage;
}

impl Gated for Raw {
    fn result(_: &ReplyMessage) -> Option<&Self::Result> {
        None
    }

    fn message(result: Self::Result) -> ReplyMessage {
        ReplyMessage::Raw(result.into_bytes())
    }

    fn parts(response: Self::Response) -> Result<Parts<Self::Result>, String> {
        Ok(Parts {
            result: Some(response),
            error: None,
            disconnect: None,
        })
    }

    fn check(_: &Self::Result, _: &Rules) -> Result<(), String> {
        Ok(())
    }
}

/// A message of which no field is known: it keeps the encoded fields as they came. In JSON it is
/// `{"$hex": "…"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawMessage(BytesMut);

impl RawMessage {
    /// A message of these encoded fields. Nothing checks them.
    pub fn new(fields: &[u8]) -> Self {
        Self(BytesMut::from(fields))
    }

    /// The encoded fields.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The encoded fields.
    pub fn into_bytes(self) -> Bytes {
        self.0.freeze()
    }
}

impl Message for RawMessage {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        if matches!(wire_type, WireType::StartGroup | WireType::EndGroup) {
            // Groups left the language with proto3: read over, and not kept.
            return encoding::skip_field(wire_type, tag, buf, context);
        }
        encoding::encode_key(tag, wire_type, &mut self.0);
        match wire_type {
            WireType::SixtyFourBit => {
                let mut value = 0;
                encoding::fixed64::merge(wire_type, &mut value, buf, context)?;
                self.0.put_u64_le(value);
            }
            WireType::ThirtyTwoBit => {
                let mut value = 0;
                encoding::fixed32::merge(wire_type, &mut value, buf, context)?;
                self.0.put_u32_le(value);
            }
            WireType::LengthDelimited => {
                let mut value = Bytes::new();
                encoding::bytes::merge(wire_type, &mut value, buf, context)?;
                encoding::encode_varint(value.len() as u64, &mut self.0);
                self.0.put_slice(&value);
            }
            _ => encoding::encode_varint(encoding::decode_varint(buf)?, &mut self.0),
        }
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

impl Serialize for RawMessage {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Hex::new(&self.0).serialize(to)
    }
}

impl<'de> Deserialize<'de> for RawMessage {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self::new(&Hex::deserialize(from)?.into_bytes()))
    }
}

impl IntoOutcome<Raw> for RawMessage {
    fn into_outcome(self) -> Outcome {
        Outcome::Reply(Reply::raw(self.into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::proto::proxy;

    #[test]
    fn raw_message_keeps_fields_of_every_wire_type() {
        let known = proxy::PublishResult {
            data: Bytes::from_static(b"{}"),
            version: u64::MAX,
            ..Default::default()
        };
        let mut wire = known.encode_to_vec();
        wire.extend_from_slice(&[0xfd, 0x01, 1, 2, 3, 4, 0xf9, 0x01, 1, 2, 3, 4, 5, 6, 7, 8]);
        let raw = RawMessage::decode(wire.as_slice()).unwrap();
        assert_eq!(raw.encode_to_vec(), wire);
        let text = serde_json::to_string(&raw).unwrap();
        assert_eq!(serde_json::from_str::<RawMessage>(&text).unwrap(), raw);
    }

    #[test]
    fn raw_message_refuses_broken_fields() {
        assert!(RawMessage::decode([0x0a, 0xff].as_slice()).is_err());
        assert!(RawMessage::decode([0x0c].as_slice()).is_err());
    }
}
