//! Founding, joining, growing, coming back; moves that carry values.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::nodes::{Nodes, free};
use super::parts::Told;
use crate::lease::DropReason;
use crate::shell::{LookingUp, Names};
use crate::{Command, MoveReason, MoveStart, NodeState, Outcome, SlotId};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_form_a_cluster_lose_one_and_take_it_back() {
    let mut nodes = Nodes::of(3, 1, |_| {}).await;
    let stopped = nodes.all[2].me();
    let lost: Vec<_> = SlotId::all()
        .filter(|slot| nodes.all[2].acts_for(*slot))
        .collect();
    nodes.all[2].stop().await;
    let began = Instant::now();
    nodes.served().await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "a takeover took {took:?}");
    for node in nodes.running() {
        assert_eq!(node.state_of(stopped.id), Some(NodeState::Dead));
        assert!(node.around.front.died.lock().unwrap().contains(&stopped));
    }
    let took_over = lost.iter().filter(|slot| {
        let told = nodes
            .running()
            .flat_map(|node| node.around.lanes.told(**slot));
        told.filter(|told| matches!(told, Told::Open(_))).count() > 0
    });
    assert_eq!(took_over.count(), lost.len());

    let seeds = nodes.seeds();
    nodes.all[2].start(&seeds).await;
    nodes.even().await;
    let back = nodes.all[2].me();
    assert_eq!(back.id, stopped.id);
    assert!(back.incarnation > stopped.incarnation);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_brings_the_values_of_its_slot_and_the_source_drops_its_own() {
    let patient = |config: &mut crate::shell::ClusterConfig| {
        config.handoff.closed_timeout = Duration::from_secs(20);
        config.handoff.prepare_timeout = Duration::from_secs(20);
    };
    let nodes = Nodes::of(2, 1, patient).await;
    let moved = SlotId::all()
        .find(|slot| nodes.all[0].acts_for(*slot))
        .unwrap();
    let long = Bytes::from(vec![7; 3 * 1024 * 1024]);
    let values = vec![Bytes::from_static(b"one"), long];
    nodes.all[0].around.store.put(moved, values.clone());
    nodes.all[0]
        .around
        .lanes
        .busy
        .lock()
        .unwrap()
        .insert(moved, 0);
    let epoch = nodes.all[0].table().slot(moved).epoch;
    let start = MoveStart {
        slot: moved,
        expect_epoch: epoch,
        to: nodes.all[1].me(),
    };
    let begun = nodes.all[0].cluster().propose(Command::BeginMoves {
        moves: vec![start],
        reason: MoveReason::Admin,
    });
    assert_eq!(begun.await, Ok(Outcome::Done { changed: 1 }));
    nodes
        .until("the slot is served at its new owner", || {
            nodes.one_owner();
            nodes.all[1].acts_for(moved)
        })
        .await;
    assert_eq!(nodes.all[1].around.store.get(moved), values);
    nodes
        .until("the source has dropped it", || {
            nodes.all[0].around.store.get(moved).is_empty()
        })
        .await;
    let told = nodes.all[0].around.lanes.told(moved);
    assert_eq!(
        told[told.len() - 3..],
        [Told::Closed, Told::Lost(DropReason::Table), Told::Forgotten]
    );
    assert_eq!(nodes.all[1].table().slot(moved).epoch.0, epoch.0 + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_grow_from_one_to_three_and_outlive_the_founder() {
    let mut nodes = Nodes::of(3, 3, |_| {}).await;
    nodes.voting(3).await;
    let leader = nodes.leader().await;
    nodes.all[leader].stop().await;
    let began = Instant::now();
    nodes.served().await;
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(4),
        "leader and owner at once: {took:?}"
    );
    let seeds = nodes.seeds();
    nodes.all[leader].start(&seeds).await;
    nodes.even().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_on_disks_come_back_all_at_once_with_their_slots() {
    let mut nodes = Nodes::found_on_disk().await;
    nodes.join_on_disk().await;
    nodes.join_on_disk().await;
    nodes.even().await;
    nodes.voting(3).await;
    let before = nodes.all[0].table().version();
    for node in &mut nodes.all {
        node.stop().await;
    }
    let seeds = nodes.seeds();
    for node in &mut nodes.all {
        node.start(&seeds).await;
    }
    nodes.even().await;
    assert!(
        nodes.all[0].table().version() > before,
        "it is the same table"
    );
    assert_eq!(nodes.all[0].table().nodes().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_that_have_all_changed_their_addresses_find_each_other() {
    let mut nodes = Nodes::of(3, 3, |_| {}).await;
    nodes.voting(3).await;
    for node in &mut nodes.all {
        node.stop().await;
        node.move_house();
    }
    let seeds = nodes.seeds();
    for node in &mut nodes.all {
        node.start(&seeds).await;
    }
    nodes.even().await;
    nodes
        .until("the table knows where they are", || {
            let table = nodes.all[0].table();
            nodes.all.iter().all(|node| {
                table
                    .node(node.me().id)
                    .is_some_and(|rec| rec.addrs == [node.addr.clone()])
            })
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_name_is_taken_is_refused_in_words() {
    let mut nodes = Nodes::found(1, None, |_| {}).await;
    nodes.join(|config| config.name = "a".to_owned()).await;
    let refused = nodes.all[1].cluster().joined().await;
    let why = refused.expect_err("the name belongs to the founder");
    assert!(why.contains("the name \"a\" belongs to node 1"), "{why}");
    assert_eq!(nodes.all[1].me().id.0, 0);
}

/// Answers in turn; the last one stands.
#[derive(Debug)]
struct Answers(Mutex<VecDeque<Vec<SocketAddr>>>);

impl Names for Answers {
    fn look_up<'a>(&'a self, name: &'a str) -> LookingUp<'a> {
        assert_eq!(name, "cluster.test:7946");
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 {
            answers.pop_front().unwrap()
        } else {
            answers[0].clone()
        };
        Box::pin(async move {
            if answer.is_empty() {
                return Err(io::Error::from(io::ErrorKind::NotFound));
            }
            Ok(answer)
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_by_a_name_that_leads_nowhere_at_first_then_astray_and_in_the_end_to_many() {
    let mut nodes = Nodes::found(1, None, |_| {}).await;
    let (nobody, someone) = (free().parse().unwrap(), nodes.all[0].addr.parse().unwrap());
    let answers = Arc::new(Answers(Mutex::new(VecDeque::from([
        vec![],
        vec![nobody],
        vec![nobody, someone],
    ]))));
    nodes.join_by("cluster.test:7946", answers.clone()).await;
    nodes.even().await;
    assert_eq!(nodes.all[0].table().nodes().len(), 2);
    assert_eq!(
        answers.0.lock().unwrap().len(),
        1,
        "it was looked up anew each time"
    );
}
