//! Every node is restarted in turn, under load that goes through all of them.

use super::drive::{Driver, Load, Report, doors};
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

/// A node that was asked to end took calls for as long as it had slots of its own.
fn took_calls(report: &Report, node: usize, name: &str, [from, to]: [Instant; 2]) {
    let within = report.calls.iter().filter_map(|call| {
        let end = call.began + call.took;
        let count = call.result.as_ref().ok()?;
        (call.began > from && end < to).then_some((call.through, &*count.node, end - from))
    });
    let own = within.clone().filter(|(_, owner, _)| *owner == name);
    let own = own.map(|(.., at)| at).max();
    let taken = within.filter(|(through, ..)| *through == node);
    let taken = taken.map(|(.., at)| at).max();
    eprintln!("{name} owned until {own:?} and took calls until {taken:?}");
    assert!(taken > own, "{name} took no calls though it had slots");
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
    let mut ends = Vec::new();
    for node in order {
        let others: Vec<usize> = (0..3).filter(|other| *other != node).collect();
        let stopping = Instant::now();
        let (code, said) = fleet.stop_saying(node);
        assert_eq!(code, Some(0));
        ends.push((node, [stopping, Instant::now()]));
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
        driver.round().await;
    }
    assert!(handed > 0, "the leader hands over");
    let report = driver.stop().await;
    for (node, time) in ends {
        took_calls(&report, node, fleet.name(node), time);
    }
    report.is_intact("rolling restart");
}
