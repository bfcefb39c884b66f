//! Greetings and envelopes.

use bytes::Bytes;

use super::*;
use crate::ClusterId;
use crate::peer::{Class, Envelope, Identity};

/// One envelope of each kind.
fn envelopes() -> Vec<Envelope> {
    let payload = || Bytes::from_static(b"abc");
    vec![
        Envelope::Request {
            id: 300,
            deadline_ms: 1000,
            kind: 7,
            stream: true,
            payload: payload(),
        },
        Envelope::Cast {
            kind: 255,
            payload: payload(),
        },
        Envelope::Reply {
            id: 5,
            outcome: 3,
            load: 6,
            payload: payload(),
        },
        Envelope::Accepted { id: 9 },
        Envelope::Welcome {
            protocol: 1,
            started: vec![1, 2],
        },
        Envelope::Refused {
            why: "no".to_owned(),
        },
        Envelope::Confirm { ids: vec![4] },
        Envelope::Ping,
        Envelope::Bye,
        Envelope::StreamOpened {
            id: 300,
            load: 6,
            payload: payload(),
        },
        Envelope::StreamData {
            id: 5,
            payload: payload(),
        },
        Envelope::StreamCredit {
            id: 5,
            messages: 16,
            bytes: 300,
        },
        Envelope::StreamEnd {
            id: 5,
            payload: payload(),
        },
        Envelope::StreamDropped { id: 6 },
        Envelope::StreamCancelled { id: 7 },
        Envelope::Cancelled { id: 8 },
    ]
}

#[test]
fn the_bytes_of_envelopes_never_change() {
    let mut bytes = Vec::new();
    Envelope::encode_batch(&envelopes(), &mut bytes);
    let expected = [
        &[16][..],
        &[0, 251, 44, 1, 251, 232, 3, 7, 1, 3, 97, 98, 99],
        &[1, 255, 3, 97, 98, 99],
        &[2, 5, 3, 6, 3, 97, 98, 99],
        &[3, 9],
        &[4, 1, 2, 1, 2],
        &[5, 2, 110, 111],
        &[6, 1, 4],
        &[7],
        &[8],
        &[9, 251, 44, 1, 6, 3, 97, 98, 99],
        &[10, 5, 3, 97, 98, 99],
        &[11, 5, 16, 251, 44, 1],
        &[12, 5, 3, 97, 98, 99],
        &[13, 6],
        &[14, 7],
        &[15, 8],
    ];
    assert_eq!(bytes, expected.concat());
    assert_eq!(Envelope::decode_batch(&Bytes::from(bytes)), Ok(envelopes()));
}

#[test]
fn the_bytes_of_a_greeting_never_change() {
    let mut identity = Identity::new(ClusterId(1), member(3, 2), BootId(9), "n");
    identity.build = "b".to_owned();
    identity.addrs = vec!["h:1".to_owned()];
    identity.features = vec!["f".to_owned()];
    let hello = identity.hello(Class::Data, 4, [6; 32]);
    let bytes = hello.encode();
    let expected = [
        // cluster, recovery, node, name, incarnation, boot, class, link, protocols, features
        &[1, 0, 3, 1, b'n', 2, 9, 1, 4, 1, 1, 1, 1, b'f'][..],
        &[251, 0, 16, 9],
        b"xxh3-64/1",
        &[0, 1, b'b', 1, 3],
        b"h:1",
        &[6; 32],
    ];
    assert_eq!(bytes, expected.concat());
    assert_eq!(crate::peer::Hello::decode(&bytes), Ok(hello));
}
