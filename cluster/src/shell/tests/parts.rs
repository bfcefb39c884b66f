//! What a node is around the shell, reduced to what a test looks at.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use crate::handoff::Load;
use crate::lease::DropReason;
use crate::peer::{Remote, Request};
use crate::store::{Answering, Commit, Durability, StateStore, StoreError, Stored};
use crate::{Ended, Ingress, Member, Move, MoveId, OwnerEpoch, Region, Report, Reports, SlotId};

/// A store of single values: the key is not looked at.
#[derive(Debug, Default)]
pub(super) struct Values {
    slots: Mutex<BTreeMap<SlotId, (OwnerEpoch, Vec<Bytes>)>>,
    /// It has no room for what moves here.
    pub(super) full: AtomicBool,
    /// It cannot be reached by what moves here.
    pub(super) away: AtomicBool,
}

impl Values {
    pub(super) fn put(&self, slot: SlotId, values: Vec<Bytes>) {
        self.slots
            .lock()
            .unwrap()
            .entry(slot)
            .or_insert((OwnerEpoch(0), Vec::new()))
            .1 = values;
    }

    pub(super) fn get(&self, slot: SlotId) -> Vec<Bytes> {
        let slots = self.slots.lock().unwrap();
        slots
            .get(&slot)
            .map(|(_, values)| values.clone())
            .unwrap_or_default()
    }

    fn checked<T>(
        &self,
        slot: SlotId,
        epoch: OwnerEpoch,
        then: impl FnOnce(&mut Vec<Bytes>) -> T,
    ) -> Result<T, StoreError> {
        let mut slots = self.slots.lock().unwrap();
        let (current, values) = slots.entry(slot).or_insert((epoch, Vec::new()));
        if *current > epoch {
            return Err(StoreError::Fenced { current: *current });
        }
        *current = epoch;
        Ok(then(values))
    }

    /// Whether it takes what a move brings.
    fn takes(&self) -> Result<(), StoreError> {
        if self.full.load(Ordering::Acquire) {
            return Err(StoreError::Full { limit: 0 });
        }
        Ok(())
    }
}

impl StateStore for Values {
    fn fence(&self, slot: SlotId, epoch: OwnerEpoch) -> Answering<'_, ()> {
        Box::pin(async move { self.checked(slot, epoch, |_| ()) })
    }

    fn load<'a>(
        &'a self,
        slot: SlotId,
        epoch: OwnerEpoch,
        _: &'a [u8],
    ) -> Answering<'a, Option<Stored>> {
        Box::pin(async move {
            self.checked(slot, epoch, |values| {
                let value = values.first().cloned()?;
                Some(Stored { version: 1, value })
            })
        })
    }

    fn commit(&self, slot: SlotId, epoch: OwnerEpoch, all: Vec<Commit>) -> Answering<'_, Vec<u64>> {
        Box::pin(async move {
            self.checked(slot, epoch, |values| {
                *values = all.iter().map(|commit| commit.value.clone()).collect();
                vec![1; all.len()]
            })
        })
    }

    fn export(&self, slot: SlotId, epoch: OwnerEpoch) -> Answering<'_, Vec<Bytes>> {
        Box::pin(async move { self.checked(slot, epoch, |values| values.clone()) })
    }

    fn stage(&self, _: SlotId, _: MoveId, _: Vec<Bytes>) -> Answering<'_, ()> {
        Box::pin(async move { self.takes() })
    }

    fn unstage(&self, _: SlotId, _: MoveId) {}

    fn import(&self, slot: SlotId, epoch: OwnerEpoch, pieces: Vec<Bytes>) -> Answering<'_, ()> {
        Box::pin(async move {
            if self.away.load(Ordering::Acquire) {
                return Err(StoreError::Unavailable("away".to_owned()));
            }
            self.takes()?;
            self.checked(slot, epoch, |values| *values = pieces)
        })
    }

    fn clear(&self, slot: SlotId) {
        if let Some((_, values)) = self.slots.lock().unwrap().get_mut(&slot) {
            values.clear();
        }
    }

    fn is_empty(&self, slot: SlotId) -> bool {
        self.get(slot).is_empty()
    }

    fn durability(&self) -> Durability {
        Durability::Memory
    }
}

/// What a region was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Open(OwnerEpoch),
    Closed,
    Reopened(OwnerEpoch),
    Lost(DropReason),
    Forgotten,
    Cut,
}

/// Lanes that do nothing: closed at once.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    reports: Mutex<Option<Reports>>,
    told: Mutex<BTreeMap<SlotId, Vec<Told>>>,
    pub(super) suspended: AtomicBool,
    pub(super) suspensions: AtomicUsize,
    /// Slots that are busy keep this many events running.
    pub(super) busy: Mutex<BTreeMap<SlotId, usize>>,
}

impl Lanes {
    pub(super) fn told(&self, slot: SlotId) -> Vec<Told> {
        self.told
            .lock()
            .unwrap()
            .get(&slot)
            .cloned()
            .unwrap_or_default()
    }

    /// A shard is parked, or runs again.
    pub(super) fn parked(&self, slot: SlotId, parked: bool) {
        self.report(Report::Parked { slot, parked });
    }

    /// A worker has ticked.
    pub(super) fn worked(&self, core: usize) {
        self.report(Report::Worked { core });
    }

    /// What still ran in a closed slot is over.
    pub(super) fn finished(&self, slot: SlotId, id: MoveId) {
        self.busy.lock().unwrap().remove(&slot);
        self.report(Report::Idle { slot, id });
    }

    fn note(&self, slot: SlotId, told: Told) {
        self.told
            .lock()
            .unwrap()
            .entry(slot)
            .or_default()
            .push(told);
    }

    fn report(&self, report: Report) {
        if let Some(reports) = &*self.reports.lock().unwrap() {
            let _ = reports.send(report);
        }
    }
}

impl Region for Lanes {
    fn reports(&self, to: Reports) {
        *self.reports.lock().unwrap() = Some(to);
    }

    fn open(&self, slot: SlotId, epoch: OwnerEpoch) {
        self.note(slot, Told::Open(epoch));
    }

    fn suspend(&self) {
        self.suspended.store(true, Ordering::Release);
        self.suspensions.fetch_add(1, Ordering::AcqRel);
    }

    fn resume(&self) {
        self.suspended.store(false, Ordering::Release);
    }

    fn lose(&self, slot: SlotId, _: OwnerEpoch, why: DropReason) {
        self.note(slot, Told::Lost(why));
    }

    fn close(&self, slot: SlotId, to: Move) {
        self.note(slot, Told::Closed);
        let started = self.busy.lock().unwrap().get(&slot).copied().unwrap_or(0);
        self.report(Report::Closed {
            slot,
            id: to.id,
            started,
        });
    }

    fn cut(&self, slot: SlotId) {
        self.note(slot, Told::Cut);
    }

    fn reopen(&self, slot: SlotId, epoch: OwnerEpoch) {
        self.note(slot, Told::Reopened(epoch));
    }

    fn forget(&self, slot: SlotId) {
        self.note(slot, Told::Forgotten);
    }

    /// Every slot that was closed had one stream and one event that was cut.
    fn ended(&self) -> Ended {
        let told = self.told.lock().unwrap();
        let all = told.values().flatten();
        let closed = all.filter(|told| **told == Told::Closed).count() as u64;
        Ended {
            streams: closed,
            cut: closed,
        }
    }

    fn load(&self, slot: SlotId) -> Load {
        Load {
            empty: !self.busy.lock().unwrap().contains_key(&slot),
            longest: Duration::ZERO,
        }
    }
}

/// An ingress that notes what it hears, and answers every request with its own payload.
#[derive(Debug, Default)]
pub(super) struct Front {
    pub(super) died: Mutex<Vec<Member>>,
    pub(super) resumed: Mutex<BTreeMap<SlotId, Vec<Member>>>,
    pub(super) quorum: AtomicBool,
    pub(super) kept: Mutex<Vec<Request>>,
    /// Keeps requests instead of answering them.
    pub(super) keeps: AtomicBool,
}

impl Ingress for Front {
    fn request(&self, _: &Remote, mut request: Request) {
        if self.keeps.load(Ordering::Acquire) {
            if request.start() {
                self.kept.lock().unwrap().push(request);
            }
            return;
        }
        let payload = request.payload().clone();
        request.reply(payload);
    }

    fn load(&self) -> u32 {
        7
    }

    fn table_changed(&self, _: &[SlotId]) {}

    fn resumed(&self, owner: Member, slot: SlotId) {
        self.resumed
            .lock()
            .unwrap()
            .entry(slot)
            .or_default()
            .push(owner);
    }

    fn died(&self, member: Member) {
        self.died.lock().unwrap().push(member);
    }

    fn quorum(&self, in_reach: bool) {
        self.quorum.store(in_reach, Ordering::Release);
    }
}

/// All that a node is around the shell.
#[derive(Debug, Clone, Default)]
pub(super) struct Around {
    pub(super) store: Arc<Values>,
    pub(super) lanes: Arc<Lanes>,
    pub(super) front: Arc<Front>,
}
