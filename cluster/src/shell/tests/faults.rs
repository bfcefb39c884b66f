//! Nodes that are cut off, both ways and one way.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::net::Net;
use super::nodes::Nodes;
use super::parts::Told;
use crate::admin::{Operations, PeerLink, Refused};
use crate::lease::DropReason;
use crate::member::RecoverOutcome;
use crate::peer::LinkState;
use crate::{NodeId, NodeState, SlotId};

/// Cuts a node off from all others.
fn isolate(net: &Net, nodes: &Nodes, which: usize) {
    let alone = &nodes.all[which].addr;
    for node in nodes.all.iter().filter(|node| node.addr != *alone) {
        net.isolate(alone, &node.addr);
    }
}

/// What operators are told while the last of three nodes is cut off, and dead for the others.
async fn both_sides_tell_of_the_cut(nodes: &Nodes, gone: NodeId) {
    let alone: &dyn Operations = nodes.all[2].cluster();
    let rows = alone.peers().await.unwrap();
    let [a, b, own] = &rows[..] else {
        panic!("{rows:?}")
    };
    assert!(
        a.unknown.is_some() && b.unknown.is_some() && own.unknown.is_none(),
        "{rows:?}"
    );
    assert_eq!(own.links.len(), 2, "{rows:?}");
    let is_up = |link: &PeerLink| link.control == LinkState::Up;
    assert!(!own.links.iter().any(is_up), "{rows:?}");
    assert_eq!(alone.voters(None).await.unwrap().wanted, 1);
    assert!(!alone.moves().await.unwrap().paused);
    let refused = alone.voters(Some(3)).await;
    assert!(
        matches!(refused, Err(Refused::Unavailable(_))),
        "{refused:?}"
    );

    let most: &dyn Operations = nodes.all[1].cluster();
    let rows = most.peers().await.unwrap();
    let [a, b, dead] = &rows[..] else {
        panic!("{rows:?}")
    };
    assert_eq!(
        (dead.from.id, dead.unknown.as_deref()),
        (gone, Some("dead"))
    );
    for row in [a, b] {
        let to_it = row.links.iter().find(|link| link.to.id == gone);
        assert!(to_it.is_some_and(|link| !is_up(link)), "{rows:?}");
        assert!(row.links.iter().any(is_up), "{rows:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_is_silent_before_others_take_over_and_comes_back_anew() {
    let net = Arc::new(Net::default());
    let nodes = Nodes::over(&net, 3, 1).await;
    let alone = &nodes.all[2];
    let was = alone.me();
    let owned: Vec<_> = SlotId::all().filter(|slot| alone.acts_for(*slot)).collect();
    isolate(&net, &nodes, 2);
    nodes
        .until("its lease is over", || {
            nodes.one_owner();
            alone.acting() == 0
        })
        .await;
    nodes
        .until("its lanes are suspended, not lost", || {
            alone.around.lanes.suspended.load(Ordering::Acquire)
        })
        .await;
    let told = alone.around.lanes.told(owned[0]);
    assert!(matches!(told.last(), Some(Told::Open(_))), "{told:?}");
    nodes
        .until("it has no quorum in reach", || {
            !alone.around.front.quorum.load(Ordering::Acquire) && !alone.cluster().status().quorum
        })
        .await;
    nodes.served().await;
    assert_eq!(alone.acting(), 0);
    assert_eq!(nodes.all[0].state_of(was.id), Some(NodeState::Dead));
    both_sides_tell_of_the_cut(&nodes, was.id).await;

    net.heal();
    nodes.even().await;
    let back = alone.me();
    assert_eq!(back.id, was.id);
    assert!(
        back.incarnation > was.incarnation,
        "it lives again, in the same process"
    );
    let told = alone.around.lanes.told(owned[0]);
    assert!(told.contains(&Told::Lost(DropReason::Dead)), "{told:?}");
    assert!(alone.around.front.quorum.load(Ordering::Acquire));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_stops_acting_and_follows_once_the_partition_heals() {
    let net = Arc::new(Net::default());
    let nodes = Nodes::over(&net, 3, 3).await;
    let leader = nodes.leader().await;
    isolate(&net, &nodes, leader);
    let rest: Vec<_> = (0..3).filter(|index| *index != leader).collect();
    nodes
        .until("the others serve everything", || {
            nodes.one_owner();
            let acting: usize = rest.iter().map(|index| nodes.all[*index].acting()).sum();
            acting == usize::from(crate::SLOT_COUNT)
        })
        .await;
    assert_eq!(nodes.all[leader].acting(), 0);
    assert!(!nodes.all[leader].cluster().status().quorum);
    net.heal();
    nodes.even().await;
    let terms = nodes.all.iter().map(|node| node.cluster().status().leader);
    let terms: std::collections::BTreeSet<_> = terms.collect();
    assert_eq!(terms.len(), 1, "all follow one leader: {terms:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_way_to_the_leader_is_cut_keeps_its_lease_through_others_then_loses_its_slots()
{
    let net = Arc::new(Net::default());
    let mut nodes = Nodes::over(&net, 3, 3).await;
    nodes.join(|config| config.roles.voter = false).await;
    nodes.even().await;
    let leader = nodes.leader().await;
    net.cut(&nodes.all[3].addr, &nodes.all[leader].addr);
    let was = nodes.all[3].me();
    nodes
        .until("its slots have moved away", || {
            nodes.one_owner();
            nodes.all[3].acting() == 0
        })
        .await;
    // Without acknowledgements it would have been declared dead, in less time than that takes.
    assert_eq!(nodes.all[3].me(), was);
    assert_eq!(nodes.all[leader].state_of(was.id), Some(NodeState::Up));
    nodes.served().await;
    net.heal();
    nodes.even().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_cluster_was_recovered_without_it_registers_anew_by_itself() {
    let mut nodes = Nodes::of(2, 1, |_| {}).await;
    let (was, version) = (nodes.all[1].me(), nodes.all[1].table().version());
    nodes.all[0].stop().await;
    nodes.all[0].recover();
    nodes.all[0].start(&[]).await;
    nodes.even().await;
    let now = nodes.all[1].me();
    assert!(now.id == was.id && now.incarnation > was.incarnation);
    let table = nodes.all[1].table();
    assert_eq!(table.cluster().recovery, 1);
    assert!(table.version() > version + (1 << 32));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lives_through_a_recovery_never_acts_beside_the_recovered_one() {
    let mut nodes = Nodes::found_on_disk().await;
    nodes.join_on_disk().await;
    nodes.join_on_disk().await;
    nodes.join(|config| config.roles.voter = false).await;
    nodes.voting(3).await;
    nodes.even().await;
    let [a, b, c, _] = &mut nodes.all[..] else {
        panic!("four nodes run")
    };
    tokio::join!(a.stop(), b.stop(), c.stop());
    assert!(nodes.all[3].acting() > 0, "its lease goes on for a while");
    let outcome = nodes.all[0].recover_dir().await;
    assert!(
        matches!(outcome, RecoverOutcome::Recovered(_)),
        "{outcome:?}"
    );
    assert_eq!(nodes.all[3].acting(), 0, "it was waited for");
    nodes.all[0].start(&[]).await;
    // Whoever is seen to act for a slot while it looks is the only one.
    nodes.even().await;
}
