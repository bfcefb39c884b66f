//! What operators see and ask, on a node that leads and on one that does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::net::Net;
use super::nodes::{Node, Nodes};
use crate::admin::{MoveStep, Operations, Refused};
use crate::shell::ClusterConfig;
use crate::testing::slot;
use crate::{Command, Ended, NodeState, Region, SLOT_COUNT, ShardLayout, SlotId};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_and_ask_the_same_on_every_node() {
    let mut nodes = Nodes::of(3, 1, |_| {}).await;
    let (leads, follows) = (
        nodes.all[0].cluster().clone(),
        nodes.all[1].cluster().clone(),
    );
    let (leads, follows): (&dyn Operations, &dyn Operations) = (&leads, &follows);
    let seen = follows.nodes().await.unwrap();
    let mut names: Vec<_> = seen.iter().map(|node| node.node.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(
        seen.iter().all(|node| node.heard.is_some()),
        "the leader has answered: {seen:?}"
    );
    assert_eq!(
        follows.status().await.unwrap().version,
        nodes.all[0].table().version()
    );
    let rows = follows.peers().await.unwrap();
    assert_eq!(rows.len(), 3);
    assert!(
        rows.iter()
            .all(|row| row.unknown.is_none() && row.links.len() == 2),
        "{rows:?}"
    );

    let moved = SlotId::all()
        .find(|slot| nodes.all[2].acts_for(*slot))
        .unwrap();
    assert_eq!(follows.pause_moves().await, Ok(false));
    assert_eq!(follows.pause_moves().await, Ok(true));
    let view = follows.move_slot(moved.index(), "a".to_owned()).await;
    match view {
        Ok(view) => assert_eq!(view.to.name, "a"),
        // It may be over before it is looked at.
        Err(why) => assert!(matches!(why, Refused::Unavailable(_)), "{why:?}"),
    }
    nodes
        .until("the slot has moved", || nodes.all[0].acts_for(moved))
        .await;
    let nobody = follows.move_slot(moved.index(), "z".to_owned()).await;
    assert!(matches!(nobody, Err(Refused::No { .. })), "{nobody:?}");
    assert_eq!(follows.resume_moves().await, Ok(true));

    let lanes = nodes.all[2].around.lanes.clone();
    let before = lanes.ended();
    assert!(before.streams > 0, "moved before it drains");
    let none = follows.drained("c".to_owned()).await.unwrap();
    assert_eq!(none.ended, Ended::default(), "it does not drain");
    let drained = follows.drain("c".to_owned(), false).await.unwrap();
    assert_eq!(drained.node.name, "c");
    let id = nodes.all[2].me().id;
    nodes
        .until("its slots are gone", || nodes.all[2].acting() == 0)
        .await;
    assert_eq!(nodes.all[0].state_of(id), Some(NodeState::Draining));
    // Whoever is asked, the node itself says what its drain has ended.
    let ended = lanes.ended().since(before);
    assert!(ended.streams > 0);
    let own = nodes.all[2].cluster().clone();
    let own: &dyn Operations = &own;
    for asked in [leads, follows, own] {
        let told = asked.drained("c".to_owned()).await.unwrap();
        assert_eq!((told.node.name.as_str(), told.ended), ("c", ended));
    }
    let nobody = follows.drained("z".to_owned()).await;
    assert!(matches!(nobody, Err(Refused::No { .. })), "{nobody:?}");
    assert!(follows.undrain("c".to_owned()).await.is_ok());
    nodes
        .until("it is up again", || {
            nodes.all[0].state_of(id) == Some(NodeState::Up)
        })
        .await;
    let events = leads.events(0).await.unwrap();
    assert!(!events.events.is_empty());

    nodes.all[0].stop().await;
    nodes
        .until("there is no quorum", || {
            !nodes.all[1].cluster().status().quorum
        })
        .await;
    assert_eq!(
        follows.nodes().await.unwrap().len(),
        3,
        "what it knows it says"
    );
    let refused = follows.drain("c".to_owned(), true).await;
    assert!(
        matches!(refused, Err(Refused::Unavailable(_))),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slots_of_a_parked_shard_move_away_and_may_come_back_once_it_runs() {
    let nodes = Nodes::of(2, 1, |config| {
        config.layout = ShardLayout::try_new(1, 64).ok()
    })
    .await;
    let layout = ShardLayout::try_new(1, 64).unwrap();
    let own = SlotId::all()
        .find(|slot| nodes.all[1].acts_for(*slot))
        .unwrap();
    let shard: Vec<_> = SlotId::all()
        .filter(|slot| layout.shard_of(*slot) == layout.shard_of(own))
        .collect();
    let left = || {
        shard
            .iter()
            .filter(|slot| nodes.all[1].acts_for(**slot))
            .count()
    };
    assert!(left() > 0);
    nodes.all[1].around.lanes.parked(own, true);
    nodes
        .until("no slot of the shard is there", || left() == 0)
        .await;
    nodes.served().await;
    nodes.all[1].around.lanes.parked(own, false);
    nodes.even().await;
}

/// The slots of a shard, and those of them that a node acts for.
fn shard_of(node: &Node, slot: SlotId) -> usize {
    let layout = layout();
    SlotId::all()
        .filter(|other| layout.shard_of(*other) == layout.shard_of(slot) && node.acts_for(*other))
        .count()
}

fn layout() -> ShardLayout {
    ShardLayout::try_new(1, 64).unwrap()
}

fn sharded(config: &mut ClusterConfig) {
    config.layout = Some(layout());
}

/// Waits until the second of two nodes has what it may have, without the shard of a slot.
async fn even_but_for_the_shard_of(nodes: &Nodes, slot: SlotId) {
    let shard = usize::from(SLOT_COUNT) / 64;
    let least = usize::from(SLOT_COUNT) / 2 - shard;
    nodes
        .until("it has its share, and nothing of the shard", || {
            nodes.one_owner();
            let node = &nodes.all[1];
            node.acting() >= least && shard_of(node, slot) == 0
        })
        .await;
    nodes.served().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_parked_stays_so_in_the_next_life_of_its_node() {
    let net = Arc::new(Net::default());
    let mut nodes = Nodes::found(1, Some(Arc::clone(&net)), sharded).await;
    nodes.join(sharded).await;
    nodes.even().await;
    let node = &nodes.all[1];
    let own = SlotId::all().find(|slot| node.acts_for(*slot)).unwrap();
    node.around.lanes.parked(own, true);
    nodes
        .until("no slot of the shard is there", || shard_of(node, own) == 0)
        .await;
    let was = node.me();
    net.isolate(&node.addr, &nodes.all[0].addr);
    nodes
        .until("it is dead", || {
            nodes.all[0].state_of(was.id) == Some(NodeState::Dead)
        })
        .await;
    net.heal();
    nodes
        .until("it lives again", || {
            node.me().incarnation > was.incarnation && node.acting() > 0
        })
        .await;
    even_but_for_the_shard_of(&nodes, own).await;
    node.around.lanes.parked(own, false);
    nodes.even().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_parked_or_runs_again_before_its_node_lives_is_told_of_all_the_same() {
    let net = Arc::new(Net::default());
    let mut nodes = Nodes::found(1, Some(Arc::clone(&net)), sharded).await;
    net.refuse("net-1", "net-0");
    nodes.join(sharded).await;
    let node = &nodes.all[1];
    let (parked, runs) = (slot(7), slot(8));
    assert_ne!(layout().shard_of(parked), layout().shard_of(runs));
    for (slot, is) in [(parked, true), (runs, true), (runs, false)] {
        node.around.lanes.parked(slot, is);
    }
    for _ in 0..2 {
        // Reports are heard after what is asked, and before what is asked next.
        let asked = node.cluster().propose(Command::Barrier { nonce: 1 }).await;
        assert!(asked.is_err());
    }
    assert_eq!(node.cluster().status().state, None);
    net.heal();
    even_but_for_the_shard_of(&nodes, parked).await;
    assert!(shard_of(node, runs) > 0);
    node.around.lanes.parked(parked, false);
    nodes.even().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_worker_is_stuck_comes_back_once_that_works_and_not_before() {
    let mut nodes = Nodes::found(1, None, |_| {}).await;
    nodes.join(|config| config.workers = 1).await;
    let works = Arc::new(AtomicBool::new(true));
    let lanes = nodes.all[1].around.lanes.clone();
    let worker = tokio::spawn({
        let works = Arc::clone(&works);
        async move {
            loop {
                if works.load(Ordering::Acquire) {
                    lanes.worked(0);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    nodes.even().await;
    let was = nodes.all[1].me();
    works.store(false, Ordering::Release);
    nodes
        .until("it is dead", || {
            nodes.all[0].state_of(was.id) == Some(NodeState::Dead)
        })
        .await;
    assert_eq!(nodes.all[1].cluster().status().degraded, Some(Some(0)));
    // Meanwhile others come and get their share.
    nodes.join(|_| {}).await;
    nodes
        .until("the newcomer has its share", || {
            let (state, acting) = (nodes.all[0].state_of(was.id), nodes.all[1].acting());
            assert_eq!((state, acting), (Some(NodeState::Dead), 0));
            nodes.all[2].acting() > 2000
        })
        .await;
    works.store(true, Ordering::Release);
    nodes.even().await;
    let now = nodes.all[1].me();
    assert_eq!(now.incarnation.0, was.incarnation.0 + 1);
    worker.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_what_a_move_waits_for_wherever_its_source_is_and_its_stall_is_measured() {
    let nodes = Nodes::of(3, 1, |_| {}).await;
    let asked = nodes.all[2].cluster().clone();
    let source = &nodes.all[1];
    let busy = SlotId::all().find(|slot| source.acts_for(*slot)).unwrap();
    source.around.lanes.busy.lock().unwrap().insert(busy, 1);
    let stalls = source.cluster().counts().stall.count();
    let begun = Operations::move_slot(&asked, busy.index(), "a".to_owned()).await;
    let id = begun.unwrap().id;
    let mut seen = None;
    for _ in 0..1_000 {
        let view = Operations::moves(&asked).await.unwrap();
        let open = view.open.iter().find(|it| it.slot == busy && it.id == id);
        seen = open.map(|it| it.step);
        if seen == Some(MoveStep::Finishing) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(seen, Some(MoveStep::Finishing));
    assert_eq!(
        source.cluster().status().steps.get(&MoveStep::Finishing),
        Some(&1)
    );
    source.around.lanes.finished(busy, id);
    nodes
        .until("it has moved", || nodes.all[0].acts_for(busy))
        .await;
    nodes
        .until("its source knows how long it was not served", || {
            source.cluster().counts().stall.count() == stalls + 1
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_a_takeover_is_measured_once_for_each_slot() {
    let mut nodes = Nodes::of(2, 1, |_| {}).await;
    let orphans = nodes.all[1].acting() as u64;
    assert!(orphans > 0);
    assert_eq!(nodes.all[0].cluster().counts().takeover.count(), 0);
    nodes.all[1].stop().await;
    nodes
        .until("the other has all slots", || {
            nodes.all[0].acting() == usize::from(crate::SLOT_COUNT)
        })
        .await;
    let counts = nodes.all[0].cluster().counts();
    assert_eq!(counts.takeover.count(), orphans);
    assert!(counts.commit.count() > 0);
}
