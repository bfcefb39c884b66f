//! Moves: when, to whom, how fast.

#![allow(clippy::unwrap_used)]

use super::world::{Mood, World, config, millis};
use crate::allocation::HeldBack;
use crate::lead::*;
use crate::testing::{Log, leader, registration, slot};
use crate::*;

#[test]
fn a_leader_younger_than_three_seconds_moves_nothing() {
    let mut world = World::over(Log::with_nodes(3));
    world.run(millis(500));
    world.join(4);
    world.run(millis(2400));
    assert_eq!(
        (world.begun, world.lead.waits()),
        (0, &[Wait::YoungLeader][..])
    );
    world.run(millis(300));
    assert!(world.begun > 0, "{:?}", world.lead.waits());
    world.run(millis(2000));
    assert_eq!(world.owned(4), 1024);
}

#[test]
fn moves_wait_ten_seconds_for_a_node_that_joins() {
    let mut world = World::settled(3);
    let applied = world.log.register(registration("n5", 5, 1));
    world.show(&applied);
    world.join(4);
    let joining = world.id(5);
    world.run(millis(9500));
    assert_eq!(world.begun, 0);
    assert!(world.lead.waits().contains(&Wait::Joining(joining)));
    world.run(millis(4000));
    assert_eq!(world.owned(4), 1024);
    // Once it is up it gets its share.
    world.turn(5, NodeState::Up);
    world.run(millis(4000));
    assert_eq!(world.owned(5), 4096 / 5);
}

#[test]
fn two_builds_even_out_only_for_a_drain_or_an_operator() {
    let mut world = World::settled(3);
    world.build(3, "2.0.0");
    world.join(4);
    world.build(4, "2.0.0");
    world.run(millis(5000));
    assert_eq!(world.begun, 0);
    let waits = world.lead.waits().to_vec();
    assert!(matches!(&*waits, [Wait::TwoBuilds(..)]), "{waits:?}");
    // What drains goes to the newest build.
    let (had, kept) = (world.owned(1), world.owned(2));
    world.turn(1, NodeState::Draining);
    world.run(millis(5000));
    assert_eq!(
        (world.owned(1), world.owned(2), world.begun),
        (0, kept, had)
    );

    let reading = world.reading();
    world.lead.rebalance(true, reading);
    world.run(millis(5000));
    let owned = [world.owned(2), world.owned(3), world.owned(4)];
    assert!(
        owned.iter().all(|owned| owned.abs_diff(4096 / 3) <= 1),
        "{owned:?}"
    );
    // That was for once.
    let begun = world.begun;
    world.join(5);
    world.run(millis(5000));
    assert_eq!(world.begun, begun);
}

#[test]
fn a_node_heard_only_through_others_loses_its_slots_after_five_seconds() {
    let mut world = World::settled(3);
    world.mood(3, Mood::Indirect);
    world.run(millis(4800));
    assert_eq!(world.begun, 0);
    world.run(millis(1500));
    assert_eq!((world.owned(3), world.vacant()), (0, 0));
    assert!(world.notes().contains(&Note::CutOff(world.id(3))));
    assert!(world.log.table.is_up(world.member(3)), "it lives");
    world.mood(3, Mood::Well);
    world.run(millis(3000));
    assert!(world.notes().contains(&Note::Straight(world.id(3))));
    assert_eq!(world.owned(3), 4096 / 3);
}

#[test]
fn a_degraded_node_gets_no_slots_until_it_makes_progress() {
    let mut world = World::settled(3);
    let had = world.owned(3);
    world.mood(3, Mood::Degraded);
    world.run(millis(400));
    world.turn(1, NodeState::Draining);
    world.run(millis(3000));
    assert_eq!((world.owned(1), world.owned(3)), (0, had));
    let held = Wait::HeldBack(world.id(3), HeldBack::Degraded);
    assert!(world.lead.waits().contains(&held));
    world.mood(3, Mood::Well);
    world.run(millis(1500));
    assert_eq!(world.owned(3), 2048);
    let notes = [Note::Degraded(world.id(3)), Note::Recovered(world.id(3))];
    assert_eq!(world.notes(), notes);
}

#[test]
fn moves_are_refilled_as_they_complete_and_never_more_than_512_are_open() {
    let mut world = World::settled(1);
    world.join(2);
    world.join(3);
    let since = world.now;
    while world.owned(1) > 1366 {
        world.run(millis(25));
        assert!(world.now - since < millis(1500), "refills take too long");
    }
    assert_eq!((world.begun, world.most_open), (2730, 512));
    world.run(millis(5000));
    assert_eq!(world.begun, 2730);
}

#[test]
fn only_the_word_of_a_node_that_drains_lifts_the_limit_and_only_for_its_own_moves() {
    let mut world = World::settled(3);
    world.releasing = false;
    let hurry = |world: &mut World, number| {
        let member = world.member(number);
        let reading = world.reading();
        let effects = world.lead.hurry(&world.log.table, member, reading);
        world.take(effects);
        world.run(millis(500));
    };
    hurry(&mut world, 3);
    assert_eq!(world.open(), 0, "it does not drain");
    world.turn(3, NodeState::Draining);
    world.run(millis(40_000));
    // Its time may be longer than the leader's.
    assert_eq!((world.open(), world.begun), (512, 512));
    assert!(matches!(world.lead.waits(), [Wait::OpenLimit(853)]));
    hurry(&mut world, 3);
    assert_eq!(world.open(), 1365);
    world.join(4);
    world.run(millis(3000));
    assert_eq!(world.open(), 1365, "no room for a rebalance");
}

#[test]
fn paused_moves_go_on_when_resumed_and_a_drain_does_not_wait() {
    let mut world = World::settled(3);
    let pause = |world: &World, paused| Command::SetSettings {
        settings: Settings {
            moves_paused: paused,
            ..world.log.table.settings().clone()
        },
    };
    let ask = |world: &mut World, command| {
        let reading = world.reading();
        let (id, effects) = world.lead.ask(&world.log.table, command, reading);
        world.take(effects);
        assert_eq!(world.flying.back().unwrap().0, id);
        world.commit_all();
    };
    let command = pause(&world, true);
    ask(&mut world, command);
    world.join(4);
    world.run(millis(3000));
    assert_eq!((world.begun, world.lead.waits()), (0, &[Wait::Paused][..]));
    world.turn(1, NodeState::Draining);
    world.run(millis(3000));
    assert_eq!(world.owned(1), 0);
    let command = pause(&world, false);
    ask(&mut world, command);
    world.run(millis(3000));
    assert!(world.owned(2).abs_diff(world.owned(4)) <= 1);
}

#[test]
fn a_pair_whose_move_failed_rests_and_is_tried_again() {
    let mut world = World::settled(1);
    world.releasing = false;
    world.join(2);
    world.run(millis(200));
    assert_eq!(world.open(), 512);
    let (from, to) = (world.id(1), world.id(2));
    let moves: Vec<_> = world
        .log
        .table
        .slots()
        .filter_map(|(slot, rec)| {
            let id = rec.moving?.id;
            Some(MoveAbort { slot, id })
        })
        .collect();
    let wanted: Vec<_> = moves
        .iter()
        .map(|step| crate::handoff::AbortWanted {
            slot: step.slot,
            id: step.id,
            epoch: world.log.table.slot(step.slot).epoch,
            why: crate::handoff::GiveUp::LongEvents,
        })
        .collect();
    let source = world.member(1);
    world.tell(1, Control::AbortWanted(source, wanted));
    // All in one entry, which names why.
    let [Command::AbortMoves { moves: given, why }] = &*world.commands() else {
        panic!("{} proposals", world.flying.len())
    };
    assert_eq!(given, &moves);
    assert!(why.contains("ran too long"));
    world.run(millis(1900));
    assert_eq!((world.open(), world.begun), (0, 512));
    let rests = world
        .notes()
        .into_iter()
        .filter(|note| matches!(note, Note::Rests(..)));
    assert_eq!(rests.collect::<Vec<_>>(), [Note::Rests(from, to)]);
    assert!(
        world
            .lead
            .conditions(world.reading())
            .resting
            .contains(&(from, to))
    );
    world.releasing = true;
    world.run(millis(5000));
    assert_eq!(world.owned(2), 2048);
}

#[test]
fn slots_of_a_parked_shard_move_away_and_do_not_come_back_before_it_runs() {
    let mut world = World::settled(3);
    let member = world.member(2);
    let shard: Vec<_> = (0..4096).step_by(64).map(slot).collect();
    let parked = |world: &World| {
        let mine = |slot: &&SlotId| world.log.table.slot(**slot).owner == Some(member);
        shard.iter().filter(mine).count()
    };
    let report = |world: &mut World, parked| {
        let reading = world.reading();
        let effects = world
            .lead
            .parked(&world.log.table, member, &shard, parked, reading);
        world.take(effects);
    };
    let had = parked(&world);
    assert!(had > 10);
    report(&mut world, true);
    report(&mut world, true);
    world.run(millis(500));
    assert_eq!(parked(&world), 0);
    let noted = |note: &Note| matches!(note, Note::Parked { slots, .. } if *slots == had);
    assert_eq!(world.notes().iter().filter(|note| noted(note)).count(), 1);
    let begun = world.begun;
    world.run(millis(20_000));
    assert_eq!(parked(&world), 0, "none comes back");
    assert!(
        world.begun - begun <= had,
        "nor does anything else go round in circles"
    );
    report(&mut world, false);
    world.run(millis(3000));
    let owned = [world.owned(1), world.owned(2), world.owned(3)];
    assert!(
        owned.iter().all(|owned| owned.abs_diff(4096 / 3) <= 1),
        "{owned:?}"
    );
}

#[test]
fn a_new_leader_goes_on_with_open_moves_from_the_table_alone() {
    let mut world = World::settled(3);
    world.releasing = false;
    world.join(4);
    world.run(millis(500));
    assert_eq!(world.open(), 512);
    let mut log = world.log.clone();
    log.term += 1;
    let mut next = World::over(log);
    next.run(millis(1000));
    assert_eq!(
        (next.owned(4), next.open(), next.lead.open_moves()),
        (512, 0, 0)
    );
    next.run(millis(5000));
    assert_eq!((next.owned(4), next.begun), (1024, 512));
    // The old one can bury nobody any more.
    let applied = next.apply(&Command::DeclareDead {
        member: next.member(4),
        why: "it is said".to_owned(),
        leader: leader(1),
        grants: Vec::new(),
    });
    assert!(matches!(
        applied.outcome,
        Outcome::Refused(Refusal::Leader { .. })
    ));
    assert_eq!(config(&next.log).open_limit, 512);
}
