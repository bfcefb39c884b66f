//! Every node is restarted in turn, under load.

use super::drive::{Driver, Load, doors};
use super::scene::Lent;
use std::time::{Duration, Instant};

/// When a line of the log was written, in seconds of its day, if it holds this.
fn at(line: &str, part: &str) -> Option<f64> {
    let line = line.contains(part).then_some(line)?;
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let (_, time) = line["timestamp"].as_str()?.split_once('T')?;
    let parts = time.trim_end_matches('Z').split(':');
    parts
        .map(|part| part.parse::<f64>().ok())
        .try_fold(0.0, |sum, part| Some(sum * 60.0 + part?))
}

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
            rest: Duration::from_millis(100),
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
    let mut handed = 0;
    for node in order {
        let others: Vec<usize> = (0..3).filter(|other| *other != node).collect();
        driver.through(&others);
        driver.round().await;
        let stopping = Instant::now();
        let (code, said) = fleet.stop_saying(node);
        assert_eq!(code, Some(0));
        doors[node].lost().await;
        eprintln!("drained and ended in {:?}", stopping.elapsed());
        if let Some(left) = said.iter().find_map(|line| at(line, "hands the lead over")) {
            let led = others.iter().filter_map(|other| {
                let said = fleet.process(*other).said();
                said.iter()
                    .rev()
                    .find_map(|line| at(line, "this node leads\""))
            });
            let gap = led.fold(0.0, f64::max) - left;
            eprintln!("another leads {gap:.3} s after the leader let go");
            // The first voter would stand for election 0.42 s after it heard its leader last.
            assert!((0.0..0.4).contains(&gap), "{gap}");
            handed += 1;
        }
        fleet.start(node);
        fleet.settled(&[others[0], others[1], node]);
        driver.through(&[0, 1, 2]);
        driver.round().await;
    }
    assert!(handed > 0, "the leader hands over");
    let report = driver.stop().await;
    eprintln!("rolling restart: {}", report.line());
    report.check(false);
    assert_eq!(report.failed().len(), 0, "{:?}", report.failed());
}
