//! What the builders make of what they are told.

use super::*;

#[test]
fn extensions_are_counted_from_now_and_rounded_up() {
    let before = crate::event::setters::unix_after(Duration::ZERO);
    let reply = Reply::from(RefreshReply::extend(Duration::from_millis(1500)));
    match reply.message() {
        ReplyMessage::Refresh(result) => {
            assert!((before + 1..before + 10).contains(&result.expire_at));
        }
        other => panic!("{other:?}"),
    }
    let reply = Reply::from(ConnectReply::user("u").expire_in(Duration::MAX));
    assert!(matches!(reply.message(), ReplyMessage::Connect(r) if r.expire_at == i64::MAX));
}

#[test]
fn null_payloads_leave_only_in_words_save_rpc_data() {
    let publish = EventKind::Publish;
    stays(publish, PublishReply::replace(&None::<u8>), "`null`");
    leaves(
        publish,
        PublishReply::replace(&None::<u8>).null_payloads(),
        r#"{"result":{"data":null}}"#,
    );
    stays(
        publish,
        raw(publish, r#"{"result":{"data":null}}"#),
        "`null`",
    );
    stays(
        publish,
        raw(publish, r#"{"result":{"b64data":"bnVsbA=="}}"#),
        "`b64data` is `null`",
    );
    stays(
        EventKind::Connect,
        ConnectReply::user("u").info(&()),
        "`info` is `null`",
    );
    leaves(
        EventKind::Rpc,
        RpcReply::data(&()),
        r#"{"result":{"data":null}}"#,
    );
    stays(
        EventKind::SharedPollRefresh,
        SharedPollRefreshReply::new().item("k", 1, &()),
        "items[\"k\"]: `data` is `null`",
    );
}

#[test]
fn value_that_can_not_be_written_is_refused_with_its_field() {
    let bad = std::collections::HashMap::from([((1, 2), 3)]);
    stays(
        EventKind::Rpc,
        RpcReply::data(&bad),
        "`data` can't be written",
    );
    stays(
        EventKind::Connect,
        ConnectReply::user("u")
            .sub("a", SubscribeOptions::new().info(&bad))
            .data(&1),
        "`info` can't be written",
    );
}

#[test]
fn stream_messages_are_framed_as_recorded() {
    let Outcome::Stream(open) = Outcome::from(StreamReply::silent()) else {
        panic!("no stream");
    };
    assert_eq!(
        stream_first(true, &open).unwrap(),
        vec![0x0a, 0x02, 0x0a, 0x00]
    );
    let publication = proxy::Publication::json(&serde_json::json!({}))
        .unwrap()
        .tag("k", "v");
    let message = stream_publication(true, &publication).unwrap();
    let recorded = [
        0x12, 0x0c, 0x22, 0x02, 0x7b, 0x7d, 0x3a, 0x06, 0x0a, 0x01, 0x6b, 0x12, 0x01, 0x76,
    ];
    assert_eq!(message, recorded.as_slice());
}

#[test]
fn publication_that_is_not_json_does_not_reach_a_json_client() {
    let publication = proxy::Publication {
        data: Bytes::from_static(b"hello"),
        ..Default::default()
    };
    assert!(stream_publication(false, &publication).is_ok());
    let why = stream_publication(true, &publication).unwrap_err();
    assert!(why.to_string().contains("3506"), "{why}");
    let Outcome::Stream(open) = Outcome::from(
        StreamReply::silent().first(SubscribeReply::allow().data_bytes(&b"hello"[..])),
    ) else {
        panic!("no stream");
    };
    assert!(stream_first(false, &open).is_ok());
    assert!(stream_first(true, &open).is_err());
}

#[test]
fn handlers_may_return_builders_messages_json_and_results() {
    fn of<E: Event>(answer: impl IntoOutcome<E>) -> String {
        shown(
            E::KIND,
            &super::answer(E::KIND, true, answer.into_outcome()),
        )
    }
    assert_eq!(of::<Rpc>(Json(vec![1])), r#"{"result":{"data":[1]}}"#);
    assert_eq!(of::<Rpc>(RpcReply::done()), r#"{"result":{}}"#);
    assert_eq!(of::<Rpc>(proxy::RpcResult::default()), r#"{"result":{}}"#);
    assert_eq!(of::<Rpc>(Reply::empty()), "{}");
    assert_eq!(
        of::<Rpc>(Ok::<_, Reject>(Json("x"))),
        r#"{"result":{"data":"x"}}"#
    );
    assert_eq!(of::<Rpc>(Err::<Reply, _>(std::fmt::Error)), "Internal");
    assert_eq!(
        of::<Rpc>(Err::<Reply, _>(Reject::permission_denied())),
        r#"{"error":{"code":103,"message":"permission denied"}}"#
    );
    assert_eq!(
        of::<Rpc>(Outcome::Failure(Failure::Deadline)),
        "DeadlineExceeded"
    );
    assert_eq!(
        of::<Raw>(RawMessage::new(&[0x0a, 0x00])),
        r#"{"$hex":"0a00"}"#
    );
    assert!(matches!(
        IntoOutcome::<crate::event::Stream>::into_outcome(SubscribeReply::allow()),
        Outcome::Stream(_)
    ));
}

#[test]
fn builders_set_every_field_of_their_results() {
    leaves(
        EventKind::Connect,
        ConnectReply::user("u")
            .expire_at(9)
            .info(&1)
            .data(&2)
            .channel("a")
            .sub(
                "b",
                SubscribeOptions::new()
                    .data(&3)
                    .presence(true)
                    .join_leave(false)
                    .cache_recover(true),
            )
            .meta(&serde_json::json!({}))
            .label("l", "v"),
        r#"{"result":{"user":"u","expire_at":9,"info":1,"data":2,"channels":["a"],"subs":{"b":{"data":3,"override":{"presence":{"value":true},"join_leave":{}},"cache_recover":true}},"meta":{},"labels":{"l":"v"}}}"#,
    );
    leaves(
        EventKind::Subscribe,
        SubscribeReply::allow()
            .expire_at(9)
            .info(&1)
            .data(&2)
            .force_recovery(true)
            .force_positioning(true)
            .force_push_join_leave(false)
            .permit(["pub"])
            .server_tags_filter(proxy::FilterNode::default()),
        r#"{"result":{"expire_at":9,"info":1,"data":2,"override":{"force_recovery":{"value":true},"force_positioning":{"value":true},"force_push_join_leave":{}},"allow":["pub"],"server_tags_filter":{}}}"#,
    );
    leaves(
        EventKind::Publish,
        PublishReply::replace("x")
            .skip_history()
            .tags([("a", "b")])
            .idempotency_key("k")
            .delta(true)
            .version(7, "e"),
        r#"{"result":{"data":"x","skip_history":true,"tags":{"a":"b"},"idempotency_key":"k","delta":true,"version":7,"version_epoch":"e"}}"#,
    );
    leaves(
        EventKind::MapPublish,
        MapPublishReply::replace(&1)
            .key("k")
            .tag("a", "b")
            .score(-1)
            .key_mode(crate::event::KeyMode::IfExists)
            .stream_data(&2)
            .idempotency_key("i")
            .delta(true)
            .version(1, ""),
        r#"{"result":{"key":"k","data":1,"tags":{"a":"b"},"score":-1,"key_mode":"if_exists","stream_data":2,"idempotency_key":"i","delta":true,"version":1}}"#,
    );
    leaves(
        EventKind::MapRemove,
        MapRemoveReply::allow()
            .key("k")
            .tag("a", "b")
            .idempotency_key("i"),
        r#"{"result":{"key":"k","tags":{"a":"b"},"idempotency_key":"i"}}"#,
    );
    leaves(
        EventKind::SharedPollRefresh,
        SharedPollRefreshReply::new()
            .item("k", 7, &1)
            .removed("r")
            .epoch("e"),
        r#"{"result":{"items":[{"key":"k","data":1,"version":7},{"key":"r","removed":true}],"epoch":"e"}}"#,
    );
}
