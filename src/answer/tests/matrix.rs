//! Every kind of event × every outcome. A new variant does not compile until it has a row here.

use super::*;

/// Every failure, each from the one before it.
fn next_failure(after: Option<&Failure>) -> Option<Failure> {
    let secret = || "secret cause".to_owned();
    let unavailable = |next| Some(Failure::Unavailable(next));
    let overloaded = |next| Some(Failure::Overloaded(next));
    match after {
        None => Some(Failure::Panic {
            place: secret(),
            message: secret(),
        }),
        Some(Failure::Panic { .. }) => Some(Failure::Internal {
            place: secret(),
            cause: secret(),
        }),
        Some(Failure::Internal { .. }) => Some(Failure::BadReply(secret())),
        Some(Failure::BadReply(_)) => Some(Failure::Deadline),
        Some(Failure::Deadline) => unavailable(Unavailable::Draining),
        Some(Failure::Unavailable(Unavailable::Draining)) => unavailable(Unavailable::Parked),
        Some(Failure::Unavailable(Unavailable::Parked)) => unavailable(Unavailable::Crashed),
        Some(Failure::Unavailable(Unavailable::Crashed)) => unavailable(Unavailable::NoOwner),
        Some(Failure::Unavailable(Unavailable::NoOwner)) => unavailable(Unavailable::Worker),
        Some(Failure::Unavailable(Unavailable::Worker)) => unavailable(Unavailable::Moving),
        Some(Failure::Unavailable(Unavailable::Moving)) => unavailable(Unavailable::Lapsed),
        Some(Failure::Unavailable(Unavailable::Lapsed)) => unavailable(Unavailable::Lost),
        Some(Failure::Unavailable(Unavailable::Lost)) => unavailable(Unavailable::Cut),
        Some(Failure::Unavailable(Unavailable::Cut)) => unavailable(Unavailable::LostPeer),
        Some(Failure::Unavailable(Unavailable::LostPeer)) => unavailable(Unavailable::Isolated),
        Some(Failure::Unavailable(Unavailable::Isolated)) => unavailable(Unavailable::NoServer),
        Some(Failure::Unavailable(Unavailable::NoServer)) => unavailable(Unavailable::Upstream),
        Some(Failure::Unavailable(Unavailable::Upstream)) => unavailable(Unavailable::Routes),
        Some(Failure::Unavailable(Unavailable::Routes)) => overloaded(Overloaded::InFlight),
        Some(Failure::Overloaded(Overloaded::InFlight)) => overloaded(Overloaded::InFlightBytes),
        Some(Failure::Overloaded(Overloaded::InFlightBytes)) => overloaded(Overloaded::Streams),
        Some(Failure::Overloaded(Overloaded::Streams)) => overloaded(Overloaded::Lane),
        Some(Failure::Overloaded(Overloaded::Lane)) => overloaded(Overloaded::Shard),
        Some(Failure::Overloaded(Overloaded::Shard)) => overloaded(Overloaded::Memory),
        Some(Failure::Overloaded(Overloaded::Memory)) => overloaded(Overloaded::Rate),
        Some(Failure::Overloaded(Overloaded::Rate)) => overloaded(Overloaded::Workers),
        Some(Failure::Overloaded(Overloaded::Workers)) => overloaded(Overloaded::Held),
        Some(Failure::Overloaded(Overloaded::Held)) => overloaded(Overloaded::Peer),
        Some(Failure::Overloaded(Overloaded::Peer)) => Some(Failure::Undecodable(secret())),
        Some(Failure::Undecodable(_)) => Some(Failure::BadData(secret())),
        Some(Failure::BadData(_)) => Some(Failure::NoRoute),
        Some(Failure::NoRoute) => Some(Failure::Unauthenticated),
        Some(Failure::Unauthenticated) => Some(Failure::Cancelled),
        Some(Failure::Cancelled) => None,
    }
}

fn failures() -> Vec<Failure> {
    std::iter::successors(next_failure(None), |last| next_failure(Some(last))).collect()
}

/// The row of a failure: what connect, subscribe, publish, rpc and the rest get.
fn failure_row(failure: &Failure) -> Row {
    match failure {
        Failure::Panic { .. } | Failure::Internal { .. } | Failure::BadReply(_) => {
            Row::all("Internal")
        }
        Failure::Deadline => Row::all("DeadlineExceeded"),
        Failure::Unavailable(
            Unavailable::Draining
            | Unavailable::Parked
            | Unavailable::Crashed
            | Unavailable::NoOwner
            | Unavailable::Worker
            | Unavailable::Moving
            | Unavailable::Lapsed
            | Unavailable::Lost
            | Unavailable::Cut
            | Unavailable::LostPeer
            | Unavailable::Isolated
            | Unavailable::NoServer
            | Unavailable::Upstream
            | Unavailable::Routes,
        ) => Row::all("Unavailable"),
        Failure::Overloaded(
            Overloaded::InFlight
            | Overloaded::InFlightBytes
            | Overloaded::Streams
            | Overloaded::Lane
            | Overloaded::Shard
            | Overloaded::Memory
            | Overloaded::Rate
            | Overloaded::Workers
            | Overloaded::Held
            | Overloaded::Peer,
        ) => Row {
            refresh: "Unavailable",
            stream: "Unavailable",
            rest: "Unavailable",
            ..Row::all(r#"{"error":{"code":111,"message":"too many requests","temporary":true}}"#)
        },
        Failure::Undecodable(_) => Row::all("InvalidArgument"),
        Failure::BadData(_) => Row {
            refresh: "InvalidArgument",
            stream: r#"{"subscribe_response":{"error":{"code":107,"message":"bad request"}}}"#,
            rest: "InvalidArgument",
            ..Row::all(r#"{"error":{"code":107,"message":"bad request"}}"#)
        },
        Failure::NoRoute => Row {
            connect: r#"{"error":{"code":108,"message":"not available"}}"#,
            subscribe_publish_map: r#"{"error":{"code":103,"message":"permission denied"}}"#,
            rpc: r#"{"error":{"code":104,"message":"method not found"}}"#,
            refresh: r#"{"result":{"expired":true}}"#,
            stream: r#"{"subscribe_response":{"error":{"code":103,"message":"permission denied"}}}"#,
            rest: "Unimplemented",
        },
        Failure::Unauthenticated => Row::all("Unauthenticated"),
        Failure::Cancelled => Row::all("Cancelled"),
    }
}

/// What each kind of event gets.
#[derive(Clone, Copy)]
struct Row {
    connect: &'static str,
    subscribe_publish_map: &'static str,
    rpc: &'static str,
    refresh: &'static str,
    stream: &'static str,
    rest: &'static str,
}

impl Row {
    const fn all(answer: &'static str) -> Self {
        Self {
            connect: answer,
            subscribe_publish_map: answer,
            rpc: answer,
            refresh: answer,
            stream: answer,
            rest: answer,
        }
    }

    const fn of(self, kind: EventKind) -> &'static str {
        match kind {
            EventKind::Connect => self.connect,
            EventKind::Subscribe
            | EventKind::Publish
            | EventKind::MapPublish
            | EventKind::MapRemove => self.subscribe_publish_map,
            EventKind::Rpc => self.rpc,
            EventKind::Refresh | EventKind::SubRefresh => self.refresh,
            EventKind::Stream | EventKind::StreamBidirectional => self.stream,
            EventKind::SharedPollRefresh
            | EventKind::CacheEmpty
            | EventKind::ChannelState
            | EventKind::Raw => self.rest,
        }
    }
}

#[test]
fn every_failure_of_every_kind_has_its_answer_of_the_table() {
    let failures = failures();
    assert_eq!(failures.len(), 33);
    for failure in failures {
        let row = failure_row(&failure);
        for kind in EventKind::ALL {
            for json_client in [false, true] {
                let answer = answer(kind, json_client, failure.clone().into());
                assert_eq!(shown(kind, &answer), row.of(kind), "{kind}: {failure:?}");
                assert_is_no_yes(kind, &answer);
            }
        }
    }
}

/// No message that Centrifugo reads as an allowance, no status OK, and no cause in a status.
fn assert_is_no_yes(kind: EventKind, answer: &Answer) {
    match answer {
        Answer::Message(message) => {
            assert!(!message.is_empty(), "{kind}: an empty message");
            let text = response_to_json(kind, message).unwrap();
            let no = ["error", "disconnect", "expired"];
            assert!(no.iter().any(|word| text.contains(word)), "{kind}: {text}");
            assert!(!text.contains("secret"), "{kind}: {text}");
        }
        Answer::Open(_) => panic!("{kind}: a failure opened a stream"),
        Answer::Status { code, message } => {
            assert_ne!(*code, Code::Ok);
            assert!(!message.contains("secret"), "{kind}: {message}");
        }
    }
}

/// Every form of a refusal, with its row. The match makes a new form need one.
fn reject_rows() -> Vec<(fn() -> Reject, Row)> {
    let form = |reject: &Reject| match reject.view() {
        RejectView::Error { .. } => "error",
        RejectView::Disconnect { .. } => "disconnect",
        RejectView::Internal(_) => "internal",
    };
    let rows: Vec<(fn() -> Reject, Row)> = vec![
        (
            || Reject::error(999, "no stock"),
            Row {
                refresh: r#"{"result":{"expired":true}}"#,
                stream: r#"{"subscribe_response":{"error":{"code":999,"message":"no stock"}}}"#,
                rest: "Internal",
                ..Row::all(r#"{"error":{"code":999,"message":"no stock"}}"#)
            },
        ),
        (
            || Reject::error(code::PERMISSION_DENIED, "no").temporary(),
            Row {
                refresh: "Unavailable",
                stream: "Unavailable",
                rest: "Internal",
                ..Row::all(r#"{"error":{"code":103,"message":"no","temporary":true}}"#)
            },
        ),
        (
            || Reject::disconnect(4501, "out"),
            Row {
                refresh: r#"{"result":{"expired":true}}"#,
                stream: r#"{"subscribe_response":{"disconnect":{"code":4501,"reason":"out"}}}"#,
                rest: "Internal",
                ..Row::all(r#"{"disconnect":{"code":4501,"reason":"out"}}"#)
            },
        ),
        (|| Reject::internal("secret cause"), Row::all("Internal")),
        (|| Reject::error(0, "zero"), Row::all("Internal")),
        (
            || Reject::error(399, "reserved").temporary(),
            Row::all("Internal"),
        ),
        (|| Reject::disconnect(5000, "x"), Row::all("Internal")),
        (
            || Reject::disconnect(4000, "x".repeat(124)),
            Row::all("Internal"),
        ),
    ];
    for expected in ["error", "disconnect", "internal"] {
        assert!(rows.iter().any(|(reject, _)| form(&reject()) == expected));
    }
    rows
}

#[test]
fn every_reject_of_every_kind_has_its_answer_of_the_table() {
    for (reject, row) in reject_rows() {
        for kind in EventKind::ALL {
            let answer = answer(kind, true, reject().into());
            assert_eq!(shown(kind, &answer), row.of(kind), "{kind}: {:?}", reject());
            assert_is_no_yes(kind, &answer);
        }
    }
}

/// Every kind's plain yes, as its builder has it, with the answer.
fn yes(kind: EventKind) -> (Reply, &'static str) {
    let hour = 4_102_444_800;
    match kind {
        EventKind::Connect => (
            ConnectReply::user("u1").into(),
            r#"{"result":{"user":"u1"}}"#,
        ),
        EventKind::Refresh => (
            RefreshReply::extend_until(hour).into(),
            r#"{"result":{"expire_at":4102444800}}"#,
        ),
        EventKind::SubRefresh => (
            SubRefreshReply::extend_until(hour).into(),
            r#"{"result":{"expire_at":4102444800}}"#,
        ),
        EventKind::Subscribe => (SubscribeReply::allow().into(), r#"{"result":{}}"#),
        EventKind::Publish => (PublishReply::allow().into(), r#"{"result":{}}"#),
        EventKind::Rpc => (RpcReply::done().into(), r#"{"result":{}}"#),
        EventKind::Stream | EventKind::StreamBidirectional => (
            SubscribeReply::allow().into(),
            r#"open {"subscribe_response":{"result":{}}}"#,
        ),
        EventKind::MapPublish => (MapPublishReply::allow().into(), r#"{"result":{}}"#),
        EventKind::MapRemove => (MapRemoveReply::allow().into(), r#"{"result":{}}"#),
        EventKind::SharedPollRefresh => (SharedPollRefreshReply::new().into(), r#"{"result":{}}"#),
        EventKind::CacheEmpty => (
            CacheEmptyReply::populated(true).into(),
            r#"{"result":{"populated":true}}"#,
        ),
        EventKind::ChannelState => (ChannelStateReply::acknowledge().into(), r#"{"result":{}}"#),
        EventKind::Raw => (
            Reply::raw(Bytes::from_static(b"\x0a\x01x")),
            r#"{"$hex":"0a0178"}"#,
        ),
    }
}

/// The kind that a typed message belongs to besides the streams; `None` fits every kind.
const fn home(message: &ReplyMessage) -> Option<EventKind> {
    Some(match message {
        ReplyMessage::Connect(_) => EventKind::Connect,
        ReplyMessage::Refresh(_) => EventKind::Refresh,
        ReplyMessage::Subscribe(_) => EventKind::Subscribe,
        ReplyMessage::SubRefresh(_) => EventKind::SubRefresh,
        ReplyMessage::Publish(_) => EventKind::Publish,
        ReplyMessage::Rpc(_) => EventKind::Rpc,
        ReplyMessage::MapPublish(_) => EventKind::MapPublish,
        ReplyMessage::MapRemove(_) => EventKind::MapRemove,
        ReplyMessage::SharedPollRefresh(_) => EventKind::SharedPollRefresh,
        ReplyMessage::CacheEmpty(_) => EventKind::CacheEmpty,
        ReplyMessage::ChannelState(_) => EventKind::ChannelState,
        ReplyMessage::Raw(_) | ReplyMessage::Empty => return None,
    })
}

#[test]
fn every_reply_fits_its_kind_and_no_other() {
    for from in EventKind::ALL {
        for kind in EventKind::ALL {
            let (reply, _) = yes(from);
            let Some(home) = home(reply.message()) else {
                continue;
            };
            let fits = home == kind || (home == EventKind::Subscribe && kind.is_stream());
            let expected = if fits { yes(kind).1 } else { "Internal" };
            let answer = answer(kind, true, Outcome::Reply(reply));
            assert_eq!(shown(kind, &answer), expected, "{from} as {kind}");
        }
    }
    let (raw, expected) = yes(EventKind::Raw);
    let answer = answer(EventKind::Raw, false, Outcome::Reply(raw));
    assert_eq!(shown(EventKind::Raw, &answer), expected);
}

#[test]
fn an_empty_reply_leaves_when_it_is_said_in_words() {
    for kind in EventKind::ALL {
        let answer = answer(kind, true, Outcome::Reply(Reply::empty()));
        let expected = match kind.is_stream() {
            true => Answer::Open(Bytes::from_static(&[0x0a, 0x00])),
            false => Answer::Message(Bytes::new()),
        };
        assert_eq!(answer, expected, "{kind}");
    }
}

/// Every form of an outcome, each from the one before it.
fn next_outcome(after: Option<&Outcome>) -> Option<Outcome> {
    match after {
        None => Some(Outcome::Reply(Reply::new(ReplyMessage::Rpc(
            proxy::RpcResult::default(),
        )))),
        Some(Outcome::Reply(_)) => Some(StreamReply::silent().into()),
        Some(Outcome::Stream(_)) => Some(Reject::permission_denied().into()),
        Some(Outcome::Reject(_)) => Some(Failure::NoRoute.into()),
        Some(Outcome::Failure(_)) => Some(Outcome::StreamEnd(StreamEnd {
            reason: StreamEndReason::Finished,
            open_for: Duration::ZERO,
            sent: 0,
            received: 0,
        })),
        Some(Outcome::StreamEnd(_)) => None,
    }
}

#[test]
fn no_form_of_an_outcome_becomes_an_empty_message() {
    let forms = (0..).map_while(replay).count();
    assert_eq!(forms, 5);
    for kind in EventKind::ALL {
        for form in 0..forms {
            match answer(kind, true, replay(form).unwrap()) {
                Answer::Message(message) => assert!(!message.is_empty(), "{kind} {form}"),
                Answer::Open(_) => panic!("{kind} {form}: opened a stream"),
                Answer::Status { code, .. } => assert_ne!(code, Code::Ok, "{kind} {form}"),
            }
        }
    }
}

/// The outcome at this place of the chain, anew: outcomes can't be cloned.
fn replay(place: usize) -> Option<Outcome> {
    (0..place).fold(next_outcome(None), |last, _| next_outcome(last.as_ref()))
}

#[test]
fn streams_and_their_ends_are_no_answers() {
    for kind in EventKind::ALL {
        for place in [1, 4] {
            let answer = answer(kind, true, replay(place).unwrap());
            assert_eq!(answer, Answer::INTERNAL, "{kind} {place}");
        }
    }
}

#[test]
fn a_stream_for_another_event_is_a_fault_at_the_gate() {
    let mut outcome = Outcome::from(StreamReply::silent());
    gate(EventKind::Stream, true, &mut outcome);
    assert!(matches!(outcome, Outcome::Stream(_)));
    gate(EventKind::Rpc, true, &mut outcome);
    assert!(fault(&outcome).unwrap().contains("rpc event"));
}

#[test]
fn faults_tell_the_log_what_the_caller_does_not_learn() {
    #[derive(Debug, thiserror::Error)]
    #[error("no seat")]
    struct Outer(#[source] std::io::Error);

    let cause = Outer(std::io::Error::other("disk full"));
    let outcome = Outcome::Reject(Reject::internal(cause));
    assert_eq!(fault(&outcome).unwrap(), "no seat: disk full");
    for failure in failures() {
        let text = failure.to_string();
        assert_eq!(fault(&failure.into()), Some(text));
    }
    assert_eq!(fault(&Reject::error(400, "x").into()), None);
    let boxed: BoxError = "disk full".into();
    let failure = internal("handler seats", &boxed);
    assert_eq!(failure.to_string(), "handler seats failed: disk full");
}

#[test]
fn streams_end_cleanly_only_when_their_handler_is_done() {
    let ends = [
        (StreamEndReason::Finished, None),
        (StreamEndReason::Failed("x".into()), Some(Code::Internal)),
        (StreamEndReason::Cancelled, Some(Code::Cancelled)),
        (StreamEndReason::Drained, Some(Code::Unavailable)),
        (StreamEndReason::Moved, Some(Code::Unavailable)),
    ];
    for (reason, expected) in ends {
        assert_eq!(stream_status(&reason).map(|(code, _)| code), expected);
    }
}
