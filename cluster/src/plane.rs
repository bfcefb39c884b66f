//! What the shell of a node drives beside its own machines: the lanes of the node ([`Region`]) and the
//! events that it has sent or holds ([`Ingress`]). Both are called on the cluster's own thread, so
//! none of it may block; what takes time is reported later ([`Report`]).

use tokio::sync::mpsc::UnboundedSender;

use crate::handoff::Load;
use crate::lease::DropReason;
use crate::peer::{Remote, Request};
use crate::{Member, Move, MoveId, OwnerEpoch, SlotId};

/// The first kind of request on data links that is the node's own; lower ones are the shell's.
pub const FIRST_KIND: u8 = 16;

/// What a region tells the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// A slot was closed: what had not started is bounced, so many events still run. Streams that
    /// are open do not count: they are being ended.
    Closed {
        /// Which slot.
        slot: SlotId,
        /// For which move.
        id: MoveId,
        /// How many events still run.
        started: usize,
    },
    /// The last started event of a closed slot is over.
    Idle {
        /// Which slot.
        slot: SlotId,
        /// For which move.
        id: MoveId,
    },
    /// The worker of a core has made progress.
    Worked {
        /// Which core.
        core: usize,
    },
    /// A shard is parked after too many crashes, or runs again: the leader moves its slots away.
    Parked {
        /// Any slot of it.
        slot: SlotId,
        /// Whether it is parked now.
        parked: bool,
    },
}

/// What a region has ended against the will of its callers, since its process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// Open streams that were told to end, since their slots moved or were lost.
    pub streams: u64,
    /// Started events of closed slots that were cut at the end of `release_timeout`.
    pub cut: u64,
}

impl Ended {
    /// What came since then.
    pub const fn since(self, then: Self) -> Self {
        Self {
            streams: self.streams.saturating_sub(then.streams),
            cut: self.cut.saturating_sub(then.cut),
        }
    }
}

/// Where reports go. It never waits; a shell that is gone takes none.
pub type Reports = UnboundedSender<Report>;

/// The lanes of a node. The gate of a slot in the [`Standing`](crate::Standing) is set before the
/// call; calls for one slot take effect in their order.
pub trait Region: Send + Sync + std::fmt::Debug {
    /// Where reports go from now on: told once, before anything else.
    fn reports(&self, to: Reports);

    /// Events of the slot run from now on, under this epoch. Its values are in the store.
    fn open(&self, slot: SlotId, epoch: OwnerEpoch);

    /// The lease has lapsed: nothing leaves any slot, nothing starts; lanes stay, events wait up to
    /// their deadlines.
    fn suspend(&self);

    /// The lease is valid again: what waited goes on.
    fn resume(&self);

    /// The slot is lost: its lanes are dropped, what had started is answered unavailable, what had
    /// not is bounced. What ran under this epoch must not act any more.
    fn lose(&self, slot: SlotId, epoch: OwnerEpoch, why: DropReason);

    /// Bounces what has not started, naming the move, and then everything that comes; ends the open
    /// streams of the slot; reports [`Report::Closed`], and [`Report::Idle`] if something still ran.
    fn close(&self, slot: SlotId, to: Move);

    /// Drops what still runs in a closed slot: it is answered unavailable and counted apart.
    fn cut(&self, slot: SlotId);

    /// The move was aborted: the slot goes on at its epoch.
    fn reopen(&self, slot: SlotId, epoch: OwnerEpoch);

    /// The move is complete: lanes of the slot that are left over are dropped.
    fn forget(&self, slot: SlotId);

    /// What goes on in a slot: whether it has no lane and no open stream, and how long its longest
    /// event has run. Asked from the cluster's thread, so it is read from counters.
    fn load(&self, slot: SlotId) -> Load;

    /// What was ended so far; read from counters, as the load is.
    fn ended(&self) -> Ended {
        Ended::default()
    }
}

/// The events that a node has sent to others or holds, and those that others send to it. When it is
/// called the [`Standing`](crate::Standing) shows the new state already.
pub trait Ingress: Send + Sync + std::fmt::Debug {
    /// A peer has sent something on its data link, of a kind from [`FIRST_KIND`] on. Those of one
    /// sender come in its order.
    fn request(&self, from: &Remote, request: Request);

    /// How much this node has in flight: every reply tells it.
    fn load(&self) -> u32;

    /// The table has changed in these slots.
    fn table_changed(&self, slots: &[SlotId]);

    /// The owner says that it serves the slot again, after a lapse or a move that was aborted.
    fn resumed(&self, owner: Member, slot: SlotId);

    /// This life of a node is over: its answers are dropped, what was sent to it is lost.
    fn died(&self, member: Member);

    /// Whether there is a quorum in reach: without it nothing with a key is served.
    fn quorum(&self, in_reach: bool);
}
