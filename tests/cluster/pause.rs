//! A node stops for a while and wakes.

use super::drive::{Driver, Load};
use super::scene::Scene;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_shorter_than_the_lease_loses_nothing_and_no_slot_changes_hands() {
    let Some(scene) = Scene::begin("a short pause") else {
        return;
    };
    let fleet = &scene.fleet;
    let before = fleet.counts(scene.leader);
    let driver = scene.load(&scene.others).await;
    fleet.signal(scene.victim, "STOP");
    tokio::time::sleep(Duration::from_millis(500)).await;
    fleet.signal(scene.victim, "CONT");
    driver.round().await;
    assert_eq!(fleet.counts(scene.leader), before);
    driver.stop().await.is_intact("pause of 0.5 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_owner_that_wakes_after_the_takeover_answers_nothing_stale_and_joins_again() {
    let Some(scene) = Scene::begin("a long pause") else {
        return;
    };
    let fleet = &scene.fleet;
    // Of the two callers of a key one may wait inside the node that pauses; the other goes on.
    let load = Load {
        callers_per_key: 2,
        ..Load::default()
    };
    let driver = Driver::start(&scene.doors, &[0, 1, 2], load);
    driver.round().await;
    fleet.signal(scene.victim, "STOP");
    driver.through(&scene.others);
    fleet.taken_over(scene.victim, scene.leader);
    driver.half_a_round().await;
    fleet.signal(scene.victim, "CONT");
    driver.through(&[0, 1, 2]);
    fleet.settled(&[0, 1, 2]);
    driver.round().await;
    let report = driver.stop().await;
    report.is_sound("pause beyond the lease");
    // Only what it was about to send as it stopped may leave it.
    assert!(report.stale() <= 1, "{} stale answers", report.stale());
}
