//! C93 and C102 to C110, against the stand-in and in handlers. C101, and what a real Centrifugo says
//! to the others, is in `real.rs`.

use crate::double::{Double, towards};
use crate::relay::Relay;
use crate::{presence, publication, publisher, publisher_with};
use centripeta::config::{Config, Secret};
use centripeta::egress::{Error, Publisher, Refusal};
use centripeta::proto::{api, proxy};
use centripeta::testing::TestRouter;
use centripeta::{Channel, Client, Headers, Reject, Router, RpcReply, SubscribeReply};
use std::sync::Arc;

fn refusal<T>(answer: Result<T, Error>) -> Option<Refusal> {
    match answer {
        Err(Error::Refused { refusal, .. }) => Some(refusal),
        _ => None,
    }
}

/// An rpc that publishes once for each event, however often the event comes.
async fn pay(Headers(headers): Headers, publisher: Publisher) -> Result<RpcReply, Reject> {
    let id = headers.get("x-request-id").and_then(|id| id.to_str().ok());
    let published = publisher.publish(api::PublishRequest {
        idempotency_key: id.unwrap_or_default().to_owned(),
        ..publication("chat:1", "{}")
    });
    Ok(RpcReply::data(&published.await?.offset))
}

#[tokio::test]
async fn c93_a_duplicate_of_an_event_publishes_once_by_its_idempotency_key() {
    let double = Double::start();
    let router = Router::new().rpc("pay", pay);
    let publisher = publisher(&double).await;
    let config = Config::default();
    let router = TestRouter::with_publisher(router, &config, publisher)
        .await
        .unwrap();
    let pay = |id: &str| {
        let method = "pay".to_owned();
        let request = proxy::RpcRequest {
            method,
            ..Default::default()
        };
        router.rpc(request).metadata("x-request-id", id)
    };
    let first = pay("1").await;
    let again = pay("1").await;
    let other = pay("2").await;
    let offset = |answer: &centripeta::testing::TestAnswer<centripeta::event::Rpc>| {
        answer.result().map(|result| result.data.to_vec())
    };
    assert_eq!(offset(&first), Some(b"1".to_vec()));
    assert_eq!(offset(&again), Some(b"1".to_vec()));
    assert_eq!(offset(&other), Some(b"2".to_vec()));
    assert_eq!(double.state.of("chat:1").len(), 2);
}

#[tokio::test]
async fn c102_errors_of_both_modes_are_errors_of_the_call() {
    let double = Double::start();
    let publisher = publisher(&double).await;
    for publisher in [publisher.clone(), publisher.transport_errors()] {
        let error = publisher
            .publish(publication("nosuch:1", "{}"))
            .await
            .unwrap_err();
        assert_eq!(error.code(), Some(102), "{error}");
        let said = error.to_string();
        assert!(
            said.contains("namespace `nosuch` is not configured"),
            "{said}"
        );
        let error = publisher.presence(presence("plain:1")).await.unwrap_err();
        assert_eq!(error.code(), Some(108), "{error}");
        assert!(
            error
                .to_string()
                .contains("set `presence` in namespace `plain`"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn c103_results_and_errors_are_read_from_their_numbers() {
    let double = Double::start();
    let publisher = publisher(&double).await;
    let published = publisher
        .publish(publication("chat:1", "{}"))
        .await
        .unwrap();
    assert_eq!((published.offset, published.epoch.as_str()), (1, "e"));
    // The bytes themselves: result is number 2, error number 1.
    let request = prost::Message::encode_to_vec(&publication("chat:1", "{}"));
    let response = publisher.raw("Publish", request).await.unwrap();
    assert_eq!(response[..], [0x12, 5, 8, 2, 0x12, 1, b'e']);
    let request = prost::Message::encode_to_vec(&publication("nosuch:1", "{}"));
    let response = publisher.raw("Publish", request).await.unwrap();
    assert_eq!(response[..4], [0x0a, 19, 8, 102]);
}

#[tokio::test]
async fn c104_a_failing_command_of_a_batch_has_its_error_in_its_place() {
    let double = Double::start();
    let publisher = publisher(&double).await;
    let commands = ["chat:1", "nosuch:1", "chat:1"].map(|channel| publication(channel, "1").into());
    let answers = publisher.batch(commands.into(), false).await.unwrap();
    let offset = |at: usize| {
        let reply = answers[at].as_ref().unwrap();
        reply.publish.as_ref().unwrap().offset
    };
    assert_eq!((offset(0), offset(2)), (1, 2));
    assert_eq!(answers[1].as_ref().unwrap_err().code(), Some(102));
}

#[tokio::test]
async fn c105_a_broadcast_says_how_it_went_in_each_channel() {
    let double = Double::start();
    let publisher = publisher(&double).await;
    let channels = ["chat:1", "nosuch:1", "chat:2"];
    let result = publisher.broadcast_json(channels, &1).await.unwrap();
    let codes: Vec<_> = result
        .per_channel()
        .map(|one| one.map(|it| it.offset).map_err(|error| error.code()))
        .collect();
    assert_eq!(codes, [Ok(1), Err(Some(102)), Ok(1)]);
}

#[tokio::test]
async fn c106_a_method_that_centrifugo_lacks_is_unsupported() {
    let double = Double::start();
    let publisher = publisher(&double).await;
    let user = "u".to_owned();
    let request = api::BlockUserRequest { user, expire_at: 0 };
    let error = publisher.block_user(request.clone()).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("PRO"), "{error}");
    let answers = publisher.batch(vec![request.into()], false).await.unwrap();
    let error = answers[0].as_ref().unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

#[tokio::test]
async fn c107_data_that_is_not_json_is_refused_unless_the_channel_is_binary() {
    let double = Double::start();
    let publisher = publisher(&double).await;
    for data in ["{\"a\":", "", "\u{1}"] {
        let answer = publisher.publish(publication("chat:1", data)).await;
        assert_eq!(
            refusal(answer),
            Some(Refusal::NotJson { field: "data" }),
            "{data:?}"
        );
    }
    let base64 = api::PublishRequest {
        b64data: "AAH/".to_owned(),
        ..publication("chat:1", "{}")
    };
    let answer = publisher.publish(base64.clone()).await;
    assert_eq!(refusal(answer), Some(Refusal::NotJson { field: "b64data" }));
    let broken = api::PublishRequest {
        b64data: "***".to_owned(),
        ..base64
    };
    let answer = publisher.publish(broken).await;
    assert_eq!(
        refusal(answer),
        Some(Refusal::NotBase64 { field: "b64data" })
    );
    let batch = publisher
        .batch(vec![publication("chat:1", "}").into()], false)
        .await;
    assert_eq!(refusal(batch), Some(Refusal::NotJson { field: "data" }));
    assert!(double.state.of("chat:1").is_empty(), "nothing was sent");

    let published = publisher
        .binary()
        .publish(publication("chat:1", "\u{1}"))
        .await;
    assert_eq!(published.unwrap().offset, 1);
}

#[tokio::test]
async fn c108_no_pings_are_sent() {
    const PING: u8 = 6;
    const ACK: u8 = 1;
    let double = Double::start();
    let relay = Relay::to(double.address()).await;
    let endpoint = crate::double::endpoint(relay.address);
    let publisher = publisher_with(vec![endpoint], |_| {}).await;
    for round in 0..50 {
        let waiting: Vec<_> = (0..20)
            .map(|at| publisher.publish_json(format!("chat:{at}"), &"x".repeat(round * 40)))
            .collect();
        for published in waiting {
            published.await.unwrap();
        }
    }
    let frames = relay.frames();
    assert!(frames.len() > 100, "{}", frames.len());
    let pings = frames
        .iter()
        .filter(|(kind, flags)| *kind == PING && flags & ACK == 0);
    assert_eq!(pings.count(), 0);
}

#[tokio::test]
async fn c109_an_empty_user_is_refused_unless_anonymous_ones_are_meant() {
    let recorder = Arc::default();
    let publisher = Publisher::recording(Arc::clone(&recorder));
    let channel = "chat:1".to_owned();
    let subscribe = api::SubscribeRequest {
        channel: channel.clone(),
        ..Default::default()
    };
    let unsubscribe = api::UnsubscribeRequest {
        channel,
        ..Default::default()
    };
    let (disconnect, refresh) = (
        api::DisconnectRequest::default(),
        api::RefreshRequest::default(),
    );
    let anonymous = Some(Refusal::AnonymousUser);
    assert_eq!(
        refusal(publisher.subscribe(subscribe.clone()).await),
        anonymous
    );
    assert_eq!(refusal(publisher.unsubscribe(unsubscribe).await), anonymous);
    assert_eq!(
        refusal(publisher.disconnect(disconnect.clone()).await),
        anonymous
    );
    assert_eq!(refusal(publisher.refresh(refresh).await), anonymous);
    assert_eq!(refusal(publisher.cast(disconnect.clone())), anonymous);
    assert!(recorder.calls().is_empty());

    publisher.anonymous().subscribe(subscribe).await.unwrap();
    let everyone = api::DisconnectRequest {
        all_users: true,
        ..disconnect
    };
    publisher.disconnect(everyone).await.unwrap();
    assert_eq!(recorder.calls().len(), 2);
}

async fn undo(
    Client(client): Client,
    Channel(channel): Channel,
    publisher: Publisher,
) -> Result<SubscribeReply, Reject> {
    let own = api::UnsubscribeRequest {
        channel: channel.clone(),
        user: "u1".to_owned(),
        client: client.clone(),
        ..Default::default()
    };
    let refused = refusal(publisher.unsubscribe(own.clone()).await);
    assert_eq!(refused, Some(Refusal::OwnSubscribe { channel }));
    // Without a client it means all of the user's, this one too.
    let all = api::UnsubscribeRequest {
        client: String::new(),
        ..own.clone()
    };
    assert!(refusal(publisher.unsubscribe(all.clone()).await).is_some());
    assert!(refusal(publisher.batch(vec![all.into()], false).await).is_some());
    // These do not wait for us.
    let elsewhere = api::UnsubscribeRequest {
        channel: "chat:2".to_owned(),
        ..own.clone()
    };
    publisher.unsubscribe(elsewhere).await?;
    let another = api::UnsubscribeRequest {
        client: "c2".to_owned(),
        ..own.clone()
    };
    publisher.unsubscribe(another).await?;
    publisher.detached().cast(own)?;
    Ok(SubscribeReply::allow())
}

#[tokio::test]
async fn c110_a_subscribe_handler_may_not_wait_for_its_own_subscribe() {
    let router = TestRouter::new(Router::new().subscribe("chat:{room}", undo))
        .await
        .unwrap();
    let answer = router
        .subscribe(proxy::SubscribeRequest {
            client: "c1".to_owned(),
            user: "u1".to_owned(),
            channel: "chat:1".to_owned(),
            protocol: "json".to_owned(),
            ..Default::default()
        })
        .await;
    assert!(answer.result().is_some(), "{answer:?}");
    let sent: Vec<api::UnsubscribeRequest> = router.recorder().requests();
    let to: Vec<_> = sent
        .iter()
        .map(|it| (it.channel.as_str(), it.client.as_str()))
        .collect();
    assert_eq!(to, [("chat:2", "c1"), ("chat:1", "c2"), ("chat:1", "c1")]);
}

#[tokio::test]
async fn a_wrong_key_is_said_to_be_one() {
    let double = Double::start();
    *double.state.key.lock().unwrap() = Some("right".to_owned());
    for (key, is_right) in [(Some("right"), true), (Some("wrong"), false), (None, false)] {
        let mut config = towards(vec![double.endpoint()]);
        config.key = key.map(Secret::new);
        let publisher = Publisher::connect(&config, ":").unwrap();
        let answer = publisher.publish(publication("chat:1", "{}")).await;
        match answer {
            Ok(_) => assert!(is_right, "{key:?}"),
            Err(error) => {
                assert_eq!(error, Error::Unauthenticated);
                assert!(!is_right, "{key:?}");
            }
        }
    }
}
