//! Bodies of fuzz targets: bytes of a peer that may be anything. Hidden, and no part of the API.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use bytes::{Bytes, BytesMut};

use crate::peer::fuzz::{Queue, Streams, frame, parse, take_frame};
use crate::peer::{Envelope, Hello, STREAM_BYTES, STREAM_MESSAGES, StreamRx, StreamTx};

const LIMIT: usize = 1024 * 1024;

/// Frames of an open link, one after the other. What is understood is the same when it is written
/// and read again.
///
/// # Panics
/// If that does not hold: a defect.
pub fn frames(bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(batch)) = take_frame(&mut buffer, LIMIT) {
        let again = take_frame(&mut BytesMut::from(&frame(&batch)[..]), usize::MAX);
        assert!(matches!(again, Ok(Some(same)) if same == batch));
    }
    // The same bytes as a body, since few have the right checksum.
    if let Ok(batch) = Envelope::decode_batch(&Bytes::copy_from_slice(bytes)) {
        let mut body = Vec::new();
        Envelope::encode_batch(&batch, &mut body);
        assert_eq!(Envelope::decode_batch(&Bytes::from(body)), Ok(batch));
    }
}

/// The first frame of a handshake, and a greeting without its frame.
///
/// # Panics
/// If a greeting differs when it is written and read again: a defect.
pub fn hello(bytes: &[u8]) {
    for body in [Some(bytes), parse(bytes).ok().flatten()]
        .into_iter()
        .flatten()
    {
        if let Ok(hello) = Hello::decode(body) {
            assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
        }
    }
}

/// A peer that says anything of four streams, and ends here that do anything with them: two bytes a
/// step. The link is lost with the first defect, or at the end.
///
/// # Panics
/// If more waits to be read than the windows hold, or something of a stream is left over: a defect.
pub fn streams(bytes: &[u8]) {
    let count = Arc::<AtomicUsize>::default();
    let link = Streams::new(Arc::<Queue>::default(), Arc::clone(&count), LIMIT);
    let (mut tx, mut rx): (Vec<Option<StreamTx>>, Vec<Option<StreamRx>>) = (1..=4)
        .map(|id| link.open(id))
        .map(|(tx, rx)| (Some(tx), Some(rx)))
        .unzip();
    let mut cx = Context::from_waker(Waker::noop());
    for step in bytes.chunks_exact(2) {
        let (what, place, size) = (step[0] % 16, usize::from(step[0] / 16 % 4), step[1]);
        // The fifth is not open.
        let id = if size == 255 { 5 } else { place as u64 + 1 };
        let payload = Bytes::from(vec![0; usize::from(size) * 2000]);
        let says = match what {
            0..=4 => Envelope::StreamData { id, payload },
            5 => Envelope::StreamCredit {
                id,
                messages: u32::from(size % 40),
                bytes: u64::from(size) * 500,
            },
            6 => Envelope::StreamEnd { id, payload },
            7 => Envelope::StreamDropped { id },
            8 => Envelope::StreamCancelled { id },
            9..=11 => {
                let _ = rx[place].as_mut().map(|rx| rx.poll_recv(&mut cx));
                continue;
            }
            12 | 13 => {
                let _ = tx[place].as_mut().map(|tx| tx.try_send(payload));
                continue;
            }
            14 => {
                let _ = tx[place].take().map(|tx| tx.finish(payload));
                continue;
            }
            _ => {
                drop(rx[place].take());
                continue;
            }
        };
        let defect = link.take(says).is_err();
        for (messages, bytes) in link.unread() {
            assert!(messages <= STREAM_MESSAGES as usize);
            assert!(bytes as u64 <= STREAM_BYTES || messages == 1);
        }
        if defect {
            break;
        }
    }
    link.lost("the end");
    drop((tx, rx));
    assert_eq!(count.load(Ordering::Relaxed), 0);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::peer::{Class, Identity};
    use crate::{BootId, ClusterId, Incarnation, Member, NodeId};

    fn greeting() -> Vec<u8> {
        let member = Member {
            id: NodeId(1),
            incarnation: Incarnation(1),
        };
        Identity::new(ClusterId(7), member, BootId(9), "a")
            .hello(Class::Control, 3, [5; 32])
            .encode()
    }

    proptest! {
        #[test]
        fn streams_of_any_peer_hold_no_more_than_their_windows(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            reads in prop::collection::vec((0u8..4, 0u8..4, 0u8..40), 0..400),
        ) {
            streams(&bytes);
            // Fewer defects: what is sent, read and cancelled, and few ends.
            let quiet = [0, 9, 12, 8];
            let steps: Vec<u8> = reads
                .into_iter()
                .flat_map(|(what, place, size)| [quiet[usize::from(what)] + 16 * place, size])
                .collect();
            streams(&steps);
        }

        #[test]
        fn bytes_of_any_kind_and_bent_greetings_find_no_defect(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            place: prop::sample::Index,
            byte: u8,
        ) {
            frames(&bytes);
            hello(&bytes);
            let mut bent = greeting();
            let place = place.index(bent.len());
            bent[place] = byte;
            hello(&bent);
            hello(&bent[..place]);
        }
    }
}
