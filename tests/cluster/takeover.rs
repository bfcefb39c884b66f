//! An owner dies: others take its slots.

use super::process::{Running, eventually};
use super::scene::Scene;
use std::time::{Duration, Instant};

/// From the death of an owner until all its keys are served.
const BAR: Duration = Duration::from_secs(3);

/// Kills a node under load that goes through the others.
async fn kill(mut scene: Scene) {
    let (victim, leads) = (scene.victim, scene.victim == scene.leader);
    let driver = scene.load(&scene.others).await;
    // Whoever follows the events on it hears of its death once it is back.
    let follow = (scene.fleet).command(victim, &["cluster", "events", "-f", "--json"]);
    let follows = Running::start(follow);
    follows.says("\"number\"");
    scene.fleet.kill(victim);
    let died = Instant::now();
    driver.round().await;
    let served = died.elapsed();
    let what = format!("takeover, leader {leads}: served after {served:?}");
    driver.stop().await.is_sound(&what);
    assert!(served < BAR, "{served:?}");
    let fleet = &mut scene.fleet;
    fleet.start(victim);
    fleet.settled(&[0, 1, 2]);
    let counts = fleet.counts(scene.others[0]).unwrap();
    let restarted = counts.iter().find(|(name, ..)| name == fleet.name(victim));
    assert!(restarted.unwrap().1 > 1300, "{counts:?}");
    follows.says("no answer");
    eventually("its death is told", || {
        let said = follows.said();
        let gap = said.iter().position(|line| line.contains("no answer"))?;
        let mut told = said.iter().skip(gap);
        told.find(|line| line.contains(fleet.name(victim)) && line.contains("dead"))
            .map(|_| ())
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slots_of_a_node_that_is_killed_are_served_by_others_within_three_seconds() {
    let Some(scene) = Scene::alone("a node is killed") else {
        return;
    };
    kill(scene).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slots_of_a_leader_that_is_killed_are_served_by_others_within_three_seconds() {
    let Some(scene) = Scene::alone("the leader is killed") else {
        return;
    };
    kill(scene.at_the_leader()).await;
}
