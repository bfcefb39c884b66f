//! What single calls are answered.

use crate::client::encoded;
use crate::double::Double;
use crate::{Served, free};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use centripeta::goridge::Flags;
use centripeta::proto::api;
use prost::Message;
use serde_json::Value;

const ERROR_PROTO: Flags = Flags(0xc0);

#[tokio::test]
async fn w97_a_method_that_nobody_here_knows_is_passed_on_with_its_bytes_both_ways() {
    // No protobuf at all: neither request nor answer is looked into.
    let double = Double::start(|_, _| Ok(Bytes::from_static(b"\xff\xfe answer"))).await;
    let served = Served::start(&double).await;
    let mut client = served.client().await;
    let method = "centrifuge.TurnIntoTea";
    let (flags, body) = client.call(Flags::PROTO, method, b"\xff\xfd request").await;
    assert_eq!(
        (flags, body.as_ref()),
        (Flags::PROTO, &b"\xff\xfe answer"[..])
    );
    assert_eq!(double.requests("TurnIntoTea"), [&b"\xff\xfd request"[..]]);
}

#[tokio::test]
async fn w96_a_method_of_pro_is_answered_as_unimplemented() {
    let double = Double::start(|_, _| Err((12, "unknown method"))).await;
    let served = Served::start(&double).await;
    let mut client = served.client().await;
    let (flags, body) = client
        .call(Flags::PROTO, "centrifuge.BlockUser", b"\x12\x02u1")
        .await;
    assert_eq!(flags, ERROR_PROTO);
    let text = "rpc error: code = Unimplemented desc = method BlockUser not implemented";
    assert_eq!(body, text);
}

#[tokio::test]
async fn a_centrifugo_that_is_gone_is_told_in_grpcs_words() {
    let mut config = free();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    config.centrifugo.api[0].port = port;
    config.centrifugo.timeout = std::time::Duration::from_millis(300);
    let listeners = centripeta::Listeners::bind(&config).await.unwrap();
    let node = centripeta::Node::start(&config, centripeta::Router::new(), listeners);
    let node = node.await.unwrap();
    let mut client = crate::client::Client::connect(&node.rpc_address().unwrap()).await;
    let (flags, body) = client
        .call(Flags::PROTO, "centrifuge.Presence", b"\x0a\x01a")
        .await;
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!(flags, ERROR_PROTO);
    let known = [
        "rpc error: code = Unavailable desc = ",
        "rpc error: code = DeadlineExceeded desc = ",
    ];
    assert!(known.iter().any(|start| text.starts_with(start)), "{text}");
}

#[tokio::test]
async fn w89_a_node_starts_without_centrifugo_and_calls_it_once_it_is_there() {
    let mut config = free();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    drop(held);
    config.centrifugo.api[0].port = address.port();
    config.centrifugo.timeout = std::time::Duration::from_millis(300);
    let listeners = centripeta::Listeners::bind(&config).await.unwrap();
    let node = centripeta::Node::start(&config, centripeta::Router::new(), listeners);
    let node = node.await.unwrap();
    let mut client = crate::client::Client::connect(&node.rpc_address().unwrap()).await;
    let call = ("centrifuge.Presence", &b"\x0a\x01a"[..]);
    let (flags, _) = client.call(Flags::PROTO, call.0, call.1).await;
    assert_eq!(flags, ERROR_PROTO, "nobody is there yet");
    let double = Double::start_at(address, |_, _| Ok(Bytes::from_static(&[0x12, 0]))).await;
    let limit = tokio::time::Instant::now() + crate::client::SOON;
    loop {
        let (flags, body) = client.call(Flags::PROTO, call.0, call.1).await;
        if flags == Flags::PROTO {
            break assert_eq!(body.as_ref(), [0x12, 0]);
        }
        assert!(tokio::time::Instant::now() < limit, "{body:?}");
    }
    assert_eq!(double.requests("Presence").last().unwrap(), call.1);
}

#[tokio::test]
async fn w90_every_call_carries_the_api_key_and_none_does_without() {
    let double = Double::plain().await;
    let key = "hush-hush";
    let with_key = |config: &mut centripeta::config::Config| {
        config.centrifugo.key = Some(centripeta::config::Secret::new(key));
    };
    let served = Served::start_with(&double, with_key).await;
    let mut client = served.client().await;
    // Known ones, and one that nobody here knows.
    let methods = ["Presence", "Broadcast", "TurnIntoTea"];
    for method in methods {
        let name = format!("centrifuge.{method}");
        let (flags, _) = client.call(Flags::PROTO, &name, b"").await;
        assert_eq!(flags, Flags::PROTO, "{method}");
        let sent = double.headers(method, "authorization");
        assert_eq!(sent, [Some(format!("apikey {key}"))], "{method}");
    }
    let served = Served::start(&double).await;
    let mut client = served.client().await;
    client.call(Flags::PROTO, "centrifuge.Presence", b"").await;
    let sent = double.headers("Presence", "authorization");
    assert_eq!(sent[1..], [None]);
}

#[tokio::test]
async fn w91_a_call_ends_by_itself_where_centrifugo_does_not_answer_and_tells_it_until_when() {
    let double = Double::plain().await;
    let short = |config: &mut centripeta::config::Config| {
        config.centrifugo.timeout = std::time::Duration::from_millis(400);
    };
    let served = Served::start_with(&double, short).await;
    let mut client = served.client().await;
    double.open(false);
    let started = tokio::time::Instant::now();
    let (flags, body) = client.call(Flags::PROTO, "centrifuge.Presence", b"").await;
    let took = started.elapsed();
    assert_eq!(flags, ERROR_PROTO);
    assert_eq!(
        body,
        "rpc error: code = DeadlineExceeded desc = context deadline exceeded"
    );
    assert!(took >= std::time::Duration::from_millis(300), "{took:?}");
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
    let told = double.headers("Presence", "grpc-timeout");
    assert!(told.len() == 1 && told[0].is_some(), "{told:?}");
    // The connection is as good as before.
    assert_eq!(client.json("rpc.Version", "true").await, r#""2025.1.15""#);
    double.open(true);
    let (flags, _) = client.call(Flags::PROTO, "centrifuge.Presence", b"").await;
    assert_eq!(flags, Flags::PROTO);
}

#[tokio::test]
async fn w99_of_several_codecs_protobuf_wins_over_json() {
    let double = Double::plain().await;
    let served = Served::start(&double).await;
    let mut client = served.client().await;
    let both = Flags::JSON.and(Flags::PROTO);
    let (flags, body) = client.call(both, "centrifuge.Channels", b"").await;
    assert_eq!((flags, body.as_ref()), (Flags::PROTO, &[0x12, 0][..]));
    let (flags, body) = client.call(both, "rpc.Version", b"true").await;
    assert_eq!(flags, ERROR_PROTO);
    assert_eq!(
        body,
        "goridge_read_request_body: message type is not a proto"
    );
}

#[tokio::test]
async fn w103_the_highest_sequence_is_echoed_and_an_error_bit_a_stream_byte_and_a_version_are_ignored()
 {
    let served = Served::start(&Double::plain().await).await;
    let mut client = served.client().await;
    let mut asked = encoded(Flags::JSON, u32::MAX, "rpc.Version", b"true").to_vec();
    let plain = client.exchange(&asked).await;
    assert_eq!(plain[12..16], [0xff; 4]);
    asked[10] = 0x01;
    assert_eq!(client.exchange(&asked).await, plain);
    let asked = encoded(
        Flags::JSON.and(Flags::ERROR),
        u32::MAX,
        "rpc.Version",
        b"true",
    );
    assert_eq!(client.exchange(&asked).await, plain);
}

#[tokio::test]
async fn w104_names_are_told_apart_by_case_and_unknown_ones_by_what_is_unknown() {
    let served = Served::start(&Double::plain().await).await;
    let mut client = served.client().await;
    let names = [
        (
            "centrifuge.publish",
            "rpc: can't find method centrifuge.publish",
        ),
        ("rpc.version", "rpc: can't find method rpc.version"),
        ("informer.Sleep", "rpc: can't find method informer.Sleep"),
        ("Rpc.Version", "rpc: can't find service Rpc.Version"),
        ("kv.Has", "rpc: can't find service kv.Has"),
        ("a.rpc.Version", "rpc: can't find service a.rpc.Version"),
        ("nodot", "rpc: service/method request ill-formed: nodot"),
        ("", "rpc: service/method request ill-formed: "),
    ];
    for (name, text) in names {
        assert_eq!(client.refused(name, "true").await, text);
    }
    // What is not there is told before how it was called.
    let (flags, body) = client.call(Flags::NONE, "kv.Has", b"").await;
    assert_eq!(flags, Flags(0x60));
    assert_eq!(body, "rpc: can't find service kv.Has");
}

#[tokio::test]
async fn ill_formed_arguments_are_answered_with_the_decoders_words() {
    let double = Double::plain().await;
    let served = Served::start(&double).await;
    let mut client = served.client().await;
    let (flags, body) = client
        .call(Flags::PROTO, "centrifuge.Publish", b"\xff")
        .await;
    assert_eq!(flags, ERROR_PROTO);
    let text = "goridge_read_request_body: proto: cannot parse invalid wire-format data";
    assert_eq!(body, text);
    assert!(double.requests("Publish").is_empty());
    let empty = client.refused("rpc.Version", "").await;
    assert_eq!(
        empty,
        "goridge_read_request_body: json: bool unexpected end of JSON input"
    );
    let wrong = client.refused("informer.Workers", "{").await;
    assert!(
        wrong.starts_with("goridge_read_request_body: json: string "),
        "{wrong}"
    );
    let wrong = client.refused("centrifuge.Publish", "[").await;
    assert!(
        wrong.starts_with("goridge_read_request_body: json: "),
        "{wrong}"
    );
    let (flags, body) = client.call(Flags::RAW, "rpc.Version", b"true").await;
    assert_eq!(
        (flags, body.as_ref()),
        (Flags(0x44), &b"unknown Raw payload type"[..])
    );
    for codec in [Flags::MSGPACK, Flags::GOB] {
        let (flags, body) = client.call(codec, "centrifuge.Publish", b"").await;
        assert_eq!(flags, codec.and(Flags::ERROR));
        assert_eq!(
            body,
            "goridge_read_request_body: unknown decoder used in frame"
        );
    }
    // The connection took no harm, and an empty protobuf is a message with every default.
    let (flags, _) = client.call(Flags::PROTO, "centrifuge.Publish", b"").await;
    assert_eq!(flags, Flags::PROTO);
    assert_eq!(double.requests("Publish"), [Bytes::new()]);
}

#[tokio::test]
async fn json_calls_carry_payloads_as_base64_both_ways() {
    let double = Double::start(|method, _| {
        assert_eq!(method, "Presence");
        let info = api::ClientInfo {
            user: "u1".to_owned(),
            client: "c1".to_owned(),
            conn_info: br#"{"i":1}"#.to_vec().into(),
            ..Default::default()
        };
        let presence = std::iter::once(("c1".to_owned(), info)).collect();
        let response = api::PresenceResponse {
            result: Some(api::PresenceResult { presence }),
            ..Default::default()
        };
        Ok(response.encode_to_vec().into())
    })
    .await;
    let served = Served::start(&double).await;
    let mut client = served.client().await;
    let text = client
        .json("centrifuge.Presence", r#"{"channel":"news"}"#)
        .await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    let info = &answer["result"]["presence"]["c1"]["conn_info"];
    assert_eq!(info.as_str().unwrap(), STANDARD.encode(r#"{"i":1}"#));
    let text = client.refused("centrifuge.Connections", "{}").await;
    assert!(text.contains("call it by the protobuf codec"), "{text}");
}

#[tokio::test]
async fn json_calls_carry_bytes_that_are_no_json_as_roadrunner_does() {
    const BINARY: &[u8] = b"\x00\xff not JSON \xfe";
    let double = Double::start(|method, _| {
        let info = api::ClientInfo {
            conn_info: Bytes::from_static(BINARY),
            chan_info: Bytes::from_static(b"{\"a\": 1}"),
            ..Default::default()
        };
        let presence = std::iter::once(("c1".to_owned(), info)).collect();
        let response = api::PresenceResponse {
            result: Some(api::PresenceResult { presence }),
            ..Default::default()
        };
        Ok(match method {
            "Presence" => response.encode_to_vec().into(),
            _ => Bytes::from_static(&[0x12, 0]),
        })
    })
    .await;
    let served = Served::start(&double).await;
    let mut client = served.client().await;
    let sent = STANDARD.encode(BINARY);
    let argument = format!(r#"{{"channel":"raw","data":"{sent}"}}"#);
    client.json("centrifuge.Publish", &argument).await;
    let request = double.requests("Publish").pop().unwrap();
    let request = api::PublishRequest::decode(request).unwrap();
    assert_eq!(
        (request.channel.as_str(), request.data.as_ref()),
        ("raw", BINARY)
    );
    let argument = format!(r#"{{"channel":"raw","user":"u","info":"{sent}","data":null}}"#);
    client.json("centrifuge.Subscribe", &argument).await;
    let request = double.requests("Subscribe").pop().unwrap();
    let request = api::SubscribeRequest::decode(request).unwrap();
    assert_eq!(
        (request.info.as_ref(), request.data.as_ref()),
        (BINARY, &b""[..])
    );
    let text = client
        .json("centrifuge.Presence", r#"{"channel":"raw"}"#)
        .await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    let client_info = &answer["result"]["presence"]["c1"];
    assert_eq!(client_info["conn_info"], sent);
    assert_eq!(client_info["chan_info"], STANDARD.encode("{\"a\": 1}"));
    for wrong in [r#""n#t base64""#, "7", "{}"] {
        let argument = format!(r#"{{"channel":"raw","data":{wrong}}}"#);
        let text = client.refused("centrifuge.Publish", &argument).await;
        assert!(text.contains("data: ") && text.contains("base64"), "{text}");
    }
}

#[tokio::test]
async fn w107_a_plugin_that_is_not_there_can_not_be_reset_and_has_no_workers_to_add() {
    let served = Served::start(&Double::plain().await).await;
    let mut client = served.client().await;
    let text = client.refused("resetter.Reset", r#""nope""#).await;
    let known = "resetter_rpc_reset:\n\tresetter_plugin_reset_by_name: no such plugin: nope";
    assert_eq!(text, known);
    assert_eq!(
        client.json("informer.Workers", r#""nope""#).await,
        r#"{"workers":null}"#
    );
    assert_eq!(client.json("informer.Jobs", r#""nope""#).await, "[]");
    for method in ["informer.AddWorker", "informer.RemoveWorker"] {
        assert_eq!(
            client.refused(method, r#""nope""#).await,
            "no such plugin: nope"
        );
    }
    let (flags, body) = client
        .call(Flags::PROTO, "status.Ready", b"\x0a\x04nope")
        .await;
    assert_eq!(
        (flags, body.as_ref()),
        (ERROR_PROTO, &b"no such plugin: nope"[..])
    );
}

#[tokio::test]
async fn lines_of_applications_are_answered_false_and_with_context_empty() {
    let served = Served::start(&Double::plain().await).await;
    let mut client = served.client().await;
    for level in ["Error", "Warning", "Info", "Debug", "Log"] {
        let method = format!("app.{level}");
        assert_eq!(client.json(&method, r#""hello""#).await, "false");
        let entry = b"\x0a\x02hi\x12\x06\x0a\x01k\x12\x01v";
        let (flags, body) = client
            .call(Flags::PROTO, &format!("{method}WithContext"), entry)
            .await;
        assert_eq!((flags, body.len()), (Flags::PROTO, 0));
    }
    let refused = client.refused("app.Scream", r#""x""#).await;
    assert_eq!(refused, "rpc: can't find method app.Scream");
}

#[tokio::test]
async fn what_applications_count_by_rpc_is_on_the_page_of_metrics() {
    let served = Served::start(&Double::plain().await).await;
    let mut client = served.client().await;
    let declared = r#"{"name":"orders","collector":{"namespace":"shop","subsystem":"","type":"counter","help":"Orders.","labels":["kind"],"buckets":[]}}"#;
    assert_eq!(client.json("metrics.Declare", declared).await, "true");
    let again = client.refused("metrics.Declare", declared).await;
    assert!(
        again.starts_with("metrics_plugin_declare: tried to register existing collector"),
        "{again}"
    );
    let sample = r#"{"name":"orders","value":2,"labels":["new"]}"#;
    assert_eq!(client.json("metrics.Add", sample).await, "true");
    let page = served.page("/metrics").await;
    assert!(
        page.contains("# TYPE shop_orders counter\nshop_orders{kind=\"new\"} 2\n"),
        "{page}"
    );
    let unknown = client
        .refused("metrics.Add", r#"{"name":"x","value":1,"labels":[]}"#)
        .await;
    let known =
        "metrics_plugin_add: undefined collector x, try first Declare the desired collector";
    assert_eq!(unknown, known);
    assert_eq!(
        client.json("metrics.Unregister", r#""orders""#).await,
        "true"
    );
    assert!(!served.page("/metrics").await.contains("shop_orders"));
}
