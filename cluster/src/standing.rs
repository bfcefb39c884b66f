//! Where a node stands, as its data path asks on every event: the table, which slots it may act for,
//! until when. Answers come from memory and never wait; one writer, the node's shell, keeps them true.
//!
//! A node without a cluster stands alone: every slot is its own at the first epoch, without end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::lease::Reading;
use crate::{
    BootId, ClusterId, ClusterInfo, DataId, Incarnation, Member, NodeId, NodeRec, NodeState, Owner,
    OwnerEpoch, Ownership, Roles, SLOT_COUNT, Serves, Settings, SlotId, Table,
};

/// Reads both clocks of this machine.
pub type Now = Arc<dyn Fn() -> Reading + Send + Sync>;

/// Whether events of a slot are admitted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// The slot is not this node's.
    Foreign,
    /// It is, but is not open yet.
    Opening(OwnerEpoch),
    /// Events are admitted while the lease is valid.
    Open(OwnerEpoch),
    /// Closed for a move.
    Shut(OwnerEpoch),
}

impl Gate {
    const fn word(self) -> u64 {
        match self {
            Self::Foreign => 0,
            Self::Opening(epoch) => epoch.0 << 2 | 1,
            Self::Open(epoch) => epoch.0 << 2 | 2,
            Self::Shut(epoch) => epoch.0 << 2 | 3,
        }
    }

    const fn of(word: u64) -> Self {
        let epoch = OwnerEpoch(word >> 2);
        match word & 3 {
            1 => Self::Opening(epoch),
            2 => Self::Open(epoch),
            3 => Self::Shut(epoch),
            _ => Self::Foreign,
        }
    }
}

/// What the node knows of the cluster and of itself.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its copy of the table.
    pub table: Arc<Table>,
    /// Its life; node 0 before it has joined.
    pub me: Member,
    /// Its process.
    pub boot: BootId,
}

/// When the lease ends, by each of the two clocks: it is over as soon as one of them says so. Each
/// only grows while the node lives, so reading them one after the other errs to the safe side.
#[derive(Debug, Default)]
struct Lease {
    boot: AtomicU64,
    raw: AtomicU64,
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Where a node stands; see the module's text.
pub struct Standing {
    shown: ArcSwap<Shown>,
    gates: Box<[AtomicU64]>,
    lease: Lease,
    now: Option<Now>,
    version: watch::Sender<u64>,
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing")
            .field("me", &self.me())
            .field("version", &*self.version.borrow())
            .finish_non_exhaustive()
    }
}

impl Standing {
    /// A node of a cluster that has no table, no lease and no slot yet.
    pub fn new(now: Now) -> Self {
        let table = Table::new(ClusterInfo::new(ClusterId(0)), Settings::default());
        let nobody = Member {
            id: NodeId(0),
            incarnation: Incarnation(0),
        };
        Self::with(table, nobody, Gate::Foreign, Some(now))
    }

    /// A node without a cluster.
    pub fn alone(name: &str) -> Self {
        let me = Member {
            id: NodeId(1),
            incarnation: Incarnation(1),
        };
        let mut table = Table::new(ClusterInfo::new(ClusterId(0)), Settings::default());
        table.nodes.insert(
            me.id,
            NodeRec {
                name: name.to_owned(),
                incarnation: me.incarnation,
                boot: BootId(0),
                data: DataId(0),
                addrs: Vec::new(),
                roles: Roles {
                    voter: false,
                    ingress: true,
                    region: true,
                },
                serves: Serves {
                    connect: true,
                    channel: true,
                    rpc: vec!["*".to_owned()],
                },
                state: NodeState::Up,
                protocol: 1,
                build: String::new(),
                routes_hash: 0,
            },
        );
        for slot in table.slots.iter_mut() {
            slot.owner = Some(me);
            slot.epoch = OwnerEpoch::FIRST;
        }
        Self::with(table, me, Gate::Open(OwnerEpoch::FIRST), None)
    }

    fn with(table: Table, me: Member, gate: Gate, now: Option<Now>) -> Self {
        let (version, _) = watch::channel(table.version());
        let gates = (0..SLOT_COUNT).map(|_| AtomicU64::new(gate.word()));
        Self {
            shown: ArcSwap::from_pointee(Shown {
                table: Arc::new(table),
                me,
                boot: BootId(0),
            }),
            gates: gates.collect(),
            lease: Lease::default(),
            now,
            version,
        }
    }

    /// Whether there is no cluster.
    pub const fn is_alone(&self) -> bool {
        self.now.is_none()
    }

    /// What the node knows now.
    pub fn shown(&self) -> arc_swap::Guard<Arc<Shown>> {
        self.shown.load()
    }

    /// This life of the node.
    pub fn me(&self) -> Member {
        self.shown.load().me
    }

    /// Whether events of the slot are admitted here, the lease apart.
    pub fn gate(&self, slot: SlotId) -> Gate {
        let word = self.gates.get(usize::from(slot.index()));
        word.map_or(Gate::Foreign, |word| Gate::of(word.load(Ordering::Acquire)))
    }

    /// The epoch at which the node may act for a slot at this very moment.
    pub fn acts_for(&self, slot: SlotId) -> Option<OwnerEpoch> {
        match self.gate(slot) {
            Gate::Open(epoch) if self.has_lease() => Some(epoch),
            _ => None,
        }
    }

    /// Whether the node may act for a slot under this epoch at this very moment: to be asked right
    /// before a reply, a publication or a write leaves. A slot that is shut for a move may still
    /// answer what it had started.
    pub fn may_act(&self, slot: SlotId, under: OwnerEpoch) -> bool {
        let ours =
            matches!(self.gate(slot), Gate::Open(epoch) | Gate::Shut(epoch) if epoch == under);
        ours && self.has_lease()
    }

    /// Whether the lease is valid at this very moment.
    pub fn has_lease(&self) -> bool {
        self.now.as_ref().is_none_or(|now| {
            let now = now();
            nanos(now.boot) < self.lease.boot.load(Ordering::Acquire)
                && nanos(now.raw) < self.lease.raw.load(Ordering::Acquire)
        })
    }

    /// How much of the lease is left; without a cluster there is no end to it.
    pub fn lease_left(&self) -> Duration {
        self.now.as_ref().map_or(Duration::MAX, |now| {
            let now = now();
            let left = |end: &AtomicU64, now: Duration| {
                end.load(Ordering::Acquire).saturating_sub(nanos(now))
            };
            let (boot, raw) = (
                left(&self.lease.boot, now.boot),
                left(&self.lease.raw, now.raw),
            );
            Duration::from_nanos(boot.min(raw))
        })
    }

    /// For how long the lease has been over; zero while it is valid. Before the first one, and after
    /// the end of a life, it is long.
    pub fn lapsed_for(&self) -> Duration {
        self.now.as_ref().map_or(Duration::ZERO, |now| {
            let now = now();
            let over = |end: &AtomicU64, now: Duration| {
                nanos(now).saturating_sub(end.load(Ordering::Acquire))
            };
            let (boot, raw) = (
                over(&self.lease.boot, now.boot),
                over(&self.lease.raw, now.raw),
            );
            Duration::from_nanos(boot.max(raw))
        })
    }

    /// The living owner of a slot, by the table.
    pub fn owner_of(&self, slot: SlotId) -> Option<Member> {
        let shown = self.shown.load();
        let owner = shown.table.slot(slot).owner;
        owner.filter(|owner| shown.table.is_living(*owner))
    }

    /// Waits until the table has at least this version. Cancelling loses nothing.
    pub async fn reached(&self, version: u64) {
        let mut seen = self.version.subscribe();
        // The sender is a part of `self`, so this ends only when the version is there.
        drop(seen.wait_for(|now| *now >= version).await);
    }

    /// The version of the table, now and whenever it changes.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// From now on the node knows this. Gates are set apart, before or after as is safe: shut before
    /// others hear of the change, opened after. A table that says that the life shown with it is over
    /// ends its lease before anyone hears of it.
    pub fn show(&self, shown: Shown) {
        if shown.table.is_over(shown.me) {
            self.end_lease();
        }
        let version = shown.table.version();
        self.shown.store(Arc::new(shown));
        self.version.send_replace(version);
    }

    /// Sets the gate of a slot.
    pub fn set_gate(&self, slot: SlotId, gate: Gate) {
        if let Some(word) = self.gates.get(usize::from(slot.index())) {
            word.store(gate.word(), Ordering::Release);
        }
    }

    /// The lease rests on a heartbeat that was sent then (R1). It never gets shorter by this.
    pub fn renew(&self, sent: Reading, length: Duration) {
        let end = |clock: Duration| nanos(clock.saturating_add(length));
        self.lease.boot.fetch_max(end(sent.boot), Ordering::AcqRel);
        self.lease.raw.fetch_max(end(sent.raw), Ordering::AcqRel);
    }

    /// This life is over, and its lease with it.
    pub fn end_lease(&self) {
        self.lease.boot.store(0, Ordering::Release);
        self.lease.raw.store(0, Ordering::Release);
    }
}

impl Ownership for Standing {
    /// A slot that is this node's, but for which it may not act at this moment, is vacant.
    fn owner(&self, slot: SlotId) -> Owner {
        if let Some(epoch) = self.acts_for(slot) {
            return Owner::Here { epoch };
        }
        let shown = self.shown.load();
        let rec = shown.table.slot(slot);
        match rec.owner {
            Some(owner) if owner != shown.me && shown.table.is_living(owner) => Owner::Node {
                id: owner.id,
                epoch: rec.epoch,
            },
            _ => Owner::Vacant,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Mutex;

    use super::*;
    use crate::testing::slot;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A standing whose clocks a test sets.
    fn clocked() -> (Standing, Arc<Mutex<Reading>>) {
        let clock = Arc::new(Mutex::new(Reading::of_one(ms(1000))));
        let read = Arc::clone(&clock);
        (
            Standing::new(Arc::new(move || *read.lock().unwrap())),
            clock,
        )
    }

    #[test]
    fn a_node_alone_acts_for_every_slot_without_end() {
        let alone = Standing::alone("a");
        let here = Owner::Here {
            epoch: OwnerEpoch::FIRST,
        };
        assert!(SlotId::all().all(|slot| alone.owner(slot) == here));
        assert!(alone.is_alone() && alone.has_lease());
        assert_eq!(alone.owner_of(slot(7)), Some(alone.me()));
        assert!(alone.may_act(slot(7), OwnerEpoch(1)) && !alone.may_act(slot(7), OwnerEpoch(2)));
    }

    #[test]
    fn either_clock_ends_the_lease_and_an_older_heartbeat_never_shortens_it() {
        let (standing, clock) = clocked();
        standing.set_gate(slot(5), Gate::Open(OwnerEpoch(3)));
        assert_eq!(standing.acts_for(slot(5)), None, "no lease yet");
        standing.renew(Reading::of_one(ms(1000)), ms(1200));
        standing.renew(Reading::of_one(ms(900)), ms(1200));
        assert_eq!(standing.lease_left(), ms(1200));
        *clock.lock().unwrap() = Reading::of_one(ms(2199));
        assert_eq!(standing.acts_for(slot(5)), Some(OwnerEpoch(3)));
        for late in [(2200, 1000), (1000, 2200)] {
            let (boot, raw) = (ms(late.0), ms(late.1));
            *clock.lock().unwrap() = Reading { boot, raw };
            assert_eq!(standing.acts_for(slot(5)), None);
            assert_eq!(standing.lapsed_for(), ms(0));
        }
        *clock.lock().unwrap() = Reading::of_one(ms(2300));
        assert_eq!(standing.lapsed_for(), ms(100));
        standing.end_lease();
        *clock.lock().unwrap() = Reading::of_one(ms(1000));
        assert!(!standing.has_lease());
    }

    #[test]
    fn a_slot_shut_for_a_move_admits_nothing_and_answers_what_it_had_started() {
        let (standing, _) = clocked();
        standing.renew(Reading::of_one(ms(1000)), ms(1200));
        for gate in [
            Gate::Foreign,
            Gate::Opening(OwnerEpoch(9)),
            Gate::Open(OwnerEpoch(1 << 40)),
            Gate::Shut(OwnerEpoch(9)),
        ] {
            standing.set_gate(slot(4095), gate);
            assert_eq!(standing.gate(slot(4095)), gate);
        }
        assert_eq!(standing.acts_for(slot(4095)), None);
        assert!(standing.may_act(slot(4095), OwnerEpoch(9)));
        assert!(!standing.may_act(slot(4095), OwnerEpoch(8)));
    }

    #[test]
    fn a_table_that_says_that_this_life_is_over_ends_its_lease_before_it_is_seen() {
        use crate::testing::{Log, registration};
        let (standing, _) = clocked();
        let standing = Arc::new(standing);
        let mut log = Log::with_nodes(2);
        let me = log.table.member(NodeId(1)).unwrap();
        let show = |log: &Log, me: Member| {
            standing.show(Shown {
                table: Arc::new(log.table.clone()),
                me,
                boot: BootId(1),
            });
        };
        let held = || {
            standing.renew(Reading::of_one(ms(1000)), ms(1200));
            standing.has_lease()
        };
        assert!(held());
        show(&log, me);
        assert!(standing.has_lease(), "it lives");
        log.kill(3, vec![]);
        show(&log, me);
        assert!(standing.has_lease(), "another has died");
        log.kill(1, vec![]);
        show(&log, me);
        assert!(!standing.has_lease());
        assert!(held(), "as a straggler might do");
        log.register(registration("n1", 1, 2));
        show(&log, me);
        assert!(!standing.has_lease(), "it has another life");
    }

    #[tokio::test]
    async fn whoever_waits_for_a_version_goes_on_when_it_is_shown() {
        let (standing, _) = clocked();
        let mut table = Table::clone(&standing.shown().table);
        table.version = 7;
        let shown = Shown {
            table: Arc::new(table),
            ..Shown::clone(&standing.shown())
        };
        tokio::join!(standing.reached(7), async { standing.show(shown) });
        standing.reached(6).await;
    }
}
