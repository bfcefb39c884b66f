//! A node stops for a while and wakes.

use super::drive::{Driver, Load, doors};
use super::fleet::Fleet;
use super::process::eventually;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_shorter_than_the_lease_loses_nothing_and_no_slot_changes_hands() {
    let Some(_turn) = super::turn("a short pause") else {
        return;
    };
    let fleet = Fleet::plain(3);
    let leader = fleet.leader(0);
    let victim = (leader + 1) % 3;
    let others: Vec<usize> = (0..3).filter(|node| *node != victim).collect();
    let doors = doors(&fleet, 3);
    let driver = Driver::start(&doors, &others, Load::default());
    driver.round().await;
    fleet.signal(victim, "STOP");
    tokio::time::sleep(Duration::from_millis(500)).await;
    fleet.signal(victim, "CONT");
    driver.round().await;
    let report = driver.stop().await;
    eprintln!("pause of 0.5 s: {}", report.line());
    report.check(false);
    assert_eq!(report.failed().len(), 0, "{:?}", report.failed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_owner_that_wakes_after_the_takeover_answers_nothing_stale_and_joins_again() {
    let Some(_turn) = super::turn("a long pause") else {
        return;
    };
    let fleet = Fleet::plain(3);
    let leader = fleet.leader(0);
    let victim = (leader + 1) % 3;
    let others: Vec<usize> = (0..3).filter(|node| *node != victim).collect();
    let doors = doors(&fleet, 3);
    // Some calls are inside the node that pauses.
    let driver = Driver::start(&doors, &[0, 1, 2], Load::default());
    driver.round().await;
    fleet.signal(victim, "STOP");
    driver.through(&others);
    eventually("its slots are taken over", || {
        let counts = fleet.counts(others[0])?;
        let dead = counts
            .iter()
            .find(|(name, ..)| name == fleet.name(victim))?;
        (dead.2 == "dead" && dead.1 == 0).then_some(())
    });
    fleet.signal(victim, "CONT");
    driver.through(&[0, 1, 2]);
    fleet.settled(&[0, 1, 2]);
    driver.round().await;
    let report = driver.stop().await;
    eprintln!("pause beyond the lease: {}", report.line());
    report.check(true);
}
