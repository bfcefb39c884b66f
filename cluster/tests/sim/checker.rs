//! What happened in a run, line by line, and what must never happen in one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use centripeta_cluster::{Member, OwnerEpoch, SLOT_COUNT, SlotId, Standing, Table};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Fault(String),
    Began(u128),
    Left(bool),
    Open(SlotId, OwnerEpoch),
    Shut(SlotId),
    Lost(SlotId, OwnerEpoch),
    Suspended,
    Resumed,
    Quorum(bool),
    Table(u64, u64),
    /// An event was written to the shared store, under this epoch.
    Wrote(SlotId, OwnerEpoch, u64),
    /// The values of a slot say that so much was counted, under this epoch.
    Counted(SlotId, OwnerEpoch, u64),
    Fenced(SlotId, OwnerEpoch, u64),
    Answered(u64),
    Failed(u64),
}

/// What became of one event, where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// It was sent to that owner; `None`: it is run here.
    Sent(Option<Member>),
    /// It started, as sent by that life.
    Started {
        from: Member,
        slot: SlotId,
        epoch: OwnerEpoch,
    },
    /// It took effect.
    Wrote(OwnerEpoch),
    /// Whoever sent it knows that it was done, or that it may not have been.
    Ended(bool),
}

/// A step of an event: when, on which node, in which life of it.
type History = Vec<(u64, usize, Member, Step)>;

/// When, where, what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// In simulated milliseconds.
    pub(crate) at: u64,
    pub(crate) node: usize,
    pub(crate) what: What,
}

/// What the checker knows of one node.
#[derive(Debug, Default)]
struct Seen {
    standing: Option<Arc<Standing>>,
    table: Option<Arc<Table>>,
}

#[derive(Debug, Default)]
struct Book {
    at: u64,
    lines: Vec<Line>,
    broken: Option<String>,
    seen: Vec<Seen>,
    /// Which nodes have a slot open, a bit per node, and where more than one has.
    open: Vec<u64>,
    contested: BTreeSet<u16>,
    /// The newest epoch of a slot that opened anywhere.
    opened: BTreeMap<SlotId, OwnerEpoch>,
    /// Who acted last.
    acted: BTreeMap<SlotId, (OwnerEpoch, Member)>,
    versions: BTreeMap<u64, u64>,
    /// Whether an epoch of a slot came by a planned move, with the values of the one before.
    moved: BTreeMap<(SlotId, OwnerEpoch), bool>,
    /// What was counted last under an epoch of a slot.
    counts: BTreeMap<(SlotId, OwnerEpoch), u64>,
    carried: u64,
    written: BTreeSet<u64>,
    /// What is known of each event.
    histories: BTreeMap<u64, History>,
    /// Who waits for which event.
    waiting: BTreeMap<u64, usize>,
    answered: u64,
    failed: u64,
    fenced: u64,
}

/// How much happened in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sums {
    /// Events that were sent.
    pub(crate) events: u64,
    /// Of those, how many were answered as done, and how many not.
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    /// Writes that came after a newer owner's fence.
    pub(crate) fenced: u64,
    /// How often a count went on where a planned move had left it.
    pub(crate) carried: u64,
}

/// The record of a run; whoever holds it adds to it.
#[derive(Debug)]
pub(crate) struct Checker(Mutex<Book>);

impl Checker {
    pub(crate) fn new(nodes: usize) -> Self {
        Self(Mutex::new(Book {
            seen: (0..nodes).map(|_| Seen::default()).collect(),
            open: vec![0; usize::from(SLOT_COUNT)],
            ..Book::default()
        }))
    }

    fn with<T>(&self, then: impl FnOnce(&mut Book) -> T) -> T {
        then(&mut self.0.lock().unwrap())
    }

    /// It is so late now.
    pub(crate) fn time(&self, at: u64) {
        self.with(|book| book.at = at);
    }

    pub(crate) fn note(&self, node: usize, what: What) {
        self.with(|book| {
            match &what {
                What::Open(slot, epoch) => book.opens(node, *slot, *epoch),
                What::Shut(slot) | What::Lost(slot, _) => book.shuts(node, *slot),
                What::Fenced(..) => book.fenced += 1,
                What::Began(_) => book.ends(node),
                _ => {}
            }
            book.line(node, what);
        });
    }

    /// A process begins.
    pub(crate) fn begins(&self, node: usize, standing: &Arc<Standing>) {
        self.with(|book| book.seen[node].standing = Some(Arc::clone(standing)));
    }

    /// A process is gone.
    pub(crate) fn ends(&self, node: usize) {
        self.with(|book| book.ends(node));
    }

    /// An event takes effect in the shared store.
    pub(crate) fn wrote(
        &self,
        node: usize,
        me: Member,
        slot: SlotId,
        epoch: OwnerEpoch,
        event: u64,
    ) {
        self.with(|book| {
            book.step(node, me, event, Step::Wrote(epoch));
            // None of these events may be sent again once it may have started (§14).
            if !book.written.insert(event) {
                book.breaks_with(event, "took effect twice");
            }
            if let Some(opened) = book.opened.get(&slot).filter(|opened| epoch < **opened) {
                let why = format!("slot {slot}: written at {epoch} after {opened} had opened");
                book.breaks(why);
            }
            if let Some((last, by)) = book.acted.get(&slot).copied()
                && (epoch < last || (epoch == last && by != me))
            {
                book.breaks(format!(
                    "slot {slot}: {me} acts at {epoch} after {by} at {last}"
                ));
            }
            book.acted.insert(slot, (epoch, me));
            book.line(node, What::Wrote(slot, epoch, event));
        });
    }

    /// An event has counted in its slot, at a node with this table: counts have no gap and no
    /// repeat, go on through planned moves, and begin again with every other change of owner (I4).
    pub(crate) fn counted(
        &self,
        node: usize,
        table: &Table,
        slot: SlotId,
        epoch: OwnerEpoch,
        count: u64,
    ) {
        self.with(|book| {
            book.arrivals(table, slot);
            let before = book.count_before(slot, epoch);
            if before.is_some_and(|before| count != before + 1) {
                let why = format!("slot {slot}: {count} at {epoch}, after {before:?}");
                book.breaks(why);
            }
            let first = book.counts.insert((slot, epoch), count).is_none();
            book.carried += u64::from(first && count > 1);
            book.line(node, What::Counted(slot, epoch, count));
        });
    }

    /// An event goes on.
    pub(crate) fn step(&self, node: usize, me: Member, event: u64, step: Step) {
        self.with(|book| {
            book.step(node, me, event, step);
            match step {
                Step::Sent(_) => drop(book.waiting.insert(event, node)),
                Step::Ended(answered) => book.over(node, event, answered),
                Step::Started { .. } | Step::Wrote(_) => {}
            }
        });
    }

    /// Nothing is under way any more: whoever still lives has heard of all that it sent.
    pub(crate) fn all_ended(&self) -> Result<(), String> {
        self.with(|book| {
            if let Some(event) = book.waiting.keys().next().copied() {
                book.breaks_with(event, "was never answered");
            }
            book.broken.take().map_or(Ok(()), Err)
        })
    }

    /// Looks at every node after a step; at every slot if `whole`.
    pub(crate) fn look(&self, whole: bool) -> Result<(), String> {
        self.with(|book| {
            book.look_at_tables();
            book.look_at_owners(whole);
            match book.broken.take() {
                Some(why) => Err(why),
                None => Ok(()),
            }
        })
    }

    /// How many slots are acted for at this moment.
    pub(crate) fn served(&self) -> usize {
        self.with(|book| {
            let acting = book.acting();
            SlotId::all()
                .filter(|slot| acting.iter().any(|(_, s)| s.acts_for(*slot).is_some()))
                .count()
        })
    }

    /// The trace, and how much happened.
    pub(crate) fn end(&self) -> (Vec<Line>, Sums) {
        self.with(|book| {
            let sums = Sums {
                events: book.histories.len() as u64,
                answered: book.answered,
                failed: book.failed,
                fenced: book.fenced,
                carried: book.carried,
            };
            (std::mem::take(&mut book.lines), sums)
        })
    }
}

/// A node's bit; those beyond 64 own no slots.
fn bit(node: usize) -> u64 {
    let shift = u32::try_from(node).unwrap_or(u32::MAX);
    1_u64.checked_shl(shift).unwrap_or(0)
}

/// A number that tells tables apart: who owns what since when, and what moves.
fn hash(table: &Table) -> u64 {
    let words = table.slots().flat_map(|(_, rec)| {
        let owner = rec.owner.map_or((0, 0), |it| (it.id.0, it.incarnation.0));
        let moving = rec.moving.map_or(0, |moving| moving.id.0);
        [u64::from(owner.0), owner.1, rec.epoch.0, moving]
    });
    words.fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        (hash ^ word)
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(23)
    })
}

impl Book {
    fn line(&mut self, node: usize, what: What) {
        let at = self.at;
        self.lines.push(Line { at, node, what });
    }

    /// How a slot has come to the owner that this table names.
    fn arrivals(&mut self, table: &Table, slot: SlotId) {
        let rec = table.slot(slot);
        self.moved.insert((slot, rec.epoch), rec.via.is_some());
    }

    /// What was counted before the next under this epoch; `None` if a change of owner was not seen.
    fn count_before(&self, slot: SlotId, epoch: OwnerEpoch) -> Option<u64> {
        let mut epoch = epoch;
        loop {
            if let Some(count) = self.counts.get(&(slot, epoch)) {
                return Some(*count);
            }
            if !*self.moved.get(&(slot, epoch))? {
                return Some(0);
            }
            epoch = OwnerEpoch(epoch.0.checked_sub(1)?);
        }
    }

    fn breaks(&mut self, why: String) {
        self.broken.get_or_insert(why);
    }

    /// Something is wrong with an event: what is known of it.
    fn breaks_with(&mut self, event: u64, why: &str) {
        let history = self.histories.get(&event).into_iter().flatten();
        let lines: Vec<_> = history
            .map(|(at, node, me, step)| format!("\n    {at} node {node} as {me}: {step:?}"))
            .collect();
        self.breaks(format!("event {event} {why}:{}", lines.concat()));
    }

    fn step(&mut self, node: usize, me: Member, event: u64, step: Step) {
        let history = self.histories.entry(event).or_default();
        history.push((self.at, node, me, step));
    }

    /// An event has its one answer. One that says it is done must have taken effect.
    fn over(&mut self, node: usize, event: u64, answered: bool) {
        if self.waiting.remove(&event).is_none() {
            self.breaks_with(event, "was answered twice");
        }
        if answered && !self.written.contains(&event) {
            self.breaks_with(event, "was answered without an effect");
        }
        if answered {
            self.answered += 1;
            self.line(node, What::Answered(event));
        } else {
            self.failed += 1;
            self.line(node, What::Failed(event));
        }
    }

    fn opens(&mut self, node: usize, slot: SlotId, epoch: OwnerEpoch) {
        let open = &mut self.open[usize::from(slot.index())];
        *open |= bit(node);
        if open.count_ones() > 1 {
            self.contested.insert(slot.index());
        }
        let newest = self.opened.entry(slot).or_insert(epoch);
        *newest = (*newest).max(epoch);
    }

    fn shuts(&mut self, node: usize, slot: SlotId) {
        let open = &mut self.open[usize::from(slot.index())];
        *open &= !bit(node);
        if open.count_ones() < 2 {
            self.contested.remove(&slot.index());
        }
    }

    fn ends(&mut self, node: usize) {
        self.seen[node] = Seen::default();
        // Whoever waited there is gone as well.
        self.waiting.retain(|_, by| *by != node);
        for slot in SlotId::all() {
            self.shuts(node, slot);
        }
    }

    /// Those whose lease is valid.
    fn acting(&self) -> Vec<(usize, Arc<Standing>)> {
        let all = self.seen.iter().enumerate();
        all.filter_map(|(node, seen)| Some((node, seen.standing.clone()?)))
            .filter(|(_, standing)| standing.has_lease())
            .collect()
    }

    fn look_at_owners(&mut self, whole: bool) {
        let acting = self.acting();
        if acting.len() < 2 {
            return;
        }
        let contested: Vec<SlotId> = if whole {
            SlotId::all().collect()
        } else {
            let slots = self.contested.iter().copied();
            slots.filter_map(SlotId::new).collect()
        };
        for slot in contested {
            let actors: Vec<_> = acting
                .iter()
                .filter_map(|(_, standing)| Some((standing.me(), standing.acts_for(slot)?)))
                .collect();
            if actors.len() > 1 {
                self.breaks(format!("slot {slot}: {actors:?} act at once"));
            }
        }
    }

    /// No table goes backwards, no epoch falls, and one version is one table everywhere.
    fn look_at_tables(&mut self) {
        for node in 0..self.seen.len() {
            let Some(standing) = &self.seen[node].standing else {
                continue;
            };
            let table = Arc::clone(&standing.shown().table);
            let old = self.seen[node].table.replace(Arc::clone(&table));
            if old.as_ref().is_some_and(|old| Arc::ptr_eq(old, &table)) {
                continue;
            }
            let version = table.version();
            for slot in SlotId::all() {
                let before = old.as_ref().map(|old| old.slot(slot).epoch);
                if before != Some(table.slot(slot).epoch) {
                    self.arrivals(&table, slot);
                }
            }
            if let Some(old) = old.filter(|old| old.cluster().id == table.cluster().id) {
                let falls = old
                    .slots()
                    .zip(table.slots())
                    .find(|((_, old), (_, new))| new.epoch < old.epoch);
                if version < old.version() {
                    let old = old.version();
                    self.breaks(format!("node {node}: table {version} after {old}"));
                }
                if let Some(((slot, _), _)) = falls {
                    self.breaks(format!("node {node}: an epoch of slot {slot} fell"));
                }
            }
            let hash = hash(&table);
            if *self.versions.entry(version).or_insert(hash) != hash && version > 0 {
                self.breaks(format!("node {node}: another table of version {version}"));
            }
            self.line(node, What::Table(version, hash));
        }
    }
}
