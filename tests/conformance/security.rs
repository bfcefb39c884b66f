//! C97, C99, C100: the caller's credential, what logs say, and what is no identity.

use crate::support::{self, TestNode, actor, json, path, request, small_request, soon};
use centripeta::config::{AuthConfig, Secret};
use centripeta::event::EventKind;
use centripeta::{ConnectReply, Cx, Flow, Headers, Interceptor, Reject, Router, RpcReply, User};

fn with_key(config: &mut centripeta::config::Config) {
    config.listen.auth = Some(AuthConfig {
        metadata: "x-router-key".to_owned(),
        value: Secret::new("c97-sesame"),
    });
}

#[tokio::test]
async fn c97_the_credential_lets_in_and_no_handler_sees_it() {
    let router = Router::new().rpc("*", |Headers(headers): Headers| async move {
        let names: Vec<&str> = headers.keys().map(http::HeaderName::as_str).collect();
        RpcReply::data(&names.contains(&"x-router-key"))
    });
    let node = TestNode::start_with(router, with_key).await;
    let client = node.client().await;
    let rpc = path(EventKind::Rpc);
    let body = small_request(EventKind::Rpc, "a");
    let reply = client
        .call(&rpc, &[("x-router-key", "c97-sesame")], &body)
        .await;
    assert_eq!(
        json(EventKind::Rpc, reply.message()),
        r#"{"result":{"data":false}}"#
    );
    for headers in [
        &[][..],
        &[("x-router-key", "c97-sesam")],
        &[("x-router-key", "c97-sesame "), ("x-router-key", "x")],
        &[
            ("x-router-key", "c97-sesame"),
            ("x-router-key", "c97-sesame2"),
        ],
        &[("x-router-keys", "c97-sesame")],
        &[("authorization", "c97-sesame")],
    ] {
        let reply = client.call(&rpc, headers, &body).await;
        assert_eq!(
            (reply.status, reply.messages.len()),
            (Some(16), 0),
            "{headers:?}"
        );
    }
    // Health checks ask for no credential and say nothing else.
    let health = client.call("/grpc.health.v1.Health/Check", &[], b"").await;
    assert_eq!(health.message(), &b"\x08\x01"[..]);
}

#[tokio::test]
async fn c99_no_credential_cookie_token_or_payload_is_logged_at_info() {
    support::logs::keep();
    let node = TestNode::start_with(actor::router(), with_key).await;
    let client = node.client().await;
    for kind in EventKind::ALL {
        for act in ["", "fail", "panic", "error/0/x", "bad-data", "sleep/1000"] {
            for key in ["c97-sesame", "c99-wrong-key"] {
                let headers = [
                    ("x-router-key", key),
                    ("x-do", act),
                    ("cookie", "sid=c99-cookie"),
                    ("authorization", "Bearer c99-token"),
                    ("grpc-timeout", "20m"),
                ];
                let fields = match kind {
                    EventKind::ChannelState => "{}",
                    EventKind::Raw => r#"{"$hex":"0a0a6339392d7061796c6f6164"}"#,
                    EventKind::CacheEmpty => r#"{"channel":"c99:1"}"#,
                    EventKind::SharedPollRefresh => {
                        r#"{"channel":"c99:1","items":[{"key":"c99-payload"}]}"#
                    }
                    EventKind::Connect => r#"{"client":"c","data":"c99-payload"}"#,
                    EventKind::Refresh => r#"{"client":"c","meta":{"a":"c99-payload"}}"#,
                    EventKind::Rpc => r#"{"client":"c","method":"c99.a","data":"c99-payload"}"#,
                    EventKind::SubRefresh => {
                        r#"{"client":"c","channel":"c99:1","meta":{"a":"c99-payload"}}"#
                    }
                    EventKind::MapRemove => {
                        r#"{"client":"c","channel":"c99:1","key":"c99-payload"}"#
                    }
                    EventKind::StreamBidirectional => {
                        r#"{"subscribe_request":{"client":"c","channel":"c99:1","data":"c99-payload"}}"#
                    }
                    _ => r#"{"client":"c","channel":"c99:1","data":"c99-payload"}"#,
                };
                if kind.is_stream() {
                    let mut call = client.open(&path(kind), &headers).await.unwrap();
                    call.message(&request(kind, fields)).await;
                    soon("the first message, or the end", call.next()).await;
                    call.cancel();
                    continue;
                }
                client
                    .call(&path(kind), &headers, &request(kind, fields))
                    .await;
            }
        }
    }
    // Something was logged of these very events …
    assert!(!support::logs::with("c99").is_empty());
    // … and nothing of what they carried.
    for word in [
        "c97-sesame",
        "c99-wrong-key",
        "c99-cookie",
        "c99-token",
        "c99-payload",
    ] {
        assert_eq!(support::logs::with(word), Vec::<String>::new(), "{word}");
    }
}

#[tokio::test]
async fn c100_only_the_user_field_is_an_identity() {
    let router = Router::new()
        .rpc("*", |User(user): User| async move { RpcReply::data(&user) })
        .connect(|user: Option<User>| async move {
            assert!(user.is_none(), "nobody has been authenticated yet");
            ConnectReply::anonymous()
        });
    let node = TestNode::start(router).await;
    let client = node.client().await;
    let forged = [
        ("user", "admin"),
        ("x-user", "admin"),
        ("authorization", "Bearer admin"),
        ("cookie", "user=admin"),
    ];
    let call = async |kind: EventKind, fields: &str| {
        let reply = client
            .call(&path(kind), &forged, &request(kind, fields))
            .await;
        json(kind, reply.message())
    };
    let anonymous = call(
        EventKind::Rpc,
        r#"{"data":{"user":"admin"},"meta":{"user":"admin"}}"#,
    )
    .await;
    assert_eq!(
        anonymous,
        r#"{"error":{"code":103,"message":"permission denied"}}"#
    );
    let named = call(EventKind::Rpc, r#"{"user":"42","data":{"user":"admin"}}"#).await;
    assert_eq!(named, r#"{"result":{"data":"42"}}"#);
    let fields = r#"{"name":"admin","version":"admin","data":{"user":"admin"}}"#;
    assert_eq!(call(EventKind::Connect, fields).await, r#"{"result":{}}"#);
}

/// The usual check of who somebody is, in front of every handler.
struct KnownUsers;

impl Interceptor for KnownUsers {
    async fn before(&self, cx: &mut Cx) -> Flow {
        match cx.user() {
            "42" => Flow::Next,
            _ => Reject::permission_denied().into(),
        }
    }
}

#[tokio::test]
async fn c100_an_interceptor_that_asks_who_it_is_is_fooled_by_nothing_else() {
    let router = Router::new()
        .intercept_all("known-users", KnownUsers)
        .rpc("*", || async { RpcReply::data("in") })
        .connect(|| async { ConnectReply::anonymous() });
    let node = TestNode::start(router).await;
    let client = node.client().await;
    let forged = [
        ("user", "42"),
        ("x-user", "42"),
        ("authorization", "Bearer 42"),
        ("cookie", "user=42"),
    ];
    let denied = r#"{"error":{"code":103,"message":"permission denied"}}"#;
    for (kind, fields, expected) in [
        (
            EventKind::Rpc,
            r#"{"data":{"user":"42"},"meta":{"user":"42"}}"#,
            denied,
        ),
        (
            EventKind::Rpc,
            r#"{"user":"43","data":{"user":"42"}}"#,
            denied,
        ),
        (
            EventKind::Rpc,
            r#"{"user":"42"}"#,
            r#"{"result":{"data":"in"}}"#,
        ),
        (
            EventKind::Connect,
            r#"{"name":"42","version":"42","data":{"user":"42"}}"#,
            denied,
        ),
    ] {
        let body = request(kind, fields);
        let reply = client.call(&path(kind), &forged, &body).await;
        assert_eq!(json(kind, reply.message()), expected, "{kind} {fields}");
    }
}
