//! Whole runs: what joins, drains and dies, as it comes.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use proptest::prelude::*;

use super::world::{Mood, World, millis};
use crate::peer::Control;
use crate::testing::{Chance, Log, registration};
use crate::*;

#[test]
fn from_three_nodes_to_four_exactly_1024_slots_move_and_never_512_at_once() {
    let mut world = World::settled(3);
    assert_eq!((world.begun, world.most_open), (0, 0));
    world.join(4);
    world.run(millis(5000));
    assert_eq!((world.begun, world.owned(4), world.open()), (1024, 1024, 0));
    assert!(world.most_open <= 512);
    assert_eq!((world.lead.waits(), world.lead.in_flight()), (&[][..], 0));
}

#[test]
fn draining_one_of_three_ends_without_a_slot_and_moves_nothing_else() {
    let mut world = World::settled(3);
    let had = world.owned(2);
    world.turn(2, NodeState::Draining);
    world.run(millis(5000));
    assert_eq!((world.owned(2), world.begun), (0, had));
    assert!(world.most_open <= 512);
    assert!(world.owned(1).abs_diff(world.owned(3)) <= 1);
    // It comes back up, as in a restart that was called off.
    world.turn(2, NodeState::Up);
    world.run(millis(5000));
    assert_eq!(world.owned(2), 4096 / 3);
}

#[test]
fn a_cluster_that_begins_with_one_node_is_even_a_few_seconds_after_the_third() {
    let mut log = Log::new();
    log.join("n1", 1);
    let mut world = World::over(log);
    world.run(millis(1000));
    assert_eq!(world.owned(1), 4096);
    for number in [2, 3] {
        world.tell(
            0,
            Control::Register(registration(&format!("n{number}"), number, 1)),
        );
        world.commit_all();
        world.turn(u32::try_from(number).unwrap(), NodeState::Up);
    }
    world.run(millis(5000));
    let owned = [1, 2, 3].map(|number| world.owned(number));
    assert!(
        owned.iter().all(|owned| owned.abs_diff(1365) <= 1),
        "{owned:?}"
    );
    assert_eq!(world.begun, 2730);
}

/// What happens to a cluster while its leader leads, some of its proposals lost or late.
fn live_through(seed: u64) {
    let mut chance = Chance::new(seed);
    let nodes = 3 + u32::try_from(chance.below(4)).unwrap();
    let mut world = World::settled(nodes);
    let mut moved_for = 0;
    for _ in 0..chance.between(4, 14) {
        let number = 2 + u32::try_from(chance.below(u64::from(nodes - 1))).unwrap();
        let state = world.log.table.node(world.id(number)).unwrap().state;
        match (chance.below(7), state) {
            (0 | 1, NodeState::Up) => {
                world.mood(number, Mood::Silent);
                moved_for += 4096;
            }
            (2, NodeState::Up) => {
                world.turn(number, NodeState::Draining);
                moved_for += 4096;
            }
            (3, NodeState::Draining) => {
                world.turn(number, NodeState::Up);
                moved_for += 4096;
            }
            (4, NodeState::Dead) => {
                world.mood(number, Mood::Well);
                let incarnation = world.member(number).incarnation.0 + 1;
                let name = format!("n{number}");
                let node = registration(&name, u128::from(number), incarnation);
                world.tell(0, Control::Register(node));
            }
            (6, _) => {
                let mut coin = Chance::new(chance.next());
                world.succeed(|| coin.permille(500));
            }
            (_, NodeState::Joining) => {
                world.turn(number, NodeState::Up);
                moved_for += 4096;
            }
            _ => {}
        }
        // Some time passes, in which some proposals fail, and some of those come true.
        for _ in 0..chance.between(10, 120) {
            let flying = world.flying.len() as u64;
            for _ in 0..chance.below(flying + 1) {
                if !chance.permille(200) {
                    world.commit();
                    continue;
                }
                let (id, command) = world.flying.pop_front().unwrap();
                if chance.permille(500) {
                    world.apply(&command);
                }
                let lost = Err("timed out".to_owned());
                let reading = world.reading();
                let effects = world.lead.proposed(&world.log.table, id, lost, reading);
                world.take(effects);
            }
            if chance.permille(400) {
                world.release();
            }
            world.tick();
            assert!(world.lead.in_flight() <= 5 + 2 * nodes as usize);
        }
    }
    // Calm: whoever is down stays down, who joins comes up.
    for number in 1..=nodes {
        let state = world.log.table.node(world.id(number)).unwrap().state;
        if state == NodeState::Joining {
            world.turn(number, NodeState::Up);
            moved_for += 4096;
        }
    }
    world.run(millis(25_000));
    assert_eq!((world.vacant(), world.open()), (0, 0), "seed {seed}");
    assert_eq!(world.lead.in_flight(), 0);
    assert!(world.most_open <= 512, "{} open", world.most_open);
    // No more than every change can have asked for.
    assert!(world.begun <= moved_for, "{} moves", world.begun);
    let begun = world.begun;
    world.run(millis(10_000));
    assert_eq!(world.begun, begun, "it comes to rest");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn whatever_dies_drains_and_fails_every_slot_is_owned_in_the_end(seed in any::<u64>()) {
        live_through(seed);
    }
}

#[test]
#[ignore = "takes minutes"]
fn four_hundred_more_lives_end_well() {
    (0..400).for_each(live_through);
}

#[test]
fn the_table_of_300_nodes_is_small_whatever_channels_there_are() {
    let mut world = World::settled(300);
    world.releasing = false;
    world.turn(1, NodeState::Draining);
    world.turn(2, NodeState::Draining);
    world.run(millis(200));
    let moving = world.open();
    assert!(moving >= 26, "{moving}");
    let bytes = world.log.table.encode().len();
    assert!(bytes < 150_000, "{bytes} bytes");
}

/// How much this thread has run, so that what else runs on the machine does not count.
fn worked() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// The leader's share of a core with 300 nodes, at rest and while a table changes a hundred times a
/// second.
#[test]
#[ignore = "a measurement, of Linux: run it with --nocapture"]
fn what_a_leader_of_300_nodes_costs() {
    const NODES: u32 = 300;
    let mut world = World::settled(NODES);
    let measure = |what: &str, world: &mut World, seconds: u64, busy: bool| {
        world.effects.clear();
        let start = worked();
        let end = world.now + millis(seconds * 1000);
        let (mut turn, mut acks) = (0, 0);
        while world.now < end {
            world.tick();
            acks += world.acks().len() as u64;
            world.effects.clear();
            if busy {
                for _ in 0..3 {
                    let id = world.id(1 + turn % NODES);
                    turn += 1;
                    let member = world.log.table.member(id).unwrap();
                    let boot = world.log.table.node(id).unwrap().boot;
                    let change = NodeChange::RoutesHash(u64::from(turn));
                    world.apply(&Command::SetNode {
                        member,
                        boot,
                        change,
                    });
                }
            }
            world.commit_all();
        }
        assert!(acks / seconds >= 1400, "{acks} acknowledgements");
        let share = (worked() - start).as_secs_f64() / f64::from(u32::try_from(seconds).unwrap());
        println!("{what}: {:.2} % of a core", share * 100.0);
        share
    };
    let rest = measure("1,500 heartbeats a second", &mut world, 20, false);
    let busy = measure(
        "the same, and 120 changes of the table a second",
        &mut world,
        20,
        true,
    );
    let bytes = world.log.table.encode().len();
    println!("table with {NODES} nodes: {bytes} bytes");
    let start = worked();
    world.mood(300, Mood::Silent);
    while world.flying.is_empty() {
        world.tick();
    }
    println!(
        "until a death is proposed, with its plan: {:?} of work",
        worked() - start
    );
    world.commit_all();
    assert_eq!(world.vacant(), 0);
    assert!(rest < 0.1 && busy < 0.1, "more than 10 % of a core");
}
