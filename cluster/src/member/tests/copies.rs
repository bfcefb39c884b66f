//! Directories that were copied or put back as a whole: they look right from the inside, and the
//! cluster tells them apart (R10).

use super::super::DataDir;
use super::{SEVEN, copy, seven, voter};
use crate::peer::{Class, LinkError};
use crate::testing::{Log, registration};
use crate::{Incarnation, Member, NodeState, Outcome, Refusal, Registration};

/// What the life registers with.
fn asks(opened: &DataDir) -> Registration {
    Registration {
        data: opened.data(),
        incarnation: opened.incarnation(),
        boot: opened.boot(),
        ..registration("b", 0, 0)
    }
}

fn registered(log: &mut Log, opened: &DataDir) -> Outcome {
    log.register(asks(opened)).outcome
}

#[test]
fn two_processes_on_copies_have_one_incarnation_and_two_boot_ids_and_one_is_registered() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    drop(voter(&ours));
    copy(&ours, &theirs);
    let (first, second) = (
        DataDir::open(&ours).unwrap(),
        DataDir::open(&theirs).unwrap(),
    );
    assert_eq!(
        (first.data(), first.known()),
        (second.data(), second.known())
    );
    assert_eq!(first.member(), second.member());
    assert_ne!(first.boot(), second.boot());
    let mut log = Log::new();
    let Outcome::Registered(member) = registered(&mut log, &first) else {
        panic!("the first one is registered")
    };
    // A repeat is one with the same boot id only.
    assert_eq!(registered(&mut log, &first), Outcome::Repeat);
    let second_process = Refusal::SecondProcess {
        id: member.id,
        known: Incarnation(2),
        given: Incarnation(2),
    };
    assert_eq!(
        registered(&mut log, &second),
        Outcome::Refused(second_process)
    );
    assert!(log.table.is_living(member));
    let refused =
        first
            .greeting("b")
            .check(&second.greeting("b").hello(Class::Control, 1, [0; 32]));
    assert!(
        matches!(refused, Err(LinkError::SecondProcess { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_backup_of_a_whole_directory_is_refused_by_who_registers_it() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, backup) = (folder.path().join("ours"), folder.path().join("backup"));
    drop(seven(&ours));
    copy(&ours, &backup);
    let mut log = Log::new();
    let mut member = None;
    for _ in 0..3 {
        let life = DataDir::open(&ours).unwrap();
        let Outcome::Registered(registered) = registered(&mut log, &life) else {
            panic!("each start is registered")
        };
        member = Some(registered);
    }
    let Some(Member { id, .. }) = member else {
        panic!("three starts")
    };
    log.turn(id.0, NodeState::Up);
    let restored = DataDir::open(&backup).unwrap();
    assert_eq!(restored.known(), Some(SEVEN));
    let old = Refusal::SecondProcess {
        id,
        known: Incarnation(4),
        given: Incarnation(2),
    };
    assert_eq!(registered(&mut log, &restored), Outcome::Refused(old));
}

#[test]
fn another_life_of_one_process_is_registered_under_the_same_node() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = DataDir::open(folder.path()).unwrap();
    let mut log = Log::new();
    let Outcome::Registered(first) = registered(&mut log, &opened) else {
        panic!("it is registered")
    };
    log.kill(first.id.0, Vec::new());
    let not_living = Outcome::Refused(Refusal::NotLiving(first));
    assert_eq!(registered(&mut log, &opened), not_living);
    opened.raise().unwrap();
    let second = Member {
        incarnation: Incarnation(2),
        ..first
    };
    assert_eq!(registered(&mut log, &opened), Outcome::Registered(second));
}
