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
        let body = Bytes::from(Envelope::encode_batch(&batch));
        assert_eq!(Envelope::decode_batch(&body), Ok(batch));
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
