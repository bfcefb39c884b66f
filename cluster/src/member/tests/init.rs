//! Founding.

use std::time::Duration;

use super::super::{DataDir, Error, Founding, Identity, InitOutcome, init};
use super::{found, founding, lies, seven};
use crate::raft::{FOUNDER, Store};
use crate::{BootId, Incarnation, NodeState, Roles};

#[test]
fn a_founded_directory_starts_as_node_1_which_founds_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("not/yet/there");
    let asked = Founding {
        voters: 5,
        lease_length: Duration::from_secs(2),
        drift_margin_permille: 120,
        ..founding()
    };
    let InitOutcome::Founded(info) = init(&dir, &asked).unwrap() else {
        panic!("nothing was there")
    };
    assert_eq!(info.lease_length, asked.lease_length);
    assert_eq!(info.drift_margin_permille, 120);
    assert_ne!(info.id.0, 0);
    let opened = DataDir::open(&dir).unwrap();
    let known = opened.known().unwrap();
    assert_eq!((known.cluster, known.node), (info.id, FOUNDER));
    assert_eq!(opened.incarnation(), Incarnation(1));
    assert!(opened.founds().unwrap());
    let table = opened.store().unwrap().genesis().unwrap();
    assert_eq!(*table.cluster(), info);
    assert_eq!(table.settings().voters, 5);
    let node = table.node(FOUNDER).unwrap();
    assert_eq!((node.name.as_str(), node.data), ("a", opened.data()));
    assert_eq!(
        (node.state, node.incarnation),
        (NodeState::Dead, Incarnation(0))
    );
    assert_ne!(opened.boot(), BootId(0));
}

#[test]
fn founding_again_says_so_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let info = found(dir);
    drop(DataDir::open(dir).unwrap());
    let before = std::fs::read(dir.join("identity")).unwrap();
    let other = Founding {
        voters: 1,
        ..founding()
    };
    for asked in [founding(), other] {
        let InitOutcome::Already(joined) = init(dir, &asked).unwrap() else {
            panic!("a second cluster")
        };
        assert_eq!((joined.cluster, joined.node), (info.id, FOUNDER));
    }
    assert_eq!(std::fs::read(dir.join("identity")).unwrap(), before);
    assert!(DataDir::open(dir).unwrap().founds().unwrap());
}

#[test]
fn a_node_that_joined_a_cluster_founds_none() {
    let folder = tempfile::tempdir().unwrap();
    drop(seven(folder.path()));
    let outcome = init(folder.path(), &founding()).unwrap();
    assert_eq!(outcome, InitOutcome::Already(super::SEVEN));
    assert!(!folder.path().join("meta.redb").exists());
}

#[test]
fn a_founding_cut_short_after_the_log_is_finished_as_the_same_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let info = found(dir);
    let unjoined = Identity {
        joined: None,
        keeps_log: false,
        ..lies(dir)
    };
    unjoined.write(dir).unwrap();
    let refused = DataDir::open(dir).unwrap_err();
    assert!(matches!(refused, Error::HalfFounded { .. }), "{refused}");
    assert!(refused.to_string().contains("`cluster init`"), "{refused}");
    let other = Founding {
        name: "b".to_owned(),
        voters: 1,
        ..founding()
    };
    assert_eq!(
        init(dir, &other).unwrap(),
        InitOutcome::Founded(info.clone())
    );
    let opened = DataDir::open(dir).unwrap();
    assert_eq!(opened.known().unwrap().cluster, info.id);
    // What the first call was given holds.
    let table = opened.store().unwrap().genesis().unwrap();
    assert_eq!(table.settings().voters, 3);
    assert_eq!(table.node(FOUNDER).unwrap().name, "a");
}

#[test]
fn a_founding_that_fails_at_its_last_write_has_founded_one_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    found(dir);
    let cluster = lies(dir).joined;
    let unjoined = Identity {
        joined: None,
        keeps_log: false,
        ..lies(dir)
    };
    unjoined.write(dir).unwrap();
    std::fs::create_dir(dir.join("identity.new")).unwrap();
    for _ in 0..2 {
        let refused = init(dir, &founding()).unwrap_err();
        assert!(matches!(refused, Error::Io { .. }), "{refused}");
    }
    std::fs::remove_dir(dir.join("identity.new")).unwrap();
    found(dir);
    assert_eq!(lies(dir).joined, cluster);
}

#[test]
fn a_founding_cut_short_before_the_log_begins_again() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    Identity::draw().unwrap().write(dir).unwrap();
    std::fs::write(dir.join("identity.new"), "half").unwrap();
    std::fs::write(dir.join("meta.new"), "half").unwrap();
    let info = found(dir);
    let store = Store::open(&dir.join("meta.redb")).unwrap();
    assert_eq!(store.identity().unwrap().cluster, info.id);
    assert_eq!(store.identity().unwrap().data, lies(dir).data);
    assert!(!dir.join("identity.new").exists());
}

#[test]
fn a_directory_that_may_be_registered_elsewhere_founds_under_a_new_data_id() {
    let folder = tempfile::tempdir().unwrap();
    let asked_elsewhere = DataDir::open(folder.path()).unwrap().data();
    found(folder.path());
    let opened = DataDir::open(folder.path()).unwrap();
    assert_ne!(opened.data(), asked_elsewhere);
    assert_eq!(opened.known().unwrap().node, FOUNDER);
}

#[test]
fn settings_out_of_range_are_refused_with_key_value_and_rule_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let no_voter = Roles {
        voter: false,
        ..founding().roles
    };
    let refused = [
        (
            Founding {
                voters: 2,
                ..founding()
            },
            "cluster.voters = 2: must be 1, 3 or 5",
        ),
        (
            Founding {
                lease_length: Duration::ZERO,
                ..founding()
            },
            "cluster.lease.length = 0ns: must be more than nothing",
        ),
        (
            Founding {
                drift_margin_permille: 89,
                ..founding()
            },
            "cluster.lease.drift_margin = 0.089: must be 0.09 to 1",
        ),
        (
            Founding {
                name: String::new(),
                ..founding()
            },
            "node.name = \"\": must be set",
        ),
        (
            Founding {
                roles: no_voter,
                ..founding()
            },
            "node.roles = without voter: who founds a cluster votes in it: add \"voter\"",
        ),
    ];
    for (asked, words) in refused {
        assert_eq!(init(&dir, &asked).unwrap_err().to_string(), words);
        assert!(!dir.exists());
    }
}
