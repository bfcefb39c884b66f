//! What is refused to an operator, and what is proposed where it is not.

use super::*;
use crate::testing::{member, slot};
use crate::{Command, MoveReason, NodeChange, NodeState, Outcome, Refusal};

/// A cluster in which each node serves something that no other does.
fn specialists() -> Scene {
    let mut scene = Scene::of(3);
    for (id, node) in scene.log.table.nodes.iter_mut() {
        node.serves.connect = *id == NodeId(1);
        node.roles.ingress = *id == NodeId(3);
        node.serves.channel = *id == NodeId(5);
        node.serves.rpc = match id.0 {
            1 => vec!["chat.*".to_owned(), "ping".to_owned()],
            3 => vec!["chat.say".to_owned(), "pi*".to_owned()],
            _ => vec!["*".to_owned()],
        };
    }
    scene
}

#[test]
fn a_drain_is_proposed_for_the_life_and_process_in_the_table() {
    let mut scene = Scene::of(3);
    let (command, view) = scene.known().drain("n2", false).unwrap();
    assert_eq!(view.node.name, "n2");
    assert_eq!(view.slots, scene.known().nodes()[1].slots);
    assert!(view.forced.is_empty());
    let expected = Command::SetNode {
        member: member(3, 1),
        boot: scene.log.table.node(NodeId(3)).unwrap().boot,
        change: NodeChange::State(NodeState::Draining),
    };
    assert_eq!(command, expected);
    assert_eq!(
        scene.log.commit(&command).outcome,
        Outcome::Done { changed: 1 }
    );
    // Asked again it is the same; the next one would take the quorum.
    assert!(scene.known().drain("3", false).is_ok());
    let why = refused(scene.known().drain("n1", false));
    assert!(
        why.contains("without n1 (1) 1 of 3 voters are left and 2 are needed"),
        "{why}"
    );
    assert!(why.contains("--force"), "{why}");
}

#[test]
fn a_drain_that_takes_the_quorum_needs_force() {
    let mut scene = Scene::of(3);
    scene.log.kill(5, Vec::new());
    assert!(refused(scene.known().drain("n2", false)).contains("the quorum would go"));
    let (_, view) = scene.known().drain("n2", true).unwrap();
    assert_eq!(view.forced.len(), 1);
    scene.only_voters(&[1, 5]);
    assert!(scene.known().drain("n2", false).is_ok(), "it does not vote");
    assert!(refused(Scene::of(1).known().drain("n1", false)).contains("0 of 1 voters"));
}

#[test]
fn a_drain_that_takes_the_last_server_of_a_group_names_the_group() {
    let scene = specialists();
    let why = |node| refused(scene.known().drain(node, false));
    assert!(why("n1").contains("n1 (1) is the last node that serves connect"));
    assert!(why("n2").contains("n2 (3) is the last node that takes events"));
    let third = why("n3");
    assert!(
        third.contains("the last node that serves channel"),
        "{third}"
    );
    assert!(third.contains("the last node that serves rpc"), "{third}");
    for other in ["n1", "n2"] {
        assert!(!why(other).contains("rpc"), "n3 serves every method");
    }
    let mut scene = scene;
    scene
        .log
        .table
        .nodes
        .get_mut(&NodeId(5))
        .unwrap()
        .serves
        .rpc
        .clear();
    let why = |node| refused(scene.known().drain(node, false));
    assert!(
        why("n1").contains("serves rpc:chat.*"),
        "n2 has one of its methods only"
    );
    assert!(!why("n1").contains("rpc:ping"), "n2's pi* covers it");
    assert!(why("n2").contains("serves rpc:pi*"));
    assert!(!why("n2").contains("rpc:chat.say"), "n1's chat.* covers it");
    let (_, view) = scene.known().drain("n1", true).unwrap();
    assert_eq!(view.forced.len(), 2);
}

#[test]
fn a_dead_or_unknown_node_is_not_drained() {
    let mut scene = Scene::of(3);
    scene.log.kill(5, Vec::new());
    assert!(refused(scene.known().drain("n3", true)).contains("n3 (5) is dead"));
    assert!(refused(scene.known().drain("n9", true)).contains("there is no node \"n9\""));
}

#[test]
fn undrain_proposes_only_for_a_node_that_drains() {
    let mut scene = Scene::of(3);
    assert_eq!(scene.known().undrain("n2").unwrap().command, None);
    scene.log.turn(3, NodeState::Draining);
    let undrain = scene.known().undrain("n2").unwrap();
    scene.log.commit(&undrain.command.unwrap());
    assert_eq!(
        scene.log.table.node(NodeId(3)).unwrap().state,
        NodeState::Up
    );
    scene.log.kill(5, Vec::new());
    let dead = scene.known().undrain("n3").unwrap();
    assert_eq!(
        (dead.node.id, dead.command),
        (NodeId(5), None),
        "out of quarantine all the same"
    );
}

#[test]
fn a_move_is_proposed_at_the_slots_epoch() {
    let mut scene = Scene::of(2);
    let index = scene.slot_of(1);
    let command = scene.known().move_slot(index, "n2").unwrap();
    assert_eq!(
        scene.log.commit(&command).outcome,
        Outcome::Done { changed: 1 }
    );
    let moving = scene.log.table.slot(slot(index)).moving.unwrap();
    assert_eq!(
        (moving.to, moving.reason),
        (member(3, 1), MoveReason::Admin)
    );
    let why = refused(scene.known().move_slot(index, "n2"));
    assert!(why.contains("moving to n2 (3) already"), "{why}");
}

#[test]
fn each_move_that_cannot_be_is_refused_in_words() {
    let mut scene = Scene::of(4);
    let index = scene.slot_of(1);
    scene.log.turn(3, NodeState::Draining);
    scene
        .log
        .table
        .nodes
        .get_mut(&NodeId(5))
        .unwrap()
        .roles
        .region = false;
    scene.conditions.held_back =
        BTreeMap::from([(NodeId(7), crate::allocation::HeldBack::Quarantine)]);
    let refusals = [
        (
            4096,
            "n1",
            "there is no slot 4096: slots are numbered from 0 to 4095",
        ),
        (index, "x", "there is no node \"x\""),
        (index, "n1", "owns slot"),
        (index, "n2", "n2 (3) is draining, not up"),
        (
            index,
            "n3",
            "n3 (5) owns no slots: it needs the role region",
        ),
        (index, "n4", "n4 (7) gets no new slots: in quarantine"),
    ];
    for (slot, to, words) in refusals {
        let why = refused(scene.known().move_slot(slot, to));
        assert!(why.contains(words), "{why}");
    }
    scene.log.kill(1, Vec::new());
    let why = refused(scene.known().move_slot(index, "n3"));
    assert!(why.contains("has no owner to move it from"), "{why}");
}

#[test]
fn moves_are_paused_and_resumed_once() {
    let mut scene = Scene::of(1);
    assert_eq!(scene.known().pause_moves(false), None);
    let pause = scene.known().pause_moves(true).unwrap();
    scene.log.commit(&pause);
    assert_eq!(scene.known().pause_moves(true), None);
    assert!(scene.log.table.settings().moves_paused);
    let resume = scene.known().pause_moves(false).unwrap();
    assert_eq!(
        scene.log.commit(&resume).outcome,
        Outcome::Done { changed: 1 }
    );
    assert!(!scene.log.table.settings().moves_paused);
}

#[test]
fn voters_are_raised_to_1_3_or_5_and_not_lowered_below_those_who_vote() {
    let mut scene = Scene::of(3);
    for wrong in [0, 2, 4, 7] {
        assert!(refused(scene.known().want_voters(wrong)).contains("1, 3 or 5"));
    }
    assert!(refused(scene.known().want_voters(1)).contains("3 nodes vote"));
    assert_eq!(scene.known().want_voters(3), Ok(None));
    let command = scene.known().want_voters(5).unwrap().unwrap();
    scene.log.commit(&command);
    let view = scene.known().voters();
    assert_eq!((view.wanted, view.voters.len(), view.missing), (5, 3, 2));
    assert!(
        scene.known().want_voters(3).unwrap().is_some(),
        "nobody has to go for it"
    );
    scene.log.join("n4", 4);
    let view = scene.known().voters();
    assert_eq!((view.candidates.len(), view.missing), (1, 1));
}

#[test]
fn a_node_is_removed_once_it_is_dead_or_empty_and_a_dead_voter_if_someone_replaces_it() {
    let mut scene = Scene::of(3);
    scene.only_voters(&[1, 3]);
    let why = refused(scene.known().remove("n3"));
    assert!(why.contains("lives and owns"), "{why}");
    assert!(why.contains("cluster drain n3 --wait"), "{why}");
    assert!(refused(scene.known().remove("n2")).contains("node 3 is a living voter"));
    scene.log.kill(5, Vec::new());
    assert_eq!(scene.known().remove("n3"), Ok(NodeId(5)));
    scene.log.kill(3, Vec::new());
    let why = refused(scene.known().remove("n2"));
    assert!(why.contains("start another node of role voter"), "{why}");
    let fourth = scene.log.join("n4", 4).id;
    scene.raft.members.learners.insert(fourth);
    scene.raft.members.matched.insert(fourth, 10);
    assert_eq!(scene.known().remove("n2"), Ok(NodeId(3)));
    scene.raft.members.configs.push(BTreeSet::new());
    assert!(refused(scene.known().remove("n2")).contains("voters are changing"));
}

#[test]
fn whatever_the_table_or_raft_refuses_is_refused_with_a_cure() {
    let (id, known) = (NodeId(3), crate::Incarnation(2));
    let leader = LeaderId { term: 1, node: id };
    let refusals = [
        Refusal::Leader {
            proposed: leader,
            logged: leader,
        },
        Refusal::NameTaken {
            name: "b".to_owned(),
            holder: id,
        },
        Refusal::Renamed {
            id,
            name: "b".to_owned(),
        },
        Refusal::SecondProcess {
            id,
            known,
            given: known,
        },
        Refusal::NotLiving(member(3, 1)),
        Refusal::Removed(id),
        Refusal::Unknown(id),
        Refusal::Voter(id),
        Refusal::OwnsSlots { id, slots: 4 },
        Refusal::Transition {
            from: NodeState::Dead,
            to: NodeState::Up,
        },
        Refusal::SettingsVersion {
            expected: 1,
            current: 2,
        },
        Refusal::Voters(2),
        Refusal::Protocol {
            id,
            speaks: 1,
            needs: 2,
        },
        Refusal::Exhausted(u64::MAX),
    ];
    let replaced = [
        raft::ReplaceError::NoVoter(id),
        raft::ReplaceError::Living(id),
        raft::ReplaceError::Changing,
        raft::ReplaceError::NoLearner(id),
    ];
    let of_raft = [
        raft::Error::NotLeader { leader: None },
        raft::Error::Members("two changes at once".to_owned()),
    ];
    let errors = of_raft.into_iter();
    let errors = errors.chain(replaced.map(raft::Error::Replace));
    let errors: Vec<_> = errors
        .chain(refusals.map(raft::Error::Refused))
        .map(|error| (error.to_string(), Refused::from(&error)))
        .collect();
    for (why, refused) in errors {
        assert_eq!(refused.to_string(), why);
        assert!(!refused.cure().is_empty(), "{why}");
    }
    let dead = Refused::from(&Refusal::OwnsSlots { id, slots: 4 });
    assert!(dead.cure().contains("cluster drain"), "{}", dead.cure());
    let lost = Refused::from(&raft::Error::NotLeader { leader: None });
    assert!(matches!(lost, Refused::Unavailable(_)), "{lost:?}");
}
