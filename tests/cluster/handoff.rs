//! Planned moves: a slot, a join, a drain. No event fails, no count has a gap.

use super::drive::{Driver, Load, doors};
use super::fleet::{Fleet, Spec};
use super::process::eventually;
use super::scene::Scene;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_an_operator_moves_back_and_forth_fails_no_event_and_keeps_its_counts() {
    let Some(scene) = Scene::begin("an operator moves a slot") else {
        return;
    };
    let fleet = &scene.fleet;
    let load = Load {
        keys: 1,
        callers_per_key: 4,
        ..Load::default()
    };
    let driver = Driver::start(&scene.doors, &[0, 1, 2], load);
    driver.round().await;
    let paused = fleet.run(0, &["cluster", "pause-moves"]);
    assert!(paused.status.success(), "{paused:?}");
    let key = &format!("room:{}", driver.user(0));
    for _ in 0..6 {
        let place = fleet.json(0, &["cluster", "where", key]).unwrap();
        let owner = place["slot"]["owner"]["name"].as_str().unwrap().to_owned();
        let to = ["a", "b", "c"]
            .into_iter()
            .find(|name| *name != owner)
            .unwrap();
        let moved = fleet.run(0, &["cluster", "move", key, "--to", to]);
        assert!(moved.status.success(), "{moved:?}");
        eventually("it has moved", || {
            let place = fleet.json(0, &["cluster", "where", key])?;
            (place["slot"]["owner"]["name"].as_str()? == to).then_some(())
        });
        driver.round().await;
    }
    driver.stop().await.is_intact("six moves of one slot");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_and_another_is_drained_without_a_failed_event_or_a_gap() {
    let Some(_turn) = super::turn("a node joins, another is drained") else {
        return;
    };
    let mut fleet = Fleet::prepare(["a", "b", "c"].map(Spec::plain).to_vec(), 1);
    fleet.init(0);
    (0..3).for_each(|node| fleet.start(node));
    fleet.settled(&[0, 1, 2]);
    let fourth = fleet.add(Spec::plain("d"));
    let doors = doors(&fleet, 4);
    let load = Load {
        keys: 256,
        // Callers that leave two cores the time to move slots.
        rest: Duration::from_millis(100),
        ..Load::default()
    };
    let driver = Driver::start(&doors, &[0, 1, 2], load);
    driver.round().await;
    let joining = Instant::now();
    fleet.start(fourth);
    fleet.settled(&[0, 1, 2, 3]);
    let joined = joining.elapsed();
    // Those that call the node that drains lose no more than others.
    driver.through(&[0, 1, 2, 3]);
    driver.round().await;
    let draining = Instant::now();
    let drained = fleet.run(0, &["cluster", "drain", "c", "--wait"]);
    assert!(drained.status.success(), "{drained:?}");
    let gone = draining.elapsed();
    let counts = fleet.counts(0).unwrap();
    let (_, slots, state) = counts.iter().find(|(name, ..)| name == "c").unwrap();
    assert_eq!((*slots, state.as_str()), (0, "draining"));
    driver.round().await;
    let what = format!("join in {joined:?}, drain in {gone:?}");
    driver.stop().await.is_intact(&what);
}
