//! Changes are told once, with their reasons, in a ring.

use super::*;
use crate::testing::{leader, registration, slot};
use crate::{
    Applied, Command, Incarnation, MoveAbort, MoveReason, NodeChange, NodeState, Serves, Table,
};

struct Watched {
    scene: Scene,
    events: Events,
}

impl Watched {
    fn of(count: u32) -> Self {
        Self {
            scene: Scene::of(count),
            events: Events::default(),
        }
    }

    /// Does something and tells what is new.
    fn after(&mut self, act: impl FnOnce(&mut Scene) -> Applied) -> Vec<String> {
        let before = self.scene.log.table.clone();
        let seen = self.latest();
        let delta = act(&mut self.scene).delta;
        if let Some(delta) = delta {
            self.events.delta(&before, &delta, Duration::from_secs(9));
        }
        self.since(seen)
    }

    fn latest(&self) -> u64 {
        self.view(u64::MAX).latest
    }

    fn view(&self, after: u64) -> EventsView {
        let me = self.scene.known().name(NodeId(1));
        self.events.view(me, Incarnation(1), after)
    }

    fn since(&self, seen: u64) -> Vec<String> {
        let words = |event: Event| format!("{} {}: {}", event.kind.as_str(), event.what, event.why);
        self.view(seen).events.into_iter().map(words).collect()
    }
}

#[test]
fn a_node_is_told_when_it_comes_changes_dies_and_goes() {
    let mut watched = Watched::of(1);
    let life = |incarnation| {
        let mut node = registration("b", 9, incarnation);
        node.serves.rpc = vec!["chat.*".to_owned()];
        node
    };
    let told = watched.after(|scene| scene.log.register(life(1)));
    assert_eq!(
        told,
        ["node b (4) has come: it registered at incarnation 1"]
    );
    let told = watched.after(|scene| scene.log.turn(4, NodeState::Up));
    assert_eq!(told, ["node b (4) is up: "]);
    let told = watched.after(|scene| {
        let node = scene.log.table.node(NodeId(4)).unwrap();
        let (boot, incarnation) = (node.boot, node.incarnation);
        let id = NodeId(4);
        scene.log.commit(&Command::SetNode {
            member: crate::Member { id, incarnation },
            boot,
            change: NodeChange::Serves(Serves {
                channel: true,
                ..life(1).serves
            }),
        })
    });
    assert!(told.is_empty(), "nothing has changed");
    let death = Command::DeclareDead {
        member: watched.scene.log.table.member(NodeId(4)).unwrap(),
        why: "its lease is over".to_owned(),
        leader: leader(1),
        grants: Vec::new(),
    };
    let version = watched.scene.log.table.version() + 1;
    watched.events.because(&death, version);
    let told = watched.after(|scene| scene.log.commit(&death));
    assert_eq!(told, ["node b (4) is dead: its lease is over"]);
    let told = watched.after(|scene| scene.log.register(life(2)));
    assert_eq!(
        told,
        ["node b (4) has come back: it registered again at incarnation 2"]
    );
    let told = watched.after(|scene| scene.log.turn(4, NodeState::Draining));
    assert_eq!(told, ["node b (4) is draining: "]);
    let told = watched.after(|scene| scene.log.commit(&Command::Remove { id: NodeId(4) }));
    assert_eq!(told, ["node b (4) is removed: "]);
}

#[test]
fn slots_that_change_alike_are_one_event() {
    let mut watched = Watched::of(1);
    let joined = watched.scene.log.join("b", 9);
    let begin = |scene: &mut Scene| {
        let plan = crate::allocation::plan(&scene.log.table, &scene.conditions);
        let [command] = &plan.begin_moves()[..] else {
            panic!("{plan:?}")
        };
        scene.log.commit(command)
    };
    let told = watched.after(begin);
    assert_eq!(
        told,
        ["move-began 512 slots begin to move from n1 (1) to b (4): rebalance"]
    );
    let moving = watched
        .scene
        .log
        .table
        .slots()
        .find(|(_, rec)| rec.moving.is_some());
    let index = moving.unwrap().0.index();
    let told = watched.after(|scene| scene.log.complete(index));
    assert_eq!(
        told,
        [format!(
            "move-completed slot {index} moved from n1 (1) to b (4): rebalance"
        )]
    );
    let told = watched.after(|scene| scene.log.turn(joined.id.0, NodeState::Draining));
    assert_eq!(
        told,
        [
            "node b (4) is draining: ",
            "move-aborted 511 slots no longer move from n1 (1) to b (4): its target drains",
        ]
    );
}

#[test]
fn a_takeover_names_both_owners_and_a_vacancy_its_lost_owner() {
    let mut watched = Watched::of(2);
    let lost = watched.scene.known().nodes()[1].slots;
    let told = watched.after(|scene| {
        let dead = scene.log.table.member(NodeId(3)).unwrap();
        let grants =
            crate::allocation::grants_after_death(&scene.log.table, &[dead], &scene.conditions);
        scene.log.kill(3, grants)
    });
    assert_eq!(
        told,
        [
            "node n2 (3) is dead: ".to_owned(),
            format!("grant {lost} slots of n2 (3) granted to n1 (1): its owner is gone"),
        ]
    );
    let told = watched.after(|scene| scene.log.kill(1, Vec::new()));
    assert_eq!(
        told,
        [
            "node n1 (1) is dead: ",
            "grant 4096 slots of n1 (1) are vacant: its owner is gone"
        ]
    );
    watched.scene.log.join("c", 9);
    let told = watched.after(|scene| {
        let grants = crate::allocation::plan(&scene.log.table, &scene.conditions).grants;
        scene.log.commit(&Command::Assign { grants })
    });
    assert_eq!(told, ["grant 4096 slots granted to c (8): it had none"]);
}

#[test]
fn an_abort_carries_the_reason_that_it_was_proposed_with() {
    let mut watched = Watched::of(2);
    let index = watched.scene.slot_of(1);
    watched.scene.log.begin(index, 3, MoveReason::Admin);
    let id = watched.scene.log.table.slot(slot(index)).moving.unwrap().id;
    let abort = Command::AbortMoves {
        moves: vec![MoveAbort {
            slot: slot(index),
            id,
        }],
        why: "events ran too long for the slot to close".to_owned(),
    };
    let version = watched.scene.log.table.version() + 1;
    watched.events.because(&abort, version);
    let told = watched.after(|scene| scene.log.commit(&abort));
    assert_eq!(
        told,
        [format!(
            "move-aborted slot {index} no longer moves from n1 (1) to n2 (3): events ran too long \
             for the slot to close"
        )]
    );
}

#[test]
fn a_reason_that_the_log_gives_later_than_the_change_is_told_with_it_all_the_same() {
    let mut watched = Watched::of(2);
    let index = watched.scene.slot_of(1);
    watched.scene.log.begin(index, 3, MoveReason::Admin);
    let id = watched.scene.log.table.slot(slot(index)).moving.unwrap().id;
    let abort = Command::AbortMoves {
        moves: vec![MoveAbort {
            slot: slot(index),
            id,
        }],
        why: "the target was not prepared in time".to_owned(),
    };
    let told = watched.after(|scene| scene.log.commit(&abort));
    assert!(told[0].ends_with("to n2 (3): "), "{told:?}");
    let aborted = watched.scene.log.table.version();
    let death = Command::DeclareDead {
        member: watched.scene.log.table.member(NodeId(3)).unwrap(),
        why: "its lease is over".to_owned(),
        leader: leader(1),
        grants: Vec::new(),
    };
    watched.after(|scene| scene.log.commit(&death));
    let died = watched.scene.log.table.version();
    watched.events.because(&abort, aborted);
    watched.events.because(&death, died);
    // A second time, as after a restart of the log, changes nothing.
    watched.events.because(&death, died);
    let told = watched.since(0);
    assert!(
        told[0].ends_with("to n2 (3): the target was not prepared in time"),
        "{told:?}"
    );
    assert_eq!(told[1], "node n2 (3) is dead: its lease is over");
}

#[test]
fn settings_and_leaders_are_told() {
    let mut watched = Watched::of(1);
    let told = watched.after(|scene| {
        let pause = scene.known().pause_moves(true).unwrap();
        scene.log.commit(&pause)
    });
    assert_eq!(
        told,
        ["settings moves are paused: an operator asked for it"]
    );
    let seen = watched.latest();
    let named = watched.scene.known().name(NodeId(1));
    watched.events.leader(Some(&named), 3, Duration::ZERO);
    watched.events.leader(None, 3, Duration::ZERO);
    assert_eq!(
        watched.since(seen),
        ["leader n1 (1) leads: ", "leader no leader is known: "]
    );
}

#[test]
fn what_was_not_seen_one_by_one_is_told_behind_a_gap() {
    let mut watched = Watched::of(2);
    let before: Table = watched.scene.log.table.clone();
    watched.scene.log.turn(3, NodeState::Draining);
    watched.scene.log.kill(3, Vec::new());
    let after = watched.scene.log.table.clone();
    watched.events.replaced(&before, &after, Duration::ZERO);
    let told = watched.since(0);
    assert!(
        told[0].starts_with("gap the table went from version"),
        "{told:?}"
    );
    assert_eq!(told[1], "node n2 (3) is dead: ");
    assert!(told[2].contains("slots of n2 (3) are vacant"), "{told:?}");
}

#[test]
fn the_last_thousand_are_kept_and_numbers_go_on() {
    let mut events = Events::default();
    for version in 0..1500 {
        events.leader(None, version, Duration::ZERO);
    }
    let me = Named {
        id: NodeId(1),
        name: "a".to_owned(),
    };
    let all = events.view(me.clone(), Incarnation(1), 0);
    assert_eq!((all.events.len(), all.latest), (EVENTS_KEPT, 1500));
    assert_eq!(all.events[0].number, 501);
    assert_eq!(
        events.view(me.clone(), Incarnation(1), 1498).events.len(),
        2
    );
    assert!(events.view(me, Incarnation(1), 1500).events.is_empty());
}
