//! One pass over a request message: checks it as a decoder would and notes where the fields are.

use crate::event::{Event, EventKind};
use crate::proto::proxy;
use bytes::Bytes;
use prost::Message;

/// A field that routing or an extractor wants without decoding the whole message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Field {
    /// `client`
    Client,
    /// `transport`
    Transport,
    /// `protocol`
    Protocol,
    /// `encoding`
    Encoding,
    /// `user`
    User,
    /// `channel` or `method`
    Subject,
    /// `data`
    Data,
    /// `b64data`
    B64Data,
    /// `meta`
    Meta,
}

const FIELD_COUNT: usize = 9;

/// Why a request is refused before anything looks at it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// The bytes end within a field.
    #[error("truncated at byte {0}")]
    Truncated(usize),
    /// A varint of more than ten bytes, or a field number out of range.
    #[error("invalid tag or varint at byte {0}")]
    InvalidVarint(usize),
    /// A known field of another wire type.
    #[error("field {number} has wire type {wire_type}, expected 2")]
    WireType {
        /// Field number.
        number: u32,
        /// Wire type found.
        wire_type: u8,
    },
    /// A string that is not UTF-8.
    #[error("field {0} is not valid UTF-8")]
    Utf8(u32),
    /// A nested message or group is malformed.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// A typed view of another kind was asked for.
    #[error("the event is {is}, not {asked}")]
    OtherKind {
        /// Its kind.
        is: EventKind,
        /// The kind asked for.
        asked: EventKind,
    },
}

/// What a known field holds, and where it is noted.
#[derive(Clone, Copy)]
enum Holds {
    Text(Field),
    Bytes(Field),
    OtherText,
    Nested,
}

/// Byte ranges of the noted fields; an absent field is an empty range.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fields([(u32, u32); FIELD_COUNT]);

impl Fields {
    /// Scans `raw` as the request message of `kind`: accepts and refuses what `prost` would.
    pub(super) fn scan(kind: EventKind, raw: &Bytes) -> Result<Self, ScanError> {
        if kind == EventKind::Raw {
            return Ok(Self::default());
        }
        let mut fields = Self::default();
        let mut needs_decode = u32::try_from(raw.len()).is_err();
        let mut reader = Reader { bytes: raw, at: 0 };
        while reader.at < raw.len() {
            let (number, wire_type) = reader.tag()?;
            match (known(kind, number), wire_type) {
                (Some(Holds::Nested), 2) => {
                    reader.chunk()?;
                    needs_decode = true;
                }
                (Some(holds), 2) => {
                    let (start, end) = reader.chunk()?;
                    fields.note(holds, number, raw, start, end)?;
                }
                (Some(_), _) => return Err(ScanError::WireType { number, wire_type }),
                (None, 3 | 4) => {
                    // Groups of unknown fields are left to the decoder, with all that follows.
                    needs_decode = true;
                    reader.skip_groups(wire_type)?;
                }
                (None, _) => reader.skip(wire_type)?,
            }
        }
        if needs_decode {
            decode_whole(kind, raw)?;
        }
        Ok(fields)
    }

    /// The bytes of a field.
    pub(super) fn of<'a>(&self, field: Field, raw: &'a [u8]) -> &'a [u8] {
        let (start, end) = self.0[field as usize];
        raw.get(start as usize..end as usize).unwrap_or_default()
    }

    /// The same, sharing the buffer.
    pub(super) fn slice(&self, field: Field, raw: &Bytes) -> Bytes {
        let (start, end) = self.0[field as usize];
        raw.slice(start as usize..end as usize)
    }

    fn note(
        &mut self,
        holds: Holds,
        number: u32,
        raw: &[u8],
        start: usize,
        end: usize,
    ) -> Result<(), ScanError> {
        let field = match holds {
            Holds::Text(field) => {
                std::str::from_utf8(&raw[start..end]).map_err(|_| ScanError::Utf8(number))?;
                field
            }
            Holds::OtherText => {
                std::str::from_utf8(&raw[start..end]).map_err(|_| ScanError::Utf8(number))?;
                return Ok(());
            }
            Holds::Bytes(field) => field,
            Holds::Nested => return Ok(()),
        };
        self.0[field as usize] = (to_u32(start)?, to_u32(end)?);
        Ok(())
    }
}

fn to_u32(at: usize) -> Result<u32, ScanError> {
    u32::try_from(at).map_err(|_| ScanError::Malformed("message of more than 4 GiB".to_owned()))
}

/// The fields of each request, by number (`proto/proxy.proto`).
const fn known(kind: EventKind, number: u32) -> Option<Holds> {
    use EventKind as K;
    use Field as F;
    use Holds::{Bytes, Nested, OtherText, Text};
    Some(match (kind, number) {
        (K::SharedPollRefresh | K::CacheEmpty, 1) => Text(F::Subject),
        (K::SharedPollRefresh, 2) | (K::ChannelState, 1) => Nested,
        (K::SharedPollRefresh | K::CacheEmpty | K::ChannelState | K::Raw, _) => return None,

        (_, 1) => Text(F::Client),
        (_, 2) => Text(F::Transport),
        (_, 3) => Text(F::Protocol),
        (_, 4) => Text(F::Encoding),

        (K::Connect, 10) => Bytes(F::Data),
        (K::Connect, 11) => Text(F::B64Data),
        (K::Connect, 12..=14) => OtherText,
        (K::Connect, _) => return None,

        (_, 10) => Text(F::User),
        (K::Refresh, 11) => Bytes(F::Meta),
        (K::Refresh, 12) => Nested,
        (K::Refresh, _) => return None,

        (_, 11) => Text(F::Subject),
        (K::Subscribe | K::Stream | K::StreamBidirectional, 12) => OtherText,
        (K::Subscribe | K::Stream | K::StreamBidirectional, 13) => Bytes(F::Meta),
        (K::Subscribe | K::Stream | K::StreamBidirectional, 14) => Bytes(F::Data),
        (K::Subscribe | K::Stream | K::StreamBidirectional, 15) => Text(F::B64Data),
        (K::Subscribe | K::Stream | K::StreamBidirectional, 16) => Nested,

        (K::Publish | K::Rpc, 12) => Bytes(F::Data),
        (K::Publish | K::Rpc, 13) => Text(F::B64Data),
        (K::Publish | K::Rpc, 14) => Bytes(F::Meta),
        (K::Publish | K::Rpc, 15) => Nested,

        (K::SubRefresh, 12) => Bytes(F::Meta),
        (K::SubRefresh, 13) => Nested,

        (K::MapPublish | K::MapRemove, 12) => OtherText,
        (K::MapPublish, 13) => Bytes(F::Data),
        (K::MapPublish, 14) => Text(F::B64Data),
        (K::MapPublish, 15) => Bytes(F::Meta),
        (K::MapPublish, 16) => Nested,
        (K::MapRemove, 13) => Bytes(F::Meta),
        (K::MapRemove, 14) => Nested,
        _ => return None,
    })
}

/// Decodes the whole message for its verdict alone.
fn decode_whole(kind: EventKind, raw: &Bytes) -> Result<(), ScanError> {
    fn check<M: Message + Default>(raw: &Bytes) -> Result<(), ScanError> {
        M::decode(raw.clone())
            .map(|_| ())
            .map_err(|why| ScanError::Malformed(why.to_string()))
    }
    match kind {
        EventKind::Connect => check::<proxy::ConnectRequest>(raw),
        EventKind::Refresh => check::<proxy::RefreshRequest>(raw),
        EventKind::Subscribe | EventKind::Stream | EventKind::StreamBidirectional => {
            check::<proxy::SubscribeRequest>(raw)
        }
        EventKind::SubRefresh => check::<proxy::SubRefreshRequest>(raw),
        EventKind::Publish => check::<proxy::PublishRequest>(raw),
        EventKind::Rpc => check::<proxy::RpcRequest>(raw),
        EventKind::MapPublish => check::<proxy::MapPublishRequest>(raw),
        EventKind::MapRemove => check::<proxy::MapRemoveRequest>(raw),
        EventKind::SharedPollRefresh => check::<proxy::SharedPollRefreshRequest>(raw),
        EventKind::CacheEmpty => check::<proxy::NotifyCacheEmptyRequest>(raw),
        EventKind::ChannelState => check::<proxy::NotifyChannelStateRequest>(raw),
        EventKind::Raw => Ok(()),
    }
}

/// A cursor over protobuf wire format.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn tag(&mut self) -> Result<(u32, u8), ScanError> {
        let start = self.at;
        let key = self.varint()?;
        let key = u32::try_from(key).map_err(|_| ScanError::InvalidVarint(start))?;
        let (number, wire_type) = (key >> 3, (key & 7) as u8);
        if number == 0 || wire_type > 5 {
            return Err(ScanError::InvalidVarint(start));
        }
        Ok((number, wire_type))
    }

    fn varint(&mut self) -> Result<u64, ScanError> {
        let start = self.at;
        let mut value = 0_u64;
        for shift in 0..10 {
            let byte = *self
                .bytes
                .get(self.at)
                .ok_or(ScanError::Truncated(self.at))?;
            self.at += 1;
            if shift == 9 && byte > 1 {
                return Err(ScanError::InvalidVarint(start));
            }
            value |= u64::from(byte & 0x7f) << (7 * shift);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ScanError::InvalidVarint(start))
    }

    /// A length and that many bytes; answers their range.
    fn chunk(&mut self) -> Result<(usize, usize), ScanError> {
        let length = self.varint()?;
        let start = self.at;
        let rest = self.bytes.len() - start;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= rest);
        let length = length.ok_or(ScanError::Truncated(start))?;
        self.at += length;
        Ok((start, self.at))
    }

    fn skip(&mut self, wire_type: u8) -> Result<(), ScanError> {
        match wire_type {
            0 => self.varint().map(|_| ()),
            1 => self.advance(8),
            2 => self.chunk().map(|_| ()),
            _ => self.advance(4),
        }
    }

    /// Skips a group with everything nested in it.
    fn skip_groups(&mut self, wire_type: u8) -> Result<(), ScanError> {
        let mut depth = if wire_type == 3 { 1_u32 } else { 0 };
        while depth > 0 {
            let (_, wire_type) = self.tag()?;
            match wire_type {
                3 => depth += 1,
                4 => depth -= 1,
                other => self.skip(other)?,
            }
        }
        Ok(())
    }

    fn advance(&mut self, count: usize) -> Result<(), ScanError> {
        if self.bytes.len() - self.at < count {
            return Err(ScanError::Truncated(self.at));
        }
        self.at += count;
        Ok(())
    }
}

/// Whether the scan and the decoder of `E` agree on `raw`; for tests and fuzzing.
pub(crate) fn scan_agrees_with_decoder<E: Event>(raw: &[u8]) -> bool {
    let raw = Bytes::copy_from_slice(raw);
    Fields::scan(E::KIND, &raw).is_ok() == E::Request::decode(raw).is_ok()
}
