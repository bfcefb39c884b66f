//! Drains and farewells.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::nodes::Nodes;
use super::parts::Told;
use crate::lease::DropReason;
use crate::peer::Outcome;
use crate::{FIRST_KIND, NodeState, SlotId};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_gives_its_slots_away_with_their_values_and_leaves() {
    let mut nodes = Nodes::of(3, 1, |_| {}).await;
    let leaver = nodes.all[2].me();
    let owned: Vec<_> = SlotId::all()
        .filter(|slot| nodes.all[2].acts_for(*slot))
        .collect();
    let valued = &owned[..20];
    for slot in valued {
        let value = Bytes::from(slot.index().to_le_bytes().to_vec());
        nodes.all[2].around.store.put(*slot, vec![value]);
    }
    assert!(
        nodes.all[2].cluster().drain(LONG).await,
        "all slots are given away"
    );
    assert_eq!(nodes.all[2].acting(), 0);
    assert_eq!(nodes.all[0].state_of(leaver.id), Some(NodeState::Draining));
    nodes.all[2].cluster().leave(LONG).await;
    nodes
        .until("the leader knows that it has left", || {
            nodes.all[0].state_of(leaver.id) == Some(NodeState::Dead)
        })
        .await;
    nodes.all[2].stop().await;
    nodes.served().await;
    for slot in valued {
        let value = Bytes::from(slot.index().to_le_bytes().to_vec());
        let owner = nodes.running().find(|node| node.acts_for(*slot)).unwrap();
        assert_eq!(owner.around.store.get(*slot), vec![value], "slot {slot}");
    }
    let lost = owned.iter().filter(|slot| {
        let told = nodes.all[2].around.lanes.told(**slot);
        told.contains(&Told::Lost(DropReason::Dead))
    });
    assert_eq!(lost.count(), 0, "none was lost with its life");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_leaves_lets_the_others_go_on_in_their_lives() {
    let mut nodes = Nodes::of(3, 3, |_| {}).await;
    nodes.voting(3).await;
    let leader = nodes.leader().await;
    assert!(nodes.all[leader].cluster().drain(LONG).await);
    let others = nodes
        .running()
        .filter(|node| node.me() != nodes.all[leader].me());
    let lives: Vec<_> = others.map(super::nodes::Node::me).collect();
    nodes.all[leader].cluster().leave(LONG).await;
    // It has handed over: another node leads before this one stops, without an election time-out.
    let mut heir = None;
    nodes
        .until("another node leads, while this one runs", || {
            let status = nodes.all[leader].cluster().status().raft.unwrap();
            let led = status.leader.filter(|_| !status.leads);
            heir = led.map(|leader| leader.node);
            heir.is_some_and(|heir| lives.iter().any(|life| life.id == heir))
        })
        .await;
    nodes.all[leader].stop().await;
    let next = nodes.leader().await;
    assert_eq!(Some(nodes.all[next].me().id), heir);
    assert_ne!(next, leader);
    nodes.served().await;
    let gone = nodes.all[leader].me();
    assert_eq!(nodes.all[next].state_of(gone.id), Some(NodeState::Dead));
    let lived: Vec<_> = nodes.running().map(super::nodes::Node::me).collect();
    assert_eq!(lived, lives, "the others go on in the lives that they had");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_has_drained_for_half_of_its_time_is_limited_no_more_whatever_time_the_leader_has()
 {
    let mut nodes = Nodes::found(1, None, |config| config.lift_after = LONG).await;
    nodes.join(|_| {}).await;
    let short = |config: &mut crate::shell::ClusterConfig| {
        config.lift_after = Duration::from_secs(1);
    };
    nodes.join(short).await;
    nodes.even().await;
    let drains = &nodes.all[2];
    let owned = SlotId::all().filter(|slot| drains.acts_for(*slot));
    // Every slot has an event that runs on: none of the moves is over by itself.
    let busy = owned.map(|slot| (slot, 1));
    drains.around.lanes.busy.lock().unwrap().extend(busy);
    let leads = nodes.all[0].cluster();
    let operator: &dyn crate::admin::Operations = leads;
    operator.drain("c".to_owned(), false).await.unwrap();
    nodes
        .until("more move, and are closed, than may at other times", || {
            let closed = drains.cluster().status().closed;
            closed > 8 && leads.status().moves > crate::allocation::OPEN_LIMIT
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_tells_why_things_changed_that_an_earlier_leader_decided() {
    let mut nodes = Nodes::of(3, 3, |_| {}).await;
    nodes.voting(3).await;
    let leader = nodes.leader().await;
    let (dies, next) = ((leader + 1) % 3, (leader + 2) % 3);
    let dead = nodes.all[dies].me();
    nodes.all[dies].stop().await;
    nodes
        .until("the death is known", || {
            nodes.all[next].state_of(dead.id) == Some(NodeState::Dead)
        })
        .await;
    nodes.all[leader].cluster().leave(LONG).await;
    nodes.all[leader].stop().await;
    let told: &dyn crate::admin::Operations = nodes.all[next].cluster();
    let events = told.events(0).await.unwrap().events;
    let gone = |what: &str| {
        let event = events.iter().rev().find(|event| event.what.contains(what));
        event.map(|event| event.why.clone())
    };
    let name = |index: usize| {
        format!(
            "{} ({}) is dead",
            nodes.all[index].name,
            nodes.all[index].me().id
        )
    };
    assert_eq!(
        gone(&name(dies)).as_deref(),
        Some("its lease is over"),
        "{events:?}"
    );
    assert_eq!(
        gone(&name(leader)).as_deref(),
        Some("it has left"),
        "{events:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_leaves_only_when_what_a_peer_has_sent_it_is_answered() {
    let nodes = Nodes::of(2, 1, |_| {}).await;
    let (stays, leaves) = (&nodes.all[0], &nodes.all[1]);
    leaves.around.front.keeps.store(true, Ordering::Release);
    let deadline = Instant::now() + LONG;
    let payload = Bytes::from_static(b"work");
    let to = leaves.me().id;
    let answer = stays
        .cluster()
        .request(to, FIRST_KIND, payload.clone(), deadline);
    let answer = answer.unwrap();
    nodes
        .until("the request runs", || {
            !leaves.around.front.kept.lock().unwrap().is_empty()
        })
        .await;
    let leaving = leaves.cluster().clone();
    let leaving = tokio::spawn(async move { leaving.leave(LONG).await });
    nodes
        .until("the peer was asked", || {
            let waits = leaves
                .cluster()
                .links()
                .unanswered(stays.me().id, crate::peer::Class::Data);
            waits == 1
        })
        .await;
    assert!(!leaving.is_finished() && leaves.acting() > 0);
    let kept = leaves.around.front.kept.lock().unwrap().pop().unwrap();
    kept.reply(payload.clone());
    let reply = answer.wait().await.unwrap();
    assert_eq!((reply.outcome, reply.payload), (Outcome::Answered, payload));
    leaving.await.unwrap();
    assert_eq!(leaves.acting(), 0);
    nodes
        .until("the other one serves all", || {
            stays.acting() == usize::from(crate::SLOT_COUNT)
        })
        .await;
}
