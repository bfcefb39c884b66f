//! The values of a slot as bytes, for a planned move: pieces of at most 1 MiB.
//!
//! A piece is one byte for the form (1), then entries: length of the key (u32), key, version (u64),
//! length of the value (u32), value; numbers are little-endian. What does not fit this to the last
//! byte is corrupt as a whole.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::StoreError;

/// A piece is at most so long, unless one value alone is longer.
const PIECE: usize = 1024 * 1024;
/// The form that is written.
const FORM: u8 = 1;
/// Bytes of an entry beside key and value.
const FRAME: usize = 16;

/// A key, its value and how often that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Bytes,
    pub(super) version: u64,
    pub(super) value: Bytes,
}

/// Entries in pieces, in their order; none make no piece.
pub(super) fn pack(entries: impl Iterator<Item = Entry>) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut piece = BytesMut::new();
    for entry in entries {
        let length = FRAME + entry.key.len() + entry.value.len();
        if !piece.is_empty() && piece.len() + length > PIECE {
            pieces.push(piece.split().freeze());
        }
        if piece.is_empty() {
            piece.put_u8(FORM);
        }
        put(&mut piece, &entry.key);
        piece.put_u64_le(entry.version);
        put(&mut piece, &entry.value);
    }
    if !piece.is_empty() {
        pieces.push(piece.freeze());
    }
    pieces
}

fn put(piece: &mut BytesMut, bytes: &[u8]) {
    // No request, and so no value, is near 4 GiB (`limits.message_bytes`).
    piece.put_u32_le(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    piece.put_slice(bytes);
}

/// The entries of pieces.
///
/// # Errors
/// `Corrupt`, with the place.
pub(super) fn unpack(pieces: &[Bytes]) -> Result<Vec<Entry>, StoreError> {
    let mut entries = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let corrupt = |what: &str| StoreError::Corrupt(format!("piece {index}: {what}"));
        let mut rest = piece.clone();
        match rest.try_get_u8() {
            Ok(FORM) => {}
            Ok(form) => return Err(corrupt(&format!("form {form}, where {FORM} is known"))),
            Err(_) => return Err(corrupt("it is empty")),
        }
        while rest.has_remaining() {
            let cut = |_| corrupt("it ends within an entry");
            let key = take(&mut rest).map_err(cut)?;
            let version = rest.try_get_u64_le().map_err(|_| cut(()))?;
            let value = take(&mut rest).map_err(cut)?;
            entries.push(Entry {
                key,
                version,
                value,
            });
        }
    }
    Ok(entries)
}

fn take(rest: &mut Bytes) -> Result<Bytes, ()> {
    let length = rest.try_get_u32_le().map_err(|_| ())? as usize;
    if rest.remaining() < length {
        return Err(());
    }
    Ok(rest.split_to(length))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn entry(key: Vec<u8>, version: u64, value: Vec<u8>) -> Entry {
        Entry {
            key: key.into(),
            version,
            value: value.into(),
        }
    }

    #[test]
    fn pieces_are_at_most_a_mebibyte_and_a_larger_value_goes_alone() {
        let sizes = [PIECE / 2, PIECE / 2, 10, PIECE * 2, 10];
        let entries = sizes.map(|size| entry(vec![1], 1, vec![7; size]));
        let pieces = pack(entries.iter().cloned());
        let lengths: Vec<_> = pieces.iter().map(|piece| piece.len() <= PIECE).collect();
        assert_eq!(lengths, [true, true, false, true]);
        assert_eq!(unpack(&pieces).unwrap(), entries);
        assert!(pack(std::iter::empty()).is_empty());
    }

    #[test]
    fn another_form_and_an_empty_piece_are_corrupt() {
        for piece in [&b""[..], b"\x02"] {
            let corrupt = unpack(&[Bytes::from_static(piece)]);
            assert!(
                matches!(corrupt, Err(StoreError::Corrupt(_))),
                "{corrupt:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked_and_a_cut_is_noticed(
            all in proptest::collection::vec(
                (proptest::collection::vec(any::<u8>(), 0..20), any::<u64>(),
                 proptest::collection::vec(any::<u8>(), 0..20)), 1..10),
            cut in 1_usize..16,
        ) {
            let entries: Vec<_> = all.into_iter().map(|(k, v, b)| entry(k, v, b)).collect();
            let pieces = pack(entries.iter().cloned());
            prop_assert_eq!(unpack(&pieces).unwrap(), entries);
            let piece = &pieces[0];
            let short = piece.slice(..piece.len() - cut.min(piece.len()));
            // Only a cut between two entries leaves a piece that is whole.
            if let Ok(left) = unpack(std::slice::from_ref(&short)) {
                let again = pack(left.into_iter()).pop();
                prop_assert_eq!(again.unwrap_or(Bytes::from_static(&[FORM])), short);
            }
        }

        #[test]
        fn garbage_is_refused_or_makes_entries_and_never_panics(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut piece = vec![FORM];
            piece.extend(bytes);
            drop(unpack(&[piece.into()]));
        }
    }
}
