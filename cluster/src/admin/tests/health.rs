//! Every problem with its cure, and what is none.

use super::*;
use crate::allocation::HeldBack;
use crate::testing::{Log, registration};
use crate::{Command, MoveReason, NodeState, Settings};

/// Whether exactly one of the problems speaks so of itself and its cure.
fn tells(problems: &[String], parts: &[&str]) -> bool {
    let all = |text: &&String| parts.iter().all(|part| text.contains(part));
    problems.iter().filter(all).count() == 1
}

#[test]
fn three_nodes_in_order_have_no_problem_and_can_lose_one_voter() {
    let scene = Scene::of(3);
    let health = scene.known().health();
    assert_eq!((health.can_lose, health.voters), (1, 3));
    assert!(health.is_healthy());
    assert_eq!(health.problems, []);
    assert_eq!(Scene::of(5).known().can_lose(), 2);
}

#[test]
fn while_voters_change_both_sets_have_to_keep_their_majority() {
    let mut scene = Scene::of(5);
    let first = BTreeSet::from([NodeId(1)]);
    scene.raft.members.configs.insert(0, first);
    assert_eq!(scene.known().can_lose(), 0);
}

#[test]
fn without_a_quorum_nothing_can_be_lost_and_recover_is_named() {
    let mut scene = Scene::of(3);
    scene.quorum = false;
    let (failing, _) = scene.problems();
    assert!(tells(
        &failing,
        &[
            "no quorum",
            "n1 (1), n2 (3), n3 (5)",
            "cluster recover --yes"
        ]
    ));
    assert_eq!(scene.known().can_lose(), 0);
    scene.raft = raft::Status::default();
    let (failing, _) = scene.problems();
    assert!(
        tells(&failing, &["no quorum", "those of the voters"]),
        "{failing:?}"
    );
}

#[test]
fn vacant_slots_are_counted_and_the_cure_depends_on_who_could_take_them() {
    let mut scene = Scene::of(2);
    let count = scene.known().nodes()[1].slots;
    scene.log.kill(3, Vec::new());
    let (failing, _) = scene.problems();
    let slots = format!("{count} slots have no owner");
    assert!(
        tells(&failing, &[&slots, "the leader grants them"]),
        "{failing:?}"
    );
    scene.log.turn(1, NodeState::Draining);
    let (failing, _) = scene.problems();
    assert!(
        tells(&failing, &["no node that is up may own slots"]),
        "{failing:?}"
    );
}

#[test]
fn a_dead_node_is_cured_by_a_start_or_by_remove_which_replaces_a_voter() {
    let mut scene = Scene::of(3);
    scene.only_voters(&[1, 3]);
    scene.log.kill(3, Vec::new());
    scene.log.kill(5, Vec::new());
    let (failing, _) = scene.problems();
    assert!(tells(
        &failing,
        &["n2 (3) is dead", "cluster remove n2` puts another node"]
    ));
    assert!(tells(
        &failing,
        &["n3 (5) is dead", "or `cluster remove n3`"]
    ));
    scene.log.commit(&Command::Remove { id: NodeId(5) });
    let (failing, _) = scene.problems();
    assert!(!failing.iter().any(|text| text.contains("n3")));
}

#[test]
fn degraded_and_quarantined_nodes_are_failing_and_cut_off_ones_a_warning() {
    let mut scene = Scene::of(3);
    scene.conditions.held_back = BTreeMap::from([
        (NodeId(1), HeldBack::Degraded),
        (NodeId(3), HeldBack::Quarantine),
    ]);
    scene.conditions.cut_off = BTreeSet::from([NodeId(5)]);
    let (failing, warnings) = scene.problems();
    assert!(
        tells(&failing, &["n1 (1) is degraded", "health --ready"]),
        "{failing:?}"
    );
    assert!(tells(
        &failing,
        &["n2 (3) is in quarantine", "cluster undrain n2"]
    ));
    assert!(tells(
        &warnings,
        &[
            "n3 (5) reaches the leader only through others",
            "cluster peers"
        ]
    ));
    assert_eq!((failing.len(), warnings.len()), (2, 1));
    assert!(!scene.known().health().is_healthy());
}

#[test]
fn stuck_moves_are_told_by_pair_with_what_the_oldest_waits_for() {
    let mut scene = Scene::of(2);
    let first = scene.slot_of(1);
    scene.log.begin(first, 3, MoveReason::Rebalance);
    scene.wait(5);
    let second = scene.slot_of(1);
    scene.log.begin(second, 3, MoveReason::Rebalance);
    scene.wait(30);
    let id = |index| {
        let slot = crate::testing::slot(index);
        (slot, scene.log.table.slot(slot).moving.unwrap().id)
    };
    scene.steps = BTreeMap::from([
        (id(first), MoveStep::Sending),
        (id(second), MoveStep::Waiting),
    ]);
    let (failing, _) = scene.problems();
    let words = [
        "2 moves from n1 (1) to n2 (3) are stuck, the oldest for 35 s",
        "to have all values",
    ];
    assert!(tells(&failing, &words), "{failing:?}");
}

#[test]
fn too_few_voters_is_a_warning_that_says_how_many_to_start() {
    let scene = Scene::of(1);
    let (failing, warnings) = scene.problems();
    assert!(failing.is_empty());
    assert!(tells(
        &warnings,
        &[
            "3 voters are wanted, 1 are there or to come",
            "start 2 more"
        ]
    ));
    let mut alone = Scene::of(1);
    let settings = Settings {
        version: alone.log.table.settings().version,
        voters: 1,
        ..Settings::default()
    };
    alone.log.commit(&Command::SetSettings { settings });
    assert_eq!(alone.problems(), (vec![], vec![]), "one was asked for");
    let mut weak = Scene::of(3);
    weak.log.kill(5, Vec::new());
    weak.log.join("n4", 4);
    let (_, warnings) = weak.problems();
    assert!(
        tells(&warnings, &["no voter can be lost", "cluster voters"]),
        "{warnings:?}"
    );
}

#[test]
fn other_routes_two_builds_and_paused_moves_are_warnings() {
    let mut scene = Scene::of(3);
    let mut log = Log::with_nodes(3);
    std::mem::swap(&mut log, &mut scene.log);
    let mut odd = registration("odd", 7, 1);
    (odd.routes_hash, odd.build) = (8, "2.0.0".to_owned());
    let boot = odd.boot;
    let crate::Outcome::Registered(member) = log.register(odd).outcome else {
        panic!("refused")
    };
    log.set(member, boot, NodeState::Up);
    scene.log = log;
    let paused = scene.known().pause_moves(true).unwrap();
    scene.log.commit(&paused);
    let (failing, warnings) = scene.problems();
    assert!(failing.is_empty(), "{failing:?}");
    assert!(
        tells(&warnings, &["the routes of odd", "same routes"]),
        "{warnings:?}"
    );
    assert!(tells(
        &warnings,
        &["builds 1.0.0 and 2.0.0", "--across-builds"]
    ));
    assert!(tells(&warnings, &["moves are paused", "resume-moves"]));
    assert!(scene.known().health().is_healthy());
}
