//! Every reason to refuse a directory: in one line that names the file and the cure, and without a
//! change of anything.

use std::path::Path;

use super::super::{DataDir, Error, Identity, init, recover, survey};
use super::{SEVEN, found, founding, genesis, lies, only_in_log, seven, voter};
use crate::raft::{self, Store};
use crate::{ClusterId, DataId, Incarnation, NodeId};

/// Refuses to start, to found, to survey and to recover; changes nothing.
fn refuses(dir: &Path, kind: impl Fn(&Error) -> bool, words: &[&str]) {
    let state = || {
        (
            std::fs::read(dir.join("identity")).ok(),
            dir.join("meta.redb").exists(),
        )
    };
    let before = state();
    let refusals = [
        DataDir::open(dir).map(drop),
        init(dir, &founding()).map(drop),
        survey(dir).map(drop),
        recover(dir).map(drop),
    ];
    for refused in refusals {
        let refused = refused.unwrap_err();
        assert!(kind(&refused), "{refused:?}");
        let line = refused.to_string();
        assert!(line.starts_with(&*dir.to_string_lossy()), "{line}");
        assert!(!line.contains('\n'), "{line}");
        for word in words {
            assert!(line.contains(word), "{word}: {line}");
        }
    }
    assert_eq!(state(), before);
}

/// Puts a log of this owner there.
fn put_log(dir: &Path, owner: raft::Identity) {
    let path = dir.join("meta.redb");
    if path.exists() {
        std::fs::remove_file(&path).unwrap();
    }
    Store::create(&path, owner, &genesis()).unwrap();
}

fn owner(dir: &Path) -> raft::Identity {
    let identity = lies(dir);
    raft::Identity {
        cluster: SEVEN.cluster,
        node: SEVEN.node,
        data: identity.data,
        incarnation: identity.incarnation,
    }
}

#[test]
fn a_voter_without_its_log_is_refused_since_it_could_vote_twice() {
    let folder = tempfile::tempdir().unwrap();
    drop(voter(folder.path()));
    std::fs::remove_file(folder.path().join("meta.redb")).unwrap();
    refuses(
        folder.path(),
        |error| {
            matches!(
                error,
                Error::LogMissing {
                    node: NodeId(7),
                    ..
                }
            )
        },
        &["meta.redb", "vote twice", "empty data directory"],
    );
}

#[test]
fn a_log_without_an_identity_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    found(folder.path());
    std::fs::remove_file(folder.path().join("identity")).unwrap();
    refuses(
        folder.path(),
        |error| matches!(error, Error::IdentityMissing { .. }),
        &["identity is missing", "put it back", "empty data directory"],
    );
}

#[test]
fn a_log_older_than_the_identity_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, log) = (folder.path(), folder.path().join("meta.redb"));
    drop(voter(dir));
    let backup = std::fs::read(&log).unwrap();
    drop(DataDir::open(dir).unwrap());
    std::fs::write(&log, backup).unwrap();
    refuses(
        dir,
        |error| {
            matches!(
                error,
                Error::LogOlder {
                    what: "incarnation",
                    log: 1,
                    identity: 2,
                    ..
                }
            )
        },
        &["meta.redb", "older", "vote twice", "empty data directory"],
    );
}

#[test]
fn an_identity_older_than_a_crash_explains_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, identity) = (folder.path(), folder.path().join("identity"));
    drop(voter(dir));
    let backup = std::fs::read(&identity).unwrap();
    for _ in 0..2 {
        drop(DataDir::open(dir).unwrap());
    }
    std::fs::write(&identity, backup).unwrap();
    refuses(
        dir,
        |error| {
            matches!(
                error,
                Error::IdentityOlder {
                    what: "incarnation",
                    log: 3,
                    identity: 1,
                    ..
                }
            )
        },
        &["identity", "older", "put back the one of meta.redb"],
    );
}

#[test]
fn an_identity_from_before_the_join_beside_a_log_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    drop(DataDir::open(dir).unwrap());
    let backup = std::fs::read(dir.join("identity")).unwrap();
    drop(voter(dir));
    std::fs::write(dir.join("identity"), backup).unwrap();
    refuses(
        dir,
        |error| matches!(error, Error::IdentityOlder { .. }),
        &["older identity"],
    );
}

#[test]
fn the_log_of_another_directory_cluster_or_node_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    drop(voter(dir));
    let ours = owner(dir);
    let foreign = [
        (
            raft::Identity {
                data: DataId(5),
                ..ours
            },
            "data directory",
            "00000005",
        ),
        (
            raft::Identity {
                cluster: ClusterId(6),
                ..ours
            },
            "cluster",
            "00000006",
        ),
        (
            raft::Identity {
                node: NodeId(8),
                ..ours
            },
            "node",
            "node 8",
        ),
    ];
    for (theirs, differs, named) in foreign {
        put_log(dir, theirs);
        refuses(
            dir,
            |error| matches!(error, Error::Foreign { what, .. } if *what == differs),
            &[
                differs,
                named,
                "belongs to another directory",
                "empty data directory",
            ],
        );
    }
    // The identity of another directory beside our log.
    put_log(dir, ours);
    drop(DataDir::open(dir).unwrap());
    Identity {
        data: DataId(5),
        ..lies(dir)
    }
    .write(dir)
    .unwrap();
    refuses(
        dir,
        |error| matches!(error, Error::Foreign { .. }),
        &["data directory"],
    );
}

#[test]
fn a_log_that_appears_beside_a_node_that_made_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    drop(seven(dir));
    drop(DataDir::open(dir).unwrap());
    let old = raft::Identity {
        incarnation: Incarnation(1),
        ..owner(dir)
    };
    put_log(dir, old);
    refuses(
        dir,
        |error| matches!(error, Error::LogOlder { .. }),
        &["meta.redb"],
    );
    only_in_log(dir, 9);
    refuses(
        dir,
        |error| matches!(error, Error::IdentityOlder { .. }),
        &["identity"],
    );
}

#[test]
fn an_identity_of_another_format_names_it() {
    let folder = tempfile::tempdir().unwrap();
    drop(seven(folder.path()));
    let path = folder.path().join("identity");
    let mut bytes = std::fs::read(&path).unwrap();
    let format = b"centripeta node identity\n".len();
    assert_eq!(bytes[format], 1);
    bytes[format] = 2;
    std::fs::write(&path, bytes).unwrap();
    refuses(
        folder.path(),
        |error| matches!(error, Error::Format { found: 2, .. }),
        &["identity", "format 2", "start the build that wrote it"],
    );
}

#[test]
fn anything_else_under_the_name_of_an_identity_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity");
    let long = [&b"centripeta node identity\n\x01"[..], &[7; 100_000]].concat();
    for bytes in [&b""[..], b"\n", b"node = 1\n", &[0; 64], &long] {
        std::fs::write(&path, bytes).unwrap();
        refuses(
            folder.path(),
            |error| matches!(error, Error::NoIdentityFile { .. } | Error::Damaged { .. }),
            &["identity", "damaged", "empty data directory"],
        );
    }
}

#[test]
fn a_path_that_is_no_directory_is_refused_with_the_words_of_the_system() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    for refused in [DataDir::open(&file).map(drop), survey(&file).map(drop)] {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, Error::Io { .. }), "{refused}");
        assert!(
            refused.to_string().starts_with(&*file.to_string_lossy()),
            "{refused}"
        );
    }
    // What is only looked at is not made.
    let nowhere = folder.path().join("nowhere");
    for refused in [survey(&nowhere).map(drop), recover(&nowhere).map(drop)] {
        assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
        assert!(!nowhere.exists());
    }
}
