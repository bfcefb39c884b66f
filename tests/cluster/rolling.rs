//! Every node is restarted in turn, under load.

use super::drive::{Driver, Load, doors};
use super::scene::Lent;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_restart_in_turn_without_a_failed_event_or_a_gap() {
    let Some(_turn) = super::turn("a rolling restart") else {
        return;
    };
    let mut fleet = Lent::take();
    let doors = doors(&fleet, 3);
    let driver = Driver::start(
        &doors,
        &[0, 1, 2],
        Load {
            keys: 128,
            ..Load::default()
        },
    );
    driver.round().await;
    let leader = fleet.leader(0);
    let mut order: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    order.push(leader);
    if super::long() {
        order = order.repeat(5);
    }
    for node in order {
        let others: Vec<usize> = (0..3).filter(|other| *other != node).collect();
        driver.through(&others);
        driver.round().await;
        let stopping = Instant::now();
        assert_eq!(fleet.stop(node), Some(0));
        doors[node].lost().await;
        eprintln!("drained and ended in {:?}", stopping.elapsed());
        fleet.start(node);
        fleet.settled(&[others[0], others[1], node]);
        driver.through(&[0, 1, 2]);
        driver.round().await;
    }
    let report = driver.stop().await;
    eprintln!("rolling restart: {}", report.line());
    report.check(false);
    assert_eq!(report.failed().len(), 0, "{:?}", report.failed());
}
