//! What is under way: gathered, never doubled, never lost.

#![allow(clippy::unwrap_used)]

use super::world::{Mood, World, millis};
use crate::lead::LeadEffect;
use crate::peer::Control;
use crate::testing::{Log, slot};
use crate::*;

/// The completions that are under way.
fn completing(world: &World) -> Vec<Completion> {
    let mut all = Vec::new();
    for (_, command) in &world.flying {
        if let Command::CompleteMoves { moves } = command {
            assert!(all.is_empty(), "in two entries");
            all.clone_from(moves);
        }
    }
    all
}

#[test]
fn orphans_that_could_not_be_granted_are_granted_at_the_next_tick() {
    let mut world = World::over(Log::with_nodes(2));
    world.commit();
    for _ in 0..3 {
        let Command::Assign { grants } = world.fail() else {
            panic!("not a grant")
        };
        assert_eq!(grants.len(), 4096);
        assert!(world.flying.is_empty());
        world.tick();
    }
    for _ in 0..100 {
        world.tick();
    }
    assert_eq!(world.flying.len(), 1);
    world.commit_all();
    assert_eq!(world.vacant(), 0);
}

#[test]
fn releases_are_gathered_while_an_entry_is_under_way() {
    let mut world = World::settled(3);
    world.releasing = false;
    world.join(4);
    world.run(millis(100));
    assert_eq!(world.open(), 512);
    world.release();
    let first = completing(&world);
    // The first source is on its way; the others wait for it, however often they say so.
    for _ in 0..20 {
        world.release();
        world.tick();
    }
    assert_eq!(world.flying.len(), 1);
    world.commit();
    let second = completing(&world);
    assert_eq!(first.len() + second.len(), 512);
    world.commit_all();
    assert_eq!(world.owned(4), 512);
}

#[test]
fn a_completion_that_failed_is_proposed_again_without_the_source() {
    let mut world = World::settled(3);
    world.releasing = false;
    world.join(4);
    world.run(millis(100));
    world.release();
    let first = world.fail();
    // The source says it once more: not before the next tick.
    world.release();
    assert!(world.flying.is_empty());
    world.tick();
    let Command::CompleteMoves { moves: first } = first else {
        panic!("not a completion")
    };
    let again = completing(&world);
    assert!(first.iter().all(|step| again.contains(step)));
    // One that came true although nobody could tell is not proposed again.
    let (id, command) = world.flying.pop_front().unwrap();
    world.apply(&command);
    let lost = Err("timed out".to_owned());
    let reading = world.reading();
    let effects = world.lead.proposed(&world.log.table, id, lost, reading);
    world.take(effects);
    world.tick();
    assert!(!completing(&world).iter().any(|step| again.contains(step)));
}

#[test]
fn an_operators_command_waits_until_its_slots_are_free() {
    let mut world = World::settled(3);
    let to = world.member(1);
    let (slot, rec) = world
        .log
        .table
        .slots()
        .find(|(_, rec)| rec.owner != Some(to))
        .unwrap();
    let start = MoveStart {
        slot,
        expect_epoch: rec.epoch,
        to,
    };
    let command = Command::BeginMoves {
        moves: vec![start],
        reason: MoveReason::Admin,
    };
    let reading = world.reading();
    let (first, effects) = world.lead.ask(&world.log.table, command.clone(), reading);
    world.take(effects);
    let (second, effects) = world.lead.ask(&world.log.table, command.clone(), reading);
    world.take(effects);
    assert_eq!(world.flying, [(first, command.clone())]);
    world.commit();
    assert_eq!(world.flying, [(second, command)]);
    world.commit();
    world.run(millis(200));
    assert_eq!(world.log.table.slot(slot).owner, Some(to));
}

#[test]
fn what_an_operator_moves_is_in_no_plan() {
    let mut world = World::settled(3);
    let (from, to) = (world.member(1), world.member(2));
    let theirs = |(slot, rec): (SlotId, &SlotRec)| {
        (rec.owner == Some(from)).then_some(MoveStart {
            slot,
            expect_epoch: rec.epoch,
            to,
        })
    };
    let moves: Vec<_> = world
        .log
        .table
        .slots()
        .filter_map(theirs)
        .take(300)
        .collect();
    let reason = MoveReason::Admin;
    let command = Command::BeginMoves { moves, reason };
    let reading = world.reading();
    let (_, effects) = world.lead.ask(&world.log.table, command, reading);
    world.take(effects);
    // That is under way, and all that this node owns has to go.
    world.turn(1, NodeState::Draining);
    world.tick();
    let begins = world.commands();
    let count = |command: &Command| match command {
        Command::BeginMoves { moves, .. } => moves.len(),
        _ => 0,
    };
    let counts: Vec<_> = begins.iter().map(count).collect();
    let [300, drained] = *counts else {
        panic!("{counts:?}")
    };
    assert_eq!(drained, 512 - 300);
    world.run(millis(3000));
    assert_eq!(world.owned(1), 0);
}

#[test]
fn a_slot_released_by_a_node_that_then_dies_is_served_after_all() {
    let mut world = World::settled(3);
    world.releasing = false;
    world.turn(3, NodeState::Draining);
    world.run(millis(200));
    assert_eq!(world.open(), 512);
    world.release();
    world.mood(3, Mood::Silent);
    while world.flying.len() < 2 {
        world.tick();
    }
    // Its death gives away what is in no other entry.
    let Some(Command::DeclareDead { grants, .. }) = world.commands().pop() else {
        panic!("not a death")
    };
    assert_eq!(grants.len(), 1365 - 512);
    // The death is committed before the rest, which is then lost: its slots are granted at once.
    world.flying.rotate_left(1);
    world.commit();
    assert_eq!((world.vacant(), world.flying.len()), (512, 1));
    world.tick();
    assert_eq!(world.flying.len(), 1);
    world.fail();
    world.tick();
    world.commit_all();
    assert_eq!((world.vacant(), world.owned(3)), (0, 0));
    assert!(world.owned(1).abs_diff(world.owned(2)) <= 1);
    assert!(!world.log.table.is_orphan(slot(0)));
}

#[test]
fn a_table_that_nobody_told_of_is_noticed_with_whatever_comes_next() {
    let mut world = World::settled(2);
    // A newcomer's first heartbeat is here before the word of its registration.
    let member = world.log.join("n3", 3);
    while world.now.as_millis() % 200 != 100 {
        world.tick();
    }
    world.effects.clear();
    world.beat();
    let dead = |effect: &&LeadEffect| {
        matches!(
            effect,
            LeadEffect::Send {
                control: Control::Dead(_),
                ..
            }
        )
    };
    assert_eq!(world.effects.iter().filter(dead).count(), 0);
    world.run(millis(3000));
    assert!(world.acks().iter().any(|(_, ack)| ack.member == member));
    assert_eq!(world.owned(3), 4096 / 3);
}
