//! What every store promises, as a list of checks that each of them passes: for the tests of stores.

use bytes::Bytes;

use super::{Commit, Durability, StateStore, StoreError};
use crate::{MoveId, OwnerEpoch, SlotId};

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store does not keep its promise: {promise}; it answered {answered}")]
pub struct Broken {
    /// Which promise.
    pub promise: &'static str,
    /// What it answered instead.
    pub answered: String,
}

fn expect<T: std::fmt::Debug + PartialEq>(
    promise: &'static str,
    answered: &T,
    expected: &T,
) -> Result<(), Broken> {
    if answered == expected {
        return Ok(());
    }
    Err(Broken {
        promise,
        answered: format!("{answered:?}, not {expected:?}"),
    })
}

fn slot(index: u16) -> Result<SlotId, Broken> {
    SlotId::new(index).ok_or_else(|| Broken {
        promise: "a slot of the suite exists",
        answered: index.to_string(),
    })
}

fn commit(key: &'static str, expect_version: u64, value: &'static str) -> Commit {
    Commit {
        key: Bytes::from_static(key.as_bytes()),
        expect_version,
        value: Bytes::from_static(value.as_bytes()),
    }
}

/// What a key holds: version and text.
async fn held(
    store: &dyn StateStore,
    slot: SlotId,
    epoch: u64,
    key: &str,
) -> Result<Option<(u64, Bytes)>, StoreError> {
    let stored = store.load(slot, OwnerEpoch(epoch), key.as_bytes()).await?;
    Ok(stored.map(|stored| (stored.version, stored.value)))
}

fn text(version: u64, text: &'static str) -> Result<Option<(u64, Bytes)>, StoreError> {
    Ok(Some((version, Bytes::from_static(text.as_bytes()))))
}

/// Runs every check on a store in which nothing is yet; it uses slots 1 to 9 and 4095.
///
/// # Errors
/// The first promise that is not kept.
pub async fn run(store: &dyn StateStore) -> Result<(), Broken> {
    writes(store).await?;
    fences(store).await?;
    moves(store).await?;
    clears(store).await
}

async fn writes(store: &dyn StateStore) -> Result<(), Broken> {
    let (slot, other, epoch) = (slot(1)?, slot(4095)?, OwnerEpoch(1));
    let fenced = store.fence(slot, epoch).await;
    expect("a first fence is accepted", &fenced, &Ok(()))?;
    let nothing = held(store, slot, 1, "a").await;
    expect(
        "a key that was not written has no value",
        &nothing,
        &Ok(None),
    )?;
    let both = vec![commit("a", 0, "1"), commit("b", 0, "2")];
    let versions = store.commit(slot, epoch, both).await;
    expect("first writes have version 1", &versions, &Ok(vec![1, 1]))?;
    let versions = store.commit(slot, epoch, vec![commit("a", 1, "3")]).await;
    expect("a version rises by one", &versions, &Ok(vec![2]))?;
    let twice = vec![commit("c", 0, "4"), commit("c", 1, "5")];
    let versions = store.commit(slot, epoch, twice).await;
    expect(
        "writes of one key follow each other",
        &versions,
        &Ok(vec![1, 2]),
    )?;
    let conflict = vec![commit("b", 1, "lost"), commit("a", 1, "lost")];
    let versions = store.commit(slot, epoch, conflict).await;
    let refused = Err(StoreError::Conflict { version: 2 });
    expect("another version is a conflict", &versions, &refused)?;
    let kept = held(store, slot, 1, "b").await;
    expect("a refused write changes nothing", &kept, &text(1, "2"))?;
    let kept = held(store, slot, 1, "a").await;
    expect("the last write is read back", &kept, &text(2, "3"))?;
    let elsewhere = held(store, other, 1, "a").await;
    expect("slots share no keys", &elsewhere, &Ok(None))
}

async fn fences(store: &dyn StateStore) -> Result<(), Broken> {
    let slot = slot(2)?;
    let (old, new) = (OwnerEpoch(3), OwnerEpoch(5));
    let fenced = || StoreError::Fenced { current: new };
    let mut accepted = store.fence(slot, old).await;
    if accepted.is_ok() {
        let written = store.commit(slot, old, vec![commit("a", 0, "old")]).await;
        accepted = written.map(drop);
    }
    if accepted.is_ok() {
        accepted = store.fence(slot, new).await;
    }
    expect("a higher fence is accepted", &accepted, &Ok(()))?;
    let again = store.fence(slot, new).await;
    expect("the same fence is accepted again", &again, &Ok(()))?;
    let kept = held(store, slot, 5, "a").await;
    let (promise, expected) = match store.durability() {
        Durability::Memory => ("a new epoch starts empty in memory", Ok(None)),
        Durability::Disk | Durability::Remote => (
            "values of a durable store outlive their epoch",
            text(1, "old"),
        ),
    };
    expect(promise, &kept, &expected)?;
    let lower = store.fence(slot, old).await;
    expect("a lower fence is refused", &lower, &Err(fenced()))?;
    let late = store.commit(slot, old, vec![commit("a", 1, "late")]).await;
    expect("an older owner writes nothing", &late, &Err(fenced()))?;
    let late = held(store, slot, 3, "a").await;
    expect("an older owner reads nothing", &late, &Err(fenced()))?;
    let late = store.export(slot, old).await.map(drop);
    expect("an older owner exports nothing", &late, &Err(fenced()))?;
    let late = store.import(slot, old, Vec::new()).await;
    expect("an older owner imports nothing", &late, &Err(fenced()))?;
    let unchanged = held(store, slot, 5, "a").await;
    expect(
        "what was refused has changed nothing",
        &unchanged,
        &expected,
    )
}

async fn moves(store: &dyn StateStore) -> Result<(), Broken> {
    let (from, to) = (slot(3)?, slot(4)?);
    let (old, new) = (OwnerEpoch(1), OwnerEpoch(2));
    let large: Vec<_> = (0..40_u8)
        .map(|key| Commit {
            key: vec![key].into(),
            expect_version: 0,
            value: vec![key; 100 * 1024].into(),
        })
        .collect();
    let written = store.commit(from, old, large).await.map(|all| all.len());
    expect("many values are written at once", &written, &Ok(40))?;
    let again = store.commit(from, old, vec![commit("x", 0, "1"), commit("x", 1, "2")]);
    expect("values are written", &again.await.map(drop), &Ok(()))?;
    let failed = |error: StoreError| Broken {
        promise: "a slot is exported",
        answered: error.to_string(),
    };
    let pieces = store.export(from, old).await.map_err(failed)?;
    let small = pieces.iter().all(|piece| piece.len() <= 1024 * 1024);
    expect(
        "no piece is larger than 1 MiB",
        &(small, pieces.len() > 3),
        &(true, true),
    )?;
    let kept = held(store, from, 1, "x").await;
    expect("an export takes nothing away", &kept, &text(2, "2"))?;
    let stale = store.commit(to, old, vec![commit("stale", 0, "1")]).await;
    expect("values are written", &stale, &Ok(vec![1]))?;
    let cut = vec![Bytes::from_static(b"\x01garbage of no use")];
    let staged = store.stage(to, MoveId(6), cut).await;
    let is_corrupt = matches!(staged, Err(StoreError::Corrupt(_)));
    expect("garbage is not staged", &is_corrupt, &true)?;
    let mut arrived = store.stage(to, MoveId(7), pieces.clone()).await;
    store.unstage(to, MoveId(6));
    let kept = held(store, to, 1, "stale").await;
    expect("what is staged changes no value", &kept, &text(1, "1"))?;
    if arrived.is_ok() {
        arrived = store.fence(to, new).await;
    }
    if arrived.is_ok() {
        arrived = store.import(to, new, pieces.clone()).await;
    }
    expect("what was exported is imported", &arrived, &Ok(()))?;
    let moved = held(store, to, 2, "x").await;
    expect("a move keeps values and versions", &moved, &text(2, "2"))?;
    let stale = held(store, to, 2, "stale").await;
    expect("an import replaces what there was", &stale, &Ok(None))?;
    let second = store.export(to, new).await;
    expect("what was imported is exported alike", &second, &Ok(pieces))?;
    let garbage = Bytes::from_static(b"\x01garbage of no use");
    let corrupt = store.import(to, new, vec![garbage]).await;
    let is_corrupt = matches!(corrupt, Err(StoreError::Corrupt(_)));
    expect("garbage is corrupt", &is_corrupt, &true)?;
    expect(
        "after a failed import a slot is empty",
        &store.is_empty(to),
        &true,
    )
}

async fn clears(store: &dyn StateStore) -> Result<(), Broken> {
    let (slot, epoch) = (slot(5)?, OwnerEpoch(1));
    expect("a slot starts empty", &store.is_empty(slot), &true)?;
    let written = store.commit(slot, epoch, vec![commit("a", 0, "1")]).await;
    expect("values are written", &written, &Ok(vec![1]))?;
    expect(
        "a slot with a value is not empty",
        &store.is_empty(slot),
        &false,
    )?;
    store.clear(slot);
    let gone = store.durability() == Durability::Memory;
    expect("only memory is cleared", &store.is_empty(slot), &gone)?;
    let nothing = store.export(slot, epoch).await;
    if gone {
        expect("an empty slot exports no piece", &nothing, &Ok(Vec::new()))?;
        let lower = store
            .commit(slot, OwnerEpoch(1), vec![commit("a", 0, "1")])
            .await;
        expect("a cleared slot begins anew", &lower, &Ok(vec![1]))?;
    }
    Ok(())
}
