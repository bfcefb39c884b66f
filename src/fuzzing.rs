//! What fuzz targets and property tests run: every decoder of bytes from outside, with what must
//! hold for any bytes. Each function panics where it does not.

#![allow(clippy::expect_used, reason = "a broken promise has to stop the run")]

use crate::answer;
use crate::envelope::scan_agrees_with_decoder;
use crate::event::{self, EventKind};
use crate::goridge::Decoder;
use crate::ingress::unary::Message;
use crate::reply::Reply;
use crate::routing::key::find_text;
use crate::routing::pattern::Pattern;
use bytes::{Bytes, BytesMut};

/// The scan of a request and the protobuf decoder accept and refuse the same.
pub fn request(bytes: &[u8]) {
    assert!(scan_agrees_with_decoder::<event::Connect>(bytes), "connect");
    assert!(scan_agrees_with_decoder::<event::Refresh>(bytes), "refresh");
    assert!(
        scan_agrees_with_decoder::<event::Subscribe>(bytes),
        "subscribe"
    );
    assert!(
        scan_agrees_with_decoder::<event::SubRefresh>(bytes),
        "sub_refresh"
    );
    assert!(scan_agrees_with_decoder::<event::Publish>(bytes), "publish");
    assert!(scan_agrees_with_decoder::<event::Rpc>(bytes), "rpc");
    assert!(
        scan_agrees_with_decoder::<event::MapPublish>(bytes),
        "map_publish"
    );
    assert!(
        scan_agrees_with_decoder::<event::MapRemove>(bytes),
        "map_remove"
    );
    assert!(
        scan_agrees_with_decoder::<event::SharedPollRefresh>(bytes),
        "shared_poll_refresh"
    );
    assert!(
        scan_agrees_with_decoder::<event::CacheEmpty>(bytes),
        "cache_empty"
    );
    assert!(
        scan_agrees_with_decoder::<event::ChannelState>(bytes),
        "channel_state"
    );
}

/// A gRPC frame that arrives in pieces: whole it gives the same as cut anywhere, and what it gives
/// is what the prefix promised.
pub fn frame(bytes: &[u8]) {
    let whole = Message::of_pieces(64, &[bytes]);
    for cut in 0..bytes.len().min(12) {
        let (left, right) = bytes.split_at(cut);
        let pieces = Message::of_pieces(64, &[left, right]);
        assert_eq!(whole.as_ref().ok(), pieces.as_ref().ok(), "cut at {cut}");
    }
    if let Ok(message) = whole {
        assert_eq!(message, bytes[5..]);
        assert!(message.len() <= 64);
    }
}

/// goridge frames in any bytes: in one piece they give the same as byte by byte, and what is a frame
/// is written as it was read, but for the version and the reserved byte.
pub fn goridge(bytes: &[u8]) {
    let limit = 64;
    let (mut whole, mut all) = (Decoder::new(limit), BytesMut::from(bytes));
    let (mut slow, mut some) = (Decoder::new(limit), BytesMut::new());
    let mut rest = bytes.iter();
    let mut before = 0;
    loop {
        let frame = whole.next(&mut all);
        let mut other = slow.next(&mut some);
        while other == Ok(None)
            && let Some(byte) = rest.next()
        {
            some.extend_from_slice(&[*byte]);
            other = slow.next(&mut some);
        }
        match (frame, other) {
            (Ok(Some(frame)), Ok(Some(other))) => {
                assert_eq!(frame, other);
                assert!(frame.payload.len() <= limit);
                let mut again = BytesMut::new();
                frame.encode(&mut again).expect("a payload below the limit");
                let read = &bytes[before..before + frame.wire_len()];
                assert_eq!(again[1..6], read[1..6]);
                assert_eq!(again[12..], read[12..]);
                before += frame.wire_len();
                // Either answer is fine, as long as there is one.
                drop((frame.as_work(), frame.as_call()));
            }
            (Ok(None), Ok(None)) => {
                assert_eq!(whole.end(&all), slow.end(&some));
                return;
            }
            (Err(error), Err(other)) => {
                assert_eq!(error.to_string().is_empty(), other.to_string().is_empty());
                assert_eq!(
                    std::mem::discriminant(&error),
                    std::mem::discriminant(&other)
                );
                assert_eq!(whole.next(&mut all), Err(error));
                return;
            }
            (frame, other) => panic!("whole: {frame:?}, in pieces: {other:?}"),
        }
    }
}

/// A configuration of any bytes is loaded or refused with problems, never empty-handed.
pub fn config(bytes: &[u8]) {
    if let Err(error) = crate::config::fuzz_load(bytes) {
        assert!(!error.problems.is_empty());
    }
}

/// A raw reply that passes the gate leaves byte for byte, or as its one part that counts; whatever
/// leaves decodes.
pub fn reply(bytes: &[u8]) {
    for kind in EventKind::ALL {
        let mut reply = Reply::raw(Bytes::copy_from_slice(bytes));
        if let Ok(sealed) = answer::seal(kind, true, &mut reply) {
            let again = answer::seal(kind, true, &mut Reply::raw(sealed.clone()));
            assert_eq!(again.expect("what has left may leave"), sealed, "{kind}");
        }
    }
}

/// JSON of a result message gives a reply or an error, and a reply that passes the gate has JSON.
pub fn reply_json(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    for kind in EventKind::ALL {
        if let Ok(mut reply) = Reply::from_json(kind, text)
            && let Ok(sealed) = answer::seal(kind, true, &mut reply)
        {
            crate::json::response_to_json(kind, &sealed).expect("what may leave can be shown");
        }
    }
}

/// A lookup in any bytes finds text or says why not.
pub fn data_path(bytes: &[u8]) {
    // Either answer is fine, as long as there is one.
    drop(find_text(bytes, &["showing"]));
    drop(find_text(bytes, &["a", "b", "c"]));
}

/// A pattern of any text parses or not; one that does prints as it parses, and its captures lie
/// within the name, in order.
pub fn pattern(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let (pattern, name) = text.split_once('\n').unwrap_or((text, "chat:a.b"));
    let Ok(parsed) = Pattern::parse(pattern, ":") else {
        return;
    };
    let again = Pattern::parse(&parsed.to_string(), ":").expect("a pattern prints as it parses");
    assert_eq!(again.to_string(), parsed.to_string());
    if let Some(captures) = parsed.matches(name) {
        let mut end = 0;
        for index in 0..captures.len() {
            let range = captures.get(index).expect("an index below the length");
            assert!(range.start >= end && range.start < range.end && range.end <= name.len());
            end = range.end;
        }
    }
}

/// Everything that crosses between nodes is read or refused, and what is read is written as it was;
/// what is no outcome is never an empty yes.
pub fn peer_messages(bytes: &[u8]) {
    crate::forward::fuzz::peer_messages(bytes);
}

/// A message of a two-way stream is read as the contract's decoder reads it.
pub fn two_way(bytes: &[u8]) {
    crate::ingress::grpc::fuzz_two_way(bytes);
}

/// A `grpc-timeout` has the form that gRPC gives it, and is capped, or is refused.
pub fn timeout(bytes: &[u8]) {
    crate::ingress::deadline::fuzz(bytes);
}

/// An argument of a call to `[rpc]` is read or refused in words, whatever its codec.
pub fn rpc_arguments(bytes: &[u8]) {
    crate::rpc::fuzz::arguments(bytes);
}

/// What a worker answers first holds its pid or is refused.
pub fn worker_pid(bytes: &[u8]) {
    crate::worker::relay::fuzz_pid(bytes);
}

/// What must hold for any bytes.
pub type Body = fn(&[u8]);

/// Every body by name, for the property tests.
pub const ALL: [(&str, Body); 13] = [
    ("request", request),
    ("frame", frame),
    ("goridge", goridge),
    ("config", config),
    ("reply", reply),
    ("reply_json", reply_json),
    ("data_path", data_path),
    ("pattern", pattern),
    ("peer_messages", peer_messages),
    ("two_way", two_way),
    ("timeout", timeout),
    ("rpc_arguments", rpc_arguments),
    ("worker_pid", worker_pid),
];
