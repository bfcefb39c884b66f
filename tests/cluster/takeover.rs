//! An owner dies: others take its slots.

use super::drive::{Driver, Load, doors};
use super::fleet::Fleet;
use std::time::{Duration, Instant};

/// From the death of an owner until all its keys are served.
const BAR: Duration = Duration::from_secs(3);

/// Kills a node under load that goes through the others.
async fn kill(leads: bool) {
    let mut fleet = Fleet::plain(3);
    let leader = fleet.leader(0);
    let victim = if leads { leader } else { (leader + 1) % 3 };
    let others: Vec<usize> = (0..3).filter(|node| *node != victim).collect();
    let doors = doors(&fleet, 3);
    let driver = Driver::start(&doors, &others, Load::default());
    driver.round().await;
    fleet.kill(victim);
    let died = Instant::now();
    driver.round().await;
    let served = died.elapsed();
    let report = driver.stop().await;
    eprintln!(
        "takeover, leader {leads}: served after {served:?}; {}",
        report.line()
    );
    report.check(true);
    assert!(served < BAR, "{served:?}");
    let restarted = fleet.name(victim).to_owned();
    fleet.start(victim);
    fleet.settled(&[others[0], others[1], victim]);
    let counts = fleet.counts(others[0]).unwrap();
    assert!(
        counts
            .iter()
            .any(|(name, slots, _)| *name == restarted && *slots > 1300)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slots_of_a_node_that_is_killed_are_served_by_others_within_three_seconds() {
    let Some(_turn) = super::turn("a node is killed") else {
        return;
    };
    kill(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slots_of_a_leader_that_is_killed_are_served_by_others_within_three_seconds() {
    let Some(_turn) = super::turn("the leader is killed") else {
        return;
    };
    kill(true).await;
}
