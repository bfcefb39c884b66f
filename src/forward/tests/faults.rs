//! Owners that are missing, lag behind, or die.

use super::net::{eventually, publish, rpc};
use super::{Net, ms};
use crate::event::{PublishReply, SubscribeReply};
use crate::proto::proxy::{ConnectRequest, SubscribeRequest};
use crate::router::Router;
use crate::{ConnectReply, RpcReply};
use centripeta_cluster::{NodeState, Serves, slot_of};
use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;
use tonic::Code;

/// Counts what runs at each node; node 1 blocks until it is told to go on.
#[derive(Debug, Clone, Default)]
struct Runs {
    at: Arc<[AtomicUsize; 3]>,
    go: Arc<Notify>,
}

impl Runs {
    fn count(&self, at: usize) -> usize {
        self.at[at].load(Ordering::SeqCst)
    }

    fn router(&self, at: usize) -> Router {
        let (one, two) = (self.clone(), self.clone());
        Router::new()
            .publish("*", move || one.clone().run(at, PublishReply::allow()))
            .subscribe("*", move || two.clone().run(at, SubscribeReply::allow()))
    }

    async fn run<T>(self, at: usize, reply: T) -> T {
        self.at[at].fetch_add(1, Ordering::SeqCst);
        if at == 1 {
            self.go.notified().await;
        }
        reply
    }
}

fn subscribe(channel: &str) -> SubscribeRequest {
    SubscribeRequest {
        client: "c1".to_owned(),
        protocol: "json".to_owned(),
        channel: channel.to_owned(),
        ..Default::default()
    }
}

/// The life of a node is over, as the shell of another says it.
fn bury(net: &Net, at: usize, dead: usize) {
    let node = &net.nodes[at];
    node.links.forget_peer(net.nodes[dead].member.id);
    node.ingress.died(net.nodes[dead].member);
    node.show(&net.table, &[]);
}

#[tokio::test]
async fn what_had_started_at_a_dead_owner_runs_once_more_only_if_that_does_no_harm() {
    let runs = Runs::default();
    let mut net = Net::of(3, |at| runs.router(at)).await;
    let channel = net.channel(1);
    let near = net.nodes[0].router.clone();
    let publishing = tokio::spawn(near.publish(publish(&channel, "1")).into_future());
    eventually("it runs", || runs.count(1) == 1).await;
    let other = net.channel_in(1, "d");
    let subscribing = tokio::spawn(near.subscribe(subscribe(&other)).into_future());
    eventually("both run", || runs.count(1) == 2).await;
    net.kill(1, 2);
    bury(&net, 0, 1);
    net.nodes[2].show(&net.table, &[]);
    assert_eq!(publishing.await.unwrap().status(), Code::Unavailable);
    assert_eq!(subscribing.await.unwrap().status(), Code::Ok);
    assert_eq!((runs.count(0), runs.count(1), runs.count(2)), (0, 2, 1));
}

#[tokio::test]
async fn what_had_not_started_at_a_dead_owner_runs_at_its_heir() {
    let runs = Runs::default();
    let mut net = Net::of(3, |at| runs.router(at)).await;
    let channel = net.channel(1);
    let near = net.nodes[0].router.clone();
    let first = tokio::spawn(near.publish(publish(&channel, "1")).into_future());
    eventually("it runs", || runs.count(1) == 1).await;
    // Behind the first in its lane, as far as the far node knows: it has not started.
    let waits = tokio::spawn(near.publish(publish(&channel, "2")).into_future());
    eventually("it waits", || net.nodes[1].counts().received.get() == 2).await;
    net.kill(1, 2);
    net.nodes[0].show(&net.table, &[]);
    net.nodes[2].show(&net.table, &[]);
    // The far node answers nothing and says what has not started.
    net.nodes[1].router.shutdown(ms(1)).await;
    assert_eq!(first.await.unwrap().status(), Code::Unavailable);
    assert_eq!(waits.await.unwrap().status(), Code::Ok);
    assert_eq!((runs.count(0), runs.count(2)), (0, 1));
    assert_eq!(runs.count(1), 1, "the second never ran there");
}

#[tokio::test]
async fn the_answer_of_a_life_that_is_over_is_dropped() {
    let runs = Runs::default();
    let mut net = Net::of(2, |at| runs.router(at)).await;
    let channel = net.channel(1);
    let near = net.nodes[0].router.clone();
    let publishing = tokio::spawn(near.publish(publish(&channel, "1")).into_future());
    eventually("it runs", || runs.count(1) == 1).await;
    net.kill(1, 0);
    net.nodes[0].show(&net.table, &[]);
    runs.go.notify_one();
    assert_eq!(publishing.await.unwrap().status(), Code::Unavailable);
    assert_eq!(net.nodes[0].counts().dropped.get(), 1);
    assert_eq!(
        runs.count(0),
        0,
        "it may have run, so it does not run again"
    );
}

#[tokio::test]
async fn without_an_owner_an_event_is_held_until_there_is_one_or_its_deadline_is_near() {
    let runs = Runs::default();
    let mut net = Net::of(2, |at| runs.router(at)).await;
    let channel = net.channel(1);
    net.commit(&centripeta_cluster::Command::DeclareDead {
        member: net.nodes[1].member,
        why: "test".to_owned(),
        leader: centripeta_cluster::LeaderId {
            term: 1,
            node: centripeta_cluster::NodeId(1),
        },
        grants: Vec::new(),
    });
    net.nodes[0].show(&net.table, &[]);
    let near = net.nodes[0].router.clone();
    let late = near.publish(publish(&channel, "1")).timeout(ms(100)).await;
    assert_eq!(late.status(), Code::Unavailable, "not DEADLINE_EXCEEDED");
    assert_eq!(net.nodes[0].counts().expired.get(), 1);
    let waiting = tokio::spawn(near.publish(publish(&channel, "2")).into_future());
    eventually("it is held", || net.nodes[0].held() == 1).await;
    net.give(slot_of(channel.as_bytes()), 0);
    net.nodes[0].show(&net.table, &[]);
    assert_eq!(waiting.await.unwrap().status(), Code::Ok);
    assert_eq!(runs.count(0), 1);
}

#[tokio::test]
async fn an_owner_that_is_behind_catches_up_and_is_asked_again_if_it_can_not_in_time() {
    let runs = Runs::default();
    let mut net = Net::of(2, |at| runs.router(at)).await;
    let channel = net.channel(0);
    let slot = slot_of(channel.as_bytes());
    // Both know that the slot is node 0's; now node 1 alone learns of a later version.
    net.give(slot, 0);
    net.nodes[0].show(&net.table, &[]);
    let far = net.nodes[1].router.clone();
    net.commit(&centripeta_cluster::Command::SetNode {
        member: net.nodes[1].member,
        boot: centripeta_cluster::BootId(101),
        change: centripeta_cluster::NodeChange::State(NodeState::Draining),
    });
    net.nodes[1].show(&net.table, &[]);
    let quick = tokio::spawn(far.publish(publish(&channel, "1")).into_future());
    eventually("it came", || net.nodes[0].counts().received.get() == 1).await;
    assert_eq!(runs.count(0), 0, "it waits for the table");
    net.nodes[0].show(&net.table, &[]);
    assert_eq!(quick.await.unwrap().status(), Code::Ok);
    assert_eq!(net.nodes[0].counts().sent_back[3].get(), 0);

    net.commit(&centripeta_cluster::Command::SetNode {
        member: net.nodes[1].member,
        boot: centripeta_cluster::BootId(101),
        change: centripeta_cluster::NodeChange::State(NodeState::Up),
    });
    net.nodes[1].show(&net.table, &[]);
    let slow = tokio::spawn(far.publish(publish(&channel, "2")).into_future());
    eventually("it went back", || {
        net.nodes[0].counts().sent_back[3].get() > 0
    })
    .await;
    net.nodes[0].show(&net.table, &[]);
    assert_eq!(slow.await.unwrap().status(), Code::Ok);
    assert_eq!(runs.count(0), 2);
}

fn split(at: usize) -> Router {
    Router::new()
        .connect(move || async move { ConnectReply::user(format!("n{at}")) })
        .rpc("*", move || async move { RpcReply::data(&at) })
}

#[tokio::test]
async fn connects_and_calls_run_where_they_are_served() {
    let net = Net::with(3, split, |at, node| {
        node.serves = Serves {
            connect: at == 0,
            channel: at == 2,
            rpc: if at == 0 {
                Vec::new()
            } else {
                vec!["*".to_owned()]
            },
        };
    })
    .await;
    let connect = || ConnectRequest {
        client: "c1".to_owned(),
        protocol: "json".to_owned(),
        ..Default::default()
    };
    for node in &net.nodes {
        let answer = node.router.connect(connect()).await;
        assert_eq!(answer.result().unwrap().user, "n0");
    }
    let mut seen = [0; 3];
    for _ in 0..40 {
        let answer = net.nodes[0].router.rpc(rpc("x", "1")).await;
        let data = answer.result().unwrap().data.clone();
        seen[usize::from(data[0] - b'0')] += 1;
    }
    assert!(seen[0] == 0 && seen[1] > 5 && seen[2] > 5, "{seen:?}");
    // One of the two is lost: the other serves all, and nothing fails.
    net.nodes[0].links.forget_peer(net.nodes[1].member.id);
    for _ in 0..10 {
        let answer = net.nodes[0].router.rpc(rpc("x", "1")).await;
        assert_eq!(answer.status(), Code::Ok);
    }
}

#[tokio::test]
async fn without_a_quorum_nothing_with_a_key_is_served_and_the_rest_as_configured() {
    let runs = Runs::default();
    let net = Net::of(2, |at| split(at).merge(runs.router(at))).await;
    let channel = net.channel(1);
    for node in &net.nodes {
        node.ingress.quorum(false);
    }
    let near = &net.nodes[0].router;
    let held = tokio::spawn(near.publish(publish(&channel, "1")).into_future());
    runs.go.notify_one();
    assert_eq!(
        held.await.unwrap().status(),
        Code::Ok,
        "for a while events wait, or run"
    );
    tokio::time::sleep(ms(150)).await;
    let refused = near.publish(publish(&channel, "1")).await;
    assert_eq!(refused.status(), Code::Unavailable);
    assert_eq!(near.rpc(rpc("x", "1")).await.status(), Code::Ok);
    let strict = net.nodes[1].router.rpc(rpc("x", "1")).await;
    assert_eq!(strict.status(), Code::Unavailable);
    net.nodes[0].ingress.quorum(true);
    runs.go.notify_one();
    assert_eq!(
        near.publish(publish(&channel, "1")).await.status(),
        Code::Ok
    );
}

#[tokio::test]
async fn a_slot_is_served_again_after_a_link_was_given_up_whose_node_lives() {
    let runs = Runs::default();
    let net = Net::of(2, |at| runs.router(at)).await;
    let channel = net.channel(1);
    let (near, far) = (&net.nodes[0], &net.nodes[1]);
    let publishing = tokio::spawn(near.router.publish(publish(&channel, "1")).into_future());
    eventually("it runs", || runs.count(1) == 1).await;
    // As when this node comes under a new life: the links give up what was sent, and no table says
    // a word of the owner.
    near.links.end_life(far.member);
    near.links.set_peer(far.member.id, vec![far.addr.clone()]);
    assert_eq!(publishing.await.unwrap().status(), Code::Unavailable);
    runs.go.notify_one();
    let again = near.router.publish(publish(&channel, "2")).into_future();
    runs.go.notify_one();
    assert_eq!(again.await.status(), Code::Ok);
    assert_eq!(runs.count(1), 2);
}
