//! Moves whose values the target cannot take, or cannot take yet.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::net::Net;
use super::nodes::Nodes;
use super::parts::Told;
use crate::peer::{Class, LinkState};
use crate::shell::ClusterConfig;
use crate::{Command, Gate, MoveReason, MoveStart, Outcome, SlotId};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

/// Nothing but what is looked at ends a move.
fn patient(config: &mut ClusterConfig) {
    config.handoff.closed_timeout = LONG;
    config.handoff.silence_timeout = LONG;
    config.handoff.prepare_timeout = LONG;
}

/// The same, but for a source that soon tires of a slot that does not close.
fn tired_soon(config: &mut ClusterConfig) {
    patient(config);
    config.handoff.prepare_timeout = SHORT;
}

/// A slot of the first node, in which there is something.
fn valued(nodes: &Nodes, values: &[Bytes]) -> SlotId {
    let first = &nodes.all[0];
    let slot = SlotId::all().find(|slot| first.acts_for(*slot)).unwrap();
    first.around.store.put(slot, values.to_vec());
    slot
}

async fn begin(nodes: &Nodes, slot: SlotId, to: usize, reason: MoveReason) {
    let start = MoveStart {
        slot,
        expect_epoch: nodes.all[0].table().slot(slot).epoch,
        to: nodes.all[to].me(),
    };
    let moves = vec![start];
    let begun = nodes.all[0]
        .cluster()
        .propose(Command::BeginMoves { moves, reason })
        .await;
    assert_eq!(begun, Ok(Outcome::Done { changed: 1 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_find_no_room_stay_at_the_source_which_goes_on_with_them() {
    let nodes = Nodes::of(2, 1, patient).await;
    let values = [Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    let moved = valued(&nodes, &values);
    let (from, to) = (&nodes.all[0], &nodes.all[1]);
    let epoch = from.table().slot(moved).epoch;
    for reason in [MoveReason::Admin, MoveReason::Drain] {
        to.around.store.full.store(true, Ordering::Release);
        let before = from.around.lanes.told(moved).len();
        begin(&nodes, moved, 1, reason).await;
        nodes
            .until("the slot is closed, and open again", || {
                nodes.one_owner();
                let told = from.around.lanes.told(moved);
                told[before..] == [Told::Closed, Told::Reopened(epoch)] && from.acts_for(moved)
            })
            .await;
        assert_eq!(from.around.store.get(moved), values);
    }
    let told: &dyn crate::admin::Operations = from.cluster();
    let events = told.events(0).await.unwrap().events;
    assert!(
        events.iter().any(|event| event.why.contains("has no room")),
        "{events:?}"
    );
    to.around.store.full.store(false, Ordering::Release);
    begin(&nodes, moved, 1, MoveReason::Admin).await;
    nodes
        .until("the slot is served at its new owner", || {
            nodes.one_owner();
            to.acts_for(moved)
        })
        .await;
    assert_eq!(to.around.store.get(moved), values);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_whose_values_are_not_in_place_yet_moves_on_with_them_later_even_in_a_drain() {
    let mut nodes = Nodes::found(1, None, patient).await;
    nodes.join(tired_soon).await;
    nodes.even().await;
    let values = [Bytes::from_static(b"one")];
    let moved = valued(&nodes, &values);
    let via = &nodes.all[1];
    via.around.store.away.store(true, Ordering::Release);
    begin(&nodes, moved, 1, MoveReason::Admin).await;
    nodes
        .until("the slot is on its way to open", || {
            matches!(via.standing.gate(moved), Gate::Opening(_))
        })
        .await;
    begin(&nodes, moved, 0, MoveReason::Drain).await;
    let tired = Instant::now() + SHORT * 3;
    nodes
        .until("the drain is tired of waiting, and waits", || {
            let told = via.around.lanes.told(moved);
            assert!(!told.contains(&Told::Closed), "{told:?}");
            Instant::now() > tired
        })
        .await;
    via.around.store.away.store(false, Ordering::Release);
    nodes
        .until("the slot is back", || {
            nodes.one_owner();
            nodes.all[0].acts_for(moved)
        })
        .await;
    assert_eq!(nodes.all[0].around.store.get(moved), values);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_stays_open_while_its_values_could_not_follow_to_a_target_that_is_ready() {
    let net = Arc::new(Net::default());
    let mut nodes = Nodes::found(1, Some(Arc::clone(&net)), patient).await;
    let second = |config: &mut ClusterConfig| {
        patient(config);
        config.handoff.prepare_timeout = Duration::from_secs(2);
    };
    nodes.join(second).await;
    // The second one never reaches the third, which reaches it.
    net.refuse("net-1", "net-2");
    nodes.join(patient).await;
    nodes.even().await;
    let from = &nodes.all[1];
    let moved = SlotId::all().find(|slot| from.acts_for(*slot)).unwrap();
    from.around
        .store
        .put(moved, vec![Bytes::from_static(b"one")]);
    let before = from.around.lanes.told(moved);
    let moves = |nodes: &Nodes| nodes.all[0].cluster().status().moves;
    begin(&nodes, moved, 2, MoveReason::Admin).await;
    nodes
        .until("the move is given up", || {
            assert_eq!(from.around.lanes.told(moved), before, "it was closed");
            moves(&nodes) == 0 && from.table().slot(moved).moving.is_none()
        })
        .await;
    net.heal();
    nodes
        .until("the link is there", || {
            let links = from.cluster().links();
            links.hasten(nodes.all[2].me().id);
            links.state(nodes.all[2].me().id, Class::Data) == LinkState::Up
        })
        .await;
    begin(&nodes, moved, 2, MoveReason::Admin).await;
    nodes
        .until("the slot is served at its new owner", || {
            nodes.one_owner();
            nodes.all[2].acts_for(moved)
        })
        .await;
}
