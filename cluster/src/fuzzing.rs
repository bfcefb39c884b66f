//! Bodies of fuzz targets: bytes of a peer that may be anything. Hidden, and no part of the API.

use bytes::{Bytes, BytesMut};

use crate::peer::fuzz::{frame, parse, take_frame};
use crate::peer::{Envelope, Hello};

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
