//! What operators see and ask, on a node that leads and on one that does not.

use super::nodes::Nodes;
use crate::admin::{MoveStep, Operations, Refused};
use crate::{Ended, NodeState, Region, ShardLayout, SlotId};
use std::time::Duration;

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
