//! Frames of an open link: a length, a checksum, and a batch of envelopes.
//!
//! ```text
//! length u32 LE │ xxh3-64 of the body, LE │ body: bincode, 1 to 128 envelopes
//! ```
//!
//! Nothing is reserved for a length before as many bytes have come.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use xxhash_rust::xxh3::xxh3_64;

use super::hello::LinkError;
use crate::codec::BATCH_LIMIT;

/// The bytes before the body of a frame.
pub(crate) const FRAME_HEAD: usize = 12;
/// A batch is closed when it holds so many bytes.
pub(crate) const BATCH_BYTES: usize = 64 * 1024;
/// What a frame may be longer than the payload of its largest envelope, in bytes.
pub(crate) const FRAME_SLACK: usize = 1024 * 1024;
const READ_STEP: usize = 64 * 1024;
const READ_LEAST: usize = 4 * 1024;

/// What an answer says; the rest is in its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The handler answered.
    Answered,
    /// It did not start: the payload says why, in the handler's words.
    NotStarted,
    /// It arrived after its deadline, or its sender waits no more, and it did not start.
    Expired,
    /// It started, and its handler went away without an answer.
    Dropped,
}

impl Outcome {
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    pub(crate) const fn of(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Answered),
            1 => Some(Self::NotStarted),
            2 => Some(Self::Expired),
            3 => Some(Self::Dropped),
            _ => None,
        }
    }
}

/// One item of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Envelope {
    /// Asks for an answer.
    Request {
        /// Rises per dialling life and class.
        id: u64,
        /// What is left until its deadline, in ms.
        deadline_ms: u32,
        /// What the payload is, in the user's terms.
        kind: u8,
        /// Whether the answer may be a stream.
        stream: bool,
        /// The request itself.
        payload: Bytes,
    },
    /// Wants none.
    Cast {
        /// What the payload is, in the user's terms.
        kind: u8,
        /// The message itself.
        payload: Bytes,
    },
    /// The answer to a request.
    Reply {
        /// Its id.
        id: u64,
        /// An [`Outcome`].
        outcome: u8,
        /// How much the answering node has in flight.
        load: u32,
        /// The answer itself.
        payload: Bytes,
    },
    /// A request is taken and will go on for long: its credit comes back now.
    Accepted {
        /// Its id.
        id: u64,
    },
    /// The listener opens the link, and names what it has started on older ones.
    Welcome {
        /// The version of the protocol.
        protocol: u16,
        /// Ids of requests.
        started: Vec<u64>,
    },
    /// The listener refuses the link.
    Refused {
        /// Why, in words.
        why: String,
    },
    /// These answers have arrived and need not be kept.
    Confirm {
        /// Ids of requests.
        ids: Vec<u64>,
    },
    /// A sign of life.
    Ping,
    /// The dialler closes; nothing is missing.
    Bye,
    /// A request is answered with a stream: its credit comes back, both directions are open.
    StreamOpened {
        /// The id of the request, and from now on that of the stream on this link.
        id: u64,
        /// How much the answering node has in flight.
        load: u32,
        /// What the stream begins with; it takes no room in the window.
        payload: Bytes,
    },
    /// A message of a stream, within the window.
    StreamData {
        /// The stream.
        id: u64,
        /// The message.
        payload: Bytes,
    },
    /// So much of a stream was read since the last such.
    StreamCredit {
        /// The stream.
        id: u64,
        /// How many messages.
        messages: u32,
        /// Their bytes.
        bytes: u64,
    },
    /// Its writer has finished a direction of a stream.
    StreamEnd {
        /// The stream.
        id: u64,
        /// The last message.
        payload: Bytes,
    },
    /// Its writer went away before it had finished, or answers that it was cancelled.
    StreamDropped {
        /// The stream.
        id: u64,
    },
    /// Nobody reads that direction of a stream any more: its writer ends it.
    StreamCancelled {
        /// The stream.
        id: u64,
    },
    /// Nobody waits for the answer to a request any more: it need not start, or go on. It is answered
    /// all the same. Sent to those whose greeting names [`CANCELS`](super::hello::CANCELS).
    Cancelled {
        /// The id of the request.
        id: u64,
    },
}

impl Envelope {
    /// About how many bytes it takes.
    pub(crate) fn weight(&self) -> usize {
        16 + match self {
            Self::Request { payload, .. }
            | Self::Cast { payload, .. }
            | Self::Reply { payload, .. }
            | Self::StreamOpened { payload, .. }
            | Self::StreamData { payload, .. }
            | Self::StreamEnd { payload, .. } => payload.len(),
            Self::Welcome { started: ids, .. } | Self::Confirm { ids } => ids.len() * 9,
            Self::Refused { why } => why.len(),
            Self::Accepted { .. }
            | Self::Ping
            | Self::Bye
            | Self::StreamCredit { .. }
            | Self::StreamDropped { .. }
            | Self::StreamCancelled { .. }
            | Self::Cancelled { .. } => 0,
        }
    }

    /// Whether it speaks of a stream that is open.
    pub(crate) const fn is_of_stream(&self) -> bool {
        let says = matches!(
            self,
            Self::StreamCredit { .. } | Self::StreamCancelled { .. }
        );
        says || self.flows()
    }

    /// Whether it is what flows in a stream, which may wait behind all else.
    pub(crate) const fn flows(&self) -> bool {
        matches!(
            self,
            Self::StreamData { .. } | Self::StreamEnd { .. } | Self::StreamDropped { .. }
        )
    }
}

/// A frame with this batch.
pub(crate) fn frame(batch: &[Envelope]) -> Vec<u8> {
    let weight: usize = batch.iter().map(Envelope::weight).sum();
    let mut bytes = Vec::with_capacity(FRAME_HEAD + 8 + weight);
    bytes.resize(FRAME_HEAD, 0);
    Envelope::encode_batch(batch, &mut bytes);
    let (head, body) = bytes.split_at_mut(FRAME_HEAD);
    head[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    head[4..].copy_from_slice(&xxh3_64(body).to_le_bytes());
    bytes
}

/// The first frame of a buffer, taken out of it; `None` while it is not whole.
pub(crate) fn take_frame(
    buffer: &mut BytesMut,
    limit: usize,
) -> Result<Option<Vec<Envelope>>, LinkError> {
    let Some((length, rest)) = buffer.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length > limit {
        return Err(LinkError::TooLong {
            length: length as u64,
            limit: limit as u64,
        });
    }
    let Some((sum, _)) = rest.split_first_chunk::<8>() else {
        return Ok(None);
    };
    let sum = u64::from_le_bytes(*sum);
    if buffer.len() < FRAME_HEAD + length {
        return Ok(None);
    }
    buffer.advance(FRAME_HEAD);
    let body = buffer.split_to(length).freeze();
    if xxh3_64(&body) != sum {
        return Err(LinkError::Checksum);
    }
    Ok(Some(Envelope::decode_batch(&body)?))
}

/// Reads frames. A call that is dropped loses nothing.
#[derive(Debug)]
pub(crate) struct FrameReader<R> {
    from: R,
    buffer: BytesMut,
    limit: usize,
    heard: u64,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Takes bodies of up to `limit` bytes.
    pub(crate) fn new(from: R, limit: usize) -> Self {
        Self {
            from,
            buffer: BytesMut::new(),
            limit,
            heard: 0,
        }
    }

    /// How many bytes have come: whether anything moves while a large frame is on its way.
    pub(crate) const fn heard(&self) -> u64 {
        self.heard
    }

    /// The next batch.
    pub(crate) async fn next(&mut self) -> Result<Vec<Envelope>, LinkError> {
        loop {
            if let Some(batch) = take_frame(&mut self.buffer, self.limit)? {
                return Ok(batch);
            }
            // Payloads hold the block that they came in: it is filled before the next is taken.
            if self.buffer.capacity() - self.buffer.len() < READ_LEAST {
                self.buffer.reserve(READ_STEP);
            }
            match self.from.read_buf(&mut self.buffer).await? {
                0 => return Err(LinkError::Closed),
                more => self.heard += more as u64,
            }
        }
    }
}

/// Takes from the front of a queue what goes into one frame, and no more than `most`.
pub(crate) fn next_batch(
    queue: &mut std::collections::VecDeque<Envelope>,
    most: usize,
) -> Vec<Envelope> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH_LIMIT.min(most)
        && let Some(first) = queue.front()
    {
        bytes += first.weight();
        if bytes > BATCH_BYTES && !batch.is_empty() {
            break;
        }
        batch.extend(queue.pop_front());
    }
    batch
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1024 * 1024;

    fn bytes() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
    }

    fn envelope() -> impl Strategy<Value = Envelope> {
        let ids = || prop::collection::vec(any::<u64>(), 0..20);
        prop_oneof![
            (
                any::<u64>(),
                any::<u32>(),
                any::<u8>(),
                any::<bool>(),
                bytes()
            )
                .prop_map(|(id, deadline_ms, kind, stream, payload)| {
                    Envelope::Request {
                        id,
                        deadline_ms,
                        kind,
                        stream,
                        payload,
                    }
                }),
            (any::<u8>(), bytes()).prop_map(|(kind, payload)| Envelope::Cast { kind, payload }),
            (any::<u64>(), any::<u8>(), any::<u32>(), bytes()).prop_map(
                |(id, outcome, load, payload)| Envelope::Reply {
                    id,
                    outcome,
                    load,
                    payload
                }
            ),
            any::<u64>().prop_map(|id| Envelope::Accepted { id }),
            (any::<u16>(), ids())
                .prop_map(|(protocol, started)| Envelope::Welcome { protocol, started }),
            ".{0,40}".prop_map(|why| Envelope::Refused { why }),
            ids().prop_map(|ids| Envelope::Confirm { ids }),
            Just(Envelope::Ping),
            Just(Envelope::Bye),
            of_a_stream(),
        ]
    }

    fn of_a_stream() -> impl Strategy<Value = Envelope> {
        prop_oneof![
            (any::<u64>(), any::<u32>(), bytes())
                .prop_map(|(id, load, payload)| Envelope::StreamOpened { id, load, payload }),
            (any::<u64>(), bytes()).prop_map(|(id, payload)| Envelope::StreamData { id, payload }),
            (any::<u64>(), any::<u32>(), any::<u64>()).prop_map(|(id, messages, bytes)| {
                Envelope::StreamCredit {
                    id,
                    messages,
                    bytes,
                }
            }),
            (any::<u64>(), bytes()).prop_map(|(id, payload)| Envelope::StreamEnd { id, payload }),
            any::<u64>().prop_map(|id| Envelope::StreamDropped { id }),
            any::<u64>().prop_map(|id| Envelope::StreamCancelled { id }),
        ]
    }

    proptest! {
        #[test]
        fn frames_come_back_however_they_are_cut(
            batches in prop::collection::vec(prop::collection::vec(envelope(), 1..20), 1..5),
            cuts in prop::collection::vec(1usize..200, 1..40),
        ) {
            let wire: Vec<u8> = batches.iter().flat_map(|batch| frame(batch)).collect();
            let (mut buffer, mut read) = (BytesMut::new(), Vec::new());
            let (mut rest, mut cuts) = (&wire[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                buffer.extend_from_slice(piece);
                rest = later;
                while let Some(batch) = take_frame(&mut buffer, LIMIT).unwrap() {
                    read.push(batch);
                }
            }
            prop_assert_eq!(read, batches);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn a_frame_with_one_changed_byte_is_never_taken_for_another(
            batch in prop::collection::vec(envelope(), 1..10),
            place: prop::sample::Index,
            flip in 1u8..,
        ) {
            let mut wire = frame(&batch);
            let place = place.index(wire.len());
            wire[place] ^= flip;
            let read = take_frame(&mut BytesMut::from(&wire[..]), LIMIT);
            prop_assert!(!matches!(read, Ok(Some(_))), "{:?}", read);
        }

        #[test]
        fn random_bytes_are_refused_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let _ = Envelope::decode_batch(&Bytes::from(bytes.clone()));
            let _ = take_frame(&mut BytesMut::from(&bytes[..]), LIMIT);
        }

        #[test]
        fn batches_keep_the_order_and_their_bounds(
            envelopes in prop::collection::vec(envelope(), 0..400),
        ) {
            let mut queue: std::collections::VecDeque<_> = envelopes.iter().cloned().collect();
            let mut taken = Vec::new();
            while !queue.is_empty() {
                let batch = next_batch(&mut queue, usize::MAX);
                prop_assert!(!batch.is_empty() && batch.len() <= BATCH_LIMIT);
                let bytes: usize = batch.iter().map(Envelope::weight).sum();
                prop_assert!(bytes <= BATCH_BYTES || batch.len() == 1);
                taken.extend(batch);
            }
            prop_assert_eq!(taken, envelopes);
        }
    }

    #[tokio::test]
    async fn a_length_beyond_the_limit_is_refused_before_its_bytes_come() {
        let wire = [&u32::MAX.to_le_bytes()[..], &[0; 8]].concat();
        let error = FrameReader::new(&wire[..], LIMIT).next().await.unwrap_err();
        let limit = LIMIT as u64;
        assert!(
            matches!(error, LinkError::TooLong { length, limit: at } if length == u64::from(u32::MAX) && at == limit)
        );
    }

    #[tokio::test]
    async fn a_length_that_is_not_true_takes_no_memory_and_ends_the_link() {
        let mut long = frame(&[Envelope::Ping]);
        long[..4].copy_from_slice(&(LIMIT as u32).to_le_bytes());
        let mut reader = FrameReader::new(&long[..], LIMIT);
        assert!(matches!(reader.next().await, Err(LinkError::Closed)));
        assert!(reader.buffer.capacity() <= 4 * READ_STEP);
        let mut short = frame(&[Envelope::Bye, Envelope::Ping]);
        short[..4].copy_from_slice(&2u32.to_le_bytes());
        let mut reader = FrameReader::new(&short[..], LIMIT);
        assert!(matches!(reader.next().await, Err(LinkError::Checksum)));
    }

    #[test]
    fn more_envelopes_than_a_batch_holds_are_refused() {
        let mut body = Vec::new();
        Envelope::encode_batch(&vec![Envelope::Ping; BATCH_LIMIT + 1], &mut body);
        let body = Bytes::from(body);
        assert!(Envelope::decode_batch(&body).is_err());
    }
}
