//! goridge: the frames between a host and its workers, and between a worker and the host's RPC.
//!
//! A frame is a header of 12 bytes, options (`u32` each), and a payload; all numbers are
//! little-endian. There is no request id: a peer that sends one frame too many shifts every later
//! answer, so whoever reads must know what is due. The wire is that of RoadRunner and its PHP
//! libraries.
//!
//! ```text
//! 0        1      2..6            6..10                  10       11
//! 1 │ HL   flags  payload length  CRC-32 of bytes 0..6   stream   0     options (HL - 3) × u32, payload
//! ```
//!
//! HL counts the words of header and options, 3 to 13. What [`Decoder`] accepts is exactly what
//! [`Frame::encode`] can write, but for the version nibble (read, not judged) and byte 11 (ignored).

mod decode;
mod views;

pub use decode::{Decoder, FrameError};
pub use views::{Call, ViewError, Work};

use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;

/// Bytes of a header without options.
pub const HEADER: usize = 12;
/// The most options that a frame can have.
pub const MAX_OPTIONS: usize = 10;
/// The version that everybody writes.
const VERSION: u8 = 1;
/// Words of a header without options.
const WORDS: u8 = 3;

/// What a frame is (byte 1): management or not, an error or not, and the codec of its payload.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// No bit: an answer of a worker.
    pub const NONE: Self = Self(0);
    /// Management of a worker: pid, stop.
    pub const CONTROL: Self = Self(0x01);
    /// The payload is bytes as they are.
    pub const RAW: Self = Self(0x04);
    /// The payload is JSON.
    pub const JSON: Self = Self(0x08);
    /// The payload is msgpack.
    pub const MSGPACK: Self = Self(0x10);
    /// The payload is a gob, Go's own encoding.
    pub const GOB: Self = Self(0x20);
    /// The payload is the text of an error.
    pub const ERROR: Self = Self(0x40);
    /// The payload is protobuf.
    pub const PROTO: Self = Self(0x80);

    const CODECS: u8 = 0xbc;

    /// Whether all bits of the other are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The codec bits alone.
    #[must_use]
    pub const fn codec(self) -> Self {
        Self(self.0 & Self::CODECS)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({:#04x})", self.0)
    }
}

/// How a frame belongs to a streamed answer (byte 10, outside of the checksum).
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Stream(pub u8);

impl Stream {
    /// No stream.
    pub const NONE: Self = Self(0);
    /// More frames of this answer follow.
    pub const MORE: Self = Self(0x01);
    /// To the worker: produce no more.
    pub const STOP: Self = Self(0x02);
    /// To the host: answer with a pong.
    pub const PING: Self = Self(0x04);
    /// To the worker: the answer to a ping.
    pub const PONG: Self = Self(0x08);

    /// Whether all bits of the other are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({:#04x})", self.0)
    }
}

/// The options of a frame, ten at most.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    values: [u32; MAX_OPTIONS],
    count: u8,
}

impl Options {
    /// These options; those beyond the tenth do not fit and make it `None`.
    pub fn new(values: &[u32]) -> Option<Self> {
        let mut options = Self::default();
        options
            .values
            .get_mut(..values.len())?
            .copy_from_slice(values);
        options.count = u8::try_from(values.len()).ok()?;
        Some(options)
    }

    const fn one(value: u32) -> Self {
        let mut values = [0; MAX_OPTIONS];
        values[0] = value;
        Self { values, count: 1 }
    }

    const fn two(first: u32, second: u32) -> Self {
        let mut values = [0; MAX_OPTIONS];
        values[0] = first;
        values[1] = second;
        Self { values, count: 2 }
    }

    /// The options in order.
    pub fn as_slice(&self) -> &[u32] {
        &self.values[..usize::from(self.count)]
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frame {
    /// What it is.
    pub flags: Flags,
    /// How it belongs to a stream.
    pub stream: Stream,
    /// Its options.
    pub options: Options,
    /// What follows the options.
    pub payload: Bytes,
}

/// A payload that a frame can't carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame carries at most 4294967295 bytes, not {0}")]
pub struct TooLong(pub usize);

impl Frame {
    /// The question for the worker's process id: the handshake, and the fence behind a request.
    pub fn pid(pid: u32) -> Self {
        Self::control(format!("{{\"pid\":{pid}}}"))
    }

    /// Asks a worker to finish what it has and to exit.
    pub fn stop() -> Self {
        Self::control("{\"stop\":true}")
    }

    fn control(json: impl Into<Bytes>) -> Self {
        Self {
            flags: Flags::CONTROL.and(Flags::JSON),
            payload: json.into(),
            ..Self::default()
        }
    }

    /// An error in words, as a worker tells it.
    pub fn error(text: &str) -> Self {
        Self {
            flags: Flags::ERROR,
            payload: Bytes::copy_from_slice(text.as_bytes()),
            ..Self::default()
        }
    }

    /// Tells a worker that streams its answer to produce no more.
    pub fn stream_stop() -> Self {
        Self {
            stream: Stream::STOP,
            ..Self::default()
        }
    }

    /// The answer to a worker's ping.
    pub fn pong() -> Self {
        Self {
            stream: Stream::PONG,
            ..Self::default()
        }
    }

    /// A request to a worker, or its answer: a context, then a body.
    ///
    /// # Errors
    /// Both together are too long.
    pub fn work(flags: Flags, context: &[u8], body: &[u8]) -> Result<Self, TooLong> {
        let (at, payload) = joined(context, body)?;
        Ok(Self {
            flags,
            options: Options::one(at),
            payload,
            ..Self::default()
        })
    }

    /// Appends a request or an answer as [`Frame::work`] makes it, without a copy between.
    ///
    /// # Errors
    /// Both parts together are too long; nothing is appended.
    pub fn put_work(
        out: &mut BytesMut,
        flags: Flags,
        context: &[u8],
        body: &[u8],
    ) -> Result<(), TooLong> {
        let len = context.len().saturating_add(body.len());
        let fits = |len: usize| u32::try_from(len).map_err(|_| TooLong(len));
        let (whole, at) = (fits(len)?, fits(context.len())?);
        out.reserve(HEADER + 4 + len);
        put_head(out, flags, Stream::NONE, Options::one(at), whole);
        out.put_slice(context);
        out.put_slice(body);
        Ok(())
    }

    /// A call of the RPC server, or its answer: a method, then its argument or result.
    ///
    /// # Errors
    /// Both together are too long.
    pub fn call(flags: Flags, seq: u32, method: &str, body: &[u8]) -> Result<Self, TooLong> {
        let (at, payload) = joined(method.as_bytes(), body)?;
        Ok(Self {
            flags,
            options: Options::two(seq, at),
            payload,
            ..Self::default()
        })
    }

    /// Bytes that the frame takes on the wire.
    pub fn wire_len(&self) -> usize {
        HEADER + 4 * self.options.as_slice().len() + self.payload.len()
    }

    /// Appends the frame as it goes over the wire: one buffer, for one write. A PHP worker on pipes
    /// dies of a header that comes in two pieces.
    ///
    /// # Errors
    /// The payload is too long; nothing is appended.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), TooLong> {
        let len = u32::try_from(self.payload.len()).map_err(|_| TooLong(self.payload.len()))?;
        out.reserve(self.wire_len());
        put_head(out, self.flags, self.stream, self.options, len);
        out.put_slice(&self.payload);
        Ok(())
    }
}

/// Writes header and options.
fn put_head(out: &mut BytesMut, flags: Flags, stream: Stream, options: Options, len: u32) {
    let mut head = [0; 6];
    head[0] = (VERSION << 4) | (WORDS + options.count);
    head[1] = flags.0;
    head[2..].copy_from_slice(&len.to_le_bytes());
    out.put_slice(&head);
    out.put_u32_le(crc32fast::hash(&head));
    out.put_slice(&[stream.0, 0]);
    for option in options.as_slice() {
        out.put_u32_le(*option);
    }
}

/// Two parts as one payload, and where the second begins.
fn joined(first: &[u8], second: &[u8]) -> Result<(u32, Bytes), TooLong> {
    let len = first.len().saturating_add(second.len());
    let fits = |len: usize| u32::try_from(len).map_err(|_| TooLong(len));
    fits(len)?;
    let mut payload = BytesMut::with_capacity(len);
    payload.put_slice(first);
    payload.put_slice(second);
    Ok((fits(first.len())?, payload.freeze()))
}
