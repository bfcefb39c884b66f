//! Bytes of what is kept or sent, and the only user of bincode.
//!
//! What is kept in a file or a snapshot begins with a format byte and a checksum; messages on links
//! do not. The frozen types
//! of each format live in a module of their own (`v1`): a change is a new module beside it. Decoding
//! is bounded: nothing is reserved for a length before as many bytes have been read.

#[cfg(test)]
mod tests;
mod v1;
mod wire;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::admin::{Ask, Told};
use crate::peer::{Control, Envelope, Hello};
use crate::{Command, Delta, InvalidTable, Table};

/// The largest message that is decoded, in bytes.
pub const DECODE_LIMIT: usize = 64 * 1024 * 1024;

/// The most envelopes that a frame holds.
pub(crate) const BATCH_LIMIT: usize = 128;

const FORMAT: u8 = 1;
const HEAD: usize = 9;

/// Why bytes were not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There are too few of them.
    #[error("{0} bytes: cut short")]
    CutShort(usize),
    /// They are in a format that this build does not know.
    #[error("format {0}: this build knows format {FORMAT}; upgrade this node")]
    Format(u8),
    /// They have changed since they were written.
    #[error("checksum differs: the bytes have changed since they were written")]
    Checksum,
    /// They are no value of the kind that was expected.
    #[error("malformed: {0}")]
    Malformed(String),
    /// A value lies outside of what is allowed.
    #[error("{what} out of range")]
    Range {
        /// Which value.
        what: &'static str,
    },
    /// They go on beyond the value.
    #[error("{0} bytes too many")]
    Trailing(usize),
    /// They hold a table that cannot be.
    #[error("invalid table: {0}")]
    Table(#[from] InvalidTable),
}

/// A table with its format byte and checksum.
pub(crate) fn encode_table(table: &Table) -> Vec<u8> {
    seal(&v1::table(table))
}

/// A table that [`encode_table`] wrote.
pub(crate) fn decode_table(bytes: &[u8]) -> Result<Table, DecodeError> {
    v1::read_table(open(bytes)?)
}

impl Command {
    /// The command as bytes, with format byte and checksum.
    pub fn encode(&self) -> Vec<u8> {
        seal(&v1::command(self))
    }

    /// A command from bytes.
    ///
    /// # Errors
    /// If they are cut short, changed, of another format, or no command.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        v1::read_command(open(bytes)?)
    }
}

impl Delta {
    /// The delta as bytes, with format byte and checksum.
    pub fn encode(&self) -> Vec<u8> {
        seal(&v1::delta(self))
    }

    /// A delta from bytes.
    ///
    /// # Errors
    /// If they are cut short, changed, of another format, or no delta.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        v1::read_delta(open(bytes)?)
    }
}

impl Control {
    /// The message as bytes. Links have checksums of their own and agree on a version: none here.
    pub fn encode(&self) -> Vec<u8> {
        v1::control(self)
    }

    /// A message from bytes. A table in it is one that commands can have led to.
    ///
    /// # Errors
    /// If they are cut short, too many, or no message.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let control = v1::read_control(bytes)?;
        if let Self::Table(table) = &control {
            table.check()?;
        }
        Ok(control)
    }
}

impl Ask {
    /// The question as bytes. Links have checksums of their own and agree on a version: none here.
    pub fn encode(&self) -> Vec<u8> {
        v1::ask(self)
    }

    /// A question from bytes.
    ///
    /// # Errors
    /// If they are cut short, too many, or no question.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        v1::read_ask(bytes)
    }
}

impl Told {
    /// The answer as bytes, without a checksum.
    pub fn encode(&self) -> Vec<u8> {
        v1::told(self)
    }

    /// An answer from bytes.
    ///
    /// # Errors
    /// If they are cut short, too many, or no answer.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        v1::read_told(bytes)
    }
}

impl Hello {
    /// The greeting as bytes: what the proofs of a handshake are made over.
    pub(crate) fn encode(&self) -> Vec<u8> {
        v1::hello(self)
    }

    /// A greeting from bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        v1::read_hello(bytes)
    }
}

impl Envelope {
    /// Appends the body of a frame.
    pub(crate) fn encode_batch(batch: &[Self], to: &mut Vec<u8>) {
        v1::batch(batch, to);
    }

    /// The envelopes of a frame; their payloads share its memory.
    pub(crate) fn decode_batch(body: &Bytes) -> Result<Vec<Self>, DecodeError> {
        v1::read_batch(body)
    }
}

/// A record of Raft's store as bytes, with format byte and checksum.
pub(crate) fn encode_record(record: &impl v1::Record) -> Vec<u8> {
    seal(&record.bytes())
}

/// A record that [`encode_record`] wrote.
pub(crate) fn decode_record<R: v1::Record>(bytes: &[u8]) -> Result<R, DecodeError> {
    R::from_bytes(open(bytes)?)
}

/// A call or an answer of Raft as bytes. Links have checksums of their own: none here.
pub(crate) fn encode_rpc(rpc: &impl v1::Record) -> Vec<u8> {
    rpc.bytes()
}

/// A call or an answer of Raft from bytes.
pub(crate) fn decode_rpc<R: v1::Record>(bytes: &[u8]) -> Result<R, DecodeError> {
    R::from_bytes(bytes)
}

fn seal(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + body.len());
    bytes.push(FORMAT);
    bytes.extend_from_slice(&xxh3_64(body).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn open(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    let cut = || DecodeError::CutShort(bytes.len());
    let (format, rest) = bytes.split_first().ok_or_else(cut)?;
    if *format != FORMAT {
        return Err(DecodeError::Format(*format));
    }
    let (sum, body) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
    if xxh3_64(body) != u64::from_le_bytes(*sum) {
        return Err(DecodeError::Checksum);
    }
    Ok(body)
}
