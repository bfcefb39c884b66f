//! Events that another node runs end as they would have ended here.

use super::net::rpc;
use super::{Net, ms, net};
use crate::cx::Cx;
use crate::event::PublishReply;
use crate::extract::{Attribute, Headers, Raw};
use crate::forward::Seat;
use crate::interceptor::{Flow, Interceptor};
use crate::outcome::Outcome;
use crate::proto::proxy::{ChannelEvent, NotifyChannelStateRequest};
use crate::router::{Route, Router};
use crate::testing::TestRouter;
use crate::{AttributeType, Reject, Reply, RpcReply};
use net::publish;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// Notes what the `after` half sees.
#[derive(Debug, Clone, Default)]
struct Spy(Arc<Mutex<Vec<String>>>);

impl Spy {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Interceptor for Spy {
    async fn after(&self, _: &Cx, outcome: &mut Outcome) {
        self.0.lock().unwrap().push(format!("{outcome:?}"));
    }
}

/// Does what the data says.
async fn obey(Raw(raw): Raw) -> Result<Outcome, Reject> {
    let request = <crate::proto::proxy::PublishRequest as prost::Message>::decode(raw).unwrap();
    let data = String::from_utf8(request.data.to_vec()).unwrap();
    let reply = match data.trim_matches('"') {
        "allow" => PublishReply::allow().into(),
        "empty" => Reply::empty(),
        "raw" => Reply::raw(bytes::Bytes::from_static(&[0x0a, 0x00, 0xa2, 0x06, 0x00])),
        "error" => return Err(Reject::error(1409, "taken")),
        "temporary" => return Err(Reject::error(1409, "taken").temporary()),
        "disconnect" => return Err(Reject::disconnect(4403, "go")),
        "internal" => return Err(Reject::internal("broken")),
        "panic" => panic!("boom"),
        "sleep" => {
            sleep(ms(60_000)).await;
            Reply::empty()
        }
        "bad" => Reply::raw(bytes::Bytes::from_static(&[0xff])),
        other => panic!("{other}"),
    };
    Ok(Outcome::Reply(reply))
}

#[tokio::test]
async fn an_event_that_another_node_runs_ends_as_it_would_have_ended_here() {
    let spies = [Spy::default(), Spy::default()];
    let router = |at: usize| {
        Router::new()
            .intercept_all("spy", spies[at].clone())
            .publish("*", obey)
    };
    let net = Net::of(2, router).await;
    let channel = net.channel(1);
    for data in [
        "allow",
        "empty",
        "raw",
        "error",
        "temporary",
        "disconnect",
        "internal",
        "panic",
        "sleep",
        "bad",
    ] {
        let data = format!("\"{data}\"");
        let mut answers = Vec::new();
        for at in [0, 1] {
            let call = net.nodes[at].router.publish(publish(&channel, &data));
            let limit = if data.contains("sleep") { 300 } else { 60_000 };
            let answer = call.timeout(ms(limit)).await;
            answers.push(format!("{answer:?}"));
        }
        assert_eq!(answers[0], answers[1], "{data}");
        let (there, here) = (spies[0].take(), spies[1].take());
        assert_eq!(there, here, "{data}");
        assert_eq!(
            there.len(),
            1,
            "{data}: the stages of the ingress, and only they"
        );
    }
    let unrouted = net.nodes[0].router.raw("None", "x").await;
    assert_eq!(format!("{:?}", unrouted.status()), "Unimplemented");
    assert_eq!(net.nodes[0].counts().forwarded.get(), 10);
    assert_eq!(net.nodes[1].counts().received.get(), 10);
}

#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
struct Tenant(String);

#[derive(Debug, Clone)]
struct Secret;

struct Sets;

impl Interceptor for Sets {
    fn sets(&self) -> Vec<AttributeType> {
        vec![AttributeType::of::<Tenant>()]
    }

    async fn before(&self, cx: &mut Cx) -> Flow {
        cx.set_attribute(Tenant("acme".to_owned()));
        if cx.header("x-secret").is_some() {
            cx.set_attribute(Secret);
        }
        Flow::Next
    }
}

#[tokio::test]
async fn metadata_and_registered_attributes_cross_and_others_stop_the_event_that_has_to() {
    let router = |at: usize| {
        let handler = move |Attribute(tenant): Attribute<Tenant>, Headers(headers): Headers| async move {
            let trace = headers.get_all("x-many").iter().count();
            RpcReply::data(&(at, tenant.0, trace))
        };
        Router::new()
            .attribute::<Tenant>("tenant")
            .intercept_all("sets", Sets)
            .route(Route::of::<crate::event::Rpc, _, _>(handler).key("{method}"))
    };
    let net = Net::of(2, router).await;
    let method = net.channel(1);
    let call = net.nodes[0].router.rpc(rpc(&method, "1"));
    let answer = call.metadata("x-many", "a").metadata("x-many", "b").await;
    let data = answer.result().unwrap().data.clone();
    assert_eq!(data, r#"[1,"acme",2]"#.as_bytes());
    let secret = net.nodes[0].router.rpc(rpc(&method, "1"));
    let answer = secret.metadata("x-secret", "1").await;
    assert_eq!(answer.status(), tonic::Code::Internal);
    let here = net.nodes[1].router.rpc(rpc(&method, "1"));
    assert_eq!(
        here.metadata("x-secret", "1").await.status(),
        tonic::Code::Ok
    );
}

#[tokio::test]
async fn a_node_of_a_cluster_does_not_start_with_an_attribute_that_does_not_cross() {
    let mut settings = crate::node::engine_config(&crate::config::Config::default());
    let start = |settings| async {
        let router = Router::new().intercept_all("sets", Sets);
        let standing = Arc::new(centripeta_cluster::Standing::alone("a"));
        let publisher = crate::Publisher::closed();
        TestRouter::with_settings(router, settings, publisher, standing).await
    };
    assert!(
        start(settings.clone()).await.is_ok(),
        "alone nothing crosses"
    );
    settings.cluster = Some(Seat {
        serve_stateless_isolated: true,
    });
    let why = start(settings).await.unwrap_err().to_string();
    assert!(
        why.contains("interceptor `sets`") && why.contains("Tenant"),
        "{why}"
    );
}

/// Where a part of a batch ran, and its channels.
type Part = (usize, Vec<String>);

#[tokio::test]
async fn a_batch_of_channels_is_split_by_owner_and_fails_if_a_part_does() {
    let seen: Arc<Mutex<Vec<Part>>> = Arc::default();
    let router = |at: usize| {
        let seen = Arc::clone(&seen);
        Router::new().channel_state(move |Raw(raw): Raw| {
            let batch = <NotifyChannelStateRequest as prost::Message>::decode(raw).unwrap();
            let channels: Vec<String> = batch.events.into_iter().map(|it| it.channel).collect();
            let fails = channels.iter().any(|name| name.starts_with('x'));
            seen.lock().unwrap().push((at, channels));
            async move {
                if fails {
                    return Err(Reject::internal("broken"));
                }
                Ok(crate::ChannelStateReply::acknowledge())
            }
        })
    };
    let net = Net::of(3, router).await;
    let event = |channel: String| ChannelEvent {
        channel,
        ..Default::default()
    };
    let names: Vec<String> = (0..3).map(|at| net.channel(at)).collect();
    let second = net.channel_in(1, "d");
    let all = [&names[0], &names[1], &names[2], &second];
    let batch = NotifyChannelStateRequest {
        events: all.map(|name| event(name.clone())).to_vec(),
    };
    let near = &net.nodes[0].router;
    assert_eq!(
        near.channel_state(batch.clone()).await.status(),
        tonic::Code::Ok
    );
    let mut parts = std::mem::take(&mut *seen.lock().unwrap());
    parts.sort();
    let mine = vec![names[1].clone(), second.clone()];
    let expected = [
        (0, vec![names[0].clone()]),
        (1, mine),
        (2, vec![names[2].clone()]),
    ];
    assert_eq!(parts, expected);
    let mut bad = batch;
    bad.events.push(event(net.channel_in(2, "x")));
    assert_eq!(
        near.channel_state(bad).await.status(),
        tonic::Code::Internal
    );
}

#[tokio::test]
async fn a_batch_is_acknowledged_only_by_nodes_that_act_for_all_of_it_from_begin_to_end() {
    let ran: Arc<AtomicUsize> = Arc::default();
    let gate = Arc::new(Semaphore::new(100));
    let router = |_| {
        let (ran, gate) = (Arc::clone(&ran), Arc::clone(&gate));
        Router::new().channel_state(move || {
            ran.fetch_add(1, Ordering::SeqCst);
            let gate = Arc::clone(&gate);
            async move {
                drop(gate.acquire().await);
                crate::ChannelStateReply::acknowledge()
            }
        })
    };
    let net = Net::of(2, router).await;
    let near = &net.nodes[0].router;
    let of = |owners: &[usize]| NotifyChannelStateRequest {
        events: owners
            .iter()
            .map(|at| ChannelEvent {
                channel: net.channel(*at),
                ..Default::default()
            })
            .collect(),
    };
    for owners in [&[0][..], &[1], &[0, 1]] {
        let over = Some(Duration::from_millis(500));
        net.nodes[*owners.last().unwrap()].lapse(over);
        let before = ran.load(Ordering::SeqCst);
        let status = near.channel_state(of(owners)).await.status();
        assert_eq!(status, tonic::Code::Unavailable, "{owners:?}");
        let others = owners.len() - 1;
        assert_eq!(ran.load(Ordering::SeqCst) - before, others, "{owners:?}");
        net.nodes[*owners.last().unwrap()].lapse(None);
        let status = near.channel_state(of(owners)).await.status();
        assert_eq!(status, tonic::Code::Ok, "{owners:?}");
    }
    // It had begun in time.
    for owner in 0..2 {
        let held = gate.acquire_many(100).await.unwrap();
        let before = ran.load(Ordering::SeqCst);
        let begun = async {
            while ran.load(Ordering::SeqCst) == before {
                tokio::task::yield_now().await;
            }
            net.nodes[owner].lapse(Some(Duration::from_millis(500)));
            drop(held);
        };
        let (reply, ()) = tokio::join!(near.channel_state(of(&[owner])), begun);
        assert_eq!(reply.status(), tonic::Code::Unavailable, "{owner}");
        net.nodes[owner].lapse(None);
    }
}
