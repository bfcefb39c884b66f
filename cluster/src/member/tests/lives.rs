//! Starts, registrations, first joins, and crashes between two writes.

use super::super::{DataDir, Error, Identity, Joined};
use super::{SEVEN, found, genesis, lies, only_in_log, seven, voter};
use crate::raft::Store;
use crate::{ClusterId, ClusterInfo, Incarnation, Member, NodeId, Settings, Table, peer};

#[test]
fn a_first_start_draws_an_identity_that_later_starts_keep() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let first = DataDir::open(&dir).unwrap();
    let (data, boot) = (first.data(), first.boot());
    assert_eq!((first.known(), first.member()), (None, None));
    assert_eq!(first.incarnation(), Incarnation(1));
    assert!(first.store().is_none() && !first.founds().unwrap());
    assert_eq!(lies(&dir).data, data);
    drop(first);
    let second = DataDir::open(&dir).unwrap();
    assert_eq!(second.data(), data);
    assert_eq!(second.incarnation(), Incarnation(2));
    assert_ne!(second.boot(), boot);
}

#[test]
fn every_life_is_on_disk_before_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let mut opened = voter(dir);
    let boot = opened.boot();
    for life in 2..5 {
        assert_eq!(opened.raise().unwrap(), Incarnation(life));
        assert_eq!(opened.boot(), boot);
        assert_eq!(lies(dir).incarnation, Incarnation(life));
        let log = opened.store().unwrap().identity().unwrap();
        assert_eq!(log.incarnation, Incarnation(life));
    }
    drop(opened);
    let next = DataDir::open(dir).unwrap();
    assert_eq!(next.incarnation(), Incarnation(5));
    let log = next.store().unwrap().identity().unwrap();
    assert_eq!(log.incarnation, Incarnation(5));
}

#[test]
fn the_answer_to_a_registration_is_kept_and_may_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = DataDir::open(folder.path()).unwrap();
    let greeting = opened.greeting("b");
    assert_eq!(
        (greeting.cluster, greeting.member.id),
        (ClusterId(0), NodeId(0))
    );
    let member = Member {
        id: NodeId(7),
        incarnation: Incarnation(1),
    };
    for _ in 0..2 {
        assert_eq!(opened.joined(SEVEN, Incarnation(1)).unwrap(), member);
        assert_eq!(opened.known(), Some(SEVEN));
    }
    let greeting = opened.greeting("b");
    assert_eq!((greeting.cluster, greeting.member), (SEVEN.cluster, member));
    assert_eq!(greeting.boot, opened.boot());
    drop(opened);
    let opened = DataDir::open(folder.path()).unwrap();
    assert_eq!(opened.known(), Some(SEVEN));
    assert_eq!(opened.member().unwrap().incarnation, Incarnation(2));
}

#[test]
fn an_answer_for_another_life_cluster_or_node_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = seven(folder.path());
    let other_cluster = Joined {
        cluster: ClusterId(0xc2),
        ..SEVEN
    };
    let other_node = Joined {
        node: NodeId(8),
        ..SEVEN
    };
    let life = opened.incarnation();
    let refused = [
        (SEVEN, Incarnation(9), "incarnation 9, but this node has 1"),
        (
            other_cluster,
            life,
            "cluster 000000000000000000000000000000c2",
        ),
        (other_node, life, "node 8, but this node has 7"),
    ];
    for (answer, incarnation, words) in refused {
        let refused = opened.joined(answer, incarnation).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
        assert!(
            refused.starts_with(&*folder.path().to_string_lossy()),
            "{refused}"
        );
        assert_eq!(lies(folder.path()).joined, Some(SEVEN));
    }
}

#[test]
fn a_node_without_a_log_may_come_out_of_a_recovery_as_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = seven(folder.path());
    let data = opened.data();
    opened.forget().unwrap();
    assert_eq!(opened.known(), None);
    assert_eq!(lies(folder.path()).joined, None);
    let anew = Joined {
        recovery: 1,
        node: NodeId(9),
        ..SEVEN
    };
    opened.joined(anew, opened.incarnation()).unwrap();
    let again = Joined {
        recovery: 2,
        node: NodeId(11),
        ..SEVEN
    };
    opened.joined(again, opened.incarnation()).unwrap();
    assert_eq!(opened.greeting("b").recovery, 2);
    let refused = opened.joined(anew, opened.incarnation()).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("recovery 1, but this node has 2"),
        "{refused}"
    );
    drop(opened);
    let opened = DataDir::open(folder.path()).unwrap();
    assert_eq!((opened.known(), opened.data()), (Some(again), data));
}

#[test]
fn a_voter_does_not_forget_its_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = voter(folder.path());
    let refused = opened.forget().unwrap_err();
    assert!(matches!(refused, Error::KeepsLog { .. }), "{refused}");
    assert!(
        refused.to_string().contains("empty data directory"),
        "{refused}"
    );
    let anew = Joined {
        recovery: 1,
        ..SEVEN
    };
    let refused = opened.joined(anew, opened.incarnation()).unwrap_err();
    assert!(matches!(refused, Error::OtherNode { .. }), "{refused}");
    assert_eq!(lies(folder.path()).joined, Some(SEVEN));
}

#[test]
fn a_first_join_makes_the_log_once_and_later_starts_find_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let mut opened = seven(dir);
    assert!(!dir.join("meta.redb").exists());
    let store = opened.keep_log(&genesis()).unwrap();
    let identity = store.identity().unwrap();
    assert_eq!(
        (identity.cluster, identity.node),
        (SEVEN.cluster, SEVEN.node)
    );
    assert_eq!(
        (identity.data, identity.incarnation),
        (opened.data(), Incarnation(1))
    );
    assert_eq!(store.genesis().unwrap(), genesis());
    // It waits for the leader's log; only the founder begins one.
    assert!(store.is_new().unwrap() && !opened.founds().unwrap());
    opened.keep_log(&genesis()).unwrap();
    drop((store, opened));
    let opened = DataDir::open(dir).unwrap();
    assert!(opened.store().is_some());
    assert!(lies(dir).keeps_log);
}

#[test]
fn no_log_is_made_before_a_join_nor_of_another_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = DataDir::open(folder.path()).unwrap();
    let refused = opened.keep_log(&genesis()).unwrap_err();
    assert!(matches!(refused, Error::NotJoined { .. }), "{refused}");
    opened.joined(SEVEN, opened.incarnation()).unwrap();
    let other = Table::new(ClusterInfo::new(ClusterId(9)), Settings::default());
    let refused = opened.keep_log(&other).unwrap_err();
    assert!(matches!(refused, Error::OtherNode { .. }), "{refused}");
    assert!(!folder.path().join("meta.redb").exists());
}

#[test]
fn crashes_between_the_two_writes_of_a_life_are_put_right_however_often() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    drop(voter(dir));
    let mut life = 1;
    for _ in 0..3 {
        only_in_log(dir, life + 1);
        assert_eq!(lies(dir).incarnation, Incarnation(life));
        let opened = DataDir::open(dir).unwrap();
        // A life that may have been told to nobody is not lived again.
        assert_eq!(opened.incarnation(), Incarnation(life + 2));
        life += 2;
    }
}

#[test]
fn a_crash_after_the_log_was_made_leaves_a_node_with_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    drop(voter(dir));
    let before = Identity {
        keeps_log: false,
        ..lies(dir)
    };
    before.write(dir).unwrap();
    let opened = DataDir::open(dir).unwrap();
    assert!(opened.store().is_some());
    assert!(lies(dir).keeps_log);
    assert_eq!(opened.incarnation(), Incarnation(2));
}

#[test]
fn a_half_written_identity_beside_the_whole_one_is_of_no_account() {
    let folder = tempfile::tempdir().unwrap();
    drop(seven(folder.path()));
    std::fs::write(folder.path().join("identity.new"), "half").unwrap();
    let opened = DataDir::open(folder.path()).unwrap();
    assert_eq!(opened.known(), Some(SEVEN));
}

#[test]
fn a_second_process_on_one_directory_is_refused_until_the_first_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    found(dir);
    let first = DataDir::open(dir).unwrap();
    let refused = [
        DataDir::open(dir).unwrap_err(),
        super::super::init(dir, &super::founding()).unwrap_err(),
        super::super::survey(dir).unwrap_err(),
        super::super::recover(dir).unwrap_err(),
    ];
    for refused in refused {
        assert!(matches!(refused, Error::InUse { .. }), "{refused}");
        let words = refused.to_string();
        assert!(words.contains(&*dir.to_string_lossy()), "{words}");
        assert!(
            words.contains("node.data") && !words.contains('\n'),
            "{words}"
        );
    }
    assert_eq!(lies(dir).incarnation, first.incarnation());
    drop(first);
    DataDir::open(dir).unwrap();
}

#[test]
fn a_restart_of_a_voter_is_refused_by_its_peers_under_its_old_life_only() {
    let folder = tempfile::tempdir().unwrap();
    let old = voter(folder.path()).greeting("b");
    let new = DataDir::open(folder.path()).unwrap().greeting("b");
    assert!(new.member.incarnation > old.member.incarnation);
    assert_ne!(new.boot, old.boot);
    // A node and its own earlier life do not talk.
    let refused = new.check(&old.hello(peer::Class::Control, 1, [0; 32]));
    assert!(
        matches!(refused, Err(peer::LinkError::SecondProcess { .. })),
        "{refused:?}"
    );
    let store = Store::open(&folder.path().join("meta.redb")).unwrap();
    assert_eq!(store.identity().unwrap().incarnation, Incarnation(2));
}

/// Makes every write of an identity fail until [`let_write`].
fn no_write(dir: &std::path::Path) {
    std::fs::create_dir(dir.join("identity.new")).unwrap();
}

fn let_write(dir: &std::path::Path) {
    std::fs::remove_dir(dir.join("identity.new")).unwrap();
}

#[test]
fn a_life_goes_to_the_log_first_and_a_failed_write_lives_none_twice() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let mut opened = voter(dir);
    no_write(dir);
    for _ in 0..3 {
        let refused = opened.raise().unwrap_err();
        assert!(matches!(refused, Error::Io { .. }), "{refused}");
        assert!(refused.to_string().contains("identity"), "{refused}");
        // Nothing was told, and the log is ahead by one, no more.
        assert_eq!(opened.incarnation(), Incarnation(1));
        assert_eq!(lies(dir).incarnation, Incarnation(1));
        let log = opened.store().unwrap().identity().unwrap();
        assert_eq!(log.incarnation, Incarnation(2));
    }
    drop(opened);
    for _ in 0..2 {
        assert!(matches!(DataDir::open(dir), Err(Error::Io { .. })));
    }
    let_write(dir);
    assert_eq!(DataDir::open(dir).unwrap().incarnation(), Incarnation(3));
}

#[test]
fn a_first_join_that_failed_half_way_goes_on_from_there_in_this_life_and_in_others() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let mut opened = seven(dir);
    no_write(dir);
    assert!(matches!(opened.keep_log(&genesis()), Err(Error::Io { .. })));
    assert!(dir.join("meta.redb").exists());
    assert!(opened.raise().is_err());
    let_write(dir);
    opened.raise().unwrap();
    assert!(lies(dir).keeps_log);
    opened.keep_log(&genesis()).unwrap();
    let log = opened.store().unwrap().identity().unwrap();
    assert_eq!(log.incarnation, opened.incarnation());
    drop(opened);
    DataDir::open(dir).unwrap();
}

#[test]
fn an_answer_that_could_not_be_kept_was_not_heard() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let mut opened = DataDir::open(dir).unwrap();
    no_write(dir);
    assert!(opened.joined(SEVEN, Incarnation(1)).is_err());
    assert_eq!(opened.known(), None);
    let_write(dir);
    opened.joined(SEVEN, Incarnation(1)).unwrap();
    assert_eq!(lies(dir).joined, Some(SEVEN));
}
