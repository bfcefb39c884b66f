//! The way of an event as its ingress and the node that would run it tell it.

use super::net::{publish, rpc};
use super::{Net, ms};
use crate::event::{EventKind, Publish, PublishReply, RpcReply};
use crate::forward::explain::{Explained, Question, Way, explain};
use crate::interceptor::Interceptor;
use crate::router::{Route, Router};
use centripeta_cluster::{NodeChange, NodeState, Serves, slot_of};
use http::HeaderMap;
use prost::Message;
use std::sync::Arc;

struct Pass;
impl Interceptor for Pass {}

async fn allow() -> PublishReply {
    PublishReply::allow()
}

async fn also() -> PublishReply {
    PublishReply::allow()
}

async fn answer() -> RpcReply {
    RpcReply::done()
}

fn router(_: usize) -> Router {
    Router::new()
        .intercept_all("log", Pass)
        .publish("*", allow)
        .rpc("*", answer)
}

async fn at(net: &Net, node: usize, kind: EventKind, raw: Vec<u8>) -> Explained {
    let question = Question {
        kind,
        method: String::new(),
        raw: raw.into(),
        metadata: HeaderMap::new(),
    };
    let shared = Arc::clone(&net.nodes[node].router.engine().shared);
    explain(&shared, question).await
}

async fn published(net: &Net, node: usize, channel: &str) -> Explained {
    let raw = publish(channel, "1").encode_to_vec();
    at(net, node, EventKind::Publish, raw).await
}

#[tokio::test]
async fn the_way_of_a_keyed_event_is_told_up_to_the_handler_of_its_owner() {
    let mut net = Net::of(2, router).await;
    let channel = net.channel(1);
    let slot = slot_of(channel.as_bytes());
    let told = published(&net, 0, &channel).await;
    assert_eq!(told.way, Way::Forwarded);
    assert_eq!(
        (&*told.ingress.name, &told.stages[..]),
        ("n0", &["log".to_owned()][..])
    );
    assert_eq!(told.key, format!("channel {channel}"));
    let view = told.slot.unwrap();
    assert_eq!((view.slot, view.owner.unwrap().name.as_str()), (slot, "n1"));
    let spot = &told.spots[0];
    assert_eq!(
        (&*spot.node.name, &spot.addrs[..]),
        ("n1", &["n1:1".to_owned()][..])
    );
    assert_eq!(spot.state, Some(NodeState::Up));
    let said = spot.said.as_ref().unwrap();
    assert!(said.handler.ends_with("allow"), "{said:?}");
    assert_eq!((&*said.gate, said.epoch), ("open", view.epoch.0));
    assert!(
        said.lease_ms.unwrap() > 0 && said.problem.is_empty(),
        "{said:?}"
    );
    let layout = net.nodes[1].router.engine().shared.layout;
    assert_eq!(said.shard, Some(layout.shard_of(slot).index().into()));

    let here = published(&net, 1, &channel).await;
    assert_eq!(here.way, Way::Here);
    assert_eq!(here.spots[0].said.as_ref().unwrap(), said);

    net.nodes[1].show(&net.table, &[slot]);
    let shut = published(&net, 0, &channel).await;
    let said = shut.spots[0].said.as_ref().unwrap();
    assert_eq!(said.gate, "shut");
    assert!(said.problem.contains("closed for a move"), "{said:?}");
    net.nodes[1].show(&net.table, &[]);
    net.nodes[1].lapse(Some(ms(500)));
    let lapsed = published(&net, 0, &channel).await;
    let said = lapsed.spots[0].said.as_ref().unwrap();
    assert_eq!(said.lease_ms, Some(0));
    assert!(said.problem.contains("lease is over"), "{said:?}");

    net.kill(1, 1);
    net.tell();
    let vacant = published(&net, 0, &channel).await;
    assert_eq!(vacant.way, Way::Held);
    assert!(vacant.spots.is_empty() && vacant.slot.unwrap().owner.is_none());
    let counts = net.nodes[0].counts();
    assert_eq!(
        (counts.forwarded.get(), counts.local.get()),
        (0, 0),
        "nothing ran"
    );
}

#[tokio::test]
async fn the_owner_says_what_its_own_routes_would_make_of_the_event() {
    let router = |at: usize| match at {
        0 => Router::new().publish("*", allow),
        1 => Router::new().route(Route::of::<Publish, _, _>(also).key("user")),
        _ => Router::new(),
    };
    let net = Net::of(3, router).await;
    let other = published(&net, 0, &net.channel(1)).await;
    let said = other.spots[0].said.as_ref().unwrap();
    assert!(said.handler.ends_with("also"), "{said:?}");
    assert!(said.problem.contains("user u1"), "{said:?}");
    let none = published(&net, 0, &net.channel(2)).await;
    let said = none.spots[0].said.as_ref().unwrap();
    assert!(said.problem.contains("no route of it takes"), "{said:?}");
    let refused = published(&net, 2, "x").await;
    assert_eq!(refused.way, Way::Refused);
    let broken = at(&net, 0, EventKind::Publish, vec![0xff]).await;
    assert_eq!(broken.way, Way::Refused);
    assert!(broken.why.contains("can't be read"), "{}", broken.why);
}

#[tokio::test]
async fn without_a_key_the_nodes_that_serve_the_kind_are_named() {
    let mut net = Net::with(3, router, |at, node| {
        node.serves = Serves {
            connect: true,
            channel: true,
            rpc: if at == 0 {
                Vec::new()
            } else {
                vec!["*".to_owned()]
            },
        };
    })
    .await;
    let call = || rpc("a.b", "1").encode_to_vec();
    let told = at(&net, 0, EventKind::Rpc, call()).await;
    assert_eq!((told.way, told.key.as_str()), (Way::Forwarded, ""));
    let mut names: Vec<_> = told.spots.iter().map(|it| it.node.name.clone()).collect();
    names.sort();
    assert_eq!(names, ["n1", "n2"]);
    let ready = |spot: &crate::forward::explain::Spot| {
        spot.said
            .as_ref()
            .is_ok_and(|said| said.handler.ends_with("answer") && said.gate.is_empty())
    };
    assert!(told.spots.iter().all(ready), "{:?}", told.spots);
    assert_eq!(at(&net, 1, EventKind::Rpc, call()).await.way, Way::Here);
    for at in [1, 2] {
        let node = &net.nodes[at];
        let (member, boot) = (node.member, net.table.node(node.member.id).unwrap().boot);
        let change = NodeChange::State(NodeState::Draining);
        net.commit(&centripeta_cluster::Command::SetNode {
            member,
            boot,
            change,
        });
    }
    net.tell();
    let nobody = at(&net, 0, EventKind::Rpc, call()).await;
    assert_eq!(nobody.way, Way::Unavailable);
    assert!(nobody.why.contains("node.serves"), "{}", nobody.why);
}
