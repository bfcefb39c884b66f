//! Who should vote, without a Raft.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::raft::{Behind, Members, ReplaceError, Step, plan, replace};
use crate::testing::Log;
use crate::{NodeId, NodeState, Table};

fn ids(ids: &[u32]) -> BTreeSet<NodeId> {
    ids.iter().map(|id| NodeId(*id)).collect()
}

/// Nodes 1 to `count`, up.
fn table(count: u32) -> Table {
    let mut table = Log::with_nodes(count).table;
    let nodes = std::mem::take(&mut *table.nodes).into_values();
    *table.nodes = (1..).map(NodeId).zip(nodes).collect();
    table
}

fn turn(table: &mut Table, id: u32, state: NodeState) {
    table.nodes.get_mut(&NodeId(id)).unwrap().state = state;
}

/// These vote, these learn; everyone has the whole log but for those who are behind.
fn members(voters: &[u32], learners: &[u32], behind: &[u32]) -> Members {
    let all = voters.iter().chain(learners);
    Members {
        configs: vec![ids(voters)],
        learners: ids(learners),
        matched: all
            .map(|id| (NodeId(*id), if behind.contains(id) { 5 } else { 1000 }))
            .collect(),
        last: 1010,
    }
}

fn learns(step: Option<Step>) -> Option<u32> {
    match step {
        Some(Step::Learn { id, addrs }) => {
            assert!(!addrs.is_empty());
            Some(id.0)
        }
        _ => None,
    }
}

#[test]
fn learners_come_one_by_one_and_two_vote_at_once_when_both_have_caught_up() {
    let table = table(5);
    assert_eq!(learns(plan(&members(&[1], &[], &[]), &table, 0)), Some(2));
    assert_eq!(learns(plan(&members(&[1], &[2], &[]), &table, 0)), Some(3));
    assert_eq!(plan(&members(&[1], &[2, 3], &[3]), &table, 0), None);
    let both = plan(&members(&[1], &[2, 3], &[]), &table, 0);
    assert_eq!(both, Some(Step::Vote(ids(&[1, 2, 3]))));
    assert_eq!(plan(&members(&[1, 2, 3], &[], &[]), &table, 0), None);
}

#[test]
fn voters_are_never_an_even_number() {
    let table = table(2);
    assert_eq!(learns(plan(&members(&[1], &[], &[]), &table, 0)), Some(2));
    assert_eq!(plan(&members(&[1], &[2], &[]), &table, 0), None);
}

#[test]
fn a_change_that_was_left_is_finished_before_anything_else() {
    let table = table(5);
    let mut changing = members(&[1], &[4, 5], &[]);
    changing.configs.push(ids(&[1, 2, 3]));
    assert_eq!(
        plan(&changing, &table, 0),
        Some(Step::Finish(ids(&[1, 2, 3])))
    );
    assert_eq!(
        replace(&changing, &table, NodeId(2)),
        Err(ReplaceError::Changing)
    );
}

#[test]
fn a_node_without_members_plans_nothing() {
    let table = table(3);
    assert_eq!(plan(&Members::default(), &table, 0), None);
}

#[test]
fn a_dead_voter_gets_a_learner_beside_it_that_takes_its_place_only_when_asked() {
    let mut table = table(5);
    turn(&mut table, 3, NodeState::Draining);
    assert_eq!(plan(&members(&[1, 2, 3], &[], &[]), &table, 0), None);
    turn(&mut table, 3, NodeState::Dead);
    let three = members(&[1, 2, 3], &[], &[]);
    assert_eq!(learns(plan(&three, &table, 0)), Some(4));
    let dead = NodeId(3);
    assert_eq!(
        replace(&three, &table, dead),
        Err(ReplaceError::NoLearner(dead))
    );
    let behind = members(&[1, 2, 3], &[4], &[4]);
    assert_eq!(
        replace(&behind, &table, dead),
        Err(ReplaceError::NoLearner(dead))
    );
    let ready = members(&[1, 2, 3], &[4], &[]);
    assert_eq!(plan(&ready, &table, 0), None);
    assert_eq!(replace(&ready, &table, dead), Ok(ids(&[1, 2, 4])));
    let living = NodeId(2);
    assert_eq!(
        replace(&ready, &table, living),
        Err(ReplaceError::Living(living))
    );
    let no_voter = NodeId(4);
    assert_eq!(
        replace(&ready, &table, no_voter),
        Err(ReplaceError::NoVoter(no_voter))
    );
}

#[test]
fn a_learner_that_died_is_forgotten() {
    let mut table = table(5);
    turn(&mut table, 4, NodeState::Dead);
    let step = plan(&members(&[1, 2, 3], &[4], &[]), &table, 0);
    assert_eq!(step, Some(Step::Forget(NodeId(4))));
}

#[test]
fn a_learner_that_does_not_catch_up_for_30_seconds_keeps_no_other_from_it() {
    let (nine, table) = (table(9), table(5));
    let stuck = members(&[1], &[2, 3], &[3]);
    let mut behind = Behind::default();
    let mut late = |members: &Members, now| behind.late(members, Duration::from_secs(now));
    for now in [0, 10, 20, 29] {
        assert_eq!(late(&stuck, now), 0, "{now}");
    }
    // It was not far behind for a moment.
    assert_eq!(late(&members(&[1], &[2, 3], &[]), 30), 0);
    for now in [31, 40, 50, 60] {
        assert_eq!(late(&stuck, now), 0, "{now}");
    }
    assert_eq!(late(&stuck, 61), 1);
    assert_eq!(learns(plan(&stuck, &table, 1)), Some(4));
    let more = members(&[1], &[2, 3, 4], &[3]);
    let vote = plan(&more, &table, 1);
    assert_eq!(vote, Some(Step::Vote(ids(&[1, 2, 4]))));
    assert_eq!(plan(&members(&[1, 2, 4], &[3], &[3]), &table, 1), None);
    // However many are late, not everyone learns.
    let all = members(&[1], &[2, 3, 4, 5], &[2, 3, 4, 5]);
    assert_eq!(plan(&all, &nine, 4), None);
    // Who has not looked for long knows of nobody's lateness.
    assert_eq!(late(&stuck, 100), 0);
}
