#![allow(clippy::unwrap_used)]

use super::*;
use crate::event::EventKind;
use crate::proto::proxy;

fn envelope(kind: EventKind, request: &impl Message) -> Envelope {
    let raw = Bytes::from(request.encode_to_vec());
    Envelope::try_new(kind, raw, HeaderMap::new(), Instant::now()).unwrap()
}

#[test]
fn reads_the_fields_of_an_rpc_without_decoding_it() {
    let envelope = envelope(
        EventKind::Rpc,
        &proxy::RpcRequest {
            client: "c1".into(),
            transport: "websocket".into(),
            protocol: "json".into(),
            encoding: "json".into(),
            user: "42".into(),
            method: "cart.add".into(),
            data: Bytes::from_static(b"{\"n\":1}"),
            meta: Bytes::from_static(b"{}"),
            ..Default::default()
        },
    );
    assert_eq!(
        (
            envelope.client(),
            envelope.user(),
            envelope.method(),
            envelope.channel()
        ),
        ("c1", "42", "cart.add", "")
    );
    assert!(envelope.is_json_client());
    assert_eq!(envelope.data().unwrap().unwrap(), "{\"n\":1}");
    assert_eq!(envelope.meta().unwrap(), "{}");
}

#[test]
fn decodes_the_payload_of_the_binary_mode() {
    let request = proxy::PublishRequest {
        b64data: "AAEC".into(),
        ..Default::default()
    };
    let data = envelope(EventKind::Publish, &request).data().unwrap();
    assert_eq!(data.unwrap().as_ref(), [0, 1, 2]);
    let broken = proxy::PublishRequest {
        b64data: "AAE".into(),
        ..Default::default()
    };
    assert!(envelope(EventKind::Publish, &broken).data().is_err());
}

#[test]
fn an_absent_field_is_empty_and_the_last_of_two_wins() {
    let mut raw = proxy::RpcRequest {
        user: "a".into(),
        ..Default::default()
    }
    .encode_to_vec();
    raw.extend(
        proxy::RpcRequest {
            user: "b".into(),
            ..Default::default()
        }
        .encode_to_vec(),
    );
    let envelope =
        Envelope::try_new(EventKind::Rpc, raw.into(), HeaderMap::new(), Instant::now()).unwrap();
    assert_eq!((envelope.user(), envelope.client()), ("b", ""));
    assert_eq!(envelope.data().unwrap(), None);
}

#[test]
fn refuses_a_string_that_is_not_utf8_and_names_the_field() {
    let raw = Bytes::from_static(&[0x52, 0x02, 0xff, 0xfe]);
    let refused = Envelope::try_new(EventKind::Rpc, raw, HeaderMap::new(), Instant::now());
    assert_eq!(refused.unwrap_err(), ScanError::Utf8(10));
}

#[test]
fn a_typed_edit_changes_the_fields_and_drops_what_it_does_not_know() {
    let mut raw = proxy::RpcRequest {
        method: "a".into(),
        ..Default::default()
    }
    .encode_to_vec();
    raw.extend([0xfa, 0x3f, 0x01, b'x']);
    let before = Bytes::from(raw);
    let mut envelope = Envelope::try_new(
        EventKind::Rpc,
        before.clone(),
        HeaderMap::new(),
        Instant::now(),
    )
    .unwrap();
    assert_eq!(envelope.raw(), &before);
    envelope
        .edit::<crate::event::Rpc>(|request| request.method = "b".into())
        .unwrap();
    assert_eq!(envelope.method(), "b");
    assert_eq!(envelope.raw().as_ref(), [0x5a, 0x01, b'b']);
}

mod agreement {
    use crate::fuzzing;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn scan_and_decoder_agree_on_likely_messages(
            parts in prop::collection::vec(
                (1_u32..20, 0_u8..6, prop::collection::vec(any::<u8>(), 0..6)), 0..6)
        ) {
            let mut raw = Vec::new();
            for (number, wire_type, body) in parts {
                let key = u64::from(number << 3 | u32::from(wire_type));
                prost::encoding::encode_varint(key, &mut raw);
                if wire_type == 2 {
                    prost::encoding::encode_varint(body.len() as u64, &mut raw);
                }
                raw.extend(body);
            }
            fuzzing::request(&raw);
        }
    }
}

#[test]
fn debug_shows_neither_message_nor_metadata() {
    let mut metadata = HeaderMap::new();
    metadata.insert("authorization", "Bearer s3cr3t".parse().unwrap());
    let request = proxy::RpcRequest {
        method: "seat.hold".to_owned(),
        data: "s3cr3t".into(),
        ..Default::default()
    };
    let raw: Bytes = request.encode_to_vec().into();
    let deadline = Instant::now();
    let envelope = Envelope::try_new(EventKind::Rpc, raw.clone(), metadata.clone(), deadline);
    let shown = format!("{:?}", envelope.unwrap());
    assert!(shown.contains("seat.hold"), "{shown}");
    let incoming = crate::engine::Incoming {
        kind: EventKind::Rpc,
        method: String::new(),
        raw,
        metadata,
        authority: None,
        timeout: None,
        at: None,
        inbound: None,
        permit: None,
    };
    // Bytes would be shown as text, headers as they are.
    assert!(!format!("{shown} {incoming:?}").contains("s3cr3t"));
}
