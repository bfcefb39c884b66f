//! Reading frames from bytes that come in any pieces, and may be no frames at all.

use super::{Flags, Frame, HEADER, MAX_OPTIONS, Options, Stream, WORDS};
use bytes::{Buf, Bytes, BytesMut};

/// What is kept of bytes that are no frame, for the log.
const NOISE: usize = 4096;
/// How PHP begins when it can't find its script.
const NO_SCRIPT: &[u8; HEADER] = b"Could not op";

/// Why bytes are no frame. What follows in the same stream can't be read either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The checksum does not fit: something else than frames was written into the stream.
    #[error(
        "{} came where a frame was due (its checksum does not fit); a worker must write nothing to \
         stdout but frames", shown(.0)
    )]
    Noise(Bytes),
    /// PHP says that there is no script.
    #[error("{}", String::from_utf8_lossy(.0).trim())]
    NoScript(Bytes),
    /// The header names a length of its own that can't be.
    #[error("a header of {0} words, where 3 to 13 are possible")]
    HeaderLength(u8),
    /// The payload is longer than allowed.
    #[error("a payload of {length} bytes, where at most {limit} are taken")]
    TooLong {
        /// Bytes that the header promises.
        length: u32,
        /// Bytes that are taken.
        limit: usize,
    },
    /// The stream ended within a frame.
    #[error("the stream ended within a frame, after {0} of its bytes")]
    Cut(usize),
}

/// Noise as the log shows it.
fn shown(noise: &Bytes) -> String {
    let text = String::from_utf8_lossy(noise);
    let text: String = text.chars().flat_map(char::escape_debug).collect();
    format!("\"{text}\"")
}

/// A header that has been read.
#[derive(Debug, Clone, Copy)]
struct Head {
    version: u8,
    flags: Flags,
    stream: Stream,
    options: usize,
    length: usize,
}

/// Reads frames. The checksum is looked at as soon as twelve bytes are there, before anything that
/// they promise is believed, and nothing is allocated for bytes that have not come.
#[derive(Debug, Clone)]
pub struct Decoder {
    limit: usize,
    head: Option<Head>,
    odd_version: Option<u8>,
    is_odd_told: bool,
    failed: Option<FrameError>,
}

impl Decoder {
    /// A decoder that takes payloads of so many bytes.
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            head: None,
            odd_version: None,
            is_odd_told: false,
            failed: None,
        }
    }

    /// The next frame, if all of it is there; its bytes are taken from `bytes`.
    ///
    /// # Errors
    /// The bytes are no frame. From then on every call answers the same.
    pub fn next(&mut self, bytes: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let head = match self.head {
            Some(head) => head,
            None => match self.head(bytes) {
                Ok(Some(head)) => {
                    bytes.advance(HEADER);
                    self.head = Some(head);
                    head
                }
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.failed = Some(error.clone());
                    return Err(error);
                }
            },
        };
        if bytes.len() < 4 * head.options + head.length {
            return Ok(None);
        }
        let mut values = [0; MAX_OPTIONS];
        for value in values.iter_mut().take(head.options) {
            *value = bytes.get_u32_le();
        }
        self.head = None;
        Ok(Some(Frame {
            flags: head.flags,
            stream: head.stream,
            options: Options::new(&values[..head.options]).unwrap_or_default(),
            payload: bytes.split_to(head.length).freeze(),
        }))
    }

    /// Whether the stream may end here.
    ///
    /// # Errors
    /// It may not: a frame has begun. What a program that is no worker wrote in fewer than twelve
    /// bytes is noise.
    pub fn end(&self, rest: &BytesMut) -> Result<(), FrameError> {
        match (&self.failed, self.head, rest.len()) {
            (Some(failed), ..) => Err(failed.clone()),
            (None, None, 0) => Ok(()),
            (None, None, _) if !looks_like_a_head(rest) => Err(noise(rest)),
            (None, None, read) => Err(FrameError::Cut(read)),
            (None, Some(_), read) => Err(FrameError::Cut(HEADER + read)),
        }
    }

    /// The first version seen that is not 1, for one line in the log: told once, and `None` from then on.
    pub const fn odd_version(&mut self) -> Option<u8> {
        if self.is_odd_told {
            return None;
        }
        self.is_odd_told = self.odd_version.is_some();
        self.odd_version
    }

    /// Whether a frame has begun and is not complete.
    pub fn is_within(&self, rest: &BytesMut) -> bool {
        self.head.is_some() || !rest.is_empty()
    }

    fn head(&mut self, bytes: &BytesMut) -> Result<Option<Head>, FrameError> {
        let Some(head) = bytes.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [first, flags, l0, l1, l2, l3, c0, c1, c2, c3, stream, _] = *head;
        if crc32fast::hash(&head[..6]) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(if head == NO_SCRIPT {
                FrameError::NoScript(start(bytes))
            } else {
                noise(bytes)
            });
        }
        let words = first & 0x0f;
        let options = words.checked_sub(WORDS).map(usize::from);
        let options = options.filter(|count| *count <= MAX_OPTIONS);
        let options = options.ok_or(FrameError::HeaderLength(words))?;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let limit = self.limit;
        let taken = usize::try_from(length).ok().filter(|it| *it <= limit);
        let head = Head {
            version: first >> 4,
            flags: Flags(flags),
            stream: Stream(stream),
            options,
            length: taken.ok_or(FrameError::TooLong { length, limit })?,
        };
        if head.version != super::VERSION && self.odd_version.is_none() {
            self.odd_version = Some(head.version);
        }
        Ok(Some(head))
    }
}

fn noise(bytes: &BytesMut) -> FrameError {
    FrameError::Noise(start(bytes))
}

fn start(bytes: &BytesMut) -> Bytes {
    Bytes::copy_from_slice(&bytes[..bytes.len().min(NOISE)])
}

/// Whether the first byte is one that frames have.
fn looks_like_a_head(bytes: &[u8]) -> bool {
    bytes
        .first()
        .is_some_and(|first| first >> 4 == super::VERSION && first & 0x0f >= WORDS)
}
