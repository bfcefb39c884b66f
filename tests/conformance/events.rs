//! C29–C31, C34, C36, C44, C50, C53, C61, C67, C69: what events bring and replies may say.

use crate::support::{TestNode, actor, json, path, request, small_request};
use centripeta::event::EventKind;
use centripeta::extract::Method;
use centripeta::{
    Channel, ConnectReply, Cx, Data, Flow, Interceptor, Param, PublishReply, RefreshReply, Reject,
    Router, RpcReply, SubRefreshReply, SubscribeReply,
};
use tokio::sync::mpsc;

/// Calls with a directive for the handler; answers the status and the message as JSON.
async fn answers(kind: EventKind, acts: &[&str]) -> Vec<(i32, String)> {
    let node = TestNode::start(actor::router()).await;
    let client = node.client().await;
    let mut answers = Vec::new();
    for act in acts {
        let reply = client
            .call(&path(kind), &[("x-do", act)], &small_request(kind, "a"))
            .await;
        let message = reply.messages.first().map(|message| json(kind, message));
        answers.push((reply.status.unwrap(), message.unwrap_or_default()));
    }
    answers
}

#[tokio::test]
async fn c29_error_codes_are_100_to_113_or_400_to_1999_and_anything_else_is_internal() {
    let good = ["100", "103", "113", "400", "999", "1999"];
    let acts = good.map(|code| format!("error/{code}/x"));
    for (code, answer) in good
        .iter()
        .zip(answers(EventKind::Rpc, &acts.each_ref().map(|act| &**act)).await)
    {
        let expected = format!(r#"{{"error":{{"code":{code},"message":"x"}}}}"#);
        assert_eq!(answer, (0, expected));
    }
    let bad = ["0", "1", "99", "114", "399", "2000", "3000", "4294967295"];
    let acts = bad.map(|code| format!("error/{code}/x"));
    for answer in answers(EventKind::Rpc, &acts.each_ref().map(|act| &**act)).await {
        assert_eq!(answer, (13, String::new()));
    }
}

#[tokio::test]
async fn c30_disconnects_are_4000_to_4999_or_centrifugos_own_with_a_reason_that_fits() {
    let longest = format!("4501/{}", "x".repeat(123));
    let too_long = format!("4501/{}", "x".repeat(124));
    let wide = format!("4501/{}", "\u{e9}".repeat(62));
    let acts = ["4000/a", "4999/a", "3001/shutdown", "3503/a", &longest];
    let acts = acts.map(|act| format!("disconnect/{act}"));
    for answer in answers(EventKind::Connect, &acts.each_ref().map(|act| &**act)).await {
        assert_eq!(answer.0, 0, "{answer:?}");
        assert!(
            answer.1.starts_with(r#"{"disconnect":{"code":"#),
            "{answer:?}"
        );
    }
    let acts = ["0/a", "3000/a", "3999/a", "5000/a", "401/a", &too_long];
    let acts = acts.map(|act| format!("disconnect/{act}"));
    for answer in answers(EventKind::Connect, &acts.each_ref().map(|act| &**act)).await {
        assert_eq!(answer, (13, String::new()));
    }
    // The limit is in bytes.
    let reason = wide.trim_start_matches("4501/").to_owned();
    let router = Router::new().connect(move || {
        let reason = reason.clone();
        async { Err::<ConnectReply, _>(Reject::disconnect(4501, reason)) }
    });
    let node = TestNode::start(router).await;
    let body = small_request(EventKind::Connect, "");
    let reply = node
        .client()
        .await
        .call(&path(EventKind::Connect), &[], &body)
        .await;
    assert_eq!(reply.status, Some(13));
}

#[tokio::test]
async fn c31_of_disconnect_error_and_result_only_the_first_leaves() {
    // result {}, error {409}, disconnect {4501, "go"}, encoded.
    let (result, error, disconnect) = ("0a00", "12030899031a00", "1a0708952312026e6f");
    let error = &error[..10];
    let all = format!("raw/{result}{error}{disconnect}");
    let two = format!("raw/{result}{error}");
    let one = format!("raw/{result}");
    let acts = [all.as_str(), two.as_str(), one.as_str()];
    let expected = [
        r#"{"disconnect":{"code":4501,"reason":"no"}}"#,
        r#"{"error":{"code":409}}"#,
        r#"{"result":{}}"#,
    ];
    for kind in [EventKind::Rpc, EventKind::Publish, EventKind::Subscribe] {
        let answers = answers(kind, &acts).await;
        assert_eq!(answers, expected.map(|json| (0, json.to_owned())), "{kind}");
    }
}

#[tokio::test]
async fn c34_a_connect_without_data_name_version_and_channels_is_handled() {
    let router = Router::new().connect(|data: Option<Data<u32>>| async move {
        ConnectReply::user(if data.is_some() { "data" } else { "none" })
    });
    let node = TestNode::start(router).await;
    let client = node.client().await;
    let connect = path(EventKind::Connect);
    for body in [small_request(EventKind::Connect, ""), bytes::Bytes::new()] {
        let reply = client.call(&connect, &[], &body).await;
        let json = json(EventKind::Connect, reply.message());
        assert_eq!(json, r#"{"result":{"user":"none"}}"#);
    }
}

#[tokio::test]
async fn c36_a_connect_result_without_a_user_leaves_only_when_it_was_said() {
    let router = Router::new().connect(|Data(case): Data<String>| async move {
        match case.as_str() {
            "unsaid" => ConnectReply::user(""),
            "said" => ConnectReply::anonymous(),
            _ => ConnectReply::user("u1"),
        }
    });
    let node = TestNode::start(router).await;
    let client = node.client().await;
    for (case, status, json) in [
        ("unsaid", 13, ""),
        ("said", 0, r#"{"result":{}}"#),
        ("user", 0, r#"{"result":{"user":"u1"}}"#),
    ] {
        let body = request(EventKind::Connect, &format!(r#"{{"data":"{case}"}}"#));
        let reply = client.call(&path(EventKind::Connect), &[], &body).await;
        let message = reply.messages.first();
        let message = message.map(|message| self::json(EventKind::Connect, message));
        assert_eq!(
            (reply.status, message.unwrap_or_default().as_str()),
            (Some(status), json)
        );
    }
}

struct Looks(mpsc::UnboundedSender<Vec<String>>);

impl Interceptor for Looks {
    async fn before(&self, cx: &mut Cx) -> Flow {
        let entries = cx.metadata().iter();
        let entries = entries.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        self.0.send(entries.collect()).unwrap();
        Flow::Next
    }
}

#[tokio::test]
async fn c44_interceptors_see_metadata_in_lower_case_with_every_value() {
    let (seen, mut metadata) = mpsc::unbounded_channel();
    let router = Router::new()
        .intercept_all("looks", Looks(seen))
        .connect(|| async { ConnectReply::user("u1") });
    let node = TestNode::start(router).await;
    let headers = [
        ("cookie", "sid=1"),
        ("authorization", "Bearer t"),
        ("x-real-ip", "10.0.0.1"),
        ("x-many", "one"),
        ("x-many", "two"),
    ];
    let body = small_request(EventKind::Connect, "");
    node.client()
        .await
        .call(&path(EventKind::Connect), &headers, &body)
        .await;
    let seen = metadata.recv().await.unwrap();
    for (name, value) in headers {
        let line = format!("{name}: {value}");
        assert_eq!(
            seen.iter().filter(|other| **other == line).count(),
            1,
            "{line}"
        );
    }
}

#[tokio::test]
async fn c50_a_refusal_of_a_refresh_is_expired_and_an_empty_extension_does_not_leave() {
    let router = Router::new()
        .refresh(|Data(_): Data<u32>| async { RefreshReply::expire() })
        .sub_refresh("error", || async {
            Err::<SubRefreshReply, _>(Reject::error(403, "no"))
        })
        .sub_refresh("disconnect", || async {
            Err::<SubRefreshReply, _>(Reject::disconnect(4501, "no"))
        })
        .sub_refresh("nothing", || async { SubRefreshReply::extend_until(0) })
        .sub_refresh("never", || async { SubRefreshReply::never_expires() });
    let node = TestNode::start(router).await;
    let client = node.client().await;
    let expired = r#"{"result":{"expired":true}}"#;
    for (channel, status, json) in [
        ("error", 0, expired),
        ("disconnect", 0, expired),
        ("unknown", 0, expired),
        ("nothing", 13, ""),
        ("never", 0, r#"{"result":{}}"#),
    ] {
        let body = small_request(EventKind::SubRefresh, channel);
        let reply = client.call(&path(EventKind::SubRefresh), &[], &body).await;
        let message = reply.messages.first();
        let message = message.map(|message| self::json(EventKind::SubRefresh, message));
        let message = message.unwrap_or_default();
        assert_eq!(
            (reply.status, message.as_str()),
            (Some(status), json),
            "{channel}"
        );
    }
    for (act, json) in [("error/403/no", expired), ("disconnect/4501/no", expired)] {
        assert_eq!(
            answers(EventKind::Refresh, &[act]).await,
            [(0, json.to_owned())]
        );
    }
}

#[tokio::test]
async fn c53_channels_reach_handlers_verbatim_and_namespaces_end_at_the_boundary() {
    let room = |Channel(channel): Channel, Param(room): Param<String>| async move {
        SubscribeReply::allow().data(&(channel, room))
    };
    let router = Router::new()
        .subscribe("chat:{room}", room)
        .subscribe("{all...}", |Channel(channel): Channel| async move {
            SubscribeReply::allow().data(&(channel, "?"))
        });
    let node = TestNode::start(router).await;
    let client = node.client().await;
    for (channel, room) in [
        ("chat:1", "1"),
        ("chat:#1,2", "#1,2"),
        ("chat:\u{e4}\u{1F980}", "\u{e4}\u{1F980}"),
        ("chat:a:b", "?"),
        ("Chat:1", "?"),
        ("$chat:1", "?"),
        ("chat", "?"),
    ] {
        let body = small_request(EventKind::Subscribe, channel);
        let reply = client.call(&path(EventKind::Subscribe), &[], &body).await;
        let json = json(EventKind::Subscribe, reply.message());
        assert_eq!(
            json,
            format!(r#"{{"result":{{"data":["{channel}","{room}"]}}}}"#)
        );
    }
}

#[tokio::test]
async fn c61_replaced_data_leaves_in_one_of_its_two_forms() {
    let router = Router::new()
        .publish("replaced", || async { PublishReply::replace(&1) })
        .publish("both", || async {
            centripeta::proto::proxy::PublishResult {
                data: "1".into(),
                b64data: "MQ==".to_owned(),
                ..Default::default()
            }
        });
    let node = TestNode::start(router).await;
    let client = node.client().await;
    let call = async |channel: &str| {
        let body = small_request(EventKind::Publish, channel);
        client.call(&path(EventKind::Publish), &[], &body).await
    };
    let replaced = call("replaced").await;
    let json = json(EventKind::Publish, replaced.message());
    assert_eq!(json, r#"{"result":{"data":1}}"#);
    assert_eq!(call("both").await.status, Some(13));
}

#[tokio::test]
async fn c67_an_rpc_error_is_ok_on_the_wire_with_code_and_message_and_no_result() {
    let answers = answers(EventKind::Rpc, &["error/999/no stock"]).await;
    let json = r#"{"error":{"code":999,"message":"no stock"}}"#;
    assert_eq!(answers, [(0, json.to_owned())]);
}

#[tokio::test]
async fn c69_an_empty_method_reaches_the_route_for_everything_or_is_refused() {
    let body = small_request(EventKind::Rpc, "");
    let router = Router::new().rpc("*", |Method(method): Method| async move {
        RpcReply::data(&method)
    });
    let node = TestNode::start(router).await;
    let reply = node
        .client()
        .await
        .call(&path(EventKind::Rpc), &[], &body)
        .await;
    assert_eq!(
        json(EventKind::Rpc, reply.message()),
        r#"{"result":{"data":""}}"#
    );

    let router = Router::new().rpc("cart.*", || async { RpcReply::done() });
    let node = TestNode::start(router).await;
    let reply = node
        .client()
        .await
        .call(&path(EventKind::Rpc), &[], &body)
        .await;
    let refused = r#"{"error":{"code":104,"message":"method not found"}}"#;
    assert_eq!(json(EventKind::Rpc, reply.message()), refused);
}

#[tokio::test]
async fn c68_a_reply_that_is_not_json_leaves_to_protobuf_clients_only() {
    let router = Router::new().rpc("*", || async { RpcReply::bytes(&b"\xff\x00"[..]) });
    let node = TestNode::start(router).await;
    let client = node.client().await;
    for (protocol, status) in [("json", 13), ("protobuf", 0)] {
        let body = request(EventKind::Rpc, &format!(r#"{{"protocol":"{protocol}"}}"#));
        let reply = client.call(&path(EventKind::Rpc), &[], &body).await;
        assert_eq!(reply.status, Some(status), "{protocol}");
    }
}
