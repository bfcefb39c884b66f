//! Every node is restarted in turn, under load.

use super::drive::{Driver, Load};
use super::scene::Scene;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_restart_in_turn_without_a_failed_event_or_a_gap() {
    let Some(mut scene) = Scene::begin("a rolling restart") else {
        return;
    };
    let load = Load {
        keys: 128,
        ..Load::default()
    };
    let driver = Driver::start(&scene.doors, &[0, 1, 2], load);
    driver.round().await;
    let last = scene.leader;
    let rounds = if super::long() { 5 } else { 1 };
    for _ in 0..rounds {
        for node in [1, 2, 3].map(|step| (last + step) % 3) {
            let others: Vec<usize> = (0..3).filter(|other| *other != node).collect();
            driver.through(&others);
            driver.round().await;
            let stopping = Instant::now();
            assert_eq!(scene.fleet.stop(node), Some(0));
            scene.doors[node].lost().await;
            eprintln!("drained and ended in {:?}", stopping.elapsed());
            scene.fleet.start(node);
            scene.fleet.settled(&[others[0], others[1], node]);
            driver.through(&[0, 1, 2]);
            driver.round().await;
        }
    }
    driver.stop().await.is_intact("rolling restart");
}
