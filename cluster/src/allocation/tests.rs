#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::testing::{Chance, Log, slot};
use crate::{Applied, Command, NodeRec, OwnerEpoch};

/// How many slots each node that is up has.
fn counts(table: &Table) -> Vec<usize> {
    let up = table
        .nodes()
        .iter()
        .filter(|(_, node)| node.state == NodeState::Up);
    up.map(|(id, _)| {
        table
            .slots()
            .filter(|(_, rec)| rec.owner.is_some_and(|o| o.id == *id))
            .count()
    })
    .collect()
}

/// Plans and carries out until nothing is left; how many slots were granted and moved.
fn settle(log: &mut Log, conditions: &Conditions) -> (usize, usize) {
    let (mut granted, mut moved) = (0, 0);
    for _ in 0..40 {
        let plan = plan(&log.table, conditions);
        if plan.grants.is_empty() && plan.moves.is_empty() {
            return (granted, moved);
        }
        granted += plan.grants.len();
        moved += plan.moves.len();
        log.commit(&Command::Assign {
            grants: plan.grants.clone(),
        });
        for begin in plan.begin_moves() {
            log.commit(&begin);
        }
        let moving: Vec<_> = log
            .table
            .slots()
            .filter(|(_, rec)| rec.moving.is_some())
            .map(|(slot, _)| slot)
            .collect();
        assert!(moving.len() <= conditions.open_limit);
        for slot in moving {
            log.complete(slot.index());
        }
    }
    panic!("the plan never comes to rest");
}

fn spread(table: &Table) -> usize {
    let counts = counts(table);
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}

fn first(log: &mut Log, change: impl FnOnce(&mut NodeRec)) {
    change(log.table.nodes.values_mut().next().unwrap());
}

#[test]
fn a_fourth_node_takes_1024_slots_and_the_101st_takes_40() {
    for (before, moves) in [(3, 1024), (100, 40), (1, 2048), (2, 1365)] {
        let mut log = Log::with_nodes(before);
        assert_eq!(settle(&mut log, &Conditions::default()), (4096, 0));
        assert!(spread(&log.table) <= 1);
        log.join("new", 999);
        assert_eq!(
            settle(&mut log, &Conditions::default()),
            (0, moves),
            "{before}"
        );
        assert!(spread(&log.table) <= 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn whatever_comes_and_goes_the_plan_is_balanced_minimal_and_comes_to_rest(seed: u64) {
        let mut chance = Chance::new(seed);
        let mut log = Log::with_nodes(3);
        settle(&mut log, &Conditions::default());
        for round in 0..6u64 {
            let ids: Vec<_> = log.table.nodes().iter().filter(|(_, n)| n.state == NodeState::Up).map(|(id, _)| *id).collect();
            let before = counts(&log.table);
            let pick = *chance.pick(&ids).unwrap();
            let owned = log.table.slots().filter(|(_, rec)| rec.owner.is_some_and(|o| o.id == pick)).count();
            let expected = match chance.below(3) {
                0 if ids.len() > 2 => {
                    log.kill(pick.0, Vec::new());
                    (owned, 0)
                }
                1 if ids.len() > 2 => {
                    log.turn(pick.0, NodeState::Draining);
                    (0, owned)
                }
                _ => {
                    log.join(&format!("x{round}"), 1000 + u128::from(round));
                    (0, 4096 / (before.len() + 1))
                }
            };
            prop_assert_eq!(plan(&log.table, &Conditions::default()), plan(&log.table.clone(), &Conditions::default()));
            let (granted, moved) = settle(&mut log, &Conditions::default());
            prop_assert_eq!(granted, expected.0);
            prop_assert!(moved == expected.1, "{} instead of {}", moved, expected.1);
            prop_assert!(spread(&log.table) <= 1, "{:?}", counts(&log.table));
        }
    }

    #[test]
    fn plans_for_any_table_fit_it(seed: u64) {
        let mut chance = Chance::new(seed);
        let mut log = Log::new();
        for _ in 0..100 {
            log.commit(&log.random(&mut chance));
        }
        let plan = plan(&log.table, &Conditions::default());
        let granted = log.commit(&Command::Assign { grants: plan.grants.clone() });
        let count = granted.delta.map_or(0, |delta| delta.slots.len());
        prop_assert_eq!(count, plan.grants.len());
        let begun: usize = plan.begin_moves().iter().map(|begin| log.commit(begin).delta.unwrap().slots.len()).sum();
        prop_assert_eq!(begun, plan.moves.len());
    }
}

#[test]
fn the_slots_of_a_dead_node_are_planned_before_it_is_declared_dead() {
    let mut log = Log::with_nodes(3);
    settle(&mut log, &Conditions::default());
    let dead = log.table.member(NodeId(3)).unwrap();
    let grants = grants_after_death(&log.table, &[dead], &Conditions::default());
    log.kill(3, grants);
    assert!(
        log.table
            .slots()
            .all(|(slot, _)| !log.table.is_orphan(slot))
    );
    assert!(spread(&log.table) <= 1);
}

#[test]
fn only_nodes_that_are_up_with_region_and_channel_get_slots() {
    let mut log = Log::with_nodes(3);
    first(&mut log, |node| node.serves.channel = false);
    log.table.nodes.get_mut(&NodeId(3)).unwrap().roles.region = false;
    log.turn(5, NodeState::Draining);
    let plan = plan(&log.table, &Conditions::default());
    assert_eq!(plan.waits, [Wait::NoTarget(4096)]);
    log.turn(5, NodeState::Up);
    settle(&mut log, &Conditions::default());
    assert_eq!(counts(&log.table), [0, 0, 4096]);
}

#[test]
fn moves_wait_for_the_leader_to_know_its_nodes_and_grants_do_not() {
    let mut log = Log::with_nodes(2);
    log.give(0, 1);
    for index in 1..4096 {
        log.table.slots[index] = log.table.slots[0].clone();
    }
    log.kill(1, Vec::new());
    log.register(crate::testing::registration("n1", 1, 2));
    let young = Conditions {
        leader_age: Duration::from_millis(2999),
        ..Conditions::default()
    };
    let plan = plan(&log.table, &young);
    assert_eq!((plan.grants.len(), plan.moves.len()), (4096, 0));
    assert_eq!(plan.waits, [Wait::YoungLeader]);
}

#[test]
fn evening_out_waits_for_a_joining_node_for_ten_seconds() {
    let mut log = Log::with_nodes(1);
    settle(&mut log, &Conditions::default());
    log.join("n2", 2);
    let Applied {
        outcome: crate::Outcome::Registered(joining),
        ..
    } = log.register(crate::testing::registration("n3", 3, 1))
    else {
        panic!()
    };
    let waiting = plan(&log.table, &Conditions::default());
    assert_eq!(
        (waiting.moves.len(), waiting.waits),
        (0, vec![Wait::Joining(joining.id)])
    );
    let joining = BTreeMap::from([(joining.id, JOINING_WAIT)]);
    let tired = Conditions {
        joining,
        ..Conditions::default()
    };
    assert_eq!(plan(&log.table, &tired).moves.len(), 512);
}

#[test]
fn two_builds_wait_but_a_drain_goes_to_the_newer_one() {
    let mut log = Log::with_nodes(3);
    settle(&mut log, &Conditions::default());
    first(&mut log, |node| node.build = "1.0.1".to_owned());
    let newcomer = log.join("n4", 4);
    let held = plan(&log.table, &Conditions::default());
    assert_eq!(held.moves, []);
    assert!(
        matches!(&held.waits[..], [Wait::TwoBuilds(old, new)] if old == "1.0.0" && new == "1.0.1")
    );
    let asked = Conditions {
        across_builds: true,
        ..Conditions::default()
    };
    assert!(
        plan(&log.table, &asked)
            .moves
            .iter()
            .all(|(start, _)| start.to == newcomer)
    );
    log.turn(5, NodeState::Draining);
    let drain = plan(&log.table, &Conditions::default());
    assert!(!drain.moves.is_empty());
    assert!(
        drain
            .moves
            .iter()
            .all(|(start, why)| start.to.id == NodeId(1) && *why == MoveReason::Drain)
    );
    let (_, moved) = settle(&mut log, &Conditions::default());
    assert_eq!(moved, 1365);
}

/// Three nodes with slots, of which the first has a newer build; the second drains.
fn a_drain_beside_a_newer_build() -> Log {
    let mut log = Log::with_nodes(3);
    settle(&mut log, &Conditions::default());
    first(&mut log, |node| node.build = "1.0.1".to_owned());
    log.turn(3, NodeState::Draining);
    log
}

/// What the second node has when all is done, whatever becomes of it.
fn left_at_the_second(log: &mut Log, conditions: &Conditions) -> usize {
    settle(log, conditions);
    let owned = log.table.slots();
    owned
        .filter(|(_, rec)| rec.owner.is_some_and(|owner| owner.id == NodeId(3)))
        .count()
}

#[test]
fn a_drain_goes_to_the_newest_build_that_may_own_slots() {
    for change in [
        (|node| node.roles.region = false) as fn(&mut NodeRec),
        |node| node.serves.channel = false,
    ] {
        let mut log = Log::with_nodes(3);
        first(&mut log, |node| {
            node.build = "1.0.1".to_owned();
            change(node);
        });
        settle(&mut log, &Conditions::default());
        assert_eq!(counts(&log.table), [0, 2048, 2048]);
        log.turn(3, NodeState::Draining);
        let waits = plan(&log.table, &Conditions::default()).waits;
        assert!(
            matches!(&waits[..], [Wait::TwoBuilds(old, new), ..] if old == "1.0.0" && new == "1.0.1"),
            "{waits:?}"
        );
        assert_eq!(left_at_the_second(&mut log, &Conditions::default()), 0);
        assert_eq!(counts(&log.table), [0, 4096]);
    }
}

#[test]
fn a_drain_goes_to_an_older_build_while_the_newer_one_may_get_nothing() {
    for held in [HeldBack::Quarantine, HeldBack::Degraded] {
        let mut log = a_drain_beside_a_newer_build();
        let before = counts(&log.table)[0];
        let conditions = Conditions {
            held_back: BTreeMap::from([(NodeId(1), held)]),
            ..Conditions::default()
        };
        assert_eq!(left_at_the_second(&mut log, &conditions), 0, "{held:?}");
        assert_eq!(counts(&log.table)[0], before, "{held:?}");
    }
    let mut log = a_drain_beside_a_newer_build();
    let conditions = Conditions {
        resting: BTreeSet::from([(NodeId(3), NodeId(1))]),
        ..Conditions::default()
    };
    let drain = plan(&log.table, &conditions);
    assert!(!drain.moves.is_empty());
    assert!(
        drain
            .moves
            .iter()
            .all(|(start, _)| start.to.id == NodeId(5))
    );
    // What the older one has no room for by its share waits for the newer one.
    assert!(drain.waits.contains(&Wait::Resting(NodeId(3), NodeId(1))));
    assert_eq!(left_at_the_second(&mut log, &Conditions::default()), 0);
}

#[test]
fn a_degraded_node_keeps_what_it_has_and_gets_nothing() {
    let mut log = Log::with_nodes(3);
    settle(&mut log, &Conditions::default());
    let newcomer = log.join("n4", 4).id.0;
    let held = |id, why| Conditions {
        held_back: BTreeMap::from([(NodeId(id), why)]),
        ..Conditions::default()
    };
    let degraded = held(newcomer, HeldBack::Degraded);
    assert_eq!(settle(&mut log, &degraded), (0, 0));
    log.kill(1, Vec::new());
    settle(&mut log, &degraded);
    assert_eq!(counts(&log.table), [2048, 2048, 0]);
    // Alone, a node in quarantine is better than none; a degraded one is not.
    let mut log = Log::with_nodes(1);
    assert_eq!(plan(&log.table, &held(1, HeldBack::Degraded)).grants, []);
    assert_eq!(settle(&mut log, &held(1, HeldBack::Quarantine)), (4096, 0));
}

#[test]
fn a_node_that_is_cut_off_loses_its_slots_and_gets_none() {
    let mut log = Log::with_nodes(3);
    settle(&mut log, &Conditions::default());
    let cut = Conditions {
        cut_off: BTreeSet::from([NodeId(3)]),
        ..Conditions::default()
    };
    let owned = counts(&log.table)[1];
    assert_eq!(settle(&mut log, &cut), (0, owned));
    assert_eq!(counts(&log.table), [2048, 0, 2048]);
}

#[test]
fn what_a_node_can_give_to_one_other_alone_goes_there_and_is_evened_out_from_there() {
    let mut log = Log::with_nodes(3);
    settle(&mut log, &Conditions::default());
    // The leader does not hear the second, so nothing can move between these two either.
    let cut = Conditions {
        cut_off: BTreeSet::from([NodeId(3)]),
        resting: BTreeSet::from([(NodeId(3), NodeId(1))]),
        ..Conditions::default()
    };
    settle(&mut log, &cut);
    assert_eq!(counts(&log.table), [2048, 0, 2048]);
}

#[test]
fn a_pair_that_rests_is_passed_over() {
    let mut log = Log::with_nodes(3);
    settle(&mut log, &Conditions::default());
    log.turn(3, NodeState::Draining);
    let resting = BTreeSet::from([(NodeId(3), NodeId(5))]);
    let conditions = Conditions {
        resting,
        ..Conditions::default()
    };
    let plan = plan(&log.table, &conditions);
    assert!(!plan.moves.is_empty() && plan.moves.iter().all(|(start, _)| start.to.id == NodeId(1)));
    assert!(plan.waits.contains(&Wait::Resting(NodeId(3), NodeId(5))));
}

#[test]
fn paused_moves_let_a_drain_through_and_one_slot_of_many_stays() {
    let mut log = Log::with_nodes(2);
    settle(&mut log, &Conditions::default());
    log.kill(1, Vec::new());
    log.give(0, 3);
    settle(&mut log, &Conditions::default());
    assert_eq!(counts(&log.table), [4096]);
    log.join("n3", 3);
    log.table.settings.moves_paused = true;
    assert_eq!(
        plan(&log.table, &Conditions::default()).waits,
        [Wait::Paused]
    );
    log.turn(3, NodeState::Draining);
    assert_eq!(plan(&log.table, &Conditions::default()).moves.len(), 512);
    // One slot out of place among two nodes is not worth a move.
    log.table.settings.moves_paused = false;
    log.turn(3, NodeState::Up);
    settle(&mut log, &Conditions::default());
    let theirs = log
        .table
        .slots()
        .find(|(_, rec)| rec.owner.unwrap().id == NodeId(3))
        .unwrap()
        .0;
    let to = log.table.nodes().keys().last().unwrap().0;
    log.begin(theirs.index(), to, MoveReason::Admin);
    log.complete(theirs.index());
    assert_eq!(plan(&log.table, &Conditions::default()).moves, []);
}

#[test]
fn a_holder_of_the_state_comes_before_the_better_score() {
    let mut log = Log::with_nodes(3);
    for index in 0..1000 {
        log.table.slots[index].holders.push(NodeId(5));
    }
    let plan = plan(&log.table, &Conditions::default());
    let five = plan.grants.iter().filter(|grant| grant.slot < slot(1000));
    assert!(five.clone().all(|grant| grant.to.id == NodeId(5)) && five.count() == 1000);
    assert!(
        plan.grants
            .iter()
            .all(|grant| grant.expect_epoch == OwnerEpoch(0))
    );
}

#[test]
fn three_hundred_nodes_are_planned_from_one_table_of_150_kb() {
    let mut log = Log::with_nodes(300);
    let plan = plan(&log.table, &Conditions::default());
    log.commit(&Command::Assign {
        grants: plan.grants,
    });
    assert!(spread(&log.table) <= 1);
    let bytes = log.table.encode().len();
    assert!(bytes < 150_000, "{bytes}");
}
