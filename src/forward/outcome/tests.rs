#![allow(clippy::unwrap_used)]

use super::*;
use crate::event::{ConnectReply, RpcReply};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn across(kind: EventKind, mut outcome: Outcome) -> (Outcome, Outcome) {
    crate::answer::gate(kind, true, &mut outcome);
    let crossed = decode(kind, encode(&outcome));
    (outcome, crossed)
}

#[test]
fn every_outcome_comes_back_as_it_was() {
    let text = || "why".to_owned();
    let (place, message, cause) = (text(), text(), text());
    let mut outcomes: Vec<(EventKind, Outcome)> = vec![
        (EventKind::Rpc, Outcome::Reply(RpcReply::data(&1).into())),
        (EventKind::Rpc, Outcome::Reply(Reply::empty())),
        (
            EventKind::Raw,
            Outcome::Reply(Reply::raw(Bytes::from_static(b"\x01\xff"))),
        ),
        (
            EventKind::Connect,
            Outcome::Reply(Reply::from(ConnectReply::user("u"))),
        ),
        (EventKind::Rpc, Reject::error(1000, "no").temporary().into()),
        (EventKind::Rpc, Reject::error(1000, "no").into()),
        (EventKind::Rpc, Reject::disconnect(4400, "go").into()),
        (EventKind::Rpc, Reject::internal("cause").into()),
    ];
    let failures = [
        Failure::Panic { place, message },
        Failure::Internal {
            place: text(),
            cause,
        },
        Failure::BadReply(text()),
        Failure::Deadline,
        Failure::Undecodable(text()),
        Failure::BadData(text()),
        Failure::NoRoute,
        Failure::Unauthenticated,
        Failure::Cancelled,
    ];
    outcomes.extend(failures.map(|failure| (EventKind::Rpc, failure.into())));
    let unavailable = (1..).map_while(unavailable).map(Failure::Unavailable);
    outcomes.extend(unavailable.map(|failure| (EventKind::Rpc, failure.into())));
    let overloaded = (1..).map_while(overloaded).map(Failure::Overloaded);
    outcomes.extend(overloaded.map(|failure| (EventKind::Rpc, failure.into())));
    for (kind, outcome) in outcomes {
        let (before, after) = across(kind, outcome);
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
    }
}

#[test]
fn what_can_not_be_read_is_a_failure_and_never_an_empty_reply() {
    let unknown = OutcomeMessage {
        code: 99,
        ..OutcomeMessage::default()
    };
    let odd = OutcomeMessage {
        code: REPLY,
        detail: 9,
        ..OutcomeMessage::default()
    };
    let bare = OutcomeMessage {
        code: REPLY,
        ..OutcomeMessage::default()
    };
    let bytes = [unknown, odd, bare].map(|message| Bytes::from(message.encode_to_vec()));
    let garbage = [Bytes::new(), Bytes::from_static(&[0xff])];
    for bytes in bytes.into_iter().chain(garbage) {
        let outcome = decode(EventKind::Publish, bytes);
        assert!(
            matches!(outcome, Outcome::Failure(Failure::Internal { .. })),
            "{outcome:?}"
        );
    }
    let later = OutcomeMessage {
        code: UNAVAILABLE,
        detail: 999,
        ..OutcomeMessage::default()
    };
    let outcome = decode(EventKind::Publish, later.encode_to_vec().into());
    assert!(matches!(
        outcome,
        Outcome::Failure(Failure::Unavailable(Unavailable::NoOwner))
    ));
}

#[test]
fn an_outcome_has_these_bytes_for_ever() {
    let message = OutcomeMessage {
        code: 1,
        detail: 2,
        response: Bytes::from_static(b"r"),
        intent: 15,
        text: "t".to_owned(),
        place: "p".to_owned(),
        temporary: true,
    };
    let golden = "080110021a0172200f2a017432017038 01".replace(' ', "");
    assert_eq!(hex(&message.encode_to_vec()), golden);
    let crashed = encode(&Failure::Unavailable(Unavailable::Crashed).into());
    assert_eq!(hex(&crashed), "08091003");
    let lane = encode(&Failure::Overloaded(Overloaded::Lane).into());
    assert_eq!(hex(&lane), "080a1004");
}
