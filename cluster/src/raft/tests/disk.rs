//! The file: restarts, torn writes, flipped bits, and who may make one.

use std::path::Path;

use super::net::{Net, join};
use super::{genesis, identity, until};
use crate::raft::records::{Change, Flush, Key};
use crate::raft::{FOUNDER, Raft, Store, StoreError, Timing};
use crate::testing::Chance;
use crate::{Command, Incarnation, Table};

/// A founded cluster of one with a few nodes in its table, stopped; its file and its table.
async fn written(path: &Path, timing: Timing) -> (Table, u64) {
    let store = Store::create(path, identity(1), &genesis()).unwrap();
    let raft = Raft::start(&store, timing, Net::new().end(FOUNDER))
        .await
        .unwrap();
    raft.found(Vec::new()).await.unwrap();
    until("it leads", &raft, |status| status.leads).await;
    for data in 1..6 {
        join(&raft, &format!("n{data}"), data).await;
    }
    let table = (*raft.table().table()).clone();
    let term = raft.status().borrow().term;
    raft.shutdown().await.unwrap();
    (table, term)
}

#[tokio::test]
async fn a_restart_keeps_vote_log_table_and_identity() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.redb");
    let (table, term) = written(&path, Timing::default()).await;
    let store = reopened(&path).await;
    assert_eq!(store.identity().unwrap(), identity(1));
    assert_eq!(store.genesis().unwrap(), genesis());
    let raft = Raft::start(&store, Timing::default(), Net::new().end(FOUNDER))
        .await
        .unwrap();
    let status = until("it leads", &raft, |status| status.leads).await;
    assert!(status.term >= term);
    raft.propose(Command::Barrier { nonce: 1 }).await.unwrap();
    assert_eq!(*raft.table().table(), table);
    raft.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_restart_from_a_snapshot_keeps_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.redb");
    let timing = Timing {
        snapshot_every: 4,
        keep: 1,
        ..Timing::default()
    };
    let (table, _) = written(&path, timing).await;
    let store = reopened(&path).await;
    assert!(store.records.get(Key::Snapshot).unwrap().is_some());
    assert!(store.records.get(Key::Purged).unwrap().is_some());
    let raft = Raft::start(&store, timing, Net::new().end(FOUNDER))
        .await
        .unwrap();
    until("it leads", &raft, |status| status.leads).await;
    raft.propose(Command::Barrier { nonce: 1 }).await.unwrap();
    assert_eq!(*raft.table().table(), table);
    raft.shutdown().await.unwrap();
}

/// Opens a file again once the tasks of its last user have let go of it.
async fn reopened(path: &Path) -> Store {
    let opened = async {
        loop {
            match Store::open(path) {
                Err(StoreError::Locked { .. }) => tokio::task::yield_now().await,
                opened => return opened.unwrap(),
            }
        }
    };
    let limit = std::time::Duration::from_secs(10);
    tokio::time::timeout(limit, opened)
        .await
        .expect("it is let go")
}

#[tokio::test]
async fn a_file_is_whole_as_it_lies_there_after_any_acknowledged_write() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("meta.redb"), folder.path().join("copy"));
    let store = Store::create(&path, identity(1), &genesis()).unwrap();
    let raft = Raft::start(&store, Timing::default(), Net::new().end(FOUNDER))
        .await
        .unwrap();
    raft.found(Vec::new()).await.unwrap();
    until("it leads", &raft, |status| status.leads).await;
    let member = join(&raft, "n1", 1).await;
    // As kill -9 leaves it: nothing closed, nothing flushed but what was acknowledged.
    std::fs::copy(&path, &copy).unwrap();
    let table = raft.table().table();
    raft.shutdown().await.unwrap();
    let store = Store::open(&copy).unwrap();
    let raft = Raft::start(&store, Timing::default(), Net::new().end(FOUNDER))
        .await
        .unwrap();
    until("it leads", &raft, |status| status.leads).await;
    raft.propose(Command::Barrier { nonce: 1 }).await.unwrap();
    assert!(raft.table().table().is_up(member));
    assert_eq!(*raft.table().table(), *table);
}

#[tokio::test]
async fn flipped_bits_are_refused_in_words_or_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.redb");
    written(&path, Timing::default()).await;
    let store = reopened(&path).await;
    let (log, vote) = (
        store.records.entries(0, u64::MAX),
        store.records.get(Key::Vote),
    );
    let (log, vote) = (log.unwrap(), vote.unwrap());
    assert!(!log.is_empty() && vote.is_some());
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    let damaged = folder.path().join("damaged");
    let mut chance = Chance::new(3);
    let mut refused = 0;
    for _ in 0..60 {
        let mut bytes = whole.clone();
        for _ in 0..8 {
            let at = usize::try_from(chance.below(bytes.len() as u64)).unwrap();
            bytes[at] ^= 1 << chance.below(8);
        }
        std::fs::write(&damaged, &bytes).unwrap();
        match Store::open(&damaged) {
            Err(error) => {
                refused += 1;
                let words = error.to_string();
                assert!(
                    words.contains("is damaged") || words.contains("record"),
                    "{words}"
                );
            }
            // The bits were in no page that is used: all is as it was.
            Ok(store) => {
                assert_eq!(store.identity().unwrap(), identity(1));
                assert_eq!(store.records.entries(0, u64::MAX).unwrap(), log);
                assert_eq!(store.records.get(Key::Vote).unwrap(), vote);
            }
        }
    }
    assert!(refused > 0, "no damage was noticed");
}

#[tokio::test]
async fn a_torn_write_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.redb");
    written(&path, Timing::default()).await;
    drop(reopened(&path).await);
    let whole = std::fs::read(&path).unwrap();
    let torn = folder.path().join("torn");
    for length in [0, 1, 512, 4096, whole.len() / 2, whole.len() - 4096] {
        std::fs::write(&torn, &whole[..length]).unwrap();
        let refused = Store::open(&torn);
        assert!(
            matches!(refused, Err(StoreError::Corrupt { .. })),
            "{length} bytes: {refused:?}"
        );
        let words = refused.unwrap_err().to_string();
        assert!(words.contains("must not vote"), "{words}");
    }
}

#[test]
fn a_record_that_changed_under_an_intact_page_is_refused_by_its_checksum() {
    let store = Store::memory(identity(1), &genesis());
    for key in [Key::Vote, Key::Purged, Key::Committed] {
        let put = Change::Put(key, vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        store.records.write(vec![put], Flush::Now).unwrap();
        let refused = store.log_store().check();
        let Err(StoreError::Record { record, .. }) = refused else {
            panic!("{key:?}: {refused:?}")
        };
        assert_eq!(record, key.name());
        let whole = crate::codec::encode_record(&None::<crate::raft::types::LogId>);
        let vote = crate::codec::encode_record(&crate::raft::types::Vote::default());
        let bytes = if key == Key::Vote { vote } else { whole };
        let put = Change::Put(key, bytes);
        store.records.write(vec![put], Flush::Now).unwrap();
    }
    store.log_store().check().unwrap();
}

#[test]
fn an_entry_at_anothers_place_and_a_hole_in_the_log_are_refused() {
    let store = Store::memory(identity(1), &genesis());
    let entry = |index| {
        let entry: crate::raft::types::Entry =
            openraft::testing::blank_ent(1, crate::raft::types::Id(1), index);
        crate::codec::encode_record(&entry)
    };
    let set = |index, bytes| {
        let change = Change::Entry(index, bytes);
        store.records.write(vec![change], Flush::Now).unwrap();
    };
    set(1, entry(1));
    set(2, entry(2));
    store.log_store().check().unwrap();
    set(4, entry(4));
    let hole = store.log_store().check();
    assert!(
        matches!(hole, Err(StoreError::Hole { expected: 3 })),
        "{hole:?}"
    );
    set(3, entry(2));
    let misplaced = store.log_store().check();
    assert!(
        matches!(misplaced, Err(StoreError::Hole { expected: 3 })),
        "{misplaced:?}"
    );
}

#[test]
fn only_create_makes_a_file_and_never_in_anothers_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.redb");
    assert!(matches!(
        Store::open(&path),
        Err(StoreError::Missing { .. })
    ));
    assert!(!path.exists());
    let store = Store::create(&path, identity(1), &genesis()).unwrap();
    let again = Store::create(&path, identity(1), &genesis());
    assert!(matches!(again, Err(StoreError::Exists { .. })));
    assert!(matches!(Store::open(&path), Err(StoreError::Locked { .. })));
    store.set_incarnation(Incarnation(7)).unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.identity().unwrap().incarnation, Incarnation(7));
}

#[test]
fn a_power_loss_amid_a_write_leaves_what_was_before_it_or_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let (path, torn) = (folder.path().join("meta.redb"), folder.path().join("torn"));
    let store = Store::create(&path, identity(1), &genesis()).unwrap();
    let mut chance = Chance::new(11);
    let (mut before_it, mut after_it) = (0, 0);
    for index in 1..30 {
        let before = std::fs::read(&path).unwrap();
        let entry: crate::raft::types::Entry =
            openraft::testing::blank_ent(1, crate::raft::types::Id(1), index);
        let change = Change::Entry(index, crate::codec::encode_record(&entry));
        store.records.write(vec![change], Flush::Now).unwrap();
        let mut mixed = std::fs::read(&path).unwrap();
        // Of the pages that were written, some have not reached the disk.
        for (old, new) in before.chunks(4096).zip(mixed.chunks_mut(4096)) {
            if chance.permille(100) && old.len() == new.len() {
                new.copy_from_slice(old);
            }
        }
        std::fs::write(&torn, &mixed).unwrap();
        let found = Store::open(&torn).unwrap();
        let last = found.records.last().unwrap().map_or(0, |(index, _)| index);
        before_it += u32::from(last == index - 1);
        after_it += u32::from(last == index);
        assert!(last == index || last == index - 1, "{last} of {index}");
    }
    assert!(before_it > 0 && after_it > 0, "{before_it} {after_it}");
}
