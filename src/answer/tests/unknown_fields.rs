//! Fields that this node does not know survive the way of raw bytes.

use super::*;
use proptest::prelude::*;

/// An encoded field with a number that no message of the contract uses.
fn unknown_field() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![100_u32..19_000, 20_000_u32..536_870_911];
    let value = prop_oneof![
        any::<u64>().prop_map(|value| {
            let mut bytes = Vec::new();
            prost::encoding::encode_varint(value, &mut bytes);
            (0, bytes)
        }),
        any::<[u8; 8]>().prop_map(|value| (1, value.to_vec())),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(|value| {
            let mut bytes = Vec::new();
            prost::encoding::encode_varint(value.len() as u64, &mut bytes);
            bytes.extend_from_slice(&value);
            (2, bytes)
        }),
        any::<[u8; 4]>().prop_map(|value| (5, value.to_vec())),
    ];
    (number, value).prop_map(|(number, (wire_type, value))| {
        let mut field = Vec::new();
        prost::encoding::encode_varint(u64::from(number << 3 | wire_type), &mut field);
        field.extend_from_slice(&value);
        field
    })
}

fn unknown_fields() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(unknown_field(), 0..5).prop_map(|fields| fields.concat())
}

fn nested(tag: u8, message: &[u8]) -> Vec<u8> {
    let mut field = vec![tag << 3 | 2];
    prost::encoding::encode_varint(message.len() as u64, &mut field);
    field.extend_from_slice(message);
    field
}

/// A result of every kind that may leave.
fn result(kind: EventKind) -> Vec<u8> {
    match kind {
        EventKind::Connect => proxy::ConnectResult {
            user: "u".into(),
            ..Default::default()
        }
        .encode_to_vec(),
        EventKind::Refresh | EventKind::SubRefresh => proxy::SubRefreshResult {
            expired: true,
            ..Default::default()
        }
        .encode_to_vec(),
        _ => Vec::new(),
    }
}

proptest! {
    #[test]
    fn unknown_fields_of_raw_responses_survive_byte_for_byte(
        kind in prop::sample::select(&EventKind::ALL[..]),
        before in unknown_fields(),
        inside in unknown_fields(),
        after in unknown_fields(),
    ) {
        let result = [result(kind), inside].concat();
        let mut part = nested(1, &result);
        if kind.is_stream() {
            part = nested(1, &[before.clone(), part].concat());
        }
        let response = Bytes::from([before, part, after].concat());
        let sealed = seal(kind, true, &mut Reply::raw(response.clone()));
        prop_assert_eq!(sealed, Ok(response));
    }

    #[test]
    fn unknown_fields_survive_where_parts_are_dropped(
        before in unknown_fields(),
        between in unknown_fields(),
        after in unknown_fields(),
        stream: bool,
    ) {
        let kind = if stream { EventKind::Stream } else { EventKind::Subscribe };
        let error = proxy::Error { code: 400, ..Default::default() }.encode_to_vec();
        let wrap = |inner: Vec<u8>| match stream {
            true => [before.clone(), nested(1, &inner), after.clone()].concat(),
            false => inner,
        };
        let sent = [&before[..], &nested(1, &[]), &between, &nested(2, &error), &after].concat();
        let kept = [&before[..], &between, &nested(2, &error), &after].concat();
        let sealed = seal(kind, true, &mut Reply::raw(wrap(sent).into()));
        prop_assert_eq!(sealed, Ok(Bytes::from(wrap(kept))));
    }

    #[test]
    fn any_bytes_as_a_raw_response_are_sealed_or_refused(
        kind in prop::sample::select(&EventKind::ALL[..]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        json_client: bool,
    ) {
        let response = Bytes::from(bytes);
        if let Ok(sealed) = seal(kind, json_client, &mut Reply::raw(response)) {
            prop_assert!(kind == EventKind::Raw || !sealed.is_empty());
        }
    }

    #[test]
    fn raw_messages_of_known_and_unknown_fields_keep_both(
        known in unknown_fields(),
        user in "[a-z]{0,9}",
    ) {
        let result = proxy::ConnectResult { user, ..Default::default() }.encode_to_vec();
        let wire = [result, known].concat();
        let message = RawMessage::decode(wire.as_slice()).unwrap();
        prop_assert_eq!(message.as_bytes(), wire.as_slice());
        prop_assert_eq!(message.encode_to_vec(), wire);
    }
}
