#![allow(clippy::unwrap_used)]
//! Data directories as starts, crashes, backups and copies leave them.

mod agree;
mod bytes;
mod copies;
mod init;
mod lives;
mod recover;
mod refusals;

use std::path::Path;

use super::{DataDir, Founding, Identity, InitOutcome, Joined};
use crate::raft::{self, Store};
use crate::testing::{empty_table, registration};
use crate::{ClusterId, ClusterInfo, Incarnation, NodeId, Settings, Table};

pub(super) fn founding() -> Founding {
    Founding::new("a", vec!["a:7946".to_owned()])
}

/// Founds a cluster here.
pub(super) fn found(dir: &Path) -> ClusterInfo {
    match super::init(dir, &founding()).unwrap() {
        InitOutcome::Founded(info) => info,
        InitOutcome::Already(joined) => panic!("{joined:?}"),
    }
}

/// Node 7 of the cluster of [`genesis`].
pub(super) const SEVEN: Joined = Joined {
    cluster: ClusterId(0xc1),
    recovery: 0,
    node: NodeId(7),
};

/// The table that the log of the cluster of node 7 began with.
pub(super) fn genesis() -> Table {
    let info = empty_table().cluster().clone();
    raft::genesis(info, Settings::default(), &registration("a", 1, 0))
}

/// A life that has joined as node 7.
pub(super) fn seven(dir: &Path) -> DataDir {
    let mut opened = DataDir::open(dir).unwrap();
    opened.joined(SEVEN, opened.incarnation()).unwrap();
    opened
}

/// The same with a log.
pub(super) fn voter(dir: &Path) -> DataDir {
    let mut opened = seven(dir);
    opened.keep_log(&genesis()).unwrap();
    opened
}

/// Copies what a directory holds, into one that is made for it.
pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in ["identity", "meta.redb", "LOCK"] {
        if from.join(file).exists() {
            std::fs::copy(from.join(file), to.join(file)).unwrap();
        }
    }
}

/// What the identity says, as it lies there.
pub(super) fn lies(dir: &Path) -> Identity {
    Identity::read(dir).unwrap().unwrap()
}

/// Writes a life into `meta.redb` only, as a crash before the second write leaves it.
pub(super) fn only_in_log(dir: &Path, incarnation: u64) {
    let store = Store::open(&dir.join("meta.redb")).unwrap();
    store.set_incarnation(Incarnation(incarnation)).unwrap();
}
