//! Reads and writes single fields of encoded messages, so that commands and results travel through
//! batches as the bytes they are.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{decode_varint, encode_varint, encoded_len_varint};

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

/// The fields of a message that have bytes, in order: number and bytes. Ends with `None` at the end
/// and with an error where the message is malformed.
#[derive(Debug)]
pub(super) struct Fields(Bytes);

/// The bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl Fields {
    /// The fields of a message.
    pub(super) const fn of(message: Bytes) -> Self {
        Self(message)
    }

    fn next_field(&mut self) -> Result<Option<(u32, Bytes)>, Malformed> {
        loop {
            if self.0.is_empty() {
                return Ok(None);
            }
            let tag = self.varint()?;
            let number = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
            match tag & 7 {
                VARINT => drop(self.varint()?),
                FIXED64 => self.skip(8)?,
                FIXED32 => self.skip(4)?,
                LENGTH => {
                    let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                    if length > self.0.len() {
                        return Err(Malformed);
                    }
                    return Ok(Some((number, self.0.split_to(length))));
                }
                _ => return Err(Malformed),
            }
        }
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        decode_varint(&mut self.0).map_err(|_| Malformed)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Malformed> {
        if bytes > self.0.len() {
            return Err(Malformed);
        }
        self.0.advance(bytes);
        Ok(())
    }
}

impl Iterator for Fields {
    type Item = Result<(u32, Bytes), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_field();
        if next.is_err() {
            // Nothing after it can be told apart.
            self.0.clear();
        }
        next.transpose()
    }
}

/// The last bytes under a number, which is what counts for a field that may stand once.
pub(super) fn last(message: &Bytes, number: u32) -> Option<Bytes> {
    let fields = Fields::of(message.clone()).filter_map(Result::ok);
    fields
        .filter(|(at, _)| *at == number)
        .map(|(_, it)| it)
        .last()
}

/// How many bytes a field takes.
pub(super) fn field_len(number: u32, length: usize) -> usize {
    encoded_len_varint(u64::from(number) << 3) + encoded_len_varint(length as u64) + length
}

/// Writes the head of a field; its bytes follow.
pub(super) fn put_head(number: u32, length: usize, to: &mut impl BufMut) {
    encode_varint(u64::from(number) << 3 | LENGTH, to);
    encode_varint(length as u64, to);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn fields_are_read_as_they_were_written() {
        let mut message = Vec::new();
        encode_varint(8, &mut message); // field 1, a number
        encode_varint(300, &mut message);
        for (number, text) in [(2, "a"), (42, ""), (2, "bc")] {
            let before = message.len();
            put_head(number, text.len(), &mut message);
            message.extend_from_slice(text.as_bytes());
            assert_eq!(message.len() - before, field_len(number, text.len()));
        }
        let message = Bytes::from(message);
        let fields: Vec<_> = Fields::of(message.clone()).map(Result::unwrap).collect();
        let read = [(2, "a".into()), (42, Bytes::new()), (2, "bc".into())];
        assert_eq!(fields, read);
        assert_eq!(last(&message, 2), Some("bc".into()));
        assert_eq!(last(&message, 3), None);
    }

    #[test]
    fn a_cut_message_is_malformed_and_ends() {
        let mut fields = Fields::of(Bytes::from_static(&[0x12, 5, b'a']));
        assert_eq!(fields.next(), Some(Err(Malformed)));
        assert_eq!(fields.next(), None);
        let groups = Fields::of(Bytes::from_static(&[0x13])).next();
        assert_eq!(groups, Some(Err(Malformed)));
    }
}
