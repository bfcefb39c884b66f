//! Barrier, acknowledgements, deaths, registrations.

#![allow(clippy::unwrap_used)]

use super::world::{Mood, World, millis};
use crate::lead::*;
use crate::testing::{Log, registration};
use crate::*;

#[test]
fn a_new_leader_does_nothing_before_its_barrier_and_proposes_that_again_if_it_fails() {
    let mut world = World::over(Log::with_nodes(3));
    assert_eq!(world.commands(), [Command::Barrier { nonce: 7 }]);
    world.beat();
    assert_eq!(world.fail(), Command::Barrier { nonce: 7 });
    assert!(world.flying.is_empty());
    world.tick();
    assert_eq!(world.commands(), [Command::Barrier { nonce: 7 }]);
    for _ in 0..8 {
        world.tick();
    }
    assert_eq!(world.flying.len(), 1);
    assert!(world.acks().is_empty() && world.lead.is_starting());
    assert!(!world.effects.contains(&LeadEffect::Announce));

    world.commit();
    assert!(!world.lead.is_starting());
    let tells = [LeadEffect::Announce, LeadEffect::TendVoters];
    assert!(tells.iter().all(|tell| world.effects.contains(tell)));
    // Every slot is granted at once.
    let [Command::Assign { grants }] = &*world.commands() else {
        panic!("{} proposals", world.flying.len())
    };
    assert_eq!(grants.len(), 4096);
}

#[test]
fn who_leads_is_told_often_at_first_and_once_a_second_later() {
    let mut world = World::over(Log::with_nodes(1));
    let told = |world: &mut World, time| {
        world.effects.clear();
        world.run(time);
        let told = |effect: &&LeadEffect| **effect == LeadEffect::Announce;
        world.effects.iter().filter(told).count()
    };
    assert!((10..=13).contains(&told(&mut world, millis(1200))));
    assert!((4..=6).contains(&told(&mut world, millis(5000))));
    // A newcomer is told soon.
    world.effects.clear();
    world.join(2);
    world.tick();
    assert!(world.effects.contains(&LeadEffect::Announce));
}

#[test]
fn a_heartbeat_is_acknowledged_after_a_round_and_the_way_that_it_came() {
    let mut world = World::settled(3);
    world.mood(3, Mood::Indirect);
    // Half way between two heartbeats, when those before are answered.
    while world.now.as_millis() % 200 != 100 {
        world.tick();
    }
    world.effects.clear();
    world.beat();
    assert!(world.acks().is_empty());
    world.tick();
    world.tick();
    world.tick();
    let ways: Vec<_> = world
        .acks()
        .iter()
        .map(|(to, ack)| (to.0, ack.member.id.0))
        .collect();
    let (two, three) = (world.id(2).0, world.id(3).0);
    assert_eq!(ways, [(1, 1), (two, two), (1, three)]);

    // One that somebody else made up counts for nothing.
    let heartbeat = crate::lease::Heartbeat {
        member: world.member(2),
        boot: world.boot(2),
        seq: 9999,
        version: 0,
        degraded: false,
        closed: 0,
    };
    world.effects.clear();
    world.tell(3, Control::Heartbeat(heartbeat, None));
    assert!(world.effects.is_empty());
    // Another process is refused where it spoke, a life that is over is told so.
    let boot = BootId(404);
    world.tell(
        2,
        Control::Heartbeat(crate::lease::Heartbeat { boot, ..heartbeat }, None),
    );
    let refusal = Control::SecondProcess(world.member(2), boot);
    assert_eq!(world.answers(), [(boot, refusal)]);
    let member = Member {
        incarnation: Incarnation(0),
        ..heartbeat.member
    };
    world.tell(
        2,
        Control::Heartbeat(
            crate::lease::Heartbeat {
                member,
                ..heartbeat
            },
            None,
        ),
    );
    let told = LeadEffect::Send {
        to: world.id(2),
        control: Control::Dead(member),
    };
    for _ in 0..3 {
        world.tick();
    }
    assert!(world.effects.contains(&told), "{:?}", world.effects);
}

#[test]
fn a_silent_node_dies_and_its_slots_go_to_the_others_in_the_same_entry() {
    let mut world = World::settled(3);
    let had = world.owned(3);
    world.mood(3, Mood::Silent);
    let since = world.now;
    while world.flying.is_empty() {
        world.tick();
    }
    assert!(world.now - since >= millis(1100) && world.now - since <= millis(1600));
    let [Command::DeclareDead { member, grants, .. }] = &*world.commands() else {
        panic!("{} proposals", world.flying.len())
    };
    assert_eq!((*member, grants.len()), (world.member(3), had));
    world.commit();
    assert_eq!((world.vacant(), world.owned(3)), (0, 0));
    assert!(world.owned(1).abs_diff(world.owned(2)) <= 1);
    assert!(world.flying.is_empty());
}

#[test]
fn two_that_die_together_give_each_other_nothing() {
    let mut world = World::settled(5);
    world.mood(4, Mood::Silent);
    world.mood(5, Mood::Silent);
    while world.flying.is_empty() {
        world.tick();
    }
    let mut granted = 0;
    for command in world.commands() {
        let Command::DeclareDead { grants, .. } = command else {
            panic!("not a death")
        };
        granted += grants.len();
        let dead = [world.member(4), world.member(5)];
        assert!(grants.iter().all(|grant| !dead.contains(&grant.to)));
    }
    assert_eq!(
        (world.flying.len(), granted),
        (2, world.owned(4) + world.owned(5))
    );
    // While one is under way another node dies: nothing is proposed twice.
    world.mood(3, Mood::Silent);
    while world.flying.len() < 3 {
        world.tick();
    }
    let Some(Command::DeclareDead { grants, .. }) = world.commands().pop() else {
        panic!("not a death")
    };
    let left = [world.member(1), world.member(2)];
    assert_eq!(grants.len(), world.owned(3));
    assert!(grants.iter().all(|grant| left.contains(&grant.to)));
    world.commit_all();
    world.commit_all();
    assert_eq!(world.vacant(), 0);
    assert!(world.owned(1).abs_diff(world.owned(2)) <= 1);
}

#[test]
fn a_death_that_could_not_be_proposed_is_proposed_at_the_next_tick() {
    let mut world = World::settled(3);
    world.mood(3, Mood::Silent);
    while world.flying.is_empty() {
        world.tick();
    }
    for _ in 0..5 {
        let first = world.fail();
        assert!(world.flying.is_empty());
        world.tick();
        assert_eq!(world.commands(), [first]);
    }
    // However long it is under way, there is one of it.
    for _ in 0..400 {
        world.tick();
    }
    assert_eq!(world.flying.len(), 1);
    // It was condemned: a late heartbeat changes nothing.
    world.mood(3, Mood::Well);
    world.effects.clear();
    for _ in 0..20 {
        world.tick();
    }
    assert!(
        world
            .acks()
            .iter()
            .all(|(_, ack)| ack.member != world.member(3))
    );
}

#[test]
fn a_node_that_leaves_is_taken_over_at_once_and_that_counts_as_no_death() {
    let mut world = World::settled(3);
    for _ in 0..3 {
        let member = world.member(3);
        world.tell(1, Control::Leaving(member));
        world.tick();
        assert!(world.flying.is_empty(), "only its own word counts");
        world.tell(3, Control::Leaving(member));
        world.tick();
        let [Command::DeclareDead { grants, .. }] = &*world.commands() else {
            panic!("{} proposals", world.flying.len())
        };
        assert_eq!(grants.len(), world.owned(3));
        world.run(millis(100));
        assert_eq!((world.vacant(), world.owned(3)), (0, 0));
        let mut node = registration("n3", 3, member.incarnation.0 + 1);
        node.boot = BootId(world.now.as_millis());
        world.tell(0, Control::Register(node));
        world.commit_all();
        world.turn(3, NodeState::Up);
        world.run(millis(3000));
        assert_eq!(world.owned(3), 4096 / 3);
    }
    let quarantined = Note::Quarantined(world.id(3));
    assert!(!world.notes().contains(&quarantined));
}

#[test]
fn three_deaths_are_quarantine_until_an_operator_trusts_the_node() {
    let mut world = World::settled(3);
    for round in 0..3 {
        world.mood(3, Mood::Silent);
        world.run(millis(1800));
        world.mood(3, Mood::Well);
        let node = registration("n3", 3, 2 + round);
        world.tell(0, Control::Register(node));
        world.commit_all();
        world.turn(3, NodeState::Up);
        world.run(millis(3000));
    }
    assert!(world.notes().contains(&Note::Quarantined(world.id(3))));
    assert_eq!(world.owned(3), 0);
    let held = Wait::HeldBack(world.id(3), crate::allocation::HeldBack::Quarantine);
    assert!(world.lead.waits().contains(&held));
    let reading = world.reading();
    world.lead.undrained(world.id(3), reading);
    world.run(millis(1000));
    assert_eq!(world.owned(3), 4096 / 3);
}

#[test]
fn a_newcomer_is_registered_once_and_told_so() {
    let mut world = World::settled(2);
    let node = registration("n3", 3, 1);
    let boot = node.boot;
    for _ in 0..5 {
        world.tell(0, Control::Register(node.clone()));
    }
    assert_eq!(world.flying.len(), 1);
    world.commit();
    let member = Member {
        id: NodeId(u32::try_from(world.log.index).unwrap()),
        incarnation: Incarnation(1),
    };
    let told = (boot, Control::Registered(member));
    assert_eq!(world.answers(), std::slice::from_ref(&told));
    // Asked again, since the answer was lost.
    world.tell(0, Control::Register(node));
    world.commit();
    assert_eq!(world.answers(), [told.clone(), told]);
    // A name that is taken is refused in words.
    world.effects.clear();
    world.tell(0, Control::Register(registration("n1", 77, 1)));
    world.commit();
    // It asks on and on, which is told once.
    world.tell(0, Control::Register(registration("n1", 77, 1)));
    world.commit();
    assert_eq!((world.notes().len(), world.answers().len()), (1, 2));
    let answers = world.answers();
    let [(_, Control::NotRegistered(_, why)), _] = &*answers else {
        panic!("{answers:?}")
    };
    assert!(why.contains("belongs to node 1"), "{why}");
}

#[test]
fn a_node_that_restarts_waits_out_its_old_life_and_the_same_entry_gives_its_slots_away() {
    let mut world = World::settled(3);
    world.mood(3, Mood::Silent);
    let (had, old) = (world.owned(3), world.member(3));
    let since = world.now;
    let node = registration("n3", 3, 2);
    let boot = node.boot;
    while world.flying.is_empty() {
        world.tell(0, Control::Register(node.clone()));
        world.tick();
    }
    assert!(world.now - since >= millis(1100), "R3");
    let register = world.commands().remove(0);
    let Command::Register { grants, .. } = &register else {
        panic!("not a registration")
    };
    assert_eq!(grants.len(), had);
    world.commit_all();
    assert_eq!((world.vacant(), world.owned(3)), (0, 0));
    assert!(!world.log.table.is_living(old));
    let told = world.answers();
    assert!(told.contains(&(boot, Control::Registered(world.member(3)))));
    // The old life asks for its own again: it needs another incarnation.
    world.effects.clear();
    let mut log = world.log.clone();
    log.kill(world.id(3).0, Vec::new());
    world.log = log;
    world.tell(0, Control::Register(node));
    world.commit_all();
    let answers = world.answers();
    assert!(matches!(&*answers, [(_, Control::Dead(member))] if member.id == world.id(3)));
}

#[test]
fn a_node_may_change_itself_and_nobody_else() {
    let mut world = World::settled(2);
    let change = |world: &World, state| Command::SetNode {
        member: world.member(2),
        boot: world.boot(2),
        change: NodeChange::State(state),
    };
    let drain = change(&world, NodeState::Draining);
    world.tell(1, Control::Propose(drain.clone()));
    let dead = change(&world, NodeState::Dead);
    world.tell(2, Control::Propose(dead));
    world.tell(2, Control::Propose(Command::Remove { id: NodeId(1) }));
    assert!(world.flying.is_empty());
    for _ in 0..3 {
        world.tell(2, Control::Propose(drain.clone()));
    }
    assert_eq!(world.commands(), [drain]);
}
