//! A gRPC codec that leaves messages as bytes, so that nothing of them is lost.

use bytes::{Buf, BufMut, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Messages as bytes, in buffers of a size that suits the method.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BytesCodec(BufferSettings);

impl BytesCodec {
    /// For calls with one message each way: small events in one piece.
    pub(crate) fn unary() -> Self {
        Self(BufferSettings::new(1024, 32 * 1024))
    }

    /// For streams, of which many are open and silent: they hold as little as possible.
    pub(crate) fn stream() -> Self {
        Self(BufferSettings::new(64, 8 * 1024))
    }
}

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.reserve(message.len());
        to.put(message);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0
    }
}
