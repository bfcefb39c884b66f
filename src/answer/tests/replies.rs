//! What may not leave, reply by reply.

use super::*;

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
fn a_payload_that_is_replaced_by_nothing_does_not_become_the_original() {
    let nothing = "can't be replaced by nothing";
    let publish = PublishReply::allow().data_bytes(Bytes::new());
    stays(EventKind::Publish, publish, nothing);
    let map_publish = MapPublishReply::allow().data_bytes(Bytes::new());
    stays(EventKind::MapPublish, map_publish, nothing);
    leaves(
        EventKind::Publish,
        PublishReply::allow(),
        r#"{"result":{}}"#,
    );
}
