//! What the frozen types are made of: sequences and texts whose decoding reserves nothing ahead, and
//! the way between a type of this crate and its mirror.

use std::time::Duration;

use bincode::de::read::Reader;
use bincode::de::{BorrowDecode, BorrowDecoder, Decode, Decoder};
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError as Bad, EncodeError};

use super::{DECODE_LIMIT, DecodeError};

/// A mirror of `T` on the wire.
pub(super) trait Wire<T>: Sized {
    fn of(value: &T) -> Self;
    fn back(self) -> Result<T, DecodeError>;
}

/// The bytes of a mirror.
pub(super) fn write<W: Encode>(value: &W) -> Vec<u8> {
    let config = bincode::config::standard().with_limit::<DECODE_LIMIT>();
    bincode::encode_to_vec(value, config).expect("plain values always encode into memory")
}

/// Appends the bytes of a mirror.
pub(super) fn append<W: Encode>(value: &W, to: &mut Vec<u8>) {
    let config = bincode::config::standard().with_limit::<DECODE_LIMIT>();
    bincode::encode_into_std_write(value, to, config)
        .expect("plain values always encode into memory");
}

/// A mirror from all of these bytes.
pub(super) fn read<W: Decode<()>>(bytes: &[u8]) -> Result<W, DecodeError> {
    let config = bincode::config::standard().with_limit::<DECODE_LIMIT>();
    let (value, used) = bincode::decode_from_slice(bytes, config)
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(DecodeError::Trailing(left)),
    }
}

/// A mirror from all of these bytes, which it borrows from.
pub(super) fn read_borrowed<'a, W: BorrowDecode<'a, ()>>(
    bytes: &'a [u8],
) -> Result<W, DecodeError> {
    let config = bincode::config::standard().with_limit::<DECODE_LIMIT>();
    let (value, used) = bincode::borrow_decode_from_slice(bytes, config)
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(DecodeError::Trailing(left)),
    }
}

/// A sequence: its length, then its items. It grows as items arrive.
#[derive(Debug)]
pub(super) struct Seq<W>(pub(super) Vec<W>);

impl<W: Encode> Encode for Seq<W> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.0.len() as u64).encode(encoder)?;
        self.0.iter().try_for_each(|item| item.encode(encoder))
    }
}

impl<C, W: Decode<C>> Decode<C> for Seq<W> {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, Bad> {
        let length = u64::decode(decoder)?;
        let mut items = Vec::new();
        for _ in 0..length {
            items.push(W::decode(decoder)?);
        }
        Ok(Self(items))
    }
}

impl<'de, C, W: BorrowDecode<'de, C>> BorrowDecode<'de, C> for Seq<W> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, Bad> {
        let length = u64::decode(decoder)?;
        let mut items = Vec::new();
        for _ in 0..length {
            items.push(W::borrow_decode(decoder)?);
        }
        Ok(Self(items))
    }
}

/// UTF-8 text: its length in bytes, then the bytes, read piece by piece.
#[derive(Debug)]
pub(super) struct Text(pub(super) String);

impl Encode for Text {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.0.as_bytes().encode(encoder)
    }
}

impl<C> Decode<C> for Text {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, Bad> {
        const PIECE: usize = 256;
        let length = u64::decode(decoder)?;
        let mut left = usize::try_from(length).map_err(|_| Bad::LimitExceeded)?;
        decoder.claim_bytes_read(left)?;
        let mut text = Vec::new();
        while left > 0 {
            let mut piece = [0; PIECE];
            let now = left.min(PIECE);
            let (piece, _) = piece.split_at_mut(now);
            decoder.reader().read(piece)?;
            text.extend_from_slice(piece);
            left -= now;
        }
        String::from_utf8(text)
            .map(Self)
            .map_err(|error| Bad::Utf8 {
                inner: error.utf8_error(),
            })
    }
}

bincode::impl_borrow_decode!(Text);

impl<T, W: Wire<T>> Wire<Vec<T>> for Seq<W> {
    fn of(value: &Vec<T>) -> Self {
        Self(value.iter().map(W::of).collect())
    }
    fn back(self) -> Result<Vec<T>, DecodeError> {
        self.0.into_iter().map(W::back).collect()
    }
}

impl<T, W: Wire<T>> Wire<Option<T>> for Option<W> {
    fn of(value: &Option<T>) -> Self {
        value.as_ref().map(W::of)
    }
    fn back(self) -> Result<Option<T>, DecodeError> {
        self.map(W::back).transpose()
    }
}

impl<A, B, V: Wire<A>, W: Wire<B>> Wire<(A, B)> for (V, W) {
    fn of(value: &(A, B)) -> Self {
        (V::of(&value.0), W::of(&value.1))
    }
    fn back(self) -> Result<(A, B), DecodeError> {
        Ok((self.0.back()?, self.1.back()?))
    }
}

impl Wire<String> for Text {
    fn of(value: &String) -> Self {
        Self(value.clone())
    }
    fn back(self) -> Result<String, DecodeError> {
        Ok(self.0)
    }
}

/// Nanoseconds.
impl Wire<Duration> for u64 {
    fn of(value: &Duration) -> Self {
        Self::try_from(value.as_nanos()).unwrap_or(Self::MAX)
    }
    fn back(self) -> Result<Duration, DecodeError> {
        Ok(Duration::from_nanos(self))
    }
}

/// A number of things.
impl Wire<usize> for u64 {
    fn of(value: &usize) -> Self {
        Self::try_from(*value).unwrap_or(Self::MAX)
    }
    fn back(self) -> Result<usize, DecodeError> {
        usize::try_from(self).map_err(|_| DecodeError::Range { what: "number" })
    }
}

/// Values that are on the wire as they are.
macro_rules! plain {
    ($($kind:ty),+) => {$(
        impl Wire<$kind> for $kind {
            fn of(value: &$kind) -> Self {
                *value
            }
            fn back(self) -> Result<$kind, DecodeError> {
                Ok(self)
            }
        }
    )+};
}

/// Numbers with a type of their own here.
macro_rules! number {
    ($($kind:ident: $inner:ty),+) => {$(
        impl Wire<crate::$kind> for $inner {
            fn of(value: &crate::$kind) -> Self {
                value.0
            }
            fn back(self) -> Result<crate::$kind, DecodeError> {
                Ok(crate::$kind(self))
            }
        }
    )+};
}

/// A frozen struct and the type of this crate that it mirrors field by field.
macro_rules! mirror {
    ($(#[$doc:meta])* $name:ident = $kind:ty { $($field:ident: $wire:ty),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, bincode::Encode, bincode::Decode)]
        struct $name {
            $($field: $wire),+
        }

        impl Wire<$kind> for $name {
            fn of(value: &$kind) -> Self {
                Self { $($field: Wire::of(&value.$field)),+ }
            }
            fn back(self) -> Result<$kind, DecodeError> {
                type Here = $kind;
                Ok(Here { $($field: Wire::back(self.$field)?),+ })
            }
        }
    };
}

/// A frozen enum without values and the one that it mirrors.
macro_rules! mirror_names {
    ($name:ident = $kind:ty { $($variant:ident),+ $(,)? }) => {
        #[derive(Debug, bincode::Encode, bincode::Decode)]
        enum $name {
            $($variant),+
        }

        impl Wire<$kind> for $name {
            fn of(value: &$kind) -> Self {
                match value { $(<$kind>::$variant => Self::$variant),+ }
            }
            fn back(self) -> Result<$kind, DecodeError> {
                Ok(match self { $(Self::$variant => <$kind>::$variant),+ })
            }
        }
    };
}

/// A frozen enum whose variants hold values in order, and the one that it mirrors.
macro_rules! mirror_variants {
    ($name:ident = $kind:ty { $($variant:ident($($field:ident: $wire:ty),+)),+ $(,)? }) => {
        #[derive(Debug, bincode::Encode, bincode::Decode)]
        enum $name {
            $($variant($($wire),+)),+
        }

        impl Wire<$kind> for $name {
            fn of(value: &$kind) -> Self {
                type Here = $kind;
                match value {
                    $(Here::$variant($($field),+) => Self::$variant($(Wire::of($field)),+)),+
                }
            }
            fn back(self) -> Result<$kind, DecodeError> {
                type Here = $kind;
                Ok(match self {
                    $(Self::$variant($($field),+) => {
                        Here::$variant($(Wire::back($field)?),+)
                    })+
                })
            }
        }
    };
}

plain!(bool, u8, u16, u32, u64);
number!(NodeId: u32, OwnerEpoch: u64, Incarnation: u64, MoveId: u64, BootId: u128, DataId: u128, ClusterId: u128);

pub(super) use {mirror, mirror_names, mirror_variants};
