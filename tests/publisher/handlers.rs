//! The publisher as handlers have it: an extractor, bound to slot and owner epoch.

use crate::double::{Double, Fault};
use crate::{eventually, publication};
use centripeta::config::{Config, ListenAddr};
use centripeta::egress::{Error, Publisher};
use centripeta::proto::proxy::centrifugo_proxy_client::CentrifugoProxyClient;
use centripeta::proto::{api, proxy};
use centripeta::testing::TestRouter;
use centripeta::{Channel, Data, Listeners, Node, PublishReply, Reject, Router, RpcReply, User};
use centripeta_cluster::lease::Reading;
use centripeta_cluster::{Gate, OwnerEpoch, Standing, slot_of};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tonic::Code;
use tonic::transport::Endpoint;

fn rpc(method: &str, data: &str) -> proxy::RpcRequest {
    proxy::RpcRequest {
        client: "c1".to_owned(),
        protocol: "json".to_owned(),
        user: "u1".to_owned(),
        method: method.to_owned(),
        data: data.to_owned().into(),
        ..Default::default()
    }
}

async fn say(
    User(user): User,
    Data(text): Data<String>,
    publisher: Publisher,
) -> Result<RpcReply, Reject> {
    let said = serde_json::json!({ "user": user, "text": text });
    let published = publisher.publish_json("chat:1", &said).await?;
    Ok(RpcReply::data(&published.offset))
}

#[tokio::test]
async fn a_test_router_keeps_what_handlers_publish_and_answers_as_told() {
    let router = TestRouter::new(Router::new().rpc("say", say))
        .await
        .unwrap();
    let answer = api::PublishResult {
        offset: 7,
        epoch: String::new(),
    };
    router.recorder().answer::<api::PublishRequest>(Ok(answer));
    router
        .recorder()
        .answer::<api::PublishRequest>(Err(Error::Closed));
    let said = router.rpc(rpc("say", "\"hi\"")).await;
    assert_eq!(said.result().map(|result| &*result.data), Some(&b"7"[..]));
    let publications = router.recorder().publications();
    assert_eq!(
        publications,
        [publication("chat:1", r#"{"text":"hi","user":"u1"}"#)]
    );
    let failed = router.rpc(rpc("say", "\"hi\"")).await;
    assert_eq!(failed.result(), None);
}

/// The slot of `chat:1` is ours under this epoch from now on.
fn own(standing: &Standing, epoch: u64) {
    standing.set_gate(slot_of(b"chat:1"), Gate::Open(OwnerEpoch(epoch)));
}

#[tokio::test]
async fn a_stale_owner_can_not_publish() {
    let standing = Arc::new(Standing::alone("a"));
    own(&standing, 3);
    let change = Arc::clone(&standing);
    let handler = move |Channel(channel): Channel, publisher: Publisher| {
        let change = Arc::clone(&change);
        async move {
            publisher.publish_json(&channel, &1).await?;
            own(&change, 4);
            let fenced = publisher.publish_json(&channel, &2).await.unwrap_err();
            assert!(
                matches!(
                    fenced,
                    Error::Fenced {
                        epoch: OwnerEpoch(3),
                        ..
                    }
                ),
                "{fenced}"
            );
            assert_eq!(
                publisher.detached().publish_now(&channel, &3).unwrap_err(),
                fenced
            );
            Ok::<_, Reject>(PublishReply::allow())
        }
    };
    let recorder = Arc::default();
    let publisher = Publisher::recording(Arc::clone(&recorder));
    let router = Router::new().publish("chat:{room}", handler);
    let config = Config::default();
    let router = TestRouter::with_standing(router, &config, publisher, standing);
    let router = router.await.unwrap();
    let publish = || proxy::PublishRequest {
        channel: "chat:1".to_owned(),
        user: "u1".to_owned(),
        data: "{}".into(),
        ..Default::default()
    };
    let late = router.publish(publish()).await;
    assert_eq!(
        late.status(),
        Code::Unavailable,
        "its answer does not leave"
    );
    assert_eq!(recorder.publications().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_while_the_lease_has_lapsed_waits_for_it_and_is_fenced_without_it() {
    let double = Double::start();
    let publisher = crate::publisher(&double).await;
    let clock = Arc::new(Mutex::new(Duration::from_secs(1)));
    let at = |seconds| Reading::of_one(Duration::from_secs(seconds));
    let read = Arc::clone(&clock);
    let now = move || Reading::of_one(*read.lock().unwrap());
    let standing = Arc::new(Standing::new(Arc::new(now)));
    standing.renew(at(1), Duration::from_secs(1));
    own(&standing, 3);
    let (change, sent) = (Arc::clone(&standing), Arc::clone(&double.state));
    let handler = move |Channel(channel): Channel, publisher: Publisher| {
        let (clock, change, sent) = (Arc::clone(&clock), Arc::clone(&change), Arc::clone(&sent));
        async move {
            publisher.publish_json(&channel, &0).await?;
            *clock.lock().unwrap() = Duration::from_secs(3);
            // In order, behind each other; what has no bond to a slot does not wait for them.
            let mut waits = publisher.publish_json(&channel, &1);
            publisher.publish_now(&channel, &2)?;
            let short = Duration::from_millis(100);
            assert!(tokio::time::timeout(short, &mut waits).await.is_err());
            assert_eq!(sent.of("chat:1").len(), 1);
            change.renew(at(3), Duration::from_secs(1));
            waits.await?;
            eventually("the next follows", || sent.of("chat:1").len() == 3).await;
            // It does not come back in the time of the call.
            *clock.lock().unwrap() = Duration::from_secs(9);
            let fenced = publisher.timeout(short).publish_json(&channel, &3).await;
            assert!(matches!(fenced, Err(Error::Fenced { .. })), "{fenced:?}");
            // It comes back with another owner.
            let lost = publisher.publish_json(&channel, &4);
            change.set_gate(slot_of(b"chat:1"), Gate::Foreign);
            let lost = lost.await;
            assert!(matches!(lost, Err(Error::Fenced { .. })), "{lost:?}");
            Ok::<_, Reject>(PublishReply::allow())
        }
    };
    let router = Router::new().publish("chat:{room}", handler);
    let config = Config::default();
    let router = TestRouter::with_standing(router, &config, publisher, standing);
    let request = proxy::PublishRequest {
        channel: "chat:1".to_owned(),
        user: "u1".to_owned(),
        data: "{}".into(),
        ..Default::default()
    };
    let call = router.await.unwrap().publish(request);
    let answer = call.timeout(Duration::from_secs(20)).await;
    assert_eq!(answer.status(), Code::Unavailable, "the slot is lost");
    let sent = double.state.of("chat:1");
    assert_eq!(sent, ["0", "1", "2"]);
}

#[tokio::test]
async fn an_event_without_a_key_is_bound_to_no_owner() {
    let standing = Arc::new(Standing::alone("a"));
    own(&standing, 3);
    let change = Arc::clone(&standing);
    let handler = move |publisher: Publisher| {
        let change = Arc::clone(&change);
        async move {
            own(&change, 4);
            publisher.publish_json("chat:1", &1).await?;
            Ok::<_, Reject>(RpcReply::data(&1))
        }
    };
    let publisher = Publisher::recording(Arc::default());
    let router = Router::new().rpc("say", handler);
    let config = Config::default();
    let router = TestRouter::with_standing(router, &config, publisher, standing);
    assert!(
        router
            .await
            .unwrap()
            .rpc(rpc("say", "1"))
            .await
            .result()
            .is_some()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_sends_what_was_published_before_it_ends() {
    let double = crate::Double::start();
    let mut config = Config::default();
    let any = "127.0.0.1:0".parse().unwrap();
    config.listen.grpc = ListenAddr::Tcp(any);
    config.listen.admin = any;
    config.centrifugo = crate::towards(vec![double.endpoint()]);
    let listeners = Listeners::bind(&config).await.unwrap();
    let node = Node::start(&config, Router::new(), listeners)
        .await
        .unwrap();
    let publisher = node.publisher().clone();
    for at in 0..1000 {
        publisher.publish_now("chat:1", &at).unwrap();
    }
    node.shutdown(Duration::from_secs(5)).await;
    assert_eq!(double.state.of("chat:1").len(), 1000);
    assert_eq!(publisher.publish_now("chat:1", &0), Err(Error::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_handler_has_published_is_sent_though_its_time_is_over() {
    let mut double = crate::Double::start();
    double.kill();
    let mut config = Config::default();
    let any = "127.0.0.1:0".parse().unwrap();
    config.listen.grpc = ListenAddr::Tcp(any);
    config.listen.admin = any;
    config.centrifugo = crate::towards(vec![double.endpoint()]);
    config.centrifugo.timeout = Duration::from_secs(20);
    let handler = |publisher: Publisher| async move {
        publisher.publish_json("chat:1", &"late").await?;
        Ok::<_, Reject>(RpcReply::done())
    };
    let router = Router::new().rpc("say", handler);
    let listeners = Listeners::bind(&config).await.unwrap();
    let node = Node::start(&config, router, listeners).await.unwrap();
    let url = format!("http://{}", node.addresses().grpc);
    let channel = Endpoint::from_shared(url).unwrap().connect().await;
    let mut client = CentrifugoProxyClient::new(channel.unwrap());
    let mut request = tonic::Request::new(rpc("say", "null"));
    request
        .metadata_mut()
        .insert("grpc-timeout", "100m".parse().unwrap());
    let status = client.rpc(request).await.unwrap_err();
    // On a busy machine tonic's own timer may be first.
    let is_over = [tonic::Code::DeadlineExceeded, tonic::Code::Cancelled].contains(&status.code());
    assert!(is_over, "{status:?}");
    assert!(double.state.of("chat:1").is_empty());
    double.restart();
    crate::eventually("the publication arrives", || {
        double.state.of("chat:1").len() == 1
    })
    .await;
    node.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_lost_on_its_way_is_not_sent_again_by_a_stale_owner() {
    let mut double = Double::start();
    let publisher = crate::publisher(&double).await;
    double.state.set(Fault::Slow(Duration::from_secs(1)));
    let (said, say) = tokio::sync::watch::channel(None);
    let handler = move |Channel(channel): Channel, publisher: Publisher| {
        let said = said.clone();
        async move {
            let published = publisher.idempotent().publish_json(&channel, &1).await;
            said.send_replace(published.err());
            PublishReply::allow()
        }
    };
    let standing = Arc::new(Standing::alone("a"));
    own(&standing, 3);
    let change = Arc::clone(&standing);
    let router = Router::new().publish("chat:{room}", handler);
    let config = Config::default();
    let router = TestRouter::with_standing(router, &config, publisher, standing);
    let router = router.await.unwrap();
    let request = proxy::PublishRequest {
        channel: "chat:1".to_owned(),
        user: "u1".to_owned(),
        data: "{}".into(),
        ..Default::default()
    };
    let singles = {
        let state = Arc::clone(&double.state);
        move || *state.singles.lock().unwrap()
    };
    let trouble = async {
        eventually("it is on its way", || singles() == 1).await;
        own(&change, 4);
        double.state.set(Fault::None);
        double.kill();
        double.restart();
    };
    let (answer, ()) = tokio::join!(async { router.publish(request).await }, trouble);
    assert!(answer.result().is_some(), "{answer:?}");
    let error = say.borrow().clone().unwrap();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    assert!(error.may_be_done() && error.to_string().contains("not sent again"));
    assert_eq!(singles(), 1);
}
