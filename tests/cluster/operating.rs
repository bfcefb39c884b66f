//! What operators ask of a cluster that runs: drains that would cost too much, an even spread, more voters.

use super::drive::{Driver, Load, doors};
use super::fleet::Fleet;
use super::process::eventually;
use super::scene::Scene;
use serde_json::{Value, json};
use std::process::Output;

/// The first line of what a command said that failed, and its cure.
fn refused(out: &Output) -> String {
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    String::from_utf8(out.stderr.clone()).unwrap()
}

/// The slots of a node, as another sees it.
fn slots(fleet: &Fleet, by: usize, of: usize) -> Option<u64> {
    let counts = fleet.counts(by)?;
    let found = counts.iter().find(|(name, ..)| name == fleet.name(of));
    found.map(|(_, slots, _)| *slots)
}

/// The slots that a plan moves to a node.
fn planned_to(plan: &Value, name: &str) -> u64 {
    let pairs = plan["moves"].as_array().unwrap().iter();
    let to_it = pairs.filter(|pair| pair["to"]["name"] == *name);
    to_it.filter_map(|pair| pair["slots"].as_u64()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_drain_would_cost_is_refused_unless_it_is_forced_and_a_rebalance_gives_the_slots_back()
 {
    let Some(scene) = Scene::begin("drains that are refused") else {
        return;
    };
    let fleet = &scene.fleet;
    let (one, [other, by]) = (scene.victim, scene.others);
    assert_eq!(by, scene.leader);
    let (first, second, last) = (fleet.name(one), fleet.name(other), fleet.name(by));
    let driver = scene.load(&[0, 1, 2]).await;
    let drain = |node: &str, more: &[&str]| {
        fleet.run(by, &[&["cluster", "drain", node, "--wait"], more].concat())
    };

    let drained = drain(first, &[]);
    assert!(drained.status.success(), "{drained:?}");
    // Two are left, and one of them alone is no majority of three.
    let said = refused(&drain(second, &[]));
    let why = "1 of 3 voters are left and 2 are needed: the quorum would go";
    assert!(said.contains(&format!("without {second} ")), "{said}");
    assert!(said.contains(why) && said.contains("--force"), "{said}");
    assert!(slots(fleet, by, other) > Some(2000), "nothing has moved");
    let forced = drain(second, &["--force"]);
    assert!(forced.status.success(), "{forced:?}");
    let said = String::from_utf8(forced.stdout).unwrap();
    let forced = format!("forced, though without {second} ");
    assert!(said.contains(&forced) && said.contains(why), "{said}");
    assert_eq!(slots(fleet, by, by), Some(4096));
    // Nobody is left to take anything.
    let said = refused(&drain(last, &[]));
    for what in [
        "takes events",
        "serves connect",
        "serves channel",
        "serves rpc",
    ] {
        let why = format!("is the last node that {what}");
        assert!(said.contains(last) && said.contains(&why), "{said}");
    }
    assert_eq!(fleet.leader(other), by, "all of them are there still");

    // Both may take slots again, but get none before moves go on.
    for command in [
        &["pause-moves"][..],
        &["undrain", first],
        &["undrain", second],
    ] {
        let done = fleet.run(by, &[&["cluster"], command].concat());
        assert!(done.status.success(), "{command:?}: {done:?}");
    }
    let held = fleet.run(by, &["cluster", "rebalance"]);
    let said = String::from_utf8(held.stdout).unwrap();
    assert!(said.contains("moves are paused"), "{said}");
    for node in [by, one] {
        let moves = fleet.run(node, &["cluster", "moves"]);
        let said = String::from_utf8(moves.stdout).unwrap();
        assert!(said.contains("held back: moves are paused"), "{said}");
    }
    assert_eq!(slots(fleet, by, by), Some(4096));
    let resumed = fleet.run(by, &["cluster", "resume-moves"]);
    assert!(resumed.status.success(), "{resumed:?}");
    let plan = fleet.json(by, &["cluster", "rebalance"]).unwrap();
    assert_eq!(plan["begun"], json!(true), "{plan}");
    let both = [first, second].map(|name| planned_to(&plan, name));
    assert!(both.iter().sum::<u64>() > 0, "{plan}");
    fleet.settled(&[0, 1, 2]);
    let plan = fleet.json(by, &["cluster", "rebalance", "--plan"]).unwrap();
    assert_eq!(
        (&plan["moves"], &plan["begun"]),
        (&json!([]), &json!(false))
    );

    // More voters than nodes are wanted, until there are as many as can be had.
    let said = refused(&fleet.run(by, &["cluster", "voters", "4"]));
    assert!(said.contains("4 voters can't be wanted"), "{said}");
    let wanted = fleet.json(by, &["cluster", "voters", "5"]).unwrap();
    assert_eq!(
        (&wanted["wanted"], &wanted["missing"]),
        (&json!(5), &json!(2))
    );
    let back = fleet.json(by, &["cluster", "voters", "3"]).unwrap();
    assert_eq!((&back["wanted"], &back["missing"]), (&json!(3), &json!(0)));
    let said = refused(&fleet.run(by, &["cluster", "voters", "1"]));
    assert!(said.contains("3 nodes vote"), "{said}");
    driver.round().await;
    driver.stop().await.is_intact("drains refused and forced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_voters_are_wanted_and_vote_and_any_two_of_them_may_die() {
    let Some(_turn) = super::turn("five voters") else {
        return;
    };
    let mut fleet = Fleet::plain(5);
    let wanted = fleet.run(0, &["cluster", "voters", "5"]);
    assert!(wanted.status.success(), "{wanted:?}");
    eventually("five vote", || {
        let shown = fleet.json(0, &["cluster", "voters"])?;
        (shown["voters"].as_array()?.len() == 5).then_some(())
    });
    let health = fleet.run(0, &["cluster", "health"]);
    let said = String::from_utf8(health.stdout).unwrap();
    assert!(said.contains("can lose 2 of 5 voters"), "{said}");
    let doors = doors(&fleet, 5);
    let leader = fleet.leader(0);
    let other = (leader + 1) % 5;
    let left: Vec<usize> = (0..5)
        .filter(|node| ![leader, other].contains(node))
        .collect();
    let driver = Driver::start(&doors, &left, Load::default());
    driver.round().await;
    for node in [leader, other] {
        fleet.kill(node);
    }
    driver.round().await;
    driver.stop().await.is_sound("two of five voters die");
}
