//! Links are cut.

use super::drive::{Door, Driver, Failed, Load, doors};
use super::fleet::Fleet;
use super::process::eventually;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_stops_acting_and_the_others_serve_its_slots() {
    let Some(_turn) = super::turn("a node is cut off") else {
        return;
    };
    let fleet = Fleet::plain(3);
    let leader = fleet.leader(0);
    let victim = (leader + 1) % 3;
    let others: Vec<usize> = (0..3).filter(|node| *node != victim).collect();
    let doors = doors(&fleet, 3);
    let driver = Driver::start(&doors, &[0, 1, 2], Load::default());
    driver.round().await;
    fleet.net.isolate(victim);
    let cut = Instant::now();
    driver.through(&others);
    driver.round().await;
    let served = cut.elapsed();
    assert!(served < Duration::from_secs(3), "{served:?}");
    // The minority side says no at once, says why it is not ready, and goes on with what has no key.
    let alone = Door::new(fleet.socket(victim));
    let asked = Instant::now();
    let refused = alone.count("user-1").await;
    assert!(matches!(refused, Err(Failed::Status(14, _))), "{refused:?}");
    assert!(
        asked.elapsed() < Duration::from_millis(500),
        "{:?}",
        asked.elapsed()
    );
    let ready = fleet.run(victim, &["health", "--ready"]);
    assert_eq!(ready.status.code(), Some(1), "{ready:?}");
    let connect = fleet.run(victim, &["fire", "connect", "--json"]);
    assert!(connect.status.success(), "{connect:?}");
    fleet.net.heal(victim);
    fleet.settled(&[0, 1, 2]);
    driver.through(&[0, 1, 2]);
    driver.round().await;
    let report = driver.stop().await;
    eprintln!("partition: served after {served:?}; {}", report.line());
    report.check(true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hears_nothing_but_is_heard_is_taken_over_as_well() {
    let Some(_turn) = super::turn("one-way loss") else {
        return;
    };
    let fleet = Fleet::plain(3);
    let leader = fleet.leader(0);
    let victim = (leader + 1) % 3;
    let others: Vec<usize> = (0..3).filter(|node| *node != victim).collect();
    let doors = doors(&fleet, 3);
    let driver = Driver::start(&doors, &others, Load::default());
    driver.round().await;
    for other in &others {
        fleet.net.deafen(victim, *other);
    }
    eventually("it is taken over", || {
        let counts = fleet.counts(others[0])?;
        let (_, slots, _) = counts
            .iter()
            .find(|(name, ..)| name == fleet.name(victim))?;
        (*slots == 0).then_some(())
    });
    driver.round().await;
    fleet.net.heal(victim);
    fleet.settled(&[0, 1, 2]);
    let report = driver.stop().await;
    eprintln!("deaf node: {}", report.line());
    report.check(true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_cut_between_two_nodes_that_are_not_the_leader_costs_no_owner() {
    let Some(_turn) = super::turn("one link is cut") else {
        return;
    };
    let fleet = Fleet::plain(3);
    let leader = fleet.leader(0);
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let doors = doors(&fleet, 3);
    let driver = Driver::start(&doors, &[leader], Load::default());
    driver.round().await;
    fleet.net.cut(one, other);
    tokio::time::sleep(Duration::from_secs(3)).await;
    driver.round().await;
    fleet.net.heal(one);
    fleet.net.heal(other);
    driver.round().await;
    let report = driver.stop().await;
    eprintln!("one link cut: {}", report.line());
    report.check(false);
    assert_eq!(report.failed().len(), 0, "{:?}", report.failed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_loss_of_a_tenth_of_all_packets_breaks_no_rule() {
    let Some(_turn) = super::turn("random loss") else {
        return;
    };
    let fleet = Fleet::plain(3);
    let doors = doors(&fleet, 3);
    let driver = Driver::start(&doors, &[0, 1, 2], Load::default());
    driver.round().await;
    fleet.net.lose(1, 10);
    tokio::time::sleep(Duration::from_secs(5)).await;
    fleet.net.heal(1);
    fleet.settled(&[0, 1, 2]);
    driver.round().await;
    let report = driver.stop().await;
    eprintln!("10 % loss: {}", report.line());
    report.check(true);
}
