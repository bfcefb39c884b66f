//! What is shown of nodes, slots, moves.

use super::*;
use crate::testing::{registration, slot};
use crate::{MoveReason, NodeState, peer};

#[test]
fn nodes_are_found_by_name_before_id_and_not_once_removed() {
    let mut scene = Scene::of(2);
    let stray = scene.log.join("3", 9);
    let table = &scene.log.table;
    assert_eq!(find_node(table, "n2"), Ok(NodeId(3)));
    assert_eq!(find_node(table, "3"), Ok(stray.id), "a name comes first");
    assert_eq!(find_node(table, "1"), Ok(NodeId(1)));
    let missing = refused(find_node(table, "n9"));
    assert_eq!(
        missing,
        format!(
            "there is no node \"n9\": name one of n1 (1), n2 (3), 3 ({})",
            stray.id
        )
    );
    scene.log.kill(stray.id.0, Vec::new());
    scene.log.commit(&crate::Command::Remove { id: stray.id });
    assert_eq!(find_node(&scene.log.table, "3"), Ok(NodeId(3)));
    assert!(find_node(&scene.log.table, &stray.id.to_string()).is_err());
}

#[test]
fn a_node_shows_slots_moves_vote_and_what_holds_it_back() {
    let mut scene = Scene::of(3);
    scene.only_voters(&[1]);
    scene.raft.members.learners = BTreeSet::from([NodeId(3)]);
    scene.conditions.held_back =
        BTreeMap::from([(NodeId(5), crate::allocation::HeldBack::Degraded)]);
    scene.heard = BTreeMap::from([(NodeId(3), Duration::from_millis(120))]);
    let moving = scene.slot_of(1);
    scene.log.begin(moving, 3, MoveReason::Admin);
    let nodes = scene.known().nodes();
    let [a, b, c] = nodes.as_slice() else {
        panic!("{nodes:?}")
    };
    assert_eq!(a.slots + b.slots + c.slots, 4096);
    assert_eq!((a.leaving, a.arriving, b.leaving, b.arriving), (1, 0, 0, 1));
    assert_eq!(
        [a.vote, b.vote, c.vote],
        [Vote::Voter, Vote::Learner, Vote::None]
    );
    assert_eq!([a.leads, b.leads, c.leads], [true, false, false]);
    assert_eq!(c.held_back, Some(crate::allocation::HeldBack::Degraded));
    assert_eq!(b.heard, Some(Duration::from_millis(120)));
    assert_eq!(a.heard, None);
    assert!(nodes.iter().all(|node| !node.routes_differ));
}

#[test]
fn the_node_whose_routes_are_not_those_of_most_is_told() {
    let mut scene = Scene::of(2);
    let mut odd = registration("odd", 7, 1);
    odd.routes_hash = 8;
    scene.log.register(odd);
    let differ = |scene: &Scene| -> Vec<_> {
        let nodes = scene.known().nodes();
        let differ = nodes.iter().filter(|node| node.routes_differ);
        differ.map(|node| node.node.name.clone()).collect()
    };
    assert_eq!(differ(&scene), ["odd"]);
    scene.log.kill(3, Vec::new());
    assert_eq!(
        differ(&scene),
        ["odd"],
        "of one each the older node's count"
    );
}

#[test]
fn slots_are_those_of_a_node_and_a_name_is_located_by_its_tag() {
    let mut scene = Scene::of(3);
    let known = scene.known();
    let mine = known.slots(Some("n2")).unwrap();
    assert_eq!(mine.len(), known.nodes()[1].slots);
    assert!(
        mine.iter()
            .all(|slot| slot.owner.as_ref().unwrap().name == "n2")
    );
    assert_eq!(known.slots(None).unwrap().len(), 4096);
    assert!(known.slots(Some("nobody")).is_err());
    let (chat, seats) = (
        known.locate(b"room:{42}:chat"),
        known.locate(b"room:{42}:seats"),
    );
    assert_eq!(chat, seats);
    assert_eq!(chat.tag, "42");
    let owner = chat.slot.owner.unwrap().id;
    scene.log.kill(owner.0, Vec::new());
    assert_eq!(scene.known().locate(b"room:{42}:chat").slot.owner, None);
}

#[test]
fn a_move_shows_its_age_what_it_waits_for_and_when_it_is_stuck() {
    let mut scene = Scene::of(2);
    let index = scene.slot_of(1);
    scene.log.begin(index, 3, MoveReason::Rebalance);
    let id = scene.log.table.slot(slot(index)).moving.unwrap().id;
    scene.wait(29);
    scene.steps = BTreeMap::from([((slot(index), id), MoveStep::Preparing)]);
    let view = |scene: &Scene| {
        scene
            .known()
            .moves(&[crate::allocation::Wait::Joining(NodeId(3))])
    };
    let moves = view(&scene);
    let [open] = moves.open.as_slice() else {
        panic!("{moves:?}")
    };
    assert_eq!(
        (open.slot, open.reason),
        (slot(index), MoveReason::Rebalance)
    );
    assert_eq!(
        (
            open.from.as_ref().unwrap().name.as_str(),
            open.to.name.as_str()
        ),
        ("n1", "n2")
    );
    assert_eq!(
        (open.age, open.step, open.stuck),
        (Some(Duration::from_secs(29)), MoveStep::Preparing, false)
    );
    assert_eq!(moves.waits, ["n2 (3) is joining, waited for 10 s at most"]);
    scene.wait(1);
    assert!(view(&scene).open[0].stuck);
    assert_eq!(scene.ages.oldest(scene.now), Some(STUCK));
    // A source that goes on completing moves is busy, not stuck.
    let other = scene.slot_of(1);
    scene.log.begin(other, 3, MoveReason::Rebalance);
    scene.wait(1);
    scene.log.complete(other);
    scene.wait(29);
    assert!(!view(&scene).open[0].stuck);
    scene.log.abort(index);
    scene.wait(1);
    assert!(view(&scene).open.is_empty());
    assert_eq!(scene.ages.oldest(scene.now), None);
}

#[test]
fn the_status_sums_up_states_voters_and_problems() {
    let mut scene = Scene::of(3);
    scene.log.kill(5, Vec::new());
    let status = scene.known().status();
    assert_eq!(status.cluster, format!("{:032x}", 0xc1));
    assert_eq!(status.leader.unwrap().name, "n1");
    assert_eq!(status.nodes, [(NodeState::Up, 2), (NodeState::Dead, 1)]);
    assert!(status.slots_vacant > 1000, "{}", status.slots_vacant);
    assert_eq!((status.voters.len(), status.can_lose), (3, 0));
    assert_eq!(status.problems, scene.known().health().problems.len());
    assert!(status.problems >= 2);
}

#[test]
fn a_plan_is_told_by_source_and_target() {
    let mut scene = Scene::of(2);
    scene.log.join("n3", 3);
    let plan = crate::allocation::plan(&scene.log.table, &scene.conditions);
    let view = scene.known().rebalance(&plan, false);
    let counts: Vec<_> = view
        .moves
        .iter()
        .map(|planned| {
            (
                planned.from.as_ref().unwrap().name.as_str(),
                planned.to.name.as_str(),
            )
        })
        .collect();
    assert_eq!(counts, [("n1", "n3"), ("n2", "n3")]);
    let sum: usize = view.moves.iter().map(|planned| planned.slots).sum();
    assert_eq!(sum, plan.moves.len());
    assert!(!view.begun);
    assert!(
        view.waits[0].contains("more moves wait"),
        "{:?}",
        view.waits
    );
    assert!(scene.known().rebalance(&plan, true).begun);
    // Held back, or even already: nothing begins, though it was not only asked for a plan.
    for waits in [vec![crate::allocation::Wait::Paused], Vec::new()] {
        let nothing = crate::allocation::Plan {
            waits,
            ..crate::allocation::Plan::default()
        };
        assert!(!scene.known().rebalance(&nothing, true).begun);
    }
}

#[test]
fn questions_and_answers_cross_between_nodes_unchanged() {
    let mut scene = Scene::of(3);
    let index = scene.slot_of(1);
    scene.log.begin(index, 3, MoveReason::Drain);
    scene.wait(3);
    let known = scene.known();
    let link = PeerLink {
        to: known.name(NodeId(3)),
        control: peer::LinkState::Up,
        data: peer::LinkState::Silent,
    };
    let event = Event {
        number: 1,
        at: Duration::from_millis(5),
        version: 2,
        kind: EventKind::Gap,
        what: "a".to_owned(),
        why: "b".to_owned(),
    };
    let told = [
        Told::Status(known.status()),
        Told::Health(known.health()),
        Told::Nodes(known.nodes()),
        Told::Peers(vec![PeerRow {
            from: known.name(NodeId(1)),
            links: vec![link.clone()],
            unknown: Some("silent".to_owned()),
        }]),
        Told::Links(vec![link]),
        Told::Slots(known.slots(None).unwrap()),
        Told::Locate(known.locate(b"x")),
        Told::Moves(known.moves(&[crate::allocation::Wait::Paused])),
        Told::Events(EventsView {
            node: known.name(NodeId(1)),
            incarnation: crate::Incarnation(3),
            events: vec![event],
            latest: 1,
        }),
        Told::Drain(known.drain("n1", true).unwrap().1),
        Told::Node(known.name(NodeId(5))),
        Told::Move(known.move_view(slot(index)).unwrap()),
        Told::Rebalance(known.rebalance(&crate::allocation::Plan::default(), true)),
        Told::Paused(true),
        Told::Voters(known.voters()),
        Told::Refused(Refused::no("why", "cure")),
        Told::Refused(Refused::Unavailable("nobody".to_owned())),
    ];
    for told in told {
        assert_eq!(Told::decode(&told.encode()).as_ref(), Ok(&told));
        assert!(Told::decode(&told.encode()[1..]).as_ref() != Ok(&told));
    }
    let text = "a".to_owned();
    let asks = [
        Ask::Status,
        Ask::Health,
        Ask::Nodes,
        Ask::Peers,
        Ask::Links,
        Ask::Slots(Some(text.clone())),
        Ask::Locate(vec![0, 255]),
        Ask::Moves,
        Ask::Events(7),
        Ask::Drain(text.clone(), true),
        Ask::Undrain(text.clone()),
        Ask::MoveSlot(4095, text.clone()),
        Ask::Rebalance(true, false),
        Ask::PauseMoves,
        Ask::ResumeMoves,
        Ask::Voters(Some(5)),
        Ask::Remove(text),
        Ask::Steps,
    ];
    for ask in asks {
        assert_eq!(Ask::decode(&ask.encode()).as_ref(), Ok(&ask));
    }
    assert!(Ask::decode(&[99]).is_err());
}

#[test]
fn the_bytes_of_questions_and_answers_stay_what_they_are() {
    let text = |text: &str| text.to_owned();
    let asks: [(Ask, &[u8]); 7] = [
        (Ask::Links, &[4]),
        (Ask::Locate(vec![7, 8]), &[6, 2, 7, 8]),
        (Ask::Drain(text("a"), true), &[9, 1, b'a', 1]),
        (Ask::MoveSlot(4095, text("b")), &[11, 251, 255, 15, 1, b'b']),
        (Ask::Voters(Some(5)), &[15, 1, 5]),
        (Ask::Remove(text("c")), &[16, 1, b'c']),
        (Ask::Steps, &[17]),
    ];
    for (ask, bytes) in asks {
        assert_eq!(ask.encode(), bytes, "{ask:?}");
    }
    let named = Named {
        id: NodeId(3),
        name: text("b"),
    };
    let moving = MoveView {
        slot: slot(9),
        id: MoveId(8),
        from: None,
        to: named.clone(),
        reason: MoveReason::Drain,
        age: Some(Duration::from_nanos(5)),
        step: MoveStep::Sending,
        stuck: true,
    };
    let told: [(Told, &[u8]); 4] = [
        (Told::Node(named), &[10, 3, 1, b'b']),
        (
            Told::Move(moving),
            &[11, 9, 8, 0, 3, 1, b'b', 1, 1, 5, 4, 1],
        ),
        (Told::Paused(true), &[13, 1]),
        (
            Told::Refused(Refused::no("w", "c")),
            &[15, 0, 1, b'w', 1, b'c'],
        ),
    ];
    for (told, bytes) in told {
        assert_eq!(told.encode(), bytes, "{told:?}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_a_question_or_an_answer_or_refused(
        bytes in proptest::collection::vec(0u8..20, 0..40),
    ) {
        if let Ok(ask) = Ask::decode(&bytes) {
            proptest::prop_assert_eq!(Ask::decode(&ask.encode()), Ok(ask));
        }
        if let Ok(told) = Told::decode(&bytes) {
            proptest::prop_assert_eq!(Told::decode(&told.encode()), Ok(told));
        }
    }
}
