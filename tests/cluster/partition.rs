//! Links are cut.

use super::drive::{Door, Failed};
use super::process::eventually;
use super::scene::Scene;
use std::time::{Duration, Instant};

/// From the cut until the others serve the slots of the node that is cut off.
const BAR: Duration = Duration::from_secs(3);
/// How long it may take to say no.
const AT_ONCE: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_stops_acting_and_the_others_serve_its_slots() {
    let Some(scene) = Scene::alone("a node is cut off") else {
        return;
    };
    let (fleet, victim) = (&scene.fleet, scene.victim);
    let driver = scene.load(&[0, 1, 2]).await;
    fleet.net.isolate(victim);
    let cut = Instant::now();
    driver.through(&scene.others);
    driver.round().await;
    let served = cut.elapsed();
    // The minority side says no at once, says why it is not ready, and goes on with what has no key.
    let alone = Door::new(fleet.socket(victim));
    let asked = Instant::now();
    let refused = alone.count("user-1").await;
    let answered = asked.elapsed();
    assert!(matches!(refused, Err(Failed::Status(14, _))), "{refused:?}");
    let ready = fleet.run(victim, &["health", "--ready"]);
    assert_eq!(ready.status.code(), Some(1), "{ready:?}");
    let connect = fleet.run(victim, &["fire", "connect", "--json"]);
    assert!(connect.status.success(), "{connect:?}");
    fleet.net.heal(victim);
    fleet.settled(&[0, 1, 2]);
    driver.through(&[0, 1, 2]);
    driver.round().await;
    let what = format!("partition: served after {served:?}");
    driver.stop().await.is_sound(&what);
    assert!(served < BAR, "{served:?}");
    assert!(answered < AT_ONCE, "{answered:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hears_nothing_but_is_heard_is_taken_over_as_well() {
    let Some(scene) = Scene::begin("one-way loss") else {
        return;
    };
    let (fleet, victim) = (&scene.fleet, scene.victim);
    let driver = scene.load(&scene.others).await;
    for other in scene.others {
        fleet.net.deafen(victim, other);
    }
    eventually("it is taken over", || {
        let counts = fleet.counts(scene.others[0])?;
        let (_, slots, _) = counts
            .iter()
            .find(|(name, ..)| name == fleet.name(victim))?;
        (*slots == 0).then_some(())
    });
    driver.round().await;
    fleet.net.heal(victim);
    fleet.settled(&[0, 1, 2]);
    driver.stop().await.is_sound("deaf node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_cut_between_two_nodes_that_are_not_the_leader_costs_no_owner() {
    let Some(scene) = Scene::begin("one link is cut") else {
        return;
    };
    let scene = scene.at_the_leader();
    let [one, other] = scene.others;
    let driver = scene.load(&[scene.leader]).await;
    scene.fleet.net.cut(one, other);
    let long = super::lasting(Duration::from_secs(3), Duration::from_secs(30));
    tokio::time::sleep(long).await;
    driver.round().await;
    scene.fleet.net.heal(one);
    scene.fleet.net.heal(other);
    driver.round().await;
    driver.stop().await.is_intact("one link cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_loss_of_a_tenth_of_all_packets_breaks_no_rule() {
    let Some(scene) = Scene::begin("random loss") else {
        return;
    };
    let fleet = &scene.fleet;
    let shares: &[u32] = if super::long() { &[1, 10, 30] } else { &[10] };
    for share in shares {
        let driver = scene.load(&[0, 1, 2]).await;
        fleet.net.lose(scene.victim, *share);
        let long = super::lasting(Duration::from_secs(4), Duration::from_secs(30));
        tokio::time::sleep(long).await;
        fleet.net.heal(scene.victim);
        fleet.settled(&[0, 1, 2]);
        driver.round().await;
        driver.stop().await.is_sound(&format!("{share} % loss"));
    }
}
