//! What a node does with an event that another one sent to it: run it, let it wait, or say that it
//! may not run here, which also says that it has not started.

use std::time::Duration;

use crate::handoff::Source;
use crate::hold::{Bars, Sender};
use crate::lease::{Holder, Reading, Tenure};
use crate::{Gate, Member, Move, OwnerEpoch, SlotId, Table, View};

/// How long an event waits for a newer table.
pub const CATCH_UP: Duration = Duration::from_millis(200);
/// A lapse shorter than this makes events wait instead of going back.
pub const LAPSE_WAIT: Duration = Duration::from_millis(100);

/// What an envelope says about an event with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Its slot.
    pub slot: SlotId,
    /// The version of the table that it was routed by.
    pub version: u64,
    /// The ingress core that sent it.
    pub sender: Sender,
    /// The generation that it carries.
    pub generation: u32,
}

/// Why an event may not run here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The table names another owner, or none.
    WrongOwner,
    /// The slot is closed for this move.
    Moving(Move),
    /// The lease is over for 100 ms.
    Lapsed,
    /// The table of the envelope could not be caught up with.
    Behind,
    /// Its generation was bounced before.
    Stale,
}

/// The answer to an event that did not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotHere {
    /// Why.
    pub reason: Reason,
    /// Who owns the slot, as far as is known here.
    pub owner: Option<Member>,
    /// At which epoch.
    pub epoch: OwnerEpoch,
    /// By which version of the table.
    pub version: u64,
}

impl NotHere {
    /// The answer for an event of a slot, by this table.
    pub fn new(reason: Reason, table: &Table, slot: SlotId) -> Self {
        let rec = table.slot(slot);
        Self {
            reason,
            owner: rec.owner,
            epoch: rec.epoch,
            version: table.version(),
        }
    }
}

/// What is to be done with an event. Events of one sender and slot keep their order: behind one that
/// waits, for whichever reason, the next ones wait too, and are asked about in their turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Run it under this epoch.
    Run(OwnerEpoch),
    /// Ask again when the table is newer, or 200 ms have passed.
    CatchUp,
    /// Queue it, up to its deadline: the slot is opening, or the lease has lapsed just now.
    Wait,
    /// Send it back. It is noted as bounced.
    Bounce(NotHere),
}

/// What has a say in whether an event of a slot runs here, asked in the order of [`judge`].
pub trait Grounds {
    /// Whether the slot admits events, the lease apart.
    fn gate(&self) -> Gate;
    /// The move that a slot is shut for; `None` while it is not known here yet.
    fn shut_for(&self) -> Option<Move>;
    /// Whether the event's generation, or a newer one, was bounced before (R11).
    fn is_barred(&self) -> bool;
    /// For how long the lease has been over; `None` while it is valid.
    fn lapsed_for(&self) -> Option<Duration>;
}

/// What becomes of an event at the place where it would start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It starts, under this epoch.
    Run(OwnerEpoch),
    /// It waits, in order, up to its deadline.
    Wait,
    /// It goes back unstarted, and its generation is barred from then on.
    Bounce(Reason),
}

/// Decides about an event whose table is known: the one statement of the order in which reasons count,
/// for all that runs events.
pub fn judge(on: &impl Grounds) -> Verdict {
    let epoch = match on.gate() {
        Gate::Foreign => return Verdict::Bounce(Reason::WrongOwner),
        Gate::Shut(_) => {
            let moving = on.shut_for().map(Reason::Moving);
            return moving.map_or(Verdict::Wait, Verdict::Bounce);
        }
        Gate::Opening(_) => None,
        Gate::Open(epoch) => Some(epoch),
    };
    if on.is_barred() {
        return Verdict::Bounce(Reason::Stale);
    }
    match on.lapsed_for() {
        None => epoch.map_or(Verdict::Wait, Verdict::Run),
        Some(over) if over < LAPSE_WAIT => Verdict::Wait,
        Some(_) => Verdict::Bounce(Reason::Lapsed),
    }
}

/// The machines of a node that have a say in it.
#[derive(Debug)]
pub struct Owned<'a> {
    /// Its copy of the table.
    pub view: &'a View,
    /// Its lease.
    pub holder: &'a Holder,
    /// Its slots.
    pub tenure: &'a Tenure,
    /// Its moves away.
    pub source: &'a Source,
    /// What it has bounced.
    pub bars: &'a mut Bars,
}

/// An event among the machines.
struct Case<'a> {
    owned: &'a Owned<'a>,
    asked: Asked,
    now: Reading,
}

impl Grounds for Case<'_> {
    fn gate(&self) -> Gate {
        let (owned, slot) = (self.owned, self.asked.slot);
        let Some(epoch) = owned.view.epoch_of(slot, owned.holder.member()) else {
            return Gate::Foreign;
        };
        if owned.source.shut_for(slot).is_some() {
            return Gate::Shut(epoch);
        }
        let open = owned.tenure.acts_for(slot, true);
        open.map_or(Gate::Opening(epoch), Gate::Open)
    }

    fn shut_for(&self) -> Option<Move> {
        self.owned.source.shut_for(self.asked.slot)
    }

    fn is_barred(&self) -> bool {
        let Asked {
            sender,
            slot,
            generation,
            ..
        } = self.asked;
        !self.owned.bars.admits(sender, slot, generation)
    }

    fn lapsed_for(&self) -> Option<Duration> {
        let holder = self.owned.holder;
        (!holder.is_valid(self.now)).then(|| holder.lapsed_for(self.now))
    }
}

impl Owned<'_> {
    /// Decides about an event that has waited here for so long.
    pub fn admit(&mut self, asked: Asked, waited: Duration, now: Reading) -> Admission {
        let reason = if self.view.table().version() < asked.version {
            if waited < CATCH_UP {
                return Admission::CatchUp;
            }
            Reason::Behind
        } else {
            let owned = &*self;
            match judge(&Case { owned, asked, now }) {
                Verdict::Run(epoch) => return Admission::Run(epoch),
                Verdict::Wait => return Admission::Wait,
                Verdict::Bounce(reason) => reason,
            }
        };
        self.bars
            .bounced(asked.sender, asked.slot, asked.generation);
        let table = self.view.table();
        Admission::Bounce(NotHere::new(reason, table, asked.slot))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::handoff::{HandoffConfig, Load};
    use crate::lease::{Ack, LeaseConfig};
    use crate::testing::{Log, leader, member, slot};
    use crate::{BootId, ClusterId, ClusterInfo, MoveReason, NodeId};

    struct Node {
        log: Log,
        view: View,
        holder: Holder,
        tenure: Tenure,
        source: Source,
        bars: Bars,
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn at(clock: u64) -> Reading {
        Reading::of_one(ms(clock))
    }

    impl Node {
        /// Node 1 with slot 5 open and a lease from 0.
        fn new() -> Self {
            let mut log = Log::with_nodes(2);
            log.give(5, 1);
            let me = member(1, 1);
            let boot = log.table.node(NodeId(1)).unwrap().boot;
            let config = LeaseConfig::new(&ClusterInfo::new(ClusterId(1)), ms(200));
            let mut node = Self {
                view: View::new(log.table.clone()),
                log,
                holder: Holder::new(me, boot, config, 0, at(0)),
                tenure: Tenure::new(me),
                source: Source::new(me, HandoffConfig::default()),
                bars: Bars::new(),
            };
            node.holder.leader(Some(NodeId(3)), at(0));
            node.holder.ack(
                Ack {
                    member: me,
                    boot,
                    seq: 1,
                    leader: leader(1),
                    version: 0,
                },
                at(1),
            );
            node.tenure.lease(true);
            node.tenure.table(&node.view, [slot(5)]);
            node.tenure.fenced(slot(5), OwnerEpoch(1), Ok(()));
            node
        }

        fn catch_up(&mut self) {
            self.view.install(self.log.table.clone());
            self.source.table(self.view.table(), [slot(5)], ms(0));
            self.tenure.table(&self.view, [slot(5)]);
        }

        fn ask(
            &mut self,
            index: u16,
            ahead: u64,
            generation: u32,
            waited: u64,
            now: u64,
        ) -> Admission {
            let asked = Asked {
                slot: slot(index),
                version: self.view.table().version() + ahead,
                sender: Sender {
                    boot: BootId(3),
                    core: 0,
                },
                generation,
            };
            let Self {
                view,
                holder,
                tenure,
                source,
                bars,
                ..
            } = self;
            Owned {
                view,
                holder,
                tenure,
                source,
                bars,
            }
            .admit(asked, ms(waited), at(now))
        }

        fn reason(&mut self, index: u16, generation: u32, now: u64) -> Option<Reason> {
            match self.ask(index, 0, generation, 0, now) {
                Admission::Bounce(NotHere { reason, .. }) => Some(reason),
                _ => None,
            }
        }
    }

    const RUN: Admission = Admission::Run(OwnerEpoch(1));

    #[test]
    fn an_event_runs_at_the_owner_and_nowhere_else() {
        let mut node = Node::new();
        assert_eq!(node.ask(5, 0, 0, 0, 10), RUN);
        assert_eq!(node.reason(6, 0, 10), Some(Reason::WrongOwner));
        assert_eq!(node.ask(5, 1, 0, 0, 10), Admission::CatchUp);
        let behind = node.ask(5, 1, 0, 200, 10);
        assert!(matches!(
            behind,
            Admission::Bounce(NotHere {
                reason: Reason::Behind,
                ..
            })
        ));
        assert_eq!(
            node.reason(5, 0, 10),
            Some(Reason::Stale),
            "its generation was bounced"
        );
        assert_eq!(node.ask(5, 0, 1, 0, 10), RUN);
    }

    #[test]
    fn a_short_lapse_lets_events_wait_and_a_longer_one_sends_them_back() {
        let mut node = Node::new();
        assert_eq!(node.ask(5, 0, 0, 0, 1199), RUN);
        assert_eq!(node.ask(5, 0, 0, 0, 1299), Admission::Wait);
        assert_eq!(node.reason(5, 0, 1300), Some(Reason::Lapsed));
    }

    #[test]
    fn a_closed_slot_sends_events_back_with_its_move_and_an_opening_one_lets_them_wait() {
        let mut node = Node::new();
        node.log.begin(5, 3, MoveReason::Admin);
        node.catch_up();
        assert_eq!(node.ask(5, 0, 0, 0, 10), RUN, "it is still open");
        let load = Load {
            empty: true,
            longest: ms(0),
        };
        node.source.tick(ms(0), |_| Some(load));
        let moving = node.log.table.slot(slot(5)).moving.unwrap();
        assert_eq!(node.reason(5, 0, 10), Some(Reason::Moving(moving)));
        node.log.complete(5);
        node.catch_up();
        let away = node.ask(5, 0, 1, 0, 10);
        let Admission::Bounce(not_here) = away else {
            panic!("{away:?}")
        };
        assert_eq!(
            (not_here.owner, not_here.epoch),
            (Some(member(3, 1)), OwnerEpoch(2))
        );
        node.log.give(7, 1);
        node.catch_up();
        node.tenure.table(&node.view, [slot(7)]);
        assert_eq!(node.ask(7, 0, 0, 0, 10), Admission::Wait);
    }
}
