//! openraft's own suite for stores, against both of ours.

use openraft::StorageError;
use openraft::testing::{StoreBuilder, Suite};

use super::{genesis, identity};
use crate::raft::Store;
use crate::raft::log_store::LogStore;
use crate::raft::machine::Machine;
use crate::raft::types::{Id, Types};

struct InMemory;
struct InFile;

fn parts(store: &Store) -> (LogStore, Machine) {
    (store.log_store(), store.machine().unwrap())
}

impl StoreBuilder<Types, LogStore, Machine> for InMemory {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError<Id>> {
        let (log, machine) = parts(&Store::memory(identity(1), &genesis()));
        Ok(((), log, machine))
    }
}

impl StoreBuilder<Types, LogStore, Machine, tempfile::TempDir> for InFile {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<Id>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meta.redb");
        let (log, machine) = parts(&Store::create(&path, identity(1), &genesis()).unwrap());
        Ok((folder, log, machine))
    }
}

#[test]
fn the_store_in_memory_passes_the_suite_of_openraft() {
    Suite::test_all(InMemory).unwrap();
}

#[test]
fn the_store_in_a_file_passes_the_suite_of_openraft() {
    Suite::test_all(InFile).unwrap();
}
