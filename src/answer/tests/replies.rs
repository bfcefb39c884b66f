//! What may not leave, reply by reply.

use super::*;

fn sealed(kind: EventKind, json_client: bool, reply: impl Into<Reply>) -> Result<String, String> {
    let mut reply = reply.into();
    match seal(kind, json_client, &mut reply) {
        Ok(response) => Ok(response_to_json(kind, &response).unwrap()),
        Err(Failure::BadReply(why)) => Err(why),
        Err(other) => panic!("{other:?}"),
    }
}

#[track_caller]
fn leaves(kind: EventKind, reply: impl Into<Reply>, expected: &str) {
    assert_eq!(sealed(kind, true, reply).as_deref(), Ok(expected));
}

#[track_caller]
fn stays(kind: EventKind, reply: impl Into<Reply>, naming: &str) {
    let why = sealed(kind, true, reply).unwrap_err();
    assert!(why.contains(naming), "{why}");
}

fn raw(kind: EventKind, json: &str) -> Reply {
    Reply::raw(crate::json::response_from_json(kind, json).unwrap())
}

#[test]
fn connect_without_a_user_leaves_only_as_anonymous() {
    let connect = EventKind::Connect;
    leaves(connect, ConnectReply::anonymous(), r#"{"result":{}}"#);
    stays(connect, ConnectReply::user(""), "names no user");
    stays(
        connect,
        ConnectReply::user("").channel("news"),
        "names no user",
    );
    stays(
        connect,
        Reply::new(ReplyMessage::Connect(Box::default())),
        "names no user",
    );
    stays(connect, raw(connect, r#"{"result":{}}"#), "names no user");
    leaves(
        connect,
        raw(connect, r#"{"result":{}}"#).anonymous(),
        r#"{"result":{}}"#,
    );
}

#[test]
fn refresh_has_to_extend_or_to_expire() {
    let refresh = EventKind::Refresh;
    leaves(
        refresh,
        RefreshReply::expire(),
        r#"{"result":{"expired":true}}"#,
    );
    stays(refresh, RefreshReply::extend_until(0), "`expire_at`");
    stays(refresh, RefreshReply::extend_until(-5), "`expire_at`");
    stays(refresh, raw(refresh, r#"{"result":{}}"#), "`expire_at`");
    stays(
        refresh,
        raw(refresh, r#"{"error":{"code":403}}"#),
        "ignores",
    );
    let both = r#"{"result":{"expired":true},"disconnect":{"code":4000}}"#;
    stays(refresh, raw(refresh, both), "ignores");
}

#[test]
fn sub_refresh_loses_its_expiry_only_in_words() {
    let sub = EventKind::SubRefresh;
    leaves(sub, SubRefreshReply::never_expires(), r#"{"result":{}}"#);
    leaves(
        sub,
        SubRefreshReply::expire(),
        r#"{"result":{"expired":true}}"#,
    );
    stays(sub, SubRefreshReply::extend_until(0), "removes the expiry");
    stays(sub, SubRefreshReply::extend_until(-5), "removes the expiry");
    stays(sub, raw(sub, r#"{"result":{}}"#), "removes the expiry");
    leaves(
        sub,
        raw(sub, r#"{"result":{}}"#).never_expires(),
        r#"{"result":{}}"#,
    );
}

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
fn payloads_towards_json_clients_have_to_be_json() {
    let text = || Bytes::from_static(b"hello");
    let cases: Vec<(EventKind, Reply, &str)> = vec![
        (
            EventKind::Connect,
            ConnectReply::user("u").data_bytes(text()).into(),
            "`data`",
        ),
        (
            EventKind::Connect,
            ConnectReply::user("u").info_bytes(text()).into(),
            "`info`",
        ),
        (
            EventKind::Connect,
            ConnectReply::user("u")
                .sub("a:1", SubscribeOptions::new().info_bytes(text()))
                .into(),
            "subs[\"a:1\"]: `info`",
        ),
        (
            EventKind::Refresh,
            RefreshReply::extend_until(9).info_bytes(text()).into(),
            "`info`",
        ),
        (
            EventKind::Subscribe,
            SubscribeReply::allow().data_bytes(text()).into(),
            "`data`",
        ),
        (
            EventKind::Subscribe,
            SubscribeReply::allow().info_bytes(text()).into(),
            "`info`",
        ),
        (
            EventKind::Stream,
            SubscribeReply::allow().data_bytes(text()).into(),
            "`data`",
        ),
        (
            EventKind::SubRefresh,
            SubRefreshReply::expire().info_bytes(text()).into(),
            "`info`",
        ),
        (
            EventKind::Publish,
            PublishReply::allow().data_bytes(text()).into(),
            "`data`",
        ),
        (EventKind::Rpc, RpcReply::bytes(text()).into(), "`data`"),
        (
            EventKind::MapPublish,
            MapPublishReply::allow().data_bytes(text()).into(),
            "`data`",
        ),
        (
            EventKind::MapPublish,
            MapPublishReply::allow().stream_data_bytes(text()).into(),
            "`stream_data`",
        ),
        (
            EventKind::Rpc,
            Reply::raw(Bytes::from_static(b"\x0a\x07\x0a\x05hello")),
            "`data`",
        ),
    ];
    for (kind, reply, naming) in cases {
        assert!(
            sealed(kind, false, reply.clone()).is_ok(),
            "{kind} {naming}"
        );
        stays(kind, reply, naming);
    }
}

#[test]
fn base64_payloads_are_judged_by_what_they_hold() {
    let rpc = EventKind::Rpc;
    let b64 = |text: &str| {
        let b64data = text.to_owned();
        Reply::new(ReplyMessage::Rpc(proxy::RpcResult {
            b64data,
            ..Default::default()
        }))
    };
    leaves(rpc, b64("e30="), r#"{"result":{"b64data":"e30="}}"#);
    stays(rpc, b64("aGVsbG8="), "not JSON");
    stays(rpc, b64("e30"), "not base64");
    stays(rpc, b64("_-8="), "not base64");
    assert!(sealed(rpc, false, b64("aGVsbG8=")).is_ok());
    assert!(sealed(rpc, false, b64("*")).is_err());
}

#[test]
fn publish_data_is_set_once() {
    let both = || proxy::PublishResult {
        data: Bytes::from_static(b"1"),
        b64data: "MQ==".into(),
        ..Default::default()
    };
    stays(
        EventKind::Publish,
        Reply::new(ReplyMessage::Publish(Box::new(both()))),
        "both `data` and `b64data`",
    );
    let map = proxy::MapPublishResult {
        stream_data: Bytes::from_static(b"1"),
        b64stream_data: "MQ==".into(),
        ..Default::default()
    };
    stays(
        EventKind::MapPublish,
        Reply::new(ReplyMessage::MapPublish(Box::new(map))),
        "both `stream_data` and `b64stream_data`",
    );
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
fn meta_has_to_be_a_json_object_whatever_the_client_speaks() {
    let user = || ConnectReply::user("u");
    leaves(
        EventKind::Connect,
        user().meta(&serde_json::json!({"t": 1})),
        r#"{"result":{"user":"u","meta":{"t":1}}}"#,
    );
    for reply in [user().meta(&()), user().meta("x"), user().meta(&[1])] {
        let why = sealed(EventKind::Connect, false, reply.null_payloads()).unwrap_err();
        assert!(why.contains("`meta`"), "{why}");
    }
    stays(
        EventKind::Refresh,
        RefreshReply::expire().meta(&1),
        "`meta`",
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
fn codes_and_reasons_of_raw_responses_are_checked() {
    let rpc = EventKind::Rpc;
    for code in [100, 113, 400, 1999] {
        let json = format!(r#"{{"error":{{"code":{code}}}}}"#);
        leaves(rpc, raw(rpc, &json), &json);
    }
    for code in [0, 99, 114, 399, 2000] {
        stays(
            rpc,
            raw(rpc, &format!(r#"{{"error":{{"code":{code}}}}}"#)),
            "error code",
        );
    }
    for code in [3001, 3014, 3500, 3509, 4000, 4999] {
        let json = format!(r#"{{"disconnect":{{"code":{code}}}}}"#);
        leaves(rpc, raw(rpc, &json), &json);
    }
    for code in [0, 2999, 3000, 3002, 3007, 3015, 3499, 3510, 3999, 5000] {
        let json = format!(r#"{{"disconnect":{{"code":{code}}}}}"#);
        stays(rpc, raw(rpc, &json), "disconnect code");
    }
    let reason = |length| {
        let reason = "x".repeat(length);
        raw(
            rpc,
            &format!(r#"{{"disconnect":{{"code":4000,"reason":"{reason}"}}}}"#),
        )
    };
    assert!(sealed(rpc, true, reason(123)).is_ok());
    stays(rpc, reason(124), "124 bytes");
    let stream = EventKind::Stream;
    let zero = r#"{"subscribe_response":{"error":{"code":0}}}"#;
    stays(stream, raw(stream, zero), "error code 0");
}

#[test]
fn of_several_parts_only_the_one_that_centrifugo_heeds_is_sent() {
    let rpc = EventKind::Rpc;
    let all = r#"{"result":{"data":1},"error":{"code":400},"disconnect":{"code":4000}}"#;
    leaves(rpc, raw(rpc, all), r#"{"disconnect":{"code":4000}}"#);
    let two = r#"{"result":{"data":1},"error":{"code":400}}"#;
    leaves(rpc, raw(rpc, two), r#"{"error":{"code":400}}"#);
    let stream = EventKind::Stream;
    let nested = r#"{"subscribe_response":{"result":{},"error":{"code":400}}}"#;
    let kept = r#"{"subscribe_response":{"error":{"code":400}}}"#;
    leaves(stream, raw(stream, nested), kept);
}

#[test]
fn raw_first_message_of_a_stream_opens_it_or_refuses_it() {
    let stream = EventKind::StreamBidirectional;
    let answered = |json| {
        shown(
            stream,
            &answer(stream, true, Outcome::Reply(raw(stream, json))),
        )
    };
    let accept = r#"{"subscribe_response":{"result":{"data":1}}}"#;
    assert_eq!(answered(accept), format!("open {accept}"));
    let refuse = r#"{"subscribe_response":{"error":{"code":403,"message":"no"}}}"#;
    assert_eq!(answered(refuse), refuse);
    assert_eq!(answered(r#"{"publication":{"data":1}}"#), "Internal");
    let both = r#"{"subscribe_response":{"result":{}},"publication":{"data":1}}"#;
    assert_eq!(answered(both), "Internal");
}

#[test]
fn raw_responses_that_say_nothing_are_refused() {
    for kind in EventKind::ALL {
        let mut reply = Reply::raw(Bytes::new());
        let sealed = seal(kind, false, &mut reply);
        assert_eq!(sealed.is_ok(), kind == EventKind::Raw, "{kind}");
    }
    let unknown_only = Bytes::from_static(&[0xa0, 0x06, 0x01]);
    stays(
        EventKind::Publish,
        Reply::raw(unknown_only),
        "Reply::empty()",
    );
    let broken = Bytes::from_static(&[0x0a, 0xff]);
    stays(
        EventKind::Publish,
        Reply::raw(broken),
        "not the response of a publish",
    );
    let not_utf8 = Bytes::from_static(&[0x0a, 0x04, 0x0a, 0x02, 0xff, 0x42]);
    stays(
        EventKind::Connect,
        Reply::raw(not_utf8),
        "not the response of a connect",
    );
}

#[test]
fn replies_above_the_limit_are_refused_by_name() {
    let of = |length: usize| RpcReply::bytes(vec![b'1'; length]);
    assert!(sealed(EventKind::Rpc, true, of(2 * 1024 * 1024)).is_ok());
    stays(
        EventKind::Rpc,
        of(MAX_REPLY_BYTES + 1),
        "Centrifugo takes 4194304",
    );
    stays(
        EventKind::Rpc,
        of(MAX_REPLY_BYTES - 2),
        "Centrifugo takes 4194304",
    );
    let raw = Reply::raw(Bytes::from(vec![0; MAX_REPLY_BYTES + 1]));
    stays(EventKind::Raw, raw, "Centrifugo takes 4194304");
    let long = Reject::error(400, "x".repeat(MAX_REPLY_BYTES));
    assert_eq!(answer(EventKind::Rpc, true, long.into()), Answer::INTERNAL);
    let publication = proxy::Publication {
        data: vec![b'1'; MAX_REPLY_BYTES].into(),
        ..Default::default()
    };
    assert!(stream_publication(true, &publication).is_err());
}

#[test]
fn sealed_reply_is_kept_until_it_is_changed() {
    let mut reply = Reply::from(RpcReply::data(&1));
    let first = seal(EventKind::Rpc, true, &mut reply).unwrap();
    let second = seal(EventKind::Rpc, true, &mut reply).unwrap();
    assert_eq!(first.as_ptr(), second.as_ptr());
    if let ReplyMessage::Rpc(result) = reply.message_mut() {
        result.data = Bytes::from_static(b"hello");
    }
    assert!(seal(EventKind::Rpc, true, &mut reply).is_err());
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
